"""Whose SDP is this, and what has to go out in its place? The rules for calls through FreeSWITCH.

Theory of operation. Four things can happen on a leg: its phone offers, its phone answers, FreeSWITCH offers, FreeSWITCH
answers. Phones are simple: their SDP goes to rtpengine, and FreeSWITCH is shown the plain result (rule 2). What
FreeSWITCH says is looked up by its media address (rule 3):

- the address of another phone with an offer in progress, or of one that has just answered: FreeSWITCH relays, and the
  real SDP goes out in its place (rule 4, "restore"), without a command when it was made for this phone already;
- the address of another phone, but nothing in progress: FreeSWITCH speaks for that phone (a refresh, a hold, stepping
  out of the media). Its direction counts, the rest comes from the session. What rtpengine has in force already is given
  without a command, so the second re-INVITE of a step-out waits for the first and gets its result (rule 10);
- an unknown address: FreeSWITCH's own media, an offer or answer of its party on this leg;
- an address of another session: this leg belongs into that session and moves there (rule 10, `merge`).

When FreeSWITCH answers by itself the offer was made for somebody else's part; it holds that port, so it takes the
part over, tag included, and the displaced party gets a fresh one when it is needed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

import trio

from ng_protocol import NgError
from proxy.sip.message import Response
from proxy.sip.sdp import extract_sdp, replace_direction

from .engine import Engine, NoNode
from .merge import finish_move, move, move_back
from .session import (
    OFFER_LIFETIME,
    Exchange,
    Leg,
    Offer,
    Party,
    Rendition,
    Session,
    direction_of,
    without_origin,
)
from .table import addresses

STEP_OUT_WAIT = 4.0
"""Seconds the second re-INVITE of a step-out waits for the first (measured: 20-43 ms)."""
OWN_TRIES = 3
OWN_RETRY_AFTER = 0.5
"""How often, and after how many seconds, a re-INVITE of ours is sent again when it met another (RFC 3261 14.1)."""
_NO_HEAL = frozenset((401, 407, 408, 481, 487, 491))
"""Refusals that do not leave FreeSWITCH deaf to the other side's next re-INVITE, or after which it hangs up itself."""


class OwnRequests(Protocol):
    """What the anchor needs from the relay to act by itself; all three are the relay's."""

    def spawn(self, job: Callable[..., Awaitable[None]], *args: Any) -> None:
        """Runs `job(*args)` as a task of its own, after the message in hand has been relayed."""

    async def reinvite(self, leg: Leg, to_phone: bool, sdp: bytes) -> Response:
        """Sends a re-INVITE of ours inside the leg's dialog, ACKs a 2xx, and returns the final response."""

    async def hangup(self, session: Session, reason: bytes) -> None:
        """BYE on all legs of the session."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The media cannot follow this message: the relay answers with this instead. `retry_after`: seconds."""

    code: int
    reason: bytes
    retry_after: int | None = None


class Dialogue:
    """The four cases, and what follows from an answer or a refusal. Every method raises NgError or NoNode."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.own: OwnRequests | None = None

    # -- offers --------------------------------------------------------------------------------------------------------

    async def phone_offers(self, x: Exchange, sdp: bytes) -> bytes | Refusal:
        """A phone's offer, made for whom it talks to; FreeSWITCH gets the plain view."""
        leg = x.leg
        session, phone, now = leg.session, x.phone, self.engine.clock()
        if not x.initial and session.busy(phone, now):
            return Refusal(491, b"Request Pending")
        before = session.offers.get(phone)
        if x.initial and before is not None and before.original == sdp and before.receiver in before.made:
            made = before.made[before.receiver]
            if made.call == session.ng_call_id:
                x.offer, x.home = before, True  # the same INVITE, to another FreeSWITCH
                return self._show_freeswitch(leg, made)
        receiver = self._partner(leg)
        self._speak(x, Offer(phone, phone, receiver, sdp, now, x.initial))
        phone.pending = sdp
        rendition = await self.engine.offer(phone, receiver, sdp)
        assert x.offer is not None
        x.offer.made[receiver] = rendition
        return self._show_freeswitch(leg, rendition)

    async def freeswitch_offers(self, x: Exchange, sdp: bytes, hint: bytes | None) -> bytes:
        """An offer from FreeSWITCH: relayed, on another phone's behalf, or its own."""
        leg = x.leg
        known = self._author_of(leg, sdp, hint)
        if known is None:
            return await self._own_media(x, sdp)
        author = known.author
        if author.session is not leg.session:
            move(self.engine, leg, author.session)
        pending = leg.session.offers.get(author)
        if pending is None:
            return await self._speaks_for(x, author, known, direction_of(sdp))
        x.offer = pending
        if leg not in pending.relayed_to:
            pending.relayed_to.append(leg)
        phone = x.phone
        rendition = pending.made.get(phone)
        if (
            rendition is None
            or rendition.profile != phone.profile
            or rendition.interface != phone.interface
            or rendition.call != leg.session.ng_call_id
        ):
            rendition = await self.engine.offer(author, phone, pending.original)
            pending.made[phone] = rendition
        x.shown = rendition
        return phone.origin.stamp(rendition.made)

    async def _own_media(self, x: Exchange, sdp: bytes) -> bytes:
        leg = x.leg
        assert leg.fs is not None
        self._speak(x, Offer(leg.fs, leg.fs, x.phone, sdp, self.engine.clock(), x.initial))
        leg.fs.pending = sdp
        x.shown = await self.engine.offer(leg.fs, x.phone, sdp)
        return x.phone.origin.stamp(x.shown.made)

    async def _speaks_for(self, x: Exchange, author: Party, known: Rendition, direction: str) -> bytes:
        leg = x.leg
        session, phone, fs = leg.session, x.phone, leg.fs
        assert fs is not None
        while True:
            rendition = author.made_for.get(phone)
            in_force = author.linked is phone and phone.linked is author
            if (
                in_force
                and rendition is not None
                and (rendition.direction, rendition.profile) == (direction, phone.profile)
            ):
                x.offer = Offer(fs, author, phone, rendition.original, self.engine.clock())
                x.given, x.shown = True, rendition
                return phone.origin.stamp(rendition.made)
            other = self._connecting(session, author, phone, fs)
            if other is None:
                break
            await self._over(session, other, STEP_OUT_WAIT)
        sdp = with_direction(author.original or author.pending or known.original, direction)
        self._speak(x, Offer(fs, author, phone, sdp, self.engine.clock()))
        x.shown = await self.engine.offer(author, phone, sdp)
        return phone.origin.stamp(x.shown.made)

    # -- answers -------------------------------------------------------------------------------------------------------

    async def phone_answers(self, x: Exchange, sdp: bytes) -> bytes:
        """A phone's answer to an offer that FreeSWITCH brought; FreeSWITCH gets the plain view."""
        offer, leg = x.offer, x.leg
        assert offer is not None
        phone = x.phone
        if x.given:
            answer = phone.made_for.get(offer.author)
            if answer is None or phone.original is None or without_origin(phone.original) != without_origin(sdp):
                answer = offered = await self.engine.offer(phone, offer.author, sdp)
                if offer.author.original is not None:
                    await self.engine.answer(phone, offer.author, offer.author.original, offered)
                    answer = phone.made_for[offer.author]
        else:
            answer = await self.engine.answer(offer.author, phone, sdp, x.shown)
        phone.pending = sdp
        if phone not in offer.answered_by:
            offer.answered_by.append(phone)
        x.answer = answer
        return self._show_freeswitch(leg, answer)

    async def freeswitch_answers(self, x: Exchange, sdp: bytes, hint: bytes | None) -> bytes:
        """FreeSWITCH's answer to the phone's offer: relayed, with what it remembers, or its own."""
        offer, leg = x.offer, x.leg
        assert offer is not None
        known = self._author_of(leg, sdp, hint)
        if known is None:
            x.answer = await self._answers_itself(x, offer, sdp)
        else:
            other = known.author
            if other.session is not leg.session:
                move(self.engine, leg, other.session)
            phone = x.phone
            restored = other.made_for.get(phone)
            if other in offer.answered_by and restored is not None:
                x.answer = restored
            else:
                if other not in offer.made:
                    offer.made[other] = await self.engine.offer(phone, other, offer.original)
                remembered = other.original or other.pending or known.original
                again = with_direction(remembered, direction_of(sdp))
                x.answer = await self.engine.answer(phone, other, again, offer.made[other])
        x.phone.heard = x.answer
        return x.phone.origin.stamp(x.answer.made)

    async def _answers_itself(self, x: Exchange, offer: Offer, sdp: bytes) -> Rendition:
        leg = x.leg
        phone, fs, slot = x.phone, leg.fs, offer.receiver
        assert fs is not None
        if slot is not fs:
            if slot.gone:
                offer.made[fs] = await self.engine.offer(phone, fs, offer.original)
                leg.freeswitch_misled = True
            else:
                self._take_over(offer, slot, fs)
            offer.receiver = fs
        fs.pending = sdp
        if fs not in offer.answered_by:
            offer.answered_by.append(fs)
        return await self.engine.answer(phone, fs, sdp, offer.made.get(fs))

    def _take_over(self, offer: Offer, slot: Party, fs: Party) -> None:
        session, phone = fs.session, offer.author
        fs.tag, fs.via_branch, fs.settled, fs.offered_by = slot.tag, slot.via_branch, slot.settled, slot.offered_by
        if session.expected is slot:
            session.expected = None
            session.free_name(slot.name)
        else:
            slot.tag = session.new_tag(f"leg-{slot.name}")
            slot.via_branch = f"br-{slot.tag[4:]}"
            slot.settled, slot.offered_by, slot.linked = False, None, None
        if slot in session.stale:
            session.stale.remove(slot)
        for made in (phone.made_for, offer.made):
            rendition = made.pop(slot, None)
            if rendition is not None:
                rendition.receiver = fs
                made[fs] = rendition
        self.engine.note(session, f"{fs.name} takes the part of {slot.name}")

    # -- outcomes ------------------------------------------------------------------------------------------------------

    def agreed(self, x: Exchange, answered_by_phone: bool) -> None:
        """The answer is final: originals become the agreed ones, and an offer that was spoken here is over."""
        offer, leg = x.offer, x.leg
        if offer is None:
            return
        phone = x.phone
        answerer = phone if answered_by_phone else (x.answer.author if x.answer is not None else None)
        if offer.speaker is offer.author:
            offer.author.original = offer.original
        offer.author.settled = True
        if answered_by_phone:
            phone.original, phone.settled = phone.pending, True
            phone.heard = x.shown or phone.heard
        elif answerer is not None:
            answerer.settled = True
            if answerer is leg.fs:
                answerer.original = answerer.pending
        leg.phone = phone  # of several forks, the one that answered
        if leg.former is not None:
            finish_move(self.engine, leg)
        if x.home:
            leg.session.release(offer)
            known = phone.made_for.get(answerer) if answerer is not None and answerer is leg.fs else None
            if known is not None and known.interface != known.receiver.interface:
                leg.freeswitch_misled = True
            if x.method != "INVITE":
                self.correct(leg)
            if not answered_by_phone and not offer.relayed_to and answerer is not None and answerer is not leg.fs:
                self._carry(leg, offer, answerer)

    async def refused(self, x: Exchange, code: int) -> None:
        """The offer is off: put the agreed state back in force, and heal FreeSWITCH if it needs that."""
        offer, leg = x.offer, x.leg
        if offer is None:
            return
        if leg.former is not None:
            move_back(leg)
        if not x.home:
            return
        session = leg.session
        session.release(offer)
        leg.phone.pending = leg.phone.original
        if x.initial or x.given:
            return
        self.engine.note(session, f"offer of {offer.author.name} refused with {code}: rolled back")
        if leg.phone.linked is not None:
            try:
                await self.engine.associate(leg.phone, leg.phone.linked)
            except (NgError, NoNode) as error:
                self.engine.note(session, f"roll-back failed: {error}")
        if offer.author is leg.phone and offer.relayed_to and code not in _NO_HEAL:
            self._spawn(session, self._tell_freeswitch, leg)

    # -- acting by ourselves -------------------------------------------------------------------------------------------

    def _spawn(self, session: Session, job: Callable[..., Awaitable[None]], *args: Any) -> None:
        if self.own is None:
            self.engine.note(session, "cannot send requests of our own: not connected to the relay")
            return
        self.own.spawn(job, *args)

    def correct(self, leg: Leg) -> None:
        """The ACK has passed: a FreeSWITCH that was given a wrong port is told the right one."""
        if leg.freeswitch_misled:
            leg.freeswitch_misled = False
            self._spawn(leg.session, self._tell_freeswitch, leg, True)

    async def _tell_freeswitch(self, leg: Leg, its_own_media: bool = False) -> None:
        """A re-INVITE of ours to FreeSWITCH in this leg's dialog, with the phone's media as it is now.

        It heals a FreeSWITCH that would never answer the other side's next re-INVITE (after a refusal). With
        `its_own_media` it corrects one that knows a port that is gone, or one on the public interface because a phone
        was expected to answer; by the time it can be sent that may be over, then it is not.
        """
        session, phone, fs = leg.session, leg.phone, leg.fs
        assert fs is not None
        claim = Offer(fs, phone, fs, b"", self.engine.clock())
        moved = False

        async def sdp() -> bytes | None:
            nonlocal moved
            rendition = phone.made_for.get(phone.linked) if phone.linked is not None else None
            if rendition is None or (its_own_media and phone.linked is not fs):
                return None
            claim.original = rendition.original
            moved = phone.linked is fs and rendition.interface != fs.interface
            if moved:
                rendition = await self.engine.offer(phone, fs, rendition.original)
            return self._show_freeswitch(leg, rendition)

        try:
            response = await self._own_reinvite(leg, claim, False, sdp)
            if response is None:
                return
            self.engine.note(session, f"told FreeSWITCH on leg {leg.name} again: {response.code}")
            answer = extract_sdp(response) if moved and response.code < 300 else None
            if answer is not None and not leg.ended:
                await self.engine.answer(phone, fs, answer, phone.made_for.get(fs))
                fs.original = fs.pending = answer
        except (NgError, NoNode) as error:
            self.engine.note(session, f"telling FreeSWITCH on leg {leg.name} failed: {error}")

    async def _own_reinvite(
        self, leg: Leg, claim: Offer, to_phone: bool, sdp: Callable[[], Awaitable[bytes | None]]
    ) -> Response | None:
        """Sends a re-INVITE of ours when no offer is in progress; again when it met one (491, RFC 3261 14.1). `sdp` is
        asked when it can be sent; None: it is no longer needed."""
        session, response = leg.session, None
        for attempt in range(OWN_TRIES):
            while session.offers:
                await self._over(session, next(iter(session.offers.values())), OFFER_LIFETIME)
            if self.own is None or leg.ended:
                return None
            session.offers[claim.speaker] = claim
            try:
                body = await sdp()
                if body is None:
                    return None
                response = await self.own.reinvite(leg, to_phone, body)
            finally:
                session.release(claim)
            if response.code != 491 or attempt + 1 == OWN_TRIES:
                break
            await trio.sleep(OWN_RETRY_AFTER)
        return response

    async def _over(self, session: Session, offer: Offer, limit: float) -> None:
        """Waits until an offer in progress is over, or takes it for lost after `limit` seconds."""
        done = trio.Event()
        offer.when_over.append(done.set)
        with trio.move_on_after(limit) as scope:
            await done.wait()
        if scope.cancelled_caught:
            session.release(offer)

    def _carry(self, leg: Leg, offer: Offer, other: Party) -> None:
        """FreeSWITCH kept the offer (an UPDATE): the other phone is told by a re-INVITE of ours (rule 11)."""
        session = leg.session
        far = next((it for it in session.legs if it.phone is other), None)
        rendition = offer.made.get(other)
        if far is None or rendition is None:
            return
        if other.heard is None or without_origin(other.heard.made) != without_origin(rendition.made):
            self._spawn(session, self._carry_over, far, offer.author, rendition)

    async def _carry_over(self, far: Leg, author: Party, rendition: Rendition) -> None:
        session, other, fs = far.session, far.phone, far.fs
        assert fs is not None
        claim = Offer(fs, author, other, rendition.original, self.engine.clock())

        async def made() -> bytes:
            return other.origin.stamp(rendition.made)

        response = await self._own_reinvite(far, claim, True, made)
        if response is None:
            return
        self.engine.note(session, f"offer of {author.name} carried over to {other.name}: {response.code}")
        sdp = extract_sdp(response) if response.code < 300 else None
        if sdp is None:
            return
        known = other.made_for.get(author)
        try:
            if known is None or without_origin(known.original) != without_origin(sdp):
                await self.engine.answer(author, other, sdp, rendition)
            other.original, other.heard = sdp, rendition
        except (NgError, NoNode) as error:
            self.engine.note(session, f"carrying over failed: {error}")

    # -- small ---------------------------------------------------------------------------------------------------------

    def _speak(self, x: Exchange, offer: Offer) -> None:
        x.offer, x.home = offer, True
        x.leg.session.offers[offer.speaker] = offer

    def _connecting(self, session: Session, author: Party, phone: Party, fs: Party) -> Offer | None:
        """FreeSWITCH's offer on the other leg that connects the same two phones, in progress."""
        for offer in session.offers.values():
            if (
                offer.speaker.is_freeswitch
                and offer.speaker is not fs
                and {offer.author, offer.receiver} == {author, phone}
            ):
                return offer
        return None

    def _partner(self, leg: Leg) -> Party:
        """Whom the phone's next offer is for: who it hears, or whoever is expected to take the call."""
        session = leg.session
        if leg.phone.heard is not None:
            return leg.phone.heard.author
        if session.expected is not None:
            return session.expected
        assert leg.fs is not None
        if session.node or session.moves:
            return leg.fs
        policy = self.engine.policy
        name = session.new_name("B" if leg.name == "A" else "A")
        tag = session.new_tag(f"leg-{name}")
        session.expected = Party(
            session, name, tag, via_branch=f"br-{tag[4:]}", interface=policy.public if policy.bypass else policy.lan,
            profile=policy.callee_profile,
        )  # fmt: skip
        return session.expected

    def _author_of(self, leg: Leg, sdp: bytes, hint: bytes | None) -> Rendition | None:
        """The rendition FreeSWITCH repeats; None when the media address is not one of ours, or this phone's own."""
        where = addresses(sdp)
        for address in where:
            known = leg.session.handed.get(address)
            if known is not None:
                return None if known.author is leg.phone else known
        known = self.engine.table.find(where, hint)
        return None if known is None or known.author is leg.phone else known

    def _show_freeswitch(self, leg: Leg, rendition: Rendition) -> bytes:
        assert leg.fs is not None
        self.engine.table.record(rendition)
        leg.fs.heard = rendition
        return leg.fs.origin.stamp(rendition.plain)


def with_direction(sdp: bytes, direction: str) -> bytes:
    """The SDP with this direction on its active m-lines."""
    return sdp if direction_of(sdp) == direction else replace_direction(sdp, direction)

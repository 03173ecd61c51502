"""The story of one session that moves to another rtpengine node, because its own died, forgot it, or is being emptied.

Theory of operation. A `Move` does three things, and each again when it has to:

1. *Ask*: another node gets the media, in a fresh ng call (`relocate`).
2. *Write down* that the session moved, and the CSeq numbers about to be used, when there is a store.
3. *Tell*. Who has to be told follows from the state alone: a party whose last heard rendition was not made in the
   session's present ng call, on a leg that is confirmed and not busy with an offer of somebody else. Each gets a
   re-INVITE of ours inside its own dialog, all in parallel. A phone that meanwhile got the new port by an offer or
   answer that passed (glare) needs none, and one whose call was not answered yet gets it after the ACK. FreeSWITCH is
   told only where it holds media itself: elsewhere it keeps the dead node's address, and what it says with it is
   recognised as before (`Session.handed`) and answered with what is in force, without a command.

Nothing of this is a task: replies, responses and timers call in, so that a thousand moves cost what their messages
cost. Only a 200 whose SDP differs from what the phone had agreed to starts one, to tell rtpengine.

What goes wrong. 491: again after 0.05 to 0.15 s, doubling up to 2.4 s: the audio is dead meanwhile, and the other side
of the glare backs off by RFC 3261 section 14.1 (2.1 s and more when it made the Call-ID). 481: the call is over, and
ended on the other side too. No answer within 64*T1: the same. Any other refusal: from a dead node there is no way back,
so the other side keeps the media it has been told, the request is repeated (Retry-After, or 0.5, 1 and 2 s later), then
the call is given up: BYE to both sides with `Reason: SIP;cause=503`. A move away from a node that works is taken back
instead, and the call stays. Offers of others that arrive while our re-INVITEs are out wait for these a moment
(`quiet`), before 491 is their answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from random import Random
from typing import Any, Protocol

import trio

from ng_protocol import NgError
from proxy.sip.message import H, Response
from proxy.sip.sdp import extract_sdp

from .engine import Engine, NoNode
from .exchange import State
from .relocate import Relocation, agreed_sdp
from .session import OFFER_LIFETIME, Leg, Offer, Party, Rendition, Session, without_origin

SETTLE = 0.02
"""Seconds between an ACK and a re-INVITE of ours that follows it: the ACK is to arrive first."""
POLL = 0.02
"""Seconds between two looks at a leg that is busy with somebody else's offer."""
TRIES_GLARE = 10
TRIES = 4
TELLS = 6
"""How often one side is told new media in one move: two ends that change something each time must not go on."""
MAX_RETRY_AFTER = 10.0
"""Seconds, of a refusal's Retry-After (RFC 3261 section 14.2 knows 0 to 10)."""
_BUSY = frozenset((State.OFFERED, State.EARLY, State.EMPTY, State.COUNTER))
_GONE = (408, 481)


class Request(Protocol):
    """A re-INVITE of ours, built but not sent."""

    def send(self, told: Callable[[Response], None]) -> None:
        """Sends it; `told` is called once with the final response."""


class Teller(Protocol):
    """What a move needs of the relay."""

    def prepare_reinvite(self, leg: Leg, to_phone: bool, sdp: bytes) -> Request | None:
        """A re-INVITE of ours in the leg's dialog, its CSeq number spent; None when the dialog is gone."""

    def end(self, session: Session, reason: bytes) -> None:
        """BYE on all legs of the session, and its end here."""

    def spawn(self, job: Callable[..., Awaitable[None]], *args: Any) -> None:
        """Runs `job(*args)` as a task of its own."""


class Host(Protocol):
    """What a move needs of the `Mover`. `patience`: seconds a call may be without any node."""

    engine: Engine
    own: Teller
    rng: Random
    patience: float

    def later(self, delay: float, job: Callable[[], None]) -> None:
        """Calls `job()` after so many seconds, from the mover's task."""

    def write_down(self, session: Session, then: Callable[[], None]) -> None:
        """Calls `then()` when the session's state is durable: at once without a store."""

    def anchored(self, move: Move) -> None:
        """The new node has the media; or there is nothing to ask it."""

    def done(self, move: Move, outcome: str) -> None:
        """Nobody is left to be told ("moved"), or the call "stayed", was "given up" or "ended". Called once."""


class Side:
    """One endpoint of a leg that may have to be told. `out`: our re-INVITE to it is under way."""

    __slots__ = ("busy_since", "leg", "not_before", "out", "shown", "tells", "to_phone", "tries")

    def __init__(self, leg: Leg, to_phone: bool) -> None:
        self.leg = leg
        self.to_phone = to_phone
        self.out: Request | None = None
        self.shown: Rendition | None = None
        self.tries = 0
        self.tells = 0
        self.not_before = 0.0
        self.busy_since: float | None = None

    @property
    def party(self) -> Party | None:
        """Who is told; on a direct leg the caller or the callee."""
        leg = self.leg
        if self.to_phone:
            return leg.phone
        return leg.callee if leg.direct else leg.fs


class Move:
    """See the module. `graceful`: the old node still works; `may_stay`: it may be taken again (it restarted)."""

    def __init__(
        self, host: Host, session: Session, why: str, *, graceful: bool = False, may_stay: bool = False
    ) -> None:
        self.host = host
        self.session = session
        self.why = why
        self.started = False
        self.over = False
        self.settled = False
        self.place = Relocation(
            host.engine, session, later=host.later, anchored=self._anchored, hopeless=self._give_up,
            patience=host.patience, graceful=graceful, may_stay=may_stay,
        )  # fmt: skip
        self._sides: dict[tuple[Leg, bool], Side] = {}
        self._claims: dict[Leg, Offer] = {}
        self._distrusted: set[Party] = set()
        self._jobs = 0
        self._outcome = "moved"
        self._watch_until = 0.0
        self._wakers: list[Callable[[], None]] = []
        self._tell_at: float | None = None
        session.move = self

    def __repr__(self) -> str:
        return f"<Move of {self.session.id} to {self.session.node}>"

    def start(self, *, may_stay: bool = False) -> None:
        """Asks another node; again when that one is lost, too."""
        self.started = True
        self.place.may_stay = self.place.may_stay or may_stay
        for leg in self.session.legs:
            for x in leg.exchanges:
                # The 200 cannot change an answer that was reliable (RFC 3262 section 5): tell it after the ACK.
                if x.initial and x.answer is not None and x.state is State.ANSWERED and not leg.confirmed:
                    self._distrusted.add(x.answer.receiver)
        self.place.start()

    def resume(self) -> None:
        """The node has the media already, but not everybody may know: goes on with that."""
        self.started = True
        self.place.resume()
        self._watch_until = self.host.engine.clock() + OFFER_LIFETIME
        self._tell()

    def lost(self, *, may_stay: bool = False) -> None:
        """The node it is on now is gone (or has forgotten it): there is nothing to go back to, or to be graceful
        about."""
        self.place.graceful = False
        self.start(may_stay=may_stay)

    def _anchored(self, where: str) -> None:
        session = self.session
        engine = self.host.engine
        engine.note(session, f"moved ({self.why}): {where}" if self._outcome == "moved" else f"back {where}")
        self._watch_until = engine.clock() + OFFER_LIFETIME
        self._wake()
        self.host.anchored(self)
        self._tell()

    # -- telling the endpoints -----------------------------------------------------------------------------------------

    def go(self) -> None:
        """A dialog was confirmed: there may be somebody to tell."""
        self._tell_in(SETTLE)

    def _tell_in(self, delay: float) -> None:
        at = self.host.engine.clock() + delay
        if self._tell_at is None or at < self._tell_at:
            self._tell_at = at
            self.host.later(delay, self._due)

    def _due(self) -> None:
        if self._tell_at is not None and self.host.engine.clock() >= self._tell_at:
            self._tell_at = None
            self._tell()

    def _tell(self) -> None:
        """Sends what has to be sent now. May be called at any time."""
        if self.over or self.place.asking:
            return
        session, now = self.session, self.host.engine.clock()
        ready: list[Side] = []
        stale = later = False
        for leg in list(session.legs):
            if not leg.confirmed:
                later = True
                continue
            in_progress = self._in_progress(leg)
            if in_progress and now < self._watch_until:
                later = True
                self._tell_in(POLL)
            for to_phone in (True, False):
                side = self._sides.get((leg, to_phone))
                if side is None:
                    side = self._sides[leg, to_phone] = Side(leg, to_phone)
                if side.out is not None:
                    stale = True
                    continue
                rendition = self._wanted(side)
                if rendition is None:
                    continue
                stale = True
                if now < side.not_before:
                    self._tell_in(side.not_before - now)
                elif in_progress and self._waits(side, now):
                    self._tell_in(POLL)
                elif self._prepare(side, rendition, now):
                    ready.append(side)
                else:
                    return
        if ready:
            self.host.write_down(session, partial(self._send, ready))
        elif not stale and not self._jobs:
            self._settle(self._outcome)
            if not later:
                self._finish()

    def _wanted(self, side: Side) -> Rendition | None:
        """What this side has to be told; None when it knows."""
        session, party, leg = self.session, side.party, side.leg
        if party is None or party.linked is None or side.tells >= TELLS:
            return None
        if not side.to_phone and not leg.direct and party.linked is not leg.phone:
            return None
        rendition = party.linked.made_for.get(party)
        if rendition is None or rendition.call != session.ng_call_id:
            return None
        known = party.heard is not None and party.heard.call == rendition.call
        return None if known and party not in self._distrusted else rendition

    def _waits(self, side: Side, now: float) -> bool:
        """For an offer in progress, but not for ever: its answer may be lost."""
        if side.busy_since is None:
            side.busy_since = now
        return now - side.busy_since < OFFER_LIFETIME

    def _in_progress(self, leg: Leg) -> bool:
        """Whether somebody else's offer is in progress on this leg."""
        if any(x.state in _BUSY and not x.initial for x in leg.exchanges):
            return True
        offers = self.session.offers
        if not offers:
            return False
        ours, parties = self._claims.get(leg), leg.parties
        return any(
            it is not ours and not it.initial and (it.speaker in parties or leg in it.relayed_to)
            for it in offers.values()
        )

    def _prepare(self, side: Side, rendition: Rendition, now: float) -> bool:
        """Builds the re-INVITE, its CSeq number spent. False: the dialog is gone, and the call is over."""
        leg, party = side.leg, side.party
        assert party is not None
        body = rendition.made
        if party.is_freeswitch:
            self.host.engine.table.record(rendition)
            body = rendition.plain
        request = self.host.own.prepare_reinvite(leg, side.to_phone, party.origin.stamp(body))
        if request is None:
            self._end(b'SIP;cause=481;text="Call gone"', f"leg {leg.name} has no dialog any more")
            return False
        side.out, side.shown, side.busy_since = request, rendition, None
        if leg not in self._claims:
            speaker = rendition.author if leg.direct else leg.fs
            assert speaker is not None
            claim = Offer(speaker, rendition.author, party, rendition.original, now)
            self._claims[leg] = self.session.offers[speaker] = claim
        return True

    def _send(self, sides: list[Side]) -> None:
        """It is written down. What has changed meanwhile is made anew; the CSeq number stays unused."""
        again = False
        for side in sides:
            if side.out is None or self.over:
                continue
            if not self.place.asking and self._wanted(side) is side.shown:
                side.out.send(partial(self._told, side))
                continue
            side.out, again = None, True
            self._unclaim(side.leg)
        if again:
            self._tell()

    def _unclaim(self, leg: Leg) -> None:
        """When no re-INVITE of ours is under way on this leg, others may make offers again."""
        if not any(other.out for other in self._sides.values() if other.leg is leg):
            claim = self._claims.pop(leg, None)
            if claim is not None:
                self.session.release(claim)

    def _told(self, side: Side, response: Response) -> None:
        """The final response of one re-INVITE."""
        shown, side.out = side.shown, None
        leg, party, code = side.leg, side.party, response.code
        self._unclaim(leg)
        if self.over:
            return
        self._wake()
        assert shown is not None
        if not leg.ended and party is not None:
            if code < 300:
                self._accepted(side, party, shown, response)
            elif code in _GONE:
                self._end(b'SIP;cause=%d;text="Call gone"' % code, f"{party.name} answered {code}")
            else:
                self._refused(side, party, response)
        self._tell()

    def _accepted(self, side: Side, party: Party, shown: Rendition, response: Response) -> None:
        party.heard = shown
        self.host.engine.store.dirty(self.session)
        self._distrusted.discard(party)
        side.tries = 0
        side.tells += 1
        self.host.engine.note(self.session, f"{party.name} told: {response.code}")
        sdp = extract_sdp(response) if response.body else None
        if sdp is not None and (party.original is None or without_origin(sdp) != without_origin(party.original)):
            self._jobs += 1
            self.host.own.spawn(self._changed, party, shown, sdp)

    async def _changed(self, party: Party, shown: Rendition, sdp: bytes) -> None:
        """The 200 has another SDP than the party had agreed to: rtpengine is told, and the other side if need be."""
        engine, other = self.host.engine, shown.author
        try:
            if any(pair.receiver is party for pair in self.place.pairs):
                await engine.answer(other, party, sdp, shown)
            else:
                offered = await engine.offer(party, other, sdp)
                await engine.answer(party, other, agreed_sdp(other, party) or shown.original, offered)
            party.original = party.pending = sdp
            engine.store.dirty(self.session)
            made, heard = party.made_for.get(other), other.heard
            if made is not None and heard is not None and without_origin(made.made) != without_origin(heard.made):
                self._distrusted.add(other)
        except (NgError, NoNode) as error:
            engine.note(self.session, f"new SDP of {party.name} failed: {error}")
        finally:
            self._jobs -= 1
        self._tell()

    def _refused(self, side: Side, party: Party, response: Response) -> None:
        code = response.code
        glare = code == 491
        side.tries += 1
        self.host.engine.note(self.session, f"{party.name} told: {code}")
        if side.tries >= (TRIES_GLARE if glare else TRIES):
            self._give_up(b'SIP;cause=503;text="Media could not be moved"', f"{party.name} refused with {code}")
            return
        if glare:
            delay = self.host.rng.uniform(0.05, 0.15) * 2 ** min(side.tries - 1, 4)
        else:
            delay = _retry_after(response) or 0.5 * 2 ** (side.tries - 1)
        side.not_before = self.host.engine.clock() + delay

    # -- ends ----------------------------------------------------------------------------------------------------------

    async def quiet(self, limit: float) -> None:
        """Waits until no re-INVITE of the move is under way and no node is asked, for `limit` seconds at most."""
        with trio.move_on_after(limit):
            while not self.over and (self.place.asking or self._claims):
                await self.changed()

    async def changed(self) -> None:
        """Waits until something about the move has changed."""
        changed = trio.Event()
        self._wakers.append(changed.set)
        await changed.wait()

    def _wake(self) -> None:
        wakers, self._wakers = self._wakers, []
        for wake in wakers:
            wake()

    def cancel(self) -> None:
        """The session has ended."""
        if not self.over:
            self._finish()
            self.place.cancel()
            self._settle("ended")

    def _give_up(self, reason: bytes, why: str) -> None:
        """Nobody takes the media, or an endpoint does not follow: back when there is a way back."""
        if self._outcome == "moved" and self.place.graceful:
            self.host.engine.note(self.session, f"taken back: {why}")
            self._outcome = "stayed"
            if self.place.back():
                for side in self._sides.values():
                    side.tries, side.tells, side.not_before = 0, 0, 0.0
                return
            self._settle("stayed")
            self._finish()
            return
        self._end(reason, why)

    def _end(self, reason: bytes, why: str) -> None:
        self.host.engine.note(self.session, f"given up: {why}")
        self._settle("given up")
        self.host.own.end(self.session, reason)
        if not self.over:
            self._finish()
            self.place.cancel()

    def _settle(self, outcome: str) -> None:
        if not self.settled:
            self.settled = True
            self.place.graceful = False
            self.place.clear_old()
            self.host.done(self, outcome)

    def _finish(self) -> None:
        self.over = True
        if self.session.move is self:
            self.session.move = None
        for claim in self._claims.values():
            self.session.release(claim)
        self._claims.clear()
        self._wake()


def untold(session: Session) -> bool:
    """Whether a party of a confirmed leg has heard of an ng call only that is not the present one."""
    return any(
        leg.confirmed and party.heard is not None and party.heard.call not in ("", session.ng_call_id)
        for leg in session.legs
        for party in (leg.phone, leg.callee)
        if party is not None
    )


def _retry_after(response: Response) -> float:
    """Seconds (RFC 3261 section 20.33), at most MAX_RETRY_AFTER; 0 when there are none."""
    number = (response.get(H.RETRY_AFTER) or b"").split(b";")[0].split(b"(")[0].strip()
    return min(float(number), MAX_RETRY_AFTER) if number.isdigit() and len(number) < 9 else 0.0

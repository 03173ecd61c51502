"""The anchor: what the relay calls for every dialog and every message that carries, or may settle, an SDP.

Theory of operation. `new_leg` opens a session for a new call; `second_leg` finds the session that a new dialog from
FreeSWITCH belongs to, by the media address in its SDP. `request` and `response` then rewrite the SDP of each message
in place: the offer/answer machine says what it is, `dialogue` (through FreeSWITCH) or `direct` says what goes out in
its place. `needs` tells without awaiting whether a message concerns the anchor at all. `confirmed`, `branch_ended` and
`leg_ended` report the life of the dialogs; the last leg's end deletes the ng call.

Conventions. `from_phone` is about the message in hand, request or response: True when the phone sent it (direct: the
caller), False when FreeSWITCH did (direct: the callee). `request` in `response()` is the request as its sender wrote
it; its CSeq finds the transaction. A `Refusal` of a request is the relay's answer to it; a `Refusal` of a 2xx means the
media could not be set up: send it upstream, and ACK and BYE downstream. Nothing here raises for a peer's bad SDP or a
node's failure.
"""

from __future__ import annotations

import logging
import random
import secrets
import time
from collections.abc import Callable, Iterator

import trio

from ng_protocol import Delete, NgBadRequest, NgError
from proxy.sip.message import H, Message, Request, Response
from proxy.sip.sdp import extract_sdp, replace_sdp
from proxy.token import Token

from .dialogue import Dialogue, OwnRequests, Refusal
from .direct import Direct
from .engine import Engine, NoNode
from .exchange import Event, Role, State, ack_event, request_event, response_event, step
from .policy import Policy, profile_of
from .pool import Pool
from .session import Exchange, Leg, Party, Session
from .table import MediaTable, addresses

__all__ = ["Anchor", "Leg", "OwnRequests", "Party", "Refusal", "Session"]

_log = logging.getLogger(__name__)
_SETTLED = (State.ANSWERED, State.ENDED)
PHONE_WAITS = 1.0
FREESWITCH_WAITS = 4.0
"""Seconds an offer waits for the re-INVITEs of a move to another node, before it goes on (and may be refused with
491). A phone that has an offer out refuses ours at once; FreeSWITCH does not like to hear 491."""
_OPENERS = frozenset(("INVITE", "UPDATE", "PRACK"))


class Anchor:
    """All sessions of this proxy. `instance`: prefix of our ng call-ids. `clock`: monotonic seconds, `epoch`: seconds
    since 1970, `rng`: for ids. Set `own` to let it send requests by itself (rule 11)."""

    def __init__(
        self,
        pool: Pool,
        policy: Policy,
        table: MediaTable | None = None,
        *,
        instance: str = "edge",
        clock: Callable[[], float] = trio.current_time,
        epoch: Callable[[], float] = time.time,
        rng: random.Random | None = None,
    ) -> None:
        self.policy = policy
        self.table = table if table is not None else MediaTable()
        self.engine = Engine(pool, policy, self.table, clock, epoch)
        self._instance = instance
        self._clock = clock
        self._epoch = epoch
        self._rng = rng or random.Random(secrets.randbits(128))
        self._dialogue = Dialogue(self.engine)
        self._direct = Direct(self.engine)

    @property
    def own(self) -> OwnRequests | None:
        """The relay's side of requests the anchor makes by itself."""
        return self._dialogue.own

    @own.setter
    def own(self, own: OwnRequests | None) -> None:
        self._dialogue.own = own

    @property
    def sessions(self) -> Iterator[Session]:
        """Every live session."""
        return iter(self.table)

    def find(self, prefix: str) -> list[Session]:
        """Sessions by the start of their ng call-id or of a SIP Call-ID of theirs."""
        return self.table.matches(prefix)

    def leg_of(self, call_id: bytes) -> Leg | None:
        """The live leg with this SIP Call-ID."""
        return self.table.leg(call_id)

    # -- dialogs -------------------------------------------------------------------------------------------------------

    def adopt(self, session: Session) -> None:
        """A session from another life of this proxy goes on here."""
        session.rng = self._rng
        self.table.adopt(session)

    def new_leg(
        self,
        call_id: bytes,
        from_tag: bytes,
        side: str,
        source: tuple[str, int],
        *,
        direct: bool,
        caller: bytes,
        callee: bytes,
        nat: bool = False,
        from_freeswitch: bool = False,
    ) -> Leg:
        """A new call: opens a session with its first leg.

        `side`: "public" or "lan", where the phone is (of a call that FreeSWITCH makes: where it goes). `source`: where
        the phone's SIP comes from, used when `nat`. `from_freeswitch`: FreeSWITCH calls the phone.
        """
        rng, now = self._rng, self._clock()
        session = Session(
            f"{self._instance}-{rng.getrandbits(64):016x}",
            direct=direct,
            created=now,
            created_epoch=self._epoch(),
        )
        session.rng = rng
        self.table.add(session)
        name = session.new_name("B" if from_freeswitch else "A")
        received = source if nat and not from_freeswitch else None
        phone = self._party(session, name, self.policy.interface(side), received)
        leg = self._add_leg(session, name, call_id, from_tag, phone, caller, callee)
        leg.phone_calls = not from_freeswitch
        leg.source = source
        return leg

    def correlates(self, request: Request) -> Session | None:
        """The session of ours whose media the request names: what makes an address that claims to be FreeSWITCH
        believable on a public socket (rule 13)."""
        sdp = sdp_of(request)
        known = None if sdp is None else self.table.find(addresses(sdp), request.get(H.X_PGPX))
        return None if known is None else known.author.session

    def delete_by_token(self, token: Token) -> None:
        """A BYE whose dialog we do not know, but whose signed token we made: its ng call goes, if nobody has it."""
        call_id = token.ng_call_id.decode("latin-1")
        node = token.node.decode("latin-1")
        if self.table.session(call_id) is None and node in self.engine.pool.nodes:
            delete = Delete(call_id=call_id, delete_delay=self.policy.delete_delay)
            self.engine.pool.delete(node, delete)

    def second_leg(self, request: Request, now: float) -> Leg | None:
        """A new INVITE from FreeSWITCH: its leg in the session whose media it carries; None when it carries none.

        Then the call starts at FreeSWITCH, or FreeSWITCH answered first: `new_leg(from_freeswitch=True)`.
        """
        sdp = sdp_of(request)
        if sdp is None:
            return None
        known = self.table.find(addresses(sdp), request.get(H.X_PGPX))
        if known is None or known.author.session.direct:
            return None
        session, author = known.author.session, known.author
        pending = session.offers.get(author)
        phone = session.expected
        if phone is not None and pending is not None and pending.receiver is phone:
            session.expected = None
            name = phone.name
            phone.origin = session.new_origin()
        else:
            name = session.new_name("B")
            phone = self._party(session, name, self.policy.public, None)
        first = session.first_leg
        caller = first.caller if first is not None else b""
        callee = request.get(H.TO) or b""
        self.engine.note(session, f"leg {name} recognised by the media address of {author.name}")
        leg = self._add_leg(session, name, request.call_id, request.from_tag, phone, caller, callee)
        leg.phone_calls = False
        return leg

    def set_callee(
        self,
        leg: Leg,
        *,
        branch: bytes | None = None,
        profile: str | None = None,
        side: str | None = None,
        received: tuple[str, int] | None = None,
    ) -> None:
        """What the relay knows of the phone an INVITE is about to go to; call it before `request`.

        `profile`: "rtp", "srtp" or "webrtc". `received`: the phone's outer address when it is behind NAT.
        """
        party = self._direct.callee(leg, branch) if leg.direct else self._fork(leg, branch) or leg.phone
        party.profile = profile or party.profile
        party.received = received or party.received
        if side is not None:
            party.interface = self.policy.interface(side)

    def confirmed(self, leg: Leg) -> None:
        """An ACK of a 2xx was seen, the initial INVITE's or a later one's."""
        if not leg.ended:
            self._dialogue.correct(leg)
        if leg.session.move is not None:
            leg.session.move.go()
        if leg.confirmed or leg.ended:
            self.engine.store.dirty(leg.session)
            return
        leg.confirmed = True
        if leg.session.state == "early":
            leg.session.state = "confirmed"
        self.engine.note(leg.session, f"leg {leg.name} confirmed")
        if all(one.confirmed for one in leg.session.legs):  # a call through FreeSWITCH is written once, not per leg
            self.engine.store.dirty(leg.session)

    def branch_ended(self, leg: Leg, branch: bytes | None = None) -> None:
        """This branch of the leg's initial INVITE failed or was cancelled: nobody may hear its phone any more."""
        if leg.ended:
            return
        leg.exchanges = [x for x in leg.exchanges if not x.initial or x.branch != branch]
        party = leg.callees.pop(branch or b"", None)
        if party is not None and not party.settled:
            self._branch_failed(party)

    def leg_ended(self, leg: Leg) -> None:
        """The dialog is over (BYE, failure, timeout). The last one deletes the ng call. Idempotent."""
        if leg.ended:
            return
        leg.ended = True
        self.table.drop_leg(leg)
        session, former = leg.session, leg.former
        session.legs.remove(leg)
        session.ended_legs.append(leg)
        self.engine.note(session, f"leg {leg.name} ended")
        for offer in list(session.offers.values()):
            if offer.speaker in leg.parties:
                session.release(offer)
        if former is not None and not former.session.legs:
            self.engine.delete(former.session)
        self.engine.store.dirty(session)
        if not session.legs:
            self.engine.delete(session)
        elif not leg.phone_calls:
            for party in leg.parties:
                if not party.settled:
                    self._branch_failed(party)

    # -- messages ------------------------------------------------------------------------------------------------------

    def needs(self, leg: Leg, message: Message, request: Request | None = None) -> bool:
        """Whether `request` or `response` has anything to do for this message. Cheap, no state changes.

        `request`: the request of a response, as for `response`.
        """
        if isinstance(message, Request):
            method = message.method
            if method == "INVITE":
                return True
            if method == "ACK":
                return bool(message.body) or any(x.state is State.COUNTER for x in leg.exchanges)
            return method in _OPENERS and bool(message.body)
        assert isinstance(message, Response)
        code = message.code
        if code == 100 or not leg.exchanges:
            return False
        if code < 300 and message.body:
            return True
        if code < 200:
            return False
        cseq = message.cseq if request is None else request.cseq
        for x in leg.exchanges:
            if x.cseq == cseq and x.offer is not None:
                if code < 300 and x.state in (State.EARLY, State.OFFERED):
                    return True
                if code >= 300 and not x.initial:
                    return True
        return False

    async def request(
        self, leg: Leg, request: Request, from_phone: bool, branch: bytes | None = None
    ) -> Refusal | None:
        """Rewrites the SDP of a request in place. `branch`: the fork branch this copy of an initial INVITE is for."""
        method = request.method
        if leg.ended or (method not in _OPENERS and method != "ACK"):
            return None
        if leg.session.move is not None and method != "ACK":
            await leg.session.move.quiet(PHONE_WAITS if from_phone else FREESWITCH_WAITS)
            if leg.ended:
                return None
        sdp = sdp_of(request)
        if method == "ACK":
            x = leg.find_exchange(from_phone, request.cseq, branch)
            return None if x is None else await self._play(x, ack_event(sdp is not None), request, sdp, from_phone)
        if method == "PRACK":
            invite = leg.find_exchange(from_phone, _rack_cseq(request), branch)
            if invite is not None and invite.state is State.COUNTER and sdp is not None:
                return await self._play(invite, Event.ACK_SDP, request, sdp, from_phone)
        if sdp is None and method != "INVITE":
            return None
        initial = method == "INVITE" and not request.to_tag
        leg.exchanges = [x for x in leg.exchanges if x.state not in _SETTLED or (initial and x.initial)]
        fork = self._fork(leg, branch) if initial and not leg.direct else None
        x = Exchange(leg, method, request.cseq, from_phone, branch, initial, fork)
        leg.exchanges.append(x)
        return await self._play(x, request_event(sdp is not None), request, sdp, from_phone)

    async def response(
        self, leg: Leg, request: Request, response: Response, from_phone: bool, branch: bytes | None = None
    ) -> Refusal | None:
        """Rewrites the SDP of a response in place, and settles what a final one settles.

        Call it for final responses the relay makes by itself (408, 503) too, except for those to the initial INVITE,
        which are `branch_ended` and `leg_ended`.
        """
        if leg.ended:
            return None
        x = leg.find_exchange(not from_phone, request.cseq, branch)
        if x is None or x.method != request.method:
            return None
        sdp = sdp_of(response) if response.code < 300 else None
        event = response_event(response.code, sdp is not None, response.index(H.RSEQ) >= 0)
        return None if event is None else await self._play(x, event, response, sdp, from_phone)

    # -- inside --------------------------------------------------------------------------------------------------------

    async def _play(
        self, x: Exchange, event: Event, message: Message, sdp: bytes | None, from_phone: bool
    ) -> Refusal | None:
        role, x.state = step(x.state, event)
        if role is Role.NOTHING:
            return None
        try:
            if role is Role.REFUSED:
                code = message.code if isinstance(message, Response) else 0
                await (self._direct if x.leg.direct else self._dialogue).refused(x, code)
                return None
            if role is Role.COMMIT:
                self._agree(x, from_phone)
                return None
            assert sdp is not None
            key = (role is Role.OFFER, sdp)
            if x.seen != key:
                sent = await self._rewrite(x, role, sdp, from_phone, message)
                if isinstance(sent, Refusal):
                    self._forget(x)
                    return sent
                x.seen, x.sent = key, sent
            put_sdp(message, x.sent)
            if role is Role.FINAL_ANSWER:
                self._agree(x, from_phone)
            return None
        except (NgError, NoNode) as error:
            return self._failed(x, role, message, error)

    async def _rewrite(
        self, x: Exchange, role: Role, sdp: bytes, from_phone: bool, message: Message
    ) -> bytes | Refusal:
        leg = x.leg
        if leg.direct:
            callee = self._direct.callee(leg, x.branch)
            speaker, other = (leg.phone, callee) if from_phone else (callee, leg.phone)
            if role is Role.OFFER:
                if speaker.original is None:
                    speaker.profile = profile_of(sdp)
                return await self._direct.offer(x, sdp, speaker, other)
            return await self._direct.answer(x, sdp, speaker)
        if from_phone:
            if role is Role.OFFER:
                if x.phone.original is None:
                    x.phone.profile = profile_of(sdp)
                return await self._dialogue.phone_offers(x, sdp)
            return await self._dialogue.phone_answers(x, sdp)
        hint = message.get(H.X_PGPX)
        if role is Role.OFFER:
            return await self._dialogue.freeswitch_offers(x, sdp, hint)
        return await self._dialogue.freeswitch_answers(x, sdp, hint)

    def _agree(self, x: Exchange, from_phone: bool) -> None:
        leg = x.leg
        if leg.direct:
            self._direct.agreed(x, leg.phone if from_phone else self._direct.callee(leg, x.branch))
        else:
            self._dialogue.agreed(x, from_phone)

    def _failed(self, x: Exchange, role: Role, message: Message, error: NgError | NoNode) -> Refusal | None:
        session = x.leg.session
        self.engine.note(session, f"{role.value}: {error}")
        _log.warning("session %s, leg %s, %s: %s", session.id, x.leg.name, role.value, error)
        if isinstance(message, Response) and message.code < 200:
            message.set_body(b"")  # the call goes on without early media rather than with an address nobody can reach
            return None
        if role is Role.OFFER:
            self._forget(x)
        elif x.initial and self.own is not None:
            self.own.spawn(self.own.hangup, session, b'SIP;cause=503;text="Media could not be set up"')
        if isinstance(error, NgBadRequest):
            return Refusal(488, b"Not Acceptable Here")
        return Refusal(503, b"No Media Relay")

    def _forget(self, x: Exchange) -> None:
        x.state = State.ENDED
        if x in x.leg.exchanges:
            x.leg.exchanges.remove(x)
        if x.home and x.offer is not None:
            x.leg.session.release(x.offer)

    def _party(self, session: Session, name: str, interface: str | None, received: tuple[str, int] | None) -> Party:
        tag = session.new_tag(f"leg-{name}")
        return Party(
            session, name, tag, via_branch=None if name == "A" else f"br-{tag[4:]}", interface=interface,
            profile=self.policy.callee_profile, received=received, origin=session.new_origin(),
        )  # fmt: skip

    def _add_leg(
        self, session: Session, name: str, call_id: bytes, from_tag: bytes, phone: Party, caller: bytes, callee: bytes
    ) -> Leg:
        leg = Leg(session, name, call_id, from_tag, phone)
        leg.caller, leg.callee_uri = caller, callee
        if not session.direct:
            leg.fs = Party(
                session, f"F{name}", session.new_tag(f"leg-F{name}"), interface=self.policy.lan, is_freeswitch=True,
                origin=session.new_origin(),
            )  # fmt: skip
        session.legs.append(leg)
        self.table.add_leg(leg)
        return leg

    def _fork(self, leg: Leg, branch: bytes | None) -> Party | None:
        """The phone that this branch of an INVITE from FreeSWITCH goes to; None on a leg whose phone calls."""
        if leg.phone_calls:
            return None
        key = branch or b""
        party = leg.callees.get(key)
        if party is None:
            party = leg.phone
            if leg.forked:
                party = self._party(leg.session, leg.session.new_name("B"), leg.phone.interface, None)
            leg.forked = True
            leg.callees[key] = party
        return party

    def _branch_failed(self, party: Party) -> None:
        """Rule 9. A callee that was never heard and is the last one keeps its part for now: FreeSWITCH (voice mail) or
        the next callee may take it, and it costs no command when the whole call ends."""
        session = party.session
        if party.gone or party.offered_by is None or party in session.stale:
            return
        alone = not any(
            it is not party and it is not party.offered_by and it.offered_by is not None and not it.gone
            for leg in session.legs
            for it in leg.parties
            if not it.is_freeswitch
        )
        if alone and party.linked is None:
            session.stale.append(party)
        else:
            self.engine.delete_branch(party)


def sdp_of(message: Message) -> bytes | None:
    """The SDP in a message; None without one."""
    if not message.body:
        return None
    return message.body if _is_bare(message) else extract_sdp(message)


def put_sdp(message: Message, sdp: bytes) -> None:
    """Replaces the SDP in a message; other parts of a multipart body stay."""
    if _is_bare(message):
        message.set_body(sdp)
    else:
        replace_sdp(message, sdp)


def _is_bare(message: Message) -> bool:
    """The usual case: the body is the SDP, nothing around it, no Content-Encoding (which would hide the first line)."""
    return message.body.startswith(b"v=0") and message.get(H.CONTENT_TYPE) == b"application/sdp"


def _rack_cseq(request: Request) -> int:
    """The CSeq number in RAck (RFC 3262 section 7.2), or -1."""
    parts = (request.get(H.RACK) or b"").split()
    return int(parts[1]) if len(parts) == 3 and parts[1].isdigit() and len(parts[1]) < 11 else -1

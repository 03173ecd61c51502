"""The state of one call: session, legs, parties, and what they were shown. Pure: no I/O, times are arguments.

Theory of operation. Everything hangs on parties. A party remembers its own last agreed SDP (`original`), every
rendition rtpengine made of it (`made_for`, by receiver), the rendition it was last shown (`heard`, so `heard.author`
is who it talks to) and the party it is associated with inside rtpengine (`linked`). So the state is per party, not per
call, and survives FreeSWITCH stepping in and out, forks, and a leg that moves into another session (rule 10).

An `Offer` is one offer in progress; it is kept under its speaker: the phone that made it or, when FreeSWITCH speaks
for itself, FreeSWITCH's party on that leg (one pending slot per author, rule 4). An `Exchange` is the offer/answer
state of one SIP transaction on one leg.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from proxy.sip.sdp import BadSdp, Sdp, parse_sdp_untrusted

from .exchange import State
from .origin import OriginKeeper as OriginKeeper
from .origin import without_origin as without_origin

_RNG = random.Random()
TIMELINE_LENGTH = 64
OFFER_LIFETIME = 40.0
"""Seconds after which an offer in progress no longer blocks others: longer than a transaction lives (RFC 3261 timer B,
32 s), so that one lost response cannot make a call refuse every later re-INVITE."""


@dataclass(slots=True, eq=False)
class Party:
    """One monologue of the ng call: a phone, or FreeSWITCH on one leg.

    `tag` and `via_branch` are ours, constant and never reused. `interface`: logical rtpengine interface, None for the
    default. `profile`: "rtp", "srtp" or "webrtc". `received`: where its SIP comes from, when it is behind NAT.
    `settled`: an answer between it and somebody is final, so via-branch is no longer sent.
    """

    session: Session
    name: str
    tag: str
    via_branch: str | None = None
    interface: str | None = None
    profile: str = "rtp"
    is_freeswitch: bool = False
    received: tuple[str, int] | None = None
    origin: OriginKeeper = field(default_factory=lambda: OriginKeeper(0))
    original: bytes | None = None
    pending: bytes | None = None
    made_for: dict[Party, Rendition] = field(default_factory=dict)
    linked: Party | None = None
    heard: Rendition | None = None
    settled: bool = False
    offered_by: Party | None = None
    """Whose offer made rtpengine know this party; None while it does not."""
    gone: bool = False
    """Its branch was deleted: whoever was shown its port must be told another."""

    def __repr__(self) -> str:
        return f"<Party {self.name} {self.tag} of {self.session.id}>"

    @property
    def sdp(self) -> Sdp | None:
        """The agreed SDP, parsed; None before there is one or when nobody can read it."""
        return parsed(self.original)

    @property
    def media_address(self) -> str:
        """`ip:port` in the agreed SDP (what the phone claims), or an empty string."""
        sdp = self.sdp
        if sdp is None or not sdp.addresses:
            return ""
        host, port = sdp.addresses[0]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def received_address(self) -> str:
        """`ip:port` its SIP comes from when it is behind NAT, or an empty string."""
        if self.received is None:
            return ""
        host, port = self.received
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parsed(sdp: bytes | None) -> Sdp | None:
    """The parsed SDP, or None when there is none or it is malformed."""
    if sdp is None:
        return None
    try:
        return parse_sdp_untrusted(sdp)
    except BadSdp:
        return None


def direction_of(sdp: bytes) -> str:
    """sendrecv, sendonly, recvonly or inactive; sendrecv for an SDP that says nothing (RFC 3264 section 5.1)."""
    if b"a=sendonly" not in sdp and b"a=recvonly" not in sdp and b"a=inactive" not in sdp:
        return "sendrecv"
    found = parsed(sdp)
    return found.direction if found is not None else "sendrecv"


@dataclass(slots=True, eq=False)
class Rendition:
    """`author`'s SDP as rtpengine rewrote it for `receiver`.

    `original`: what the author wrote (or what FreeSWITCH made of it). `made`: for the receiving phone, in its profile.
    `plain`: the same for FreeSWITCH. `profile` and `interface`: the receiver's when it was made. `call`: the ng call
    it was made in: one of a call before the session moved names ports that are gone.
    """

    author: Party
    receiver: Party
    original: bytes
    made: bytes
    plain: bytes
    profile: str
    interface: str | None
    call: str = ""
    _direction: str | None = None

    @property
    def direction(self) -> str:
        """The direction the receiver was told."""
        if self._direction is None:
            self._direction = direction_of(self.made)
        return self._direction


@dataclass(slots=True, eq=False)
class Offer:
    """An offer in progress. `author`: whose SDP it is. `speaker`: who made it. `made`: renditions by receiver."""

    speaker: Party
    author: Party
    receiver: Party
    original: bytes
    started: float
    initial: bool = False
    made: dict[Party, Rendition] = field(default_factory=dict)
    relayed_to: list[Leg] = field(default_factory=list)
    answered_by: list[Party] = field(default_factory=list)
    over: bool = False
    when_over: list[Callable[[], None]] = field(default_factory=list)
    """Called when the offer is over."""


@dataclass(slots=True, eq=False)
class Exchange:
    """The offer/answer state of one transaction on one leg. `cseq`: as the sender of the request wrote it.

    `home`: the offer was spoken here, so it ends here. `given`: the receiver is shown what rtpengine made earlier, no
    command was needed. `shown`: that or the fresh rendition. `seen` and `sent`: the last SDP in and what became of it,
    so that a retransmission or a 200 that repeats its 183 costs nothing. `answer`: what the offerer was shown last.
    `fork`: the callee this branch of an initial INVITE goes to.
    """

    leg: Leg
    method: str
    cseq: int
    from_phone: bool
    branch: bytes | None
    initial: bool
    fork: Party | None = None
    state: State = State.START
    offer: Offer | None = None
    home: bool = False
    given: bool = False
    shown: Rendition | None = None
    answer: Rendition | None = None
    seen: tuple[bool, bytes] | None = None
    sent: bytes = b""

    @property
    def phone(self) -> Party:
        """The phone of this transaction."""
        return self.fork or self.leg.phone


class Leg:
    """One SIP dialog of the session.

    With a B2BUA on the way `phone` is its outer end and `fs` FreeSWITCH's; direct, `phone` is the caller and `callee`
    the one that answered. `callees`: the phones an initial INVITE was forked to, by branch. `phone_calls`: the phone
    sent the initial INVITE. `from_tag`: of that INVITE. `caller`, `callee_uri`: as the relay gave them.
    `freeswitch_misled`: it knows a port that is gone or on the wrong interface, and must be told another.
    """

    def __init__(self, session: Session, name: str, call_id: bytes, from_tag: bytes, phone: Party) -> None:
        self.session = session
        self.name = name
        self.call_id = call_id
        self.from_tag = from_tag
        self.phone = phone
        self.fs: Party | None = None
        self.phone_calls = True
        self.forked = False
        self.direct = session.direct
        self.callees: dict[bytes, Party] = {}
        self.callee: Party | None = None
        self.caller = b""
        self.callee_uri = b""
        self.source = ("", 0)
        """Where the initial INVITE's sender really is, (ip, port)."""
        self.confirmed = False
        self.ended = False
        self.exchanges: list[Exchange] = []
        self.former: Former | None = None
        self.freeswitch_misled = False

    def __repr__(self) -> str:
        return f"<Leg {self.name} {self.call_id!r} of {self.session.id}>"

    @property
    def parties(self) -> list[Party]:
        """Everybody on this leg that has media state."""
        if self.direct:
            callees = [self.callee] if self.callee is not None else list(self.callees.values())
            return [self.phone, *callees]
        forks = [] if self.phone.settled else [it for it in self.callees.values() if it is not self.phone]
        return [self.phone, *forks] if self.fs is None else [self.phone, *forks, self.fs]

    def find_exchange(self, from_phone: bool, cseq: int, branch: bytes | None) -> Exchange | None:
        """The transaction with this CSeq from this side; an unnamed branch matches any (the ACK of a fork)."""
        for exchange in reversed(self.exchanges):
            same = exchange.cseq == cseq and exchange.from_phone is from_phone
            if same and (branch is None or exchange.branch is None or exchange.branch == branch):
                return exchange
        return None


@dataclass(slots=True)
class Former:
    """Where a leg was before it moved into another session, kept until the move is agreed."""

    session: Session
    phone: Party
    fs: Party | None
    name: str


class Moving(Protocol):
    """What a session's legs tell the story that moves it to another node (`reanchor.Move`)."""

    def go(self) -> None:
        """A dialog was confirmed: there may be somebody to tell."""

    def cancel(self) -> None:
        """The session has ended."""

    def quiet(self, limit: float) -> Awaitable[None]:
        """Waits until no re-INVITE of the move is under way, for `limit` seconds at most."""


class Session:
    """One call. `id`: its name for operators and in tokens, fresh per session. `ng_call_id`: what its present node
    knows it by: `id`, after a move `id.2` and so on, so that a delete owed to an old node never kills a later call.
    `node`: name of the rtpengine node, empty before the first offer (and after a move of a call nobody has answered).
    `moves`: how often it moved. `move`: the story of the move under way. `expected`: the party the first offer was
    made for, before anybody has taken the part (rules 5 and 7).
    `legs`: the live ones; `ended_legs`: the others. `wish`: set and labels that its node must have, None: any node.
    `stale`: callees that failed without early media, whose ng branch goes when another takes over or the call ends.
    `created`: monotonic seconds; `created_epoch`: seconds since 1970. `sample`: filled by the sampler."""

    def __init__(self, session_id: str, *, direct: bool, created: float, created_epoch: float) -> None:
        self.id = session_id
        self.ng_call_id = session_id
        self.moves = 0
        self.move: Moving | None = None
        self.direct = direct
        self.created = created
        self.created_epoch = created_epoch
        self.node = ""
        self.wish: tuple[str | None, tuple[str, ...]] | None = None
        self.state = "early"
        self.legs: list[Leg] = []
        self.ended_legs: list[Leg] = []
        self.expected: Party | None = None
        self.offers: dict[Party, Offer] = {}
        self.handed: dict[tuple[bytes, bytes], Rendition] = {}
        self.stale: list[Party] = []
        self.sample: object | None = None
        self.timeline: deque[tuple[float, str]] = deque(maxlen=TIMELINE_LENGTH)
        self.rng: random.Random = _RNG
        self.in_flight = False
        self._turns: deque[Callable[[], None]] = deque()
        self._tags: set[str] = set()
        self._names: set[str] = set()
        self._was_bridged = False

    def __repr__(self) -> str:
        return f"<Session {self.id} {self.state} legs {[leg.name for leg in self.legs]}>"

    @property
    def mode(self) -> str:
        return "direct" if self.direct else "b2bua"

    @property
    def alive_on_node(self) -> bool:
        """Whether the node should have a call of this id."""
        return bool(self.node) and self.state != "ended"

    @property
    def bridged(self) -> bool:
        """Whether FreeSWITCH has already sent the call on (a second leg exists or existed)."""
        return self._was_bridged or len(self.legs) + len(self.ended_legs) > 1

    def note(self, epoch: float, text: str) -> None:
        """One line for the timeline that operators see."""
        self.timeline.append((epoch, text))

    def new_tag(self, wanted: str) -> str:
        """A tag of ours that no party of this ng call ever had."""
        tag, number = wanted, 1
        while tag in self._tags:
            number += 1
            tag = f"{wanted}.{number}"
        self._tags.add(tag)
        return tag

    def new_name(self, wanted: str) -> str:
        """A name for a phone's leg: A, B, B2, B3..."""
        name, number = wanted, 1
        while name in self._names:
            number += 1
            name = f"{wanted}{number}"
        self._names.add(name)
        return name

    def free_name(self, name: str) -> None:
        """The party of this name never came to be."""
        self._names.discard(name)

    def new_origin(self) -> OriginKeeper:
        """An o= line for one more endpoint."""
        return OriginKeeper(self.rng.getrandbits(30) + 1)

    def take_turn(self) -> bool:
        """One ng command at a time: True when the turn was free, which is the usual case, and is now taken."""
        if self.in_flight:
            return False
        self.in_flight = True
        return True

    def await_turn(self, waiter: Callable[[], None]) -> None:
        """`waiter` is called when the turn has been handed over to it."""
        self._turns.append(waiter)

    def leave_turn(self) -> None:
        """Hands the turn to the next in line."""
        if self._turns:
            self._turns.popleft()()
        else:
            self.in_flight = False

    def abandon_turn(self, waiter: Callable[[], None]) -> None:
        """A waiter gives up. When the turn is its own already, the next in line has it."""
        if waiter in self._turns:
            self._turns.remove(waiter)
        else:
            self.leave_turn()

    def release(self, offer: Offer) -> None:
        """The offer is over, whatever became of it."""
        if self.offers.get(offer.speaker) is offer:
            del self.offers[offer.speaker]
        offer.over = True
        for tell in offer.when_over:
            tell()
        offer.when_over.clear()

    def busy(self, speaker: Party, now: float) -> bool:
        """Whether somebody else's offer is in progress (rule 11)."""
        return any(o.speaker is not speaker and now - o.started < OFFER_LIFETIME for o in self.offers.values())

    def dissolve(self) -> None:
        """The session has ended: its parts let go of each other, so that nothing is left to the garbage collector."""
        self._was_bridged = self.bridged
        for leg in (*self.legs, *self.ended_legs):
            for party in (*leg.parties, *leg.callees.values()):
                party.made_for = {}
                party.linked = party.heard = party.offered_by = None
            leg.exchanges = []
            leg.callees = {}
        self.legs, self.ended_legs, self.stale, self.offers = [], [], [], {}
        self.expected = None

    # -- what operators see --------------------------------------------------------------------------------------------

    @property
    def all_legs(self) -> list[Leg]:
        """Live and ended legs in the order of their names: A, B, B2, ..."""
        return sorted([*self.ended_legs, *self.legs], key=lambda leg: (len(leg.name), leg.name))

    @property
    def call_ids(self) -> list[bytes]:
        """SIP Call-IDs of all legs, first leg first, ended ones included."""
        return [leg.call_id for leg in self.all_legs]

    @property
    def first_leg(self) -> Leg | None:
        legs = self.all_legs
        return next((leg for leg in legs if leg.name == "A"), legs[0] if legs else None)

    @property
    def caller(self) -> bytes:
        return self.first_leg.caller if self.first_leg else b""

    @property
    def callee(self) -> bytes:
        return self.first_leg.callee_uri if self.first_leg else b""

    @property
    def phones(self) -> list[Party]:
        """The phones in the call now, the caller first."""
        found: list[Party] = []
        for leg in self.legs:
            found += [party for party in leg.parties if not party.is_freeswitch]
        return found

    @property
    def codecs(self) -> list[str]:
        """Codecs of the last agreed answer, as `PCMU/8000`; of the offer while there is no answer."""
        for party in reversed(self.phones):
            sdp = parsed(party.original or party.pending)
            if sdp is not None:
                return sdp.codecs()
        return []

    @property
    def holding(self) -> list[str]:
        """Names of the parties that hold (their agreed SDP says sendonly, inactive or the null address)."""
        return [party.name for party in self.phones if party.sdp is not None and party.sdp.is_hold]

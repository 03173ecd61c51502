"""The backend of the control API: sessions, nodes and counters of a running proxy as schema objects.

Reads the media table (the sessions), the sampler (their last counters), the watch (the nodes) and the ng clients; what
changes nodes is `administration`'s. `sessions()` yields lazily from a snapshot, so the server can pause between slices
while calls come and go. `describe` tells the sampler what to ask about a session; it is here because roles are decided
here: the caller is the phone of leg A, the callee the phone that answered (while nobody has, the one tried last).
"""

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import trio

from ng_protocol import Client, NgError, NgLostCall, Query
from proxy.control import schema, streams
from proxy.control.administration import NodeAdministration
from proxy.media.sampler import NodeSample, Sample, Sampler, Subject
from proxy.media.session import Leg, Party, Session

Roles = dict[str, tuple[str, str]]
"""ng tag -> (role, name of the leg)."""


class ProxyBackend:
    """Implements `server.Backend`. `sessions`: the live ones; `clients`: by node name; `counters`: the proxy's own."""

    def __init__(
        self,
        instance: str,
        version: str,
        sessions: Callable[[], Iterable[Session]],
        clients: Mapping[str, Client],
        sampler: Sampler[Session],
        counters: Callable[[], schema.Stats] = dict,
        *,
        administration: NodeAdministration | None = None,
        clock: Callable[[], float] = trio.current_time,
        epoch: Callable[[], float] = time.time,
    ) -> None:
        self._instance = instance
        self._version = version
        self._sessions = sessions
        self._clients = clients
        self._sampler = sampler
        self._counters = counters
        self._administration = administration
        self._clock = clock
        self._epoch = epoch
        self._started = clock()

    def hello(self) -> schema.Hello:
        return schema.Hello(version=self._version, instance=self._instance, uptime_s=self._clock() - self._started)

    def sessions(self) -> Iterator[schema.SessionInfo]:
        snapshot = list(self._sessions())
        return (session_info(session, self._clock()) for session in snapshot)

    async def session(self, session_id: str) -> schema.SessionDetail:
        """A session that its node does not know or cannot tell about is still shown, with what the proxy knows."""
        known = {session.id: session for session in self._sessions()}
        found = known[schema.resolve(session_id, ((key, map(text, s.call_ids)) for key, s in known.items()))]
        detail = schema.SessionDetail(session=session_info(found, self._clock()), queried=self._epoch())
        client = self._clients.get(found.node)
        if found.node and client is None:
            detail.node_error = f"node {found.node} is not configured any more: nobody can be asked about this call"
        elif client is not None:
            try:
                reply = await client.request(Query(call_id=found.ng_call_id))
                detail.queried = self._epoch()
                detail.parties = streams.parties(reply, detail.queried, roles(found))
                detail.session.lost = False
            except NgLostCall:
                detail.session.lost = found.alive_on_node
            except NgError as error:
                detail.node_error = str(error)
        detail.timeline = [schema.Event(at=at, text=line) for at, line in found.timeline]
        return detail

    def nodes(self) -> list[schema.NodeInfo]:
        ours = Counter(session.node for session in self._sessions())
        samples = self._sampler.nodes
        now = self._clock()
        infos = []
        for name, client in self._clients.items():
            sample = samples.get(name) or NodeSample()
            watched = self._administration.watched(name) if self._administration is not None else None
            at = watched.statistics_at if watched is not None else sample.at
            info = streams.node_info(
                name,
                client.address,
                watched.statistics if watched is not None else sample.statistics,
                client.statistics(),
                sessions=ours[name],
                age_s=now - at if at is not None else None,
                last_error=sample.error,
            )
            if self._administration is not None:
                self._administration.describe(info)
            infos.append(info)
        return infos

    async def administer(self, method: str, params: Any) -> object:
        """A method of `node_schema.METHODS`. Raises ControlError."""
        if self._administration is None:
            raise schema.ControlError("refused", "this proxy has no media nodes to administer")
        return await self._administration.call(method, params)

    def stats(self) -> schema.Stats:
        """The proxy's own counters, the sampler's as `sampler_*`, and how many sessions there are."""
        sampled = {f"sampler_{name}": value for name, value in dataclasses.asdict(self._sampler.counters).items()}
        return {"sessions": sum(1 for _ in self._sessions())} | sampled | self._counters()


def describe(session: Session) -> Subject | None:
    """What the sampler may ask about a session now; None while rtpengine does not know it, and when it is over."""
    if not session.alive_on_node:
        return None
    caller, callee = caller_of(session), callee_of(session)
    return Subject(
        node=session.node,
        call_id=session.ng_call_id,
        caller=caller.tag if caller else None,
        callee=callee.tag if callee else None,
        talking=session.state == "confirmed" and not hold_of(session),
    )


def session_info(session: Session, now: float) -> schema.SessionInfo:
    """One session, without asking anybody. `now`: monotonic."""
    sample = session.sample if isinstance(session.sample, Sample) else None
    caller, callee = sample.packets if sample else (None, None)
    return schema.SessionInfo(
        id=session.id,
        state=session.state,
        call_ids=[text(call_id) for call_id in session.call_ids],
        caller=uri(session.caller),
        callee=uri(session.callee),
        node=session.node,
        created=session.created_epoch,
        age_s=max(0.0, now - session.created),
        codecs=(sample.codecs if sample else []) or session.codecs[:1],
        hold=hold_of(session),
        packets=schema.Packets(caller=caller, callee=callee),
        sample_age_s=max(0.0, now - sample.at) if sample and not sample.never else None,
        lost=sample is not None and sample.lost,
        legs=[leg_info(leg) for leg in session.all_legs],
    )


def leg_info(leg: Leg) -> schema.LegInfo:
    """One leg; of a direct call's only leg, the caller's side."""
    phone = leg.phone
    return schema.LegInfo(
        name=leg.name,
        call_id=text(leg.call_id),
        party=phone.tag,
        profile=phone.profile,
        interface=phone.interface or "",
        media=phone.media_address or None,
        received=phone.received_address or None,
    )


def caller_of(session: Session) -> Party | None:
    """The phone of leg A; of a call that FreeSWITCH makes, FreeSWITCH itself."""
    first = session.first_leg
    if first is None:
        return None
    return first.fs if _from_freeswitch(first) else first.phone


def _from_freeswitch(first: Leg) -> bool:
    return not first.phone_calls and not first.direct


def callee_of(session: Session) -> Party | None:
    """The other phone: that of a confirmed leg before that of the leg (or direct branch) tried last."""
    first = session.first_leg
    if first is None:
        return None
    if first.direct:
        return first.callee or next(reversed(first.callees.values()), None)
    if _from_freeswitch(first):
        return first.phone
    others = [leg for leg in session.legs if leg is not first]
    confirmed = [leg for leg in others if leg.confirmed]
    return (confirmed or others)[-1].phone if others else None


def roles(session: Session) -> Roles:
    """Every party of the session by its ng tag, caller and callee first."""
    caller, callee = caller_of(session), callee_of(session)
    found: Roles = {}
    for party, role in ((caller, "caller"), (callee, "callee")):
        if party is not None:
            found[party.tag] = (role, _leg_name(session, party))
    for leg in session.all_legs:
        for party in (*leg.parties, *leg.callees.values()):
            found.setdefault(party.tag, ("freeswitch" if party.is_freeswitch else "other", leg.name))
    return found


def _leg_name(session: Session, party: Party) -> str:
    return next((leg.name for leg in session.all_legs if party in leg.parties), "")


def hold_of(session: Session) -> str:
    """ "", caller, callee or both."""
    holding = [
        name for name, party in (("caller", caller_of(session)), ("callee", callee_of(session))) if _holds(party)
    ]
    return "both" if len(holding) == 2 else "".join(holding)


_HOLD_SIGNS = (b"a=sendonly", b"a=inactive", b"0.0.0.0")


def _holds(party: Party | None) -> bool:
    """Parsing is for the few SDPs that can mean a hold: a listing looks at every party of every session."""
    if party is None or party.original is None or not any(sign in party.original for sign in _HOLD_SIGNS):
        return False
    return party.sdp is not None and party.sdp.is_hold


def text(raw: bytes) -> str:
    """Bytes from a SIP message, whatever they are."""
    return raw.decode("utf-8", "backslashreplace")


def uri(address: bytes) -> str:
    """The URI in a From or To value, without display name and parameters of the header; a bare URI stays."""
    _, bracket, rest = address.rpartition(b"<")
    return text(rest.partition(b">")[0] if bracket else address).strip()

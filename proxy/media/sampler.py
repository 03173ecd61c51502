"""Keeps a recent look at every session: a background task that asks the nodes, within a budget.

Each session has a due time in one heap: a few seconds after it was first seen, then at a random moment within one
interval (so that calls that arrived together part), then again 0.75 to 0.95 of the interval after its last query
started (the margin pays for waiting in line). A
due session goes to the queue of its node; one task per node takes from its queue, not faster than the budget and with
so many queries in flight at most, so a node that is slow or dead delays no other. After a node failed to answer, its
queue pauses for a moment: a dead node costs one timeout per in-flight slot, not one per session.

What a query found is stored in `session.sample`; a failed query leaves the old sample in place and is counted. Two
things are told through callbacks, which must not block: a call the node does not know (only when it said so twice,
as the first may race with the call's own delete) and a call in which no packet, RTCP included, arrived from anybody
for a while although it is answered and not on hold. Silence is judged by counters that do not move between two
samples, on our clock, so it needs no agreement with the node's clock and is noticed up to one interval late.

The same per-node tasks ask for `statistics` now and then; `nodes` has the latest.
"""

import heapq
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Generic, Protocol, TypeVar

import trio

from ng_protocol import NgError, NgLostCall, Query, QueryReply, Statistics, StatisticsReply, Tag
from ng_protocol.commands import Command

log = logging.getLogger(__name__)
ReplyT = TypeVar("ReplyT")


class NodeClient(Protocol):
    """What the sampler needs of `ng_protocol.Client`."""

    async def request(self, command: Command[ReplyT], timeout: float | None = None) -> ReplyT:
        """The typed reply; raises NgError."""


@dataclass(frozen=True)
class Subject:
    """What to ask about a session right now. `caller`, `callee`: ng tags, None while there is no such party.

    `talking`: answered and nobody holds, so that packets are expected.
    """

    node: str
    call_id: str
    caller: str | None
    callee: str | None
    talking: bool


@dataclass(slots=True)
class Sample:
    """What the last answered query of a session said. Index 0 is the caller, 1 the callee; None: not known.

    `at`: monotonic, `epoch`: wall clock, both seconds. `packets`: RTP received from each; `idle`: seconds since each
    one's last RTP packet, as of `epoch`, None when there was none. `codecs`: of the first audio of each, one when they
    are the same. `lost`: the node has said since that it does not know the call. `failures`: queries failed since.
    """

    at: float
    epoch: float
    packets: tuple[int | None, int | None]
    idle: tuple[float | None, float | None]
    codecs: list[str]
    total: int = 0
    """Packets of any kind from anybody; silence is when this stands still."""
    moved_at: float = 0.0
    """Monotonic: when `total` last changed, or the call was last not expected to talk."""
    silence_told: bool = False
    lost: bool = False
    failures: int = 0
    never: bool = False
    """No query was ever answered: there is only `lost`."""


class Sampled(Protocol):
    """The part of a session the sampler touches."""

    sample: Any
    """Sample | None"""


S = TypeVar("S", bound=Sampled)


@dataclass(frozen=True)
class SamplerConfig:
    """Seconds, except `rate` (queries per second and node) and `in_flight` (queries under way per node)."""

    interval: float = 30.0
    """Every session is queried at least this often, as far as the budget allows."""
    first: float = 5.0
    """Age at which a new session is queried first: most calls that fail never cost a query."""
    silence: float = 90.0
    """Time without any packet after which `on_silent` is called; 0: never."""
    rate: float = 200.0
    in_flight: int = 8
    statistics: float = 10.0
    """Time between two looks at a node's own numbers; 0: never, somebody else asks for them."""
    scan: float = 1.0
    """How often the list of sessions is looked through for new and ended ones."""
    retry: float = 1.0
    """Pause of a node's queue after it failed to answer; also the wait before a lost call is believed."""


@dataclass(slots=True)
class NodeSample:
    """The latest `statistics` of a node. `at`: monotonic; `error`: set while its last command went unanswered."""

    statistics: StatisticsReply | None = None
    at: float | None = None
    error: str | None = None


@dataclass
class SamplerCounters:
    """Since the start. `late`: queries that started later than an interval after the one before."""

    queries: int = 0
    failures: int = 0
    lost: int = 0
    silent: int = 0
    late: int = 0
    callback_errors: int = 0


@dataclass(slots=True, eq=False)
class _Entry(Generic[S]):
    session: S
    asked_at: float | None = None
    lost_once: bool = False
    seen: int = 0
    gone: bool = False


@dataclass(eq=False)
class _Node(Generic[S]):
    client: NodeClient
    slots: trio.CapacityLimiter
    queue: deque[_Entry[S]] = field(default_factory=deque)
    work: trio.Event = field(default_factory=trio.Event)
    sample: NodeSample = field(default_factory=NodeSample)
    paused_until: float = 0.0
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    """Around the task that serves its queue."""


def _ignore(*_: object) -> None:
    """Nobody wants to know."""


class Sampler(Generic[S]):
    """Samples every session `sessions()` yields; `describe` says what to ask, None: nothing now (no node, ended).

    `clients`: by node name. `on_lost(session)` and `on_silent(session, seconds)` are called from the sampler's task.
    """

    def __init__(
        self,
        sessions: Callable[[], Iterable[S]],
        describe: Callable[[S], Subject | None],
        clients: Mapping[str, NodeClient],
        config: SamplerConfig | None = None,
        *,
        on_lost: Callable[[S], None] = _ignore,
        on_silent: Callable[[S, float], None] = _ignore,
        epoch: Callable[[], float] = time.time,
        rng: random.Random | None = None,
    ) -> None:
        self.config = config or SamplerConfig()
        self.counters = SamplerCounters()
        self._sessions = sessions
        self._describe = describe
        self._on_lost = on_lost
        self._on_silent = on_silent
        self._epoch = epoch
        self._rng = rng or random.Random()
        limit = self.config.in_flight
        self._nodes = {name: _Node[S](client, trio.CapacityLimiter(limit)) for name, client in clients.items()}
        self._known: dict[int, _Entry[S]] = {}
        self._heap: list[tuple[float, int, _Entry[S]]] = []
        self._order = count()
        self._nursery: trio.Nursery | None = None
        self._scans = 0

    @property
    def nodes(self) -> dict[str, NodeSample]:
        """The latest statistics by node name."""
        return {name: node.sample for name, node in self._nodes.items()}

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Sample until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for node in self._nodes.values():
                self._start(node, nursery)
            task_status.started()
            await self._schedule()

    def _start(self, node: _Node[S], nursery: trio.Nursery) -> None:
        nursery.start_soon(self._ask_in_turn, node, nursery)
        if self.config.statistics:
            nursery.start_soon(self._ask_statistics, node)

    def add_node(self, name: str, client: NodeClient) -> None:
        """One more node, from now on."""
        node = self._nodes[name] = _Node[S](client, trio.CapacityLimiter(self.config.in_flight))
        if self._nursery is not None:
            self._start(node, self._nursery)

    def remove_node(self, name: str) -> None:
        """The node is gone, and no session is on it any more."""
        node = self._nodes.pop(name)
        node.scope.cancel()
        for entry in node.queue:  # of sessions that have moved elsewhere since
            self._push(entry, trio.current_time())

    # Scheduling ------------------------------------------------------------------------------------------------------

    async def _schedule(self) -> None:
        next_scan = trio.current_time()
        while True:
            now = trio.current_time()
            if now >= next_scan:
                self._scan(now)
                next_scan = now + self.config.scan
            self._enqueue_due(now)
            wake = min(next_scan, self._heap[0][0]) if self._heap else next_scan
            # A few dozen sessions may be due within one wake-up; waking for each would cost more than the query.
            await trio.sleep_until(max(wake, now + 0.05))

    def _scan(self, now: float) -> None:
        """Take in new sessions, let go of those that are not listed any more."""
        self._scans += 1
        for session in self._sessions():
            entry = self._known.get(id(session))
            if entry is None:
                entry = self._known[id(session)] = _Entry(session)
                self._push(entry, now + self.config.first * self._rng.uniform(0.8, 1.0))
            entry.seen = self._scans
        for key, entry in list(self._known.items()):
            if entry.seen != self._scans:
                entry.gone = True
                del self._known[key]

    def _push(self, entry: _Entry[S], due: float) -> None:
        if not entry.gone:
            heapq.heappush(self._heap, (due, next(self._order), entry))

    def _enqueue_due(self, now: float) -> None:
        while self._heap and self._heap[0][0] <= now:
            entry = heapq.heappop(self._heap)[2]
            if entry.gone:
                continue
            subject = self._describe(entry.session)
            node = self._nodes.get(subject.node) if subject else None
            if node is None:
                self._push(entry, now + self.config.first)
                continue
            node.queue.append(entry)
            node.work.set()

    # Asking ----------------------------------------------------------------------------------------------------------

    async def _ask_in_turn(self, node: _Node[S], nursery: trio.Nursery) -> None:
        """One node's queue, within its budget."""
        gap = 1.0 / self.config.rate
        node.scope = trio.CancelScope()
        with node.scope:
            while True:
                while not node.queue:
                    node.work = trio.Event()
                    await node.work.wait()
                await trio.sleep_until(node.paused_until)
                entry = node.queue.popleft()
                if entry.gone:
                    continue
                try:
                    await node.slots.acquire_on_behalf_of(entry)
                except trio.Cancelled:
                    self._push(entry, trio.current_time())
                    raise
                nursery.start_soon(self._ask, node, entry)
                await trio.sleep(gap)

    async def _ask(self, node: _Node[S], entry: _Entry[S]) -> None:
        """One query, from the slot taken to the next due time."""
        now = trio.current_time()
        interval = self.config.interval
        due = now + interval * self._rng.uniform(0.05 if entry.asked_at is None else 0.75, 0.95)
        try:
            subject = self._describe(entry.session)
            if entry.gone or subject is None or self._nodes.get(subject.node) is not node:
                due = now + self.config.retry
                return
            if entry.asked_at is not None and now > entry.asked_at + interval:
                self.counters.late += 1
            entry.asked_at = now
            self.counters.queries += 1
            try:
                reply = await node.client.request(Query(call_id=subject.call_id))
            except NgError as error:
                if self._failed(node, entry, subject, error):
                    due = trio.current_time() + self.config.retry
            else:
                node.sample.error = None
                self._store(entry, subject, reply)
        finally:
            node.slots.release_on_behalf_of(entry)
            self._push(entry, due)

    def _failed(self, node: _Node[S], entry: _Entry[S], subject: Subject, error: NgError) -> bool:
        """Count it and keep the old sample. True: ask again soon."""
        self.counters.failures += 1
        session = entry.session
        if session.sample is not None:
            session.sample.failures += 1
        if not isinstance(error, NgLostCall):
            self._unanswered(node, error)
            return False
        node.sample.error = None
        if entry.gone or self._describe(session) != subject:
            return False
        if not entry.lost_once:
            entry.lost_once = True
            return True
        if session.sample is None:
            session.sample = Sample(trio.current_time(), self._epoch(), (None, None), (None, None), [], never=True)
        if not session.sample.lost:
            session.sample.lost = True
            self.counters.lost += 1
            self._tell(self._on_lost, session)
        return False

    def _unanswered(self, node: _Node[S], error: NgError) -> None:
        node.sample.error = str(error)
        node.paused_until = trio.current_time() + self.config.retry

    def _store(self, entry: _Entry[S], subject: Subject, reply: QueryReply) -> None:
        """A new sample, unless the session ended or moved to another node while we asked."""
        session = entry.session
        subject_now = self._describe(session)
        if entry.gone or subject_now is None:
            return
        if (subject_now.node, subject_now.call_id) != (subject.node, subject.call_id):
            return
        now = trio.current_time()
        entry.lost_once = False
        before = session.sample
        sample = session.sample = make_sample(subject_now, reply, now, self._epoch())
        sample.moved_at = now
        if not subject_now.talking or before is None or before.lost or before.total != sample.total:
            return
        sample.moved_at = before.moved_at
        sample.silence_told = before.silence_told
        silence = now - sample.moved_at
        if self.config.silence and silence >= self.config.silence and not sample.silence_told:
            sample.silence_told = True
            self.counters.silent += 1
            self._tell(self._on_silent, session, silence)

    def _tell(self, callback: Callable[..., None], *arguments: object) -> None:
        """A callback's fault is its own: counted and logged here, so that sampling goes on."""
        try:
            callback(*arguments)
        except Exception:
            self.counters.callback_errors += 1
            log.exception("a callback of the media sampler failed")

    async def _ask_statistics(self, node: _Node[S]) -> None:
        while not node.scope.cancel_called:
            try:
                node.sample.statistics = await node.client.request(Statistics())
                node.sample.at = trio.current_time()
                node.sample.error = None
            except NgError as error:
                self._unanswered(node, error)
            await trio.sleep(self.config.statistics)


def make_sample(subject: Subject, reply: QueryReply, now: float, epoch: float) -> Sample:
    """What a reply says about the two parties of a subject. `now`: monotonic."""
    tallies = [_tally(reply.tags.get(tag)) if tag is not None else _NOBODY for tag in (subject.caller, subject.callee)]
    caller, callee = tallies
    codecs = [one.codec for one in tallies if one.codec]
    return Sample(
        at=now,
        epoch=epoch,
        packets=(caller.packets, callee.packets),
        idle=(caller.idle(epoch), callee.idle(epoch)),
        codecs=codecs[:1] if len(set(codecs)) == 1 else codecs,
        total=sum(stream.received.packets for _, _, stream in reply.streams()),
    )


@dataclass(frozen=True, slots=True)
class _Tally:
    """RTP from one party. `packets` None: no such party. `last_packet`: epoch seconds of the node's clock."""

    packets: int | None = None
    last_packet: int | None = None
    codec: str | None = None

    def idle(self, epoch: float) -> float | None:
        return None if self.last_packet is None else max(0.0, epoch - self.last_packet)


_NOBODY = _Tally()


def _tally(tag: Tag | None) -> _Tally:
    """`last packet` is about the time of creation while nothing arrived, so it counts only beside packets."""
    if tag is None:
        return _NOBODY
    rtp = [stream for media in tag.medias for stream in media.streams if stream.is_rtp]
    heard = [stream for stream in rtp if stream.received.packets]
    codecs = [media.codec for media in tag.medias if media.codec and media.type == "audio"]
    codecs += [media.codec for media in tag.medias if media.codec]
    return _Tally(
        packets=sum(stream.received.packets for stream in rtp),
        last_packet=max((stream.last_packet for stream in heard), default=None),
        codec=codecs[0] if codecs else None,
    )

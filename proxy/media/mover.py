"""Which sessions move, in which order, how fast: everything about moves that is not one session's story (`reanchor`).

Theory of operation. A node is lost, restarted, half-dead or evacuated; each of these makes a `Batch` of the sessions
on it, one `Move` each, and puts them into a queue. `_pump` starts moves as long as the rate (a token bucket) and the
number of sessions waiting for their new node allow; every answer of a node pumps again, so the first re-INVITEs leave
while later sessions still wait, and what a user hears is his place in the queue. That is why the order matters: calls
with audio in the last sample first (the younger first, as nothing is known of the youngest), then those that are silent
or on hold, then those that are still ringing. Lost calls go before those that leave a working node, and these have a
rate of their own: nobody waits for them.

A command of a session whose node turns out to be gone before anybody said so starts the move by itself (`rescue`), and
is repeated on the new node. Commands under way to a lost node are ended at once (`Client.abandon`), so that nobody
waits for a timeout.

Times are monotonic seconds; timers are kept by one task, `run`. Every batch ends in one event: how many calls moved and
were given up, and how long it took.
"""

from __future__ import annotations

import heapq
import logging
import random
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count

import trio

from proxy.store import Persistence

from .anchor import Anchor
from .nodes import NodeEvent, PlannedMove
from .reanchor import Move, Teller, untold
from .sampler import Sample
from .session import Session

_log = logging.getLogger(__name__)

RATE = 2000.0
"""Sessions per second off a lost node, two re-INVITEs each."""
EVACUATION_RATE = 100.0
"""Sessions per second off a node that still works."""
IN_FLIGHT = 32
"""Sessions that wait for a node's answers at a time."""
BURST = 32
PATIENCE = 30.0
"""Seconds a call may be without any node before it is given up."""
LOST_LIMIT = 3
"""A session that its node has forgotten so often is over: nobody sends media."""
RECENT = 30.0
"""Seconds without packets after which a call that its node has forgotten is taken for dead, not anchored again."""


@dataclass(slots=True)
class Planned:
    """One line of a plan: a session, and the node it would go to, "" for none. `note`: what is known about it."""

    session_id: str
    node: str
    note: str


class Batch:
    """The sessions of one node that move for one reason; an evacuation's progress.

    `total`, `moved`, `failed` (given up, or stayed where they were), `ended` (hung up meanwhile): calls. `left`: of
    `total`. `eta_seconds`: None while unknown. `done`: set when none is left.
    """

    def __init__(self, node: str, why: str, clock: Callable[[], float]) -> None:
        self.node = node
        self.why = why
        self.began = clock()
        self.took: float | None = None
        self.total = 0
        self.outcomes: Counter[str] = Counter()
        self.done = trio.Event()
        self._clock = clock

    @property
    def moved(self) -> int:
        return self.outcomes["moved"]

    @property
    def ended(self) -> int:
        return self.outcomes["ended"]

    @property
    def failed(self) -> int:
        return self.outcomes["given up"] + self.outcomes["stayed"]

    @property
    def left(self) -> int:
        return self.total - self.outcomes.total()

    @property
    def eta_seconds(self) -> float | None:
        finished = self.outcomes.total()
        if not self.left:
            return 0.0
        return (self._clock() - self.began) / finished * self.left if finished else None

    def summary(self) -> str:
        """ "moved 498, gave up 2 in 1.2 s", with what else happened."""
        words = [f"moved {self.moved}"]
        for name, text in (("given up", "gave up {}"), ("stayed", "{} stayed"), ("ended", "{} ended meanwhile")):
            if self.outcomes[name]:
                words.append(text.format(self.outcomes[name]))
        return f"{', '.join(words)} in {self.took or 0.0:.1f} s"


Evacuation = Batch


class Mover:
    """Moves the sessions of one anchor. `own`: the relay's side. How a batch ended is an event of the pool's.

    `lost(session)`: what becomes of a session that is not worth anchoring again; `rate`, `evacuation_rate`: sessions
    per second; `in_flight`: waiting for a node at a time.
    """

    def __init__(
        self,
        anchor: Anchor,
        own: Teller,
        *,
        store: Persistence | None = None,
        lost: Callable[[Session], None] | None = None,
        rate: float = RATE,
        evacuation_rate: float = EVACUATION_RATE,
        in_flight: int = IN_FLIGHT,
        patience: float = PATIENCE,
        rng: random.Random | None = None,
    ) -> None:
        self.anchor = anchor
        self.engine = anchor.engine
        self.own = own
        self.store = store
        self.rng = rng or random.Random()
        self.patience = patience
        self.stats: Counter[str] = Counter()
        self._lost = lost
        self._in_flight = in_flight
        self._lanes = (_Lane(rate), _Lane(evacuation_rate))
        self._asking: set[Move] = set()
        self._batches: dict[Move, Batch] = {}
        self._open: dict[tuple[str, str], Batch] = {}
        self._evacuations: dict[str, Batch] = {}
        self._times_lost: dict[Session, int] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._changed = trio.Event()
        self._to_write: deque[tuple[Session, Callable[[], None]]] = deque()
        self._write = trio.Event()
        self._pumping = False
        self.engine.rescuer = self

    # -- what happens to nodes -----------------------------------------------------------------------------------------

    def node_lost(self, name: str, why: str) -> int:
        """The node is gone: moves every call on it, and says how many that are. Returns at once."""
        moving = self._all_of(name, why)
        if name in self.engine.pool.nodes:
            self.engine.pool.client(name).abandon(f"the node is taken for lost: {why}")
        return moving

    def node_restarted(self, name: str) -> int:
        """The node is there but has forgotten its calls: they are anchored again, on whatever node is best."""
        return self._all_of(name, "its daemon restarted", may_stay=True)

    def half_dead(self, name: str) -> int:
        """No media gets through the node although it answers: its calls leave it."""
        return self._all_of(name, "no media gets through it")

    def session_lost(self, session: Session) -> None:
        """The node does not know this call any more: it is anchored again, if there is still somebody in it."""
        times = self._times_lost.get(session, 0) + 1
        sample = session.sample if isinstance(session.sample, Sample) else None
        silent = sample is not None and not sample.never and self.engine.clock() - sample.moved_at > RECENT
        if session.move is not None or session.state == "ended":
            return
        if self._lost is not None and (silent or times > LOST_LIMIT):
            self._times_lost.pop(session, None)
            self._lost(session)
            return
        self._times_lost = {one: n for one, n in self._times_lost.items() if one.state != "ended"}
        self._times_lost[session] = times
        self._enlist([session], self._batch(session.node, "it has lost them"), graceful=False, may_stay=True)

    def resume(self) -> int:
        """Sessions that were restored in the middle of a move: whoever does not know the new port is told. Returns how
        many there are."""
        found = [session for session in self.anchor.sessions if session.move is None and untold(session)]
        for session in found:
            batch = self._batch(session.node, "the proxy was restarted")
            move = Move(self, session, batch.why)
            self._batches[move] = batch
            batch.total += 1
            move.resume()
        return len(found)

    def plan(self, name: str) -> list[PlannedMove]:
        """What `evacuate` would do now, in its order."""
        planned: list[PlannedMove] = []
        for session in self._ordered(self._on(name)):
            group, labels = session.wish or (None, ())
            call = f"{session.id}.{session.moves + 1}"
            names = self.engine.pool.choose(call, self.engine.clock(), group=group, labels=labels, without=name)
            planned.append(Planned(session.id, names[0] if names else "", _note(session)))
        return planned

    def evacuate(self, name: str) -> Evacuation:
        """Moves every call away from a node that works; the same evacuation while one is under way."""
        running = self._evacuations.get(name)
        if running is not None and running.left:
            return running
        batch = self._evacuations[name] = self._batch(name, "it is evacuated")
        self._enlist([one for one in self._on(name) if one.move is None], batch, graceful=True, may_stay=False)
        return batch

    async def rescue(self, session: Session, call: str, why: str) -> bool:
        """A command in the ng call `call` failed: waits until the session is on another node."""
        move = session.move
        if not isinstance(move, Move):
            if session.ng_call_id != call:
                return True
            self.engine.note(session, f"to be moved: {why}")
            batch = self._batch(session.node, "a command failed")
            self._enlist([session], batch, graceful=False, may_stay=False)
            move = session.move
        if isinstance(move, Move):
            if not move.started or (session.ng_call_id == call and not move.place.asking):
                self._start(move)
            with trio.move_on_after(self.patience + 1):
                while move.place.asking and not move.over:
                    await move.changed()
        return session.state != "ended" and session.ng_call_id != call

    # -- running -------------------------------------------------------------------------------------------------------

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keeps the timers until cancelled."""
        async with trio.open_nursery() as nursery:
            if self.store is not None:
                nursery.start_soon(self._writer, self.store)
            task_status.started()
            while True:
                self._changed = trio.Event()
                due = self._timers[0][0] if self._timers else float("inf")
                with trio.CancelScope(deadline=due):
                    await self._changed.wait()
                now = self.engine.clock()
                while self._timers and self._timers[0][0] <= now:
                    job = heapq.heappop(self._timers)[2]
                    self._call(job)

    async def _writer(self, store: Persistence) -> None:
        """Writes sessions down before their re-INVITEs leave: all that wait share a transaction. A disk that does not
        work stops nobody."""
        while True:
            while not self._to_write:
                self._write = trio.Event()
                await self._write.wait()
            waiting = list(self._to_write)
            self._to_write.clear()
            await store.commit(*[session for session, _ in waiting])
            for _, then in waiting:
                self._call(then)

    def _call(self, job: Callable[[], None]) -> None:
        """A mistake in one session's story must not stop the others'."""
        try:
            job()
        except Exception:
            self.stats["internal_errors"] += 1
            _log.exception("internal error in a move; please report it")

    # -- for a move ----------------------------------------------------------------------------------------------------

    def later(self, delay: float, job: Callable[[], None]) -> None:
        """Calls `job()` after so many seconds, 1 ms at least: who asks for the rest of a wait must see time pass."""
        at = self.engine.clock() + max(delay, 0.001)
        if not self._timers or at < self._timers[0][0]:
            self._changed.set()
        heapq.heappush(self._timers, (at, next(self._order), job))

    def write_down(self, session: Session, then: Callable[[], None]) -> None:
        """Calls `then()` when the session is durable; at once without a store."""
        if self.store is None:
            then()
            return
        self._to_write.append((session, then))
        self._write.set()

    def anchored(self, move: Move) -> None:
        """The new node has the media: the next one may ask."""
        self._asking.discard(move)
        sample = move.session.sample
        if isinstance(sample, Sample):
            sample.lost = False
        self._pump()

    def done(self, move: Move, outcome: str) -> None:
        """A move has come to its end, as far as it is counted."""
        self._asking.discard(move)
        self.stats[outcome] += 1
        batch = self._batches.pop(move, None)
        if batch is not None:
            batch.outcomes[outcome] += 1
            if not batch.left:
                self._finished(batch)
        self._pump()

    # -- inside --------------------------------------------------------------------------------------------------------

    def _on(self, name: str) -> list[Session]:
        return [session for session in self.anchor.sessions if session.node == name]

    def _all_of(self, name: str, why: str, *, may_stay: bool = False) -> int:
        sessions = self._on(name)
        moving = [session.move for session in sessions if isinstance(session.move, Move)]
        still = [one for one in sessions if one.move is None]
        if still:
            self._enlist(still, self._batch(name, why), graceful=False, may_stay=may_stay)
        for move in moving:
            if move.started:
                move.lost(may_stay=may_stay)
            else:
                move.place.graceful = False
                move.place.may_stay = may_stay
        for move in self._batches:
            move.place.forget(name)
        return len(sessions)

    def _batch(self, node: str, why: str) -> Batch:
        """The batch of this node and reason that is not done yet, or a new one."""
        batch = self._open.get((node, why))
        if batch is None:
            batch = self._open[node, why] = Batch(node, why, self.engine.clock)
        return batch

    def _enlist(self, sessions: Iterable[Session], batch: Batch, *, graceful: bool, may_stay: bool) -> None:
        lane = self._lanes[1 if graceful else 0]
        for session in self._ordered(sessions):
            move = Move(self, session, batch.why, graceful=graceful, may_stay=may_stay)
            self._batches[move] = batch
            batch.total += 1
            lane.queue.append(move)
        if batch.left:
            self._pump()
        else:
            self._closed(batch)

    def _ordered(self, sessions: Iterable[Session]) -> list[Session]:
        now = self.engine.clock()
        return sorted(sessions, key=lambda session: _urgency(session, now))

    def _pump(self) -> None:
        """Starts what may start."""
        if self._pumping:
            return
        self._pumping = True
        try:
            for lane in self._lanes:
                now = self.engine.clock()
                lane.fill(now)
                while lane.queue and len(self._asking) < self._in_flight:
                    if lane.tokens < 1:
                        if not lane.waiting:
                            lane.waiting = True
                            self.later((1 - lane.tokens) / lane.rate, lane.over_and(self._pump))
                        break
                    move = lane.queue.popleft()
                    if not move.started and not move.over:
                        lane.tokens -= 1
                        self._call(lambda move=move: self._start(move))  # type: ignore[misc]
        finally:
            self._pumping = False

    def _start(self, move: Move) -> None:
        self._asking.add(move)
        move.start()

    def _closed(self, batch: Batch) -> None:
        batch.took = self.engine.clock() - batch.began
        batch.done.set()
        self._open.pop((batch.node, batch.why), None)
        if self._evacuations.get(batch.node) is batch:
            del self._evacuations[batch.node]

    def _finished(self, batch: Batch) -> None:
        self._closed(batch)
        self.engine.pool.emit(
            NodeEvent(self.engine.epoch(), batch.node, f"calls moved ({batch.why})", batch.summary(), batch.total)
        )


class _Lane:
    """A queue with a rate."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.queue: deque[Move] = deque()
        self.tokens = float(BURST)
        self.waiting = False
        self._filled: float | None = None

    def fill(self, now: float) -> None:
        """Tokens for the time that has passed."""
        if self._filled is not None:
            self.tokens = min(float(BURST), self.tokens + (now - self._filled) * self.rate)
        self._filled = now

    def over_and(self, pump: Callable[[], None]) -> Callable[[], None]:
        """The wait for a token is over."""

        def job() -> None:
            self.waiting = False
            pump()

        return job


def _urgency(session: Session, now: float) -> tuple[int, float, float]:
    """Sort key: audio lately, then silent or held, then nobody has answered; the younger first."""
    if session.state != "confirmed":
        return (2, 0.0, -session.created)
    sample = session.sample
    if not isinstance(sample, Sample) or sample.never:
        return (0, 0.0, -session.created)
    idle = [one for one in sample.idle if one is not None]
    recent = min(idle) if idle else RECENT
    return (0 if recent < 2.0 else 1, float(int(recent)), -session.created)


def _note(session: Session) -> str:
    if session.state != "confirmed":
        return "not answered yet"
    return "on hold" if session.holding else ""

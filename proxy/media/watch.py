"""Watches the nodes: pings, statistics and canaries out, evidence in, and what follows from it.

Theory of operation. One task wakes every half ping interval and looks at every node in turn; nothing in a look awaits,
all commands are submitted and come back through callbacks, so a node that is silent delays no other. A look first
takes in what has come (replies of any kind, canary packets), then judges (`Pulse.evidence`, `Node.take`), then sends:
a ping and a canary packet in alternate looks, `statistics` once a second.

ICMP shortens the wait. A refusal of any command, or of a canary packet, has the canary and the control port tried at
once: after a second refusal, from either, the node is down, unless a canary packet passed in between. A refusal that
is followed by a reply may have been a restart, as may be a canary that misses packets while control answers: then the
node is asked whether it knows the canary call. If not, its uptime tells a restart from a call that is merely gone
(`pulse.restarted`). Without a canary only the uptime can tell.

What follows: the mover is told (node lost, restarted, half-dead), owed deletes are paid, an event goes to the pool.
A node that leaves (it was removed from the configuration) is watched until its last call has ended.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import trio

from ng_protocol import NgLostCall, Ping, Pong, QueryReply, Statistics, StatisticsReply

from .canary import Canary
from .nodes import Action, Evidence, Load, Mover, Node, NodeEvent, Observed, decision
from .pool import Pool
from .pulse import Detection, Pulse, fell, restarted

_log = logging.getLogger(__name__)

RETRY = 1.0
"""Seconds between two tries to make a canary, two payments of owed deletes, two looks whether a node may leave."""
PROBE = 2.0
"""Seconds a ping may take; late pongs count, so this is longer than any limit."""
FLAT = 3.0
"""Seconds for which a node without canary must relay nothing, while others do, to be half-dead."""
FEW = 3
"""Calls on a node below which its packet rate says nothing about it."""


class Watched:
    """What the watch keeps of one node."""

    def __init__(self, node: Node, pulse: Pulse, canary: Canary | None, now: float) -> None:
        self.node = node
        self.pulse = pulse
        self.canary = canary
        self.statistics: StatisticsReply | None = None
        self.statistics_at: float | None = None
        self.heard = now
        self.looks = 0
        self.doubt: float | None = None
        """Since when it may have restarted; None: no sign of that."""
        self.checking = False
        self.checked_at = -RETRY
        self.pinged_at = -1.0
        self.canary_at = now
        self.canary_due = now
        self.statistics_due = now
        self.asking_statistics = False
        self.later = now
        self.flat_since: float | None = None
        self.warned = False


def _nothing(_: str) -> int:
    return 0


class Watch:
    """Watches the nodes of a pool. `calls_on`: how many live calls a node has; `mover`: None until there is one.

    `interface`: the daemon's name of the interface towards us, for canaries; `canaries`: nodes that get one, by name
    (a function, so that it can be reloaded); `evacuate_half_dead`: move calls away from a node without media.
    `clock`: monotonic seconds, trio's; `epoch`: seconds since 1970.
    """

    def __init__(
        self,
        pool: Pool,
        detection: Detection | None = None,
        *,
        instance: str = "edge",
        interface: str | None = None,
        canaries: Callable[[str], bool] = lambda name: True,
        evacuate_half_dead: bool = False,
        calls_on: Callable[[str], int] = _nothing,
        left: Callable[[Node], None] = lambda node: None,
        clock: Callable[[], float] = trio.current_time,
        epoch: Callable[[], float] = time.time,
    ) -> None:
        self.pool = pool
        self.detection = detection or Detection()
        self.mover: Mover | None = None
        self.evacuate_half_dead = evacuate_half_dead
        self.watched: dict[str, Watched] = {}
        self._instance = instance
        self._interface = interface
        self._canaries = canaries
        self.calls_on = calls_on
        self._left = left
        self.clock = clock
        self._epoch = epoch

    # -- for the edge and the operator ---------------------------------------------------------------------------------

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Watch until cancelled; then the canary calls are deleted, as far as one datagram can. The clients of the
        nodes must be running, and go on for a moment longer than this."""
        step = self.detection.ping / 2
        before = self.clock()
        for node in self.pool.nodes.values():
            self.add(node)
        task_status.started()
        try:
            while True:
                now = self.clock()
                self.look(now, now - before - step)
                before = now
                await trio.sleep(step)
        finally:
            for watched in self.watched.values():
                watched.node.client.on_refusal = None
                if watched.canary is not None:
                    watched.canary.end()

    def add(self, node: Node) -> None:
        """Watch one more node, which is in the pool."""
        if node.name in self.watched:
            return
        now = self.clock()
        pulse = Pulse(self.detection, now)
        watched = Watched(node, pulse, None, now)
        if self._canaries(node.name):
            call_id = f"{self._instance}-canary-{node.name}"
            watched.canary = Canary(
                call_id, node.client, interface=self._interface, made=lambda: self._canary_made(watched)
            )
        self.watched[node.name] = watched
        node.client.on_refusal = partial(self._refusal, watched)

    def give_up(self, name: str) -> NodeEvent:
        """The operator says that the node is lost. Raises KeyError."""
        event = self._take(self.watched[name], Evidence.GIVEN_UP, self.clock())
        assert event is not None, "a row of the table"
        return event

    def leave(self, name: str) -> None:
        """The node takes no new calls and goes when its last one has ended. Raises KeyError."""
        node = self.pool.nodes[name]
        node.leaving = True
        self.pool.changed()

    def stay(self, name: str) -> None:
        """The node is wanted after all. Raises KeyError."""
        self.pool.nodes[name].leaving = False
        self.pool.changed()

    def tell(self, name: str, what: str, decided: str = "", calls: int | None = None) -> NodeEvent:
        """Emits an event of a node."""
        event = NodeEvent(self._epoch(), name, what, decided, self.calls_on(name) if calls is None else calls)
        self.pool.emit(event)
        return event

    # -- one look ------------------------------------------------------------------------------------------------------

    def look(self, now: float, stalled: float = 0.0) -> None:
        """At every node. `stalled`: seconds by which this look is late."""
        for watched in list(self.watched.values()):
            try:
                if stalled > 2 * self.detection.ping:
                    watched.pulse.stalled(stalled)
                self._look_at(watched, now)
            except Exception:
                _log.exception("internal error (watch of node %s); please report it", watched.node.name)

    def _look_at(self, watched: Watched, now: float) -> None:
        self._judge(watched, now)
        watched.looks += 1
        if watched.looks % 2:
            self._ping(watched, now)
        elif watched.canary is not None:
            if watched.canary.standing:
                if not watched.canary.send():
                    self._canary_refused(watched, now)
            elif not watched.canary.making and now >= watched.canary_due and watched.pulse.answering():
                watched.canary_due = now + RETRY
                watched.canary.make()
        if now >= watched.statistics_due and not watched.asking_statistics:
            self._ask_statistics(watched, now)
        if now >= watched.later:
            watched.later = now + RETRY
            self._housekeeping(watched, now)

    def _judge(self, watched: Watched, now: float) -> None:
        """Takes in what has come, and draws the conclusion."""
        node, pulse = watched.node, watched.pulse
        self._take_in(watched, now)
        others = [
            one.pulse.canary_heard(now)
            for one in self.watched.values()
            if one is not watched and one.pulse.canary_usable and one.node.observed is not Observed.DOWN
        ]
        evidence = pulse.evidence(now, node.observed, not others or any(others))
        if evidence in (Evidence.ANSWERS, Evidence.MEDIA_SILENT) and (watched.doubt is not None or watched.checking):
            evidence = None  # it may have restarted: the answer to that comes first
        if evidence is not None:
            self._take(watched, evidence, now)
        if watched.checking or not pulse.answering():
            return
        # After a refusal a question is lost in the gap until something was heard again.
        heard_since = watched.doubt is not None and watched.heard >= watched.doubt
        if heard_since or (pulse.canary_doubtful(now) and now - watched.checked_at >= RETRY / 4):
            self._check(watched, now)

    def _take_in(self, watched: Watched, now: float) -> None:
        heard_at = watched.node.client.heard_at
        if heard_at > watched.heard:
            watched.heard = heard_at
            watched.pulse.answered(heard_at)
        if watched.canary is not None and watched.canary.standing:
            heard, refused = watched.canary.drain()
            if heard:
                watched.pulse.media(now)
            if refused:
                self._canary_refused(watched, now)

    def _take(self, watched: Watched, evidence: Evidence, now: float) -> NodeEvent | None:
        node = watched.node
        action = node.take(evidence, now)
        if action is Action.NONE:
            return None
        self.pool.changed()
        if node.observed is Observed.DOWN:
            watched.doubt = now
            self.pool.set_load(node.name, None)
        calls, decided = self._act(watched, action, evidence)
        word = "restarted" if evidence is Evidence.RESTARTED else node.observed.value
        return self.tell(node.name, f"{word}: {evidence.value}{self._support(watched, evidence)}", decided, calls)

    def _support(self, watched: Watched, evidence: Evidence) -> str:
        """What `statistics` says of a node whose media is in doubt, beside the others."""
        rate = packets_per_call(watched.node.load)
        if evidence is not Evidence.MEDIA_SILENT or rate is None:
            return ""
        others = [packets_per_call(one.node.load) for one in self.watched.values() if one is not watched]
        best = max((other for other in others if other is not None), default=None)
        beside = "" if best is None else f", {best:.0f} on the best other node"
        return f" ({rate:.0f} packets per second and call{beside})"

    def _act(self, watched: Watched, action: Action, evidence: Evidence) -> tuple[int, str]:
        """Does what is to be done; returns the calls concerned and the decision in words."""
        name, mover = watched.node.name, self.mover
        calls = self.calls_on(name)
        if action is Action.BACK or action is Action.RESTART:
            owed = self.pool.owed.count(name)
            self.pool.pay(name)
            if action is Action.BACK:
                return calls, decision(action, calls) + (f", and the deletes owed to it ({owed})" if owed else "")
        if mover is not None:
            if action is Action.MOVE:
                calls = mover.node_lost(name, evidence.value)
            elif action is Action.RESTART:
                calls = mover.node_restarted(name)
            elif action is Action.QUARANTINE and self.evacuate_half_dead:
                calls = mover.half_dead(name)
                return calls, f"no new calls for it, {decision(Action.MOVE, calls)}"
        elif action in (Action.MOVE, Action.RESTART) and calls:
            return calls, decision(Action.LOSE, calls)
        return calls, decision(action, calls)

    # -- control -------------------------------------------------------------------------------------------------------

    def _ping(self, watched: Watched, now: float) -> None:
        watched.pulse.pinged(now)
        watched.pinged_at = now
        watched.node.client.submit(Ping(), partial(self._pong, watched), timeout=PROBE, once=True)

    def _pong(self, watched: Watched, result: Any) -> None:
        """In doubt the next look would be too late."""
        if watched.doubt is not None and isinstance(result, Pong):
            self._judge(watched, self.clock())

    def _refusal(self, watched: Watched, proven: bool) -> None:
        """Called by the client, in the middle of whatever it does."""
        now = self.clock()
        self._take_in(watched, now)
        if proven:
            watched.pulse.refused(now)
            self._judge(watched, now)
            return
        watched.pulse.refusal(now)
        watched.doubt = now
        if watched.canary is not None:
            watched.canary.send()
        if watched.pulse.proven:
            self._judge(watched, now)

    def _canary_refused(self, watched: Watched, now: float) -> None:
        """Its RTP port is closed: the daemon is gone, or has lost the call. Ask at once, not at the next ping."""
        if not watched.pulse.canary_usable and now - watched.checked_at < RETRY:
            return  # it was never heard: a packet filter, perhaps; once a second is enough
        watched.pulse.canary_refused()
        watched.doubt = now
        if now - watched.pinged_at >= self.detection.ping / 10:
            self._ping(watched, now)

    # -- restarts ------------------------------------------------------------------------------------------------------

    def _check(self, watched: Watched, now: float) -> None:
        """Asks whether the node is still the one it was."""
        watched.checking = True
        watched.checked_at = now
        watched.doubt = None
        if watched.canary is not None and watched.canary.standing:
            watched.canary.ask(partial(self._checked, watched, watched.canary_at))
        else:
            self._ask_statistics(watched, now, checking=True)

    def _checked(self, watched: Watched, made_at: float, result: Any) -> None:
        if isinstance(result, NgLostCall):
            watched.node.client.submit(
                Statistics(),
                partial(self._lost_canary, watched, made_at),
                once=True,
                timeout=max(0.2, 2 * watched.node.client.rto),
            )
            return
        watched.checking = False
        if not isinstance(result, QueryReply):
            self._still_in_doubt(watched)

    def _lost_canary(self, watched: Watched, made_at: float, result: Any) -> None:
        watched.checking = False
        if not isinstance(result, StatisticsReply):
            self._still_in_doubt(watched)
            return
        if watched.canary is None or not watched.canary.standing or watched.canary_at != made_at:
            return  # another sign of the same restart was faster
        now = self.clock()
        if restarted(result.uptime, now - made_at):
            self._restarted(watched, result, now)
            return
        _log.warning(
            "node %s no longer knows the canary call but has not restarted; it is made again", watched.node.name
        )
        watched.pulse.canary_gone()
        watched.canary.make()

    def _still_in_doubt(self, watched: Watched) -> None:
        """A check was not answered: it is made again as soon as the node answers anything."""
        if watched.doubt is None:
            watched.doubt = watched.checked_at

    def _restarted(self, watched: Watched, statistics: StatisticsReply, now: float) -> None:
        watched.statistics, watched.statistics_at = statistics, now
        watched.pulse.canary_gone()
        watched.doubt = None
        self._take(watched, Evidence.RESTARTED, now)
        if watched.canary is not None:
            watched.canary.make()

    def _canary_made(self, watched: Watched) -> None:
        watched.canary_at = self.clock()
        watched.warned = False
        watched.pulse.canary_made(watched.canary_at)
        if watched.canary is not None:
            watched.canary.send()

    # -- statistics ----------------------------------------------------------------------------------------------------

    def _ask_statistics(self, watched: Watched, now: float, checking: bool = False) -> None:
        """`checking`: the answer is what `_check` waits for."""
        watched.asking_statistics = True
        watched.statistics_due = now + self.detection.statistics
        watched.node.client.submit(
            Statistics(),
            partial(self._told, watched, checking),
            once=True,
            timeout=max(0.2, 2 * watched.node.client.rto),
        )

    def _told(self, watched: Watched, checking: bool, result: Any) -> None:
        watched.asking_statistics = False
        if checking:
            watched.checking = False
        if not isinstance(result, StatisticsReply):
            if checking:
                self._still_in_doubt(watched)
            return
        if self.watched.get(watched.node.name) is not watched:
            return
        now = self.clock()
        before, before_at = watched.statistics, watched.statistics_at
        watched.statistics, watched.statistics_at = result, now
        self.pool.set_load(watched.node.name, load_of(result))
        if before is not None and before_at is not None and fell(result.uptime, before.uptime, now - before_at):
            self._restarted(watched, result, now)
        self._note_flatness(watched, now)

    def _note_flatness(self, watched: Watched, now: float) -> None:
        """Calls on a node, and no packets, while other nodes relay: the only sign of dead media without a canary."""
        if watched.pulse.canary_usable:
            watched.flat_since = None
            return
        rate = packets_per_call(watched.node.load)
        others = [packets_per_call(one.node.load) for one in self.watched.values() if one is not watched]
        busy = any(other is not None and other > 5.0 for other in others)
        if rate is None or rate > 0.5 or not busy:
            watched.flat_since = None
            if rate is not None and rate > 0.5 and watched.node.observed is Observed.HALF_DEAD:
                self._take(watched, Evidence.MEDIA_HEARD, now)
        elif watched.flat_since is None:
            watched.flat_since = now
        elif now - watched.flat_since >= FLAT:
            self._take(watched, Evidence.MEDIA_SILENT, now)

    # -- now and then --------------------------------------------------------------------------------------------------

    def _housekeeping(self, watched: Watched, now: float) -> None:
        node = watched.node
        if node.observed is Observed.UP and self.pool.owed.count(node.name):
            self.pool.pay(node.name)
        canary = watched.canary
        unheard = canary is not None and canary.standing and not watched.pulse.canary_usable
        if unheard and not watched.warned and now - watched.canary_at > 2.0:
            watched.warned = True
            _log.warning(
                "the media canary of node %s is not heard: media between us and the node does not pass; "
                "set canary = false for the node, or media.lan to the interface that we can reach",
                node.name,
            )
        if node.leaving and not self.calls_on(node.name) and not (node.reachable and self.pool.owed.count(node.name)):
            self._gone(watched)

    def _gone(self, watched: Watched) -> None:
        node = watched.node
        del self.watched[node.name]
        node.client.on_refusal = None
        if watched.canary is not None:
            watched.canary.end()
        self.pool.remove(node.name)
        self._left(node)
        self.tell(node.name, "removed", "its last call has ended", 0)


def load_of(statistics: StatisticsReply) -> Load:
    """What a reply says about the load of its node."""
    ports = min((one.ports for one in statistics.interfaces), key=lambda one: one.free, default=None)
    return Load(
        ports_free=ports.free if ports is not None else 0,
        ports_total=ports.free + ports.used if ports is not None else 0,
        sessions=statistics.current.sessions_total,
        packet_rate=statistics.current.packet_rate,
        uptime=statistics.uptime,
    )


def packets_per_call(load: Load | None) -> float | None:
    """Packets per second and call; None with so few calls that it says nothing."""
    return None if load is None or load.sessions < FEW else load.packet_rate / load.sessions


__all__ = ["Watch", "Watched", "load_of", "packets_per_call"]

"""The media nodes of a running proxy: clients, pool and watch put together, added and removed while calls go on.

Theory of operation. `MediaNodes` makes a client and a pool entry for every `[[rtpengine]]`, runs the clients and the
watch over them, and keeps them in step afterwards: `add`, `remove` and `reload` work by name. The mappings `clients`
and `drains` are changed in place, so whoever was given them (the control API, the pacer) sees the nodes of now.

A removed node leaves: no new calls, and its client and its canary stay until its last call has ended. `reload` compares
a new file with the one before, not with what the operator did meanwhile: a node drained by hand stays drained as long
as its `admin` in the file did not change, and a node added by hand is left alone.

The clients are stopped last: deletes that ended calls leave behind, and those of the canaries, still go out.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import trio

from ng_protocol import Client
from proxy.config import Config, RtpengineConfig
from proxy.media.nodes import Admin, Mover, Node, NodeEvent
from proxy.media.pool import Pool
from proxy.media.pulse import Detection
from proxy.media.watch import Watch

log = logging.getLogger("proxy")

REMEMBERED = 1000
"""Events kept for those who ask later."""

FAREWELL = 0.05
"""Seconds between the end of the watch and that of the clients."""


class NodeProblem(Exception):
    """A change of the nodes that cannot be made; the message is a sentence for the operator."""


@dataclass
class Changes:
    """What a reload did, by name. `refused`: sentences."""

    added: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def line(self) -> str:
        """The reload in one line."""
        parts = [
            f"{word} {', '.join(names)}"
            for word, names in (("added", self.added), ("removed", self.removed), ("changed", self.changed))
            if names
        ]
        return "; ".join([", ".join(parts) or "no node changed", *self.refused])


class Events:
    """The latest node events, numbered from 1, and a way to wait for the next."""

    def __init__(self) -> None:
        self.last = 0
        self._kept: deque[NodeEvent] = deque(maxlen=REMEMBERED)
        self._news = trio.Event()

    def take(self, event: NodeEvent) -> None:
        """One more; it is logged, too."""
        log.warning("%s", event.line())
        self._kept.append(event)
        self.last += 1
        news, self._news = self._news, trio.Event()
        news.set()

    def after(self, number: int) -> list[tuple[int, NodeEvent]]:
        """Those with a higher number, as far as they are kept, oldest first."""
        first = self.last - len(self._kept) + 1
        return [(first + index, event) for index, event in enumerate(self._kept) if first + index > number]

    async def wait(self, number: int, seconds: float) -> None:
        """Until there is one with a higher number, or the time is over."""
        with trio.move_on_after(seconds):
            while self.last <= number:
                await self._news.wait()


class MediaNodes:
    """See the module. `calls_on`: live calls of a node. Nothing is opened before `run`."""

    def __init__(
        self,
        config: Config,
        calls_on: Callable[[str], int],
        *,
        clock: Callable[[], float] = trio.current_time,
        epoch: Callable[[], float] = time.time,
    ) -> None:
        self.clients: dict[str, Client] = {}
        self.drains: list[Callable[[], int]] = []
        self.pool = Pool()
        self.events = Events()
        self.pool.events.append(self.events.take)
        self.came: list[Callable[[str, Client], None]] = []
        self.went: list[Callable[[str], None]] = []
        self._file = {one.name: one for one in config.rtpengine}
        self._canaries = {one.name: one.canary for one in config.rtpengine}
        self._nursery: trio.Nursery | None = None
        settings = config.nodes
        self.watch = Watch(
            self.pool,
            Detection(
                ping=settings.ping,
                down_after=settings.down_after,
                down_after_blind=settings.down_after_blind,
                partition_grace=settings.partition_grace,
                half_dead_after=settings.half_dead_after,
                steady=settings.steady,
                statistics=settings.statistics,
            ),
            instance=config.proxy.instance,
            interface=config.media.lan,
            canaries=lambda name: self._canaries.get(name, True),
            evacuate_half_dead=settings.evacuate_half_dead,
            calls_on=calls_on,
            left=self._left,
            clock=clock,
            epoch=epoch,
        )
        for one in config.rtpengine:
            self._make(one)

    @property
    def mover(self) -> Mover | None:
        """Whoever moves calls; the watch tells it what happens to nodes."""
        return self.watch.mover

    @mover.setter
    def mover(self, mover: Mover | None) -> None:
        self.watch.mover = mover

    # -- running -------------------------------------------------------------------------------------------------------

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled. Raises OSError when an address cannot be used at the start."""
        stop = trio.Event()
        async with trio.open_nursery() as nursery:
            await nursery.start(self._clients, stop)
            try:
                async with trio.open_nursery() as watching:
                    await watching.start(self.watch.run)
                    task_status.started()
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(FAREWELL if self.clients else 0)
                stop.set()

    async def _clients(self, stop: trio.Event, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                for client in list(self.clients.values()):
                    await nursery.start(client.run)
                self._nursery = nursery
                task_status.started()
                await stop.wait()
                self._nursery = None
                nursery.cancel_scope.cancel()

    async def _run_client(self, client: Client) -> None:
        """A node's that came later: an address that cannot be used is its own problem."""
        try:
            await client.run()
        except OSError as error:
            log.error("node %s cannot be used (%s); correct its address", client.label, error)

    # -- changes -------------------------------------------------------------------------------------------------------

    def add(self, one: RtpengineConfig) -> NodeEvent:
        """One more node. Raises NodeProblem when the name or the address is taken."""
        known = self.pool.nodes.get(one.name)
        if known is not None and known.leaving and known.address == one.address:
            self.watch.stay(one.name)
            self._apply(known, one)
            return self.watch.tell(one.name, "added again before it had left", "it takes new calls")
        if known is not None:
            still = f", and still has {self.watch.calls_on(one.name)} calls" if known.leaving else ""
            raise NodeProblem(f"there is a node {one.name} already, at {known.address}{still}; give another name")
        for other in self.pool.nodes.values():
            if other.address == one.address:
                raise NodeProblem(f"node {other.name} has the address {one.address} already; name each node once")
        self._canaries[one.name] = one.canary
        node = self._make(one)
        if self._nursery is not None:
            self._nursery.start_soon(self._run_client, node.client)
            self.watch.add(node)
        for told in self.came:
            told(one.name, node.client)
        return self.watch.tell(one.name, f"added at {one.address}", "it takes new calls" if takes(node) else "")

    def remove(self, name: str) -> NodeEvent:
        """The node leaves. Raises NodeProblem when there is none of that name, or it is leaving already."""
        node = self._known(name)
        if node.leaving:
            raise NodeProblem(f"node {name} is leaving already; it goes when its last call has ended")
        self.watch.leave(name)
        calls = self.watch.calls_on(name)
        decided = f"no new calls for it, it goes when those on it ({calls}) have ended{self._nobody()}"
        return self.watch.tell(name, "removed", decided)

    def set_admin(self, name: str, admin: Admin) -> NodeEvent:
        """What the operator wants. Raises NodeProblem."""
        node = self._known(name)
        self.pool.set_admin(name, admin)
        calls = self.watch.calls_on(name)
        stay = f"no new calls for it, those on it ({calls}) stay until they end or are moved{self._nobody()}"
        word = {"active": "enabled", "draining": "drained", "disabled": "disabled"}[admin.value]
        decided = stay if admin is not Admin.ACTIVE else "it takes new calls" if takes(node) else f"it is {state(node)}"
        return self.watch.tell(name, f"{word} by the operator", decided)

    def lost(self, name: str) -> NodeEvent:
        """The operator says that the node is lost. Raises NodeProblem."""
        self._known(name)
        return self.watch.give_up(name)

    def reload(self, entries: Sequence[RtpengineConfig]) -> Changes:
        """Brings the nodes in step with a new file; never raises: what cannot be done is in `refused`."""
        changes = Changes()
        new = {one.name: one for one in entries}
        for name in [name for name in self._file if name not in new]:
            node = self.pool.nodes.get(name)
            if node is not None and not node.leaving:
                self.remove(name)
                changes.removed.append(name)
        for name, one in new.items():
            before, node = self._file.get(name), self.pool.nodes.get(name)
            if node is None or node.leaving:
                try:
                    self.add(one)
                    changes.added.append(name)
                except NodeProblem as problem:
                    changes.refused.append(str(problem))
                    continue
            elif one.address != node.address:
                changes.refused.append(
                    f"the address of {name} cannot change from {node.address} to {one.address} under its calls; "
                    "give the node a new name"
                )
            elif before != one:
                self._apply(node, one)
                if before is None or before.admin != one.admin:
                    self.pool.set_admin(name, Admin(one.admin))
                changes.changed.append(name)
        self._file = new
        return changes

    # -- inside --------------------------------------------------------------------------------------------------------

    def _nobody(self) -> str:
        """A warning for the end of a sentence, when that was the last node."""
        return "" if any(map(takes, self.pool.nodes.values())) else "; NO NODE IS LEFT FOR NEW CALLS"

    def _known(self, name: str) -> Node:
        node = self.pool.nodes.get(name)
        if node is None:
            known = ", ".join(self.pool.nodes) or "none at all"
            raise NodeProblem(f"there is no node {name}: known are {known}")
        return node

    def _make(self, one: RtpengineConfig) -> Node:
        client = Client(one.address, name=one.name)
        node = Node(one.name, client, admin=Admin(one.admin))
        self._apply(node, one)
        self.pool.add(node)
        self.clients[one.name] = client
        self.drains.append(client.drain)
        return node

    def _apply(self, node: Node, one: RtpengineConfig) -> None:
        node.weight, node.tier = float(one.weight), one.tier
        node.labels, node.group = frozenset(one.labels), one.set
        self.pool.changed()

    def _left(self, node: Node) -> None:
        del self.clients[node.name]
        self.drains.remove(node.client.drain)
        for told in self.went:
            told(node.name)
        # Not from within a callback of the client itself, and not before the canary's delete is out.
        if self._nursery is not None:
            self._nursery.start_soon(self._close, node.client)

    async def _close(self, client: Client) -> None:
        await trio.sleep(FAREWELL)
        client.close("the node was removed")


def takes(node: Node) -> bool:
    """Whether the pool would choose the node."""
    return node.admin is Admin.ACTIVE and not node.leaving and node.reachable


def state(node: Node) -> str:
    """Observed state in a word."""
    return node.observed.value

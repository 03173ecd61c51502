"""The backend of the methods that change nodes: what `mediactl node ...` and `mediactl events` ask for.

Every change goes through `MediaNodes`, by name; what cannot be done comes back as a ControlError whose sentence names
the node. An evacuation belongs to the mover, not to the client that started it: a client that leaves, or another one
that asks, changes nothing about it. `path` is set by the program, which knows the configuration file.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from proxy.config import ConfigError, RtpengineConfig, load
from proxy.config_check import node_problems
from proxy.control import schema
from proxy.control.node_schema import (
    MAX_WAIT,
    EvacuationInfo,
    Events,
    EventsParams,
    NodeActionParams,
    NodeAddParams,
    NodeEventInfo,
    NodeParams,
    PlannedMoveInfo,
    Reloaded,
    ReloadParams,
)
from proxy.media.nodes import Admin, Evacuation, Mover, NodeEvent, Observed
from proxy.media.watch import Watched
from proxy.media_nodes import Changes, MediaNodes, NodeProblem

_ADMIN = {"drain": Admin.DRAINING, "undrain": Admin.ACTIVE, "enable": Admin.ACTIVE, "disable": Admin.DISABLED}


class NodeAdministration:
    """Implements the methods of `node_schema.METHODS` on the nodes of a running proxy. `started`: names the stream of
    events, seconds since the epoch."""

    def __init__(self, nodes: MediaNodes, started: float = 0.0) -> None:
        self.nodes = nodes
        self.path: str | None = None
        self._stream = f"{started:.3f}"
        self._evacuations: dict[str, Evacuation] = {}
        self._handlers: dict[str, Callable[[Any], Awaitable[object]]] = {
            "node": self._act,
            "node_add": self._add,
            "nodes_reload": self._reload,
            "plan": self._plan,
            "evacuate": self._evacuate,
            "evacuation": self._evacuation,
            "events": self._events,
        }

    async def call(self, method: str, params: Any) -> object:
        """The result of one method. Raises ControlError."""
        try:
            return await self._handlers[method](params)
        except NodeProblem as problem:
            raise schema.ControlError("not_found" if "no node" in str(problem) else "refused", str(problem)) from None

    def watched(self, name: str) -> Watched | None:
        """What the watch keeps of a node; None before it runs."""
        return self.nodes.watch.watched.get(name)

    def describe(self, info: schema.NodeInfo) -> None:
        """Adds both states of a node, and what they rest on."""
        node = self.nodes.pool.nodes[info.name]
        watched = self.watched(info.name)
        if info.state != "unknown" or node.observed is not Observed.UP:
            info.state = node.observed.value
        info.admin = node.admin.value
        info.why = node.why or None
        info.leaving = node.leaving
        info.tier, info.weight = node.tier, node.weight
        info.set, info.labels = node.group, sorted(node.labels)
        info.generation = node.generation
        info.owed = self.nodes.pool.owed.count(info.name)
        info.packet_rate = node.load.packet_rate if node.load is not None else None
        if watched is not None:
            usable = watched.pulse.canary_usable
            heard = watched.pulse.canary_heard(self.nodes.watch.clock())
            info.canary = "heard" if heard else "silent" if usable else "none"

    def reload(self) -> Changes:
        """Reads the configuration file again. Raises ConfigError; then nothing has changed."""
        if self.path is None:
            raise ConfigError("the proxy was not started from a file; add and remove nodes one by one.")
        return self.nodes.reload(load(self.path).rtpengine)

    async def _act(self, params: NodeActionParams) -> NodeEventInfo:
        if params.action == "lost":
            return info(self.nodes.lost(params.node))
        if params.action == "remove":
            return info(self.nodes.remove(params.node))
        return info(self.nodes.set_admin(params.node, _ADMIN[params.action]))

    async def _add(self, params: NodeAddParams) -> NodeEventInfo:
        return info(
            self.nodes.add(
                checked(
                    RtpengineConfig(
                        name=params.name,
                        address=params.address,
                        weight=params.weight,
                        tier=params.tier,
                        labels=tuple(params.labels),
                        set=params.set,
                        admin=params.admin,
                        canary=params.canary,
                    )
                )
            )
        )

    async def _reload(self, _: ReloadParams) -> Reloaded:
        try:
            changes = self.reload()
        except ConfigError as error:
            raise schema.ControlError("refused", f"nothing was changed: {error}") from None
        return Reloaded(added=changes.added, removed=changes.removed, changed=changes.changed, refused=changes.refused)

    async def _plan(self, params: NodeParams) -> list[PlannedMoveInfo]:
        mover = self._mover(params.node)
        return [PlannedMoveInfo(session=one.session_id, to=one.node, note=one.note) for one in mover.plan(params.node)]

    async def _evacuate(self, params: NodeParams) -> EvacuationInfo:
        evacuation = self._evacuations[params.node] = self._mover(params.node).evacuate(params.node)
        return evacuation_info(params.node, evacuation)

    async def _evacuation(self, params: NodeParams) -> EvacuationInfo:
        evacuation = self._evacuations.get(params.node)
        if evacuation is None:
            raise schema.ControlError("not_found", f"node {params.node} has not been evacuated since the proxy started")
        return evacuation_info(params.node, evacuation)

    async def _events(self, params: EventsParams) -> Events:
        events = self.nodes.events
        after = params.after or 0
        if params.wait_s > 0:
            await events.wait(after, min(params.wait_s, MAX_WAIT))
        return Events(
            stream=self._stream,
            last=events.last,
            events=[info(event, number) for number, event in events.after(after)],
        )

    def _mover(self, name: str) -> Mover:
        if name not in self.nodes.pool.nodes:
            known = ", ".join(self.nodes.pool.nodes) or "none at all"
            raise NodeProblem(f"there is no node {name}: known are {known}")
        if self.nodes.mover is None:
            raise schema.ControlError(
                "refused", "this proxy does not move calls; drain the node and wait for their end"
            )
        return self.nodes.mover


def info(event: NodeEvent, number: int = 0) -> NodeEventInfo:
    """An event in the words of the API."""
    return NodeEventInfo(
        number=number,
        at=event.epoch,
        node=event.node,
        what=event.what,
        decided=event.decided,
        calls=event.calls,
        line=event.line(),
    )


def evacuation_info(name: str, evacuation: Evacuation) -> EvacuationInfo:
    """An evacuation in the words of the API."""
    left = evacuation.left
    return EvacuationInfo(
        node=name,
        total=evacuation.total,
        moved=evacuation.moved,
        failed=evacuation.failed,
        left=left,
        eta_s=0.0 if not left else evacuation.eta_seconds,
        done=not left,
    )


def checked(one: RtpengineConfig) -> RtpengineConfig:
    """The same entry, after the rules of the configuration file. Raises ControlError."""
    problem = next(node_problems(one), None)
    if problem is not None:
        place, sentence = problem
        raise schema.ControlError("bad_request", f"{place.rpartition('.')[2]} {sentence}")
    return one

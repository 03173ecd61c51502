"""The part of the control API that changes nodes and tells of them: parameters and results. Pure.

Beside the questions of `schema`, these methods act: the state an operator wants of a node, nodes added, removed and
read again from the file, evacuations, and the events of the nodes. `METHODS` is part of `schema.METHODS`; conventions
and units are those of `schema`.

`events` is a long poll: a client asks for what came after the number it has seen, and the answer waits up to `wait_s`
seconds for something to come. `stream` changes when the proxy starts anew, and its numbers begin at 1 again.
"""

from typing import Literal

import msgspec

MAX_WAIT = 30.0
"""Longest `wait_s` of `events`, seconds."""

NodeAction = Literal["drain", "undrain", "disable", "enable", "lost", "remove"]
"""drain: no new calls, calls stay. undrain, enable: new calls again. disable: as drain, kept out for good. lost: the
operator knows that the node is dead; its calls move now. remove: as drain, and gone when its last call has ended."""


class NodeEventInfo(msgspec.Struct, kw_only=True):
    """Something happened to a node. `at`: seconds since the epoch; `line`: all of it in words, as in the log;
    `calls`: concerned by it; `number`: in the stream, 0 for one that is an answer to an action."""

    number: int = 0
    at: float
    node: str
    what: str
    decided: str
    calls: int
    line: str


class Events(msgspec.Struct, kw_only=True):
    """Answer to `events`. `last`: number of the latest event there is, what to ask for next as `after`."""

    stream: str
    last: int
    events: list[NodeEventInfo]


class PlannedMoveInfo(msgspec.Struct, kw_only=True):
    """A call an evacuation would move now. `to`: the node, "" for none; `note`: what is special about it."""

    session: str
    to: str
    note: str = ""


class EvacuationInfo(msgspec.Struct, kw_only=True):
    """An evacuation, under way or done. `eta_s`: None while unknown."""

    node: str
    total: int
    moved: int
    failed: int
    left: int
    eta_s: float | None = None
    done: bool


class Reloaded(msgspec.Struct, kw_only=True):
    """What `nodes_reload` did, node names; `refused`: sentences about what it could not do."""

    added: list[str]
    removed: list[str]
    changed: list[str]
    refused: list[str]


class NodeParams(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """`node`: its name."""

    node: str


class NodeActionParams(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """`node`: its name; `action`: see NodeAction."""

    node: str
    action: NodeAction


class NodeAddParams(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A node as in the configuration file; it is gone after a restart unless it is written there, too."""

    name: str
    address: str
    weight: int = 1
    tier: int = 0
    labels: list[str] = []
    set: str = ""
    admin: Literal["active", "draining", "disabled"] = "active"
    canary: bool = True


class ReloadParams(msgspec.Struct, forbid_unknown_fields=True):
    """None: the proxy reads the file it was started with."""


class EventsParams(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """`after`: number of the last event seen, None for none; `wait_s`: how long to wait for one, at most MAX_WAIT."""

    after: int | None = None
    wait_s: float = 0.0


NodeRequest = NodeParams | NodeActionParams | NodeAddParams | ReloadParams | EventsParams

METHODS: dict[str, type[NodeRequest]] = {
    "node": NodeActionParams,
    "node_add": NodeAddParams,
    "nodes_reload": ReloadParams,
    "plan": NodeParams,
    "evacuate": NodeParams,
    "evacuation": NodeParams,
    "events": EventsParams,
}

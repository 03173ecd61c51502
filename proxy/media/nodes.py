"""A media node: what the operator wants of it, what is seen of it, and the table of what follows from new evidence.

Theory of operation. The administrative state (`Admin`) is set by people and by configuration, the observed state
(`Observed`) only by evidence; neither touches the other. Evidence about a node is one of nine facts (`Evidence`), made
out of pings, refusals and the media canary by `pulse` and `watch`. `TABLE` says for each observed state and fact what
the state is then and what is to be done; it is the only place where that is decided, and `Node.take` the only one that
reads it. Pure: no clock, no sockets.

A restarted node is no state: it answers, but knows none of its calls, so its `generation` rises, its calls are
anchored again, and it takes new ones. A partition (control silent, media heard) moves no call, as media still flows.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from ng_protocol import Client


class Admin(Enum):
    """What the operator wants. DRAINING: no new calls, those it has stay until they end or are moved. DISABLED: the
    same, and it is not counted as a node that could take calls again by itself (a restart does not bring it back)."""

    ACTIVE = "active"
    DRAINING = "draining"
    DISABLED = "disabled"


class Observed(Enum):
    """What is seen. SUSPECT: two pings lost. PARTITIONED: control silent, media flows. HALF_DEAD: control answers, but
    no media gets through."""

    UP = "up"
    SUSPECT = "suspect"
    PARTITIONED = "partitioned"
    DOWN = "down"
    HALF_DEAD = "half-dead"


class Evidence(Enum):
    """New facts about a node; the value is how an event says it."""

    ANSWERS = "its control port answers"
    MISSED = "two pings in a row are lost"
    REFUSED = "nothing listens on its ng port (refused twice)"
    SILENT = "neither its control port nor the media canary is heard"
    CUT_OFF = "its control port is silent but media passes through it"
    MEDIA_SILENT = "its control port answers but no media passes through it"
    MEDIA_HEARD = "media passes through it again"
    RESTARTED = "the daemon restarted and has lost its calls"
    GIVEN_UP = "the operator says it is lost"


class Action(Enum):
    """What follows from evidence; the value is how an event says it, "{calls}" the number of calls concerned. LOSE is
    in no row: it is what MOVE and RESTART come to where nothing can move calls."""

    NONE = ""
    AVOID = "new calls avoid it"
    HOLD = "new calls avoid it, {calls} left on it until media stops or the operator says the node is lost"
    QUARANTINE = "no new calls for it, {calls} on it"
    MOVE = "{calls} to be moved to other nodes"
    LOSE = "{calls} lost with it, as nothing here moves calls"
    RESTART = "{calls} to be anchored again"
    BACK = "it takes new calls"


_U, _S, _P, _D, _H = Observed.UP, Observed.SUSPECT, Observed.PARTITIONED, Observed.DOWN, Observed.HALF_DEAD

TABLE: dict[tuple[Observed, Evidence], tuple[Observed, Action]] = {
    (_U, Evidence.ANSWERS): (_U, Action.NONE),
    (_U, Evidence.MISSED): (_S, Action.AVOID),
    (_U, Evidence.REFUSED): (_D, Action.MOVE),
    (_U, Evidence.SILENT): (_D, Action.MOVE),
    (_U, Evidence.CUT_OFF): (_P, Action.HOLD),
    (_U, Evidence.MEDIA_SILENT): (_H, Action.QUARANTINE),
    (_U, Evidence.MEDIA_HEARD): (_U, Action.NONE),
    (_U, Evidence.RESTARTED): (_U, Action.RESTART),
    (_U, Evidence.GIVEN_UP): (_D, Action.MOVE),
    (_S, Evidence.ANSWERS): (_U, Action.BACK),
    (_S, Evidence.MISSED): (_S, Action.NONE),
    (_S, Evidence.REFUSED): (_D, Action.MOVE),
    (_S, Evidence.SILENT): (_D, Action.MOVE),
    (_S, Evidence.CUT_OFF): (_P, Action.HOLD),
    (_S, Evidence.MEDIA_SILENT): (_S, Action.NONE),
    (_S, Evidence.MEDIA_HEARD): (_S, Action.NONE),
    (_S, Evidence.RESTARTED): (_U, Action.RESTART),
    (_S, Evidence.GIVEN_UP): (_D, Action.MOVE),
    (_P, Evidence.ANSWERS): (_U, Action.BACK),
    (_P, Evidence.MISSED): (_P, Action.NONE),
    (_P, Evidence.REFUSED): (_D, Action.MOVE),
    (_P, Evidence.SILENT): (_D, Action.MOVE),
    (_P, Evidence.CUT_OFF): (_P, Action.NONE),
    (_P, Evidence.MEDIA_SILENT): (_P, Action.NONE),
    (_P, Evidence.MEDIA_HEARD): (_P, Action.NONE),
    (_P, Evidence.RESTARTED): (_U, Action.RESTART),
    (_P, Evidence.GIVEN_UP): (_D, Action.MOVE),
    # What was moved away is not moved back; calls that could not be moved get another chance with a restart.
    (_D, Evidence.ANSWERS): (_U, Action.BACK),
    (_D, Evidence.MISSED): (_D, Action.NONE),
    (_D, Evidence.REFUSED): (_D, Action.NONE),
    (_D, Evidence.SILENT): (_D, Action.NONE),
    (_D, Evidence.CUT_OFF): (_D, Action.NONE),
    (_D, Evidence.MEDIA_SILENT): (_H, Action.QUARANTINE),
    (_D, Evidence.MEDIA_HEARD): (_D, Action.NONE),
    (_D, Evidence.RESTARTED): (_U, Action.RESTART),
    (_D, Evidence.GIVEN_UP): (_D, Action.MOVE),
    # That its control port answers is what makes it half-dead.
    (_H, Evidence.ANSWERS): (_H, Action.NONE),
    (_H, Evidence.MISSED): (_H, Action.NONE),
    (_H, Evidence.REFUSED): (_D, Action.MOVE),
    (_H, Evidence.SILENT): (_D, Action.MOVE),
    (_H, Evidence.CUT_OFF): (_P, Action.HOLD),
    (_H, Evidence.MEDIA_SILENT): (_H, Action.NONE),
    (_H, Evidence.MEDIA_HEARD): (_U, Action.BACK),
    (_H, Evidence.RESTARTED): (_U, Action.RESTART),
    (_H, Evidence.GIVEN_UP): (_D, Action.MOVE),
}
"""(observed state, evidence) -> (observed state then, what is to be done). Complete: every pair has a row."""

REACHABLE = frozenset((Observed.UP, Observed.SUSPECT, Observed.HALF_DEAD))
"""States in which a command is worth sending now."""


@dataclass(frozen=True, slots=True)
class Load:
    """What `statistics` last said. `ports_free`, `ports_total`: of the interface with the fewest free ports, 0 and 0
    when the daemon names none. `sessions`: calls on the node, whoever made them. `packet_rate`: packets per second.
    `cpu`: 0 to 1; None: the daemon does not tell (10.5 does not). `uptime`: whole seconds."""

    ports_free: int
    ports_total: int
    sessions: int
    packet_rate: int = 0
    cpu: float | None = None
    uptime: int = 0


class Node:
    """One rtpengine node. `weight`: share of the sessions; `tier`: 0 is used first, higher ones stand by; `labels`,
    `group` (`set` in the configuration): what routes may ask for. `why`: the last evidence, in words. `since`:
    monotonic seconds of the last change of the observed state. `leaving`: removed from the configuration; it goes when
    its last call has ended."""

    __slots__ = (
        "address",
        "admin",
        "client",
        "generation",
        "group",
        "labels",
        "leaving",
        "load",
        "name",
        "observed",
        "since",
        "tier",
        "weight",
        "why",
    )

    def __init__(
        self,
        name: str,
        client: Client,
        *,
        weight: float = 1.0,
        tier: int = 0,
        labels: frozenset[str] = frozenset(),
        group: str = "",
        admin: Admin = Admin.ACTIVE,
    ) -> None:
        self.name = name
        self.client = client
        self.address = client.address
        self.weight = weight
        self.tier = tier
        self.labels = labels
        self.group = group
        self.admin = admin
        self.observed = Observed.UP
        self.generation = 0
        self.load: Load | None = None
        self.why = ""
        self.since = 0.0
        self.leaving = False

    def __repr__(self) -> str:
        return f"<Node {self.name} {self.admin.value} {self.observed.value}>"

    @property
    def reachable(self) -> bool:
        """Whether a command is worth sending now; if not, deletes are owed."""
        return self.observed in REACHABLE

    def take(self, evidence: Evidence, now: float) -> Action:
        """Changes the state as TABLE says, and returns what is to be done."""
        state, action = TABLE[self.observed, evidence]
        if evidence is Evidence.RESTARTED:
            self.generation += 1
        if state is not self.observed or action is not Action.NONE:
            self.observed = state
            self.since = now
            self.why = "" if action is Action.BACK else evidence.value
        return action


@dataclass(frozen=True, slots=True)
class NodeEvent:
    """Something happened to a node. `epoch`: seconds since 1970; `what`: happened; `decided`: follows from it, "" for
    nothing; `calls`: concerned by it."""

    epoch: float
    node: str
    what: str
    decided: str
    calls: int

    def line(self) -> str:
        """The event in one line, as in the log and in `mediactl events`; the time is not in it."""
        return f"node {self.node}: {self.what}" + (f"; {self.decided}" if self.decided else "")


def decision(action: Action, calls: int) -> str:
    """What an action means for so many calls, in words."""
    return action.value.format(calls="1 call" if calls == 1 else f"{calls} calls")


class PlannedMove(Protocol):
    """One line of an evacuation's plan: a session, and the node it would go to ("" for none)."""

    session_id: str
    node: str
    note: str


class Evacuation(Protocol):
    """An evacuation under way; it goes on whoever watches. `eta_seconds`: None while unknown."""

    total: int

    @property
    def moved(self) -> int:
        """Calls that are on another node now."""

    @property
    def failed(self) -> int:
        """Calls that stayed, or were given up."""

    @property
    def left(self) -> int:
        """Calls still to be moved."""

    @property
    def eta_seconds(self) -> float | None:
        """Seconds until it is done at the present rate."""


class Mover(Protocol):
    """Moves live calls between nodes. Each method returns at once; the moves are stories of their own."""

    def node_lost(self, name: str, why: str) -> int:
        """The node is gone: move every call on it. Returns how many that is."""

    def node_restarted(self, name: str) -> int:
        """The node knows none of its calls any more: anchor them again, on whatever node is best."""

    def half_dead(self, name: str) -> int:
        """No media passes the node: move its calls while its control port still answers."""

    def plan(self, name: str) -> list[PlannedMove]:
        """What `evacuate` would do now."""

    def evacuate(self, name: str) -> Evacuation:
        """Starts to move every call away, or returns the evacuation of this node that is under way."""

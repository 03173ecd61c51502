"""The scenarios, one class each; `by_name` is the list."""

from __future__ import annotations

from lab.scenario import Scenario
from lab.scenarios.basic import EarlyMedia, LateOffer, NatBoth, NatCaller, PlainCall
from lab.scenarios.crowd import NodeDies500Calls
from lab.scenarios.endings import Busy, Cancel
from lab.scenarios.failover import (
    NodeDiesDuringSetup,
    NodeDiesMidCall,
    NodeLoadLimit,
    NodeRestartsMidCall,
    NodeStalls300ms,
)
from lab.scenarios.forked import ForkedCallee
from lab.scenarios.hold import HoldBothSides
from lab.scenarios.moves import GlareDuringReanchor, ReinviteRefused
from lab.scenarios.partitions import ControlPartition, DrainEvacuate, HalfDeadNode
from lab.scenarios.restarts import ProxyKilledMidCall, ProxyKilledNodeDies
from lab.scenarios.switches import FreeswitchDeadNextOne, FreeswitchSilentNextOne
from lab.scenarios.trouble import (
    CancelCrossesAnswer,
    CancelEarlyMedia,
    Glare,
    HoldByUpdate,
    LossySignalling,
    ManyAtOnce,
    NoMediaNode,
    UnknownCallee,
)

ALL: tuple[type[Scenario], ...] = (
    PlainCall,
    NatCaller,
    NatBoth,
    EarlyMedia,
    HoldBothSides,
    Cancel,
    Busy,
    LateOffer,
    ForkedCallee,
    FreeswitchDeadNextOne,
    FreeswitchSilentNextOne,
    UnknownCallee,
    CancelEarlyMedia,
    CancelCrossesAnswer,
    ReinviteRefused,
    HoldByUpdate,
    Glare,
    ManyAtOnce,
    NoMediaNode,
    LossySignalling,
    NodeDiesMidCall,
    NodeDies500Calls,
    NodeStalls300ms,
    NodeRestartsMidCall,
    NodeDiesDuringSetup,
    NodeLoadLimit,
    ControlPartition,
    DrainEvacuate,
    ProxyKilledMidCall,
    ProxyKilledNodeDies,
    HalfDeadNode,
    GlareDuringReanchor,
)


def by_name() -> dict[str, type[Scenario]]:
    """Every scenario by its name, in the order of `list`."""
    return {scenario.name: scenario for scenario in ALL}

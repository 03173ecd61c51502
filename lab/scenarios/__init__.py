"""The scenarios, one class each; `by_name` is the list."""

from __future__ import annotations

from lab.scenario import Scenario
from lab.scenarios.basic import EarlyMedia, LateOffer, NatBoth, NatCaller, PlainCall
from lab.scenarios.crowd import NodeDies500Calls
from lab.scenarios.endings import Busy, Cancel
from lab.scenarios.forked import ForkedCallee
from lab.scenarios.hold import HoldBothSides
from lab.scenarios.switches import FreeswitchDeadNextOne, FreeswitchSilentNextOne
from lab.scenarios.trouble import (
    CancelCrossesAnswer,
    CancelEarlyMedia,
    Glare,
    HoldByUpdate,
    LossySignalling,
    ManyAtOnce,
    NoMediaNode,
    ReinviteRefused,
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
    NodeDies500Calls,
)


def by_name() -> dict[str, type[Scenario]]:
    """Every scenario by its name, in the order of `list`."""
    return {scenario.name: scenario for scenario in ALL}

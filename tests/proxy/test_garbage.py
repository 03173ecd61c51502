"""The garbage collector is told when to look, and calls leave nothing for it to find."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from proxy import garbage
from proxy.garbage import Garbage
from tests.ladder import play
from tests.ladders.flows import ANSWERED, HUNG_UP, RINGING
from tests.world import World


@pytest.fixture
def young(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The number of objects after which the young ones are looked at, here a small one; Python's own way afterwards."""
    monkeypatch.setattr(garbage, "YOUNG", 2000)
    yield 2000
    gc.unfreeze()
    gc.enable()


def circles(number: int) -> None:
    """Objects that only the collector can free."""
    for _ in range(number):
        circle: list[object] = []
        circle.append(circle)


def test_nothing_is_looked_at_between_steps(young: int) -> None:
    collector = Garbage()
    collector.begin(0.0)
    circles(3 * young)
    assert gc.get_count()[0] > 2 * young
    assert collector.looks == 0


def test_many_new_objects_are_looked_at_under_load(young: int) -> None:
    collector = Garbage()
    collector.begin(0.0)
    collector.step(busy=True, now=1.0)
    assert collector.looks == 0
    circles(3 * young)
    collector.step(busy=True, now=2.0)
    assert collector.looks == 1
    assert collector.found >= 3 * young


def test_everything_is_looked_at_now_and_then_when_there_is_little_to_do(young: int) -> None:
    collector = Garbage()
    collector.begin(0.0)
    collector.step(busy=False, now=garbage.FULL_EVERY - 1)
    assert collector.looks == 0
    collector.step(busy=True, now=garbage.FULL_EVERY + 1)
    assert collector.looks == 0
    collector.step(busy=False, now=garbage.FULL_EVERY + 1)
    collector.step(busy=False, now=garbage.FULL_EVERY + 2)
    assert collector.looks == 1


def test_a_busy_proxy_looks_at_everything_in_the_end(young: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(garbage, "OLD", 3 * young)
    collector = Garbage()
    collector.begin(0.0)
    kept: list[list[object]] = []
    circle: list[object] = []
    circle.append(circle)
    for _ in range(2):
        kept += [[] for _ in range(2 * young)]
        collector.step(busy=True, now=1.0)
    del circle  # it has outlived a look at the young, so only a look at everything finds it
    before = collector.found
    collector.step(busy=True, now=2.0)
    assert collector.found == before + 1
    assert len(kept) == 4 * young


def test_end_is_python_as_usual(young: int) -> None:
    collector = Garbage()
    collector.begin(0.0)
    assert not gc.isenabled()
    collector.end()
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


CANCELLED = (
    RINGING
    + """
    caller -> edge    CANCEL
    edge -> caller    200 OK (CANCEL)
    edge -> fs        CANCEL
    fs -> edge        200 OK (CANCEL)
    fs -> edge        487 Request Terminated (INVITE)
    edge -> fs        ACK
    edge -> caller    487 Request Terminated (INVITE)
    caller -> edge    ACK
    fs -> edge        CANCEL  [B]
    edge -> fs        200 OK (CANCEL)  [B]
    edge -> callee    CANCEL  [B]
    callee -> edge    200 OK (CANCEL)  [B]
    callee -> edge    487 Request Terminated (INVITE)  [B]
    edge -> callee    ACK  [B]
    edge -> fs        487 Request Terminated (INVITE)  [B]
    fs -> edge        ACK  [B]
"""
)


@pytest.mark.parametrize("flow", [ANSWERED + HUNG_UP, CANCELLED], ids=["answered", "cancelled"])
async def test_a_call_leaves_nothing_for_the_collector(media: World, flow: str) -> None:
    """Everything a call made is freed by reference counts: nothing of ours is in a circle when its timers are over."""
    gc.collect()
    gc.disable()
    try:
        await play(media, flow)
        await media.over(200.0)
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        ours = [thing for thing in gc.garbage if type(thing).__module__.startswith(("proxy.", "ng_protocol."))]
        assert [type(thing).__name__ for thing in ours] == []
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()

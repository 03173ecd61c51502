"""The pacer, on a clock and a sleep of its own."""

from __future__ import annotations

from proxy.pacing import BUSY_RATE, CALM_RATE, NAP, Pacer


class Source:
    """A socket with a backlog; each drain takes at most ``most``."""

    def __init__(self, most: int = 64) -> None:
        self.waiting = 0
        self.drained = 0
        self.most = most

    def drain(self) -> int:
        taken = min(self.waiting, self.most)
        self.waiting -= taken
        self.drained += taken
        return taken


class World:
    def __init__(self) -> None:
        self.now = 0.0
        self.naps: list[float] = []
        self.source = Source()
        self.replies = 0
        self.pacer = Pacer([self.source], [self.drain_replies], lambda: self.now, self.sleep)

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now += seconds

    def drain_replies(self) -> int:
        self.replies += 1
        return 0

    def second(self, rate: float) -> bool:
        """A tenth of a second with that many datagrams a second; whether it paces afterwards."""
        self.source.drained += round(rate / 10)
        self.now += 0.1
        return self.pacer.measure()


def test_begins_above_one_rate_and_ends_below_another() -> None:
    world = World()
    assert not world.second(BUSY_RATE - 50)
    assert world.second(BUSY_RATE + 50)
    between = (BUSY_RATE + CALM_RATE) / 2
    assert world.second(between)
    assert not world.second(CALM_RATE - 50)
    assert not world.second(between)


def test_is_not_measured_too_often() -> None:
    world = World()
    world.source.drained += 1000
    world.now += 0.001
    assert not world.pacer.measure()


def test_a_round_naps_then_drains_everything() -> None:
    world = World()
    world.source.waiting = 3
    world.pacer.round()
    assert world.naps == [NAP]
    assert world.source.drained == 3
    assert world.replies == 1


def test_a_backlog_is_worked_off_without_napping() -> None:
    world = World()
    world.source.waiting = 150
    for _ in range(4):
        world.pacer.round()
    # Full, full, then the rest, which is a backlog still; only then another nap.
    assert world.source.drained == 150
    assert world.naps == [NAP]
    world.pacer.round()
    assert world.naps == [NAP, NAP] or len(world.naps) == 2

"""When the proxy paces itself: rates that begin and end it, what one round does; clock and sleep are the test's."""

from __future__ import annotations

from proxy.pacing import BUSY_RATE, CALM_RATE, NAP, Pacer


class Source:
    """A socket with `waiting` datagrams."""

    def __init__(self, waiting: int = 0) -> None:
        self.drained = 0
        self.waiting = waiting

    def drain(self) -> int:
        taken, self.waiting = self.waiting, 0
        self.drained += taken
        return taken


class World:
    """A pacer, its sources, and a clock that only the test and `sleep` move."""

    def __init__(self) -> None:
        self.now = 100.0
        self.naps: list[float] = []
        self.sources = [Source(), Source()]
        self.replies = Source()
        self.pacer = Pacer(self.sources, [self.replies.drain], clock=lambda: self.now, sleep=self.naps.append)

    def second_at(self, rate: float) -> bool:
        """One second at this rate, divided among the sources; whether it is paced afterwards."""
        self.now += 1.0
        for source in self.sources:
            source.drained += int(rate / len(self.sources))
        return self.pacer.measure()


def test_calm_until_busy_and_busy_until_calm() -> None:
    world = World()
    between = (BUSY_RATE + CALM_RATE) / 2
    rates = [between, BUSY_RATE + 10, between, CALM_RATE - 10, between]
    assert [world.second_at(rate) for rate in rates] == [False, True, True, False, False]


def test_a_moment_is_too_short_to_judge() -> None:
    world = World()
    world.now += 0.01
    world.sources[0].drained += 1000
    assert not world.pacer.measure()
    world.now += 0.09
    assert world.pacer.measure()


def test_the_rate_counts_both_sources_but_not_the_replies_of_rtpengine() -> None:
    world = World()
    world.replies.drained += 100_000
    assert not world.second_at(BUSY_RATE - 10)
    assert world.second_at(BUSY_RATE + 10)


def test_a_round_naps_and_drains_everything() -> None:
    world = World()
    for source in (*world.sources, world.replies):
        source.waiting = 3
    world.pacer.round()
    assert world.naps == [NAP]
    assert [source.waiting for source in (*world.sources, world.replies)] == [0, 0, 0]


def test_no_nap_behind_a_backlog() -> None:
    world = World()
    world.sources[0].waiting = 64
    world.pacer.round()
    world.pacer.round()
    world.pacer.round()
    assert world.naps == [NAP, NAP], "the second round comes at once, the third after a nap again"

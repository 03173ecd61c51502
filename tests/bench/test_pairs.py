"""The bench's arithmetic and its rules about spoiled runs, with runs made up by the test."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from lab.bench.pairs import REPEATS, Run, compare, rank_peers


@dataclass(frozen=True)
class Side:
    name: str


OURS, ONE, TWO, FOUR = Side("ours"), Side("one"), Side("two"), Side("four")


def good(side: Side, cpu_us: float) -> Run:
    return Run(side.name, 100, 0, 0, cpu_us)


def bad(side: Side, cpu_us: float = 1.0, failed: int = 0, retransmissions: int = 0, complaint: str = "") -> Run:
    return Run(side.name, 100, failed, retransmissions, cpu_us, complaint)


class Script:
    """Hands out prepared runs in order and insists that they are asked for in that order."""

    def __init__(self, *runs: Run) -> None:
        self.runs: Iterator[Run] = iter(runs)
        self.told: list[str] = []

    def run(self, side: Side) -> Run:
        run = next(self.runs)
        assert run.side == side.name, f"asked for {side.name}, expected {run.side}"
        return run

    def finished(self) -> bool:
        return next(self.runs, None) is None


def test_a_clean_run_is_not_spoiled() -> None:
    assert good(OURS, 5.0).spoiled == ""


def test_every_reason_spoils() -> None:
    run = bad(OURS, failed=2, retransmissions=3, complaint="the node counted 1 offers")
    assert run.spoiled == "2 failed calls, 3 retransmissions, the node counted 1 offers"
    assert "98 of 100 calls  left out: 2 failed" in str(run)


def test_a_run_says_what_it_held_and_what_stood_beside_it() -> None:
    run = Run("ours", 100, 0, 0, 500.0, system_us=90.0, rate=498.6, note="the B2BUA 150 us a call")
    assert str(run) == (
        "ours: 500 us a call (90 in the kernel), 100 of 100 calls at 499 a second, the B2BUA 150 us a call"
    )


def test_where_delays_are_measured_they_are_compared() -> None:
    run = Run("ours", 100, 0, 0, 500.0, p50_us=350.0, p99_us=900.0)
    assert run.figure == 350.0
    assert "delay p50 350 us p99 900 us" in str(run)
    assert good(OURS, 500.0).figure == 500.0


def test_the_cheapest_setting_without_failures_is_the_peer() -> None:
    script = Script(good(ONE, 500), good(TWO, 450), bad(FOUR, 100, failed=3))
    ranked, runs = rank_peers([ONE, TWO, FOUR], script.run, script.told.append)
    assert ranked == [TWO, ONE]
    assert len(runs) == 3
    assert "left out: 3 failed calls" in script.told[2]


def test_a_scan_with_retransmissions_is_repeated() -> None:
    script = Script(bad(ONE, retransmissions=1), good(ONE, 500), good(TWO, 600))
    ranked, _ = rank_peers([ONE, TWO], script.run, script.told.append)
    assert ranked == [ONE, TWO]
    assert script.finished()


def test_median_ratio_with_its_spread() -> None:
    runs = [
        good(ONE, 100),
        *(
            good(side, us)
            for us_pair in ((80, 100), (60, 100), (90, 100))
            for side, us in zip((OURS, ONE), us_pair, strict=True)
        ),
    ]
    script = Script(*runs)
    result = compare("P2", OURS, [ONE], 3, script.run, script.told.append)
    assert script.finished()
    assert result.ratio == pytest.approx(0.8)
    assert result.ratios == pytest.approx([0.8, 0.6, 0.9])
    assert (result.ours_us, result.peer_us, result.peer) == (80, 100, "one")


@pytest.mark.parametrize("spoil", [{"retransmissions": 1}, {"failed": 1}, {"complaint": "no"}])
@pytest.mark.parametrize("culprit", [OURS, ONE])
def test_a_spoiled_pair_is_thrown_out_and_repeated(culprit: Side, spoil: dict[str, int]) -> None:
    spoiled = [bad(side, 1.0, **spoil) if side == culprit else good(side, 1.0) for side in (OURS, ONE)]  # type: ignore[arg-type]
    script = Script(good(ONE, 100), *spoiled, good(OURS, 50), good(ONE, 100))
    result = compare("P2", OURS, [ONE], 1, script.run, script.told.append)
    assert script.finished()
    assert (result.ratio, result.spoiled, result.invalid) == (0.5, 1, "")
    assert result.retransmissions == spoil.get("retransmissions", 0), "of pairs thrown out as well"


def test_after_three_repeats_the_mode_is_invalid() -> None:
    pair = (bad(OURS, 1.0, retransmissions=1), good(ONE, 1.0))
    script = Script(good(ONE, 100), good(OURS, 50), good(ONE, 100), *(pair * (1 + REPEATS)))
    result = compare("P2", OURS, [ONE], 2, script.run, script.told.append)
    assert script.finished()
    assert REPEATS == 3
    assert result.ratio is None
    assert result.invalid == "pair 2 was spoiled 4 times, last by ours: 1 retransmissions"


def test_no_peer_no_ratio() -> None:
    script = Script(bad(ONE, failed=1))
    result = compare("P2", OURS, [ONE], 1, script.run, script.told.append)
    assert script.finished()
    assert (result.ratio, result.invalid) == (None, "the peer has no setting without failed calls")


def test_a_setting_whose_calls_fail_later_gives_way_to_the_next() -> None:
    failing = (good(OURS, 40), bad(TWO, failed=1))
    script = Script(
        *(good(ONE, 100), good(TWO, 80)),
        *(good(OURS, 40), good(TWO, 80)),
        *(failing * (1 + REPEATS)),
        *((good(OURS, 50), good(ONE, 100)) * 2),
    )
    result = compare("P2", OURS, [ONE, TWO], 2, script.run, script.told.append)
    assert script.finished()
    assert (result.peer, result.ratios, result.invalid) == ("one", [0.5, 0.5], "")
    assert result.left_out == ["two: failed calls in each of 4 tries of a pair"]
    assert any("once more with one" in line for line in script.told)


@pytest.mark.parametrize(
    "last",
    [(good(OURS, 40), bad(TWO, retransmissions=1)), (bad(OURS, failed=1), good(TWO, 80))],
    ids=["retransmissions", "our own calls"],
)
def test_only_failed_calls_of_the_peer_in_every_try_change_the_setting(last: tuple[Run, Run]) -> None:
    failing = (good(OURS, 40), bad(TWO, failed=1))
    script = Script(good(ONE, 100), good(TWO, 80), *(failing * REPEATS), *last)
    result = compare("P2", OURS, [ONE, TWO], 1, script.run, script.told.append)
    assert script.finished()
    assert (result.peer, result.ratio, result.left_out) == ("two", None, [])
    assert result.invalid.startswith("pair 1 was spoiled 4 times")


def test_the_last_setting_fails_for_good() -> None:
    script = Script(good(ONE, 100), *((good(OURS, 40), bad(ONE, failed=1)) * (1 + REPEATS)))
    result = compare("P2", OURS, [ONE], 1, script.run, script.told.append)
    assert script.finished()
    assert (result.ratio, result.left_out) == (None, [])
    assert result.invalid == "pair 1 was spoiled 4 times, last by one: 1 failed calls"

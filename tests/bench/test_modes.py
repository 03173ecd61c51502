"""The modes and their bars, and that a whole bench fits into its time."""

from lab.bench.modes import MODES


def test_the_bars() -> None:
    bars = {name: mode.bar for name, mode in MODES.items()}
    assert bars == {"P1": 0.45, "P1_500": 0.75, "P2": 0.7, "P3": 0.7, "P4": 0.6, "P8": None}


def test_the_rates_the_bars_are_for() -> None:
    rates = {name: mode.rate for name, mode in MODES.items() if name != "P4"}
    assert rates == {"P1": 2000, "P1_500": 500, "P2": 1000, "P3": 1000, "P8": 200}
    assert MODES["P4"].rate > MODES["P4"].at_least == 500, "sipp starts a little slower than it is told"


def test_a_whole_bench_of_five_pairs_takes_25_minutes_at_most() -> None:
    around, runs = 8.0, 3 + 2 * 5
    seconds = sum(runs * (around + mode.calls / mode.rate) for mode in MODES.values())
    assert seconds < 25 * 60

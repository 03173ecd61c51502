"""The profile's table, from a dump made here."""

import cProfile
from pathlib import Path

from lab.bench.profiling import table


def inner() -> int:
    return sum(range(1000))


def outer() -> None:
    for _ in range(20):
        inner()


def test_times_and_calls_are_per_sip_call(tmp_path: Path) -> None:
    profile = cProfile.Profile()
    profile.runcall(outer)
    profile.dump_stats(tmp_path / "dump")
    head, *rows = table(tmp_path / "dump", calls=10, rows=3).splitlines()
    assert "over 10 calls" in head
    assert len(rows) == 3
    (row,) = [row for row in rows if row.endswith(" inner")]
    own, cumulative, calls, where, _ = row.split()
    assert calls == "2.00"
    assert 0.0 < float(own) <= float(cumulative)
    assert where.startswith("tests/bench/test_profiling.py:")

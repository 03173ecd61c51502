"""The profile's table, from a dump made here, and profiles that are refused."""

import cProfile
from contextlib import nullcontext
from pathlib import Path

import pytest

from lab.bench import profiling
from lab.bench.modes import MODES
from lab.bench.processes import BenchError, Daemon
from lab.bench.profiling import look, table, wait_for
from lab.bench.sipp import Counters, Load


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


def test_a_look_that_writes_nothing_is_given_up(tmp_path: Path) -> None:
    with (
        Daemon("idle", ["sleep", "60"], tmp_path / "log") as daemon,
        pytest.raises(BenchError, match=r"no .*dump was written within 0 s"),
    ):
        wait_for(tmp_path / "dump", daemon, timeout=0.0)


class Stage:
    """Stands for a proxy under a load that goes wrong."""

    def __init__(self, proxy: Daemon, file: Path, counters: Counters) -> None:
        self.proxy, self.file, self.counters = proxy, file, counters

    def drive(self, load: Load, name: str = "") -> Counters:
        self.file.write_text("")
        return self.counters


@pytest.mark.parametrize("counters", [Counters(99, 1, 0), Counters(100, 0, 5)])
def test_a_profile_of_an_overloaded_proxy_is_none(
    tmp_path: Path, counters: Counters, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "dump"
    with Daemon("idle", ["sh", "-c", "trap : USR1 USR2; while :; do sleep 1; done"], tmp_path / "log") as daemon:
        monkeypatch.setattr(profiling, "stage", lambda *_: nullcontext(Stage(daemon, file, counters)))
        with pytest.raises(BenchError, match=r"no profile of P2: .*ask for a lower --rate"):
            look("calls", MODES["P2"], Load(100, 10), tmp_path, file)

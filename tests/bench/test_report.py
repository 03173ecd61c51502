"""The lines and the parts of the page a bench writes."""

import cProfile
from datetime import date
from pathlib import Path

from lab.bench.build import Build
from lab.bench.memory import Outcome, Reading
from lab.bench.modes import MODES
from lab.bench.pairs import Result, Run
from lab.bench.profiling import Profile
from lab.bench.report import Context, line, machine, memory_part, profile_part, results_part, verdict
from lab.bench.sipp import Load

LOAD = Load(calls=3000, rate=300)
DAY = date(2026, 11, 24)
BUILD = Build(Path("build/compiled"), 60, 17)
PEER = "kamailio children=1"


def result(*ours: float, mode: str = "P2") -> Result:
    pairs = [(Run("ours", 3000, 0, 0, us, rate=299.0), Run(PEER, 3000, 0, 0, 400.0, rate=298.0)) for us in ours]
    scan = [Run(PEER, 3000, 0, 0, 400.0), Run("kamailio children=4", 3000, 7, 0, 300.0)]
    return Result(mode, peer=PEER, scan=scan, pairs=pairs, spoiled=1, retransmissions=4)


def delays() -> Result:
    sides = [("ours", 300.0, 900.0), (PEER, 200.0, 400.0)]
    ours, peer = (Run(name, 3000, 0, 0, 500.0, rate=199.0, p50_us=p50, p99_us=p99) for name, p50, p99 in sides)
    return Result("P8", peer=PEER, pairs=[(ours, peer)])


def context(*results: Result) -> Context:
    loads = {one.mode: LOAD for one in results}
    return Context(DAY, "2 cores, a CPU", "kamailio 5.6.3", BUILD, loads, 0.0)


def test_the_line_of_a_valid_mode() -> None:
    assert line(result(300.0, 320.0, 280.0), LOAD) == (
        "bench P2 ours_us=300 peer_us=400 ratio=0.75 min=0.70 max=0.80 bar=0.7 missed "
        "pairs=3 repeated=1 retransmissions=4 rate=300 calls=3000 peer='kamailio children=1'"
    )


def test_the_line_of_an_invalid_mode_has_no_ratio() -> None:
    told = line(Result("P3", invalid="pair 1 was spoiled 4 times", spoiled=4, retransmissions=9), LOAD)
    assert told == (
        "bench P3 ratio=invalid pairs=0 repeated=4 retransmissions=9 rate=300 calls=3000 "
        "reason='pair 1 was spoiled 4 times'"
    )


def test_the_line_of_delays_has_both_quantiles_and_no_bar() -> None:
    assert line(delays(), LOAD) == (
        "bench P8 ours_p50_us=300 ours_p99_us=900 peer_p50_us=200 peer_p99_us=400 "
        "pairs=1 repeated=0 retransmissions=0 rate=300 calls=3000 peer='kamailio children=1'"
    )


def test_a_bar_is_reached_when_the_ratio_is_at_most_the_bar() -> None:
    assert verdict(result(280.0)) == "reached"
    assert verdict(result(281.0)) == "missed"
    assert verdict(delays()) == ""
    assert verdict(Result("P2", invalid="spoiled")) == ""


def test_the_part_has_the_result_its_circumstances_and_every_run() -> None:
    shown = [
        result(300.0, 320.0, 280.0),
        Result("P3", left_out=["kamailio children=2: failed calls"], invalid="pair 1 was spoiled 4 times", spoiled=4),
    ]
    part = results_part(shown, context(*shown))
    assert "- Date: 2026-11-24\n- Machine: 2 cores, a CPU\n- Versions: kamailio 5.6.3\n" in part
    assert "- Our build: compiled with mypyc (17 of 60 modules)\n" in part
    assert (
        "| P2: stateful relay | 300 (held 298) | 300 | 400 (kamailio children=1) | **0.75** | 0.70 - 0.80 | 0.7 missed "
        "| 3 | 1 | 4 |"
    ) in part
    assert "| 300 | - | - (none) | invalid | pair 1 was spoiled 4 times | 0.7 | 0 | 4 | 0 |" in part
    assert "| P2 | kamailio children=4 | 300 | 7 failed calls |" in part
    assert "| P3 | kamailio children=2 | - | later failed calls |" in part
    assert "| P2 | 2 | 320 | 400 | 0.80 |" in part
    assert "## Added delay" not in part


def test_delays_have_a_table_of_their_own() -> None:
    part = results_part([delays()], context(delays()))
    assert "| P8 | 199 | ours | 300 | 900 |\n| P8 | 199 | kamailio children=1 | 200 | 400 |" in part
    assert "| P8: added" not in part
    invalid = Result("P8", invalid="spoiled")
    assert "| invalid | spoiled |" in results_part([invalid], context(invalid))


def test_memory_before_and_after() -> None:
    outcome = Outcome("100,000 stateful calls", 9, 0, 2, Reading(40_000, 5000, 9000), Reading(49_000, 5001, 9001))
    part = memory_part([outcome], DAY, Build(Path(".")))
    assert "Of our proxy (pure Python, 2026-11-24)" in part
    assert (
        "| 100,000 stateful calls | 40000 -> 49000 | 5000 -> 5001 | 9000 -> 9001 | 2 | 9000 kB resident more |"
    ) in part


def test_a_profile_has_its_table_and_its_flame_graph(tmp_path: Path) -> None:
    profile = cProfile.Profile()
    profile.runcall(sum, range(10))
    profile.dump_stats(tmp_path / "dump")
    part = profile_part([Profile(MODES["P2"], 10, tmp_path / "dump", tmp_path / "flame-P2.svg")], DAY)
    assert "### P2: stateful relay\n\n[Flame graph](flame-P2.svg)\n" in part
    assert "| 0.10 | `<built-in method builtins.sum>` |" in part


def test_the_machine_is_named() -> None:
    cores, _, model = machine().partition(" cores, ")
    assert int(cores) >= 1
    assert model

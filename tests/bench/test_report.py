"""The lines and the page a bench writes."""

from datetime import date

from lab.bench.pairs import Result, Run
from lab.bench.report import Context, line, machine, markdown
from lab.bench.sipp import Load

LOAD = Load(calls=3000, rate=300)


def result() -> Result:
    pairs = [
        (Run("ours", 3000, 0, 0, us), Run("kamailio children=1", 3000, 0, 0, 400.0)) for us in (300.0, 320.0, 280.0)
    ]
    scan = [Run("kamailio children=1", 3000, 0, 0, 400.0), Run("kamailio children=4", 3000, 7, 0, 300.0)]
    return Result("P2", peer="kamailio children=1", scan=scan, pairs=pairs, spoiled=1)


def test_the_line_of_a_valid_mode() -> None:
    assert line(result(), LOAD) == (
        "bench P2 ours_us=300 peer_us=400 ratio=0.75 min=0.70 max=0.80 "
        "pairs=3 repeated=1 rate=300 calls=3000 peer='kamailio children=1'"
    )


def test_the_line_of_an_invalid_mode_has_no_ratio() -> None:
    told = line(Result("P3", invalid="pair 1 was spoiled 4 times"), LOAD)
    assert told == (
        "bench P3 ours_us=- peer_us=- ratio=invalid pairs=0 repeated=0 rate=300 calls=3000 "
        "reason='pair 1 was spoiled 4 times'"
    )


def test_the_page_has_the_result_its_circumstances_and_every_run() -> None:
    invalid = Result("P3", invalid="pair 1 was spoiled 4 times")
    page = markdown([result(), invalid], Context(date(2026, 11, 24), "2 cores, a CPU", "kamailio 5.6.3", LOAD, 0.0))
    assert "- Date: 2026-11-24\n- Machine: 2 cores, a CPU\n- Versions: kamailio 5.6.3\n" in page
    assert "| P2: stateful relay | 300 | 400 (kamailio children=1) | **0.75** | 0.70 - 0.80 | 3 | 1 |" in page
    assert "| - | - (none) | invalid | pair 1 was spoiled 4 times | 0 | 0 |" in page
    assert "| P2 | kamailio children=4 | 300 | 7 failed calls |" in page
    assert "| P2 | 2 | 320 | 400 | 0.80 |" in page


def test_the_machine_is_named() -> None:
    cores, _, model = machine().partition(" cores, ")
    assert int(cores) >= 1
    assert model

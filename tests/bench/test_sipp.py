"""sipp's CSV files, as sipp 3.6.1 writes them, and the command lines and scenarios it is given."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from lab.bench.processes import BenchError
from lab.bench.sipp import SCENARIOS, Load, count_retransmissions, counters, read_last_row

STAT = """StartTime;CallRate(C);SuccessfulCall(P);SuccessfulCall(C);FailedCall(C);
2026-11-24;99.1;0;{early};0;
2026-11-24;498.5;0;{late};{failed};
"""
CALLER = """CurrentTime;0_INVITE_Sent;0_INVITE_Retrans;0_INVITE_Timeout;1_100_Recv;1_100_Retrans;
now;100;{sent};0;100;{seen};
"""
CALLEE = """CurrentTime;0_INVITE_Recv;0_INVITE_Retrans;2_200_Sent;2_200_Retrans;
now;100;{seen};100;0;
"""


def write(folder: Path, caller_ok: int = 100, callee_ok: int = 100, sent: int = 0, seen: int = 0) -> None:
    (folder / "caller.csv").write_text(STAT.format(early=1, late=caller_ok, failed=100 - caller_ok))
    (folder / "callee.csv").write_text(STAT.format(early=1, late=callee_ok, failed=0))
    (folder / "caller_7_counts.csv").write_text(CALLER.format(sent=sent, seen=0))
    (folder / "callee_8_counts.csv").write_text(CALLEE.format(seen=seen))


def test_totals_are_the_last_row(tmp_path: Path) -> None:
    write(tmp_path)
    found = counters(tmp_path, 7, 8, 100)
    assert (found.succeeded, found.failed, found.retransmissions, found.rate) == (100, 0, 0, 498.5)


def test_a_call_counts_when_both_ends_say_so(tmp_path: Path) -> None:
    write(tmp_path, caller_ok=98, callee_ok=97)
    found = counters(tmp_path, 7, 8, 100)
    assert (found.succeeded, found.failed) == (97, 3)


def test_retransmissions_of_both_ends_count(tmp_path: Path) -> None:
    write(tmp_path, sent=2, seen=3)
    assert counters(tmp_path, 7, 8, 100).retransmissions == 5


def test_timeouts_count_as_retransmissions() -> None:
    assert count_retransmissions({"0_INVITE_Sent": "9", "0_INVITE_Retrans": "1", "0_INVITE_Timeout": "2"}) == 3


def test_missing_and_empty_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"sipp wrote no caller\.csv"):
        read_last_row(tmp_path / "caller.csv")
    (tmp_path / "caller.csv").write_text("StartTime;SuccessfulCall(C);\n")
    with pytest.raises(BenchError, match="holds no totals"):
        read_last_row(tmp_path / "caller.csv")


def test_patience_grows_with_the_load() -> None:
    assert Load(calls=3000, rate=300).patience == 30.0


def messages(name: str) -> list[str]:
    """The first words of what a scenario sends and receives, in order."""
    found = []
    for step in ElementTree.parse(SCENARIOS / f"{name}.xml").getroot():
        if step.tag == "send":
            found.append("> " + (step.text or "").strip().splitlines()[0])
        elif step.tag == "recv":
            found.append("< " + (step.get("request") or step.get("response") or ""))
    return found


def test_the_two_scenarios_are_one_call() -> None:
    assert [re.sub(r" (sip:|\[).*", "", step) for step in messages("caller")] == [
        "> INVITE",
        *("< 100", "< 180", "< 200"),
        *("> ACK", "> BYE", "< 200"),
    ]
    assert messages("callee") == [
        "< INVITE",
        *("> SIP/2.0 180 Ringing", "> SIP/2.0 200 OK"),
        *("< ACK", "< BYE", "> SIP/2.0 200 OK"),
    ]


def test_record_route_is_honoured() -> None:
    assert (SCENARIOS / "caller.xml").read_text().count("[routes]") == 2
    assert (SCENARIOS / "callee.xml").read_text().count("[last_Record-Route:]") == 2

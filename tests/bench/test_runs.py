"""What makes a run count, and a whole bench with the real daemons, small."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from lab.bench.modes import MODES
from lab.bench.runs import too_slow
from lab.bench.sipp import Load


def test_the_talks_call_counts_from_500_calls_a_second() -> None:
    load = Load(4000, MODES["P4"].rate)
    assert too_slow(MODES["P4"], load, 499.0).startswith("only 499 calls a second were held, 500")
    assert too_slow(MODES["P4"], load, 505.0) == ""
    assert too_slow(MODES["P4"], Load(60, 100), 97.0) == "", "a small try was asked for"
    assert too_slow(MODES["P2"], Load(60, 100), 10.0) == ""


def bench(repository: Path, folder: Path, *arguments: str) -> str:
    """Run a small bench; returns what it printed."""
    command = [
        *(sys.executable, "-m", "lab.bench", *arguments, "--children", "1", "--pairs", "1"),
        *("--calls", "60", "--rate", "100", "--runs", str(folder), "--report", str(folder / "report.md")),
    ]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.real
def test_kamailio_against_itself(repository: Path, tmp_path: Path) -> None:
    told = bench(repository, tmp_path, "--self-check", "--modes", "P8")
    assert re.match(r"bench P8 ours_p50_us=\d+ ours_p99_us=\d+ peer_p50_us=\d+ peer_p99_us=\d+ ", told.splitlines()[-1])
    assert "kamailio as ours: " in told
    assert "60 of 60 calls" in told
    assert "| P8 | " in (tmp_path / "report.md").read_text()


@pytest.mark.real
def test_our_proxy_beside_kamailio_in_the_talks_call(repository: Path, tmp_path: Path) -> None:
    told = bench(repository, tmp_path, "--modes", "P4", "--pure")
    last = told.splitlines()[-1]
    assert re.match(r"bench P4 ours_us=\d+ peer_us=\d+ ratio=\d+\.\d\d min=", last), told
    assert "our build: pure Python" in told
    assert len(re.findall(r"60 of 60 calls at \d+ a second, the B2BUA \d+ us a call", told)) == 3
    assert "| P4: the talk's call" in (tmp_path / "report.md").read_text()
    assert "</svg>" in (tmp_path / "report.svg").read_text()

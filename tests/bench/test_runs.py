"""A whole bench with the real daemons, small: Kamailio on both sides, as `--self-check` does it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.real
def test_kamailio_against_itself(repository: Path, tmp_path: Path) -> None:
    mode = "P3"
    command = [
        *(sys.executable, "-m", "lab.bench", "--self-check", "--modes", mode, "--children", "1"),
        *("--pairs", "1", "--calls", "60", "--rate", "100", "--runs", str(tmp_path)),
        *("--report", str(tmp_path / "report.md")),
    ]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    last = done.stdout.splitlines()[-1]
    assert re.match(rf"bench {mode} ours_us=\d+ peer_us=\d+ ratio=\d+\.\d\d min=", last), last
    assert "kamailio as ours: " in done.stdout
    assert "60 of 60 calls" in done.stdout
    assert f"| {mode}: stateful relay" in (tmp_path / "report.md").read_text()

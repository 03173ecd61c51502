"""`mediactl.__main__`: `python -m mediactl` is the command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_it_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mediactl", "--help"], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert "usage: mediactl" in done.stdout

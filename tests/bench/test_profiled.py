"""The profiler between two signals, on a small program: only what runs between them is in the dump."""

import os
import pstats
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lab.bench.profiled import main

PROGRAM = """
import sys

def early(): pass
def measured(): pass
def late(): pass

early()
print("one", flush=True)
sys.stdin.readline()
measured()
print("two", flush=True)
sys.stdin.readline()
late()
print(sys.argv[1:], flush=True)
"""


def test_only_what_runs_between_the_signals_is_profiled(tmp_path: Path, repository: Path) -> None:
    (tmp_path / "small_program.py").write_text(PROGRAM)
    dump = tmp_path / "dump"
    command = [sys.executable, "-m", "lab.bench.profiled", str(dump), "-m", "small_program", "a", "b"]
    env = {**os.environ, "PYTHONPATH": f"{repository}:{tmp_path}"}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number, word in ((signal.SIGUSR1, "one\n"), (signal.SIGUSR2, "two\n")):
            assert process.stdout.readline() == word
            process.send_signal(number)
            process.stdin.write("\n")
            process.stdin.flush()
        assert process.stdout.readline() == "['a', 'b']\n"
        assert process.wait(20) == 0
    names = {name for _, _, name in pstats.Stats(str(dump)).stats}  # type: ignore[attr-defined]
    assert "measured" in names
    assert not {"early", "late"} & names


def test_a_wrong_command_line_is_told() -> None:
    with pytest.raises(SystemExit, match="expected `-m MODULE` behind dump, not proxy"):
        main(["dump", "proxy", "x"])

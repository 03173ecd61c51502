"""A small program looked at between two signals: only what runs between them is in the file."""

import json
import os
import pstats
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lab.bench.profiled import main

PROGRAM = """
import sys, time

def early(): pass

def burn():
    until = time.process_time() + 0.3
    while time.process_time() < until: pass

def measured():
    burn()

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


def look(how: str, folder: Path, repository: Path) -> Path:
    """Run PROGRAM as the bench runs the proxy; returns the file."""
    (folder / "small_program.py").write_text(PROGRAM)
    file = folder / "file"
    script = repository / "lab" / "bench" / "profiled.py"
    command = [sys.executable, "-P", str(script), how, str(file), "-m", "small_program", "a", "b"]
    env = {**os.environ, "PYTHONPATH": str(folder)}
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
    return file


def test_calls(tmp_path: Path, repository: Path) -> None:
    dump = look("calls", tmp_path, repository)
    names = {name for _, _, name in pstats.Stats(str(dump)).stats}  # type: ignore[attr-defined]
    assert "measured" in names
    assert not {"early", "late"} & names


def test_samples(tmp_path: Path, repository: Path) -> None:
    lines = look("samples", tmp_path, repository).read_text().splitlines()
    inside = [line for line in lines if ";__main__.measured;__main__.burn" in line]
    assert sum(int(line.rpartition(" ")[2]) for line in inside) >= 20, "0.3 s of CPU, a sample each 1 to 10 ms"
    assert not any("early" in line or "late" in line for line in lines)


def test_objects(tmp_path: Path, repository: Path) -> None:
    counts = json.loads(look("objects", tmp_path, repository).read_text())
    assert counts.keys() == {"objects", "blocks"}
    assert counts["objects"] > 1000
    assert counts["blocks"] > counts["objects"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["calls", "dump", "proxy", "x"], "expected `-m MODULE` behind dump, not proxy"),
        (["wall", "dump", "-m", "x"], "wall is not one of calls, samples, objects"),
    ],
)
def test_a_wrong_command_line_is_told(arguments: list[str], complaint: str) -> None:
    with pytest.raises(SystemExit, match=complaint):
        main(arguments)

"""`python -m lab.bench`: its arguments, its namespace, its complaints."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lab.bench.__main__ import enter_namespace, main, namespace_command, parse_arguments, worth_keeping
from lab.bench.processes import BenchError


def test_defaults() -> None:
    options = parse_arguments([])
    assert (options.modes, options.pairs, options.rate, options.calls) == (["P2", "P3"], 3, 500, 5000)
    assert options.children == [1, 2, 4]


def test_choices() -> None:
    options = parse_arguments(["--modes", "P3", "--pairs", "5", "--rate", "500", "--calls", "9", "--children", "2"])
    assert (options.modes, options.pairs, options.rate, options.calls) == (["P3"], 5, 500, 9)
    assert options.children == [2]


@pytest.mark.parametrize("small", [["--modes", "P2"], ["--pairs", "2"], ["--calls", "600"], ["--children", "1"]])
def test_only_a_run_of_full_size_replaces_the_report(small: list[str]) -> None:
    assert worth_keeping(parse_arguments(["--pairs", "5"]))
    assert not worth_keeping(parse_arguments(small))
    assert not worth_keeping(parse_arguments(["--self-check"]))


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--modes", "P9"], "unknown mode 'P9'; known: P2, P3"),
        (["--pairs", "0"], "0 is not 1 or more"),
        (["--rate", "x"], "invalid _positive value: 'x'"),
        (["--children", "1,x"], "--children takes numbers with commas between, not '1,x'"),
    ],
)
def test_wrong_arguments_are_told(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_arguments(arguments)
    assert caught.value.code == 2
    assert complaint in capsys.readouterr().err


def test_missing_programs_are_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["--modes", "P2"]) == 1
    assert "not installed: sipp, kamailio. `make bench` installs what is missing" in capsys.readouterr().err


def test_root_needs_no_user_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert namespace_command(["--pairs", "1"])[:3] == ["unshare", "--net", sys.executable]
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    command = namespace_command(["--pairs", "1"])
    assert command[:4] == ["unshare", "--user", "--map-root-user", "--net"]
    assert command[-3:] == ["--inside", "--pairs", "1"]


def test_no_namespace_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    unshare = tmp_path / "unshare"
    unshare.write_text("#!/bin/sh\necho 'unshare failed: Operation not permitted' >&2\nexit 1\n")
    unshare.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(BenchError, match=r"no network namespace of its own \(unshare failed.*\): run it as root"):
        enter_namespace([])


def test_help_runs_as_a_module(repository: Path) -> None:
    command = [sys.executable, "-m", "lab.bench", "--help"]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    assert done.returncode == 0
    assert "--profile" in done.stdout

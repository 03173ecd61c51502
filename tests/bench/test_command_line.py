"""`python -m lab.bench`: its arguments, its namespace, its complaints."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lab.bench import plot
from lab.bench.__main__ import (
    compared,
    enter_namespace,
    load_of,
    main,
    namespace_command,
    parse_arguments,
    worth_keeping,
)
from lab.bench.modes import MODES
from lab.bench.processes import BenchError
from lab.bench.sipp import Load


def test_defaults() -> None:
    options = parse_arguments([])
    assert [mode.name for mode in options.modes] == ["P1", "P1_500", "P2", "P3", "P4", "P8"]
    assert (options.pairs, options.rate, options.calls, options.ours, options.pure) == (5, None, None, None, False)
    assert options.children == [1, 2, 4]
    assert load_of(MODES["P1"], options) == Load(MODES["P1"].calls, 2000)


def test_choices() -> None:
    options = parse_arguments(["--modes", "P3", "--pairs", "5", "--rate", "500", "--calls", "9", "--children", "2"])
    assert (options.modes, options.pairs, options.rate, options.calls) == ([MODES["P3"]], 5, 500, 9)
    assert options.children == [2]
    assert load_of(MODES["P1"], options) == Load(9, 500)


@pytest.mark.parametrize(
    "small",
    [["--modes", "P2"], ["--pairs", "4"], ["--calls", "6000"], ["--rate", "9"], ["--children", "1"]],
)
def test_only_a_run_of_full_size_replaces_the_report(small: list[str]) -> None:
    assert worth_keeping(parse_arguments(["--pairs", "5"]))
    assert not worth_keeping(parse_arguments(small))
    assert not worth_keeping(parse_arguments(["--self-check"]))


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--modes", "P9"], "unknown mode 'P9'; known: P1, P1_500, P2, P3, P4, P8"),
        (["--pairs", "0"], "0 is not 1 or more"),
        (["--rate", "x"], "invalid _positive value: 'x'"),
        (["--pure", "--ours", "x"], "argument --ours: not allowed with argument --pure"),
        (["--memory", "--profile"], "argument --profile: not allowed with argument --memory"),
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
    for part in ("--profile", "--memory", "--ours", "P4 the talk's call"):
        assert part in " ".join(done.stdout.split())


def test_a_report_without_its_plot_is_refused_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(plot, "find_spec", lambda _: None)
    options = parse_arguments(["--report", str(tmp_path / "page.md")])
    with pytest.raises(BenchError, match="matplotlib is not installed"):
        compared(options, None, tmp_path)
    assert capsys.readouterr().out == ""

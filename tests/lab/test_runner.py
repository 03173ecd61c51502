"""Runs side by side, their exit codes and last line, and that signals take everything down."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pytest
import trio

from lab import runner
from lab.runner import Options, exit_code, summary
from lab.scenario import Lab
from lab.stage import Outcome, Verdict
from lab.switch import Kind
from tests.lab.stories import Breaks, Story, Waits, alive, left_behind


@pytest.mark.real
@pytest.mark.usefixtures("no_edge")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_takes_everything_down(number: signal.Signals, tmp_path: Path) -> None:
    Waits.started = trio.Event()
    said: list[str] = []
    codes: list[int] = []

    async def run() -> None:
        codes.append(await runner.run([Waits], Options(out=tmp_path, kinds=[Kind.STAND_IN]), said.append))

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await Waits.started.wait()
            assert all(alive(pid) for pid in Waits.pids)
            os.kill(os.getpid(), number)
    assert codes == [130]
    assert said[-2:] == ["lab: interrupted; networks and processes are gone", "lab: 0 passed, 0 failed, 0 unsupported"]
    assert left_behind(Waits) == ([], [])


@pytest.mark.real
@pytest.mark.usefixtures("no_edge")
async def test_side_by_side(tmp_path: Path) -> None:
    said: list[str] = []
    code = await runner.run([Story, Breaks], Options(out=tmp_path, kinds=[Kind.STAND_IN]), said.append)
    assert code == 1
    assert said[0].startswith("lab: B2BUA stand-in (lab.b2bua)")
    assert "the edge " in said[1]
    assert "rtpengine 1" in said[0]
    assert sorted(line.split()[0] for line in said[2:-1]) == ["FAIL", "PASS"]
    assert sorted(line.split()[1] for line in said[2:-1]) == ["story", "story#2"]
    assert said[-1] == "lab: 1 passed, 1 failed, 0 unsupported"


class Here(Story):
    """Notes who runs beside it."""

    running: ClassVar[set[str]] = set()
    seen: ClassVar[list[tuple[str, int]]] = []

    async def act(self, lab: Lab) -> None:
        self.running.add(self.name)
        await trio.sleep(0.2)
        self.seen.append((self.name, len(self.running)))
        self.running.discard(self.name)


class First(Here):
    name = "first"


class Solitary(Here):
    name = "solitary"
    alone = True
    kinds = (Kind.STAND_IN,)


class Last(Here):
    name = "last"


@pytest.mark.real
@pytest.mark.usefixtures("no_edge")
async def test_who_must_be_alone_is(tmp_path: Path) -> None:
    said: list[str] = []
    options = Options(out=tmp_path, jobs=3, kinds=[Kind.FREESWITCH, Kind.STAND_IN])
    assert await runner.run([First, Solitary, Last], options, said.append) == 0
    labels = [line.split()[1] for line in said[2:-1]]
    assert labels[2] == "solitary[stand-in]"
    assert sorted(labels[:2]) == ["first[freeswitch]", "first[stand-in]"]
    assert sorted(labels[3:]) == ["last[freeswitch]", "last[stand-in]"]
    assert [count for name, count in Here.seen if name == "solitary"] == [1]


@pytest.mark.real
@pytest.mark.usefixtures("no_edge")
async def test_a_scenario_for_one_kind_runs_with_it_whatever_was_asked_for(tmp_path: Path) -> None:
    said: list[str] = []
    assert await runner.run([Solitary], Options(out=tmp_path, kinds=[Kind.FREESWITCH]), said.append) == 0
    assert said[2].split()[:2] == ["PASS", "solitary[stand-in]"]


def verdicts(*outcomes: Outcome) -> Sequence[Verdict]:
    return [Verdict("x", outcome, "") for outcome in outcomes]


@pytest.mark.parametrize(
    ("outcomes", "code", "strict"),
    [
        ((Outcome.PASS, Outcome.PASS), 0, 0),
        ((Outcome.PASS, Outcome.UNSUPPORTED), 0, 1),
        ((Outcome.FAIL, Outcome.UNSUPPORTED), 1, 1),
        ((Outcome.FAIL,), 1, 1),
        ((), 0, 0),
    ],
)
def test_exit_codes(outcomes: tuple[Outcome, ...], code: int, strict: int) -> None:
    assert exit_code(verdicts(*outcomes), strict=False) == code
    assert exit_code(verdicts(*outcomes), strict=True) == strict


def test_lines() -> None:
    lines = verdicts(Outcome.PASS, Outcome.FAIL, Outcome.PASS, Outcome.UNSUPPORTED)
    assert summary(lines) == "lab: 2 passed, 1 failed, 1 unsupported"


def test_folders_have_names_freeswitch_can_read() -> None:
    labels = [
        "plain_call",
        "plain_call[freeswitch]",
        "plain_call[stand-in]",
        "plain_call[freeswitch]#2",
        "plain_call#2",
    ]
    names = [runner.folder_name(label) for label in labels]
    assert names[0] == "plain_call"
    assert names[3] == "plain_call-freeswitch-2"
    assert len(set(names)) == len(names)
    assert not any(char in name for name in names for char in "[]*?{}# ")

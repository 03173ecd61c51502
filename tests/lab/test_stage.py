"""Every ending of a story has its verdict and leaves nothing behind; missing parts are named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lab import requirements
from lab.stage import Outcome, Verdict, play
from lab.switch import Kind
from tests.lab.stories import Breaks, Crashes, Hangs, LeavesACall, LosesRtpengine, Story, left_behind


@pytest.mark.real
@pytest.mark.parametrize(
    ("story", "outcome", "reason"),
    [
        (Story, Outcome.PASS, "all is well"),
        (Breaks, Outcome.FAIL, "the callee never rang"),
        (Crashes, Outcome.FAIL, "ZeroDivisionError in the lab: oops"),
        (Hangs, Outcome.FAIL, "the story took longer than 0.3 s"),
        (LosesRtpengine, Outcome.FAIL, "rtpengine-node1 was killed by signal 9"),
        (LeavesACall, Outcome.FAIL, "rtpengine node1 still holds 1 call(s) 0.2 s after the end: left-behind"),
    ],
)
@pytest.mark.usefixtures("no_edge")
async def test_every_ending_has_its_verdict_and_leaves_nothing(
    story: type[Story], outcome: Outcome, reason: str, tmp_path: Path
) -> None:
    verdict = await play(story(), Kind.STAND_IN, tmp_path)
    assert verdict.outcome is outcome, verdict.problems
    assert verdict.reason.startswith(reason)
    assert "\n" not in verdict.reason
    assert story.prefix.startswith(f"mlab{os.getpid()}-")
    assert left_behind(story) == ([], [])
    files = {file.name for file in tmp_path.iterdir()}  # noqa: ASYNC240
    assert {"edge.pcap", "rtpengine-node1.log", "edge.log", "verdict.txt"} <= files
    assert ("traceback.txt" in files) is (story is Crashes)


async def test_missing_parts_are_unsupported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(requirements.PROGRAMS, "no-such-program", "no-such-package")
    verdict = await play(Story(), Kind.STAND_IN, tmp_path / "run")
    assert verdict.outcome is Outcome.UNSUPPORTED
    assert verdict.reason == "missing: program no-such-program (package no-such-package)"
    assert not (tmp_path / "run").exists()


def test_a_verdict_is_a_line() -> None:
    line = str(Verdict("plain_call", Outcome.FAIL, "no INVITE reached the callee", 3.21))
    assert line == f"FAIL        {'plain_call':<38}   3.2 s  no INVITE reached the callee"

"""The demo end to end with everything real, and what it says when a part does not come up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from lab import demo
from lab.namespace import LabError

pytestmark = pytest.mark.real


async def test_the_story_is_told() -> None:
    said: list[str] = []
    assert await demo.run(said.append) == 0, said[-3:]
    text = "\n".join(said)
    assert said[-1] == "demo: ok"
    assert len(text.splitlines()) < 70
    assert max(map(len, text.splitlines())) <= 130
    ladder = [line for line in text.splitlines() if line.startswith("  |")]
    assert sum("INVITE (SDP)" in line for line in ladder) == 4
    assert sum("--BYE--" in line for line in ladder) == 4
    assert {line[-1] for line in ladder} == {"A", "B"}
    assert "2000@example.test" in demo_listing(text)


def demo_listing(text: str) -> str:
    """The row of `mediactl ls` in the text."""
    [row] = [line for line in text.splitlines() if "confirmed" in line]
    return row


async def test_a_part_that_does_not_come_up(monkeypatch: pytest.MonkeyPatch) -> None:
    @asynccontextmanager
    async def broken(*_: object) -> AsyncIterator[None]:
        raise LabError("edge exited with code 1: no such option")
        yield

    monkeypatch.setattr("lab.proxy.edge", broken)
    said: list[str] = []
    assert await demo.run(said.append) == 1
    assert said[-1] == "demo: failed: edge exited with code 1: no such option"
    assert "The call never got as far as talking." in said

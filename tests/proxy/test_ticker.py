"""The ticker under load: whoever was woken in a look at the sockets runs before the next nap."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing

import proxy.edge
from proxy.config import load
from proxy.driver import Wake
from proxy.edge import PACED_ROUNDS, Edge


@pytest.mark.parametrize("own_task", [False, True])
async def test_a_woken_story_runs_before_the_next_nap(
    own_task: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Driven or with a task of its own.

    trio runs the tasks of one turn in any order, so this is tried often enough to meet every order.
    """
    path = tmp_path / "edge.toml"
    path.write_text('[[listen]]\nname = "public"\naddress = "198.51.100.1"\n')
    edge = Edge(load(path))
    waiting = Wake(edge.driver)
    seen: list[str] = []
    rounds = 40 * PACED_ROUNDS

    class Busy:
        """A pacer that always paces, and wakes the story in every fourth look."""

        def __init__(self, *_: object) -> None: ...

        def measure(self) -> bool:
            return True

        def round(self) -> int:
            seen.append("nap")
            if len([one for one in seen if one == "nap"]) % 4 == 0:
                seen.append("wake")
                waiting.wake()
            return 0

    monkeypatch.setattr(proxy.edge, "Pacer", Busy)

    async def story() -> None:
        while True:
            await waiting.wait()
            seen.append("story")
            if seen.count("nap") >= rounds:
                nursery.cancel_scope.cancel()

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            edge.nursery = nursery
            if own_task:
                nursery.start_soon(story)
            else:
                edge.start_story(story)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(edge.ticker, [])
    after_wake = [seen[at + 1] for at, one in enumerate(seen[:-1]) if one == "wake"]
    assert len(after_wake) >= 50
    assert set(after_wake) == {"story"}

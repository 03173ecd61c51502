"""The proxy is killed in the middle of a move: after its start whoever does not know the new port is told."""

from __future__ import annotations

from pathlib import Path

import trio

from tests.ladders.flows import HUNG_UP, answered
from tests.ladders.moving import HOLD, REINVITED, TOLD, lose, only, prefer
from tests.ladders.restarts import gone
from tests.world import open_world, settle


async def test_killed_while_it_told_them(autojump_clock: object, tmp_path: Path) -> None:
    """The move and the CSeq numbers were written before the first re-INVITE left: nothing is asked of a node again,
    and the numbers go on."""
    async with open_world(nodes=2, state=tmp_path / "store") as world:
        prefer(world, "node1", "node2")
        ladder = await answered(world)
        await trio.sleep(1)
        await lose(world)
        await trio.sleep(0.2)
        await settle()
        first = world.last("caller", "INVITE").cseq[0]
        await ladder.play(REINVITED)
        before = len(world.nodes["node2"].requests)
        await world.restart()
        assert len([r for r in world.nodes["node2"].requests[before:] if r["command"] in ("offer", "answer")]) == 0
        await trio.sleep(0.3)
        assert world.last("caller", "INVITE").cseq[0] > first
        world.take()
        await ladder.play(TOLD.partition(REINVITED)[2])
        assert (only(world).node, only(world).move) == ("node2", None)
        await ladder.play(HOLD + HUNG_UP)
        await gone(world)

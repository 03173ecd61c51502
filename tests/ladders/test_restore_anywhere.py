"""`kill -9` after any message of a call's life: whatever was lost, nothing is left behind (`proxy.restore`)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import trio

from tests.ladder import Ladder
from tests.ladders.flows import ANSWERED, HUNG_UP
from tests.ladders.restarts import gone, rows
from tests.ladders.test_restore import HOLD
from tests.world import World, open_world, settle

LIFE = ANSWERED + HOLD + HUNG_UP


def pieces() -> list[str]:
    """The whole life of a call, cut before each message a party sends."""
    found = re.split(r"^(?= +(?:caller|callee|fs) -> edge)", LIFE, flags=re.MULTILINE)
    return [piece for piece in found if piece.strip()]


async def answer_everything(world: World, seconds: int) -> None:
    """Everybody answers every request with 200, for so long."""
    for _ in range(seconds):
        await settle()
        for packet in world.take():
            message, party = packet.message, world.parties[packet.to]
            if not message.status and message.method != "ACK":
                world.inject(party.name, message.response(200, tag=party.call(message.call_id).tag).encode())
        await trio.sleep(1)


@pytest.mark.parametrize("wait", [0.0, 0.1], ids=["at once", "written"])
@pytest.mark.parametrize("cut", range(1, len(pieces())))
async def test_nothing_is_left_behind(tmp_path: Path, autojump_clock: object, cut: int, wait: float) -> None:
    """After the restart everybody hangs up, as far as they know of a call; what nobody knows is found on the node."""
    async with open_world(node=True, state=tmp_path / "edge1.db") as world:
        ladder = Ladder(world)
        for piece in pieces()[:cut]:
            await ladder.play(piece)
        await trio.sleep(wait)
        world.take()
        await world.restart(down=0.5)
        restored = list(world.edge._sessions())
        assert [session.id for session in restored] == rows(world)
        for party in list(world.parties.values()):
            for call in party.calls.values():
                if "BYE" in call.sent and "BYE" not in call.replies:
                    world.inject(party.name, call.sent["BYE"].encode())  # nobody answered it: it is sent again
                elif call.dialog is not None and "BYE" not in (*call.sent, *call.got):
                    party.send(party.request(call.call_id, "BYE"))
        await answer_everything(world, 40)
        reconciler = world.edge.reconciler
        assert reconciler is not None and world.node is not None
        if restored:
            assert world.node.calls == {}, "a call that was listed deletes its media at its end, without any look"
        reconciler.interval = 5.0
        for _ in range(3):
            await reconciler.look()
            await trio.sleep(reconciler.interval)
        await gone(world)


def test_the_life_is_cut_everywhere() -> None:
    assert len(pieces()) == len(re.findall(r"-> edge", LIFE)) == 19

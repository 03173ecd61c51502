"""The proxy is killed while a media node dies, or in the middle of a move: the call goes on (`proxy.restore`)."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import trio

from proxy.store import OWED, Kept, Store
from tests.ladder import Ladder
from tests.ladders.flows import HUNG_UP, answered
from tests.ladders.moving import HOLD, REINVITED, TOLD, lose, only, prefer, sent_to, two_nodes
from tests.ladders.restarts import gone, rows
from tests.world import World, settle


@pytest.fixture
async def stored(file: Path, autojump_clock: object) -> AsyncGenerator[World, None]:
    """Two media nodes, and a store."""
    async with two_nodes(state=file) as world:  # type: ignore[arg-type]
        yield world


async def restart(world: World) -> None:
    """Killed and started again; new calls go to node1 first, then as now."""
    dead = set(world.dead)
    await world.restart(down=0.1)
    prefer(world, "node1", "node2")
    world.dead |= dead


async def ended(ladder: Ladder) -> None:
    """Hold and BYE work on the second node, and nothing is left, debts to the dead node aside."""
    world = ladder.world
    await ladder.play(HOLD + HUNG_UP)
    await gone(world)
    assert sent_to(world, "node2")[-1] == "delete"


async def test_the_node_dies_while_nobody_is_there(stored: World) -> None:
    """The watch finds it dead, as it would any node: the restored call moves."""
    ladder = await answered(stored)
    await trio.sleep(1)
    stored.nodes["node1"].stop()
    await restart(stored)
    assert len(list(stored.edge._sessions())) == 1
    assert await lose(stored) == 1
    await ladder.play(TOLD)
    await ended(ladder)
    assert stored.edge.pool.owed.count("node1") == len(rows(stored, OWED))


async def test_the_daemon_is_restarted_while_nobody_is_there(stored: World) -> None:
    """It answers, but knows no call: found by asking once, and anchored again, on the same node if that is best."""
    ladder = await answered(stored)
    await trio.sleep(1)
    stored.nodes["node1"].restart()
    await stored.restart(down=0.1)
    assert only(stored).ng_call_id == only(stored).id + ".2"
    await ladder.play(TOLD.replace("198.51.100.3", "198.51.100.*") + HUNG_UP)
    await gone(stored)


async def test_killed_while_our_reinvites_are_out(stored: World) -> None:
    """They may have been seen or not: both phones are told again, with higher numbers, and on the node that was
    committed."""
    ladder = await answered(stored)
    await trio.sleep(1)
    await lose(stored)
    await ladder.play(REINVITED)
    before = {name: stored.last(name, "INVITE").cseq[0] for name in ("caller", "callee")}
    await restart(stored)
    session = only(stored)
    assert (session.node, session.ng_call_id) == ("node2", session.id + ".2")
    await ladder.play(TOLD)
    assert all(stored.last(name, "INVITE").cseq[0] > number for name, number in before.items())
    assert sent_to(stored, "node2") == ["offer", "answer"], "nothing was asked again"
    await ended(ladder)


async def test_killed_before_they_leave(stored: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The move was committed; nobody had been told."""
    ladder = await answered(stored)
    await trio.sleep(1)
    commit = Store.commit

    async def stuck(store: Store, *sessions: Kept) -> bool:
        await commit(store, *sessions)
        await trio.sleep_forever()
        return True

    with monkeypatch.context() as patched:
        patched.setattr(Store, "commit", stuck)
        await lose(stored)
        await settle()
        assert stored.take() == []
    await restart(stored)
    await ladder.play(TOLD)
    await ended(ladder)


async def test_killed_when_one_side_knows(stored: World) -> None:
    """Only the other one has to be told."""
    ladder = await answered(stored)
    await trio.sleep(1)
    await lose(stored)
    await ladder.play(REINVITED)
    await ladder.play("""
        caller -> edge    200 OK (INVITE)
            sdp: alice
        edge -> caller    ACK
    """)  # fmt: skip
    await trio.sleep(0.1)
    await restart(stored)
    await ladder.play("""
        edge -> callee    INVITE  [B]
            sdp: 198.51.100.3:*
        callee -> edge    200 OK (INVITE)  [B]
            sdp: bob
        edge -> callee    ACK  [B]
    """)  # fmt: skip
    await ended(ladder)


async def test_killed_after_a_move(stored: World) -> None:
    """Nobody has to be told anything."""
    ladder = await answered(stored)
    await trio.sleep(1)
    await lose(stored)
    await ladder.play(TOLD)
    await trio.sleep(1)
    await restart(stored)
    session = only(stored)
    assert (session.node, session.moves, session.move) == ("node2", 1, None)
    await ended(ladder)


async def test_a_debt_of_a_moved_call_is_paid_after_a_restart(stored: World) -> None:
    """The old node was silent, not dead: it still has the call under its old call-id, and loses it when it is back."""
    ladder = await answered(stored)
    await trio.sleep(1)
    stored.nodes["node1"].pause()
    stored.dead.add("node1")
    assert stored.edge.mover is not None
    stored.edge.mover.node_lost("node1", "silent")
    await ladder.play(TOLD)
    await trio.sleep(5)
    assert len(rows(stored, OWED)) == 1
    stored.nodes["node1"].resume()
    await restart(stored)
    await trio.sleep(1)
    assert rows(stored, OWED) == [] and stored.nodes["node1"].calls == {}
    await ended(ladder)

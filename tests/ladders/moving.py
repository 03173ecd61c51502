"""Parts of call flows in which a media node dies: worlds with several nodes, and the calls that move."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio

from proxy.media.session import Session
from tests.ladder import Ladder
from tests.world import TALK, World, open_world, settle

REINVITED = """
    edge -> caller    INVITE sip:caller@203.0.113.8
        sdp: 198.51.100.3:*
    edge -> callee    INVITE sip:callee@203.0.113.9  [B]
        sdp: 198.51.100.3:*
"""
"""Both phones are told the second node."""

TOLD = (
    REINVITED
    + """
    caller -> edge    200 OK (INVITE)
        sdp: alice
    edge -> caller    ACK
    callee -> edge    200 OK (INVITE)  [B]
        sdp: bob
    edge -> callee    ACK  [B]
"""
)
"""And both accept it."""

HOLD = """
    caller -> edge    INVITE
        sdp: alice-hold
    edge -> caller    100 Trying
    edge -> fs        INVITE
        sdp: 198.51.100.3:*
    fs -> edge        100 Trying
    fs -> edge        INVITE  [B]
        sdp: fs A
    edge -> fs        100 Trying  [B]
    edge -> callee    INVITE  [B]
        sdp: 198.51.100.3:*
    callee -> edge    200 OK (INVITE)  [B]
        sdp: bob-held
    edge -> fs        200 OK (INVITE)  [B]
        sdp: 198.51.100.3:*
    fs -> edge        ACK  [B]
    edge -> callee    ACK  [B]
    fs -> edge        200 OK (INVITE)
        sdp: fs B
    edge -> caller    200 OK (INVITE)
        sdp: 198.51.100.3:*
    caller -> edge    ACK
    edge -> fs        ACK
"""
"""Alice holds the call, which is on the second node."""


@asynccontextmanager
async def two_nodes(text: str = TALK, *, number: int = 2, **options: str) -> AsyncGenerator[World, None]:
    """A world with several nodes whose new calls go to node1, then node2, ..."""
    async with open_world(text, nodes=number, **options) as world:
        prefer(world, *(f"node{one}" for one in range(1, number + 1)))
        yield world


def prefer(world: World, *names: str) -> None:
    """The order in which nodes are chosen from now on; those known to be dead (see `lose`) are not."""
    pool = world.edge.pool
    world.dead.clear()

    def choose(session_id: str, now: float, *, without: str | None = None, **_: object) -> list[str]:
        return [name for name in names if name != without and name not in world.dead]

    pool.choose = choose  # type: ignore[method-assign]


async def lose(world: World, name: str = "node1") -> int:
    """The node dies, and the edge is told so."""
    world.dead.add(name)
    world.nodes[name].stop()
    world.nodes[name].restart()  # nothing of it is left
    assert world.edge.mover is not None
    moving = world.edge.mover.node_lost(name, "killed by the test")
    await settle()
    return moving


def only(world: World) -> Session:
    """The one session there is."""
    (session,) = world.edge._sessions()
    return session


def sent_to(world: World, name: str) -> list[str]:
    """The commands about calls that a node has executed."""
    return [one["command"] for one in world.nodes[name].requests if one["command"] in ("offer", "answer", "delete")]


async def over(ladder: Ladder, seconds: float = 70.0) -> None:
    """Everything has ended, nothing is left anywhere."""
    world = ladder.world
    await world.over(seconds)
    assert world.edge.mover is not None
    assert not world.edge.mover._batches and not world.edge.mover._asking
    await trio.lowlevel.checkpoint()

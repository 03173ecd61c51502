"""What the tests of restarts share: a look into the store, and calls that have to be gone altogether."""

from __future__ import annotations

import sqlite3

from proxy.store import SESSIONS
from tests.ladders.test_endings import answer_byes, byes
from tests.world import World


def rows(world: World, table: str = SESSIONS) -> list[str]:
    """Keys in the file, as another process sees them."""
    assert world.state is not None
    connection = sqlite3.connect(world.state)
    try:
        return [key for (key,) in connection.execute(f"SELECT key FROM {table} ORDER BY number")]
    finally:
        connection.close()


async def gone(world: World) -> None:
    """The call is over in every respect, in the store as well."""
    await world.over()
    assert rows(world) == []
    assert world.edge.anchor is not None and world.edge.anchor.table.address_count == 0


async def hung_up_by_us(world: World, why: str) -> None:
    """All four ends got a BYE with this in its Reason; they answer, and nothing is left."""
    found = byes(world)
    assert [(who, call) for who, call, _ in found] == [("callee", "B"), ("caller", "A"), ("fs", "A"), ("fs", "B")]
    assert all(why in reason for _, _, reason in found)
    await answer_byes(world)
    await gone(world)

"""Worlds with a store, for calls that go through a restart."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from tests.world import DIRECT, World, open_world


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "edge1.db"


@pytest.fixture
async def stored(file: Path, autojump_clock: object) -> AsyncGenerator[World, None]:
    """With FreeSWITCH, media on a fake node, and a store."""
    async with open_world(node=True, state=file) as made:
        yield made


@pytest.fixture
async def direct_stored(file: Path, autojump_clock: object) -> AsyncGenerator[World, None]:
    """Without FreeSWITCH, with media and a store."""
    async with open_world(DIRECT, node=True, state=file) as made:
        yield made

"""Worlds for ladders: the talk's deployment, the same without FreeSWITCH, with media on a fake rtpengine."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from tests.world import DIRECT, World, open_world


@pytest.fixture
async def world(autojump_clock: object) -> AsyncGenerator[World, None]:
    """Public and LAN socket, one FreeSWITCH, user 1000, a carrier; no media."""
    async with open_world() as made:
        yield made


@pytest.fixture
async def direct(autojump_clock: object) -> AsyncGenerator[World, None]:
    """Without FreeSWITCH; no media."""
    async with open_world(DIRECT) as made:
        yield made


@pytest.fixture
async def media(autojump_clock: object) -> AsyncGenerator[World, None]:
    """With FreeSWITCH, media on a fake node whose interfaces are 198.51.100.2 and 10.0.0.2."""
    async with open_world(node=True) as made:
        yield made


@pytest.fixture
async def direct_media(autojump_clock: object) -> AsyncGenerator[World, None]:
    """Without FreeSWITCH, with media."""
    async with open_world(DIRECT, node=True) as made:
        yield made

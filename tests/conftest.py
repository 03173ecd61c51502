"""Fixtures many tests share. What one package alone needs lives in that package's own conftest."""

import resource
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.world import DIRECT, World, open_world


def pytest_configure() -> None:
    """No core files in the checkout: rtpengine 10.5 with recording crashes now and then while it shuts down."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


@pytest.fixture
def repository() -> Path:
    """The root of this repository."""
    return Path(__file__).resolve().parent.parent


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test gets virtual time also when only a fixture of it asks for `autojump_clock`; pytest-trio looks at the
    test's own arguments alone."""
    for item in items:
        if isinstance(item, pytest.Function) and "autojump_clock" in item.fixturenames:
            item.add_marker(pytest.mark.trio(run=_in_virtual_time), append=False)


def _in_virtual_time(main: Any, *, clock: Any, instruments: Sequence[Any]) -> Any:
    return trio.run(main, clock=clock or MockClock(autojump_threshold=0.0), instruments=instruments)


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

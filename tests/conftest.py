"""Fixtures many tests share. What one package alone needs lives in that package's own conftest."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock


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

"""Fixtures of the lab's tests."""

from __future__ import annotations

import pytest

from tests.lab.stories import sleeping_edge, sleeping_switch


@pytest.fixture
def no_edge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.proxy.edge", sleeping_edge)
    monkeypatch.setattr("lab.switch.switch", sleeping_switch)

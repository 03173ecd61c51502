"""Fixtures many tests share. What one package alone needs lives in that package's own conftest."""

from pathlib import Path

import pytest


@pytest.fixture
def repository() -> Path:
    """The root of this repository."""
    return Path(__file__).resolve().parent.parent

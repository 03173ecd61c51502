"""Fixtures of the contract tests: every test runs against the fake node and against a real daemon."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TypeAlias

import pytest

from ng_protocol import Client, open_client
from tests.fake_rtpengine import fake_node
from tests.ng_protocol.contract import PORTS, Dialog
from tests.ng_protocol.daemon import INTERFACES, rtpengine

SpecialNode: TypeAlias = Callable[..., AbstractAsyncContextManager[str]]


@pytest.fixture(params=["fake", pytest.param("daemon", marks=pytest.mark.real)])
def kind(request: pytest.FixtureRequest) -> str:
    """Which of the two answers."""
    return str(request.param)


@pytest.fixture(scope="module")
def daemon_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One daemon per module."""
    with rtpengine(tmp_path_factory.mktemp("rtpengine") / "daemon.log", ports=PORTS) as address:
        yield address


@pytest.fixture
async def client(kind: str, request: pytest.FixtureRequest) -> AsyncGenerator[Client, None]:
    """A client of the node under test."""
    if kind == "daemon":
        async with open_client(request.getfixturevalue("daemon_address"), name=kind) as client:
            yield client
    else:
        async with fake_node(interfaces=INTERFACES, ports=PORTS) as node, open_client(node.address) as client:
            yield client


@pytest.fixture
def dialog(client: Client) -> Dialog:
    """A call nobody has heard of yet."""
    return Dialog(client, f"call-{secrets.token_hex(6)}")


@pytest.fixture
def special_node(kind: str, tmp_path: Path) -> SpecialNode:
    """A context manager: the address of a node of one's own, with ``ports`` and ``max_sessions``."""

    @asynccontextmanager
    async def start(*, ports: tuple[int, int] = PORTS, max_sessions: int = -1) -> AsyncGenerator[str, None]:
        if kind == "daemon":
            with rtpengine(tmp_path / "daemon.log", ports=ports, max_sessions=max_sessions) as address:
                yield address
        else:
            async with fake_node(interfaces=INTERFACES, ports=ports, max_sessions=max_sessions) as node:
                yield node.address

    return start

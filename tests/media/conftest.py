"""Fixtures: a stage on the fake node, and on the real rtpengine when there is one."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import AsyncGenerator, Generator

import pytest
import trio

from tests.fake_rtpengine import FakeNode, fake_node
from tests.media.ladder import Stage


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture(scope="session")
def real_node() -> Generator[str, None, None]:
    """Address of a running rtpengine with the interfaces pub (127.0.0.1) and lan (127.0.0.2)."""
    program = shutil.which("rtpengine")
    if program is None:
        pytest.fail("rtpengine is not installed; install it (apt: rtpengine-daemon) or deselect with -m 'not real'")
    port = _free_port()
    command = [
        program, "--config-file=none", "--table=-1", "--interface=pub/127.0.0.1", "--interface=lan/127.0.0.2",
        f"--listen-ng=127.0.0.1:{port}", "--port-min=43000", "--port-max=44999", "--foreground", "--log-stderr",
        "--log-level=1", "--num-threads=1", "--delete-delay=0",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _wait_for(port, process)
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 10
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.1)
        sock.connect(("127.0.0.1", port))
        while time.monotonic() < deadline and process.poll() is None:
            try:
                sock.send(b"hello d7:command4:pinge")
                sock.recv(100)
                return
            except (ConnectionRefusedError, TimeoutError):
                continue
    raise RuntimeError(f"rtpengine does not answer on 127.0.0.1:{port}")


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.real)])
async def stage(request: pytest.FixtureRequest) -> AsyncGenerator[Stage, None]:
    """An anchor with one node; the test runs on the fake and on the real daemon."""
    async with fake_node() as fake, trio.open_nursery() as nursery:
        address = request.getfixturevalue("real_node") if request.param == "real" else fake.address
        made = Stage({"node1": address}, nursery)
        for client in made.clients.values():
            await nursery.start(client.run)
        yield made
        nursery.cancel_scope.cancel()


@pytest.fixture
async def node() -> AsyncGenerator[FakeNode, None]:
    async with fake_node() as running:
        yield running

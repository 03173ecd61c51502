"""The watch over a real rtpengine that is killed, restarted and stopped: what the daemon does is what is relied on."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from ng_protocol import Client, Delete
from proxy.media.nodes import Node, NodeEvent, Observed
from proxy.media.pool import Pool
from proxy.media.watch import Watch

pytestmark = pytest.mark.real


class Daemon:
    """One rtpengine on a port of its own, killed and started as a test likes."""

    def __init__(self, log: Path) -> None:
        program = shutil.which("rtpengine")
        assert program is not None, "no rtpengine on this machine: install the package rtpengine-daemon"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        self._log = log
        self._command = [
            program, "--config-file=none", "--table=-1", "--foreground", "--log-stderr", "--log-level=5",
            "--interface=pub/127.0.0.1", "--interface=lan/127.0.0.2", f"--listen-ng={self.address}",
            "--port-min=46000", "--port-max=46999", "--num-threads=1", "--delete-delay=0",
        ]  # fmt: skip
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as out:
            self.process = subprocess.Popen(self._command, stdout=out, stderr=out)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)


class Stage:
    """A daemon and the watch over it. `told`: what the mover heard."""

    def __init__(self, daemon: Daemon, pool: Pool, watch: Watch) -> None:
        self.daemon, self.pool, self.watch = daemon, pool, watch
        self.events: list[NodeEvent] = []
        self._changed = trio.Event()
        pool.events.append(self._take)

    def _take(self, event: NodeEvent) -> None:
        self.events.append(event)
        self._changed.set()
        self._changed = trio.Event()

    @property
    def node(self) -> Node:
        return self.pool.nodes["node1"]

    async def event(self, beginning: str, within: float) -> float:
        """Seconds until an event that begins so; earlier ones are dropped."""
        start = trio.current_time()
        with trio.move_on_after(within):
            while True:
                while self.events:
                    if self.events.pop(0).what.startswith(beginning):
                        return trio.current_time() - start
                await self._changed.wait()
        raise AssertionError(f"no event {beginning!r} within {within} s")

    async def canary(self) -> None:
        """Until the canary is heard."""
        with trio.fail_after(5.0):
            while not self.watch.watched["node1"].pulse.canary_heard(trio.current_time()):  # noqa: ASYNC110
                await trio.sleep(0.02)


@asynccontextmanager
async def watched(folder: Path) -> AsyncGenerator[Stage, None]:
    daemon = Daemon(folder / "rtpengine.log")
    daemon.start()
    try:
        async with trio.open_nursery() as clients:
            client = Client(daemon.address, name="node1")
            await clients.start(client.run)
            pool = Pool({"node1": client})
            stage = Stage(daemon, pool, Watch(pool, instance="test", interface="lan"))
            async with trio.open_nursery() as nursery:
                await nursery.start(stage.watch.run)
                await stage.canary()
                while stage.node.observed is not Observed.UP:  # noqa: ASYNC110
                    await trio.sleep(0.02)
                stage.events.clear()
                yield stage
                nursery.cancel_scope.cancel()
            clients.cancel_scope.cancel()
    finally:
        if daemon.process is not None and daemon.process.poll() is None:
            daemon.process.kill()
            daemon.process.wait()


async def test_a_killed_daemon_and_its_return(tmp_path: Path) -> None:
    async with watched(tmp_path) as s:
        s.daemon.kill()
        assert await s.event("down: nothing listens", within=1.0) <= 0.5
        s.daemon.start()
        await s.event("restarted", within=5.0)
        assert s.node.observed is Observed.UP and s.node.generation == 1
        await s.canary()


async def test_a_restart_between_two_pings(tmp_path: Path) -> None:
    """As fast as the daemon starts; its calls are gone, and it is found out before any caller could tell."""
    async with watched(tmp_path) as s:
        s.daemon.kill()
        s.daemon.start()
        assert await s.event("restarted", within=5.0) <= 2.0
        await s.canary()


async def test_a_stall_is_nothing_and_a_hang_is_down(tmp_path: Path) -> None:
    async with watched(tmp_path) as s:
        s.daemon.signal(signal.SIGSTOP)
        await trio.sleep(0.3)
        s.daemon.signal(signal.SIGCONT)
        await s.canary()
        await trio.sleep(0.2)
        assert s.node.observed is Observed.UP and not any("down" in event.what for event in s.events)
        s.daemon.signal(signal.SIGSTOP)
        assert 0.4 <= await s.event("down: neither", within=3.0) <= 1.2
        s.daemon.signal(signal.SIGCONT)
        await s.event("up", within=3.0)
        assert s.node.generation == 0


async def test_a_canary_that_somebody_deleted(tmp_path: Path) -> None:
    """Known from the uptime to be no restart, once the canary is older than two seconds."""
    async with watched(tmp_path) as s:
        await trio.sleep(2.2)
        await s.node.client.request(Delete(call_id="test-canary-node1", delete_delay=0))
        await trio.sleep(0.6)
        await s.canary()
        assert s.events == [] and s.node.generation == 0

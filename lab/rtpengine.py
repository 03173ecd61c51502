"""rtpengine nodes: started as operators start them, asked over their own control socket.

Theory of operation. One process per node, in the edge's namespace or on a host of its own (`Shape.nodes`), interfaces
`pub` and `lan`, userspace only
(`--table=-1`), no configuration file (Debian's binds an ng port of its own) and the daemon's *default* `delete-delay`
of 30 s: an edge that forgets `delete-delay: 0` leaves calls behind, and `calls()` shows them. The client here is a
datagram and a reply ("cookie SP JSON", which the daemon takes since 10.3, ng_control_protocol.md): it shares neither
code nor encoding with the client under test. `kill`, `restart` and `cut` are the accidents of the failover scenarios; a
daemon started again has the same addresses and knows nothing.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from lab import faults
from lab.faults import RTP_PORTS, Cut
from lab.namespace import LabError, udp_socket
from lab.process import Daemon
from lab.topology import Network, NodeHost

CANARY = "-canary-"
"""In the ng call-ids of an edge's own standing calls, one per node: no call of anybody's."""


def version() -> str | None:
    """What `rtpengine --version` says ("10.5.3.5-1+deb12u1"), or None when it is not installed."""
    if shutil.which("rtpengine") is None:
        return None
    said = subprocess.run(["rtpengine", "--version"], capture_output=True, text=True, check=False)
    return (said.stdout + said.stderr).strip().removeprefix("Version:").strip() or "unknown version"


class Node:
    """A running node. `address` is "ip:port" of its control socket, as the edge's configuration wants it; `daemon` the
    process that runs at present."""

    def __init__(self, name: str, host: NodeHost, namespace: str, folder: Path, argv: Sequence[str]) -> None:
        self.name, self.host, self._namespace, self._folder, self._argv = name, host, namespace, folder, list(argv)
        self._address = host.control
        self._cookies = self._starts = 0
        self.daemon = self._spawn()

    def _spawn(self) -> Daemon:
        self._starts += 1
        label = f"rtpengine-{self.name}" + (f"-{self._starts}" if self._starts > 1 else "")
        try:
            return Daemon(label, self._argv, self._namespace, self._folder / f"{label}.log", None)
        except FileNotFoundError as error:
            raise LabError(f"cannot start {label}: {error.filename} is not installed") from error

    @property
    def address(self) -> str:
        """Where its ng socket is."""
        return f"{self._address[0]}:{self._address[1]}"

    async def command(self, command: str, seconds: float = 2.0, **arguments: object) -> dict[str, Any] | None:
        """One ng command; None when nothing answers within `seconds`."""
        self._cookies += 1
        cookie = b"lab-%d-%d" % (id(self), self._cookies)
        raw = await trio.to_thread.run_sync(udp_socket, self._namespace, self.host.asked_from)
        with trio.socket.from_stdlib_socket(raw) as sock, trio.move_on_after(seconds):
            try:
                await sock.connect(self._address)
                await sock.send(cookie + b" " + json.dumps({"command": command, **arguments}).encode())
                while True:
                    got, _, body = (await sock.recv(65535)).partition(b" ")
                    if got == cookie:
                        return _decode(body)
            except ConnectionRefusedError:
                return None
        return None

    async def answers(self) -> bool:
        """Whether it answers a ping."""
        reply = await self.command("ping", seconds=0.2)
        return reply is not None and reply.get("result") == "pong"

    async def kill(self) -> None:
        """SIGKILL; returns when the kernel has closed its sockets."""
        await self.daemon.kill()

    async def restart(self, *arguments: str) -> None:
        """End it with SIGKILL if it runs, and start it again on the same addresses, with more `arguments` if given.
        Ready when this returns."""
        await self.daemon.kill()
        await self.daemon.stop()
        self._argv += arguments
        self.daemon = self._spawn()
        await self.daemon.ready(self.answers)

    async def cut(self, what: Cut) -> None:
        """Drop all its packets, or those of its control socket, or its RTP (only with a host of its own)."""
        await faults.cut(self._namespace, what, self._address[1])

    async def heal(self) -> None:
        """Undo `cut`."""
        await faults.heal(self._namespace)

    async def crossed(self) -> int:
        """RTP packets it has sent to another media host (only with hosts of their own)."""
        return await faults.crossed(self._namespace)

    async def calls(self) -> list[str]:
        """The call-ids it holds, those waiting for their delayed deletion included. Raises LabError when it does not
        answer."""
        reply = await self.command("list", limit=10_000)
        if reply is None:
            raise LabError(f"rtpengine {self.name} does not answer `list`")
        return [str(call) for call in reply.get("calls", [])]

    async def live_calls(self) -> list[str]:
        """The same without the edge's canaries."""
        return [call for call in await self.calls() if CANARY not in call]

    async def query(self, call_id: str) -> dict[str, Any]:
        """What it says about one call. Raises LabError when it does not answer."""
        reply = await self.command("query", 2.0, **{"call-id": call_id})
        if reply is None:
            raise LabError(f"rtpengine {self.name} does not answer `query`")
        return reply


def _decode(body: bytes) -> dict[str, Any]:
    reply = json.loads(body)
    if not isinstance(reply, dict):
        raise LabError(f"rtpengine sent something that is no dictionary: {body[:80]!r}")
    return reply


@asynccontextmanager
async def node(
    network: Network, folder: Path, name: str = "node1", number: int = 0, *arguments: str
) -> AsyncIterator[Node]:
    """Run node `number` (0, 1...) of a scenario: on its own host, or on the edge's with an ng port and RTP ports of its
    own. `arguments` go to the daemon."""
    host = network.node_host(number)
    alone = host.role != "edge"
    first, last = RTP_PORTS if alone else (30_000 + 2_000 * number, 31_999 + 2_000 * number)
    argv = [
        "rtpengine",
        "--config-file=none",
        "--table=-1",
        "--foreground",
        "--log-stderr",
        "--log-level=6",
        "--no-redis-required",
        "--num-threads=2",
        f"--interface=pub/{host.public}",
        f"--interface=lan/{host.lan}",
        f"--listen-ng={host.control[0]}:{host.control[1]}",
        f"--port-min={first}",
        f"--port-max={last}",
        *arguments,
    ]
    namespace = network.ns(host.role)
    if alone and (others := network.media_addresses - {host.public}):
        await faults.watch_crossing(namespace, sorted(others))
    running = Node(name, host, namespace, folder, argv)
    try:
        await running.daemon.ready(running.answers)
        yield running
    finally:
        await running.daemon.stop()

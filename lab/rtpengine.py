"""rtpengine nodes: started as operators start them, asked over their own control socket.

Theory of operation. One process per node in the edge's namespace, interfaces `pub` and `lan`, userspace only
(`--table=-1`), no configuration file (Debian's binds an ng port of its own) and the daemon's *default* `delete-delay`
of 30 s: an edge that forgets `delete-delay: 0` leaves calls behind, and `calls()` shows them. The client here is a
datagram and a reply ("cookie SP JSON", which the daemon takes since 10.3, ng_control_protocol.md): it shares neither
code nor encoding with the client under test.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from lab.namespace import LabError, udp_socket
from lab.process import Daemon, daemon
from lab.topology import EDGE_LAN, EDGE_PUBLIC, Network

FIRST_NG_PORT = 2223


CANARY = "-canary-"
"""In the ng call-ids of an edge's own standing calls, one per node: no call of anybody's."""


def version() -> str | None:
    """What `rtpengine --version` says ("10.5.3.5-1+deb12u1"), or None when it is not installed."""
    if shutil.which("rtpengine") is None:
        return None
    said = subprocess.run(["rtpengine", "--version"], capture_output=True, text=True, check=False)
    return (said.stdout + said.stderr).strip().removeprefix("Version:").strip() or "unknown version"


class Node:
    """A running node. `address` is "ip:port" of its control socket, as the edge's configuration wants it."""

    def __init__(self, name: str, address: tuple[str, int], namespace: str, child: Daemon) -> None:
        self.name, self.daemon, self._address, self._namespace = name, child, address, namespace
        self._cookies = 0

    @property
    def address(self) -> str:
        """Where its ng socket is."""
        return f"{self._address[0]}:{self._address[1]}"

    async def command(self, command: str, seconds: float = 2.0, **arguments: object) -> dict[str, Any] | None:
        """One ng command; None when nothing answers within `seconds`."""
        self._cookies += 1
        cookie = b"lab-%d-%d" % (id(self), self._cookies)
        raw = await trio.to_thread.run_sync(udp_socket, self._namespace, "127.0.0.1")
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
async def node(network: Network, folder: Path, name: str = "node1", number: int = 0) -> AsyncIterator[Node]:
    """Run node `number` (0, 1...) of a scenario: its own ng port on 127.0.0.1 of the edge's namespace and its own RTP
    ports."""
    address = ("127.0.0.1", FIRST_NG_PORT + number)
    first = 30_000 + 2_000 * number
    argv = [
        "rtpengine",
        "--config-file=none",
        "--table=-1",
        "--foreground",
        "--log-stderr",
        "--log-level=6",
        "--no-redis-required",
        "--num-threads=2",
        f"--interface=pub/{EDGE_PUBLIC}",
        f"--interface=lan/{EDGE_LAN}",
        f"--listen-ng={address[0]}:{address[1]}",
        f"--port-min={first}",
        f"--port-max={first + 1_999}",
    ]
    async with daemon(f"rtpengine-{name}", argv, folder=folder, namespace=network.ns("edge")) as child:
        running = Node(name, address, network.ns("edge"), child)
        await child.ready(running.answers)
        yield running

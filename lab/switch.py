"""The B2BUAs of a scenario: FreeSWITCH where it is installed, and the stand-in that behaves like it.

Theory of operation. A `Switch` is one process in the LAN namespace on an address of its own, port 5060, that sends
its second legs to the edge's LAN socket. Ready means that it answers OPTIONS. `kinds()` says what this machine can
run.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum
from pathlib import Path

import trio

from lab.namespace import udp_socket
from lab.process import Daemon, daemon, python_environment, python_module
from lab.sip import Message
from lab.topology import B2BUA_LAN, EDGE_LAN, Network

SIP_PORT = 5060
EDGE_LAN_PORT = 5080


class Kind(StrEnum):
    """What plays the B2BUA."""

    STAND_IN = "stand-in"
    FREESWITCH = "freeswitch"


def freeswitch_binary() -> str | None:
    """The FreeSWITCH on this machine, or None."""
    return shutil.which("freeswitch") or shutil.which(
        "freeswitch", path="/usr/local/freeswitch/bin:/opt/freeswitch/bin"
    )


def kinds() -> list[Kind]:
    """What can run here; the stand-in always."""
    return [Kind.FREESWITCH, Kind.STAND_IN] if freeswitch_binary() else [Kind.STAND_IN]


class Switch:
    """A running B2BUA at `address` (ip, port)."""

    def __init__(self, name: str, address: tuple[str, int], network: Network, child: Daemon) -> None:
        self.name, self.address, self.daemon, self._network = name, address, child, network

    async def answers(self) -> bool:
        """Whether it answers OPTIONS with anything."""
        raw = await trio.to_thread.run_sync(udp_socket, self._network.ns("edge"), EDGE_LAN)
        with trio.socket.from_stdlib_socket(raw) as sock, trio.move_on_after(0.3):
            try:
                await sock.connect(self.address)
                await sock.send(_options(self.address, sock.getsockname()).encode())
                return (await sock.recv(65535)).startswith(b"SIP/2.0")
            except ConnectionRefusedError:
                await trio.sleep(0.02)
        return False


def _options(target: tuple[str, int], local: tuple[str, int]) -> Message:
    out = Message(method="OPTIONS", uri=f"sip:{target[0]}:{target[1]}")
    out.headers += [
        ("Via", f"SIP/2.0/UDP {local[0]}:{local[1]};branch=z9hG4bKprobe{local[1]};rport"),
        ("Max-Forwards", "70"),
        ("From", f"<sip:probe@{local[0]}>;tag=probe"),
        ("To", f"<{out.uri}>"),
        ("Call-ID", f"probe-{local[1]}@{local[0]}"),
        ("CSeq", "1 OPTIONS"),
    ]
    return out


@asynccontextmanager
async def switch(network: Network, folder: Path, kind: Kind, number: int = 0) -> AsyncIterator[Switch]:
    """Run B2BUA `number` (0, 1) for the length of the block."""
    name = f"fs{number + 1}"
    address = (B2BUA_LAN[number], SIP_PORT)
    argv = python_module("lab.b2bua", "--listen", f"{address[0]}:{SIP_PORT}", "--edge", f"{EDGE_LAN}:{EDGE_LAN_PORT}")
    async with daemon(name, argv, folder=folder, namespace=network.ns("lan"), env=python_environment()) as child:
        running = Switch(name, address, network, child)
        await child.ready(running.answers, seconds=20.0)
        yield running

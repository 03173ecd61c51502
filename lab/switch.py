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

from lab.probe import speaks_sip
from lab.process import Daemon, daemon, python_environment, python_module
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
        return await speaks_sip(self._network.ns("edge"), EDGE_LAN, self.address)


@asynccontextmanager
async def switch(network: Network, folder: Path, kind: Kind, number: int = 0) -> AsyncIterator[Switch]:
    """Run B2BUA `number` (0, 1) for the length of the block."""
    name = f"fs{number + 1}"
    address = (B2BUA_LAN[number], SIP_PORT)
    argv = python_module(
        "lab.b2bua",
        "--3pcc-proxy",
        "--callid-as-uuid",
        "--listen",
        f"{address[0]}:{SIP_PORT}",
        "--edge",
        f"{EDGE_LAN}:{EDGE_LAN_PORT}",
    )
    async with daemon(name, argv, folder=folder, namespace=network.ns("lan"), env=python_environment()) as child:
        running = Switch(name, address, network, child)
        await child.ready(running.answers, seconds=20.0)
        yield running

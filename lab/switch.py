"""The B2BUAs of a scenario: FreeSWITCH where it is installed, and the stand-in that behaves like it.

Theory of operation. A `Switch` is one process in the LAN namespace on an address of its own, port 5060, that sends
its second legs to the edge's LAN socket. Ready means that it answers OPTIONS with 200. FreeSWITCH runs with the example
configuration of `lab/freeswitch/`: `configure` copies it into the run's folder and fills in `vars.xml`, nothing else.
`kinds()` says what this machine can run.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from enum import StrEnum
from pathlib import Path

import trio

from lab.namespace import LabError
from lab.probe import options
from lab.process import Daemon, daemon, python_environment, python_module
from lab.sip import Address
from lab.topology import B2BUA_LAN, EDGE_LAN, Network

SIP_PORT = 5060
EDGE_LAN_PORT = 5080
EXAMPLE = Path(__file__).parent / "freeswitch"
"""The example configuration, as an operator gets it."""
EVENT_SOCKET_PASSWORD = "lab-event-socket"
CALL_TIMEOUT = 60
"""Seconds a callee may ring, the same for both kinds."""


class Kind(StrEnum):
    """What plays the B2BUA."""

    STAND_IN = "stand-in"
    FREESWITCH = "freeswitch"


def freeswitch_binary() -> str | None:
    """The FreeSWITCH on this machine, or None."""
    return shutil.which("freeswitch") or shutil.which(
        "freeswitch", path="/usr/local/freeswitch/bin:/opt/freeswitch/bin"
    )


def freeswitch_version() -> str | None:
    """What `freeswitch -version` says ("1.10.12-release"), or None when it is not installed."""
    binary = freeswitch_binary()
    if binary is None:
        return None
    said = subprocess.run([binary, "-version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"FreeSWITCH version: (\S+?)(?:~\S*)?\s", said)
    return found[1] if found else "unknown version"


def kinds() -> list[Kind]:
    """What can run here; the stand-in always."""
    return [Kind.FREESWITCH, Kind.STAND_IN] if freeswitch_binary() else [Kind.STAND_IN]


class Switch:
    """A running B2BUA at `address` (ip, port)."""

    def __init__(self, name: str, address: Address, network: Network, child: Daemon) -> None:
        self.name, self.address, self.daemon, self._network = name, address, child, network

    async def answers(self) -> bool:
        """Whether it answers OPTIONS with 200: a FreeSWITCH that is not yet ready for calls says 503."""
        return await options(self._network.ns("edge"), EDGE_LAN, self.address) == 200


def variables(address: str) -> dict[str, str]:
    """What `vars.xml` has to say for a FreeSWITCH on that address of the LAN."""
    return {
        "fs_ip": address,
        "edge_port": str(EDGE_LAN_PORT),
        "edge_cidr": f"{EDGE_LAN}/32",
        "event_socket_password": EVENT_SOCKET_PASSWORD,
        "call_timeout": str(CALL_TIMEOUT),
    }


def configure(folder: Path, values: Mapping[str, str]) -> None:
    """Copy the example configuration to `folder` and set its variables. Raises LabError when `vars.xml` has other
    variables than `values`."""
    shutil.copytree(EXAMPLE, folder)
    file = folder / "vars.xml"
    text = file.read_text(encoding="utf-8")
    known = re.findall(r'cmd="set" data="(\w+)=', text)
    if sorted(known) != sorted(values):
        raise LabError(f"{EXAMPLE / 'vars.xml'} sets {', '.join(known)}; the lab knows {', '.join(values)}")
    for name, value in values.items():
        text = re.sub(rf'(cmd="set" data="{name}=)[^"]*"', rf'\g<1>{value}"', text)
    file.write_text(text, encoding="utf-8")


def _stand_in(address: Address) -> list[str]:
    listen, edge = f"{address[0]}:{address[1]}", f"{EDGE_LAN}:{EDGE_LAN_PORT}"
    options = ["--3pcc-proxy", "--callid-as-uuid", "--call-timeout", str(CALL_TIMEOUT)]
    return python_module("lab.b2bua", *options, "--listen", listen, "--edge", edge)


def _freeswitch(address: Address, folder: Path) -> list[str]:
    binary = freeswitch_binary()
    if binary is None:
        raise LabError("there is no freeswitch binary on this machine")
    configure(folder / "conf", variables(address[0]))
    places = {"conf": "conf", "log": "log", "run": "run", "db": "db", "storage": "storage", "recordings": "recordings"}
    argv = [binary, "-nonat", "-nf", "-nc", "-np"]  # -np: no real-time priority, the edge is on the same cores
    for option, name in places.items():
        (folder / name).mkdir(exist_ok=True)
        argv += [f"-{option}", str(folder / name)]
    return argv


@asynccontextmanager
async def switch(network: Network, folder: Path, kind: Kind, number: int = 0) -> AsyncIterator[Switch]:
    """Run B2BUA `number` (0, 1) for the length of the block; a FreeSWITCH keeps everything below `folder/fs1`,
    `folder/fs2`. Raises LabError."""
    name = f"fs{number + 1}"
    address = (B2BUA_LAN[number], SIP_PORT)
    if kind is Kind.FREESWITCH:
        home = folder / name
        home.mkdir(exist_ok=True)
        argv = await trio.to_thread.run_sync(_freeswitch, address, home)
    else:
        argv = _stand_in(address)
    async with daemon(name, argv, folder=folder, namespace=network.ns("lan"), env=python_environment()) as child:
        running = Switch(name, address, network, child)
        await child.ready(running.answers, seconds=30.0)
        yield running

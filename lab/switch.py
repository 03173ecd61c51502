"""The B2BUAs of a scenario: FreeSWITCH where it is installed, and the stand-in that behaves like it.

Theory of operation. A `Switch` is one process in the LAN namespace on an address of its own, port 5060, that sends
its second legs to the edge's LAN socket. FreeSWITCH runs the example configuration of `lab/freeswitch/`, copied with
this network's addresses filled in. Ready means that it answers OPTIONS *and* that the process is the program asked
for: the two answer alike, and a verdict that names one must not come from the other. `kinds()` says what this machine
can run.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum
from pathlib import Path

from lab.namespace import LabError
from lab.probe import speaks_sip
from lab.process import Daemon, daemon, python_environment, python_module
from lab.topology import B2BUA_LAN, EDGE_LAN, Network

SIP_PORT = 5060
EDGE_LAN_PORT = 5080
EXAMPLE = Path(__file__).with_name("freeswitch")
"""The example configuration of FreeSWITCH."""


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
        """Whether it answers OPTIONS and does not say 503."""
        return await speaks_sip(self._network.ns("edge"), EDGE_LAN, self.address)


@asynccontextmanager
async def switch(network: Network, folder: Path, kind: Kind, number: int = 0) -> AsyncIterator[Switch]:
    """Run B2BUA `number` (0, 1) of that kind for the length of the block; `folder` must be absolute.

    Raises LabError when it does not come up, or when something else than `kind` did.
    """
    name = f"fs{number + 1}"
    address = (B2BUA_LAN[number], SIP_PORT)
    if kind is Kind.FREESWITCH:
        argv = _freeswitch(folder / name, address[0])
    else:
        argv = _stand_in(address[0])
    async with daemon(name, argv, folder=folder, namespace=network.ns("lan"), env=python_environment()) as child:
        running = Switch(name, address, network, child)
        await child.ready(running.answers, seconds=30.0)
        _insist(kind, child)
        yield running


def _stand_in(address: str) -> list[str]:
    settings = ("--3pcc-proxy", "--callid-as-uuid")  # as lab/freeswitch/ sets them
    listen, edge = f"{address}:{SIP_PORT}", f"{EDGE_LAN}:{EDGE_LAN_PORT}"
    return python_module("lab.b2bua", *settings, "--listen", listen, "--edge", edge)


def _freeswitch(home: Path, address: str) -> list[str]:
    """Copy the example configuration to `home`/conf, put this network's addresses in, and give the command line."""
    binary = freeswitch_binary()
    if binary is None:
        raise LabError("there is no freeswitch binary on this machine")
    shutil.copytree(EXAMPLE, home / "conf")
    variables = home / "conf" / "vars.xml"
    variables.write_text(with_values(variables.read_text(encoding="utf-8"), address), encoding="utf-8")
    folders: list[str] = []
    for option in ("log", "run", "db"):
        (home / option).mkdir()
        folders += [f"-{option}", str(home / option)]
    return [binary, "-nonat", "-nf", "-nc", "-conf", str(home / "conf"), *folders]


def with_values(text: str, address: str) -> str:
    """`vars.xml` with the values of this network. Raises LabError when a variable is not in it (any more)."""
    values = {"fs_ip": address, "edge_port": str(EDGE_LAN_PORT), "edge_cidr": f"{EDGE_LAN}/32"}
    for name, value in values.items():
        text, found = re.subn(rf'data="{name}=[^"]*"', f'data="{name}={value}"', text)
        if found != 1:
            raise LabError(f"lab/freeswitch/vars.xml sets {name} {found} times, not once")
    return text


def _insist(kind: Kind, child: Daemon) -> None:
    """What answered must be what the verdict's label will say."""
    program = Path(f"/proc/{child.pid}/exe").resolve()
    binary = freeswitch_binary()
    is_freeswitch = binary is not None and program == Path(binary).resolve()
    if is_freeswitch is not (kind is Kind.FREESWITCH):
        raise LabError(f"{child.name} should be the {kind} but runs {program}")

"""The edge under test: its configuration file, its process, its control socket.

Theory of operation. `configuration` writes the TOML the scenario's network calls for, `edge` runs `python -m
proxy.app FILE` in the edge's namespace. Ready means that its control socket answers `hello`. The control client here
is one JSON line out, one back: the lab imports nothing of the edge.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import trio

from lab.namespace import LabError
from lab.probe import speaks_sip
from lab.process import Daemon, daemon, python_environment, python_module
from lab.rtpengine import Node
from lab.topology import B2BUA_LAN, EDGE_LAN, EDGE_PUBLIC, Network

SOCKET_PATH_LIMIT = 100
"""Bytes of a unix socket's path: sockaddr_un has 108 (unix(7))."""

SAMPLE_INTERVAL = 1.0
"""Seconds between the edge's looks at a call's packet counters: a scenario's call lasts seconds, not minutes."""


@dataclass(frozen=True)
class EdgeSettings:
    """What a scenario wants of the edge beyond the network. `users`: name -> SIP URI of static entries; `timers` in
    seconds."""

    users: dict[str, str] = field(default_factory=dict)
    timers: dict[str, float] = field(default_factory=dict)
    carrier: bool = False
    log_level: str = "debug"


def configuration(settings: EdgeSettings, network: Network, nodes: Sequence[Node], control: Path) -> str:
    """The edge's configuration file as TOML text."""
    blocks = [
        _table(
            "[proxy]",
            instance="edge1",
            control=str(control),
            domains=["example.test"],
            log_level=settings.log_level,
        ),
        _table("[[listen]]", name="public", address=EDGE_PUBLIC, port=5060, side="public"),
        _table("[[listen]]", name="lan", address=EDGE_LAN, port=5080, side="lan"),
    ]
    for number, address in enumerate(B2BUA_LAN[: network.shape.b2buas], 1):
        blocks.append(_table("[[freeswitch]]", name=f"fs{number}", address=address, port=5060))
    blocks += [_table("[[rtpengine]]", name=node.name, address=node.address) for node in nodes]
    blocks.append(_table("[store]", path="state"))
    blocks.append(_table("[media]", public="pub", lan="lan", sample_interval=SAMPLE_INTERVAL))
    blocks += [_table("[[users]]", name=name, uri=uri) for name, uri in settings.users.items()]
    if settings.carrier:
        address = network.site("carrier").address
        blocks.append(_table("[carrier]", uri=f"sip:{address}:5060", addresses=[address]))
    if settings.timers:
        blocks.append(_table("[timers]", **settings.timers))
    return "\n".join(blocks)


def _table(header: str, **values: object) -> str:
    # JSON strings, numbers and lists of strings are TOML as well
    return "\n".join([header, *(f"{key} = {json.dumps(value)}" for key, value in values.items()), ""])


def _write(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8")


class Edge:
    """The running edge. `config` and `control` are the paths of its file and socket."""

    def __init__(self, child: Daemon, network: Network, config: Path, control: Path) -> None:
        self.daemon, self.config, self.control, self._network = child, config, control, network

    async def ask(self, method: str, **params: object) -> Any:
        """One control API request; its result. Raises LabError with the edge's words when it is an error or no answer
        comes."""
        with trio.move_on_after(3.0):
            stream = await trio.open_unix_socket(str(self.control))
            async with stream:
                await stream.send_all(json.dumps({"id": 1, "method": method, "params": params}).encode() + b"\n")
                line = b""
                while not line.endswith(b"\n"):
                    piece = await stream.receive_some()
                    if not piece:
                        raise LabError(f"the edge closed its control connection during {method!r}")
                    line += piece
            answer = json.loads(line)
            if answer.get("error"):
                raise LabError(f"the edge refused {method!r}: {answer['error'].get('message')}")
            return answer["result"]
        raise LabError(f"the edge did not answer {method!r} on {self.control} within 3 s")

    async def answers(self) -> bool:
        """Whether it answers SIP on its LAN socket (on the public one it is silent to strangers), and its control
        socket."""
        if not await speaks_sip(self._network.ns("edge"), EDGE_LAN, (EDGE_LAN, 5080)):
            return False
        try:
            await self.ask("hello")
        except (OSError, LabError):
            return False
        return True

    async def sessions(self) -> list[dict[str, Any]]:
        """The live sessions it lists (SessionInfo of the control API)."""
        found = await self.ask("sessions")
        return [session for session in found if session["state"] != "ended"]

    async def mediactl(self, *arguments: str) -> str:
        """What `mediactl ARGUMENTS` prints on this edge. Raises LabError with its stderr when it fails."""
        command = python_module("mediactl", "--socket", str(self.control), *arguments)
        done = await trio.run_process(
            command,
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            env={**os.environ, **python_environment()},
        )
        if done.returncode != 0:
            raise LabError(
                f"mediactl {' '.join(arguments)} exited with {done.returncode}: {done.stderr.decode().strip()}"
            )
        return done.stdout.decode()


@asynccontextmanager
async def edge(settings: EdgeSettings, network: Network, nodes: Sequence[Node], folder: Path) -> AsyncIterator[Edge]:
    """Run the edge for the length of the block; `folder` must be absolute. Raises LabError when it does not come up."""
    with TemporaryDirectory(prefix="mlab-") as spare:
        control = folder / "control.sock"
        if len(str(control)) > SOCKET_PATH_LIMIT:
            control = Path(spare, "control.sock")
        config = folder / "edge.toml"
        _write(config, configuration(settings, network, nodes, control))
        argv = python_module("proxy.app", str(config))
        namespace = network.ns("edge")
        async with daemon("edge", argv, folder=folder, namespace=namespace, env=python_environment()) as child:
            running = Edge(child, network, config, control)
            await child.ready(running.answers)
            yield running

"""The edge under test: its configuration file, its process, its control socket.

Theory of operation. `configuration` writes the TOML the scenario's network calls for, `edge` runs `python -m
proxy.app FILE` in the edge's namespace, from the compiled build when there is a fresh one. Ready means that its control
socket answers `hello`. The control client here is one JSON line out, one back: the lab imports nothing of the edge.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import trio

from lab.bench.build import Build, choose
from lab.namespace import LabError
from lab.probe import speaks_sip
from lab.process import Daemon, python_environment, python_module
from lab.rtpengine import Node
from lab.topology import B2BUA_LAN, EDGE_LAN, EDGE_PUBLIC, Network

SOCKET_PATH_LIMIT = 100
"""Bytes of a unix socket's path: sockaddr_un has 108 (unix(7))."""

INSTANCE = "edge1"
STORE = f"state/{INSTANCE}.db"
"""The edge's store, in a folder beside its configuration file: calls of another run are none of its business."""
ROWLESS = ("meta", "schema", "version")
"""Tables of the store that hold something else than state of calls."""

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
    nodes: tuple[dict[str, object], ...] = ()
    """More keys for the first, second... `[[rtpengine]]`: weight, tier, labels."""
    sections: dict[str, dict[str, object]] = field(default_factory=dict)
    """More keys for a section: `{"media": {"move_rate": 50}}`."""


def configuration(settings: EdgeSettings, network: Network, nodes: Sequence[Node], control: Path) -> str:
    """The edge's configuration file as TOML text."""
    blocks = [
        _table(
            "[proxy]",
            instance=INSTANCE,
            control=str(control),
            domains=["example.test"],
            log_level=settings.log_level,
        ),
        _table("[[listen]]", name="public", address=EDGE_PUBLIC, port=5060, side="public"),
        _table("[[listen]]", name="lan", address=EDGE_LAN, port=5080, side="lan"),
    ]
    for number, address in enumerate(B2BUA_LAN[: network.shape.b2buas], 1):
        blocks.append(_table("[[freeswitch]]", name=f"fs{number}", address=address, port=5060))
    for number, node in enumerate(nodes):
        more = settings.nodes[number] if number < len(settings.nodes) else {}
        blocks.append(_table("[[rtpengine]]", **{"name": node.name, "address": node.address, **more}))
    sections: dict[str, dict[str, object]] = {
        "media": {"public": "pub", "lan": "lan", "sample_interval": SAMPLE_INTERVAL},
        "store": {"path": "state"},
        "timers": dict(settings.timers),
    }
    for name, keys in settings.sections.items():
        sections[name] = {**sections.get(name, {}), **keys}
    blocks += [_table(f"[{name}]", **keys) for name, keys in sections.items() if keys]
    blocks += [_table("[[users]]", name=name, uri=uri) for name, uri in settings.users.items()]
    if settings.carrier:
        address = network.site("carrier").address
        blocks.append(_table("[carrier]", uri=f"sip:{address}:5060", addresses=[address]))
    return "\n".join(blocks)


def _table(header: str, **values: object) -> str:
    # JSON strings, numbers and lists of strings are TOML as well
    return "\n".join([header, *(f"{key} = {json.dumps(value)}" for key, value in values.items()), ""])


def _write(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8")


class Edge:
    """The running edge. `config` and `control` are the paths of its file and socket; `daemon` the process that runs at
    present."""

    def __init__(self, child: Daemon, network: Network, config: Path, control: Path) -> None:
        self.daemon, self.config, self.control, self._network = child, config, control, network
        self._starts = 1

    async def kill(self) -> None:
        """SIGKILL: it has no chance to say goodbye to anybody."""
        await self.daemon.kill()

    async def restart(self) -> None:
        """End it with SIGKILL if it runs, and start it again with the same file. Ready when this returns."""
        await self.daemon.kill()
        await self.daemon.stop()
        self._starts += 1
        self.daemon = _spawn(f"edge-{self._starts}", self._network, self.config)
        await self.daemon.ready(self.answers)

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

    async def node_states(self) -> dict[str, str]:
        """What it thinks of each node, by name: "up", "down"..."""
        return {node["name"]: node["state"] for node in await self.ask("nodes")}

    async def sessions(self) -> list[dict[str, Any]]:
        """The live sessions it lists (SessionInfo of the control API)."""
        found = await self.ask("sessions")
        return [session for session in found if session["state"] != "ended"]

    def store_rows(self) -> str:
        """What its store still holds, "2 in sessions, 1 in owed", or nothing. Blocks."""
        file = self.config.parent / STORE
        if not file.exists():
            return ""
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as store:
            names = [name for (name,) in store.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            counts = {
                name: store.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0]
                for name in names
                if not name.startswith("sqlite_")
            }
        return ", ".join(f"{count} in {name}" for name, count in counts.items() if count)

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
        running = Edge(_spawn("edge", network, config), network, config, control)
        try:
            await running.daemon.ready(running.answers)
            yield running
        finally:
            await running.daemon.stop()


def _spawn(name: str, network: Network, config: Path) -> Daemon:
    argv = python_module("proxy.app", str(config))
    environment = python_environment()
    environment["PYTHONPATH"] = f"{edge_build().folder}{os.pathsep}{environment['PYTHONPATH']}"
    return Daemon(name, argv, network.ns("edge"), config.with_name(f"{name}.log"), environment)


@cache
def edge_build() -> Build:
    """What the edge runs: the compiled build when there is one of these sources, as for the bench."""
    return choose(None, False)[0]

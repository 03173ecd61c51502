"""The edge's configuration file, and the control client against a socket that plays the edge."""

from __future__ import annotations

import json
import sqlite3
import tomllib
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio

from lab import proxy, topology
from lab.namespace import LabError
from lab.proxy import STORE, Edge, EdgeSettings, configuration
from lab.rtpengine import Node
from lab.topology import Network, Shape


def test_the_file_says_what_the_network_is() -> None:
    network = Network(Shape(b2buas=2), "mlab1-1")
    nodes = [cast(Node, SimpleNamespace(name="node1", address="127.0.0.1:2223"))]
    settings = EdgeSettings(users={"1000": "sip:1000@203.0.113.9:5060"}, timers={"first_reply": 2.0}, carrier=True)
    read = tomllib.loads(configuration(settings, network, nodes, Path("/run/a b.sock")))
    assert read == {
        "proxy": {"instance": "edge1", "control": "/run/a b.sock", "domains": ["example.test"], "log_level": "debug"},
        "listen": [
            {"name": "public", "address": "198.51.100.1", "port": 5060, "side": "public"},
            {"name": "lan", "address": "10.20.0.1", "port": 5080, "side": "lan"},
        ],
        "freeswitch": [
            {"name": "fs1", "address": "10.20.0.2", "port": 5060},
            {"name": "fs2", "address": "10.20.0.3", "port": 5060},
        ],
        "rtpengine": [{"name": "node1", "address": "127.0.0.1:2223"}],
        "store": {"path": "state"},
        "media": {"public": "pub", "lan": "lan", "sample_interval": 1.0},
        "users": [{"name": "1000", "uri": "sip:1000@203.0.113.9:5060"}],
        "carrier": {"uri": "sip:203.0.113.77:5060", "addresses": ["203.0.113.77"]},
        "timers": {"first_reply": 2.0},
    }


def test_nothing_optional_is_written_unasked() -> None:
    read = tomllib.loads(configuration(EdgeSettings(), Network(Shape(), "mlab1-1"), [], Path("/x")))
    assert set(read) == {"proxy", "listen", "freeswitch", "media", "store"}


def test_more_keys_for_nodes_and_sections() -> None:
    nodes = [cast(Node, SimpleNamespace(name=f"node{n}", address=f"10.20.0.{n + 3}:2223")) for n in (1, 2)]
    settings = EdgeSettings(
        nodes=({"weight": 3},), sections={"media": {"sample_interval": 60.0}, "extra": {"a": 1}}, timers={"t1": 0.2}
    )
    read = tomllib.loads(configuration(settings, Network(Shape(nodes=2), "mlab1-1"), nodes, Path("/x")))
    assert read["rtpengine"] == [
        {"name": "node1", "address": "10.20.0.4:2223", "weight": 3},
        {"name": "node2", "address": "10.20.0.5:2223"},
    ]
    assert read["media"] == {"public": "pub", "lan": "lan", "sample_interval": 60.0}
    assert read["extra"] == {"a": 1}
    assert read["timers"] == {"t1": 0.2}


def test_rows_of_the_store(tmp_path: Path) -> None:
    edge = Edge(cast(Any, None), cast(Any, None), tmp_path / "edge.toml", tmp_path / "x")
    assert edge.store_rows() == ""
    file = tmp_path / STORE
    file.parent.mkdir(exist_ok=True)
    with closing(sqlite3.connect(file)) as store:
        store.execute("CREATE TABLE sessions (id)")
        store.execute("CREATE TABLE owed (id)")
        store.commit()
        assert edge.store_rows() == ""
        store.execute("INSERT INTO sessions VALUES (1), (2)")
        store.execute("INSERT INTO owed VALUES (1)")
        store.commit()
    assert edge.store_rows() == "2 in sessions, 1 in owed"


@pytest.mark.real
async def test_an_edge_is_killed_and_comes_back(tmp_path: Path) -> None:
    with trio.fail_after(20):
        nodes = [cast(Node, SimpleNamespace(name="node1", address="127.0.0.1:2223"))]
        async with topology.build(Shape()) as network, proxy.edge(EdgeSettings(), network, nodes, tmp_path) as edge:
            first = edge.daemon.pid
            await edge.kill()
            assert not edge.daemon.death(), "it was asked for"
            with pytest.raises(OSError, match=r"refused|No such file"):
                await edge.ask("hello")
            await edge.restart()
            assert edge.daemon.pid != first
            assert await edge.sessions() == []
            assert set(await edge.node_states()) == {"node1"}
    assert (tmp_path / "edge-2.log").exists()


async def asked(tmp_path: Path, reply: bytes, method: str = "sessions") -> Any:
    """`Edge.ask` against a server that says `reply` in two pieces and hangs up; its result, or its error's text."""
    path = tmp_path / "control.sock"
    listener = trio.socket.socket(trio.socket.AF_UNIX)
    await listener.bind(str(path))
    listener.listen()
    got: list[Any] = []

    async def serve() -> None:
        connection, _ = await listener.accept()
        with connection:
            got.append(json.loads(await connection.recv(1000)))
            for piece in (reply[:5], reply[5:]):
                await connection.send(piece)

    edge = Edge(cast(Any, None), cast(Any, None), tmp_path, path)
    result: Any = None
    with listener:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            try:
                result = await (edge.sessions() if method == "sessions" else edge.ask(method, a=1))
            except LabError as error:
                result = str(error)
    assert got == [{"id": 1, "method": method, "params": {} if method == "sessions" else {"a": 1}}]
    return result


async def test_live_sessions_only(tmp_path: Path) -> None:
    reply = {"id": 1, "result": [{"id": "x", "state": "ended"}, {"id": "y", "state": "early"}]}
    assert await asked(tmp_path, json.dumps(reply).encode() + b"\n") == [{"id": "y", "state": "early"}]


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (b'{"id":1,"error":{"code":"not_found","message":"no such thing"}}\n', "refused 'what': no such thing"),
        (b'{"id":1,', "closed its control connection during 'what'"),
    ],
)
async def test_errors_are_told(tmp_path: Path, reply: bytes, said: str) -> None:
    assert said in await asked(tmp_path, reply, "what")

"""Faults cut what they say, for everybody but the loopback, and heal; the crossing counter counts."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from lab import rtpengine, topology
from lab.faults import Cut
from lab.namespace import udp_socket
from lab.rtpengine import Node
from lab.topology import EDGE_LAN, NODE_LAN, NODE_PUBLIC, Network, Shape

pytestmark = pytest.mark.real


async def _heard(network: Network, role: str, source: str, target: tuple[str, int], wanted: bytes) -> bool:
    """Whether something sent from `role` to an echo at `target` comes back."""
    raw = await trio.to_thread.run_sync(udp_socket, network.ns(role), source)
    with trio.socket.from_stdlib_socket(raw) as sock, trio.move_on_after(0.3):
        await sock.sendto(wanted, target)
        return (await sock.recvfrom(100))[0] == wanted
    return False


async def _echo(raw: socket.socket) -> None:
    with trio.socket.from_stdlib_socket(raw) as sock:
        while True:
            data, source = await sock.recvfrom(2048)
            await sock.sendto(data, source)


@asynccontextmanager
async def two_nodes(folder: Path) -> AsyncIterator[tuple[Network, Node, Node]]:
    with trio.fail_after(20):
        async with (
            topology.build(Shape(nodes=2)) as network,
            rtpengine.node(network, folder) as one,
            rtpengine.node(network, folder, "node2", 1) as two,
            trio.open_nursery() as nursery,
        ):
            # an echo where RTP goes in, outside the ports the daemon takes first
            for address in (NODE_PUBLIC[0], NODE_LAN[0]):
                raw = await trio.to_thread.run_sync(udp_socket, network.ns("node1"), address, 39_001)
                nursery.start_soon(_echo, raw)
            yield network, one, two
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("what", "control", "media"), [(Cut.EVERYTHING, False, False), (Cut.CONTROL, False, True), (Cut.MEDIA, True, False)]
)
async def test_what_is_cut_and_healed(what: Cut, control: bool, media: bool, tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as (network, one, two):

        async def reaches() -> tuple[bool, bool]:
            ping = b"c1 d7:command4:pinge"
            raw = await trio.to_thread.run_sync(udp_socket, network.ns("edge"), EDGE_LAN)
            answered = False
            with trio.socket.from_stdlib_socket(raw) as sock, trio.move_on_after(0.3):
                await sock.sendto(ping, (NODE_LAN[0], 2223))
                answered = b"pong" in (await sock.recvfrom(100))[0]
            caller = network.site("caller").host
            return answered, await _heard(network, "caller", caller, (NODE_PUBLIC[0], 39_001), b"rtp")

        assert await reaches() == (True, True)
        await one.cut(what)
        assert await reaches() == (control, media)
        assert await one.answers(), "the lab asks over the loopback, whatever is cut"
        assert await two.answers()
        await one.heal()
        await one.heal()
        assert await reaches() == (True, True)


async def test_rtp_to_another_node_is_counted(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as (network, one, two):
        raw = await trio.to_thread.run_sync(udp_socket, network.ns("node1"), NODE_PUBLIC[0])
        with raw:
            raw.sendto(b"rtp", (network.site("caller").host, 30_000))
            assert await one.crossed() == 0
            raw.sendto(b"rtp", (NODE_PUBLIC[1], 30_000))
        assert (await one.crossed(), await two.crossed()) == (1, 0)


async def test_a_node_comes_back_on_the_same_address_and_knows_nothing(tmp_path: Path) -> None:
    sdp = "v=0\r\no=- 1 1 IN IP4 203.0.113.17\r\ns=-\r\nc=IN IP4 203.0.113.17\r\nt=0 0\r\nm=audio 20000 RTP/AVP 0\r\n"
    async with two_nodes(tmp_path) as (_, one, _two):
        first = one.daemon.pid
        await one.command("offer", 2.0, **{"call-id": "c-1", "from-tag": "a", "sdp": sdp})
        assert await one.calls() == ["c-1"]
        await one.kill()
        assert not await one.answers()
        await one.restart("--max-sessions=1")
        assert one.daemon.pid != first
        assert not one.daemon.death()
        assert await one.calls() == []
        said = []
        for call in ("c-2", "c-3"):
            reply = await one.command("offer", 2.0, **{"call-id": call, "from-tag": "a", "sdp": sdp})
            assert reply is not None
            said.append(reply.get("error-reason", reply["result"]))
        assert said == ["ok", "Parallel session limit reached"]
        one.daemon.pause()
        assert not await one.answers()
        one.daemon.resume()
        assert await one.answers()
        assert not one.daemon.killed

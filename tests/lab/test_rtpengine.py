"""A real node: ready, asked, silent when it is dead."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import trio

from lab import rtpengine, topology
from lab.namespace import LabError
from lab.topology import Shape

pytestmark = pytest.mark.real

OFFER = "v=0\r\no=- 1 1 IN IP4 203.0.113.17\r\ns=-\r\nc=IN IP4 203.0.113.17\r\nt=0 0\r\nm=audio 20000 RTP/AVP 0\r\n"


def test_version() -> None:
    version = rtpengine.version()
    assert version is not None
    assert version[0].isdigit()


async def test_two_nodes_side_by_side(tmp_path: Path) -> None:
    with trio.fail_after(10):
        async with (
            topology.build(Shape()) as network,
            rtpengine.node(network, tmp_path) as one,
            rtpengine.node(network, tmp_path, "node2", 1) as two,
        ):
            assert (one.address, two.address) == ("127.0.0.1:2223", "127.0.0.1:2224")
            arguments = {"call-id": "c-1", "from-tag": "a", "sdp": OFFER, "direction": ["pub", "lan"]}
            reply = await one.command("offer", 2.0, **arguments)
            assert reply is not None
            assert "c=IN IP4 10.20.0.1\r\n" in reply["sdp"]
            assert (await one.calls(), await two.calls()) == (["c-1"], [])
            assert "a" in (await one.query("c-1"))["tags"]
            assert (await two.query("c-1"))["result"] == "error"
            await one.command("delete", 2.0, **{"call-id": "c-1"})
            assert await one.calls() == ["c-1"]  # the daemon's default delete-delay: it stays for 30 s
            await one.command("delete", 2.0, **{"call-id": "c-1", "delete-delay": 0})
            assert await one.calls() == []


async def test_a_dead_node(tmp_path: Path) -> None:
    with trio.fail_after(10):
        async with topology.build(Shape()) as network, rtpengine.node(network, tmp_path) as node:
            node.daemon.send_signal(signal.SIGKILL)
            await node.daemon.wait()
            assert not await node.answers()
            with pytest.raises(LabError, match="node1 does not answer `list`"):
                await node.calls()

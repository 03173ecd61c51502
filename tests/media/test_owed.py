"""Deletes owed to nodes: kept once, paid when the node is back, told to whoever keeps books."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from ng_protocol import ClientConfig, Delete, Offer, open_client
from proxy.media import owed as module
from proxy.media.nodes import Node, Observed
from proxy.media.owed import Owed
from proxy.media.pool import Pool
from tests.fake_rtpengine import FakeNode, fake_node
from tests.media.ladder import alice, settle


def test_the_same_delete_is_owed_once_and_a_whole_call_covers_its_branches() -> None:
    owed, told = Owed(), []
    owed.told.append(lambda name, delete, made: told.append((name, delete.call_id, delete.via_branch, made)))
    branch = Delete(call_id="c1", from_tag="a", via_branch="z1")
    owed.add("node1", branch)
    owed.add("node1", branch)
    assert owed.count("node1") == len(owed) == 1
    owed.add("node1", Delete(call_id="c1", delete_delay=0))
    owed.add("node1", branch)
    assert [(one.call_id, one.via_branch) for one in owed.of("node1")] == [("c1", None)]
    assert told == [("node1", "c1", "z1", True), ("node1", "c1", "z1", False), ("node1", "c1", None, True)]
    assert owed.count("node2") == 0 and owed.of("node2") == []


def test_a_removed_node_is_owed_nothing() -> None:
    owed, settled = Owed(), []
    owed.told.append(lambda name, delete, made: settled.append(made))
    owed.add("node1", Delete(call_id="c1"))
    assert owed.forget("node1") == 1 and owed.forget("node1") == 0
    assert settled == [True, False] and len(owed) == 0


def test_the_oldest_is_forgotten_beyond_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIMIT", 3)
    owed = Owed()
    for number in range(5):
        owed.add("node1", Delete(call_id=f"c{number}"))
    assert [one.call_id for one in owed.of("node1")] == ["c2", "c3", "c4"]


async def test_everything_is_paid_a_few_at_a_time(autojump_clock: MockClock) -> None:
    async with fake_node() as node, open_client(node.address) as client:
        owed = Owed()
        for number in range(100):
            await client.request(Offer(call_id=f"c{number}", from_tag="a", sdp=alice()))
            owed.add("node1", Delete(call_id=f"c{number}", delete_delay=0))
        owed.add("node1", Delete(call_id="never there", delete_delay=0))
        node.delay = 0.01
        owed.pay("node1", client)
        owed.pay("node1", client)
        assert client.statistics().in_flight == module.IN_FLIGHT
        await trio.sleep(1.0)
        assert len(owed) == 0 and node.calls == {} and node.count("delete") == 101


async def test_what_is_not_answered_stays_owed(autojump_clock: MockClock) -> None:
    async with fake_node() as node, open_client(node.address, config=ClientConfig(timeout=0.5)) as client:
        owed = Owed()
        owed.add("node1", Delete(call_id="c1", delete_delay=0))
        node.pause()
        owed.pay("node1", client)
        await trio.sleep(1.0)
        assert owed.count("node1") == 1
        node.resume()
        owed.pay("node1", client)
        await trio.sleep(0.1)
        assert owed.count("node1") == 0


async def test_the_pool_owes_what_a_silent_node_did_not_answer(node: FakeNode, autojump_clock: MockClock) -> None:
    async with open_client(node.address, name="node1", config=ClientConfig(timeout=0.5)) as client:
        pool = Pool({"node1": client})
        node.pause()
        pool.delete("node1", Delete(call_id="c1", delete_delay=0))
        await trio.sleep(1.0)
        assert pool.owed.count("node1") == 1
        pool.nodes["node1"].observed = Observed.DOWN
        sent = node.datagrams
        pool.delete("node1", Delete(call_id="c2", delete_delay=0))
        pool.pay("node1")
        pool.delete("unknown", Delete(call_id="c3"))
        await settle()
        assert node.datagrams == sent, "nothing is sent to a node that is down"
        assert pool.owed.count("node1") == 2 and pool.owed.count("unknown") == 0
        pool.nodes["node1"].observed = Observed.UP
        node.resume()
        pool.pay("node1")
        await trio.sleep(0.1)
        assert pool.owed.count("node1") == 0


async def test_a_delete_that_was_answered_is_not_owed(node: FakeNode, autojump_clock: MockClock) -> None:
    async with open_client(node.address, name="node1") as client:
        pool = Pool()
        pool.add(Node("node1", client))
        pool.delete("node1", Delete(call_id="c1", delete_delay=0))
        await trio.sleep(0.1)
        assert node.count("delete") == 1 and pool.owed.count("node1") == 0

"""The canary call: made with three commands, packets through the node and back, every way it can fail."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from ng_protocol import Client, NgLostCall, QueryReply, open_client
from proxy.media.canary import Canary
from tests.fake_rtpengine import FakeNode, fake_node
from tests.media.ladder import settle
from tests.media.relay import Relay


class Made:
    """Counts how often a canary was made."""

    def __init__(self, client: Client, interface: str | None = None, address: str | None = None) -> None:
        self.times = 0
        self.canary = Canary("e-canary-n", client, interface=interface, address=address, made=self.made)

    def made(self) -> None:
        self.times += 1

    def __enter__(self) -> Made:
        return self

    def __exit__(self, *_: object) -> None:
        self.canary.end()


async def test_packets_go_round_from_both_ends(node: FakeNode, autojump_clock: MockClock) -> None:
    async with open_client(node.address) as client, Relay.on(node) as relay:
        with Made(client, interface="lan") as one:
            one.canary.make()
            one.canary.make()
            await settle()
            assert one.times == 1 and one.canary.standing and one.canary.broken == ""
            assert [request["command"] for request in node.requests] == ["delete", "offer", "answer"]
            assert node.requests[1]["direction"] == ["lan", "lan"]
            for _ in range(4):
                assert one.canary.send()
                await settle()
            assert one.canary.drain() == (4, False) and relay.relayed == 4
            assert one.canary.drain() == (0, False)
            one.canary.end()
            await settle()
            assert node.calls == {} and not one.canary.standing and one.canary.send()


async def test_a_dead_node_refuses_the_packets(node: FakeNode, autojump_clock: MockClock) -> None:
    async with open_client(node.address) as client, Relay.on(node):
        with Made(client) as one:
            one.canary.make()
            await settle()
            node.stop()
            one.canary.send()
            await settle()
            assert one.canary.drain() == (0, True)


async def test_a_stale_one_of_an_earlier_run_is_deleted_first(node: FakeNode, autojump_clock: MockClock) -> None:
    async with open_client(node.address) as client, open_client(node.address) as earlier:
        with Made(earlier) as before, Made(client) as now:
            before.canary.make()
            await settle()
            ports = {media.ports["pub"] for party in node.calls["e-canary-n"].parties for media in party.medias}
            now.canary.make()
            await settle()
            assert len(node.calls) == 1
            after = {media.ports["pub"] for party in node.calls["e-canary-n"].parties for media in party.medias}
            assert not ports & after, "a call of its own, not more parties of the old one"


async def test_whether_the_node_knows_it(node: FakeNode, autojump_clock: MockClock) -> None:
    async with open_client(node.address) as client:
        with Made(client) as one:
            one.canary.make()
            await settle()
            replies: list[object] = []
            one.canary.ask(replies.append)
            await settle()
            node.restart()
            one.canary.ask(replies.append)
            await settle()
            assert isinstance(replies[0], QueryReply) and isinstance(replies[1], NgLostCall)


@pytest.mark.parametrize("command", ["delete", "offer", "answer"])
async def test_a_refused_step_is_told_and_can_be_tried_again(
    node: FakeNode, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, command: str
) -> None:
    node.fail_next(command, "Ran out of ports")
    async with open_client(node.address, name="node1") as client:
        with Made(client) as one:
            one.canary.make()
            await settle()
            assert not one.canary.standing and not one.canary.making and "Ran out of ports" in one.canary.broken
            assert "no media canary on node node1" in caplog.text
            one.canary.make()
            await settle()
            assert one.canary.standing and one.canary.broken == ""


async def test_a_silent_node_is_given_a_second(autojump_clock: MockClock) -> None:
    async with fake_node() as node, open_client(node.address) as client:
        node.pause()
        with Made(client) as one:
            one.canary.make()
            await trio.sleep(1.1)
            assert not one.canary.making and "no reply" in one.canary.broken and node.datagrams == 1


async def test_an_sdp_that_names_no_address(node: FakeNode, autojump_clock: MockClock) -> None:
    async with open_client(node.address) as client:
        node.garbage = [b"d6:result2:oke", b"d3:sdp3:v=06:result2:oke"]
        with Made(client) as one:
            one.canary.make()
            await settle()
            assert "names no media address" in one.canary.broken


async def test_an_address_that_is_not_ours(node: FakeNode, autojump_clock: MockClock) -> None:
    async with open_client(node.address) as client:
        with Made(client, address="192.0.2.1") as one:
            one.canary.make()
            assert "no socket towards the node" in one.canary.broken and node.datagrams == 0


async def test_without_a_running_client(autojump_clock: MockClock) -> None:
    with Made(Client("127.0.0.1:2223")) as one:
        one.canary.make()
        assert "no socket towards the node" in one.canary.broken


async def test_replies_to_an_attempt_that_was_given_up_are_nothing(node: FakeNode, autojump_clock: MockClock) -> None:
    async with open_client(node.address) as client:
        node.delay = 0.1
        with Made(client) as one:
            one.canary.make()
            await trio.sleep(0.15)
            one.canary.forget()
            one.canary.make()
            await trio.sleep(1.0)
            assert one.times == 1 and one.canary.standing

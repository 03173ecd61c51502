"""Choosing a node at set-up, and one command at a time."""

from __future__ import annotations

import trio

from proxy.media.engine import NoNode
from tests.fake_rtpengine import FakeNode, fake_node
from tests.media.ladder import alice, bob, establish, on, own_media


async def test_the_call_counts_on_the_wire(node: FakeNode) -> None:
    """What rtpengine receives for a plain call."""
    async with on(node) as stage:
        call = await establish(stage)
        await call.hang_up()
        assert [request["command"] for request in node.requests] == ["offer", "answer", "delete"]
        assert node.datagrams == 3 and node.calls == {}


async def test_a_refusing_node_is_passed_over_for_the_same_invite(node: FakeNode) -> None:
    async with fake_node() as other, on(node, other) as stage:
        nodes = {"node1": node, "node2": other}
        a = stage.dialog("a")
        best = stage.pool.choose(a.leg.session.id, 0.0)[0]
        nodes[best].stop()
        first = await a.request(alice(), from_phone=True)
        assert first.refusal is None and a.leg.session.node != best
        assert [name for name, _ in stage.log] == [best, a.leg.session.node]
        assert stage.pool.choose(a.leg.session.id, trio.current_time())[-1] == best, "tried last for a while"
        assert stage.pool.choose(a.leg.session.id, trio.current_time() + 2)[0] == best
        await a.respond(first, 200, own_media(16460))
        assert stage.log[-1][0] == a.leg.session.node, "later commands stay on the node"


async def test_a_silent_node_is_passed_over_and_sent_a_delete(node: FakeNode, autojump_clock: object) -> None:
    async with fake_node() as other, on(node, other) as stage:
        nodes = {"node1": node, "node2": other}
        a = stage.dialog("a")
        best = stage.pool.choose(a.leg.session.id, 0.0)[0]
        nodes[best].pause()
        started = trio.current_time()
        first = await a.request(alice(), from_phone=True)
        assert first.refusal is None and trio.current_time() - started < 1.0
        assert [(name, stage.word(command)) for name, command in stage.log] == [
            (best, "offer leg-A>leg-B [pub,pub]"),
            (best, "delete"),
            (a.leg.session.node, "offer leg-A>leg-B [pub,pub]"),
        ]


async def test_a_full_node_is_passed_over(node: FakeNode) -> None:
    async with fake_node() as other, on(node, other) as stage:
        nodes = {"node1": node, "node2": other}
        a = stage.dialog("a")
        best = stage.pool.choose(a.leg.session.id, 0.0)[0]
        nodes[best].max_sessions = 0
        first = await a.request(alice(), from_phone=True)
        assert first.refusal is None and a.leg.session.node != best


async def test_no_node_takes_it(node: FakeNode) -> None:
    node.max_sessions = 0
    async with on(node) as stage:
        a = stage.dialog("a")
        first = await a.request(alice(), from_phone=True)
        assert first.refusal is not None and first.refusal.code == 503
        assert a.leg.session.offers == {} and a.leg.exchanges == []
        a.bye()
        assert len(stage.log) == 1, "nothing to delete"
        stage.clean()


async def test_no_node_at_all() -> None:
    async with on() as stage:
        a = stage.dialog("a")
        first = await a.request(alice(), from_phone=True)
        assert first.refusal is not None and first.refusal.code == 503


async def test_commands_of_one_session_do_not_overlap(node: FakeNode, autojump_clock: object) -> None:
    """Two forks at the same time: the second offer waits for the first, and goes to the same node."""
    node.delay = 0.05
    async with fake_node() as other, on(node, other) as stage:
        other.delay = 0.05
        a = stage.dialog("a", direct=True)
        async with trio.open_nursery() as nursery:
            for key in (b"k1", b"k2"):
                nursery.start_soon(lambda key=key: a.request(alice(), from_phone=True, branch=key, cseq=5))
        assert len({name for name, _ in stage.log}) == 1
        calls = [*node.calls.values(), *other.calls.values()]
        assert len(calls) == 1


async def test_an_answer_without_an_offer_is_no_command(node: FakeNode) -> None:
    async with on(node) as stage:
        a = stage.dialog("a", direct=True)
        try:
            await stage.anchor.engine.answer(a.leg.phone, a.leg.phone, bob())
        except NoNode as error:
            assert a.leg.session.id in str(error)
        else:
            raise AssertionError("nothing was raised")
        assert stage.log == []

"""Choosing a node at set-up, and one command at a time."""

from __future__ import annotations

import trio

from proxy.media.engine import NoNode
from proxy.media.nodes import Observed
from tests.fake_rtpengine import FakeNode, fake_node
from tests.media.ladder import alice, bob, establish, on, own_media, settle


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
        assert first.refusal is None and trio.current_time() - started < 0.5, "T1"
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


async def test_a_call_that_ends_while_its_node_is_down_is_deleted_when_it_is_back(node: FakeNode) -> None:
    async with on(node) as stage:
        call = await establish(stage)
        stage.pool.nodes["node1"].observed = Observed.DOWN
        await call.hang_up()
        assert node.count("delete") == 0 and stage.pool.owed.count("node1") == 1
        stage.clean()
        stage.pool.nodes["node1"].observed = Observed.UP
        stage.pool.pay("node1")
        await settle()
        assert node.calls == {} and stage.pool.owed.count("node1") == 0


async def test_a_set_up_that_timed_out_leaves_a_delete_owed(node: FakeNode, autojump_clock: object) -> None:
    """The silent node may have made the call from the offer; it is told when it answers again."""
    async with fake_node() as other, on(node, other) as stage:
        nodes = {"node1": node, "node2": other}
        a = stage.dialog("a")
        best = stage.pool.choose(a.leg.session.id, 0.0)[0]
        nodes[best].pause()
        first = await a.request(alice(), from_phone=True)
        assert first.refusal is None and a.leg.session.node != best
        await trio.sleep(5.0)
        assert [delete.call_id for delete in stage.pool.owed.of(best)] == [a.leg.session.id]
        nodes[best].resume()
        stage.pool.pay(best)
        await trio.sleep(0.1)
        assert stage.pool.owed.count(best) == 0 and a.leg.session.id in nodes[a.leg.session.node].calls


async def test_a_session_whose_node_was_taken_away_is_refused_politely(node: FakeNode) -> None:
    async with on(node) as stage:
        call = await establish(stage)
        stage.pool.remove("node1")
        transaction = await call.a.request(alice(port=4444), from_phone=True)
        assert transaction.refusal is not None and transaction.refusal.code == 503
        await call.hang_up()
        stage.clean()

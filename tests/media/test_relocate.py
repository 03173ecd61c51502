"""Another node gets the media: which pairs, with which SDPs, and what is left behind; on fake and real daemons."""

from __future__ import annotations

from collections.abc import Callable

import trio

from ng_protocol import Query
from proxy.media.relocate import NG_TIMEOUT, PARK, Relocation, pairs_of
from proxy.media.session import Session
from tests.fake_rtpengine import FakeNode, fake_node
from tests.media.ladder import Call, Stage, alice, bob, crypto, establish, on, own_media, settle, way, where


class Place:
    """A relocation and what it told."""

    def __init__(self, stage: Stage, session: Session, *, graceful: bool = False, may_stay: bool = False) -> None:
        self.stage = stage
        self.anchored: list[str] = []
        self.hopeless: list[str] = []
        self.timers: list[float] = []
        self.it = Relocation(
            stage.anchor.engine, session, later=self.later, anchored=self.anchored.append, hopeless=self.give_up,
            patience=5.0, graceful=graceful, may_stay=may_stay,
        )  # fmt: skip

    def later(self, delay: float, job: Callable[[], None]) -> None:
        self.timers.append(delay)
        self.stage.own.nursery.start_soon(self._wait, delay, job)

    async def _wait(self, delay: float, job: Callable[[], None]) -> None:
        await trio.sleep(delay)
        job()

    def give_up(self, reason: bytes, why: str) -> None:
        self.hopeless.append(why)

    async def start(self) -> None:
        self.it.start()
        await self.over()

    async def over(self) -> None:
        with trio.fail_after(20):
            while not self.anchored and not self.hopeless:  # noqa: ASYNC110 - callbacks, and two clocks
                await trio.sleep(0.01)


def force(stage: Stage, *names: str) -> None:
    """The order of nodes from now on."""
    stage.pool.choose = lambda *_, **__: list(names)  # type: ignore[method-assign]


async def moved(stage: Stage, call: Call) -> Place:
    """The call after a move to the same daemon under a fresh ng call-id."""
    place = Place(stage, call.session, may_stay=True)
    await place.start()
    return place


async def test_both_at_once_and_a_fresh_call(stage: Stage) -> None:
    call = await establish(stage)
    before = len(stage.log)
    old = call.session.ng_call_id
    await moved(stage, call)
    assert stage.commands(before) == ["delete", "offer leg-A>leg-B [pub,pub]", "answer leg-A<leg-B"]
    assert [command.call_id for _, command in stage.log[before:]] == [old, f"{old}.2", f"{old}.2"]
    a, b = call.a.leg.phone, call.b.leg.phone
    assert (a.linked, b.linked) == (b, a)
    assert where(a.made_for[b].made) != where(call.to_bob) and a.made_for[b].call == call.session.ng_call_id
    assert stage.table.owner(old) is None and stage.table.owner(f"{old}.2") is call.session
    await call.reinvite("a", alice("sendonly", 2), bob("recvonly", 2))
    await call.reinvite("b", bob("sendrecv", 3), alice("sendrecv", 3))
    await call.hang_up()
    assert stage.log[-1][1].call_id == f"{old}.2"
    stage.clean()


async def test_holds_and_profiles_stay(stage: Stage) -> None:
    call = await establish(stage, crypto(alice()), bob())
    await call.reinvite("b", bob("sendonly", 2), crypto(alice("recvonly", 2)))
    await moved(stage, call)
    a, b = call.a.leg.phone, call.b.leg.phone
    assert way(a.made_for[b].made) == "recvonly" and way(b.made_for[a].made) == "sendonly"
    assert b"RTP/SAVP" in b.made_for[a].made and b"RTP/AVP" in a.made_for[b].made
    await call.hang_up()
    stage.clean()


async def test_freeswitch_s_own_hold_stays(stage: Stage) -> None:
    """It told Bob sendonly in Alice's name, who knows nothing of it."""
    call = await establish(stage)
    stored = stage.shown[(call.a.call_id, "freeswitch")][-1]
    held = await call.b.request(stage.fs(stored, "sendonly"), from_phone=False)
    await call.b.respond(held, 200, bob("recvonly", 2))
    await moved(stage, call)
    assert way(call.a.leg.phone.made_for[call.b.leg.phone].made) == "sendonly"
    await call.hang_up()
    stage.clean()


async def test_two_pairs_while_freeswitch_is_in_the_media(stage: Stage) -> None:
    call = await establish(stage)
    for dialog, port in ((call.a, 18272), (call.b, 17176)):
        own = await dialog.request(own_media(port), from_phone=False)
        await dialog.respond(own, 200, alice() if dialog is call.a else bob())
    pairs = pairs_of(call.session)
    assert sorted((pair.author.name, pair.receiver.name) for pair in pairs) == [("FA", "A"), ("FB", "B")]
    await moved(stage, call)
    a, fs = call.a.leg.phone, call.a.leg.fs
    assert fs is not None
    assert where(a.made_for[fs].made)[0] == "127.0.0.2" and where(fs.made_for[a].made)[0] == "127.0.0.1"
    await call.hang_up()
    stage.clean()


async def test_a_call_nobody_answered_just_leaves(node: FakeNode) -> None:
    async with on(node) as stage:
        a = stage.dialog("a")
        first = await a.request(alice(), from_phone=True)
        place = Place(stage, a.leg.session)
        await place.start()
        assert (a.leg.session.node, a.leg.session.ng_call_id) == ("", a.leg.session.id + ".2")
        assert stage.commands()[1:] == ["delete"]
        shown = await a.respond(first, 200, own_media(16460))
        assert shown is not None and stage.commands()[2:] == ["offer leg-A>leg-B [pub,lan]", "answer leg-A<leg-B"]
        a.bye()


async def test_the_next_node_when_one_is_full_or_silent(node: FakeNode, autojump_clock: object) -> None:
    async with fake_node() as two, fake_node() as three, on(node, two, three) as stage:
        force(stage, "node1")
        call = await establish(stage)
        force(stage, "node2", "node3")
        two.max_sessions = 0
        await Place(stage, call.session).start()
        assert call.session.node == "node3" and call.session.ng_call_id == call.session.id + ".3"
        two.max_sessions = -1
        two.pause()
        started = trio.current_time()
        await Place(stage, call.session).start()
        assert call.session.node != "node2" or trio.current_time() - started >= NG_TIMEOUT


async def test_none_for_now_and_none_at_all(node: FakeNode, autojump_clock: object) -> None:
    async with on(node) as stage:
        call = await establish(stage)
        force(stage)
        place = Place(stage, call.session)
        place.it.start()
        await trio.sleep(1)
        assert not place.anchored and set(place.timers) == {PARK}
        force(stage, "node1")
        await place.over()
        assert place.anchored == ["on node node1"]
        force(stage)
        place = Place(stage, call.session)
        await place.start()
        assert place.hopeless == ["no node takes it"] and trio.current_time() > 5


async def test_an_sdp_the_daemon_refuses_is_nobody_else_s(node: FakeNode) -> None:
    async with on(node) as stage:
        call = await establish(stage)
        node.fail_next("offer", "Failed to parse SDP")
        place = Place(stage, call.session, may_stay=True)
        await place.start()
        assert len(place.hopeless) == 1 and not call.session.in_flight


async def test_the_end_of_the_call_overtakes_the_move(node: FakeNode, autojump_clock: object) -> None:
    """Both replies are late; what the node has made by then is deleted behind them."""
    async with on(node) as stage:
        call = await establish(stage)
        node.delay = 0.5
        place = Place(stage, call.session, may_stay=True)
        place.it.start()
        await settle()
        session = call.session
        stage.anchor.engine.delete(session)
        place.it.cancel()
        await trio.sleep(2)
        assert node.calls == {} and not session.in_flight
        assert [command.call_id for _, command in stage.log[-2:]] == [session.ng_call_id] * 2
        assert place.anchored == []


async def test_gracefully_there_and_back(node: FakeNode, autojump_clock: object) -> None:
    async with fake_node() as two, on(node, two) as stage:
        force(stage, "node1")
        call = await establish(stage)
        session, ports = call.session, where(call.to_bob)
        force(stage, "node2")
        place = Place(stage, session, graceful=True)
        await place.start()
        assert len(node.calls) == len(two.calls) == 1
        place.anchored.clear()
        assert place.it.back()
        await place.over()
        await settle()
        assert (session.node, session.ng_call_id) == ("node1", session.id) and two.calls == {}
        assert where(call.a.leg.phone.made_for[call.b.leg.phone].made) == ports, "the ports it had"
        assert not place.it.back(), "there is only one way back"


async def test_a_failed_branch_never_takes_the_whole_call(stage: Stage) -> None:
    """10.5 takes a delete with an unknown via-branch for one of the from-tag, and so of the call: the to-tag saves it.

    The branch of a fork whose offer got lost, say.
    """
    call = await establish(stage)
    party = call.b.leg.phone
    lost = stage.anchor._party(call.session, "B9", "pub", None)
    lost.offered_by = call.a.leg.phone
    stage.anchor.engine.delete_branch(lost)
    await trio.sleep(0.1)
    assert lost.gone and party.linked is call.a.leg.phone
    await call.reinvite("a", alice("sendonly", 2), bob("recvonly", 2))
    reply = await stage.clients["node1"].request(Query(call_id=call.session.ng_call_id))
    assert set(reply.tags) >= {"leg-A", "leg-B"}
    await call.hang_up()
    stage.clean()

"""Many sessions: their order, the rate, progress, plans, events, rescue, and calls a node has forgotten."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio

from proxy.media.mover import LOST_LIMIT, Mover
from proxy.media.nodes import NodeEvent
from proxy.media.sampler import Sample
from proxy.media.session import Leg, Session
from proxy.sip.message import Response
from tests.fake_rtpengine import FakeNode, fake_node
from tests.media.ladder import Call, Stage, alice, bob, on, settle


class Ours:
    """A re-INVITE that answers itself, when it is let."""

    def __init__(self, relay: Relay, leg: Leg, to_phone: bool) -> None:
        self.relay, self.leg, self.to_phone = relay, leg, to_phone

    def send(self, told: Callable[[Response], None]) -> None:
        self.relay.sent.append((trio.current_time(), self.leg.session.id, self.leg.name))
        self.relay.waiting.append((self, told))
        if self.relay.answers:
            self.relay.nursery.start_soon(self.relay.answer_all)


class Relay:
    """The relay's side: re-INVITEs are answered with what the phones have agreed to."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.answers = True
        self.sent: list[tuple[float, str, str]] = []
        self.ended: list[tuple[str, bytes]] = []
        self.waiting: list[tuple[Ours, Callable[[Response], None]]] = []

    def prepare_reinvite(self, leg: Leg, to_phone: bool, sdp: bytes) -> Ours | None:
        return Ours(self, leg, to_phone)

    async def answer_all(self, code: int = 200) -> None:
        waiting, self.waiting = self.waiting, []
        for _, told in waiting:
            told(Response(code, b"X", b"SIP/2.0 %d X" % code, [], [], b""))

    def end(self, session: Session, reason: bytes) -> None:
        self.ended.append((session.id, reason))

    def spawn(self, job: Any, *args: Any) -> None:
        self.nursery.start_soon(job, *args)


@asynccontextmanager
async def moving(*nodes: FakeNode, **options: Any) -> AsyncGenerator[tuple[Stage, Relay, Mover], None]:
    """A stage with a mover on it; new calls go to node1 and moved ones elsewhere."""
    async with on(*nodes) as stage:
        relay = Relay(stage.own.nursery)
        mover = Mover(stage.anchor, relay, **options)
        await stage.own.nursery.start(mover.run)
        names = [f"node{number}" for number in range(1, len(nodes) + 1)]
        stage.pool.choose = lambda *_, without="", **__: [  # type: ignore[method-assign]
            one for one in names if one != without
        ]
        yield stage, relay, mover


async def calls(stage: Stage, number: int) -> list[Call]:
    made = []
    for index in range(number):
        stage.anchor._clock = lambda index=index: float(index)  # type: ignore[misc]
        call = Call(stage)
        call.a = stage.dialog(f"a{index}")
        first = await call.a.request(alice(port=20000 + 2 * index), from_phone=True)
        call.b, second = await stage.second(f"b{index}", stage.fs(first.out))
        back = await call.b.respond(second, 200, bob())
        await call.b.ack(second)
        await call.a.respond(first, 200, stage.fs(back))
        await call.a.ack(first)
        made.append(call)
    return made


def sample(idle: float | None, *, moved_at: float = 0.0) -> Sample:
    return Sample(0.0, 0.0, (10, 10), (idle, idle), [], moved_at=moved_at)


async def test_audio_first_then_the_silent_then_the_ringing(node: FakeNode, autojump_clock: object) -> None:
    async with fake_node() as two, moving(node, two) as (stage, relay, mover):
        made = await calls(stage, 5)
        ringing = stage.dialog("ringing")
        await ringing.request(alice(), from_phone=True)
        silent, talking, unknown, held, young = (call.session for call in made)
        silent.sample, talking.sample, held.sample, young.sample = sample(20.0), sample(0.1), sample(None), sample(0.0)
        wanted = [young, unknown, talking, silent, held, ringing.leg.session]
        assert [one.session_id for one in mover.plan("node1")] == [one.id for one in wanted]
        assert [one.node for one in mover.plan("node1")] == ["node2"] * 6
        assert mover.plan("node1")[-1].note == "not answered yet"
        assert mover.node_lost("node1", "test") == 6
        await trio.sleep(1)
        told = list(dict.fromkeys(session for _, session, _ in relay.sent))
        assert told == [one.id for one in wanted[:-1]]
        assert all(call.session.node == "node2" for call in made) and ringing.leg.session.node == ""


async def test_no_faster_than_the_rate(node: FakeNode, autojump_clock: object) -> None:
    """A burst, then one by one; all of it is one event."""
    async with fake_node() as two, moving(node, two, rate=10.0) as (stage, relay, mover):
        events: list[NodeEvent] = []
        stage.pool.events.append(events.append)
        await calls(stage, 42)
        started = trio.current_time()
        assert mover.node_lost("node1", "nothing listens there") == 42
        await trio.sleep(5)
        times = sorted(at - started for at, _, _ in relay.sent)
        assert len(times) == 84 and times[63] < 0.2 and 0.9 < times[-1] < 1.2
        assert len(events) == 1
        assert events[0].line() == "node node1: calls moved (nothing listens there); moved 42 in 1.0 s"
        assert events[0].calls == 42
        assert mover.stats == {"moved": 42}


async def test_only_so_many_wait_for_the_node(node: FakeNode, autojump_clock: object) -> None:
    async with fake_node() as two, moving(node, two, in_flight=5) as (stage, _, mover):
        await calls(stage, 20)
        two.delay = 0.1
        mover.node_lost("node1", "test")
        await settle()
        assert two.count("offer") == 5
        await trio.sleep(0.15)
        assert two.count("offer") == 10
        await trio.sleep(2)
        assert two.count("offer") == two.count("answer") == 20 and mover.stats == {"moved": 20}


async def test_an_evacuation_tells_how_it_goes(node: FakeNode, autojump_clock: object) -> None:
    """Slowly, and behind calls that have no media at all."""
    async with fake_node() as two, fake_node() as three, moving(node, two, three, evacuation_rate=10.0) as (
        stage, _, mover,
    ):  # fmt: skip
        await calls(stage, 40)
        evacuation = mover.evacuate("node1")
        await trio.sleep(0.35)
        assert evacuation.total == 40 and evacuation.left == 40 - evacuation.moved > 0
        assert evacuation.eta_seconds is not None and 0 < evacuation.eta_seconds < 1
        assert mover.evacuate("node1") is evacuation
        await evacuation.done.wait()
        assert (evacuation.moved, evacuation.failed, evacuation.ended, evacuation.left) == (40, 0, 0, 0)
        assert evacuation.eta_seconds == 0.0
        await settle()
        assert node.calls == {}
        empty = mover.evacuate("node1")
        assert empty.total == 0 and empty.done.is_set()


async def test_a_call_that_hangs_up_meanwhile_is_counted(node: FakeNode, autojump_clock: object) -> None:
    async with fake_node() as two, moving(node, two) as (stage, relay, mover):
        made = await calls(stage, 3)
        relay.answers = False
        batch = mover.evacuate("node1")
        await trio.sleep(0.1)
        await made[0].hang_up()
        assert batch.ended == 1 and batch.left == 2
        await relay.answer_all(481)
        assert batch.failed == 2 and [reason for _, reason in relay.ended] == [b'SIP;cause=481;text="Call gone"'] * 2
        assert batch.summary().startswith("moved 0, gave up 2, 1 ended meanwhile in 0.")


async def test_what_the_store_has_to_know_is_written_before_anybody_is_told(
    node: FakeNode, autojump_clock: object
) -> None:
    class Slow:
        def __init__(self) -> None:
            self.written: list[str] = []

        async def commit(self, session: Session) -> None:
            assert relay.sent == [] or session.id not in [one for _, one, _ in relay.sent]
            await trio.sleep(0.05)
            self.written.append(session.ng_call_id)

    store = Slow()
    async with fake_node() as two, moving(node, two, store=store) as (stage, relay, mover):
        made = await calls(stage, 2)
        mover.node_lost("node1", "test")
        await trio.sleep(0.04)
        assert relay.sent == []
        await trio.sleep(1)
        assert sorted(store.written) == sorted(call.session.id + ".2" for call in made) and len(relay.sent) == 4


async def test_rescue_of_a_command(node: FakeNode, autojump_clock: object) -> None:
    """A re-INVITE finds the node gone: the call moves, and the command is done on the new node."""
    async with fake_node() as two, moving(node, two) as (stage, _, _):
        (call,) = await calls(stage, 1)
        node.stop()
        hold = await call.a.request(alice("sendonly", 2), from_phone=True)
        assert hold.refusal is None and call.session.node == "node2"


async def test_no_rescue_when_there_is_nothing_to_go_to(node: FakeNode, autojump_clock: object) -> None:
    async with moving(node, patience=3.0) as (stage, relay, _):
        (call,) = await calls(stage, 1)
        node.stop()
        stage.pool.choose = lambda *_, **__: []  # type: ignore[method-assign]
        hold = await call.a.request(alice("sendonly", 2), from_phone=True)
        assert hold.refusal is not None and hold.refusal.code == 503
        assert relay.ended == [(call.session.id, b'SIP;cause=503;text="No media node left"')]


async def test_a_call_the_node_has_forgotten(node: FakeNode, autojump_clock: object) -> None:
    """Anchored again while somebody talks, but not for ever."""
    lost: list[Session] = []
    async with moving(node, lost=lost.append) as (stage, _, mover):
        (call,) = await calls(stage, 1)
        session = call.session
        for number in range(LOST_LIMIT):
            session.sample = sample(0.1, moved_at=trio.current_time())
            mover.session_lost(session)
            await trio.sleep(0.5)
            assert session.ng_call_id == f"{session.id}.{number + 2}" and not session.sample.lost
        mover.session_lost(session)
        assert lost == [session]
        await call.hang_up()


async def test_a_silent_call_the_node_has_forgotten_is_over(node: FakeNode, autojump_clock: object) -> None:
    lost: list[Session] = []
    async with moving(node, lost=lost.append) as (stage, relay, mover):
        (call,) = await calls(stage, 1)
        call.session.sample = sample(60.0, moved_at=trio.current_time())
        await trio.sleep(60)
        mover.session_lost(call.session)
        assert lost == [call.session] and relay.sent == []


async def test_a_mistake_in_one_timer_stops_no_other(node: FakeNode, autojump_clock: object) -> None:
    async with moving(node) as (_, _, mover):
        rung: list[int] = []
        mover.later(0.1, lambda: rung.append(1 // 0))
        mover.later(0.2, lambda: rung.append(2))
        await trio.sleep(1)
        assert rung == [2] and mover.stats["internal_errors"] == 1

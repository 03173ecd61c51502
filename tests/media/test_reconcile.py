"""Calls nobody owns: what is deleted, and everything that is not. On the fake node and on a real rtpengine."""

from __future__ import annotations

import secrets
import socket
from collections.abc import AsyncGenerator, Iterator

import pytest
import trio

from ng_protocol import Answer, Client, ClientConfig, Delete, ListCalls, NgTimeout, Offer, Query
from proxy.edge import Edge
from proxy.media.reconcile import LEAST, LIMIT, MOVING, Reconciler, packets_of
from proxy.media.session import Session
from tests.fake_rtpengine import FakeNode, fake_node
from tests.media.ladder import phone
from tests.ng_protocol.daemon import rtpengine
from tests.world import TALK, config

PORTS = (36000, 37999)
INTERVAL = 60.0


@pytest.fixture(scope="module")
def daemon_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with rtpengine(tmp_path_factory.mktemp("rtpengine") / "daemon.log", ports=PORTS) as address:
        yield address


class Stage:
    """A reconciler of one node, with a clock and sessions of the test's own."""

    def __init__(self, client: Client, instance: str, fake: FakeNode | None) -> None:
        self.client = client
        self.instance = instance
        self.fake = fake
        self.now = 1000.0
        self.sessions: list[Session] = []
        self.deleted: list[str] = []
        self.told: list[tuple[str, str, str, int]] = []
        self.pending: list[Delete] = []
        self.reconciler = Reconciler(
            instance, lambda: self.sessions, lambda: {"node1": client}, self.delete,
            lambda *what: self.told.append(what), interval=INTERVAL, clock=lambda: self.now,
        )  # fmt: skip

    def delete(self, node: str, command: Delete) -> None:
        assert (node, command.delete_delay) == ("node1", 0)
        self.deleted.append(command.call_id)
        self.pending.append(command)

    async def look(self, later: float = INTERVAL) -> None:
        """A look, `later` seconds after the last one; deletes are executed."""
        self.now += later
        await self.reconciler.look()
        for command in self.pending:
            await self.client.request(command)
        self.pending.clear()

    async def call(self, call_id: str, port: int = 5000) -> tuple[bytes, bytes]:
        """A call on the node; what the callee and what the caller are shown."""
        offer = Offer(call_id=call_id, from_tag="f", to_tag="t", sdp=phone("127.0.0.1", port))
        offered = await self.client.request(offer)
        answer = Answer(call_id=call_id, from_tag="f", to_tag="t", sdp=phone("127.0.0.1", port + 2))
        return offered.sdp, (await self.client.request(answer)).sdp

    async def calls(self) -> set[str]:
        return set((await self.client.request(ListCalls(limit=1000))).calls)

    def id(self, number: int) -> str:
        """A call-id as this instance makes them."""
        return f"{self.instance}-{number:016x}"

    def session(self, call_id: str, node: str = "node1") -> Session:
        made = Session(call_id, direct=True, created=0.0, created_epoch=0.0)
        made.node = node
        self.sessions.append(made)
        return made


@pytest.fixture(params=["fake", pytest.param("daemon", marks=pytest.mark.real)])
async def stage(request: pytest.FixtureRequest) -> AsyncGenerator[Stage, None]:
    instance = f"edge.1-{secrets.token_hex(4)}"  # the daemon is shared: another test's calls are not ours
    async with fake_node() as fake, trio.open_nursery() as nursery:
        real = request.param == "daemon"
        address = request.getfixturevalue("daemon_address") if real else fake.address
        client = Client(address, name="node1", config=ClientConfig(timeout=0.4))
        await nursery.start(client.run)
        made = Stage(client, instance, None if real else fake)
        yield made
        for call_id in await made.calls():
            await client.request(Delete(call_id=call_id, delete_delay=0))
        nursery.cancel_scope.cancel()


async def test_what_nobody_owns_goes_after_two_confirmations(stage: Stage) -> None:
    for number in (1, 2, 3):
        await stage.call(stage.id(number), 5000 + 10 * number)
    stage.session(stage.id(2))
    await stage.look()
    assert await stage.calls() >= {stage.id(1), stage.id(2), stage.id(3)}
    await stage.look(INTERVAL / 2)
    assert stage.deleted == [], "half an interval confirms nothing"
    await stage.look()
    assert sorted(stage.deleted) == [stage.id(1), stage.id(3)]
    assert await stage.calls() & {stage.id(1), stage.id(2), stage.id(3)} == {stage.id(2)}
    assert stage.told == [("node1", "2 calls of ours that nobody owns", "deleted", 2)]
    await stage.look()
    assert len(stage.deleted) == 2 and len(stage.told) == 1


async def test_a_call_that_only_keeps_its_ports_for_a_while(stage: Stage) -> None:
    """With a delete-delay ended calls are listed until it is over: they go by themselves."""
    stage.reconciler._delay = 150
    await stage.call(stage.id(1))
    for _ in range(3):
        await stage.look()
    assert stage.deleted == []


async def test_what_is_not_exactly_ours_is_never_touched(stage: Stage) -> None:
    foreign = {
        f"{stage.instance}-canary-node1",
        f"{stage.instance}-canary-0123456789abcdef",
        f"{stage.instance}x-0123456789abcdef",
        f"{stage.instance}-b-0123456789abcdef",
        f"x{stage.instance}-0123456789abcdef",
        f"{stage.instance}-0123456789abcde",
        f"{stage.instance}-0123456789abcdef0",
        f"{stage.instance}-0123456789abcdef.x",
        f"{stage.instance}-0123456789ABCDEF",
        "9d3f-kamailio@198.51.100.77",
        secrets.token_hex(8),
    }
    for number, call_id in enumerate(sorted(foreign)):
        await stage.call(call_id, 6000 + 10 * number)
    for _ in range(4):
        await stage.look()
    assert stage.deleted == []
    assert await stage.calls() >= foreign


async def test_a_call_with_media_in_it_is_left_alone_until_it_is_quiet(stage: Stage) -> None:
    """The store never saw it, but people talk in it."""
    call_id = stage.id(7)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as rtp:
        rtp.bind(("127.0.0.1", 0))
        _, to_caller = await stage.call(call_id, rtp.getsockname()[1])
        port = int(to_caller.split(b"m=audio ")[1].split(b" ")[0])

        async def talk(packets: int) -> None:
            if stage.fake is not None:
                before = stage.fake.calls[call_id].by_tag("f")
                assert before is not None
                stage.fake.media(call_id, "f", packets=before.medias[0].packets + packets)
                return
            for number in range(packets):
                rtp.sendto(b"\x80\x00" + number.to_bytes(2, "big") + bytes(8) + b"\xff" * 160, ("127.0.0.1", port))

        await talk(3)
        await stage.look()
        for number in range(1, 4):
            await talk(5)
            await seen(stage, call_id, 3 + 5 * number)
            await stage.look()
        assert stage.deleted == []
        assert stage.reconciler.counters["unowned_with_media"] == 3
        await stage.look()
        assert stage.deleted == [call_id]


async def seen(stage: Stage, call_id: str, packets: int) -> None:
    """The daemon has counted them (its threads take a moment)."""
    with trio.fail_after(5):
        while packets_of(await stage.client.request(Query(call_id=call_id))) < packets:
            continue


async def test_a_call_that_gets_its_owner_meanwhile(stage: Stage) -> None:
    await stage.call(stage.id(1))
    await stage.look()
    stage.session(stage.id(1))
    await stage.look()
    await stage.look()
    assert stage.deleted == []


async def test_a_call_being_set_up_belongs_to_its_session(stage: Stage) -> None:
    """The offer's reply is still on its way: the session has no node yet."""
    await stage.call(stage.id(1))
    stage.session(stage.id(1), node="")
    for _ in range(4):
        await stage.look()
    assert stage.deleted == []


async def test_what_a_moved_session_left_behind(stage: Stage) -> None:
    """Not while the move may be under way; then it goes, media or not."""
    await stage.call(stage.id(1))
    moved = stage.session(stage.id(1), node="node2")
    moved.ng_call_id += ".2"
    await stage.look()
    await stage.look(MOVING / 2)
    assert stage.deleted == []
    await stage.look(MOVING / 2)
    assert stage.deleted == [stage.id(1)]


async def test_a_session_that_came_here_owns_its_new_call_id(stage: Stage) -> None:
    await stage.call(stage.id(1) + ".2")
    await stage.call(stage.id(2) + ".3")
    stage.session(stage.id(1)).ng_call_id += ".2"
    await stage.look()
    await stage.look()
    assert stage.deleted == [stage.id(2) + ".3"]


async def test_a_call_that_ends_between_two_looks_is_forgotten(stage: Stage) -> None:
    await stage.call(stage.id(1))
    await stage.look()
    await stage.client.request(Delete(call_id=stage.id(1), delete_delay=0))
    await stage.look()
    await stage.call(stage.id(1))
    await stage.look()
    assert stage.deleted == [], "it is a new suspect"


async def test_a_list_that_does_not_fit_into_a_datagram(stage: Stage) -> None:
    """10.5 says nothing at all then: half as many are asked for, until an answer comes."""
    for number in range(100):
        await stage.call(f"{number:03}{'x' * 800}", 7000 + 4 * number)
    with pytest.raises(NgTimeout):
        await stage.client.request(ListCalls(limit=LIMIT))
    for _ in range(4):
        await stage.look()
    assert stage.reconciler.counters["failures"] == 4
    await stage.look()
    assert stage.reconciler.counters["failures"] == 4
    assert stage.reconciler._limits["node1"] == max(LEAST, LIMIT // 16)
    for number in range(100):
        await stage.client.request(Delete(call_id=f"{number:03}{'x' * 800}", delete_delay=0))
    await stage.call(stage.id(1))
    await stage.look()
    await stage.look()
    assert stage.deleted == [stage.id(1)]


async def test_a_dead_node_delays_no_other(autojump_clock: object) -> None:
    async with fake_node() as dead, fake_node() as alive, trio.open_nursery() as nursery:
        clients = {"dead": Client(dead.address), "alive": Client(alive.address)}
        for client in clients.values():
            await nursery.start(client.run)
        dead.pause()
        asked: list[float] = []
        reconciler = Reconciler("edge1", list, lambda: clients, lambda *_: None, lambda *_: None)
        nursery.start_soon(reconciler.run)
        while alive.count("list") < 3:
            await trio.sleep(1)
            if alive.count("list") > len(asked):
                asked.append(trio.current_time())
        assert asked[0] <= 1.0
        assert reconciler.counters["failures"] == 2
        nursery.cancel_scope.cancel()


async def test_it_is_where_the_edge_says() -> None:
    """Turned off by `reconcile = 0`, and without media."""
    assert Edge(config(TALK, "127.0.0.1:2223")).reconciler is not None
    assert Edge(config(TALK + "\n[store]\nreconcile = 0\n", "127.0.0.1:2223")).reconciler is None
    assert Edge(config(TALK)).reconciler is None

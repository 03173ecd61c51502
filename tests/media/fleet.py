"""A fleet of fake nodes with media, a watch over it, and a mover that only counts: for tests in virtual time."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import trio

from ng_protocol import Client, Offer
from proxy.media.nodes import Evacuation, Node, NodeEvent, Observed, PlannedMove
from proxy.media.pool import Pool
from proxy.media.pulse import Detection
from proxy.media.watch import Watch
from tests.fake_rtpengine import FakeNode, fake_node
from tests.media.ladder import alice
from tests.media.relay import Relay


class CountingMover:
    """Remembers what it was told; every node has as many calls as the fleet says."""

    def __init__(self, calls: Counter[str]) -> None:
        self.calls = calls
        self.told: list[tuple[str, str]] = []

    def node_lost(self, name: str, why: str) -> int:
        self.told.append(("lost", name))
        return self.calls[name]

    def node_restarted(self, name: str) -> int:
        self.told.append(("restarted", name))
        return self.calls[name]

    def half_dead(self, name: str) -> int:
        self.told.append(("half-dead", name))
        return self.calls[name]

    def plan(self, name: str) -> list[PlannedMove]:
        return []

    def evacuate(self, name: str) -> Evacuation:
        raise NotImplementedError


class Fleet:
    """`nodes`, `relays`: by name, node1, node2, ...; `events`: as the pool emitted them, with the time of the clock."""

    def __init__(self, pool: Pool, watch: Watch, nodes: dict[str, FakeNode], relays: dict[str, Relay]) -> None:
        self.pool = pool
        self.watch = watch
        self.nodes = nodes
        self.relays = relays
        self.calls: Counter[str] = Counter()
        self.mover = CountingMover(self.calls)
        self.events: list[tuple[float, NodeEvent]] = []
        pool.events.append(lambda event: self.events.append((trio.current_time(), event)))

    def state(self, name: str = "node1") -> Observed:
        return self.pool.nodes[name].observed

    def lines(self) -> list[str]:
        return [event.line() for _, event in self.events]

    async def until(self, state: Observed, name: str = "node1", within: float = 5.0) -> float:
        """Seconds until a node is in this state; fails after `within`."""
        start = trio.current_time()
        while self.state(name) is not state:
            await trio.sleep(0.01)
            assert trio.current_time() - start < within, f"{name} is still {self.state(name)}: {self.lines()}"
        return trio.current_time() - start

    async def told(self, what: str, name: str = "node1", within: float = 1.0) -> float:
        """Seconds until the mover has been told this of a node; fails after `within`."""
        start = trio.current_time()
        while (what, name) not in self.mover.told:
            await trio.sleep(0.01)
            assert trio.current_time() - start < within, f"{what} {name} was not told: {self.lines()}"
        return trio.current_time() - start

    async def call(self, name: str, call_id: str) -> None:
        """A call on a node, as the engine would make it."""
        await self.pool.client(name).request(Offer(call_id=call_id, from_tag="a", sdp=alice()))


@asynccontextmanager
async def fleet(
    count: int = 2, detection: Detection | None = None, settle: float = 2.0, **options: Any
) -> AsyncGenerator[Fleet, None]:
    """So many nodes, watched for `settle` seconds before the block begins."""
    async with trio.open_nursery() as clients, AsyncExitStack() as stack:
        pool, nodes, relays = Pool(), {}, {}
        calls: Counter[str] = Counter()
        watch = Watch(pool, detection, instance="edge1", calls_on=lambda name: calls[name], **options)
        made = Fleet(pool, watch, nodes, relays)
        made.calls, made.mover.calls = calls, calls
        watch.mover = made.mover
        for number in range(1, count + 1):
            name = f"node{number}"
            address = f"127.0.{number}.1"
            node = await stack.enter_async_context(fake_node(interfaces={"pub": address, "lan": f"127.0.{number}.2"}))
            relays[name] = await stack.enter_async_context(Relay.on(node))
            nodes[name] = node
            client = Client(node.address, name=name)
            await clients.start(client.run)
            pool.add(Node(name, client))
        async with trio.open_nursery() as nursery:
            await nursery.start(watch.run)
            await trio.sleep(settle)
            assert made.events == []
            yield made
            nursery.cancel_scope.cancel()
        await trio.sleep(0.01)
        clients.cancel_scope.cancel()

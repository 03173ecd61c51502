"""Any interleaving of dying nodes, calls and a bad network: nothing is left, no call is stuck (seeds fixed).

How it works. Real calls of `Chaos` (they answer, cancel, refuse, hang up at random, with re-INVITEs in between) run
over a network that loses, doubles and delays datagrams, on three fake nodes that are killed, started, paused, restarted
and evacuated at random. In the end every ng call that any node still has must be one that a delete was sent for (a node
that is away owes it), and nothing of any call, move or transaction may be left in the edge.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
import trio

from ng_protocol import Delete
from proxy.media.mover import Mover
from tests.ladders.moving import prefer
from tests.media.ladder import alice
from tests.proxy.test_fuzz import Chaos
from tests.world import World, open_world

NAMES = ("node1", "node2", "node3")


class Fate:
    """What happens to the nodes; `deleted`: (node, ng call-id) of every delete handed to the pool."""

    def __init__(self, world: World, rng: random.Random) -> None:
        assert world.edge.mover is not None
        self.world = world
        self.rng = rng
        self.mover: Mover = world.edge.mover
        self.deleted: set[tuple[str, str]] = set()
        self.away: set[str] = set()
        self.paused: set[str] = set()
        self.done: list[str] = []
        pool = world.edge.pool
        pass_on = pool.delete

        def delete(name: str, command: Delete) -> None:
            if command.from_tag is None:
                assert command.call_id is not None
                self.deleted.add((name, command.call_id))
            pass_on(name, command)

        pool.delete = delete  # type: ignore[method-assign]

    async def run(self, steps: int) -> None:
        for _ in range(steps):
            await trio.sleep(self.rng.choice((0.0, 0.02, 0.3, 1.5, 4.0)))
            name = self.rng.choice(NAMES)
            step = self.rng.choice((self.kill, self.kill, self.pause, self.restart, self.evacuate, self.half_dead))
            if name in self.away:
                self.back(name)
            else:
                step(name)
        for name in sorted(self.away):
            self.back(name)

    def kill(self, name: str) -> None:
        self.world.nodes[name].stop()
        self.world.nodes[name].restart()
        self._lost(name)

    def pause(self, name: str) -> None:
        """Its host is cut off; it keeps its calls."""
        self.world.nodes[name].pause()
        self.paused.add(name)
        self._lost(name)

    def _lost(self, name: str) -> None:
        self.away.add(name)
        self.world.dead.add(name)
        self.done.append(f"lost {name}")
        if self.rng.random() < 0.7:  # else nobody notices but the calls
            self.mover.node_lost(name, "test")

    def back(self, name: str) -> None:
        self.away.discard(name)
        if name in self.paused:
            self.paused.discard(name)
            self.world.nodes[name].resume()
        else:
            self.world.nodes[name].start()
        self.world.dead.discard(name)
        self.done.append(f"back {name}")
        self.mover.node_restarted(name)

    def restart(self, name: str) -> None:
        self.world.nodes[name].restart()
        self.done.append(f"restarted {name}")
        self.mover.node_restarted(name)

    def evacuate(self, name: str) -> None:
        self.done.append(f"evacuated {name}")
        self.mover.evacuate(name)

    def half_dead(self, name: str) -> None:
        self.done.append(f"half-dead {name}")
        self.mover.half_dead(name)

    def unpaid(self) -> list[tuple[str, str]]:
        """Calls on a node for which no delete ever was."""
        return [
            (name, call_id)
            for name in NAMES
            for call_id in self.world.nodes[name].calls
            if (name, call_id) not in self.deleted
        ]


class Busy(Chaos):
    """Callers that also hold and refresh now and then, and phones that mostly take what they are told."""

    async def call(self) -> None:
        self.world.nursery.start_soon(self._holds, f"c{self.number + 1}@test")
        await super().call()

    async def _holds(self, call_id: str) -> None:
        party = self.world.parties["caller"]
        for version in range(2, 6):
            await trio.sleep(self.rng.choice((0.5, 2.0, 6.0)))
            call = party.calls.get(call_id)
            if call is None or call.dialog is None or "BYE" in call.sent:
                continue
            way = self.rng.choice(("sendrecv", "sendonly"))
            request = party.request(call_id, "INVITE", "", alice(way, version))
            for _ in range(self.rng.choice((1, 3))):
                self.send(party, request)
                await trio.sleep(0.5)

    def _on_invite(self, party: Any, message: Any) -> None:
        if message.to.tag and self.rng.random() < 0.7:
            body = party.reprint(message.body) if party.name == "fs" and message.body else alice()
            reply = message.response(200, tag=message.to.tag, contact=party.contact, sdp=body.decode())
            self.deliver(party.name, reply.encode())
        else:
            super()._on_invite(party, message)


@pytest.mark.parametrize("seed", range(6))
async def test_any_interleaving(autojump_clock: object, seed: int) -> None:
    rng = random.Random(seed)
    async with open_world(nodes=3) as world:
        names = list(NAMES)
        rng.shuffle(names)
        prefer(world, *names)
        fate = Fate(world, rng)
        people = Busy(world, rng, (0.0, 0.05, 0.2)[seed % 3])
        world.nursery.start_soon(people.people)
        world.nursery.start_soon(fate.run, 40)
        for _ in range(18):
            world.nursery.start_soon(people.call)
            await trio.sleep(rng.random() * 2)
        await trio.sleep(250)
        for session in list(world.edge._sessions()):  # both parties vanished: the sampler would find them
            world.edge.supervisor.end(session, b"SIP;cause=408")
        await trio.sleep(110)
        assert people.answered > 5 and fate.mover.stats["moved"] > 3, (people.answered, fate.mover.stats)
        assert fate.unpaid() == []
        left = [one for one in world.leftovers() if not one.startswith("call ")]
        assert left == [], left
        assert fate.mover.stats["internal_errors"] == 0
        assert not fate.mover._batches and not fate.mover._asking and not fate.mover._timers
        assert len(world.edge.anchor.table) == 0 and world.edge.anchor.table.address_count == 0  # type: ignore[union-attr]

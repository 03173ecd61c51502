"""The methods that change nodes, on the nodes of a proxy that has not opened anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from proxy.config import ConfigError, load
from proxy.control import node_schema, schema
from proxy.control.administration import NodeAdministration, evacuation_info
from proxy.media.nodes import Evidence, NodeEvent, Observed
from proxy.media_nodes import MediaNodes

BASE = '[[listen]]\nname = "lan"\nside = "lan"\naddress = "127.0.0.1"\nport = 5080\n'


def entry(name: str, port: int, more: str = "") -> str:
    return f'[[rtpengine]]\nname = "{name}"\naddress = "127.0.0.1:{port}"\n{more}\n'


class Bench:
    """Two nodes from a file; `calls` on each."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "edge.toml"
        self.file.write_text(BASE + entry("node1", 2221) + entry("node2", 2222, "weight = 3"))
        self.calls = {"node1": 2}
        config = load(self.file)
        self.nodes = MediaNodes(
            config, lambda name: self.calls.get(name, 0), clock=lambda: 5.0, epoch=lambda: 1_700_000_000.0
        )
        self.administration = NodeAdministration(self.nodes, 1.0)
        self.administration.path = str(self.file)

    async def ask(self, method: str, **params: Any) -> Any:
        return await self.administration.call(method, schema.METHODS[method](**params))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_drain_and_back(bench: Bench) -> None:
    event = await bench.ask("node", node="node1", action="drain")
    assert event.line == (
        "node node1: drained by the operator; no new calls for it, those on it (2) stay until they end or are moved"
    )
    assert (event.at, event.calls) == (1_700_000_000.0, 2)
    assert bench.nodes.pool.choose("x", 0.0) == ["node2"]
    event = await bench.ask("node", node="node1", action="undrain")
    assert event.line == "node node1: enabled by the operator; it takes new calls"
    assert len(bench.nodes.pool.choose("x", 0.0)) == 2
    await bench.ask("node", node="node1", action="disable")
    bench.nodes.pool.nodes["node1"].observed = Observed.DOWN
    event = await bench.ask("node", node="node1", action="enable")
    assert event.line == "node node1: enabled by the operator; it is down"


@pytest.mark.parametrize("action", ["drain", "lost", "remove"])
async def test_an_unknown_node(bench: Bench, action: str) -> None:
    with pytest.raises(schema.ControlError, match="there is no node nodeX: known are node1, node2") as caught:
        await bench.ask("node", node="nodeX", action=action)
    assert caught.value.code == "not_found"


async def test_the_last_node_is_not_taken_out_without_a_warning(bench: Bench) -> None:
    await bench.ask("node", node="node1", action="drain")
    event = await bench.ask("node", node="node2", action="disable")
    assert event.line.endswith("; NO NODE IS LEFT FOR NEW CALLS") and bench.nodes.pool.choose("x", 0.0) == []
    await bench.ask("node", node="node1", action="enable")
    event = await bench.ask("node", node="node1", action="remove")
    assert event.line.endswith("; NO NODE IS LEFT FOR NEW CALLS")


async def test_add_and_remove(bench: Bench) -> None:
    event = await bench.ask("node_add", name="node3", address="127.0.0.1:2223", tier=1, labels=["eu"], set="s")
    assert event.line == "node node3: added at 127.0.0.1:2223; it takes new calls"
    node = bench.nodes.pool.nodes["node3"]
    assert (node.tier, node.labels, node.group) == (1, frozenset({"eu"}), "s") and "node3" in bench.nodes.clients
    event = await bench.ask("node", node="node3", action="remove")
    assert event.line == "node node3: removed; no new calls for it, it goes when those on it (0) have ended"
    with pytest.raises(schema.ControlError, match="leaving already"):
        await bench.ask("node", node="node3", action="remove")
    event = await bench.ask("node_add", name="node3", address="127.0.0.1:2223")
    assert event.line == "node node3: added again before it had left; it takes new calls"
    assert bench.nodes.pool.nodes["node3"].tier == 0 and not bench.nodes.pool.nodes["node3"].leaving


@pytest.mark.parametrize(
    ("params", "says", "code"),
    [
        ({"name": "node1", "address": "127.0.0.1:9"}, "there is a node node1 already, at 127.0.0.1:2221", "refused"),
        ({"name": "new", "address": "127.0.0.1:2221"}, "node node1 has the address 127.0.0.1:2221 already", "refused"),
        ({"name": "n w", "address": "127.0.0.1:9"}, "name is 'n w'; give", "bad_request"),
        ({"name": "new", "address": "localhost:9"}, "address is 'localhost:9'; give", "bad_request"),
        ({"name": "new", "address": "127.0.0.1:9", "weight": 0}, "weight is 0", "bad_request"),
    ],
)
async def test_what_cannot_be_added(bench: Bench, params: dict[str, Any], says: str, code: str) -> None:
    with pytest.raises(schema.ControlError, match=says) as caught:
        await bench.ask("node_add", **params)
    assert caught.value.code == code and len(bench.nodes.pool.nodes) == 2


async def test_reload(bench: Bench) -> None:
    bench.file.write_text(BASE + entry("node2", 2222, "weight = 5") + entry("node3", 2223))
    done = await bench.ask("nodes_reload")
    assert done == node_schema.Reloaded(added=["node3"], removed=["node1"], changed=["node2"], refused=[])
    assert bench.nodes.pool.nodes["node1"].leaving and bench.nodes.pool.nodes["node2"].weight == 5.0
    bench.file.write_text("nonsense")
    with pytest.raises(schema.ControlError, match=r"nothing was changed: .*line 1: not valid TOML"):
        await bench.ask("nodes_reload")
    bench.administration.path = None
    with pytest.raises(ConfigError, match="not started from a file"):
        bench.administration.reload()


async def test_events_are_numbered_and_can_be_waited_for(bench: Bench, autojump_clock: object) -> None:
    nothing = await bench.ask("events")
    assert nothing == node_schema.Events(stream="1.000", last=0, events=[])
    started = trio.current_time()
    assert (await bench.ask("events", after=0, wait_s=5.0)).events == [] and trio.current_time() == started + 5.0
    answers: list[node_schema.Events] = []

    async def wait() -> None:
        answers.append(await bench.ask("events", after=0, wait_s=5.0))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.sleep(1.0)
        await bench.ask("node", node="node1", action="drain")
    assert trio.current_time() == started + 6.0
    assert [(event.number, event.node) for event in answers[0].events] == [(1, "node1")] and answers[0].last == 1
    await bench.ask("node", node="node2", action="drain")
    later = await bench.ask("events", after=1)
    assert [event.number for event in later.events] == [2]
    everything = await bench.ask("events")
    assert len(everything.events) == 2


class Evacuating:
    """An evacuation of three calls."""

    total, moved, failed = 3, 1, 0

    @property
    def left(self) -> int:
        return self.total - self.moved - self.failed

    @property
    def eta_seconds(self) -> float | None:
        return 4.0


class Planned:
    session_id, node, note = "edge1-1", "node2", "on hold"


class OneMover:
    """Moves nothing, but says so properly."""

    def __init__(self) -> None:
        self.evacuation = Evacuating()
        self.lost: list[str] = []

    def node_lost(self, name: str, why: str) -> int:
        self.lost.append(name)
        return 2

    def plan(self, name: str) -> list[Planned]:
        return [Planned()]

    def evacuate(self, name: str) -> Evacuating:
        return self.evacuation


async def test_evacuation(bench: Bench) -> None:
    with pytest.raises(schema.ControlError, match="does not move calls"):
        await bench.ask("evacuate", node="node1")
    bench.nodes.mover = mover = OneMover()  # type: ignore[assignment]
    assert bench.nodes.mover is mover
    with pytest.raises(schema.ControlError, match="has not been evacuated"):
        await bench.ask("evacuation", node="node1")
    with pytest.raises(schema.ControlError, match="there is no node nodeX"):
        await bench.ask("plan", node="nodeX")
    assert await bench.ask("plan", node="node1") == [
        node_schema.PlannedMoveInfo(session="edge1-1", to="node2", note="on hold")
    ]
    started = await bench.ask("evacuate", node="node1")
    assert started == node_schema.EvacuationInfo(
        node="node1", total=3, moved=1, failed=0, left=2, eta_s=4.0, done=False
    )
    mover.evacuation.moved = 2
    mover.evacuation.failed = 1
    assert await bench.ask("evacuation", node="node1") == evacuation_info("node1", mover.evacuation)
    assert (await bench.ask("evacuation", node="node1")).done


async def test_the_operator_says_that_a_node_is_lost(bench: Bench) -> None:
    bench.nodes.mover = mover = OneMover()  # type: ignore[assignment]
    for node in bench.nodes.pool.nodes.values():
        bench.nodes.watch.add(node)
    event = await bench.ask("node", node="node1", action="lost")
    assert mover.lost == ["node1"] and "down: the operator says it is lost; 2 calls to be moved" in event.line


def test_a_node_is_described_with_both_states(bench: Bench) -> None:
    info = schema.NodeInfo(name="node2", address="127.0.0.1:2222", state="unknown")
    bench.administration.describe(info)
    assert (info.state, info.admin, info.why, info.weight, info.tier) == ("unknown", "active", None, 3.0, 0)
    assert (info.owed, info.generation, info.canary) == (0, 0, None)
    node = bench.nodes.pool.nodes["node2"]
    bench.nodes.watch.add(node)
    node.take(Evidence.REFUSED, 1.0)
    bench.administration.describe(info)
    assert info.state == "down" and info.why and info.why.startswith("nothing listens") and info.canary == "none"


def test_events_are_remembered_up_to_a_limit(bench: Bench) -> None:
    events = bench.nodes.events
    for number in range(1, 1501):
        events.take(NodeEvent(float(number), "node1", "x", "", 0))
    kept = events.after(0)
    assert (kept[0][0], kept[0][1].epoch) == (501, 501.0) and kept[-1][0] == events.last == 1500
    assert events.after(1499) == [kept[-1]]

"""The media nodes as a whole, on fake nodes with media: started, added, removed, reloaded and stopped."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import msgspec
import pytest
import trio

from ng_protocol import Delete, NgClosed, Ping
from proxy.config import Config, RtpengineConfig
from proxy.media.nodes import Admin, Observed
from proxy.media_nodes import MediaNodes, NodeProblem
from tests.fake_rtpengine import FakeNode, fake_node
from tests.media.relay import Relay

pytestmark = pytest.mark.usefixtures("autojump_clock")


class Stage:
    """Two fake nodes with media, `one` and `two`, of which the configuration names `one`."""

    def __init__(self, one: FakeNode, two: FakeNode) -> None:
        self.one, self.two = one, two
        self.calls: Counter[str] = Counter()
        self.entry = RtpengineConfig(name="one", address=one.address)
        self.other = RtpengineConfig(name="two", address=two.address)
        self.nodes = MediaNodes(Config(rtpengine=(self.entry,)), lambda name: self.calls[name])

    def lines(self) -> list[str]:
        return [event.line() for _, event in self.nodes.events.after(0)]


@asynccontextmanager
async def stage(*, running: bool = True) -> AsyncGenerator[Stage, None]:
    async with (
        fake_node() as one,
        fake_node(interfaces={"pub": "127.0.1.1", "lan": "127.0.1.2"}) as two,
        Relay.on(one),
        Relay.on(two),
        trio.open_nursery() as nursery,
    ):
        made = Stage(one, two)
        if running:
            await nursery.start(made.nodes.run)
            await trio.sleep(1.0)
        yield made
        nursery.cancel_scope.cancel()


async def test_it_watches_what_the_file_names_and_leaves_nothing_behind() -> None:
    async with stage() as s:
        assert list(s.one.calls) == ["edge1-canary-one"] and s.two.datagrams == 0
        assert s.nodes.watch.watched["one"].pulse.canary_usable
        s.nodes.pool.delete("one", Delete(call_id="edge1-1", delete_delay=0))
        await trio.sleep(0.01)
    assert s.one.calls == {}, "the canary's delete went out before the client was stopped"


async def test_a_node_added_at_run_time_is_watched_and_told_to_others() -> None:
    async with stage() as s:
        came: list[str] = []
        s.nodes.came.append(lambda name, client: came.append(name))
        s.nodes.add(s.other)
        await trio.sleep(1.0)
        assert came == ["two"] and list(s.two.calls) == ["edge1-canary-two"]
        assert len(s.nodes.drains) == 2 and list(s.nodes.clients) == ["one", "two"]
        assert len(s.nodes.pool.choose("x", 0.0)) == 2
        s.two.stop()
        await trio.sleep(1.0)
        assert s.nodes.pool.nodes["two"].observed is Observed.DOWN


async def test_a_removed_node_serves_its_calls_until_they_end() -> None:
    async with stage() as s:
        went: list[str] = []
        s.nodes.went.append(went.append)
        s.nodes.add(s.other)
        await trio.sleep(0.5)
        s.calls["two"] = 1
        s.nodes.remove("two")
        client = s.nodes.clients["two"]
        await trio.sleep(5.0)
        assert s.nodes.pool.choose("x", 0.0) == ["one"] and went == []
        await client.request(Ping())
        s.calls["two"] = 0
        await trio.sleep(1.5)
        assert went == ["two"] and list(s.nodes.clients) == ["one"] and len(s.nodes.drains) == 1
        assert s.two.calls == {} and "two" not in s.nodes.pool.nodes
        with pytest.raises(NgClosed, match="the node was removed"):
            await client.request(Ping())
        assert s.lines()[-1] == "node two: removed; its last call has ended"
        s.nodes.add(s.other)
        await trio.sleep(1.0)
        assert list(s.two.calls) == ["edge1-canary-two"], "and it can come back"


async def test_reload_is_by_name_and_leaves_the_operators_wishes_alone() -> None:
    async with stage() as s:
        s.nodes.set_admin("one", Admin.DRAINING)
        by_hand = msgspec.structs.replace(s.other, name="by-hand")
        s.nodes.add(by_hand)
        changed = msgspec.structs.replace(s.entry, weight=7)
        changes = s.nodes.reload([changed])
        assert changes.line() == "changed one"
        assert s.nodes.pool.nodes["one"].weight == 7.0
        assert s.nodes.pool.nodes["one"].admin is Admin.DRAINING, "its admin in the file did not change"
        assert not s.nodes.pool.nodes["by-hand"].leaving, "it was never in the file"
        assert s.nodes.reload([changed]).line() == "no node changed"
        changes = s.nodes.reload([msgspec.structs.replace(changed, admin="disabled")])
        assert changes.changed == ["one"] and s.nodes.pool.nodes["one"].admin is Admin.DISABLED
        moved = msgspec.structs.replace(changed, address="127.0.0.1:9")
        (refused,) = s.nodes.reload([moved]).refused
        assert "the address of one cannot change" in refused and "new name" in refused
        changes = s.nodes.reload([s.other])
        assert changes.removed == ["one"] and changes.added == []
        assert changes.refused == [f"node by-hand has the address {s.two.address} already; name each node once"]
        assert changes.line().startswith("removed one; node by-hand has")


async def test_before_it_runs_nodes_can_be_changed_too() -> None:
    async with stage(running=False) as s:
        s.nodes.add(s.other)
        with pytest.raises(NodeProblem, match="there is a node two already"):
            s.nodes.add(s.other)
        assert list(s.nodes.clients) == ["one", "two"] and s.one.datagrams == 0


async def test_a_node_still_leaving_keeps_its_name() -> None:
    async with stage() as s:
        s.calls["one"] = 4
        s.nodes.remove("one")
        with pytest.raises(NodeProblem, match="and still has 4 calls"):
            s.nodes.add(msgspec.structs.replace(s.other, name="one"))


async def test_events_are_logged_in_the_same_words(caplog: pytest.LogCaptureFixture) -> None:
    async with stage() as s:
        s.one.stop()
        await trio.sleep(1.0)
        (line,) = s.lines()
        assert line == (
            "node one: down: nothing listens on its ng port (refused twice); 0 calls to be moved to other nodes"
        )
        assert line in caplog.text


async def test_an_address_that_cannot_be_used_is_its_own_problem(caplog: pytest.LogCaptureFixture) -> None:
    async with stage() as s:
        s.nodes.add(RtpengineConfig(name="odd", address="255.255.255.255:9"))
        await trio.sleep(5.0)
        assert "node odd" in caplog.text and s.nodes.pool.nodes["one"].observed is Observed.UP
        assert s.nodes.pool.choose("x", 0.0)[0] == "one"

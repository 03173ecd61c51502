"""The watch over fake nodes with media, in virtual time: what is noticed, how fast, and what follows."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from ng_protocol import Client, Delete
from proxy.media.nodes import Admin, Load, Node, Observed
from proxy.media.pulse import Detection
from proxy.media.watch import load_of, packets_per_call
from tests.fake_rtpengine import fake_node
from tests.media.fleet import fleet
from tests.media.relay import Relay

pytestmark = pytest.mark.usefixtures("autojump_clock")


async def test_a_quiet_fleet_gives_no_events_and_few_commands() -> None:
    async with fleet(3) as f:
        before = {name: node.datagrams for name, node in f.nodes.items()}
        await trio.sleep(10.0)
        assert f.events == [] and all(node.observed is Observed.UP for node in f.pool.nodes.values())
        for name, node in f.nodes.items():
            assert 105 <= node.datagrams - before[name] <= 115, "ten pings and one statistics a second"
            assert list(node.calls) == [f"edge1-canary-{name}"] and node.duplicates == 0
            assert f.relays[name].relayed >= 100
        load = f.pool.nodes["node1"].load
        assert load is not None and load.sessions == 1 and load.ports_total > load.ports_free > 0


async def test_the_canary_calls_are_deleted_at_the_end() -> None:
    async with fleet(2) as f:
        pass
    await trio.sleep(0.1)
    assert [node.calls for node in f.nodes.values()] == [{}, {}]


async def test_a_killed_daemon_is_down_within_two_looks() -> None:
    async with fleet() as f:
        f.calls["node1"] = 12
        f.nodes["node1"].stop()
        assert await f.until(Observed.DOWN) <= 0.13
        assert f.mover.told == [("lost", "node1")]
        assert f.lines() == [
            "node node1: down: nothing listens on its ng port (refused twice); 12 calls to be moved to other nodes"
        ]
        assert f.pool.choose("x", 0.0) == ["node2"] and f.pool.nodes["node1"].load is None
        await trio.sleep(3.0)
        assert len(f.events) == 1, "said once"
        assert f.state("node2") is Observed.UP


async def test_a_host_that_is_silent_is_suspect_then_down() -> None:
    async with fleet() as f:
        f.nodes["node1"].pause()
        assert 0.15 <= await f.until(Observed.SUSPECT) <= 0.4
        assert f.pool.choose("x", 0.0) == ["node2", "node1"]
        start = trio.current_time()
        await f.until(Observed.DOWN)
        assert 0.2 <= trio.current_time() - start <= 0.45
        assert f.mover.told == [("lost", "node1")]


async def test_a_stall_of_300_ms_moves_nothing() -> None:
    async with fleet() as f:
        for _ in range(20):
            f.nodes["node1"].pause()
            await trio.sleep(0.3)
            f.nodes["node1"].resume()
            await trio.sleep(0.83)
        assert f.mover.told == [] and f.state() is Observed.UP


async def test_a_partition_moves_nothing_until_the_canary_stops() -> None:
    async with fleet() as f:
        node = f.nodes["node1"]
        node.drop_requests = 10**9
        await f.until(Observed.PARTITIONED, within=1.0)
        assert f.pool.choose("x", 0.0) == ["node2"]
        await trio.sleep(30.0)
        assert f.mover.told == [] and f.state() is Observed.PARTITIONED
        f.relays["node1"].flows = False
        assert 0.5 <= await f.until(Observed.DOWN) <= 0.8
        assert f.mover.told == [("lost", "node1")]


async def test_a_partition_that_ends_is_no_restart() -> None:
    async with fleet() as f:
        f.nodes["node1"].drop_requests = 10**9
        await f.until(Observed.PARTITIONED)
        f.nodes["node1"].drop_requests = 0
        assert await f.until(Observed.UP) <= 0.3
        await trio.sleep(3.0)
        assert f.mover.told == [] and f.pool.nodes["node1"].generation == 0


async def test_the_operator_knows_better() -> None:
    async with fleet() as f:
        f.calls["node1"] = 1
        f.nodes["node1"].drop_requests = 10**9
        await f.until(Observed.PARTITIONED)
        event = f.watch.give_up("node1")
        assert event.line() == ("node node1: down: the operator says it is lost; 1 call to be moved to other nodes")
        assert f.mover.told == [("lost", "node1")] and f.state() is Observed.DOWN
        await trio.sleep(2.0)
        assert f.state() is Observed.DOWN, "media that passes is no reason to take calls"


@pytest.mark.parametrize("gap", [0.0, 0.05, 0.3])
async def test_a_restart_is_found_however_short(gap: float) -> None:
    async with fleet(settle=20.0) as f:
        f.calls["node1"] = 3
        f.nodes["node1"].stop()
        await trio.sleep(gap)
        f.nodes["node1"].start()
        assert await f.told("restarted") <= 0.3
        assert f.pool.nodes["node1"].generation == 1 and f.state() is Observed.UP
        await trio.sleep(3.0)
        assert f.mover.told.count(("restarted", "node1")) == 1
        assert list(f.nodes["node1"].calls) == ["edge1-canary-node1"], "and it has a canary again"
        assert f.watch.watched["node1"].pulse.canary_usable


@pytest.mark.parametrize("late", [0.0, 0.02, 0.04, 0.06, 0.08])
async def test_a_question_lost_in_the_gap_of_a_restart_costs_no_second(late: float) -> None:
    """The daemon's RTP ports refuse, its ng port swallows what comes in the 111 ms until it listens again."""
    async with fleet(settle=20.0 + late) as f:
        f.nodes["node1"].pause()
        f.nodes["node1"].restart()
        await trio.sleep(0.111)
        f.nodes["node1"].resume()
        assert await f.told("restarted") <= 0.25
        assert not any("half-dead" in line for line in f.lines())


async def test_a_restart_behind_a_packet_filter_that_eats_icmp() -> None:
    async with fleet(settle=20.0) as f:
        f.nodes["node1"].restart()  # the ng port never closes here, and the relay's ports are swallowed
        f.watch.watched["node1"].canary._ends[0].close()
        assert await f.told("restarted") <= 0.4


async def test_without_canaries_the_uptime_tells() -> None:
    async with fleet(settle=20.0, canaries=lambda name: False) as f:
        assert f.nodes["node1"].calls == {}
        f.nodes["node1"].restart()
        await trio.sleep(1.2)
        assert f.mover.told == [("restarted", "node1")]
        f.nodes["node2"].pause()
        assert 1.8 <= await f.until(Observed.DOWN, "node2") <= 2.3


async def test_a_canary_that_is_merely_gone_is_made_again(caplog: pytest.LogCaptureFixture) -> None:
    async with fleet(settle=20.0) as f:
        await f.pool.client("node1").request(Delete(call_id="edge1-canary-node1", delete_delay=0))
        await trio.sleep(1.0)
        assert f.events == [] and f.mover.told == []
        assert "no longer knows the canary call but has not restarted" in caplog.text
        assert list(f.nodes["node1"].calls) == ["edge1-canary-node1"]
        assert f.watch.watched["node1"].pulse.canary_usable


async def test_half_dead_is_quarantined_and_evacuated_when_told_so() -> None:
    for evacuate in (False, True):
        async with fleet(evacuate_half_dead=evacuate) as f:
            f.calls["node1"] = 2
            f.relays["node1"].flows = False
            assert 0.9 <= await f.until(Observed.HALF_DEAD) <= 1.2
            assert f.pool.choose("x", 0.0) == ["node2"]
            assert f.mover.told == ([("half-dead", "node1")] if evacuate else [])
            assert ("2 calls to be moved" if evacuate else "no new calls for it, 2 calls on it") in f.lines()[0]
            await trio.sleep(5.0)
            f.relays["node1"].flows = True
            assert await f.until(Observed.UP) <= 0.3
            assert f.lines()[-1] == "node node1: up: media passes through it again; it takes new calls"


async def test_when_no_media_passes_anywhere_no_node_is_to_blame() -> None:
    async with fleet(2) as f:
        for relay in f.relays.values():
            relay.flows = False
        await trio.sleep(5.0)
        assert f.events == []


async def test_calls_without_packets_give_a_node_without_canary_away() -> None:
    async with fleet(2, Detection(statistics=1e9), canaries=lambda name: False) as f:
        rates = {"node1": 0, "node2": 600}

        watched = f.watch.watched
        for _ in range(12):
            for name, rate in rates.items():
                f.pool.set_load(name, Load(900, 1000, sessions=6, packet_rate=rate))
                f.watch._note_flatness(watched[name], trio.current_time())
            await trio.sleep(0.5)
        assert f.state() is Observed.HALF_DEAD and f.state("node2") is Observed.UP
        assert "(0 packets per second and call, 100 on the best other node)" in f.lines()[0]
        f.pool.set_load("node1", Load(900, 1000, sessions=6, packet_rate=300))
        f.watch._note_flatness(watched["node1"], trio.current_time())
        assert f.state() is Observed.UP


async def test_owed_deletes_are_paid_when_the_node_is_back() -> None:
    async with fleet() as f:
        await f.call("node1", "edge1-0123")
        f.nodes["node1"].pause()
        await f.until(Observed.DOWN)
        f.pool.delete("node1", Delete(call_id="edge1-0123", delete_delay=0))
        await trio.sleep(5.0)
        assert f.pool.owed.count("node1") == 1 and "edge1-0123" in f.nodes["node1"].calls
        f.nodes["node1"].resume()
        assert 0.4 <= await f.until(Observed.UP) <= 0.9
        assert f.lines()[-1] == (
            "node node1: up: its control port answers; it takes new calls, and the deletes owed to it (1)"
        )
        await trio.sleep(0.1)
        assert f.pool.owed.count("node1") == 0 and list(f.nodes["node1"].calls) == ["edge1-canary-node1"]


async def test_a_delete_that_was_lost_on_the_way_is_paid_later() -> None:
    async with fleet() as f:
        f.pool.owe("node1", Delete(call_id="edge1-0123", delete_delay=0))
        await trio.sleep(1.5)
        assert f.pool.owed.count("node1") == 0 and f.events == []


async def test_a_pause_of_this_process_makes_nobody_down(autojump_clock: MockClock) -> None:
    async with fleet() as f:
        autojump_clock.jump(30.0)
        await trio.sleep(3.0)
        assert f.mover.told == [] and f.state() is Observed.UP and f.state("node2") is Observed.UP


async def test_a_dead_node_delays_no_command_to_another() -> None:
    async with fleet() as f:
        f.nodes["node1"].pause()
        for _ in range(10):
            start = trio.current_time()
            await f.call("node2", f"edge1-{start}")
            assert trio.current_time() == start
            await trio.sleep(0.3)


async def test_nodes_come_and_go_while_it_runs() -> None:
    async with fleet(1) as f, fake_node() as node, Relay.on(node), trio.open_nursery() as nursery:
        client = Client(node.address, name="new")
        await nursery.start(client.run)
        f.pool.add(Node("new", client))
        f.watch.add(f.pool.nodes["new"])
        f.watch.add(f.pool.nodes["new"])
        await trio.sleep(2.0)
        assert f.watch.watched["new"].pulse.canary_usable and len(f.pool.choose("x", 0.0)) == 2
        f.calls["new"] = 1
        f.watch.leave("new")
        await trio.sleep(3.0)
        assert "new" in f.pool.nodes and f.pool.choose("x", 0.0) == ["node1"], "its call is still on it"
        f.watch.stay("new")
        assert len(f.pool.choose("x", 0.0)) == 2
        f.watch.leave("new")
        f.calls["new"] = 0
        await trio.sleep(1.5)
        assert "new" not in f.pool.nodes and "new" not in f.watch.watched and node.calls == {}
        assert f.lines() == ["node new: removed; its last call has ended"]
        nursery.cancel_scope.cancel()


async def test_a_fault_in_one_node_s_look_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async with fleet() as f:
        f.watch.watched["node1"].looks = None  # type: ignore[assignment]
        f.nodes["node2"].stop()
        await f.until(Observed.DOWN, "node2")
        assert "internal error (watch of node node1)" in caplog.text


async def test_what_the_operator_wants_is_no_business_of_the_watch() -> None:
    async with fleet() as f:
        f.pool.set_admin("node1", Admin.DISABLED)
        f.nodes["node1"].stop()
        await f.until(Observed.DOWN)
        f.nodes["node1"].start()
        await f.until(Observed.UP)
        assert f.pool.nodes["node1"].admin is Admin.DISABLED and f.pool.choose("x", 0.0) == ["node2"]


async def test_a_canary_that_is_never_heard_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    async with fleet(1) as f:
        f.relays["node1"].flows = False
        f.watch.watched["node1"].canary.make()
        f.watch.watched["node1"].pulse.canary_gone()
        await trio.sleep(10.0)
        assert caplog.text.count("is not heard") == 1 and f.state() is Observed.UP


async def test_packets_per_call_need_a_few_calls() -> None:
    assert packets_per_call(None) is None and packets_per_call(Load(1, 1, sessions=2, packet_rate=100)) is None
    assert packets_per_call(Load(1, 1, sessions=10, packet_rate=1000)) == 100.0


async def test_load_is_that_of_the_fullest_interface() -> None:
    async with fleet(1) as f:
        statistics = f.watch.watched["node1"].statistics
        assert statistics is not None
        load = load_of(statistics)
        assert load.ports_free == statistics.ports_free and load.cpu is None and load.uptime == statistics.uptime

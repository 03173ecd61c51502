"""The sampler against nodes in memory, on a virtual clock: interval, budget, callbacks, nodes that do not answer."""

import random
from collections import deque
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from ng_protocol import (
    Counters,
    Media,
    NgLostCall,
    NgTimeout,
    Query,
    QueryReply,
    Statistics,
    StatisticsReply,
    Stream,
    Tag,
)
from ng_protocol.statstree import Current, Totals
from proxy.media.sampler import Sample, Sampler, SamplerConfig, Subject, make_sample

EPOCH = 1_700_000_000


@dataclass(eq=False)
class Call:
    """A session as far as the sampler looks."""

    id: str
    node: str = "node1"
    talking: bool = True
    ready: bool = True
    sample: Any = None


def describe(call: Call) -> Subject | None:
    if not call.ready:
        return None
    return Subject(call.node, call.id, "leg-A", "leg-B", call.talking)


def party(tag: str, packets: int, last: int, codec: str = "PCMA/8000", rtcp: int = 0) -> Tag:
    rtp = Stream(flags=("RTP",), received=Counters(packets=packets), last_packet=last)
    control = Stream(flags=("RTCP",), received=Counters(packets=rtcp), last_packet=last + 500)
    return Tag(tag=tag, medias=(Media(index=1, type="audio", codec=codec, streams=(rtp, control)),))


def reply(caller: int, callee: int, last: int = EPOCH) -> QueryReply:
    return QueryReply(tags={"leg-A": party("leg-A", caller, last), "leg-B": party("leg-B", callee, last - 7)})


@dataclass(eq=False)
class Node:
    """A node that takes `latency` seconds for a query; `flowing`: every query sees more packets than the one before."""

    latency: float = 0.002
    flowing: bool = True
    down: bool = False
    lost: set[str] = field(default_factory=set)
    asked: list[tuple[float, str]] = field(default_factory=list)
    uptimes: list[float] = field(default_factory=list)
    running: int = 0
    most_running: int = 0
    first_query: trio.Event = field(default_factory=trio.Event)

    async def request(self, command: Any, timeout: float | None = None) -> Any:
        if isinstance(command, Statistics):
            if self.down:
                await trio.sleep(3)
                raise NgTimeout("node1", "statistics")
            self.uptimes.append(trio.current_time())
            return StatisticsReply(current=Current(sessions_total=5), totals=Totals(uptime=int(trio.current_time())))
        assert isinstance(command, Query)
        self.asked.append((trio.current_time(), command.call_id))
        self.running += 1
        self.first_query.set()
        self.most_running = max(self.most_running, self.running)
        try:
            await trio.sleep(3 if self.down else self.latency)
        finally:
            self.running -= 1
        if self.down:
            raise NgTimeout("node1", "query", command.call_id, "no reply within 3.0 s")
        if command.call_id in self.lost:
            raise NgLostCall("node1", "query", command.call_id, "Unknown call-id")
        packets = len(self.asked) if self.flowing else 0
        return reply(packets, packets)

    def times(self, call_id: str) -> list[float]:
        return [at for at, asked in self.asked if asked == call_id]


@dataclass
class Bench:
    """A sampler with its calls and nodes, and what it told."""

    calls: list[Call]
    nodes: dict[str, Node]
    config: SamplerConfig = field(default_factory=SamplerConfig)
    lost: list[str] = field(default_factory=list)
    silent: list[tuple[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.sampler: Sampler[Call] = Sampler(
            lambda: self.calls,
            describe,
            self.nodes,
            self.config,
            on_lost=lambda call: self.lost.append(call.id),
            on_silent=lambda call, seconds: self.silent.append((call.id, seconds)),
            epoch=lambda: EPOCH + trio.current_time(),
            rng=random.Random(1),
        )

    async def run_for(self, *steps: tuple[float, Any]) -> None:
        """Runs the sampler; after each number of seconds does the step (None: nothing)."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.sampler.run)
            for seconds, step in steps:
                await trio.sleep(seconds)
                if step is not None:
                    step()
            nursery.cancel_scope.cancel()


async def test_a_thousand_sessions_at_once_are_all_sampled_within_the_interval(
    autojump_clock: MockClock,
) -> None:
    bench = Bench([Call(f"c{n}") for n in range(1000)], {"node1": Node()})
    start = trio.current_time()
    await bench.run_for((150, None))
    node = bench.nodes["node1"]
    for call in bench.calls:
        times = [start, *node.times(call.id), start + 150]
        gaps = [b - a for a, b in pairwise(times)]
        assert max(gaps) <= 30, call.id
        assert len(times) <= 10, f"{call.id} asked more often than the interval needs"
        assert call.sample is not None and call.sample.packets[0] > 0
    assert bench.sampler.counters.late == 0
    assert bench.sampler.counters.failures == 0


async def test_the_budget_holds_when_everything_is_due_at_once(autojump_clock: MockClock) -> None:
    config = SamplerConfig(rate=50, in_flight=3)
    bench = Bench([Call(f"c{n}") for n in range(600)], {"node1": Node(latency=0.03)}, config)
    await bench.run_for((120, None))
    node = bench.nodes["node1"]
    assert node.most_running <= 3
    window: deque[float] = deque()
    for at, _ in node.asked:
        window.append(at)
        while window[0] <= at - 1:
            window.popleft()
        assert len(window) <= 51, f"more than 50 queries in the second before {at}"
    assert len({call for _, call in node.asked}) == 600


async def test_queries_are_spread_once_the_first_burst_is_over(autojump_clock: MockClock) -> None:
    bench = Bench([Call(f"c{n}") for n in range(1000)], {"node1": Node()})
    start = trio.current_time()
    await bench.run_for((180, None))
    busy = [0] * 120
    for at, _ in bench.nodes["node1"].asked:
        if at - start >= 60:
            busy[int(at - start - 60)] += 1
    assert max(busy) <= 2 * sum(busy) / len(busy), busy


async def test_more_calls_than_the_budget_carries_are_counted_as_late(autojump_clock: MockClock) -> None:
    bench = Bench([Call(f"c{n}") for n in range(400)], {"node1": Node()}, SamplerConfig(rate=5))
    await bench.run_for((200, None))
    assert bench.sampler.counters.late > 0
    assert len({call for _, call in bench.nodes["node1"].asked}) == 400


async def test_a_sample_says_what_the_node_said(autojump_clock: MockClock) -> None:
    now, epoch = 100.0, EPOCH + 30.0
    sample = make_sample(Subject("node1", "c", "leg-A", "leg-B", True), reply(10, 0), now, epoch)
    assert (sample.at, sample.epoch) == (now, epoch)
    assert sample.packets == (10, 0)
    assert sample.idle == (30.0, None), "a party without packets has no last packet, whatever the node says"
    assert sample.codecs == ["PCMA/8000"]
    one_sided = make_sample(Subject("node1", "c", "leg-A", None, True), reply(10, 5), now, epoch)
    assert one_sided.packets == (10, None)
    unknown = make_sample(Subject("node1", "c", "nobody", "leg-B", True), reply(10, 5), now, epoch)
    assert unknown.packets == (None, 5)


def test_the_codec_chain_has_both_when_they_differ() -> None:
    tags = {"leg-A": party("leg-A", 1, EPOCH, "opus/48000"), "leg-B": party("leg-B", 1, EPOCH)}
    sample = make_sample(Subject("node1", "c", "leg-A", "leg-B", True), QueryReply(tags=tags), 0.0, EPOCH)
    assert sample.codecs == ["opus/48000", "PCMA/8000"]


async def test_new_calls_are_taken_in_and_ended_ones_let_go(autojump_clock: MockClock) -> None:
    bench = Bench([Call("early")], {"node1": Node()})
    start = trio.current_time()
    await bench.run_for(
        (20, lambda: bench.calls.append(Call("late"))), (20, lambda: bench.calls.pop(0)), (100, lambda: None)
    )
    node = bench.nodes["node1"]
    assert node.times("early") and node.times("early")[-1] < start + 42
    assert start + 20 < node.times("late")[0] <= start + 27
    assert len(bench.sampler._heap) <= 2, "entries of ended calls must not pile up"


async def test_a_call_without_node_waits_until_it_has_one(autojump_clock: MockClock) -> None:
    call = Call("c", ready=False)
    bench = Bench([call], {"node1": Node()})
    start = trio.current_time()
    await bench.run_for((50, lambda: setattr(call, "ready", True)), (30, None))
    assert start + 50 <= bench.nodes["node1"].times("c")[0] <= start + 56


async def test_a_node_nobody_configured_costs_nothing(autojump_clock: MockClock) -> None:
    bench = Bench([Call("c", node="gone")], {"node1": Node()})
    await bench.run_for((100, None))
    assert bench.nodes["node1"].asked == []


async def test_a_dead_node_keeps_the_old_samples_and_delays_no_other(autojump_clock: MockClock) -> None:
    calls = [Call(f"d{n}", node="dead") for n in range(100)] + [Call(f"c{n}") for n in range(100)]
    bench = Bench(calls, {"dead": Node(), "node1": Node()}, SamplerConfig(in_flight=4))
    dead, node = bench.nodes["dead"], bench.nodes["node1"]
    await bench.run_for((29, lambda: setattr(dead, "down", True)), (90, None))
    for call in calls[100:]:
        gaps = [b - a for a, b in pairwise(node.times(call.id))]
        assert max(gaps) <= 30
    kept = calls[0].sample
    assert isinstance(kept, Sample) and kept.packets[0] and not kept.lost
    assert bench.sampler.counters.failures > 0
    assert sum(call.sample.failures for call in calls[:100]) == bench.sampler.counters.failures
    assert "no reply" in str(bench.sampler.nodes["dead"].error)
    assert bench.sampler.nodes["node1"].error is None
    assert len([at for at, _ in dead.asked if at > dead.asked[0][0] + 29]) < 120, "one timeout per slot, not per call"
    assert bench.lost == [] and bench.silent == []


async def test_a_node_that_comes_back_is_sampled_again(autojump_clock: MockClock) -> None:
    call = Call("c")
    bench = Bench([call], {"node1": Node(down=True)})
    node = bench.nodes["node1"]
    await bench.run_for((50, lambda: setattr(node, "down", False)), (40, None))
    assert call.sample is not None and call.sample.failures == 0
    assert bench.sampler.nodes["node1"].error is None


async def test_a_lost_call_is_told_once_and_only_after_a_second_look(autojump_clock: MockClock) -> None:
    call = Call("c")
    bench = Bench([call], {"node1": Node(lost={"c"})})
    node = bench.nodes["node1"]
    start = trio.current_time()
    await bench.run_for((100, None))
    assert bench.lost == ["c"]
    first, second, *_ = node.times("c")
    assert 1.0 <= second - first <= 1.2
    assert call.sample.lost and call.sample.never and call.sample.packets == (None, None)
    assert node.times("c")[-1] > start + 30, "it is still looked at: it may be anchored again"


async def test_a_call_deleted_during_the_query_is_not_lost(autojump_clock: MockClock) -> None:
    call = Call("c")
    bench = Bench([call], {"node1": Node(lost={"c"}, latency=0.5)})

    def end() -> None:
        assert bench.nodes["node1"].running == 1, "this test must end the call while it is being asked about"
        bench.calls.clear()
        call.ready = False

    # The first query of the only call starts between 4 and 5 s and takes 0.5 s.
    async with trio.open_nursery() as nursery:
        await nursery.start(bench.sampler.run)
        await bench.nodes["node1"].first_query.wait()
        end()
        await trio.sleep(60)
        nursery.cancel_scope.cancel()
    assert bench.lost == [] and len(bench.nodes["node1"].asked) == 1


async def test_a_lost_call_that_was_anchored_again_is_no_longer_lost(autojump_clock: MockClock) -> None:
    call = Call("c")
    bench = Bench([call], {"node1": Node(lost={"c"}), "node2": Node()})
    await bench.run_for((20, lambda: setattr(call, "node", "node2")), (60, None))
    assert bench.lost == ["c"] and not call.sample.lost and call.sample.packets[0]


async def test_a_reply_that_is_older_than_the_move_is_not_stored(autojump_clock: MockClock) -> None:
    call = Call("c")
    bench = Bench([call], {"node1": Node(latency=2.0), "node2": Node()})
    async with trio.open_nursery() as nursery:
        await nursery.start(bench.sampler.run)
        await bench.nodes["node1"].first_query.wait()
        call.node = "node2"
        await trio.sleep(3)
        assert call.sample is None
        await trio.sleep(30)
        assert call.sample is not None
        nursery.cancel_scope.cancel()


async def test_silence_is_told_once_until_packets_come_back(autojump_clock: MockClock) -> None:
    call = Call("c")
    bench = Bench([call], {"node1": Node(flowing=False)})
    node = bench.nodes["node1"]
    await bench.run_for((300, None))
    assert len(bench.silent) == 1
    assert bench.silent[0][0] == "c" and 90 <= bench.silent[0][1] <= 120
    assert bench.sampler.counters.silent == 1
    node.flowing = True
    await bench.run_for((60, lambda: setattr(node, "flowing", False)), (200, None))
    assert len(bench.silent) == 2


@pytest.mark.parametrize("talking", [False, True])
async def test_a_call_on_hold_or_ringing_may_be_silent(autojump_clock: MockClock, talking: bool) -> None:
    call = Call("c", talking=talking)
    bench = Bench([call], {"node1": Node(flowing=False)})
    await bench.run_for((300, None))
    assert bool(bench.silent) is talking


async def test_the_time_on_hold_does_not_count(autojump_clock: MockClock) -> None:
    call = Call("c", talking=False)
    bench = Bench([call], {"node1": Node(flowing=False)})
    await bench.run_for((200, lambda: setattr(call, "talking", True)), (80, None))
    assert bench.silent == []


async def test_rtcp_alone_is_a_sign_of_life(autojump_clock: MockClock) -> None:
    first = QueryReply(tags={"leg-A": party("leg-A", 5, EPOCH, rtcp=1)})
    second = QueryReply(tags={"leg-A": party("leg-A", 5, EPOCH, rtcp=2)})
    subject = Subject("node1", "c", "leg-A", None, True)
    totals = [make_sample(subject, one, 0.0, EPOCH).total for one in (first, second)]
    assert totals == [6, 7]
    assert make_sample(subject, second, 0.0, EPOCH).packets == (5, None), "shown are RTP packets only"


async def test_silence_can_be_switched_off(autojump_clock: MockClock) -> None:
    bench = Bench([Call("c")], {"node1": Node(flowing=False)}, SamplerConfig(silence=0))
    await bench.run_for((300, None))
    assert bench.silent == []


async def test_a_callback_that_fails_is_counted_and_sampling_goes_on(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench([Call("a"), Call("b")], {"node1": Node(lost={"a"})})

    def fail(call: Call) -> None:
        raise RuntimeError("a bug")

    bench.sampler._on_lost = fail
    await bench.run_for((100, None))
    assert bench.sampler.counters.callback_errors == 1
    assert "callback of the media sampler" in caplog.text
    assert len(bench.nodes["node1"].times("b")) >= 3


async def test_statistics_are_kept_and_age(autojump_clock: MockClock) -> None:
    bench = Bench([], {"node1": Node()})
    node = bench.nodes["node1"]
    await bench.run_for((35, lambda: setattr(node, "down", True)), (35, None))
    latest = bench.sampler.nodes["node1"]
    assert latest.statistics is not None and latest.statistics.current.sessions_total == 5
    assert latest.at == node.uptimes[-1]
    assert latest.error is not None and "statistics" in latest.error
    assert len(node.uptimes) == 4


async def test_statistics_can_be_left_to_others(autojump_clock: MockClock) -> None:
    bench = Bench([], {"node1": Node()}, SamplerConfig(statistics=0.0))
    await bench.run_for((35, None))
    assert bench.nodes["node1"].uptimes == [] and bench.sampler.nodes["node1"].statistics is None


async def test_a_node_added_while_it_runs_is_asked(autojump_clock: MockClock) -> None:
    new = Node()
    bench = Bench([Call("c", node="new")], {"node1": Node()})
    await bench.run_for((10, lambda: bench.sampler.add_node("new", new)), (60, None))
    assert new.times("c") and new.uptimes


async def test_a_removed_node_is_left_alone_and_its_calls_asked_where_they_went(autojump_clock: MockClock) -> None:
    """The node is slow, so that calls wait in its queue when they are moved away and it is removed."""
    old, new = Node(latency=20.0), Node()
    calls = [Call(f"c{number}", node="old") for number in range(30)]
    bench = Bench(calls, {"old": old, "new": new})

    def move() -> None:
        for call in calls:
            call.node = "new"
        bench.sampler.remove_node("old")

    await bench.run_for((8, move), (60, None))
    moved_at = trio.current_time() - 60
    assert len(old.asked) == 8 and "old" not in bench.sampler.nodes
    assert all(at <= moved_at for at, _ in old.asked) and all(at <= moved_at for at in old.uptimes)
    assert {asked for _, asked in new.asked} == {call.id for call in calls}

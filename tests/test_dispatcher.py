"""The dispatcher: its table row by row, turns, failover order, probe schedule, recognition by address."""

from itertools import product
from typing import get_args

import pytest

from proxy.dispatcher import TABLE, Destination, Dispatcher, Event, State, Why


def make(n: int = 3, state: State = "up") -> Dispatcher:
    destinations = [Destination(f"fs{i}", (f"10.20.0.{i}", 5060), b"b2bua-") for i in range(1, n + 1)]
    for destination in destinations:
        destination.state = state
        destination.next_probe = 2.0
    return Dispatcher(destinations, interval=2.0)


def names(destinations: list[Destination]) -> list[str]:
    return [d.name for d in destinations]


EXPECTED: dict[tuple[str, str], str] = {
    ("up", "icmp"): "down",
    ("up", "503"): "down",
    ("up", "timeout"): "probing",
    ("up", "probe missed"): "probing",
    ("up", "probe ok"): "up",
    ("up", "ok"): "up",
    ("probing", "icmp"): "down",
    ("probing", "503"): "down",
    ("probing", "timeout"): "down",
    ("probing", "probe missed"): "down",
    ("probing", "probe ok"): "up",
    ("probing", "ok"): "up",
    ("down", "icmp"): "down",
    ("down", "503"): "down",
    ("down", "timeout"): "down",
    ("down", "probe missed"): "down",
    ("down", "probe ok"): "up",
    ("down", "ok"): "down",
}


def test_the_table_is_complete() -> None:
    assert set(TABLE) == set(product(get_args(State), Event))


@pytest.mark.parametrize(("state", "event"), list(product(get_args(State), Event)))
def test_every_row(state: State, event: Event) -> None:
    dispatcher = make(1, state)
    fs = dispatcher.destinations[0]
    fs.failures = 7
    if event is Event.OK:
        dispatcher.mark_ok(fs, 1.0)
    elif event is Event.PROBE_OK:
        dispatcher.probe_result(fs, True, 1.0)
    elif event is Event.PROBE_MISSED:
        fs.probed = True
        dispatcher.probe_result(fs, False, 1.0)
    else:
        why: Why = "icmp" if event is Event.ICMP else "503" if event is Event.REFUSED else "timeout"
        dispatcher.mark_failed(fs, 1.0, why)
    assert fs.state == EXPECTED[state, event.value]
    good = event in (Event.OK, Event.PROBE_OK)
    assert fs.failures == (0 if good else 8)
    assert fs.last_reply == (1.0 if good or event is Event.REFUSED else None)
    assert (fs.why, fs.since) == ((event, 1.0) if fs.state != state else (None, None))


def test_calls_go_round() -> None:
    dispatcher = make(3)
    firsts = [dispatcher.order()[0].name for _ in range(6)]
    assert firsts in (["fs1", "fs2", "fs3"] * 2, ["fs2", "fs3", "fs1"] * 2, ["fs3", "fs1", "fs2"] * 2)
    assert sorted(names(dispatcher.order())) == ["fs1", "fs2", "fs3"], "the others follow, for failover"


def test_load_is_even_when_one_is_down() -> None:
    dispatcher = make(3)
    dispatcher.mark_failed(dispatcher.destinations[1], 1.0, "icmp")
    firsts = [dispatcher.order()[0].name for _ in range(100)]
    assert (firsts.count("fs1"), firsts.count("fs2"), firsts.count("fs3")) == (50, 0, 50)
    assert "fs2" not in names(dispatcher.order())


def test_probing_ones_come_after_those_up() -> None:
    dispatcher = make(3)
    dispatcher.mark_failed(dispatcher.destinations[0], 1.0, "timeout")
    orders = [names(dispatcher.order()) for _ in range(4)]
    assert {order[2] for order in orders} == {"fs1"}
    assert {order[0] for order in orders} == {"fs2", "fs3"}


def test_all_down_are_all_tried() -> None:
    dispatcher = make(3, "down")
    orders = [names(dispatcher.order()) for _ in range(3)]
    assert all(sorted(order) == ["fs1", "fs2", "fs3"] for order in orders)
    assert {order[0] for order in orders} == {"fs1", "fs2", "fs3"}


def test_an_empty_set() -> None:
    dispatcher = Dispatcher([])
    assert dispatcher.order() == []
    assert dispatcher.due(0.0) == []
    assert dispatcher.next_deadline() is None
    assert not dispatcher.is_freeswitch("10.20.0.1")


def test_start_probes_all_at_once_and_takes_calls_meanwhile() -> None:
    a, b = Destination("fs1", ("10.20.0.1", 5060)), Destination("fs2", ("10.20.0.2", 5060))
    dispatcher = Dispatcher([a, b], interval=2.0)
    assert sorted(names(dispatcher.order())) == ["fs1", "fs2"]
    assert dispatcher.due(100.0) == [a, b]
    dispatcher.probe_result(b, True, 100.1)
    assert names(dispatcher.order()) == ["fs2", "fs1"], "the one that answered comes first"
    assert dispatcher.next_deadline() == 102.0


def test_a_dead_one_is_down_after_two_missed_probes_and_back_after_one_good() -> None:
    dispatcher = make(1)
    fs = dispatcher.destinations[0]
    assert dispatcher.due(1.9) == []
    seen = []
    for turn in range(1, 5):
        assert dispatcher.due(2.0 * turn) == [fs]
        assert dispatcher.due(2.0 * turn) == [], "once per interval"
        seen.append((fs.state, fs.failures))
    assert seen == [("up", 0), ("probing", 1), ("down", 2), ("down", 3)]
    dispatcher.probe_result(fs, True, 8.5)
    assert (fs.state, fs.failures, fs.last_reply) == ("up", 0, 8.5)
    assert dispatcher.due(10.0) == [fs]
    assert fs.state == "up", "the answered probe is not counted as missed"


def test_one_lost_probe_takes_nothing_down() -> None:
    dispatcher = make(1)
    fs = dispatcher.destinations[0]
    dispatcher.due(2.0)
    dispatcher.due(4.0)
    seen = [fs.state]
    dispatcher.probe_result(fs, True, 4.1)
    assert [*seen, fs.state] == ["probing", "up"]


def test_a_failure_is_not_counted_twice() -> None:
    dispatcher = make(1)
    fs = dispatcher.destinations[0]
    dispatcher.due(2.0)
    dispatcher.probe_result(fs, False, 3.0)
    dispatcher.probe_result(fs, False, 3.0)
    assert (fs.state, fs.failures) == ("probing", 1)
    dispatcher.due(4.0)
    assert (fs.state, fs.failures) == ("probing", 1)


@pytest.mark.parametrize("why", ["icmp", "503"])
def test_going_down_probes_at_once(why: Why) -> None:
    dispatcher = make(2)
    fs = dispatcher.destinations[0]
    dispatcher.due(2.0)
    for destination in dispatcher.destinations:
        dispatcher.probe_result(destination, True, 2.1)
    dispatcher.mark_failed(fs, 2.5, why)
    assert dispatcher.next_deadline() == 2.5
    assert dispatcher.due(2.5) == [fs]
    dispatcher.probe_result(fs, True, 2.6)
    assert fs.state == "up"
    dispatcher.mark_failed(fs, 2.7, why)
    dispatcher.mark_failed(fs, 2.8, why)
    assert dispatcher.due(2.8) == [fs]
    dispatcher.mark_failed(fs, 2.81, why)
    assert dispatcher.due(2.82) == [], "repeated failures make no storm of probes"
    assert dispatcher.next_deadline() == 4.0


def test_known_by_address_not_port() -> None:
    dispatcher = Dispatcher([Destination("fs1", ("10.20.0.1", 5060)), Destination("fs6", ("fd00::1", 5060))])
    assert dispatcher.is_freeswitch("10.20.0.1")
    assert dispatcher.is_freeswitch("::ffff:10.20.0.1")
    assert dispatcher.is_freeswitch("fd00:0:0::1")
    assert not dispatcher.is_freeswitch("10.20.0.2")
    assert not dispatcher.is_freeswitch("not an address")


def test_find_by_address() -> None:
    a, b = Destination("fs1", ("10.20.0.1", 5060)), Destination("fs2", ("10.20.0.1", 5070))
    dispatcher = Dispatcher([a, b])
    assert dispatcher.find(("10.20.0.1", 5070)) is b
    assert dispatcher.find(("10.20.0.1", 41000)) is a
    assert dispatcher.find(("10.20.0.9", 5060)) is None

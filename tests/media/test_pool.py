"""Weighted rendezvous hashing, tiers, labels, load, and nodes that failed or may not be chosen."""

from __future__ import annotations

from collections import Counter

import pytest

from ng_protocol import Client, Delete
from proxy.media.nodes import Admin, Load, Node, NodeEvent, Observed
from proxy.media.pool import Pool, bend


def pool(**weights: float) -> Pool:
    return Pool({name: Client("127.0.0.1:2223", name=name) for name in weights}, weights)


def test_shares_follow_the_weights() -> None:
    shares = Counter(pool(one=1, two=1, four=2).choose(f"edge1-{n}", 0.0)[0] for n in range(4000))
    assert shares["four"] / 4000 == pytest.approx(0.5, abs=0.03)
    assert shares["one"] / 4000 == pytest.approx(0.25, abs=0.03)


def test_a_new_node_moves_only_its_own_share() -> None:
    before, after = pool(one=1, two=1, three=1), pool(one=1, two=1, three=1, four=1)
    moved = 0
    for number in range(1000):
        old, new = before.choose(f"s{number}", 0.0)[0], after.choose(f"s{number}", 0.0)[0]
        assert new in (old, "four")
        moved += new != old
    assert 180 < moved < 320


def test_choice_is_stable_and_complete() -> None:
    nodes = pool(one=1, two=1, three=5)
    assert nodes.choose("x", 0.0) == nodes.choose("x", 5.0)
    assert sorted(nodes.choose("x", 0.0)) == ["one", "three", "two"]
    assert Pool({}).choose("x", 0.0) == []


def test_a_failed_node_is_last_until_the_penalty_is_over_or_it_works() -> None:
    nodes = pool(one=1, two=1)
    best, other = nodes.choose("x", 10.0)
    nodes.failed(best, 10.0)
    assert nodes.choose("x", 10.5) == [other, best] and nodes.choose("x", 11.5) == [best, other]
    nodes.failed(best, 20.0)
    nodes.worked(best)
    assert nodes.choose("x", 20.1) == [best, other]


def test_tiers_labels_and_sets() -> None:
    nodes = pool(one=1, two=1, three=1)
    nodes.nodes["one"].tier, nodes.nodes["two"].labels, nodes.nodes["three"].group = 1, frozenset({"eu", "gpu"}), "big"
    nodes.changed()
    for number in range(50):
        assert nodes.choose(f"s{number}", 0.0)[-1] == "one", "the standby is last"
    assert nodes.choose("x", 0.0, labels=["eu"]) == ["two"] == nodes.choose("x", 0.0, labels=["eu", "gpu"])
    assert nodes.choose("x", 0.0, labels=["us"]) == []
    assert nodes.choose("x", 0.0, group="big") == ["three"]
    assert sorted(nodes.choose("x", 0.0, without="three")) == ["one", "two"]


@pytest.mark.parametrize("admin", [Admin.DRAINING, Admin.DISABLED])
def test_what_the_operator_takes_out_is_not_chosen(admin: Admin) -> None:
    nodes = pool(one=1, two=1)
    nodes.set_admin("one", admin)
    assert nodes.choose("x", 0.0) == ["two"]
    nodes.set_admin("one", Admin.ACTIVE)
    assert len(nodes.choose("x", 0.0)) == 2


@pytest.mark.parametrize("observed", [Observed.DOWN, Observed.PARTITIONED, Observed.HALF_DEAD])
def test_what_cannot_serve_is_never_chosen(observed: Observed) -> None:
    nodes = pool(one=1)
    nodes.nodes["one"].observed = observed
    nodes.changed()
    assert nodes.choose("x", 0.0) == []


def test_a_suspect_is_tried_last_even_after_standbys() -> None:
    nodes = pool(one=1, two=1, standby=1)
    nodes.nodes["standby"].tier = 1
    nodes.nodes["one"].observed = Observed.SUSPECT
    nodes.changed()
    assert nodes.choose("x", 0.0) == ["two", "standby", "one"]


def test_load_bends_the_weight() -> None:
    nodes = pool(one=1, two=1)
    assert bend(nodes.nodes["one"], nodes.nodes.values()) == 1.0, "no numbers"
    nodes.set_load("one", Load(ports_free=50, ports_total=1000, sessions=100))
    nodes.set_load("two", Load(ports_free=900, ports_total=1000, sessions=100))
    shares = Counter(nodes.choose(f"s{n}", 0.0)[0] for n in range(2000))
    assert shares["one"] / 2000 == pytest.approx(1 / 6, abs=0.03), "a fifth of its weight: 5 % of its ports are free"
    nodes.set_load("one", Load(ports_free=0, ports_total=1000, sessions=100))
    assert Counter(nodes.choose(f"s{n}", 0.0)[0] for n in range(500))["one"] < 30
    nodes.set_load("one", None)
    assert bend(nodes.nodes["one"], nodes.nodes.values()) == 1.0


def test_more_than_its_share_of_sessions_or_a_busy_cpu_means_less() -> None:
    nodes = pool(one=1, two=3)
    nodes.set_load("one", Load(900, 1000, sessions=100))
    nodes.set_load("two", Load(900, 1000, sessions=300))
    assert [bend(node, nodes.nodes.values()) for node in nodes.nodes.values()] == [1.0, 1.0]
    nodes.set_load("one", Load(900, 1000, sessions=300))
    one, two = (bend(node, nodes.nodes.values()) for node in nodes.nodes.values())
    assert one == pytest.approx(0.516, abs=0.01) and two == pytest.approx(1.48, abs=0.01)
    nodes.set_load("two", Load(900, 1000, sessions=300, cpu=0.95))
    assert bend(nodes.nodes["two"], nodes.nodes.values()) == pytest.approx(0.148, abs=0.01)


def test_nodes_come_and_go() -> None:
    nodes = pool(one=1)
    with pytest.raises(ValueError, match="there is a node one already"):
        nodes.add(Node("one", Client("127.0.0.1:2224")))
    nodes.add(Node("two", Client("127.0.0.1:2224")))
    nodes.owe("two", Delete(call_id="c1"))
    assert sorted(nodes.choose("x", 0.0)) == ["one", "two"]
    assert nodes.client("two") is nodes.nodes["two"].client
    removed = nodes.remove("two")
    assert removed is not None and removed.name == "two" and nodes.remove("two") is None
    assert nodes.choose("x", 0.0) == ["one"] and len(nodes.owed) == 0
    nodes.nodes["one"].leaving = True
    nodes.changed()
    assert nodes.choose("x", 0.0) == []


def test_events_reach_everybody() -> None:
    nodes, heard = pool(one=1), []
    nodes.events += [heard.append, heard.append]
    event = NodeEvent(1.0, "one", "down", "", 0)
    nodes.emit(event)
    assert heard == [event, event]

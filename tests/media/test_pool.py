"""Weighted rendezvous hashing, and nodes that failed."""

from __future__ import annotations

from collections import Counter

import pytest

from ng_protocol import Client
from proxy.media.pool import Pool


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

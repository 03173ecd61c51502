"""The location table: order of lookup, lazy expiry, deadlines, and a heap that cannot be made to grow."""

import random

import pytest

from proxy.location import Binding, Location
from proxy.sip.uri import parse_uri_untrusted


def binding(
    aor: bytes = b"1000",
    uri: bytes = b"sip:1000@203.0.113.9:5062",
    expires: float = 100.0,
    q: float = 1.0,
    updated: float = 0.0,
    nat: bool = False,
    received: tuple[str, int] = ("203.0.113.9", 40112),
) -> Binding:
    return Binding(
        aor,
        parse_uri_untrusted(uri),
        received=received,
        listener="public",
        expires=expires,
        call_id=b"c1",
        cseq=1,
        updated=updated,
        q=q,
        nat=nat,
    )


def test_lookup_by_q_then_newest() -> None:
    location = Location()
    old, new, low = binding(updated=1.0), binding(updated=2.0), binding(q=0.3, updated=3.0)
    for each in (low, old, new):
        location.put(each)
    assert location.lookup(b"1000", 10.0) == [new, old, low]
    assert location.lookup(b"1001", 10.0) == []
    assert len(location) == 3
    assert list(location) == [low, old, new]


def test_an_expired_binding_is_invisible_before_any_tick() -> None:
    location = Location()
    location.put(binding(expires=100.0))
    assert location.lookup(b"1000", 99.9)
    assert location.lookup(b"1000", 100.0) == []
    assert location.of(b"1000", 100.0) == []
    assert len(location) == 1


def test_tick_collects_what_is_due() -> None:
    location = Location()
    assert location.next_deadline() is None
    early, late = binding(expires=50.0), binding(b"1001", expires=60.0)
    location.put(late)
    location.put(early)
    assert location.next_deadline() == 50.0
    assert location.tick(49.9) == []
    assert location.tick(50.0) == [early]
    assert len(location) == 1
    assert location.next_deadline() == 60.0
    assert location.tick(1000.0) == [late]
    assert location.next_deadline() is None
    assert list(location) == []


def test_a_refresh_updates_the_same_object_and_its_expiry() -> None:
    location = Location()
    held = binding(expires=50.0)
    location.put(held)
    location.put(binding(expires=90.0, updated=30.0), held)
    assert location.of(b"1000", 60.0) == [held]
    assert (held.expires, held.updated, len(location)) == (90.0, 30.0, 1)
    assert location.tick(50.0) == [], "its old time has come, and it lives"
    assert location.next_deadline() == 90.0
    assert location.tick(90.0) == [held]


def test_a_refresh_may_shorten() -> None:
    location = Location()
    held = binding(expires=90.0)
    location.put(held)
    location.put(binding(expires=20.0), held)
    assert location.next_deadline() == 20.0
    assert location.tick(20.0) == [held]
    assert location.tick(90.0) == [], "the entry for the old time finds it gone"


def test_a_dropped_binding_does_not_expire() -> None:
    location = Location()
    held = binding(expires=50.0)
    location.put(held)
    location.drop(held)
    assert (len(location), location.of(b"1000", 0.0)) == (0, [])
    assert location.tick(50.0) == []
    with pytest.raises(KeyError):
        location.drop(held)


def test_addresses_somebody_registered_from() -> None:
    location = Location()
    here, there = ("203.0.113.9", 40112), ("203.0.113.9", 40113)
    one, two = binding(b"1000", received=here), binding(b"1001", received=here)
    location.put(one)
    location.put(two)
    assert location.knows_address(here)
    assert not location.knows_address(there)
    location.put(binding(b"1000", received=there), one)
    assert location.knows_address(here)
    assert location.knows_address(there)
    location.drop(two)
    assert not location.knows_address(here)
    assert location.tick(100.0) == [one]
    assert not location.knows_address(there)


def test_registering_and_unregistering_in_a_loop_does_not_fill_the_heap() -> None:
    location = Location()
    staying = binding(b"2000", expires=70_000.0)
    location.put(staying)
    for i in range(20_000):
        each = binding(expires=50_000.0 + i)
        location.put(each)
        location.drop(each)
    assert len(location._heap) < 1100
    assert location.tick(60_000.0) == []
    assert location.tick(70_000.0) == [staying]


def test_a_thousand_random_bindings_expire_when_they_should() -> None:
    rng = random.Random(7)
    location = Location()
    alive: list[Binding] = []
    now = 0.0
    for _ in range(5_000):
        now += rng.random()
        action = rng.random()
        if action < 0.4 or not alive:
            alive.append(binding(b"%d" % rng.randrange(500), expires=now + rng.uniform(0.1, 300)))
            location.put(alive[-1])
        elif action < 0.7:
            old = rng.choice(alive)
            location.put(binding(old.aor, expires=now + rng.uniform(0.1, 300)), old)
        elif action < 0.8:
            location.drop(alive.pop(rng.randrange(len(alive))))
        deadline = location.next_deadline()
        assert deadline is not None or not alive
        assert deadline is None or deadline <= min(b.expires for b in alive)
        due = {id(b) for b in alive if b.expires <= now}
        assert {id(b) for b in location.tick(now)} == due
        alive = [b for b in alive if id(b) not in due]
        assert len(location) == len(alive)
        assert location.knows_address(("203.0.113.9", 40112)) is bool(alive)


@pytest.mark.parametrize(
    ("uri", "nat", "address"),
    [
        (b"sip:1000@203.0.113.9:5062", False, ("203.0.113.9", 5062)),
        (b"sip:1000@203.0.113.9", False, ("203.0.113.9", 5060)),
        (b"sip:1000@[2001:db8::9]:5062", False, ("2001:db8::9", 5062)),
        (b"sip:1000@203.0.113.9:5062", True, ("203.0.113.9", 40112)),
        (b"sip:1000@phone.invalid:5062", False, ("203.0.113.9", 40112)),
    ],
)
def test_where_to_send(uri: bytes, nat: bool, address: tuple[str, int]) -> None:
    assert binding(uri=uri, nat=nat).address == address

"""The rules of each kind of NAT as text; what they do to packets is in test_topology.py."""

from __future__ import annotations

import pytest

from lab import nat
from lab.nat import PHONE_PORTS, Nat, public_port


@pytest.mark.parametrize("kind", list(Nat))
def test_every_kind_drops_what_no_mapping_wants(kind: Nat) -> None:
    assert 'iifname "wan" meta l4proto udp ct state new drop' in nat.rules(kind, "203.0.113.17", "192.168.1.2")


def test_what_tells_the_kinds_apart() -> None:
    cone, restricted, symmetric = (nat.rules(kind, "203.0.113.17", "192.168.1.2") for kind in Nat)
    assert ("dnat to" in cone, "dnat to" in restricted, "dnat to" in symmetric) == (True, False, False)
    assert ("snat to" in cone, "snat to" in restricted, "snat to" in symmetric) == (True, True, False)
    assert ("fully-random" in cone, "fully-random" in restricted, "fully-random" in symmetric) == (False, False, True)


def test_known_ports_are_moved_and_stay_apart() -> None:
    public = {public_port(port) for port in PHONE_PORTS}
    assert len(public) == len(PHONE_PORTS)
    assert not public & set(PHONE_PORTS)
    assert all(1024 < port < 65536 for port in public)
    assert public_port(12345) == 12345

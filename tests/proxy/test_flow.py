"""Listeners and flows: what others are told, and what is handed to the socket."""

from __future__ import annotations

import pytest

from proxy.flow import Address, Listener, host_for_uri


@pytest.mark.parametrize(
    ("address", "port", "advertise", "shown"),
    [
        ("198.51.100.1", 5060, None, b"198.51.100.1"),
        ("198.51.100.1", 5080, None, b"198.51.100.1:5080"),
        ("10.0.0.1", 5060, ("203.0.113.5", 5070), b"203.0.113.5:5070"),
        ("10.0.0.1", 5080, ("203.0.113.5", 5060), b"203.0.113.5"),
        ("2001:db8::1", 5080, None, b"[2001:db8::1]:5080"),
    ],
)
def test_what_others_are_told(address: str, port: int, advertise: Address | None, shown: bytes) -> None:
    listener = Listener("public", address, port, advertise=advertise)
    assert listener.via == listener.uri == shown
    assert listener.via_prefix == b"Via: SIP/2.0/UDP " + shown + b";branch="
    # A URI can mean this socket by the bound address and by the advertised one.
    assert (address.encode(), port) in listener.own
    assert advertise is None or (advertise[0].encode(), advertise[1]) in listener.own


def test_a_flow_is_one_object_and_sends_to_its_address() -> None:
    sent: list[tuple[bytes, Address]] = []
    listener = Listener("lan", "10.0.0.1", 5080, "lan", sender=lambda data, addr: sent.append((data, addr)))
    flow = listener.flow(("10.0.0.3", 5060))
    assert listener.flow(("10.0.0.3", 5060)) is flow
    flow.send_nowait(b"x")
    assert sent == [(b"x", ("10.0.0.3", 5060))]
    assert repr(flow) == "<Flow lan 10.0.0.3:5060>"


def test_a_closed_socket_swallows() -> None:
    listener = Listener("lan", "10.0.0.1", 5080)
    listener.send_nowait(b"x", ("10.0.0.3", 5060))
    assert listener.sender is None


def test_many_addresses_do_not_pile_up() -> None:
    listener = Listener("public", "198.51.100.1", 5060)
    for number in range(50_100):
        listener.flow((f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 5060))
    assert len(listener.flows) < 50_010


def test_brackets() -> None:
    assert host_for_uri("::1") == b"[::1]"
    assert host_for_uri("10.0.0.1") == b"10.0.0.1"

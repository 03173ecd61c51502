"""Delays from packets made here, and one real INVITE over the loopback of a namespace."""

import subprocess
import sys
from pathlib import Path

import pytest

from lab.bench.delay import Delays, endpoint

PROXY, CALLEE = ("127.0.0.2", 5060), ("127.0.0.9", 5060)


def packet(to: tuple[str, int], call: str = "1", method: str = "INVITE", protocol: int = 17, options: int = 0) -> bytes:
    """An IPv4 packet with a SIP request in it; `options`: words of IP options."""
    body = f"{method} sip:x@y SIP/2.0\r\nVia: SIP/2.0/UDP z\r\nCall-ID: {call}\r\nCSeq: 1 {method}\r\n\r\n".encode()
    address = endpoint(to)
    head = bytes([0x45 + options, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0, 127, 0, 0, 8]) + address[:4]
    return head + bytes(4 * options) + (5060).to_bytes(2, "big") + address[4:] + bytes(4) + body


def take(delays: Delays, data: bytes, stamp: int) -> None:
    delays.take(data, stamp, endpoint(PROXY), endpoint(CALLEE))


def test_a_delay_is_from_the_proxys_packet_to_the_callees() -> None:
    delays = Delays()
    take(delays, packet(PROXY), 1_000_000)
    take(delays, packet(CALLEE, options=2), 1_250_000)
    assert delays.microseconds() == [250.0]
    assert delays.complaint(1) == ""


def test_what_is_no_invite_to_either_does_not_count() -> None:
    delays = Delays()
    for data in (packet(PROXY, method="BYE"), packet(PROXY, protocol=6), packet(("127.0.0.2", 5080))):
        take(delays, data, 1)
    assert delays == Delays()


def test_a_repeated_invite_does_not_count_again() -> None:
    delays = Delays()
    for stamp, to in ((0, PROXY), (500, PROXY), (1000, CALLEE), (9000, CALLEE)):
        take(delays, packet(to), stamp)
    assert delays.microseconds() == [1.0]


def test_quantiles_are_by_nearest_rank() -> None:
    delays = Delays({b"%d" % n: 0 for n in range(1, 101)}, {b"%d" % n: n * 1000 for n in range(1, 101)})
    assert (delays.quantile(0.5), delays.quantile(0.99), delays.quantile(1.0)) == (50.0, 99.0, 100.0)
    assert Delays().quantile(0.5) == 0.0


def test_calls_that_were_not_seen_are_told() -> None:
    assert Delays({b"1": 0}, {}).complaint(1) == "the delay of 0 INVITEs was seen, of 1 calls"


WATCH = """
import socket, sys
from lab.bench.delay import watch
proxy, callee = ("127.0.0.2", 5060), ("127.0.0.9", 5060)
invite = b"INVITE sip:x@y SIP/2.0\\r\\nCall-ID: c\\r\\n\\r\\n"
kind = (socket.AF_INET, socket.SOCK_DGRAM)
with socket.socket(*kind) as at_proxy, socket.socket(*kind) as at_callee:
    at_proxy.bind(proxy)
    at_callee.bind(callee)
    with watch(proxy, callee) as delays:
        at_callee.sendto(invite, proxy)
        at_proxy.sendto(at_proxy.recv(9999), callee)
        at_callee.recv(9999)
        while not delays.microseconds():
            pass
    print(len(delays.entered), len(delays.left), 0.0 < delays.quantile(0.5) < 1e6)
"""


@pytest.mark.real
def test_packets_on_the_loopback_are_seen(repository: Path) -> None:
    script = f'ip link set lo up && exec {sys.executable} -c "$0"'
    command = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", script, WATCH]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=60)
    assert done.stdout == "1 1 True\n", done.stderr

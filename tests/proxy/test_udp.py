"""The UDP transport on loopback: batches, datagrams nobody receives, what cannot be sent, addresses that are taken."""

from __future__ import annotations

import socket
from collections import defaultdict
from collections.abc import Iterator

import pytest
import trio

from proxy.flow import Address, Listener
from proxy.transport.udp import BATCH, UdpSocket


class Peer:
    """A `UdpSocket` on a free port and what it told."""

    def __init__(self) -> None:
        self.received: list[tuple[bytes, Address]] = []
        self.unreachable: list[tuple[bytes, Address]] = []
        self.stats: defaultdict[str, int] = defaultdict(int)
        self.listener = Listener("public", "127.0.0.1", 0)
        self.udp = UdpSocket(
            self.listener,
            lambda data, addr: self.received.append((data, addr)),
            lambda data, addr: self.unreachable.append((data, addr)),
            self.stats,
        )
        self.address: Address = self.udp.sock.getsockname()


@pytest.fixture
def peer() -> Iterator[Peer]:
    made = Peer()
    yield made
    made.udp.sock.close()


@pytest.fixture
def phone() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(5.0)
        yield sock


def nobody() -> Address:
    """An address where nothing listens."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        address: Address = sock.getsockname()
    return address


async def test_served_until_cancelled(peer: Peer, phone: socket.socket) -> None:
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.udp.run)
            phone.sendto(b"one", peer.address)
            while not peer.received:
                await trio.lowlevel.checkpoint()
            peer.listener.flow(phone.getsockname()).send_nowait(b"two")
            assert phone.recvfrom(100) == (b"two", peer.address)
            nursery.cancel_scope.cancel()
    assert peer.received == [(b"one", phone.getsockname())]
    assert peer.udp.sock.fileno() == -1
    peer.listener.send_nowait(b"after the end", phone.getsockname())


def test_one_look_takes_a_batch_at_most(peer: Peer, phone: socket.socket) -> None:
    for number in range(BATCH + 5):
        phone.sendto(b"%d" % number, peer.address)
    assert [peer.udp.drain(), peer.udp.drain(), peer.udp.drain()] == [BATCH, 5, 0]
    assert peer.udp.drained == BATCH + 5
    assert [int(data) for data, _ in peer.received] == list(range(BATCH + 5))


def test_an_empty_datagram_is_a_datagram(peer: Peer, phone: socket.socket) -> None:
    phone.sendto(b"", peer.address)
    assert peer.udp.drain() == 1
    assert peer.received == [(b"", phone.getsockname())]


def test_a_port_nobody_listens_on_is_reported_with_its_address(peer: Peer) -> None:
    gone = nobody()
    peer.udp.send(b"INVITE", gone)
    assert peer.udp.drain() == 0
    assert peer.unreachable == [(b"INVITE", gone)]
    assert peer.udp.drain() == 0
    assert len(peer.unreachable) == 1, "told once"


def test_an_error_of_one_destination_does_not_stop_another(peer: Peer, phone: socket.socket) -> None:
    gone = nobody()
    peer.udp.send(b"lost", gone)
    peer.udp.send(b"found", phone.getsockname())
    assert phone.recv(100) == b"found"
    phone.sendto(b"answer", peer.address)
    assert peer.udp.drain() == 1
    assert peer.unreachable == [(b"lost", gone)]


def test_what_cannot_be_sent_at_all_is_reported_later(peer: Peer, phone: socket.socket) -> None:
    too_long = bytes(70_000)
    peer.udp.send(too_long, phone.getsockname())
    assert peer.stats["send_errors"] == 1
    assert peer.unreachable == [], "not while somebody is sending"
    peer.udp.report_errors()
    assert peer.unreachable == [(too_long, phone.getsockname())]


def test_an_address_in_use_is_refused(peer: Peer) -> None:
    host, port = peer.address
    with pytest.raises(OSError, match="Address already in use"):
        UdpSocket(Listener("second", host, port), lambda *_: None, lambda *_: None, defaultdict(int))

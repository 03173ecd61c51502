"""UDP on real loopback sockets: draining, ICMP, big datagrams, buffers that are full."""

from __future__ import annotations

import socket
from collections import defaultdict

import pytest
import trio

from proxy.flow import Address, Listener
from proxy.transport.udp import BATCH, HELD_BATCH, BindError, UdpSocket, bind

INVITE = b"INVITE sip:x@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bKicmp\r\n\r\n"


class Port:
    """A listener on a free loopback port, what it received and what could not be reached."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.got: list[tuple[bytes, Address]] = []
        self.lost: list[tuple[bytes, Address]] = []
        self.stats: defaultdict[str, int] = defaultdict(int)
        self.listener = Listener("public", host, 0)
        self.udp = UdpSocket(
            self.listener,
            lambda data, addr: self.got.append((data, addr)),
            lambda data, addr: self.lost.append((data, addr)),
            self.stats,
        )
        self.addr: Address = self.udp.sock.getsockname()[:2]


async def until(condition) -> None:  # type: ignore[no-untyped-def]
    with trio.fail_after(5):
        while not condition():  # noqa: ASYNC110 - a socket tells nobody
            await trio.sleep(0.005)


async def closed_port() -> Address:
    """An address where nothing listens."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        addr: Address = sock.getsockname()
    return addr


async def test_held_it_takes_few_at_a_time_and_loses_none() -> None:
    port = Port("127.0.0.1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for number in range(10):
            sender.sendto(b"%d" % number, port.addr)
        port.udp.hold(True)
        assert [port.udp.drain() for _ in range(2)] == [HELD_BATCH] * 2
        port.udp.hold(False)
        assert port.udp.drain() == 10 - 2 * HELD_BATCH
    assert [data for data, _ in port.got] == [b"%d" % number for number in range(10)]
    port.udp.sock.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_more_than_a_batch_arrives_in_order(host: str) -> None:
    port = Port(host)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sender:
        for number in range(3 * BATCH):
            sender.sendto(b"%d" % number, port.addr)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(port.udp.run)
            await until(lambda: len(port.got) == 3 * BATCH)
            nursery.cancel_scope.cancel()
        assert [data for data, _ in port.got] == [b"%d" % number for number in range(3 * BATCH)]
        assert {addr for _, addr in port.got} == {(host, sender.getsockname()[1])}
    assert port.udp.drained == 3 * BATCH
    assert port.listener.sender is None


async def test_the_biggest_datagram_both_ways() -> None:
    one, two = Port(), Port()
    data = b"x" * 65507
    async with trio.open_nursery() as nursery:
        nursery.start_soon(two.udp.run)
        one.listener.send_nowait(data, two.addr)
        await until(lambda: two.got)
        nursery.cancel_scope.cancel()
    assert two.got == [(data, one.addr)]
    one.udp.sock.close()


async def test_icmp_tells_which_datagram_did_not_arrive() -> None:
    port, nowhere = Port(), await closed_port()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(port.udp.run)
        await trio.testing.wait_all_tasks_blocked()
        port.listener.send_nowait(INVITE, nowhere)
        await until(lambda: port.lost)
        nursery.cancel_scope.cancel()
    ((quoted, addr),) = port.lost
    assert addr == nowhere
    assert b"branch=z9hG4bKicmp" in quoted


async def test_a_pending_error_does_not_eat_the_next_datagram() -> None:
    """The kernel reports an old ICMP error on the next send; that datagram must go out all the same."""
    port, other, nowhere = Port(), Port(), await closed_port()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(other.udp.run)
        for number in range(20):
            port.listener.send_nowait(INVITE, nowhere)
            port.listener.send_nowait(b"%d" % number, other.addr)
        await until(lambda: len(other.got) == 20)
        nursery.cancel_scope.cancel()
    port.udp.report_errors()
    assert [data for data, _ in other.got] == [b"%d" % number for number in range(20)]
    assert {addr for _, addr in port.lost} == {nowhere}
    assert port.stats["send_errors"] == 0
    port.udp.sock.close()


async def test_what_can_never_be_sent_is_counted_and_told() -> None:
    port = Port()
    port.listener.send_nowait(b"x" * 70_000, port.addr)
    assert port.stats["send_errors"] == 1
    port.udp.report_errors()
    assert len(port.lost) == 1
    port.udp.sock.close()


async def test_a_full_send_buffer_drops_and_counts() -> None:
    port = Port()

    class Full:
        def sendto(self, data: bytes, addr: Address) -> int:
            raise BlockingIOError

    real, port.udp.sock = port.udp.sock, Full()  # type: ignore[assignment]
    port.listener.send_nowait(b"x", ("127.0.0.1", 9))
    real.close()
    assert port.stats["send_buffer_full"] == 1
    assert port.lost == []


def test_an_address_that_is_not_ours() -> None:
    with pytest.raises(BindError, match=r"listener public cannot be opened on udp 192\.0\.2\.1:5060: cannot assign"):
        bind(Listener("public", "192.0.2.1", 5060))

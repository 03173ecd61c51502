"""The networks are what they say: real packets through each kind of NAT, and nothing left behind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import trio

from lab import namespace, topology
from lab.nat import Nat, public_port
from lab.topology import EDGE_LAN, EDGE_PUBLIC, HOME, Shape

pytestmark = pytest.mark.real

WAN = "203.0.113.17"
CARRIER = "203.0.113.77"


@dataclass
class Ends:
    """Sockets at the phone (5060), the edge and the carrier."""

    phone: trio.socket.SocketType
    edge: trio.socket.SocketType
    carrier: trio.socket.SocketType

    async def seen(self) -> tuple[tuple[str, int], tuple[str, int]]:
        """The phone sends to both; where each saw it come from."""
        await self.phone.sendto(b"one", (EDGE_PUBLIC, 5060))
        await self.phone.sendto(b"two", (CARRIER, 5060))
        return (await self.edge.recvfrom(10))[1], (await self.carrier.recvfrom(10))[1]

    async def arrives(self, sender: trio.socket.SocketType, target: tuple[str, int], expected: bool = True) -> bool:
        """Whether a packet from `sender` to `target` reaches the phone. One that should gets all the time a busy
        machine may need; one that should not is given up after a moment."""
        await sender.sendto(b"hello", target)
        with trio.move_on_after(4.0 if expected else 0.15):
            return (await self.phone.recvfrom(10))[0] == b"hello"
        return False


@asynccontextmanager
async def ends(shape: Shape) -> AsyncIterator[Ends]:
    async with topology.build(shape) as network:
        phone, edge, carrier = [await network.socket(role, 5060) for role in ("caller", "edge", "carrier")]
        with phone, edge, carrier, trio.fail_after(15):
            yield Ends(phone, edge, carrier)


@pytest.mark.parametrize("kind", [Nat.FULL_CONE, Nat.PORT_RESTRICTED])
async def test_one_public_port_for_every_destination(kind: Nat) -> None:
    async with ends(Shape(caller_nat=kind)) as sockets:
        assert sockets.phone.getsockname() == (HOME, 5060)
        assert await sockets.seen() == ((WAN, public_port(5060)),) * 2
        assert public_port(5060) != 5060


async def test_symmetric_has_another_port_for_another_destination() -> None:
    async with ends(Shape(caller_nat=Nat.SYMMETRIC)) as sockets:
        first, second = await sockets.seen()
        assert first[0] == second[0] == WAN
        assert first[1] != second[1]
        assert await sockets.arrives(sockets.edge, first)
        assert not await sockets.arrives(sockets.carrier, first, expected=False)


async def test_who_may_send_in() -> None:
    mapped = (WAN, public_port(5060))
    for kind, stranger_gets_in in ((Nat.FULL_CONE, True), (Nat.PORT_RESTRICTED, False)):
        async with ends(Shape(caller_nat=kind)) as sockets:
            assert await sockets.arrives(sockets.carrier, mapped, stranger_gets_in) is stranger_gets_in
            await sockets.phone.sendto(b"open", (EDGE_PUBLIC, 5060))
            await sockets.edge.recvfrom(10)
            assert await sockets.arrives(sockets.edge, mapped)
            assert await sockets.arrives(sockets.carrier, mapped, stranger_gets_in) is stranger_gets_in
            await sockets.phone.sendto(b"open", (CARRIER, 5060))
            assert (await sockets.carrier.recvfrom(10))[1] == mapped  # the stray packets took nobody's port
            assert await sockets.arrives(sockets.carrier, mapped)


async def test_the_lan_reaches_the_edge_and_nothing_else() -> None:
    async with topology.build(Shape(b2buas=2)) as network:
        with await network.socket("lan", 5060) as lan, pytest.raises(OSError, match="unreachable"):
            await lan.sendto(b"x", ("203.0.113.9", 5060))


async def test_media_hosts_are_in_both_networks() -> None:
    async with topology.build(Shape(nodes=3, b2buas=2)) as network:
        assert network.media_addresses == {"198.51.100.2", "198.51.100.3", "198.51.100.4"}
        assert str(network.shape).endswith("2 B2BUAs, 3 media hosts")
        for number in range(3):
            host = network.node_host(number)
            raw = [namespace.udp_socket(network.ns(host.role), ip, 30_000) for ip in (host.public, host.lan)]
            sender = [network.site("caller").host, EDGE_LAN]
            for sock, role, source in zip(raw, ("caller", "edge"), sender, strict=True):
                with sock, namespace.udp_socket(network.ns(role), source) as other, trio.fail_after(2):
                    other.sendto(b"x", sock.getsockname())
                    await trio.lowlevel.wait_readable(sock)
                    assert sock.recvfrom(9) == (b"x", other.getsockname())
        with await network.socket("lan", 5060) as lan, pytest.raises(OSError, match="unreachable"):
            await lan.sendto(b"x", ("203.0.113.9", 5060))


async def test_two_at_once_and_nothing_remains() -> None:
    async with topology.build(Shape()) as one, topology.build(Shape(callee_nat=Nat.SYMMETRIC)) as two:
        assert one.prefix != two.prefix
        names = [network.ns(role) for network in (one, two) for role in network.roles]
        assert all(namespace.exists(name) for name in names)
        assert one.ns("callee-nat") not in names
        assert two.ns("callee-nat") in names
    assert not any(namespace.exists(name) for name in names)


async def test_a_broken_build_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.nat.rules", lambda *_: "this is no nftables rule")
    before = set(namespace.kernel_netns.listnetns())
    with pytest.raises(namespace.LabError, match="nft refused the rules"):
        async with topology.build(Shape(caller_nat=Nat.SYMMETRIC)):
            pytest.fail("the rules are nonsense")
    assert set(namespace.kernel_netns.listnetns()) == before

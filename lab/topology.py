"""The network of one scenario: who is where, with which address, behind which NAT.

    caller --[NAT]--.                                   .--[NAT]-- callee
    203.0.113.17     \\                                 /     203.0.113.9
                      internet (router) --- edge -----+- - - lan (the B2BUAs)
    carrier ---------/    198.51.100.1 | 10.20.0.1           10.20.0.2, .3
    203.0.113.77

    With `Shape.nodes`, rtpengine has hosts of its own, each in both networks: node 1 is 198.51.100.2 and 10.20.0.4.

Theory of operation. `internet` routes between sites of one /29 each; a host without NAT has the public address
itself, behind NAT the router has it and the phone is 192.168.1.2 (the same for both phones, as at home). `edge` has
one leg in the internet and one in the private LAN and forwards nothing; `lan` holds every B2BUA, one address each,
and has no route anywhere else, so a B2BUA that tries to reach a phone past the edge fails. Without hosts of their own
(`nodes` 0) the rtpengine daemons share the edge's namespace and addresses; with them, edge and nodes hang on two
bridges, so that one of them can lose its network, or a part of it (`lab/faults.py`), and nobody else notices. All
names carry a prefix of their own, all addresses are the same in every scenario: namespaces keep them apart.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from lab import namespace, nat
from lab.namespace import PREFIX, udp_socket
from lab.nat import Nat

EDGE_PUBLIC = "198.51.100.1"
EDGE_LAN = "10.20.0.1"
GATEWAY = "198.51.100.6"
B2BUA_LAN = ("10.20.0.2", "10.20.0.3")
NODE_PUBLIC = ("198.51.100.2", "198.51.100.3", "198.51.100.4")
NODE_LAN = ("10.20.0.4", "10.20.0.5", "10.20.0.6")
HOME = "192.168.1.2"
HOME_ROUTER = "192.168.1.1"

FIRST_NG_PORT = 2223

_serial = itertools.count(1)


@dataclass(frozen=True)
class Site:
    """A place on the internet: its public `address`, the internet's own address there, and the NAT in front of it, if
    any."""

    role: str
    address: str
    gateway: str
    nat: Nat | None = None

    @property
    def host(self) -> str:
        """The address the phone itself sees."""
        return HOME if self.nat else self.address


@dataclass(frozen=True)
class Shape:
    """What a scenario wants of its network."""

    caller_nat: Nat | None = None
    callee_nat: Nat | None = None
    b2buas: int = 1
    """How many B2BUAs stand in the LAN, 1 or 2."""
    nodes: int = 0
    """How many rtpengines have a host of their own, up to 3; 0: one, on the edge's host."""

    @property
    def sites(self) -> tuple[Site, ...]:
        """The places where phones and the carrier are."""
        return (
            Site("caller", "203.0.113.17", "203.0.113.22", self.caller_nat),
            Site("callee", "203.0.113.9", "203.0.113.14", self.callee_nat),
            Site("carrier", "203.0.113.77", "203.0.113.78"),
        )

    def __str__(self) -> str:
        caller, callee = (f" ({kind})" if kind else "" for kind in (self.caller_nat, self.callee_nat))
        hosts = f", {self.nodes} media host{'s' * (self.nodes > 1)}" if self.nodes else ""
        return f"caller{caller} - edge - callee{callee}, {self.b2buas} B2BUA{'s' * (self.b2buas > 1)}{hosts}"


@dataclass(frozen=True)
class NodeHost:
    """Where an rtpengine runs: the role of its namespace, its two addresses, and those of its control socket and the
    lab's own questions."""

    role: str
    public: str
    lan: str
    control: tuple[str, int]
    asked_from: str


@dataclass
class Network:
    """A built `Shape`. `ns(role)` names the namespace of `internet`, `edge`, `lan`, `caller`, `callee`, `carrier`,
    `caller-nat`,
    `node1`..."""

    shape: Shape
    prefix: str
    roles: list[str] = field(default_factory=list)

    def ns(self, role: str) -> str:
        """The namespace of a role."""
        return f"{self.prefix}-{role}"

    def node_host(self, number: int) -> NodeHost:
        """Where rtpengine `number` (0, 1...) runs. Daemons that share the edge's host differ by their ng port."""
        if not self.shape.nodes:
            return NodeHost("edge", EDGE_PUBLIC, EDGE_LAN, ("127.0.0.1", FIRST_NG_PORT + number), "127.0.0.1")
        public, lan = NODE_PUBLIC[number], NODE_LAN[number]
        return NodeHost(f"node{number + 1}", public, lan, (lan, FIRST_NG_PORT), lan)

    @property
    def media_addresses(self) -> frozenset[str]:
        """The public addresses phones may get RTP from."""
        return frozenset(NODE_PUBLIC[: self.shape.nodes] or [EDGE_PUBLIC])

    def site(self, role: str) -> Site:
        """The site of `caller`, `callee` or `carrier`."""
        return next(site for site in self.shape.sites if site.role == role)

    async def socket(self, role: str, port: int = 0) -> trio.socket.SocketType:
        """A UDP socket on the host of that role, bound to its own address."""
        address = {"edge": EDGE_PUBLIC, "lan": B2BUA_LAN[0]}.get(role) or self.site(role).host
        sock = await trio.to_thread.run_sync(udp_socket, self.ns(role), address, port)
        return trio.socket.from_stdlib_socket(sock)

    def _add(self, role: str) -> str:
        self.roles.append(role)
        name = self.ns(role)
        namespace.create(name)
        return name

    def _build(self) -> None:
        internet, edge, lan = (self._add(role) for role in ("internet", "edge", "lan"))
        namespace.sysctl(internet, "ipv4/ip_forward", "1")
        outside, inside = "edge", "eth0"  # the interfaces of `internet` and of `lan` that face the edge
        namespace.join(internet, "edge", edge, "pub")
        namespace.join(edge, "lan", lan, "edge" if self.shape.nodes else "eth0")
        if self.shape.nodes:
            outside, inside = "hosting", "switch"
            nodes = [self._add(f"node{n + 1}") for n in range(self.shape.nodes)]
            for number, node in enumerate(nodes, 1):
                namespace.join(internet, f"node{number}", node, "pub")
                namespace.join(lan, f"node{number}", node, "lan")
            ports = ["edge", *(f"node{n + 1}" for n in range(self.shape.nodes))]
            namespace.bridge(internet, outside, ports)
            namespace.bridge(lan, inside, ports)
            for public, private, node in zip(NODE_PUBLIC, NODE_LAN, nodes, strict=False):
                namespace.configure(node, "pub", [public], gateway=GATEWAY)
                namespace.configure(node, "lan", [private])
        namespace.configure(internet, outside, [GATEWAY])
        namespace.configure(edge, "pub", [EDGE_PUBLIC], gateway=GATEWAY)
        namespace.configure(edge, "lan", [EDGE_LAN])
        namespace.configure(lan, inside, B2BUA_LAN[: self.shape.b2buas])
        for site in self.shape.sites:
            self._build_site(site, internet)

    def _build_site(self, site: Site, internet: str) -> None:
        phone = self._add(site.role)
        outside, interface = phone, "eth0"
        if site.nat is not None:
            outside, interface = self._add(f"{site.role}-nat"), "wan"
        namespace.join(internet, site.role, outside, interface)
        namespace.configure(internet, site.role, [site.gateway])
        namespace.configure(outside, interface, [site.address], gateway=site.gateway)
        if site.nat is not None:
            namespace.join(outside, "lan", phone, "eth0")
            namespace.configure(outside, "lan", [HOME_ROUTER])
            namespace.configure(phone, "eth0", [HOME], gateway=HOME_ROUTER)
            namespace.sysctl(outside, "ipv4/ip_forward", "1")
            namespace.nft(outside, nat.rules(site.nat, site.address, HOME))

    def remove(self) -> None:
        """Remove every namespace, and whatever process is still inside. Blocks."""
        while self.roles:
            namespace.remove(self.ns(self.roles.pop()))


@asynccontextmanager
async def build(shape: Shape, *, keep: bool = False) -> AsyncIterator[Network]:
    """Build the network, remove it at the end however the end comes (unless `keep`). Raises LabError."""
    network = Network(shape, f"{PREFIX}{os.getpid()}-{next(_serial)}")
    try:
        await trio.to_thread.run_sync(network._build)
        yield network
    finally:
        if not keep:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(network.remove)

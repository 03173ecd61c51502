"""Home routers: the nftables rules that make a namespace one, in the kinds a phone meets.

Theory of operation. The router has an interface `wan` with the public address and `lan` with the phone behind it.
What decides a kind is (a) whether one phone port keeps one public port for every destination and (b) who may send to
that port (RFC 4787 4.1 and 5):

    kind             one public port for all destinations   packets let in
    full-cone        yes                                    from anywhere
    port-restricted  yes                                    from an address and port the phone sent to
    symmetric        no, a random one per destination       from an address and port the phone sent to

Known phone ports (SIP and RTP) are moved to another public port on purpose: a masquerade would keep the number when
it is free, and an edge that ignored `rport` or the RTP source port would go unnoticed. Other ports are masqueraded.
What no mapping wants is dropped in the input hook: otherwise the kernel would keep a conntrack entry for it, and the
phone's own mapping to that peer would be refused the port a moment later.
"""

from __future__ import annotations

from enum import StrEnum

PORT_SHIFT = 26_000
"""Public port minus phone port: 5060 is seen as 31060, 20000 as 46000."""

PHONE_PORTS = (5060, 20_000, 20_002, 20_004)


class Nat(StrEnum):
    """The kinds of NAT; the values are the words of RFC 3489 that people still use."""

    FULL_CONE = "full-cone"
    PORT_RESTRICTED = "port-restricted"
    SYMMETRIC = "symmetric"


def public_port(port: int) -> int:
    """Where a known phone port is seen from outside behind a full-cone or port-restricted NAT."""
    return port + PORT_SHIFT if port in PHONE_PORTS else port


def rules(kind: Nat, wan: str, phone: str) -> str:
    """The nftables script of a router with public address `wan` and the one `phone` behind it."""
    post = []
    pre = []
    if kind is Nat.SYMMETRIC:
        post.append('oifname "wan" masquerade fully-random')
    else:
        post += [f'oifname "wan" udp sport {port} snat to {wan}:{public_port(port)}' for port in PHONE_PORTS]
        post.append('oifname "wan" masquerade')
    if kind is Nat.FULL_CONE:
        pre += [f'iifname "wan" udp dport {public_port(port)} dnat to {phone}:{port}' for port in PHONE_PORTS]
    return "\n".join(
        [
            "table ip home {",
            "chain outward { type nat hook postrouting priority 100; policy accept;",
            *post,
            "}",
            "chain inward { type nat hook prerouting priority -100; policy accept;",
            *pre,
            "}",
            "chain stray { type filter hook input priority 0; policy accept;",
            'iifname "wan" meta l4proto udp ct state new drop',
            "}",
            "}",
            "",
        ]
    )

"""What can happen to the network of a media host: all of it gone, only control, only media.

Theory of operation. Each fault is one nftables table `fault` in the host's own namespace, so the host is cut from
everybody at once and nothing answers for it, no ICMP either: that is how a powered-off machine looks from the edge.
The loopback interface is left alone, so the lab can still ask a daemon that nobody else reaches. A second table,
`crossing`, is loaded when the host comes up and counts the RTP it sends to another media host: a call whose media
crosses two nodes shows there, and nowhere else as surely.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import trio

from lab import namespace

RTP_PORTS = (30_000, 39_999)
"""The RTP ports of a media host that has its own addresses."""


class Cut(StrEnum):
    """What is dropped, both ways."""

    EVERYTHING = "everything"
    CONTROL = "control"
    MEDIA = "media"


def cut_rules(what: Cut, ng_port: int) -> str:
    """The nftables rules of a fault."""
    if what is Cut.EVERYTHING:
        incoming = outgoing = "drop"
    elif what is Cut.CONTROL:
        incoming, outgoing = f"udp dport {ng_port} drop", f"udp sport {ng_port} drop"
    else:
        ports = f"{RTP_PORTS[0]}-{RTP_PORTS[1]}"
        incoming, outgoing = f"udp dport {ports} drop", f"udp sport {ports} drop"
    return (
        f"{HEALED}table ip fault {{\n"
        f'chain incoming {{ type filter hook input priority 0; policy accept; iifname != "lo" {incoming}; }}\n'
        f'chain outgoing {{ type filter hook output priority 0; policy accept; oifname != "lo" {outgoing}; }}\n'
        "}\n"
    )


HEALED = "table ip fault {}\ndelete table ip fault\n"
"""Rules that take every fault away; `table` first, for deleting what is not there is an error."""


def crossing_rules(others: Iterable[str]) -> str:
    """Counts RTP to the other media hosts' addresses."""
    addresses = ", ".join(others)
    return (
        "table ip crossing {\n"
        "counter rtp {}\n"
        "chain outgoing { type filter hook output priority -10; policy accept;\n"
        f"ip daddr {{ {addresses} }} udp dport {RTP_PORTS[0]}-{RTP_PORTS[1]} counter name rtp;\n"
        "}\n}\n"
    )


async def cut(host: str, what: Cut, ng_port: int) -> None:
    """Cut the namespace `host` off, in place of whatever was cut before. Raises LabError."""
    await trio.to_thread.run_sync(namespace.nft, host, cut_rules(what, ng_port))


async def heal(host: str) -> None:
    """Undo every cut. Raises LabError."""
    await trio.to_thread.run_sync(namespace.nft, host, HEALED)


async def watch_crossing(host: str, others: Iterable[str]) -> None:
    """Start counting what `host` sends to the RTP ports of the addresses `others`. Raises LabError."""
    await trio.to_thread.run_sync(namespace.nft, host, crossing_rules(others))


async def crossed(host: str) -> int:
    """RTP packets `host` has sent to another media host. Raises LabError."""
    return await trio.to_thread.run_sync(namespace.nft_counter, host, "crossing", "rtp")

"""What a client is told about its node: where it is, and how long to wait for it. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """Times in seconds. ``timeout``: deadline of a command. ``min_rto``, ``max_rto``: bounds of the retransmission
    interval. ``first_rto``: interval before anything was measured. ``refused_after``: distance of two refusals that
    prove a dead port. ``max_submitted``: fire-and-forget commands in flight. ``receive_buffer``: SO_RCVBUF in bytes."""

    timeout: float = 3.0
    min_rto: float = 0.1
    max_rto: float = 1.0
    first_rto: float = 0.25
    refused_after: float = 0.02
    max_submitted: int = 4096
    receive_buffer: int = 1 << 20


def parse_address(address: str) -> tuple[str, int]:
    """``host:port`` or ``[v6]:port`` -> host and port. Raises ValueError that says what is wrong."""
    host, colon, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"node address {address!r}: write an IPv6 address in brackets, as [2001:db8::1]:2223")
    if not colon or not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"node address {address!r}: write host:port, as 127.0.0.1:2223")
    return host, int(port)

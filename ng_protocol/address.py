"""Addresses of nodes as people write them. Pure."""

from __future__ import annotations


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

"""Is there SIP on that socket? One OPTIONS, and what it is answered."""

from __future__ import annotations

import re

import trio

from lab.namespace import udp_socket
from lab.sip import Address, Message


async def options(namespace: str, source: str, target: Address, seconds: float = 0.3) -> int | None:
    """Send OPTIONS from the address `source` inside the namespace; the status of the SIP response that comes within
    `seconds`, None when none does."""
    raw = await trio.to_thread.run_sync(udp_socket, namespace, source)
    with trio.socket.from_stdlib_socket(raw) as sock, trio.move_on_after(seconds):
        try:
            await sock.connect(target)
            await sock.send(_options(target, sock.getsockname()).encode())
            status = re.match(rb"SIP/2\.0 (\d{3}) ", await sock.recv(65535))
            return int(status[1]) if status else None
        except ConnectionRefusedError:
            await trio.sleep(0.02)
    return None


def _options(target: Address, local: Address) -> Message:
    out = Message(method="OPTIONS", uri=f"sip:{target[0]}:{target[1]}")
    out.headers += [
        ("Via", f"SIP/2.0/UDP {local[0]}:{local[1]};branch=z9hG4bKprobe{local[1]};rport"),
        ("Max-Forwards", "70"),
        ("From", f"<sip:probe@{local[0]}>;tag=probe"),
        ("To", f"<{out.uri}>"),
        ("Call-ID", f"probe-{local[1]}@{local[0]}"),
        ("CSeq", "1 OPTIONS"),
    ]
    return out

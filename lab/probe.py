"""Is there SIP on that socket, ready for calls? One OPTIONS; any reply counts but a FreeSWITCH's that still starts.

Theory of operation. FreeSWITCH 1.10.12 passes two stages in which it is no use: first its SIP library answers 200 by
itself, with its own name as User-Agent (`sofia-sip/1.13.17`); then, once the profile is there, it says 503 until the
core is ready. Between the two it may be silent for half a second on a busy machine.
"""

from __future__ import annotations

import trio

from lab.namespace import udp_socket
from lab.sip import Address, Message


async def speaks_sip(namespace: str, source: str, target: Address, seconds: float = 0.3) -> bool:
    """Send OPTIONS from the address `source` inside the namespace; whether a SIP response other than a starting
    FreeSWITCH's comes within `seconds`."""
    raw = await trio.to_thread.run_sync(udp_socket, namespace, source)
    with trio.socket.from_stdlib_socket(raw) as sock, trio.move_on_after(seconds):
        try:
            await sock.connect(target)
            await sock.send(_options(target, sock.getsockname()).encode())
            reply = await sock.recv(65535)
            if reply.startswith(b"SIP/2.0 ") and not _starting(reply):
                return True
            await trio.sleep(0.05)
        except ConnectionRefusedError:
            await trio.sleep(0.02)
    return False


def _starting(reply: bytes) -> bool:
    return reply.startswith(b"SIP/2.0 503") or b"\r\nUser-Agent: sofia-sip/" in reply


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

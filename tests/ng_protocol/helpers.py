"""What the client's tests share."""

from __future__ import annotations

import socket
from typing import Any

import pytest
import trio

from ng_protocol import Client, NgError, Offer, Ping

SDP = (
    b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
    b"m=audio 4000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
)
OFFER = Offer(call_id="c1", from_tag="f", sdp=SDP)


class RawServer:
    """A UDP socket that answers nothing by itself."""

    def __init__(self, family: socket.AddressFamily = socket.AF_INET) -> None:
        self.sock = socket.socket(family, socket.SOCK_DGRAM)
        self.sock.setblocking(False)
        self.sock.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
        host, port = self.sock.getsockname()[:2]
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def __aenter__(self) -> RawServer:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.sock.close()

    async def receive(self) -> tuple[bytes, Any]:
        await trio.lowlevel.wait_readable(self.sock)
        return self.sock.recvfrom(65535)


async def expect(client: Client, kind: type[NgError]) -> None:
    with pytest.raises(kind):
        await client.request(Ping())


async def open_nursery(*, task_status: trio.TaskStatus[trio.Nursery]) -> None:
    async with trio.open_nursery() as nursery:
        task_status.started(nursery)
        await trio.sleep_forever()


async def cancel_when_blocked(nursery: trio.Nursery) -> None:
    await trio.testing.wait_all_tasks_blocked()
    nursery.cancel_scope.cancel()

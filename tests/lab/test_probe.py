"""The OPTIONS probe against a phone, against silence and against a closed port; and the stand-in B2BUA, which it
finds ready."""

from __future__ import annotations

import pytest
import trio

from lab import topology
from lab.probe import speaks_sip
from lab.topology import Shape
from lab.ua import open_phone

pytestmark = pytest.mark.real


async def test_who_answers() -> None:
    with trio.fail_after(10):
        async with topology.build(Shape()) as network, open_phone(network, "callee", "1000", [440]) as phone:
            from_there, address = network.ns("caller"), network.site("caller").host
            assert await speaks_sip(from_there, address, phone.sip.address)
            assert not await speaks_sip(from_there, address, (phone.sip.address[0], 5099), seconds=0.1)
            with await network.socket("carrier", 5060) as mute:
                assert not await speaks_sip(from_there, address, mute.getsockname(), seconds=0.1)


@pytest.mark.parametrize(
    ("status", "ready"),
    [
        (b"200 OK", True),
        (b"200 OK\r\nUser-Agent: FreeSWITCH-B2BUA", True),
        (b"200 OK\r\nUser-Agent: sofia-sip/1.13.17", False),
        (b"404 Not Found", True),
        (b"503 Busy", False),
    ],
)
async def test_a_starting_freeswitch_is_not_ready(status: bytes, ready: bool) -> None:
    """FreeSWITCH 1.10.12: its SIP library answers for it at first, then it says 503 to OPTIONS and INVITE."""
    with trio.fail_after(10):
        async with topology.build(Shape()) as network, trio.open_nursery() as nursery:
            with await network.socket("callee", 5060) as sock:

                async def answer() -> None:
                    _, source = await sock.recvfrom(2048)
                    await sock.sendto(b"SIP/2.0 " + status + b"\r\n\r\n", source)

                nursery.start_soon(answer)
                address = network.site("caller").host
                assert await speaks_sip(network.ns("caller"), address, sock.getsockname()) is ready

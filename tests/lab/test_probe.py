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

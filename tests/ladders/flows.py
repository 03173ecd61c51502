"""Parts of call flows that several tests play: a call through FreeSWITCH with media, set up and ended."""

from __future__ import annotations

from tests.ladder import Ladder
from tests.world import World

RINGING = """
    caller -> edge    INVITE sip:1000@198.51.100.1
        sdp: alice
    edge -> caller    100 Trying
    edge -> fs        INVITE sip:b2bua-1000@10.0.0.3
        sdp: 198.51.100.2:*
    fs -> edge        100 Trying
    fs -> edge        INVITE sip:1000@10.0.0.1:5080  [B]
        sdp: fs A
    edge -> fs        100 Trying  [B]
    edge -> callee    INVITE sip:1000@203.0.113.9:5060  [B]
        sdp: 198.51.100.2:*
    callee -> edge    180 Ringing  [B]
    edge -> fs        180 Ringing  [B]
    fs -> edge        180 Ringing (INVITE)
    edge -> caller    180 Ringing
"""
"""Alice calls 1000 through FreeSWITCH, and Bob's phone rings."""

ANSWERED = (
    RINGING
    + """
    callee -> edge    200 OK  [B]
        sdp: bob
    edge -> fs        200 OK  [B]
        sdp: 198.51.100.2:*
    fs -> edge        ACK  [B]
    edge -> callee    ACK  [B]
    fs -> edge        200 OK (INVITE)
        sdp: fs B
    edge -> caller    200 OK
        sdp: 198.51.100.2:*
    caller -> edge    ACK
    edge -> fs        ACK
"""
)
"""The whole plain call."""

HUNG_UP = """
    caller -> edge    BYE
    edge -> fs        BYE
    fs -> edge        200 OK
    edge -> caller    200 OK
    fs -> edge        BYE  [B]
    edge -> callee    BYE  [B]
    callee -> edge    200 OK  [B]
    edge -> fs        200 OK  [B]
"""
"""Alice hangs up."""


async def answered(world: World) -> Ladder:
    """A ladder in which the plain call is up."""
    ladder = Ladder(world)
    await ladder.play(ANSWERED)
    return ladder


def commands(world: World) -> list[str]:
    """The commands about calls the node has executed, in order."""
    assert world.node is not None
    return [one["command"] for one in world.node.requests if one["command"] in ("offer", "answer", "delete")]

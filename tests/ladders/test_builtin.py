"""The built-in routing: where leg B goes, who may use the carrier, redirections, direct calls."""

from __future__ import annotations

import pytest

from tests.ladder import Ladder, play
from tests.world import DIRECT, World, open_world

REGISTER = """
    phone -> edge     REGISTER sip:example.test  [R]
        To: <sip:{user}@example.test>
        From: <sip:{user}@example.test>;tag=r
    edge -> phone     200 OK  [R]
"""


BOTH_PASSES = """
        {caller} -> edge   INVITE sip:{number}@198.51.100.1
            sdp: alice
        edge -> {caller}   100 Trying
        edge -> fs         INVITE sip:b2bua-{number}@10.0.0.3
        fs -> edge         INVITE sip:{number}@10.0.0.1:5080  [B]
            sdp: fs A
        edge -> fs         100 Trying  [B]
        edge -> {target}   INVITE {uri}  [B]
"""

FAIL = """
        {target} -> edge   486 Busy Here  [B]
        edge -> {target}   ACK  [B]
        edge -> fs         486 Busy Here  [B]
        fs -> edge         ACK  [B]
        fs -> edge         486 Busy Here (INVITE)
        edge -> fs         ACK
        edge -> {caller}   486 Busy Here
        {caller} -> edge   ACK
"""


@pytest.mark.parametrize(
    ("number", "caller", "target", "uri"),
    [
        ("1000", "stranger", "callee", "sip:1000@203.0.113.9:5060"),  # a static user
        ("2000", "stranger", "phone", "sip:phone@192.0.2.20"),  # a binding
        ("15551234", "carrier", "carrier", "sip:15551234@203.0.113.77:5060"),  # nobody here; the caller is known
        ("15551234", "phone", "carrier", "sip:15551234@203.0.113.77:5060"),
        ("15551234", "callee", "carrier", "sip:15551234@203.0.113.77:5060"),
    ],
)
async def test_where_leg_b_goes(media: World, number: str, caller: str, target: str, uri: str) -> None:
    ladder = Ladder(media)
    media.party("phone", ("192.0.2.20", 5060))
    await ladder.play(REGISTER.replace("{user}", "2000"))
    await ladder.play((BOTH_PASSES + FAIL).format(caller=caller, number=number, target=target, uri=uri))
    await media.over()


async def test_a_binding_comes_before_a_static_entry(media: World) -> None:
    ladder = Ladder(media)
    media.party("phone", ("192.0.2.20", 5060))
    await ladder.play(REGISTER.replace("{user}", "1000"))
    uri = "sip:phone@192.0.2.20"
    await ladder.play((BOTH_PASSES + FAIL).format(caller="caller", number="1000", target="phone", uri=uri))
    await media.over()


async def test_a_stranger_may_not_use_the_carrier(media: World) -> None:
    """Never an open relay: FreeSWITCH bridges whatever it is sent, so the second pass asks who the caller was."""
    await play(media, """
        stranger -> edge   INVITE sip:15551234@198.51.100.1
            sdp: alice
        edge -> stranger   100 Trying
        edge -> fs         INVITE
        fs -> edge         INVITE sip:15551234@10.0.0.1:5080  [B]
            sdp: fs A
        edge -> fs         100 Trying  [B]
        edge -> fs         403 Caller may not use the carrier  [B]
        fs -> edge         ACK  [B]
        fs -> edge         403 Forbidden (INVITE)
        edge -> fs         ACK
        edge -> stranger   403 Forbidden
        stranger -> edge   ACK
    """)  # fmt: skip
    await media.over()


@pytest.mark.parametrize("sdp", ["", "            sdp: bob\n"])
async def test_a_stranger_may_not_use_the_carrier_by_a_call_we_cannot_correlate(media: World, sdp: str) -> None:
    """A late offer, or FreeSWITCH's own media in leg B: no media address of ours in it."""
    await play(media, """
        stranger -> edge   INVITE sip:15551234@198.51.100.1
        edge -> stranger   100 Trying
        edge -> fs         INVITE
        fs -> edge         INVITE sip:15551234@10.0.0.1:5080  [B]
    """ + sdp + """
        edge -> fs         100 Trying  [B]
        edge -> fs         403 Caller may not use the carrier  [B]
        fs -> edge         ACK  [B]
        fs -> edge         403 Forbidden (INVITE)
        edge -> fs         ACK
        edge -> stranger   403 Forbidden
        stranger -> edge   ACK
    """)  # fmt: skip
    await media.over()


async def test_a_known_caller_may_use_the_carrier_without_media(world: World) -> None:
    await play(world, """
        callee -> edge     INVITE sip:15551234@198.51.100.1
            sdp: alice
        edge -> callee     100 Trying
        edge -> fs         INVITE
        fs -> edge         INVITE sip:15551234@10.0.0.1:5080  [B]
            sdp: alice
        edge -> fs         100 Trying  [B]
        edge -> carrier    INVITE sip:15551234@203.0.113.77:5060  [B]
    """ + FAIL.format(target="carrier", caller="callee"))  # fmt: skip
    await world.over()


async def test_a_stranger_may_not_use_the_carrier_without_media_either(world: World) -> None:
    await play(world, """
        stranger -> edge   INVITE sip:15551234@198.51.100.1
            sdp: alice
        edge -> stranger   100 Trying
        edge -> fs         INVITE
        fs -> edge         INVITE sip:15551234@10.0.0.1:5080  [B]
            sdp: alice
        edge -> fs         100 Trying  [B]
        edge -> fs         403 Caller may not use the carrier  [B]
        fs -> edge         ACK  [B]
        fs -> edge         403 Forbidden (INVITE)
        edge -> fs         ACK
        edge -> stranger   403 Forbidden
        stranger -> edge   ACK
    """)  # fmt: skip
    await world.over()


async def test_freeswitch_itself_may_use_the_carrier(media: World) -> None:
    """A call it makes by itself (click to dial): no stranger's call is at that FreeSWITCH that it could belong to."""
    await play(media, """
        fs -> edge         INVITE sip:15551234@10.0.0.1:5080  [B]
            sdp: bob
        edge -> fs         100 Trying  [B]
        edge -> carrier    INVITE sip:15551234@203.0.113.77:5060  [B]
        carrier -> edge    486 Busy Here  [B]
        edge -> carrier    ACK  [B]
        edge -> fs         486 Busy Here  [B]
        fs -> edge         ACK  [B]
    """)  # fmt: skip
    await media.over()


async def test_nobody_of_that_number_is_404(autojump_clock: object) -> None:
    async with open_world(DIRECT.partition("[carrier]")[0]) as world:
        await play(world, """
            caller -> edge    INVITE sip:4711@198.51.100.1
            edge -> caller    100 Trying
            edge -> caller    404 Not Found
            caller -> edge    ACK
        """)  # fmt: skip
        await world.over()


@pytest.mark.parametrize("code", [300, 301, 302, 305, 380])
async def test_a_redirection_becomes_404(world: World, code: int) -> None:
    """FreeSWITCH would follow it itself, past the proxy; a phone is not told where others are."""
    await play(world, f"""
        fs -> edge       INVITE sip:1000@10.0.0.1:5080
        edge -> fs       100 Trying
        edge -> callee   INVITE
        callee -> edge   {code} Look there
            Contact: <sip:1000@192.0.2.99>
        edge -> callee   ACK
        edge -> fs       404 Not Found
            -Contact
        fs -> edge       ACK
        caller -> edge   MESSAGE sip:1000@198.51.100.1  [B]
        edge -> fs       MESSAGE  [B]
        fs -> edge       {code} Look there  [B]
        edge -> caller   404 Not Found  [B]
    """)  # fmt: skip
    await world.over()


async def test_direct_calls_to_the_carrier_are_for_those_we_know(direct: World) -> None:
    await play(direct, """
        stranger -> edge   INVITE sip:15551234@198.51.100.1
        edge -> stranger   100 Trying
        edge -> stranger   403 Caller may not use the carrier
        stranger -> edge   ACK
        callee -> edge     INVITE sip:15551234@198.51.100.1  [B]
        edge -> callee     100 Trying  [B]
        edge -> carrier    INVITE sip:15551234@203.0.113.77:5060  [B]
        carrier -> edge    404 Not Found  [B]
        edge -> carrier    ACK  [B]
        edge -> callee     404 Not Found  [B]
        callee -> edge     ACK  [B]
    """)  # fmt: skip
    await direct.over()


async def test_other_requests_go_the_same_way(world: World) -> None:
    await play(world, """
        caller -> edge   SUBSCRIBE sip:1000@198.51.100.1
        edge -> fs       SUBSCRIBE sip:b2bua-1000@10.0.0.3
            Record-Route: *
            Record-Route: *
        fs -> edge       200 OK
        edge -> caller   200 OK
        fs -> edge       NOTIFY
        edge -> caller   NOTIFY sip:caller@203.0.113.8
        caller -> edge   200 OK
        edge -> fs       200 OK
        fs -> edge       NOTIFY sip:1000@10.0.0.1:5080  [B]
        edge -> callee   NOTIFY sip:1000@203.0.113.9:5060  [B]
        callee -> edge   481 No such  [B]
        edge -> fs       481 No such  [B]
    """)  # fmt: skip
    await world.over()

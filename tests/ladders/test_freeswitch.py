"""Several FreeSWITCHes: in turn, past the dead ones, the same INVITE; which failures are a FreeSWITCH's own."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
import trio

from tests.ladder import Ladder, play
from tests.world import TALK, World, open_world, settle

TWO = (
    TALK
    + """
[[freeswitch]]
name = "fs2"
address = "10.0.0.4"
port = 5070
prefix = "edge-"
"""
)


@pytest.fixture
async def two(autojump_clock: object) -> AsyncGenerator[World, None]:
    """Two FreeSWITCHes, both up."""
    async with open_world(TWO) as world:
        world.party("fs2", ("10.0.0.4", 5070))
        await trio.sleep(4.5)  # both have answered a probe
        assert [one.state for one in world.edge.dispatcher.destinations] == ["up", "up"]
        yield world


def states(world: World) -> list[str]:
    return [one.state for one in world.edge.dispatcher.destinations]


async def test_calls_go_to_each_in_turn(two: World) -> None:
    ladder = Ladder(two)
    for number in range(4):
        await ladder.play(f"caller -> edge    MESSAGE sip:1000@198.51.100.1  [{number}]\n" + (
            f"edge -> fs2   MESSAGE sip:edge-1000@10.0.0.4:5070  [{number}]\nfs2 -> edge  200 OK  [{number}]"
            if number % 2 == 0 else
            f"edge -> fs    MESSAGE sip:b2bua-1000@10.0.0.3  [{number}]\nfs -> edge   200 OK  [{number}]"
        ) + f"\nedge -> caller  200 OK  [{number}]")  # fmt: skip


async def test_silence_for_2_s_goes_on_to_the_next_with_the_same_invite(two: World) -> None:
    """Same Call-ID, tags, CSeq and body; another branch, another Request-URI. The late one is cancelled."""
    ladder = await play(two, """
        caller -> edge    INVITE sip:1000@198.51.100.1
            sdp: alice
        edge -> caller    100 Trying
        edge -> fs2       INVITE sip:edge-1000@10.0.0.4:5070
            CSeq: {cseq}
            From: {from}
            sdp: alice
        ... 1.9 s
        edge -> fs2       INVITE x2
        ... 0.2 s
        edge -> fs        INVITE sip:b2bua-1000@10.0.0.3
            CSeq: {cseq}
            From: {from}
            sdp: alice
        fs -> edge        180 Ringing
        edge -> caller    180 Ringing
        fs2 -> edge       180 Ringing
        edge -> fs2       CANCEL
        fs2 -> edge       200 OK (CANCEL)
        fs2 -> edge       487 Request Terminated (INVITE)
        edge -> fs2       ACK
        fs -> edge        200 OK
        edge -> caller    200 OK
        caller -> edge    ACK
        edge -> fs        ACK
        fs -> edge        BYE
        edge -> caller    BYE
        caller -> edge    200 OK
        edge -> fs        200 OK
    """)  # fmt: skip
    del ladder
    await two.over()


async def test_icmp_goes_on_at_once_and_takes_it_out(two: World) -> None:
    ladder = await play(two, """
        caller -> edge    INVITE sip:1000@198.51.100.1
        edge -> caller    100 Trying
        edge -> fs2       INVITE
    """)  # fmt: skip
    two.parties["fs2"].answers_probes = False
    two.unreachable(two.wire[-1])
    await ladder.play("""
        edge -> fs        INVITE sip:b2bua-1000@10.0.0.3
        fs -> edge        486 Busy Here
        edge -> fs        ACK
        edge -> caller    486 Busy Here
        caller -> edge    ACK
    """)  # fmt: skip
    assert states(two) == ["up", "down"]
    for number in range(3):
        await ladder.play(f"""
            caller -> edge   MESSAGE sip:1000@198.51.100.1  [{number}]
            edge -> fs       MESSAGE  [{number}]
            fs -> edge       200 OK  [{number}]
            edge -> caller   200 OK  [{number}]
        """)  # fmt: skip
    two.parties["fs2"].answers_probes = True
    await trio.sleep(2.1)
    assert states(two) == ["up", "up"]
    await two.over()


async def test_a_503_of_its_own_goes_on_and_takes_it_out(two: World) -> None:
    """Also after a 100: FreeSWITCH 1.10.12 sends that first."""
    two.parties["fs2"].answers_probes = False
    await play(two, """
        caller -> edge    INVITE sip:1000@198.51.100.1
        edge -> caller    100 Trying
        edge -> fs2       INVITE
        fs2 -> edge       100 Trying
        fs2 -> edge       503 Maximum Calls In Progress
        edge -> fs2       ACK
        edge -> fs        INVITE
        fs -> edge        404 Not Found
        edge -> fs        ACK
        edge -> caller    404 Not Found
        caller -> edge    ACK
    """)  # fmt: skip
    assert states(two) == ["up", "down"]
    await two.over()


async def test_a_503_of_the_callee_does_not(autojump_clock: object) -> None:
    """FreeSWITCH passes it on with the same code; with a leg B in the session it is the callee's."""
    async with open_world(TWO, node=True) as two:
        two.party("fs2", ("10.0.0.4", 5070))
        await trio.sleep(4.5)
        await play(two, """
            caller -> edge    INVITE sip:1000@198.51.100.1
                sdp: alice
            edge -> caller    100 Trying
            edge -> fs2       INVITE
            fs2 -> edge       100 Trying
            fs2 -> edge       INVITE sip:1000@10.0.0.1:5080  [B]
                sdp: fs2 A
            edge -> fs2       100 Trying  [B]
            edge -> callee    INVITE  [B]
            callee -> edge    503 Service Unavailable  [B]
            edge -> callee    ACK  [B]
            edge -> fs2       500 Server Internal Error  [B]
            fs2 -> edge       ACK  [B]
            fs2 -> edge       503 Service Unavailable (INVITE)
            edge -> fs2       ACK
            edge -> caller    500 Server Internal Error
            caller -> edge    ACK
        """)  # fmt: skip
        assert states(two) == ["up", "up"]
        await two.over()


async def test_all_dead_is_one_answer(two: World) -> None:
    for name in ("fs", "fs2"):
        two.parties[name].answers_probes = False
    await play(two, """
        caller -> edge    INVITE sip:1000@198.51.100.1
        edge -> caller    100 Trying
        edge -> fs2       INVITE
        ... 1.9 s
        edge -> fs2       INVITE x2
        ... 0.2 s
        edge -> fs        INVITE
        ... 1.9 s
        edge -> fs        INVITE x2
        ... 0.2 s
        edge -> caller    408 Request Timeout
        caller -> edge    ACK
    """)  # fmt: skip
    await trio.sleep(10)
    assert states(two) == ["down", "down"]
    await two.over()


async def test_probes_every_2_s_and_a_503_counts_as_none(autojump_clock: object) -> None:
    async with open_world(TWO) as world:
        world.party("fs2", ("10.0.0.4", 5070))
        before = world.probes
        await trio.sleep(20)
        assert 18 <= world.probes - before <= 20  # the ticker's grain of 0.1 s
        world.parties["fs"].answers_probes = False
        await trio.sleep(6.5)
        assert states(world) == ["down", "up"]
        world.parties["fs2"].probe_code = 503
        await trio.sleep(6.5)
        assert states(world) == ["down", "down"]
        world.parties["fs2"].probe_code = 404
        await trio.sleep(2.2)
        assert states(world) == ["down", "up"]
        assert not world.take()


async def test_nothing_reaches_a_silent_freeswitch_unless_all_are(two: World) -> None:
    two.parties["fs"].answers_probes = False
    await trio.sleep(6)
    ladder = Ladder(two)
    for number in range(3):
        await ladder.play(f"""
            caller -> edge   MESSAGE sip:1000@198.51.100.1  [{number}]
            edge -> fs2      MESSAGE  [{number}]
            fs2 -> edge      200 OK  [{number}]
            edge -> caller   200 OK  [{number}]
        """)  # fmt: skip
    await two.over()


async def test_freeswitch_is_known_by_its_address_not_by_the_socket(media: World) -> None:
    """Leg B on the public socket (sendto without a port): it counts when its SDP names media of a session of ours."""
    await play(media, """
        caller -> edge         INVITE sip:1000@198.51.100.1
            sdp: alice
        edge -> caller         100 Trying
        edge -> fs             INVITE
        fs -> edge.public      INVITE sip:1000@198.51.100.1  [B]
            sdp: fs A
        edge.public -> fs      100 Trying  [B]
        edge.public -> callee  INVITE sip:1000@203.0.113.9:5060  [B]
        callee -> edge         486 Busy Here  [B]
        edge -> callee         ACK  [B]
        edge -> fs             486 Busy Here  [B]
        fs -> edge.public      ACK  [B]
        fs -> edge             486 Busy Here (INVITE)
        edge -> fs             ACK
        edge -> caller         486 Busy Here
        caller -> edge         ACK
    """)  # fmt: skip
    await media.over()


async def test_on_the_public_socket_an_address_alone_proves_nothing(media: World) -> None:
    """Anybody can write that source address: without our media the call is an outsider's and goes to FreeSWITCH."""
    await play(media, """
        fs -> edge.public      INVITE sip:1000@198.51.100.1
            sdp: bob
        edge.public -> fs      100 Trying
        edge.lan -> fs         INVITE sip:b2bua-1000@10.0.0.3
        fs -> edge.lan         404 Not Found (INVITE)
        edge.lan -> fs         ACK
        edge.public -> fs      404 Not Found
        fs -> edge.public      ACK
    """)  # fmt: skip
    await settle()

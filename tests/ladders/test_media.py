"""Calls with media on an rtpengine node: what goes over the ng wire, and what each side is shown."""

from __future__ import annotations

import pytest

from proxy.routing import Call
from tests.ladder import Ladder, play
from tests.ladders.flows import ANSWERED, HUNG_UP, RINGING, answered, commands
from tests.world import World


async def test_a_plain_call_is_one_offer_one_answer_one_delete(media: World) -> None:
    ladder = await answered(media)
    assert commands(media) == ["offer", "answer"]
    assert [len(session.all_legs) for session in media.edge._sessions()] == [2]
    await ladder.play(HUNG_UP)
    await media.over()
    assert commands(media) == ["offer", "answer", "delete"]


async def test_the_callee_hangs_up(media: World) -> None:
    ladder = await answered(media)
    await ladder.play("""
        callee -> edge    BYE  [B]
        edge -> fs        BYE  [B]
        fs -> edge        200 OK  [B]
        edge -> callee    200 OK  [B]
        fs -> edge        BYE
        edge -> caller    BYE
        caller -> edge    200 OK
        edge -> fs        200 OK
    """)  # fmt: skip
    await media.over()
    assert commands(media) == ["offer", "answer", "delete"]


async def test_busy(media: World) -> None:
    await play(media, RINGING + """
    callee -> edge    486 Busy Here  [B]
    edge -> callee    ACK  [B]
    edge -> fs        486 Busy Here  [B]
    fs -> edge        ACK  [B]
    fs -> edge        486 Busy Here (INVITE)
    edge -> fs        ACK
    edge -> caller    486 Busy Here
    caller -> edge    ACK
    """)  # fmt: skip
    await media.over()
    assert commands(media) == ["offer", "delete"]


async def test_cancel(media: World) -> None:
    await play(media, RINGING + """
    caller -> edge    CANCEL
    edge -> caller    200 OK (CANCEL)
    edge -> fs        CANCEL
    fs -> edge        200 OK (CANCEL)
    fs -> edge        487 Request Terminated (INVITE)
    edge -> fs        ACK
    edge -> caller    487 Request Terminated (INVITE)
    caller -> edge    ACK
    fs -> edge        CANCEL  [B]
    edge -> fs        200 OK (CANCEL)  [B]
    edge -> callee    CANCEL  [B]
    callee -> edge    200 OK (CANCEL)  [B]
    callee -> edge    487 Request Terminated (INVITE)  [B]
    edge -> callee    ACK  [B]
    edge -> fs        487 Request Terminated (INVITE)  [B]
    fs -> edge        ACK  [B]
    """)  # fmt: skip
    await media.over()
    assert commands(media) == ["offer", "delete"]


async def test_early_media(media: World) -> None:
    """183 with SDP: answered on the node then, and not again by the 200 that repeats it."""
    ladder = Ladder(media)
    await ladder.play(RINGING.partition("    callee -> edge    180")[0] + """
    callee -> edge    183 Session Progress  [B]
        sdp: bob
    edge -> fs        183 Session Progress  [B]
        sdp: 198.51.100.2:*
    fs -> edge        183 Session Progress (INVITE)
        sdp: fs B
    edge -> caller    183 Session Progress
        sdp: 198.51.100.2:*
    callee -> edge    200 OK  [B]
        sdp: bob
    edge -> fs        200 OK  [B]
    fs -> edge        ACK  [B]
    edge -> callee    ACK  [B]
    fs -> edge        200 OK (INVITE)
        sdp: fs B
    edge -> caller    200 OK
    caller -> edge    ACK
    edge -> fs        ACK
    """ + HUNG_UP)  # fmt: skip
    await media.over()
    assert commands(media) == ["offer", "answer", "delete"]


async def test_a_late_offer(media: World) -> None:
    """No SDP in the INVITE; the offer comes in the 200, the answer in the ACK (enable-3pcc=proxy)."""
    await play(media, """
        caller -> edge    INVITE sip:1000@198.51.100.1
        edge -> caller    100 Trying
        edge -> fs        INVITE
            sdp: -
        fs -> edge        INVITE sip:1000@10.0.0.1:5080  [B]
        edge -> fs        100 Trying  [B]
        edge -> callee    INVITE  [B]
            sdp: -
        callee -> edge    200 OK  [B]
            sdp: bob
        edge -> fs        200 OK  [B]
            sdp: *
        fs -> edge        200 OK (INVITE)
            sdp: fs B
        edge -> caller    200 OK
            sdp: *
        caller -> edge    ACK
            sdp: alice
        edge -> fs        ACK
            sdp: *
        fs -> edge        ACK  [B]
            sdp: fs A
        edge -> callee    ACK  [B]
            sdp: *
    """ + HUNG_UP)  # fmt: skip
    await media.over()
    assert commands(media)[-1] == "delete" and commands(media).count("offer") >= 1


async def test_hold_by_reinvite(media: World) -> None:
    ladder = await answered(media)
    await ladder.play("""
        caller -> edge    INVITE
            sdp: alice-hold
        edge -> caller    100 Trying
        edge -> fs        INVITE
            sdp: 198.51.100.2:*
        fs -> edge        INVITE  [B]
            sdp: fs A
        edge -> fs        100 Trying  [B]
        edge -> callee    INVITE  [B]
            sdp: 198.51.100.2:*
        callee -> edge    200 OK  [B]
            sdp: bob-held
        edge -> fs        200 OK  [B]
        fs -> edge        ACK  [B]
        edge -> callee    ACK  [B]
        fs -> edge        200 OK (INVITE)
            sdp: fs B
        edge -> caller    200 OK
            sdp: 198.51.100.2:*
        caller -> edge    ACK
        edge -> fs        ACK
    """)  # fmt: skip
    held = media.last("callee", "INVITE")
    assert b"a=sendonly" in held.body
    assert b"a=recvonly" in media.last("caller", "200").body
    await ladder.play(HUNG_UP)
    await media.over()
    assert commands(media) == ["offer", "answer", "offer", "answer", "delete"]


async def test_a_refused_reinvite_leaves_the_call_as_it_was(media: World) -> None:
    ladder = await answered(media)
    await ladder.play("""
        caller -> edge    INVITE
            sdp: alice-hold
        edge -> caller    100 Trying
        edge -> fs        INVITE
        fs -> edge        488 Not Acceptable Here (INVITE)
        edge -> fs        ACK
        edge -> caller    488 Not Acceptable Here
        caller -> edge    ACK
    """ + HUNG_UP)  # fmt: skip
    await media.over()
    assert commands(media)[-1] == "delete"


async def test_an_sdp_the_node_refuses_is_488(media: World) -> None:
    await play(media, """
        caller -> edge    INVITE sip:1000@198.51.100.1
            sdp: garbage
        edge -> caller    100 Trying
        edge -> caller    488 Not Acceptable Here
        caller -> edge    ACK
    """)  # fmt: skip
    await media.over()


async def test_a_refused_answer_is_488_and_the_callee_is_hung_up(direct_media: World) -> None:
    await play(direct_media, """
        caller -> edge    INVITE sip:1000@198.51.100.1
            sdp: alice
        edge -> caller    100 Trying
        edge -> callee    INVITE
        callee -> edge    200 OK
            sdp: garbage
        edge -> callee    ACK sip:callee@203.0.113.9
        edge -> callee    BYE sip:callee@203.0.113.9
            Reason: SIP;cause=488;text="Media refused"
        edge -> caller    488 Not Acceptable Here
        caller -> edge    ACK
        callee -> edge    200 OK (BYE)
    """)  # fmt: skip
    await direct_media.over()
    assert commands(direct_media)[-1] == "delete"


@pytest.mark.parametrize("how", ["paused", "stopped", "garbage", "error"])
async def test_a_node_that_does_not_work_is_503(media: World, how: str) -> None:
    """Silence, a closed port, a reply that is not bencode, an error of the daemon's own."""
    node = media.node
    assert node is not None
    if how == "paused":
        node.pause()
    elif how == "stopped":
        node.stop()
    elif how == "garbage":
        node.garbage += [b"this is not bencode"]
    else:
        node.fail_next("offer", "Ran out of ports")
    wait = {"paused": "... 3.2 s", "stopped": "... 0.4 s"}.get(how, "-- at once")
    await play(media, f"""
        caller -> edge    INVITE sip:1000@198.51.100.1
            sdp: alice
        edge -> caller    100 Trying
        {wait}
        edge -> caller    503 No Media Relay
        caller -> edge    ACK
    """)  # fmt: skip
    if how == "paused":
        node.resume()
    elif how == "stopped":
        node.start()
    await media.over()


async def test_a_direct_call(direct_media: World) -> None:
    """Without FreeSWITCH the media is anchored all the same."""
    await play(direct_media, """
        caller -> edge    INVITE sip:1000@198.51.100.1
            sdp: alice
        edge -> caller    100 Trying
        edge -> callee    INVITE sip:1000@203.0.113.9:5060
            sdp: 198.51.100.2:*
        callee -> edge    180 Ringing
        edge -> caller    180 Ringing
        callee -> edge    200 OK
            sdp: bob
        edge -> caller    200 OK
            sdp: 198.51.100.2:*
        caller -> edge    ACK
        edge -> callee    ACK
        callee -> edge    BYE
        edge -> caller    BYE
        caller -> edge    200 OK
        edge -> callee    200 OK
    """)  # fmt: skip
    await direct_media.over()
    assert commands(direct_media) == ["offer", "answer", "delete"]


async def test_retransmissions_ask_the_node_nothing(media: World) -> None:
    ladder = Ladder(media)
    await ladder.play(ANSWERED)
    before = commands(media)
    await ladder.play("""
        fs -> edge        200 OK (INVITE)
            sdp: fs B
        edge -> caller    200 OK
        caller -> edge    ACK
        edge -> fs        ACK
        callee -> edge    200 OK (INVITE)  [B]
            sdp: bob
        edge -> fs        200 OK  [B]
        fs -> edge        ACK  [B]
        edge -> callee    ACK  [B]
    """)  # fmt: skip
    assert commands(media) == before
    await ladder.play(HUNG_UP)
    await media.over()


async def test_a_body_that_is_no_sdp_passes(media: World) -> None:
    ladder = await answered(media)
    before = commands(media)
    await ladder.play("""
        caller -> edge    INFO
            Content-Type: application/dtmf-relay
        edge -> fs        INFO
            Content-Type: application/dtmf-relay
        fs -> edge        200 OK
        edge -> caller    200 OK
    """ + HUNG_UP)  # fmt: skip
    assert commands(media) == [*before, "delete"]
    await media.over()


async def test_two_forks_of_leg_b_and_the_loser_is_not_heard(media: World) -> None:
    """Each phone is a party of its own with its own via-branch; the one that does not answer is deleted."""
    ladder = Ladder(media)
    for name, host in (("phone1", "192.0.2.11"), ("phone2", "192.0.2.12")):
        media.party(name, (host, 5060))
        await ladder.play(f"""
            {name} -> edge    REGISTER sip:example.test  [{name}]
                To: <sip:1000@example.test>
                From: <sip:1000@example.test>;tag=r
            edge -> {name}    200 OK  [{name}]
        """)  # fmt: skip
    await ladder.play("""
        caller -> edge    INVITE sip:1000@198.51.100.1
            sdp: alice
        edge -> caller    100 Trying
        edge -> fs        INVITE
        fs -> edge        INVITE sip:1000@10.0.0.1:5080  [B]
            sdp: fs A
        edge -> fs        100 Trying  [B]
        edge -> phone1    INVITE  [B]
        edge -> phone2    INVITE  [B]
        phone1 -> edge    183 Session Progress  [B]
            sdp: bob
        edge -> fs        183 Session Progress  [B]
        fs -> edge        183 Session Progress (INVITE)
            sdp: fs B
        edge -> caller    183 Session Progress
        phone2 -> edge    200 OK  [B]
            sdp: carol
        edge -> fs        200 OK  [B]
        edge -> phone1    CANCEL  [B]
        phone1 -> edge    200 OK (CANCEL)  [B]
        phone1 -> edge    487 Request Terminated (INVITE)  [B]
        edge -> phone1    ACK  [B]
        fs -> edge        ACK  [B]
        edge -> phone2    ACK  [B]
        fs -> edge        200 OK (INVITE)
            sdp: fs B
        edge -> caller    200 OK
        caller -> edge    ACK
        edge -> fs        ACK
    """)  # fmt: skip
    await ladder.play(HUNG_UP.replace("callee", "phone2"))
    await media.over()
    offers = media.node.of("offer") if media.node else []
    assert len({one["via-branch"] for one in offers}) == 2


@pytest.mark.parametrize(("group", "labels"), [("eu", ()), (None, ["gpu"]), ("eu", ["gpu", "fast"])])
async def test_a_script_may_ask_for_a_kind_of_node(media: World, group: str | None, labels: list[str]) -> None:
    async def route(call: Call) -> None:
        call.use_nodes(group, labels)
        await call.relay(call.lookup() if call.from_freeswitch else call.freeswitch("b2bua-"))

    media.edge.core.run_route = route
    node = media.edge.pool.nodes["node1"]
    node.group, node.labels = "eu", frozenset({"gpu", "fast"})
    ladder = await answered(media)
    await ladder.play(HUNG_UP)
    await media.over()


async def test_no_node_of_the_kind_a_script_asks_for_is_503(media: World) -> None:
    async def route(call: Call) -> None:
        call.use_nodes("us")
        await call.relay(call.freeswitch("b2bua-"))

    media.edge.core.run_route = route
    await play(media, """
    caller -> edge    INVITE sip:1000@198.51.100.1
        sdp: alice
    edge -> caller    100 Trying
    edge -> caller    503 No Media Relay
    caller -> edge    ACK
    """)  # fmt: skip
    assert commands(media) == []

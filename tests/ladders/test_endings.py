"""Calls nobody ends: no ACK, a session timer run out, a lost or silent call, a BYE to a dialog we do not know."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
import trio

from tests.ladder import Ladder, play
from tests.ladders.flows import ANSWERED, HUNG_UP, answered, commands
from tests.world import TALK, World, open_world, settle


def byes(world: World) -> list[tuple[str, str, str]]:
    """Who got a BYE in which call, and why; retransmissions once."""
    found = [packet for packet in world.take() if packet.message.method == "BYE"]
    return sorted({(one.to, one.message.call_id[0], one.message.get("Reason")) for one in found})


async def answer_byes(world: World) -> None:
    """Everybody answers the BYEs of the edge."""
    for name, call in (("fs", "A"), ("caller", "A"), ("callee", "B"), ("fs", "B")):
        party = world.parties[name]
        call_id = next(one for one in party.calls if one.startswith(call))
        world.inject(name, party.response(call_id, 200, method="BYE").encode())
    await settle()


async def test_no_ack_for_32_s_ends_the_call_on_both_sides(media: World) -> None:
    ladder = Ladder(media)
    await ladder.play(ANSWERED.rpartition("    caller -> edge    ACK")[0] + "    ... 31 s\n")
    await trio.sleep(1.5)
    reason = 'SIP;cause=408;text="No ACK"'
    assert byes(media) == [(p, c, reason) for p, c in (("callee", "B"), ("caller", "A"), ("fs", "A"), ("fs", "B"))]
    await answer_byes(media)
    await media.over()
    assert commands(media) == ["offer", "answer", "delete"]
    assert media.stats["sessions_no_ack"] == 1


async def test_no_ack_in_a_direct_call(direct_media: World) -> None:
    await play(direct_media, """
        caller -> edge    INVITE sip:1000@198.51.100.1
            sdp: alice
        edge -> caller    100 Trying
        edge -> callee    INVITE
        callee -> edge    200 OK
            sdp: bob
        edge -> caller    200 OK
        ... 32.2 s
        edge -> caller    BYE sip:caller@203.0.113.8
            CSeq: 1 BYE
            Reason: SIP;cause=408;text="No ACK"
        edge -> callee    BYE sip:callee@203.0.113.9
            CSeq: 2 BYE
        caller -> edge    481 Gone (BYE)
        callee -> edge    200 OK (BYE)
    """)  # fmt: skip
    await direct_media.over()
    assert commands(direct_media) == ["offer", "answer", "delete"]


async def test_a_session_timer_that_runs_out(direct_media: World) -> None:
    """RFC 4028: agreed in the 2xx; refreshed once; then nobody refreshes."""
    await play(direct_media, """
        caller -> edge    INVITE sip:1000@198.51.100.1
            sdp: alice
            Session-Expires: 120
            Supported: timer
        edge -> caller    100 Trying
        edge -> callee    INVITE
            Session-Expires: 120
        callee -> edge    200 OK
            sdp: bob
            Session-Expires: 120;refresher=uac
            Require: timer
        edge -> caller    200 OK
            Session-Expires: 120;refresher=uac
        caller -> edge    ACK
        edge -> callee    ACK
        ... 60 s
        caller -> edge    UPDATE
            Session-Expires: 120;refresher=uac
        edge -> callee    UPDATE
        callee -> edge    200 OK
            Session-Expires: 120;refresher=uac
        edge -> caller    200 OK
        ... 119 s
        ... 2.3 s
        edge -> caller    BYE
            Reason: SIP;cause=408;text="Session timer expired"
        edge -> callee    BYE
        caller -> edge    200 OK (BYE)
        callee -> edge    200 OK (BYE)
    """)  # fmt: skip
    await direct_media.over()
    assert direct_media.stats["sessions_timer_expired"] == 1


@pytest.fixture
async def sampled(autojump_clock: object) -> AsyncGenerator[World, None]:
    """With the sampler running: each call is looked at every 5 s, silent after 20."""
    text = TALK + "\n[media]\nsample_interval = 5.0\nsilence = 20.0\n"
    async with open_world(text, node=True, sampler=True) as made:
        yield made


async def test_a_call_the_node_has_lost_is_anchored_again(sampled: World) -> None:
    """Its phones are told the new ports. Who has sent nothing for long is not worth that: see the mover's tests."""
    assert sampled.node is not None
    ladder = await answered(sampled)
    sampled.node.restart()
    await trio.sleep(11)
    told = [packet for packet in sampled.take() if packet.message.method == "INVITE"]
    assert {packet.to for packet in told} == {"caller", "callee"}
    await ladder.play("""
        caller -> edge    200 OK (INVITE)
            sdp: alice
        edge -> caller    ACK
        callee -> edge    200 OK (INVITE)  [B]
            sdp: bob
        edge -> callee    ACK  [B]
    """)
    await ladder.play(HUNG_UP)
    await sampled.over()


async def test_a_call_without_a_packet_is_ended(sampled: World) -> None:
    await answered(sampled)
    await trio.sleep(40)
    found = byes(sampled)
    assert len(found) >= 4 and all("No media for" in reason for _, _, reason in found)
    await answer_byes(sampled)
    await sampled.over()
    assert sampled.stats["sessions_silent"] == 1


async def test_a_call_with_packets_is_left_alone(sampled: World) -> None:
    node = sampled.node
    assert node is not None
    ladder = await answered(sampled)
    (call,) = node.calls.values()
    for second in range(0, 100, 5):
        for party in call.parties:
            if party.medias:
                node.media(call.call_id, party.tag, packets=50 * (second + 5))
        await trio.sleep(5)
    assert not sampled.take()
    await ladder.play(HUNG_UP)
    await sampled.over()


async def test_481_to_a_reinvite_ends_the_call(direct_media: World) -> None:
    """RFC 3261 12.2.1.2: that side knows no such call any more; the other is told."""
    await play(direct_media, """
        caller -> edge    INVITE sip:1000@198.51.100.1
            sdp: alice
        edge -> caller    100 Trying
        edge -> callee    INVITE
        callee -> edge    200 OK
            sdp: bob
        edge -> caller    200 OK
        caller -> edge    ACK
        edge -> callee    ACK
        callee -> edge    INVITE
            sdp: bob-held
        edge -> callee    100 Trying
        edge -> caller    INVITE
        caller -> edge    481 Call/Transaction Does Not Exist
        edge -> caller    ACK
        edge -> callee    481 Call/Transaction Does Not Exist
        edge -> caller    BYE
            Reason: SIP;cause=481;text="Call gone"
        edge -> callee    BYE
        callee -> edge    ACK
        caller -> edge    481 Call/Transaction Does Not Exist (BYE)
        callee -> edge    200 OK (BYE)
    """)  # fmt: skip
    await direct_media.over()
    assert commands(direct_media)[-1] == "delete"


async def test_a_bye_with_our_token_deletes_a_call_we_forgot(media: World) -> None:
    """The proxy was killed and started again: the token in the Route is all it has, and the node has the call."""
    ladder = await answered(media)
    edge = media.edge
    for dialog in edge.core.dialogs:
        edge.core.dialogs.remove(dialog)
    assert edge.anchor is not None and media.node is not None
    for session in list(edge._sessions()):
        for leg in session.legs:
            edge.anchor.table.drop_leg(leg)
        edge.anchor.table.drop(session)
    assert len(media.node.calls) == 1
    await ladder.play(HUNG_UP)
    await media.over()
    assert media.node.count("delete") >= 1


async def test_a_token_is_good_for_its_own_call_only(media: World) -> None:
    """Somebody replays the Route of one call with the Call-ID of another: 404, and nothing is deleted."""
    ladder = await answered(media)
    route = media.parties["caller"].calls[ladder.names["A"]].dialog
    assert route is not None and media.node is not None
    await ladder.play(f"""
        stranger -> edge    BYE sip:x@203.0.113.9  [C]
            Route: {route.routes[0]}
            To: <sip:1000@198.51.100.1>;tag=guess
        edge -> stranger    404 Not here  [C]
    """)  # fmt: skip
    assert media.node.count("delete") == 0
    await ladder.play(HUNG_UP)
    await media.over()


async def test_a_bye_that_crosses_a_bye(media: World) -> None:
    ladder = await answered(media)
    await ladder.play("""
        caller -> edge    BYE
        edge -> fs        BYE
        fs -> edge        BYE
        edge -> caller    BYE
        fs -> edge        200 OK
        edge -> caller    200 OK
        caller -> edge    200 OK
        edge -> fs        200 OK
        callee -> edge    BYE  [B]
        edge -> fs        BYE  [B]
        fs -> edge        200 OK  [B]
        edge -> callee    200 OK  [B]
    """)  # fmt: skip
    await media.over()
    assert commands(media) == ["offer", "answer", "delete"]


async def test_a_bye_to_a_dead_freeswitch_hangs_up_the_other_phone(media: World) -> None:
    """FreeSWITCH was killed in mid-call: media goes on, and whoever hangs up does it for both."""
    ladder = await answered(media)
    await ladder.play("""
        caller -> edge    BYE
        edge -> fs        BYE
    """)  # fmt: skip
    media.parties["fs"].answers_probes = False
    media.unreachable(media.wire[-1])
    await ladder.play("""
        edge -> caller    500 Server Internal Error
        edge -> fs        BYE  [B]
            Reason: SIP;cause=503;text="No way to the other side"
        edge -> callee    BYE  [B]
            Reason: SIP;cause=503;text="No way to the other side"
        callee -> edge    200 OK  [B]
    """)  # fmt: skip
    await trio.sleep(33)
    assert {(packet.to, packet.summary.split()[0]) for packet in media.take()} == {("fs", "BYE")}
    await media.over()
    assert commands(media) == ["offer", "answer", "delete"]


async def test_a_bye_nobody_answers_ends_the_call_all_the_same(media: World) -> None:
    """Both phones hang up at once and FreeSWITCH is silent: each is hung up for the other's sake as well."""
    ladder = await answered(media)
    await ladder.play("""
        caller -> edge    BYE
        edge -> fs        BYE
        callee -> edge    BYE  [B]
        edge -> fs        BYE  [B]
    """)  # fmt: skip
    await trio.sleep(66)
    assert {packet.summary.split()[0] for packet in media.take()} == {"BYE"}
    await media.over()
    assert commands(media) == ["offer", "answer", "delete"]


async def test_a_bye_in_an_early_dialog(direct_media: World) -> None:
    """RFC 3261 15: a caller may; the INVITE is then answered 487."""
    await play(direct_media, """
        caller -> edge    INVITE sip:1000@198.51.100.1
            sdp: alice
        edge -> caller    100 Trying
        edge -> callee    INVITE
        callee -> edge    180 Ringing
        edge -> caller    180 Ringing
        caller -> edge    BYE
        edge -> callee    BYE
        callee -> edge    200 OK (BYE)
        edge -> caller    200 OK (BYE)
        callee -> edge    487 Request Terminated (INVITE)
        edge -> callee    ACK
        edge -> caller    487 Request Terminated (INVITE)
        caller -> edge    ACK
    """)  # fmt: skip
    await direct_media.over()
    assert commands(direct_media)[-1] == "delete"

"""Waiting: retransmissions absorbed and made, 100 at once, first reply, INVITE timer, ICMP, 408 and 503."""

from __future__ import annotations

import pytest

from tests.ladder import Ladder, play
from tests.world import DIRECT, World, open_world


async def test_100_at_once_and_retransmissions_absorbed(world: World) -> None:
    ladder = await play(world, """
        caller -> edge    INVITE sip:1000@198.51.100.1
        edge -> caller    100 Trying
        edge -> fs        INVITE sip:b2bua-1000@10.0.0.3
        fs -> edge        100 Trying
    """)  # fmt: skip
    again = world.parties["caller"].calls["A-0@test"].sent["INVITE"].encode()
    world.inject("caller", again)
    await ladder.play("""
        edge -> caller    100 Trying
        fs -> edge        180 Ringing
        edge -> caller    180 Ringing
    """)  # fmt: skip
    world.inject("caller", again)
    await ladder.play("""
        edge -> caller    180 Ringing
        fs -> edge        486 Busy Here
        edge -> fs        ACK sip:b2bua-1000@10.0.0.3
        edge -> caller    486 Busy Here
    """)  # fmt: skip
    world.inject("caller", again)
    await ladder.play("""
        edge -> caller    486 Busy Here
        caller -> edge    ACK
    """)  # fmt: skip
    assert world.stats["retransmissions_absorbed"] == 3
    await world.over()


async def test_an_invite_is_sent_again_until_something_comes(direct: World) -> None:
    """Timer A: 0.5, 1.5 and 3.5 s; after 4 s without any reply the callee is given up."""
    await play(direct, """
        caller -> edge    INVITE sip:1000@198.51.100.1
        edge -> caller    100 Trying
        edge -> callee    INVITE sip:1000@203.0.113.9:5060
        ... 0.45 s
        ... 0.1 s
        edge -> callee    INVITE sip:1000@203.0.113.9:5060
        ... 3.35 s
        edge -> callee    INVITE sip:1000@203.0.113.9:5060 x2
        ... 0.2 s
        edge -> caller    408 Request Timeout
        caller -> edge    ACK
    """)  # fmt: skip
    await direct.over()


async def test_a_late_provisional_reply_of_a_callee_given_up_is_answered_with_cancel(direct: World) -> None:
    await play(direct, """
        caller -> edge    INVITE sip:1000@198.51.100.1
        edge -> caller    100 Trying
        edge -> callee    INVITE
        ... 4.1 s
        edge -> callee    INVITE x3
        edge -> caller    408 Request Timeout
        caller -> edge    ACK
        callee -> edge    180 Ringing
        edge -> callee    CANCEL sip:1000@203.0.113.9:5060
        callee -> edge    200 OK (CANCEL)
        callee -> edge    487 Request Terminated (INVITE)
        edge -> callee    ACK
    """)  # fmt: skip
    await direct.over()


async def test_a_late_2xx_of_a_callee_given_up_is_acknowledged_and_hung_up(direct: World) -> None:
    await play(direct, """
        caller -> edge    INVITE sip:1000@198.51.100.1
        edge -> caller    100 Trying
        edge -> callee    INVITE
        ... 4.1 s
        edge -> callee    INVITE x3
        edge -> caller    408 Request Timeout
        caller -> edge    ACK
        callee -> edge    200 OK
        edge -> callee    ACK sip:callee@203.0.113.9
            CSeq: 1 ACK
        edge -> callee    BYE sip:callee@203.0.113.9
            CSeq: 2 BYE
            Reason: SIP;cause=487;text="Answered too late"
        callee -> edge    200 OK (INVITE)
        edge -> callee    ACK
        callee -> edge    200 OK (BYE)
    """)  # fmt: skip
    assert direct.stats["answers_too_late"] == 1
    await direct.over()


async def test_ringing_too_long_is_cancelled_after_75_s(direct: World) -> None:
    await play(direct, """
        caller -> edge    INVITE sip:1000@198.51.100.1
        edge -> caller    100 Trying
        edge -> callee    INVITE
        callee -> edge    180 Ringing
        edge -> caller    180 Ringing
        ... 74 s
        ... 1.1 s
        edge -> callee    CANCEL sip:1000@203.0.113.9:5060
        edge -> caller    408 Request Timeout
        caller -> edge    ACK
        callee -> edge    200 OK (CANCEL)
        callee -> edge    487 Request Terminated (INVITE)
        edge -> callee    ACK
    """)  # fmt: skip
    await direct.over()


async def test_an_answer_crossing_the_cancel_of_the_invite_timer_is_hung_up(direct: World) -> None:
    await play(direct, """
        caller -> edge    INVITE sip:1000@198.51.100.1
        edge -> caller    100 Trying
        edge -> callee    INVITE
        callee -> edge    180 Ringing
        edge -> caller    180 Ringing
        ... 75.1 s
        edge -> callee    CANCEL
        edge -> caller    408 Request Timeout
        caller -> edge    ACK
        callee -> edge    200 OK (INVITE)
        edge -> callee    ACK
        edge -> callee    BYE
        callee -> edge    200 OK (CANCEL)
        callee -> edge    200 OK (BYE)
    """)  # fmt: skip
    await direct.over()


async def test_timer_c_starts_anew_with_each_provisional_reply(autojump_clock: object) -> None:
    """RFC 3261 16.6 item 11 and 16.7 item 2: with an INVITE timer of ten minutes, ringing may go on that long."""
    async with open_world(DIRECT, invite="600") as world:
        await play(world, """
            caller -> edge    INVITE sip:1000@198.51.100.1
            edge -> caller    100 Trying
            edge -> callee    INVITE
            callee -> edge    180 Ringing
            edge -> caller    180 Ringing
            ... 590 s
            callee -> edge    180 Ringing
            edge -> caller    180 Ringing
            ... 10.1 s
            edge -> callee    CANCEL
            edge -> caller    408 Request Timeout
            caller -> edge    ACK
            callee -> edge    200 OK (CANCEL)
            callee -> edge    487 Request Terminated (INVITE)
            edge -> callee    ACK
        """)  # fmt: skip
        await world.over()


async def test_icmp_is_a_failure_at_once(direct: World) -> None:
    """RFC 3261 16.9: as if 503 had come; and a 503 of one branch goes up as 500 (16.7 item 6)."""
    ladder = await play(direct, """
        caller -> edge    INVITE sip:1000@198.51.100.1
        edge -> caller    100 Trying
        edge -> callee    INVITE
    """)  # fmt: skip
    direct.unreachable(direct.wire[-1])
    await ladder.play("""
        edge -> caller    500 Server Internal Error
        caller -> edge    ACK
    """)  # fmt: skip
    assert direct.stats["branch_icmp"] == 1
    await direct.over()


async def test_icmp_about_somebody_else_changes_nothing(direct: World) -> None:
    ladder = await play(direct, """
        caller -> edge    INVITE sip:1000@198.51.100.1
        edge -> caller    100 Trying
        edge -> callee    INVITE
    """)  # fmt: skip
    sent = direct.wire[-1]
    direct.edge.stack.unreachable(sent.data, ("192.0.2.1", 5060), 0.0)
    direct.edge.stack.unreachable(sent.data[:40], ("203.0.113.9", 5060), 0.0)
    direct.edge.stack.unreachable(b"", ("203.0.113.9", 5060), 0.0)
    await ladder.play("""
        callee -> edge    486 Busy Here
        edge -> callee    ACK
        edge -> caller    486 Busy Here
        caller -> edge    ACK
    """)  # fmt: skip
    await direct.over()


async def test_a_503_goes_up_as_500(direct: World) -> None:
    await play(direct, """
        caller -> edge    INVITE sip:1000@198.51.100.1
        edge -> caller    100 Trying
        edge -> callee    INVITE
        callee -> edge    503 Service Unavailable
            Retry-After: 10
        edge -> callee    ACK
        edge -> caller    500 Server Internal Error
        caller -> edge    ACK
    """)  # fmt: skip
    await direct.over()


async def test_a_failure_is_repeated_until_its_ack(direct: World) -> None:
    """Timer G, and timer H when no ACK comes at all."""
    await play(direct, """
        caller -> edge    INVITE sip:1000@198.51.100.1
        edge -> caller    100 Trying
        edge -> callee    INVITE
        callee -> edge    486 Busy Here
        edge -> callee    ACK
        edge -> caller    486 Busy Here
        callee -> edge    486 Busy Here
        edge -> callee    ACK
        ... 1.6 s
        edge -> caller    486 Busy Here x2
        caller -> edge    ACK x2
        ... 30 s
    """)  # fmt: skip
    await direct.over()


async def test_without_any_ack_a_failure_is_forgotten_after_32_s(direct: World) -> None:
    await play(direct, """
        stranger -> edge  INVITE sip:2000@198.51.100.1
        edge -> stranger  100 Trying
        edge -> stranger  403 *
        ... 32.1 s
        edge -> stranger  403 * x10
    """)  # fmt: skip
    await direct.over()


async def test_a_2xx_is_repeated_by_its_sender_not_by_us(direct: World) -> None:
    await play(direct, """
        caller -> edge    INVITE sip:1000@198.51.100.1
        edge -> caller    100 Trying
        edge -> callee    INVITE
        callee -> edge    200 OK
        edge -> caller    200 OK
        ... 3 s
        callee -> edge    200 OK
        edge -> caller    200 OK
        caller -> edge    ACK
        edge -> callee    ACK
        callee -> edge    200 OK
        edge -> caller    200 OK
        caller -> edge    ACK
        edge -> callee    ACK
        callee -> edge    BYE
        edge -> caller    BYE
        caller -> edge    200 OK
        edge -> callee    200 OK
    """)  # fmt: skip
    await direct.over()


async def test_a_request_other_than_invite_that_nobody_answers_is_not_answered_by_us_either(direct: World) -> None:
    """RFC 4320 section 4.2. Timer E: 0.5, 1, 2, 4, 4... s until timer F at 32 s."""
    await play(direct, """
        caller -> edge    MESSAGE sip:1000@198.51.100.1
        edge -> callee    MESSAGE
        ... 31.9 s
        edge -> callee    MESSAGE x10
        caller -> edge    MESSAGE sip:1000@198.51.100.1  [B]
        edge -> callee    MESSAGE  [B]
        callee -> edge    100 Trying  [B]
        ... 32.5 s
        edge -> callee    MESSAGE x8  [B]
    """)  # fmt: skip
    await direct.over()


async def test_a_slow_request_other_than_invite(direct: World) -> None:
    await play(direct, """
        caller -> edge    MESSAGE sip:1000@198.51.100.1
        edge -> callee    MESSAGE
        ... 5 s
        edge -> callee    MESSAGE x3
        callee -> edge    202 Accepted
        edge -> caller    202 Accepted
        callee -> edge    202 Accepted
    """)  # fmt: skip
    assert direct.stats["responses_stray"] == 0
    await direct.over()


@pytest.mark.parametrize("method", ["INVITE", "MESSAGE"])
async def test_stray_responses_go_nowhere(direct: World, method: str) -> None:
    """RFC 6026 8.9; a response without our branch, one to a method we did not send, one with a foreign Via."""
    ladder = await play(direct, """
        caller -> edge    MESSAGE sip:1000@198.51.100.1
        edge -> callee    MESSAGE
    """)  # fmt: skip
    request = direct.last("callee", "MESSAGE")
    for change in ("branch", "method", "cookie"):
        reply = request.response(200, tag="x")
        via = reply.via
        if change == "method":
            reply.set("CSeq", f"1 {'OPTIONS' if method == 'MESSAGE' else 'INVITE'}")
        elif change == "branch":
            via.params["branch"] = "z9hG4bKnobody"
        else:
            del via.params["branch"]
        reply.set_top_via(via)
        direct.inject("callee", reply.encode())
    assert direct.stats["responses_stray"] == 3
    await ladder.play("""
        callee -> edge    200 OK
        edge -> caller    200 OK
    """)  # fmt: skip
    await direct.over()


async def test_ladders_of_two_calls_do_not_mix(direct: World) -> None:
    ladder = Ladder(direct)
    for name in ("A", "B"):
        await ladder.play(f"""
            caller -> edge    INVITE sip:1000@198.51.100.1  [{name}]
            edge -> caller    100 Trying  [{name}]
            edge -> callee    INVITE  [{name}]
        """)  # fmt: skip
    await ladder.play("""
        callee -> edge    486 Busy Here  [B]
        edge -> callee    ACK  [B]
        edge -> caller    486 Busy Here  [B]
        callee -> edge    603 Decline  [A]
        edge -> callee    ACK  [A]
        edge -> caller    603 Decline  [A]
        caller -> edge    ACK  [A]
        caller -> edge    ACK  [B]
    """)  # fmt: skip
    await direct.over()

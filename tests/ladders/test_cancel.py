"""CANCEL (RFC 3261 9 and 16.10): before and after the first reply, crossing an answer, matching nothing."""

from __future__ import annotations

from tests.ladder import play
from tests.world import World


async def test_cancel_while_ringing(world: World) -> None:
    await play(world, """
        caller -> edge    INVITE sip:1000@198.51.100.1
        edge -> caller    100 Trying
        edge -> fs        INVITE sip:b2bua-1000@10.0.0.3
        fs -> edge        180 Ringing
        edge -> caller    180 Ringing
        caller -> edge    CANCEL
            Reason: SIP;cause=487;text="ORIGINATOR_CANCEL"
        edge -> caller    200 OK (CANCEL)
        edge -> fs        CANCEL sip:b2bua-1000@10.0.0.3
            Reason: SIP;cause=487;text="ORIGINATOR_CANCEL"
            -Record-Route
        fs -> edge        200 OK (CANCEL)
        fs -> edge        487 Request Terminated (INVITE)
        edge -> fs        ACK sip:b2bua-1000@10.0.0.3
        edge -> caller    487 Request Terminated (INVITE)
        caller -> edge    ACK
    """)  # fmt: skip
    await world.over()


async def test_cancel_before_any_reply_waits_for_the_first(direct: World) -> None:
    """RFC 3261 9.1: the CANCEL could overtake the INVITE."""
    await play(direct, """
        caller -> edge    INVITE sip:1000@198.51.100.1
        edge -> caller    100 Trying
        edge -> callee    INVITE
        caller -> edge    CANCEL
        edge -> caller    200 OK (CANCEL)
        ... 1 s
        edge -> callee    INVITE
        callee -> edge    100 Trying
        edge -> callee    CANCEL
        callee -> edge    200 OK (CANCEL)
        callee -> edge    487 Request Terminated (INVITE)
        edge -> callee    ACK
        edge -> caller    487 Request Terminated (INVITE)
        caller -> edge    ACK
    """)  # fmt: skip
    await direct.over()


async def test_cancel_of_a_call_nobody_replies_to(direct: World) -> None:
    await play(direct, """
        caller -> edge    INVITE sip:1000@198.51.100.1
        edge -> caller    100 Trying
        edge -> callee    INVITE
        caller -> edge    CANCEL
        edge -> caller    200 OK (CANCEL)
        ... 4.1 s
        edge -> callee    INVITE x3
        edge -> caller    487 Request Terminated (INVITE)
        caller -> edge    ACK
    """)  # fmt: skip
    await direct.over()


async def test_an_answer_crosses_the_cancel(direct: World) -> None:
    """The 2xx wins; the caller has to hang up."""
    await play(direct, """
        caller -> edge    INVITE sip:1000@198.51.100.1
        edge -> caller    100 Trying
        edge -> callee    INVITE
        callee -> edge    180 Ringing
        edge -> caller    180 Ringing
        caller -> edge    CANCEL
        edge -> caller    200 OK (CANCEL)
        edge -> callee    CANCEL
        callee -> edge    200 OK (INVITE)
        edge -> caller    200 OK (INVITE)
        callee -> edge    481 Call/Transaction Does Not Exist (CANCEL)
        caller -> edge    ACK
        edge -> callee    ACK
        caller -> edge    BYE
        edge -> callee    BYE
        callee -> edge    200 OK (BYE)
        edge -> caller    200 OK (BYE)
    """)  # fmt: skip
    await direct.over()


async def test_a_cancel_that_comes_twice_is_answered_twice_and_sent_once(direct: World) -> None:
    ladder = await play(direct, """
        caller -> edge    INVITE sip:1000@198.51.100.1
        edge -> caller    100 Trying
        edge -> callee    INVITE
        callee -> edge    180 Ringing
        edge -> caller    180 Ringing
        caller -> edge    CANCEL x2
        edge -> caller    200 OK (CANCEL)
        edge -> callee    CANCEL
        edge -> caller    200 OK (CANCEL)
    """)  # fmt: skip
    await ladder.play("""
        callee -> edge    200 OK (CANCEL)
        callee -> edge    487 Request Terminated (INVITE)
        edge -> callee    ACK
        edge -> caller    487 (INVITE)
        caller -> edge    ACK
    """)  # fmt: skip
    await direct.over()


async def test_a_cancel_for_nothing_is_481(direct: World) -> None:
    await play(direct, """
        caller -> edge    INVITE sip:1000@198.51.100.1
        edge -> caller    100 Trying
        edge -> callee    INVITE
        callee -> edge    486 Busy Here
        edge -> callee    ACK
        edge -> caller    486 Busy Here
        caller -> edge    ACK
        ... 6 s
        caller -> edge    CANCEL
        edge -> caller    481 Call/Transaction Does Not Exist (CANCEL)
    """)  # fmt: skip
    await direct.over()


async def test_a_cancel_after_the_final_reply_changes_nothing(direct: World) -> None:
    await play(direct, """
        caller -> edge    INVITE sip:1000@198.51.100.1
        edge -> caller    100 Trying
        edge -> callee    INVITE
        callee -> edge    486 Busy Here
        edge -> callee    ACK
        edge -> caller    486 Busy Here
        caller -> edge    CANCEL
        edge -> caller    200 OK (CANCEL)
        caller -> edge    ACK
    """)  # fmt: skip
    await direct.over()


async def test_a_cancel_the_callee_ignores(direct: World) -> None:
    """RFC 3261 9.1: 64*T1 after it the transaction counts as cancelled."""
    await play(direct, """
        caller -> edge    INVITE sip:1000@198.51.100.1
        edge -> caller    100 Trying
        edge -> callee    INVITE
        callee -> edge    180 Ringing
        edge -> caller    180 Ringing
        caller -> edge    CANCEL
        edge -> caller    200 OK (CANCEL)
        edge -> callee    CANCEL
        callee -> edge    200 OK (CANCEL)
        ... 31.9 s
        ... 0.2 s
        edge -> caller    487 Request Terminated (INVITE)
        caller -> edge    ACK
    """)  # fmt: skip
    await direct.over()


async def test_a_cancel_of_another_request_is_only_answered(direct: World) -> None:
    """RFC 3261 9.1: a CANCEL has no effect on a request other than INVITE."""
    ladder = await play(direct, """
        caller -> edge    MESSAGE sip:1000@198.51.100.1
        edge -> callee    MESSAGE
    """)  # fmt: skip
    cancel = direct.parties["caller"].request("A-0@test", "MESSAGE", "sip:1000@198.51.100.1")
    cancel.method = "CANCEL"
    cancel.set("CSeq", "1 CANCEL")
    cancel.set("Via", direct.parties["caller"].calls["A-0@test"].sent["MESSAGE"]["Via"])
    direct.inject("caller", cancel.encode())
    await ladder.play("""
        edge -> caller    481 * (CANCEL)
        callee -> edge    200 OK
        edge -> caller    200 OK
    """)  # fmt: skip
    await direct.over()


async def test_cancel_in_the_middle_of_the_hunt(world: World) -> None:
    """Nobody else is tried once the caller has given up."""
    await play(world, """
        caller -> edge    INVITE sip:1000@198.51.100.1
        edge -> caller    100 Trying
        edge -> fs        INVITE
        caller -> edge    CANCEL
        edge -> caller    200 OK (CANCEL)
        ... 2.1 s
        edge -> fs        INVITE x2
        edge -> caller    487 Request Terminated (INVITE)
        caller -> edge    ACK
    """)  # fmt: skip
    await world.over()


async def test_a_reinvite_is_cancelled_like_any_invite(direct: World) -> None:
    await play(direct, """
        caller -> edge    INVITE sip:1000@198.51.100.1
        edge -> caller    100 Trying
        edge -> callee    INVITE
        callee -> edge    200 OK
        edge -> caller    200 OK
        caller -> edge    ACK
        edge -> callee    ACK
        caller -> edge    INVITE
        edge -> caller    100 Trying
        edge -> callee    INVITE
        callee -> edge    100 Trying
        caller -> edge    CANCEL
        edge -> caller    200 OK (CANCEL)
        edge -> callee    CANCEL
        callee -> edge    200 OK (CANCEL)
        callee -> edge    487 Request Terminated (INVITE)
        edge -> callee    ACK
        edge -> caller    487 Request Terminated (INVITE)
        caller -> edge    ACK
        caller -> edge    BYE
        edge -> callee    BYE
        callee -> edge    200 OK
        edge -> caller    200 OK
    """)  # fmt: skip
    await direct.over()

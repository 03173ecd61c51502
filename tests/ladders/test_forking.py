"""Several branches: parallel and serial forking, the best response, CANCEL of the rest (RFC 3261 16.7)."""

from __future__ import annotations

import pytest
import trio

from proxy.routing import Call
from tests.ladder import Ladder, play
from tests.world import World

PHONES = {"phone1": "192.0.2.11", "phone2": "192.0.2.12", "phone3": "192.0.2.13"}


async def registered(world: World, *names: str) -> Ladder:
    """A ladder of a world in which these phones are registered as 2000, the last one first choice."""
    ladder = Ladder(world)
    for name in names:
        world.party(name, (PHONES[name], 5060))
        await ladder.play(f"""
            {name} -> edge    REGISTER sip:example.test  [{name}]
                To: <sip:2000@example.test>
                From: <sip:2000@example.test>;tag=r
                Expires: 600
            edge -> {name}    200 OK  [{name}]
        """)  # fmt: skip
    return ladder


FORKED = """
    caller -> edge    INVITE sip:2000@example.test
    edge -> caller    100 Trying
    edge -> phone1    INVITE sip:phone1@192.0.2.11
    edge -> phone2    INVITE sip:phone2@192.0.2.12
"""


async def test_the_first_to_answer_wins_and_the_others_are_cancelled(direct: World) -> None:
    ladder = await registered(direct, "phone1", "phone2")
    await ladder.play(FORKED + """
    phone1 -> edge    180 Ringing
    edge -> caller    180 Ringing
    phone2 -> edge    180 Ringing
    edge -> caller    180 Ringing
    phone2 -> edge    200 OK
    edge -> caller    200 OK
    edge -> phone1    CANCEL sip:phone1@192.0.2.11
    phone1 -> edge    200 OK (CANCEL)
    phone1 -> edge    487 Request Terminated (INVITE)
    edge -> phone1    ACK
    caller -> edge    ACK
    edge -> phone2    ACK sip:phone2@192.0.2.12
    caller -> edge    BYE
    edge -> phone2    BYE
    phone2 -> edge    200 OK
    edge -> caller    200 OK
    """)  # fmt: skip
    await direct.over()


async def test_both_answer_at_once(direct: World) -> None:
    """Every 2xx is passed on (RFC 3261 16.7 item 5); the caller hangs up on the one it does not want."""
    ladder = await registered(direct, "phone1", "phone2")
    await ladder.play(FORKED + """
    phone1 -> edge    180 Ringing
    edge -> caller    180 Ringing
    phone1 -> edge    200 OK
    edge -> caller    200 OK
    caller -> edge    ACK
    edge -> phone1    ACK
    phone2 -> edge    200 OK
    edge -> caller    200 OK
    caller -> edge    ACK
    edge -> phone2    ACK sip:phone2@192.0.2.12
    caller -> edge    BYE
    edge -> phone2    BYE
    phone2 -> edge    200 OK
    edge -> caller    200 OK
    phone1 -> edge    BYE
    edge -> caller    BYE
    caller -> edge    200 OK
    edge -> phone1    200 OK
    """)  # fmt: skip
    await direct.over()


@pytest.mark.parametrize(
    ("first", "second", "best"),
    [
        (486, 404, 404),  # the lowest class; within it the lowest code
        (486, 603, 603),  # any 6xx
        (500, 486, 486),
        (486, 302, 404),  # a 3xx is the best, and becomes 404
        (480, 415, 415),  # tells the caller how to try again
        (404, 484, 484),
        (404, 401, 401),
        (503, 503, 500),
        (504, 480, 480),
    ],
)
async def test_the_best_response_goes_up(direct: World, first: int, second: int, best: int) -> None:
    ladder = await registered(direct, "phone1", "phone2")
    await ladder.play(FORKED + f"""
    phone1 -> edge    {first} X
    edge -> phone1    ACK
    phone2 -> edge    {second} X
    edge -> phone2    ACK
    edge -> caller    {best}
    caller -> edge    ACK
    """)  # fmt: skip
    await direct.over()


async def test_challenges_of_all_branches_go_up_together(direct: World) -> None:
    """RFC 3261 16.7 item 7."""
    ladder = await registered(direct, "phone1", "phone2")
    await ladder.play(FORKED + """
    phone1 -> edge    407 Proxy Authentication Required
        Proxy-Authenticate: Digest realm="one"
    edge -> phone1    ACK
    phone2 -> edge    401 Unauthorized
        WWW-Authenticate: Digest realm="two"
    edge -> phone2    ACK
    edge -> caller    401 Unauthorized
        WWW-Authenticate: Digest realm="two"
        Proxy-Authenticate: Digest realm="one"
    caller -> edge    ACK
    """)  # fmt: skip
    await direct.over()


async def test_a_6xx_cancels_the_others_and_waits_for_them(direct: World) -> None:
    ladder = await registered(direct, "phone1", "phone2")
    await ladder.play(FORKED + """
    phone2 -> edge    180 Ringing
    edge -> caller    180 Ringing
    phone1 -> edge    603 Decline
    edge -> phone1    ACK
    edge -> phone2    CANCEL
    phone2 -> edge    200 OK (CANCEL)
    phone2 -> edge    487 Request Terminated (INVITE)
    edge -> phone2    ACK
    edge -> caller    603 Decline
    caller -> edge    ACK
    """)  # fmt: skip
    await direct.over()


async def test_a_silent_phone_does_not_hold_up_the_other(direct: World) -> None:
    """Its 408 is made here after 4 s and loses against a response from the network."""
    ladder = await registered(direct, "phone1", "phone2")
    await ladder.play(FORKED + """
    phone2 -> edge    480 Temporarily Unavailable
    edge -> phone2    ACK
    ... 4.1 s
    edge -> phone1    INVITE x3
    edge -> caller    480 Temporarily Unavailable
    caller -> edge    ACK
    """)  # fmt: skip
    await direct.over()


async def test_a_forked_request_other_than_invite(direct: World) -> None:
    ladder = await registered(direct, "phone1", "phone2")
    await ladder.play("""
        caller -> edge    MESSAGE sip:2000@example.test
        edge -> phone1    MESSAGE
        edge -> phone2    MESSAGE
        phone1 -> edge    404 Not Found
        phone2 -> edge    200 OK
        edge -> caller    200 OK
        caller -> edge    MESSAGE sip:2000@example.test  [B]
        edge -> phone1    MESSAGE  [B]
        edge -> phone2    MESSAGE  [B]
        phone1 -> edge    200 OK  [B]
        edge -> caller    200 OK  [B]
        phone2 -> edge    200 OK  [B]
    """)  # fmt: skip
    await direct.over()


async def test_a_forked_request_that_nobody_answers(direct: World) -> None:
    ladder = await registered(direct, "phone1", "phone2")
    await ladder.play("""
        caller -> edge    MESSAGE sip:2000@example.test
        edge -> phone1    MESSAGE
        edge -> phone2    MESSAGE
        phone1 -> edge    100 Trying
    """)  # fmt: skip
    direct.edge.stack.hush(*[tx for tx in direct.edge.stack.client.values() if tx.flow.addr[0] == PHONES["phone2"]])
    await ladder.play("""
        ... 33 s
        edge -> phone1    MESSAGE x8
    """)  # fmt: skip
    await direct.over()


async def test_cancel_reaches_every_branch_once(direct: World) -> None:
    ladder = await registered(direct, "phone1", "phone2", "phone3")
    await ladder.play("""
        caller -> edge    INVITE sip:2000@example.test
        edge -> caller    100 Trying
        edge -> phone1    INVITE
        edge -> phone2    INVITE
        edge -> phone3    INVITE
        phone1 -> edge    180 Ringing
        edge -> caller    180 Ringing
        phone2 -> edge    486 Busy Here
        edge -> phone2    ACK
        caller -> edge    CANCEL
            Reason: SIP;cause=200;text="Call completed elsewhere"
        edge -> caller    200 OK (CANCEL)
        edge -> phone1    CANCEL
            Reason: SIP;cause=200;text="Call completed elsewhere"
        phone3 -> edge    100 Trying
        edge -> phone3    CANCEL
        phone1 -> edge    487 Request Terminated (INVITE)
        edge -> phone1    ACK
        phone1 -> edge    200 OK (CANCEL)
        phone3 -> edge    200 OK (CANCEL)
        phone3 -> edge    487 Request Terminated (INVITE)
        edge -> phone3    ACK
        edge -> caller    487 Request Terminated (INVITE)
        caller -> edge    ACK
    """)  # fmt: skip
    await direct.over()


async def test_serial_forking_by_a_script(direct: World) -> None:
    """Told in order: the next line after an await is what other proxies call a failure route."""
    replies = []

    async def route(call: Call) -> None:
        if call.method == "REGISTER":
            return await call.register()
        for target in call.lookup():
            reply = await call.relay(target)
            replies.append(reply.code)
            if reply.code < 300:
                return
        call.reply(480, "Nobody home")

    direct.edge.core.run_route = route
    ladder = await registered(direct, "phone1", "phone2", "phone3")
    await ladder.play("""
        caller -> edge    INVITE sip:2000@example.test
        edge -> caller    100 Trying
        edge -> phone1    INVITE
        phone1 -> edge    486 Busy Here
        edge -> phone1    ACK
        edge -> phone2    INVITE
        ... 4.1 s
        edge -> phone2    INVITE x3
        edge -> phone3    INVITE
        phone3 -> edge    180 Ringing
        edge -> caller    180 Ringing
        phone3 -> edge    200 OK
        edge -> caller    200 OK
        caller -> edge    ACK
        edge -> phone3    ACK
        phone3 -> edge    BYE
        edge -> caller    BYE
        caller -> edge    200 OK
        edge -> phone3    200 OK
        caller -> edge    INVITE sip:2000@example.test  [B]
        edge -> caller    100 Trying  [B]
        edge -> phone1    INVITE  [B]
        phone1 -> edge    486 Busy Here  [B]
        edge -> phone1    ACK  [B]
        edge -> phone2    INVITE  [B]
        phone2 -> edge    486 Busy Here  [B]
        edge -> phone2    ACK  [B]
        edge -> phone3    INVITE  [B]
        phone3 -> edge    486 Busy Here  [B]
        edge -> phone3    ACK  [B]
        edge -> caller    480 Nobody home  [B]
        caller -> edge    ACK  [B]
    """)  # fmt: skip
    assert replies == [486, 408, 200, 486, 486, 486]
    await direct.over()


async def test_a_script_that_gives_up_waiting_leaves_nobody_ringing(direct: World) -> None:
    async def route(call: Call) -> None:
        if call.method == "REGISTER":
            return await call.register()
        with trio.move_on_after(10):
            await call.relay(call.lookup())
            return
        call.reply(480, "Taking too long")

    direct.edge.core.run_route = route
    ladder = await registered(direct, "phone1", "phone2")
    await ladder.play(FORKED + """
    phone1 -> edge    180 Ringing
    edge -> caller    180 Ringing
    phone2 -> edge    180 Ringing
    edge -> caller    180 Ringing
    ... 10.1 s
    edge -> caller    480 Taking too long
    edge -> phone1    CANCEL
    edge -> phone2    CANCEL
    caller -> edge    ACK
    phone1 -> edge    200 OK (CANCEL)
    phone1 -> edge    487 Request Terminated (INVITE)
    edge -> phone1    ACK
    phone2 -> edge    200 OK (INVITE)
    edge -> phone2    ACK
    edge -> phone2    BYE
    phone2 -> edge    200 OK (CANCEL)
    phone2 -> edge    200 OK (BYE)
    """)  # fmt: skip
    await direct.over()


async def test_path_of_a_registration_becomes_a_route(direct: World) -> None:
    """RFC 3327: the phone is behind an edge proxy of somebody else."""
    direct.party("proxy", ("192.0.2.200", 5060))
    await play(direct, """
        proxy -> edge     REGISTER sip:example.test  [R]
            To: <sip:2000@example.test>
            From: <sip:2000@example.test>;tag=r
            Contact: <sip:phone@10.9.9.9>
            Supported: path
            Path: <sip:192.0.2.200;lr;ob>
            Expires: 600
        edge -> proxy     200 OK  [R]
            Path: <sip:192.0.2.200;lr;ob>
        caller -> edge    MESSAGE sip:2000@example.test
        edge -> proxy     MESSAGE sip:phone@10.9.9.9
            Route: <sip:192.0.2.200;lr;ob>
        proxy -> edge     200 OK
        edge -> caller    200 OK
    """)  # fmt: skip
    await direct.over()

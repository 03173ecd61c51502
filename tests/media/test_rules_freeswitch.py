"""Rule 10: FreeSWITCH steps into the media and out of it, answers first, and transfers (traces q5, q8, q9)."""

from __future__ import annotations

import pytest
import trio

from proxy.media.dialogue import STEP_OUT_WAIT
from tests.fake_rtpengine import FakeNode
from tests.media.ladder import (
    Call,
    Stage,
    Transaction,
    alice,
    bob,
    crypto,
    establish,
    on,
    own_media,
    settle,
    way,
    where,
)


async def step_in(call: Call, port_a: int = 18272, port_b: int = 17176) -> tuple[bytes, bytes]:
    """uuid_media: re-INVITE with FreeSWITCH's own media to leg A, then to leg B; what FreeSWITCH was shown."""
    shown: list[bytes] = []
    for dialog, port, answer in ((call.a, port_a, alice()), (call.b, port_b, bob())):
        own = await dialog.request(own_media(port), from_phone=False)
        assert own.refusal is None
        back = await dialog.respond(own, 200, answer)
        await dialog.ack(own)
        assert back is not None
        shown.append(back)
    return shown[0], shown[1]


async def test_stepping_in(stage: Stage) -> None:
    """The same ng call, FreeSWITCH's party per leg, [lan, pub] (trace q5-one-latch)."""
    call = await establish(stage)
    toward_a, toward_b = await step_in(call)
    assert stage.commands(2) == [
        "offer leg-FA>leg-A [lan,pub]",
        "answer leg-FA<leg-A",
        "offer leg-FB>leg-B [lan,pub]",
        "answer leg-FB<leg-B",
    ]
    assert where(toward_a)[0] == where(toward_b)[0] == "127.0.0.2", "FreeSWITCH sends to the LAN interface"
    await call.hang_up()
    assert stage.commands(6) == ["delete"]
    stage.clean()


async def test_hold_while_freeswitch_has_the_media(stage: Stage) -> None:
    call = await establish(stage)
    await step_in(call)
    hold = await call.a.request(alice("sendonly", 2), from_phone=True)
    assert where(hold.out)[0] == "127.0.0.2"
    shown = await call.a.respond(hold, 200, own_media(18272, "recvonly", 1795407546))
    assert way(shown) == "recvonly"
    await call.a.ack(hold)
    assert stage.commands(6) == ["offer leg-A>leg-FA [pub,lan]", "answer leg-A<leg-FA"]


async def test_stepping_out_gives_the_second_re_invite_the_result_of_the_first(stage: Stage) -> None:
    """Both re-INVITEs come at once, each with the other phone's LAN address (traces q5-bleg, q5-hold)."""
    call = await establish(stage)
    toward_a, toward_b = await step_in(call)
    before = len(stage.log)
    first = await call.b.request(stage.fs(toward_a), from_phone=False)
    assert stage.commands(before) == ["offer leg-A>leg-B [pub,pub]"]
    second: list[Transaction] = []

    async def other() -> None:
        second.append(await call.a.request(stage.fs(toward_b), from_phone=False))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        await settle()
        assert not second, "held until the first has its answer"
        back = await call.b.respond(first, 200, bob())
    assert second[0].refusal is None
    given = second[0].out
    last = await call.a.respond(second[0], 200, alice())
    assert stage.commands(before) == ["offer leg-A>leg-B [pub,pub]", "answer leg-A<leg-B"]
    assert where(given)[0] == where(first.out)[0] == "127.0.0.1"
    assert where(back) == where(given) and where(last) == where(first.out)
    await call.reinvite("a", alice("sendonly", 2), bob("recvonly", 2))
    await call.reinvite("b", bob("sendrecv", 3), alice("sendrecv", 3))
    assert call.session.phones[0].heard is not None
    await step_in(call)  # and once more
    assert stage.commands(len(stage.log) - 4)[0] == "offer leg-FA>leg-A [lan,pub]"


async def test_stepping_out_when_the_second_phone_has_news(stage: Stage) -> None:
    call = await establish(stage)
    toward_a, toward_b = await step_in(call)
    first = await call.b.request(stage.fs(toward_a), from_phone=False)
    await call.b.respond(first, 200, bob())
    before = len(stage.log)
    second = await call.a.request(stage.fs(toward_b), from_phone=False)
    await call.a.respond(second, 200, alice("sendrecv", 2, 37000))
    assert stage.commands(before) == ["offer leg-A>leg-B [pub,pub]", "answer leg-A<leg-B"]


async def test_a_refused_step_in_puts_the_phones_together_again(stage: Stage) -> None:
    call = await establish(stage)
    own = await call.a.request(own_media(18272), from_phone=False)
    before = len(stage.log)
    await call.a.respond(own, 488)
    assert stage.commands(before) == ["offer leg-A>leg-B [pub,pub]", "answer leg-A<leg-B"]
    assert (stage.log[before][1].sdp, stage.log[before + 1][1].sdp) == (alice(), bob())
    await call.reinvite("a", alice("sendonly", 2), bob("recvonly", 2))


async def test_uuid_hold(stage: Stage) -> None:
    """The peer's address with sendonly to A and FreeSWITCH's own media to B, at the same time (trace q5-hold)."""
    call = await establish(stage)
    hold = await call.a.request(stage.fs(call.to_freeswitch["b"], "sendonly"), from_phone=False)
    music = await call.b.request(own_media(17124), from_phone=False)
    assert hold.refusal is None and music.refusal is None
    await call.a.respond(hold, 200, alice("recvonly", 2))
    await call.b.respond(music, 200, bob())
    own = await call.a.request(own_media(18084, "sendonly"), from_phone=False)
    await call.a.respond(own, 200, alice("recvonly", 2))
    assert stage.commands(2) == [
        "offer leg-B>leg-A [pub,pub]",
        "offer leg-FB>leg-B [lan,pub]",
        "answer leg-B<leg-A",
        "answer leg-FB<leg-B",
        "offer leg-FA>leg-A [lan,pub]",
        "answer leg-FA<leg-A",
    ]


async def test_stepping_in_with_srtp_phones(stage: Stage) -> None:
    """FreeSWITCH still sees plain RTP (trace q5-srtp)."""
    call = await establish(stage, crypto(alice()), bob())
    own = await call.a.request(own_media(18272), from_phone=False)
    assert own.out is not None and b"RTP/SAVP" in own.out
    back = await call.a.respond(own, 200, crypto(alice()))
    assert back is not None and b"SAVP" not in back and b"crypto" not in back


async def test_a_call_that_freeswitch_makes(stage: Stage) -> None:
    b = stage.dialog("b", from_freeswitch=True)
    second = await b.request(own_media(16500), from_phone=False)
    back = await b.respond(second, 200, bob())
    await b.ack(second)
    assert where(second.out)[0] == "127.0.0.1" and where(back)[0] == "127.0.0.2"
    hold = await b.request(bob("sendonly", 2), from_phone=True)
    await b.respond(hold, 200, own_media(16500, "recvonly"))
    b.bye()
    await settle()
    assert stage.commands() == [
        "offer leg-FB>leg-B [lan,pub]",
        "answer leg-FB<leg-B",
        "offer leg-B>leg-FB [pub,lan]",
        "answer leg-B<leg-FB",
        "delete",
    ]
    stage.clean()


async def test_voice_mail_after_a_busy_callee_takes_over_the_part(stage: Stage) -> None:
    """B fails without early media, FreeSWITCH answers A itself: it has B's port, so it gets B's part.

    That port is on the public interface, which a FreeSWITCH on the LAN does not reach (1.10.12: nothing was heard of
    its voice mail): after the ACK it is told one on the LAN by a re-INVITE of ours, and its answer counts.
    """
    a = stage.dialog("a")
    stage.own.answered_with(a, own_media(16462))
    first = await a.request(alice(), from_phone=True)
    b, second = await stage.second("b", stage.fs(first.out))
    await b.respond(second, 486)
    stage.anchor.branch_ended(b.leg)
    b.bye()
    shown = await a.respond(first, 200, own_media(16460))
    await a.ack(first)
    assert where(shown)[0] == "127.0.0.1"
    await stage.own.idle()
    [(leg, to_phone, told)] = stage.own.reinvites
    assert (leg, to_phone, where(told)[0]) == (a.leg, False, "127.0.0.2")
    assert stage.commands() == [
        "offer leg-A>leg-B [pub,pub]",
        "answer leg-A<leg-B",
        "offer leg-A>leg-B [pub,lan]",
        "answer leg-A<leg-B",
    ]
    assert b"16462" in stage.log[-1][1].sdp
    hold = await a.request(alice("sendonly", 2), from_phone=True)
    assert where(hold.out) == where(told), "and it stays there"
    await a.respond(hold, 200, own_media(16462, "recvonly"))
    await a.ack(hold)
    await settle()
    assert len(stage.own.reinvites) == 1
    a.bye()
    await settle()
    assert stage.commands()[6:] == ["delete"]
    stage.clean()


async def test_the_second_re_invite_of_a_step_out_waits_a_while_only(node: FakeNode, autojump_clock: object) -> None:
    async with on(node) as stage:
        call = await establish(stage)
        toward_a, toward_b = await step_in(call)
        await call.b.request(stage.fs(toward_a), from_phone=False)  # and bob never answers
        started = trio.current_time()
        second = await call.a.request(stage.fs(toward_b), from_phone=False)
        assert trio.current_time() - started == pytest.approx(STEP_OUT_WAIT)
        assert second.refusal is None and stage.commands()[-1] == "offer leg-B>leg-A [pub,pub]"

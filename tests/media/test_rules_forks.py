"""Rule 9: forks, whoever makes them (traces q8-par, q8-ser)."""

from __future__ import annotations

from tests.media.ladder import Call, Stage, alice, bob, carol, own_media, settle, where


async def test_freeswitch_forks_in_parallel(stage: Stage) -> None:
    """Two legs B with A's address: each is a party with its own via-branch; the loser's branch is deleted."""
    a = stage.dialog("a")
    first = await a.request(alice(), from_phone=True)
    b, to_b = await stage.second("b", stage.fs(first.out))
    c, to_c = await stage.second("c", stage.fs(first.out))
    assert where(to_b.out) == where(first.out) != where(to_c.out)
    assert (b.leg.name, c.leg.name) == ("B", "B2")
    back = await c.respond(to_c, 200, carol())
    await c.ack(to_c)
    shown = await a.respond(first, 200, stage.fs(back))
    await a.ack(first)
    assert where(shown) == where(back)
    await b.respond(to_b, 487)
    stage.anchor.branch_ended(b.leg)
    b.bye()
    await settle()
    assert stage.commands() == [
        "offer leg-A>leg-B [pub,pub]",
        "offer leg-A>leg-B2 [pub,pub]",
        "answer leg-A<leg-B2",
        "delete leg-A br-B",
    ]
    assert [c.via_branch for _, c in stage.log] == ["br-B", "br-B2", "br-B2", "br-B"]
    assert stage.log[-1][1].delete_delay == 0
    call = Call(stage)
    call.a, call.b = a, c
    to_carol, _ = await call.reinvite("a", alice("sendonly", 2), carol("recvonly", 2))
    assert where(to_carol) == where(to_c.out)
    await call.reinvite("b", carol("sendrecv", 3), alice("sendrecv", 3))
    await call.hang_up()
    assert stage.commands()[-1] == "delete"
    stage.clean()


async def test_freeswitch_forks_one_after_the_other(stage: Stage) -> None:
    """The failed callee keeps its part until the next one has been offered, so the ng call always has a branch."""
    a = stage.dialog("a")
    first = await a.request(alice(), from_phone=True)
    b, to_b = await stage.second("b", stage.fs(first.out))
    await b.respond(to_b, 486)
    stage.anchor.branch_ended(b.leg)
    b.bye()
    c, to_c = await stage.second("c", stage.fs(first.out))
    assert stage.commands() == [
        "offer leg-A>leg-B [pub,pub]",
        "offer leg-A>leg-B2 [pub,pub]",
        "delete leg-A br-B",
    ]
    back = await c.respond(to_c, 200, carol())
    shown = await a.respond(first, 200, stage.fs(back))
    assert where(shown) == where(back)
    call = Call(stage)
    call.a, call.b = a, c
    await c.ack(to_c)
    await a.ack(first)
    await call.reinvite("a", alice("sendonly", 2), carol("recvonly", 2))


async def test_a_callee_that_had_early_media_is_deleted_at_once(stage: Stage) -> None:
    a = stage.dialog("a")
    first = await a.request(alice(), from_phone=True)
    b, to_b = await stage.second("b", stage.fs(first.out))
    early = await b.respond(to_b, 183, bob())
    await a.respond(first, 183, stage.fs(early))
    await b.respond(to_b, 480)
    stage.anchor.branch_ended(b.leg)
    b.bye()
    assert stage.commands()[2:] == ["delete leg-A br-B"]
    # voice mail: the port FreeSWITCH knows is gone, so it is told the new one by a re-INVITE of ours
    told: list[bytes] = []

    async def answer(leg: object, to_phone: bool, sdp: bytes) -> object:
        assert leg is a.leg and not to_phone
        told.append(sdp)
        return a.message(b"SIP/2.0 200 OK", b"9 INVITE", own_media(16460), False)

    stage.own.answer = answer  # type: ignore[assignment]
    shown = await a.respond(first, 200, own_media(16460))
    await a.ack(first)
    await settle()
    assert where(shown)[0] == "127.0.0.1"
    assert stage.commands()[3:] == ["offer leg-A>leg-FA [pub,lan]", "answer leg-A<leg-FA"]
    assert len(told) == 1 and where(told[0])[0] == "127.0.0.2"


async def test_a_failing_call_costs_one_offer_and_one_delete(stage: Stage) -> None:
    a = stage.dialog("a")
    first = await a.request(alice(), from_phone=True)
    b, to_b = await stage.second("b", stage.fs(first.out))
    await b.respond(to_b, 486)
    stage.anchor.branch_ended(b.leg)
    b.bye()
    await a.respond(first, 486)
    stage.anchor.branch_ended(a.leg)
    a.bye()
    await settle()
    assert stage.commands() == ["offer leg-A>leg-B [pub,pub]", "delete"]
    stage.clean()


async def test_the_proxy_forks_a_leg_of_freeswitch(stage: Stage) -> None:
    """The callee has two phones: two branches of one leg B, each with its own party."""
    a = stage.dialog("a")
    first = await a.request(alice(), from_phone=True)
    b, one = await stage.second("b", stage.fs(first.out), branch=b"k1")
    two = await b.request(stage.fs(first.out), from_phone=False, branch=b"k2", cseq=one.message.cseq)
    assert where(one.out) == where(first.out) != where(two.out)
    back = await b.respond(two, 200, carol())
    stage.anchor.branch_ended(b.leg, b"k1")
    shown = await a.respond(first, 200, stage.fs(back))
    await b.ack(two)
    await a.ack(first)
    await settle()
    assert where(shown) == where(back)
    assert stage.commands() == [
        "offer leg-A>leg-B [pub,pub]",
        "offer leg-A>leg-B2 [pub,pub]",
        "answer leg-A<leg-B2",
        "delete leg-A br-B",
    ]
    call = Call(stage)
    call.a, call.b = a, b
    await call.reinvite("a", alice("sendonly", 2), carol("recvonly", 2))
    assert stage.commands(4) == ["offer leg-A>leg-B2 [pub,pub]", "answer leg-A<leg-B2"]


async def test_the_same_invite_to_another_freeswitch_costs_nothing(stage: Stage) -> None:
    """The first FreeSWITCH does not answer: the next one gets the SDP that was made already."""
    a = stage.dialog("a")
    first = await a.request(alice(), from_phone=True, branch=b"fs1")
    stage.anchor.branch_ended(a.leg, b"fs1")
    again = await a.request(alice(), from_phone=True, branch=b"fs2", cseq=first.message.cseq)
    assert again.out == first.out
    b, second = await stage.second("b", stage.fs(again.out))
    back = await b.respond(second, 200, bob())
    shown = await a.respond(again, 200, stage.fs(back))
    assert where(shown) == where(back)
    assert stage.commands() == ["offer leg-A>leg-B [pub,pub]", "answer leg-A<leg-B"]


async def test_cancel_of_the_whole_call(stage: Stage) -> None:
    """487 on leg A first, then on leg B: one delete."""
    a = stage.dialog("a")
    first = await a.request(alice(), from_phone=True)
    b, _ = await stage.second("b", stage.fs(first.out))
    stage.anchor.branch_ended(a.leg)
    a.bye()
    stage.anchor.branch_ended(b.leg)
    b.bye()
    await settle()
    assert stage.commands() == ["offer leg-A>leg-B [pub,pub]", "delete"]
    stage.clean()

"""Rule 10: sessions that turn out to be one call (traces q8-ivr, q8-after, q9-refer)."""

from __future__ import annotations

from proxy.media.merge import move, move_back
from tests.media.ladder import Call, Dialog, Stage, alice, bob, carol, establish, own_media, settle, where


async def answer_then_bridge(stage: Stage, *, answered_first: bool) -> tuple[Dialog, Dialog]:
    """FreeSWITCH has its own media on both legs, in two sessions (traces q8-ivr, q8-after)."""
    a = stage.dialog("a")
    stage.own.answered_with(a, own_media(16460))
    first = await a.request(alice(), from_phone=True)
    if answered_first:
        await a.respond(first, 200, own_media(16460))
        await a.ack(first)
    b = stage.dialog("b", from_freeswitch=True)
    second = await b.request(own_media(17014), from_phone=False)
    assert where(second.out)[0] == "127.0.0.1"
    back = await b.respond(second, 200, bob())
    assert where(back)[0] == "127.0.0.2"
    await b.ack(second)
    if not answered_first:
        await a.respond(first, 200, own_media(16460))
        await a.ack(first)
    await stage.own.idle()  # FreeSWITCH is told its port
    assert a.leg.session is not b.leg.session
    return a, b


async def merge(stage: Stage, a: Dialog, b: Dialog) -> tuple[bytes, bytes]:
    """FreeSWITCH asks A for an offer, takes it to B, and B's answer to A."""
    ask = await a.request(None, from_phone=False)
    offer = await a.respond(ask, 200, alice())
    assert where(offer)[0] == "127.0.0.2", "A's partner is FreeSWITCH at this time"
    bridged = await b.request(stage.fs(offer), from_phone=False)
    assert bridged.refusal is None
    answer = await b.respond(bridged, 200, bob())
    shown = await a.ack(ask, stage.fs(answer))
    await b.ack(bridged)
    assert bridged.out is not None and shown is not None
    return bridged.out, shown


async def test_answer_then_bypass_merges_the_two_sessions(stage: Stage) -> None:
    for answered_first in (True, False):
        before = len(stage.log)
        a, b = await answer_then_bridge(stage, answered_first=answered_first)
        old = b.leg.session
        to_bob, to_alice = await merge(stage, a, b)
        assert a.leg.session is b.leg.session and a.leg.session is not old
        assert where(to_bob)[0] == where(to_alice)[0] == "127.0.0.1"
        await settle()
        assert stage.commands(before)[-4:] == [
            "offer leg-A>leg-B [pub,lan]",
            "offer leg-A>leg-B.2 [pub,pub]",
            "answer leg-A<leg-B.2",
            "delete",
        ]
        assert stage.log[-1][1].call_id == old.id and old.state == "ended"
        call = Call(stage)
        call.a, call.b = a, b
        await call.reinvite("a", alice("sendonly", 2), bob("recvonly", 2))
        await call.reinvite("b", bob("sendrecv", 3), alice("sendrecv", 3))
        await call.hang_up()
        assert stage.commands()[-1] == "delete" and stage.log[-1][1].call_id == a.leg.session.id
        stage.clean()


async def test_a_refused_merge_leaves_both_sessions_as_they_were(stage: Stage) -> None:
    a, b = await answer_then_bridge(stage, answered_first=True)
    old = b.leg.session
    ask = await a.request(None, from_phone=False)
    offer = await a.respond(ask, 200, alice())
    bridged = await b.request(stage.fs(offer), from_phone=False)
    assert b.leg.session is a.leg.session
    await b.respond(bridged, 488)
    assert b.leg.session is old and old.state != "ended" and b.leg in old.legs
    a.bye()
    b.bye()
    await settle()
    assert stage.commands()[-2:] == ["delete", "delete"]
    stage.clean()


async def test_refer_by_the_callee(stage: Stage) -> None:
    """B transfers A to C: B leaves, FreeSWITCH takes A, calls C with its own media, then bypasses (trace q9-refer)."""
    call = await establish(stage)
    refresh = await call.a.request(stage.fs(call.to_freeswitch["b"]), from_phone=False)
    call.b.bye()
    await call.a.respond(refresh, 200, alice())
    assert len(stage.log) == 2
    own = await call.a.request(own_media(17212), from_phone=False)
    await call.a.respond(own, 200, alice())
    c = stage.dialog("c", from_freeswitch=True)
    second = await c.request(own_media(16520), from_phone=False)
    await c.respond(second, 200, carol())
    await c.ack(second)
    to_carol, to_alice = await merge_with(stage, call.a, c)
    assert where(to_carol)[0] == where(to_alice)[0] == "127.0.0.1"
    assert call.session.state != "ended" and c.leg.session is call.session
    call.a.bye()
    c.bye()
    await settle()
    assert stage.commands()[-1] == "delete"
    stage.clean()


async def merge_with(stage: Stage, a: Dialog, c: Dialog) -> tuple[bytes, bytes]:
    ask = await a.request(None, from_phone=False)
    offer = await a.respond(ask, 200, alice())
    bridged = await c.request(stage.fs(offer), from_phone=False)
    answer = await c.respond(bridged, 200, carol())
    shown = await a.ack(ask, stage.fs(answer))
    await c.ack(bridged)
    assert bridged.out is not None and shown is not None
    return bridged.out, shown


async def test_a_late_offer_through_3pcc(stage: Stage) -> None:
    """INVITE without SDP: the offer comes in B's 200, the answer in A's ACK; still one offer, answer, delete."""
    a = stage.dialog("a")
    empty = await a.request(None, from_phone=True)
    assert empty.out is None
    b = stage.dialog("b", from_freeswitch=True)
    second = await b.request(None, from_phone=False)
    offer = await b.respond(second, 200, bob())
    shown = await a.respond(empty, 200, stage.fs(offer))
    assert a.leg.session is b.leg.session
    ack = await a.ack(empty, alice())
    through = await b.ack(second, stage.fs(ack))
    assert where(shown) == where(offer) and where(through) == where(ack)
    assert stage.commands() == ["offer leg-B>leg-A [pub,pub]", "answer leg-B<leg-A"]
    assert (a.leg.name, b.leg.name) == ("A", "B")
    assert a.leg.session.call_ids == [b"cid-a", b"cid-b"] and a.leg.session.caller == b"alice@x"
    assert len(list(stage.anchor.sessions)) == 1
    call = Call(stage)
    call.a, call.b = a, b
    await call.reinvite("a", alice("sendonly", 2), bob("recvonly", 2))
    await call.reinvite("b", bob("sendrecv", 3), alice("sendrecv", 3))
    await call.hang_up()
    assert stage.commands()[-1] == "delete" and stage.commands().count("delete") == 1
    stage.clean()


async def test_what_a_leg_takes_along(stage: Stage) -> None:
    """Fresh tags, the same endpoints: o= goes on, the agreed SDP stays, and going back restores all of it."""
    call = await establish(stage)
    other = stage.dialog("c").leg.session
    leg, old = call.b.leg, call.session
    phone, fs, name = leg.phone, leg.fs, leg.name
    move(stage.anchor.engine, leg, other)
    assert leg.session is other and leg in other.legs and leg not in old.legs
    assert leg.phone is not phone and leg.phone.origin is phone.origin and leg.phone.original == bob()
    known = stage.table.find([(b"127.0.0.1", str(where(call.to_freeswitch["b"])[1]).encode())])
    assert known is not None and known.author is leg.phone, "what FreeSWITCH was shown names the leg where it is now"
    move_back(leg)
    assert (leg.session, leg.phone, leg.fs, leg.name) == (old, phone, fs, name)
    assert leg in old.legs and leg not in other.legs and leg.former is None

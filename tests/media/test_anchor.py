"""The anchor when nodes or peers misbehave, and what it tells the relay and the operator."""

from __future__ import annotations

from proxy.media.anchor import Refusal
from proxy.sip.message import Response
from tests.fake_rtpengine import FakeNode
from tests.media.ladder import Stage, alice, bob, establish, on, settle, where


async def test_an_sdp_that_rtpengine_refuses_is_488(stage: Stage) -> None:
    a = stage.dialog("a")
    first = await a.request(b"nonsense\r\n", from_phone=True)
    assert first.refusal == Refusal(488, b"Not Acceptable Here")
    again = await a.request(alice(), from_phone=True)
    assert again.refusal is None


async def test_a_refused_re_offer_leaves_the_call_alone(node: FakeNode) -> None:
    async with on(node) as stage:
        call = await establish(stage)
        node.fail_next("offer", "Failed to parse SDP")
        hold = await call.a.request(alice("sendonly", 2), from_phone=True)
        assert hold.refusal is not None and hold.refusal.code == 488
        assert call.a.leg.phone.original == alice() and call.session.offers == {}
        await call.reinvite("b", bob("sendonly", 2), alice("recvonly", 2))


async def test_an_answer_that_fails_ends_the_call(node: FakeNode) -> None:
    """The relay gets a refusal for the 2xx, and the call is hung up."""
    async with on(node) as stage:
        a = stage.dialog("a")
        first = await a.request(alice(), from_phone=True)
        b, second = await stage.second("b", stage.fs(first.out))
        node.fail_next("answer", "Unknown call-id")
        await b.respond(second, 200, bob())
        assert second.refusal is not None and second.refusal.code == 503
        await settle()
        assert [session for session, _ in stage.own.hangups] == [b.leg.session]


async def test_early_media_that_fails_is_left_out(node: FakeNode) -> None:
    async with on(node) as stage:
        a = stage.dialog("a")
        first = await a.request(alice(), from_phone=True)
        b, second = await stage.second("b", stage.fs(first.out))
        node.fail_next("answer", "Failed to parse SDP")
        cseq = b"%d INVITE" % second.message.cseq
        response = b.message(b"SIP/2.0 183 Session Progress", cseq, bob(), False)
        assert isinstance(response, Response)
        assert await stage.anchor.response(b.leg, second.message, response, True) is None
        assert response.body == b""
        back = await b.respond(second, 200, bob())
        assert where(back) is not None


async def test_what_operators_see(stage: Stage) -> None:
    call = await establish(stage)
    session = call.session
    assert (session.state, session.mode, session.node) == ("confirmed", "b2bua", "node1")
    assert (session.caller, session.callee) == (b"alice@x", b"1000@x")
    assert [party.media_address for party in session.phones] == ["127.0.0.8:30000", "127.0.0.9:40000"]
    assert [(party.name, party.tag, party.interface, party.profile) for party in session.phones] == [
        ("A", "leg-A", "pub", "rtp"),
        ("B", "leg-B", "pub", "rtp"),
    ]
    assert session.codecs == ["PCMU/8000", "telephone-event/8000"] and session.bridged
    words = [text for _, text in session.timeline]
    assert words[:3] == ["on node node1", "offer A->B", "leg B recognised by the media address of A"]
    await call.reinvite("a", alice("sendonly", 2), bob("recvonly", 2))
    assert session.holding == ["A"]
    assert stage.anchor.leg_of(b"cid-b") is call.b.leg
    assert {s.id for s in stage.anchor.find("cid-")} == {session.id}
    assert stage.anchor.find("no such thing") == []


async def test_messages_without_influence(stage: Stage) -> None:
    call = await establish(stage)
    for method in ("INFO", "BYE", "MESSAGE", "REFER"):
        request = call.a.message(b"%b sip:b@x SIP/2.0" % method.encode(), b"9 %b" % method.encode(), b"0", True)
        assert not stage.anchor.needs(call.a.leg, request)
        assert await stage.anchor.request(call.a.leg, request, True) is None
        assert request.body == b"0"
    ringing = call.a.message(b"SIP/2.0 180 Ringing", b"2 INVITE", None, False)
    assert not stage.anchor.needs(call.a.leg, ringing)
    await call.hang_up()
    late = call.a.message(b"INVITE sip:b@x SIP/2.0", b"9 INVITE", alice(), True)
    assert await stage.anchor.request(call.a.leg, late, True) is None
    assert len(stage.log) == 3


async def test_a_token_deletes_what_nobody_knows(node: FakeNode) -> None:
    from proxy.token import Token

    async with on(node) as stage:
        call = await establish(stage)
        known = Token(call.session.id.encode(), b"A", b"node1")
        stage.anchor.delete_by_token(known)
        stage.anchor.delete_by_token(Token(b"edge1-0123", b"A", b"node9"))
        await settle()
        assert len(stage.log) == 2
        stage.anchor.delete_by_token(Token(b"edge1-0123", b"A", b"node1"))
        assert stage.log[-1][1].call_id == "edge1-0123"

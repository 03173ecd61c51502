"""Rules 1, 2, 3, 5, 6, 7, 8 and 13: setting up a call (design, section 6; traces q1, q2, q8-pre)."""

from __future__ import annotations

import re

from ng_protocol import Answer, Offer
from tests.media.ladder import (
    BROWSER,
    Dialog,
    Stage,
    alice,
    bob,
    crypto,
    establish,
    own_media,
    phone,
    settle,
    way,
    where,
)


async def test_rule_01_one_ng_call_for_both_dialogs(stage: Stage) -> None:
    """A plain call: one offer, one answer, one delete, all under one ng call-id of ours."""
    call = await establish(stage)
    session = call.session
    assert call.a.leg.session is call.b.leg.session
    assert re.fullmatch(r"edge1-[0-9a-f]{16}", session.id)
    assert [s.id for s in stage.anchor.find("cid-b")] == [session.id] == [s.id for s in stage.anchor.find("edge1-")]
    assert session.call_ids == [b"cid-a", b"cid-b"]
    call.a.bye()
    await settle()
    assert len(stage.commands()) == 2, "the session lives until its last leg has ended"
    call.b.bye()
    call.b.bye()
    await settle()
    assert stage.commands() == ["offer leg-A>leg-B [pub,pub]", "answer leg-A<leg-B", "delete"]
    assert {command.call_id for _, command in stage.log} == {session.id}
    assert stage.log[-1][1].delete_delay == 0
    assert session.state == "ended"
    stage.clean()


async def test_rule_01_early_media_costs_nothing_when_the_200_repeats_it(stage: Stage) -> None:
    """183 with SDP, then a 200 with the same: still one answer (trace q1-early with one SDP)."""
    a = stage.dialog("a")
    first = await a.request(alice(), from_phone=True)
    b, second = await stage.second("b", stage.fs(first.out))
    early = await b.respond(second, 183, bob())
    shown = await a.respond(first, 183, stage.fs(early))
    assert await b.respond(second, 200, bob()) == early
    assert await a.respond(first, 200, stage.fs(early)) == shown
    assert len(stage.commands()) == 2
    assert b.leg.phone.original == bob() and a.leg.phone.original == alice()


async def test_rule_02_freeswitch_sees_plain_rtp_whatever_the_phones_speak(stage: Stage) -> None:
    call = await establish(stage, crypto(alice()), bob())
    for sdp in call.to_freeswitch.values():
        assert b"RTP/AVP" in sdp and b"a=crypto" not in sdp and b"SAVP" not in sdp
    assert b"RTP/SAVP" in call.to_alice and b"a=crypto" in call.to_alice
    assert b"RTP/AVP" in call.to_bob and b"a=crypto" not in call.to_bob
    assert where(call.to_freeswitch["a"]) == where(call.to_bob), "the correlator is the address rtpengine gave"


async def test_rule_03_the_media_address_is_the_correlator(stage: Stage) -> None:
    a = stage.dialog("a")
    c = stage.dialog("c")
    first = await a.request(alice(), from_phone=True)
    other = await c.request(phone("127.0.0.5", 20000), from_phone=True)
    b, _ = await stage.second("b", stage.fs(first.out))
    d, _ = await stage.second("d", stage.fs(other.out))
    assert b.leg.session is a.leg.session and d.leg.session is c.leg.session
    request = a.message(b"INVITE sip:b@x SIP/2.0", b"1 INVITE", own_media(16500), False)
    assert stage.anchor.second_leg(request, 0.0) is None
    assert not stage.anchor.correlates(request)
    assert stage.anchor.correlates(a.message(b"INVITE sip:b@x SIP/2.0", b"1 INVITE", stage.fs(first.out), False))
    assert stage.anchor.second_leg(a.message(b"INVITE sip:b@x SIP/2.0", b"1 INVITE", None, False), 0.0) is None


async def test_rule_03_an_ended_session_correlates_no_more(stage: Stage) -> None:
    a = stage.dialog("a")
    first = await a.request(alice(), from_phone=True)
    a.bye()
    request = a.message(b"INVITE sip:b@x SIP/2.0", b"1 INVITE", stage.fs(first.out), False)
    assert stage.anchor.second_leg(request, 0.0) is None
    stage.clean()


async def test_rule_05_tags_are_constant_and_named_in_the_first_offer(stage: Stage) -> None:
    """A 183 and a 200 with different SIP tags and SDPs are one ng party (trace q1-forktags-const)."""
    a = stage.dialog("a")
    first = await a.request(alice(), from_phone=True)
    b, second = await stage.second("b", stage.fs(first.out))
    early = await b.respond(second, 183, bob(port=41000))
    shown = await a.respond(first, 183, stage.fs(early))
    late = await b.respond(second, 200, bob())
    final = await a.respond(first, 200, stage.fs(late))
    assert stage.commands() == ["offer leg-A>leg-B [pub,pub]", "answer leg-A<leg-B", "answer leg-A<leg-B"]
    assert where(final) == where(late) and shown is not None
    assert {(c.from_tag, c.to_tag, c.via_branch) for _, c in stage.log} == {("leg-A", "leg-B", "br-B")}
    assert b.leg.phone.original == bob()


async def test_rule_06_what_offers_and_answers_carry(stage: Stage) -> None:
    call = await establish(stage)
    await call.reinvite("a", alice("sendonly", 2), bob("recvonly", 2))
    offer, answer, re_offer, re_answer = [command for _, command in stage.log]
    for one in (offer, re_offer):
        assert isinstance(one, Offer)
        assert one.replace == ("origin", "session-connection") and one.flags == ("trust-address", "port-latching")
        assert one.direction == ("pub", "pub") and one.transport_protocol == "RTP/AVP"
        assert (one.ice, one.dtls, one.sdes, one.rtcp_mux) == ("remove", "off", ("off",), ("demux",))
    for two in (answer, re_answer):
        assert isinstance(two, Answer) and two.direction == () and "port-latching" in two.flags
    assert offer.sdp == alice() and re_offer.sdp == alice("sendonly", 2), "the author's original goes to rtpengine"
    assert (offer.via_branch, answer.via_branch) == ("br-B", "br-B")
    assert (re_offer.via_branch, re_answer.via_branch) == (None, None)


async def test_rule_06_a_phone_behind_nat_is_not_believed_its_address(stage: Stage) -> None:
    call = await establish(stage, phone("192.168.1.5", 30000), nat=True)
    offer = stage.log[0][1]
    assert offer.flags == ("SIP-source-address", "port-latching")
    assert offer.received_from == ("IP4", "127.0.0.8")
    assert call.a.leg.phone.received_address == "127.0.0.8:5060"
    assert call.a.leg.phone.media_address == "192.168.1.5:30000"


async def test_rule_07_the_second_pass_offers_again_when_the_profile_differs(stage: Stage) -> None:
    """The callee turns out to speak SRTP: same port, other profile, one party (trace q2-savp-second-vb)."""
    a = stage.dialog("a")
    first = await a.request(alice(), from_phone=True)
    request = stage.fs(first.out)
    b = Dialog(stage, "b", calling=False)
    message = b.message(b"INVITE sip:b@x SIP/2.0", b"9 INVITE", request, False)
    leg = stage.anchor.second_leg(message, 0.0)
    assert leg is not None
    b.leg = leg
    stage.anchor.set_callee(leg, branch=b"k1", profile="srtp")
    second = await b.request(request, from_phone=False, branch=b"k1")
    assert second.out is not None and b"RTP/SAVP" in second.out and b"a=crypto" in second.out
    assert where(second.out) == where(first.out)
    back = await b.respond(second, 200, crypto(bob()))
    assert back is not None and b"SAVP" not in back
    shown = await a.respond(first, 200, stage.fs(back))
    assert shown is not None and b"SAVP" not in shown
    assert stage.commands() == ["offer leg-A>leg-B [pub,pub]", "offer leg-A>leg-B [pub,pub]", "answer leg-A<leg-B"]


async def test_rule_07_freeswitch_answered_between_the_passes(stage: Stage) -> None:
    """pre-answer: FreeSWITCH plays a tone with a 183 of its own, then bridges in bypass (trace q8-pre)."""
    a = stage.dialog("a")
    first = await a.request(alice(), from_phone=True)
    tone = await a.respond(first, 183, own_media(18202))
    assert where(tone)[0] == "127.0.0.1"
    b, second = await stage.second("b", stage.fs(first.out))
    back = await b.respond(second, 200, bob())
    shown = await a.respond(first, 200, stage.fs(back))
    await a.ack(first)
    assert where(shown) == where(back)
    assert stage.commands() == [
        "offer leg-A>leg-B [pub,pub]",
        "answer leg-A<leg-B",  # FreeSWITCH took the part it was offered
        "offer leg-A>leg-B.2 [pub,pub]",
        "answer leg-A<leg-B.2",
    ]
    assert b.leg.name == "B"
    a_party = a.leg.phone
    assert a_party.heard is not None and a_party.heard.author is b.leg.phone


async def test_rule_07_no_bypass_route_offers_toward_the_lan(stage: Stage) -> None:
    object.__setattr__(stage.policy, "bypass", False)
    a = stage.dialog("a")
    first = await a.request(alice(), from_phone=True)
    assert where(first.out)[0] == "127.0.0.2"
    shown = await a.respond(first, 200, own_media(16460))
    assert where(shown)[0] == "127.0.0.1"
    assert stage.commands() == ["offer leg-A>leg-B [pub,lan]", "answer leg-A<leg-B"]


async def test_rule_08_a_re_invite_of_the_callee_has_the_tags_the_other_way_round(stage: Stage) -> None:
    call = await establish(stage, alice(), bob())
    to_alice, to_bob = await call.reinvite("b", bob("sendonly", 2), alice("recvonly", 2))
    assert stage.commands(2) == ["offer leg-B>leg-A [pub,pub]", "answer leg-B<leg-A"]
    assert way(to_alice) == "sendonly" and way(to_bob) == "recvonly"


async def test_rule_08_profiles_stay_with_their_legs(stage: Stage) -> None:
    """An SRTP caller: re-INVITEs from either side reach each in its own profile (trace q3-srtp)."""
    call = await establish(stage, crypto(alice()), bob())
    to_bob, to_alice = await call.reinvite("a", crypto(alice("sendonly", 2)), bob("recvonly", 2))
    assert b"SAVP" not in to_bob and b"RTP/SAVP" in to_alice
    to_alice, to_bob = await call.reinvite("b", bob("sendrecv", 3), crypto(alice("sendrecv", 3)))
    assert b"SAVP" not in to_bob and b"RTP/SAVP" in to_alice and b"a=crypto" in to_alice


async def test_rule_13_a_stale_address_is_cross_checked_with_x_pgpx(stage: Stage) -> None:
    """Two live sessions claim one address (a restarted node): X-PGPX names the one that is meant."""
    a = stage.dialog("a")
    first = await a.request(alice(), from_phone=True)
    c = stage.dialog("c")
    await c.request(phone("127.0.0.5", 20000), from_phone=True)
    newer = next(iter(c.leg.phone.made_for.values()))
    newer.plain = next(iter(a.leg.phone.made_for.values())).plain
    stage.table.record(newer)
    invite = b"INVITE sip:b@x SIP/2.0"
    sdp = stage.fs(first.out)
    plain = stage.anchor.second_leg(a.message(invite, b"1 INVITE", sdp, False), 0.0)
    assert plain is not None and plain.session is c.leg.session, "the newest wins"
    named = stage.anchor.second_leg(a.message(invite, b"1 INVITE", sdp, False, b"X-PGPX: cid-a"), 0.0)
    assert named is not None and named.session is a.leg.session


async def test_rule_08_a_browser_calls_a_phone(stage: Stage) -> None:
    """ICE and DTLS toward the browser only; FreeSWITCH and the phone see plain RTP."""
    call = await establish(stage, BROWSER, bob())
    for sdp in (*call.to_freeswitch.values(), call.to_bob):
        assert b"RTP/AVP " in sdp
        assert not any(word in sdp for word in (b"fingerprint", b"ice-ufrag", b"candidate", b"SAVPF"))
    assert call.a.leg.phone.profile == "webrtc"
    for word in (b"UDP/TLS/RTP/SAVPF", b"a=fingerprint:", b"a=ice-ufrag:", b"a=candidate:", b"a=rtcp-mux"):
        assert word in call.to_alice, word

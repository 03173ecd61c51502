"""Rules 4, 11 and 12: what happens inside an established call (traces q3, q9-same, q7-timer)."""

from __future__ import annotations

import pytest
import trio

from proxy.media.dialogue import OWN_RETRY_AFTER
from proxy.media.session import OFFER_LIFETIME, Leg
from proxy.sip.message import Response
from tests.fake_rtpengine import FakeNode
from tests.media.ladder import Call, Stage, alice, bob, establish, on, origin, settle, way, where


async def test_rule_04_restore_undoes_the_reprinting(stage: Stage) -> None:
    """FreeSWITCH reorders and drops lines; phones get the SDP as rtpengine made it, save for o= (trace q1-const)."""
    call = await establish(stage)
    assert b"a=sendrecv" in call.to_bob and b"a=sendrecv" in call.to_alice
    assert call.to_bob.index(b"a=sendrecv") > call.to_bob.index(b"a=rtpmap:101")


@pytest.mark.parametrize("who", ["a", "b"])
async def test_rule_04_hold_unhold_inactive_and_port_move(stage: Stage, who: str) -> None:
    """From either side (traces q3-hold-latch, q3-move-latch)."""
    call = await establish(stage)
    me, you = (alice, bob) if who == "a" else (bob, alice)
    before = where(call.to_bob if who == "a" else call.to_alice)
    for version, (offer, answer) in enumerate(
        [("sendonly", "recvonly"), ("sendrecv", "sendrecv"), ("inactive", "inactive"), ("sendrecv", "sendrecv")], 2
    ):
        shown, back = await call.reinvite(who, me(offer, version), you(answer, version))
        assert (way(shown), way(back)) == (offer, answer)
        assert where(shown) == before
    shown, _ = await call.reinvite(who, me("sendrecv", 6, 39000), you("sendrecv", 6))
    assert where(shown) == before, "a port move of one phone does not move the other's port"
    assert len(stage.commands()) == 2 + 5 * 2
    assert stage.anchor.find("edge1")[0].holding == []


async def test_rule_04_two_sided_hold_unwinds_rightly(stage: Stage) -> None:
    """FreeSWITCH says sendonly where the author said sendrecv, and inactive for recvonly (q3-two, q3-refused-b)."""
    call = await establish(stage)
    await call.reinvite("a", alice("sendonly", 2), bob("recvonly", 2), fs_answer="inactive")
    assert call.session.holding == ["A"]
    await call.reinvite("b", bob("inactive", 3), alice("inactive", 3))
    assert call.session.holding == ["A", "B"]
    shown, back = await call.reinvite(
        "a", alice("sendrecv", 4), bob("sendonly", 4), fs_offer="sendonly", fs_answer="inactive"
    )
    assert (way(shown), way(back)) == ("sendrecv", "sendonly")
    shown, back = await call.reinvite("b", bob("sendrecv", 5), alice("sendrecv", 4), fs_answer="sendonly")
    assert (way(shown), way(back)) == ("sendrecv", "sendrecv")
    assert call.session.holding == []


async def test_rule_04_a_refresh_by_freeswitch_costs_nothing(stage: Stage) -> None:
    """FreeSWITCH re-INVITEs one phone with the other's stored SDP: it gets what it knows (q7-timer, q9-refer)."""
    call = await establish(stage)
    before = len(stage.log)
    stored = stage.fs(call.to_freeswitch["b"])
    refresh = await call.a.request(stored, from_phone=False)
    assert refresh.out == call.to_alice
    answer = await call.a.respond(refresh, 200, alice())
    assert answer == call.to_freeswitch["a"]
    await call.a.ack(refresh)
    assert len(stage.log) == before


async def test_rule_04_a_refresh_that_the_phone_answers_with_news(stage: Stage) -> None:
    call = await establish(stage)
    refresh = await call.a.request(stage.fs(call.to_freeswitch["b"]), from_phone=False)
    answer = await call.a.respond(refresh, 200, alice("sendrecv", 2, 38000))
    assert where(answer) == where(call.to_freeswitch["a"])
    assert stage.commands(2) == ["offer leg-A>leg-B [pub,pub]", "answer leg-A<leg-B"]
    assert stage.log[2][1].sdp == alice("sendrecv", 2, 38000) and stage.log[3][1].sdp == bob()


async def test_rule_04_freeswitch_speaks_with_a_direction_of_its_own(stage: Stage) -> None:
    """uuid_hold begins with the peer's address and sendonly: the direction counts (trace q5-hold)."""
    call = await establish(stage)
    hold = await call.a.request(stage.fs(call.to_freeswitch["b"], "sendonly"), from_phone=False)
    assert way(hold.out) == "sendonly" and where(hold.out) == where(call.to_alice)
    await call.a.respond(hold, 200, alice("recvonly", 2))
    assert stage.commands(2) == ["offer leg-B>leg-A [pub,pub]", "answer leg-B<leg-A"]
    assert call.b.leg.phone.original == bob(), "the phone's own SDP is not touched by what FreeSWITCH says for it"


async def test_re_invite_without_sdp_is_relayed(stage: Stage) -> None:
    """enable-3pcc=proxy: offer in the 200, answer in the ACK (trace q3-nosdp)."""
    call = await establish(stage)
    empty = await call.a.request(None, from_phone=True)
    relayed = await call.b.request(None, from_phone=False)
    offer = await call.b.respond(relayed, 200, bob())
    shown = await call.a.respond(empty, 200, stage.fs(offer))
    assert shown == call.to_alice
    ack = await call.a.ack(empty, alice())
    through = await call.b.ack(relayed, stage.fs(ack))
    assert through == call.to_bob
    assert stage.commands(2) == ["offer leg-B>leg-A [pub,pub]", "answer leg-B<leg-A"]
    await call.reinvite("a", alice("sendonly", 2), bob("recvonly", 2))


async def test_re_invite_without_sdp_answered_by_freeswitch(stage: Stage) -> None:
    """Without 3pcc FreeSWITCH offers the stored SDP itself; nobody else hears of it."""
    call = await establish(stage)
    empty = await call.a.request(None, from_phone=True)
    shown = await call.a.respond(empty, 200, stage.fs(call.to_freeswitch["b"]))
    assert shown == call.to_alice
    assert await call.a.ack(empty, alice()) == call.to_freeswitch["a"]
    assert len(stage.log) == 2


async def test_rule_11_a_second_offer_gets_491_before_the_node_is_asked(stage: Stage) -> None:
    call = await establish(stage)
    first = await call.a.request(alice("sendonly", 2), from_phone=True)
    before = len(stage.log)
    glare = await call.b.request(bob("sendonly", 2), from_phone=True)
    assert glare.refusal is not None and glare.refusal.code == 491
    assert len(stage.log) == before
    second = await call.b.request(stage.fs(first.out), from_phone=False)
    back = await call.b.respond(second, 200, bob("recvonly", 2))
    still = await call.b.request(bob("sendonly", 3), from_phone=True)
    assert still.refusal is not None, "in progress until the offerer has its answer"
    await call.a.respond(first, 200, stage.fs(back))
    await call.reinvite("b", bob("sendrecv", 4), alice("sendrecv", 3))


async def heal_through_freeswitch(call: Call) -> None:
    """What FreeSWITCH does with our re-INVITE on leg A: it refreshes leg B and answers (trace q3-refused-b)."""
    fs = call.stage.fs

    async def answer(leg: Leg, to_phone: bool, sdp: bytes) -> Response:
        assert leg is call.a.leg and not to_phone
        refresh = await call.b.request(fs(sdp), from_phone=False)
        assert refresh.refusal is None
        known = await call.b.respond(refresh, 200, bob())
        response = call.a.message(b"SIP/2.0 200 OK", b"4 INVITE", fs(known), False)
        assert isinstance(response, Response)
        return response

    call.stage.own.answer = answer


async def test_rule_11_a_refused_re_invite_is_rolled_back_and_freeswitch_healed(stage: Stage) -> None:
    """Traces q3-refused, q3-refused-b."""
    call = await establish(stage)
    await heal_through_freeswitch(call)
    first = await call.a.request(alice("sendonly", 2, 30400), from_phone=True)
    second = await call.b.request(stage.fs(first.out), from_phone=False)
    await call.b.respond(second, 488)
    assert len(stage.log) == 3
    await call.a.respond(first, 488)
    assert stage.commands(3) == ["offer leg-A>leg-B [pub,pub]", "answer leg-A<leg-B"]
    assert (stage.log[3][1].sdp, stage.log[4][1].sdp) == (alice(), bob())
    assert call.a.leg.phone.original == alice()
    await settle()
    assert len(stage.own.reinvites) == 1
    healed = stage.own.reinvites[0][2]
    assert where(healed) == where(call.to_freeswitch["a"]) and way(healed) == "sendrecv"
    assert origin(healed)[1] == origin(first.out)[1] + 1, "FreeSWITCH sees its one o= rise"
    assert len(stage.log) == 5, "healing needs no ng command"
    await call.reinvite("b", bob("sendonly", 2), alice("recvonly", 3))


async def test_rule_11_an_update_stops_at_freeswitch_and_is_carried_over(stage: Stage) -> None:
    """FreeSWITCH answers an UPDATE with the stored SDP and the mirrored direction (trace q3-update)."""
    call = await establish(stage)

    async def answer(leg: Leg, to_phone: bool, sdp: bytes) -> Response:
        assert leg is call.b.leg and to_phone and way(sdp) == "sendonly"
        response = call.b.message(b"SIP/2.0 200 OK", b"7 INVITE", bob("recvonly", 2), True)
        assert isinstance(response, Response)
        return response

    stage.own.answer = answer
    update = await call.a.request(alice("sendonly", 2), from_phone=True, method="UPDATE")
    shown = await call.a.respond(update, 200, stage.fs(call.to_freeswitch["b"], "recvonly"))
    assert way(shown) == "recvonly" and where(shown) == where(call.to_alice)
    await settle()
    assert stage.commands(2) == ["offer leg-A>leg-B [pub,pub]", "answer leg-A<leg-B"]
    assert len(stage.own.reinvites) == 1
    assert origin(stage.own.reinvites[0][2]) == (origin(call.to_bob)[0], 2)
    assert call.session.holding == ["A"] and call.b.leg.phone.original == bob("recvonly", 2)
    await call.reinvite("a", alice("sendrecv", 3), bob("sendrecv", 3), fs_answer="sendonly")
    assert call.session.holding == []


async def test_rule_11_an_update_that_changes_nothing_is_not_carried_over(stage: Stage) -> None:
    call = await establish(stage)
    update = await call.a.request(alice(), from_phone=True, method="UPDATE")
    shown = await call.a.respond(update, 200, stage.fs(call.to_freeswitch["b"]))
    assert shown == call.to_alice
    await settle()
    assert stage.own.reinvites == []


async def test_rule_11_a_refused_hold_that_comes_again_by_update_is_carried_over(stage: Stage) -> None:
    """What counts is what the other phone has agreed to, not what it was shown last."""
    call = await establish(stage)

    async def answer(leg: Leg, to_phone: bool, sdp: bytes) -> Response:
        response = call.b.message(b"SIP/2.0 200 OK", b"7 INVITE", bob("recvonly", 2), True)
        assert isinstance(response, Response)
        return response

    stage.own.answer = answer
    first = await call.a.request(alice("sendonly", 2), from_phone=True)
    second = await call.b.request(stage.fs(first.out), from_phone=False)
    await call.b.respond(second, 491)
    await call.a.respond(first, 491)
    update = await call.a.request(alice("sendonly", 3), from_phone=True, method="UPDATE")
    await call.a.respond(update, 200, stage.fs(call.to_freeswitch["b"], "recvonly"))
    await settle()
    assert [(leg.name, to_phone) for leg, to_phone, _ in stage.own.reinvites] == [("B", True)]


async def test_rule_12_one_origin_per_endpoint_that_only_rises(stage: Stage) -> None:
    call = await establish(stage)
    ids = {origin(sdp)[0] for sdp in (call.to_alice, call.to_bob, call.to_freeswitch["a"], call.to_freeswitch["b"])}
    assert len(ids) == 4, "four endpoints, four origins"
    assert origin(call.to_alice)[1] == origin(call.to_bob)[1] == 1
    bob_versions, alice_versions = [1], [1]
    for version, (one, two) in enumerate([("sendonly", "recvonly"), ("sendrecv", "sendrecv")], 2):
        to_bob, to_alice = await call.reinvite("a", alice(one, version), bob(two, version))
        assert origin(to_bob)[0] == origin(call.to_bob)[0] and origin(to_alice)[0] == origin(call.to_alice)[0]
        bob_versions.append(origin(to_bob)[1])
        alice_versions.append(origin(to_alice)[1])
    to_alice, to_bob = await call.reinvite("b", bob("inactive", 4), alice("inactive", 4))
    bob_versions.append(origin(to_bob)[1])
    alice_versions.append(origin(to_alice)[1])
    assert bob_versions == alice_versions == [1, 2, 3, 4]
    assert {origin(to_alice)[0], origin(to_bob)[0]} == {origin(call.to_alice)[0], origin(call.to_bob)[0]}


async def test_rule_12_a_session_refresh_keeps_the_version(stage: Stage) -> None:
    """A re-INVITE with an unchanged SDP (trace q9-same)."""
    call = await establish(stage)
    to_bob, to_alice = await call.reinvite("a", alice(), bob())
    assert (to_bob, to_alice) == (call.to_bob, call.to_alice)
    to_alice, to_bob = await call.reinvite("b", bob(), alice())
    assert (to_bob, to_alice) == (call.to_bob, call.to_alice)


async def test_a_lost_final_response_does_not_block_for_ever(stage: Stage) -> None:
    call = await establish(stage)
    await call.a.request(alice("sendonly", 2), from_phone=True)
    for offer in call.session.offers.values():
        offer.started -= OFFER_LIFETIME
    later = await call.b.request(bob("sendonly", 2), from_phone=True)
    assert later.refusal is None


async def test_a_retransmitted_200_is_rewritten_the_same_without_a_command(stage: Stage) -> None:
    a = stage.dialog("a")
    first = await a.request(alice(), from_phone=True)
    b, second = await stage.second("b", stage.fs(first.out))
    back = await b.respond(second, 200, bob())
    assert await b.respond(second, 200, bob()) == back
    assert len(stage.log) == 2


async def test_rule_11_healing_waits_for_the_offer_in_progress_and_tries_again_after_491(
    node: FakeNode, autojump_clock: object
) -> None:
    async with on(node) as stage:
        call = await establish(stage)
        codes = [491, 491, 200]
        times: list[float] = []

        async def answer(leg: Leg, to_phone: bool, sdp: bytes) -> Response:
            times.append(trio.current_time())
            response = call.a.message(b"SIP/2.0 %d x" % codes.pop(0), b"4 INVITE", None, False)
            assert isinstance(response, Response)
            return response

        stage.own.answer = answer
        first = await call.a.request(alice("sendonly", 2), from_phone=True)
        second = await call.b.request(stage.fs(first.out), from_phone=False)
        await call.b.respond(second, 488)
        await call.a.respond(first, 488)
        again = await call.b.request(bob("sendonly", 2), from_phone=True)
        assert again.refusal is None, "the other side was faster"
        await settle()
        assert times == []
        await call.b.respond(again, 488)
        await trio.sleep(3)
        assert codes == [] and times[1] - times[0] == pytest.approx(OWN_RETRY_AFTER)
        assert call.session.offers == {}

"""Calls without a B2BUA: caller and callee in one dialog (rules 1, 6, 9, 11, 12)."""

from __future__ import annotations

from proxy.media.direct import Direct
from tests.media.ladder import Dialog, Stage, Transaction, alice, bob, carol, crypto, origin, settle, way, where


async def connect(stage: Stage) -> tuple[Dialog, Transaction, bytes]:
    """An answered direct call; the dialog, its INVITE and what the caller was shown."""
    a = stage.dialog("a", direct=True)
    invite = await a.request(alice(), from_phone=True, branch=b"k1")
    shown = await a.respond(invite, 200, bob())
    await a.ack(invite)
    assert shown is not None
    return a, invite, shown


async def test_plain(stage: Stage) -> None:
    a, invite, shown = await connect(stage)
    assert where(invite.out)[0] == where(shown)[0] == "127.0.0.1" and where(invite.out) != where(shown)
    assert a.leg.session.mode == "direct" and [p.name for p in a.leg.session.phones] == ["A", "B"]
    assert a.leg.session.codecs == ["PCMU/8000", "telephone-event/8000"]
    a.bye()
    await settle()
    assert stage.commands() == ["offer leg-A>leg-B [pub,pub]", "answer leg-A<leg-B", "delete"]
    stage.clean()


async def test_hold_from_either_side(stage: Stage) -> None:
    a, invite, shown = await connect(stage)
    hold = await a.request(alice("sendonly", 2), from_phone=True)
    back = await a.respond(hold, 200, bob("recvonly", 2))
    assert (way(hold.out), way(back)) == ("sendonly", "recvonly")
    assert origin(hold.out) == (origin(invite.out)[0], 2) and origin(back) == (origin(shown)[0], 2)
    other = await a.request(bob("sendonly", 3), from_phone=False)
    await a.respond(other, 200, alice("recvonly", 3))
    update = await a.request(bob("sendrecv", 4), from_phone=False, method="UPDATE")
    await a.respond(update, 200, alice("sendrecv", 4))
    assert stage.commands(2) == [
        "offer leg-A>leg-B [pub,pub]",
        "answer leg-A<leg-B",
        "offer leg-B>leg-A [pub,pub]",
        "answer leg-B<leg-A",
        "offer leg-B>leg-A [pub,pub]",
        "answer leg-B<leg-A",
    ]
    assert [c.via_branch for _, c in stage.log] == ["br-B", "br-B"] + [None] * 6
    assert stage.own.reinvites == []


async def test_parallel_forks(stage: Stage) -> None:
    """A party per branch; both may send early media; the loser's branch is deleted."""
    a = stage.dialog("a", direct=True)
    one = await a.request(alice(), from_phone=True, branch=b"k1")
    two = await a.request(alice(), from_phone=True, branch=b"k2", cseq=one.message.cseq)
    assert where(one.out) != where(two.out)
    early = await a.respond(one, 183, bob())
    final = await a.respond(two, 200, carol())
    assert early is not None and final is not None
    stage.anchor.branch_ended(a.leg, b"k1")
    await a.ack(two)
    await settle()
    assert stage.commands() == [
        "offer leg-A>leg-B [pub,pub]",
        "offer leg-A>leg-B2 [pub,pub]",
        "answer leg-A<leg-B",
        "answer leg-A<leg-B2",
        "delete leg-A br-B",
    ]
    hold = await a.request(alice("sendonly", 2), from_phone=True)
    await a.respond(hold, 200, carol("recvonly", 2))
    assert stage.commands(5) == ["offer leg-A>leg-B2 [pub,pub]", "answer leg-A<leg-B2"]


async def test_serial_forks_and_a_failing_call(stage: Stage) -> None:
    a = stage.dialog("a", direct=True)
    one = await a.request(alice(), from_phone=True, branch=b"k1")
    await a.respond(one, 486)
    stage.anchor.branch_ended(a.leg, b"k1")
    two = await a.request(alice(), from_phone=True, branch=b"k2", cseq=one.message.cseq)
    await a.respond(two, 486)
    stage.anchor.branch_ended(a.leg, b"k2")
    a.bye()
    await settle()
    assert stage.commands() == [
        "offer leg-A>leg-B [pub,pub]",
        "offer leg-A>leg-B2 [pub,pub]",
        "delete leg-A br-B",
        "delete",
    ]
    stage.clean()


async def test_late_offer(stage: Stage) -> None:
    a = stage.dialog("a", direct=True)
    empty = await a.request(None, from_phone=True, branch=b"k1")
    offer = await a.respond(empty, 200, bob())
    ack = await a.ack(empty, alice())
    assert where(offer) != where(ack)
    assert stage.commands() == ["offer leg-B>leg-A [pub,pub]", "answer leg-B<leg-A"]
    hold = await a.request(alice("sendonly", 2), from_phone=True)
    await a.respond(hold, 200, bob("recvonly", 2))
    assert stage.commands(2) == ["offer leg-A>leg-B [pub,pub]", "answer leg-A<leg-B"]


async def test_reliable_provisional_and_an_offer_in_prack(stage: Stage) -> None:
    """Answer in a reliable 183, a second offer in the PRACK (RFC 6337 patterns 3 and 5), UPDATE before the 200."""
    a = stage.dialog("a", direct=True)
    invite = await a.request(alice(), from_phone=True, branch=b"k1")
    early = await a.respond(invite, 183, bob(), reliable=True)
    rack = b"RAck: 1 %d INVITE" % invite.message.cseq
    prack = await a.request(alice("sendrecv", 2, 31000), from_phone=True, method="PRACK", headers=(rack,))
    assert prack.refusal is None and prack.out is not None
    await a.respond(prack, 200, bob())
    update = await a.request(alice("sendrecv", 3, 32000), from_phone=True, method="UPDATE")
    assert update.refusal is None
    await a.respond(update, 200, bob())
    assert await a.respond(invite, 200) is None
    await a.ack(invite)
    assert early is not None
    assert stage.commands() == ["offer leg-A>leg-B [pub,pub]", "answer leg-A<leg-B"] * 3
    assert a.leg.phone.original == alice("sendrecv", 3, 32000)


async def test_late_offer_in_a_reliable_provisional_answered_in_prack(stage: Stage) -> None:
    """RFC 6337 pattern 4."""
    a = stage.dialog("a", direct=True)
    empty = await a.request(None, from_phone=True, branch=b"k1")
    offer = await a.respond(empty, 183, bob(), reliable=True)
    rack = b"RAck: 1 %d INVITE" % empty.message.cseq
    prack = await a.request(alice(), from_phone=True, method="PRACK", headers=(rack,))
    assert offer is not None and prack.out is not None
    assert stage.commands() == ["offer leg-B>leg-A [pub,pub]", "answer leg-B<leg-A"]
    await a.respond(empty, 200)
    hold = await a.request(alice("sendonly", 2), from_phone=True)
    assert hold.refusal is None


async def test_a_200_without_sdp_commits_the_183(stage: Stage) -> None:
    a = stage.dialog("a", direct=True)
    invite = await a.request(alice(), from_phone=True, branch=b"k1")
    await a.respond(invite, 183, bob())
    await a.respond(invite, 200)
    assert len(stage.log) == 2
    assert (a.leg.phone.original, a.leg.callee and a.leg.callee.original) == (alice(), bob())


async def test_refusal_is_rolled_back(stage: Stage) -> None:
    a, _, _ = await connect(stage)
    hold = await a.request(alice("sendonly", 2), from_phone=True)
    await a.respond(hold, 488)
    assert stage.commands(2) == ["offer leg-A>leg-B [pub,pub]"] * 2 + ["answer leg-A<leg-B"]
    assert (stage.log[3][1].sdp, stage.log[4][1].sdp) == (alice(), bob())
    await settle()
    assert stage.own.reinvites == [], "nobody to heal"
    again = await a.request(bob("sendonly", 2), from_phone=False)
    await a.respond(again, 488)
    assert stage.commands(5) == ["offer leg-B>leg-A [pub,pub]"] * 2 + ["answer leg-B<leg-A"]


async def test_glare(stage: Stage) -> None:
    a, _, _ = await connect(stage)
    hold = await a.request(alice("sendonly", 2), from_phone=True)
    before = len(stage.log)
    glare = await a.request(bob("sendonly", 2), from_phone=False)
    assert glare.refusal is not None and glare.refusal.code == 491 and len(stage.log) == before
    await a.respond(hold, 200, bob("recvonly", 2))
    later = await a.request(bob("sendonly", 3), from_phone=False)
    assert later.refusal is None


async def test_an_srtp_caller_and_a_plain_callee(stage: Stage) -> None:
    a = stage.dialog("a", direct=True)
    invite = await a.request(crypto(alice()), from_phone=True, branch=b"k1")
    assert invite.out is not None and b"SAVP" not in invite.out
    shown = await a.respond(invite, 200, bob())
    assert shown is not None and b"RTP/SAVP" in shown and b"a=crypto" in shown


async def test_a_callee_behind_nat(stage: Stage) -> None:
    a = stage.dialog("a", direct=True)
    stage.anchor.set_callee(a.leg, branch=b"k1", received=("127.0.0.9", 5060))
    invite = await a.request(alice(), from_phone=True, branch=b"k1")
    await a.respond(invite, 200, bob())
    answer = stage.log[1][1]
    assert answer.flags == ("SIP-source-address", "port-latching") and answer.received_from == ("IP4", "127.0.0.9")
    assert stage.log[0][1].flags == ("trust-address", "port-latching")


async def test_the_branch_of_a_dialog_without_forks(stage: Stage) -> None:
    a = stage.dialog("a", direct=True)
    direct = Direct(stage.anchor.engine)
    party = direct.callee(a.leg, None)
    assert direct.callee(a.leg, None) is party is direct.callee(a.leg, b"")
    assert direct.callee(a.leg, b"k1") is not party

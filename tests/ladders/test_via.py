"""Where responses go and what Vias say: rport and received (RFC 3581), NAT, RFC 2543 peers."""

from __future__ import annotations

from tests.ladder import Ladder, play
from tests.world import World


async def test_rport_is_filled_in(world: World) -> None:
    phone = world.party("phone", ("192.0.2.20", 40112), contact=("192.168.1.7", 5060))
    phone.rport = True
    await play(world, """
        phone -> edge    MESSAGE sip:1000@198.51.100.1
        edge -> fs       MESSAGE sip:b2bua-1000@10.0.0.3
            Via: SIP/2.0/UDP 10.0.0.1:5080;branch=*
            Via: SIP/2.0/UDP 192.168.1.7;*rport=40112*
            Contact: <sip:phone@192.168.1.7;alias=192.0.2.20~40112~1>
        fs -> edge       200 OK
        edge -> phone    200 OK
            Via: SIP/2.0/UDP 192.168.1.7;*
    """)  # fmt: skip
    assert "received=192.0.2.20" in world.last("phone", "200")["Via"]
    await world.over()


async def test_without_rport_a_phone_behind_nat_is_answered_at_its_source_too(world: World) -> None:
    world.party("phone", ("192.0.2.20", 40112), contact=("192.168.1.7", 5060))
    ladder = await play(world, """
        phone -> edge    MESSAGE sip:1000@198.51.100.1
        edge -> fs       MESSAGE sip:b2bua-1000@10.0.0.3
            Via: *
            Via: SIP/2.0/UDP 192.168.1.7;*;received=192.0.2.20;rport=40112
        fs -> edge       200 OK
        edge -> phone    200 OK
    """)  # fmt: skip
    await ladder.play("""
        phone -> edge    INVITE sip:1000@other.test  [B]
        edge -> phone    100 Trying  [B]
        edge -> phone    403 *  [B]
        phone -> edge    ACK  [B]
        phone -> edge    MESSAGE sip:1000@198.51.100.1  [C]
            Max-Forwards: 0
        edge -> phone    483 Too Many Hops  [C]
        phone -> edge    BYE sip:1000@198.51.100.1  [D]
            To: <sip:1000@198.51.100.1>;tag=x
        edge -> phone    404 Not here  [D]
    """)  # fmt: skip
    await world.over()


async def test_a_phone_that_is_where_it_says_gets_no_marks(world: World) -> None:
    ladder = Ladder(world)
    ladder.known["me"] = "SIP/2.0/UDP 203.0.113.8;branch=z9hG4bKabc"
    await ladder.play("""
        caller -> edge   MESSAGE sip:1000@198.51.100.1
            Via: {me}
        edge -> fs       MESSAGE sip:b2bua-1000@10.0.0.3
            Via: SIP/2.0/UDP 10.0.0.1:5080;branch=z9hG4bK*
            Via: {me}
            Contact: <sip:caller@203.0.113.8>
        fs -> edge       200 OK
        edge -> caller   200 OK
            Via: {me}
    """)  # fmt: skip
    await world.over()


async def test_a_host_name_in_via_gets_received(world: World) -> None:
    await play(world, """
        caller -> edge   MESSAGE sip:1000@198.51.100.1
            Via: SIP/2.0/UDP phone.example.test;branch=z9hG4bKabc
        edge -> fs       MESSAGE
            Via: *
            Via: SIP/2.0/UDP phone.example.test;branch=z9hG4bKabc;received=203.0.113.8*
        fs -> edge       200 OK
        edge -> caller   200 OK
    """)  # fmt: skip
    await world.over()


async def test_received_written_by_the_sender_does_not_count(world: World) -> None:
    await play(world, """
        caller -> edge   MESSAGE sip:1000@198.51.100.1
            Via: SIP/2.0/UDP 203.0.113.8;rport=99;received=10.0.0.99;branch=z9hG4bKabc
        edge -> fs       MESSAGE
        fs -> edge       200 OK
        edge -> caller   200 OK
    """)  # fmt: skip
    via = world.last("caller", "200").via
    assert via.params["received"] == "203.0.113.8"
    assert via.params["rport"] == "5060"
    await world.over()


async def test_an_rfc_2543_call(world: World) -> None:
    """No branch, no tag in From, no Max-Forwards, no Contact brackets; matched by Call-ID, CSeq and the like."""
    ladder = Ladder(world)
    party = world.parties["caller"]
    invite = party.request("old@test", "INVITE", "sip:1000@198.51.100.1", b"v=0\r\n")
    invite.set("Via", "SIP/2.0/UDP 203.0.113.8:5060")
    invite.set("From", "sip:caller@203.0.113.8")
    invite.set("To", "sip:1000@198.51.100.1")
    invite.set("Contact", "sip:caller@203.0.113.8:5060")
    invite.remove("Max-Forwards")
    party.call("old@test").sent["INVITE"] = invite
    world.inject("caller", invite.encode())
    world.inject("caller", invite.encode())  # a retransmission
    ladder.names["A"] = "old@test"
    await ladder.play("""
        edge -> caller   100 Trying x2
        edge -> fs       INVITE sip:b2bua-1000@10.0.0.3
            Max-Forwards: 10
            From: sip:caller@203.0.113.8
            Contact: sip:caller@203.0.113.8:5060
            Via: *
            Via: SIP/2.0/UDP 203.0.113.8:5060
            Record-Route: <sip:10.0.0.1:5080;r2=on;lr=on;ftag=;t=*>
        fs -> edge       100 Trying
        fs -> edge       180 Ringing
        edge -> caller   180 Ringing
    """)  # fmt: skip
    cancel = party._follow(party.call("old@test"), "CANCEL", invite["To"])
    world.inject("caller", cancel.encode())
    await ladder.play("""
        edge -> caller   200 OK (CANCEL)
        edge -> fs       CANCEL
        fs -> edge       200 OK (CANCEL)
        fs -> edge       487 Request Terminated (INVITE)
        edge -> fs       ACK
        edge -> caller   487 Request Terminated (INVITE)
    """)  # fmt: skip
    ack = party._follow(party.call("old@test"), "ACK", world.last("caller", "487")["To"])
    world.inject("caller", ack.encode())
    await world.over()


async def test_an_rfc_2543_call_that_is_answered(world: World) -> None:
    """The ACK of a 2xx has the INVITE's Via there, and must still go end to end; BYE of both sides."""
    ladder = Ladder(world)
    party = world.parties["caller"]
    invite = party.request("old@test", "INVITE", "sip:1000@198.51.100.1", b"v=0\r\n")
    invite.set("Via", "SIP/2.0/UDP 203.0.113.8:5060")
    party.call("old@test").sent["INVITE"] = invite
    ladder.names["A"] = "old@test"
    world.inject("caller", invite.encode())
    await ladder.play("""
        edge -> caller   100 Trying
        edge -> fs       INVITE sip:b2bua-1000@10.0.0.3
        fs -> edge       200 OK
        edge -> caller   200 OK
        caller -> edge   ACK
            Via: SIP/2.0/UDP 203.0.113.8:5060
        edge -> fs       ACK sip:fs@10.0.0.3
            Via: SIP/2.0/UDP 10.0.0.1:5080;branch=z9hG4bK*
            Via: SIP/2.0/UDP 203.0.113.8:5060
        fs -> edge       200 OK (INVITE)
        edge -> caller   200 OK
        caller -> edge   ACK
            Via: SIP/2.0/UDP 203.0.113.8:5060
        edge -> fs       ACK
        caller -> edge   BYE
            Via: SIP/2.0/UDP 203.0.113.8:5060
        edge -> fs       BYE
        fs -> edge       200 OK
        edge -> caller   200 OK
    """)  # fmt: skip
    await world.over()


async def test_a_response_without_a_via_below_ours_cannot_be_passed_on(direct: World) -> None:
    """RFC 3261 16.7 item 3. The request was ours to answer, so the caller gets 502 instead of silence."""
    ladder = await play(direct, """
        caller -> edge   MESSAGE sip:1000@198.51.100.1
        edge -> callee   MESSAGE
    """)  # fmt: skip
    reply = direct.last("callee", "MESSAGE").response(200, tag="x")
    vias = reply.values("Via")
    reply.remove("Via")
    reply.headers.insert(0, ("Via", vias[0]))
    direct.inject("callee", reply.encode())
    await ladder.play("edge -> caller   502 Bad Gateway")
    await direct.over()

"""The stand-in B2BUA: the talk's messages, hostile input, and its UDP shell over loopback."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from lab.b2bua import Running, arguments, configuration, serve
from lab.b2bua_config import B2buaConfig, Dialplan
from lab.b2bua_core import B2bua
from lab.b2bua_replay import Recorded, Replay, load
from lab.sip import Message, Uri
from lab.sip_dialog import Dialog
from lab.sip_socket import SipSocket, open_sip_socket

DATA = Path(__file__).parents[1] / "data"
EDGE, FREESWITCH = ("10.0.0.10", 5080), ("10.0.0.20", 5060)
SDP = "v=0\r\no=- 1 2 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"


def talk(name: str) -> Message:
    """One of the talk's messages."""
    return Message.parse_untrusted((DATA / "talk" / name).read_text().replace("\n", "\r\n"))


def recorded(number: int, time: float, sent: bool, message: Message) -> Recorded:
    """A message as part of a recording between the edge and FreeSWITCH."""
    head, _, body = message.encode().partition(b"\r\n\r\n")
    source, destination = (FREESWITCH, EDGE) if sent else (EDGE, FREESWITCH)
    return Recorded(number, time, sent, source, destination, head.decode().replace("\r\n", "\n"), body)


def test_the_talk_reaches_freeswitch_as_told() -> None:
    first, second = talk("1-carrier-invite.txt"), talk("2-edge-to-freeswitch.txt")
    assert "Max-Forwards" not in first
    assert first.via.branch == ""
    assert first["Contact"] == "sip:15551230000@198.51.100.5:5060"
    assert second["Max-Forwards"] == "10"
    assert second.values("Record-Route")[0].startswith("<sip:10.0.0.10:5080;r2=on;lr=on;ftag=")
    assert (second.call_id, second["From"], second["To"], second.body) == (
        first.call_id,
        first["From"],
        first["To"],
        first.body,
    )


def test_the_talk_call_through_the_stand_in() -> None:
    """Fed the second message it sends the third, and after the callee's 200 the fourth."""
    invite, leg_b, ok = talk("2-edge-to-freeswitch.txt"), talk("3-leg-b-invite.txt"), talk("4-200.txt")
    trying = invite.response(100, "Trying", headers=[("User-Agent", "FreeSWITCH-B2BUA"), ("Content-Length", "0")])
    trying.headers = [h for i, h in enumerate(trying.headers) if i != 1]  # the top Via only
    answer = leg_b.response(
        200, tag="callee", contact="<sip:18005551234@192.0.2.9:5060>", sdp=ok.sdp + "a=sendrecv\r\n"
    )
    ack = Message(method="ACK", uri="sip:18005551234@192.0.2.9:5060")
    ack.headers = [(k, leg_b[k]) for k in ("Via", "Max-Forwards", "From")]
    ack.set("Max-Forwards", "70")
    ack.set("Via", "SIP/2.0/UDP 10.0.0.20;rport;branch=z9hG4bKother00000000")
    ack.headers += [
        ("To", answer["To"]),
        ("Call-ID", leg_b.call_id),
        ("CSeq", "123156499 ACK"),
        ("Contact", leg_b["Contact"]),
    ]
    ack.add("Content-Length", "0")
    recording = [
        recorded(1, 0.0, False, invite),
        recorded(2, 0.001, True, trying),
        recorded(3, 0.002, True, leg_b),
        recorded(4, 0.003, False, answer),
        recorded(5, 0.004, True, ack),
        recorded(6, 0.022, True, ok),
    ]
    recording[4].destination = ("192.0.2.9", 5060)  # no Record-Route in this answer: straight to the Contact
    run = Replay(recording, B2buaConfig(host=FREESWITCH[0]))
    run.run()
    assert run.pairs == 4


def test_hostile_datagrams_do_not_raise() -> None:
    """Recorded messages, cut and altered: nothing but silence or an answer; what was unreadable is noted."""
    rng = random.Random(11)
    recording = [
        item
        for name in ("e_hold_both", "d_prack", "h_update")
        for item in load(DATA / f"freeswitch/v1.10.12/{name}.txt.gz")
    ]
    b2bua = B2bua(B2buaConfig(host="10.99.0.3"), 1)
    now = 0.0
    for _ in range(40):
        replay = Replay(recording, b2bua.config)
        for item in recording:
            if item.sent:
                continue
            now += 0.01
            data = bytearray(replay._translate(item))
            for _ in range(rng.randrange(4)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            b2bua.receive(bytes(data[: rng.randrange(len(data))] if rng.random() < 0.2 else data), item.source, now)
            b2bua.output.clear()
    assert len(b2bua.stack.rejected) > 100
    assert b2bua.total > 10


def invite_to(b2bua: Running, phone: SipSocket, number: str, sdp: str = SDP) -> Message:
    """A caller's INVITE for the stand-in."""
    host, port = b2bua.address
    out = Message(method="INVITE", uri=f"sip:b2bua-{number}@{host}:{port}")
    out.headers += [
        ("Max-Forwards", "70"),
        ("From", f"<sip:alice@{host}>;tag={phone.ids.tag()}"),
        ("To", f"<sip:{number}@{host}>"),
    ]
    out.headers += [
        ("Call-ID", phone.ids.call_id()),
        ("CSeq", "1 INVITE"),
        ("Contact", f"<sip:alice@{host}:{phone.address[1]}>"),
    ]
    out.headers += [("Content-Type", "application/sdp")]
    out.body = sdp.encode()
    return out


async def test_a_call_over_loopback(autojump_clock: MockClock) -> None:
    autojump_clock.autojump_threshold = 0.01
    async with (
        open_sip_socket(("127.0.0.1", 0), seed="a") as alice,
        open_sip_socket(("127.0.0.1", 0), seed="b") as bob,
        trio.open_nursery() as nursery,
    ):
        config = B2buaConfig(host="", edge_host="127.0.0.1", edge_port=bob.address[1])
        running: Running = await nursery.start(serve, ("127.0.0.1", 0), config)
        call = alice.send_request(invite_to(running, alice, "1000"), running.address)
        assert (await call.responses.receive()).status == 100
        at_bob = await bob.requests.receive()
        assert Uri.parse(at_bob.message.uri).user == "1000"
        assert at_bob.message["X-PGPX"]
        at_bob.respond(180, tag="bob")
        assert (await call.responses.receive()).status == 180
        bob_contact = f"<sip:bob@127.0.0.1:{bob.address[1]}>"
        at_bob.respond(200, tag="bob", contact=bob_contact, sdp=SDP.replace("4000", "5000"))
        assert (await bob.requests.receive()).message.method == "ACK"
        ok = await call.final()
        assert "m=audio 5000" in ok.sdp
        dialog = Dialog.from_response(call.request, ok)
        call.ack(dialog.ack(ok))
        bye = await bob.ask(Dialog.from_request(at_bob.message, "bob", bob_contact).request("BYE"), running.address)
        assert bye.status == 200
        at_alice = await alice.requests.receive()
        assert (at_alice.message.method, at_alice.message["Reason"]) == ("BYE", 'Q.850;cause=16;text="NORMAL_CLEARING"')
        at_alice.respond(200)
        nursery.cancel_scope.cancel()
    assert running.b2bua.total == 1
    assert running.b2bua.calls[0].over


async def test_cancel_between_the_two_answers(autojump_clock: MockClock) -> None:
    """Leg B was answered, leg A not yet told (a poll later): the caller gets 487, the callee its ACK and a BYE."""
    autojump_clock.autojump_threshold = 0.01
    async with (
        open_sip_socket(("127.0.0.1", 0), seed="a") as alice,
        open_sip_socket(("127.0.0.1", 0), seed="b") as bob,
        trio.open_nursery() as nursery,
    ):
        config = B2buaConfig(host="", edge_host="127.0.0.1", edge_port=bob.address[1])
        running: Running = await nursery.start(serve, ("127.0.0.1", 0), config)
        call = alice.send_request(invite_to(running, alice, "1000"), running.address)
        at_bob = await bob.requests.receive()
        at_bob.respond(200, tag="bob", contact=f"<sip:bob@127.0.0.1:{bob.address[1]}>", sdp=SDP)
        assert (await bob.requests.receive()).message.method == "ACK"
        assert (await call.cancel().final()).status == 200
        assert (await call.final()).status == 487
        bye = await bob.requests.receive()
        assert (bye.message.method, bye.message["Reason"]) == ("BYE", 'SIP;cause=487;text="ORIGINATOR_CANCEL"')
        bye.respond(200)
        nursery.cancel_scope.cancel()
    assert running.b2bua.calls[0].over


async def test_a_late_offer_is_answered_without_ringing(autojump_clock: MockClock) -> None:
    """With enable-3pcc=proxy 1.10.12 drops every provisional response of leg B while leg A has made no offer."""
    autojump_clock.autojump_threshold = 0.01
    async with (
        open_sip_socket(("127.0.0.1", 0), seed="a") as alice,
        open_sip_socket(("127.0.0.1", 0), seed="b") as bob,
        trio.open_nursery() as nursery,
    ):
        port = bob.address[1]
        config = B2buaConfig(host="", edge_host="127.0.0.1", edge_port=port, three_pcc_proxy=True)
        running: Running = await nursery.start(serve, ("127.0.0.1", 0), config)
        invite = invite_to(running, alice, "1000")
        invite.body = b""
        call = alice.send_request(invite, running.address)
        assert (await call.responses.receive()).status == 100
        at_bob = await bob.requests.receive()
        assert not at_bob.message.sdp
        at_bob.respond(180, tag="bob")
        at_bob.respond(183, tag="bob", sdp=SDP)
        await trio.sleep(1)
        at_bob.respond(200, tag="bob", contact=f"<sip:bob@127.0.0.1:{port}>", sdp=SDP)
        first = await call.responses.receive()
        assert first.status == 200
        assert "m=audio 4000" in first.sdp
        nursery.cancel_scope.cancel()


async def test_a_closed_next_hop_is_503(autojump_clock: MockClock) -> None:
    """g_icmp_bleg: the kernel's ICMP port unreachable is an answer."""
    autojump_clock.autojump_threshold = 0.01
    async with open_sip_socket(("127.0.0.1", 0)) as closed:
        port = closed.address[1]
    async with open_sip_socket(("127.0.0.1", 0), seed="a") as alice, trio.open_nursery() as nursery:
        config = B2buaConfig(host="", edge_host="127.0.0.1", edge_port=port)
        running: Running = await nursery.start(serve, ("127.0.0.1", 0), config)
        response = await alice.ask(invite_to(running, alice, "1000"), running.address)
        assert (response.status, response["Reason"]) == (503, 'Q.850;cause=41;text="NORMAL_TEMPORARY_FAILURE"')
        nursery.cancel_scope.cancel()


def test_command_line() -> None:
    options = arguments(["--listen", "10.0.0.20:5062", "--edge", "10.0.0.10", "--call-timeout", "7", "--3pcc-proxy"])
    config = configuration(options)
    assert options.listen == ("10.0.0.20", 5062)
    assert (config.host, config.edge_host, config.edge_port) == ("10.0.0.20", "10.0.0.10", 5080)
    assert config.plans == {"b2bua-": Dialplan(call_timeout=7)}
    assert config.three_pcc_proxy
    with pytest.raises(SystemExit):
        arguments(["--listen", "10.0.0.20:x"])

"""The lab's small SIP, parsing and printing: whole, cut short at every byte, with junk behind, and altered."""

from __future__ import annotations

import random

import pytest

from lab.sip import Ids, Message, NameAddr, SipError, Uri, Via, split_commas, split_params

INVITE = (
    "INVITE sip:1000@10.0.0.2 SIP/2.0\r\n"
    "v: SIP/2.0/UDP 10.0.0.8:5070;branch=z9hG4bKa;rport, SIP/2.0/TCP [2001:db8::1];branch=z9hG4bKb\r\n"
    "Via: SIP / 2.0 / UDP old.example.org\r\n"
    'f: "A, \\"q\\" <x>" <sip:alice@10.0.0.8;a=b>;tag=f1\r\n'
    "To: sip:1000@10.0.0.2\r\n"
    "i: abc@host\r\n"
    "CSeq: 7\r\n  INVITE\r\n"
    "m: <sip:alice@10.0.0.8:5070;transport=udp>;expires=3\r\n"
    "Record-Route: <sip:p2;lr>, <sip:p1;lr>\r\n"
    "Record-Route: <sip:p0;lr>\r\n"
    "c: application/sdp\r\n"
    "l: 5\r\n"
    "\r\n"
    "v=0\r\n"
)


def test_parse_invite() -> None:
    message = Message.parse_untrusted(INVITE)
    assert (message.method, message.uri, message.status) == ("INVITE", "sip:1000@10.0.0.2", 0)
    assert message.cseq == (7, "INVITE")
    assert message.call_id == "abc@host"
    assert message.from_.tag == "f1"
    assert message.from_.display == '"A, \\"q\\" <x>"'
    assert message.to == NameAddr("", Uri("sip", "1000", "10.0.0.2"))
    assert [Via.parse(v).host for v in message.values("Via")] == ["10.0.0.8", "[2001:db8::1]", "old.example.org"]
    assert message.values("record-route") == ["<sip:p2;lr>", "<sip:p1;lr>", "<sip:p0;lr>"]
    assert message.sdp == "v=0\r\n"
    assert message.via.reply_address == ("10.0.0.8", 5070)


def test_every_prefix_is_refused_and_junk_is_dropped() -> None:
    data = INVITE.encode()
    for end in range(len(data)):
        with pytest.raises(SipError):
            Message.parse_untrusted(data[:end])
    assert Message.parse_untrusted(data + b"\x00junk") == Message.parse_untrusted(data)
    assert Message.parse_untrusted(b"\r\n\r\n" + data) == Message.parse_untrusted(data)


def test_mutated_bytes_raise_only_sip_error() -> None:
    rng = random.Random(5)
    survived = 0
    for _ in range(3000):
        data = bytearray(INVITE.encode())
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            survived += bool(Message.parse_untrusted(bytes(data)).encode())
        except SipError:
            continue
    assert 0 < survived < 3000


@pytest.mark.parametrize(
    "old, new, text",
    [
        ("l: 5", "l: x", "Content-Length"),
        ("l: 5", "l: 6", "cut short"),
        ("CSeq: 7\r\n  INVITE", "CSeq: 7 BYE", "CSeq 7 BYE in a INVITE"),
        ("CSeq: 7", "CSeq: -7", "not a CSeq"),
        ("i: abc@host", "Subject: x", "Call-ID"),
        ("rport,", "rport=x,", "rport"),
        ("v: SIP/2.0/UDP 10.0.0.8:5070;branch=z9hG4bKa;rport, SIP/2.0/TCP", "Via: junk\r\nX:", "not a Via"),
        ("INVITE sip:1000@10.0.0.2 SIP/2.0", "INVITE sip:1000@10.0.0.2 SIP/3.0", "start line"),
        ("To: sip:1000@10.0.0.2", "To: 1000", "URI"),
    ],
)
def test_errors_name_the_fault(old: str, new: str, text: str) -> None:
    assert old in INVITE
    with pytest.raises(SipError, match=text):
        Message.parse_untrusted(INVITE.replace(old, new))


def test_encode_keeps_order_and_fills_content_length() -> None:
    message = Message(status=200, reason="OK", headers=[("Content-Length", ""), ("X-After", "1")], body=b"abc")
    assert message.encode() == b"SIP/2.0 200 OK\r\nContent-Length: 3\r\nX-After: 1\r\n\r\nabc"
    message.remove("Content-Length")
    assert message.encode().endswith(b"X-After: 1\r\nContent-Length: 3\r\n\r\nabc")
    message.set("x-after", "2")
    message.add("X-After", "3")
    assert message.all("X-AFTER") == ["2", "3"]
    message.set("X-After", "4")
    assert message.headers == [("X-After", "4")]


def test_small_parsers() -> None:
    assert split_commas('"a,b" <sip:x,y>, <sip:z>') == ['"a,b" <sip:x,y>', "<sip:z>"]
    assert split_params('<sip:x>;A=1;b;c="q\\";"') == {"a": "1", "b": None, "c": 'q";'}
    assert str(Uri.parse("sip:a@[::1]:5080;lr;x=1")) == "sip:a@[::1]:5080;lr;x=1"
    assert Uri.parse("sips:host").address == ("host", 5060)
    assert str(Via.parse("SIP/2.0/UDP h:1;rport;branch=z")) == "SIP/2.0/UDP h:1;rport;branch=z"
    assert Via.parse("SIP/2.0/UDP h:1;rport=9;received=1.2.3.4").reply_address == ("1.2.3.4", 9)
    assert NameAddr.parse("sip:a@b;tag=x").tag == "x"
    assert str(NameAddr.parse("Bob <sip:a@b>;tag=x;y=1").with_tag("z")) == "Bob <sip:a@b>;y=1;tag=z"
    assert Ids(3).call_id("h") == Ids(3).call_id("h") != Ids(4).call_id("h")


def test_seconds() -> None:
    message = Message.parse_untrusted(
        INVITE.replace("c: application", "x: 90;refresher=uac\r\nMin-SE: x\r\nc: application")
    )
    assert (message.seconds("Session-Expires"), message.seconds("Expires")) == (90, 0)
    with pytest.raises(SipError, match="Min-SE"):
        message.seconds("Min-SE")

"""Bytes of a crowd's SIP: what is read from messages of the edge, what is answered, and that nonsense is refused."""

from __future__ import annotations

import pytest

from lab import crowd_sip
from lab.crowd_sip import Packet
from lab.sip import Message

REINVITE = (
    b"INVITE sip:2000@203.0.113.17:5060 SIP/2.0\r\n"
    b"v: SIP/2.0/UDP 198.51.100.1:5060;branch=z9hG4bK1\r\nVia: SIP/2.0/UDP 10.20.0.2;branch=z9hG4bK2\r\n"
    b"Record-Route: <sip:198.51.100.1;lr>, <sip:10.20.0.1:5080;lr>\r\n"
    b"f: <sip:1000@example.test>;tag=fs\r\nTo: <sip:2000@example.test>;tag=a1\r\ni: crowd-1\r\nCSeq: 7 INVITE\r\n"
    b"Contact: <sip:mod@10.20.0.2:5060>\r\nContent-Type: application/sdp\r\nl: 9\r\n\r\nv=0\r\no=x\r\n"
)
SDP = b"v=0\r\no=- 1 1 IN IP4 1.2.3.4\r\nc=IN IP4 198.51.100.2\r\nm=audio 30000 RTP/AVP 0\r\n"


def test_a_request_is_read() -> None:
    packet = Packet(REINVITE)
    assert (packet.status, packet.method, packet.call_id, packet.cseq) == (0, b"INVITE", b"crowd-1", 7)
    assert packet.routes() == [b"<sip:198.51.100.1;lr>", b"<sip:10.20.0.1:5080;lr>"]
    assert crowd_sip.tag(packet.first(b"to")) == b"a1"
    assert crowd_sip.tag(b"<sip:2000@example.test>") == b""
    assert crowd_sip.target(packet.first(b"contact")) == b"sip:mod@10.20.0.2:5060"
    assert packet.body == b"v=0\r\no=x\r\n"
    assert packet.first(b"reason") == b""


def test_its_response_is_what_the_other_sip_of_the_lab_reads() -> None:
    data = crowd_sip.respond(Packet(REINVITE), b"200 OK", b"", b"<sip:2000@203.0.113.17:5060>", SDP)
    reply = Message.parse_untrusted(data)
    assert (reply.status, reply.cseq, reply.call_id) == (200, (7, "INVITE"), "crowd-1")
    assert reply.values("Via") == [
        "SIP/2.0/UDP 198.51.100.1:5060;branch=z9hG4bK1",
        "SIP/2.0/UDP 10.20.0.2;branch=z9hG4bK2",
    ]
    assert reply.to.tag == "a1"
    assert reply.sdp.encode() == SDP
    first = REINVITE.replace(b";tag=a1", b"")
    assert Message.parse_untrusted(crowd_sip.respond(Packet(first), b"200 OK", b"b7")).to.tag == "b7"


def test_a_request_is_what_the_other_sip_of_the_lab_reads() -> None:
    data = crowd_sip.request(
        b"BYE", b"sip:x@1.2.3.4", b"SIP/2.0/UDP 1.1.1.1;branch=z9hG4bK3", [b"<sip:r1;lr>", b"<sip:r2;lr>"],
        b"<sip:a@b>;tag=1", b"<sip:c@d>;tag=2", b"id", 9,
    )  # fmt: skip
    bye = Message.parse_untrusted(data)
    assert (bye.start_line, bye.cseq) == ("BYE sip:x@1.2.3.4 SIP/2.0", (9, "BYE"))
    assert bye.values("Route") == ["<sip:r1;lr>", "<sip:r2;lr>"]
    assert Packet(data.replace(b"BYE sip:x@1.2.3.4 SIP/2.0", b"SIP/2.0 481 Gone")).status == 481


NONSENSE = [b"", b"\r\n\r\n", b"hello", REINVITE.replace(b"CSeq", b"X"), b"SIP/2.0 2x0 OK\r\n\r\n"]


@pytest.mark.parametrize("data", NONSENSE)
def test_nonsense_raises_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Packet(data)


@pytest.mark.parametrize(
    ("change", "listens"),
    [
        (b"", True),
        (b"a=sendrecv\r\n", True),
        (b"a=recvonly\r\n", True),
        (b"a=sendonly\r\n", False),
        (b"a=inactive\r\n", False),
    ],
)
def test_where_media_goes(change: bytes, listens: bool) -> None:
    assert crowd_sip.media(SDP + change) == (("198.51.100.2", 30_000), listens)


def test_no_media() -> None:
    assert crowd_sip.media(SDP.replace(b"30000", b"0"))[1] is False
    assert crowd_sip.media(SDP.replace(b"198.51.100.2", b"0.0.0.0"))[1] is False
    assert crowd_sip.media(crowd_sip.describe(("203.0.113.9", 20_000), 5)) == (("203.0.113.9", 20_000), True)
    for text in (b"", b"m=video 1 RTP/AVP 0\r\n", b"m=audio 5 RTP/AVP 0\r\n"):
        with pytest.raises(ValueError, match="no audio"):
            crowd_sip.media(text)
    with pytest.raises(ValueError, match="no URI"):
        crowd_sip.target(b"nobody")

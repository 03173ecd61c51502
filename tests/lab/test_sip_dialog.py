"""The lab's dialog bookkeeping, both ends of one INVITE."""

from __future__ import annotations

from lab.sip import Message
from lab.sip_dialog import Dialog

INVITE = (
    "INVITE sip:1000@10.0.0.2 SIP/2.0\r\n"
    "Via: SIP/2.0/UDP 10.0.0.8:5070;branch=z9hG4bKa\r\n"
    "From: <sip:alice@10.0.0.8>;tag=f1\r\n"
    "To: <sip:1000@10.0.0.2>\r\n"
    "Call-ID: abc@host\r\n"
    "CSeq: 7 INVITE\r\n"
    "Contact: <sip:alice@10.0.0.8:5070;transport=udp>;expires=3\r\n"
    "Record-Route: <sip:p2;lr>, <sip:p1;lr>\r\n"
    "Record-Route: <sip:p0;lr>\r\n"
    "\r\n"
)


def test_dialog_of_both_ends() -> None:
    invite = Message.parse_untrusted(INVITE)
    ok = invite.response(200, tag="t1", contact="<sip:bob@10.0.0.9>", sdp="v=0\r\n")
    assert ok.values("Record-Route") == ["<sip:p2;lr>", "<sip:p1;lr>", "<sip:p0;lr>"]
    caller, callee = Dialog.from_response(invite, ok), Dialog.from_request(invite, "t1", "<sip:bob@10.0.0.9>")
    ack = caller.ack(ok)
    assert (ack.uri, ack.cseq, ack.all("Route")) == (
        "sip:bob@10.0.0.9",
        (7, "ACK"),
        ["<sip:p0;lr>", "<sip:p1;lr>", "<sip:p2;lr>"],
    )
    assert callee.matches(ack) and not caller.matches(ack)
    bye = callee.request("BYE")
    assert (bye.uri, bye.cseq[0], bye.all("Route")[0]) == ("sip:alice@10.0.0.8:5070;transport=udp", 1, "<sip:p2;lr>")
    assert caller.matches(bye)
    assert caller.destination == ("p0", 5060)
    moved = callee.request("INVITE")
    moved.set("Contact", "<sip:bob@10.0.0.10:5090>")
    caller.refresh(moved)
    assert (caller.target, caller.remote_cseq) == ("sip:bob@10.0.0.10:5090", 2)

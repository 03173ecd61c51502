"""Making responses, ACK, CANCEL and requests."""

from __future__ import annotations

import pytest

from proxy.sip.errors import BadMessage
from proxy.sip.message import H, Request, Response, make_ack, make_cancel, make_request, make_response
from proxy.sip.parser import parse_untrusted, validate_untrusted

INVITE = (
    b"INVITE sip:bob@192.0.2.4 SIP/2.0\r\n"
    b"Via: SIP/2.0/UDP p;branch=z9hG4bKp,\r\n SIP/2.0/UDP a;branch=z9hG4bKa\r\n"
    b"Max-Forwards: 69\r\n"
    b"v: SIP/2.0/UDP z;branch=z9hG4bKz\r\n"
    b"Record-Route: <sip:p;lr>\r\n"
    b"Route: <sip:q;lr>, <sip:r;lr>\r\n"
    b"Timestamp: 54\r\n"
    b"f: Alice <sip:alice@a>;tag=1\r\n"
    b"To: Bob <sip:bob@b>\r\n"
    b"Call-ID: x@y\r\n"
    b"CSeq: 5 INVITE\r\n"
    b"Contact: <sip:alice@a>\r\n"
    b"Proxy-Require: foo\r\n"
    b"Content-Length: 0\r\n\r\n"
)


def invite(data: bytes = INVITE) -> Request:
    parsed = parse_untrusted(data)
    assert isinstance(parsed, Request)
    return parsed


def test_100():
    assert make_response(invite(), 100, to_tag=b"never").to_bytes() == (
        b"SIP/2.0 100 Trying\r\n"
        b"Via: SIP/2.0/UDP p;branch=z9hG4bKp,\r\n SIP/2.0/UDP a;branch=z9hG4bKa\r\n"
        b"v: SIP/2.0/UDP z;branch=z9hG4bKz\r\n"
        b"Timestamp: 54\r\n"
        b"f: Alice <sip:alice@a>;tag=1\r\n"
        b"To: Bob <sip:bob@b>\r\n"
        b"Call-ID: x@y\r\n"
        b"CSeq: 5 INVITE\r\n"
        b"Content-Length: 0\r\n\r\n"
    )


@pytest.mark.parametrize(("code", "record_route"), [(180, True), (200, True), (302, False), (486, False), (100, False)])
def test_record_route_goes_into_what_may_make_a_dialog(code, record_route):
    assert (H.RECORD_ROUTE in make_response(invite(), code).ids) is record_route


def test_tag_reason_and_extra_headers():
    answer = make_response(invite(), 420, b"No\r\nEvil: 1", b"t9", [(b"Unsupported", b"foo"), (b"X-A", b"b")])
    assert answer.start == b"SIP/2.0 420 No Evil: 1"
    assert answer.get(H.TO) == b"Bob <sip:bob@b>;tag=t9" and answer.to_tag == b"t9"
    assert answer.get(H.UNSUPPORTED) == b"foo" and answer.get_name(b"x-a") == b"b"
    again = parse_untrusted(answer.to_bytes())
    assert isinstance(again, Response)
    assert (again.lines, again.ids, again.code) == (answer.lines, answer.ids, 420)
    tagged = invite(INVITE.replace(b"<sip:bob@b>", b"<sip:bob@b>;tag=there"))
    assert make_response(tagged, 200, to_tag=b"t9").to_tag == b"there"
    assert make_response(invite(), 299).start == b"SIP/2.0 299 "


def test_response_to_a_malformed_to():
    broken = invite(INVITE.replace(b"To: Bob <", b'To: "Bob <'))
    assert make_response(broken, 400, to_tag=b"t").get(H.TO) == b'"Bob <sip:bob@b>;tag=t'


def test_response_to_bare_lf_uses_crlf():
    answer = make_response(invite(INVITE.replace(b"\r\n", b"\n")), 486, to_tag=b"t")
    assert answer.to_bytes().count(b"\n") == answer.to_bytes().count(b"\r\n")
    assert answer.to_bytes() == make_response(invite(), 486, to_tag=b"t").to_bytes()


def test_ack():
    answer = make_response(invite(), 486, to_tag=b"t")
    ack = parse_untrusted(make_ack(invite(), answer))
    assert isinstance(ack, Request)
    validate_untrusted(ack)
    assert (ack.method, ack.uri, ack.cseq, ack.cseq_method) == ("ACK", b"sip:bob@192.0.2.4", 5, "ACK")
    assert ack.values(H.VIA) == [b"SIP/2.0/UDP p;branch=z9hG4bKp"]
    assert ack.values(H.ROUTE) == [b"<sip:q;lr>", b"<sip:r;lr>"]
    assert (ack.from_tag, ack.to_tag, ack.call_id) == (b"1", b"t", b"x@y")
    assert H.PROXY_REQUIRE not in ack.ids and H.CONTACT not in ack.ids
    with pytest.raises(BadMessage, match="missing To"):
        make_ack(invite(), invite_without_to())


def invite_without_to() -> Response:
    answer = make_response(invite(), 486)
    answer.remove(H.TO)
    return answer


def test_cancel():
    cancel = make_cancel(invite())
    validate_untrusted(cancel)
    assert parse_untrusted(cancel.to_bytes()).to_bytes() == cancel.to_bytes()
    assert (cancel.method, cancel.uri, cancel.cseq, cancel.cseq_method) == ("CANCEL", b"sip:bob@192.0.2.4", 5, "CANCEL")
    assert cancel.values(H.VIA) == [b"SIP/2.0/UDP p;branch=z9hG4bKp"]
    assert cancel.values(H.ROUTE) == [b"<sip:q;lr>", b"<sip:r;lr>"]
    assert (cancel.get(H.TO), cancel.from_tag) == (b"Bob <sip:bob@b>", b"1")
    assert H.PROXY_REQUIRE not in cancel.ids
    lf = make_cancel(invite(INVITE.replace(b"\r\n", b"\n")))
    assert lf.to_bytes() == cancel.to_bytes()
    bare = invite()
    bare.remove(H.VIA)
    with pytest.raises(BadMessage, match="missing Via"):
        make_cancel(bare)


def test_make_request():
    headers = [(b"Via", b"SIP/2.0/UDP h;branch=z9hG4bK1"), (b"CSeq", b"1 OPTIONS"), (b"X-Y", b"z")]
    made = make_request("OPTIONS", b"sip:h", headers, b"hello")
    assert made.to_bytes() == (
        b"OPTIONS sip:h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nCSeq: 1 OPTIONS\r\nX-Y: z\r\n"
        b"Content-Length: 5\r\n\r\nhello"
    )
    again = parse_untrusted(made.to_bytes())
    assert (again.lines, again.ids) == (made.lines, made.ids)
    assert make_request("FOO", b"sip:h", [(b"l", b"0")]).lines == [b"l: 0"]

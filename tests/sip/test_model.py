"""Asking and editing messages: what is not edited leaves byte for byte."""

from __future__ import annotations

import pytest

from proxy.sip.errors import BadMessage
from proxy.sip.message import H, Message, Request, Response
from proxy.sip.parser import parse_untrusted

HEAD = b"INVITE sip:bob@192.0.2.4 SIP/2.0\r\n"
LINES = (
    b"v : SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKa;rport ,SIP/2.0/TCP [2001:db8::1]:5070;branch=z9hG4bKb\r\n"
    b"Via:\r\n SIP/2.0/UDP c.example;branch=z9hG4bKc\r\n"
    b"VIA: SIP/2.0/UDP d.example;branch=z9hG4bKd,\r\n\tSIP/2.0/UDP e.example;branch=z9hG4bKe\r\n"
    b'f: "A, B" <sip:a@b>;tag=ft\r\n'
    b"t:<sip:bob@c>\r\n"
    b"i: call-1\r\n"
    b"cseq:  7   INVITE\r\n"
    b"Route: <sip:p1;lr>, <sip:p2;lr>\r\n"
    b"X-Thing: one, two\r\n"
    b"x-thing: three\r\n"
    b"l: 4\r\n"
)
BODY = b"\x00\r\n\xff"


def request(lines: bytes = LINES, body: bytes = BODY) -> Request:
    parsed = parse_untrusted(HEAD + lines + b"\r\n" + body)
    assert isinstance(parsed, Request)
    return parsed


def edited(message: Message, *replacements: tuple[bytes, bytes]) -> None:
    """Assert that the message is the original with these replacements and nothing else."""
    expected = HEAD + LINES + b"\r\n" + BODY
    for old, new in replacements:
        assert expected.count(old) == 1, old
        expected = expected.replace(old, new)
    assert message.to_bytes() == expected
    again = parse_untrusted(expected)
    assert (again.lines, again.ids) == (message.lines, message.ids)


def test_asking():
    m = request()
    assert m.index(H.VIA) == 0 and m.index(H.CONTACT) == -1
    assert m.count(H.VIA) == 3 and m.count(H.CONTACT) == 0
    assert m.get(H.CONTACT) is None and m.values(H.CONTACT) == [] and m.first_value(H.CONTACT) is None
    assert [v[-1:] for v in (part.rstrip(b";rport") for part in m.values(H.VIA))] == [b"a", b"b", b"c", b"d", b"e"]
    assert m.values(H.FROM) == [b'"A, B" <sip:a@b>;tag=ft']
    assert m.first_value(H.FROM) == b'"A, B" <sip:a@b>;tag=ft'
    assert m.get(H.ROUTE) == b"<sip:p1;lr>, <sip:p2;lr>" and m.first_value(H.ROUTE) == b"<sip:p1;lr>"
    assert m.get_name(b"X-THING") == b"one, two"
    assert m.values_name(b"X-Thing") == [b"one, two", b"three"]
    assert m.values_name(b"route") == [b"<sip:p1;lr>", b"<sip:p2;lr>"]
    assert m.get_name(b"No-Such") is None
    assert "INVITE" in repr(m) and bytes(m) == m.to_bytes()
    edited(m)


def test_parsed_values():
    m = request()
    assert (m.via.host, m.via.branch, m.via.rport) == (b"192.0.2.1", b"z9hG4bKa", b"")
    assert m.via is m.via
    assert (m.cseq, m.cseq_method, m.call_id, m.from_tag, m.to_tag) == (7, "INVITE", b"call-1", b"ft", b"")
    assert request().cseq_method == "INVITE"


def test_pop_value_walks_through_joined_folded_and_single_lines():
    m = request()
    assert m.pop_value(H.VIA) == b"SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKa;rport"
    edited(m, (b"v : SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKa;rport ,", b"v : "))
    assert (m.via.host, m.via.port, m.via.branch) == (b"2001:db8::1", 5070, b"z9hG4bKb")
    assert m.pop_value(H.VIA) == b"SIP/2.0/TCP [2001:db8::1]:5070;branch=z9hG4bKb"
    first = LINES[: LINES.index(b"\r\n") + 2]
    edited(m, (first, b""))
    assert m.via.host == b"c.example"
    assert m.pop_value(H.VIA) == b"SIP/2.0/UDP c.example;branch=z9hG4bKc"
    edited(m, (first, b""), (b"Via:\r\n SIP/2.0/UDP c.example;branch=z9hG4bKc\r\n", b""))
    assert m.pop_value(H.VIA) == b"SIP/2.0/UDP d.example;branch=z9hG4bKd"
    assert m.lines[0] == b"VIA: SIP/2.0/UDP e.example;branch=z9hG4bKe"
    assert m.pop_value(H.VIA) == b"SIP/2.0/UDP e.example;branch=z9hG4bKe"
    assert m.pop_value(H.VIA) is None
    assert m.count(H.VIA) == 0
    with pytest.raises(BadMessage):
        _ = m.via


def test_pop_value_skips_empty_lines():
    m = request(b"Route:\r\nRoute: ,\r\nRoute: , ,, <sip:x>,\r\nl: 4\r\n")
    assert m.pop_value(H.ROUTE) == b"<sip:x>"
    assert m.lines == [b"l: 4"]


def test_replace_first_value():
    m = request()
    m.replace_first_value(H.VIA, b"SIP/2.0/UDP new")
    edited(m, (b"SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKa;rport ,", b"SIP/2.0/UDP new ,"))
    assert m.via.host == b"new"
    m = request()
    m.replace_first_value(H.FROM, b"<sip:x@y>;tag=other")
    edited(m, (b'"A, B" <sip:a@b>;tag=ft', b"<sip:x@y>;tag=other"))
    assert m.from_tag == b"other"
    m.replace_first_value(H.CONTACT, b"<sip:new@h>")
    assert m.lines[-1] == b"Contact: <sip:new@h>"


def test_set_keeps_the_name_as_written():
    m = request()
    assert m.cseq == 7
    m.set(H.CSEQ, b"8 INVITE")
    edited(m, (b"cseq:  7   INVITE", b"cseq: 8 INVITE"))
    assert m.cseq == 8
    m.set(H.VIA, b"SIP/2.0/UDP only")
    assert m.lines[0] == b"v : SIP/2.0/UDP only"
    m.set(H.MAX_FORWARDS, b"69")
    assert m.lines[-1] == b"Max-Forwards: 69" and m.ids[-1] == H.MAX_FORWARDS


def test_append_prepend_remove():
    m = request()
    m.append(b"X-New", b"1")
    m.append(H.EXPIRES, b"60")
    edited(m, (b"l: 4\r\n", b"l: 4\r\nX-New: 1\r\nExpires: 60\r\n"))
    m = request()
    assert m.via.branch == b"z9hG4bKa"
    m.prepend(H.VIA, b"SIP/2.0/UDP top;branch=z9hG4bKtop")
    assert m.via.branch == b"z9hG4bKtop"
    m.prepend(H.ROUTE, b"<sip:p0;lr>")
    m.prepend(H.RECORD_ROUTE, b"<sip:me;lr>")
    edited(
        m,
        (b"v : ", b"Record-Route: <sip:me;lr>\r\nVia: SIP/2.0/UDP top;branch=z9hG4bKtop\r\nv : "),
        (b"Route: <sip:p1", b"Route: <sip:p0;lr>\r\nRoute: <sip:p1"),
    )
    assert m.remove(H.VIA) == 4 and m.remove(H.VIA) == 0
    m = request()
    assert m.remove_name(b"x-thing") == 2 and m.remove_name(b"X-Thing") == 0
    edited(m, (b"X-Thing: one, two\r\nx-thing: three\r\n", b""))
    assert m.remove_name(b"call-id") == 1
    with pytest.raises(BadMessage):
        _ = m.call_id


def test_header_names_of_our_own_are_checked():
    with pytest.raises(ValueError, match="not a SIP header name"):
        request().append(b"Bad Name", b"x")


def test_body():
    m = request()
    m.set_body(b"v=0\r\n", b"application/sdp")
    assert m.get(H.CONTENT_TYPE) == b"application/sdp"
    assert m.to_bytes().endswith(b"l: 5\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n")
    m.set_body(b"v=0\r\n\r\n")
    assert (m.get(H.CONTENT_LENGTH), m.get(H.CONTENT_TYPE)) == (b"7", b"application/sdp")
    m.set_body(b"")
    assert (m.get(H.CONTENT_LENGTH), m.get(H.CONTENT_TYPE)) == (b"0", None)
    bare = request(b"v: SIP/2.0/UDP h\r\n", b"rest")
    bare.set_body(b"x" * 65536, b"text/plain")
    again = parse_untrusted(bare.to_bytes())
    assert again.body == b"x" * 65536 and again.to_bytes() == bare.to_bytes()


def test_copies_are_independent():
    m = request()
    assert m.via.host == b"192.0.2.1"
    twin = m.copy()
    assert twin.to_bytes() == m.to_bytes() and (twin.method, twin.uri, twin.version) == (m.method, m.uri, m.version)
    assert twin.via is m.via
    twin.pop_value(H.VIA)
    twin.set_uri(b"sip:else@h")
    edited(m)
    assert twin.start == b"INVITE sip:else@h SIP/2.0"
    answer = parse_untrusted(b"SIP/2.0 180 Ringing\r\nl: 0\r\n\r\n")
    assert isinstance(answer, Response)
    other = answer.copy()
    other.set_status(486)
    assert (answer.code, other.code, other.reason) == (180, 486, b"Busy Here")
    assert other.to_bytes() == b"SIP/2.0 486 Busy Here\r\nl: 0\r\n\r\n"
    other.set_status(299, b"Odd")
    other.set_status(698)
    assert other.start == b"SIP/2.0 698 "


@pytest.mark.parametrize(
    ("value", "tag"),
    [
        (b"<sip:a@b>;tag=1928301774", b"1928301774"),
        (b"<sip:a@b>", b""),
        (b"sip:a@b", b""),
        (b"sip:a@b;tag=x-1", b"x-1"),
        (b"<sip:a@b;tag=inner>", b""),
        (b'"a>;tag=evil" <sip:a@b>;tag=good', b"good"),
        (b"<sip:a@b>;x=y;TAG=z", b"z"),
        (b"<sip:a@b>;tag=a.b~c", b"a.b~c"),
        (b"<sip:a@b>\r\n ;tag=folded", b"folded"),
        (b'<sip:a@b>;x=">;tag=evil"', b""),
    ],
)
def test_tags(value, tag):
    m = request(b"From: " + value + b"\r\nTo: " + value + b"\r\n")
    assert m.from_tag == tag and m.to_tag == tag


@pytest.mark.parametrize("value", [b"", b"x", b"<sip:a@b>;tag=", b"<sip:a@b>;tag=a b", b'"<sip:a@b>;x=1', b">;tag=1"])
def test_bad_tags(value):
    m = request(b"From: " + value + b"\r\n")
    with pytest.raises(BadMessage):
        _ = m.from_tag
    with pytest.raises(BadMessage, match="missing To"):
        _ = m.to_tag


@pytest.mark.parametrize("name", ["via", "cseq", "cseq_method", "call_id", "from_tag", "to_tag"])
def test_missing_headers(name):
    with pytest.raises(BadMessage, match="missing") as caught:
        getattr(request(b"X: y\r\n"), name)
    assert caught.value.status == 400


# --- lines that end in a bare LF ---

LF = b"INVITE sip:b@c SIP/2.0\nVia: SIP/2.0/UDP a,\n SIP/2.0/UDP b\nFrom: <sip:a@b>\r\nTo: <sip:b@c>\n\nbody\r\n"


def test_bare_lf_is_kept():
    m = parse_untrusted(LF)
    assert isinstance(m, Request)
    assert m.to_bytes() == LF
    assert (m.via.host, m.from_tag, m.body) == (b"a", b"", b"body\r\n")
    assert m.values(H.VIA) == [b"SIP/2.0/UDP a", b"SIP/2.0/UDP b"]
    assert m.get(H.FROM) == b"<sip:a@b>"


def test_editing_bare_lf_messages_touches_only_the_edited_line():
    m = parse_untrusted(LF)
    assert isinstance(m, Request)
    m.pop_value(H.VIA)
    m.prepend(H.VIA, b"SIP/2.0/UDP top")
    m.replace_first_value(H.FROM, b"<sip:x@y>")
    m.set(H.TO, b"<sip:z@c>")
    m.append(b"X", b"1")
    m.set_uri(b"sip:n@c")
    assert m.to_bytes() == (
        b"INVITE sip:n@c SIP/2.0\r\nVia: SIP/2.0/UDP top\r\nVia: SIP/2.0/UDP b\nFrom: <sip:x@y>\r\n"
        b"To: <sip:z@c>\r\nX: 1\r\n\nbody\r\n"
    )
    again = parse_untrusted(m.to_bytes())
    assert again.to_bytes() == m.to_bytes() and again.lines == m.lines
    answer = parse_untrusted(b"SIP/2.0 200 OK\nl: 0\n\n")
    assert isinstance(answer, Response)
    answer.set_status(486)
    assert answer.to_bytes() == b"SIP/2.0 486 Busy Here\r\nl: 0\n\n"

"""Values of Via, name-addr, CSeq and RAck."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.sip.errors import BadMessage
from proxy.sip.headers import (
    NameAddr,
    method_name,
    parse_cseq_untrusted,
    parse_name_addr_untrusted,
    parse_rack_untrusted,
    parse_via_untrusted,
)

FUZZ = settings(derandomize=True, database=None, max_examples=400, deadline=None)
SPECIAL = st.binary(max_size=60) | st.text('<>",;=\\ \t\r\n:ab@[]/.sip0UDP', max_size=60).map(str.encode)

# --- Via ---


@pytest.mark.parametrize(
    ("value", "transport", "host", "port", "branch"),
    [
        (b"SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKa", b"UDP", b"192.0.2.1", 5060, b"z9hG4bKa"),
        (b"SIP/2.0/WSS df7jal23ls0d.invalid;branch=z9hG4bKb", b"WSS", b"df7jal23ls0d.invalid", None, b"z9hG4bKb"),
        (b"SIP/2.0/udp Host.Example.COM", b"UDP", b"host.example.com", None, None),
        (b"SIP/2.0/TCP [2001:DB8::9:1]:5061;branch=z9hG4bKc", b"TCP", b"2001:db8::9:1", 5061, b"z9hG4bKc"),
        (b"SIP/2.0/TLS [::1];Branch=x", b"TLS", b"::1", None, b"x"),
        (b"sip / 2.0 / UDP  h : 5062 ; branch = y", b"UDP", b"h", 5062, b"y"),
        (b"SIP/2.0/UDP\r\n h_1;branch=z", b"UDP", b"h_1", None, b"z"),
        (b'SIP/2.0/UDP h;comment="a;b";branch=q', b"UDP", b"h", None, b"q"),
        (b" SIP/2.0/UDP h;branch=r ", b"UDP", b"h", None, b"r"),
    ],
)
def test_via(value, transport, host, port, branch):
    via = parse_via_untrusted(value)
    assert (via.protocol, via.transport, via.host, via.port, via.branch) == (b"SIP/2.0", transport, host, port, branch)
    assert bytes(via) == via.raw == value.strip()


def test_via_parameters():
    via = parse_via_untrusted(b"SIP/2.0/UDP h;rport;Received=[2001:db8::5];branch=z9hG4bKx;alias;ttl=16")
    assert (via.rport, via.received, via.branch) == (b"", b"2001:db8::5", b"z9hG4bKx")
    assert (via.param(b"alias"), via.param(b"ttl"), via.param(b"maddr")) == (b"", b"16", None)
    via = parse_via_untrusted(b"SIP/2.0/UDP h;rport=5070;received=2001:db8::6")
    assert (via.rport, via.received, via.branch) == (b"5070", b"2001:db8::6", None)


@pytest.mark.parametrize(
    ("branch", "is_id"),
    [(b"z9hG4bKa", True), (b"Z9HG4BKa", True), (b"z9hG4bK", False), (b"z9hG4bJa", False), (b"1", False)],
)
def test_magic_cookie(branch, is_id):
    assert parse_via_untrusted(b"SIP/2.0/UDP h;branch=" + branch).has_cookie is is_id


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"SIP/2.0/UDP",
        b"SIP/2.0/UDP ",
        b"SIP/2.0 h",
        b"SIP/2.0/UDP h:",
        b"SIP/2.0/UDP h:65536",
        b"SIP/2.0/UDP h:123456",
        b"SIP/2.0/UDP  h:65536",
        b"SIP/2.0/UDP h;;branch=x",
        b"SIP/2.0/UDP h;branch=",
        b"SIP/2.0/UDP h;branch=x, y",
        b"SIP/2.0/UDP h branch=x",
        b"SIP/2.0/UDP [::1;branch=x",
        b"SIP/2.0/UDP 192.0.2.15;;,;,,",
        b'SIP/2.0/UDP h;a="b',
        b"SIP/2.0/UDP h:-1",
    ],
)
def test_bad_via(value):
    with pytest.raises(BadMessage) as caught:
        parse_via_untrusted(value)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"SIP/2.0/UDP h;branch=x;rport", b"SIP/2.0/UDP h;branch=x;rport=9;received=192.0.2.7"),
        (b"SIP/2.0/UDP h;rport;branch=x", b"SIP/2.0/UDP h;rport=9;branch=x;received=192.0.2.7"),
        (b"SIP/2.0/UDP h", b"SIP/2.0/UDP h;rport=9;received=192.0.2.7"),
        (b"SIP/2.0/UDP h;received=1.1.1.1;RPORT=4;x", b"SIP/2.0/UDP h;received=192.0.2.7;rport=9;x"),
        (b'SIP/2.0/UDP h;c=";rport";rport ;x', b'SIP/2.0/UDP h;c=";rport";rport=9;x;received=192.0.2.7'),
    ],
)
def test_with_params(value, expected):
    assert parse_via_untrusted(value).with_params(received=b"192.0.2.7", rport=b"9") == expected


def test_with_params_leaves_alone_what_is_not_given():
    via = parse_via_untrusted(b"SIP/2.0/UDP  h ; rport;branch=x")
    assert via.with_params() == via.raw
    assert via.with_params(received=b"192.0.2.7") == via.raw + b";received=192.0.2.7"


# --- name-addr ---


@pytest.mark.parametrize(
    ("value", "display", "uri", "tag"),
    [
        (b"<sip:a@b>", b"", b"sip:a@b", b""),
        (b"sip:a@b;tag=1", b"", b"sip:a@b", b"1"),
        (b"sip:a@b ; tag=1", b"", b"sip:a@b", b"1"),
        (b'"A \\"B\\" <x>" <sip:a@b;tag=no>;tag=yes', b'"A \\"B\\" <x>"', b"sip:a@b;tag=no", b"yes"),
        (b"Alice Smith<sip:a@b>;TAG=t", b"Alice Smith", b"sip:a@b", b"t"),
        ("Jürgen <sip:j@b>".encode(), "Jürgen".encode(), b"sip:j@b", b""),
        (b'""<sip:a@b>', b'""', b"sip:a@b", b""),
        (b"A\r\n B\r\n <sip:a@b>\r\n ;tag=f", b"A B", b"sip:a@b", b"f"),
        (b"<sip:a@[2001:db8::1]:5060;lr>", b"", b"sip:a@[2001:db8::1]:5060;lr", b""),
        (b"<tel:+1-201-555-0123>;tag=a", b"", b"tel:+1-201-555-0123", b"a"),
    ],
)
def test_name_addr(value, display, uri, tag):
    parsed = parse_name_addr_untrusted(value)
    assert (parsed.display, parsed.uri, parsed.tag) == (display, uri, tag)
    again = parse_name_addr_untrusted(parsed.to_bytes())
    assert (again.display, again.uri, again.params) == (display, uri, parsed.params)


def test_name_addr_params_and_q():
    parsed = parse_name_addr_untrusted(b'<sip:a@b>;q=0.7;+sip.instance="<urn:uuid:1>";expires=60;lr')
    assert parsed.q == 0.7
    assert parsed.param(b"+SIP.instance") == b'"<urn:uuid:1>"'
    assert (parsed.param(b"lr"), parsed.param(b"none")) == (b"", None)
    assert parse_name_addr_untrusted(b"<sip:a@b>").q == 1.0
    assert parse_name_addr_untrusted(b"<sip:a@b>;q=7").q == 1.0
    assert NameAddr(b'"x"', b"sip:a", [(b"a", None), (b"b", b"c")]).to_bytes() == b'"x" <sip:a>;a;b=c'


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"*",
        b"sip:",
        b"alice",
        b'"Mr. J. User <sip:j.user@example.com>',
        b"< sip:a@b >",
        b"<sip:a b>",
        b"<>",
        b"<sip:a@b",
        b"sip:a@b?Route=x",
        b"sip:a@b, sip:c@d",
        b"Bell, Alexander <sip:a@b>;tag=43",
        b'a"b" <sip:a@b>',
        b"<sip:a@b>;;",
        b"<sip:a@b> tag=1",
        b"<sip:a@b>, <sip:c@d>",
        b'<sip:a@b>;x="',
    ],
)
def test_bad_name_addr(value):
    with pytest.raises(BadMessage) as caught:
        parse_name_addr_untrusted(value)
    assert caught.value.status == 400


# --- CSeq, RAck, methods ---


def test_cseq_and_rack():
    assert parse_cseq_untrusted(b"0009\r\n  INVITE") == (9, "INVITE")
    assert parse_cseq_untrusted(b"2147483647 FOO") == (2147483647, "FOO")
    assert parse_cseq_untrusted(b"0" * 5000 + b"1 BYE") == (1, "BYE")
    assert parse_rack_untrusted(b"776656 1 INVITE") == (776656, 1, "INVITE")


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"1",
        b"INVITE",
        b"1 INVITE x",
        b"-1 INVITE",
        b"+1 BYE",
        b"1_0 BYE",
        b"2147483648 BYE",
        b"1 B(YE",
        b"x BYE",
        b"9" * 5000 + b" BYE",
        b"\xb2 BYE",
    ],
)
def test_bad_cseq(value):
    with pytest.raises(BadMessage):
        parse_cseq_untrusted(value)
    with pytest.raises(BadMessage):
        parse_rack_untrusted(b"1 " + value)


def test_methods_are_case_sensitive_tokens():
    assert method_name(b"INVITE") == "INVITE" and method_name(b"invite") == "invite"
    for bad in (b"", b"IN VITE", b"INV\xc3\x8fTE", b"A/B"):
        with pytest.raises(BadMessage):
            method_name(bad)


@FUZZ
@given(SPECIAL)
def test_only_bad_message_comes_out(value):
    for parser in (parse_via_untrusted, parse_name_addr_untrusted, parse_cseq_untrusted, parse_rack_untrusted):
        for text in (value, b"SIP/2.0/UDP h" + value, b"<sip:a@b>" + value, b"1 " + value):
            try:
                parser(text)
            except BadMessage as bad:
                assert bad.status == 400 and bad.reason.isascii()


@pytest.mark.parametrize(
    "value", [b"SIP/2.0/UDP [2001:db8::1]:5060;branch=z9;rport=1", b'"A, \\"b" <sip:a@b;c>;tag="x;y"', b"12 INVITE"]
)
def test_every_prefix_and_junk(value):
    for parser in (parse_via_untrusted, parse_name_addr_untrusted, parse_cseq_untrusted, parse_rack_untrusted):
        for text in [value[:end] for end in range(len(value))] + [
            value + junk for junk in (b"\0", b"\xff", b"<", b'"')
        ]:
            try:
                parser(text)
            except BadMessage as bad:
                assert bad.status == 400

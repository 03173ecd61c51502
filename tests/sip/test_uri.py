"""URIs: parsing, changing, comparing (RFC 3261 section 19.1)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.sip.errors import BadMessage
from proxy.sip.uri import parse_uri_untrusted, same_uri, unescape

FUZZ = settings(derandomize=True, database=None, max_examples=400, deadline=None)


@pytest.mark.parametrize(
    ("raw", "scheme", "user", "password", "host", "port", "params", "headers"),
    [
        (b"sip:h", b"sip", None, None, b"h", None, (), b""),
        (b"sip:a@h", b"sip", b"a", None, b"h", None, (), b""),
        (b"SIPS:a:p@H.Example:5061", b"sips", b"a", b"p", b"h.example", 5061, (), b""),
        (b"sip:a:@h", b"sip", b"a", b"", b"h", None, (), b""),
        (b"sip:[2001:DB8::1]:5060;lr", b"sip", None, None, b"2001:db8::1", 5060, ((b"lr", None),), b""),
        (b"sip:a@[::1]", b"sip", b"a", None, b"::1", None, (), b""),
        (b"sip:*21#@h;X=y;lr", b"sip", b"*21#", None, b"h", None, ((b"X", b"y"), (b"lr", None)), b""),
        (b"sip:a;b=c?d@h?to=x%40y&z=1", b"sip", b"a;b=c?d", None, b"h", None, (), b"to=x%40y&z=1"),
        (b"tel:+1-201;phone-context=x", b"tel", b"+1-201", None, b"", None, ((b"phone-context", b"x"),), b""),
        (b"urn:service:sos", b"urn", b"service:sos", None, b"", None, (), b""),
        (b"soap.beep://192.0.2.103:3002", b"soap.beep", b"//192.0.2.103:3002", None, b"", None, (), b""),
    ],
)
def test_parse(raw, scheme, user, password, host, port, params, headers):
    uri = parse_uri_untrusted(raw)
    assert (uri.scheme, uri.user, uri.password, uri.host, uri.port) == (scheme, user, password, host, port)
    assert (uri.params, uri.headers) == (params, headers)
    assert bytes(uri) == uri.raw == raw


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"sip:",
        b"sip:@h",
        b"sip:a@",
        b"sip:a@h:",
        b"sip:a@h:0",
        b"sip:a@h:65536",
        b"sip:a@h:1234567",
        b"sip:a b@h",
        b"<sip:a@h>",
        b"sip:a@h; lr",
        b"sip:a@h;;lr",
        b"sip:a@h;",
        b"sip:a@b@c",
        b"sip:[::1",
        b"sip:::1",
        b"a@h",
        b"1x:y",
        b"sip:a@h\r\nVia: x",
        b"sip:a\x00@h",
        b'sip:"a"@h',
        b"sip:a@h?<x>",
        b"sip:a@h/x",
        b"tel:",
        b"tel:;x",
        b":x",
    ],
)
def test_bad(raw):
    with pytest.raises(BadMessage) as caught:
        parse_uri_untrusted(raw)
    assert caught.value.status == 400


def test_sip_only():
    assert parse_uri_untrusted(b"sips:h", sip_only=True).scheme == b"sips"
    for raw in (b"tel:+1", b"nobodyKnowsThisScheme:totallyopaquecontent"):
        with pytest.raises(BadMessage) as caught:
            parse_uri_untrusted(raw, sip_only=True)
        assert caught.value.status == 416


def test_asking():
    uri = parse_uri_untrusted(b"sip:a@[2001:db8::1]:5062;LR;transport=tcp")
    assert uri.is_ipv6 and uri.hostport == ("2001:db8::1", 5062)
    assert (uri.param(b"lr"), uri.param(b"Transport"), uri.param(b"x")) == (b"", b"tcp", None)
    assert uri.has(b"lr") and not uri.has(b"ob")
    plain = parse_uri_untrusted(b"sip:h")
    assert not plain.is_ipv6 and plain.hostport == ("h", 0)


def test_changing_makes_another_uri():
    uri = parse_uri_untrusted(b"sip:a:p@h:5062;lr;x=1?q=2")
    assert bytes(uri.without_params(b"lr")) == b"sip:a:p@h:5062;x=1?q=2"
    assert uri.without_params(b"nothing") is uri
    assert bytes(uri.with_param(b"X", b"2")) == b"sip:a:p@h:5062;lr;x=2?q=2"
    assert bytes(uri.with_param(b"ob", None)) == b"sip:a:p@h:5062;lr;x=1;ob?q=2"
    assert bytes(uri.with_user(b"b")) == b"sip:b@h:5062;lr;x=1?q=2"
    assert bytes(uri.with_user(None)) == b"sip:h:5062;lr;x=1?q=2"
    assert bytes(uri.with_host(b"[2001:db8::2]", 5070)) == b"sip:a:p@[2001:db8::2]:5070;lr;x=1?q=2"
    assert bytes(uri.with_host(b"2001:db8::2")) == b"sip:a:p@[2001:db8::2];lr;x=1?q=2"
    assert bytes(uri) == b"sip:a:p@h:5062;lr;x=1?q=2"
    assert bytes(parse_uri_untrusted(b"tel:+1;a=b").without_params(b"a")) == b"tel:+1"
    assert uri == parse_uri_untrusted(bytes(uri)) and len({uri, parse_uri_untrusted(bytes(uri))}) == 1


def test_unescape():
    assert unescape(b"%75se%72") == b"user"
    assert unescape(b"null-%00-null") == b"null-\0-null"
    assert unescape(b"%Z%4") == b"%Z%4"
    assert unescape(b"%2541") == b"%41"


# The examples of RFC 3261 section 19.1.4, and a few at its rules.
@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (b"sip:%61lice@atlanta.com;transport=TCP", b"sip:alice@AtLanTa.CoM;Transport=tcp", True),
        (b"sip:carol@chicago.com", b"sip:carol@chicago.com;newparam=5", True),
        (b"sip:carol@chicago.com", b"sip:carol@chicago.com;security=on", True),
        (b"sip:carol@chicago.com;newparam=5", b"sip:carol@chicago.com;security=on", True),
        (
            b"sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
            b"sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
            True,
        ),
        (
            b"sip:alice@atlanta.com?subject=project%20x&priority=urgent",
            b"sip:alice@atlanta.com?priority=urgent&subject=project%20x",
            True,
        ),
        (b"SIP:ALICE@AtLanTa.CoM;Transport=udp", b"sip:alice@AtLanTa.CoM;Transport=UDP", False),
        (b"sip:bob@biloxi.com", b"sip:bob@biloxi.com:5060", False),
        (b"sip:bob@biloxi.com", b"sip:bob@biloxi.com;transport=udp", False),
        (b"sip:bob@biloxi.com", b"sip:bob@biloxi.com:6000;transport=tcp", False),
        (b"sip:carol@chicago.com", b"sip:carol@chicago.com?Subject=next%20meeting", False),
        (b"sip:bob@phone21.boxesbybob.com", b"sip:bob@192.0.2.4", False),
        (b"sip:carol@chicago.com;security=on", b"sip:carol@chicago.com;security=off", False),
        (b"sip:a@h", b"sips:a@h", False),
        (b"sip:a@h", b"sip:h", False),
        (b"sip:a:x@h", b"sip:a:y@h", False),
        (b"sip:a@h;user=phone", b"sip:a@h", False),
        (b"sip:a@h;maddr=1.2.3.4", b"sip:a@h", False),
        (b"sip:a%40b@h", b"sip:a%40B@h", False),
        (b"sip:a%2fb@h", b"sip:a%2Fb@h", True),
        (b"sip:a%2fb@h", b"sip:a/b@h", False),
        (b"tel:+1-201-555-0123", b"tel:+12015550123", True),
        (b"tel:+12015550123", b"tel:+12015550124", False),
        (b"urn:a", b"urn:b", False),
        (b"urn:a", b"urn:a", True),
    ],
)
def test_same_uri(a, b, same):
    x, y = parse_uri_untrusted(a), parse_uri_untrusted(b)
    assert same_uri(x, y) is same and same_uri(y, x) is same


@FUZZ
@given(st.binary(max_size=60) | st.text("sip:@;=?&%[]<>.:ab01 ", max_size=60).map(str.encode))
def test_only_bad_message_comes_out(raw):
    for text in (raw, b"sip:" + raw, b"sip:a@h" + raw, b"tel:" + raw):
        try:
            uri = parse_uri_untrusted(text)
        except BadMessage as bad:
            assert bad.status == 400
        else:
            assert bytes(uri) == text
            changed = uri.with_param(b"zz", b"1")
            assert parse_uri_untrusted(bytes(changed)).raw == changed.raw


def test_every_prefix_and_junk():
    raw = b"sips:user:pass@[2001:db8::1]:5061;transport=tls;lr?subject=x&y=z"
    for text in [raw[:end] for end in range(len(raw))] + [raw + bytes([junk]) for junk in range(256)]:
        try:
            assert bytes(parse_uri_untrusted(text)) == text
        except BadMessage as bad:
            assert bad.status == 400


def test_long_uris_are_not_cached():
    long = b"sip:" + b"a" * 5000 + b"@h"
    assert parse_uri_untrusted(long) is not parse_uri_untrusted(long)
    assert parse_uri_untrusted(b"sip:cached@h") is parse_uri_untrusted(b"sip:cached@h")

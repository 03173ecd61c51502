"""Datagrams: what is read, what is refused and how, and that nothing else comes out."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.sip.headers import parse_name_addr_untrusted, parse_via_untrusted
from proxy.sip.message import H, Request, Response
from proxy.sip.parser import BadMessage, is_keepalive, parse_untrusted, validate_untrusted
from proxy.sip.sdp import BadSdp, extract_sdp, parse_sdp_untrusted
from proxy.sip.uri import parse_uri_untrusted

FUZZ = settings(derandomize=True, database=None, max_examples=400, deadline=None)

VIA = b"Via: SIP/2.0/UDP h;branch=z9hG4bK1\r\n"
REST = b"From: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\nCall-ID: i\r\n"
GOOD = b"OPTIONS sip:c@d SIP/2.0\r\n" + VIA + REST + b"CSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nl: 3\r\n\r\nxyz"


def read(data: bytes) -> Request:
    parsed = parse_untrusted(data)
    assert isinstance(parsed, Request)
    return parsed


def refused(data: bytes) -> BadMessage:
    with pytest.raises(BadMessage) as caught:
        parse_untrusted(data)
    return caught.value


def test_request():
    m = read(GOOD)
    assert (m.method, m.uri, m.version, m.body) == ("OPTIONS", b"sip:c@d", b"SIP/2.0", b"xyz")
    assert m.ids == [H.VIA, H.FROM, H.TO, H.CALL_ID, H.CSEQ, H.MAX_FORWARDS, H.CONTENT_LENGTH]
    assert m.to_bytes() == GOOD
    validate_untrusted(m)


@pytest.mark.parametrize(
    ("line", "code", "reason"),
    [
        (b"SIP/2.0 200 OK", 200, b"OK"),
        (b"SIP/2.0 180 ", 180, b""),
        (b"SIP/2.0 180", 180, b""),
        (b"SIP/2.0 486 Busy  Here ", 486, b"Busy  Here "),
        (b"sip/2.0 699 x", 699, b"x"),
        ("SIP/2.0 200 но".encode(), 200, "но".encode()),
    ],
)
def test_responses(line, code, reason):
    for eol in (b"\r\n", b"\n"):
        data = line + eol + b"l: 0" + eol + eol
        m = parse_untrusted(data)
        assert isinstance(m, Response)
        assert (m.code, m.reason, m.to_bytes()) == (code, reason, data)


@pytest.mark.parametrize(
    "line",
    [
        b"SIP/2.0 99 x",
        b"SIP/2.0 099 x",
        b"SIP/2.0 700 x",
        b"SIP/2.0 4294967301 x",
        b"SIP/2.0 2x0 x",
        b"SIP/2.0 -20 x",
        b"SIP/2.0 ",
        b"SIP/2.0",
        b"SIP/3.0 200 OK",
        b"SIP/2.0  200 OK",
        b"SIP/2.0 200\tOK",
    ],
)
def test_bad_responses_are_never_answered(line):
    bad = refused(line + b"\r\n" + VIA + REST + b"CSeq: 1 OPTIONS\r\n\r\n")
    assert bad.status == 0 and bad.partial is None


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"OPTIONS  sip:c@d SIP/2.0", 400),
        (b"OPTIONS sip:c@d  SIP/2.0", 400),
        (b"OPTIONS sip:c@d SIP/2.0 ", 400),
        (b" OPTIONS sip:c@d SIP/2.0", 400),
        (b"OPTIONS  SIP/2.0", 400),
        (b"OPTIONS sip:c@d", 400),
        (b"OPTIONS sip:c@d HTTP/1.1", 400),
        (b"OPT(IONS sip:c@d SIP/2.0", 400),
        (b"OPTIONS sip:c@d SIP/7.0", 505),
        (b"OPTIONS sip:c@d SIP/2.1", 505),
        (b"OPTIONS sip:c@d SIP/", 400),
        (b"OPTIONS\tsip:c@d\tSIP/2.0", 400),
    ],
)
def test_bad_request_lines_can_be_answered(line, status):
    for eol in (b"\r\n", b"\n"):
        bad = refused(GOOD.replace(b"OPTIONS sip:c@d SIP/2.0", line).replace(b"\r\n", eol))
        assert bad.status == status
        assert bad.partial is not None and bad.partial.call_id == b"i"
        assert str(status) in str(bad)


def test_lower_case_version_is_sip():
    m = read(GOOD.replace(b"SIP/2.0\r\nVia", b"sip/2.0\r\nVia"))
    assert m.version == b"sip/2.0"
    validate_untrusted(m)


@pytest.mark.parametrize(
    "data", [b"", b"\r\n", b"\r\n\r\n\r\n", b"\0\0\0\0", b"x", b"\xff" * 100, b"GET / HTTP/1.1\r\n\r\n"]
)
def test_what_is_no_sip(data):
    bad = refused(data)
    assert bad.partial is None


def test_keepalives():
    assert all(is_keepalive(data) for data in (b"\r\n", b"\r\n\r\n", b"\0", b"\0\0\0\0"))
    assert not any(is_keepalive(data) for data in (b"", b"\r", b"\0" * 5, b"\r\n\r\n\r\n", GOOD))


@pytest.mark.parametrize(
    ("length", "body", "kept"),
    [
        (b"3", b"xyz", b"xyz"),
        (b"3", b"xyz\r\njunk", b"xyz"),
        (b"0", b"xyz", b""),
        (b"0003", b"xyz", b"xyz"),
        (b"3 \t", b"xyz", b"xyz"),
    ],
)
def test_content_length(length, body, kept):
    m = read(GOOD.replace(b"l: 3\r\n\r\nxyz", b"l: " + length + b"\r\n\r\n" + body))
    assert m.body == kept
    assert m.to_bytes() == GOOD.replace(b"l: 3\r\n\r\nxyz", b"l: " + length + b"\r\n\r\n" + kept)


@pytest.mark.parametrize("length", [b"4", b"9999", b"-1", b"+3", b"", b"x", b"1_0", b"3, 3", b"9" * 4301, b"\xb2"])
def test_bad_content_length(length):
    data = GOOD.replace(b"l: 3", b"Content-Length: " + length)
    bad = refused(data)
    assert bad.status == 400 and bad.partial is not None and b"Content-Length" in bad.reason
    bad = refused(data.replace(b"OPTIONS sip:c@d SIP/2.0", b"SIP/2.0 200 OK"))
    assert bad.status == 0 and bad.partial is None


def test_two_content_lengths_are_refused_even_when_equal():
    assert refused(GOOD.replace(b"l: 3", b"l: 3\r\nContent-Length: 3")).status == 400


def test_without_content_length_the_rest_is_body():
    m = read(GOOD.replace(b"l: 3\r\n", b"") + b"\r\nmore\0")
    assert m.body == b"xyz\r\nmore\0"


def test_leading_crlf_is_skipped():
    assert read(b"\r\n\r\n" + GOOD).to_bytes() == GOOD


@pytest.mark.parametrize(
    "change",
    [
        (b"Call-ID: i", b"Call-ID: i\r\n folded on\r\n\t and on"),
        (b"Call-ID: i", b"Call-ID: i\r\n  "),
        (b"Call-ID: i", b"call-id \t:i"),
        (b"Call-ID: i", b"I:\r\n i"),
        (b"Call-ID: i", b"Call-ID: i\nX-Bare: lf"),
        (b"Call-ID: i", b"Call-ID: i\n folded"),
        (b"Call-ID: i", b"Call-ID: i\r\nX-Empty:"),
        (b"Call-ID: i", b"Call-ID: i\r\nX-Binary: \x00\xff\x80"),
        (b"\r\n", b"\n"),
        (b"\r\n\r\n", b"\n\r\n"),
        (b"\r\n\r\n", b"\r\n\n"),
        (b"l: 3\r\n\r\n", b"l: 3\n\n"),
    ],
)
def test_unusual_lines_round_trip(change):
    data = GOOD.replace(*change)
    assert data != GOOD
    m = read(data)
    assert m.to_bytes() == data
    assert (m.via.branch, m.cseq, m.body, m.get(H.CONTENT_LENGTH)) == (b"z9hG4bK1", 1, b"xyz", b"3")
    validate_untrusted(m)


def test_a_bare_lf_cannot_hide_a_header():
    m = read(GOOD.replace(b"Call-ID: i", b"Call-ID: i\nRoute: <sip:evil>"))
    assert m.values(H.ROUTE) == [b"<sip:evil>"] and m.call_id == b"i"


@pytest.mark.parametrize(
    "change",
    [
        (b"Call-ID: i", b"Call-ID: i\rRoute: <sip:evil>"),
        (b"Call-ID: i", b"Call-ID: i\r"),
        (b"Call-ID: i", b"Call-ID: i\r\nno colon here"),
        (b"Call-ID: i", b"Call-ID: i\r\n: no name"),
        (b"Call-ID: i", b"Call-ID: i\r\nBad Name: x"),
        (b"Call-ID: i", b"Call-ID: i\r\nB\xc3\xa4d: x"),
        (b"SIP/2.0\r\nVia", b"SIP/2.0\r\n Via: folded first\r\nVia"),
        (b"\r\n\r\nxyz", b"\r\n"),
        (b"\r\n\r\nxyz", b""),
    ],
)
def test_malformed_lines_are_refused_with_400(change):
    data = GOOD.replace(*change)
    assert data != GOOD
    bad = refused(data)
    assert bad.status == 400 and bad.partial is not None and bad.partial.cseq == 1
    as_response = refused(data.replace(b"OPTIONS sip:c@d SIP/2.0", b"SIP/2.0 200 OK"))
    assert as_response.status == 0


@pytest.mark.parametrize("missing", [b"Via", b"From", b"To", b"Call-ID", b"CSeq"])
def test_without_the_headers_of_a_response_there_is_no_partial(missing):
    lines = [line for line in GOOD.split(b"\r\n") if not line.startswith(missing + b":")]
    m = read(b"\r\n".join(lines))
    with pytest.raises(BadMessage, match="missing") as caught:
        validate_untrusted(m)
    assert caught.value.status == 400 and caught.value.partial is None
    assert refused(b"\r\n".join(lines).replace(b"l: 3", b"l: 99")).partial is None


def test_ack_is_never_answered():
    ack = GOOD.replace(b"OPTIONS", b"ACK")
    bad = refused(ack.replace(b"l: 3", b"l: 99"))
    assert bad.status == 0 and bad.partial is None
    with pytest.raises(BadMessage) as caught:
        validate_untrusted(read(ack.replace(b"1 ACK", b"1 INVITE")))
    assert caught.value.status == 0


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        (b"sip:c@d SIP", b"<sip:c@d> SIP", 400),
        (b"sip:c@d SIP", b"sip:c@d?Route=x SIP", 400),
        (b"sip:c@d SIP", b"sip:c@d:0 SIP", 400),
        (b"sip:c@d SIP", b"nosuch:thing SIP", 416),
        (b"sip:c@d SIP", b"urn:service:sos SIP", 416),
        (b"CSeq: 1 OPTIONS", b"CSeq: 1 INVITE", 400),
        (b"CSeq: 1 OPTIONS", b"CSeq: 2147483648 OPTIONS", 400),
        (b"CSeq: 1 OPTIONS", b"CSeq: OPTIONS", 400),
        (b"CSeq: 1 OPTIONS", b"CSeq: 1 OPTIONS\r\nCSeq: 1 OPTIONS", 400),
        (b"Call-ID: i", b"Call-ID: i\r\ni: j", 400),
        (b"Call-ID: i", b"Call-ID:", 400),
        (b"From: <sip:a@b>", b"From: < sip:a@b >", 400),
        (b"From: <sip:a@b>", b"From: <sip:a@b:99999>", 400),
        (b"To: <sip:c@d>", b'To: "c <sip:c@d>', 400),
        (b"To: <sip:c@d>", b"To: <sip:c@d>\r\nt: <sip:e@f>", 400),
        (b"Max-Forwards: 70", b"Max-Forwards: 256", 400),
        (b"Max-Forwards: 70", b"Max-Forwards: -1", 400),
        (b"Max-Forwards: 70", b"Max-Forwards: " + b"9" * 5000, 400),
        (b"Max-Forwards: 70", b"Max-Forwards:", 400),
        (b"Max-Forwards: 70", b"Max-Forwards: 70\r\nMax-Forwards: 70", 400),
        (b"Max-Forwards: 70", b"Max-Forwards: 70\r\nSubject", 400),
        (b"Via: SIP/2.0/UDP h;", b"Via: SIP/2.0/UDP h;;", 400),
    ],
)
def test_validate_refuses(old, new, status):
    data = GOOD.replace(old, new)
    assert data != GOOD
    m = read(data)
    with pytest.raises(BadMessage) as caught:
        validate_untrusted(m)
    assert caught.value.status == status
    can_be_answered = not new.startswith(b"Via") and new != b"Call-ID:"
    assert caught.value.partial is (m if can_be_answered else None)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"sip:c@d SIP", b"tel:+12015550123 SIP"),
        (b"sip:c@d SIP", b"sips:[2001:db8::1]:5061;transport=tcp SIP"),
        (b";branch=z9hG4bK1", b""),
        (b";tag=1", b""),
        (b"Max-Forwards: 70\r\n", b""),
        (b"Max-Forwards: 70", b"Max-Forwards: 0"),
        (b"Max-Forwards: 70", b"Max-Forwards: 000255"),
        (b"Call-ID: i", b"Call-ID: i\r\nContact: sip:a@b"),
        (b"From: <sip:a@b>", b"From: <http://x>"),
        (b"CSeq: 1 OPTIONS", b"CSeq: 0 OPTIONS"),
        (b"CSeq: 1 OPTIONS", b"CSeq: 2147483647 OPTIONS"),
    ],
)
def test_validate_accepts(old, new):
    data = GOOD.replace(old, new)
    assert data != GOOD
    validate_untrusted(read(data))


def test_every_prefix():
    for end in range(len(GOOD)):
        bad = refused(GOOD[:end])
        assert bad.status in (0, 400) and bad.reason


def test_a_64_kib_message():
    data = GOOD.replace(
        b"l: 3\r\n\r\nxyz", b"X-Long: " + b"a" * 30000 + b"\r\nl: 32768\r\n\r\n" + bytes(range(256)) * 128
    )
    m = read(data)
    assert m.to_bytes() == data and len(m.body) == 32768


# --- properties ---

NAMES = st.sampled_from([b"Via", b"v", b"VIA ", b"From", b"t", b"X-Other", b"!odd", b"Content-Type", b"CSeq", b"route"])
VALUES = st.binary(max_size=30).map(lambda b: b.replace(b"\r", b" ").replace(b"\n", b" "))
FOLDS = st.sampled_from([b"", b"", b"", b"\r\n x", b"\r\n\t", b"\n y"])
EOLS = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n"])
HEADER_LINES = st.lists(st.tuples(NAMES, VALUES, FOLDS, VALUES, EOLS), max_size=12)


@FUZZ
@given(HEADER_LINES, st.binary(max_size=60), EOLS)
def test_whatever_is_accepted_comes_back_byte_for_byte(headers, body, eol):
    lines = b"".join(name + b":" + value + fold + more + end for name, value, fold, more, end in headers)
    data = b"MESSAGE sip:a@b SIP/2.0" + eol + lines + b"\r\n" + body
    m = read(data)
    assert m.to_bytes() == data
    assert len(m.lines) == len(headers) == len(m.ids)
    for i, (name, *_) in enumerate(headers):
        assert m.lines[i].startswith(name + b":")


@FUZZ
@given(st.integers(0, len(GOOD)), st.integers(0, 40), st.binary(max_size=20))
def test_mutated_messages_raise_nothing_but_bad_message(at, cut, inserted):
    data = GOOD[:at] + inserted + GOOD[at + cut :]
    try:
        m = parse_untrusted(data)
    except BadMessage:
        return
    assert m.to_bytes() in data
    for name in ("via", "cseq", "cseq_method", "call_id", "from_tag", "to_tag"):
        try:
            getattr(m, name)
        except BadMessage as bad:
            assert bad.status == 400
    if isinstance(m, Request):
        try:
            validate_untrusted(m)
        except BadMessage as bad:
            assert bad.status in (0, 400, 416, 505)


PIECES = st.sampled_from(
    [
        b"SIP/2.0",
        b" ",
        b"\r\n",
        b"\n",
        b"\r",
        b"Via",
        b":",
        b"INVITE",
        b"sip:a@b",
        b"200",
        b"l",
        b"5",
        b";",
        b'"',
        b"\0",
        b"<",
    ]
)


@FUZZ
@given(st.lists(PIECES, max_size=30).map(b"".join) | st.binary(max_size=100))
def test_garbage_raises_nothing_but_bad_message(data):
    try:
        m = parse_untrusted(data)
    except BadMessage:
        return
    assert m.to_bytes() in data


# --- no input is slow ---

HOSTILE = {
    "quotes": b'"' * 65000,
    "escapes": b'"' + b'\\"' * 32000,
    "open quote, backslashes": b'"' + b"\\" * 64999,
    "commas": b"," * 65000,
    "quoted commas": b'",",' * 16000,
    "spaces": b" " * 65000,
    "spaces and commas": b" ," * 32000,
    "semicolons": b";" * 65000,
    "params": b"<sip:a@b>" + b";a=b" * 16000,
    "spaced params": b"<sip:a@b>" + b" ; a = b" * 8000 + b" =",
    "params then spaces": b"<sip:a@b>;a" + b" " * 64000 + b"x",
    "brackets": b"<" * 65000,
    "pairs of brackets": b"<>," * 21000,
    "folds": b"a\r\n " * 16000,
    "colons": b":" * 65000,
    "ats": b"sip:" + b"@" * 65000,
    "escaped user": b"sip:" + b"%41" * 21000 + b"@",
    "uri params": b"sip:h" + b";a=b" * 16000 + b"?<",
    "via params": b"SIP/2.0/UDP h" + b";a=b" * 16000 + b";",
    "via spaces": b"SIP/2.0/UDP" + b" " * 65000,
    "digits": b"9" * 65000,
    "multipart": b"--b\r\n" * 13000,
    "sdp": b"v=0\r\n" + b"a=x\r\n" * 12000 + b"m=",
    "empty sdp lines": b"v=0" + b"\r\n" * 30000 + b"x",
    "header lines": b"a:\r\n" * 16000,
    "header lines of one name": b"Via:,\r\n" * 9000,
    "part headers": b"--b\r\n" + b"c:\r\n " * 10000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_input_costs_linear_time(name):
    """64 KiB in every place a value can stand; what back-tracks takes minutes here, what is linear milliseconds."""
    value = HOSTILE[name]
    began = time.process_time()
    for parser in (parse_name_addr_untrusted, parse_via_untrusted, parse_uri_untrusted, parse_sdp_untrusted):
        try:
            parser(value)
        except (BadMessage, BadSdp):
            pass
    for data in (
        value,
        GOOD.replace(b"Call-ID: i", b"Call-ID: i\r\n" + value),
        GOOD.replace(b"<sip:a@b>", value),
        GOOD.replace(b"SIP/2.0/UDP h", value),
        GOOD.replace(b"sip:c@d", value.replace(b" ", b"+")),
        GOOD.replace(b"l: 3\r\n\r\nxyz", b"c: multipart/mixed;boundary=b\r\n\r\n" + value),
        GOOD.replace(b"l: 3", b"c: multipart/mixed;boundary=" + value),
        GOOD.replace(b"l: 3", b"m: " + value + b"\r\nl: 3"),
    ):
        try:
            m = parse_untrusted(data)
        except BadMessage:
            continue
        m.values(H.VIA), m.values(H.CONTACT), m.get(H.CONTACT), extract_sdp(m)
        for _ in range(3):
            m.pop_value(H.VIA)
        if isinstance(m, Request):
            try:
                validate_untrusted(m)
            except BadMessage:
                pass
    assert time.process_time() - began < 2.0


LIST_VALUES = st.sampled_from(
    [
        b"SIP/2.0/UDP a;branch=z9hG4bK1",
        b'"x, y" <sip:a,b@c>;p="1,2"',
        b"<sip:p;lr>",
        b"SIP / 2.0 / UDP\r\n [::1]:5",
        b"",
        b"\t",
    ]
)
GAPS = st.sampled_from([b"", b" ", b"\r\n ", b"\t \t", b"\n "])
LIST_LINES = st.lists(st.lists(st.tuples(GAPS, LIST_VALUES, GAPS), min_size=1, max_size=4), max_size=4)


@FUZZ
@given(LIST_LINES)
def test_popping_gives_the_values_in_order_and_leaves_other_lines_alone(headers):
    lines = b"".join(
        b"v :" + b",".join(before + value + after for before, value, after in values) + b"\r\nX: y\r\n"
        for values in headers
    )
    m = read(b"ACK sip:a@b SIP/2.0\r\n" + lines + b"\r\n")
    expected = m.values(H.VIA)
    again = m.copy()
    popped = []
    while (value := m.pop_value(H.VIA)) is not None:
        popped.append(value)
        assert [line.strip() for line in read(m.to_bytes()).lines] == [line.strip() for line in m.lines]
    assert popped == expected
    assert [line.strip() for line in m.lines] == [b"X: y"] * len(headers) and H.VIA not in m.ids
    if expected and again.first_value(H.VIA):
        again.replace_first_value(H.VIA, b"NEW")
        assert again.values(H.VIA) == [b"NEW", *expected[1:]]

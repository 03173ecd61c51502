"""NAT tests against what Kamailio says of the same messages, and the contact alias in every shape of Contact."""

import json
from pathlib import Path
from typing import Any

import pytest

from proxy.nat import Transport, add_alias, follow_alias, is_private, nat_uac_test, same_address, take_alias
from proxy.sip.headers import parse_name_addr_untrusted
from proxy.sip.message import Message
from proxy.sip.parser import BadMessage, parse_untrusted
from proxy.sip.uri import parse_uri_untrusted

# 150 messages, and the sum of the bits for which nat_uac_test of Kamailio 5.6.3 returned true. `sdp`: c= lines, "s" at
# session level, "m" in a media section of its own.
RECORDED: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "data" / "nat" / "kamailio-5.6.3.json").read_text()
)
PHONE = ("203.0.113.9", 5060)


def message(
    via: str = "203.0.113.9:5060", contact: str | None = None, sdp: list[str] | None = None, start: str = ""
) -> Message:
    body = ""
    if sdp:
        body = "v=0\r\no=- 1 1 IN IP4 8.8.8.8\r\ns=-\r\n"
        body += "".join(f"c=IN IP{6 if ':' in c else 4} {c[2:]}\r\n" for c in sdp if c[0] == "s") + "t=0 0\r\n"
        for own in [c[2:] for c in sdp if c[0] == "m"] or [""]:
            body += "m=audio 4000 RTP/AVP 0\r\n" + (f"c=IN IP4 {own}\r\n" if own else "")
    lines = [
        start or "OPTIONS sip:x@198.51.100.1 SIP/2.0",
        *(f"Via: SIP/2.0/UDP {sent_by};branch=z9hG4bK1" for sent_by in via.split()),
        "From: <sip:1@a.test>;tag=1\r\nTo: <sip:x@a.test>\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70",
        *([f"Contact: {contact}"] if contact is not None else []),
        f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n\r\n{body}",
    ]
    return parse_untrusted("\r\n".join(lines).encode())


@pytest.mark.parametrize("case", RECORDED, ids=range(len(RECORDED)))
def test_as_kamailio(case: dict[str, Any]) -> None:
    source = (case["source"][0], case["source"][1])
    expected = case["bits"] & 255
    if {c[2:] for c in case["sdp"] if c[0] == "s"} - {"0.0.0.0"}:  # else Kamailio's test 256 is different on purpose
        expected |= case["bits"] & 256
        asked = 511
    else:
        asked = 255
    if "100.127.255.255" in (case["contact"] or ""):  # 5.6.3 has 100.64.0.5 as private and not this one; RFC 6598 both
        assert not case["bits"] & 1
        expected |= 1
    found = nat_uac_test(message(case["via"], case["contact"], case["sdp"]), source, asked)
    if {c[2:] for c in case["sdp"]} >= {"8.8.8.8", source[0]}:  # Kamailio looks at the session's c= only, we at all
        assert case["bits"] & 256
        expected &= ~256
    assert found == expected


def test_the_recording_has_every_bit_both_ways() -> None:
    for bit in (1, 2, 4, 8, 16, 32, 128, 256):
        holding = sum(1 for case in RECORDED if case["bits"] & bit)
        assert 0 < holding < len(RECORDED), bit


@pytest.mark.parametrize("bit", [1, 2, 4, 8, 16, 32, 64, 128, 256, 512])
def test_only_what_is_asked_for(bit: int) -> None:
    everything = message("192.168.1.7:5070", "<sip:1@192.168.1.7:5090>", ["s 192.168.1.7"])
    source = ("10.0.0.1", 40112)
    assert nat_uac_test(everything, source, bit, transport="wss", target=("203.0.113.1", 1)) == bit
    assert nat_uac_test(everything, source, 1023 - bit, transport="wss", target=("203.0.113.1", 1)) == 1023 - bit
    nothing = message(contact="<sip:1@203.0.113.9>", sdp=["s 203.0.113.9"])
    assert nat_uac_test(nothing, PHONE, bit, target=("198.51.100.1", 5060)) == 0
    assert nat_uac_test(nothing, PHONE, 0) == 0


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls", "ws", "wss"])
def test_websocket(transport: Transport) -> None:
    assert nat_uac_test(message(), PHONE, 64, transport=transport) == (64 if "ws" in transport else 0)


def test_ipv6() -> None:
    source = ("2001:db8::9", 5060)
    same = message("[2001:DB8:0::9]:5060", "<sip:1@[2001:db8::9]>", ["s 2001:db8::9"])
    assert nat_uac_test(same, source, 511) == 0
    local = message("[fd00::7]:5060", "<sip:1@[fe80::7]:5062>", ["s fd00::7"])
    assert nat_uac_test(local, source, 511) == 1 + 2 + 4 + 8 + 128 + 256


def test_a_missing_or_malformed_header_holds_for_nothing() -> None:
    for contact in (None, "*", "garbage", "<sip:>", "<tel:1000>"):
        assert nat_uac_test(message(contact=contact), PHONE, 1) == 0
    for contact in (None, "*", "garbage", "<sip:>"):
        assert nat_uac_test(message(contact=contact), PHONE, 128) == 0
    assert nat_uac_test(message(), PHONE, 8 + 256) == 0, "no SDP"
    assert nat_uac_test(message(sdp=["s 0.0.0.0"]), PHONE, 8 + 256) == 0, "a held stream"
    with pytest.raises(BadMessage):
        nat_uac_test(message(via="!"), PHONE, 2)


def test_target_of_a_request() -> None:
    request = message(start="OPTIONS sip:1@203.0.113.9:5062 SIP/2.0")
    assert nat_uac_test(request, PHONE, 512, target=("203.0.113.9", 5062)) == 0
    assert nat_uac_test(request, PHONE, 512, target=("203.0.113.9", 40112)) == 512
    assert nat_uac_test(request, PHONE, 512, target=("203.0.113.1", 5062)) == 512
    assert nat_uac_test(request, PHONE, 512) == 0, "going where it says"


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        ("", 0),
        ("203.0.113.9", 0),
        ("203.0.113.9;rport", 0),
        ("203.0.113.9;rport=5060;received=203.0.113.9", 0),
        ("203.0.113.9;rport=40112", 512),
        ("192.168.1.7;received=203.0.113.9", 512),
    ],
)
def test_target_of_a_response(second: str, expected: int) -> None:
    response = message(via=f"198.51.100.1 {second}".strip(), start="SIP/2.0 200 OK")
    assert nat_uac_test(response, PHONE, 512) == expected


@pytest.mark.parametrize(
    ("host", "private"),
    [
        ("9.255.255.255", False), ("10.0.0.0", True), ("10.255.255.255", True), ("11.0.0.0", False),
        ("172.15.255.255", False), ("172.16.0.0", True), ("172.31.255.255", True), ("172.32.0.0", False),
        ("192.167.255.255", False), ("192.168.0.0", True), ("192.169.0.0", False),
        ("100.63.255.255", False), ("100.64.0.0", True), ("100.127.255.255", True), ("100.128.0.0", False),
        ("192.0.0.2", True), ("192.0.2.1", False), ("169.254.1.1", True), ("127.0.0.1", False),
        ("fc00::1", True), ("fdff::1", True), ("fe80::1", True), ("2001:db8::1", False), ("::1", False),
        ("::ffff:192.168.1.1", True), ("::ffff:8.8.8.8", False), ("phone.test", False), ("", False), ("10", False),
    ],
)  # fmt: skip
def test_private(host: str, private: bool) -> None:
    assert is_private(host) is private


def test_same_address() -> None:
    assert same_address("2001:DB8::0:1", "2001:db8::1")
    assert not same_address("203.0.113.9", "203.0.113.10")
    assert not same_address("phone.test", "203.0.113.9")


V4 = b"alias=203.0.113.9~40112~1"


@pytest.mark.parametrize(
    ("contact", "aliased"),
    [
        (b"<sip:1000@192.168.1.7:5060>", b"<sip:1000@192.168.1.7:5060;%b>"),
        (b"<sip:1000@192.168.1.7>;expires=60;q=0.5", b"<sip:1000@192.168.1.7;%b>;expires=60;q=0.5"),
        (b"<sip:1000@192.168.1.7;transport=udp;ob>", b"<sip:1000@192.168.1.7;transport=udp;ob;%b>"),
        (b"<sip:1000@192.168.1.7;lr?Subject=x&a=b>", b"<sip:1000@192.168.1.7;lr;%b?Subject=x&a=b>"),
        (b"<sip:1000@192.168.1.7?>", b"<sip:1000@192.168.1.7;%b?>"),
        (b'"Doe, J" <sip:1000@192.168.1.7>', b'"Doe, J" <sip:1000@192.168.1.7;%b>'),
        (b"J Doe<sip:1000@192.168.1.7>", b"J Doe<sip:1000@192.168.1.7;%b>"),
        # the URI's text in the display name
        (
            b'"<sip:1000@192.168.1.7>"  <sip:1000@192.168.1.7> ;x="<sip:1000@192.168.1.7>"',
            b'"<sip:1000@192.168.1.7>"  <sip:1000@192.168.1.7;%b> ;x="<sip:1000@192.168.1.7>"',
        ),
        # a bare addr-spec: what follows the semicolon is the header's
        (b"sip:1000@192.168.1.7:5060", b"<sip:1000@192.168.1.7:5060;%b>"),
        (b"sip:1000@192.168.1.7;expires=60", b"<sip:1000@192.168.1.7;%b>;expires=60"),
        (b"  sip:1000@192.168.1.7 ;expires=60", b"<sip:1000@192.168.1.7;%b> ;expires=60"),
        # odd spelling stays
        (b"<SIP:a;b?c=d;alias=x@Phone.TEST:5060;Lr;X>", b"<SIP:a;b?c=d;alias=x@Phone.TEST:5060;Lr;X;%b>"),
        (b"<sips:1000@[FD00::7]:5061>", b"<sips:1000@[FD00::7]:5061;%b>"),
        # somebody's alias is not kept
        (b"<sip:1000@192.168.1.7;alias=10.0.0.1~22~2;x>", b"<sip:1000@192.168.1.7;x;%b>"),
        (b"<sip:1000@192.168.1.7;ALIAS=a;alias>", b"<sip:1000@192.168.1.7;%b>"),
    ],
)
def test_add_alias_and_take_it_again(contact: bytes, aliased: bytes) -> None:
    got = add_alias(contact, ("203.0.113.9", 40112))
    assert got == aliased.replace(b"%b", V4)
    assert add_alias(got, ("203.0.113.9", 40112)).count(V4) == 1
    uri = parse_uri_untrusted(parse_name_addr_untrusted(got).uri)
    bare, alias = take_alias(uri)
    assert alias == ("203.0.113.9", 40112, "udp")
    assert bare.raw == uri.raw.replace(b";" + V4, b"")


@pytest.mark.parametrize("contact", [b"*", b"", b"garbage", b"<tel:+4930>", b"<sip:>", b"<sip:a@b", b"\xff\xfe"])
def test_no_alias_where_none_can_be(contact: bytes) -> None:
    assert add_alias(contact, PHONE) == contact


@pytest.mark.parametrize(
    ("source", "transport", "text"),
    [
        (("2001:db8::9", 40112), "udp", b"[2001:db8::9]~40112~1"),
        (("203.0.113.9", 40112), "tcp", b"203.0.113.9~40112~2"),
        (("203.0.113.9", 40112), "tls", b"203.0.113.9~40112~3"),
        (("203.0.113.9", 40112), "ws", b"203.0.113.9~40112~5"),
        (("203.0.113.9", 1), "wss", b"203.0.113.9~1~6"),
    ],
)
def test_alias_text(source: tuple[str, int], transport: Transport, text: bytes) -> None:
    assert add_alias(b"<sip:1@10.0.0.1>", source, transport) == b"<sip:1@10.0.0.1;alias=" + text + b">"
    uri = parse_uri_untrusted(b"sip:1@10.0.0.1;alias=" + text)
    assert take_alias(uri)[1] == (*source, transport)


def test_an_alias_is_followed_only_to_an_address_that_was_seen() -> None:
    uri = parse_uri_untrusted(b"sip:1000@192.168.1.7;transport=udp;alias=203.0.113.9~40112~1")
    seen = {("203.0.113.9", 40112)}
    bare, addr = follow_alias(uri, seen)
    assert (bare.raw, addr) == (b"sip:1000@192.168.1.7;transport=udp", ("203.0.113.9", 40112))
    for other in ({("203.0.113.9", 40113)}, {("203.0.113.8", 40112)}, set[tuple[str, int]]()):
        assert follow_alias(uri, other) == (bare, None), "not followed, and not passed on either"
    assert follow_alias(bare, seen) == (bare, None)


@pytest.mark.parametrize(
    "value",
    [b"", b"~", b"~~", b"203.0.113.9", b"203.0.113.9~", b"203.0.113.9~40112", b"203.0.113.9~40112~", b"host~5060~1",
     b"203.0.113.9~0~1", b"203.0.113.9~65536~1", b"203.0.113.9~40112~0", b"203.0.113.9~40112~7",
     b"203.0.113.9~40112~11", b"203.0.113.9~-1~1", b"203.0.113.999~1~1", b"[203.0.113.9~1~1", b"[::1~5060~1",
     b"203.0.113.9~40112~1~1", b"x203.0.113.9~40112~1"],
)  # fmt: skip
def test_malformed_aliases_are_taken_off_and_lead_nowhere(value: bytes) -> None:
    uri = parse_uri_untrusted(b"sip:1000@192.168.1.7;alias=" + value + b";x=y")
    assert take_alias(uri) == (parse_uri_untrusted(b"sip:1000@192.168.1.7;x=y"), None)
    flag = parse_uri_untrusted(b"sip:1000@192.168.1.7;alias")
    assert take_alias(flag) == (parse_uri_untrusted(b"sip:1000@192.168.1.7"), None)

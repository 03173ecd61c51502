"""Profiles as ng keys, and the plain view that FreeSWITCH gets."""

from __future__ import annotations

import pytest

from proxy.media.policy import PROFILES, Policy, plain_view, profile_of
from proxy.media.session import Party, Session
from proxy.media.table import addresses
from tests.media.ladder import BROWSER, alice, crypto


def party(session: Session, name: str, **options: object) -> Party:
    return Party(session, name, session.new_tag(f"leg-{name}"), **options)  # type: ignore[arg-type]


@pytest.fixture
def session() -> Session:
    return Session("edge1-1", direct=False, created=0.0, created_epoch=1000.0)


def test_plain_view_keeps_the_address_and_drops_what_only_security_needs() -> None:
    plain = plain_view(BROWSER, "webrtc")
    assert addresses(plain) == addresses(BROWSER) == ((b"198.51.100.11", b"54400"),)
    assert b"m=audio 54400 RTP/AVP 111 0\r\n" in plain
    for gone in (
        b"ice",
        b"fingerprint",
        b"setup",
        b"candidate",
        b"rtcp-mux",
        b"BUNDLE",
        b"mid:",
        b"extmap",
        b"rtcp-fb",
    ):
        assert gone not in plain, gone
    for kept in (b"a=rtpmap:111 opus/48000/2", b"a=fmtp:111", b"a=sendrecv", b"a=rtcp:9"):
        assert kept in plain
    assert plain_view(crypto(alice()), "srtp") == alice()
    assert plain_view(alice(), "rtp") is not None and plain_view(BROWSER, "rtp") == BROWSER


def test_profile_of() -> None:
    assert (profile_of(alice()), profile_of(crypto(alice())), profile_of(BROWSER)) == ("rtp", "srtp", "webrtc")


def test_keys_follow_the_reader(session: Session) -> None:
    policy = Policy(public="pub", lan="lan")
    one, two = party(session, "A", interface="pub"), party(session, "B", interface="lan", profile="webrtc")
    keys = policy.offer_keys(one, two)
    assert keys["direction"] == ("pub", "lan")
    assert {key: keys[key] for key in PROFILES["webrtc"]} == PROFILES["webrtc"] and keys["dtls"] == "passive"
    back = policy.answer_keys(two, one)
    assert "direction" not in back and back["transport_protocol"] == "RTP/AVP" and back["dtls"] == "off"


def test_no_direction_without_interfaces(session: Session) -> None:
    policy = Policy()
    assert policy.interface("public") is None
    assert "direction" not in policy.offer_keys(party(session, "A"), party(session, "B"))


def test_an_ipv6_phone_behind_nat(session: Session) -> None:
    phone = party(session, "A", received=("2001:db8::7", 5060))
    keys = Policy().offer_keys(phone, party(session, "B"))
    assert keys["received_from"] == ("IP6", "2001:db8::7") and keys["flags"][0] == "SIP-source-address"
    assert phone.received_address == "[2001:db8::7]:5060"

"""Session descriptions as phones, browsers and FreeSWITCH 1.10.12 wrote them (tests/data/sdp), and edits of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.sip.message import H, Message, Request, make_request
from proxy.sip.parser import parse_untrusted
from proxy.sip.sdp import (
    BadSdp,
    body_without_origin,
    extract_sdp,
    parse_sdp_untrusted,
    replace_direction,
    replace_origin,
    replace_sdp,
)

FOLDER = Path(__file__).parent.parent / "data" / "sdp"
FILES = {path.stem: path.read_bytes() for path in sorted(FOLDER.glob("*.sdp"))}
READABLE = [name for name in FILES if name != "garbage"]
FUZZ = settings(derandomize=True, database=None, max_examples=400, deadline=None)

A, B = "10.99.0.8", "10.99.0.9"


@pytest.mark.parametrize(
    ("name", "addresses", "direction", "profile", "codecs"),
    [
        ("plain_offer", [(A, 30000)], "sendrecv", "rtp", "PCMU/8000 PCMA/8000 telephone-event/8000"),
        ("plain_offer_relayed", [(A, 30000)], "sendrecv", "rtp", "PCMU/8000 PCMA/8000 telephone-event/8000"),
        ("subset_answer", [(B, 40000)], "sendrecv", "rtp", "PCMA/8000 telephone-event/8000"),
        ("offer_sendonly", [(A, 30000)], "sendonly", "rtp", "PCMU/8000 PCMA/8000 telephone-event/8000"),
        ("offer_inactive", [(A, 30000)], "inactive", "rtp", "PCMU/8000 PCMA/8000 telephone-event/8000"),
        (
            "audio_video",
            [(A, 30000), (A, 30002), (A, 30010), (A, 30020)],
            "sendrecv",
            "rtp",
            "PCMU/8000 telephone-event/8000",
        ),
        ("sdes", [(A, 30000)], "sendrecv", "srtp", "PCMU/8000 PCMA/8000 telephone-event/8000"),
        ("sdes_relayed", [(A, 30000)], "sendrecv", "srtp", "PCMU/8000 PCMA/8000 telephone-event/8000"),
        ("dual_crypto_avp", [(A, 30000)], "sendrecv", "srtp", "PCMU/8000"),
        (
            "webrtc",
            [(A, 30000), (A, 30000)],
            "sendrecv",
            "webrtc",
            "opus/48000/2 red/48000/2 G722/8000 PCMU/8000 PCMA/8000 CN/8000 telephone-event/48000 telephone-event/8000",
        ),
        (
            "multi_codec",
            [(A, 30000)],
            "sendrecv",
            "rtp",
            "G722/8000 PCMU/8000 PCMA/8000 G729/8000 iLBC/8000 AMR-WB/16000/1 telephone-event/8000 CN/8000",
        ),
        ("no_s_line", [(A, 30000)], "sendrecv", "rtp", "PCMU/8000"),
        ("lf_only", [(A, 30000)], "sendrecv", "rtp", "PCMU/8000"),
        ("no_trailing_crlf", [(A, 30000)], "sendrecv", "rtp", "PCMU/8000"),
        ("c_in_media_only", [(A, 30000)], "sendrecv", "rtp", "PCMU/8000"),
        ("ipv6", [("::1", 30000)], "sendrecv", "rtp", "PCMU/8000"),
        ("port0", [], "sendrecv", "rtp", "PCMU/8000"),
        ("big_version", [(A, 30000)], "sendrecv", "rtp", "PCMU/8000"),
        ("unknown_codec_only", [(A, 30000)], "sendrecv", "rtp", "FOO/48000"),
        ("video_only", [(A, 30000)], "sendrecv", "rtp", "H264/90000"),
    ],
)
def test_real_descriptions(name, addresses, direction, profile, codecs):
    sdp = parse_sdp_untrusted(FILES[name])
    assert list(sdp.addresses) == addresses
    assert (sdp.direction, sdp.profile) == (direction, profile)
    assert sdp.codecs() == codecs.split()
    assert sdp.is_hold is (direction in ("sendonly", "inactive"))
    assert sdp.raw == FILES[name] and FILES[name].splitlines()[1] == b"o=" + sdp.origin


def test_a_big_description():
    sdp = parse_sdp_untrusted(FILES["big"])
    assert len(sdp.raw) == 15306 and sdp.media and sdp.addresses


def test_garbage_is_refused():
    with pytest.raises(BadSdp, match="v=0"):
        parse_sdp_untrusted(FILES["garbage"])


def test_webrtc_details():
    sdp = parse_sdp_untrusted(FILES["webrtc"])
    assert sdp.has_ice and sdp.has_dtls and not sdp.has_crypto
    assert [m.type for m in sdp.media] == [b"audio", b"video"]
    assert sdp.media[0].proto == b"UDP/TLS/RTP/SAVPF"
    assert b"setup:actpass" in sdp.media[1].attributes and b"group:BUNDLE 0 1" in sdp.attributes
    assert parse_sdp_untrusted(FILES["sdes"]).has_crypto


def sdp_of(*lines: bytes) -> bytes:
    return b"".join(line + b"\r\n" for line in (b"v=0", b"o=- 1 1 IN IP4 h", *lines))


def test_effective_address_and_direction():
    sdp = parse_sdp_untrusted(
        sdp_of(
            b"c=IN IP4 192.0.2.1/127",
            b"a=sendonly",
            b"m=video 0 RTP/AVP 31",
            b"m=audio 5000/2 RTP/AVP 0",
            b"m=audio 5002 RTP/AVP 0",
            b"c=IN IP6 2001:db8::1",
            b"a=recvonly ",
            b"m=image 5004 udptl t38",
            b"c=IN IP4 0.0.0.0",
        )
    )
    assert [m.direction for m in sdp.media] == ["sendonly", "sendonly", "recvonly", "sendonly"]
    assert [m.address for m in sdp.media] == [b"192.0.2.1", b"192.0.2.1", b"2001:db8::1", b"0.0.0.0"]
    assert sdp.addresses == (("192.0.2.1", 5000), ("2001:db8::1", 5002))
    assert sdp.direction == "sendonly" and sdp.is_hold
    assert "video" in repr(sdp)


@pytest.mark.parametrize(
    ("lines", "hold"),
    [
        ((b"c=IN IP4 0.0.0.0", b"m=audio 5000 RTP/AVP 0"), True),
        ((b"c=IN IP6 ::", b"m=audio 5000 RTP/AVP 0"), True),
        ((b"c=IN IP4 0.0.0.0", b"a=ice-ufrag:x", b"m=audio 9 UDP/TLS/RTP/SAVPF 0"), False),
        ((b"c=IN IP4 192.0.2.1", b"m=audio 5000 RTP/AVP 0", b"a=recvonly"), False),
        ((b"c=IN IP4 192.0.2.1", b"m=audio 5000 RTP/AVP 0", b"a=inactive"), True),
        ((), False),
    ],
)
def test_hold(lines, hold):
    assert parse_sdp_untrusted(sdp_of(*lines)).is_hold is hold


def test_a_description_without_media():
    sdp = parse_sdp_untrusted(b"v=0")
    assert (sdp.origin, sdp.media, sdp.addresses, sdp.codecs(), sdp.direction) == (b"", [], (), [], "sendrecv")
    assert sdp.profile == "rtp"


def test_media_without_any_address_is_nowhere():
    sdp = parse_sdp_untrusted(b"v=0\nm=audio 5000 RTP/AVP 0 77\n")
    assert sdp.addresses == () and sdp.codecs() == ["PCMU/8000", "77"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "v=0"),
        (b"v=1\r\n", "v=0"),
        (b"\r\nv=0\r\n", "v=0"),
        (b"v=0\r\nm=audio\r\n", "line 2: m="),
        (b"v=0\r\nm=audio x RTP/AVP 0\r\n", "line 2.*port"),
        (b"v=0\r\nm=audio 65536 RTP/AVP 0\r\n", "port"),
        (b"v=0\r\nm=audio -1 RTP/AVP 0\r\n", "port"),
        (b"v=0\r\nm=audio 1_0 RTP/AVP 0\r\n", "port"),
        (b"v=0\r\nm=audio 5000/ RTP/AVP 0\r\n", "port"),
        (b"v=0\r\nm=audio " + b"9" * 5000 + b" RTP/AVP 0\r\n", "port"),
        (b"v=0\r\nc=IN IP4\r\n", "line 2: c="),
        (b"v=0\r\n\r\nm=audio 5000 RTP/AVP 0\r\n", "line 2 is not of the form"),
        (b"v=0\r\nm =video 3227 RTP/AVP 31\r\n", "not of the form"),
        (b"v=0\r\n=x\r\n", "not of the form"),
        (b"v=0\r\n\xff=x\r\n", "not of the form"),
    ],
)
def test_bad_descriptions(body, said):
    with pytest.raises(BadSdp, match=said):
        parse_sdp_untrusted(body)


@pytest.mark.parametrize("name", READABLE)
def test_every_prefix_and_junk(name):
    body = FILES[name][:3000]
    for text in [body[:end] for end in range(len(body))] + [body + junk for junk in (b"\0", b"\xff\r\n", b"\r\n\r\n")]:
        try:
            assert parse_sdp_untrusted(text).raw == text
        except BadSdp as bad:
            assert "SDP" in str(bad)


@FUZZ
@given(st.binary(max_size=80) | st.text("v=0\r\nmacobit: 15/", max_size=80).map(str.encode))
def test_only_bad_sdp_comes_out(body):
    for text in (body, b"v=0\r\n" + body, b"v=0\r\nm=audio 1 RTP/AVP 0\r\n" + body):
        try:
            sdp = parse_sdp_untrusted(text)
        except BadSdp:
            continue
        assert isinstance(sdp.addresses, tuple) and isinstance(sdp.codecs(), list) and sdp.profile and sdp.direction
        held = parse_sdp_untrusted(replace_direction(text, "inactive"))
        assert all(m.direction == "inactive" for m in held.media if m.port)
        assert parse_sdp_untrusted(replace_origin(text, b"x 1 1 IN IP4 h")).origin == b"x 1 1 IN IP4 h"


# --- edits ---


def test_replace_origin_touches_nothing_else():
    for name in READABLE:
        body = FILES[name]
        origin = parse_sdp_untrusted(body).origin
        assert replace_origin(body, b"NEW") == body.replace(b"o=" + origin, b"o=NEW", 1)
        assert replace_origin(body, origin) == body
    assert replace_origin(b"v=0\ns=-\nm=audio 1 RTP/AVP 0\no=late\n", b"n") == (
        b"v=0\no=n\ns=-\nm=audio 1 RTP/AVP 0\no=late\n"
    )
    assert replace_origin(b"v=0", b"n") == b"v=0\r\no=n\r\n"


def test_replace_direction():
    body = FILES["offer_sendonly"]
    assert replace_direction(body, "inactive") == body.replace(b"a=sendonly", b"a=inactive")
    assert replace_direction(body, "sendonly") == body
    bare = FILES["plain_offer_relayed"]
    assert replace_direction(bare, "sendonly") == bare + b"a=sendonly\r\n"
    assert replace_direction(FILES["no_trailing_crlf"], "sendonly").endswith(b"RTP/AVP 0\r\na=sendonly\r\n")
    assert replace_direction(FILES["lf_only"], "sendonly").endswith(b"PCMU/8000\na=sendonly\n")


def test_replace_direction_in_every_active_section():
    body = sdp_of(
        b"a=sendonly",
        b"a=tool:x",
        b"m=audio 5000 RTP/AVP 0",
        b"a=recvonly",
        b"a=ptime:20",
        b"a=sendrecv",
        b"m=video 0 RTP/AVP 31",
        b"a=inactive",
        b"m=video 5002 RTP/AVP 31",
        b"a=mid:2",
    )
    assert replace_direction(body, "sendrecv") == sdp_of(
        b"a=tool:x",
        b"m=audio 5000 RTP/AVP 0",
        b"a=sendrecv",
        b"a=ptime:20",
        b"m=video 0 RTP/AVP 31",
        b"a=inactive",
        b"m=video 5002 RTP/AVP 31",
        b"a=mid:2",
        b"a=sendrecv",
    )


def test_body_without_origin():
    a, b = FILES["audio_video"], replace_origin(FILES["audio_video"], b"alice 1 99 IN IP4 10.0.0.1")
    assert a != b and body_without_origin(a) == body_without_origin(b)
    assert body_without_origin(a.replace(b"\r\n", b"\n")) == body_without_origin(a) == body_without_origin(a + b"\r\n")
    assert body_without_origin(a) != body_without_origin(a.replace(b"30000", b"30004"))
    assert b"o=" not in body_without_origin(a)


# --- in messages ---

OFFER = FILES["plain_offer"]


def message(content_type: bytes | None, body: bytes, *extra: tuple[bytes, bytes]) -> Message:
    headers = [] if content_type is None else [(b"Content-Type", content_type)]
    return make_request("INVITE", b"sip:a@b", [*headers, *extra], body)


@pytest.mark.parametrize("kind", [b"application/sdp", b"Application/SDP ; charset=utf-8", b"application / sdp"])
def test_sdp_body(kind):
    m = message(kind, OFFER)
    assert extract_sdp(m) == OFFER
    replace_sdp(m, b"v=0\r\n")
    assert (m.body, m.get(H.CONTENT_LENGTH), m.get(H.CONTENT_TYPE)) == (b"v=0\r\n", b"5", kind)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (b"application/sdp", b""),
        (None, OFFER),
        (b"text/plain", OFFER),
        (b"application/sdpx", OFFER),
        (b"multipart/mixed", b"--b\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n--b--"),
        (b"multipart/mixed;boundary=b", b"--c\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n--c--"),
        (b"multipart/mixed;boundary=b", b"--b\r\nContent-Type: text/plain\r\n\r\nv=0\r\n--b--"),
        (b"multipart/mixed;boundary=b", b"--b--\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n--b--"),
        (b"multipart/mixed;boundary=b", b"--b\r\nContent-Type: application/sdp\r\n--b--"),
        (b"multipart/mixed;boundary=b", b"x--b\r\nContent-Type: application/sdp\r\n\r\nv=0"),
        (b"multipart/mixed;boundary=b", b"--bx\r\nContent-Type: application/sdp\r\n\r\nv=0"),
    ],
)
def test_messages_without_sdp(kind, body):
    m = message(kind, body)
    assert extract_sdp(m) is None
    if body:
        with pytest.raises(ValueError, match="without SDP"):
            replace_sdp(m, OFFER)
        assert m.body == body
    else:
        replace_sdp(m, OFFER)
        assert extract_sdp(m) == OFFER


def test_an_encoded_body_is_not_looked_into():
    assert extract_sdp(message(b"application/sdp", OFFER, (b"Content-Encoding", b"gzip"))) is None
    assert extract_sdp(message(b"application/sdp", OFFER, (b"e", b"identity"))) == OFFER


def test_multipart_from_a_phone():
    data = (FOLDER / "multipart_isup.sip").read_bytes()
    m = parse_untrusted(data)
    assert isinstance(m, Request) and m.to_bytes() == data
    found = extract_sdp(m)
    assert found is not None
    assert parse_sdp_untrusted(found).addresses == ((A, 30000),)
    start = data.index(b"v=0")
    assert data[start - 4 : start] == b"\r\n\r\n" and found == data[start : data.index(b"\r\n--bnd", start)]
    replace_sdp(m, found)
    assert m.to_bytes() == data
    new = FILES["webrtc"]
    replace_sdp(m, new)
    assert extract_sdp(m) == new
    assert m.body == data.partition(b"\r\n\r\n")[2].replace(found, new)
    assert m.get(H.CONTENT_LENGTH) == b"%d" % len(m.body)


# What FreeSWITCH makes of it: the description twice, a Content-Length in every part header.
FREESWITCH = (
    b"--5e6f89fa-c7a2\r\nContent-Type: application/sdp\r\nContent-Length: %d\r\n\r\n%b\r\n"
    b"--5e6f89fa-c7a2\r\nContent-Type: application/isup\r\nContent-Length: 7\r\n\r\n\x01\x00\x0d\x0a\xffF\n\r\n"
    b"--5e6f89fa-c7a2\r\nContent-Type: application/sdp\r\nContent-Length: %d\r\n\r\n%b\r\n"
    b"--5e6f89fa-c7a2--\r\n"
)


def test_multipart_from_freeswitch_has_the_description_twice():
    m = message(b'multipart/mixed; boundary="5e6f89fa-c7a2"', FREESWITCH % (len(OFFER), OFFER, len(OFFER), OFFER))
    assert extract_sdp(m) == OFFER
    new = FILES["sdes"]
    replace_sdp(m, new)
    assert m.body == FREESWITCH % (len(new), new, len(new), new)
    again = parse_untrusted(m.to_bytes())
    assert extract_sdp(again) == new


TYPE = b"Content-Type: application/sdp\r\n\r\n"


@pytest.mark.parametrize(
    ("before", "found", "after"),
    [
        (b"preamble\r\n--b\r\nc: application/sdp\r\n\r\n", b"v=0\r\n", b"\r\n--b--\r\nepilogue"),
        (b"--b\nContent-Type: application/sdp\n\n", b"v=0", b"\n--b--"),
        (b"--b  \r\nContent-Type:\r\n application/sdp;x=y\r\nX: y\r\n\r\n", b"v=0", b"\r\n--b--"),
        (b"--b\r\n" + TYPE, b"v=0\r\ns=never closed", b""),
        (b"--b\r\n" + TYPE, b"v=0\r\na=x --b\r\n--bc", b"\r\n--b--"),
        (b"--b\r\n" + TYPE, b"", b"\r\n--b--"),
        (b"--b\r\n--b\r\n" + TYPE, b"v=0", b"\r\n--b"),
        (b"--b\r\nX: y\r\n\r\n--x\r\n--b\r\n" + TYPE, b"v=0", b"\r\n--b--"),
    ],
)
def test_multipart_shapes(before, found, after):
    m = message(b"multipart/mixed;boundary=b", before + found + after)
    assert extract_sdp(m) == found
    replace_sdp(m, b"NEW")
    assert m.body == before + b"NEW" + after
    assert extract_sdp(m) == b"NEW"


@FUZZ
@given(
    st.lists(
        st.sampled_from([b"--b", b"--", b"\r\n", b"\n", b"Content-Type: application/sdp", b"v=0", b"x", b" "]),
        max_size=20,
    )
)
def test_any_multipart_body(pieces):
    body = b"".join(pieces)
    m = message(b"multipart/mixed;boundary=b", body)
    found = extract_sdp(m)
    assert found is None or found in body
    if found is not None:
        replace_sdp(m, found)
        assert extract_sdp(m) == found


def test_every_prefix_of_a_multipart_body():
    body = FREESWITCH % (len(OFFER), OFFER, len(OFFER), OFFER)
    for end in range(len(body)):
        found = extract_sdp(message(b"multipart/mixed;boundary=5e6f89fa-c7a2", body[:end]))
        assert found is None or (OFFER + b"\r\n--5e6f89fa-c7a2").startswith(found)

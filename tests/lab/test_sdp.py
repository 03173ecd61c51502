"""The phones' SDP: printed, read back, and the direction tables of RFC 3264."""

from __future__ import annotations

import pytest

from lab import sdp

HERE = ("192.168.1.2", 20000)


@pytest.mark.parametrize("direction", sdp.DIRECTIONS)
def test_what_is_printed_is_read(direction: str) -> None:
    media = sdp.read(sdp.describe(HERE, session=7, version=3, direction=direction))
    assert media == sdp.Media(HERE, direction, (0, 8, 101), "RTP/AVP", ("7", 3))
    assert media.sends == direction.startswith("send")
    assert media.receives == (direction in ("sendrecv", "recvonly"))


def test_media_overrides_session_and_sendrecv_is_the_default() -> None:
    session = "v=0\no=a 1 2 IN IP4 h\ns=-\nc=IN IP4 198.51.100.1\na=sendonly\nt=0 0\n"
    text = session + "m=video 9 RTP/AVP 96\nm=audio 30000 RTP/SAVP 0\n"
    assert sdp.read(text).remote == ("198.51.100.1", 30000)
    assert sdp.read(text).direction == "sendonly"
    assert sdp.read(text).profile == "RTP/SAVP"
    own = text + "c=IN IP4 10.0.0.1\na=inactive\n"
    assert sdp.read(own).remote == ("10.0.0.1", 30000)
    assert sdp.read(own).direction == "inactive"
    assert sdp.read(text.replace("a=sendonly\n", "")).direction == "sendrecv"


def test_a_refused_line_has_no_destination() -> None:
    media = sdp.read(sdp.describe(("10.0.0.1", 0), session=1, version=1))
    assert (media.remote, media.sends, media.receives) == (None, False, False)


@pytest.mark.parametrize(
    "text", ["", "v=0\r\n", "v=0\r\nm=audio 1 RTP/AVP 0\r\n", "m=audio x RTP/AVP 0\r\nc=IN IP4 1\r\n"]
)
def test_what_a_phone_cannot_use(text: str) -> None:
    with pytest.raises(ValueError, match="the SDP has no"):
        sdp.read(text)


@pytest.mark.parametrize(
    ("offered", "free", "holding"),
    [
        ("sendrecv", "sendrecv", "sendonly"),
        ("sendonly", "recvonly", "inactive"),
        ("recvonly", "sendonly", "sendonly"),
        ("inactive", "inactive", "inactive"),
    ],
)
def test_answers(offered: str, free: str, holding: str) -> None:
    media = sdp.read(sdp.describe(HERE, session=1, version=1, direction=offered))
    assert sdp.answer_direction(media, holding=False) == free
    assert sdp.answer_direction(media, holding=True) == holding


@pytest.mark.parametrize(
    ("peer", "free", "holding"),
    [
        (None, "sendrecv", "sendonly"),
        ("sendrecv", "sendrecv", "sendonly"),
        ("recvonly", "sendrecv", "sendonly"),
        ("sendonly", "recvonly", "inactive"),
        ("inactive", "recvonly", "inactive"),
    ],
)
def test_offers(peer: str | None, free: str, holding: str) -> None:
    media = None if peer is None else sdp.read(sdp.describe(HERE, session=1, version=1, direction=peer))
    assert sdp.offer_direction(media, holding=False) == free
    assert sdp.offer_direction(media, holding=True) == holding

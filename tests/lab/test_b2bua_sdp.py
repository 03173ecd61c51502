"""What FreeSWITCH does to an SDP: the parser on every prefix, the printer, and the offer/answer engine's oddities one
by one."""

from __future__ import annotations

import random

import pytest

from lab.b2bua_sdp import Negotiator, Sdp, SdpError

OFFER = (
    "v=0\r\no=alice 1234 1 IN IP4 10.0.0.8\r\ns=x\r\nc=IN IP4 10.0.0.8\r\nt=0 0\r\n"
    "m=audio 30000 RTP/AVP 9 0 8 101\r\na=sendrecv\r\na=ptime:20\r\na=rtpmap:9 G722/8000\r\n"
    "a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\n"
    "a=rtpmap:99 gone/8000\r\nm=video 0 RTP/AVP 96 97\r\na=rtpmap:96 VP8/90000\r\na=mid:1\r\n"
)


def described(name: str, media: str, version: int = 1) -> str:
    """A description with one m-line."""
    return f"v=0\r\no={name} 7 {version} IN IP4 10.0.0.9\r\ns=-\r\nc=IN IP4 10.0.0.9\r\nt=0 0\r\n{media}"


def negotiator() -> Negotiator:
    """An engine with a fixed seed."""
    return Negotiator("10.0.0.3", random.Random(1))


def test_printing() -> None:
    assert Sdp.parse_untrusted(OFFER).text == (
        "v=0\r\no=alice 1234 1 IN IP4 10.0.0.8\r\ns=x\r\nc=IN IP4 10.0.0.8\r\nt=0 0\r\n"
        "m=audio 30000 RTP/AVP 9 0 8 101\r\na=rtpmap:9 G722/8000\r\na=rtpmap:101 telephone-event/8000\r\n"
        "a=fmtp:101 0-16\r\na=ptime:20\r\nm=video 0 RTP/AVP 96\r\n"
    )


def test_every_prefix_and_junk() -> None:
    """A cut description is refused or shorter; bytes behind it are refused or one more line."""
    whole = Sdp.parse_untrusted(OFFER)
    refused = 0
    for end in range(len(OFFER)):
        try:
            part = Sdp.parse_untrusted(OFFER[:end])
        except SdpError:
            refused += 1
            continue
        assert len(part.media) <= len(whole.media)
        assert part.text.startswith("v=0\r\no=alice 1234 ")
    assert refused > 60
    for junk in ("junk", "\x00", "a", "=", "M=audio 1 RTP/AVP 0"):
        with pytest.raises(SdpError):
            Sdp.parse_untrusted(OFFER + junk)


def test_altered_text_raises_only_sdp_error() -> None:
    rng = random.Random(3)
    survived = 0
    for _ in range(3000):
        text = list(OFFER)
        for _ in range(rng.randint(1, 3)):
            text[rng.randrange(len(text))] = chr(rng.randrange(1, 300))
        try:
            survived += bool(Sdp.parse_untrusted("".join(text)).text)
        except SdpError:
            continue
    assert 0 < survived < 3000


def test_version_one_becomes_random_and_rises_by_one_per_change() -> None:
    leg = negotiator()
    leg.set_own(described("bob", "m=audio 4000 RTP/AVP 0\r\n"))
    first = Sdp.parse_untrusted(leg.offer())
    leg.set_remote(described("alice", "m=audio 3000 RTP/AVP 0\r\n"))
    leg.answered()
    leg.set_own(described("bob", "m=audio 4000 RTP/AVP 0\r\n", 2))
    assert Sdp.parse_untrusted(leg.offer()).version == first.version > 2**32
    leg.set_own(described("bob", "m=audio 4002 RTP/AVP 0\r\n", 3))
    assert Sdp.parse_untrusted(leg.offer()).version == first.version + 1
    leg.refused()
    assert Sdp.parse_untrusted(leg.offer()).version == first.version + 1


def test_other_versions_are_kept_and_loopback_is_replaced() -> None:
    leg = negotiator()
    leg.set_own("v=0\r\no=- 5 7 IN IP4 127.0.0.1\r\nm=audio 4000 RTP/AVP 0\r\nc=IN IP4 10.0.0.9\r\n")
    assert leg.offer().splitlines()[:4] == ["v=0", "o=- 5 7 IN IP4 10.0.0.3", "s=-", "t=0 0"]


@pytest.mark.parametrize(
    "offered, answered, shown",
    [
        ("sendrecv", "recvonly", "sendrecv"),
        ("sendrecv", "sendonly", "sendonly"),
        ("sendonly", "recvonly", "recvonly"),
        ("recvonly", "sendonly", "sendonly"),
        ("inactive", "inactive", "inactive"),
    ],
)
def test_direction_of_an_answer(offered: str, answered: str, shown: str) -> None:
    """f_directions: what the offerer wants to hear decides whether we send."""
    leg = negotiator()
    leg.set_remote(described("alice", f"m=audio 3000 RTP/AVP 0\r\na={offered}\r\n"))
    leg.set_own(described("bob", f"m=audio 4000 RTP/AVP 0\r\na={answered}\r\n"))
    text = leg.answer()
    assert (f"a={shown}\r\n" in text) if shown != "sendrecv" else ("a=" not in text)


def test_hold_sticks() -> None:
    """e_hold_both: an answer on a leg that was re-INVITEd while on hold says sendonly although the peer said
    sendrecv."""
    leg = negotiator()
    leg.hold = True
    leg.set_own(described("bob", "m=audio 4000 RTP/AVP 0\r\na=recvonly\r\n"))
    assert "a=inactive\r\n" in leg.offer()
    leg.set_remote(described("alice", "m=audio 3000 RTP/AVP 0\r\na=sendrecv\r\n"))
    leg.set_own(described("bob", "m=audio 4000 RTP/AVP 0\r\na=sendrecv\r\n", 2))
    assert "a=sendonly\r\n" in leg.answer()


def test_codecs_follow_the_peers_answer() -> None:
    """f_answer_subset: negotiated payload types first, telephone-event behind them, the rest last."""
    leg = negotiator()
    media = "m=audio 4000 RTP/AVP 9 0 8 101\r\na=rtpmap:101 telephone-event/8000\r\n"
    leg.set_own(described("bob", media))
    assert "RTP/AVP 9 0 8 101\r\n" in leg.offer()
    leg.set_remote(described("alice", "m=audio 3000 RTP/AVP 101 8\r\na=rtpmap:101 telephone-event/8000\r\n"))
    leg.answered()
    assert "RTP/AVP 8 101 9 0\r\n" in leg.offer()


def test_rejected_lines() -> None:
    """f_answer_subset, f_audio_video: three ways to print a refused m-line."""
    leg = negotiator()
    leg.set_remote(
        described(
            "alice",
            "m=audio 3000 RTP/AVP 0\r\nm=video 3002 RTP/AVP 99\r\nm=video 0 RTP/AVP 98\r\nm=text 3004 RTP/AVP 97\r\n",
        )
    )
    leg.set_own(described("bob", "m=audio 4000 RTP/AVP 0\r\nm=video 0 RTP/AVP 99\r\nm=video 4004 RTP/AVP 98\r\n"))
    lines = leg.answer().splitlines()
    assert lines[-3:] == ["m=video 0 RTP/AVP 96", "m=video 0 RTP/AVP 19", "m=text 0 RTP/AVP 19"]


def test_no_description_is_an_error() -> None:
    with pytest.raises(SdpError, match="no session description"):
        negotiator().offer()

"""The query tree, from what a daemon sent."""

from __future__ import annotations

from ng_protocol.querytree import Endpoint
from ng_protocol.replies import query_reply_untrusted
from tests.ng_protocol.samples import QUERY


def test_tree() -> None:
    call = query_reply_untrusted(QUERY)
    assert (call.created, call.created_us, call.last_signal) == (1795498254, 252797, 1795498255)
    tag = call.tags["f"]
    assert (tag.tag, tag.label, tag.via_branch) == ("f", "caller", None)
    assert [(item.tag, item.type) for item in tag.subscriptions] == [("t", "offer/answer")]
    media = tag.medias[0]
    assert (media.index, media.type, media.protocol, media.codec) == (1, "audio", "RTP/SAVP", "PCMA/8000")
    rtp, rtcp = media.streams
    assert media.rtp is rtp
    assert (rtp.is_rtp, rtp.is_rtcp, rtp.learned) == (True, False, True)
    assert (rtcp.is_rtp, rtcp.is_rtcp, rtcp.crypto_suite) == (False, True, None)
    assert (rtp.local_address, rtp.local_port, rtp.last_packet) == ("127.0.0.1", 31010, 1795498254)
    assert rtp.endpoint == Endpoint(address="198.51.100.7", port=4000, family="IPv4")
    assert rtp.advertised_endpoint == Endpoint(address="192.0.2.1", port=4000, family="IPv4")
    assert (rtp.crypto_suite, rtp.ssrc) == ("AES_CM_128_HMAC_SHA1_80", 305419896)
    assert (rtp.received.packets, rtp.received.bytes, rtp.received.errors) == (500, 86000, 1)
    assert rtp.sent is None


def test_a_party_that_has_not_answered() -> None:
    party = query_reply_untrusted(QUERY).tags["<untagged 1>"]
    assert (party.tag, party.via_branch) == ("", "1")
    stream = party.medias[0].streams[0]
    assert (stream.local_port, stream.endpoint) == (None, Endpoint())


def test_quality() -> None:
    ssrc = query_reply_untrusted(QUERY).ssrcs["305419896"]
    assert (ssrc.packets, ssrc.cumulative_loss) == (500, 2)
    assert ssrc.average is not None and ssrc.lowest is not None and ssrc.highest is not None
    assert (ssrc.average.mos, ssrc.average.jitter, ssrc.average.packet_loss, ssrc.average.samples) == (4.3, 3, 1, 4)
    assert ssrc.average.round_trip_time == 1200
    assert (ssrc.lowest.mos, ssrc.lowest.reported_at, ssrc.highest.mos) == (4.0, 1795498260, 4.4)


def test_totals_streams_and_raw() -> None:
    call = query_reply_untrusted(QUERY)
    assert (call.totals.rtp.packets, call.totals.rtcp.bytes) == (500, 400)
    assert [(tag.tag, media.index, stream.local_port) for tag, media, stream in call.streams()] == [
        ("f", 1, 31010),
        ("f", 1, 31011),
        ("", 1, None),
    ]
    assert call.raw["SSRC"]["305419896"]["MOS progression"]["interval"] == 1


def test_endpoints_print_with_brackets_for_ipv6() -> None:
    assert str(Endpoint(address="2001:db8::1", port=4000)) == "[2001:db8::1]:4000"
    assert str(Endpoint(address="192.0.2.1", port=4000)) == "192.0.2.1:4000"


def test_names_with_stray_bytes_survive() -> None:
    call = query_reply_untrusted({"tags": {"a\udcff": {"tag": b"a\xff", "label": b"\x80"}}})
    assert call.tags["a\udcff"].tag == "a\udcff"

"""rtpengine's replies in the words of the control API."""

from ng_protocol import Counters, Endpoint, Media, QueryReply, StatisticsReply, Stream, Tag
from ng_protocol.counters import ClientCounters, ClientStatistics
from ng_protocol.statstree import Current, Interface, Ports, Totals
from proxy.control.streams import codec_chain, node_info, parties, rtp_packets

NOW = 1_700_000_100.0


def stream(*flags: str, packets: int = 0, last: int = int(NOW) - 3, **changes: object) -> Stream:
    fields: dict[str, object] = {
        "local_address": "192.0.2.1", "local_port": 30000, "family": "IPv4", "flags": flags, "last_packet": last,
        "endpoint": Endpoint(address="203.0.113.9", port=4000),
        "received": Counters(packets=packets, bytes=packets * 172),
        "advertised_endpoint": Endpoint(address="10.0.0.9", port=4000),
    }  # fmt: skip
    return Stream(**{**fields, **changes})  # type: ignore[arg-type]


def reply(*streams: Stream, tag: str = "leg-A", key: str | None = None, **media: object) -> QueryReply:
    section = Media(index=1, type="audio", protocol="RTP/AVP", codec="PCMA/8000", streams=streams, **media)  # type: ignore[arg-type]
    return QueryReply(tags={key or tag: Tag(tag=tag, medias=(section,))})


def test_a_stream_in_full() -> None:
    (party,) = parties(reply(stream("RTP", "filled", "confirmed", packets=7), flags=("send", "recv")), NOW, {})
    assert (party.tag, party.role, party.leg) == ("leg-A", "other", "")
    (one,) = party.streams
    assert (one.media, one.kind, one.component, one.protocol) == (1, "audio", "RTP", "RTP/AVP")
    assert (one.local, one.learned, one.advertised) == ("192.0.2.1:30000", "203.0.113.9:4000", "10.0.0.9:4000")
    assert (one.packets, one.bytes, one.errors, one.idle_s) == (7, 7 * 172, 0, 3.0)
    assert (one.codec, one.crypto, one.flags) == ("PCMA/8000", None, ["send", "recv", "filled", "confirmed"])


def test_last_packet_counts_only_beside_packets() -> None:
    """While nothing arrived rtpengine says the time of creation (10.5)."""
    (party,) = parties(reply(stream("RTP")), NOW, {})
    assert party.streams[0].idle_s is None


def test_a_node_whose_clock_is_ahead_gives_no_negative_silence() -> None:
    (party,) = parties(reply(stream("RTP", packets=1, last=int(NOW) + 9)), NOW, {})
    assert party.streams[0].idle_s == 0.0


def test_an_endpoint_is_learned_only_when_confirmed() -> None:
    (party,) = parties(reply(stream("RTP", packets=1)), NOW, {})
    assert party.streams[0].learned is None and party.streams[0].advertised == "10.0.0.9:4000"


def test_addresses_that_are_not_set() -> None:
    unset = Endpoint(address="0.0.0.0", port=0)
    (party,) = parties(
        reply(stream("RTP", "confirmed", endpoint=unset, advertised_endpoint=None, local_port=None)), NOW, {}
    )
    one = party.streams[0]
    assert (one.local, one.learned, one.advertised) == (None, None, None)


def test_ipv6_addresses_have_brackets() -> None:
    (party,) = parties(reply(stream("RTP", local_address="2001:db8::1")), NOW, {})
    assert party.streams[0].local == "[2001:db8::1]:30000"


def test_components_and_codec() -> None:
    query = reply(stream("RTP"), stream("RTCP"), stream("RTP", "RTCP"), stream("fallback RTCP"))
    (party,) = parties(query, NOW, {})
    assert [(one.component, one.codec) for one in party.streams] == [
        ("RTP", "PCMA/8000"),
        ("RTCP", None),
        ("RTP+RTCP", "PCMA/8000"),
        ("", None),
    ]


def test_roles_give_the_order_and_unknown_parties_come_last() -> None:
    tags = {name: Tag(tag=name) for name in ("x", "leg-B", "leg-A")}
    found = parties(QueryReply(tags=tags), NOW, {"leg-A": ("caller", "A"), "leg-B": ("callee", "B")})
    assert [(party.tag, party.role, party.leg) for party in found] == [
        ("leg-A", "caller", "A"),
        ("leg-B", "callee", "B"),
        ("x", "other", ""),
    ]


def test_a_party_without_tag_is_named_by_its_key() -> None:
    (party,) = parties(reply(tag="", key="<untagged 1>"), NOW, {})
    assert party.tag == "<untagged 1>"


def test_only_rtp_packets_are_summed() -> None:
    query = reply(stream("RTP", packets=5), stream("RTCP", packets=90), stream("RTP", "RTCP", packets=2))
    assert rtp_packets(parties(query, NOW, {})[0]) == 7


def test_codec_chain() -> None:
    assert codec_chain([]) == codec_chain([None]) == []
    assert codec_chain(["a", None, "a"]) == ["a"]
    assert codec_chain(["a", "b"]) == ["a", "b"]


def client(**errors: int) -> ClientStatistics:
    counters = ClientCounters()
    for name, value in errors.items():
        counters.errors[name] = value
    return counters.snapshot(rtt=0.002, rto=0.1, in_flight=0)


def test_a_node_that_never_answered() -> None:
    info = node_info("n", "h:1", None, client())
    assert (info.state, info.uptime_s, info.node_sessions, info.statistics_age_s) == ("unknown", None, None, None)


def test_a_node_that_answered() -> None:
    interfaces = (
        Interface(name="pub", ports=Ports(free=100, used=4)),
        Interface(name="lan", ports=Ports(free=60, used=6)),
    )
    control = {"totaloffercount": 5, "totalanswercount": 4, "totaldeletecount": 3, "proxies": [{"errorcount": 2}]}
    statistics = StatisticsReply(
        current=Current(sessions_total=9), totals=Totals(uptime=77), interfaces=interfaces, control=control
    )
    info = node_info("n", "h:1", statistics, client(timeout=1, refused=2), sessions=8, age_s=1.5)
    assert (info.state, info.sessions, info.node_sessions, info.uptime_s) == ("up", 8, 9, 77.0)
    assert (info.ports_free, info.ports_used) == (60, 10)
    assert (info.offers, info.answers, info.deletes, info.errors, info.failures) == (5, 4, 3, 2, 3)
    assert (info.rtt_ms, info.statistics_age_s) == (2.0, 1.5)
    down = node_info("n", "h:1", statistics, client(), last_error="no reply")
    assert (down.state, down.last_error, down.node_sessions) == ("down", "no reply", 9)

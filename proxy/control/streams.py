"""rtpengine's `query` and `statistics` replies in the words of the control API. Pure.

Used by the proxy (which knows the roles of the tags) and by `mediactl --node` (which does not). A stream of the reply
is a port of rtpengine toward one party, so its counters are what that party sent. `last packet` is a whole second of
the node's clock and about the time of creation while nothing arrived; it is trusted only when packets were counted,
and compared with our clock, so node and proxy must keep their clocks in step (NTP) for `idle_s` to be right.
"""

from collections.abc import Iterable, Mapping

from ng_protocol import ClientStatistics, Endpoint, Media, QueryReply, StatisticsReply, Stream
from proxy.control.schema import NodeInfo, PartyDetail, StreamDetail


def rtp_packets(party: PartyDetail) -> int:
    """RTP packets received from a party, over all its media."""
    return sum(stream.packets for stream in party.streams if "RTP" in stream.component.split("+"))


def codec_chain(codecs: Iterable[str | None]) -> list[str]:
    """The known codecs in the order of the parties; one entry when all speak the same."""
    known = [codec for codec in codecs if codec]
    return known[:1] if len(set(known)) == 1 else known


def parties(reply: QueryReply, now: float, roles: Mapping[str, tuple[str, str]]) -> list[PartyDetail]:
    """Every party of the call with its streams. `now`: epoch seconds; `roles`: tag -> (role, leg name)."""
    details = []
    for key, tag in reply.tags.items():
        role, leg = roles.get(key) or roles.get(tag.tag) or ("other", "")
        streams = [_stream(media, stream, now) for media in tag.medias for stream in media.streams]
        details.append(PartyDetail(tag=tag.tag or key, role=role, leg=leg, streams=streams))
    order = {tag: place for place, tag in enumerate(roles)}
    return sorted(details, key=lambda party: order.get(party.tag, len(order)))


def _stream(media: Media, stream: Stream, now: float) -> StreamDetail:
    received = stream.received
    local = None
    if stream.local_address is not None and stream.local_port is not None:
        local = str(Endpoint(address=stream.local_address, port=stream.local_port))
    components = [name for name, there in (("RTP", stream.is_rtp), ("RTCP", stream.is_rtcp)) if there]
    return StreamDetail(
        media=media.index,
        kind=media.type,
        component="+".join(components),
        protocol=media.protocol,
        local=local,
        learned=_address(stream.endpoint) if stream.learned else None,
        advertised=_address(stream.advertised_endpoint),
        packets=received.packets,
        bytes=received.bytes,
        errors=received.errors,
        idle_s=max(0.0, now - stream.last_packet) if received.packets else None,
        codec=media.codec if stream.is_rtp else None,
        crypto=stream.crypto_suite,
        flags=[*media.flags, *(flag for flag in stream.flags if flag not in ("RTP", "RTCP"))],
    )


def _address(endpoint: Endpoint | None) -> str | None:
    """None for the unset address a port has before any SDP named the other side."""
    return str(endpoint) if endpoint is not None and endpoint.port else None


def node_info(
    name: str,
    address: str,
    statistics: StatisticsReply | None,
    client: ClientStatistics,
    *,
    sessions: int | None = None,
    age_s: float | None = None,
    last_error: str | None = None,
) -> NodeInfo:
    """A node's own figures (None: it never told them) beside what our client counted.

    `age_s`: of the statistics; `sessions`: of this proxy; `last_error`: set while its last command went unanswered.
    """
    info = NodeInfo(
        name=name,
        address=address,
        state="down" if last_error else "up" if statistics else "unknown",
        sessions=sessions,
        rtt_ms=client.rtt_ms,
        failures=client.timeouts + client.refused,
        last_error=last_error,
    )
    if statistics is not None:
        info.node_sessions = statistics.current.sessions_total
        info.uptime_s = float(statistics.uptime)
        info.ports_free = statistics.ports_free
        info.ports_used = statistics.ports_used
        info.offers = statistics.commands("offer")
        info.answers = statistics.commands("answer")
        info.deletes = statistics.commands("delete")
        info.errors = statistics.errors
        info.statistics_age_s = age_s or 0.0
    return info

"""One sentence about a session's media, when something is obvious. Pure.

The rules are tried in order and the first that applies speaks: what makes the others meaningless comes first (no
answer from the node, call lost), then what is normal (ringing, hold), then what is missing, last "flows both ways".
Only RTP counts: RTCP goes on when the audio is long dead.
"""

from collections.abc import Iterator

from proxy.control.schema import PartyDetail, SessionDetail, StreamDetail

SILENT_S = 5.0
"""Seconds without RTP after which a side counts as silent: more than any jitter, less than anyone's patience."""


def verdict(detail: SessionDetail) -> str | None:
    """The sentence, or None when there is nothing to say."""
    return next(_sentences(detail), None)


def _sentences(detail: SessionDetail) -> Iterator[str]:
    session = detail.session
    if session.lost:
        yield f"node {session.node} does not know this call: its media is gone (was the node restarted?)"
    if detail.node_error is not None:
        yield f"node {session.node} did not answer, so what follows is only what the proxy knows"
    if session.state == "ended":
        yield "the call has ended"
    sides = [party for party in detail.parties if party.role in ("caller", "callee") and list(_rtp(party))]
    silent = [party for party in sides if _silence(party, session.age_s) >= SILENT_S]
    if not session.node and session.state != "ended":
        yield "no media yet: no SDP was offered so far"
    if session.state in ("early", "offered") and not any(_packets(party) for party in sides):
        yield "not answered yet"
    if session.hold:
        yield "on hold, by both sides" if session.hold == "both" else f"on hold, by the {session.hold}"
    for party in sides:
        if any(_dtls_unfinished(stream) for stream in _rtp(party)):
            yield f"DTLS with the {party.role} never finished: no media can be encrypted for it"
    if len(sides) == 2 and len(silent) == 2:
        yield "no packets from either side" + _since(silent, session.age_s)
    for party in silent:
        if not _packets(party):
            advertised = next((stream.advertised for stream in _rtp(party) if stream.advertised), "an unknown address")
            yield f"the {party.role} never sent a packet: it advertised {advertised}"
        yield f"no packets from the {party.role}" + _since([party], session.age_s)
    if len(sides) == 2 and all(_packets(party) for party in sides):
        yield "media flows both ways"


def _rtp(party: PartyDetail) -> Iterator[StreamDetail]:
    """The RTP streams of its audio; of everything when there is no audio. Rejected m-lines (no port) are left out."""
    streams = [stream for stream in party.streams if "RTP" in stream.component.split("+") and stream.local]
    audio = [stream for stream in streams if stream.kind == "audio"]
    return iter(audio or streams)


def _packets(party: PartyDetail) -> int:
    return sum(stream.packets for stream in _rtp(party))


def _silence(party: PartyDetail, age: float) -> float:
    """Seconds since its last RTP packet; the session's age when there never was one."""
    return min((stream.idle_s for stream in _rtp(party) if stream.idle_s is not None), default=age)


def _since(parties: list[PartyDetail], age: float) -> str:
    return f" for {min(_silence(party, age) for party in parties):.0f} s"


def _dtls_unfinished(stream: StreamDetail) -> bool:
    """Flags as rtpengine 10.5 names them; an SRTP suite appears once the handshake is done."""
    return "DTLS-SRTP" in stream.flags and "DTLS fingerprint verified" not in stream.flags and stream.crypto is None

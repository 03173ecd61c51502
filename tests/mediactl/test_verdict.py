"""One sentence about a session, rule by rule."""

import pytest

from mediactl.verdict import verdict
from proxy.control import schema


def party(role: str, packets: int, idle: float | None = 0.2, **changes: object) -> schema.PartyDetail:
    fields: dict[str, object] = {
        "media": 1, "kind": "audio", "component": "RTP", "protocol": "RTP/AVP", "local": "192.0.2.1:30000",
        "learned": None, "advertised": "10.0.0.9:4000", "packets": packets, "bytes": packets * 172, "errors": 0,
        "idle_s": idle if packets else None, "codec": None, "crypto": None, "flags": [],
    }  # fmt: skip
    stream = schema.StreamDetail(**{**fields, **changes})  # type: ignore[arg-type]
    rtcp = schema.StreamDetail(**{**fields, "component": "RTCP", "packets": 9, "idle_s": 0.1})  # type: ignore[arg-type]
    return schema.PartyDetail(tag=role, role=role, streams=[stream, rtcp])


def detail(*parties: schema.PartyDetail, node_error: str | None = None, **changes: object) -> schema.SessionDetail:
    fields: dict[str, object] = {
        "id": "x", "state": "confirmed", "call_ids": [], "caller": "", "callee": "", "node": "node1", "created": 0.0,
        "age_s": 40.0, "packets": schema.Packets(),
    }  # fmt: skip
    session = schema.SessionInfo(**{**fields, **changes})  # type: ignore[arg-type]
    return schema.SessionDetail(session=session, queried=0.0, parties=list(parties), node_error=node_error)


A, B = party("caller", 500), party("callee", 480)
DTLS = ["DTLS-SRTP", "ICE"]


@pytest.mark.parametrize(
    ("case", "sentence"),
    [
        (detail(A, B), "media flows both ways"),
        (detail(A, party("callee", 100, 12.4)), "no packets from the callee for 12 s"),
        (detail(party("caller", 100, 7), B), "no packets from the caller for 7 s"),
        (detail(A, party("callee", 0)), "the callee never sent a packet: it advertised 10.0.0.9:4000"),
        (detail(A, party("callee", 0, advertised=None)),
         "the callee never sent a packet: it advertised an unknown address"),
        (detail(party("caller", 100, 9), party("callee", 90, 30)), "no packets from either side for 9 s"),
        (detail(party("caller", 0), party("callee", 0)), "no packets from either side for 40 s"),
        (detail(party("caller", 0), party("callee", 0), age_s=2.0), None),
        (detail(A, party("callee", 100, 4.9)), "media flows both ways"),
        (detail(A, party("callee", 9, 60), hold="caller"), "on hold, by the caller"),
        (detail(A, B, hold="both"), "on hold, by both sides"),
        (detail(party("caller", 0), party("callee", 0), state="early"), "not answered yet"),
        (detail(party("caller", 0), party("callee", 0), state="offered"), "not answered yet"),
        (detail(A, B, state="early"), "media flows both ways"),
        (detail(state="ended"), "the call has ended"),
        (detail(node="", state="early"), "no media yet: no SDP was offered so far"),
        (detail(lost=True), "node node1 does not know this call: its media is gone (was the node restarted?)"),
        (detail(node_error="x"), "node node1 did not answer, so what follows is only what the proxy knows"),
        (detail(A, party("callee", 0, flags=DTLS)),
         "DTLS with the callee never finished: no media can be encrypted for it"),
        (detail(A, party("callee", 9, flags=[*DTLS, "DTLS fingerprint verified"])), "media flows both ways"),
        (detail(A, party("callee", 9, flags=DTLS, crypto="AES_CM_128_HMAC_SHA1_80")), "media flows both ways"),
        (detail(A, party("callee", 0, local=None)), None),
        (detail(A), None),
        (detail(), None),
    ],
)  # fmt: skip
def test_verdict(case: schema.SessionDetail, sentence: str | None) -> None:
    assert verdict(case) == sentence


def test_audio_speaks_for_the_call_when_there_is_video_too() -> None:
    video = party("callee", 0, kind="video").streams
    callee = schema.PartyDetail(tag="b", role="callee", streams=[*B.streams, *video])
    assert verdict(detail(A, callee)) == "media flows both ways"


def test_parties_without_a_role_are_not_judged() -> None:
    assert verdict(detail(A, B, party("freeswitch", 0), party("other", 0))) == "media flows both ways"

"""Replies get types; nonsense becomes BadReply, never another exception."""

from __future__ import annotations

import random
from typing import Any

import pytest

from ng_protocol import commands as c
from ng_protocol import replies as r
from ng_protocol.codec import decode_untrusted, encode
from ng_protocol.errors import BadReply
from tests.ng_protocol.samples import QUERY, STATISTICS

OK = {"result": b"ok"}

SAMPLES: list[tuple[c.Command[Any], dict[str, Any]]] = [
    (c.Ping(), {"result": b"pong"}),
    (c.Offer(), {**OK, "sdp": b"v=0", "recordings": [b"/a.pcap"]}),
    (c.Answer(), {**OK, "sdp": b"v=0", "recordings": [b"/a.pcap"]}),
    (c.Delete(call_id="c"), {**OK, "warning": b"Call-ID not found or tags didn't match"}),
    (c.Delete(call_id="c"), QUERY),
    (c.Query(call_id="c"), QUERY),
    (c.ListCalls(), {**OK, "calls": [b"a", b"b"]}),
    (c.Statistics(), {**OK, "statistics": STATISTICS}),
    (c.StartRecording(call_id="c"), {**OK, "warning": b"w"}),
    (c.BlockMedia(call_id="c"), OK),
    (c.PlayMedia(call_id="c"), {**OK, "duration": 1500}),
    (c.StopMedia(call_id="c"), {**OK, "last-frame-pos": b"12"}),
    (c.Publish(), {**OK, "sdp": b"v=0", "call-id": b"c", "from-tag": b"f"}),
    (
        c.SubscribeRequest(),
        {
            **OK,
            "sdp": b"v=0",
            "to-tag": b"s",
            "from-tag": b"f",
            "from-tags": [b"f"],
            "tag-medias": [{"tag": b"f", "medias": []}],
            "media-labels": {"1": {"tag": b"f", "index": 1}},
        },
    ),
    (c.SubscribeAnswer(), OK),
    (c.Unsubscribe(call_id="c", to_tag="s"), OK),
]


def test_small_replies() -> None:
    parsed = [command.parse_untrusted(reply) for command, reply in SAMPLES]
    assert parsed[0] == r.Pong()
    assert parsed[1] == r.OfferReply(sdp=b"v=0", recordings=("/a.pcap",))
    assert parsed[2] == r.AnswerReply(sdp=b"v=0", recordings=("/a.pcap",))
    assert parsed[3].warning.startswith("Call-ID not found") and not parsed[3].known and parsed[3].call is None
    assert parsed[4].known and parsed[4].call.tags["f"].tag == "f"
    assert parsed[6] == r.ListReply(calls=("a", "b"))
    assert parsed[8] == r.OkReply(warning="w")
    assert parsed[10] == r.PlayMediaReply(duration=1500)
    assert parsed[11] == r.StopMediaReply(last_frame_pos=12)
    assert parsed[12] == r.PublishReply(sdp=b"v=0", call_id="c", from_tag="f")
    assert parsed[13].from_tags == ("f",) and parsed[13].tag_medias[0]["tag"] == "f"
    assert parsed[13].media_labels["1"]["index"] == 1


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        (c.Ping(), OK),
        (c.Offer(), OK),
        (c.Offer(), {**OK, "sdp": 5}),
        (c.Answer(), {**OK, "sdp": [b"v=0"]}),
        (c.Offer(), {**OK, "sdp": b"v=0", "recordings": b"/a"}),
        (c.Offer(), {**OK, "sdp": b"v=0", "recordings": [1]}),
        (c.Delete(call_id="c"), {**OK, "warning": 1}),
        (c.Delete(call_id="c"), {**OK, "tags": []}),
        (c.ListCalls(), OK),
        (c.ListCalls(), {**OK, "calls": {}}),
        (c.Query(call_id="c"), OK),
        (c.Query(call_id="c"), {**OK, "tags": [b"a"]}),
        (c.Query(call_id="c"), {**OK, "tags": {"a": {"medias": [{"index": b"one"}]}}}),
        (c.Statistics(), OK),
        (c.Statistics(), {**OK, "statistics": b"x"}),
        (c.Statistics(), {**OK, "statistics": {}}),
        (c.PlayMedia(call_id="c"), {**OK, "duration": b"long"}),
        (c.PlayMedia(call_id="c"), {**OK, "duration": []}),
        (c.SubscribeRequest(), {**OK, "sdp": b"v=0"}),
        (c.SubscribeRequest(), {**OK, "sdp": b"v=0", "to-tag": b"s", "tag-medias": {}}),
        (c.SubscribeRequest(), {**OK, "sdp": b"v=0", "to-tag": b"s", "tag-medias": [1]}),
        (c.SubscribeRequest(), {**OK, "sdp": b"v=0", "to-tag": b"s", "media-labels": {"1": 1}}),
    ],
)
def test_nonsense_is_a_bad_reply(command: c.Command[Any], reply: dict[str, Any]) -> None:
    with pytest.raises(BadReply):
        command.parse_untrusted(reply)


def test_a_bad_reply_names_the_place() -> None:
    with pytest.raises(BadReply, match=r"query: .*medias"):
        r.query_reply_untrusted({**OK, "tags": {"a": {"medias": [{"index": b"one"}]}}})


def _mutate(rng: random.Random, value: Any) -> Any:
    """The tree with one random place replaced."""
    nothing: tuple[Any, ...] = (b"", b"-", 0, -1, 2**62, [], {}, [1], {"a": b"b"}, b"\xff")
    if rng.random() < 0.15 or not isinstance(value, (dict, list)) or not value:
        return rng.choice(nothing)
    if isinstance(value, dict):
        key = rng.choice(list(value))
        return {**value, key: _mutate(rng, value[key])}
    at = rng.randrange(len(value))
    return [*value[:at], _mutate(rng, value[at]), *value[at + 1 :]]


@pytest.mark.parametrize(("command", "reply"), SAMPLES, ids=lambda value: "")
def test_any_mutated_reply_parses_or_is_a_bad_reply(command: c.Command[Any], reply: dict[str, Any]) -> None:
    rng = random.Random(7)
    for _ in range(300):
        mutated = _mutate(rng, reply)
        if not isinstance(mutated, dict):
            continue
        mutated = decode_untrusted(encode(mutated))
        try:
            command.parse_untrusted(mutated)
        except BadReply:
            pass

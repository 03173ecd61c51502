"""Frames and bencode: nothing a stranger can send hangs, crashes or slips through."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ng_protocol.codec import MAX_DEPTH, decode_untrusted, encode, split_frame_untrusted, text, texts
from ng_protocol.errors import BadReply

OFFER_REPLY = b"d3:sdp20:v=0\r\no=- 1 1 IN IP4 6:result2:oke"
TREE = {
    "result": b"ok",
    "created": 1700000000,
    "tags": {"a": {"medias": [{"index": 1, "flags": [b"send", b"recv"], "stats": {"packets": 0, "bytes": 10**12}}]}},
    "empty": {},
    "none": [],
    "negative": -5,
}

keys = st.text(max_size=12)
leaves = st.integers(-(2**63), 2**63 - 1) | st.binary(max_size=40)
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4))
dictionaries = st.dictionaries(keys, values, max_size=6)
repeatable = settings(max_examples=60, deadline=None, derandomize=True, database=None)


@repeatable
@given(dictionaries)
def test_round_trip(tree: dict[str, Any]) -> None:
    assert decode_untrusted(encode(tree)) == tree


@repeatable
@given(dictionaries)
def test_every_prefix_and_trailing_junk_is_refused(tree: dict[str, Any]) -> None:
    data = encode(tree)
    candidates = [data[:length] for length in range(len(data))]
    candidates += [data + junk for junk in (b"e", b" ", b"d", b"0:", b"\n", b"\x00")]
    for candidate in candidates:
        try:
            decode_untrusted(candidate)
        except BadReply:
            continue
        raise AssertionError(f"accepted {candidate!r}")


@repeatable
@given(st.binary(max_size=200))
def test_noise_decodes_or_raises_bad_reply(data: bytes) -> None:
    for candidate in (data, b"d" + data, b"d1:a" + data + b"e"):
        try:
            assert isinstance(decode_untrusted(candidate), dict)
        except BadReply:
            pass


def test_mutations_of_valid_frames_decode_or_raise_in_bounded_time() -> None:
    """20,000 frames with a few bytes changed, removed, doubled or moved; each ends, and quickly."""
    rng = random.Random(20260101)
    frames = [OFFER_REPLY, encode(TREE), b"d6:result4:ponge", b"d5:callsl1:a1:b3:ccce6:result2:oke"]
    alphabet = b"0123456789:-eild\x00 _+"
    good = 0
    slowest = 0.0
    for _ in range(20_000):
        data = bytearray(rng.choice(frames))
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(data))
            action = rng.randrange(4)
            if action == 0:
                data[at] = rng.choice(alphabet)
            elif action == 1 and len(data) > 1:
                del data[at]
            elif action == 2:
                data.insert(at, rng.choice(alphabet))
            else:
                data[at:at] = data[at : at + rng.randint(1, 8)]
        started = time.process_time()
        try:
            decode_untrusted(bytes(data))
            good += 1
        except BadReply:
            pass
        slowest = max(slowest, time.process_time() - started)
    assert 0 < good < 20_000
    assert slowest < 0.5


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"d1:a0:-5:", id="hangs the bare library"),
        pytest.param(b"d-1:ae", id="negative length of a key"),
        pytest.param(b"d1:a-1:e", id="negative length of a value"),
        pytest.param(b"d1:ai1_0ee", id="underscore in an integer"),
        pytest.param(b"d1:a1_0:0123456789e", id="underscore in a length"),
        pytest.param(b"d1:ai 1ee", id="space in an integer"),
        pytest.param(b"d1:ai+1ee", id="plus sign"),
        pytest.param(b"d1:ai-0ee", id="minus zero"),
        pytest.param(b"d1:ai01ee", id="leading zero"),
        pytest.param(b"d1:aiee", id="no digits"),
        pytest.param(b"d1:ai-ee", id="only a sign"),
        pytest.param("d1:ai\u0661ee".encode(), id="arabic digit"),
        pytest.param(b"d1:ai" + b"9" * 40 + b"ee", id="integer beyond 64 bits"),
        pytest.param(b"d1:ai" + b"9" * 60000 + b"ee", id="integer that fills the datagram"),
        pytest.param(b"d01:ae", id="leading zero in a length"),
        pytest.param(b"d1:a99999:xe", id="length past the end"),
        pytest.param(b"d1:a" + b"9" * 60000 + b":xe", id="length that fills the datagram"),
        pytest.param(b"di1ei2ee", id="integer key"),
        pytest.param(b"dl1:aei2ee", id="list as key"),
        pytest.param(b"d1:ae", id="key without value"),
        pytest.param(b"l1:ae", id="a list"),
        pytest.param(b"i1e", id="an integer"),
        pytest.param(b"1:a", id="a string"),
        pytest.param(b'{"result":"pong"}', id="json"),
        pytest.param(b"", id="nothing"),
        pytest.param(b"d", id="an open dictionary"),
        pytest.param(b"d1:a" + b"l" * 30000, id="deep lists, open"),
        pytest.param(b"d1:a" + b"l" * 30000 + b"e" * 30001, id="deep lists"),
        pytest.param(b"d1:a" * 15000, id="deep dictionaries, open"),
        pytest.param(b"d1:a" * (MAX_DEPTH + 2) + b"de" + b"e" * (MAX_DEPTH + 2), id="one level too deep"),
    ],
)
def test_hostile(data: bytes) -> None:
    with pytest.raises(BadReply) as caught:
        decode_untrusted(data)
    assert len(str(caught.value)) < 200, "an error message does not repeat a whole datagram"


def test_a_full_datagram_of_small_items_is_decoded() -> None:
    data = b"d1:al" + b"0:" * 32000 + b"ee"
    assert decode_untrusted(data) == {"a": [b""] * 32000}


def test_the_deepest_query_fits() -> None:
    depth = MAX_DEPTH
    data = b"d1:a" * depth + b"de" + b"e" * depth
    tree: Any = decode_untrusted(data)
    for _ in range(depth):
        tree = tree["a"]
    assert tree == {}


def test_a_repeated_key_keeps_the_last_value() -> None:
    assert decode_untrusted(b"d1:ai1e1:ai2ee") == {"a": 2}


def test_encode_sorts_keys_and_takes_lists_and_tuples() -> None:
    assert encode({"b": ("x", b"y"), "a": [1, {"k": "v"}]}) == b"d1:ali1ed1:k1:vee1:bl1:x1:yee"


def test_text_survives_as_utf8_and_as_stray_bytes() -> None:
    assert encode({"k": "ä"}) == b"d1:k2:\xc3\xa4e"
    stray = decode_untrusted(b"d1:k2:\xff\x80e")["k"]
    assert encode({"k": text(stray)}) == b"d1:k2:\xff\x80e"
    assert decode_untrusted(b"d1:\xffi1ee") == {"\udcff": 1}


@pytest.mark.parametrize("value", [None, 1.5, object(), {1, 2}, [None]])
def test_encode_names_the_type_it_cannot_send(value: object) -> None:
    with pytest.raises(TypeError, match="cannot encode a value of type"):
        encode({"k": value})


def test_split_frame() -> None:
    assert split_frame_untrusted(b"c1 d1:ai1ee") == (b"c1", b"d1:ai1ee")
    assert split_frame_untrusted(b"c1  x") == (b"c1", b" x"), "the cookie ends at the first space"
    for datagram in (b"", b" ", b" d", b"c1", b"c1 "):
        with pytest.raises(BadReply):
            split_frame_untrusted(datagram)


def test_texts_leaves_numbers_and_shape() -> None:
    assert texts({"a": [b"x", 1, {"b": b"y"}]}) == {"a": ["x", 1, {"b": "y"}]}
    assert text(5) == "5"

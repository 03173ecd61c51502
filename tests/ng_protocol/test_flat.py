"""The fast lane says what the library says, or nothing."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ng_protocol import codec
from ng_protocol.flat import decode_flat_untrusted, encode_flat

repeatable = settings(max_examples=200, deadline=None, derandomize=True, database=None)
texts = st.text(max_size=12)
flat_values = texts | st.binary(max_size=90) | st.integers(-(2**63), 2**63 - 1) | st.lists(texts, max_size=4)
flat = st.dictionaries(texts, flat_values, max_size=8)

OFFER = {
    "command": "offer",
    "call-id": "edge-0123",
    "flags": ["trust-address", "port-latching"],
    "replace": ("origin",),
    "sdp": b"v=0\r\n",
    "delete-delay": 0,
}
REPLY = b"d6:result2:ok3:sdp20:v=0\r\no=- 1 1 IN IP4 7:warningi12ee"


@repeatable
@given(flat)
def test_encodes_like_the_library(tree: dict[str, Any]) -> None:
    assert encode_flat(tree) == codec._encode(tree)


def test_an_offer() -> None:
    assert encode_flat(OFFER) == codec._encode(OFFER)


class Word(StrEnum):
    OFFER = "offer"


@pytest.mark.parametrize(
    "odd", [None, 1.5, True, {"a": 1}, [1], ["a", b"b"], ["a", None], Word.OFFER, bytearray(b"x")], ids=repr
)
def test_gives_up_on_what_is_not_flat(odd: Any) -> None:
    assert encode_flat({"a": odd}) is None


def test_a_reply() -> None:
    assert decode_flat_untrusted(REPLY) == {"result": b"ok", "sdp": b"v=0\r\no=- 1 1 IN IP4 ", "warning": 12}


@repeatable
@given(st.dictionaries(texts, st.binary(max_size=90) | st.integers(0, 2**63 - 1), max_size=6))
def test_decodes_like_the_library(tree: dict[str, Any]) -> None:
    data = codec._encode(tree)
    assert decode_flat_untrusted(data) == codec._decode(data) == tree


@pytest.mark.parametrize("junk", [b"", b"e", b"x", b"0:", b"1:", b"i1e"])
def test_every_prefix_with_junk_is_the_librarys_business(junk: bytes) -> None:
    for end in range(len(REPLY)):
        data = REPLY[:end] + junk
        found = decode_flat_untrusted(data)
        if found is not None:
            assert found == codec._decode(data)
    assert decode_flat_untrusted(REPLY + b"e") is None


@repeatable
@given(st.binary(max_size=60))
def test_noise_means_the_same_or_nothing(noise: bytes) -> None:
    for data in (noise, b"d" + noise + b"e", b"d1:a" + noise + b"e"):
        found = decode_flat_untrusted(data)
        if found is not None:
            assert found == codec._decode(data)


@pytest.mark.parametrize(
    "data",
    [
        b"d1:a0:-5:",
        b"d1:a-5:e",
        b"d1:a01:xe",
        b"d1:ai01ee",
        b"d1:ai-5ee",
        b"d1:ale e",
        b"d1:a99999:xe",
        b"d1:ai5e",
        b"de1:",
    ],
)
def test_traps(data: bytes) -> None:
    assert decode_flat_untrusted(data) is None

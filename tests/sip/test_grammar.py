"""Lexical rules: splitting at top-level commas, parameters, quoting, folding."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.sip.errors import BadMessage
from proxy.sip.grammar import first_comma, parse_params, quote, split_values, unfold, unquote

FUZZ = settings(derandomize=True, database=None, max_examples=300, deadline=None)
SPECIAL = st.binary(max_size=40) | st.text('<>",;=\\ \t\r\n:ab@[]', max_size=40).map(str.encode)


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        (b"", []),
        (b"  ", []),
        (b"a", [b"a"]),
        (b" a , b ", [b"a", b"b"]),
        (b"a,,b,", [b"a", b"b"]),
        (b'"x, y" <sip:a,b@c>;p="1,2", <sip:d>', [b'"x, y" <sip:a,b@c>;p="1,2"', b"<sip:d>"]),
        (b'"a\\",b", c', [b'"a\\",b"', b"c"]),
        (b'"never closed, b', [b'"never closed, b']),
        (b"<never closed, b", [b"<never closed, b"]),
        (b'a, "never closed, b', [b"a", b'"never closed, b']),
        (b'<sip:a"b>, <sip:c>', [b'<sip:a"b>', b"<sip:c>"]),
    ],
)
def test_split_values(value, parts):
    assert split_values(value) == parts


def test_first_comma_from_an_offset():
    assert first_comma(b"a,b,c", 2) == 3
    assert first_comma(b'","', 0) == -1
    assert first_comma(b'Contact: "a,b" <x,y>, z', 8) == 20


@FUZZ
@given(SPECIAL)
def test_splitting_loses_nothing_but_commas_and_white_space(value):
    dropped = b", \t\r\n\x0b\x0c"
    assert b"".join(split_values(value)).translate(None, dropped) == value.translate(None, dropped)


@pytest.mark.parametrize(
    ("raw", "params"),
    [
        (b"", []),
        (b"  ", []),
        (b";lr", [(b"lr", None)]),
        (b" ; tag = x \r\n ; Q=0.5", [(b"tag", b"x"), (b"Q", b"0.5")]),
        (b';a="x;y\\"z";b', [(b"a", b'"x;y\\"z"'), (b"b", None)]),
        (b";received=2001:db8::1;branch=z9==", [(b"received", b"2001:db8::1"), (b"branch", b"z9==")]),
    ],
)
def test_parse_params(raw, params):
    assert parse_params(raw) == params


@pytest.mark.parametrize("raw", [b";;", b";", b"tag=x", b';a="x', b";a=", b";a=b c", b";a,b", b";a;;b", b";\xffx"])
def test_parse_params_refuses(raw):
    with pytest.raises(BadMessage) as caught:
        parse_params(raw)
    assert caught.value.status == 400


@FUZZ
@given(st.binary(max_size=40))
def test_quote_and_unquote_are_inverse(text):
    quoted = quote(text)
    assert b"\n" not in quoted and b"\r" not in quoted
    assert unquote(quoted) == text.replace(b"\r", b" ").replace(b"\n", b" ")
    assert split_values(quoted + b", x") == [quoted, b"x"]


def test_unquote_leaves_tokens_alone():
    assert unquote(b"abc") == b"abc"
    assert unquote(b'"') == b'"'


def test_unfold():
    assert unfold(b"a \r\n\t b\n c") == b"a b c"
    assert unfold(b"plain") == b"plain"

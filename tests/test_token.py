"""The Record-Route token: round trip, every damage detected, fit for a URI."""

import re

import pytest

from proxy.token import MAX_TOKEN, Signer, Token

SECRET = b"0123456789abcdef-secret"
SIGNER = Signer(SECRET)
CALL = (b"edge1-5f3a9c0d2b7e4816", b"A", b"node1")
TOKEN = SIGNER.sign(*CALL)

# RFC 3261 section 25.1: pvalue = 1*paramchar, paramchar = "[" "]" "/" ":" "&" "+" "$" / unreserved / escaped
PVALUE = re.compile(rb"[\[\]/:&+$A-Za-z0-9_.!~*'()-]+\Z")


def test_round_trip() -> None:
    assert SIGNER.verify_untrusted(TOKEN) == Token(*CALL)
    assert Signer(SECRET).verify_untrusted(TOKEN) == Token(*CALL), "another instance with the same secret accepts it"


def test_it_is_short_and_fits_a_uri_parameter() -> None:
    assert len(TOKEN) <= 60
    assert PVALUE.match(TOKEN)


def test_every_prefix_is_refused() -> None:
    assert [n for n in range(len(TOKEN)) if SIGNER.verify_untrusted(TOKEN[:n]) is not None] == []


def test_every_suffix_is_refused() -> None:
    assert [n for n in range(1, len(TOKEN)) if SIGNER.verify_untrusted(TOKEN[n:]) is not None] == []


@pytest.mark.parametrize("junk", [b"~", b"0", b" ", b";x", b"\0", b"~0" * 10, b"x" * 500])
def test_junk_around_it_is_refused(junk: bytes) -> None:
    assert SIGNER.verify_untrusted(TOKEN + junk) is None
    assert SIGNER.verify_untrusted(junk + TOKEN) is None


def test_every_flipped_bit_is_refused() -> None:
    accepted = []
    for position in range(len(TOKEN)):
        for bit in range(8):
            damaged = bytearray(TOKEN)
            damaged[position] ^= 1 << bit
            if SIGNER.verify_untrusted(bytes(damaged)) is not None:
                accepted.append((position, bit))
    assert accepted == []


def test_fields_cannot_slide_into_each_other() -> None:
    assert SIGNER.sign(b"ab", b"c", b"d") != SIGNER.sign(b"a", b"bc", b"d")
    payload, _, mac = SIGNER.sign(b"ab", b"c", b"d").rpartition(b"~")
    assert payload == b"ab~c~d"
    assert SIGNER.verify_untrusted(b"a~bc~d~" + mac) is None


def test_another_secret_refuses_it() -> None:
    assert Signer(SECRET + b"x").verify_untrusted(TOKEN) is None


@pytest.mark.parametrize("value", [b"", b"~", b"~~~", b"~~~~", b"\xff" * 60, b"a~b~c~" + b"0" * 20, b"z" * MAX_TOKEN])
def test_values_that_were_never_tokens(value: bytes) -> None:
    assert SIGNER.verify_untrusted(value) is None


@pytest.mark.parametrize("field", [b"", b"a~b", b"a;b", b"a b", b"a>b", b"a\r\n", b"a\n", b"\xc3\xa9", b"a=b"])
def test_fields_that_cannot_be_signed(field: bytes) -> None:
    for at in range(3):
        fields = list(CALL)
        fields[at] = field
        with pytest.raises(ValueError, match="cannot be a token field"):
            SIGNER.sign(*fields)


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="has 15 bytes; give at least 16"):
        Signer(b"x" * 15)
    assert Signer(b"x" * 16).verify_untrusted(TOKEN) is None
    long = Signer(b"x" * 1000)
    assert long.verify_untrusted(long.sign(*CALL)) == Token(*CALL)

"""Addresses of nodes, right and wrong ones."""

from __future__ import annotations

import pytest

from ng_protocol.address import parse_address


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:2223", ("127.0.0.1", 2223)),
        ("[2001:db8::1]:2223", ("2001:db8::1", 2223)),
        ("media.example.com:65535", ("media.example.com", 65535)),
    ],
)
def test_parse_address(address: str, expected: tuple[str, int]) -> None:
    assert parse_address(address) == expected


@pytest.mark.parametrize(
    "address",
    ["", "127.0.0.1", ":2223", "host:", "host:0", "host:65536", "host:-1", "host:x", "host:１２", "2001:db8::1:2223"],
)
def test_parse_address_says_what_is_wrong(address: str) -> None:
    with pytest.raises(ValueError, match="node address"):
        parse_address(address)

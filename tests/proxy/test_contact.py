"""Contact values: the bare URI, and whether a message needs an alias."""

from __future__ import annotations

import pytest

from proxy.contact import contact_uri, contact_value, needs_alias
from proxy.sip.message import make_request


def message(*contacts: bytes):  # type: ignore[no-untyped-def]
    return make_request("INVITE", b"sip:x@y", [(b"Contact", value) for value in contacts])


@pytest.mark.parametrize(
    ("value", "uri"),
    [
        (b"<sip:a@192.168.1.2:5070;ob>;expires=5", b"sip:a@192.168.1.2:5070;ob"),
        (b'"A, B" <sip:a@10.0.0.1>, <sip:c@d>', b"sip:a@10.0.0.1"),
        (b"sip:a@10.0.0.1;tag=param-of-the-header", b"sip:a@10.0.0.1"),
        (b"*", b""),
        (b"<unclosed", b""),
    ],
)
def test_the_bare_uri(value: bytes, uri: bytes) -> None:
    assert contact_uri(message(value)) in (uri, value if value == b"*" else uri)


def test_no_contact() -> None:
    assert contact_uri(message()) == b""
    assert contact_value(message()) == b""
    assert not needs_alias(message(), ("203.0.113.8", 5060))


@pytest.mark.parametrize(
    ("value", "needed"),
    [
        (b"<sip:a@192.168.1.2>", True),
        (b"<sip:a@100.64.3.4:5060>", True),
        (b"<sip:a@203.0.113.8:9>", False),  # public: reachable as it says
        (b"<sip:a@phone.example>", False),
        (b"<tel:+1>", False),
        (b"<sip:a@[fd00::1]>", True),
    ],
)
def test_a_private_address_from_elsewhere_needs_an_alias(value: bytes, needed: bool) -> None:
    assert needs_alias(message(value), ("203.0.113.8", 1024)) is needed


def test_a_private_address_that_is_the_source_needs_none() -> None:
    assert not needs_alias(message(b"<sip:a@192.168.1.2:5070>"), ("192.168.1.2", 5070))
    assert needs_alias(message(b"<sip:a@192.168.1.2:5070>"), ("192.168.1.2", 5071))

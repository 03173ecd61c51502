"""The exception for bad input, and the table of reason phrases."""

from __future__ import annotations

from proxy.sip.errors import BadMessage
from proxy.sip.message import make_request
from proxy.sip.reasons import REASONS


def test_it_says_what_was_wrong_and_what_it_deserves():
    request = make_request("OPTIONS", b"sip:h", [])
    bad = BadMessage(400, b"missing Via", request)
    assert (bad.status, bad.reason, bad.partial) == (400, b"missing Via", request)
    assert str(bad) == "missing Via (deserves 400)"
    assert str(BadMessage(0, b"x")) == "x (deserves no response)"
    assert BadMessage(0, b"x").partial is None


def test_reason_phrases_are_printable_and_cover_what_a_proxy_sends():
    assert all(
        100 <= code <= 699 and phrase.isascii() and phrase.decode().isprintable() for code, phrase in REASONS.items()
    )
    assert {100, 200, 400, 403, 404, 407, 408, 416, 420, 480, 481, 482, 483, 487, 488, 491, 500, 503, 505} <= set(
        REASONS
    )

"""Session-Expires and Min-SE in every shape they come in."""

import pytest

from proxy.session_timer import minimum, session_timer
from proxy.sip.message import Message
from proxy.sip.parser import parse_untrusted


def message(*lines: bytes) -> Message:
    head = (b"SIP/2.0 200 OK", b"Via: SIP/2.0/UDP h", b"From: <sip:a@b>;tag=1", b"To: <sip:a@b>;tag=2", b"Call-ID: c")
    return parse_untrusted(b"\r\n".join([*head, b"CSeq: 1 INVITE", *lines, b"", b""]))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"Session-Expires: 1800;refresher=uac", (1800, "uac")),
        (b"Session-Expires: 1800;refresher=uas", (1800, "uas")),
        (b"x: 1800 ; Refresher = UAS", (1800, "uas")),
        (b"SESSION-EXPIRES:1800", (1800, None)),
        (b"Session-Expires: 1800\r\n ;refresher=uac", (1800, "uac")),
        (b"Session-Expires: 1800;foo=bar;refresher=uac;x", (1800, "uac")),
        (b"Session-Expires: 1800;xrefresher=uac", (1800, None)),
        (b"Session-Expires: 1800;refresher=proxy", (1800, None)),
        (b"Session-Expires: 0001800", (1800, None)),
        (b"Session-Expires: 4294967295", (4294967295, None)),
        (b"Session-Expires: 90", (90, None)),
        (b"Session-Expires: 1", (90, None)),
        (b"Session-Expires: 0", None),
        (b"Session-Expires:", None),
        (b"Session-Expires: soon", None),
        (b"Session-Expires: -1800", None),
        (b"Session-Expires: 18.5", None),
        (b"Session-Expires: 1800 seconds", None),
        (b"Session-Expires: 99999999999", None),
        (b"Session-Expires: ;refresher=uac", None),
        (b"Expires: 1800", None),
    ],
)
def test_session_expires(line: bytes, expected: tuple[int, str | None] | None) -> None:
    assert session_timer(message(line)) == expected


def test_every_prefix_is_read_or_refused() -> None:
    whole = b"1800;refresher=uac"
    read = [session_timer(message(b"Session-Expires: " + whole[:n])) for n in range(len(whole) + 1)]
    assert read == [None, (90, None), (90, None), (180, None)] + [(1800, None)] * 14 + [(1800, "uac")]


@pytest.mark.parametrize(
    ("line", "expected"),
    [(b"Min-SE: 120", 120), (b"Min-SE: 120;x=y", 120), (b"Min-SE: 5", 90), (b"Min-SE: x", 90), (b"Subject: 120", 90)],
)
def test_min_se(line: bytes, expected: int) -> None:
    assert minimum(message(line)) == expected

"""FreeSWITCH's header order and failure table."""

from __future__ import annotations

import pytest

from lab.b2bua_messages import assemble, canonical, failure
from lab.sip import Message


def test_order() -> None:
    fields: dict[str, str | list[str]] = {"To": "t", "Via": ["one", "two"], "Contact": "c", "Reason": "r", "Allow": "a"}
    out = assemble(Message(status=200, reason="OK"), fields, [("X-After", "x")], "body")
    assert [name for name, _ in out.headers] == [
        "Via",
        "Via",
        "To",
        "Contact",
        "Allow",
        "Reason",
        "Content-Length",
        "X-After",
    ]
    assert out.encode().endswith(b"Content-Length: 4\r\nX-After: x\r\n\r\nbody")
    with pytest.raises(ValueError, match="X-Odd"):
        assemble(Message(status=200, reason="OK"), {"X-Odd": "1"})


@pytest.mark.parametrize(
    "status, challenged, expected",
    [
        (486, False, (486, "Busy Here", 'Q.850;cause=17;text="USER_BUSY"')),
        (500, False, (500, "Internal Server Error", 'Q.850;cause=41;text="NORMAL_TEMPORARY_FAILURE"')),
        (401, False, (401, "Unauthorized", 'Q.850;cause=21;text="CALL_REJECTED"')),
        (407, True, (480, "Temporarily Unavailable", 'Q.850;cause=96;text="MANDATORY_IE_MISSING"')),
        (607, False, (607, "Unwanted", 'SIP;cause=819;text="UNWANTED"')),
        (499, False, (499, "", 'Q.850;cause=31;text="NORMAL_UNSPECIFIED"')),
    ],
)
def test_failures(status: int, challenged: bool, expected: tuple[int, str, str]) -> None:
    assert failure(status, challenged=challenged) == expected


def test_canonical() -> None:
    assert canonical("<sip:%2B1555;npdi@x.com;user=phone>;tag=1") == "<sip:+1555@x.com;user=phone>;tag=1"
    assert canonical('"\u00dc" <sip:u%20v@x>') == '"\u00dc" <sip:u%20v@x>'
    assert canonical("<tel:+1555>;tag=1") == "<tel:+1555>;tag=1"

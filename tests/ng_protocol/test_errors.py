"""The classification table, row by row, and what an error tells a person."""

from __future__ import annotations

import pytest

from ng_protocol.errors import (
    ERROR_KINDS,
    REASONS,
    NgBadReply,
    NgBadRequest,
    NgBusy,
    NgClosed,
    NgError,
    NgLoadLimit,
    NgLostCall,
    NgRefused,
    NgTimeout,
    classify,
)

LOAD = [
    "Parallel session limit reached",
    "CPU usage limit exceeded",
    "Load limit exceeded",
    "Bandwidth limit exceeded",
    "Ran out of ports",
]
LOST = [
    "Unknown call-id",
    "Unknown call-ID",
    "unknown call-ID",
    "Unknown call-ID(s)",
    "Unknown call ID(s)",
    "Call-ID not found or tags didn't match",
    "To-tag not found",
    "From-tag not found",
    "from-tag not found",
    "Given from-tag not found",
    "Given to-tag not found",
    "From-tag given, but no such tag exists",
    "No monologue matching the given label",
    "No monologues matched",
    "No medias found (no monologues matched)",
    "Failed to match address to any tag",
    "Invalid dialogue association",
    "Media flow not found (to-tag not found)",
    "Media flow not found (to-label not found)",
    "Media flow not found (to-tag not subscribed)",
]
BAD = [reason for reason, kind in REASONS.items() if kind is NgBadRequest]


@pytest.mark.parametrize(
    ("reason", "kind"),
    [(reason, NgLoadLimit) for reason in LOAD]
    + [(reason, NgLostCall) for reason in LOST]
    + [(reason, NgBadRequest) for reason in BAD],
)
def test_every_reason(reason: str, kind: type[NgError]) -> None:
    assert classify(reason) is kind
    assert classify(reason.upper()) is kind
    assert classify(f" {reason} ") is kind


def test_every_row_of_the_table_is_tested_above() -> None:
    assert {reason.lower() for reason in LOAD + LOST + BAD} == set(REASONS)
    assert all(reason == reason.lower().strip() for reason in REASONS)


@pytest.mark.parametrize("reason", ["", "something new in version 99", "unknown"])
def test_an_unknown_reason_does_not_blame_the_node(reason: str) -> None:
    assert classify(reason) is NgBadRequest


@pytest.mark.parametrize(
    ("kind", "elsewhere"),
    [
        (NgTimeout, True),
        (NgRefused, True),
        (NgLoadLimit, True),
        (NgClosed, True),
        (NgLostCall, False),
        (NgBadRequest, False),
        (NgBadReply, False),
        (NgBusy, False),
    ],
)
def test_try_another_node(kind: type[NgError], elsewhere: bool) -> None:
    error = kind("node1 (192.0.2.1:2223)", "offer", "c1", "Ran out of ports")
    assert error.try_another_node is elsewhere
    assert kind in ERROR_KINDS


@pytest.mark.parametrize("kind", ERROR_KINDS)
def test_str_says_what_where_and_what_to_do(kind: type[NgError]) -> None:
    error = kind("node1 (192.0.2.1:2223)", "play media", "c1", "the detail")
    assert str(error) == f"play media of call c1 failed on rtpengine node1 (192.0.2.1:2223): the detail; {kind.advice}"
    assert (error.node, error.command, error.call_id, error.detail) == (
        "node1 (192.0.2.1:2223)",
        "play media",
        "c1",
        "the detail",
    )
    assert "of call" not in str(kind("n", "ping", None))


def test_kinds_are_distinct() -> None:
    assert len({kind.kind for kind in ERROR_KINDS}) == len(ERROR_KINDS)

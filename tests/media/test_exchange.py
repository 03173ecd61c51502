"""The offer/answer table, row by row, and the patterns of RFC 6337 table 1 as walks through it."""

from __future__ import annotations

import pytest

from proxy.media.exchange import TABLE, Event, Role, State, ack_event, request_event, response_event, step

ROWS = """
start     request with SDP       offer         offered
start     request                nothing       empty
offered   1xx with SDP           answer        early
offered   reliable 1xx with SDP  final answer  answered
offered   2xx with SDP           final answer  answered
offered   2xx                    refused       ended
offered   3xx-6xx                refused       ended
early     1xx with SDP           answer        early
early     reliable 1xx with SDP  final answer  answered
early     2xx with SDP           final answer  answered
early     2xx                    commit        answered
early     3xx-6xx                refused       ended
answered  1xx with SDP           answer        answered
answered  reliable 1xx with SDP  final answer  answered
answered  2xx with SDP           final answer  answered
answered  2xx                    commit        answered
answered  3xx-6xx                refused       ended
answered  ACK or PRACK with SDP  final answer  answered
empty     1xx with SDP           offer         counter
empty     reliable 1xx with SDP  offer         counter
empty     2xx with SDP           offer         counter
empty     3xx-6xx                nothing       ended
counter   1xx with SDP           offer         counter
counter   reliable 1xx with SDP  offer         counter
counter   2xx with SDP           offer         counter
counter   ACK or PRACK with SDP  final answer  answered
counter   ACK                    refused       ended
counter   3xx-6xx                refused       ended
"""
WALKED = [
    tuple(part.strip() for part in (line[:10], line[10:33], line[33:47], line[47:]))
    for line in ROWS.strip().splitlines()
]


@pytest.mark.parametrize("row", WALKED, ids=[f"{state}: {event}" for state, event, _, _ in WALKED])
def test_row(row: tuple[str, str, str, str]) -> None:
    state, event, role, after = row
    assert step(State(state), Event(event)) == (Role(role), State(after))


def test_no_row_is_missing_here() -> None:
    assert {(State(state), Event(event)) for state, event, _, _ in WALKED} == set(TABLE)


def test_every_other_pair_changes_nothing() -> None:
    for state in State:
        for event in Event:
            if (state, event) not in TABLE:
                assert step(state, event) == (Role.NOTHING, state)


@pytest.mark.parametrize(
    ("events", "roles"),
    [
        pytest.param([Event.REQUEST_SDP, Event.OK_SDP, Event.ACK], "offer final_answer nothing", id="1 INVITE, 2xx"),
        pytest.param([Event.REQUEST, Event.OK_SDP, Event.ACK_SDP], "nothing offer final_answer", id="2 2xx, ACK"),
        pytest.param(
            [Event.REQUEST_SDP, Event.RELIABLE_SDP, Event.OK], "offer final_answer commit", id="3 INVITE, 1xx"
        ),
        pytest.param(
            [Event.REQUEST, Event.RELIABLE_SDP, Event.ACK_SDP], "nothing offer final_answer", id="4 1xx, PRACK"
        ),
        pytest.param([Event.REQUEST_SDP, Event.OK_SDP], "offer final_answer", id="5 and 6 PRACK or UPDATE, 2xx"),
    ],
)
def test_rfc_6337_patterns(events: list[Event], roles: str) -> None:
    state = State.START
    seen = []
    for event in events:
        role, state = step(state, event)
        seen.append(role.name.lower())
    assert " ".join(seen) == roles


def test_events_of_messages() -> None:
    assert request_event(True) is Event.REQUEST_SDP and request_event(False) is Event.REQUEST
    assert ack_event(True) is Event.ACK_SDP and ack_event(False) is Event.ACK
    assert response_event(100, True, False) is None and response_event(180, False, False) is None
    assert response_event(183, True, False) is Event.PROVISIONAL_SDP
    assert response_event(183, True, True) is Event.RELIABLE_SDP
    assert response_event(200, True, True) is Event.OK_SDP and response_event(202, False, False) is Event.OK
    assert {response_event(code, False, False) for code in (300, 488, 500, 699)} == {Event.FAILED}

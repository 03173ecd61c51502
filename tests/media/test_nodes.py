"""The table of a node's states, row by row, and what an event says."""

from __future__ import annotations

from itertools import product

import pytest

from ng_protocol import Client
from proxy.media.nodes import TABLE, Action, Admin, Evidence, Node, NodeEvent, Observed, decision

# Written down a second time, by state: evidence -> state then and action; what is not named changes nothing.
EXPECTED: dict[str, dict[str, tuple[str, str]]] = {
    "UP": {
        "MISSED": ("SUSPECT", "AVOID"),
        "REFUSED": ("DOWN", "MOVE"),
        "SILENT": ("DOWN", "MOVE"),
        "CUT_OFF": ("PARTITIONED", "HOLD"),
        "MEDIA_SILENT": ("HALF_DEAD", "QUARANTINE"),
        "RESTARTED": ("UP", "RESTART"),
        "GIVEN_UP": ("DOWN", "MOVE"),
    },
    "SUSPECT": {
        "ANSWERS": ("UP", "BACK"),
        "REFUSED": ("DOWN", "MOVE"),
        "SILENT": ("DOWN", "MOVE"),
        "CUT_OFF": ("PARTITIONED", "HOLD"),
        "RESTARTED": ("UP", "RESTART"),
        "GIVEN_UP": ("DOWN", "MOVE"),
    },
    "PARTITIONED": {
        "ANSWERS": ("UP", "BACK"),
        "REFUSED": ("DOWN", "MOVE"),
        "SILENT": ("DOWN", "MOVE"),
        "RESTARTED": ("UP", "RESTART"),
        "GIVEN_UP": ("DOWN", "MOVE"),
    },
    "DOWN": {
        "ANSWERS": ("UP", "BACK"),
        "MEDIA_SILENT": ("HALF_DEAD", "QUARANTINE"),
        "RESTARTED": ("UP", "RESTART"),
        "GIVEN_UP": ("DOWN", "MOVE"),
    },
    "HALF_DEAD": {
        "REFUSED": ("DOWN", "MOVE"),
        "SILENT": ("DOWN", "MOVE"),
        "CUT_OFF": ("PARTITIONED", "HOLD"),
        "MEDIA_HEARD": ("UP", "BACK"),
        "RESTARTED": ("UP", "RESTART"),
        "GIVEN_UP": ("DOWN", "MOVE"),
    },
}


def node(observed: Observed = Observed.UP) -> Node:
    made = Node("node1", Client("127.0.0.1:2223", name="node1"))
    made.observed = observed
    return made


def test_the_table_is_complete() -> None:
    assert set(TABLE) == set(product(Observed, Evidence))
    assert set(EXPECTED) == set(Observed.__members__)


@pytest.mark.parametrize(("state", "evidence"), list(product(Observed, Evidence)))
def test_row(state: Observed, evidence: Evidence) -> None:
    one = node(state)
    then, action = EXPECTED[state.name].get(evidence.name, (state.name, "NONE"))
    assert one.take(evidence, 7.0) is Action[action]
    assert one.observed is Observed[then]
    assert one.generation == (evidence is Evidence.RESTARTED)
    assert one.admin is Admin.ACTIVE, "what is seen never changes what is wanted"
    assert one.since == (0.0 if action == "NONE" else 7.0)
    assert one.why == ("" if action in ("NONE", "BACK") else evidence.value)


def test_commands_are_worth_sending_while_control_answers_or_may() -> None:
    reachable = {state for state in Observed if node(state).reachable}
    assert reachable == {Observed.UP, Observed.SUSPECT, Observed.HALF_DEAD}


@pytest.mark.parametrize(
    ("action", "calls", "text"),
    [
        (Action.MOVE, 12, "12 calls to be moved to other nodes"),
        (Action.MOVE, 1, "1 call to be moved to other nodes"),
        (Action.AVOID, 3, "new calls avoid it"),
        (Action.NONE, 3, ""),
    ],
)
def test_a_decision_in_words(action: Action, calls: int, text: str) -> None:
    assert decision(action, calls) == text


def test_an_event_is_one_line() -> None:
    assert (
        NodeEvent(1.0, "node1", "down", "12 calls to be moved", 12).line() == "node node1: down; 12 calls to be moved"
    )
    assert NodeEvent(1.0, "node1", "added", "", 0).line() == "node node1: added"

"""The memory proof's verdicts, from readings made here, and what it drives."""

import os
from pathlib import Path

import pytest

from lab.bench.memory import PROOFS, RELAYS_A_CALL, Outcome, Reading, resident_kb
from lab.bench.processes import BenchError

BEFORE = Reading(40_000, 50_000, 200_000)


def outcome(after: Reading, failed: int = 0) -> Outcome:
    return Outcome("100 calls", 100, failed, 0, BEFORE, after)


def test_a_little_more_is_flat() -> None:
    assert outcome(Reading(48_000, 50_900, 203_000)).complaint == ""
    assert str(outcome(BEFORE)) == (
        "memory '100 calls' rss_kb=40000->40000 objects=50000->50000 blocks=200000->200000 "
        "calls=100 retransmissions=0 flat"
    )


@pytest.mark.parametrize(
    ("after", "complaint"),
    [
        (Reading(48_200, 50_000, 200_000), "8200 kB resident more"),
        (Reading(40_000, 51_100, 200_000), "1100 objects more"),
        (Reading(40_000, 50_000, 204_100), "4100 blocks more"),
    ],
)
def test_growth_is_told(after: Reading, complaint: str) -> None:
    assert outcome(after).complaint == complaint
    assert f"not flat: {complaint}" in str(outcome(after))


def test_failed_calls_prove_nothing() -> None:
    assert outcome(BEFORE, failed=3).complaint == "3 failed calls"


def test_a_million_relays_and_a_hundred_thousand_calls() -> None:
    stateless, stateful = PROOFS
    assert stateless.mode.stateless
    assert stateless.load.calls * RELAYS_A_CALL >= 1_000_000
    assert not stateful.mode.stateless
    assert stateful.load.calls == 100_000
    # As many calls linger after the warm-up as ever will: 32 s of them, and they are all gone after the rest.
    assert stateful.warm.calls / stateful.warm.rate >= 32.0
    assert stateful.rest > 32.0
    assert stateful.warm.rate == stateful.load.rate


def test_a_try_is_smaller() -> None:
    small = PROOFS[1].scaled(500, 100)
    assert (small.load.calls, small.load.rate, small.warm.calls, small.warm.rate) == (500, 100, 500, 100)
    assert small.what == "a try of 500 calls, stateful relay"
    assert PROOFS[1].scaled(None, None) is PROOFS[1]


def test_resident_memory_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resident_kb(os.getpid()) > 5_000
    monkeypatch.setattr(Path, "read_text", lambda _: "Name:\tzombie\n")
    with pytest.raises(BenchError, match="has no VmRSS: the process has ended"):
        resident_kb(1)

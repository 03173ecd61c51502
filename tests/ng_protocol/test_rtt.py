"""RFC 6298 arithmetic and Karn's rule."""

from __future__ import annotations

import pytest

from ng_protocol.rtt import RttEstimate


def test_first_sample_sets_srtt_and_half_of_it_as_variance() -> None:
    """RFC 6298 section 2.2: RTO = R + 4 * R/2."""
    rtt = RttEstimate(first=0.25, floor=0.1, ceiling=10)
    assert rtt.interval == 0.25
    rtt.measured(0.2)
    assert rtt.smoothed == pytest.approx(0.2)
    assert rtt.interval == pytest.approx(0.6)


def test_second_sample() -> None:
    """RFC 6298 section 2.3: RTTVAR = 3/4 * 0.1 + 1/4 * 0.1, SRTT = 7/8 * 0.2 + 1/8 * 0.3."""
    rtt = RttEstimate(first=0.25, floor=0.1, ceiling=10)
    rtt.measured(0.2)
    rtt.measured(0.3)
    assert rtt.smoothed == pytest.approx(0.2125)
    assert rtt.interval == pytest.approx(0.2125 + 4 * 0.1)


def test_floor_and_ceiling() -> None:
    rtt = RttEstimate(first=0.25, floor=0.1, ceiling=1)
    for _ in range(50):
        rtt.measured(0.0002)
    assert rtt.interval == 0.1
    rtt.measured(30)
    assert rtt.interval == 1


def test_a_backed_off_interval_stays_until_a_clean_sample() -> None:
    rtt = RttEstimate(first=0.25, floor=0.1, ceiling=1)
    rtt.measured(0.001)
    assert rtt.interval == 0.1
    rtt.backed_off(0.4)
    assert rtt.interval == 0.4
    rtt.backed_off(0.2)
    assert rtt.interval == 0.4, "a smaller one does not undo it"
    rtt.backed_off(8)
    assert rtt.interval == 1
    rtt.measured(0.001)
    assert rtt.interval == 0.1


def test_a_slow_node_is_learned() -> None:
    """A node that always takes 0.5 s ends up with an interval above it, so nothing is repeated needlessly."""
    rtt = RttEstimate(first=0.1, floor=0.1, ceiling=1)
    repeated = 0
    for _ in range(30):
        interval, waited = rtt.interval, rtt.interval
        if interval >= 0.5:
            rtt.measured(0.5)
            continue
        repeated += 1
        while waited < 0.5:
            interval *= 2
            waited += interval
        rtt.backed_off(interval)
    assert repeated <= 3
    assert rtt.interval > 0.5

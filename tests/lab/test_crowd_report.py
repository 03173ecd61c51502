"""Figures of a crowd made by hand: who is dropped, complete, audible, and the percentiles."""

from __future__ import annotations

import math
import socket

import pytest

from lab.crowd import Change, Crowd, Heard
from lab.crowd_report import Figures, percentile


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1), (0.5, 50), (0.99, 99), (1.0, 100)])
def test_percentiles_by_nearest_rank(share: float, expected: int) -> None:
    assert percentile([float(n) for n in range(100, 0, -1)], share) == expected


def test_percentile_of_nothing() -> None:
    assert math.isnan(percentile([], 0.5))


def test_figures() -> None:
    socks = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2 + 4)]
    for sock in socks:
        sock.bind(("127.0.0.1", 0))
    crowd = Crowd(socks[:2], 4)
    crowd.equip(0, socks[2:4], talks=True)
    crowd.equip(1, socks[4:6], talks=True)
    try:
        for end in (end for side in crowd.ends for end in side):
            end.status = 200
            end.changes = [Change(1, 90.0, 90.1)]  # before the event: does not count
        for number, acked in ((0, 100.5), (1, 102.0), (2, 104.0)):
            crowd.ends[0][number].changes.append(Change(2, 100.1, 100.2))
            crowd.ends[1][number].changes.append(Change(2, 100.1, acked))
        crowd.ends[0][3].ended = 101.0
        for side, gap in ((0, 0.1), (1, 0.3)):
            crowd.ends[side][0].heard = {"old": Heard(9, 1.0, 100.0), "new": Heard(9, 100.0 + gap, 105.0)}
            crowd.ends[side][1].heard = {"old": Heard(9, 1.0, 100.0)}
        crowd.ends[1][1].strangers = 2
        figures = Figures.of(crowd, 4, 100.0, "old", 104.5)
    finally:
        crowd.close()
    assert (figures.calls, figures.dropped, figures.talking, figures.audible, figures.strangers) == (4, 1, 2, 1, 2)
    assert figures.complete == [0.5, 2.0, 4.0]
    assert figures.within(3.0) == 2
    assert figures.gap(0.5) == pytest.approx(0.3)
    assert figures.line("daemon killed").startswith("daemon killed: 4 calls, 1 dropped, 3 re-INVITEd on both sides")
    gaps = "audio back in 1 of 2 calls, gap p50/p99 100/100 ms to the caller, 300/300 ms to the callee"
    assert gaps in figures.line("x")

"""The counters' snapshot."""

from __future__ import annotations

from ng_protocol.counters import ClientCounters
from ng_protocol.errors import ERROR_KINDS, NgRefused, NgTimeout


def test_snapshot_is_a_copy_with_every_error_kind() -> None:
    counters = ClientCounters()
    counters.sent = 3
    counters.count_error(NgTimeout("n", "ping"))
    before = counters.snapshot(rtt=0.0015, rto=0.1, in_flight=2)
    counters.sent += 1
    counters.count_error(NgTimeout("n", "ping"))
    counters.count_error(NgRefused("n", "ping"))
    after = counters.snapshot(rtt=None, rto=0.1, in_flight=0)
    assert (before.sent, before.timeouts, before.refused, before.rtt_ms, before.rto_ms) == (3, 1, 0, 1.5, 100.0)
    assert (after.sent, after.timeouts, after.refused, after.rtt_ms) == (4, 2, 1, None)
    assert set(after.errors) == {kind.kind for kind in ERROR_KINDS}

"""The statistics tree, from what a daemon sent."""

from __future__ import annotations

from typing import Any

from ng_protocol.replies import statistics_reply_untrusted
from ng_protocol.statstree import StatisticsReply
from tests.ng_protocol.samples import STATISTICS


def _reply(**changes: Any) -> dict[str, Any]:
    return {"result": b"ok", "statistics": {**STATISTICS, **changes}}


def test_figures() -> None:
    stats: StatisticsReply = statistics_reply_untrusted(_reply())
    assert (stats.current.sessions_own, stats.current.sessions_total, stats.current.packet_rate) == (3, 4, 150)
    assert stats.uptime == 3600, "10.5 sends a decimal string"
    assert (stats.totals.managed_sessions, stats.totals.rejected_sessions) == (12, 2)
    assert (stats.totals.average_call_duration, stats.totals.relayed_packets) == (12.5, 10**10)
    assert [(item.name, item.ports.used, item.ports.free) for item in stats.interfaces] == [
        ("pub", 12, 9988),
        ("lan", 90, 10),
    ]
    assert (stats.ports_free, stats.ports_used) == (10, 102)
    assert (stats.commands("offer"), stats.commands("answer"), stats.commands("delete")) == (20, 18, 17)
    assert (stats.commands("no such command"), stats.errors) == (0, 7)
    assert [(item.chain, item.num) for item in stats.transcoders] == [("PCMA -> opus", 2)]
    assert stats.raw["mos"]["mos_average"] == "4.300000"


def test_strange_control_figures_count_as_zero() -> None:
    stats = statistics_reply_untrusted(_reply(controlstatistics={"proxies": 5, "totaloffercount": b"x"}, interfaces=[]))
    assert (stats.errors, stats.commands("offer"), stats.ports_free) == (0, 0, 0)
    stats = statistics_reply_untrusted(_reply(controlstatistics={"proxies": [1, {"errorcount": b"x"}]}))
    assert stats.errors == 0

"""What ``statistics`` returns, as far as a node pool or an operator needs it.

Theory of operation. Plain data converted by msgspec; the rest of the daemon's several hundred figures stays reachable
in ``raw``. 10.5 sends some numbers as decimal strings (uptime, all rates and durations); they are normalised here. A
smaller ``uptime`` than last time means the daemon restarted and lost its calls: 10.5 has no instance id. Source:
rtpengine mr10.5.3.5 daemon/statistics.c.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import field


class _Node(msgspec.Struct, frozen=True, kw_only=True):
    """Base: frozen, keyword-only."""


class Current(_Node, frozen=True):
    """Now: sessions, and rates per second over the last second."""

    sessions_own: int = field(default=0, name="sessionsown")
    sessions_foreign: int = field(default=0, name="sessionsforeign")
    sessions_total: int = field(default=0, name="sessionstotal")
    transcoded_media: int = field(default=0, name="transcodedmedia")
    packet_rate: int = field(default=0, name="packetrate")
    byte_rate: int = field(default=0, name="byterate")
    error_rate: int = field(default=0, name="errorrate")
    media_userspace: int = 0
    media_kernel: int = 0
    media_mixed: int = 0


class Totals(_Node, frozen=True):
    """Since the daemon started. Durations in seconds."""

    uptime: int = 0
    managed_sessions: int = field(default=0, name="managedsessions")
    rejected_sessions: int = field(default=0, name="rejectedsessions")
    timeout_sessions: int = field(default=0, name="timeoutsessions")
    silent_timeout_sessions: int = field(default=0, name="silenttimeoutsessions")
    final_timeout_sessions: int = field(default=0, name="finaltimeoutsessions")
    offer_timeout_sessions: int = field(default=0, name="offertimeoutsessions")
    regular_terminated_sessions: int = field(default=0, name="regularterminatedsessions")
    forced_terminated_sessions: int = field(default=0, name="forcedterminatedsessions")
    relayed_packets: int = field(default=0, name="relayedpackets")
    relayed_packet_errors: int = field(default=0, name="relayedpacketerrors")
    relayed_bytes: int = field(default=0, name="relayedbytes")
    zero_way_streams: int = field(default=0, name="zerowaystreams")
    one_way_streams: int = field(default=0, name="onewaystreams")
    average_call_duration: float = field(default=0.0, name="avgcallduration")


class Ports(_Node, frozen=True):
    """RTP ports of one interface, RTP and RTCP counted one each."""

    min: int = 0
    max: int = 0
    used: int = 0
    free: int = 0
    totals: int = 0


class Interface(_Node, frozen=True):
    """A logical interface (the names in ``direction``) and one local address of it."""

    name: str
    address: str = ""
    ports: Ports = field(default_factory=Ports)


class Transcoder(_Node, frozen=True):
    """``chain`` as ``PCMA -> opus`` and how many media use it now."""

    chain: str
    num: int = 0


class StatisticsReply(_Node, frozen=True):
    """One daemon. ``raw``: everything it said, text decoded."""

    current: Current = field(name="currentstatistics")
    totals: Totals = field(name="totalstatistics")
    interfaces: tuple[Interface, ...] = ()
    transcoders: tuple[Transcoder, ...] = ()
    control: dict[str, Any] = field(default_factory=dict, name="controlstatistics")
    raw: dict[str, Any] = field(default_factory=dict)

    @property
    def uptime(self) -> int:
        """Seconds since the daemon started."""
        return self.totals.uptime

    @property
    def ports_free(self) -> int:
        """Free ports of the fullest interface, which is what limits the next call; 0 without interfaces."""
        return min((interface.ports.free for interface in self.interfaces), default=0)

    @property
    def ports_used(self) -> int:
        """Used ports of all interfaces."""
        return sum(interface.ports.used for interface in self.interfaces)

    def commands(self, name: str) -> int:
        """How many commands of one kind the daemon executed, by its own short name: ``offer``, ``answer``, ``delete``,
        ``ping``, ``query``, ``list``, ``stats``, ``startrec``, ..."""
        value = self.control.get(f"total{name}count", 0)
        return value if isinstance(value, int) else 0

    @property
    def errors(self) -> int:
        """Commands the daemon answered with an error, over all its clients."""
        proxies = self.control.get("proxies")
        rows = proxies if isinstance(proxies, list) else []
        counts = [row.get("errorcount", 0) for row in rows if isinstance(row, dict)]
        return sum(count for count in counts if isinstance(count, int))

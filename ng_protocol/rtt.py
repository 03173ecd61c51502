"""How long to wait before a datagram is sent again: RFC 6298 smoothing with Karn's rule.

Theory of operation. Pure arithmetic. Each clean sample (a command sent once) moves the smoothed round-trip time and its
variance (RFC 6298 section 2, alpha 1/8, beta 1/4); the interval is their sum SRTT + 4 RTTVAR, kept between floor and
ceiling. A reply to a repeated command measures nothing (which copy was answered?): the interval that was reached stays
in force until the next clean sample (Karn; RFC 6298 section 5.5-5.7), so a node slower than the interval is learned.
"""

from __future__ import annotations


class RttEstimate:
    """Seconds throughout. ``interval`` is the next first retransmission interval, ``smoothed`` the SRTT or None."""

    __slots__ = ("_ceiling", "_floor", "_variance", "interval", "smoothed")

    def __init__(self, first: float, floor: float, ceiling: float) -> None:
        self.interval = first
        self.smoothed: float | None = None
        self._variance = 0.0
        self._floor = floor
        self._ceiling = ceiling

    def measured(self, sample: float) -> None:
        """A command that was sent once was answered after ``sample`` seconds."""
        smoothed = self.smoothed
        if smoothed is None:
            smoothed = sample
            self._variance = sample / 2
        else:
            self._variance += (abs(smoothed - sample) - self._variance) / 4
            smoothed += (sample - smoothed) / 8
        self.smoothed = smoothed
        interval = smoothed + 4 * self._variance
        self.interval = min(max(interval, self._floor), self._ceiling)

    def backed_off(self, interval: float) -> None:
        """A command was answered only after a retransmission, when ``interval`` was in force."""
        self.interval = min(max(self.interval, interval), self._ceiling)

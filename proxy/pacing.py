"""Under load, wake up by the clock instead of for every datagram.

How it works: waking up is the dearest thing a proxy does at a few hundred calls a second. A turn of the event loop
with cold caches costs more than relaying a message, and nearly every datagram brings one. So when more than
``BUSY_RATE`` datagrams a second come in, the loop naps for ``NAP`` seconds at a time and drains all sockets in between,
which adds half of that to the latency of a message and pays one cheap wake-up for all that came meanwhile (network
cards moderate their interrupts in the same way). Below ``CALM_RATE`` every socket's own task waits for its datagrams
again, and nothing is delayed.

The nap is a plain ``time.sleep``: the whole process does nothing for two milliseconds, which is what is wanted. A
``trio.sleep`` costs several times as much, since it goes through the event loop.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

NAP = 0.002
"""Seconds between two looks at the sockets under load."""

BUSY_RATE = 500.0
CALM_RATE = 300.0
"""Datagrams a second that begin and end pacing: two numbers, or it would flap between them."""

_WINDOW = 0.05  # seconds over which the rate is measured
_BACKLOG = 16  # datagrams in one look after which the next follows without a nap


class Source(Protocol):
    """A socket that can be emptied without waiting. ``drained`` counts its datagrams since the start."""

    drained: int

    def drain(self) -> int: ...


class Pacer:
    """Decides from the rate of ``sources`` when to pace, and does one round of it. ``also``: drained too, but does not
    count as load (the replies of rtpengine). ``clock`` is real time in seconds, whatever clock the proxy runs on."""

    def __init__(
        self,
        sources: Sequence[Source],
        also: Sequence[Callable[[], int]] = (),
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._sources = sources
        self._drains = [source.drain for source in sources]
        self._also = also
        self._clock = clock
        self._sleep = sleep
        self._since = clock()
        self._before = 0
        self._backlog = False
        self.busy = False

    def measure(self) -> bool:
        """Whether to pace, from the datagrams since the last measurement, if that is long enough ago."""
        now = self._clock()
        passed = now - self._since
        if passed >= _WINDOW:
            total = sum(source.drained for source in self._sources)
            self.busy = total - self._before > passed * (CALM_RATE if self.busy else BUSY_RATE)
            self._since = now
            self._before = total
        return self.busy

    def round(self) -> int:
        """Nap, unless there is a backlog, and drain everything; returns how many replies came from ``also``."""
        if not self._backlog:
            self._sleep(NAP)
        taken = 0
        for drain in self._drains:
            taken += drain()
        self._backlog = taken >= _BACKLOG
        replies = 0
        for drain in self._also:
            replies += drain()
        return replies

"""Python's cyclic garbage collector kept off the hot path.

How it works. Almost everything a call makes is freed by its reference count, because whoever ends (a transaction, a
relay, a media session) lets go of what it holds. The collector of CPython finds only what refers to itself in a
circle, and to find it it walks over every object made since the last time: with thousands of transactions waiting out
their timers that was 45 % of the CPU time of a call at 1,000 calls a second. So it does not run by itself here:

- what is there at the start is frozen (it is never looked at again);
- when ``YOUNG`` objects more than at the last look are alive, a look at those alone follows, a few milliseconds;
- everything is looked at now and then when the proxy has little to do, or when ``OLD`` objects have outlived looks.

`looks` and `found` count the looks and the unreachable objects in them. ``found`` stays near zero: a test makes calls
and expects it.
"""

from __future__ import annotations

import gc

YOUNG = 100_000
"""Container objects alive beyond those at the last look, after which the young ones are looked at."""
OLD = 2_000_000
"""Objects that outlived looks, after which everything is looked at although the proxy is busy."""
FULL_EVERY = 600.0
"""Seconds between two looks at everything while the proxy has little to do; each takes about 0.2 us an object."""


class Garbage:
    """Decides when to collect. ``step`` is called about once a second."""

    def __init__(self) -> None:
        self.looks = 0
        self.found = 0
        self._outlived = 0
        self._last_full = 0.0

    def begin(self, now: float) -> None:
        """From now on collections happen in ``step`` alone. ``now``: monotonic seconds, as in ``step``."""
        self._last_full = now
        gc.collect()
        gc.freeze()
        gc.disable()

    def end(self) -> None:
        """As Python does it again."""
        gc.unfreeze()
        gc.enable()

    def step(self, busy: bool, now: float) -> None:
        """One look, if it is due. ``busy``: a full one would delay calls."""
        young = gc.get_count()[0]
        full = self._outlived >= OLD or (not busy and now - self._last_full >= FULL_EVERY)
        if young < YOUNG and not full:
            return
        self.looks += 1
        if full:
            self.found += gc.collect()
            self._outlived = 0
            self._last_full = now
        else:
            self.found += gc.collect(0)
            self._outlived += young

"""What a crowd went through when its media node failed, in figures.

Theory of operation. `Figures.of` reads the two ends of every call once, after the event: a call is *complete* when both
re-INVITEs that came after the event were answered and ACKed, *dropped* when it ended or was given up by somebody else,
*audible* when both talking phones heard their peer again from another address than the dead node's, to the end. A gap
is the time from the last packet of the dead node to the first of another one, at one phone. Percentiles are by nearest
rank, over each direction by itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from lab.crowd import Crowd


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile (`share` 0 to 1); NaN of nothing."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(share * len(ranked)) - 1)] if ranked else math.nan


@dataclass
class Figures:
    """Times in seconds after the event. `gaps` are those heard by callers and by callees."""

    calls: int = 0
    dropped: int = 0
    complete: list[float] = field(default_factory=list)
    """When each complete call was."""
    talking: int = 0
    audible: int = 0
    gaps: tuple[list[float], list[float]] = ((), ())  # type: ignore[assignment]
    strangers: int = 0
    """RTP packets that reached a phone of another call."""

    @classmethod
    def of(cls, crowd: Crowd, calls: int, event: float, away: str, still: float) -> Figures:
        """Of the first `calls` calls of a crowd whose node at the public address `away` failed at `event`; who is
        audible heard its peer after the moment `still`."""
        found = cls(calls=calls, gaps=([], []))
        for caller, callee in list(zip(*crowd.ends, strict=True))[:calls]:
            found.dropped += not (caller.up and callee.up)
            changed = [end.changed_since(event) for end in (caller, callee)]
            if changed[0] and changed[1]:
                found.complete.append(max(changed[0], changed[1]) - event)
            found.strangers += caller.strangers + callee.strangers
            if not caller.talks or (away not in caller.heard and away not in callee.heard):
                continue
            found.talking += 1
            last = [
                max((heard.last for address, heard in end.heard.items() if address != away), default=0.0)
                for end in (caller, callee)
            ]
            found.audible += min(last) >= still
            for end in (caller, callee):
                gap = end.gap(away)
                if gap is not None:
                    found.gaps[end.side].append(gap)
        return found

    def within(self, seconds: float) -> int:
        """Calls complete that many seconds after the event."""
        return sum(moment <= seconds for moment in self.complete)

    def gap(self, share: float) -> float:
        """The worse direction's percentile of the gap."""
        return max((percentile(heard, share) for heard in self.gaps if heard), default=math.nan)

    def line(self, what: str) -> str:
        """One line for a person."""
        last = f" (the last after {max(self.complete):.2f} s)" if self.complete else ""
        told = (
            f"{what}: {self.calls} calls, {self.dropped} dropped, {len(self.complete)} re-INVITEd on both sides{last};"
            f" audio back in {self.audible} of {self.talking} calls"
        )
        if not any(self.gaps):
            return told
        sides = (f"{percentile(heard, 0.5) * 1e3:.0f}/{percentile(heard, 0.99) * 1e3:.0f}" for heard in self.gaps)
        callers, callees = sides
        return f"{told}, gap p50/p99 {callers} ms to the caller, {callees} ms to the callee"

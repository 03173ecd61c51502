"""What is measured: the modes with their loads and their bars. Every other file asks this one.

`rate` and `calls` are what `make bench` drives in one run; they make a whole bench of five pairs fit into 25 minutes
(about 18, and what has to be repeated).
A bar is the greatest ratio ours / peer that passes. P8 has none: its figures are delays.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mode:
    """One comparison. `at_least`: calls a second below which a run does not count, unless a smaller load was asked
    for. `media`: a fresh rtpengine takes part. `switch`: the B2BUA takes part, so a call passes
    twice. `delay`: the figure is how long the INVITE takes through the proxy, not CPU."""

    name: str
    words: str
    rate: int
    calls: int
    bar: float | None = None
    at_least: int = 0
    stateless: bool = False
    media: bool = False
    switch: bool = False
    delay: bool = False


MODES = {
    mode.name: mode
    for mode in (
        Mode("P1", "stateless relay", 2000, 16_000, 0.45, stateless=True),
        Mode("P1_500", "stateless relay, low load", 500, 4000, 0.75, stateless=True),
        Mode("P2", "stateful relay", 1000, 8000, 0.7),
        Mode("P3", "stateful relay with rtpengine offer, answer, delete", 1000, 8000, 0.7, media=True),
        Mode("P4", "the talk's call: two passes, B2BUA, media", 515, 6000, 0.6, 500, media=True, switch=True),
        Mode("P8", "added delay of the INVITE, stateful relay", 200, 2400, delay=True),
    )
}
"""Modes by name, in the order they are measured."""

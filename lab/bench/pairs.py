"""From runs to a ratio: which peer, which pairs count, when to give up. Pure; the runs themselves are passed in.

1. *Scan*: every candidate of the peer runs once. One with failed calls is printed and left out; the cheapest of the
   rest is the peer. A run with retransmissions is repeated.
2. *Pairs*: ours, peer, ours, peer, ... A pair in which either run is spoiled is thrown out and repeated, at most
   `REPEATS` times; then the mode is invalid and has no ratio.
   When it was failed calls of the peer every time, that setting of it is left out and the next cheapest takes its
   place from the first pair on: with two or more workers it reorders messages of a call now and then.
3. The result is the median of the pairs' ratios ours / peer, with the least and the greatest.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Protocol, TypeVar

REPEATS = 3
"""How often a spoiled pair is run again."""


@dataclass(frozen=True)
class Run:
    """Figures of one run. `cpu_us`: microseconds of CPU per call, `system_us` of them in the kernel. `complaint`: what
    else than sipp says that the figures do not count. `rate`: calls a second really made. `p50_us`, `p99_us`: delay of
    the INVITE in microseconds, where that is measured. `note`: something to print beside the figures."""

    side: str
    calls: int
    failed: int
    retransmissions: int
    cpu_us: float
    complaint: str = ""
    system_us: float = 0.0
    rate: float = 0.0
    p50_us: float = 0.0
    p99_us: float = 0.0
    note: str = ""

    @property
    def figure(self) -> float:
        """What is compared: the median delay where delays are measured, else CPU per call. Microseconds."""
        return self.p50_us or self.cpu_us

    @property
    def spoiled(self) -> str:
        """Why the figure does not count; "" when it does."""
        reasons = []
        if self.failed:
            reasons.append(f"{self.failed} failed calls")
        if self.retransmissions:
            reasons.append(f"{self.retransmissions} retransmissions")
        if self.complaint:
            reasons.append(self.complaint)
        return ", ".join(reasons)

    def __str__(self) -> str:
        verdict = f"  left out: {self.spoiled}" if self.spoiled else ""
        share = f"{self.cpu_us:.0f} us a call ({self.system_us:.0f} in the kernel)"
        if self.p50_us:
            share += f", delay p50 {self.p50_us:.0f} us p99 {self.p99_us:.0f} us"
        rate = f" at {self.rate:.0f} a second" if self.rate else ""
        note = f", {self.note}" if self.note else ""
        return f"{self.side}: {share}, {self.calls - self.failed} of {self.calls} calls{rate}{note}{verdict}"


class Named(Protocol):
    """Anything with a name: what is run."""

    @property
    def name(self) -> str: ...


SideT = TypeVar("SideT", bound=Named)


@dataclass
class Result:
    """Outcome of one mode. `invalid` says why there is no ratio; `spoiled` counts pairs thrown out, `retransmissions`
    those of all pairs, thrown out or not; `left_out` are settings of the peer that failed only after the scan."""

    mode: str
    peer: str = ""
    scan: list[Run] = field(default_factory=list)
    pairs: list[tuple[Run, Run]] = field(default_factory=list)
    spoiled: int = 0
    retransmissions: int = 0
    invalid: str = ""
    left_out: list[str] = field(default_factory=list)

    @property
    def ratios(self) -> list[float]:
        """Ours over peer, one a pair that counted."""
        return [ours.figure / peer.figure for ours, peer in self.pairs]

    @property
    def ours_us(self) -> float | None:
        """Median figure of our side over the pairs that counted, in microseconds."""
        return median(ours.figure for ours, _ in self.pairs) if self.pairs else None

    @property
    def peer_us(self) -> float | None:
        """Median figure of the peer over the pairs that counted, in microseconds."""
        return median(peer.figure for _, peer in self.pairs) if self.pairs else None

    @property
    def ratio(self) -> float | None:
        """Median ratio; None when the mode is invalid."""
        return None if self.invalid or not self.pairs else median(self.ratios)


def rank_peers(
    candidates: Sequence[SideT], run: Callable[[SideT], Run], tell: Callable[[str], None]
) -> tuple[list[SideT], list[Run]]:
    """Run every candidate and return those whose calls all succeeded, cheapest first, and all runs."""
    runs: list[Run] = []
    good: list[tuple[float, int]] = []
    for index, candidate in enumerate(candidates):
        for _ in range(1 + REPEATS):
            figures = run(candidate)
            runs.append(figures)
            tell(f"scan   {figures}")
            if not figures.spoiled:
                good.append((figures.figure, index))
            if not figures.retransmissions or figures.failed:
                break
    return [candidates[index] for _, index in sorted(good)], runs


def compare(
    mode: str,
    ours: SideT,
    candidates: Sequence[SideT],
    pairs: int,
    run: Callable[[SideT], Run],
    tell: Callable[[str], None],
) -> Result:
    """Measure one mode. `run` measures one side once; `tell` gets a line of progress."""
    result = Result(mode)
    ranked, result.scan = rank_peers(candidates, run, tell)
    if not ranked:
        result.invalid = "the peer has no setting without failed calls"
    for number, peer in enumerate(ranked, 1):
        failing = against(result, ours, peer, pairs, run, tell)
        if not failing or number == len(ranked):
            break
        tell(f"left out: {peer.name}, {failing}; once more with {ranked[number].name}")
        result.left_out.append(f"{peer.name}: {failing}")
    return result


def against(
    result: Result, ours: SideT, peer: SideT, pairs: int, run: Callable[[SideT], Run], tell: Callable[[str], None]
) -> str:
    """Fill `result` with pairs beside one setting of the peer. Returns why that setting has to be left out after all,
    calls that failed in every try of a pair; "" when it does not. What else spoils a pair as often makes the mode
    invalid."""
    result.peer, result.pairs, result.invalid = peer.name, [], ""
    for number in range(1, pairs + 1):
        failing = True
        for attempt in range(1 + REPEATS):
            pair = (run(ours), run(peer))
            spoiled = "; ".join(f"{figures.side}: {figures.spoiled}" for figures in pair if figures.spoiled)
            result.retransmissions += sum(figures.retransmissions for figures in pair)
            again = f" (repeat {attempt})" if attempt else ""
            for figures in pair:
                tell(f"pair {number}{again}  {figures}")
            if not spoiled:
                result.pairs.append(pair)
                break
            result.spoiled += 1
            failing = failing and pair[1].failed > 0
        else:
            result.invalid = f"pair {number} was spoiled {1 + REPEATS} times, last by {spoiled}"
            return f"failed calls in each of {1 + REPEATS} tries of a pair" if failing else ""
    return ""

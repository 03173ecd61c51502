"""What a bench says: one line a mode for people and scripts, and docs/performance.md.

The line is `bench P2 ours_us=310 peer_us=402 ratio=0.77 ...`; with no valid result `ratio=invalid` and the reason last.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from lab.bench.pairs import Result
from lab.bench.sides import MODES
from lab.bench.sipp import Load

TEXT = """\
# Performance

CPU per call of the proxy beside Kamailio with the same work in the same run, measured by `make bench`, which
rewrites this file. Only the ratios say something: the microseconds are those of one machine on one day.

- Date: {day}
- Machine: {machine}
- Versions: {versions}
- Load: {calls} calls a run at {rate} calls a second; a call is INVITE 180 200 ACK BYE 200 with Record-Route honoured
- CPU read {settle:.0f} s after the load, when the proxy had come to rest

## Result

| mode | ours, us a call | peer, us a call | ratio (median) | least - greatest | pairs | thrown out |
|---|---|---|---|---|---|---|
{results}

## How it is measured

Both proxies run on loopback in a network namespace of their own, under the same sipp scenarios
(`lab/bench/scenarios`), in turns: ours, peer, ours, peer. A figure is the user and system time of the proxy's
whole process tree over the calls of the run; 200 calls before it warm up. The ratio of a mode is the median of
its pairs. A pair in which a call failed or anything was retransmitted is thrown out and repeated at most three
times; after that the mode has no ratio. In P3 a run counts only when rtpengine itself saw one offer, one answer
and one delete a call. The peer is Kamailio's best of `children` 1, 2 and 4; a setting with failed calls is left
out.

## Kamailio's settings

{scan}

## Pairs

{pairs}
"""


def machine() -> str:
    """Cores and CPU model of this machine, in a few words."""
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores, {models[0] if models else 'CPU model unknown'}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def line(result: Result, load: Load) -> str:
    """The one line of a mode."""
    head = f"bench {result.mode} ours_us={_number(result.ours_us)} peer_us={_number(result.peer_us)}"
    tail = f"pairs={len(result.pairs)} repeated={result.spoiled} rate={load.rate} calls={load.calls}"
    if result.ratio is None:
        return f"{head} ratio=invalid {tail} reason={result.invalid!r}"
    spread = f"min={min(result.ratios):.2f} max={max(result.ratios):.2f}"
    return f"{head} ratio={result.ratio:.2f} {spread} {tail} peer={result.peer!r}"


@dataclass(frozen=True)
class Context:
    """What a reader needs to judge the figures: when, where, with what."""

    day: date
    machine: str
    versions: str
    load: Load
    settle: float


def _scan_rows(results: Sequence[Result]) -> list[str]:
    rows = ["| mode | setting | us a call | counted |", "|---|---|---|---|"]
    for result in results:
        for run in result.scan:
            rows.append(f"| {result.mode} | {run.side} | {run.cpu_us:.0f} | {run.spoiled or 'yes'} |")
    return rows


def _pair_rows(results: Sequence[Result]) -> list[str]:
    rows = ["| mode | pair | ours, us | peer, us | ratio |", "|---|---|---|---|---|"]
    for result in results:
        for number, (ours, peer) in enumerate(result.pairs, 1):
            rows.append(
                f"| {result.mode} | {number} | {ours.cpu_us:.0f} | {peer.cpu_us:.0f} "
                f"| {ours.cpu_us / peer.cpu_us:.2f} |"
            )
    return rows


def _result_row(result: Result) -> str:
    ratio, spread = "invalid", result.invalid
    if result.ratio is not None:
        ratio, spread = f"**{result.ratio:.2f}**", f"{min(result.ratios):.2f} - {max(result.ratios):.2f}"
    what = MODES.get(result.mode, "")
    return (
        f"| {result.mode}: {what} | {_number(result.ours_us)} | {_number(result.peer_us)} ({result.peer or 'none'}) "
        f"| {ratio} | {spread} | {len(result.pairs)} | {result.spoiled} |"
    )


def markdown(results: Sequence[Result], context: Context) -> str:
    """The text of docs/performance.md."""
    return TEXT.format(
        day=context.day.isoformat(),
        machine=context.machine,
        versions=context.versions,
        calls=context.load.calls,
        rate=context.load.rate,
        settle=context.settle,
        results="\n".join(_result_row(result) for result in results),
        scan="\n".join(_scan_rows(results)),
        pairs="\n".join(_pair_rows(results)),
    )

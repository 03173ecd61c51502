"""What a bench says: one line a mode for people and scripts, and the parts of docs/performance.md.

The line is `bench P2 ours_us=310 peer_us=402 ratio=0.77 min=... max=... bar=0.7 missed ...`; with no valid result
`ratio=invalid` and the reason last. A mode of delays has p50 and p99 of both in place of the ratio.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from statistics import median

from lab.bench.build import Build
from lab.bench.memory import Outcome
from lab.bench.modes import MODES
from lab.bench.pairs import Result, Run
from lab.bench.profiling import Profile, dearest
from lab.bench.sipp import Load

RESULTS = """\
- Date: {day}
- Machine: {machine}
- Versions: {versions}
- Our build: {build}
- A call is INVITE 180 200 ACK BYE 200 with Record-Route honoured; CPU read {settle:.0f} s after the load, when the
  proxy had come to rest

## Result

Only the ratios say something: the microseconds are those of one machine on one day.

{ratios}

![The ratios of each mode with their bars](performance.svg)

{delays}## Kamailio's settings

{scan}

## Pairs

{pairs}
"""

DELAYS = """\
## Added delay

From the INVITE's delivery to the proxy to its delivery to the callee, by the kernel's time stamps; medians of the
pairs.

{rows}

"""

MEMORY = """\
## Memory

Of our proxy ({build}, {day}), before and after, both times at rest; before came two loads of the same kind that
brought it to the most calls at once it would ever hold. Objects and blocks are counted after a collection.

{rows}
"""

PROFILE = """\
## Where the time goes

Our side under cProfile (pure Python, {day}): microseconds of CPU and calls per SIP call. cProfile makes every call
dearer: read proportions. The flame graphs are sampled and have no such bias.

{parts}
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


@dataclass(frozen=True)
class Context:
    """What a reader needs to judge the figures: when, where, with what. `loads` by name of mode."""

    day: date
    machine: str
    versions: str
    build: Build | None
    loads: dict[str, Load]
    settle: float


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def _delay(runs: Sequence[Run]) -> tuple[float, float]:
    """Median p50 and median p99 of these runs."""
    return median(run.p50_us for run in runs), median(run.p99_us for run in runs)


def _sides(result: Result) -> tuple[list[Run], list[Run]]:
    return [ours for ours, _ in result.pairs], [peer for _, peer in result.pairs]


def verdict(result: Result) -> str:
    """`reached` or `missed`; "" for a mode without a bar or a ratio."""
    bar = MODES[result.mode].bar
    if bar is None or result.ratio is None:
        return ""
    return "reached" if result.ratio <= bar else "missed"


def line(result: Result, load: Load) -> str:
    """The one line of a mode."""
    mode = MODES[result.mode]
    tail = (
        f"pairs={len(result.pairs)} repeated={result.spoiled} retransmissions={result.retransmissions} "
        f"rate={load.rate} calls={load.calls}"
    )
    if result.ratio is None:
        return f"bench {result.mode} ratio=invalid {tail} reason={result.invalid!r}"
    if mode.delay:
        (ours50, ours99), (peer50, peer99) = map(_delay, _sides(result))
        head = f"ours_p50_us={ours50:.0f} ours_p99_us={ours99:.0f} peer_p50_us={peer50:.0f} peer_p99_us={peer99:.0f}"
        return f"bench {result.mode} {head} {tail} peer={result.peer!r}"
    head = f"ours_us={_number(result.ours_us)} peer_us={_number(result.peer_us)} ratio={result.ratio:.2f}"
    spread = f"min={min(result.ratios):.2f} max={max(result.ratios):.2f}"
    bar = "" if mode.bar is None else f"bar={mode.bar} {verdict(result)} "
    return f"bench {result.mode} {head} {spread} {bar}{tail} peer={result.peer!r}"


def _ratio_rows(results: Sequence[Result], loads: dict[str, Load]) -> list[str]:
    rows = [
        "| mode | calls a second | ours, us a call | peer, us a call | ratio (median) | least - greatest | bar | pairs "
        "| thrown out | retransmissions |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        mode = MODES[result.mode]
        if mode.delay and result.ratio is not None:
            continue
        ratio, spread = "invalid", result.invalid
        if result.ratio is not None:
            ratio, spread = f"**{result.ratio:.2f}**", f"{min(result.ratios):.2f} - {max(result.ratios):.2f}"
        bar = "-" if mode.bar is None else f"{mode.bar} {verdict(result)}".strip()
        rows.append(
            f"| {mode.name}: {mode.words} | {_held(result, loads[mode.name])} | {_number(result.ours_us)} "
            f"| {_number(result.peer_us)} ({result.peer or 'none'}) | {ratio} | {spread} | {bar} "
            f"| {len(result.pairs)} | {result.spoiled} | {result.retransmissions} |"
        )
    return rows


def _held(result: Result, load: Load) -> str:
    """The load asked for, and the least that a counted run held."""
    rates = [run.rate for pair in result.pairs for run in pair]
    return f"{load.rate} (held {min(rates):.0f})" if rates else f"{load.rate}"


def _delay_part(results: Sequence[Result]) -> str:
    rows = ["| mode | calls a second | side | p50, us | p99, us |", "|---|---|---|---|---|"]
    for result in results:
        mode = MODES[result.mode]
        if not mode.delay or not result.pairs:
            continue
        for runs in _sides(result):
            p50, p99 = _delay(runs)
            rows.append(
                f"| {mode.name} | {min(run.rate for run in runs):.0f} | {runs[0].side} | {p50:.0f} | {p99:.0f} |"
            )
    return DELAYS.format(rows="\n".join(rows)) if len(rows) > 2 else ""


def _scan_rows(results: Sequence[Result]) -> list[str]:
    rows = ["| mode | setting | us | counted |", "|---|---|---|---|"]
    for result in results:
        for run in result.scan:
            rows.append(f"| {result.mode} | {run.side} | {run.figure:.0f} | {run.spoiled or 'yes'} |")
        rows += [f"| {result.mode} | {one.replace(': ', ' | - | later ', 1)} |" for one in result.left_out]
    return rows


def _pair_rows(results: Sequence[Result]) -> list[str]:
    rows = ["| mode | pair | ours, us | peer, us | ratio |", "|---|---|---|---|---|"]
    for result in results:
        for number, (ours, peer) in enumerate(result.pairs, 1):
            rows.append(
                f"| {result.mode} | {number} | {ours.figure:.0f} | {peer.figure:.0f} "
                f"| {ours.figure / peer.figure:.2f} |"
            )
    return rows


def results_part(results: Sequence[Result], context: Context) -> str:
    """The part `results` of the page."""
    return RESULTS.format(
        day=context.day.isoformat(),
        machine=context.machine,
        versions=context.versions,
        build=context.build or "none: Kamailio on both sides",
        settle=context.settle,
        ratios="\n".join(_ratio_rows(results, context.loads)),
        delays=_delay_part(results),
        scan="\n".join(_scan_rows(results)),
        pairs="\n".join(_pair_rows(results)),
    )


def memory_part(outcomes: Sequence[Outcome], day: date, build: Build) -> str:
    """The part `memory` of the page."""
    rows = [
        "| load | resident, kB | objects | blocks | retransmissions | flat |",
        "|---|---|---|---|---|---|",
        *(
            f"| {one.what} | {one.before.rss_kb} -> {one.after.rss_kb} | {one.before.objects} -> {one.after.objects} "
            f"| {one.before.blocks} -> {one.after.blocks} | {one.retransmissions} | {one.complaint or 'yes'} |"
            for one in outcomes
        ),
    ]
    return MEMORY.format(build=build, day=day.isoformat(), rows="\n".join(rows))


def profile_part(profiles: Sequence[Profile], day: date, rows: int = 15) -> str:
    """The part `profile` of the page; the flame graphs are linked beside it."""
    parts = []
    for profile in profiles:
        lines = [f"### {profile.mode.name}: {profile.mode.words}", "", f"[Flame graph]({profile.flame.name})", ""]
        lines += ["| own | with callees | calls | function |", "|---|---|---|---|"]
        for own, cumulative, count, where in dearest(profile.dump, profile.calls, rows):
            lines.append(f"| {own:.1f} | {cumulative:.1f} | {count:.2f} | `{where}` |")
        parts.append("\n".join(lines))
    return PROFILE.format(day=day.isoformat(), parts="\n\n".join(parts))

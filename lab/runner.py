"""Runs scenarios side by side and says what became of them.

Theory of operation. Every (scenario, B2BUA kind) pair is a task, started in order as a capacity limiter has room (one
that must be `alone` takes all of it); a scenario made for one kind of B2BUA runs with that kind only, whatever was
asked for. Verdicts are printed as they come, the count at the end. SIGINT and SIGTERM cancel the nursery, and the
context managers of `stage` take the networks and daemons down before `run` returns. Namespaces of earlier runs that
were killed outright are swept at the start.
"""

from __future__ import annotations

import platform
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import trio

from lab import namespace, rtpengine, switch
from lab.proxy import edge_build
from lab.scenario import Lab, Scenario
from lab.stage import Outcome, Verdict, play
from lab.switch import Kind

INTERRUPTED = 130
"""Exit code after Ctrl-C or SIGTERM."""


@dataclass(frozen=True)
class Options:
    """How to run: `jobs` at a time, logs below `out`; `strict` counts UNSUPPORTED as failure; `keep` pauses before
    the end of each. `timed`: limits of time count; without, they are only told."""

    out: Path
    jobs: int = 2
    strict: bool = False
    keep: bool = False
    timed: bool = True
    kinds: Sequence[Kind] = field(default_factory=switch.kinds)


def header(kinds: Sequence[Kind]) -> str:
    """Which B2BUA, rtpengine and kernel run."""
    found = switch.freeswitch_version()
    names = [f"FreeSWITCH {found}" if kind is Kind.FREESWITCH else "stand-in (lab.b2bua)" for kind in kinds]
    if not found:
        names.append("no freeswitch binary here")
    engine = rtpengine.version() or "not installed"
    return f"lab: B2BUA {', '.join(names)}; rtpengine {engine}; kernel {platform.release()}"


def summary(verdicts: Sequence[Verdict]) -> str:
    """The last line."""
    count = {outcome: sum(v.outcome is outcome for v in verdicts) for outcome in Outcome}
    return f"lab: {count[Outcome.PASS]} passed, {count[Outcome.FAIL]} failed, {count[Outcome.UNSUPPORTED]} unsupported"


def exit_code(verdicts: Sequence[Verdict], *, strict: bool) -> int:
    """1 when anything failed, or with `strict` was unsupported; 0 else."""
    bad = {Outcome.FAIL, Outcome.UNSUPPORTED} if strict else {Outcome.FAIL}
    return int(any(verdict.outcome in bad for verdict in verdicts))


def folder_name(label: str) -> str:
    """The run's folder: `plain_call[freeswitch]#2` as `plain_call-freeswitch-2`, for FreeSWITCH reads its includes with
    glob(7), and a bracket in the path matches nothing."""
    return re.sub(r"\W+", "-", label).strip("-")


def _turns(scenarios: Sequence[type[Scenario]], kinds: Sequence[Kind]) -> Iterator[tuple[str, type[Scenario], Kind]]:
    """(label, scenario, kind) of every run; labels differ, also when a scenario is named twice."""
    seen: Counter[str] = Counter()
    for scenario in scenarios:
        for kind in [kind for kind in kinds if kind in scenario.kinds] or scenario.kinds:
            label = scenario.name if [kind] == list(kinds) else f"{scenario.name}[{kind}]"
            seen[label] += 1
            yield label if seen[label] == 1 else f"{label}#{seen[label]}", scenario, kind


async def run(scenarios: Sequence[type[Scenario]], options: Options, say: Callable[[str], None] = print) -> int:
    """Run them all; the exit code."""
    swept = await trio.to_thread.run_sync(namespace.sweep)
    if swept:
        say(f"lab: removed {len(swept)} namespaces of runs that were killed")
    folder = options.out.absolute() / time.strftime("%Y%m%d-%H%M%S")
    say(header(options.kinds))
    many = f"{len(scenarios)} scenarios, {options.jobs} at a time"
    say(f"lab: {many}, the edge {edge_build()}, logs and captures in {folder}")
    verdicts: list[Verdict] = []
    limiter = trio.CapacityLimiter(options.jobs)
    interrupted = False

    async def one(scenario: type[Scenario], kind: Kind, label: str, seats: list[str]) -> None:
        try:
            where = folder / folder_name(label)
            kept = pause if options.keep else None
            verdict = await play(scenario(), kind, where, label=label, keep=kept, timed=options.timed)
        finally:
            for seat in seats:
                limiter.release_on_behalf_of(seat)
        verdicts.append(verdict)
        say(str(verdict))

    async def pause(lab: Lab) -> None:
        say(f"lab: kept {lab.network.prefix}: ip netns exec {lab.network.ns('edge')} ...; logs in {lab.folder}")
        say("lab: Ctrl-C takes it down")
        await trio.sleep_forever()

    async def watch_signals(scope: trio.CancelScope) -> None:
        nonlocal interrupted
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for _ in signals:
                interrupted = True
                scope.cancel()

    async with trio.open_nursery() as watcher:
        with trio.CancelScope() as scope:
            watcher.start_soon(watch_signals, scope)
            async with trio.open_nursery() as nursery:
                for label, scenario, kind in _turns(scenarios, options.kinds):
                    seats = [f"{label} {seat}" for seat in range(options.jobs if scenario.alone else 1)]
                    for seat in seats:
                        await limiter.acquire_on_behalf_of(seat)
                    nursery.start_soon(one, scenario, kind, label, seats)
        watcher.cancel_scope.cancel()
    if interrupted:
        say("lab: interrupted; networks and processes are gone")
    say(summary(verdicts))
    return INTERRUPTED if interrupted else exit_code(verdicts, strict=options.strict)

"""Sets a scenario up, lets it play, judges it, takes everything down: one call of `play` per run.

Theory of operation. Network, capture, rtpengine, B2BUAs and edge are nested context managers, started in that order
and ended in the reverse, also on failure and cancellation; phones are tasks of a nursery inside. After the story its
own check is followed by what must hold after *every* story: no daemon died, rtpengine holds no call (with its default
delete-delay, so an edge that relies on that delay fails) but the edge's own canaries, the edge lists no session, its
store has no row, no media host sent RTP to another one. A cut media host is healed for it and a killed rtpengine is
started again, for deletes that are owed to it must be paid. Whatever goes wrong becomes a reason; only cancellation
passes through.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import trio

from lab import process, proxy, requirements, rtpengine, switch, topology
from lab.namespace import LabError
from lab.scenario import Failed, Findings, Lab, Scenario
from lab.switch import Kind


class Outcome(StrEnum):
    """How a run ended."""

    PASS = "PASS"
    FAIL = "FAIL"
    UNSUPPORTED = "UNSUPPORTED"


@dataclass(frozen=True)
class Verdict:
    """`reason` is one line; `problems` is everything found, in order; `seconds` how long it took."""

    name: str
    outcome: Outcome
    reason: str
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.outcome:<11} {self.name:<38} {self.seconds:5.1f} s  {self.reason}"


@asynccontextmanager
async def stage(scenario: Scenario, kind: Kind, folder: Path) -> AsyncIterator[Lab]:
    """The running parts of a scenario. Raises LabError when one does not come up."""
    async with AsyncExitStack() as stack:
        network = await stack.enter_async_context(topology.build(scenario.shape))
        if scenario.captured:
            await stack.enter_async_context(process.capture(network.ns("edge"), folder))
        more = dict(enumerate(scenario.node_arguments))
        engines = [
            await stack.enter_async_context(rtpengine.node(network, folder, f"node{n + 1}", n, *more.get(n, ())))
            for n in range(scenario.shape.nodes or 1)
        ]
        switches = [
            await stack.enter_async_context(switch.switch(network, folder, kind, n))
            for n in range(scenario.shape.b2buas)
        ]
        edge = await stack.enter_async_context(proxy.edge(scenario.settings, network, engines, folder))
        async with trio.open_nursery() as nursery:
            yield Lab(network, folder, engines, switches, edge, nursery)
            nursery.cancel_scope.cancel()


async def play(
    scenario: Scenario,
    kind: Kind,
    folder: Path,
    *,
    label: str = "",
    keep: Callable[[Lab], Awaitable[None]] | None = None,
) -> Verdict:
    """Run one scenario in its own network; logs and capture go to `folder`. `keep` is awaited before everything goes
    down."""
    name = label or scenario.name
    if lacking := requirements.missing(scenario.shape):
        return Verdict(name, Outcome.UNSUPPORTED, "missing: " + "; ".join(lacking))
    folder = Path(folder).absolute()  # noqa: ASYNC240
    folder.mkdir(parents=True, exist_ok=True)
    start, see = time.monotonic(), Findings()
    try:
        async with stage(scenario, kind, folder) as lab:
            see.media_addresses = lab.network.media_addresses
            await _story(scenario, lab, see)
            if keep is not None:
                await keep(lab)
    except Exception as error:
        see.problems.append(_explain(error, folder))
    except BaseExceptionGroup as group:
        ours, rest = group.split(Exception)
        if ours is None or (rest is not None and rest.subgroup(KeyboardInterrupt)):
            raise
        see.problems.append(_explain(ours, folder))
    seconds = time.monotonic() - start
    outcome = Outcome.FAIL if see.problems else Outcome.PASS
    _write(folder / "verdict.txt", [outcome, *see.problems, *(f"note: {note}" for note in see.notes)])
    return Verdict(name, outcome, _reason(see), seconds, see.problems)


async def _story(scenario: Scenario, lab: Lab, see: Findings) -> None:
    try:
        with trio.fail_after(scenario.timeout):
            await scenario.run(lab)
    except trio.TooSlowError:
        see.problems.append(f"the story took longer than {scenario.timeout:g} s")
    except Failed as error:
        see.problems.append(str(error))
    else:
        scenario.check(see)
    await _afterwards(lab, see, scenario.settle)


async def _afterwards(lab: Lab, see: Findings, settle: float) -> None:
    """What must hold after every story."""
    dead = [death for daemon in lab.daemons if (death := daemon.death())]
    see.problems += dead
    if dead:
        return
    own_hosts = lab.network.shape.nodes > 0
    for node in lab.nodes:
        if own_hosts:
            await node.heal()
        if node.daemon.killed and node.daemon.returncode is not None:
            await node.restart()
    left: list[str] = []
    with trio.move_on_after(settle):
        while left := await _leftovers(lab, settle):  # noqa: ASYNC110 - another process's state: nothing to wait on
            await trio.sleep(0.1)
    see.problems += left
    for node in lab.nodes if own_hosts and len(lab.nodes) > 1 else ():
        crossed = await node.crossed()
        see.that(not crossed, f"rtpengine {node.name} sent {crossed} RTP packets to another node: a call crosses two")


async def _leftovers(lab: Lab, settle: float) -> list[str]:
    left, late = [], f"{settle:g} s after the end"
    for node in lab.nodes:
        if calls := await node.live_calls():
            left.append(f"rtpengine {node.name} still holds {len(calls)} call(s) {late}: {calls[0]}")
    if sessions := await lab.edge.sessions():
        left.append(f"the edge still lists {len(sessions)} session(s) {late}: {sessions[0]['id']}")
    if rows := await trio.to_thread.run_sync(lab.edge.store_rows):
        left.append(f"the edge's store still has rows {late}: {rows}")
    return left


def _explain(error: BaseException, folder: Path) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, LabError | Failed):
        return str(error)
    _write(folder / "traceback.txt", traceback.format_exception(error))
    return f"{type(error).__name__} in the lab: {error} (see {folder / 'traceback.txt'})"


def _reason(see: Findings) -> str:
    lines = see.problems or see.notes or ["ok"]
    first = lines[0].splitlines()[0].rstrip(":")
    if see.problems:
        return first + (f" (and {len(lines) - 1} more)" if len(lines) > 1 else "")
    return "; ".join(lines[:2])


def _write(file: Path, lines: list[str]) -> None:
    file.write_text("\n".join(line.rstrip("\n") for line in lines) + "\n", encoding="utf-8")

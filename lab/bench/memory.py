"""That calls leave nothing behind: memory of our proxy before and after a million stateless relays, and after 100,000
stateful calls.

Before each are two loads of the same kind and rate, long enough that as many calls linger at once as ever will (a
transaction lives up to 32 s after its call, RFC 3261 timers H and L), then the same rest as after the load. What is
read at the end of a rest: the resident set (VmRSS), and, after a collection, the objects the collector knows and the
memory blocks Python has handed out. A relay is one message in and out: a call of the bench is six of them. Failed
calls spoil the proof, retransmissions do not: they are load as well.
"""

import json
import os
import re
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lab.bench.build import Build
from lab.bench.modes import MODES, Mode
from lab.bench.processes import BenchError, Daemon
from lab.bench.profiling import wait_for, wrapper
from lab.bench.sides import Ours
from lab.bench.sipp import Load
from lab.bench.stage import stage

RELAYS_A_CALL = 6
"""INVITE, 180, 200, ACK, BYE, 200 of a stateless call."""

SLACK_KB = 8192
SLACK_KB_SHARE = 0.05
SLACK_COUNT = 1000
SLACK_COUNT_SHARE = 0.02
"""Growth that still counts as flat, the greater of number and share. Resident memory moves by itself: after each of
five equal loads, at rest and with the same blocks to within five, it was seen at 66, 71, 69, 72 and 72 MB (arenas with
something left in them are not given back). Counts do not move: of 100,000 calls a block left by every thirtieth shows
in them, and a message of 600 bytes kept by every sixth, which no block is counted for, in the resident memory."""


@dataclass(frozen=True)
class Proof:
    """What to do: `warm` twice before the first reading, `load` between the two, `rest` seconds after each."""

    mode: Mode
    what: str
    warm: Load
    load: Load
    rest: float

    def scaled(self, calls: int | None, rate: int | None) -> "Proof":
        """The same with another number of calls or another rate, for a try."""
        if calls is None and rate is None:
            return self
        load = Load(calls or self.load.calls, rate or self.load.rate)
        warm = Load(min(self.warm.calls, load.calls), load.rate)
        return Proof(self.mode, f"a try of {load.calls} calls, {self.mode.words}", warm, load, self.rest)


PROOFS = (
    Proof(MODES["P1"], "1,000,000 stateless relays", Load(15_000, 2000), Load(166_667, 2000), 3.0),
    Proof(MODES["P2"], "100,000 stateful calls", Load(36_000, 900), Load(100_000, 900), 40.0),
)


@dataclass(frozen=True)
class Reading:
    """`rss_kb`: resident kilobytes; `objects`: known to the collector; `blocks`: those of Python's allocator."""

    rss_kb: int
    objects: int
    blocks: int


@dataclass(frozen=True)
class Outcome:
    """Both readings of one proof."""

    what: str
    calls: int
    failed: int
    retransmissions: int
    before: Reading
    after: Reading

    @property
    def complaint(self) -> str:
        """Why memory was not flat, or not proven to be; "" when it was."""
        if self.failed:
            return f"{self.failed} failed calls"
        grown = []
        for name, before, after, slack, share in (
            ("kB resident", self.before.rss_kb, self.after.rss_kb, SLACK_KB, SLACK_KB_SHARE),
            ("objects", self.before.objects, self.after.objects, SLACK_COUNT, SLACK_COUNT_SHARE),
            ("blocks", self.before.blocks, self.after.blocks, SLACK_COUNT, SLACK_COUNT_SHARE),
        ):
            if after - before > max(slack, before * share):
                grown.append(f"{after - before} {name} more")
        return ", ".join(grown)

    def __str__(self) -> str:
        verdict = f"not flat: {self.complaint}" if self.complaint else "flat"
        figures = " ".join(
            f"{name}={before}->{after}"
            for name, before, after in (
                ("rss_kb", self.before.rss_kb, self.after.rss_kb),
                ("objects", self.before.objects, self.after.objects),
                ("blocks", self.before.blocks, self.after.blocks),
            )
        )
        return f"memory {self.what!r} {figures} calls={self.calls} retransmissions={self.retransmissions} {verdict}"


def resident_kb(pid: int) -> int:
    """VmRSS of a process."""
    found = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    if found is None:
        raise BenchError(f"/proc/{pid}/status has no VmRSS: the process has ended")
    return int(found[1])


def read(proxy: Daemon, file: Path) -> Reading:
    """What a proxy under `profiled objects FILE` holds now."""
    file.unlink(missing_ok=True)
    os.kill(proxy.pid, signal.SIGUSR2)
    wait_for(file, proxy)
    counts = json.loads(file.read_text())
    return Reading(resident_kb(proxy.pid), counts["objects"], counts["blocks"])


def prove(proof: Proof, build: Build, folder: Path, tell: Callable[[str], None]) -> Outcome:
    """Carry out one proof; files go to the new folder `folder`."""
    file = folder / "objects.json"
    side = Ours("ours, counted", wrapper=wrapper("objects", file), build=build)
    with stage(side, proof.mode, folder) as on:
        readings, failed, retransmissions = [], 0, 0
        for name, load in (("warm-up 1", proof.warm), ("warm-up 2", proof.warm), ("load", proof.load)):
            tell(f"{proof.what}, {name}: {load.calls} calls at {load.rate} a second, then {proof.rest:.0f} s of rest")
            counters = on.drive(load, name)
            failed += counters.failed
            retransmissions += counters.retransmissions
            time.sleep(proof.rest)
            readings.append(read(on.proxy, file))
        return Outcome(proof.what, proof.load.calls, failed, retransmissions, *readings[1:])

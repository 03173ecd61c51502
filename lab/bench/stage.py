"""Everything that stands around a load, started in the order it needs: node, B2BUA, proxy; ended in reverse.

Runs, profiles and the memory proof all stand on this one stage, so that what is profiled is what is measured.
"""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab.bench import b2bua
from lab.bench.modes import Mode
from lab.bench.node import NodeTotals, read_totals, start_node
from lab.bench.processes import Cpu, Daemon
from lab.bench.sides import Side
from lab.bench.sipp import CALLEE, PORT, PROXY, Counters, Load, drive


@dataclass
class Stage:
    """A proxy ready for calls, and the parts around it."""

    mode: Mode
    side: Side
    folder: Path
    proxy: Daemon
    switch: Daemon | None
    before: NodeTotals

    def drive(self, load: Load, name: str = "") -> Counters:
        """One load, its files in the folder `name` of the stage's."""
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        return drive(load, folder, PROXY if self.mode.switch else CALLEE)

    def switch_cpu(self) -> Cpu:
        """What the B2BUA has used so far; nothing when there is none."""
        return self.switch.cpu() if self.switch else Cpu()

    def proof(self, calls: int) -> tuple[str, int]:
        """Ends the B2BUA and asks it and the node whether `calls` calls passed them: the complaint ("" when they did),
        and the retransmissions the B2BUA saw."""
        complaints, repeats = [], 0
        if self.switch:
            self.switch.check()
            self.switch.stop()
            totals = b2bua.read(self.folder / "b2bua.json")
            complaints.append(totals.complaint(calls))
            repeats = totals.retransmissions
        if self.mode.media:
            complaints.append((read_totals() - self.before).complaint(calls, self.side.anchors(self.mode)))
        return ", ".join(filter(None, complaints)), repeats


@contextmanager
def stage(side: Side, mode: Mode, folder: Path) -> Iterator[Stage]:
    """Start what `mode` needs with `side` as its proxy; `folder` is made, logs and configurations go there."""
    folder.mkdir(parents=True)
    with ExitStack() as stack:
        if mode.media:
            stack.enter_context(start_node(folder))
        switch = None
        if mode.switch:
            command: list[str | Path] = [sys.executable, "-m", "lab.bench.b2bua", folder / "b2bua.json"]
            switch = stack.enter_context(Daemon("B2BUA", command, folder / "b2bua.log"))
            switch.wait_bound(*b2bua.ADDRESS)
        command_line = side.command(mode, folder)
        proxy = Daemon(side.name, command_line, folder / "proxy.log", folder, side.environment())
        stack.enter_context(proxy)
        proxy.wait_bound(PROXY, PORT)
        if mode.switch:
            proxy.wait_bound(*b2bua.LAN)
        proxy.wait_idle()
        # Our proxy keeps a call of its own on each node to hear whether media flows: that is there by now.
        before = read_totals() if mode.media else NodeTotals(0, 0, 0, 0)
        yield Stage(mode, side, folder, proxy, switch, before)

"""Daemons of one run: started with a log file each, watched, their CPU read from /proc, ended by process id.

CPU is `utime + stime` of the process and its descendants plus what their reaped children used (proc(5), fields 14-17 of
/proc/PID/stat; the kernel scales them to the scheduler's exact run time, so only the 10 ms unit limits them).
A port is known to be bound from /proc/net/udp, which asks nothing of the daemon and costs it no CPU.
"""

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Self

TICK = 1.0 / os.sysconf("SC_CLK_TCK")
"""Seconds a unit of CPU time in /proc."""


class BenchError(Exception):
    """The bench cannot go on; the text says what failed, and where to look."""


def _stat(pid: int) -> list[str] | None:
    """Fields of /proc/PID/stat after the command name (field 3 on), or None when the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def process_tree(root: int) -> list[int]:
    """Process ids of `root` and all its living descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))) is not None:
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


@dataclass(frozen=True)
class Cpu:
    """CPU time in seconds: `user` in the program's own code, `system` in the kernel on its behalf."""

    user: float = 0.0
    system: float = 0.0

    @property
    def total(self) -> float:
        """Both."""
        return self.user + self.system

    def __sub__(self, earlier: "Cpu") -> "Cpu":
        return Cpu(self.user - earlier.user, self.system - earlier.system)


def cpu_time(root: int) -> Cpu:
    """CPU time of a process tree; nothing when it is gone."""
    user = system = 0
    for pid in process_tree(root):
        if (fields := _stat(pid)) is not None:
            user += int(fields[11]) + int(fields[13])
            system += int(fields[12]) + int(fields[14])
    return Cpu(user * TICK, system * TICK)


def udp_bound(address: str, port: int) -> bool:
    """Whether a UDP socket of this network namespace is bound to exactly this IPv4 address and port."""
    wanted = f"{int.from_bytes(IPv4Address(address).packed, 'little'):08X}:{port:04X}"
    rows = Path("/proc/net/udp").read_text().splitlines()[1:]
    return any(row.split()[1] == wanted for row in rows)


def udp_overflows() -> int:
    """Datagrams this network namespace has dropped so far because a socket's buffer was full."""
    names, values = (row.split() for row in Path("/proc/net/snmp").read_text().splitlines() if row.startswith("Udp:"))
    return int(dict(zip(names, values, strict=True))["RcvbufErrors"])


class Daemon:
    """One child process in a session of its own, logging to a file. Use as a context manager."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        log: Path,
        cwd: Path | None = None,
        env: dict[str, str] | None = None,
    ) -> None:
        self.name = name
        self.log = log
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env=env,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Process id, and id of its process group."""
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def cpu(self) -> Cpu:
        """CPU time of the process tree so far."""
        return cpu_time(self.pid)

    def check(self) -> None:
        """Raise BenchError when the process has ended."""
        code = self._process.poll()
        if code is not None:
            raise BenchError(f"{self.name} ended with status {code}; its log {self.log} ends:\n{self.tail()}")

    def tail(self, lines: int = 15) -> str:
        """The last lines of its log."""
        return "\n".join("    " + line for line in self.log.read_text(errors="replace").splitlines()[-lines:])

    def wait_bound(self, address: str, port: int, timeout: float = 15.0) -> None:
        """Until the UDP port is bound, while the process lives; BenchError after `timeout` seconds."""
        until = time.monotonic() + timeout
        while not udp_bound(address, port):
            self.check()
            if time.monotonic() > until:
                raise BenchError(
                    f"{self.name} did not bind {address}:{port} within {timeout:.0f} s; "
                    f"its log {self.log} ends:\n{self.tail()}"
                )
            time.sleep(0.02)

    def wait_idle(self, quiet: float = 0.4, timeout: float = 10.0) -> None:
        """Until the tree has used at most one tick of CPU for `quiet` seconds; goes on anyway after `timeout`."""
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            before = self.cpu()
            time.sleep(quiet)
            self.check()
            if (self.cpu() - before).total <= 1.5 * TICK:
                return

    def wait(self, timeout: float) -> int:
        """Exit status; BenchError when it does not end within `timeout` seconds."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise BenchError(f"{self.name} did not end within {timeout:.0f} s; its log is {self.log}") from None

    def stop(self, first: signal.Signals = signal.SIGTERM, patience: float = 5.0) -> None:
        """End the process group: `first`, then SIGKILL after `patience` seconds. Does nothing when it has ended."""
        for number in (first, signal.SIGKILL):
            if self._process.poll() is None:
                os.killpg(self.pid, number)
                try:
                    self._process.wait(patience)
                except subprocess.TimeoutExpired:
                    continue

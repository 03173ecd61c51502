"""Daemons of a scenario: started inside a namespace, ready when they answer, ended by pid.

Theory of operation. `Daemon` is one child in a session of its own (a Ctrl-C at the terminal reaches the lab, not
them), its output in `<name>.log`. The command is `setpriv --pdeathsig KILL ip netns exec NS ...`: both programs exec
the next one, so the pid stays that of the daemon, and the kernel kills it when the lab is killed itself. For that the
parent must be the main thread, so the process is spawned directly rather than through trio's worker threads; its end
is a readable pidfd. Ready means that a probe got an answer, asked again every 20 ms; a daemon that dies first fails
at once with the end of its log.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import trio

from lab.namespace import LabError

Probe = Callable[[], Awaitable[bool]]


class Daemon:
    """A running child. `killed` is set when a scenario ended it on purpose, so that nobody reports its death."""

    def __init__(
        self, name: str, argv: Sequence[str], namespace: str, log: Path, env: Mapping[str, str] | None
    ) -> None:
        self.name, self.log, self.killed = name, log, False
        self.argv = [*(("ip", "netns", "exec", namespace) if namespace else ()), *argv]
        with log.open("wb") as output:
            self._child = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *self.argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **(env or {})},
            )
        self.pid = self._child.pid
        self._pidfd = os.pidfd_open(self.pid)

    @property
    def returncode(self) -> int | None:
        """The exit code (negative: the signal), or None while it runs."""
        return self._child.poll()

    def death(self) -> str:
        """One sentence when it died on its own, else an empty string."""
        if self.killed or self.returncode is None:
            return ""
        code = self.returncode
        how = f"was killed by signal {-code}" if code < 0 else f"exited with code {code}"
        last = tail(self.log, 1)
        return f"{self.name} {how}: {last} (see {self.log})"

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal a scenario wants it to get (SIGKILL, SIGSTOP); its death is expected from now on."""
        self.killed = True
        self._child.send_signal(number)

    def pause(self) -> None:
        """Freeze it (SIGSTOP) until `resume`: it keeps its sockets, and their queues fill. Every thread of it stands
        still when this returns."""
        self._child.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        """Let a paused one go on (SIGCONT)."""
        self._child.send_signal(signal.SIGCONT)

    async def kill(self) -> None:
        """SIGKILL, and wait until the kernel has taken it away."""
        self.send_signal(signal.SIGKILL)
        await self.wait()

    async def wait(self) -> int:
        """Wait until it is gone."""
        while (code := self.returncode) is None:
            await trio.lowlevel.wait_readable(self._pidfd)
        return code

    async def ready(self, probe: Probe, seconds: float = 10.0) -> None:
        """Ask `probe` again and again until it says yes. Raises LabError when the daemon dies or `seconds` pass."""
        with trio.move_on_after(seconds):
            while True:
                if self.returncode is not None:
                    raise LabError(self.death() or f"{self.name} was killed")
                if await probe():
                    return
                await trio.sleep(0.02)
        last = tail(self.log, 1)
        raise LabError(f"{self.name} did not answer within {seconds:g} s: {last} (see {self.log})")

    async def stop(self, number: signal.Signals = signal.SIGTERM, patience: float = 3.0) -> None:
        """End it: `number`, `patience` seconds, then SIGKILL to its whole session. Always completes; twice is fine."""
        with trio.CancelScope(shield=True):
            if self.returncode is None:
                self.killed = True
                self._child.send_signal(signal.SIGCONT)
                self._child.send_signal(number)
                with trio.move_on_after(patience):
                    await self.wait()
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            await self.wait()
            if self._pidfd >= 0:
                os.close(self._pidfd)
                self._pidfd = -1


@asynccontextmanager
async def daemon(
    name: str,
    argv: Sequence[str],
    *,
    folder: Path,
    namespace: str = "",
    env: Mapping[str, str] | None = None,
    stop_signal: signal.Signals = signal.SIGTERM,
) -> AsyncIterator[Daemon]:
    """Run a program for the length of the block, its output in `folder/<name>.log`. Raises LabError when it is not
    installed."""
    try:
        child = Daemon(name, argv, namespace, folder / f"{name}.log", env)
    except FileNotFoundError as error:
        raise LabError(f"cannot start {name}: {error.filename} is not installed") from error
    try:
        yield child
    finally:
        await child.stop(stop_signal)


def tail(log: Path, lines: int) -> str:
    """The last lines of a log, for an error text."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        return f"(cannot read {log}: {error})"
    return "\n".join(text.strip().splitlines()[-lines:]) or "(it said nothing)"


@asynccontextmanager
async def capture(namespace: str, folder: Path, name: str = "edge") -> AsyncIterator[Path]:
    """tcpdump of every UDP packet and ICMP error on every interface of the namespace, into `<name>.pcap` (link type
    Linux SLL2)."""
    file = folder / f"{name}.pcap"
    argv = [
        "tcpdump",
        "-i",
        "any",
        "--immediate-mode",
        "-U",
        "-n",
        "-s",
        "0",
        "-Z",
        "root",
        "-w",
        str(file),
        "udp or icmp",
    ]
    async with daemon(f"tcpdump-{name}", argv, folder=folder, namespace=namespace, stop_signal=signal.SIGINT) as child:

        async def writing() -> bool:
            return file.exists() and file.stat().st_size >= 24  # the file header is written when capture is on

        await child.ready(writing)
        yield file


def python_module(module: str, *arguments: str) -> list[str]:
    """The command line of one of our own modules under this interpreter."""
    return [sys.executable, "-P", "-m", module, *arguments]  # -P: the current directory is not searched


SOURCE_TREE = Path(__file__).resolve().parent.parent
"""What goes into PYTHONPATH of our own children: they must find the packages whatever the current directory is."""


def python_environment() -> dict[str, str]:
    """Environment for `python_module` commands."""
    return {"PYTHONPATH": str(SOURCE_TREE), "PYTHONUNBUFFERED": "1"}

"""Real rtpengine daemons for the contract tests.

Theory of operation. A daemon is started with all it needs on the command line (``--config-file=none``: Debian's
configuration would bind ports of its own; ``--table=-1``: no kernel module), on a free ng port of loopback, its
output in a file. It is up when it answers a ping, and ended through its own process object.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

INTERFACES = {"pub": "127.0.0.1", "lan": "127.0.0.2"}


@contextmanager
def rtpengine(log: Path, *, ports: tuple[int, int], max_sessions: int = -1) -> Iterator[str]:
    """The ng address of a fresh daemon. Fails (never skips) when there is no rtpengine on this machine."""
    binary = shutil.which("rtpengine")
    assert binary is not None, "no rtpengine on this machine: install the package rtpengine-daemon (10.5 or newer)"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    recordings = log.with_suffix(".recordings")
    recordings.mkdir()
    command = [binary, "--config-file=none", "--table=-1", "--foreground", "--log-stderr", "--log-level=6"]
    command += [f"--interface={name}/{ip}" for name, ip in INTERFACES.items()]
    command += [f"--listen-ng={address}", f"--port-min={ports[0]}", f"--port-max={ports[1]}"]
    command += ["--delete-delay=0", "--num-threads=2", f"--max-sessions={max_sessions}"]
    command += [f"--recording-dir={recordings}", "--recording-method=pcap"]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
    try:
        _wait_until_up(process, address, log)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=20)


def _wait_until_up(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    """Pings until a pong comes; the socket's timeout paces the tries."""
    host, port = address.split(":")
    for number in range(200):
        assert process.poll() is None, f"rtpengine ended at once:\n{log.read_text()[-2000:]}"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(0.05)
            sock.sendto(b"up%d d7:command4:pinge" % number, (host, int(port)))
            try:
                sock.recv(200)
            except TimeoutError:
                continue
            return
    raise AssertionError(f"rtpengine does not answer on {address}:\n{log.read_text()[-2000:]}")

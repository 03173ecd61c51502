"""Namespaces: entered by a thread, removed with what is inside, swept after a run that was killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import trio

from lab import namespace, process, topology
from lab.topology import Shape
from tests.lab.stories import alive

pytestmark = pytest.mark.real


@pytest.fixture
def name() -> str:
    return f"{namespace.PREFIX}{os.getpid()}-0-test"


def test_a_thread_enters_and_this_one_stays(name: str) -> None:
    here = os.readlink("/proc/thread-self/ns/net")
    namespace.create(name)
    try:
        assert namespace.exists(name)
        assert namespace.inside(name, lambda: os.readlink("/proc/thread-self/ns/net")) != here
        assert os.readlink("/proc/thread-self/ns/net") == here
        with pytest.raises(namespace.LabError, match="cannot name network namespace"):
            namespace.create(name)
        with namespace.udp_socket(name, "127.0.0.1") as sock:
            assert sock.getsockname()[0] == "127.0.0.1"
        with pytest.raises(OSError, match="Cannot assign requested address"):
            namespace.udp_socket(name, "203.0.113.1")
        with pytest.raises(namespace.LabError, match=f"cannot set net/ipv4/no_such_key = 1 in {name}"):
            namespace.sysctl(name, "ipv4/no_such_key", "1")
    finally:
        namespace.remove(name)
    assert not namespace.exists(name)


def test_exceptions_cross_the_thread() -> None:
    def fail() -> None:
        raise ZeroDivisionError("here")

    with pytest.raises(ZeroDivisionError, match="here"):
        namespace.in_thread(fail)


async def test_removal_kills_what_is_inside() -> None:
    async with topology.build(Shape()) as network:
        argv = ["ip", "netns", "exec", network.ns("lan"), "sleep", "1000"]
        child = subprocess.Popen(argv)  # noqa: ASYNC220 - a child nobody waits for is the point
        with trio.fail_after(5):
            while child.pid not in namespace.processes(network.ns("lan")):  # noqa: ASYNC110 - exec takes a moment
                await trio.sleep(0.01)
    assert child.wait(5) == -9


def test_errors_name_the_namespace() -> None:
    with pytest.raises(namespace.LabError, match="mlab-none"):
        namespace.inside("mlab-none", lambda: None)
    namespace.remove("mlab-none")


def gone(pid: int, seconds: float = 10.0) -> bool:
    """Whether a killed process ends within `seconds`; dying takes the kernel a moment."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if not alive(pid) or Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.01)
    return False


def test_a_run_killed_outright_is_swept_by_the_next(tmp_path: Path) -> None:
    program = f"""
import trio, sys
from pathlib import Path
from lab import topology, process
async def main():
    async with topology.build(topology.Shape()) as network:
        folder, inside = Path({str(tmp_path)!r}), network.ns("lan")
        async with process.daemon("sleeper", ["sleep", "1000"], folder=folder, namespace=inside) as child:
            print(network.prefix, child.pid, flush=True)
            await trio.sleep_forever()
trio.run(main)
"""
    environment = {**os.environ, **process.python_environment()}
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment) as lab:
        assert lab.stdout is not None
        prefix, pid = lab.stdout.readline().split()
        lab.kill()
    assert prefix == f"mlab{lab.pid}-1"
    removed = namespace.sweep()
    assert {name for name in removed if name.startswith(prefix)} == {
        f"{prefix}-{role}" for role in ("internet", "edge", "lan", "caller", "callee", "carrier")
    }
    assert gone(int(pid))

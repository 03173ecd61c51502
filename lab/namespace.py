"""One network namespace: made, entered for a moment by a thread of its own, filled with links and addresses, removed.

Theory of operation. A network namespace belongs to a *thread* (setns(2), unshare(2)), so every act "inside" one is a
function run in a fresh thread that moves there first and ends afterwards: no fork of a program full of threads, and
the thread that runs trio never leaves home. Netlink (pyroute2, which brings an asyncio loop of its own),
`/proc/sys/net` and child processes all follow the thread. Everything here blocks for milliseconds: call it through
`trio.to_thread.run_sync`. Names live in `/var/run/netns`, so `ip netns exec NAME` works on them too.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from pyroute2 import IPRoute
from pyroute2 import netns as kernel_netns

T = TypeVar("T")

CLONE_NEWNET = 0x40000000
PREFIX = "mlab"
"""Every namespace of a run is called `mlab<pid>-<n>-<role>`, so that `sweep` knows its own and whether their maker
lives."""


class LabError(Exception):
    """The lab itself could not do something (a tool failed, a daemon did not start); the text says what and where to
    look."""


def in_thread(function: Callable[[], T]) -> T:
    """Run `function` in a new thread and hand back its result, or raise its exception."""
    result: list[T] = []
    failure: list[BaseException] = []

    def body() -> None:
        try:
            result.append(function())
        except BaseException as error:  # carried over to the caller's thread, whatever it is
            failure.append(error)

    thread = threading.Thread(target=body, name="lab-namespace")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return result[0]


def inside(name: str, function: Callable[[], T]) -> T:
    """Run `function` in a new thread that is in the namespace `name`. Raises LabError when there is no such
    namespace."""

    def body() -> T:
        try:
            kernel_netns.setns(name, flags=0)
        except OSError as error:
            raise LabError(f"cannot enter network namespace {name}: {error}") from error
        return function()

    return in_thread(body)


def create(name: str) -> None:
    """Make the namespace and set its loopback up. Raises LabError (no permission, or the name is taken)."""

    def body() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise LabError(f"cannot make network namespace {name}: {os.strerror(number)} (the lab needs CAP_SYS_ADMIN)")
        try:
            kernel_netns.attach(name, "thread-self")
        except OSError as error:
            raise LabError(f"cannot name network namespace {name}: {error}") from error
        with IPRoute() as netlink:
            netlink.link("set", index=1, state="up")

    in_thread(body)


def exists(name: str) -> bool:
    """Whether a namespace of that name is there."""
    return name in kernel_netns.listnetns()


def processes(name: str) -> list[int]:
    """The pids of the processes inside; several names of one namespace, or none, give an empty list."""
    return list(kernel_netns.ns_pids().get(name, []))


def remove(name: str) -> None:
    """Kill what still runs inside and remove the namespace; no such name is fine."""
    if not exists(name):
        return
    for pid in processes(name):
        if pid != os.getpid():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    kernel_netns.remove(name)


def sweep() -> list[str]:
    """Remove the namespaces of lab runs whose process is gone (killed with SIGKILL, say); returns their names."""
    stale = []
    for name in kernel_netns.listnetns():
        found = re.match(rf"{PREFIX}(\d+)-", name)
        if found and not Path(f"/proc/{found[1]}").exists():
            remove(name)
            stale.append(name)
    return stale


def join(left: str, left_name: str, right: str, right_name: str) -> None:
    """A veth pair: `left_name` in namespace `left`, `right_name` in namespace `right`."""

    def body() -> None:
        with IPRoute() as netlink:
            netlink.link("add", ifname=left_name, kind="veth", peer={"ifname": right_name, "net_ns_fd": right})

    inside(left, body)


def bridge(name: str, interface: str, ports: Iterable[str]) -> None:
    """A bridge called `interface` in the namespace `name`, with these interfaces of it as its ports, all set up."""

    def body() -> None:
        with IPRoute() as netlink:
            netlink.link("add", ifname=interface, kind="bridge")
            master = netlink.link_lookup(ifname=interface)[0]
            for port in ports:
                index = netlink.link_lookup(ifname=port)[0]
                netlink.link("set", index=index, master=master, state="up")
            netlink.link("set", index=master, state="up")

    inside(name, body)


def configure(
    name: str, interface: str, addresses: Iterable[str], *, prefix: int = 29, gateway: str | None = None
) -> None:
    """Set `interface` up with these IPv4 addresses, then the default route when there is a `gateway`."""

    def body() -> None:
        with IPRoute() as netlink:
            index = netlink.link_lookup(ifname=interface)[0]
            for address in addresses:
                netlink.addr("add", index=index, address=address, prefixlen=prefix)
            netlink.link("set", index=index, state="up")
            if gateway is not None:
                netlink.route("add", dst="default", gateway=gateway)

    inside(name, body)


def sysctl(name: str, key: str, value: str) -> None:
    """Write `/proc/sys/net/<key>` of the namespace. Raises LabError when the kernel has no such key."""

    def body() -> None:
        try:
            Path("/proc/sys/net", key).write_text(value, encoding="ascii")
        except OSError as error:
            raise LabError(f"cannot set net/{key} = {value} in {name}: {error}") from error

    inside(name, body)


def nft(name: str, rules: str) -> None:
    """Load nftables rules in the namespace. Raises LabError with nft's own words."""

    def body() -> None:
        done = subprocess.run(["nft", "-f", "-"], input=rules, text=True, capture_output=True, check=False)
        if done.returncode != 0:
            raise LabError(f"nft refused the rules of {name}: {done.stderr.strip()}")

    inside(name, body)


def nft_counter(name: str, table: str, counter: str) -> int:
    """Packets a named counter of the ip family has seen in the namespace. Raises LabError when there is none."""

    def body() -> int:
        command = ["nft", "list", "counter", "ip", table, counter]
        done = subprocess.run(command, text=True, capture_output=True, check=False)
        found = re.search(r"packets (\d+)", done.stdout)
        if found is None:
            raise LabError(f"no counter {counter} in table {table} of {name}: {done.stderr.strip()}")
        return int(found[1])

    return inside(name, body)


def udp_socket(name: str, address: str, port: int = 0) -> socket.socket:
    """A UDP socket born in the namespace and bound there (port 0: any); it stays there whoever uses it. Raises
    OSError."""

    def body() -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            sock.bind((address, port))
        except OSError:
            sock.close()
            raise
        sock.setblocking(False)
        return sock

    return inside(name, body)

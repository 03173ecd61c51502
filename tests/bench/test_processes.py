"""Daemons of the bench with small shell scripts in their place: CPU of a tree, ports, endings."""

import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from lab.bench.processes import BenchError, Cpu, Daemon, cpu_time, process_tree, udp_bound, udp_overflows

BURN = "import time\nwhile time.process_time() < {seconds}: pass\n"


def burner(seconds: float) -> list[str]:
    return [sys.executable, "-c", BURN.format(seconds=seconds)]


def test_cpu_of_living_and_ended_children_counts(tmp_path: Path) -> None:
    script = f"import subprocess, time\nsubprocess.run({burner(0.2)!r})\nprint('done', flush=True)\ntime.sleep(60)"
    with Daemon("tree", ["sh", "-c", '"$0" "$@" & wait', sys.executable, "-c", script], tmp_path / "log") as daemon:
        while "done" not in daemon.log.read_text():
            daemon.check()
        assert len(process_tree(daemon.pid)) == 2
        assert daemon.cpu().total >= 0.2


def test_cpu_of_a_tree_adds_up(tmp_path: Path) -> None:
    before = cpu_time(os.getpid())
    with Daemon("burner", burner(0.2), tmp_path / "log") as daemon:
        assert daemon.pid in process_tree(os.getpid())
        assert daemon.wait(20.0) == 0
    assert (cpu_time(os.getpid()) - before).total >= 0.15


def test_cpu_of_a_process_that_is_gone_is_nothing(tmp_path: Path) -> None:
    with Daemon("true", ["true"], tmp_path / "log") as daemon:
        daemon.wait(20.0)
    assert daemon.cpu() == Cpu(0.0, 0.0)


def test_bound_ports_are_seen() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.5", 0))
        port = sock.getsockname()[1]
        assert udp_bound("127.0.0.5", port)
        assert not udp_bound("127.0.0.6", port)
    assert not udp_bound("127.0.0.5", port)


def test_full_buffers_are_counted() -> None:
    before = udp_overflows()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        sock.bind(("127.0.0.5", 0))
        for _ in range(50):
            sock.sendto(bytes(1000), sock.getsockname())
    assert udp_overflows() >= before + 10


def test_a_daemon_that_dies_is_told_with_its_log(tmp_path: Path) -> None:
    with (
        Daemon("dying", ["sh", "-c", "echo bad config line 3; exit 7"], tmp_path / "log") as daemon,
        pytest.raises(BenchError, match=r"dying ended with status 7(?s:.*)bad config line 3"),
    ):
        daemon.wait_bound("127.0.0.5", 9, timeout=20.0)


def test_a_daemon_that_never_binds_is_given_up(tmp_path: Path) -> None:
    with (
        Daemon("idle", ["sleep", "60"], tmp_path / "log") as daemon,
        pytest.raises(BenchError, match=r"idle did not bind 127\.0\.0\.5:9 within 0 s"),
    ):
        daemon.wait_bound("127.0.0.5", 9, timeout=0.05)
    assert daemon.wait(1.0) == -signal.SIGTERM


def test_one_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    script = "import signal, sys, time\nsignal.signal(15, signal.SIG_IGN)\nprint('up', flush=True)\ntime.sleep(60)"
    daemon = Daemon("stubborn", [sys.executable, "-c", script], tmp_path / "log")
    while "up" not in (tmp_path / "log").read_text():
        daemon.check()
    daemon.stop(patience=0.05)
    assert daemon.wait(1.0) == -signal.SIGKILL


def test_idle_is_seen(tmp_path: Path) -> None:
    with Daemon("idle", ["sleep", "60"], tmp_path / "log") as daemon:
        daemon.wait_idle(quiet=0.01, timeout=20.0)
        assert daemon.cpu().total < 0.1

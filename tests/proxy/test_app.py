"""The program: command line, exit codes, and a start and stop with real sockets."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mediactl.client import Proxy
from proxy.app import main
from proxy.control.schema import NodeInfo

ROOT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def config(folder: Path, text: str = "", port: int = 0) -> Path:
    path = folder / "edge.toml"
    listen = f'[[listen]]\nname = "public"\naddress = "127.0.0.1"\nport = {port or 5060}\n'
    path.write_text(f'[proxy]\ncontrol = "c.sock"\n{text}\n[store]\nkind = "none"\n{listen}')
    return path


def test_check_says_what_it_would_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = config(tmp_path)
    assert main(["--check", str(path)]) == 0
    out = capsys.readouterr().out
    assert "listen public: public side, udp 127.0.0.1:5060" in out
    assert out.endswith(f"{path}: ok\n")


@pytest.mark.parametrize(
    ("text", "script", "wanted"),
    [
        ("colour = 1", "", "colour is not a known key"),
        ('route = "r.py"', "def route(call:\n", "r.py:1: "),
        ('route = "r.py"', "x = 1\n1 / 0\n", "r.py:2: ZeroDivisionError"),
        ('route = "r.py"', "x = 1\n", "there is no `async def route(call)`"),
        ('route = "r.py"', "\nroute = 5\n", "route must be a function"),
        ('route = "r.py"', "\n\nasync def route():\n    pass\n", "r.py:3: route takes exactly one argument"),
    ],
)
def test_check_names_file_and_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, script: str, wanted: str
) -> None:
    (tmp_path / "r.py").write_text(script)
    assert main(["--check", str(config(tmp_path, text))]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("mediactl-proxy: ")
    assert wanted in captured.err


def test_a_missing_file_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "nowhere.toml")]) == 1
    assert "cannot be read" in capsys.readouterr().err


def test_no_argument_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([])
    assert stopped.value.code == 2
    assert "give a configuration file" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_starts_answers_and_stops_clean(tmp_path: Path, number: signal.Signals) -> None:
    """OPTIONS on a LAN socket is answered; a signal ends it with 0 and takes the control socket along."""
    port = free_port()
    path = config(tmp_path, port=port)
    path.write_text(path.read_text() + 'side = "lan"\n')
    process = subprocess.Popen(
        [sys.executable, "-m", "proxy.app", str(path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        ask = (
            f"OPTIONS sip:127.0.0.1:{port} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:5;branch=z9hG4bK%d;rport\r\n"
            f"From: <sip:a@x>;tag=1\r\nTo: <sip:x>\r\nCall-ID: %d\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
        )
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(0.2)
            sock.connect(("127.0.0.1", port))
            deadline = time.monotonic() + 20
            answer = b""
            while not answer and time.monotonic() < deadline:
                try:
                    sock.send((ask % (1, 1)).encode())
                    answer = sock.recv(4096)
                except (TimeoutError, ConnectionRefusedError):
                    continue
        assert answer.startswith(b"SIP/2.0 200 OK\r\n")
        assert (tmp_path / "c.sock").is_socket()
        process.send_signal(number)
        _, errors = process.communicate(timeout=20)
        assert process.returncode == 0, errors
        assert not (tmp_path / "c.sock").exists()
        assert "Traceback" not in errors
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def test_a_port_that_is_taken_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        assert main([str(config(tmp_path, port=sock.getsockname()[1]))]) == 1
    error = capsys.readouterr().err
    assert error.startswith("mediactl-proxy: cannot start: listener public cannot be opened on udp 127.0.0.1:")
    assert "address already in use" in error
    assert "Traceback" not in error


def test_sighup_compares_the_nodes_of_the_file(tmp_path: Path) -> None:
    """A node that comes with the new file, one that goes, and a file that cannot be used; each in the log and in the
    control API."""
    node = '[[rtpengine]]\nname = "{}"\naddress = "127.0.0.1:{}"\n'
    path = config(tmp_path, port=free_port())
    first = path.read_text() + 'side = "lan"\n'
    ports = free_port(), free_port()
    path.write_text(first + node.format("one", ports[0]))
    process = subprocess.Popen(
        [sys.executable, "-m", "proxy.app", str(path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    log: list[str] = []

    def until(text: str) -> None:
        for line in process.stderr or ():
            log.append(line)
            if text in line:
                return
        raise AssertionError(f"the log ended without {text!r}:\n{''.join(log)}")

    try:
        until("listening on udp")
        until("node one: down: nothing listens")
        path.write_text(first + node.format("two", ports[1]))
        process.send_signal(signal.SIGHUP)
        until("node two: added")
        until("reload: added two, removed one")
        until("node one: removed; its last call has ended")
        nodes = Proxy(str(tmp_path / "c.sock")).call("nodes", list[NodeInfo])
        assert [(one.name, one.admin) for one in nodes] == [("two", "active")]
        path.write_text("[[rtpengine]]\nname = 5\n")
        process.send_signal(signal.SIGHUP)
        until("reload: nothing was changed")
        assert "line 2: rtpengine[0].name is a whole number" in log[-1]
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
        assert process.returncode == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()

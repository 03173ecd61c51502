"""The program: its command line, its exit codes, and that it serves until told to stop."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from proxy import __version__
from proxy.app import main

CONFIG = """
[proxy]
instance = "test"
control = "{folder}/control.sock"
{more}

[[listen]]
name = "public"
side = "public"
address = "127.0.0.1"
port = {port}
"""


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port


def write(folder: Path, port: int, more: str = "") -> Path:
    path = folder / "edge.toml"
    path.write_text(CONFIG.format(folder=folder, port=port, more=more))
    return path


def test_check_says_what_it_would_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, 5099)
    assert main(["--check", str(path)]) == 0
    out = capsys.readouterr().out
    assert "listen public: public side, udp 127.0.0.1:5099" in out
    assert out.endswith(f"{path}: ok\n")


@pytest.mark.parametrize("option", [["--check"], []])
def test_a_mistake_is_one_sentence_and_status_1(
    option: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, 5099, more="log_levle = 1")
    assert main([*option, str(path)]) == 1
    (sentence,) = capsys.readouterr().err.splitlines()
    assert sentence.startswith("mediactl-proxy: ")
    assert "log_levle" in sentence


def test_a_bad_routing_script_is_told_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "route.py").write_text("async def route(call):\n    return (\n")
    path = write(tmp_path, 5099, more=f'route = "{tmp_path}/route.py"')
    assert main(["--check", str(path)]) == 1
    assert "route.py:2: " in capsys.readouterr().err


def test_no_configuration_is_a_wrong_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([])
    assert caught.value.code == 2
    assert "give a configuration file" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"mediactl-proxy {__version__}\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_told_to_stop(number: signal.Signals, tmp_path: Path, repository: Path) -> None:
    path = write(tmp_path, free_port())
    command = [sys.executable, "-m", "proxy.app", str(path)]
    with subprocess.Popen(command, cwd=repository, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "listening on udp 127.0.0.1:" in process.stderr.readline()
        assert (tmp_path / "control.sock").is_socket()
        process.send_signal(number)
        assert process.wait(20) == 0
        assert f"stopping on {number.name}" in process.stderr.read()
    assert not (tmp_path / "control.sock").exists()


def test_a_port_in_use_is_told(tmp_path: Path, repository: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        path = write(tmp_path, port)
        command = [sys.executable, "-m", "proxy.app", str(path)]
        done = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("mediactl-proxy: ")
    assert f"udp 127.0.0.1:{port} of [[listen]] 'public': Address already in use" in sentence


def test_a_control_socket_that_cannot_be_made_is_told(tmp_path: Path, repository: Path) -> None:
    path = write(tmp_path, free_port())
    (tmp_path / "control.sock").write_text("something else")
    command = [sys.executable, "-m", "proxy.app", str(path)]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    (sentence,) = done.stderr.splitlines()
    assert f"{tmp_path}/control.sock" in sentence

"""The client of the control socket: which socket, and everything that can be wrong with it or with who answers."""

import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mediactl.client import DEFAULT_SOCKET, Proxy, socket_path
from mediactl.errors import Exit, Failure
from proxy.control import schema

Run = Callable[..., tuple[int, str, str]]


def test_which_socket() -> None:
    assert socket_path("a", {"MEDIACTL_SOCKET": "b"}) == "a"
    assert socket_path(None, {"MEDIACTL_SOCKET": "b"}) == "b"
    assert socket_path(None, {"MEDIACTL_SOCKET": ""}) == socket_path(None, {}) == DEFAULT_SOCKET


def test_no_socket(run: Run, path: str) -> None:
    for command in (["ls"], ["nodes"], ["stats"], ["show", "x"]):
        status, out, err = run("--socket", path, *command)
        assert (status, out) == (Exit.UNREACHABLE, "")
        assert f"no control socket at {path}" in err and "--node HOST:PORT" in err


def test_a_stale_socket(run: Run, path: str) -> None:
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(path)
    status, _, err = run("ls", "--socket", path)
    assert status == Exit.UNREACHABLE and "the proxy is not running" in err and "start it" in err


def test_no_permission(run: Run, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root passes every permission check, so the refusal is made here."""

    def refuse(self: socket.socket, address: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    status, _, err = run("ls", "--socket", path)
    assert status == Exit.UNREACHABLE and f"no permission to open {path}" in err and "as the user" in err


def test_a_path_that_cannot_be_a_socket(run: Run, tmp_path: Path) -> None:
    status, _, err = run("ls", "--socket", str(tmp_path / ("x" * 200)))
    assert status == Exit.UNREACHABLE and "too long" in err
    (tmp_path / "file").write_text("")
    assert stat.S_ISREG(os.stat(tmp_path / "file").st_mode)
    status, _, err = run("ls", "--socket", str(tmp_path / "file"))
    assert status == Exit.UNREACHABLE and str(tmp_path / "file") in err


def test_version_needs_no_proxy(run: Run, path: str) -> None:
    status, out, err = run("version", "--socket", path)
    assert status == Exit.OK and out.startswith("mediactl ") and "no control socket" in out and err == ""


@contextmanager
def canned(path: str, answer: bytes) -> Iterator[None]:
    """Something at `path` that answers the first client with these bytes and hangs up."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()

    def serve() -> None:
        with listener, listener.accept()[0] as client:
            client.recv(65536)
            client.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    yield
    thread.join()


HELLO = schema.encode_result(None, schema.Hello(version="9.9", instance="e", uptime_s=1.0))
NODES = schema.encode_result(None, [schema.NodeInfo(name="n", address="a", state="up")])


@pytest.mark.parametrize(
    ("answer", "status", "says"),
    [
        (b"", Exit.UNREACHABLE, "did not finish its answer (the connection was closed)"),
        (HELLO, Exit.UNREACHABLE, "did not finish its answer (the connection was closed)"),
        (HELLO + NODES[:-5], Exit.UNREACHABLE, "in the middle of the answer"),
        (b"220 mail.example.test ESMTP\r\n", Exit.UNREACHABLE, "does not speak this control API"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", Exit.UNREACHABLE, "does not speak this control API"),
        (b"{}\n{}\n", Exit.UNREACHABLE, "does not speak this control API"),
        (b"\xff\xfe\n" * 2, Exit.UNREACHABLE, "does not speak this control API"),
        (HELLO + b'{"result":{"name":1}}\n', Exit.UNREACHABLE, "does not speak this control API"),
        (HELLO.replace(b'"api":1', b'"api":2') + NODES, Exit.USAGE, "speaks control API 2 and this mediactl speaks 1"),
        (schema.encode_error(None, "internal", "32 clients are here") + b"{}\n", Exit.UNREACHABLE, "32 clients"),
        (HELLO + b'{"error":{"code":"new_code","message":"of the future"}}\n', Exit.UNREACHABLE, "of the future"),
        (HELLO + schema.encode_error(None, "bad_request", "no such method"), Exit.USAGE, "no such method"),
        (HELLO + schema.encode_error(None, "node", "node1 is gone"), Exit.NODE, "node1 is gone"),
    ],
)  # fmt: skip
def test_strange_answers(run: Run, path: str, answer: bytes, status: int, says: str) -> None:
    with canned(path, answer):
        found, out, err = run("nodes", "--socket", path)
    assert found == status and says in err and out == ""
    assert "Traceback" not in err


def test_fields_of_a_newer_proxy_are_ignored(run: Run, path: str) -> None:
    newer = NODES.replace(b'"name"', b'"colour":"blue","name"')
    with canned(path, HELLO + newer):
        assert run("nodes", "--socket", path)[0] == Exit.OK


def test_a_proxy_that_does_not_answer(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        with pytest.raises(Failure, match=r"did not answer within 0\.01 s.*overloaded") as caught:
            Proxy(path, timeout=0.01).call("nodes", list[schema.NodeInfo])
    assert caught.value.code == Exit.UNREACHABLE

"""The control API from the client's side: one connection to the proxy's unix socket, plain blocking sockets.

`Proxy.call` pipelines `hello` with the request, so that a proxy that speaks another API version is noticed without a
second round trip. Every way this can fail is a `Failure` whose sentence names the socket and what to do about it.
"""

import errno
import os
import socket
from collections.abc import Mapping
from typing import TypeVar

import msgspec

from mediactl.errors import Exit, Failure, failure_of
from proxy.control import schema

DEFAULT_SOCKET = "/run/mediactl/control.sock"
TIMEOUT = 10.0
"""Seconds without a byte from the proxy; a live query of a dead node takes the proxy about three."""

T = TypeVar("T")


def socket_path(given: str | None, environ: Mapping[str, str] = os.environ) -> str:
    """`--socket`, else $MEDIACTL_SOCKET, else the default."""
    return given or environ.get("MEDIACTL_SOCKET") or DEFAULT_SOCKET


class Proxy:
    """A running proxy, by the path of its control socket. Times in seconds."""

    def __init__(self, path: str, timeout: float = TIMEOUT) -> None:
        self.path = path
        self.timeout = timeout

    def hello(self) -> schema.Hello:
        """Who answers. Raises Failure."""
        return self._as(schema.Hello, self._exchange(schema.encode_request("hello"))[0])

    def call(self, method: str, kind: type[T], params: schema.Params | None = None) -> T:
        """The result of one method, as `kind`. Raises Failure."""
        first, second = self._exchange(schema.encode_request("hello"), schema.encode_request(method, params))
        hello = self._as(schema.Hello, first)
        if hello.api != schema.API:
            raise Failure(
                Exit.USAGE,
                f"the proxy at {self.path} ({hello.version}) speaks control API {hello.api} and this mediactl speaks "
                f"{schema.API}: use the mediactl that came with the proxy",
            )
        return self._as(kind, second)

    def _exchange(self, *requests: bytes) -> list[schema.Answer]:
        """The answers, in the order of the requests."""
        with self._connected() as sock:
            try:
                sock.sendall(b"".join(requests))
                with sock.makefile("rb") as lines:
                    return [self._answer(lines.readline()) for _ in requests]
            except TimeoutError:
                raise Failure(
                    Exit.UNREACHABLE,
                    f"the proxy at {self.path} did not answer within {self.timeout:g} s: it is overloaded or stopped "
                    "(SIGSTOP, debugger); look at the process",
                ) from None
            except OSError as error:
                raise self._cut_off(error.strerror or str(error)) from None

    def _connected(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(self.timeout)
        try:
            sock.connect(self.path)
        except OSError as error:
            sock.close()
            raise Failure(Exit.UNREACHABLE, _why_not(self.path, error)) from None
        return sock

    def _answer(self, line: bytes) -> schema.Answer:
        if not line.endswith(b"\n"):
            raise self._cut_off("the connection was closed" + (" in the middle of the answer" if line else ""))
        try:
            return msgspec.json.decode(line, type=schema.Answer)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise self._not_understood(error) from None

    def _as(self, kind: type[T], answer: schema.Answer) -> T:
        if answer.error is not None:
            raise failure_of(answer.error)
        try:
            return msgspec.json.decode(answer.result, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise self._not_understood(error) from None

    def _not_understood(self, error: Exception) -> Failure:
        return Failure(
            Exit.UNREACHABLE,
            f"what answers at {self.path} does not speak this control API ({error}): check --socket, and that mediactl "
            "and the proxy are of one version",
        )

    def _cut_off(self, why: str) -> Failure:
        return Failure(
            Exit.UNREACHABLE,
            f"the proxy at {self.path} did not finish its answer ({why}): it is stopping, or refused this client; try "
            "again and look at its log",
        )


def _why_not(path: str, error: OSError) -> str:
    """Why the socket could not be connected to, and what to do."""
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR:
            return (
                f"there is no control socket at {path}: start the proxy, or say where its socket is with --socket PATH "
                "or MEDIACTL_SOCKET (`control` in its configuration), or ask an rtpengine node with --node HOST:PORT"
            )
        case errno.ECONNREFUSED:
            return f"nobody answers on {path}: the proxy is not running (the file is an earlier one's); start it"
        case errno.EACCES | errno.EPERM:
            return f"no permission to open {path}: run mediactl as the user that runs the proxy, or as root"
        case errno.EAGAIN:
            return f"the proxy at {path} has too many clients waiting: try again"
    return f"cannot open the control socket {path} ({error.strerror or error}): check --socket"

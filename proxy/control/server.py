"""The unix socket of the control API: reads request lines, asks a Backend, writes answer lines.

One task per client, strictly request by request, so a client that pipelines gets its answers in order and is held
back by its own unread answers. Nothing a client does costs the calls anything: a line is at most MAX_LINE bytes, a
client that stays silent or does not read is closed after a while, the number of clients is bounded, and a long list
is built in slices with a checkpoint after each, so that the event loop gets to SIP in between.

The socket is created with mode 0600 (whoever can open it sees every call). A file left by a proxy that was killed is
replaced, but only when it is a socket nobody answers on; on exit it is removed, but only when it is still ours.
"""

import errno
import logging
import os
import socket
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import msgspec
import trio

from proxy.control import node_schema, schema

log = logging.getLogger(__name__)


class Backend(Protocol):
    """What the server asks. Every method may raise `schema.ControlError`; that becomes the answer."""

    def hello(self) -> schema.Hello:
        """Who we are."""

    def sessions(self) -> Iterable[schema.SessionInfo]:
        """Every live session, best built lazily: the server pauses between slices, so take a snapshot first."""

    async def session(self, session_id: str) -> schema.SessionDetail:
        """One session by prefix, with a live query of its node."""

    def nodes(self) -> list[schema.NodeInfo]:
        """Every node."""

    def stats(self) -> schema.Stats:
        """Counters of the whole proxy."""

    async def administer(self, method: str, params: Any) -> object:
        """A method of `node_schema.METHODS`."""


class ControlSocketError(Exception):
    """The control socket cannot be opened; the message names the path, the reason and what to do."""


class LineTooLong(Exception):
    """A client sent more than the limit without a newline."""


@dataclass(frozen=True)
class Limits:
    """Bounds on clients. Times in seconds, sizes in bytes."""

    line: int = schema.MAX_LINE
    clients: int = 32
    idle: float = 60.0
    """Longest wait for a whole request line."""
    send: float = 10.0
    """Longest wait for a client to read an answer."""
    slice: int = 25
    """Sessions built and encoded between two checkpoints."""


@dataclass
class Counters:
    """What the server did since its start; `stats` of the API shows it as `control_*`."""

    clients: int = 0
    open_clients: int = 0
    requests: int = 0
    errors: int = 0
    refused_clients: int = 0
    """Turned away because too many were connected."""
    dropped_clients: int = 0
    """Closed by us: silent, not reading, or a line too long."""


class ControlServer:
    """Serves the control API at `path`. One instance per proxy; `run()` lives as long as its task."""

    def __init__(self, path: str, backend: Backend, limits: Limits | None = None) -> None:
        self.path = path
        self.counters = Counters()
        self._backend = backend
        self._limits = limits or Limits()

    def statistics(self) -> schema.Stats:
        """The counters as `control_<name>` -> value."""
        return {f"control_{name}": getattr(self.counters, name) for name in Counters.__dataclass_fields__}

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled, started when it accepts. Raises ControlSocketError when it cannot be opened."""
        with _bound_socket(self.path) as listening:
            listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening))
            task_status.started()
            await trio.serve_listeners(self._client, [listener])

    async def _client(self, stream: trio.SocketStream) -> None:
        """One client, from accept to close. Its errors end here and touch nobody else."""
        counters = self.counters
        async with stream:
            if counters.open_clients >= self._limits.clients:
                counters.refused_clients += 1
                text = f"{self._limits.clients} clients are connected already: close one, or try again"
                await self._send(stream, schema.encode_error(None, "internal", text))
                return
            counters.clients += 1
            counters.open_clients += 1
            try:
                await self._converse(stream)
            except LineTooLong:
                counters.dropped_clients += 1
                counters.errors += 1
                text = f"the line is longer than {self._limits.line} bytes: end each request with a newline"
                await self._send(stream, schema.encode_error(None, "bad_request", text))
            finally:
                counters.open_clients -= 1

    async def _converse(self, stream: trio.SocketStream) -> None:
        """Requests and answers until the client leaves or oversteps a limit."""
        lines = _Lines(stream, self._limits.line)
        while True:
            line = None
            with trio.move_on_after(self._limits.idle) as waiting:
                line = await lines.read()
            if line is None:
                self.counters.dropped_clients += waiting.cancelled_caught
                return
            if not line.strip():
                continue
            self.counters.requests += 1
            if not await self._send(stream, await self._answer(line)):
                return

    async def _send(self, stream: trio.SocketStream, data: bytes) -> bool:
        """Whether the client took it in time; a client that left is no error."""
        try:
            with trio.move_on_after(self._limits.send):
                await stream.send_all(data)
                return True
        except trio.BrokenResourceError:
            return False
        self.counters.dropped_clients += 1
        return False

    async def _answer(self, line: bytes) -> bytes:
        """The answer line to a request line. The one place where a fault of ours becomes `internal`."""
        request_id: schema.RequestId = None
        try:
            request = schema.decode_request_untrusted(line)
            request_id = request.id
            return schema.encode_result(request_id, await self._result(request))
        except schema.BadRequest as error:
            answer = schema.encode_error(error.request_id, "bad_request", error.message)
        except schema.ControlError as error:
            answer = schema.encode_error(request_id, error.code, error.message, error.candidates)
        except Exception as error:
            log.exception("control request failed: %.200r", line)
            text = f"the proxy failed to answer ({type(error).__name__}): its log has the details, please report them"
            answer = schema.encode_error(request_id, "internal", text)
        self.counters.errors += 1
        return answer

    async def _result(self, request: schema.Request) -> object:
        match request.method:
            case "hello":
                return self._backend.hello()
            case "sessions":
                return await self._sessions(request.params)
            case "session":
                return await self._backend.session(request.params.id)
            case "nodes":
                return self._backend.nodes()
            case "stats":
                return self._backend.stats() | self.statistics()
        if request.method in node_schema.METHODS:
            return await self._backend.administer(request.method, request.params)
        raise AssertionError(f"method {request.method} is in schema.METHODS but has no branch here")

    async def _sessions(self, params: schema.SessionsParams) -> msgspec.Raw:
        """The list as JSON, built slice by slice."""
        wanted = (info for info in self._backend.sessions() if schema.matches(info, params))
        slices: list[bytes] = []
        while piece := schema.encode_items(islice(wanted, self._limits.slice)):
            slices.append(piece)
            await trio.lowlevel.checkpoint()
        return msgspec.Raw(b"[" + b",".join(slices) + b"]")


class _Lines:
    """Newline-framed reading with a bound; every byte is scanned once, however slowly it comes."""

    def __init__(self, stream: trio.SocketStream, limit: int) -> None:
        self._stream = stream
        self._limit = limit
        self._buffer = bytearray()
        self._scanned = 0

    async def read(self) -> bytes | None:
        """The next line without its newline; None at the end (a half line is nobody's request). Raises LineTooLong."""
        while True:
            end = self._buffer.find(b"\n", self._scanned)
            if (end if end >= 0 else len(self._buffer)) > self._limit:
                raise LineTooLong
            if end >= 0:
                line = bytes(self._buffer[:end])
                del self._buffer[: end + 1]
                self._scanned = 0
                return line
            self._scanned = len(self._buffer)
            try:
                received = await self._stream.receive_some(65536)
            except trio.BrokenResourceError:
                return None
            if not received:
                return None
            self._buffer += received


@contextmanager
def _bound_socket(path: str) -> Iterator[socket.socket]:
    """A listening socket at `path`, mode 0600 from its first moment; the file is removed at the end if still ours."""
    place = Path(path)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ControlSocketError(
            f"the directory of the control socket {path} cannot be made ({error.strerror}): make it, or set another "
            "`control` in [proxy]"
        ) from None
    _remove_stale(place)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        old = os.umask(0o177)
        try:
            listening.bind(path)
        finally:
            os.umask(old)
        listening.listen(64)
        ours = os.stat(path)
    except OSError as error:
        listening.close()
        raise ControlSocketError(
            f"the control socket {path} cannot be opened ({error.strerror or error}): set another `control` in [proxy]"
        ) from None
    try:
        yield listening
    finally:
        listening.close()
        _remove_if_same(path, ours)


def _remove_if_same(path: str, ours: os.stat_result) -> None:
    """Another proxy may have put its own socket there meanwhile (after somebody removed ours): leave that alone."""
    try:
        now = os.stat(path)
        if (now.st_dev, now.st_ino) == (ours.st_dev, ours.st_ino):
            os.unlink(path)
    except FileNotFoundError:
        return


def _remove_stale(place: Path) -> None:
    """Remove a socket nobody answers on; refuse anything else that is in the way."""
    try:
        mode = place.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise ControlSocketError(f"the control socket {place} cannot be looked at ({error.strerror})") from None
    if not stat.S_ISSOCK(mode):
        raise ControlSocketError(f"{place} exists and is not a socket: remove it, or set another `control` in [proxy]")
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    probe.settimeout(1.0)
    try:
        probe.connect(str(place))
    except OSError as error:
        if error.errno != errno.ECONNREFUSED:
            raise ControlSocketError(
                f"{place} is in use or not ours to replace ({error.strerror or error}): stop what listens there"
            ) from None
    else:
        raise ControlSocketError(f"another proxy answers on {place}: stop it, or set another `control` in [proxy]")
    finally:
        probe.close()
    try:
        place.unlink()
    except OSError as error:
        raise ControlSocketError(
            f"the stale control socket {place} cannot be removed ({error.strerror}): remove it by hand"
        ) from None

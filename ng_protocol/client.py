"""The trio client of one rtpengine node: commands in, typed replies or one NgError out.

Theory of operation. One connected UDP socket per node, so the kernel drops strangers' datagrams and tells about ICMP.
``request`` encodes, sends, puts a ``Pending`` into a dictionary by cookie and parks its task; the receive task
drains the socket, matches the cookie *before* decoding, and wakes the task. Nothing is started per command:
retransmissions and deadlines of all commands sit in one heap served by one timer task.

A retransmission repeats the datagram with the same cookie: the daemon answers a known cookie from its cache (30-60 s,
errors included, keyed by the cookie alone, so cookies carry a random prefix per client). The first interval is measured
as in RFC 6298, with Karn's rule (only commands sent once are measured; a backed-off interval stays until the next clean
measurement), then doubles up to the ceiling, until the command's deadline: NgTimeout.

ICMP port unreachable comes back as ECONNREFUSED from recv or send. Once may be a daemon that is just restarting; the
second one at least ``refused_after`` seconds later, without a reply in between, fails every pending command with
NgRefused. After the first one the oldest command is sent again early, to have the second opinion soon. While the node
stays away each new command is refused by its own ICMP at once. Other send errors count as a lost datagram.
"""

from __future__ import annotations

import errno
import heapq
import logging
import math
import os
import secrets
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any, TypeVar

import outcome
import trio

from ng_protocol.address import parse_address
from ng_protocol.codec import MAX_DATAGRAM, decode_untrusted, encode, split_frame_untrusted, text
from ng_protocol.commands import Command
from ng_protocol.counters import ClientCounters, ClientStatistics
from ng_protocol.errors import (
    BadReply,
    NgBadReply,
    NgBadRequest,
    NgBusy,
    NgClosed,
    NgError,
    NgLoadLimit,
    NgRefused,
    NgTimeout,
    classify,
)
from ng_protocol.pending import Done, Pending
from ng_protocol.rtt import RttEstimate

ReplyT = TypeVar("ReplyT")

_log = logging.getLogger(__name__)
_DRAIN = 64
_GONE = frozenset((errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN))


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """Times in seconds. ``timeout``: deadline of a command. ``min_rto``, ``max_rto``: bounds of the retransmission
    interval. ``first_rto``: interval before anything was measured. ``refused_after``: distance of two refusals that
    prove a dead port. ``max_submitted``: fire-and-forget commands in flight. ``receive_buffer``: SO_RCVBUF in bytes."""

    timeout: float = 3.0
    min_rto: float = 0.1
    max_rto: float = 1.0
    first_rto: float = 0.25
    refused_after: float = 0.02
    max_submitted: int = 4096
    receive_buffer: int = 1 << 20


class Client:
    """A node's control channel. ``address``: ``host:port`` of its listen-ng; ``name``: how errors and logs call it.

    Start ``run`` in a nursery (``await nursery.start(client.run)``) or use ``open_client``. Times come from the trio
    clock. ``heard_at``: when the last reply came. ``on_refusal``: called with every ICMP refusal; True: it is proven
    (the second one). Raises ValueError for an address that is none.
    """

    def __init__(self, address: str, *, name: str = "", config: ClientConfig | None = None) -> None:
        self._host, self._port = parse_address(address)
        self.address = address
        self.name = name or address
        self.label = f"{name} ({address})" if name and name != address else address
        self.config = config or ClientConfig()
        self._sock: socket.socket | None = None
        self._closed_why = "the client was not started"
        self._pending: dict[bytes, Pending] = {}
        self._submitted = 0
        self._heap: list[tuple[float, int, Pending]] = []
        self._heap_order = count()
        self._timer_scope: trio.CancelScope | None = None
        self._cookie_prefix = secrets.token_hex(6) + "_"
        self._cookie_prefix_bytes = self._cookie_prefix.encode()
        self._cookie_numbers = count(1)
        self._rtt = RttEstimate(self.config.first_rto, self.config.min_rto, self.config.max_rto)
        self._first_refusal: float | None = None
        self._counters = ClientCounters()
        self._log_after = -math.inf
        self._not_logged = 0
        self.heard_at = -math.inf
        self.on_refusal: Callable[[bool], None] | None = None

    def __repr__(self) -> str:
        return f"<ng_protocol.Client {self.label}>"

    # -- life ----------------------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Opens the socket and serves until ``close`` or cancellation. Raises OSError when the address does not
        resolve."""
        infos = await trio.socket.getaddrinfo(self._host, self._port, type=socket.SOCK_DGRAM)
        family, _, _, _, target = infos[0]
        sock = socket.socket(family, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.config.receive_buffer)
            sock.connect(target)
            self._sock = sock
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._timer_task)
                task_status.started()
                await self._receive_task(sock)
                nursery.cancel_scope.cancel()
        finally:
            self.close("the client was stopped")
            sock.close()

    def close(self, why: str = "the client was closed") -> None:
        """Ends every pending command with NgClosed and makes ``run`` return. May be called again."""
        sock, self._sock = self._sock, None
        if sock is not None:
            self._closed_why = why
            trio.lowlevel.notify_closing(sock)
            sock.close()
        for pending in list(self._pending.values()):
            if pending.cookie is not None:
                self._fail(pending, NgClosed, why)
        if self._timer_scope is not None:
            self._timer_scope.cancel()

    def abandon(self, why: str) -> None:
        """Ends every command in flight with NgTimeout: whoever watches the node knows that no reply will come. The
        client goes on."""
        for pending in list(self._pending.values()):
            if pending.cookie is not None:
                self._fail(pending, NgTimeout, why)

    # -- commands ------------------------------------------------------------------------------------------------

    async def request(self, command: Command[ReplyT], timeout: float | None = None) -> ReplyT:
        """The typed reply to a command. Raises a subclass of NgError; being cancelled leaves nothing behind.

        ``timeout``: seconds, instead of the configuration's.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        pending = self._send_new(command, timeout)
        pending.task = trio.lowlevel.current_task()

        def abort(_: object) -> trio.lowlevel.Abort:
            self._end(pending)
            self._counters.cancelled += 1
            return trio.lowlevel.Abort.SUCCEEDED

        payload: bytes = await trio.lowlevel.wait_task_rescheduled(abort)
        try:
            return self._reply_untrusted(command, payload)
        except NgError as error:
            self._counters.count_error(error)
            raise

    def begin(self, command: Command[Any], done: Done, timeout: float | None = None) -> None:
        """Sends a command and returns; ``done`` is called once, later, with the typed reply or the NgError. Raises
        NgError when the command cannot be sent. For callers that do their own waiting; ``request`` waits for them."""
        pending = self._send_new(command, timeout)
        pending.done, pending.quiet = done, True

    def submit(
        self, command: Command[Any], on_done: Done | None = None, timeout: float | None = None, *, once: bool = False
    ) -> None:
        """Sends a command without waiting; never raises an NgError. Failures are counted and logged in one line.

        ``on_done`` is called once, from the client's task (or at once, when the command cannot even be sent), with the
        typed reply or the NgError. It must not block; what it raises is logged. ``once``: a probe, not sent again when
        no reply comes (only a first refusal is checked by a second try), and its failure is not logged.
        """
        on_done = on_done or _ignore
        try:
            if self._submitted >= self.config.max_submitted:
                raise self._error(NgBusy, command, f"{self._submitted} submitted commands in flight")
            pending = self._send_new(command, timeout)
        except NgError as error:
            if isinstance(error, NgBusy):
                self._counters.count_error(error)
            self._tell(on_done, error)
            return
        pending.done = on_done
        self._submitted += 1
        if once:
            pending.once = True
            self._schedule(pending, pending.deadline)

    def statistics(self) -> ClientStatistics:
        """Counters since the client was made, and the state of now."""
        return self._counters.snapshot(rtt=self._rtt.smoothed, rto=self._rtt.interval, in_flight=len(self._pending))

    def local_address(self) -> str:
        """Our IP address towards the node. Raises OSError while the client does not run."""
        if self._sock is None:
            raise OSError(errno.ENOTCONN, self._closed_why)
        return str(self._sock.getsockname()[0])

    @property
    def rto(self) -> float:
        """The first retransmission interval of a command sent now, in seconds."""
        return self._rtt.interval

    # -- sending -------------------------------------------------------------------------------------------------

    def _send_new(self, command: Command[Any], timeout: float | None) -> Pending:
        if self._sock is None:
            raise self._counted(self._error(NgClosed, command, self._closed_why))
        cookie = f"{self._cookie_prefix}{next(self._cookie_numbers)}".encode()
        datagram = cookie + b" " + encode(command.to_wire())
        now = trio.current_time()
        pending = Pending(command, cookie, datagram, now, self.config.timeout if timeout is None else timeout)
        pending.interval = self._rtt.interval
        self._transmit(pending, now)
        self._pending[cookie] = pending
        self._counters.sent += 1
        self._schedule(pending, min(now + pending.interval, pending.deadline))
        return pending

    def _transmit(self, pending: Pending, now: float) -> None:
        """One datagram out. Raises NgBadRequest when it is too big for UDP; any other trouble is left to the timer."""
        sock = self._sock
        assert sock is not None
        for attempt in (1, 2):
            try:
                sock.send(pending.datagram)
                return
            except BlockingIOError:
                self._counters.send_errors += 1
                return
            except OSError as error:
                if error.errno == errno.EMSGSIZE:
                    detail = f"the request has {len(pending.datagram)} bytes, too many for one UDP datagram"
                    raise self._counted(self._error(NgBadRequest, pending.command, detail)) from None
                self._counters.send_errors += 1
                # A refusal here is the answer to an earlier datagram, and this one has not left yet: once more.
                if error.errno not in _GONE or attempt == 2:
                    return
                self._note_refusal(error, now)
                if pending.cookie is None:
                    return

    # -- timers --------------------------------------------------------------------------------------------------

    def _schedule(self, pending: Pending, when: float) -> None:
        pending.next_at = when
        heapq.heappush(self._heap, (when, next(self._heap_order), pending))
        scope = self._timer_scope
        if scope is not None and when < scope.deadline:
            scope.deadline = when

    async def _timer_task(self) -> None:
        while self._sock is not None:
            with trio.CancelScope(deadline=self._next_timer()) as self._timer_scope:
                await trio.sleep_forever()
            self._tick(trio.current_time())

    def _next_timer(self) -> float:
        heap = self._heap
        while heap:
            when, _, pending = heap[0]
            if pending.cookie is not None and pending.next_at == when:
                return when
            heapq.heappop(heap)
        return math.inf

    def _tick(self, now: float) -> None:
        while self._next_timer() <= now:
            pending = heapq.heappop(self._heap)[2]
            if now >= pending.deadline:
                waited = now - pending.sent_at
                self._fail(pending, NgTimeout, f"no reply within {waited:.1f} s, sent {pending.tries} times")
                continue
            self._retransmit(pending, now)
            pending.interval = math.inf if pending.once else min(pending.interval * 2, self.config.max_rto)
            self._schedule(pending, min(now + pending.interval, pending.deadline))

    def _retransmit(self, pending: Pending, now: float) -> None:
        pending.tries += 1
        self._counters.retransmitted += 1
        try:
            self._transmit(pending, now)
        except NgBadRequest as error:  # the path's limit shrank since the first try
            self._finish(pending, outcome.Error(error))

    # -- receiving -----------------------------------------------------------------------------------------------

    async def _receive_task(self, sock: socket.socket) -> None:
        while self._sock is sock:
            try:
                await trio.lowlevel.wait_readable(sock)
            except trio.ClosedResourceError:
                return
            self.drain()

    def drain(self) -> int:
        """Take the replies that have arrived, without waiting; returns how many. For programs that poll their sockets
        themselves under load; otherwise the client does it."""
        taken = 0
        while taken < _DRAIN:
            sock = self._sock
            if sock is None:
                break
            try:
                datagram = sock.recv(MAX_DATAGRAM)
            except BlockingIOError:
                break
            except OSError as error:
                self._counters.receive_errors += 1
                taken += 1
                if error.errno in _GONE:
                    self._note_refusal(error, trio.current_time())
                continue
            taken += 1
            self._received(datagram)
        return taken

    def _received(self, datagram: bytes) -> None:
        try:
            cookie, payload = split_frame_untrusted(datagram)
        except BadReply:
            self._counters.unknown_replies += 1
            return
        pending = self._pending.get(cookie)
        if pending is None:
            if cookie.startswith(self._cookie_prefix_bytes):
                self._counters.duplicate_replies += 1
                self.heard_at = trio.current_time()
                self._first_refusal = None
            else:
                self._counters.unknown_replies += 1
            return
        now = self.heard_at = trio.current_time()
        self._first_refusal = None
        self._counters.replies += 1
        if pending.tries == 1:
            self._rtt.measured(now - pending.sent_at)
        else:
            self._rtt.backed_off(pending.interval)
        self._finish(pending, outcome.Value(payload))

    def _reply_untrusted(self, command: Command[ReplyT], payload: bytes) -> ReplyT:
        """The typed reply in a payload, or the NgError it amounts to, raised."""
        try:
            reply = decode_untrusted(payload)
            result = reply.get("result")
            if result == b"ok" or result == b"pong":
                return command.parse_untrusted(reply)
            if result == b"error":
                reason = text(reply.get("error-reason", b"no error-reason given"))
                raise self._error(classify(reason), command, reason)
            if result == b"load limit":
                raise self._error(NgLoadLimit, command, text(reply.get("message", b"load limit")))
            raise BadReply(f"result {result!r} is none of ok, pong, error, load limit")
        except BadReply as error:
            raise self._error(NgBadReply, command, str(error)) from None

    # -- refusals ------------------------------------------------------------------------------------------------

    def _note_refusal(self, error: OSError, now: float) -> None:
        if self._first_refusal is None:
            self._first_refusal = now
        proven = self._first_refusal + self.config.refused_after
        if now >= proven:
            detail = f"nothing listens on its ng port ({os.strerror(error.errno or 0)}, twice)"
            for pending in list(self._pending.values()):
                if pending.cookie is not None:  # what one is told of it may send more, and end the rest from within
                    self._fail(pending, NgRefused, detail)
        if self.on_refusal is not None:
            self.on_refusal(now >= proven)
        if now >= proven:
            return
        oldest = next(iter(self._pending.values()), None)
        if oldest is not None and proven < oldest.next_at:
            self._schedule(oldest, proven)

    # -- ends ----------------------------------------------------------------------------------------------------

    def _end(self, pending: Pending) -> None:
        assert pending.cookie is not None
        del self._pending[pending.cookie]
        pending.cookie = None
        if pending.done is not None and not pending.quiet:
            self._submitted -= 1
        pending.task = pending.done = None  # the heap keeps it until its deadline: it must not keep more than itself
        pending.datagram = b""

    def _fail(self, pending: Pending, kind: type[NgError], detail: str) -> None:
        error = self._counted(self._error(kind, pending.command, detail))
        self._finish(pending, outcome.Error(error))

    def _finish(self, pending: Pending, result: outcome.Outcome[bytes]) -> None:
        task, done = pending.task, pending.done
        self._end(pending)
        if task is not None:
            trio.lowlevel.reschedule(task, result)
        elif done is not None:
            self._finish_submitted(pending, done, result)

    def _finish_submitted(self, pending: Pending, done: Done, result: outcome.Outcome[bytes]) -> None:
        if isinstance(result, outcome.Error):
            self._tell(done, result.error, quiet=pending.quiet or pending.once)
            return
        try:
            reply = self._reply_untrusted(pending.command, result.unwrap())
        except NgError as error:
            self._tell(done, self._counted(error), quiet=pending.quiet or pending.once)
            return
        self._tell(done, reply)

    def _tell(self, done: Done, result: Any, quiet: bool = False) -> None:
        if isinstance(result, NgError) and not quiet:
            self._log_failure(result)
        try:
            done(result)
        except Exception:
            self._counters.callback_errors += 1
            _log.exception("the callback of a command to rtpengine %s failed", self.label)

    def _log_failure(self, error: NgError) -> None:
        """One line, and at most one a second: a dead node fails hundreds of commands a second."""
        now = trio.current_time()
        if now < self._log_after:
            self._not_logged += 1
            return
        more = f" (and {self._not_logged} more before it)" if self._not_logged else ""
        _log.warning("%s%s", error, more)
        self._log_after = now + 1.0
        self._not_logged = 0

    def _error(self, kind: type[NgError], command: Command[Any], detail: str) -> NgError:
        call_id: str | None = getattr(command, "call_id", None)
        return kind(self.label, command.name(), call_id, detail)

    def _counted(self, error: NgError) -> NgError:
        self._counters.count_error(error)
        return error


def _ignore(_: Any) -> None:
    """Nobody wants to know."""


@asynccontextmanager
async def open_client(
    address: str, *, name: str = "", config: ClientConfig | None = None
) -> AsyncGenerator[Client, None]:
    """A running client for the length of an ``async with`` block, which raises its own errors, not groups of them."""
    client = Client(address, name=name, config=config)
    raised: Exception | None = None
    async with trio.open_nursery() as nursery:
        await nursery.start(client.run)
        try:
            yield client
        except Exception as error:
            raised = error
        finally:
            client.close()
    if raised is not None:
        raise raised

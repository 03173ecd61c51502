"""Transactions of the stand-in B2BUA, without I/O and without a clock of their own.

Theory of operation. `Stack.receive` takes a datagram and the time, absorbs what is a repetition or belongs to a
transaction, and hands the rest to `on_request`. What it wants to send is collected in `output`; when it wants to be
called again `next_deadline` says so and `tick` runs what is due. Timers are FreeSWITCH's: a request is repeated after
1, 3, 7, 15, 31 s (an INVITE until a provisional response, anything else at most every 4 s) and given up after 32 s; a
2xx to an INVITE after 0.5, 1.5, 3.5, 7.5 s and then every 4 s.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from lab.b2bua_sdp import SdpError
from lab.sip import Address, Message, SipError, Via

GIVE_UP = 32.0  # seconds, 64*T1
T2 = 4.0


@dataclass(order=True)
class Timer:
    """A pending call; `cancel` to forget it."""

    when: float
    number: int
    action: Callable[[], None] = field(compare=False)
    cancelled: bool = field(default=False, compare=False)

    def cancel(self) -> None:
        """Never run."""
        self.cancelled = True


class Server:
    """A request we received and the responses to it."""

    def __init__(self, stack: Stack, request: Message) -> None:
        self.request, self._stack = request, stack
        self.status = 0
        self.answered_before = False
        self._sent = b""
        self._timer: Timer | None = None
        self.on_no_ack: Callable[[], None] | None = None

    @property
    def final(self) -> bool:
        """Whether a final response was sent."""
        return self.status >= 200

    def respond(self, message: Message) -> None:
        """Send a response; a final one to an INVITE is repeated until its ACK."""
        if self.final:
            raise RuntimeError(f"second final response to {self.request.start_line}")
        self.status, self._sent = message.status, message.encode()
        self.answered_before = self.answered_before or message.status > 100
        self.repeat()
        if self.final and self.request.method == "INVITE":
            self._timer = self._stack.after(0.5, lambda: self._again(1.0, self._stack.now + GIVE_UP))

    def repeat(self) -> None:
        """Send the last response again."""
        if self._sent:
            self._stack.send(self._sent, self.request.via.reply_address)

    def _again(self, wait: float, limit: float) -> None:
        self.repeat()
        left = limit - self._stack.now - 0.5
        if left > wait:
            self._timer = self._stack.after(wait, lambda: self._again(min(wait * 2, T2), limit))
        else:
            self._timer = self._stack.after(0.5, self._no_ack)

    def _no_ack(self) -> None:
        if self.status < 300 and self.on_no_ack is not None:
            self.on_no_ack()

    def acknowledged(self) -> None:
        """Its ACK came."""
        if self._timer is not None:
            self._timer.cancel()


class Client:
    """A request we sent. `on_response` gets every response, repeated 2xx of an INVITE excepted; `on_timeout` when
    none came."""

    def __init__(
        self,
        stack: Stack,
        request: Message,
        destination: Address,
        on_response: Callable[[Message], None],
        on_timeout: Callable[[], None],
    ) -> None:
        self.request, self.destination, self._stack = request, destination, stack
        self.on_response, self.on_timeout, self.on_refused = on_response, on_timeout, on_timeout
        self.provisional = self.done = False
        self.ack = b""
        self.invite = request.method == "INVITE"
        self._data = request.encode()
        stack.send(self._data, destination)
        self._repeat = stack.after(1.0, lambda: self._again(2.0))
        self._limit = stack.after(GIVE_UP, self._expired)

    def _again(self, wait: float) -> None:
        self._stack.send(self._data, self.destination)
        self._repeat = self._stack.after(wait, lambda: self._again(wait * 2 if self.invite else min(wait * 2, T2)))

    def _expired(self) -> None:
        self._repeat.cancel()
        self.done = True
        self.on_timeout()

    def received(self, response: Message) -> None:
        """A response arrived."""
        if self.invite:
            self._repeat.cancel()
            self._limit.cancel()
        if response.status < 200:
            self.provisional = True
        elif self.done:
            if self.invite and self.ack:
                self._stack.send(self.ack, self.destination)
            return
        else:
            self.done = True
            self._repeat.cancel()
            self._limit.cancel()
            if self.invite and response.status >= 300:
                self.ack = self._ack_failure(response).encode()
                self._stack.send(self.ack, self.destination)
        self.on_response(response)

    def refused(self) -> None:
        """ICMP says nobody listens there."""
        self._limit.cancel()
        self._repeat.cancel()
        self.done = True
        self.on_refused()

    def _ack_failure(self, response: Message) -> Message:
        out = Message(method="ACK", uri=self.request.uri)
        out.headers = [(k, v) for k, v in self.request.headers if k in ("Via", "Route", "Max-Forwards", "From")]
        out.headers += [
            ("To", response["To"]),
            ("Call-ID", self.request.call_id),
            ("CSeq", f"{self.request.cseq[0]} ACK"),
        ]
        out.add("Content-Length", "0")
        return out


class Stack:
    """See the module's text. `on_request(server, source)` gets new requests, `on_ack(message)` the ACKs to 2xx."""

    def __init__(self, on_request: Callable[[Server], None], on_ack: Callable[[Message], None]) -> None:
        self.now = 0.0
        self.output: list[tuple[bytes, Address]] = []
        self.rejected: list[str] = []
        """Why datagrams were thrown away."""
        self._on_request, self._on_ack = on_request, on_ack
        self._timers: list[Timer] = []
        self._numbers = itertools.count()
        self._servers: dict[tuple[str, str, str], Server] = {}
        self._invites: dict[tuple[str, int], Server] = {}
        self._clients: dict[tuple[str, str], Client] = {}

    def send(self, data: bytes, destination: Address) -> None:
        """Queue a datagram."""
        self.output.append((data, destination))

    def after(self, delay: float, action: Callable[[], None]) -> Timer:
        """Call `action` when `delay` seconds have passed."""
        timer = Timer(self.now + delay, next(self._numbers), action)
        heapq.heappush(self._timers, timer)
        return timer

    def next_deadline(self) -> float | None:
        """When `tick` is wanted, or None."""
        while self._timers and self._timers[0].cancelled:
            heapq.heappop(self._timers)
        return self._timers[0].when if self._timers else None

    def tick(self, now: float) -> None:
        """Run everything due by `now`, in order."""
        while (when := self.next_deadline()) is not None and when <= now:
            timer = heapq.heappop(self._timers)
            self.now = max(self.now, timer.when)
            timer.action()
        self.now = max(self.now, now)

    def request(
        self,
        message: Message,
        destination: Address,
        on_response: Callable[[Message], None] = lambda response: None,
        on_timeout: Callable[[], None] = lambda: None,
    ) -> Client:
        """Send a request in a new client transaction; transactions are forgotten after a while."""
        client = Client(self, message, destination, on_response, on_timeout)
        key = (message.via.branch, message.method)
        self._clients[key] = client
        self.after(300 if client.invite else 2 * GIVE_UP, lambda: self._drop(key))
        return client

    def _drop(self, key: tuple[str, str]) -> None:
        self._clients.pop(key, None)

    def refused(self, destination: Address, now: float) -> None:
        """A datagram to `destination` came back as ICMP port unreachable."""
        self.tick(now)
        for client in list(self._clients.values()):
            if client.destination == destination and not client.done and not client.provisional:
                client.refused()

    def receive(self, data: bytes, source: Address, now: float) -> None:
        """A datagram arrived."""
        self.tick(now)
        if not data.strip(b"\r\n\0"):
            return
        try:
            self._received_untrusted(data, source)
        except (SipError, SdpError) as error:
            self.rejected.append(str(error))

    def _received_untrusted(self, data: bytes, source: Address) -> None:
        message = Message.parse_untrusted(data)
        if message.status:
            client = self._clients.get((message.via.branch, message.cseq[1]))
            if client is not None:
                client.received(message)
            return
        self._received_from(message, source)
        via = message.via
        key = (via.branch or f"{message.call_id} {message.cseq[0]}", f"{via.host}:{via.port}", message.method)
        if message.method == "ACK":
            self._ack(message, key)
            return
        server = self._servers.get(key)
        if server is not None:
            server.repeat()
            return
        server = self._servers[key] = Server(self, message)
        if message.method == "INVITE":
            self._invites[message.call_id, message.cseq[0]] = server
        self.after(300 if message.method == "INVITE" else 2 * GIVE_UP, lambda: self._forget(key, message))
        self._on_request(server)

    def _forget(self, key: tuple[str, str, str], message: Message) -> None:
        self._servers.pop(key, None)
        if message.method == "INVITE":
            self._invites.pop((message.call_id, message.cseq[0]), None)

    def invite_of(self, cancel: Message) -> Server | None:
        """The INVITE a CANCEL is for (RFC 3261 9.2)."""
        via = cancel.via
        return self._servers.get(
            (via.branch or f"{cancel.call_id} {cancel.cseq[0]}", f"{via.host}:{via.port}", "INVITE")
        )

    def _ack(self, message: Message, key: tuple[str, str, str]) -> None:
        server = self._servers.get((key[0], key[1], "INVITE"))
        if server is not None and server.status >= 300:
            server.acknowledged()
            return
        answered = self._invites.get((message.call_id, message.cseq[0]))
        if answered is not None:
            answered.acknowledged()
        self._on_ack(message)

    def _received_from(self, message: Message, source: Address) -> None:
        via = message.via
        params = dict(via.params)
        if "rport" in params and not params["rport"]:  # RFC 3581 4
            params["rport"] = str(source[1])
        if via.host != source[0]:
            params["received"] = source[0]
        if params != via.params:
            message.set_top_via(Via(via.transport, via.host, via.port, params))

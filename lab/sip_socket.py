"""A UDP socket that speaks SIP for the lab's phones: transactions with retransmission, on trio.

Theory of operation. `open_sip_socket` takes an address to bind or a socket that exists already (a phone's socket is
made inside its network namespace and handed over). One task reads datagrams; what it reads goes, without an await, to
the client transaction with its branch, to the server transaction it repeats, or to the `requests` channel.
`send_request` starts a `ClientTransaction` whose `responses` channel ends after the final response or the timeout;
non-2xx finals of an INVITE are ACKed here, 2xx by the phone through `ClientTransaction.ack`, which is sent again for
a repeated 2xx. `Incoming.respond` keeps the response for repeated requests; a final response to an INVITE is sent
again until its ACK arrives (RFC 3261 17.2.1, 13.3.1.4). Datagrams that are not SIP (keep-alives, STUN, junk) are
counted in `ignored`.
"""

from __future__ import annotations

import math
import socket as stdlib_socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from lab.sip import Address, Ids, Message, SipError, Via

T2 = 4.0  # seconds, RFC 3261 17.1.2.1


class NoAnswer(Exception):
    """No final response within 64*T1 (or the caller's own limit); the text names the request and the address."""


class ClientTransaction:
    """One request we sent. Iterate `responses` (1xx, finals, every 2xx of an INVITE, also of forks), or await
    `final()`."""

    def __init__(self, owner: SipSocket, request: Message, destination: Address) -> None:
        self.request, self.destination, self._owner = request, destination, owner
        self._send, self.responses = trio.open_memory_channel[Message](math.inf)
        self._answered = trio.Event()
        self._provisional = False
        self._acks: dict[str, Message] = {}

    async def final(self) -> Message:
        """Skip to the final response. Raises NoAnswer."""
        async for response in self.responses:
            if response.status >= 200:
                return response
        raise NoAnswer(f"no answer to {self.request.start_line} sent to {self.destination[0]}:{self.destination[1]}")

    def ack(self, message: Message) -> None:
        """Send the ACK to a 2xx and remember it by To tag: a repeated 2xx is answered with it."""
        data = self._owner.send_once(message, self.destination)
        self._acks[message.to.tag] = data

    def cancel(self, headers: Iterable[tuple[str, str]] = ()) -> ClientTransaction:
        """Send CANCEL for this INVITE (RFC 3261 9.1: same branch, same CSeq number)."""
        out = Message(method="CANCEL", uri=self.request.uri)
        out.add("Via", self.request.values("Via")[0])
        out.headers += [("Route", route) for route in self.request.all("Route")]
        out.headers += [("Max-Forwards", "70"), ("From", self.request["From"]), ("To", self.request["To"])]
        out.headers += [("Call-ID", self.request.call_id), ("CSeq", f"{self.request.cseq[0]} CANCEL"), *headers]
        return self._owner.send_request(out, self.destination, keep_via=True)

    def _received(self, response: Message) -> None:
        self._provisional = True
        invite = self.request.method == "INVITE"
        if response.status >= 200:
            repeated = self._answered.is_set()
            self._answered.set()
            if invite and response.status >= 300:
                self._owner.send_once(_ack_failure(self.request, response), self.destination, keep_via=True)
            elif invite and (ack := self._acks.get(response.to.tag)) is not None:
                self._owner.send_once(ack, self.destination, keep_via=True)
                return
            if repeated and not (invite and response.status < 300):
                return
        try:
            self._send.send_nowait(response)
        except (trio.ClosedResourceError, trio.BrokenResourceError):
            self._owner.ignored += 1

    async def _run(self, t1: float) -> None:
        """Repeat the request until something answers (RFC 3261 17.1.1.2 timers A, B; 17.1.2.2 timers E, F)."""
        invite = self.request.method == "INVITE"
        limit, wait = trio.current_time() + 64 * t1, t1
        data = self.request.encode()
        while not self._answered.is_set():
            with trio.move_on_after(wait):
                await self._answered.wait()
                break
            if self._provisional and invite:
                await self._answered.wait()  # no limit once 1xx came: the phone decides how long it rings
                break
            if trio.current_time() >= limit:
                break
            self._owner.transmit(data, self.destination)
            wait = wait * 2 if invite else T2 if self._provisional else min(wait * 2, T2)
            wait = max(min(wait, limit - trio.current_time()), 0.0)
        if invite and self._answered.is_set():
            await trio.sleep(64 * t1)  # repeated and forked 2xx still belong here
        else:
            await trio.lowlevel.checkpoint()
        self._owner.forget(self)
        self._send.close()


@dataclass
class Incoming:
    """A request that arrived, with where from. `respond` may be called several times (1xx, then one final)."""

    message: Message
    source: Address
    _owner: SipSocket
    _last: bytes = b""
    _acked: trio.Event = field(default_factory=trio.Event)

    def respond(self, response: Message | int, **fields: object) -> Message:
        """Send a response, or build one first: `respond(200, tag=..., contact=..., sdp=...)` as
        `Message.response`."""
        if isinstance(response, int):
            response = self.message.response(response, **fields)  # type: ignore[arg-type]
        self._last = response.encode()
        self._owner.transmit(self._last, response.via.reply_address)
        if self.message.method == "INVITE" and response.status >= 200:
            self._owner.repeat_until_ack(self)
        return response


class SipSocket:
    """See `open_sip_socket`. `requests` gives `Incoming`; `ids` makes tags, branches, Call-IDs; `address` is our
    own."""

    def __init__(self, sock: stdlib_socket.socket, nursery: trio.Nursery, ids: Ids, t1: float) -> None:
        self._sock, self._nursery, self.ids, self.t1 = sock, nursery, ids, t1
        self.address: Address = sock.getsockname()[:2]
        self.ignored = 0
        self.log: list[tuple[float, bool, Address, bytes]] = []
        """(trio time, True when sent, peer, datagram) of everything, for a scenario's ladder."""
        self._incoming, self.requests = trio.open_memory_channel[Incoming](math.inf)
        self._clients: dict[tuple[str, str], ClientTransaction] = {}
        self._servers: dict[tuple[str, str, str], Incoming] = {}

    def transmit(self, data: bytes, destination: Address) -> None:
        """Send a datagram now; a full socket buffer loses it, as a network would."""
        self.log.append((trio.current_time(), True, destination, data))
        try:
            self._sock.sendto(data, destination)
        except (BlockingIOError, ConnectionRefusedError):
            self.ignored += 1

    def send_once(self, message: Message, destination: Address, *, keep_via: bool = False) -> Message:
        """Send outside any transaction (an ACK to a 2xx); adds our Via unless `keep_via`. Returns what was sent."""
        if not keep_via:
            message.headers.insert(0, ("Via", self.new_via()))
        self.transmit(message.encode(), destination)
        return message

    def new_via(self) -> str:
        """A Via value of ours with a new branch and rport."""
        host, port = self.address
        return f"SIP/2.0/UDP {f'[{host}]' if ':' in host else host}:{port};branch={self.ids.branch()};rport"

    def send_request(self, message: Message, destination: Address, *, keep_via: bool = False) -> ClientTransaction:
        """Send a request in a new client transaction; adds our Via on top unless `keep_via`."""
        if not keep_via:
            message.headers.insert(0, ("Via", self.new_via()))
        transaction = ClientTransaction(self, message, destination)
        self._clients[message.via.branch, message.method] = transaction
        self.transmit(message.encode(), destination)
        self._nursery.start_soon(transaction._run, self.t1)
        return transaction

    async def ask(self, message: Message, destination: Address) -> Message:
        """Send a request and wait for its final response. Raises NoAnswer."""
        return await self.send_request(message, destination).final()

    def forget(self, transaction: ClientTransaction) -> None:
        """Drop a finished client transaction."""
        self._clients.pop((transaction.request.via.branch, transaction.request.method), None)

    def repeat_until_ack(self, incoming: Incoming) -> None:
        """Start sending a final response to an INVITE again and again until its ACK."""
        self._nursery.start_soon(self._repeat, incoming, incoming._last)

    async def _repeat(self, incoming: Incoming, data: bytes) -> None:
        wait, limit = self.t1, trio.current_time() + 64 * self.t1
        while not incoming._acked.is_set() and trio.current_time() < limit and incoming._last == data:
            with trio.move_on_after(wait):
                await incoming._acked.wait()
                return
            self.transmit(data, incoming.message.via.reply_address)
            wait = min(wait * 2, T2)

    async def _read(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._sock)
            try:
                data, source = self._sock.recvfrom(65535)
            except (BlockingIOError, ConnectionRefusedError):
                continue
            self.log.append((trio.current_time(), False, source[:2], data))
            try:
                message = Message.parse_untrusted(data)
            except SipError:
                self.ignored += 1
                continue
            self._dispatch(message, source[:2])

    def _dispatch(self, message: Message, source: Address) -> None:
        if message.status:
            transaction = self._clients.get((message.via.branch, message.cseq[1]))
            if transaction is None:
                self.ignored += 1
            else:
                transaction._received(message)
            return
        via = message.via
        params = dict(via.params)
        if "rport" in params or via.host != source[0]:  # RFC 3261 18.2.1, RFC 3581 4
            params["received"] = source[0]
            if "rport" in params:
                params["rport"] = str(source[1])
            message.set_top_via(Via(via.transport, via.host, via.port, params))
        key = (via.branch or message.call_id + message["CSeq"].split()[0], f"{via.host}:{via.port}", message.method)
        incoming = self._servers.get(key)
        if incoming is not None:
            if incoming._last:
                self.transmit(incoming._last, incoming.message.via.reply_address)
            return
        incoming = Incoming(message, source, self)
        if message.method == "ACK":
            if self._acknowledge(message, key):
                return
        else:
            self._servers[key] = incoming
        self._incoming.send_nowait(incoming)

    def _acknowledge(self, ack: Message, key: tuple[str, str, str]) -> bool:
        """Stop the INVITE response this ACK is for; True when it was a failure's ACK, which the phone need not
        see."""
        failed = self._servers.get((key[0], key[1], "INVITE"))
        if failed is not None and failed._last:
            failed._acked.set()
            return True
        for invite in self._servers.values():
            request = invite.message
            if request.method == "INVITE" and (request.call_id, request.cseq[0]) == (ack.call_id, ack.cseq[0]):
                invite._acked.set()
        return False


def _ack_failure(request: Message, response: Message) -> Message:
    """RFC 3261 17.1.1.3: same Request-URI, top Via, Route, From, Call-ID, CSeq number; To from the response."""
    out = Message(method="ACK", uri=request.uri)
    out.add("Via", request.values("Via")[0])
    out.headers += [("Route", route) for route in request.all("Route")]
    out.headers += [("Max-Forwards", "70"), ("From", request["From"]), ("To", response["To"])]
    out.headers += [("Call-ID", request.call_id), ("CSeq", f"{request.cseq[0]} ACK")]
    return out


@asynccontextmanager
async def open_sip_socket(
    where: stdlib_socket.socket | Address, *, seed: int | str = 0, t1: float = 0.5
) -> AsyncIterator[SipSocket]:
    """Open a SIP socket on (host, port) or on an existing UDP socket, which is closed at the end too. `t1` in
    seconds."""
    if isinstance(where, stdlib_socket.socket):
        raw = where
    else:
        family = stdlib_socket.AF_INET6 if ":" in where[0] else stdlib_socket.AF_INET
        raw = stdlib_socket.socket(family, stdlib_socket.SOCK_DGRAM)
    with raw:
        if not isinstance(where, stdlib_socket.socket):
            raw.bind(where)
        raw.setblocking(False)
        async with trio.open_nursery() as nursery:
            sip = SipSocket(raw, nursery, Ids(seed), t1)
            nursery.start_soon(sip._read)
            yield sip
            nursery.cancel_scope.cancel()

"""A SIP phone behind whatever network it finds: registers, calls, is called, and hears.

Theory of operation. A phone is two or three trio tasks of the lab's own process: its SIP socket and its media sockets
are born inside its namespace, so its packets cross the scenario's NAT like anybody's. As real phones do it writes the
address it has (a private one behind NAT) into Via, Contact and SDP, asks for `rport` (RFC 3581), and sends everything
outside a dialog to its outbound proxy, the edge. Requests inside a dialog go by route set. A new INVITE is answered
100 and given to `next_call()`; the scenario plays the human.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import trio

from lab import namespace
from lab.call import Call, IncomingCall, OutgoingCall
from lab.rtp import MediaPort
from lab.sip import Address, Message
from lab.sip_socket import Incoming, SipSocket, open_sip_socket
from lab.topology import EDGE_PUBLIC, Network

DOMAIN = "example.test"
SIP_PORT = 5060
FIRST_MEDIA_PORT = 20_000


class Phone:
    """See `open_phone`. `calls` are all calls that have a dialog; `tones` what each successive media port sends."""

    def __init__(
        self, name: str, user: str, sip: SipSocket, network: Network, tones: Sequence[int], nursery: trio.Nursery
    ) -> None:
        self.name, self.user, self.sip, self.network, self.nursery = name, user, sip, network, nursery
        self.proxy: Address = (EDGE_PUBLIC, 5060)
        self.calls: list[Call] = []
        self.ports: list[MediaPort] = []
        self._tones = tones
        self._new_calls, self._waiting = trio.open_memory_channel[IncomingCall](math.inf)

    @property
    def contact(self) -> str:
        """Our Contact value, with the address we know of ourselves."""
        return f"<sip:{self.user}@{self.sip.address[0]}:{self.sip.address[1]}>"

    @property
    def address_of_record(self) -> str:
        """Our public identity."""
        return f"sip:{self.user}@{DOMAIN}"

    async def new_port(self) -> MediaPort:
        """Open the next media port (20000, 20002...) and start it."""
        number = len(self.ports)
        sock = await self.network.socket(self.name, FIRST_MEDIA_PORT + 2 * number)
        port = MediaPort(sock, self._tones[number % len(self._tones)], seed=number)
        self.ports.append(port)
        self.nursery.start_soon(port.run)
        return port

    def _request(self, method: str, uri: str, to: str, *, body: str = "") -> Message:
        out = Message(method=method, uri=uri)
        out.headers += [
            ("Max-Forwards", "70"),
            ("From", f"<{self.address_of_record}>;tag={self.sip.ids.tag()}"),
            ("To", f"<{to}>"),
            ("Call-ID", self.sip.ids.call_id(self.sip.address[0])),
            ("CSeq", f"{self.sip.ids.random.randrange(1, 1000)} {method}"),
            ("Contact", self.contact),
            ("Allow", "INVITE, ACK, BYE, CANCEL, OPTIONS, UPDATE, INFO"),
            ("User-Agent", "lab phone"),
        ]
        if body:
            out.add("Content-Type", "application/sdp")
            out.body = body.encode()
        return out

    async def register(self, expires: int = 600) -> Message:
        """REGISTER our Contact; the final response. Raises NoAnswer."""
        request = self._request("REGISTER", f"sip:{DOMAIN}", self.address_of_record)
        request.add("Expires", str(expires))
        return await self.sip.ask(request, self.proxy)

    async def call(self, user: str, *, late_offer: bool = False) -> OutgoingCall:
        """Start a call to `user`, with our offer in the INVITE unless `late_offer`; returns at once."""
        call = OutgoingCall(self, await self.new_port(), len(self.ports), late_offer=late_offer)
        uri = f"sip:{user}@{DOMAIN}"
        request = self._request("INVITE", uri, uri, body="" if late_offer else call.offer())
        transaction = self.sip.send_request(request, self.proxy)
        self.nursery.start_soon(call.converse, transaction)
        return call

    async def next_call(self, seconds: float = 8.0) -> IncomingCall | None:
        """The next new call to us, None when none comes within `seconds`."""
        with trio.move_on_after(seconds):
            return await self._waiting.receive()
        return None

    async def add_incoming(self, invite: Incoming) -> IncomingCall:
        """A new branch of a received INVITE."""
        call = IncomingCall(self, await self.new_port(), len(self.ports), invite)
        self.calls.append(call)
        return call

    async def serve(self) -> None:
        """The task that answers requests."""
        async for incoming in self.sip.requests:
            message = incoming.message
            if message.method == "CANCEL":
                self._cancelled(incoming)
            elif message.to.tag:
                self._in_dialog(incoming)
            elif message.method == "INVITE":
                incoming.respond(100)
                self._new_calls.send_nowait(await self.add_incoming(incoming))
            elif message.method == "OPTIONS":
                incoming.respond(200, tag=self.sip.ids.tag(), contact=self.contact)
            elif message.method != "ACK":
                incoming.respond(405, tag=self.sip.ids.tag())

    def _cancelled(self, incoming: Incoming) -> None:
        branch = incoming.message.via.branch
        found = [c for c in self.calls if isinstance(c, IncomingCall) and c.invite.message.via.branch == branch]
        incoming.respond(200 if found else 481, tag=found[0].tag if found else self.sip.ids.tag())
        for call in found:
            call.cancel_received()

    def _in_dialog(self, incoming: Incoming) -> None:
        for call in self.calls:
            if call.dialog is not None and call.dialog.matches(incoming.message):
                call.received(incoming)
                return
        if incoming.message.method != "ACK":
            incoming.respond(481)


@asynccontextmanager
async def open_phone(network: Network, role: str, user: str, tones: Sequence[int]) -> AsyncIterator[Phone]:
    """A phone on the host `role` ("caller", "callee") for the length of the block. `tones` in Hz, one per media port
    it opens."""
    raw = await trio.to_thread.run_sync(namespace.udp_socket, network.ns(role), network.site(role).host, SIP_PORT)
    async with open_sip_socket(raw, seed=f"{network.prefix} {role}") as sip, trio.open_nursery() as nursery:
        phone = Phone(role, user, sip, network, tones, nursery)
        nursery.start_soon(phone.serve)
        try:
            yield phone
        finally:
            nursery.cancel_scope.cancel()
            for port in phone.ports:
                port.close()

"""The stand-in B2BUA as a machine: datagrams and time in, datagrams and a deadline out.

Theory of operation. `B2bua` owns the transaction stack and the calls; it looks up the dialog of a request by Call-ID
and our tag, makes a `Call` for a new INVITE whose user has a prefix of the dialplan, and answers everything else as
FreeSWITCH does. `receive`, `refused` and `tick` may add to `output`; whoever drives it sends that and calls `tick` at
`next_deadline`. Nothing here reads a clock or a socket, so a recording can be replayed through it with its own times.
"""

from __future__ import annotations

from urllib.parse import unquote

from lab.b2bua_call import Call
from lab.b2bua_config import B2buaConfig
from lab.b2bua_leg import COMMON, Generated, Leg
from lab.b2bua_messages import ALLOW_EVENTS, SDP_TYPE, Fields, assemble, response
from lab.b2bua_stack import Server, Stack
from lab.sip import Address, Message, SipError, Uri


class B2bua:
    """See the module's text. `calls` are those that still have a dialog, oldest first."""

    def __init__(self, config: B2buaConfig, seed: int | str = 0) -> None:
        self.config = config
        self.made = Generated(seed)
        self.stack = Stack(self._request, self._ack)
        self.calls: list[Call] = []
        self._legs: dict[tuple[str, str], tuple[Call, Leg]] = {}
        self._next_sweep = 0.0
        self.total = 0
        """Calls ever accepted for routing."""

    @property
    def output(self) -> list[tuple[bytes, Address]]:
        """Datagrams to send; the driver empties it."""
        return self.stack.output

    def receive(self, data: bytes, source: Address, now: float) -> None:
        """A datagram arrived."""
        self.stack.receive(data, source, now)
        self._sweep()

    def refused(self, destination: Address, now: float) -> None:
        """ICMP port unreachable for something sent to `destination`."""
        self.stack.refused(destination, now)

    def tick(self, now: float) -> None:
        """Run what is due."""
        self.stack.tick(now)
        self._sweep()

    def next_deadline(self) -> float | None:
        """When `tick` is wanted, or None."""
        return self.stack.next_deadline()

    def _register(self, call: Call, leg: Leg) -> None:
        self._legs[leg.call_id, leg.tag] = (call, leg)

    def _sweep(self) -> None:
        if self.stack.now < self._next_sweep:
            return
        self._next_sweep = self.stack.now + 60
        for call in [call for call in self.calls if call.over]:
            self.calls.remove(call)
            for leg in (call.a, call.b):
                if leg is not None:
                    self._legs.pop((leg.call_id, leg.tag), None)

    def _find(self, message: Message) -> tuple[Call, Leg] | None:
        return self._legs.get((message.call_id, message.to.tag))

    def _request(self, server: Server) -> None:
        request = server.request
        if request.method == "CANCEL":
            self._cancel(server)
        elif request.to.tag:
            found = self._find(request)
            if found is not None:
                found[0].request(found[1], server)
            else:
                self._plain(server, 481, "Call Does Not Exist")
        elif request.method == "INVITE":
            self._invite(server)
        elif request.method == "OPTIONS":
            fields: Fields = {"Contact": f"<sip:{self.config.host}>", "Accept": SDP_TYPE, "Allow-Events": ALLOW_EVENTS}
            self._plain(server, 200, "OK", fields)
        elif request.method in ("BYE", "UPDATE", "PRACK", "INFO"):
            self._plain(server, 481, "Call Does Not Exist")
        else:
            self._plain(server, 501, "Not Implemented")

    def _plain(self, server: Server, status: int, phrase: str, fields: Fields | None = None) -> None:
        message, everything = response(server.request, status, phrase, self.made.token(), {**COMMON, **(fields or {})})
        server.respond(assemble(message, everything))

    def _invite(self, server: Server) -> None:
        try:
            user = unquote(Uri.parse(server.request.uri).user)
        except SipError:
            self._plain(server, 400, "Bad Request")
            return
        for prefix, plan in self.config.plans.items():
            if user.startswith(prefix) and len(user) > len(prefix):
                call = Call(self.config, self.stack, self.made, server, plan, user[len(prefix) :], self._register)
                self.calls.append(call)
                self.total += 1
                call.begin()
                return
        self._plain(server, 404, "Not Found")

    def _cancel(self, server: Server) -> None:
        invite = self.stack.invite_of(server.request)
        for call in reversed(self.calls) if invite is not None else ():
            if call.a_server is invite:
                call.cancel(server)
                return
            for leg in (call.a, call.b):
                if leg is not None and leg.server is invite:
                    call.cancel_reinvite(leg, server)
                    return
        self._plain(server, 481, "Call Does Not Exist")

    def _ack(self, message: Message) -> None:
        found = self._find(message)
        if found is not None:
            found[0].ack(found[1], message)

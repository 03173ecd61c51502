"""Requests of our own inside dialogs we only relay: re-INVITEs that repair media, BYEs that end a call both ends
lost.

Each is sent to one side as if it came from the other: that side's tags, Contact and route set, and the next CSeq
number of that direction (``dialogs.CSeqMap``), so that neither end can tell. ``OwnRequest`` is the stack's
``ClientUser``; the story that sent it waits for the final response, or is told it (``told``) without a task of its own.
A 2xx to a re-INVITE is acknowledged here, retransmissions too, and refreshes the dialog (Contact, session timer).

``prepare`` spends the CSeq number, ``OwnRequest.send`` sends: what must not be forgotten is written down in between.
A re-INVITE carries on the session timer that was agreed (RFC 4028 7.1: one without Session-Expires would end it), with
the refresher that was: seen from us, who send, the receiver is the "uas".
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from proxy.dialogs import Dialog, Side
from proxy.flow import Flow
from proxy.forward import numeric_address, route_uri_untrusted
from proxy.nat import take_alias
from proxy.sip.message import H, Request, Response, make_cancel, make_request, make_response
from proxy.sip.parser import BadMessage
from proxy.sip.transaction import PROCEEDING
from proxy.sip.uri import parse_uri_untrusted
from proxy.stack import Ignored, Transaction

if TYPE_CHECKING:
    from proxy.core import Core

log = logging.getLogger("proxy")


class OwnRequest:
    """One request of ours: waits for its final response, acknowledges a 2xx to an INVITE."""

    def __init__(
        self, core: Core, request: Request, flow: Flow, branch: bytes, dialog: Dialog, to_caller: bool
    ) -> None:
        self.core = core
        self.request = request
        self.flow = flow
        self.branch = branch
        self.dialog = dialog
        self.to_caller = to_caller
        self.done: trio.Event | None = None
        self.told: Callable[[Response], None] | None = None
        self.final: Response | None = None
        self.ack = b""

    def send(self, told: Callable[[Response], None] | None = None) -> None:
        """Send it. ``told`` is called once with the final response (408 and 503 may be ours); it must not block."""
        self.told = told
        core, request = self.core, self.request
        core.stats[f"own_{request.method.lower()}"] += 1
        now = core.clock()
        tx = core.stack.send_request(request, self.branch, self.flow, self, now)
        if request.method == "INVITE":
            core.alarm(now + core.timers.cancel, self.give_up, tx)

    async def wait(self) -> Response:
        """The final response, once it was sent."""
        if self.final is None:
            self.done = trio.Event()
            await self.done.wait()
        assert self.final is not None
        return self.final

    def on_response(self, tx: Transaction, response: Response, now: float) -> None:
        """Keep the first final response; acknowledge every 2xx to an INVITE."""
        if response.code < 200:
            return
        if response.code < 300 and self.request.method == "INVITE":
            self.acknowledge(b"", response)
            if self.final is None and not self.dialog.ended:
                self._refreshed(response, now)
        self._finish(response)

    def _refreshed(self, response: Response, now: float) -> None:
        """The dialog's remote target and session timer (RFC 3261 12.2.1.2, RFC 4028 section 7.2)."""
        dialog = self.dialog
        self.core.learn_contact(dialog.caller if self.to_caller else dialog.callee, response)
        self.core.outcome.refreshed(dialog, response, not self.to_caller, now)

    def acknowledge(self, body: bytes, response: Response) -> None:
        """Send (again) the ACK for a 2xx."""
        if not self.ack:
            request = self.request
            branch = self.core.stack.new_branch(0)
            headers = [
                (b"Via", b"SIP/2.0/UDP " + self.flow.listener.via + b";branch=" + branch),
                *((b"Route", value) for value in request.values(H.ROUTE)),
                (b"Max-Forwards", b"70"),
                (b"From", request.get(H.FROM) or b""),
                (b"To", response.get(H.TO) or b""),
                (b"Call-ID", request.call_id),
                (b"CSeq", b"%d ACK" % request.cseq),
            ]
            self.ack = make_request("ACK", request.uri, headers, body).to_bytes()
        if self.core.stack.tap is not None:
            self.core.stack.tap("out", self.ack, self.flow)
        self.flow.send_nowait(self.ack)

    def on_timeout(self, tx: Transaction, now: float) -> None:
        """Nobody answered."""
        self._finish(make_response(self.request, 408))

    def on_unreachable(self, tx: Transaction, now: float) -> None:
        """ICMP."""
        self._finish(make_response(self.request, 503))

    def give_up(self, tx: Transaction, now: float) -> None:
        """A re-INVITE of ours that was answered provisionally and never finally (no timer of the transaction ends
        that): CANCEL it, stop waiting, and forget it when that brings no final response either (RFC 3261 9.1)."""
        if self.final is not None:
            return
        self.core.stack.send_request(make_cancel(self.request), self.branch, self.flow, Ignored(), now)
        self._finish(make_response(self.request, 408))
        self.core.alarm(now + self.core.timers.cancel, self._forget, tx)

    def _forget(self, tx: Transaction, now: float) -> None:
        if tx.state == PROCEEDING:
            self.core.drop_client(tx)

    def _finish(self, response: Response) -> None:
        if self.final is None:
            self.final = response
            if self.done is not None:
                self.done.set()
            if self.told is not None:
                self.told(response)


class OwnRequests:
    """Builds and sends own requests for one core."""

    def __init__(self, core: Core) -> None:
        self.core = core

    async def send(
        self, dialog: Dialog, to_caller: bool, method: str, body: bytes = b"", reason: bytes | None = None
    ) -> Response:
        """Send ``method`` to one side of a dialog as if from the other; returns the final response (408 and 503
        ours)."""
        if dialog.leg is not None and method != "BYE":
            # The number is ours for good before the request leaves: a proxy that is killed then and started again must
            # not let the other side use it as well.
            numbers = dialog.map_for(not to_caller)
            numbers.reserved += 1
            await self.core.store.commit(dialog.leg.session)
            numbers.reserved -= 1
            if dialog.ended:
                return Response(481, b"Dialog gone", b"SIP/2.0 481 Dialog gone", [], [], b"")
            self.core.store.dirty(dialog.leg.session)
        own = self.start(dialog, to_caller, method, body, reason)
        if own is None:
            raise BadMessage(481, b"That side of the dialog cannot be reached")
        return await own.wait()

    def start(
        self, dialog: Dialog, to_caller: bool, method: str, body: bytes = b"", reason: bytes | None = None
    ) -> OwnRequest | None:
        """Send without waiting; None when that side's address is not known."""
        own = self.prepare(dialog, to_caller, method, body, reason)
        if own is not None:
            own.send()
        return own

    def prepare(
        self, dialog: Dialog, to_caller: bool, method: str, body: bytes = b"", reason: bytes | None = None
    ) -> OwnRequest | None:
        """Build a request and spend its CSeq number; None when that side's address is not known."""
        side, other = (dialog.caller, dialog.callee) if to_caller else (dialog.callee, dialog.caller)
        place = self._place(side)
        if place is None:
            self.core.stats["own_requests_unroutable"] += 1
            log.warning(
                "no way to send %s to %r of Call-ID %r: its Contact is unusable", method, side.identity, dialog.call_id
            )
            return None
        uri, flow = place
        branch = self.core.stack.new_branch(0)
        number = dialog.map_for(not to_caller).own()
        headers = [
            (b"Via", b"SIP/2.0/UDP " + flow.listener.via + b";branch=" + branch),
            *((b"Route", value) for value in side.routes),
            (b"Max-Forwards", b"70"),
            (b"From", other.identity),
            (b"To", side.identity),
            (b"Call-ID", dialog.call_id),
            (b"CSeq", b"%d %b" % (number, method.encode())),
        ]
        if method in ("INVITE", "UPDATE") and other.contact:
            headers.append((b"Contact", b"<" + other.contact + b">"))
            if dialog.interval:
                headers += _timer(dialog, to_caller)
        if reason is not None:
            headers.append((b"Reason", reason))
        if body:
            headers.append((b"Content-Type", b"application/sdp"))
        return OwnRequest(self.core, make_request(method, uri, headers, body), flow, branch, dialog, to_caller)

    def _place(self, side: Side) -> tuple[bytes, Flow] | None:
        """Request-URI and flow for a side: its Route set first, else its alias, else its Contact's address."""
        if not side.contact:
            return None
        try:
            uri, alias = take_alias(parse_uri_untrusted(side.contact))
            hop = route_uri_untrusted(side.routes[0]) if side.routes else uri
        except BadMessage:
            return None
        addr = numeric_address(hop)
        if not side.routes and (side.alias or alias):
            addr = side.alias or side.flow_addr  # never to an alias the phone wrote itself
        if addr is None:
            addr = side.flow_addr
        return None if addr is None else (bytes(uri), side.listener.flow(addr))

    def refuse_callee(self, dialog: Dialog, invite_cseq: int, reason: bytes) -> None:
        """A 2xx that cannot be passed on: acknowledge it, then BYE (RFC 3261 13.3.1.4 leaves no other way). Without a
        reason only the ACK is sent, for a 2xx that came again."""
        place = self._place(dialog.callee)
        if place is None:
            return
        uri, flow = place
        headers = [
            (b"Via", b"SIP/2.0/UDP " + flow.listener.via + b";branch=" + self.core.stack.new_branch(0)),
            *((b"Route", value) for value in dialog.callee.routes),
            (b"Max-Forwards", b"70"),
            (b"From", dialog.caller.identity),
            (b"To", dialog.callee.identity),
            (b"Call-ID", dialog.call_id),
            (b"CSeq", b"%d ACK" % invite_cseq),
        ]
        flow.send_nowait(make_request("ACK", uri, headers).to_bytes())
        if reason:
            self.start(dialog, False, "BYE", reason=reason)

    def hang_up(self, dialog: Dialog, reason: bytes) -> None:
        """BYE to both sides of one dialog; nobody waits for the answers."""
        for to_caller in (True, False):
            self.start(dialog, to_caller, "BYE", reason=reason)


def _timer(dialog: Dialog, to_caller: bool) -> list[tuple[bytes, bytes]]:
    """The agreed session timer, as a re-INVITE to that side has to carry it on."""
    who = b"" if dialog.refresher is None else b";refresher=uas" if dialog.refresher is to_caller else b";refresher=uac"
    return [(b"Supported", b"timer"), (b"Session-Expires", b"%d%b" % (dialog.interval, who))]

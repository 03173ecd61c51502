"""A phone's end of one call: its dialog, its media port, hold and unhold, and how it ended.

Theory of operation. `Call` holds what both ends share: the SDP it sends (one o= whose version rises with each change,
RFC 3264 8), the peer's SDP it obeys, re-INVITE, BYE, and the answers to the peer's. `OutgoingCall` reads the
responses of its INVITE in a task of its own and ACKs what answers (in the ACK goes the answer when the INVITE had no
offer); `IncomingCall` is driven by the scenario, response by response. Media follows the last SDP seen, early or
final. Events (`ringing`, `early`, `done`, `acked`, `ended`) are there to be awaited.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import trio

from lab import sdp
from lab.rtp import Hearing, MediaPort
from lab.sip import Message
from lab.sip_dialog import Dialog
from lab.sip_socket import ClientTransaction, Incoming, NoAnswer

if TYPE_CHECKING:
    from lab.ua import Phone


class Call:
    """Common to both directions. `peer` is what the peer's last SDP said, `origins` every o= (id, version) of the
    peer in order."""

    def __init__(self, phone: Phone, port: MediaPort, number: int) -> None:
        self.phone, self.port = phone, port
        self.dialog: Dialog | None = None
        self.holding = False
        self.peer: sdp.Media | None = None
        self.origins: list[tuple[str, int]] = []
        self.requests: list[str] = []
        """Methods of the in-dialog requests received, in order."""
        self.media = trio.Event()
        """Set when the peer's SDP is known."""
        self.refuse_next = 0
        """Status the next re-INVITE or UPDATE of the peer is refused with, once; 0: none."""
        self.refuse_always = 0
        """Status every re-INVITE or UPDATE of the peer is refused with; 0: none."""
        self.refused: list[float] = []
        """When we refused one, in trio's time."""
        self.bye_reason = ""
        """The Reason header (RFC 3326) of the BYE that ended the call."""
        self.ended = trio.Event()
        self.ended_by = ""
        """`BYE from the peer`, `own BYE`, `CANCEL`, `own CANCEL`, `rejected`; empty while it lives."""
        self.ended_at = 0.0
        self._session, self._version, self._printed, self._direction = 1000 + number, 0, "", ""
        self._reinviting = False

    @property
    def hearing(self) -> Hearing:
        """What this call's media port has heard."""
        return self.port.hearing

    def _print_sdp(self, direction: str) -> str:
        """Our SDP; its o= version rises only when something else in it changed."""
        text = sdp.describe(self.port.address, session=self._session, version=self._version, direction=direction)
        if text != self._printed:
            self._version += 1
            text = sdp.describe(self.port.address, session=self._session, version=self._version, direction=direction)
            self._printed = text
        self._direction = direction
        return text

    def offer(self) -> str:
        """Our offer as things stand: hold, and the peer's hold, included."""
        return self._print_sdp(sdp.offer_direction(self.peer, holding=self.holding))

    def answer_to(self, offered: str) -> str:
        """Take the peer's offer, print our answer, and let media follow."""
        self.peer = sdp.read(offered)
        self.origins.append(self.peer.origin)
        text = self._print_sdp(sdp.answer_direction(self.peer, holding=self.holding))
        self._follow()
        return text

    def take_answer(self, answered: str) -> None:
        """Take the peer's answer to our last offer."""
        self.peer = sdp.read(answered)
        self.origins.append(self.peer.origin)
        self._follow()

    def _follow(self) -> None:
        assert self.peer is not None
        self.media.set()
        self.port.remote = self.peer.remote
        self.port.sending = self.peer.receives and self._direction in ("sendrecv", "sendonly")

    def finish(self, why: str) -> None:
        """The call is over: no more media, `ended` set. Later reasons are ignored."""
        if not self.ended.is_set():
            self.ended_by, self.ended_at = why, trio.current_time()
            self.port.sending = False
            self.ended.set()

    def _live(self) -> Dialog:
        if self.dialog is None:
            raise RuntimeError(f"{self.phone.name}: the call has no dialog yet")
        return self.dialog

    async def reinvite(self, method: str = "INVITE") -> int:
        """Send our present offer in the dialog as re-INVITE (or UPDATE, RFC 3311), obey the answer.

        Returns the final status, 408 when nothing came. A refused offer changes nothing.
        """
        dialog = self._live()
        before = self._direction
        request = dialog.request(method, sdp=self.offer())
        transaction = self.phone.sip.send_request(request, dialog.destination)
        self._reinviting = method == "INVITE"
        try:
            final = await transaction.final()
        except NoAnswer:
            return 408
        finally:
            self._reinviting = False
        if final.status >= 300:
            self._direction = before
            return final.status
        dialog.refresh(final)
        if method == "INVITE":
            transaction.ack(dialog.ack(final))
        if final.sdp:
            self.take_answer(final.sdp)
        return final.status

    async def hold(self, method: str = "INVITE") -> int:
        """Re-INVITE (or UPDATE) with a direction that asks the peer to be silent; returns the final status."""
        return await self._set_hold(True, method)

    async def unhold(self, method: str = "INVITE") -> int:
        """Re-INVITE (or UPDATE) that takes the hold back; returns the final status."""
        return await self._set_hold(False, method)

    async def _set_hold(self, holding: bool, method: str) -> int:
        before, self.holding = self.holding, holding
        status = await self.reinvite(method)
        if status >= 300:
            self.holding = before
        return status

    async def bye(self) -> int:
        """Hang up; returns the final status (408 when nothing came)."""
        dialog = self._live()
        self.finish("own BYE")
        try:
            return (await self.phone.sip.ask(dialog.request("BYE"), dialog.destination)).status
        except NoAnswer:
            return 408

    def received(self, incoming: Incoming) -> None:
        """Answer an in-dialog request."""
        message, dialog = incoming.message, self._live()
        self.requests.append(message.method)
        if message.method == "ACK":
            self._acknowledged(message)
        elif message.method == "BYE":
            self.bye_reason = message.get("Reason")
            incoming.respond(200)
            self.finish("BYE from the peer")
        elif self.ended.is_set():
            incoming.respond(481)
        elif message.method == "INVITE" and self._reinviting:
            self._refuse(incoming, 491)  # RFC 3261 14.2
        elif message.method in ("INVITE", "UPDATE") and (self.refuse_next or self.refuse_always):
            self._refuse(incoming, self.refuse_next or self.refuse_always)
            self.refuse_next = 0
        elif message.method in ("INVITE", "UPDATE"):
            dialog.refresh(message)
            if message.sdp:
                answer = self.answer_to(message.sdp)
            else:
                answer = self.offer() if message.method == "INVITE" else ""
            incoming.respond(200, contact=self.phone.contact, sdp=answer)
        elif message.method in ("INFO", "NOTIFY", "OPTIONS", "MESSAGE"):
            incoming.respond(200)
        else:
            incoming.respond(405)

    def _refuse(self, incoming: Incoming, status: int) -> None:
        self.refused.append(trio.current_time())
        incoming.respond(status)

    def _acknowledged(self, ack: Message) -> None:
        if ack.sdp:  # the answer to the offer of our 200
            self.take_answer(ack.sdp)


class OutgoingCall(Call):
    """A call we make. `provisional` and `final` are the responses that came; `answered_at` trio's time of the 200."""

    def __init__(self, phone: Phone, port: MediaPort, number: int, *, late_offer: bool) -> None:
        super().__init__(phone, port, number)
        self.late_offer = late_offer
        self.provisional: list[Message] = []
        self.final: Message | None = None
        self.answered_at = 0.0
        self.ringing, self.early, self.done = trio.Event(), trio.Event(), trio.Event()
        self._transaction: ClientTransaction | None = None

    @property
    def status(self) -> int:
        """The final status, 0 before it."""
        return self.final.status if self.final else 0

    @property
    def transaction(self) -> ClientTransaction:
        """The INVITE's transaction."""
        assert self._transaction is not None, "the call was not started"
        return self._transaction

    @property
    def call_id(self) -> str:
        """The Call-ID."""
        return self.transaction.request.call_id

    async def converse(self, transaction: ClientTransaction) -> None:
        """The task that reads the INVITE's responses."""
        self._transaction = transaction
        async for response in transaction.responses:
            if response.status < 200:
                self._progress(response)
            elif response.status >= 300:
                self.final = response
                self.finish("own CANCEL" if response.status == 487 else "rejected")
                self.done.set()
            elif self.final is None:
                self._answered(response)
            else:
                await self._refuse_fork(response)
        self.done.set()

    def _progress(self, response: Message) -> None:
        self.provisional.append(response)
        if response.status == 180:
            self.ringing.set()
        if response.sdp and not self.late_offer:
            self.take_answer(response.sdp)
            self.early.set()

    def _answered(self, response: Message) -> None:
        self.final, self.answered_at = response, trio.current_time()
        self.dialog = Dialog.from_response(self.transaction.request, response)
        self.phone.calls.append(self)
        answer = ""
        if self.late_offer:
            answer = self.answer_to(response.sdp)
        elif response.sdp:
            self.take_answer(response.sdp)
        self.transaction.ack(self.dialog.ack(response, sdp=answer))
        self.done.set()

    async def _refuse_fork(self, response: Message) -> None:
        """A second 2xx from another fork is ACKed and hung up (RFC 3261 13.2.2.4)."""
        dialog = Dialog.from_response(self.transaction.request, response)
        self.transaction.ack(dialog.ack(response))
        self.phone.nursery.start_soon(self.phone.sip.ask, dialog.request("BYE"), dialog.destination)

    async def outcome(self) -> int:
        """Wait for the final response; its status, 408 when none came."""
        await self.done.wait()
        return self.status or 408

    async def cancel(self, headers: Iterable[tuple[str, str]] = ()) -> int:
        """CANCEL it; the status of the CANCEL itself (the INVITE's own comes as `outcome`)."""
        try:
            return (await self.transaction.cancel(headers).final()).status
        except NoAnswer:
            return 408


class IncomingCall(Call):
    """A call to us. Drive it: `ring`, `progress`, `answer`, `reject`; `fork` makes a second branch with a To tag of
    its own."""

    def __init__(self, phone: Phone, port: MediaPort, number: int, invite: Incoming) -> None:
        super().__init__(phone, port, number)
        self.invite = invite
        self.tag = phone.sip.ids.tag()
        self.acked, self.cancelled = trio.Event(), trio.Event()
        self.answered_at = 0.0
        self.dialog = Dialog.from_request(invite.message, self.tag, phone.contact)
        self._offered = bool(invite.message.sdp)
        self._answer = ""

    @property
    def call_id(self) -> str:
        """The Call-ID of our leg."""
        return self.invite.message.call_id

    def _sdp(self) -> str:
        if not self._offered:
            return self.offer()
        if not self._answer:
            self._answer = self.answer_to(self.invite.message.sdp)
        return self._answer

    def _respond(self, status: int, body: str = "") -> None:
        self.invite.respond(status, tag=self.tag, contact=self.phone.contact, sdp=body)

    def ring(self) -> None:
        """180."""
        self._respond(180)

    def progress(self) -> None:
        """183 with our SDP; our tone starts."""
        self._respond(183, self._sdp())

    def answer(self) -> None:
        """200 with our SDP (our offer when the INVITE had none)."""
        body = self._sdp()
        self.answered_at = trio.current_time()
        self._respond(200, body)

    def reject(self, status: int) -> None:
        """A final failure."""
        self._respond(status)
        self.finish("rejected")

    async def fork(self) -> IncomingCall:
        """Another branch of the same INVITE, as a forking proxy behind us would show it: own To tag, media port and
        tone."""
        return await self.phone.add_incoming(self.invite)

    def cancel_received(self) -> None:
        """CANCEL: 487 for the INVITE, unless it was answered already."""
        if not self.answered_at and not self.ended.is_set():
            self._respond(487)
            self.cancelled.set()
            self.finish("CANCEL")

    def _acknowledged(self, ack: Message) -> None:
        super()._acknowledged(ack)
        self.acked.set()

"""A call through the stand-in B2BUA up to the answer: leg A's INVITE, leg B's, and what of B's responses A sees.

Theory of operation. While FreeSWITCH waits for leg B it looks at it every 20 ms and tells leg A the newest thing it
sees: so a 180 and a 200 within one interval come out as the 200 alone, and a CANCEL reaches leg B up to 40 ms later.
As soon as early media was passed, the two legs are bridged and answer, failure and CANCEL go across at once. The
provisional table (recordings d_*): 183 without SDP is a 180; any 18x with SDP is a 183 with SDP, the first one only;
182 passes and silences 180; everything else is dropped. In-dialog traffic is `lab/b2bua_dialog.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from urllib.parse import unquote

from lab.b2bua_config import B2buaConfig, Dialplan
from lab.b2bua_dialog import BridgedCall
from lab.b2bua_leg import Generated, Header, Leg
from lab.b2bua_messages import ALLOW_EVENTS, FAILURES, FOLLOWED, FS_SUPPORT, MIN_SE, Fields, failure, q850, sdp_fields
from lab.b2bua_sdp import Negotiator, SdpError
from lab.b2bua_stack import Server, Stack
from lab.sip import Message, NameAddr, SipError, Uri

POLL = 0.02  # seconds


class Call(BridgedCall):
    """One call. Made for leg A's INVITE by `lab/b2bua_core.py`, which hands it everything of its two dialogs."""

    def __init__(
        self,
        config: B2buaConfig,
        stack: Stack,
        made: Generated,
        server: Server,
        plan: Dialplan,
        number: str,
        register: Callable[[Call, Leg], None],
    ) -> None:
        invite = server.request
        self.config, self.stack, self.made, self.plan, self.number = config, stack, made, plan, number
        self.invite, self.a_server = invite, server
        self.uuid = invite.call_id if config.callid_as_uuid else made.uuid()
        to, contacts = invite.to, invite.values("Contact")
        user = f"{to.uri.user}@" if to.uri.user else ""
        self.late_offer = not self._offer(invite)
        contact = (
            f"<sip:mod_sofia@{config.host}:{config.port}>"
            if self.late_offer
            else f"<sip:{user}{config.host}:{config.port};transport=udp>"
        )
        local = str(to.with_tag(made.token()))
        self.a = self._leg("A", invite.call_id, local, invite["From"], contact)
        self.a.cseq, self.a.server, self.a.max_forwards = made.cseq(), server, invite.get("Max-Forwards", "70")
        self.a.dialog(
            contact=contacts[0] if contacts else "", target=str(invite.from_.uri), routes=invite.values("Record-Route")
        )
        self.a.echoed = [(k, v) for k, v in invite.headers if k.lower() == "geolocation"]
        self.b: Leg | None = None
        self._register = register
        register(self, self.a)
        self.start = stack.now
        self.sent = self.retries = 0
        self._send_b: Callable[[], None] = lambda: None
        self.ringing = 0
        self.polled = 0.0
        self.early = self.answer_sdp = ""
        self.answered = self.early_sent = self.finished = self.cancelled = self.named = False
        self.failed: tuple[int, str, str] | None = None
        self.failed_extras: list[Header] = []
        self.passing: list[Header] = []
        self.callee_name = ""
        self.cancel_reason = ""
        server.on_no_ack = self._no_ack

    def _leg(self, name: str, call_id: str, local: str, remote: str, contact: str) -> Leg:
        return Leg(
            name=name,
            stack=self.stack,
            made=self.made,
            host=self.config.host,
            port=self.config.port,
            call_id=call_id,
            local=local,
            remote=remote,
            target="",
            contact=contact,
            next_hop=self.invite.via.reply_address,
            negotiator=Negotiator(self.config.host, self.made.random),
        )

    @staticmethod
    def _offer(invite: Message) -> str:
        kind = invite.get("Content-Type").lower()
        if not kind.startswith("multipart/"):
            return invite.sdp
        parts = multipart(invite)
        return next((text for part, text in parts if part.startswith("application/sdp")), "")

    def bye_extras(self, request: Message) -> list[Header]:
        """X- headers of a BYE pass when headers are copied."""
        return [(k, v) for k, v in request.headers if k.lower().startswith("x-")] if self.plan.copy_headers else []

    # ---- leg A's INVITE

    def begin(self) -> None:
        """Answer or route leg A's INVITE."""
        asked = self.invite.seconds("Session-Expires")
        allowed: Fields = {"Allow-Events": ALLOW_EVENTS}
        if 0 < asked < MIN_SE:
            self._final(422, FAILURES[422][0], {**allowed, "Min-SE": str(MIN_SE)})
            return
        offer = self._offer(self.invite)
        try:
            if offer:
                self.a.heard(offer)
        except SdpError:
            self._final(400, "Bad Session Description", allowed)
            return
        if not offer and not self.config.three_pcc_proxy:
            self._fail(480, FAILURES[480][0], q850(96))
            return
        self.a.trying(self.a_server)
        self._call_b(None)
        self.stack.after(max(self.plan.call_timeout - 0.6, 0.1), self._no_answer)

    def _call_b(self, redirected: str | None) -> None:
        """Send leg B's INVITE: to the edge, or to the Contact of a 3xx."""
        edge = self.config.edge_host or self.invite.via.host
        port = f":{self.config.edge_port}" if self.config.edge_port else ""
        to = f"<sip:{self.number}@{edge}{port}>"
        display, user, address = caller(self.invite)
        identity = f"{display} <sip:{user}@{self.config.host}>" if user else f"{display} <sip:{self.config.host}>"
        call_uuid = self.made.uuid()
        b = self._leg(
            "B",
            call_uuid,
            f"{identity};tag={self.made.token()}",
            to,
            f"<sip:mod_sofia@{self.config.host}:{self.config.port}>",
        )
        b.target = redirected or f"sip:{self.number}@{edge}{port}"
        b.next_hop = Uri.parse(b.target).address
        b.cseq = self.made.cseq()
        forwards = self.invite.get("Max-Forwards")
        b.max_forwards = str(int(forwards) - 1) if forwards.isdigit() else "70"
        shown = f"<sip:{unquote(user)}@{self.config.host}>" if user else "<sip:@cluecon.com>"
        own: Header = ("Remote-Party-ID", f"{display} {shown};party=calling;screen=yes;privacy=off")
        if address:
            own = ("P-Asserted-Identity", f"{display} {shown}")
        b.extras = [("X-PGPX", self.uuid), FS_SUPPORT, own]
        fields: Fields = {}
        if self.invite.get("Privacy"):
            fields["Privacy"] = self.invite["Privacy"]
        custom = self._custom() if self.plan.copy_headers else []
        if self.plan.copy_headers and "Identity" in self.invite:
            fields["Identity"] = ["", ""]
        body = self._body_for_b(b, fields)
        self.b = b
        self._register(self, b)
        self._send_b = lambda: b.first_invite(
            body,
            fields,
            custom,
            self._from_b,
            on_timeout=lambda: self._b_failed(408, None),
            on_refused=lambda: self._b_failed(503, None),
        )
        self._send_b()

    def _body_for_b(self, b: Leg, fields: Fields) -> str:
        if not self.a.description:
            return ""
        if self.invite.get("Content-Type").lower().startswith("multipart/"):
            b.media = False
            boundary = self.made.uuid()
            fields["Content-Type"] = f"multipart/mixed;boundary={boundary}"
            parts = multipart(self.invite)
            parts = [
                *parts,
                *[part for part in parts if part[0].startswith("application/sdp")],
            ]  # the SDP comes out twice
            text = ""
            for kind, data in parts:
                text += f"--{boundary}\r\nContent-Type: {kind.split(';')[0]}\r\n"
                text += f"Content-Length: {len(data.encode()) + 1}\r\n\r\n{data}\r\n"
            return f"{text}--{boundary}--\r\n"
        fields |= sdp_fields(negotiated=True)
        b.negotiator.set_own(self.a.description)
        return b.negotiator.offer()

    def _custom(self) -> list[Header]:
        """Headers that pass with sip_copy_custom_headers unset or true (recordings j_*): a repeated one gets a
        number."""
        out: list[Header] = []
        for name, value in self.invite.headers:
            low = name.lower()
            if not (low.startswith(("x-", "p-")) or low in ("diversion", "user-to-user")):
                continue
            if low in ("x-pgpx", "x-fs-support", "p-asserted-identity", "p-preferred-identity"):
                continue
            count = sum(1 for other, _ in out if other == name or other.startswith(f"{name}-"))
            out.append((f"{name}-{count}" if count else name, value))
        return out

    # ---- leg B's responses

    def _from_b(self, response: Message) -> None:
        b = self.leg_b
        if response.status == 100:
            self._cancel_b()
            return
        if response.status < 200:
            self._provisional(response)
        elif response.status < 300:
            self._b_answered(response)
        elif response.status in FOLLOWED and response.values("Contact") and not self.finished:
            self._call_b(str(NameAddr.parse(response.values("Contact")[0]).uri))
        elif response.status == 422 and self.retries < 3 and not self.finished:
            self.retries += 1  # c_direct_codes: tried again three times, with nothing changed
            b.cseq += 1
            self._send_b()
        elif not self.finished:
            challenged = "WWW-Authenticate" in response or "Proxy-Authenticate" in response
            b.end()
            self._b_failed(response.status, response, challenged=challenged)

    def _b_dialog(self, response: Message) -> None:
        b = self.leg_b
        b.remote = response["To"]
        contacts = response.values("Contact")
        b.dialog(contact=contacts[0] if contacts else "", target=b.target, routes=response.values("Record-Route")[::-1])

    def _provisional(self, response: Message) -> None:
        self._cancel_b()
        if self.finished:
            return
        if "100rel" in response.get("Require") and response.get("RSeq"):
            self._b_dialog(response)
            self.leg_b.prack(response)
        if self.early or self.late_offer:  # 1.10.12 passes no provisional response on when leg A made no offer
            return
        if response.sdp and response.status in (180, 183):
            self.leg_b.heard(response.sdp)
            self.early = response.sdp
        elif response.status in (180, 183):
            self.ringing = 180
        elif response.status == 182:
            self.ringing = 182
        else:
            return
        self._take_extras(response)
        self._look()

    def _take_extras(self, response: Message) -> None:
        self.passing = [(k, v) for k, v in response.headers if k.lower().startswith("x-")]
        if response.get("P-Asserted-Identity"):
            self.callee_name = response["P-Asserted-Identity"]

    def _b_answered(self, response: Message) -> None:
        b = self.leg_b
        self._b_dialog(response)
        if self.finished:
            b.ack()
            b.bye()
            return
        b.up, self.answered = True, True
        self.answer_sdp = response.sdp or self.early
        if expires := response.seconds("Session-Expires"):
            b.interval = max(expires, MIN_SE)
            b.refresher = "uas" if "refresher=uas" in response["Session-Expires"] else "uac"
            self.plan_refresh(b)
        try:
            b.heard(self.answer_sdp)
            if not self.late_offer and b.media:
                b.negotiator.answered()
        except SdpError:
            b.ack()
            b.bye()
            self._b_failed(488, None)
            return
        if not self.late_offer:
            b.ack()
        self._take_extras(response)
        self._look()

    def _b_failed(self, status: int, response: Message | None, *, challenged: bool = False) -> None:
        if self.finished or self.failed is not None:
            return
        self.failed = failure(status, challenged=challenged)
        if response is not None:
            self._take_extras(response)
        else:
            self.passing = []
        self._look()

    # ---- what leg A sees

    def _look(self) -> None:
        """Tell leg A now when the legs are bridged, else at the next poll."""
        if self.early_sent:
            self._report()
        elif self.stack.now >= self.polled - 1e-9:
            ticks = math.floor((self.stack.now - self.start) / POLL + 1e-6) + 1
            self.polled = self.start + ticks * POLL
            self.stack.after(self.polled - self.stack.now, self._report)

    def _report(self) -> None:
        if self.finished:
            return
        if self.failed is not None:
            self._fail(*self.failed)
        elif self.answered:
            self._answer_a()
        elif self.early:
            if not self.early_sent:
                self.early_sent = True
                body, negotiated = self.a.presented(self.early)
                self._to_a(183, "Session Progress", sdp_fields(negotiated=negotiated), body)
                self.named = True
        elif self.ringing and not self.sent:
            self.named = True
            self._to_a(self.ringing, "Ringing" if self.ringing == 180 else "Queued")

    def _to_a(self, status: int, phrase: str, fields: Fields | None = None, body: str = "") -> None:
        self.sent = status
        head: Fields = {
            "Contact": self.a.contact,
            "Record-Route": self.invite.values("Record-Route"),
            "Allow-Events": ALLOW_EVENTS,
        }
        extras = [*self.passing, *([] if self.late_offer else [self._identity()])]
        self.a.answer(self.a_server, status, phrase, {**head, **(fields or {})}, extras=extras, body=body)

    def _answer_a(self) -> None:
        if self.early and self.a.media and after_origin(self.early) != after_origin(self.answer_sdp):
            self.a.media = False  # d_183_then_other_sdp: the 200 then carries the callee's description as it came
        timer = self.a.timer_fields(self.invite)
        if self.late_offer:
            self.a.negotiator.set_own(self.answer_sdp)
            body, negotiated = self.a.negotiator.offer(), True
        else:
            body, negotiated = self.a.presented(self.answer_sdp)
        self.named = self.finished = self.a.up = True
        self._to_a(200, "OK", {**timer, **sdp_fields(negotiated=negotiated)}, body)
        self.a.server = None
        self.plan_refresh(self.a)

    def _identity(self) -> Header:
        host = self.invite.to.uri.host
        if "P-Asserted-Identity" in self.invite and self.callee_name:
            name = NameAddr.parse(self.callee_name)
            return "P-Asserted-Identity", f"{name.display} <sip:{name.uri.user}@{host}>"
        if self.named:
            return "Remote-Party-ID", f'"Outbound Call" <sip:{self.number}@{host}>;party=calling;privacy=off;screen=no'
        dialled = unquote(Uri.parse(self.invite.uri).user)
        return "Remote-Party-ID", f'"{dialled}" <sip:{dialled}@{host}>;party=calling;privacy=off;screen=no'

    def _fail(self, status: int, phrase: str, reason: str) -> None:
        fields: Fields = {"Allow-Events": ALLOW_EVENTS, "Reason": reason}
        if forwards := self.invite.get("Max-Forwards"):
            fields["Max-Forwards"] = forwards  # FreeSWITCH does put it into its failure responses
        self._final(status, phrase, fields, [*self.passing, self._identity()])

    def _final(self, status: int, phrase: str, fields: Fields, extras: list[Header] | None = None) -> None:
        self.finished = True
        self.a.answer(self.a_server, status, phrase, fields, extras=extras or [])
        self.a.server = None
        self.a.end()

    # ---- giving up

    def cancel(self, server: Server) -> None:
        """CANCEL from leg A for its first INVITE."""
        self.a.answer(server, 200, "OK", plain=True)
        if self.finished:
            return
        self.cancel_reason = server.request.get("Reason") or 'SIP;cause=487;text="ORIGINATOR_CANCEL"'
        self._final(487, "Request Terminated", {"Allow-Events": ALLOW_EVENTS})
        self.stack.after(0.0 if self.early_sent else POLL, self._leave_b if self.answered else self._cancel_b)

    def _leave_b(self) -> None:
        """Leg A gave up after leg B's 200 and before its own: leg B gets a BYE (after the ACK it may still lack)."""
        if self.late_offer:
            self.leg_b.ack()
        self.leg_b.bye(self.cancel_reason)

    def _cancel_b(self) -> None:
        """CANCEL leg B once something answered its INVITE (RFC 3261 9.1)."""
        b = self.b
        if b is None or not self.cancel_reason or self.cancelled or b.client is None or b.client.done:
            return
        if b.client.provisional:
            self.cancelled = True
            b.cancel(self.cancel_reason)

    def _no_answer(self) -> None:
        if self.finished or self.answered:
            return
        self.cancel_reason = q850(19)
        self._cancel_b()
        self.passing = []
        self._fail(480, FAILURES[480][0], q850(16))


def caller(invite: Message) -> tuple[str, str, bool]:
    """(display in quotes, user, whether it came from P-Asserted-Identity) of the calling party, as FreeSWITCH
    presents it."""
    asserted = invite.values("P-Asserted-Identity")
    try:
        name = NameAddr.parse(asserted[0]) if asserted else invite.from_
    except SipError:
        name, asserted = invite.from_, []
    uri = name.uri
    user = (uri.user or (uri.host if uri.scheme == "tel" else "")).split(";")[0]
    display = name.display or f'"{unquote(user) or "unknown"}"'
    return display if display.startswith('"') else f'"{display}"', user, bool(asserted)


def multipart(message: Message) -> list[tuple[str, str]]:
    """(content type, text) of the parts of a multipart body."""
    _, _, boundary = message.get("Content-Type").partition("boundary=")
    boundary = boundary.split(";")[0].strip('" ')
    out = []
    for part in message.body.decode("utf-8", "replace").split(f"--{boundary}")[1:]:
        head, _, text = part.partition("\r\n\r\n")
        kind = next(
            (line.partition(":")[2].strip() for line in head.split("\r\n") if line.lower().startswith("content-type:")),
            "",
        )
        if kind:
            out.append((kind, text.removesuffix("\r\n")))
    return out


def after_origin(sdp: str) -> str | None:
    """A description from its s= line on; FreeSWITCH compares early and final answer like this. Without s= it equals
    nothing."""
    at = sdp.find("s=")
    return sdp[at:] if at >= 0 else str(id(sdp))

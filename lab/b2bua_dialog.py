"""A bridged call of the stand-in B2BUA after the answer: re-INVITE, UPDATE, BYE and the methods FreeSWITCH answers by
itself.

Theory of operation. A re-INVITE with SDP is passed on: the other leg is offered the description through its own
engine, its answer comes back through this leg's, and it is ACKed at once. Recorded oddities kept here: FreeSWITCH
takes a millisecond to pass it on, and when a re-INVITE from the other side arrives meanwhile, the *first* one gets
491 (glare); after one leg's re-INVITE was refused, one from the other leg is answered 100 and nothing else until BYE
(`hanging`); a re-INVITE without SDP is answered from what is stored, or relayed unprinted with enable-3pcc=proxy;
UPDATE is answered locally; a 408 or 481 ends the call.
"""

from __future__ import annotations

from lab.b2bua_config import B2buaConfig
from lab.b2bua_leg import Generated, Leg
from lab.b2bua_messages import ALLOW_EVENTS, FAILURES, MIN_SE, Fields, q850, sdp_fields
from lab.b2bua_sdp import Sdp, SdpError
from lab.b2bua_stack import Server, Stack
from lab.sip import Message

PASS_ON = 0.0005  # seconds between a re-INVITE and the one on the other leg


class BridgedCall:
    """The part of a call that has two dialogs. See `lab/b2bua_call.py` for the part before."""

    config: B2buaConfig
    stack: Stack
    made: Generated
    invite: Message
    a: Leg
    b: Leg | None
    late_offer: bool
    finished: bool
    hanging: Leg | None = None
    """The leg whose re-INVITEs are not passed on, since it refused one."""
    relayed: Leg | None = None
    """The leg whose late offer waits for its answer in an ACK."""

    @property
    def leg_b(self) -> Leg:
        """Leg B, which exists by now."""
        if self.b is None:
            raise RuntimeError("leg B does not exist yet")
        return self.b

    def other(self, leg: Leg) -> Leg:
        """The opposite leg."""
        return self.leg_b if leg is self.a else self.a

    @property
    def over(self) -> bool:
        """Whether both legs have ended."""
        return self.a.over and (self.b is None or self.b.over)

    def cancel(self, server: Server) -> None:
        """CANCEL of leg A's first INVITE."""
        raise NotImplementedError

    def request(self, leg: Leg, server: Server) -> None:
        """Any request inside a dialog but CANCEL and ACK."""
        method = server.request.method
        if leg.over:
            leg.answer(server, 481, "Call Does Not Exist")
        elif method == "INVITE":
            self._reinvite(leg, server)
        elif method == "UPDATE":
            self._update(leg, server)
        elif method == "BYE":
            self._bye(leg, server)
        elif method == "INFO":
            leg.answer(server, 200, "OK")
        elif method == "OPTIONS":
            self._options(leg, server)
        elif method == "NOTIFY":
            leg.answer(server, 200, "OK", {"Contact": leg.contact})
        elif method == "MESSAGE":
            realm = server.request.from_.uri.host
            challenge = f'Digest realm="{realm}", nonce="{self.made.uuid()}", algorithm=MD5, qop="auth"'
            leg.answer(server, 407, "Proxy Authentication Required", {"Proxy-Authenticate": challenge})
        else:
            leg.answer(server, 501, "Not Implemented")

    def _options(self, leg: Leg, server: Server) -> None:
        fields: Fields = {"Contact": leg.contact, "Allow-Events": ALLOW_EVENTS}
        body = leg.negotiator.own.without_ports() if leg.negotiator.own is not None else ""
        if body:
            fields |= sdp_fields(negotiated=False)
        leg.answer(server, 200, "OK", fields, body=body)

    def _update(self, leg: Leg, server: Server) -> None:
        leg.refreshed(server.request)
        fields: Fields = {"Contact": leg.contact, **leg.timer_fields(server.request)}
        body = ""
        if server.request.sdp and leg.media:
            try:
                leg.negotiator.set_remote(server.request.sdp)
                body = leg.negotiator.answer()
            except SdpError:
                leg.answer(server, 400, "Bad Session Description")
                return
            fields |= sdp_fields(negotiated=True)
        leg.answer(server, 200, "OK", fields, body=body)

    # ---- re-INVITE

    def _reinvite(self, leg: Leg, server: Server) -> None:
        request = server.request
        if leg.server is not None:
            leg.answer(server, 500, "Overlapping Requests", {"Retry-After": str(self.made.random.randrange(1, 10))})
            return
        if leg.client is not None and not leg.client.done:
            leg.answer(server, 491, "Request Pending")
            return
        if 0 < request.seconds("Session-Expires") < MIN_SE:
            leg.answer(server, 422, FAILURES[422][0], {"Min-SE": str(MIN_SE)})
            return
        leg.refreshed(request)
        if request.sdp:
            try:
                leg.heard(request.sdp)
            except SdpError:
                leg.answer(server, 400, "Bad Session Description")
                return
            leg.holding = Sdp.parse_untrusted(request.sdp).holds
        leg.trying(server)
        leg.server = server
        server.on_no_ack = self._no_ack
        waiting = self.hanging is not None and self.hanging.server is not None
        if self.hanging is leg or waiting:
            return
        if not request.sdp and not self.config.three_pcc_proxy:
            self._answer_from_store(leg, server)
            return
        self.stack.after(PASS_ON, lambda: self._pass_on(leg, server))

    def _answer_from_store(self, leg: Leg, server: Server) -> None:
        body = leg.negotiator.offer() if leg.media else self.other(leg).description
        fields = {"Contact": leg.contact, **leg.timer_fields(server.request), **sdp_fields(negotiated=leg.media)}
        leg.answer(server, 200, "OK", fields, body=body)

    def _pass_on(self, leg: Leg, server: Server) -> None:
        peer = self.other(leg)
        if server.final or leg.over or peer.over:
            return
        if peer.server is not None:
            self._refuse(leg, server, 491, "Request Pending")
            return
        text = server.request.sdp
        if not text or "m=image" in text:
            peer.media = False
        negotiated = peer.media
        if negotiated:
            peer.negotiator.hold = peer.holding
            peer.negotiator.set_own(text)
            text = peer.negotiator.offer()
        peer.reinvite(
            text,
            negotiated=negotiated,
            on_response=lambda response: self._passed(leg, server, response),
            on_timeout=lambda: self._pass_failed(leg, server, 408),
        )

    def _passed(self, leg: Leg, server: Server, response: Message) -> None:
        peer = self.other(leg)
        if response.status < 200:
            return
        if response.status >= 300:
            if peer.media:
                peer.negotiator.refused()
            self._pass_failed(leg, server, response.status)
            return
        peer.refreshed(response)
        late = not server.request.sdp
        try:
            if response.sdp:
                peer.heard(response.sdp)
                if peer.media and not late:
                    peer.negotiator.answered()
        except SdpError:
            peer.ack()
            self._pass_failed(leg, server, 488)
            return
        if not late:
            peer.ack()
        self.hanging = None
        self.plan_refresh(peer)
        if server.final:
            leg.server = None
            return
        text = response.sdp or peer.description
        body, negotiated = (text, False) if late else leg.presented(text)
        fields: Fields = {
            "Contact": leg.contact,
            **leg.timer_fields(server.request),
            **sdp_fields(negotiated=negotiated),
        }
        leg.answer(server, 200, "OK", fields, body=body)
        leg.server = None
        if late:
            leg.media, self.relayed = False, peer
        self.plan_refresh(leg)

    def _pass_failed(self, leg: Leg, server: Server, status: int) -> None:
        peer = self.other(leg)
        self.hanging = peer
        if not server.final:
            self._refuse(leg, server, status, FAILURES.get(status, ("", 31))[0])
        if status in (408, 481):
            peer.bye()
            leg.bye(q850(102 if status == 408 else 41))

    def _refuse(self, leg: Leg, server: Server, status: int, phrase: str) -> None:
        fields: Fields = {"Contact": leg.contact} if status == 488 and leg is self.a else {}
        leg.answer(server, status, phrase, fields)
        leg.server = None

    def cancel_reinvite(self, leg: Leg, server: Server) -> None:
        """CANCEL of a re-INVITE: 487, while the one on the other leg goes on."""
        leg.answer(server, 200, "OK", plain=True)
        if leg.server is not None:
            self._refuse(leg, leg.server, 487, "Request Terminated")

    def ack(self, leg: Leg, message: Message) -> None:
        """ACK to a 2xx of ours."""
        if leg.server is not None and leg.server.final:
            leg.server = None  # a re-INVITE without SDP, answered from the store
        peer = self.other(leg)
        if self.late_offer and leg is self.a and message.sdp and peer.client is not None and not peer.client.ack:
            leg.heard(message.sdp)
            leg.negotiator.answered()
            body, negotiated = peer.presented(message.sdp)
            peer.ack(body=body, negotiated=negotiated)
        elif self.relayed is peer:
            self.relayed = None
            leg.description = message.sdp or leg.description
            peer.ack(body=message.sdp)
        elif message.sdp and leg.media:
            leg.heard(message.sdp)
            leg.negotiator.answered()

    # ---- session timer, BYE

    def plan_refresh(self, leg: Leg) -> None:
        """FreeSWITCH as refresher: re-INVITE five seconds after half the interval."""
        if leg.refresh is not None:
            leg.refresh.cancel()
        if leg.interval and leg.refresher == "uac":
            leg.refresh = self.stack.after(leg.interval / 2 + 5, lambda: self._refresh(leg))

    def _refresh(self, leg: Leg) -> None:
        if leg.over or leg.server is not None or (leg.client is not None and not leg.client.done):
            return

        def done(response: Message) -> None:
            if response.status < 200:
                return
            if response.status < 300:
                if response.sdp and leg.media:
                    leg.heard(response.sdp)
                    leg.negotiator.answered()
                leg.ack()
                self.plan_refresh(leg)
            elif response.status in (408, 481):
                ended()

        def ended() -> None:
            leg.bye()
            self.other(leg).bye(q850(102))

        body = leg.negotiator.offer() if leg.media else self.other(leg).description
        leg.reinvite(body, negotiated=leg.media, on_response=done, on_timeout=ended)

    def _no_ack(self) -> None:
        if self.a.over:
            return
        self.a.bye_no_ack()
        self.leg_b.bye(q850(96))

    def _bye(self, leg: Leg, server: Server) -> None:
        leg.answer(server, 200, "OK")
        if leg.server is not None and not leg.server.final:
            leg.answer(leg.server, 487, "Session Terminated")
            leg.server = None
        leg.end()
        if self.b is None:
            return
        peer = self.other(leg)
        if peer.over:
            return
        reason = server.request.get("Reason") or q850(16)
        if self.late_offer and leg is self.a and not server.request.get("Reason"):
            reason = 'SIP;cause=487;text="ORIGINATOR_CANCEL"'  # recorded with enable-3pcc=proxy
        peer.bye(reason, self.bye_extras(server.request))
        if peer.server is not None and not peer.server.final:
            peer.answer(peer.server, 486, "Busy Here")
            peer.server = None

    def bye_extras(self, request: Message) -> list[tuple[str, str]]:
        """Headers of a BYE that pass to the other leg."""
        return []

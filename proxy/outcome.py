"""What responses mean for dialogs and media sessions: confirmed, refreshed, failed, over.

``relay`` calls in here at three points: ``fix_response`` before a response goes up, ``branch_failed`` when one branch
has ended, ``relay_done`` when the request as a whole has its final response. Ring 1: nothing waits; work for
rtpengine is queued by the anchor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.contact import needs_alias
from proxy.dialogs import Dialog, Side, dialog_key
from proxy.flow import Listener
from proxy.forward import own_route_untrusted, record_route
from proxy.relay import Branch, Relay
from proxy.session_timer import session_timer
from proxy.sip.message import H, Request, Response
from proxy.sip.parser import BadMessage

if TYPE_CHECKING:
    from proxy.core import Core
    from proxy.media.anchor import Refusal


class Outcome:
    """The consequences of responses, for one core."""

    def __init__(self, core: Core) -> None:
        self.core = core

    # -- on the way up --------------------------------------------------------------------------------------------

    def fix_response(self, relay: Relay, branch: Branch, response: Response) -> None:
        """CSeq as the requester knows it, the Contact alias of a responder behind NAT, no headers only we may set."""
        dialog = relay.dialog
        if dialog is not None:
            number = relay.request.cseq
            if response.cseq != number:
                response.set(H.CSEQ, b"%d %b" % (number, relay.request.method.encode()))
        flow = branch.target.flow
        if self.core.is_freeswitch(flow.addr[0]):
            return
        if H.X_PGPX in response.ids:
            response.remove(H.X_PGPX)
        if relay.request.method not in ("INVITE", "UPDATE", "SUBSCRIBE", "REFER", "NOTIFY"):
            return
        if needs_alias(response, flow.addr):
            self.core.add_alias(response, flow.addr)
            if dialog is not None:
                side = dialog.callee if relay.from_caller else dialog.caller
                side.alias = flow.addr

    # -- set up ---------------------------------------------------------------------------------------------------

    def new_dialog(self, relay: Relay, request: Request, came: Listener, leaves: Listener) -> Dialog:
        """The dialog a first INVITE makes; its callee is known by the 2xx."""
        caller = Side(request.from_tag, request.get(H.FROM) or b"", came)
        callee = Side(b"", request.get(H.TO) or b"", leaves)
        dialog = Dialog(request.call_id, caller, callee, relay.leg)
        caller.flow_addr = relay.tx.flow.addr
        self.core.learn_contact(caller, request)
        caller.routes = request.values(H.RECORD_ROUTE)
        dialog.down.outgoing(request.cseq)
        relay.dialog = dialog
        self.core.dialogs.add(dialog)
        return dialog

    def add_record_route(self, relay: Relay, request: Request, came: Listener, leaves: Listener) -> None:
        """Record-Route with the signed token: what lets an in-dialog request pass, also after a restart."""
        leg = relay.leg
        if leg is None:
            token = self.core.token(b"-", b"-", b"-", request.call_id)
        else:
            session = leg.session
            token = self.core.token(
                session.id.encode(), leg.name.encode(), (session.node or "-").encode(), request.call_id
            )
        record_route(request, came, leaves, token)

    # -- ends -----------------------------------------------------------------------------------------------------

    def branch_failed(self, relay: Relay, branch: Branch, response: Response | None) -> None:
        """One branch of a first INVITE is over without a call: its party leaves the session."""
        leg = relay.leg
        if leg is not None and relay.initial and relay.is_invite and self.core.anchor is not None:
            self.core.anchor.branch_ended(leg, branch.branch)

    def relay_done(self, relay: Relay, branch: Branch | None, response: Response, now: float) -> None:
        """The final response has gone up (or, for a non-INVITE nobody answered, there will be none)."""
        dialog = relay.dialog
        method = relay.request.method
        code = response.code
        if dialog is None:
            self._undialogued(relay, code)
            return
        if method == "BYE":
            if code not in (401, 407):
                self.dialog_over(dialog)
            if branch is not None and branch.local and relay.from_phone:
                # FreeSWITCH is dead (ICMP, or silent for 64*T1): nobody else hangs up the session's other phone.
                self.core.end_session(dialog, b'SIP;cause=503;text="No way to the other side"')
        elif relay.initial:
            if code >= 300:
                self.dialog_over(dialog)
            elif relay.is_invite:
                self._confirmed(relay, dialog, branch, response, now)
        elif code in (481, 408) and method in ("INVITE", "UPDATE"):
            # RFC 3261 12.2.1.2: the peer knows no such call, or is gone.
            self.core.end_session(dialog, b'SIP;cause=%d;text="Call gone"' % code)
        elif code < 300 and method in ("INVITE", "UPDATE"):
            side = dialog.callee if relay.from_caller else dialog.caller
            self.core.learn_contact(side, response)
            self.refreshed(dialog, response, relay.from_caller, now)
            if dialog.leg is not None:
                self.core.store.dirty(dialog.leg.session)

    def _undialogued(self, relay: Relay, code: int) -> None:
        if relay.leg is not None and relay.initial and code >= 300 and self.core.anchor is not None:
            self.core.anchor.leg_ended(relay.leg)

    def _confirmed(self, relay: Relay, dialog: Dialog, branch: Branch | None, response: Response, now: float) -> None:
        if branch is not None:
            self._meet_callee(dialog, branch, response, now)
        self.refreshed(dialog, response, True, now)
        if dialog.leg is not None:
            self.core.alarm(now + self.core.timers.ack, self._ack_due, dialog)

    def resume(self, dialog: Dialog, now: float) -> None:
        """A dialog from another life of this proxy: its timers run on. What fell due while nobody was here has as long
        as an ACK to happen after all: whoever is still there repeats what it got no answer to."""
        grace = now + self.core.timers.ack
        if not dialog.acked:
            self.core.alarm(grace, self._ack_due, dialog)
        if dialog.expires_at is not None:
            dialog.expires_at = max(dialog.expires_at, grace)
            self.core.alarm(dialog.expires_at + 1.0, self._session_due, dialog)

    def reject_answer(self, relay: Relay, branch: Branch, response: Response, refusal: Refusal) -> Response:
        """rtpengine cannot use the callee's 2xx: ACK it and hang up on the callee; the refusal goes up in its place."""
        core = self.core
        core.stats["answers_refused"] += 1
        dialog = relay.dialog
        if response.code < 300 and dialog is not None and relay.initial and branch.final is None:
            self._meet_callee(dialog, branch, response, core.clock())
            core.refuse_callee(dialog, response.cseq, b'SIP;cause=488;text="Media refused"')
        branch.local = True
        return relay.local_response(refusal.code, refusal.reason)

    def unwanted_2xx(self, relay: Relay, branch: Branch, response: Response, now: float) -> None:
        """A 2xx to an INVITE that has been given up (408 has gone up) or answered otherwise: the callee believes in a
        call nobody is in. ACK it, and hang up; only ACK it when it comes again."""
        core = self.core
        request = relay.request
        listener = branch.target.flow.listener
        caller = Side(request.from_tag, request.get(H.FROM) or b"", listener)
        dialog = Dialog(request.call_id, caller, Side(b"", request.get(H.TO) or b"", listener))
        dialog.down.outgoing(response.cseq)
        self._meet_callee(dialog, branch, response, now)
        first = response.to_tag not in relay.sent_2xx
        relay.sent_2xx[response.to_tag] = b""
        core.stats["answers_too_late"] += first
        core.refuse_callee(dialog, response.cseq, b'SIP;cause=487;text="Answered too late"' if first else b"")

    def _meet_callee(self, dialog: Dialog, branch: Branch, response: Response, now: float) -> None:
        """Who and where the callee is, from its 2xx."""
        dialog.learn_confirmed(response, now)
        self.core.learn_contact(dialog.callee, response)
        dialog.callee.flow_addr = branch.target.flow.addr
        dialog.callee.listener = branch.target.flow.listener
        dialog.callee.routes = self._routes_beyond(response)

    def _routes_beyond(self, response: Response) -> list[bytes]:
        """Route values from us to the callee: the Record-Routes above ours, nearest first (RFC 3261 12.1.2)."""
        above: list[bytes] = []
        for value in response.values(H.RECORD_ROUTE):
            try:
                if own_route_untrusted(value, self.core.own) is not None:
                    break
            except BadMessage:
                continue
            above.append(value)
        return above[::-1]

    def _ack_due(self, dialog: Dialog, now: float) -> None:
        """No ACK 64*T1 after the 2xx (RFC 3261 13.3.1.4): the caller has vanished."""
        if not dialog.acked and not dialog.ended:
            self.core.stats["sessions_no_ack"] += 1
            self.core.end_session(dialog, b'SIP;cause=408;text="No ACK"')

    def refreshed(self, dialog: Dialog, response: Response, by_caller: bool, now: float) -> None:
        """Session timers (RFC 4028): a 2xx with Session-Expires starts the interval anew. `by_caller`: the request
        came from the dialog's caller."""
        agreed = session_timer(response)
        if agreed is None:
            return
        dialog.interval = agreed[0]
        dialog.refresher = None if agreed[1] is None else (agreed[1] == "uac") is by_caller
        dialog.expires_at = now + dialog.interval
        self.core.alarm(dialog.expires_at + 1.0, self._session_due, dialog)

    def _session_due(self, dialog: Dialog, now: float) -> None:
        if dialog.ended or dialog.expires_at is None or now < dialog.expires_at:
            return
        self.core.stats["sessions_timer_expired"] += 1
        self.core.end_session(dialog, b'SIP;cause=408;text="Session timer expired"')

    def dialog_over(self, dialog: Dialog) -> None:
        """BYE answered, or the call never came about: forget the dialog; the session ends with its last leg."""
        self.core.dialogs.remove(dialog)
        leg = dialog.leg
        if leg is not None and self.core.anchor is not None:
            self.core.anchor.leg_ended(leg)


__all__ = ["Outcome", "dialog_key"]

"""The proxy core: every request the transaction layer does not absorb ends here, and is relayed, answered or routed.

How it works: ``Core`` is the stack's ``User``, ring 1 throughout. A request inside a dialog follows its Routes and is
relayed in the same call, unless its SDP needs rtpengine: then a story (a trio task started through ``start_story``)
waits for the node first. A request outside a dialog is validated (RFC 3261 16.3), gets its server transaction and,
when it is an INVITE, its 100 at once; then its story runs the routing script (``routing.Call``).

What comes back passes ``fix_response`` (Contact alias for phones behind NAT, CSeq as the requester knows it) and ends
in ``relay_done``, where dialogs are confirmed or end and the media session is told. Timers other than the
transactions' are ``alarm``s: one heap of (time, function), checked by ``tick``.
"""

from __future__ import annotations

import heapq
import zlib
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from proxy import nat
from proxy.contact import contact_uri, contact_value
from proxy.dialogs import Dialog, Dialogs, Side
from proxy.driver import Driver
from proxy.flow import Address, Flow, Listener
from proxy.forward import (
    Own,
    is_loop,
    loop_hash,
    next_hop_untrusted,
    numeric_address,
    own_key,
    reply_flow,
    spend_hop_untrusted,
    strip_routes_untrusted,
)
from proxy.outcome import Outcome
from proxy.relay import Branch, Relay, Target
from proxy.sip.message import H, Request, Response, make_response, make_trying
from proxy.sip.parser import BadMessage, validate_untrusted
from proxy.sip.uri import Uri
from proxy.stack import ServerKey, Stack, Transaction
from proxy.store import NULL, Persistence
from proxy.stories import Stories
from proxy.token import Signer, Token

if TYPE_CHECKING:
    from proxy.edge import CoreTimers
    from proxy.media.anchor import Anchor
    from proxy.routing import Call

Starter = Callable[..., None]


class Alarm:
    """A call that is due at some time. ``cancel`` lets go of what it would have called."""

    __slots__ = ("args", "function")

    def __init__(self, function: Callable[..., None], args: tuple[Any, ...]) -> None:
        self.function: Callable[..., None] | None = function
        self.args = args

    def cancel(self) -> None:
        """It is not wanted any more."""
        self.function = None
        self.args = ()


class Core:
    """The proxy between its listeners. ``start_story(fn, *args)`` starts a trio task; ``clock`` is only used by
    stories."""

    def __init__(
        self,
        stack: Stack,
        timers: CoreTimers,
        signer: Signer,
        *,
        clock: Callable[[], float],
        start_story: Starter,
        run_route: Callable[[Call], Awaitable[None]],
        anchor: Anchor | None = None,
        max_forwards: int = 10,
    ) -> None:
        self.stack = stack
        self.timers = timers
        self.signer = signer
        self.clock = clock
        self.start_story = start_story
        self.run_route = run_route
        self.anchor = anchor
        self.store: Persistence = NULL
        self.max_forwards = max_forwards
        self.dialogs = Dialogs()
        self.own: Own = {}
        self.stats: defaultdict[str, int] = stack.stats
        self.is_freeswitch: Callable[[str], bool] = lambda host: False
        self.resolve: Callable[[Uri], Awaitable[Address | None]] | None = None
        self.known_address: Callable[[Address], bool] = lambda addr: False
        self.is_destination: Callable[[Address], bool] = lambda addr: False
        self.make_call: Callable[[Relay, Flow, bool], Call] | None = None
        self.refuse_callee: Callable[[Dialog, int, bytes], None] = lambda dialog, cseq, reason: None
        self.end_session: Callable[[Dialog, bytes], None] = lambda dialog, reason: None
        self._nat_results: dict[tuple[bytes, bytes, int | None, Address], bool] = {}
        self._alarms: list[tuple[float, int, Alarm]] = []
        self._count = 0
        self.driver: Driver | None = None
        self.outcome = Outcome(self)
        self.stories = Stories(self)
        stack.user = self

    def add_listener(self, listener: Listener) -> None:
        """Make a listener ours: requests naming it by host and port are for us."""
        self.stack.listeners.append(listener)
        for name in listener.own:
            self.own[name] = listener
        self.own[own_key(listener)] = listener

    # -- from the stack -------------------------------------------------------------------------------------------

    def on_request(self, request: Request, flow: Flow, key: ServerKey, now: float) -> None:
        """A request that belongs to no transaction yet."""
        try:
            self._on_request_untrusted(request, flow, key, now)
        except BadMessage as bad:
            tx = self.stack.server.get(key)
            if tx is not None and isinstance(tx.user, Relay):
                self.stats["bad_messages"] += 1
                tx.user.reply(bad.status or 400, bad.reason, now)
                return
            if bad.partial is None:
                bad.partial = request
            self.stack.refuse_bad(bad, flow)

    def _on_request_untrusted(self, request: Request, flow: Flow, key: ServerKey, now: float) -> None:
        if request.to_tag:
            self._in_dialog_untrusted(request, flow, key, now)
            return
        validate_untrusted(request)
        if request.method == "ACK":
            return
        behind_nat = self._repair_source(request, flow)
        if not spend_hop_untrusted(request, self.max_forwards):
            self._refuse(request, flow, 483, b"Too Many Hops")
            return
        if request.index(H.PROXY_REQUIRE) >= 0:
            self._refuse_extension(request, flow)
            return
        if self._preloaded_route_untrusted(request, flow):
            self._refuse(request, flow, 403, b"Preloaded Route not allowed")
            return
        if request.count(H.VIA) > 1 and is_loop(request, self.own, loop_hash(request)):
            self.stats["loops"] += 1
            self._refuse(request, flow, 482, b"Loop Detected")
            return
        relay = self._open(request, flow, key, now, behind_nat)
        relay.nat = behind_nat
        assert self.make_call is not None
        self.start_story(self.stories.run_route, self.make_call(relay, flow, behind_nat))

    def _repair_source(self, request: Request, flow: Flow) -> bool:
        """NAT test 19 (RFC 1918 Contact, Via address or port not the source) for everybody but FreeSWITCH: the
        Contact gets an alias, responses go to the source port. Also takes out headers an outsider may not set."""
        host = flow.addr[0]
        if self.is_freeswitch(host) and flow.listener.side == "lan":
            return False
        if H.X_PGPX in request.ids:
            request.remove(H.X_PGPX)
        via = request.via
        key = (contact_value(request), via.host, via.port, flow.addr)
        known = self._nat_results.get(key)
        if known is None:
            if len(self._nat_results) > 20_000:
                self._nat_results.clear()
            known = self._nat_results[key] = bool(nat.nat_uac_test(request, flow.addr, 19))
        behind_nat = known
        if behind_nat:
            if via.rport is None:  # as Kamailio's force_rport: the Via says where we answer
                marked = via.with_params(received=host.encode(), rport=b"%d" % flow.addr[1])
                request.replace_first_value(H.VIA, marked)
            if request.method != "REGISTER":
                self.add_alias(request, flow.addr)
        return behind_nat

    def add_alias(self, message: Request | Response, addr: Address) -> None:
        """``;alias=ip~port~1`` on the first Contact (RFC-clean, unlike rewriting it)."""
        value = message.first_value(H.CONTACT)
        if value is not None and value != b"*":
            message.replace_first_value(H.CONTACT, nat.add_alias(value, addr, "udp"))

    def _preloaded_route_untrusted(self, request: Request, flow: Flow) -> bool:
        """Take our own Routes off a request outside a dialog; True when others remain and it is from outside."""
        if request.index(H.ROUTE) < 0:
            return False
        strip_routes_untrusted(request, self.own)
        return request.index(H.ROUTE) >= 0 and not self.is_freeswitch(flow.addr[0])

    def _open(self, request: Request, flow: Flow, key: ServerKey, now: float, behind_nat: bool) -> Relay:
        tx = self.stack.open_server(request, reply_flow(request, flow, behind_nat), key, None)
        relay = Relay(self, request, tx, now)
        if relay.is_invite:
            self.stack.respond(tx, 100, make_trying(request), now)
        return relay

    def _refuse(
        self, request: Request, flow: Flow, code: int, reason: bytes, extra: list[tuple[bytes, bytes]] | None = None
    ) -> None:
        """Answer statelessly (RFC 3261 8.2.7); the ACK that may follow finds no transaction and no Route and is
        dropped."""
        response = make_response(request, code, reason, to_tag=self.local_tag(request), extra=extra or [])
        trusted = flow.listener.side == "lan" and self.is_freeswitch(flow.addr[0])
        self.stack.send_stateless(response, reply_flow(request, flow, not trusted))

    def _refuse_extension(self, request: Request, flow: Flow) -> None:
        """RFC 3261 16.3 item 5: we support none."""
        wanted = b", ".join(request.values(H.PROXY_REQUIRE))
        self._refuse(request, flow, 420, b"Bad Extension", [(b"Unsupported", wanted)])

    def on_cancel(self, request: Request, flow: Flow, key: ServerKey, invite: Transaction | None, now: float) -> None:
        """CANCEL is hop by hop (RFC 3261 16.10): answered here, sent on as our own to every pending branch."""
        try:
            target = reply_flow(request, flow, True)
            if invite is None:
                self._refuse(request, flow, 481, b"Call/Transaction Does Not Exist")
                return
            tx = self.stack.open_server(request, invite.flow if invite.flow.addr == target.addr else target, key, None)
            response = make_response(request, 200, b"OK", to_tag=self.local_tag(request))
            self.stack.respond(tx, 200, response.to_bytes(), now)
            relay = invite.user
            if isinstance(relay, Relay):
                relay.cancel_reason = request.get(H.REASON)
                relay.cancel(now)
        except BadMessage as bad:
            self.stack.refuse_bad(bad, flow)

    # -- inside a dialog ------------------------------------------------------------------------------------------

    def _in_dialog_untrusted(self, request: Request, flow: Flow, key: ServerKey, now: float) -> None:
        """A request with a To tag: by its Routes, or 404 (the talk's answer to one that lost them)."""
        dialog, leaves = self._place_untrusted(request, flow)
        if leaves is None:
            self.stats["in_dialog_foreign"] += 1
            self._refuse(request, flow, 404, b"Not here")
            return
        if not spend_hop_untrusted(request, self.max_forwards):
            self._refuse(request, flow, 483, b"Too Many Hops")
            return
        if H.PROXY_REQUIRE in request.ids:
            self._refuse_extension(request, flow)
            return
        if request.cseq_method != request.method:
            raise BadMessage(400, b"CSeq method differs from the Request-Line", request)
        behind_nat = self._repair_source(request, flow)
        relay = self._open(request, flow, key, now, behind_nat)
        relay.initial = False
        relay.dialog = dialog
        if dialog is not None:
            relay.from_caller = dialog.from_caller(request)
            relay.leg = dialog.leg
            relay.from_phone = dialog.from_phone(relay.from_caller)
            self._learn_side(dialog, relay.from_caller, request, flow)
            if dialog.leg is not None and self.anchor is not None:
                if request.method != "BYE":  # its CSeq number is spent, its Contact may be new
                    self.store.dirty(dialog.leg.session)
                if self.anchor.needs(dialog.leg, request):
                    relay.story = True
                    self.start_story(self.stories.in_dialog, relay, leaves)
                    return
        self.relay_in_dialog(relay, leaves, now)

    def _place_untrusted(self, request: Request, flow: Flow) -> tuple[Dialog | None, Listener | None]:
        """The dialog of a request and the listener it leaves by; no listener when it may not pass.

        It must carry our Route and belong to a dialog we keep, or carry the token we signed for its Call-ID; so
        nobody can have us relay anywhere by inventing a Route.
        """
        taken = strip_routes_untrusted(request, self.own)
        if not taken:
            return None, None
        leaves = taken[-1].listener
        dialog = self.dialogs.find(request)
        if dialog is not None and not dialog.between(request):
            dialog = None  # another fork's dialog: it passes by its token, what it does is no concern of this one
        if dialog is None:
            verified = self.verify_token(taken[0].token, request.call_id)
            if verified is None:
                return None, None
            if request.method == "BYE" and self.anchor is not None and verified.node != b"-":
                self.anchor.delete_by_token(verified)
        return dialog, leaves

    def _learn_side(self, dialog: Dialog, from_caller: bool, request: Request, flow: Flow) -> None:
        side = dialog.caller if from_caller else dialog.callee
        side.flow_addr = flow.addr
        if request.index(H.CONTACT) >= 0 and request.method in ("INVITE", "UPDATE"):
            self.learn_contact(side, request)

    @staticmethod
    def learn_contact(side: Side, message: Request | Response) -> None:
        """Remember the remote target (RFC 3261 12.2.1.2: target refresh)."""
        side.contact = contact_uri(message) or side.contact

    def relay_in_dialog(self, relay: Relay, leaves: Listener, now: float) -> None:
        """Send an in-dialog request on; names are resolved by a story of their own."""
        copy = relay.request.copy()
        if relay.dialog is not None:
            relay.dialog.translate(copy, relay.from_caller)
        target = self.in_dialog_target_untrusted(copy, relay.dialog, leaves, relay.tx.flow)
        if target is None:
            self.start_story(self.stories.resolve_in_dialog, relay, copy, leaves)
            return
        relay.send(self.prepare(relay, copy, target), now)

    def in_dialog_target_untrusted(
        self, request: Request, dialog: Dialog | None, leaves: Listener, came: Flow
    ) -> Target | None:
        """Where an in-dialog request goes by its Route or Request-URI; None when that is a name. An alias is taken
        out and followed only to an address seen in this dialog. Nobody outside reaches anybody on the LAN but
        FreeSWITCH and whom we know there: the Request-URI is the sender's to choose."""
        uri = next_hop_untrusted(request)
        if request.index(H.ROUTE) < 0 and uri.has(b"alias"):
            uri, alias = nat.take_alias(uri)
            request.set_uri(bytes(uri))
            if alias is not None and self._alias_is_known((alias[0], alias[1]), dialog):
                return Target(request.uri, leaves.flow((alias[0], alias[1])))
            self.stats["alias_refused"] += 1
        addr = numeric_address(uri)
        if addr is None:
            return None
        if (uri.host, addr[1]) in self.own:
            raise BadMessage(404, b"Not here", request)  # no Route is left, and it names us: nobody to pass it to
        if leaves.side == "lan" and came.listener.side != "lan" and not self._on_lan(addr, dialog):
            self.stats["lan_refused"] += 1
            raise BadMessage(403, b"Not a party of this call", request)
        return Target(request.uri, leaves.flow(addr))

    def _on_lan(self, addr: Address, dialog: Dialog | None) -> bool:
        return self.is_freeswitch(addr[0]) or self.is_destination(addr) or self._alias_is_known(addr, dialog)

    def _alias_is_known(self, addr: Address, dialog: Dialog | None) -> bool:
        if dialog is not None and addr in (
            dialog.caller.flow_addr,
            dialog.callee.flow_addr,
            dialog.caller.alias,
            dialog.callee.alias,
        ):
            return True
        return self.known_address(addr)

    def prepare(self, relay: Relay, request: Request, target: Target, branch: bytes | None = None) -> Branch:
        """Put our Via on a request copy and make it a branch."""
        if branch is None:
            branch = self.stack.new_branch(loop_hash(relay.request))
        request.prepend(H.VIA, b"SIP/2.0/UDP " + target.flow.listener.via + b";branch=" + branch)
        return Branch(relay, request, branch, target)

    def on_ack(self, request: Request, flow: Flow, now: float) -> None:
        """An ACK for a 2xx: end to end, by its Routes, without a transaction. Anything not for us to pass is
        dropped."""
        try:
            if not request.to_tag:
                return
            dialog, leaves = self._place_untrusted(request, flow)
            if leaves is None or not spend_hop_untrusted(request, self.max_forwards):
                self.stats["acks_dropped"] += 1
                return
            self._repair_source(request, flow)
            if dialog is not None:
                from_caller = dialog.from_caller(request)
                dialog.acked = True
                dialog.translate(request, from_caller)
                if dialog.leg is not None and self.anchor is not None:
                    self.anchor.confirmed(dialog.leg)
                    if self.anchor.needs(dialog.leg, request):
                        self.start_story(self.stories.ack, request, dialog, leaves, flow)
                        return
            self.send_ack(request, dialog, leaves, flow)
        except BadMessage:
            self.stats["acks_dropped"] += 1

    def send_ack(self, request: Request, dialog: Dialog | None, leaves: Listener, came: Flow) -> None:
        """Forward an ACK statelessly with a branch of its own."""
        target = self.in_dialog_target_untrusted(request, dialog, leaves, came)
        if target is None:
            self.start_story(self.stories.resolve_ack, request, leaves, came)
            return
        self.send_ack_to(request, target.flow)

    def send_ack_to(self, request: Request, flow: Flow) -> None:
        """The last step: our Via, and out."""
        branch = self.stack.new_branch(loop_hash(request))
        request.prepend(H.VIA, b"SIP/2.0/UDP " + flow.listener.via + b";branch=" + branch)
        data = request.to_bytes()
        if self.stack.tap is not None:
            self.stack.tap("out", data, flow)
        flow.send_nowait(data)

    # -- small services -------------------------------------------------------------------------------------------

    def token(self, ng_call_id: bytes, leg: bytes, node: bytes, call_id: bytes) -> bytes:
        """The Record-Route token of one dialog; good for its Call-ID only."""
        return self.signer.sign(ng_call_id, b"%b.%08x" % (leg, zlib.crc32(call_id)), node)

    def verify_token(self, token: bytes | None, call_id: bytes) -> Token | None:
        """The token's content when we signed it for this Call-ID."""
        if not token:
            return None
        found = self.signer.verify_untrusted(token)
        if found is None or found.leg.rpartition(b".")[2] != b"%08x" % zlib.crc32(call_id):
            return None
        return found

    def local_tag(self, request: Request) -> bytes:
        """The To tag of responses made here; the same for one Call-ID and From tag, so retransmissions agree."""
        return self.stack.stateless_tag(request)

    def drop_client(self, tx: Transaction | None) -> None:
        """Stop a client transaction without telling anybody."""
        if tx is not None:
            self.stack.abandon(tx)

    def alarm(self, at: float, function: Callable[..., None], *args: Any) -> Alarm:
        """Call ``function(*args, now)`` at or soon after ``at``; it checks itself whether it is still wanted."""
        self._count += 1
        alarm = Alarm(function, args)
        heapq.heappush(self._alarms, (at, self._count, alarm))
        return alarm

    def next_deadline(self) -> float | None:
        """When ``tick`` is due."""
        alarms = self._alarms
        while alarms and alarms[0][2].function is None:
            heapq.heappop(alarms)
        mine = alarms[0][0] if alarms else None
        theirs = self.stack.next_deadline()
        if mine is None or theirs is None:
            return mine if theirs is None else theirs
        return min(mine, theirs)

    def tick(self, now: float) -> None:
        """Fire transaction timers and alarms that are due."""
        self.stack.tick(now)
        alarms = self._alarms
        while alarms and alarms[0][0] <= now:
            alarm = heapq.heappop(alarms)[2]
            if alarm.function is not None:
                alarm.function(*alarm.args, now)

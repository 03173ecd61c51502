"""Stateless relaying (RFC 3261 16.11): the talk's "load balancer in stateless mode", for routing scripts that wait
for nothing.

When the routing script is a plain function (``def route(call)`` instead of ``async def``), this takes the place of
stack and core: no transaction, no task, no timer, nothing remembered. A request gets a Via whose branch is computed
from the one below it, so that retransmissions, the CANCEL and the ACK of a failed INVITE get the same; a response
goes where the Via below ours says. In-dialog requests follow their Route alone. Record-Route carries our signed
token, so nobody can have us relay anywhere by inventing a Route.

Two ways through for each direction. The fast one cuts the datagram with ``bytes.find`` and one regular expression
that proves it to be written the usual way (canonical header names, no folding, one Via a line); everything else goes
through ``sip.message``. Both give the same bytes, which a test checks.
"""

from __future__ import annotations

import logging
import re
import zlib
from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2s
from typing import TYPE_CHECKING

from proxy.dispatcher import Destination, Dispatcher
from proxy.flow import Address, Flow, Listener
from proxy.forward import (
    Own,
    next_hop_untrusted,
    numeric_address,
    own_listener,
    record_route,
    reply_flow,
    route_token,
    spend_hop_untrusted,
    strip_routes_untrusted,
    strip_via,
)
from proxy.sip.message import H, Request, Response, make_response
from proxy.sip.parser import BadMessage, is_keepalive, parse_untrusted
from proxy.sip.uri import Uri, parse_uri_untrusted

if TYPE_CHECKING:
    from proxy.routing import Service

log = logging.getLogger("proxy")

MAGIC = b"z9hG4bK"
STICKY = 65_536  # calls whose round-robin choice is remembered, so that a CANCEL goes where its INVITE went
_ODD = re.compile(rb"\r\n(?:[a-z \t]|[A-Z][ \t:]|(?!CS)[A-Z][A-Z])")
_START = re.compile(rb"([A-Z]+) ([^ \r\n]+) SIP/2\.0\r\n")
_VIA = re.compile(rb"([A-Za-z0-9.\-]+)(?::(\d{1,5}))?((?:;[^,\r\n]*)?)\Z")
_BRANCH = re.compile(rb";branch=(z9hG4bK[^;\s]+)")
_RECEIVED = re.compile(rb";received=([0-9A-Fa-f.:]+)")
_RPORT = re.compile(rb";rport=(\d{1,5})")
_TAG = re.compile(rb">[^\r\n]*?;tag=([^;\s]+)")
_TOP_VIA = b"\r\nVia: SIP/2.0/UDP "
_DIALOG_FORMING = frozenset((b"INVITE", b"SUBSCRIBE", b"REFER"))

SyncRoute = Callable[["StatelessCall"], None]


class StatelessCall:
    """What a stateless script sees of a request: ``method``, ``uri``, ``user``, ``source``; exactly one of ``forward``,
    ``reply`` and ``drop`` is expected of it. Without any the request is answered 404."""

    __slots__ = ("_balancer", "answer", "call_id", "flow", "method", "raw_uri", "source", "target")

    def __init__(self, balancer: Stateless, method: str, raw_uri: bytes, call_id: bytes, flow: Flow) -> None:
        self._balancer = balancer
        self.method = method
        self.raw_uri = raw_uri
        self.call_id = call_id
        self.flow = flow
        self.source = flow.addr
        self.target: tuple[bytes, Flow] | None = None
        self.answer: tuple[int, bytes | None] | None = None

    @property
    def uri(self) -> Uri:
        """The Request-URI, parsed."""
        return parse_uri_untrusted(self.raw_uri)

    @property
    def user(self) -> str:
        """The user part of the Request-URI, "" when it has none."""
        return (self.uri.user or b"").decode("utf-8", "replace")

    @property
    def for_us(self) -> bool:
        """True when the Request-URI's host is a domain or a listener of ours."""
        service, uri = self._balancer.service, self.uri
        return uri.host in service.domains or own_listener(uri, self._balancer.own) is not None

    def dispatch(self, name: str, *, by: str = "hash") -> Destination | None:
        """A destination of the set ``name``: ``by="hash"`` of the Call-ID, or ``"round-robin"`` (each call's choice is
        remembered for a while). Only destinations that are up; None when the set is empty. KeyError: no such set."""
        return self._balancer.choose(name, by, self.call_id)

    def forward(self, to: str | Destination | None = None) -> None:
        """Send the request on: to a URI, to a destination (the Request-URI stays), or, with None, by its Request-URI.
        Raises BadMessage 404 when that is a name instead of an IP address, and when ``to`` is None and it is
        ourselves."""
        balancer = self._balancer
        if isinstance(to, Destination):
            self.target = (self.raw_uri, balancer.service.listener_for("public", self.flow.listener).flow(to.addr))
            return
        raw = self.raw_uri if to is None else to.encode()
        self.target = (raw, balancer.flow_for(parse_uri_untrusted(raw), self.flow.listener))

    def reply(self, code: int, reason: str | None = None) -> None:
        """Answer the request here, statelessly (RFC 3261 8.2.7)."""
        self.answer = (code, None if reason is None else reason.encode())

    def drop(self) -> None:
        """Say nothing."""
        self.answer = (0, None)


class Stateless:
    """Relays datagrams without remembering any. ``received(data, flow)`` is what the transports call."""

    def __init__(self, service: Service, route: SyncRoute, max_forwards: int = 10) -> None:
        self.service = service
        self.core = service.core
        self.route = route
        self.own: Own = service.core.own
        self.stats = service.core.stats
        self.max_forwards = max_forwards
        self._numbers = {listener: index for index, listener in enumerate(service.listeners)}
        self._sticky: OrderedDict[tuple[str, bytes], Destination] = OrderedDict()

    # -- choosing -------------------------------------------------------------------------------------------------

    def choose(self, name: str, by: str, call_id: bytes) -> Destination | None:
        """See ``StatelessCall.dispatch``. Hashing is rendezvous: a destination gone moves only its own calls."""
        dispatcher: Dispatcher | None = self.service.sets.get(name)
        if dispatcher is None:
            known = ", ".join(sorted(self.service.sets)) or "none"
            raise KeyError(f"no destination set named {name!r}; there are: {known}")
        if by == "hash":
            alive = [one for one in dispatcher.destinations if one.state != "down"] or list(dispatcher.destinations)
            return max(alive, key=lambda one: zlib.crc32(call_id, zlib.crc32(one.name.encode())), default=None)
        key = (name, call_id)
        found = self._sticky.get(key)
        if found is None:
            order = dispatcher.order()
            if not order:
                return None
            found = self._sticky[key] = order[0]
            if len(self._sticky) > STICKY:
                self._sticky.popitem(last=False)
        return found

    def flow_for(self, uri: Uri, came: Listener) -> Flow:
        """The flow to a URI with an IP address. Raises BadMessage 404 for names and for ourselves."""
        addr = numeric_address(uri)
        if addr is None or own_listener(uri, self.own) is not None:
            raise BadMessage(404, b"Nowhere to forward to")
        return self._listener_to(addr, came).flow(addr)

    def _listener_to(self, addr: Address, came: Listener) -> Listener:
        side = "lan" if self.core.is_freeswitch(addr[0]) else "public"
        return self.service.listener_for(side, came)

    # -- in -------------------------------------------------------------------------------------------------------

    def received(self, data: bytes, flow: Flow) -> None:
        """One datagram. Never raises for what the network sent."""
        try:
            if data.startswith(b"SIP/2.0 "):
                if not self._response_fast(data):
                    self._response_untrusted(data)
            elif not self._request_fast_untrusted(data, flow):
                self._request_untrusted(data, flow)
        except BadMessage as bad:
            if not is_keepalive(data):
                self.core.stack.refuse_bad(bad, flow)

    # -- responses ------------------------------------------------------------------------------------------------

    def _response_fast(self, data: bytes) -> bool:
        """Cut our Via out and send the rest on; False when the message is not written the usual way."""
        start = data.find(_TOP_VIA)
        end = data.find(b"\r\n", start + 2)
        if start < 0 or _ODD.search(data, 0, end):
            return False
        ours, folded, rest = data[start + 19 : end].partition(b", SIP/2.0/UDP ")
        if folded:  # several Vias in one line, as many stacks write them: what follows ours stays in it
            if b'"' in ours or b'"' in rest:
                return False
            found = _VIA.match(rest.partition(b",")[0])
            kept = data[:start] + _TOP_VIA + rest + data[end:]
        elif data.startswith(_TOP_VIA, end):
            found = _VIA.match(data[end + 19 : data.find(b"\r\n", end + 2)])
            kept = data[:start] + data[end:]
        else:
            return False
        listener = self._ours(ours)
        if found is None or listener is None or b"," in ours:
            return False
        host, port, params = found.groups()
        received = _RECEIVED.search(params)
        rport = _RPORT.search(params)
        if received is None and not host.replace(b".", b"").isdigit():
            return False
        address = (
            (received.group(1) if received is not None else host).decode(),
            int(rport.group(1) if rport is not None else port or 5060),
        )
        self.stats["responses"] += 1
        listener.send_nowait(kept, address)
        return True

    def _ours(self, via: bytes) -> Listener | None:
        """The listener a request came in by, from the Via we put on it (sent-by and params); None when it is not
        ours."""
        sent_by, _, params = via.partition(b";branch=")
        if (sent_by, 0) not in self.own:
            return None
        number = params.partition(b";")[0].rpartition(b".")[2]
        listeners = self.service.listeners
        return listeners[int(number)] if number.isdigit() and int(number) < len(listeners) else None

    def _response_untrusted(self, data: bytes) -> None:
        response = parse_untrusted(data)
        assert isinstance(response, Response)
        via = response.via
        listener = self.own.get((via.host, via.port or 5060))
        number = (via.branch or b"").rpartition(b".")[2]
        if listener is None or not number.isdigit() or int(number) >= len(self.service.listeners):
            self.stats["responses_stray"] += 1
            return
        if not strip_via(response):
            self.stats["responses_stray"] += 1
            return
        below = response.via
        received = below.received or below.host
        rport = below.rport if below.rport else None
        out = self.service.listeners[int(number)]
        self.stats["responses"] += 1
        port = int(rport) if rport is not None and rport.isdigit() else below.port or 5060
        out.send_nowait(response.to_bytes(), (received.decode("ascii", "replace"), port))

    # -- requests -------------------------------------------------------------------------------------------------

    def branch(self, below: bytes, listener: Listener) -> bytes:
        """Our branch for a request whose top Via has the branch ``below`` (RFC 3261 16.11); ends with the number of the
        listener it came in by."""
        return b"%b%b.%d" % (
            MAGIC,
            blake2s(below, digest_size=10, person=b"branch").hexdigest().encode(),
            self._numbers[listener],
        )

    def _request_fast_untrusted(self, data: bytes, flow: Flow) -> bool:
        """The usual request: cut, paste, send. False when anything about it is unusual."""
        start = _START.match(data)
        head = data.find(b"\r\n\r\n")
        if start is None or head < 0 or _ODD.search(data, 0, head):
            return False
        method, uri = start.groups()
        top = data.find(_TOP_VIA, 0, head)
        hops = data.find(b"\r\nMax-Forwards: ", 0, head)
        if top < 0 or hops < 0:
            return False
        top_end = data.find(b"\r\n", top + 2)
        via = data[top + 19 : top_end]
        found, below = _VIA.match(via), _BRANCH.search(via)
        if found is None or below is None:
            return False
        listener = flow.listener
        source = flow.addr[0].encode()
        if b";rport" in via:
            if not via.endswith(b";rport") or via.count(b";rport") > 1 or b'"' in via or b"received" in via.lower():
                return False
            mark = b"=%d;received=%b" % (flow.addr[1], source)  # RFC 3581 section 4
            data = data[:top_end] + mark + data[top_end:]
            head += len(mark)
            if hops >= top_end:
                hops += len(mark)
        elif found.group(1) != source:
            return False
        hops_end = data.find(b"\r\n", hops + 2)
        left = data[hops + 16 : hops_end]
        if not left.isdigit() or left in (b"0", b"00", b"000") or len(left) > 3:
            return False
        to = data.find(b"\r\nTo: ", 0, head)
        to_end = data.find(b"\r\n", to + 2)
        call = data.find(b"\r\nCall-ID: ", 0, head)
        if to < 0 or call < 0:
            return False
        call_id = data[call + 11 : data.find(b"\r\n", call + 2)]
        cut: tuple[int, int] | None = None
        added = b""
        route = data.find(b"\r\nRoute: ", 0, head)
        if route >= 0 and b";tag=" in data[to:to_end]:
            way = self._follow_route_fast(data, route, head, uri, call_id, flow)
            if way is None:
                return False
            out, cut_to = way
            cut = (route, cut_to)
        elif route >= 0 or (method != b"ACK" and b";tag=" in data[to:to_end]):
            return False
        else:
            tag = None
            if method in _DIALOG_FORMING and b";tag=" not in data[to:to_end]:
                sender = data.find(b"\r\nFrom: ", 0, head)
                tag = _TAG.search(data, sender, data.find(b"\r\n", sender + 2)) if sender >= 0 else None
                if tag is None or data.find(b"\r\nRecord-Route: ", 0, head) >= 0:
                    return False
            call_seen = StatelessCall(self, method.decode(), uri, call_id, flow)
            self._run(call_seen)
            if call_seen.target is None:
                self._answer_untrusted(parse_untrusted(data), call_seen)
                return True
            uri, out = call_seen.target
            if tag is not None:
                added = self._record_route(tag.group(1), call_id, listener, out.listener)
        self.stats["requests"] += 1
        leaves = out.listener
        first = b"%b %b SIP/2.0\r\n%b%b%b" % (
            method, uri, added, leaves.via_prefix, self.branch(below.group(1), listener),
        )  # fmt: skip
        rest = start.end() - 2
        counted = b"\r\nMax-Forwards: %d" % (int(left) - 1)
        if cut is None:
            message = first + data[rest:hops] + counted + data[hops_end:]
        elif cut[0] < hops:
            message = first + data[rest : cut[0]] + data[cut[1] : hops] + counted + data[hops_end:]
        else:
            message = first + data[rest:hops] + counted + data[hops_end : cut[0]] + data[cut[1] :]
        leaves.send_nowait(message, out.addr)
        return True

    def _record_route(self, tag: bytes, call_id: bytes, came: Listener, leaves: Listener) -> bytes:
        tail = b";lr=on;ftag=" + tag + b";t=" + self.core.token(b"-", b"-", b"-", call_id) + b">\r\n"
        if came is leaves:
            return b"Record-Route: <sip:" + came.uri + tail
        tail = b";r2=on" + tail
        return b"Record-Route: <sip:" + leaves.uri + tail + b"Record-Route: <sip:" + came.uri + tail

    def _follow_route_fast(
        self, data: bytes, route: int, head: int, uri: bytes, call_id: bytes, flow: Flow
    ) -> tuple[Flow, int] | None:
        """Where an in-dialog request goes and up to which byte its Routes are cut; None for the general path."""
        at = route
        leaves = token = None
        while data.startswith(b"\r\nRoute: <sip:", at):
            end = data.find(b"\r\n", at + 2)
            value = data[at + 9 : end]
            listener = self.own.get((value[5 : value.find(b";")], 0))
            if listener is None or b"," in value:
                break
            leaves = listener
            token = token or route_token(value)
            at = end
            if b";r2=on" not in value:
                break
        if leaves is None or token is None or data.find(b"\r\nRoute: ", at, head + 2) >= 0:
            return None
        if self.core.verify_token(token, call_id) is None:
            return None
        target = parse_uri_untrusted(uri)
        addr = numeric_address(target)
        if addr is None or target.has(b"alias") or target.has(b"lr"):
            return None
        return leaves.flow(addr), at

    def _request_untrusted(self, data: bytes, flow: Flow) -> None:
        """Any request, by way of a parsed message."""
        request = parse_untrusted(data)
        assert isinstance(request, Request)
        below = request.via.branch
        if below is None or not below.startswith(MAGIC):
            # RFC 2543: what 16.11 says to hash when there is no branch to rely on.
            below = b"\0".join((request.via.host, request.call_id, request.from_tag, b"%d" % request.cseq, request.uri))
        self.core.stack.mark_source(request, flow)
        self.stats["requests"] += 1
        taken = strip_routes_untrusted(request, self.own)
        if not spend_hop_untrusted(request, self.max_forwards):
            self._answer(request, flow, 483, b"Too Many Hops")
            return
        if request.to_tag and taken:
            if self.core.verify_token(taken[0].token, request.call_id) is None:
                self._answer(request, flow, 404, b"Not here")
                return
            addr = numeric_address(next_hop_untrusted(request))
            if addr is None:
                self._answer(request, flow, 404, b"Destination unknown")
                return
            self._send(request, below, flow, taken[-1].listener.flow(addr))
            return
        if request.to_tag and request.method != "ACK":
            self._answer(request, flow, 404, b"Not here")
            return
        self._route_untrusted(request, below, flow)

    def _route_untrusted(self, request: Request, below: bytes, flow: Flow) -> None:
        call = StatelessCall(self, request.method, request.uri, request.call_id, flow)
        self._run(call)
        if call.target is None:
            self._answer_untrusted(request, call)
            return
        uri, out = call.target
        if uri != request.uri:
            request.set_uri(uri)
        if request.method.encode() in _DIALOG_FORMING and not request.to_tag:
            token = self.core.token(b"-", b"-", b"-", request.call_id)
            record_route(request, flow.listener, out.listener, token)
        self._send(request, below, flow, out)

    def _run(self, call: StatelessCall) -> None:
        """The script; a mistake in it costs this request a 500, not the others theirs."""
        try:
            self.route(call)
        except BadMessage as bad:
            call.target = None
            call.reply(bad.status or 400, bad.reason.decode("latin-1"))
        except Exception:
            self.stats["route_errors"] += 1
            log.exception("routing script failed for %s, Call-ID %r: answered 500", call.method, call.call_id)
            call.target = None
            call.reply(500, "Routing failed")

    def _answer_untrusted(self, request: Request | Response, call: StatelessCall) -> None:
        """What the script said instead of forwarding: a reply, silence, or nothing at all (404)."""
        assert isinstance(request, Request)
        code, reason = call.answer or (404, None)
        if code:
            self.core.stack.mark_source(request, call.flow)
            self._answer(request, call.flow, code, reason)
        else:
            self.stats["dropped_by_route"] += 1

    def _send(self, request: Request, below: bytes, came: Flow, out: Flow) -> None:
        branch = self.branch(below, came.listener)
        request.prepend(H.VIA, b"SIP/2.0/UDP " + out.listener.via + b";branch=" + branch)
        out.send_nowait(request.to_bytes())

    def _answer(self, request: Request, flow: Flow, code: int, reason: bytes | None) -> None:
        if request.method != "ACK":
            response = make_response(request, code, reason, to_tag=self.core.local_tag(request))
            self.core.stack.send_stateless(response, reply_flow(request, flow, False))

"""What a proxy does to a message on its way, as pure functions (RFC 3261 16.4, 16.6 and 16.7).

Requests: take off our own Routes, honour strict routers, count Max-Forwards down, record the route (two entries when
the request changes socket, as Kamailio's ``r2=on``), put our Via on top. Responses: take our Via off. Nothing here
sends, waits or reads a clock, and whatever is not named here leaves byte for byte.
"""

from __future__ import annotations

import re
import zlib

from proxy.flow import Address, Flow, Listener
from proxy.sip.headers import parse_name_addr_untrusted, parse_via_untrusted
from proxy.sip.message import H, Request, Response
from proxy.sip.parser import BadMessage
from proxy.sip.uri import Uri, parse_uri_untrusted

Own = dict[tuple[bytes, int], Listener]


def own_listener(uri: Uri, own: Own) -> Listener | None:
    """The listener a URI means by host and port (default 5060), or None when it is somebody else."""
    return own.get((uri.host, uri.port or 5060))


def own_key(listener: Listener) -> tuple[bytes, int]:
    """A second kind of key in ``Own``: host and port as we print them, with 0 for "as printed"."""
    return (listener.uri, 0)


def route_uri_untrusted(value: bytes) -> Uri:
    """The URI of one Route or Record-Route value. Raises BadMessage 400."""
    if value[:1] == b"<":
        end = value.find(b">")
        if end > 0:
            return parse_uri_untrusted(value[1:end])
    return parse_uri_untrusted(parse_name_addr_untrusted(value).uri)


class OwnRoute:
    """A Route of ours: its listener, whether a second one belongs to it, and the token in it."""

    __slots__ = ("double", "listener", "token")

    def __init__(self, listener: Listener, double: bool, token: bytes) -> None:
        self.listener = listener
        self.double = double
        self.token = token


_TOKEN = re.compile(rb";t=([^;>]+)")


def route_token(value: bytes) -> bytes | None:
    """The token in a Route value as we print it."""
    found = _TOKEN.search(value)
    return found.group(1) if found is not None else None


def own_route_untrusted(value: bytes, own: Own) -> OwnRoute | None:
    """One Route value, when it means us. What we print ourselves is recognised by its first bytes; these URIs differ in
    every call, so parsing them would only fill the URI cache."""
    if value.startswith(b"<sip:"):
        end = value.find(b";")
        listener = own.get((value[5:end], 0)) if end > 0 else None
        if listener is not None and value.endswith(b">"):
            return OwnRoute(listener, b";r2=on" in value, route_token(value) or b"")
    uri = route_uri_untrusted(value)
    listener = own_listener(uri, own)
    if listener is None:
        return None
    return OwnRoute(listener, uri.param(b"r2") == b"on", uri.param(b"t") or b"")


def strip_routes_untrusted(request: Request, own: Own) -> list[OwnRoute]:
    """Remove the Routes that mean us, topmost first, and undo a strict router's doing (RFC 3261 16.4).

    Returns what was removed: the one the request came in by, then, with double record routing, the one it leaves by.
    """
    taken: list[OwnRoute] = []
    if b"lr" in request.uri:
        uri = parse_uri_untrusted(request.uri)
        if uri.has(b"lr") and own_listener(uri, own) is not None:
            values = request.values(H.ROUTE)
            if values:
                # A strict router put our Record-Route into the Request-URI; the real one is the last Route.
                listener = own_listener(uri, own)
                assert listener is not None
                taken.append(OwnRoute(listener, uri.param(b"r2") == b"on", uri.param(b"t") or b""))
                request.set_uri(bytes(route_uri_untrusted(values[-1])))
                request.remove(H.ROUTE)
                for kept in values[:-1]:
                    request.append(H.ROUTE, kept)
    while len(taken) < 2:
        value = request.first_value(H.ROUTE)
        if value is None:
            break
        route = own_route_untrusted(value, own)
        if route is None or (taken and not (taken[0].double and route.double)):
            break
        request.pop_value(H.ROUTE)
        taken.append(route)
    return taken


def next_hop_untrusted(request: Request) -> Uri:
    """Where a request goes: its first Route, else its Request-URI (RFC 3261 16.6 item 6 and 7).

    When the first Route is a strict router (no ``lr``), Request-URI and Route are exchanged in place.
    """
    value = request.first_value(H.ROUTE)
    if value is None:
        return parse_uri_untrusted(request.uri)
    uri = route_uri_untrusted(value)
    if not uri.has(b"lr"):
        request.append(H.ROUTE, b"<" + request.uri + b">")
        request.pop_value(H.ROUTE)
        request.set_uri(bytes(uri))
    return uri


def numeric_address(uri: Uri) -> Address | None:
    """(host, port) when the URI's host is an IP address, else None: a name to resolve first."""
    host = uri.host
    if uri.is_ipv6 or host.replace(b".", b"").isdigit():
        return (host.decode(), uri.port or 5060)
    return None


def spend_hop_untrusted(request: Request, default: int) -> bool:
    """Count Max-Forwards down, or add it with ``default`` when absent (RFC 3261 16.6 item 3). False when it was 0."""
    if H.MAX_FORWARDS not in request.ids:
        request.append(H.MAX_FORWARDS, b"%d" % default)
        return True
    at = request.ids.index(H.MAX_FORWARDS)
    line = request.lines[at]
    fewer = _FEWER_HOPS.get(line)
    if fewer is not None:
        request.lines[at] = fewer
        return True
    value = request.get(H.MAX_FORWARDS) or b""
    if not value.isdigit() or len(value.lstrip(b"0")) > 3:
        raise BadMessage(400, b"Bad Max-Forwards", request)
    hops = int(value)
    if hops == 0:
        return False
    request.set(H.MAX_FORWARDS, b"%d" % (hops - 1))
    if len(_FEWER_HOPS) < 2048 and len(line) < 64:
        _FEWER_HOPS[line] = request.lines[at]
    return True


# Max-Forwards lines as they came -> as they leave: there are few of them.
_FEWER_HOPS: dict[bytes, bytes] = {}


def record_route(request: Request, came: Listener, leaves: Listener, token: bytes) -> None:
    """Add Record-Route: one entry, or two when the request changes socket, the outgoing one on top."""
    tail = b";lr=on;ftag=" + request.from_tag
    if token:
        tail += b";t=" + token
    if came is leaves:
        request.prepend(H.RECORD_ROUTE, b"<sip:" + came.uri + tail + b">")
        return
    tail = b";r2=on" + tail + b">"
    request.prepend(H.RECORD_ROUTE, b"<sip:" + came.uri + tail)
    request.prepend(H.RECORD_ROUTE, b"<sip:" + leaves.uri + tail)


def loop_hash(request: Request) -> int:
    """What must differ for a request to have spiralled rather than looped (RFC 3261 16.6 item 8)."""
    seed = request.uri + b"\0" + request.call_id + b"\0" + request.from_tag + request.to_tag
    route = request.get(H.ROUTE)
    if route is not None:
        seed += route
    return zlib.crc32(seed, request.cseq & 0xFFFFFFFF)


def is_loop(request: Request, own: Own, fingerprint: int) -> bool:
    """True when a Via of ours below the top carries the same loop hash (RFC 3261 16.3 item 4)."""
    wanted = b".%08x" % fingerprint
    for value in request.values(H.VIA)[1:]:
        via = parse_via_untrusted(value)
        if via.branch is not None and via.branch.endswith(wanted) and (via.host, via.port or 5060) in own:
            return True
    return False


def reply_flow(request: Request, flow: Flow, force_rport: bool) -> Flow:
    """Where responses to a request go (RFC 3261 18.2.2, RFC 3581): back to the source port when the sender asked for it
    with ``rport`` or is behind NAT, else to the source address and the sent-by port."""
    via = request.via
    if force_rport or via.rport is not None:
        return flow
    port = via.port or 5060
    if port == flow.addr[1]:
        return flow
    return flow.listener.flow((flow.addr[0], port))


def strip_via(response: Response) -> bool:
    """Take our Via off a response; False when none is left below, so there is nobody to send it to."""
    response.pop_value(H.VIA)
    return response.index(H.VIA) >= 0

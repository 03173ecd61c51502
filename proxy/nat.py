"""Telling that a sender is behind a NAT, and the contact alias that leads back through it.

`nat_uac_test` has the bits of Kamailio's nathelper function of that name (5.6; 512 is newer), so that operators can
carry their numbers over; 19 = 1 + 2 + 16 is the usual one. What differs is said at each bit.

The alias is nathelper's too. A phone behind a NAT writes an address into its Contact that nobody can reach. Rewriting
it breaks phones that check their own Contact in the Request-URI, so the address the request really came from is
added as a parameter of the URI, which every peer has to send back unchanged (RFC 3261 section 19.1.1, 12.2.1.1)::

    Contact: <sip:1000@192.168.1.7:5060>  ->  Contact: <sip:1000@192.168.1.7:5060;alias=203.0.113.9~40112~1>

An alias that comes back says "send this to that address", and anybody can write one: followed blindly it makes the
proxy an open relay into its own LAN. `follow_alias` therefore takes the addresses that were really seen from the party
the request is for (in its dialog, or its binding), and follows an alias only to one of those.
"""

import re
from collections.abc import Container
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Literal

from proxy.sip.headers import parse_name_addr_untrusted, parse_via_untrusted
from proxy.sip.message import H, Message, Request
from proxy.sip.parser import BadMessage
from proxy.sip.uri import Uri, parse_uri_untrusted

CONTACT_PRIVATE = 1
VIA_RECEIVED = 2
VIA_PRIVATE = 4
SDP_PRIVATE = 8
VIA_PORT = 16
SOURCE_PRIVATE = 32
WEBSOCKET = 64
CONTACT_PORT = 128
SDP_SOURCE = 256
TARGET = 512

Transport = Literal["udp", "tcp", "tls", "sctp", "ws", "wss"]

_PRIVATE = tuple(
    map(
        ip_network,
        (
            "10.0.0.0/8",  # RFC 1918
            "172.16.0.0/12",
            "192.168.0.0/16",
            "100.64.0.0/10",  # RFC 6598, behind a carrier's NAT
            "192.0.0.0/24",  # RFC 6890; a phone behind DS-Lite has 192.0.0.2
            "169.254.0.0/16",  # link-local; beyond Kamailio, as are the two of IPv6
            "fc00::/7",  # RFC 4193, unique local
            "fe80::/10",
        ),
    )
)


@lru_cache(maxsize=65536)
def is_private(host: str) -> bool:
    """Whether this is an IP address that means nothing on the Internet. A host name is not, and neither is loopback."""
    try:
        address = ip_address(host)
    except ValueError:
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    return any(address.version == net.version and address in net for net in _PRIVATE)


@lru_cache(maxsize=65536)
def same_address(one: str, other: str) -> bool:
    """Whether two texts are the same IP address, however written; False when one of them is a host name."""
    if one == other:
        return True
    try:
        return ip_address(one) == ip_address(other)
    except ValueError:
        return False


def nat_uac_test(
    message: Message,
    source: tuple[str, int],
    bits: int,
    *,
    transport: Transport = "udp",
    target: tuple[str, int] | None = None,
) -> int:
    """Those of the tests in ``bits`` that hold for a message; 0 when none does. ``source``: (ip, port) it came from.

    1    the first Contact has a private address
    2    the top Via's host is not the source address (a host name never is)
    4    the top Via's host is a private address
    8    a c= line of the SDP has a private address
    16   the top Via's port (5060 when it names none) is not the source port
    32   the source address is private
    64   ``transport`` is WebSocket
    128  the first Contact's port (5060 when it names none) is not the source port
    256  the SDP has c= lines and none is the source address; those of a held stream, 0.0.0.0, do not count (Kamailio
         counts them, and finds this in a message without SDP, too)
    512  ``target``, where the request is going, is not what its Request-URI says; for a response: the second Via's
         host and port are not where it was received from, or it is a WebSocket one

    A header that is missing or malformed holds for no test about it: other code refuses the message. A message without
    a valid top Via raises BadMessage, as `Message.via` does.
    """
    ip, port = source
    found = 0
    if bits & (VIA_RECEIVED | VIA_PRIVATE | VIA_PORT):
        via = message.via
        host = via.host.decode("ascii", "replace")
        if bits & VIA_RECEIVED and not same_address(host, ip):
            found |= VIA_RECEIVED
        if bits & VIA_PRIVATE and is_private(host):
            found |= VIA_PRIVATE
        if bits & VIA_PORT and (via.port or 5060) != port:
            found |= VIA_PORT
    if bits & (CONTACT_PRIVATE | CONTACT_PORT):
        contact = _contact_uri(message)
        if contact is not None:
            host, contact_port = contact.hostport
            if bits & CONTACT_PRIVATE and is_private(host):
                found |= CONTACT_PRIVATE
            if bits & CONTACT_PORT and (contact_port or 5060) != port:
                found |= CONTACT_PORT
    if bits & SOURCE_PRIVATE and is_private(ip):
        found |= SOURCE_PRIVATE
    if bits & WEBSOCKET and transport in ("ws", "wss"):
        found |= WEBSOCKET
    if bits & (SDP_PRIVATE | SDP_SOURCE) and message.body:
        addresses = [address.decode() for address in _CONNECTION.findall(message.body) if address not in _HOLD]
        if bits & SDP_PRIVATE and any(map(is_private, addresses)):
            found |= SDP_PRIVATE
        if bits & SDP_SOURCE and addresses and not any(same_address(address, ip) for address in addresses):
            found |= SDP_SOURCE
    if bits & TARGET and _target_differs(message, target):
        found |= TARGET
    return found


def add_alias(contact: bytes, source: tuple[str, int], transport: Transport = "udp") -> bytes:
    """A Contact value (one unfolded name-addr or addr-spec) whose URI says where its request came from.

    Everything else stays byte for byte. An alias the URI has already is replaced, for its sender may have made it up. A
    bare addr-spec gets angle brackets, or the alias would be a parameter of the header; what followed its first
    semicolon was one, and stays outside. ``*`` and values that are no SIP URI are returned as they came.
    """
    value = contact.strip()
    try:
        address = parse_name_addr_untrusted(value)
        uri = parse_uri_untrusted(address.uri)
    except BadMessage:
        return contact
    if uri.scheme not in (b"sip", b"sips"):
        return contact
    ip, port = source
    host = f"[{ip}]" if ":" in ip else ip
    alias = f";alias={host}~{port}~{_NUMBERS[transport]}".encode()
    authority, params, headers = _taken_apart(uri)
    at = value.index(uri.raw, len(address.display))
    head, tail = value[:at], value[at + len(uri.raw) :]
    aliased = authority + params + alias + headers
    return head + aliased + tail if head.endswith(b"<") else head + b"<" + aliased + b">" + tail


def take_alias(uri: Uri) -> tuple[Uri, tuple[str, int, Transport] | None]:
    """A Request-URI without its alias, and the (ip, port, transport) the alias named, not yet screened.

    None when there is no alias, or only one that names no IP address, port and transport. What is left of the URI is
    byte for byte what its owner wrote.
    """
    value = uri.param(b"alias")
    if value is None:
        return uri, None
    return parse_uri_untrusted(b"".join(_taken_apart(uri))), _parse_alias(value)


def follow_alias(uri: Uri, seen: Container[tuple[str, int]]) -> tuple[Uri, tuple[str, int] | None]:
    """A Request-URI without its alias, and the (ip, port) to send the request to instead of what the URI says.

    ``seen``: (ip, port) the party this request is for has really sent from. The address is None, and the alias gone
    nevertheless, when the alias names any other, or none.
    """
    bare, alias = take_alias(uri)
    if alias is None or alias[:2] not in seen:
        return bare, None
    return bare, alias[:2]


_NUMBERS: dict[Transport, int] = {"udp": 1, "tcp": 2, "tls": 3, "sctp": 4, "ws": 5, "wss": 6}
_TRANSPORTS: dict[bytes, Transport] = {b"%d" % number: transport for transport, number in _NUMBERS.items()}
_ALIAS = re.compile(rb"(\[[0-9A-Fa-f:.]{2,45}\]|[0-9A-Fa-f:.]{2,45})~(\d{1,5})~(\d)")
_HOLD = (b"0.0.0.0", b"::")
_CONNECTION = re.compile(rb"^c=IN IP[46] ([0-9A-Fa-f:.]+)", re.MULTILINE)


def _taken_apart(uri: Uri) -> tuple[bytes, bytes, bytes]:
    """A SIP URI as written: up to the port, parameters without any alias, headers with their question mark."""
    rest, headers = uri.raw, b""
    if uri.headers or rest.endswith(b"?"):
        at = len(rest) - len(uri.headers) - 1
        rest, headers = rest[:at], rest[at:]
    written = [(name, name if value is None else name + b"=" + value) for name, value in uri.params]
    authority = rest[: len(rest) - sum(1 + len(text) for _, text in written)]
    return authority, b"".join(b";" + text for name, text in written if name.lower() != b"alias"), headers


def _parse_alias(value: bytes) -> tuple[str, int, Transport] | None:
    match = _ALIAS.fullmatch(value)
    if match is None:
        return None
    ip, port, transport = match[1].strip(b"[]").decode(), int(match[2]), _TRANSPORTS.get(match[3])
    try:
        ip_address(ip)
    except ValueError:
        return None
    return (ip, port, transport) if transport and 0 < port < 65536 else None


def _contact_uri(message: Message) -> Uri | None:
    value = message.first_value(H.CONTACT)
    if value is None or value == b"*":
        return None
    try:
        return parse_uri_untrusted(parse_name_addr_untrusted(value).uri)
    except BadMessage:
        return None


def _target_differs(message: Message, target: tuple[str, int] | None) -> bool:
    if isinstance(message, Request):
        if target is None:
            return False
        try:
            host, port = parse_uri_untrusted(message.uri).hostport
        except BadMessage:
            return False
        return not same_address(host, target[0]) or (port or 5060) != target[1]
    vias = message.values(H.VIA)
    if len(vias) < 2:
        return False
    try:
        via = parse_via_untrusted(vias[1])
    except BadMessage:
        return False
    moved = via.received is not None and not same_address(
        via.received.decode("ascii", "replace"), via.host.decode("ascii", "replace")
    )
    return moved or (bool(via.rport) and via.rport != b"%d" % (via.port or 5060)) or via.transport in (b"WS", b"WSS")

"""Messages, and how to make them: responses, the ACK of a failed INVITE, CANCEL, and requests of our own.

The classes are written down in `proxy.sip.model`; other packages import them from here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from .errors import BadMessage
from .headers import METHODS
from .model import Message, Request, Response
from .names import CANONICAL_NAMES, H, header_id
from .reasons import REASONS

__all__ = [
    "REASONS",
    "H",
    "Message",
    "Request",
    "Response",
    "make_ack",
    "make_cancel",
    "make_request",
    "make_response",
    "make_trying",
]

_COPIED = frozenset({H.VIA, H.FROM, H.TO, H.CALL_ID, H.CSEQ})
_UNPRINTABLE = re.compile(rb"[\x00-\x1f\x7f]+")
_BARE_LF = re.compile(rb"\r?\n")


def _crlf_line(message: Message, line: bytes) -> bytes:
    """A line of `message` as it has to look in a message whose lines end in CRLF."""
    return line if message.eol == b"\r\n" else _BARE_LF.sub(b"\r\n", line.rstrip(b"\r"))


def make_response(
    request: Request,
    code: int,
    reason: bytes | None = None,
    to_tag: bytes | None = None,
    extra: Iterable[tuple[bytes, bytes]] = (),
) -> Response:
    """A response to `request` without a body (RFC 3261 section 8.2.6).

    Copies every Via, From, To, Call-ID and CSeq line as it is, Timestamp into a 100, and Record-Route into 101-299
    (section 12.1.1). `to_tag` is added to a To that has no tag, except in a 100. `extra` are (name, value) pairs.
    Works on requests that are malformed in other places, or lack some of these headers: it copies what is there.
    """
    if reason is None:
        reason = REASONS.get(code, b"")
    elif _UNPRINTABLE.search(reason):
        reason = _UNPRINTABLE.sub(b" ", reason)
    lines: list[bytes] = []
    ids: list[int] = []
    for line, hid in zip(request.lines, request.ids, strict=True):
        if hid in _COPIED or (hid == H.RECORD_ROUTE and 100 < code < 300) or (hid == H.TIMESTAMP and code == 100):
            if request.eol != b"\r\n":
                line = _crlf_line(request, line)
            if hid == H.TO and to_tag and code != 100 and not _has_to_tag(request):
                line = line.rstrip() + b";tag=" + to_tag
            lines.append(line)
            ids.append(hid)
    for name, value in extra:
        lines.append(name + b": " + value)
        ids.append(header_id(name))
    lines.append(b"Content-Length: 0")
    ids.append(H.CONTENT_LENGTH)
    return Response(code, reason, b"SIP/2.0 %d %b" % (code, reason), lines, ids, b"")


_IN_TRYING = _COPIED | {H.TIMESTAMP}


def make_trying(request: Request) -> bytes:
    """The bytes of `make_response(request, 100)`, which every INVITE gets (RFC 3261 section 8.2.6.1)."""
    if request.eol != b"\r\n":
        return make_response(request, 100).to_bytes()
    kept = [line for line, hid in zip(request.lines, request.ids, strict=True) if hid in _IN_TRYING]
    return b"\r\n".join((b"SIP/2.0 100 Trying", *kept, b"Content-Length: 0\r\n\r\n"))


def _has_to_tag(request: Request) -> bool:
    try:
        return bool(request.to_tag)
    except BadMessage:  # a To so malformed that the request is being refused for it
        return False


def make_request(method: str, uri: bytes, headers: Iterable[tuple[bytes, bytes]], body: bytes = b"") -> Request:
    """A request with these header fields in this order; Content-Length is added when not among them.

    Nothing else is added: Via, Max-Forwards, From, To, Call-ID and CSeq are up to the caller.
    """
    lines: list[bytes] = []
    ids: list[int] = []
    for name, value in headers:
        lines.append(name + b": " + value)
        ids.append(header_id(name))
    if H.CONTENT_LENGTH not in ids:
        lines.append(b"Content-Length: %d" % len(body))
        ids.append(H.CONTENT_LENGTH)
    start = b"%b %b SIP/2.0" % (method.encode("ascii"), uri)
    return Request(METHODS.get(method.encode("ascii"), method), uri, b"SIP/2.0", start, lines, ids, body)


def _same_hop(invite: Request, method: str, to_line: bytes) -> Request:
    """A request that follows `invite` to the same next hop: same Request-URI, top Via, Route, From, Call-ID, CSeq."""
    via = invite.first_value(H.VIA)
    if via is None:
        raise BadMessage(400, b"missing Via")
    lines = [b"Via: " + via]
    ids = [H.VIA]
    for line, hid in zip(invite.lines, invite.ids, strict=True):
        if hid in (H.ROUTE, H.FROM, H.CALL_ID):
            lines.append(_crlf_line(invite, line))
            ids.append(hid)
    lines += [to_line, b"CSeq: %d %b" % (invite.cseq, method.encode()), b"Max-Forwards: 70", b"Content-Length: 0"]
    ids += [H.TO, H.CSEQ, H.MAX_FORWARDS, H.CONTENT_LENGTH]
    start = b"%b %b SIP/2.0" % (method.encode(), invite.uri)
    return Request(method, invite.uri, b"SIP/2.0", start, lines, ids, b"")


def _line_of(message: Message, hid: int) -> bytes:
    at = message.index(hid)
    if at < 0:
        raise BadMessage(400, b"missing " + CANONICAL_NAMES[hid])
    return _crlf_line(message, message.lines[at])


def make_ack(invite: Request, response: Response) -> bytes:
    """The ACK of a 300-699 response, as bytes for the wire (RFC 3261 section 17.1.1.3).

    `invite` is the request as it was sent to that hop. Raises BadMessage when `response` has no To.
    """
    return _same_hop(invite, "ACK", _line_of(response, H.TO)).to_bytes()


def make_cancel(invite: Request) -> Request:
    """The CANCEL of an INVITE as it was sent to that hop (RFC 3261 section 9.1). Add Reason (RFC 3326) yourself."""
    return _same_hop(invite, "CANCEL", _line_of(invite, H.TO))

"""Datagram in, `Request` or `Response` out.

The usual message costs two splits, one dictionary look-up a line and a look at Content-Length. Two counts prove that
every LF and CR of the header section is part of a CRLF; anything unusual (folding, bare LF, a header name never seen,
a missing empty line) falls into the slow path below, which is written for clarity and decides alone what is malformed.

`parse_untrusted` checks only what is needed to tell where things are, for a proxy relays what it does not understand.
`validate_untrusted` makes the checks of RFC 3261 section 16.3 on a request that is about to be routed.
"""

from __future__ import annotations

import re
from typing import Final

from .errors import BadMessage
from .headers import METHODS, method_name, parse_name_addr_untrusted
from .model import Request, Response
from .names import CANONICAL_NAMES, HEADER_IDS, H, OddLine
from .uri import parse_uri_untrusted

__all__ = ["BadMessage", "is_keepalive", "parse_untrusted", "validate_untrusted"]


def is_keepalive(data: bytes) -> bool:
    """Whether a datagram is a keep-alive: CRLFs (RFC 5626 section 3.5.1) or one to four zero bytes (in the wild)."""
    return data in _KEEPALIVES


_CONTENT_LENGTH: Final = H.CONTENT_LENGTH
_KEEPALIVES: Final = frozenset({b"\r\n", b"\r\n\r\n", b"\0", b"\0\0", b"\0\0\0", b"\0\0\0\0"})


def parse_untrusted(data: bytes) -> Request | Response:
    """One datagram, or one framed message of a stream. Raises BadMessage and nothing else.

    CRLFs in front are skipped (RFC 3261 section 7.5). Bytes after Content-Length are dropped; fewer bytes than
    Content-Length says is an error; without Content-Length the rest is the body (section 18.3).
    """
    if data[:1] in b"\r\n":
        data = data.lstrip(b"\r\n")
    head, blank, body = data.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    folds = len(lines) - 1
    start = lines.pop(0)
    if not blank or head.count(b"\n") != folds or head.count(b"\r") != folds:
        return _parse_odd(data)
    try:
        known = HEADER_IDS
        ids = [known[line.partition(b":")[0]] for line in lines]
    except OddLine:
        return _parse_odd(data)
    return _assemble(start, lines, ids, body, b"\r\n", b"")


def _assemble(
    start: bytes, lines: list[bytes], ids: list[int], body: bytes, eol: bytes, blank: bytes
) -> Request | Response:
    """Make the message out of its pieces and check start line and Content-Length."""
    message: Request | Response
    status = _STATUS.get(start)
    if status is not None:
        message = Response(status[0], status[1], start, lines, ids, body, eol, blank)
    else:
        words = start.split(b" ", 2) if start[:8] == b"SIP/2.0 " else start.split(b" ")
        if len(words) != 3:
            return _odd_start(start, lines, ids, body, eol, blank)
        first, second, third = words
        if third == b"SIP/2.0":
            method = METHODS.get(first)
            if method is None or not second:
                return _odd_start(start, lines, ids, body, eol, blank)
            message = Request(method, second, third, start, lines, ids, body, eol, blank)
        elif first == b"SIP/2.0" and len(second) == 3 and second.isdigit() and b"100" <= second <= b"699":
            if len(_STATUS) < _MOST_KNOWN and len(start) < _LONGEST_KNOWN:
                _STATUS[start] = int(second), third
            message = Response(int(second), third, start, lines, ids, body, eol, blank)
        else:
            return _odd_start(start, lines, ids, body, eol, blank)
    if _CONTENT_LENGTH in ids:
        _cut_body(message)
    return message


# Start lines of responses and lines of Content-Length repeat all day: what they say is remembered, up to a bound.
_STATUS: Final[dict[bytes, tuple[int, bytes]]] = {}
_LENGTHS: Final[dict[bytes, int]] = {}
_MOST_KNOWN: Final = 2048
_LONGEST_KNOWN: Final = 64


def _cut_body(message: Request | Response) -> None:
    """Cut the body to Content-Length (RFC 3261 sections 18.3, 20.14)."""
    ids = message.ids
    many = ids.count(_CONTENT_LENGTH)
    if not many:
        return
    if many > 1:
        raise _addressed(400, b"more than one Content-Length", message)
    line = message.lines[ids.index(_CONTENT_LENGTH)]
    length = _LENGTHS.get(line)
    if length is None:
        value = line.partition(b":")[2].strip()
        if not value.isdigit() or len(value) > 9:
            raise _addressed(400, b"Content-Length is not a number from 0 to 999999999", message)
        length = int(value)
        if len(_LENGTHS) < _MOST_KNOWN and len(line) < _LONGEST_KNOWN:
            _LENGTHS[line] = length
    if length != len(message.body):
        if length > len(message.body):
            raise _addressed(400, b"Content-Length is larger than the message", message)
        message.body = message.body[:length]


# --- the slow path: whatever is not the usual ------------------------------------------------------------------------

# SIP-Version = "SIP" "/" 1*DIGIT "." 1*DIGIT, case-insensitive (RFC 3261 section 7.1)
_VERSION = re.compile(rb"SIP/\d+\.\d+", re.IGNORECASE)


def _odd_start(
    start: bytes, lines: list[bytes], ids: list[int], body: bytes, eol: bytes, blank: bytes
) -> Request | Response:
    """A start line that is not `known-method uri SIP/2.0` nor `SIP/2.0 code reason`: accept it or say what is wrong."""
    text = start.removesuffix(b"\r") if eol == b"\n" else start
    message: Request | Response
    version, _, rest = text.partition(b" ")
    if _VERSION.fullmatch(version):
        # Leniency: the SP before an empty reason phrase may be missing.
        code, _, reason = rest.partition(b" ")
        if version.upper() != b"SIP/2.0":
            raise BadMessage(0, b"response of another SIP version")
        if len(code) != 3 or not code.isdigit() or not b"100" <= code <= b"699":
            raise BadMessage(0, b"status code is not a number from 100 to 699")
        message = Response(int(code), reason, start, lines, ids, body, eol, blank)
        _cut_body(message)
        return message
    words = text.split(b" ")
    if len(words) == 3 and _VERSION.fullmatch(words[2]):
        try:
            method = method_name(words[0])
        except BadMessage as bad:
            raise _addressed(
                400, bad.reason, Request("", words[1], words[2], start, lines, ids, body, eol, blank)
            ) from bad
        message = Request(method, words[1], words[2], start, lines, ids, body, eol, blank)
        if words[2].upper() != b"SIP/2.0":
            raise _addressed(505, b"Version Not Supported", message)
        if not words[1]:
            raise _addressed(400, b"empty Request-URI", message)
        _cut_body(message)
        return message
    loose = text.split()
    if len(loose) < 2:
        raise BadMessage(400, b"not a SIP message")
    guess = loose[0].decode("ascii", "replace")
    raise _addressed(
        400, b"malformed Request-Line", Request(guess, loose[1], b"SIP/2.0", start, lines, ids, body, eol, blank)
    )


_END_OF_HEADERS = re.compile(rb"\n\r?\n")
_LOOSE_CR = re.compile(rb"\r(?!\n)")


def _parse_odd(data: bytes) -> Request | Response:
    """Folding, lines that end in a bare LF, names never seen, and everything malformed in the shape of the headers."""
    if not data:
        raise BadMessage(0, b"empty message")
    end = _END_OF_HEADERS.search(data)
    head, body = (data, b"") if end is None else (data[: end.start()], data[end.end() :])
    blank = b"\r" if end is not None and len(end[0]) == 3 else b""
    if b"\n" not in head.replace(b"\r\n", b"") and head[-1:] + blank == b"\r\r":
        head, eol, blank = head[:-1], b"\r\n", b""
    else:
        eol = b"\n"
    problem = b"" if end is not None else b"no empty line after the header fields"
    if _LOOSE_CR.search(head + b"\n"):
        problem = b"CR without LF in the header fields"
    start, *pieces = head.split(eol)
    lines: list[bytes] = []
    ids: list[int] = []
    folds: list[bytes] = []
    for piece in reversed(pieces):  # backwards: continuation lines are gathered until the line they continue turns up
        if piece[:1] in (b" ", b"\t"):
            folds.append(piece)
            continue
        name, colon, _ = piece.partition(b":")
        try:
            hid = HEADER_IDS[name]
        except OddLine:
            hid = -1
        if hid < 0 or not colon:
            problem = problem or b"a header line does not begin with a name and a colon"
            hid = H.OTHER
        if folds:
            piece = eol.join((piece, *reversed(folds)))
            folds.clear()
        lines.append(piece)
        ids.append(hid)
    lines.reverse()
    ids.reverse()
    if folds:
        problem = problem or b"the first header line begins with white space"
    if not problem:
        return _assemble(start, lines, ids, body, eol, blank)
    words = start.split()
    if len(words) != 3 or not _VERSION.fullmatch(words[2]):
        raise BadMessage(0 if _VERSION.fullmatch(start[:8].strip()) else 400, problem)
    method = words[0].decode("ascii", "replace")
    raise _addressed(400, problem, Request(method, words[1], words[2], start, lines, ids, body, eol, blank))


def _addressed(status: int, reason: bytes, message: Request | Response) -> BadMessage:
    """The exception for a problem of `message`: the status it deserves, and the request if it can be answered."""
    if isinstance(message, Response) or message.method == "ACK":
        return BadMessage(0, reason)
    return BadMessage(status, reason, message if _answerable(message) else None)


def _answerable(request: Request) -> bool:
    """Whether a response to it can be built and sent (RFC 3261 sections 8.2.6, 18.2.2)."""
    try:
        via = request.via
    except BadMessage:
        return False
    return bool(via.host) and all(request.get(hid) for hid in (H.FROM, H.TO, H.CALL_ID, H.CSEQ))


# --- what a proxy checks before it routes ----------------------------------------------------------------------------

# A From or To line nobody can object to; any other is parsed.
_USUAL_PARTY: Final = re.compile(
    rb'[A-Za-z]+:[ \t]*+(?:"[A-Za-z0-9 ._+\-]*+"|[A-Za-z0-9 ._+\-]*+)[ \t]*+'
    rb"<sips?:(?:[A-Za-z0-9._+\-]++@)?[A-Za-z0-9.\-]++(?::(?:[1-9]\d{0,3}|[1-5]\d{4}))?>(?:;tag=[A-Za-z0-9._\-]++)?\Z"
)
_ROUTABLE_SCHEMES: Final = (b"sip", b"sips", b"tel")


def validate_untrusted(request: Request) -> None:
    """The checks a proxy makes on a request it is about to route (RFC 3261 sections 8.1.1, 16.3).

    From, To, Call-ID and CSeq once each, Max-Forwards at most once and from 0 to 255; CSeq below 2**31 and of the same
    method; top Via, From, To and Request-URI well-formed; the Request-URI without headers. Raises BadMessage: 416 for a
    Request-URI that is not sip, sips or tel, else 400; status 0 for an ACK, which is never answered. `partial` is the
    request itself when it can be answered by the book.

    Not errors, because RFC 2543 phones send them: a Via without a branch, no Max-Forwards, From without a tag, a
    Contact without brackets. Max-Forwards of 0 is for the caller to answer.
    """
    try:
        _check(request)
    except BadMessage as bad:
        raise _addressed(bad.status, bad.reason, request) from bad


def _check(request: Request) -> None:
    ids = request.ids
    for hid in (H.FROM, H.TO, H.CALL_ID, H.CSEQ):
        many = ids.count(hid)
        if many != 1:
            raise BadMessage(400, (b"more than one " if many else b"missing ") + CANONICAL_NAMES[hid])
    for line in request.lines:
        if b":" not in line:
            raise BadMessage(400, b"a header line has no colon")
    if not request.via.host:
        raise BadMessage(400, b"Via without a host")
    if not request.call_id:
        raise BadMessage(400, b"empty Call-ID")
    if request.cseq_method != request.method:
        raise BadMessage(400, b"CSeq method differs from the Request-Line")
    if H.MAX_FORWARDS in ids:
        hops = request.get(H.MAX_FORWARDS) or b""
        if ids.count(H.MAX_FORWARDS) > 1:
            raise BadMessage(400, b"more than one Max-Forwards")
        if not hops.isdigit() or len(hops.lstrip(b"0")) > 3 or int(hops) > 255:
            raise BadMessage(400, b"Max-Forwards is not a number from 0 to 255")
    uri = parse_uri_untrusted(request.uri)
    if uri.scheme not in _ROUTABLE_SCHEMES:
        raise BadMessage(416, b"Unsupported URI Scheme")
    if uri.headers:
        raise BadMessage(400, b"Request-URI has headers")
    for hid in (H.FROM, H.TO):
        if _USUAL_PARTY.match(request.lines[ids.index(hid)]) is not None:
            continue
        try:
            parse_uri_untrusted(parse_name_addr_untrusted(request.get(hid) or b"").uri)
        except BadMessage as bad:
            raise BadMessage(400, CANONICAL_NAMES[hid] + b": " + bad.reason) from bad

"""As much of a session description as a proxy has to see and touch (RFC 4566, 3264).

rtpengine rewrites SDP; the proxy asks it "whose address is this, is it a hold, what profile does this phone speak?",
and changes two things: the origin line and the directions. Reading makes an `Sdp`; the two edits work on the lines of
the body and leave every other byte alone. Tolerant where phones are known to be: bare LF, no `s=` or `t=`, `c=` only
at media level. What is not a list of `x=...` lines, or has a number where none fits, raises `BadSdp`.

The last part finds the description inside a message, also in a multipart body (RFC 5621), and puts another in its
place.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from .grammar import QUOTED, TOKEN, unquote
from .model import Message
from .names import H

__all__ = [
    "BadSdp",
    "Media",
    "Sdp",
    "body_without_origin",
    "extract_sdp",
    "parse_sdp_untrusted",
    "replace_direction",
    "replace_origin",
    "replace_sdp",
]


class BadSdp(ValueError):
    """A body that is no session description; the message says which line and why."""


_DIRECTIONS: Final = {
    b"sendrecv": "sendrecv",
    b"sendonly": "sendonly",
    b"recvonly": "recvonly",
    b"inactive": "inactive",
}

# RFC 3551 section 6: payload types whose meaning needs no rtpmap
_STATIC: Final = {
    b"0": "PCMU/8000",
    b"3": "GSM/8000",
    b"4": "G723/8000",
    b"5": "DVI4/8000",
    b"6": "DVI4/16000",
    b"7": "LPC/8000",
    b"8": "PCMA/8000",
    b"9": "G722/8000",
    b"10": "L16/44100/2",
    b"11": "L16/44100",
    b"12": "QCELP/8000",
    b"13": "CN/8000",
    b"14": "MPA/90000",
    b"15": "G728/8000",
    b"16": "DVI4/11025",
    b"17": "DVI4/22050",
    b"18": "G729/8000",
    b"25": "CelB/90000",
    b"26": "JPEG/90000",
    b"28": "nv/90000",
    b"31": "H261/90000",
    b"32": "MPV/90000",
    b"33": "MP2T/90000",
    b"34": "H263/90000",
}


class Media:
    """One m= section.

    type, port, proto, formats   the m= line
    address                      its own c= address, else the session's, b"" when neither is given
    direction                    its own, else the session's, else "sendrecv" (RFC 4566 section 6)
    attributes                   values of its a= lines in order
    """

    __slots__ = ("address", "attributes", "direction", "formats", "port", "proto", "type")

    def __init__(
        self, kind: bytes, port: int, proto: bytes, formats: list[bytes], address: bytes, direction: str
    ) -> None:
        self.type = kind
        self.port = port
        self.proto = proto
        self.formats = formats
        self.address = address
        self.direction = direction
        self.attributes: list[bytes] = []

    def __repr__(self) -> str:
        return f"Media({self.type!r}, {self.port}, {self.proto!r}, {self.address!r}, {self.direction!r})"

    @property
    def has_address(self) -> bool:
        """Whether packets can be sent there: port not 0 and an address that is not the unspecified one."""
        return self.port > 0 and bool(self.address) and self.address not in _UNSPECIFIED


_UNSPECIFIED: Final = (b"0.0.0.0", b"::")


class Sdp:
    """A session description as it was read. `origin` is the value of o=, b"" when there is none."""

    __slots__ = ("attributes", "media", "origin", "raw")

    def __init__(self, raw: bytes, origin: bytes, media: list[Media], attributes: list[bytes]) -> None:
        self.raw = raw
        self.origin = origin
        self.media = media
        self.attributes = attributes

    def __repr__(self) -> str:
        return f"Sdp(o={self.origin!r}, {self.media!r})"

    @property
    def addresses(self) -> tuple[tuple[str, int], ...]:
        """(address, port) of every m= line that has a port and a real address, in order."""
        return tuple((m.address.decode("ascii", "replace"), m.port) for m in self.media if m.has_address)

    def _main(self) -> Media | None:
        for media in self.media:
            if media.type == b"audio" and media.port > 0:
                return media
        return self.media[0] if self.media else None

    @property
    def direction(self) -> str:
        """Direction of the first active audio m= line, else of the first m= line, else "sendrecv"."""
        main = self._main()
        return "sendrecv" if main is None else main.direction

    @property
    def is_hold(self) -> bool:
        """Whether the author asks the other side to stop sending: sendonly, inactive, or c=0.0.0.0 (RFC 2543 hold).

        With ICE, 0.0.0.0 only says that the candidates are yet to come (RFC 8840 section 4.3.1).
        """
        main = self._main()
        if main is None:
            return False
        return main.direction in ("sendonly", "inactive") or (main.address in _UNSPECIFIED and not self.has_ice)

    def codecs(self) -> list[str]:
        """Formats of the m= line that `direction` speaks of, as "PCMU/8000"; a number nobody explains stays."""
        main = self._main()
        if main is None:
            return []
        names = {}
        for attribute in main.attributes:
            if attribute.startswith(b"rtpmap:"):
                number, _, encoding = attribute[7:].strip().partition(b" ")
                names[number] = encoding.strip().decode("ascii", "replace")
        return [names.get(f) or _STATIC.get(f) or f.decode("ascii", "replace") for f in main.formats]

    def _any_attribute(self, prefix: bytes) -> bool:
        return any(a.startswith(prefix) for a in self.attributes) or any(
            a.startswith(prefix) for media in self.media for a in media.attributes
        )

    @property
    def has_ice(self) -> bool:
        """Whether the author does ICE (RFC 8839)."""
        return self._any_attribute(b"ice-ufrag:") or self._any_attribute(b"candidate:")

    @property
    def has_dtls(self) -> bool:
        """Whether the author offers DTLS-SRTP (RFC 5763)."""
        return self._any_attribute(b"fingerprint:")

    @property
    def has_crypto(self) -> bool:
        """Whether the author offers SDES keys (RFC 4568)."""
        return self._any_attribute(b"crypto:")

    @property
    def profile(self) -> str:
        """What the author speaks: "webrtc" (DTLS-SRTP, with ICE or not), "srtp" (SDES) or "rtp"."""
        if self.has_dtls:
            return "webrtc"
        if self.has_crypto or any(b"SAVP" in media.proto.upper() for media in self.media if media.port):
            return "srtp"
        return "rtp"


# --- reading ---------------------------------------------------------------------------------------------------------


def parse_sdp_untrusted(body: bytes) -> Sdp:
    """Read a session description. Raises BadSdp and nothing else.

    The first line must be `v=0`; any other line may be missing or unknown. Empty lines at the end are ignored.
    """
    lines = body.replace(b"\r\n", b"\n").rstrip(b"\n").split(b"\n")
    if lines[0].strip() != b"v=0":
        raise BadSdp("SDP does not begin with v=0")
    origin = session_address = b""
    session_direction = "sendrecv"
    media: list[Media] = []
    session_attributes: list[bytes] = []
    attributes = session_attributes
    for number, line in enumerate(lines, start=1):
        kind = line[:2]
        if kind == b"a=":
            value = line[2:].strip()
            attributes.append(value)
            if value in _DIRECTIONS:
                if media:
                    media[-1].direction = _DIRECTIONS[value]
                else:
                    session_direction = _DIRECTIONS[value]
        elif kind == b"m=":
            section = _media(line, number, session_address, session_direction)
            media.append(section)
            attributes = section.attributes
        elif kind == b"c=":
            address = _address(line, number)
            if media:
                media[-1].address = address
            else:
                session_address = address
        elif kind == b"o=":
            if not media and not origin:
                origin = line[2:].strip()
        elif kind[1:] != b"=" or not b"a" <= kind[:1] <= b"z":
            raise BadSdp(f"SDP line {number} is not of the form x=value: {line[:40]!r}")
    return Sdp(body, origin, media, session_attributes)


def _media(line: bytes, number: int, address: bytes, direction: str) -> Media:
    # media-field = "m=" media SP port ["/" integer] SP proto 1*(SP fmt) ; leniency: no fmt at all
    parts = line[2:].split()
    if len(parts) < 3:
        raise BadSdp(f"SDP line {number}: m= needs media, port and protocol: {line[:40]!r}")
    digits, slash, count = parts[1].partition(b"/")
    if not digits.isdigit() or len(digits) > 5 or int(digits) > 65535 or (slash and not count.isdigit()):
        raise BadSdp(f"SDP line {number}: {parts[1][:20]!r} is not a port from 0 to 65535")
    return Media(parts[0], int(digits), parts[2], parts[3:], address, direction)


def _address(line: bytes, number: int) -> bytes:
    # connection-field = "c=" nettype SP addrtype SP connection-address
    parts = line[2:].split()
    if len(parts) != 3:
        raise BadSdp(f"SDP line {number}: c= needs network, type and address: {line[:40]!r}")
    return parts[2].partition(b"/")[0]


# --- editing ---------------------------------------------------------------------------------------------------------


def _lines(body: bytes) -> list[bytes]:
    """The lines of a body with their line ends."""
    return _LF.findall(body)


_LF = re.compile(rb"[^\n]*\n|[^\n]+")


def _eol(body: bytes) -> bytes:
    return b"\r\n" if b"\r\n" in body or b"\n" not in body else b"\n"


def replace_origin(body: bytes, origin: bytes) -> bytes:
    """The body with the value of its o= line replaced; one without o= gets it after the v= line."""
    lines = _lines(body)
    for i, line in enumerate(lines):
        if line.startswith(b"o="):
            lines[i] = b"o=" + origin + line[len(line.rstrip(b"\r\n")) :]
            return b"".join(lines)
        if line.startswith(b"m="):
            break
    eol = _eol(body)
    first = lines[:1]
    if first and not first[0].endswith(b"\n"):
        first = [first[0] + eol]
    return b"".join((*first, b"o=" + origin + eol, *lines[1:]))


def replace_direction(body: bytes, direction: str) -> bytes:
    """The body with every active m= section (port not 0) set to one direction; a session-level direction goes.

    A section's own direction line is replaced where it stands, a section without one gets it as its last line.
    Sections with port 0 stay as they are, but lose the session-level direction like the others.
    """
    eol = _eol(body)
    wanted = b"a=" + direction.encode("ascii")
    out: list[bytes] = []
    in_media = active = done = False

    def close() -> None:
        """End a section: give it a direction line, before any empty lines that trail it."""
        if active and not done:
            at = len(out)
            while out[at - 1].strip() == b"":
                at -= 1
            if not out[at - 1].endswith(b"\n"):
                out[at - 1] += eol
            out.insert(at, wanted + eol)

    for line in _lines(body):
        text = line.rstrip(b"\r\n")
        if text.startswith(b"m="):
            close()
            parts = text[2:].split()
            in_media, active, done = True, len(parts) > 1 and parts[1].partition(b"/")[0].strip(b"0") != b"", False
        elif text.startswith(b"a=") and text[2:].strip() in _DIRECTIONS and (active or not in_media):
            if not in_media or done:
                continue
            line = wanted + line[len(text) :]
            done = True
        out.append(line)
    close()
    return b"".join(out)


def body_without_origin(body: bytes) -> bytes:
    """The body without o=, with CRLF line ends and no empty lines at its end: equal for "the same SDP modulo o="."""
    lines = body.replace(b"\r\n", b"\n").rstrip(b"\n").split(b"\n")
    return b"\r\n".join(line for line in lines if not line.startswith(b"o="))


# --- in a message ----------------------------------------------------------------------------------------------------

# media-type = m-type SLASH m-subtype *(SEMI m-parameter)
_MEDIA_TYPE = re.compile(rb"[ \t\r\n]*+(" + TOKEN + rb")[ \t]*+/[ \t]*+(" + TOKEN + rb")[ \t]*+(?=;|\Z)")
_BOUNDARY = re.compile(
    rb";[ \t\r\n]*+boundary[ \t]*+=[ \t]*+(" + QUOTED + rb'|[^ \t\r\n;"]++)', re.IGNORECASE | re.DOTALL
)


def _media_type(value: bytes | None) -> bytes:
    match = _MEDIA_TYPE.match(value) if value else None
    return (match[1] + b"/" + match[2]).lower() if match else b""


def extract_sdp(message: Message) -> bytes | None:
    """The session description a message carries, None when it carries none.

    That is an `application/sdp` body, or the first `application/sdp` part of a multipart body (RFC 5621). A body under
    a Content-Encoding is not looked into.
    """
    for part in _sdp_parts(message):
        return message.body[part.start : part.end]
    return None


def replace_sdp(message: Message, new: bytes) -> None:
    """Put another description in the place of what `extract_sdp` finds, and set Content-Length; the rest is kept.

    In a multipart body every `application/sdp` part is replaced (FreeSWITCH 1.10.12 sends the description twice, once
    before and once after the other parts), and a Content-Length in its part header corrected. A message without any
    body gets one. ValueError when it has a body but no description in it.
    """
    parts = _sdp_parts(message)
    if not parts:
        if message.body:
            raise ValueError("the message has a body without SDP; only an SDP body or part can be replaced")
        message.set_body(new, b"application/sdp")
        return
    body = message.body
    for part in reversed(parts):
        header = body[part.header : part.start]
        if header:
            header = _PART_LENGTH.sub(lambda found: found[1] + b"%d" % len(new), header)
        body = body[: part.header] + header + new + body[part.end :]
    message.set_body(body)


class _Part(NamedTuple):
    """Where a description is in a body: its part header at [header:start], its content at [start:end]."""

    header: int
    start: int
    end: int


def _sdp_parts(message: Message) -> list[_Part]:
    body = message.body
    if not body:
        return []
    content_type = message.get(H.CONTENT_TYPE)
    kind = _media_type(content_type)
    if (message.get(H.CONTENT_ENCODING) or b"identity").lower() != b"identity":
        return []
    if kind == b"application/sdp":
        return [_Part(0, 0, len(body))]
    if content_type is None or not kind.startswith(b"multipart/"):
        return []
    match = _BOUNDARY.search(content_type)
    return _multipart(body, unquote(match[1])) if match else []


_END_OF_PART_HEADERS = re.compile(rb"\r?\n\r?\n")
_PART_TYPE = re.compile(rb"(?:\A|\n)(?:content-type|c)[ \t]*+:([^\r\n]*+(?:\r?\n[ \t]++[^\r\n]*+)*)", re.IGNORECASE)
_PART_LENGTH = re.compile(rb"((?:\A|\n)(?:content-length|l)[ \t]*+:[ \t]*+)\d++", re.IGNORECASE)


def _multipart(body: bytes, boundary: bytes) -> list[_Part]:
    """The application/sdp parts (RFC 2046 section 5.1.1). Leniency: the closing delimiter may be missing."""
    found: list[_Part] = []
    delimiter = b"--" + boundary
    _, header = _delimiter(body, delimiter, 0)
    while header > 0:
        end, next_header = _delimiter(body, delimiter, header)
        blank = _END_OF_PART_HEADERS.search(body, header, end)
        if blank is not None:
            kind = _PART_TYPE.search(body[header : blank.start()])
            if kind is not None and _media_type(kind[1].strip()) == b"application/sdp":
                found.append(_Part(header, blank.end(), end))
        header = next_header
    return found


def _delimiter(body: bytes, delimiter: bytes, start: int) -> tuple[int, int]:
    """The next delimiter line from `start` on: (end of what is before it, start of the part after it).

    The line end before a delimiter belongs to it. The second number is 0 when no part follows.
    """
    at = body.find(delimiter, start)
    while at >= 0:
        after = at + len(delimiter)
        if at == 0 or body[at - 1] == 0x0A:
            line_end = body.find(b"\n", after)
            rest = (body[after:line_end] if line_end >= 0 else body[after:]).strip()
            if rest in (b"", b"--"):
                before = max(at - 2 if body[at - 2 : at - 1] == b"\r" else at - 1, 0)
                return before, line_end + 1 if not rest else 0
        at = body.find(delimiter, after)
    return len(body), 0

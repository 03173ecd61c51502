"""SIP of a crowd of phones: bytes in, bytes out, no more of each message than a phone in a crowd looks at.

Theory of operation. `lab.sip` reads every header into objects; five hundred phones that are all re-INVITEd at once must
not spend the machine's time on that. A `Packet` is the start line and the header lines by name, split once; answers and
requests are joined from pieces of it. Only what this lab's edge and B2BUAs send is understood: anything else raises
ValueError, which the crowd counts.
"""

from __future__ import annotations

import re

Address = tuple[str, int]

_COMPACT = {b"v": b"via", b"f": b"from", b"t": b"to", b"i": b"call-id", b"m": b"contact", b"l": b"content-length"}
_MEDIA = re.compile(rb"(?m)^m=audio (\d+) ")
_HOST = re.compile(rb"(?m)^c=IN IP4 (\S+)")
_DIRECTION = re.compile(rb"(?m)^a=(sendrecv|sendonly|recvonly|inactive)\s*$")
_TARGET = re.compile(rb"<([^>]*)>")
_TAG = re.compile(rb";\s*tag=([^;\s]+)")


class Packet:
    """One message. `status` is 0 for a request; `lines` maps lower-case long names to their values in order."""

    __slots__ = ("body", "lines", "method", "status")

    def __init__(self, data: bytes) -> None:
        head, _, self.body = data.partition(b"\r\n\r\n")
        start, *rest = head.split(b"\r\n")
        self.lines: dict[bytes, list[bytes]] = {}
        for line in rest:
            name, _, value = line.partition(b":")
            name = name.strip().lower()
            self.lines.setdefault(_COMPACT.get(name, name), []).append(value.strip())
        self.status = int(start[8:11]) if start.startswith(b"SIP/2.0 ") else 0
        cseq = self.lines.get(b"cseq")
        if not cseq or b"call-id" not in self.lines:
            raise ValueError(f"not SIP: {start[:60]!r}")
        self.method = cseq[0].split()[1] if self.status else start.split(b" ", 1)[0]

    @property
    def call_id(self) -> bytes:
        """The Call-ID."""
        return self.lines[b"call-id"][0]

    @property
    def cseq(self) -> int:
        """The CSeq number."""
        return int(self.lines[b"cseq"][0].split()[0])

    def first(self, name: bytes) -> bytes:
        """The first value of a header, or nothing."""
        found = self.lines.get(name)
        return found[0] if found else b""

    def routes(self) -> list[bytes]:
        """The Record-Route values in order."""
        return [route.strip() for line in self.lines.get(b"record-route", ()) for route in line.split(b",")]


def tag(value: bytes) -> bytes:
    """The tag of a From or To value, or nothing."""
    found = _TAG.search(value)
    return found[1] if found else b""


def target(contact: bytes) -> bytes:
    """The URI of a Contact. Raises ValueError."""
    found = _TARGET.search(contact)
    if found is None:
        raise ValueError(f"no URI in the Contact {contact[:60]!r}")
    return found[1]


def media(sdp: bytes) -> tuple[Address, bool]:
    """Where audio goes, and whether the author listens there. Raises ValueError."""
    port, host = _MEDIA.search(sdp), _HOST.search(sdp)
    if port is None or host is None:
        raise ValueError(f"no audio in the SDP {sdp[:60]!r}")
    direction = _DIRECTION.search(sdp)
    listens = (
        int(port[1]) > 0 and host[1] != b"0.0.0.0" and (direction is None or direction[1] in (b"sendrecv", b"recvonly"))
    )
    return (host[1].decode(), int(port[1])), listens


def describe(address: Address, session: int) -> bytes:
    """A phone's SDP: it never changes."""
    host = address[0].encode()
    return (
        b"v=0\r\no=- %d 1 IN IP4 %s\r\ns=call\r\nc=IN IP4 %s\r\nt=0 0\r\nm=audio %d RTP/AVP 0 101\r\n"
        b"a=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\na=ptime:20\r\na=sendrecv\r\n"
    ) % (session, host, host, address[1])


def respond(request: Packet, status: bytes, local_tag: bytes, contact: bytes = b"", sdp: bytes = b"") -> bytes:
    """The response `status` ("200 OK") to a request."""
    lines = request.lines
    to = lines[b"to"][0]
    out = [b"SIP/2.0 " + status]
    out += [b"Via: " + via for via in lines[b"via"]]
    if contact:
        out += [b"Record-Route: " + route for route in lines.get(b"record-route", ())]
    out += [
        b"From: " + lines[b"from"][0],
        b"To: " + (to if b"tag=" in to else to + b";tag=" + local_tag),
        b"Call-ID: " + request.call_id,
        b"CSeq: " + lines[b"cseq"][0],
    ]
    return _finish(out, contact, sdp)


def request(
    method: bytes,
    uri: bytes,
    via: bytes,
    routes: list[bytes],
    local: bytes,
    remote: bytes,
    call_id: bytes,
    cseq: int,
    contact: bytes = b"",
    sdp: bytes = b"",
) -> bytes:
    """A request; `via` is the whole value, `local` and `remote` those of From and To."""
    out = [method + b" " + uri + b" SIP/2.0", b"Via: " + via, b"Max-Forwards: 70"]
    out += [b"Route: " + route for route in routes]
    out += [b"From: " + local, b"To: " + remote, b"Call-ID: " + call_id, b"CSeq: %d " % cseq + method]
    return _finish(out, contact, sdp)


def _finish(out: list[bytes], contact: bytes, sdp: bytes) -> bytes:
    if contact:
        out.append(b"Contact: " + contact)
    if sdp:
        out.append(b"Content-Type: application/sdp")
    out += [b"Content-Length: %d" % len(sdp), b"", sdp]
    return b"\r\n".join(out)

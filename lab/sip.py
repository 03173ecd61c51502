"""The lab's own small SIP: messages and addresses. Nothing here is shared with the edge under test, so that one
parser's bug cannot hide the other's.

Theory of operation. A `Message` is a start line, an ordered list of (name, value) pairs and a body; names keep the
spelling they arrived with and are looked up without regard to case or compact form (RFC 3261 7.3.3). `values()`
splits comma lists, `all()` does not. `encode()` writes what it holds in the order it holds it and fills in
Content-Length where it stands, or at the end. `Ids` makes tags, branches and Call-IDs from a seeded generator, so a
run can be repeated. Dialog bookkeeping is `lab/sip_dialog.py`, the UDP socket with its transactions
`lab/sip_socket.py`.
"""

from __future__ import annotations

import random
import re
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

Address = tuple[str, int]
MAGIC = "z9hG4bK"

# RFC 3261 7.3.3 and 20, RFC 6665 (o, u), RFC 4028 (x), RFC 3515 (r), RFC 3892 (b)
COMPACT = {
    "i": "call-id", "m": "contact", "e": "content-encoding", "l": "content-length", "c": "content-type", "f": "from",
    "s": "subject", "k": "supported", "t": "to", "v": "via", "o": "event", "u": "allow-events", "x": "session-expires",
    "r": "refer-to", "b": "referred-by",
}  # fmt: skip

REASONS = {
    100: "Trying", 180: "Ringing", 181: "Call Is Being Forwarded", 182: "Queued", 183: "Session Progress",
    199: "Early Dialog Terminated", 200: "OK", 202: "Accepted", 300: "Multiple Choices", 301: "Moved Permanently",
    302: "Moved Temporarily", 305: "Use Proxy", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden",
    404: "Not Found", 405: "Method Not Allowed", 406: "Not Acceptable", 407: "Proxy Authentication Required",
    408: "Request Timeout", 410: "Gone", 413: "Request Entity Too Large", 415: "Unsupported Media Type",
    416: "Unsupported URI Scheme", 420: "Bad Extension", 422: "Session Interval Too Small", 423: "Interval Too Brief",
    480: "Temporarily Unavailable", 481: "Call/Transaction Does Not Exist", 482: "Loop Detected",
    483: "Too Many Hops", 484: "Address Incomplete", 486: "Busy Here", 487: "Request Terminated",
    488: "Not Acceptable Here", 489: "Bad Event", 491: "Request Pending", 500: "Server Internal Error",
    501: "Not Implemented", 503: "Service Unavailable", 504: "Server Time-out", 600: "Busy Everywhere",
    603: "Decline", 604: "Does Not Exist Anywhere", 606: "Not Acceptable",
}  # fmt: skip


class SipError(Exception):
    """The peer's bytes are not SIP the lab understands; the text says what and where."""


def _canonical(name: str) -> str:
    low = name.strip().lower()
    return COMPACT.get(low, low)


def split_commas(text: str) -> list[str]:
    """Split a header value at its top-level commas: not inside quotes, nor inside <> (RFC 3261 7.3.1)."""
    out, start, quoted, angled, i = [], 0, False, False, 0
    while i < len(text):
        char = text[i]
        if quoted and char == "\\":
            i += 1
        elif char == '"':
            quoted = not quoted
        elif not quoted and char in "<>":
            angled = char == "<"
        elif char == "," and not quoted and not angled:
            out.append(text[start:i].strip())
            start = i + 1
        i += 1
    out.append(text[start:].strip())
    return [item for item in out if item]


def split_params(text: str) -> dict[str, str | None]:
    """`;a=1;b;c="x"` as {"a": "1", "b": None, "c": "x"}; names in lower case, text before the first `;` is
    ignored."""
    out: dict[str, str | None] = {}
    for found in re.finditer(r';\s*([^\s;="]+)\s*(?:=\s*("(?:\\.|[^"\\])*"|[^;]*))?', text):
        value = found[2]
        if value is not None:
            value = value.strip()
            if value.startswith('"'):
                value = re.sub(r"\\(.)", r"\1", value[1:-1])
        out[found[1].lower()] = value
    return out


@dataclass(frozen=True)
class Uri:
    """A sip or sips URI. `port` is 0 when it is not given; `params` is the raw text after the address, with its
    `;`."""

    scheme: str
    user: str
    host: str
    port: int = 0
    params: str = ""

    @classmethod
    def parse(cls, text: str) -> Uri:
        """Read one URI, without angle brackets. Raises SipError."""
        found = re.fullmatch(
            r"(sips?|tel):(?:([^@]*)@)?(\[[^\]]+\]|[^;:?@\s]+)(?::(\d{1,5}))?([;?]\S*)?", text.strip(), re.IGNORECASE
        )
        if found is None:
            raise SipError(f"not a SIP URI: {text[:80]!r}")
        return cls(found[1].lower(), found[2] or "", found[3], int(found[4] or 0), found[5] or "")

    @property
    def address(self) -> Address:
        """Where a datagram for this URI goes: (host, port, 5060 when absent); no DNS in the lab."""
        return self.host.strip("[]"), self.port or 5060

    def __str__(self) -> str:
        user = f"{self.user}@" if self.user else ""
        return f"{self.scheme}:{user}{self.host}{f':{self.port}' if self.port else ''}{self.params}"


@dataclass(frozen=True)
class NameAddr:
    """From, To, Contact, Route...: `"display" <uri>;params`. `display` is raw with quotes, `params` raw with its
    `;`."""

    display: str
    uri: Uri
    params: str = ""

    @classmethod
    def parse(cls, text: str) -> NameAddr:
        """Read one value; without angle brackets the parameters belong to the header (RFC 3261 20). Raises
        SipError."""
        found = re.fullmatch(r'\s*("(?:\\.|[^"\\])*"|[^"<]*?)\s*<([^>]*)>\s*(;.*)?', text, re.DOTALL)
        if found is not None:
            return cls(found[1], Uri.parse(found[2]), (found[3] or "").strip())
        uri, semicolon, params = text.strip().partition(";")
        return cls("", Uri.parse(uri), semicolon + params)

    @property
    def tag(self) -> str:
        """The tag parameter, or an empty string."""
        return split_params(self.params).get("tag") or ""

    def with_tag(self, tag: str) -> NameAddr:
        """The same with this tag."""
        return replace(self, params=re.sub(r"(?i);\s*tag=[^;]*", "", self.params) + f";tag={tag}")

    def __str__(self) -> str:
        return f"{self.display}{' ' if self.display else ''}<{self.uri}>{self.params}"


@dataclass(frozen=True)
class Via:
    """One Via value. `port` is 0 when it is not given; `params` in order, a flag has the value None."""

    transport: str
    host: str
    port: int
    params: dict[str, str | None]

    @classmethod
    def parse(cls, text: str) -> Via:
        """Read one Via value (no comma list). Raises SipError."""
        found = re.fullmatch(
            r"SIP\s*/\s*2\.0\s*/\s*(\w+)\s+(\[[^\]]+\]|[^;:\s]+)\s*(?::\s*(\d{1,5}))?\s*(;.*)?",
            text.strip(),
            re.IGNORECASE,
        )
        if found is None:
            raise SipError(f"not a Via: {text[:80]!r}")
        params = split_params(found[4] or "")
        if not re.fullmatch(r"[0-9]{0,5}", params.get("rport") or ""):
            raise SipError(f"rport is not a port: {params['rport']!r}")
        return cls(found[1].upper(), found[2], int(found[3] or 0), params)

    @property
    def branch(self) -> str:
        """The branch, or an empty string (RFC 2543 elements send none)."""
        return self.params.get("branch") or ""

    @property
    def reply_address(self) -> Address:
        """Where the response goes: received and rport before sent-by (RFC 3261 18.2.2, RFC 3581 4)."""
        host = self.params.get("received") or self.host
        return host.strip("[]"), int(self.params.get("rport") or self.port or 5060)

    def __str__(self) -> str:
        tail = "".join(f";{k}" if v is None else f";{k}={v}" for k, v in self.params.items())
        return f"SIP/2.0/{self.transport} {self.host}{f':{self.port}' if self.port else ''}{tail}"


@dataclass
class Message:
    """A request (`method`, `uri`) or a response (`status` > 0, `reason`)."""

    method: str = ""
    uri: str = ""
    status: int = 0
    reason: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""

    @classmethod
    def parse_untrusted(cls, data: bytes | str) -> Message:
        """Read one datagram. Bytes after Content-Length are dropped (RFC 3261 18.3). Raises SipError, nothing
        else."""
        raw = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data
        head, found, body = re.sub(rb"\A(?:\r?\n)+", b"", raw), b"", b""
        if (end := re.search(rb"\r?\n\r?\n", head)) is not None:
            head, found, body = head[: end.start()], end[0], head[end.end() :]
        if not found:
            raise SipError("no empty line after the headers: the message is cut short")
        lines = re.sub(r"\r?\n[ \t]+", " ", head.decode("utf-8", "surrogateescape")).replace("\r\n", "\n").split("\n")
        message = cls._start_line(lines[0])
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if not colon or not re.fullmatch(r"[\w.!%*+`'~-]+[ \t]*", name, re.ASCII):
                raise SipError(f"not a header line: {line[:80]!r}")
            message.headers.append((name.rstrip(), value.strip()))
        length = message.get("Content-Length")
        if length and not re.fullmatch(r"[0-9]{1,9}", length):
            raise SipError(f"Content-Length is not a number: {length[:20]!r}")
        if length and int(length) > len(body):
            raise SipError(f"Content-Length is {length} but {len(body)} bytes follow: the message is cut short")
        message.body = body[: int(length)] if length else body
        for needed in ("Via", "From", "To", "Call-ID", "CSeq"):
            if not message.get(needed):
                raise SipError(f"no {needed} header")
        number, method = message.cseq
        if not message.status and method != message.method and method:
            raise SipError(f"CSeq {number} {method} in a {message.method}")
        if not message.values("Via"):
            raise SipError("the Via header is empty")
        Via.parse(message.values("Via")[0])
        NameAddr.parse(message["From"])
        NameAddr.parse(message["To"])
        return message

    @classmethod
    def _start_line(cls, line: str) -> Message:
        if (found := re.fullmatch(r"SIP/2\.0 ([1-6][0-9][0-9])(?: (.*))?", line)) is not None:
            return cls(status=int(found[1]), reason=found[2] or "")
        if (found := re.fullmatch(r"([A-Z0-9.!%*_+`'~-]+) (\S+) SIP/2\.0", line, re.IGNORECASE)) is not None:
            return cls(method=found[1], uri=found[2])
        raise SipError(f"not a SIP start line: {line[:80]!r}")

    def get(self, name: str, default: str = "") -> str:
        """The first header of that name as written, or `default`."""
        return next(self._named(name), default)

    def __getitem__(self, name: str) -> str:
        value = self.get(name)
        if not value:
            raise KeyError(name)
        return value

    def __contains__(self, name: str) -> bool:
        return any(True for _ in self._named(name))

    def _named(self, name: str) -> Iterator[str]:
        wanted = _canonical(name)
        return (value for key, value in self.headers if _canonical(key) == wanted)

    def all(self, name: str) -> list[str]:
        """Every header line of that name, comma lists unsplit."""
        return list(self._named(name))

    def values(self, name: str) -> list[str]:
        """Every value of that name, comma lists split."""
        return [item for line in self._named(name) for item in split_commas(line)]

    def set(self, name: str, value: str) -> None:
        """Replace the first header of that name and drop the others; append it when there is none."""
        wanted, kept, done = _canonical(name), [], False
        for key, old in self.headers:
            if _canonical(key) != wanted:
                kept.append((key, old))
            elif not done:
                kept.append((key, value))
                done = True
        self.headers = kept if done else [*kept, (name, value)]

    def add(self, name: str, value: str) -> None:
        """Append a header."""
        self.headers.append((name, value))

    def remove(self, name: str) -> None:
        """Drop every header of that name."""
        wanted = _canonical(name)
        self.headers = [(key, value) for key, value in self.headers if _canonical(key) != wanted]

    def set_top_via(self, value: Via) -> None:
        """Replace the first Via value (a folded list becomes one line a value)."""
        vias = [str(value), *self.values("Via")[1:]]
        at = next(i for i, (key, _) in enumerate(self.headers) if _canonical(key) == "via")
        self.remove("Via")
        self.headers[at:at] = [("Via", via) for via in vias]

    @property
    def cseq(self) -> tuple[int, str]:
        """(number, method). Raises SipError when it is not one."""
        found = re.fullmatch(r"([0-9]{1,10})\s+(\S+)", self.get("CSeq"))
        if found is None:
            raise SipError(f"not a CSeq: {self.get('CSeq')[:40]!r}")
        return int(found[1]), found[2]

    def seconds(self, name: str) -> int:
        """The number a header begins with (Session-Expires, Min-SE, Expires), 0 when it is absent. Raises
        SipError."""
        value = self.get(name).split(";")[0].strip()
        if value and not re.fullmatch(r"[0-9]{1,9}", value):
            raise SipError(f"{name} is not a number of seconds: {value[:40]!r}")
        return int(value or 0)

    @property
    def call_id(self) -> str:
        """The Call-ID."""
        return self["Call-ID"]

    @property
    def via(self) -> Via:
        """The first Via."""
        return Via.parse(self.values("Via")[0])

    @property
    def from_(self) -> NameAddr:
        """The From."""
        return NameAddr.parse(self["From"])

    @property
    def to(self) -> NameAddr:
        """The To."""
        return NameAddr.parse(self["To"])

    @property
    def sdp(self) -> str:
        """The body as text when Content-Type says SDP, else an empty string."""
        return self.body.decode("utf-8", "replace") if "sdp" in self.get("Content-Type").lower() else ""

    @property
    def start_line(self) -> str:
        """The first line, without its end."""
        return f"SIP/2.0 {self.status} {self.reason}" if self.status else f"{self.method} {self.uri} SIP/2.0"

    def encode(self) -> bytes:
        """The bytes to send; Content-Length is filled in (appended when missing)."""
        headers = self.headers if "Content-Length" in self else [*self.headers, ("Content-Length", "")]
        lines = [self.start_line]
        lines += [f"{k}: {len(self.body) if _canonical(k) == 'content-length' else v}" for k, v in headers]
        return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + self.body

    def __str__(self) -> str:
        return self.encode().decode("utf-8", "replace")

    def response(
        self,
        status: int,
        reason: str = "",
        *,
        tag: str = "",
        contact: str = "",
        sdp: str = "",
        headers: Iterable[tuple[str, str]] = (),
    ) -> Message:
        """The response to this request (RFC 3261 8.2.6): Vias, Record-Routes for 1xx and 2xx, From, To with
        `tag`..."""
        out = Message(status=status, reason=reason or REASONS.get(status, "Unknown"))
        out.headers += [("Via", via) for via in self.values("Via")]
        if 100 < status < 300:
            out.headers += [("Record-Route", route) for route in self.values("Record-Route")]
        to = self.to
        out.headers += [("From", self["From"]), ("To", self["To"] if not tag or to.tag else str(to.with_tag(tag)))]
        out.headers += [("Call-ID", self.call_id), ("CSeq", self["CSeq"])]
        if contact:
            out.add("Contact", contact)
        out.headers += headers
        if sdp:
            out.add("Content-Type", "application/sdp")
            out.body = sdp.encode()
        return out


class Ids:
    """Generated values from one seeded `random.Random`, so that a run repeats exactly."""

    def __init__(self, seed: int | str = 0) -> None:
        self.random = random.Random(seed)

    def token(self, length: int = 12) -> str:
        """That many letters and digits."""
        return "".join(self.random.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=length))

    def tag(self) -> str:
        """A From or To tag (RFC 3261 19.3)."""
        return self.token(10)

    def branch(self) -> str:
        """A Via branch with the RFC 3261 cookie."""
        return MAGIC + self.token(16)

    def call_id(self, host: str = "") -> str:
        """A Call-ID, with `@host` when one is given."""
        return self.token(20) + (f"@{host}" if host else "")

    def uuid(self) -> str:
        """A random UUID."""
        return str(uuid.UUID(int=self.random.getrandbits(128), version=4))

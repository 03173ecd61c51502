"""The message model: a start line, raw header lines with an id each, and a body.

`lines[i]` is one header field exactly as it arrived, folded continuation lines included, *without* the line end that
closes it; `ids[i]` says which header it is (`names.H`). `to_bytes` joins them again, so whatever was not edited leaves
byte for byte: compact names, odd case, spaces before the colon, folding.

Messages whose lines end in a bare LF are rare and kept lossless too: for those `eol` is b"\\n", and a line that did end
in CRLF keeps the CR as its last byte. Nobody outside this package has to know, as long as edits go through the methods.

Values a proxy asks for all the time (`via`, `cseq`, `cseq_method`, `call_id`, `from_tag`, `to_tag`) are parsed on first
use and kept until that header is edited. So: edit through the methods, not through `lines`.

The values handed to editing methods come from our own code: they must not hold CR or LF unless they are a fold that
was there before. `proxy.sip.message` makes responses and requests, and is where other packages import all this from.
"""

from __future__ import annotations

from typing import TypeVar

from .errors import BadMessage
from .grammar import first_comma, split_values, unfold
from .headers import (
    CSEQ_SHAPE,
    METHODS,
    TAG_SHAPE,
    VIA_SHAPE,
    Via,
    parse_cseq_untrusted,
    parse_name_addr_untrusted,
    parse_via_untrusted,
    via_from_match,
)
from .names import CANONICAL_NAMES, LIST_HEADERS, H, header_id
from .reasons import REASONS

__all__ = ["Message", "Request", "Response"]

M = TypeVar("M", bound="Message")


class Message:
    """What requests and responses share. Methods take a header id of `H`; those ending in `_name` take a name."""

    __slots__ = (
        "_call_id",
        "_cseq",
        "_cseq_method",
        "_from_tag",
        "_to_tag",
        "_via",
        "blank",
        "body",
        "eol",
        "ids",
        "lines",
        "start",
    )

    def __init__(
        self, start: bytes, lines: list[bytes], ids: list[int], body: bytes, eol: bytes = b"\r\n", blank: bytes = b""
    ) -> None:
        self.start = start
        self.lines = lines
        self.ids = ids
        self.body = body
        self.eol = eol
        self.blank = blank
        self._via: Via | None = None
        self._cseq: int | None = None
        self._cseq_method: str | None = None
        self._call_id: bytes | None = None
        self._from_tag: bytes | None = None
        self._to_tag: bytes | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.start!r}, {len(self.lines)} header lines, {len(self.body)} bytes of body>"

    def to_bytes(self) -> bytes:
        """The whole message as it goes on the wire."""
        return self.eol.join((self.start, *self.lines, self.blank, self.body))

    def __bytes__(self) -> bytes:
        return self.to_bytes()

    def copy(self) -> Message:
        """An independent copy (lines are shared bytes, so this is two list copies)."""
        return self._share(Message(self.start, self.lines.copy(), self.ids.copy(), self.body, self.eol, self.blank))

    def _share(self, twin: M) -> M:
        """Hand what has been parsed already to a copy."""
        twin._via = self._via
        twin._cseq = self._cseq
        twin._cseq_method = self._cseq_method
        twin._call_id = self._call_id
        twin._from_tag = self._from_tag
        twin._to_tag = self._to_tag
        return twin

    # --- asking ------------------------------------------------------------------------------------------------------

    def index(self, hid: int) -> int:
        """Index in `lines` of the first line with that id, -1 when there is none."""
        return self.ids.index(hid) if hid in self.ids else -1

    def count(self, hid: int) -> int:
        """How many lines have that id (a comma-joined line counts once)."""
        return self.ids.count(hid)

    def get(self, hid: int) -> bytes | None:
        """Value of the first line with that id, unfolded and stripped; None when there is none."""
        if hid not in self.ids:
            return None
        value = self.lines[self.ids.index(hid)].partition(b":")[2].strip()
        return unfold(value) if b"\n" in value else value

    def values(self, hid: int) -> list[bytes]:
        """All values of all lines with that id, in order, unfolded and stripped.

        Lines of list headers are split at top-level commas; other headers give one value a line.
        """
        found: list[bytes] = []
        split = hid in LIST_HEADERS
        for line, line_id in zip(self.lines, self.ids, strict=True):
            if line_id == hid:
                value = unfold(line.partition(b":")[2])
                if split:
                    found += split_values(value)
                else:
                    found.append(value.strip())
        return found

    def get_name(self, name: bytes) -> bytes | None:
        """Like `get`, for a header by any name in any case. ValueError when `name` is no header name."""
        for value in self._named(name):
            return value
        return None

    def values_name(self, name: bytes) -> list[bytes]:
        """Like `values`, for a header by any name in any case. A header without an id gives one value a line."""
        hid = header_id(name)
        return self.values(hid) if hid != H.OTHER else self._named(name)

    def _named(self, name: bytes) -> list[bytes]:
        return [unfold(self.lines[i].partition(b":")[2]).strip() for i in self._indices_of_name(name)]

    def _indices_of_name(self, name: bytes) -> list[int]:
        hid = header_id(name)
        at = [i for i, line_id in enumerate(self.ids) if line_id == hid]
        if hid != H.OTHER:
            return at
        wanted = name.strip().lower()
        return [i for i in at if self.lines[i].partition(b":")[0].strip().lower() == wanted]

    def first_value(self, hid: int) -> bytes | None:
        """First comma-separated value of the first line with that id; None when there is no such line or it is empty.

        For headers that are not lists this is `get`.
        """
        if hid not in self.ids:
            return None
        at = self.ids.index(hid)
        line = self.lines[at]
        if b"," not in line and b"\n" not in line:
            return line.partition(b":")[2].strip() or None
        start, end, _ = self._first_span(at)
        value = self.lines[at][start:end]
        return (unfold(value) if b"\n" in value else value) or None

    def _first_span(self, at: int) -> tuple[int, int, int]:
        """Where the first value of line `at` starts and ends, and the index of the comma after it or -1."""
        line = self.lines[at]
        start = line.find(b":") + 1
        comma = first_comma(line, start) if b"," in line and self.ids[at] in LIST_HEADERS else -1
        value = line[start:] if comma < 0 else line[start:comma]
        stripped = value.lstrip()
        start += len(value) - len(stripped)
        return start, start + len(stripped.rstrip()), comma

    # --- editing -----------------------------------------------------------------------------------------------------

    def _changed(self, hid: int) -> None:
        if hid <= H.CSEQ:
            if hid == H.VIA:
                self._via = None
            elif hid != H.OTHER:
                self._cseq = self._cseq_method = self._call_id = self._from_tag = self._to_tag = None

    def _line(self, name: bytes, value: bytes) -> bytes:
        line = name + b": " + value
        return line if self.eol == b"\r\n" else line + b"\r"

    def set(self, hid: int, value: bytes) -> None:
        """Replace the whole value of the first line with that id, or append a line when there is none.

        The name stays as the sender wrote it.
        """
        if hid not in self.ids:
            self.append(hid, value)
            return
        at = self.ids.index(hid)
        self.lines[at] = self._line(self.lines[at].partition(b":")[0], value)
        self._changed(hid)

    def append(self, header: int | bytes, value: bytes) -> None:
        """Add a line at the end; `header` is an id or a name."""
        if isinstance(header, bytes):
            name, hid = header, header_id(header)
        else:
            name, hid = CANONICAL_NAMES[header], header
        self.lines.append(self._line(name, value))
        self.ids.append(hid)
        self._changed(hid)

    def prepend(self, hid: int, value: bytes) -> None:
        """Add a line before the first one with that id, or above all headers when there is none."""
        at = self.ids.index(hid) if hid in self.ids else 0
        self.lines.insert(at, self._line(CANONICAL_NAMES[hid], value))
        self.ids.insert(at, hid)
        self._changed(hid)

    def remove(self, hid: int) -> int:
        """Remove all lines with that id; returns how many there were."""
        return self._remove_at([i for i, line_id in enumerate(self.ids) if line_id == hid])

    def remove_name(self, name: bytes) -> int:
        """Remove all lines of a header by any name in any case; returns how many there were."""
        return self._remove_at(self._indices_of_name(name))

    def _remove_at(self, indices: list[int]) -> int:
        for at in reversed(indices):
            hid = self.ids[at]
            del self.lines[at], self.ids[at]
            self._changed(hid)
        return len(indices)

    @property
    def has_more_vias(self) -> bool:
        """Whether there is a Via value below the topmost one, `via`, which must have been read."""
        if self.ids.count(H.VIA) > 1:
            return True
        line = self.lines[self.ids.index(H.VIA)]
        if b"," not in line:
            return False
        start = line.find(self.via.raw)
        if start < 0:
            return len(self.values(H.VIA)) > 1
        return bool(line[start + len(self.via.raw) :].strip(b", \t\r\n"))

    def pop_via(self) -> None:
        """`pop_value(H.VIA)`, when `via` has been read: what comes behind it is then known."""
        at = self.ids.index(H.VIA)
        line = self.lines[at]
        via = self._via
        start = -1 if via is None else line.find(via.raw)
        if via is None or start < 0 or line[start + len(via.raw) : start + len(via.raw) + 1] != b",":
            self.pop_value(H.VIA)
            return
        rest = line[start + len(via.raw) + 1 :].lstrip()
        if rest:
            self.lines[at] = line[:start] + rest
        else:
            del self.lines[at], self.ids[at]
        self._via = None

    def pop_value(self, hid: int) -> bytes | None:
        """Take the first comma-separated value of the first line with that id out of the message and return it.

        The rest of a comma-joined line stays byte for byte; a line with nothing left goes. None when there is no such
        line; a line that holds no value at all goes too, and the next one is tried.
        """
        while hid in self.ids:
            at = self.ids.index(hid)
            line = self.lines[at]
            if b"," not in line and b"\n" not in line and (value := line.partition(b":")[2].strip()):
                del self.lines[at], self.ids[at]
                self._changed(hid)
                return value
            start, end, comma = self._first_span(at)
            line = self.lines[at]
            rest = b"" if comma < 0 else line[comma + 1 :].lstrip()
            if end <= start:  # an empty element: skip all that follow at once, or 64 KiB of commas cost a second
                rest = rest.lstrip(b", \t\r\n")
            if rest:
                self.lines[at] = line[:start] + rest
            else:
                del self.lines[at], self.ids[at]
            self._changed(hid)
            if end > start:
                return unfold(line[start:end])
        return None

    def replace_first_value(self, hid: int, value: bytes) -> None:
        """Replace only the first comma-separated value of the first line; append a line when there is none."""
        if hid not in self.ids:
            self.append(hid, value)
            return
        at = self.ids.index(hid)
        start, end, _ = self._first_span(at)
        line = self.lines[at]
        self.lines[at] = line[:start] + value + line[end:]
        self._changed(hid)

    def mark_source(self, received: bytes, rport: bytes | None) -> None:
        """Set `received`, and `rport` unless None, in the topmost Via (RFC 3261 section 18.2.1, RFC 3581 section 4)."""
        via = self.via
        value = via.with_params(received=received, rport=rport)
        at = self.ids.index(H.VIA)
        line = self.lines[at]
        if line.endswith(via.raw) and value.startswith(via.raw):  # appended to: what is known of it stays known
            self.lines[at] = line + value[len(via.raw) :]
            self._via = via.marked(value, received, rport)
        else:
            self.replace_first_value(H.VIA, value)

    def set_body(self, body: bytes, content_type: bytes | None = None) -> None:
        """Replace the body and set Content-Length, and Content-Type when given. An empty body drops Content-Type."""
        self.body = body
        if not body:
            self.remove(H.CONTENT_TYPE)
        elif content_type is not None:
            self.set(H.CONTENT_TYPE, content_type)
        self.set(H.CONTENT_LENGTH, b"%d" % len(body))

    # --- parsed on demand --------------------------------------------------------------------------------------------

    @property
    def via(self) -> Via:
        """The topmost Via. Raises BadMessage(400) when there is none or it is malformed."""
        via = self._via
        if via is None:
            if H.VIA not in self.ids:
                raise self._bad(b"missing Via")
            at = self.ids.index(H.VIA)
            line = self.lines[at]
            match = VIA_SHAPE.match(line, line.find(b":") + 1)
            if match is not None:
                via = via_from_match(match)
            else:
                start, end, _ = self._first_span(at)
                via = parse_via_untrusted(line[start:end])
            self._via = via
        return via

    @property
    def cseq(self) -> int:
        """The CSeq number. Raises BadMessage(400) when CSeq is missing or malformed."""
        number = self._cseq
        return self._read_cseq()[0] if number is None else number

    @property
    def cseq_method(self) -> str:
        """The CSeq method. Raises BadMessage(400) when CSeq is missing or malformed."""
        method = self._cseq_method
        return self._read_cseq()[1] if method is None else method

    def _read_cseq(self) -> tuple[int, str]:
        number: int | None = None
        method: str | None = None
        if H.CSEQ in self.ids:
            match = CSEQ_SHAPE.match(self.lines[self.ids.index(H.CSEQ)])
            if match is not None:
                number = int(match[1])
                method = METHODS.get(match[2])
        if number is None or method is None:
            number, method = parse_cseq_untrusted(self._required(H.CSEQ))
        self._cseq, self._cseq_method = number, method
        return number, method

    @property
    def call_id(self) -> bytes:
        """The Call-ID. Raises BadMessage(400) when it is missing or empty."""
        if self._call_id is None:
            self._call_id = self._required(H.CALL_ID)
        return self._call_id

    @property
    def from_tag(self) -> bytes:
        """The tag of From, b"" when it has none. Raises BadMessage(400) when From is missing or malformed."""
        tag = self._from_tag
        if tag is None:
            tag = self._from_tag = self._tag(H.FROM)
        return tag

    @property
    def to_tag(self) -> bytes:
        """The tag of To, b"" when it has none. Raises BadMessage(400) when To is missing or malformed."""
        tag = self._to_tag
        if tag is None:
            tag = self._to_tag = self._tag(H.TO)
        return tag

    def _tag(self, hid: int) -> bytes:
        """The usual `...<...>;tag=x` is cut out; anything else goes through the full parser."""
        if hid in self.ids:
            match = TAG_SHAPE.match(self.lines[self.ids.index(hid)])
            if match is not None:
                return match[1] or b""
        return parse_name_addr_untrusted(self._required(hid)).tag

    def _required(self, hid: int) -> bytes:
        value = self.get(hid)
        if not value:
            raise self._bad(b"missing " + CANONICAL_NAMES[hid])
        return value

    @staticmethod
    def _bad(reason: bytes) -> BadMessage:
        return BadMessage(400, reason)


class Request(Message):
    """A request. `method` and `uri` are read-only in spirit: change the URI with `set_uri`."""

    __slots__ = ("method", "uri", "version")

    def __init__(
        self,
        method: str,
        uri: bytes,
        version: bytes,
        start: bytes,
        lines: list[bytes],
        ids: list[int],
        body: bytes,
        eol: bytes = b"\r\n",
        blank: bytes = b"",
    ) -> None:
        # What Message.__init__ does, written out: one call less for every message.
        self.start = start
        self.lines = lines
        self.ids = ids
        self.body = body
        self.eol = eol
        self.blank = blank
        self._via = self._cseq = self._cseq_method = self._call_id = self._from_tag = self._to_tag = None
        self.method = method
        self.uri = uri
        self.version = version

    def copy(self) -> Request:
        lines, ids = self.lines.copy(), self.ids.copy()
        return self._share(
            Request(self.method, self.uri, self.version, self.start, lines, ids, self.body, self.eol, self.blank)
        )

    def set_uri(self, uri: bytes) -> None:
        """Replace the Request-URI; method and version stay as they are."""
        self.uri = uri
        self.start = b"%b %b %b" % (self.method.encode("ascii"), uri, self.version)
        if self.eol == b"\n":
            self.start += b"\r"


class Response(Message):
    """A response. Change its status with `set_status`."""

    __slots__ = ("code", "reason")

    def __init__(
        self,
        code: int,
        reason: bytes,
        start: bytes,
        lines: list[bytes],
        ids: list[int],
        body: bytes,
        eol: bytes = b"\r\n",
        blank: bytes = b"",
    ) -> None:
        # What Message.__init__ does, written out: one call less for every message.
        self.start = start
        self.lines = lines
        self.ids = ids
        self.body = body
        self.eol = eol
        self.blank = blank
        self._via = self._cseq = self._cseq_method = self._call_id = self._from_tag = self._to_tag = None
        self.code = code
        self.reason = reason

    def copy(self) -> Response:
        lines, ids = self.lines.copy(), self.ids.copy()
        return self._share(Response(self.code, self.reason, self.start, lines, ids, self.body, self.eol, self.blank))

    def set_status(self, code: int, reason: bytes | None = None) -> None:
        """Replace code and reason phrase (None: the usual phrase for that code)."""
        self.code = code
        self.reason = REASONS.get(code, b"") if reason is None else reason
        self.start = b"SIP/2.0 %d %b" % (code, self.reason)
        if self.eol == b"\n":
            self.start += b"\r"

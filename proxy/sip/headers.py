"""The values of the header fields a proxy reads: Via, name-addr (From, To, Contact, Route ...), CSeq and RAck.

Each has a parser named `parse_..._untrusted` that takes one value as it stood in the message (folding and all), and
raises BadMessage(400) when it is malformed. Parsed values are snapshots: to change a message, hand new bytes to
`Message.set` or `Message.replace_first_value`. `Via.with_params` makes such bytes.
"""

from __future__ import annotations

import re
from typing import Final

from .errors import BadMessage
from .grammar import QUOTED, TOKEN, Params, parse_params, split_values, unfold, unquote

__all__ = [
    "METHODS",
    "NameAddr",
    "Params",
    "Via",
    "method_name",
    "parse_cseq_untrusted",
    "parse_name_addr_untrusted",
    "parse_params",
    "parse_rack_untrusted",
    "parse_via_untrusted",
    "split_values",
]

# --- methods, CSeq, RAck ---------------------------------------------------------------------------------------------

METHODS: Final[dict[bytes, str]] = {
    name.encode(): name
    for name in (
        "INVITE",
        "ACK",
        "BYE",
        "CANCEL",
        "OPTIONS",
        "REGISTER",
        "PRACK",
        "UPDATE",
        "INFO",
        "REFER",
        "NOTIFY",
        "SUBSCRIBE",
        "MESSAGE",
        "PUBLISH",
    )
}

_TOKEN = re.compile(TOKEN)


def method_name(raw: bytes) -> str:
    """A method as `str`. Methods are case-sensitive tokens (RFC 3261 section 7.1); raises BadMessage(400) otherwise."""
    known = METHODS.get(raw)
    if known is not None:
        return known
    if _TOKEN.fullmatch(raw) is None:
        raise BadMessage(400, b"method is not a token")
    return raw.decode("ascii")


_LARGEST: Final = 2**31


def _number(digits: bytes, what: bytes) -> int:
    """A decimal below 2**31, leading zeros allowed (RFC 3261 sections 8.1.1.5, 20.16)."""
    if not digits.isdigit():
        raise BadMessage(400, what + b" is not a number")
    if len(digits) > 10:
        digits = digits.lstrip(b"0") or b"0"
    if len(digits) > 10 or (number := int(digits)) >= _LARGEST:
        raise BadMessage(400, what + b" is 2**31 or more")
    return number


def parse_cseq_untrusted(value: bytes) -> tuple[int, str]:
    """CSeq = 1*DIGIT LWS Method: (number, method). The number must be below 2**31 (RFC 3261 section 8.1.1.5)."""
    parts = value.split()
    if len(parts) != 2:
        raise BadMessage(400, b"malformed CSeq")
    return _number(parts[0], b"CSeq"), method_name(parts[1])


# A CSeq line as nearly everybody writes it; nine digits are below 2**31.
CSEQ_SHAPE: Final = re.compile(rb"[^:\r\n]*+:[ \t]*+(\d{1,9})[ \t]++([A-Z]++)[ \t]*+\r?+\Z")


def parse_rack_untrusted(value: bytes) -> tuple[int, int, str]:
    """RAck = response-num LWS CSeq-num LWS Method: (rseq, cseq, method) (RFC 3262 section 7.2).

    response-num may be up to 2**32-1; RSeq starts below 2**31 and grows by one, so 2**31 is enough here as well.
    """
    parts = value.split()
    if len(parts) != 3:
        raise BadMessage(400, b"malformed RAck")
    return _number(parts[0], b"RAck"), _number(parts[1], b"RAck"), method_name(parts[2])


# --- name-addr -------------------------------------------------------------------------------------------------------


class NameAddr:
    """One From, To, Contact, Route, Record-Route, Path, Refer-To ... value (RFC 3261 section 20.10).

    display   as written, with its quotes if it had any; b"" when none; `display_name` is the bare text
    uri       what stood between `<` and `>`, or the bare addr-spec
    params    the header's parameters in order (name as written, value as written or None)
    """

    __slots__ = ("display", "params", "uri")

    def __init__(self, display: bytes, uri: bytes, params: Params) -> None:
        self.display = display
        self.uri = uri
        self.params = params

    def __repr__(self) -> str:
        return f"NameAddr({self.to_bytes()!r})"

    @property
    def display_name(self) -> bytes:
        """The display name without quotes and escapes."""
        return unquote(self.display)

    def param(self, name: bytes) -> bytes | None:
        """Value of the first parameter of that name in any case: b"" for a flag, None when absent. Quotes are kept."""
        for key, value in self.params:
            if key == name or key.lower() == name.lower():
                return b"" if value is None else value
        return None

    @property
    def tag(self) -> bytes:
        """The tag parameter, b"" when there is none (RFC 3261 section 19.3)."""
        return self.param(b"tag") or b""

    @property
    def q(self) -> float:
        """The q parameter from 0.0 to 1.0; 1.0 when absent or not a qvalue (RFC 3261 section 20.10)."""
        match = _QVALUE.fullmatch(self.param(b"q") or b"")
        return float(match[0]) if match else 1.0

    def to_bytes(self) -> bytes:
        """The value again, always in the `<>` form; folding and optional white space are not kept."""
        head = self.display + b" <" if self.display else b"<"
        tail = b"".join(b";" + name if value is None else b";" + name + b"=" + value for name, value in self.params)
        return head + self.uri + b">" + tail

    def __bytes__(self) -> bytes:
        return self.to_bytes()


# qvalue = ( "0" [ "." 0*3DIGIT ] ) / ( "1" [ "." 0*3("0") ] ) ; leniency: any number of digits
_QVALUE = re.compile(rb"0(?:\.\d{0,12})?|1(?:\.0{0,12})?")

# name-addr = [ display-name ] LAQUOT addr-spec RAQUOT ; display-name = *(token LWS) / quoted-string
# Leniency: an unquoted display name may hold any bytes but the ones that would end it or start something else
# (`"`, `<`, `>`, `,`, `;`): phones send bare UTF-8. A bare comma stays an error (RFC 4475 section 3.1.2.15), as do
# spaces inside the brackets (3.1.2.14).
_NAME_ADDR = re.compile(
    rb"[ \t\r\n]*+(" + QUOTED + rb'|[^"<>,;]*+)[ \t\r\n]*+<([A-Za-z][A-Za-z0-9+.\-]*+:[^<> \t\r\n]++)>', re.DOTALL
)
# A From or To line as nearly everybody writes it: one bracketed URI, and no parameter but the tag.
TAG_SHAPE: Final = re.compile(rb"[^<>]*+<[^<>]++>(?:;tag=(" + TOKEN + rb"))?[ \t]*+\r?+\Z")
# When the URI is not in brackets, a semicolon starts the header's parameters, and the URI holds no comma and no
# question mark (RFC 3261 section 20).
_ADDR_SPEC = re.compile(rb'[ \t\r\n]*+([A-Za-z][A-Za-z0-9+.\-]*+:[^<>"?,; \t\r\n]++)(?=[ \t\r\n;]|\Z)')


def parse_name_addr_untrusted(value: bytes) -> NameAddr:
    """One `name-addr` or `addr-spec` with parameters (RFC 3261 section 20). Raises BadMessage(400).

    Only the shape of the URI is looked at (`scheme:something`), so that unknown schemes pass (RFC 4475 section 3.3.4).
    """
    match = _NAME_ADDR.match(value)
    if match is not None:
        return NameAddr(unfold(match[1].rstrip()), match[2], parse_params(value[match.end() :]))
    match = _ADDR_SPEC.match(value)
    if match is not None:
        return NameAddr(b"", match[1], parse_params(value[match.end() :]))
    raise BadMessage(400, b"malformed address")


# --- Via -------------------------------------------------------------------------------------------------------------


class Via:
    """One Via value (RFC 3261 sections 18.2.1, 20.42; RFC 3581 for rport).

    protocol   b"SIP/2.0"
    transport  upper case: b"UDP", b"TLS", b"WSS" ...
    host       sent-by host in lower case, IPv6 without its brackets
    port       sent-by port or None
    branch     as written, None when absent (RFC 2543)
    received   address without brackets, None when absent
    rport      None when absent, b"" when it asks for a port, else the port as digits
    raw        the whole value as it stood in the message
    """

    __slots__ = ("_tail", "branch", "host", "port", "protocol", "raw", "received", "rport", "transport")

    def __init__(
        self,
        raw: bytes,
        protocol: bytes,
        transport: bytes,
        host: bytes,
        port: int | None,
        tail: bytes | Params,
        branch: bytes | None,
        rport: bytes | None,
        received: bytes | None,
    ) -> None:
        """`tail` is the parameters as parsed, or as bytes known to be plain: no quotes, no white space."""
        self.raw = raw
        self.protocol = protocol
        self.transport = transport
        self.host = host
        self.port = port
        self._tail = tail
        self.branch = branch
        self.rport = rport
        self.received = received

    @property
    def params(self) -> Params:
        """All parameters in order, as written."""
        return _plain_params(self._tail) if isinstance(self._tail, bytes) else self._tail

    def __bytes__(self) -> bytes:
        return self.raw

    def __repr__(self) -> str:
        return f"Via({self.raw!r})"

    def param(self, name: bytes) -> bytes | None:
        """Value of the first parameter of that name in any case: b"" for a flag, None when absent."""
        for key, value in self.params:
            if key.lower() == name:
                return b"" if value is None else value
        return None

    @property
    def has_cookie(self) -> bool:
        """Whether the branch identifies a transaction (RFC 3261 section 8.1.1.7): the magic cookie and more after it.

        A bare cookie counts as no branch at all (RFC 4475 section 3.2.1).
        """
        branch = self.branch
        return branch is not None and len(branch) > 7 and branch[:7].lower() == b"z9hg4bk"

    def with_params(self, received: bytes | None = None, rport: bytes | None = None) -> bytes:
        """The value again with `received` and/or `rport` set, everything else byte for byte.

        A parameter that is there is replaced in place, one that is not is added at the end; None leaves it alone.
        """
        raw = self.raw
        if raw.endswith(b";rport") and rport and received and self.received is None and b'"' not in raw:
            return raw + b"=" + rport + b";received=" + received  # what nearly every request gets
        parts = self.raw.split(b";") if b'"' not in self.raw else _split_at_semicolons(self.raw)
        for wanted, value in ((b"rport", rport), (b"received", received)):
            if value is None:
                continue
            new = wanted + b"=" + value if value else wanted
            for i in range(1, len(parts)):
                if parts[i].partition(b"=")[0].strip().lower() == wanted:
                    parts[i] = new
                    break
            else:
                parts.append(new)
        return b";".join(parts)

    def marked(self, value: bytes, received: bytes, rport: bytes | None) -> Via:
        """This Via as `value`, which is `with_params(received, rport)` and did no more than append."""
        tail = (
            self._tail + value[len(self.raw) :] if isinstance(self._tail, bytes) else parse_via_untrusted(value).params
        )
        rport = self.rport if rport is None else rport
        return Via(value, self.protocol, self.transport, self.host, self.port, tail, self.branch, rport, received)


_UP_TO_SEMICOLON = re.compile(rb'(?:[^;"]++|' + QUOTED + rb")*", re.DOTALL)


def _split_at_semicolons(raw: bytes) -> list[bytes]:
    """Split at the semicolons outside quoted strings."""
    parts: list[bytes] = []
    at = 0
    while (match := _UP_TO_SEMICOLON.match(raw, at)) is not None and raw[match.end() : match.end() + 1] == b";":
        parts.append(match[0])
        at = match.end() + 1
    parts.append(raw[at:])
    return parts


# via-parm = sent-protocol LWS sent-by *( SEMI via-params )
# sent-protocol = protocol-name SLASH protocol-version SLASH transport ; sent-by = host [ COLON port ]
# Leniency: host names may hold "_"; a port is digits, its range is checked below.
_HOST: Final = rb"(?:[A-Za-z0-9.\-_]++|\[[0-9A-Fa-f:.]++\])"

# What nearly every stack writes: no white space, no quotes. The look-ahead makes sure nothing else follows.
VIA_SHAPE: Final = re.compile(
    rb"[ \t]*+(SIP/2\.0/([A-Z]++) ("
    + _HOST
    + rb")(?::(\d{1,5}+))?((?:;"
    + TOKEN
    + rb"(?:=[A-Za-z0-9\-.!%*_+`'~=\[\]:/]++)?)*))"
    rb"[ \t]*+(?=,|\r?\Z)"
)
_VIA_ANY = re.compile(
    rb"[ \t\r\n]*+(" + TOKEN + rb")[ \t\r\n]*+/[ \t\r\n]*+(" + TOKEN + rb")[ \t\r\n]*+/[ \t\r\n]*+(" + TOKEN + rb")"
    rb"[ \t\r\n]++(" + _HOST + rb")(?:[ \t\r\n]*+:[ \t\r\n]*+(\d{1,5}+))?(?=[ \t\r\n;]|\Z)"
)


def _plain_params(tail: bytes) -> Params:
    params: Params = []
    for part in tail.split(b";")[1:]:
        name, equals, value = part.partition(b"=")
        params.append((name, value if equals else None))
    return params


# The parameters of nearly every topmost Via.
_USUAL_TAIL: Final = re.compile(rb";branch=([^;]++)(;rport(?:=(\d++))?)?(?:;received=([^;]++))?\Z")


def _telling(params: Params) -> tuple[bytes | None, bytes | None, bytes | None]:
    """branch, rport and received of Via parameters; the last of a name counts."""
    branch = rport = received = None
    for name, value in params:
        name = name.lower()
        if name == b"branch":
            branch = value
        elif name == b"rport":
            rport = value or b""
        elif name == b"received":
            received = value
    return branch, rport, received.strip(b"[]") if received else None


def via_from_match(match: re.Match[bytes]) -> Via:
    """The Via of a VIA_SHAPE match."""
    raw, transport, host, digits, tail = match.groups()
    port = None
    if digits is not None:
        port = int(digits)
        if port > 65535:
            raise BadMessage(400, b"Via port above 65535")
    usual = _USUAL_TAIL.match(tail)
    if usual is None:
        branch, rport, received = _telling(_plain_params(tail))
    else:
        branch, flag, rport, received = usual.groups()
        if rport is None and flag is not None:
            rport = b""
        if received is not None:
            received = received.strip(b"[]")
    return Via(raw, b"SIP/2.0", transport, host.lower().strip(b"[]"), port, tail, branch, rport, received)


def parse_via_untrusted(value: bytes) -> Via:
    """One Via value, stripped or not (RFC 3261 section 20.42). Raises BadMessage(400)."""
    match = VIA_SHAPE.match(value)
    if match is not None and match.end() == len(value):
        return via_from_match(match)
    match = _VIA_ANY.match(value)
    if match is None:
        raise BadMessage(400, b"malformed Via")
    name, version, transport, host, digits = match.groups()
    params = parse_params(value[match.end() :])
    port = None if digits is None else int(digits)
    if port is not None and port > 65535:
        raise BadMessage(400, b"Via port above 65535")
    protocol = name.upper() + b"/" + version
    host = host.lower().strip(b"[]")
    return Via(value.strip(), protocol, transport.upper(), host, port, params, *_telling(params))

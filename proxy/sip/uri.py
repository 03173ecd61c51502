"""SIP URIs (RFC 3261 sections 19.1 and 25.1), and just enough of tel and other URIs to tell them apart.

`parse_uri_untrusted` is one regex and a cache: a proxy meets the same few URIs again and again. A `Uri` is immutable;
the `with_...` methods return another one. `bytes(uri)` is what was parsed, byte for byte, or what was built.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from .errors import BadMessage

__all__ = ["Uri", "parse_uri_untrusted", "same_uri", "unescape"]

UriParams = tuple[tuple[bytes, bytes | None], ...]

# Parameters of which one URI may not have more than another for the two to be the same (section 19.1.4; `transport`
# is not in its rules, but its examples call URIs that differ in it different).
_TELLING: Final = (b"user", b"ttl", b"method", b"maddr", b"transport")


class Uri:
    """One URI. Treat it as immutable: instances are shared through the parser's cache.

    scheme     lower case: b"sip", b"sips", b"tel" ...
    user       as written, escapes included; None when absent. For tel the number, for other schemes all after `:`
    password   as written, or None
    host       lower case, IPv6 without its brackets; b"" for schemes that have none
    port       1-65535, or None when not given
    params     (name as written, value as written or None) in order
    headers    what follows `?`, b"" when nothing does
    raw        the whole URI
    """

    __slots__ = ("headers", "host", "params", "password", "port", "raw", "scheme", "user")

    def __init__(
        self,
        scheme: bytes,
        user: bytes | None,
        password: bytes | None,
        host: bytes,
        port: int | None,
        params: UriParams = (),
        headers: bytes = b"",
        raw: bytes | None = None,
    ) -> None:
        self.scheme = scheme
        self.user = user
        self.password = password
        self.host = host
        self.port = port
        self.params = params
        self.headers = headers
        self.raw = self._join() if raw is None else raw

    def _join(self) -> bytes:
        out = [self.scheme, b":"]
        if self.user is not None:
            out.append(self.user)
            if self.password is not None:
                out += (b":", self.password)
            if self.host:
                out.append(b"@")
        out.append(b"[" + self.host + b"]" if b":" in self.host else self.host)
        if self.port is not None:
            out.append(b":%d" % self.port)
        for name, value in self.params:
            out += (b";", name) if value is None else (b";", name, b"=", value)
        if self.headers:
            out += (b"?", self.headers)
        return b"".join(out)

    def __bytes__(self) -> bytes:
        return self.raw

    def __repr__(self) -> str:
        return f"Uri({self.raw!r})"

    def __eq__(self, other: object) -> bool:
        """Byte for byte; `same_uri` compares as RFC 3261 section 19.1.4 does."""
        return isinstance(other, Uri) and self.raw == other.raw

    def __hash__(self) -> int:
        return hash(self.raw)

    @property
    def is_ipv6(self) -> bool:
        """Whether the host is an IPv6 literal."""
        return b":" in self.host

    @property
    def hostport(self) -> tuple[str, int]:
        """(host, port), port 0 when the URI names none (RFC 3263 then decides it)."""
        return self.host.decode("ascii"), self.port or 0

    def param(self, name: bytes) -> bytes | None:
        """Value of a parameter by name in any case: b"" for a flag such as lr, None when absent."""
        for key, value in self.params:
            if key == name or key.lower() == name.lower():
                return b"" if value is None else value
        return None

    def has(self, name: bytes) -> bool:
        """Whether the URI has a parameter of that name in any case."""
        return self.param(name) is not None

    def _with(
        self,
        user: bytes | None,
        password: bytes | None,
        host: bytes,
        port: int | None,
        params: UriParams,
    ) -> Uri:
        return Uri(self.scheme, user, password, host, port, params, self.headers)

    def without_params(self, *names: bytes) -> Uri:
        """Without the parameters of these names (lower case)."""
        kept = tuple(pair for pair in self.params if pair[0].lower() not in names)
        return self if len(kept) == len(self.params) else self._with(*self._authority(), kept)

    def with_param(self, name: bytes, value: bytes | None) -> Uri:
        """With a parameter set: in the place of one of that name, else at the end. None makes it a flag."""
        params = list(self.params)
        for i, (key, _) in enumerate(params):
            if key.lower() == name.lower():
                params[i] = (key, value)
                break
        else:
            params.append((name, value))
        return self._with(*self._authority(), tuple(params))

    def with_user(self, user: bytes | None) -> Uri:
        """With another user part (already escaped), and without a password."""
        return self._with(user, None, self.host, self.port, self.params)

    def with_host(self, host: bytes, port: int | None = None) -> Uri:
        """With another host (IPv6 with or without brackets) and port (None: none)."""
        return self._with(self.user, self.password, host.strip(b"[]").lower(), port, self.params)

    def _authority(self) -> tuple[bytes | None, bytes | None, bytes, int | None]:
        return self.user, self.password, self.host, self.port


# SIP-URI = "sip:" [ userinfo ] hostport uri-parameters [ headers ] ; SIPS-URI likewise
# userinfo = ( user / telephone-subscriber ) [ ":" password ] "@"
# Leniency: user, password and parameters may hold any visible byte that cannot be mistaken for what follows them (a
# bare "#" in dialled strings, UTF-8); host names may hold "_"; a "%" need not begin an escape.
_SIP_URI = re.compile(
    rb"([sS][iI][pP][sS]?):"
    rb"(?:([^@:<>\"\x00-\x20\x7f]++)(?::([^@:<>\"\x00-\x20\x7f]*+))?@)?"
    rb"([A-Za-z0-9.\-_]++|\[[0-9A-Fa-f:.]++\])(?::(\d{1,5}))?"
    rb"((?:;[^;?@<>\"\x00-\x20\x7f]++)*)"
    rb"(?:\?([^<>\"\x00-\x20\x7f]*))?"
)
# absoluteURI = scheme ":" ( hier-part / opaque-part )
_ANY_URI = re.compile(rb"([A-Za-z][A-Za-z0-9+.\-]*):([^<>\"\x00-\x20\x7f]+)")

_LONGEST_CACHED: Final = 512


def parse_uri_untrusted(raw: bytes, sip_only: bool = False) -> Uri:
    """A URI as it stands in a Request-Line or between `<` and `>`.

    Raises BadMessage(400) when it is malformed, and BadMessage(416) when `sip_only` and it is neither sip nor sips
    (RFC 3261 sections 16.3 item 2, 21.4.14). Schemes other than sip, sips and tel are not looked into.
    """
    uri = _parse_cached(raw) if len(raw) <= _LONGEST_CACHED else _parse(raw)
    if sip_only and uri.scheme not in (b"sip", b"sips"):
        raise BadMessage(416, b"Unsupported URI Scheme")
    return uri


def _parse(raw: bytes) -> Uri:
    match = _SIP_URI.fullmatch(raw)
    if match is not None:
        scheme, user, password, host, digits, tail, headers = match.groups()
        port = None
        if digits is not None:
            port = int(digits)
            if not 0 < port < 65536:
                raise BadMessage(400, b"URI port is not from 1 to 65535")
        return Uri(scheme.lower(), user, password, host.strip(b"[]").lower(), port, _params(tail), headers or b"", raw)
    match = _ANY_URI.fullmatch(raw)
    if match is None:
        raise BadMessage(400, b"malformed URI")
    scheme = match[1].lower()
    if scheme in (b"sip", b"sips"):
        raise BadMessage(400, b"malformed SIP URI")
    if scheme == b"tel":  # RFC 3966
        number, _, tail = match[2].partition(b";")
        if not number:
            raise BadMessage(400, b"tel URI without a number")
        return Uri(scheme, number, None, b"", None, _params(b";" + tail if tail else b""), b"", raw)
    return Uri(scheme, match[2], None, b"", None, (), b"", raw)


def _params(tail: bytes) -> UriParams:
    if not tail:
        return ()
    pairs = (part.partition(b"=") for part in tail.split(b";")[1:])
    return tuple((name, value if equals else None) for name, equals, value in pairs)


_parse_cached = lru_cache(maxsize=4096)(_parse)

_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")


def unescape(user: bytes) -> bytes:
    """With every `%HH` resolved; a `%` that begins no escape stays (RFC 3261 section 19.1.2).

    The result may hold any byte, NUL included (RFC 4475 section 3.1.1.4).
    """
    return _ESCAPE.sub(lambda found: bytes.fromhex(found[1].decode()), user) if b"%" in user else user


def _comparable(text: bytes) -> bytes:
    """Escapes resolved where section 19.1.4 calls them equivalent: all but those of reserved characters and `%`."""

    def resolve(found: re.Match[bytes]) -> bytes:
        byte = bytes.fromhex(found[1].decode())
        return found[0].upper() if byte in b";/?:@&=+$,%" else byte

    return _ESCAPE.sub(resolve, text) if b"%" in text else text


def same_uri(a: Uri, b: Uri) -> bool:
    """Whether two URIs are equivalent by RFC 3261 section 19.1.4.

    An explicit default port differs from none; user and password are case-sensitive, everything else is not. URIs that
    are not SIP are compared byte for byte, tel ones without visual separators (RFC 3966 section 4).
    """
    if a.raw == b.raw:
        return True
    if a.scheme != b.scheme:
        return False
    if a.scheme == b"tel":
        return _tel_key(a) == _tel_key(b)
    if a.scheme not in (b"sip", b"sips") or a.host != b.host or a.port != b.port:
        return False
    for x, y in ((a.user, b.user), (a.password, b.password)):
        if (x is None) != (y is None) or _comparable(x or b"") != _comparable(y or b""):
            return False
    ours, theirs = _param_map(a.params), _param_map(b.params)
    for name in ours.keys() | theirs.keys():
        both = name in ours and name in theirs
        if (both and ours[name] != theirs[name]) or (not both and name in _TELLING):
            return False
    return sorted(_comparable(a.headers).lower().split(b"&")) == sorted(_comparable(b.headers).lower().split(b"&"))


def _param_map(params: UriParams) -> dict[bytes, bytes | None]:
    return {_comparable(name).lower(): None if value is None else _comparable(value).lower() for name, value in params}


def _tel_key(uri: Uri) -> tuple[bytes, frozenset[tuple[bytes, bytes | None]]]:
    number = (uri.user or b"").translate(None, b"-.()").lower()
    return number, frozenset(_param_map(uri.params).items())

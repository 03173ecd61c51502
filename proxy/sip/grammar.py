"""The lexical rules of RFC 3261 section 25.1 that the rest of the package builds on.

Every rule is a compiled regex or a small function below the ABNF it stands for, with the reason for each leniency.
All repetition of characters is possessive (`*+`), so that no input costs more than time linear in its length. Repeated
*groups* stay greedy, since Python before 3.11.5 gives a possessive group that fails half-way for matched (CPython issue
106052); each begins with a byte of its own, so there is one way to split a value and nothing to gain by stepping back.
Values handed in here may still be folded: LWS is `[ \t\r\n]` throughout.
"""

from __future__ import annotations

import re
from typing import Final

from .errors import BadMessage

__all__ = ["QUOTED", "TOKEN", "Params", "first_comma", "parse_params", "quote", "split_values", "unfold", "unquote"]

Params = list[tuple[bytes, bytes | None]]
"""Parameters in order: (name as written, value as written or None for a flag such as `lr`)."""

# token = 1*(alphanum / "-" / "." / "!" / "%" / "*" / "_" / "+" / "`" / "'" / "~" )
TOKEN: Final = rb"[A-Za-z0-9\-.!%*_+`'~]++"

# quoted-string = SWS DQUOTE *(qdtext / quoted-pair ) DQUOTE
# Leniency: any byte but DQUOTE and backslash counts as qdtext (Latin-1 display names exist).
QUOTED: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*"'

_QUOTED = re.compile(QUOTED, re.DOTALL)

# LWS = [*WSP CRLF] 1*WSP ; a fold counts as one SP (section 7.3.1)
_FOLD = re.compile(rb"[ \t]*\r?\n[ \t]+")


def unfold(value: bytes) -> bytes:
    """A header value with every fold replaced by one space (RFC 3261 section 7.3.1)."""
    return _FOLD.sub(b" ", value) if b"\n" in value else value


_COMMA_OR_OPENING = re.compile(rb'[,"<]')


def first_comma(value: bytes, start: int = 0) -> int:
    """Index of the first comma at or after `start` outside quoted strings and `<>`, or -1.

    A quote or bracket that never closes makes the rest of the value one item, so that a bad value costs no more than a
    good one; whoever parses the item will say what is wrong with it.
    """
    if b'"' not in value and b"<" not in value:
        return value.find(b",", start)
    while (match := _COMMA_OR_OPENING.search(value, start)) is not None:
        at = match.start()
        opening = value[at]
        if opening == 0x2C:  # ","
            return at
        if opening == 0x22:  # DQUOTE
            quoted = _QUOTED.match(value, at)
            if quoted is None:
                return -1
            start = quoted.end()
        else:
            start = value.find(b">", at) + 1
            if start == 0:
                return -1
    return -1


def split_values(value: bytes) -> list[bytes]:
    """The values of a list header field, split at top-level commas, stripped, empty ones left out.

    RFC 3261 section 7.3.1. Empty elements (`a,,b`) are not in SIP's grammar, but nothing is gained by refusing them in
    headers a proxy only looks at; a header whose every element is empty yields an empty list.
    """
    if b"," not in value:
        value = value.strip()
        return [value] if value else []
    if b'"' not in value and b"<" not in value:
        return [part for raw in value.split(b",") if (part := raw.strip())]
    values = []
    start = 0
    while (comma := first_comma(value, start)) >= 0:
        values.append(value[start:comma].strip())
        start = comma + 1
    values.append(value[start:].strip())
    return [part for part in values if part]


# generic-param = token [ EQUAL gen-value ] ; gen-value = token / host / quoted-string
# Leniency: an unquoted value is any run of bytes that cannot end it (bare IPv6 in received=, "=" in a branch).
_PARAM = re.compile(
    rb"[ \t\r\n]*+;[ \t\r\n]*+(" + TOKEN + rb")"
    rb"(?:[ \t\r\n]*+=[ \t\r\n]*+(" + QUOTED + rb'|[^ \t\r\n;,"]++))?[ \t\r\n]*+',
    re.DOTALL,
)


def parse_params(raw: bytes) -> Params:
    """Header parameters from `raw`, which is empty or begins with `;` (white space around every part is fine).

    Values keep their quotes. Raises BadMessage(400) on an empty parameter (`;;`), an unclosed quote or anything else
    that is not `*( SEMI generic-param )`.
    """
    if not raw or raw.isspace():
        return []
    params: Params = []
    at, end = 0, len(raw)
    match = _PARAM.match
    while at < end:
        found = match(raw, at)
        if found is None:
            raise BadMessage(400, b"malformed header parameters")
        params.append((found[1], found[2]))
        at = found.end()
    return params


_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)


def unquote(value: bytes) -> bytes:
    """The text of a quoted-string with its quotes and backslashes resolved; any other value as it is."""
    if len(value) >= 2 and value[:1] == b'"' == value[-1:]:
        return _ESCAPED.sub(rb"\1", value[1:-1])
    return value


def quote(text: bytes) -> bytes:
    """`text` as a quoted-string (RFC 3261 section 25.1); CR and LF, which it cannot hold, become spaces."""
    text = text.replace(b"\r", b" ").replace(b"\n", b" ")
    return b'"' + text.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'

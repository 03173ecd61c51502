"""Header field names and the small integers that stand for them.

A message keeps its header lines as raw bytes; beside them runs a list of ids, so that "where is the first Via?" is
`ids.index(H.VIA)` on a list of small ints. The id of a line is found by looking its name up in `HEADER_IDS` exactly
as it was written: the usual spellings are there from the start, any other spelling (`vIa`, `Via  `) and any unknown
name is worked out once and remembered. The memory of that is bounded, so a sender who invents names only costs
himself the slow path.

Field names are case-insensitive (RFC 3261 section 7.3.1); compact forms are those of the IANA registry "SIP header
fields"; HCOLON allows white space before the colon (section 25.1).
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["CANONICAL_NAMES", "HEADER_IDS", "LIST_HEADERS", "H", "OddLine", "header_id"]


class H:
    """Ids of the header fields the proxy has a name for; `OTHER` is every other field.

    VIA to CSEQ are the smallest: those are the ones `Message` keeps parsed values of.
    """

    OTHER: Final = 0
    VIA: Final = 1
    FROM: Final = 2
    TO: Final = 3
    CALL_ID: Final = 4
    CSEQ: Final = 5
    CONTACT: Final = 6
    ROUTE: Final = 7
    RECORD_ROUTE: Final = 8
    MAX_FORWARDS: Final = 9
    CONTENT_LENGTH: Final = 10
    CONTENT_TYPE: Final = 11
    REQUIRE: Final = 12
    PROXY_REQUIRE: Final = 13
    SUPPORTED: Final = 14
    EXPIRES: Final = 15
    PATH: Final = 16
    RACK: Final = 17
    RSEQ: Final = 18
    REASON: Final = 19
    WARNING: Final = 20
    AUTHORIZATION: Final = 21
    PROXY_AUTHORIZATION: Final = 22
    WWW_AUTHENTICATE: Final = 23
    PROXY_AUTHENTICATE: Final = 24
    CONTENT_ENCODING: Final = 25
    CONTENT_DISPOSITION: Final = 26
    ALLOW: Final = 27
    DATE: Final = 28
    MIN_EXPIRES: Final = 29
    SESSION_EXPIRES: Final = 30
    MIN_SE: Final = 31
    USER_AGENT: Final = 32
    SERVER: Final = 33
    EVENT: Final = 34
    REFER_TO: Final = 35
    REFERRED_BY: Final = 36
    REPLACES: Final = 37
    ACCEPT: Final = 38
    X_PGPX: Final = 39
    UNSUPPORTED: Final = 40
    RETRY_AFTER: Final = 41
    SUBJECT: Final = 42
    IDENTITY: Final = 43
    PRIVACY: Final = 44
    TIMESTAMP: Final = 45
    ALLOW_EVENTS: Final = 46
    P_ASSERTED_IDENTITY: Final = 47
    P_PREFERRED_IDENTITY: Final = 48
    REMOTE_PARTY_ID: Final = 49
    DIVERSION: Final = 50
    HISTORY_INFO: Final = 51
    SERVICE_ROUTE: Final = 52
    SUBSCRIPTION_STATE: Final = 53
    REQUEST_DISPOSITION: Final = 54
    ACCEPT_CONTACT: Final = 55
    REJECT_CONTACT: Final = 56
    IDENTITY_INFO: Final = 57
    JOIN: Final = 58
    ORGANIZATION: Final = 59
    MIME_VERSION: Final = 60
    AUTHENTICATION_INFO: Final = 61
    ACCEPT_ENCODING: Final = 62
    ACCEPT_LANGUAGE: Final = 63
    ALERT_INFO: Final = 64
    CALL_INFO: Final = 65
    CONTENT_LANGUAGE: Final = 66
    ERROR_INFO: Final = 67
    IN_REPLY_TO: Final = 68
    PRIORITY: Final = 69
    REPLY_TO: Final = 70
    SIP_ETAG: Final = 71
    SIP_IF_MATCH: Final = 72
    FLOW_TIMER: Final = 73
    SESSION_ID: Final = 74
    TARGET_DIALOG: Final = 75


# The spelling a line of our own gets, in the order of the ids above.
_SPELLINGS: Final = (
    b"Via From To Call-ID CSeq Contact Route Record-Route Max-Forwards Content-Length Content-Type Require "
    b"Proxy-Require Supported Expires Path RAck RSeq Reason Warning Authorization Proxy-Authorization "
    b"WWW-Authenticate Proxy-Authenticate Content-Encoding Content-Disposition Allow Date Min-Expires "
    b"Session-Expires Min-SE User-Agent Server Event Refer-To Referred-By Replaces Accept X-PGPX Unsupported "
    b"Retry-After Subject Identity Privacy Timestamp Allow-Events P-Asserted-Identity P-Preferred-Identity "
    b"Remote-Party-ID Diversion History-Info Service-Route Subscription-State Request-Disposition Accept-Contact "
    b"Reject-Contact Identity-Info Join Organization MIME-Version Authentication-Info Accept-Encoding "
    b"Accept-Language Alert-Info Call-Info Content-Language Error-Info In-Reply-To Priority Reply-To SIP-ETag "
    b"SIP-If-Match Flow-Timer Session-ID Target-Dialog"
).split()

CANONICAL_NAMES: Final[dict[int, bytes]] = dict(enumerate(_SPELLINGS, start=1))

# RFC 3261, 3265, 3515, 3841, 3892, 4028, 4474: the compact forms.
_COMPACT: Final[dict[bytes, int]] = {
    b"v": H.VIA,
    b"f": H.FROM,
    b"t": H.TO,
    b"i": H.CALL_ID,
    b"m": H.CONTACT,
    b"l": H.CONTENT_LENGTH,
    b"c": H.CONTENT_TYPE,
    b"e": H.CONTENT_ENCODING,
    b"k": H.SUPPORTED,
    b"s": H.SUBJECT,
    b"o": H.EVENT,
    b"r": H.REFER_TO,
    b"b": H.REFERRED_BY,
    b"x": H.SESSION_EXPIRES,
    b"u": H.ALLOW_EVENTS,
    b"a": H.ACCEPT_CONTACT,
    b"j": H.REJECT_CONTACT,
    b"d": H.REQUEST_DISPOSITION,
    b"n": H.IDENTITY_INFO,
    b"y": H.IDENTITY,
}

# Fields whose value is a comma-separated list, so that "A: x, y" means the same as two lines (RFC 3261 section 7.3.1).
# The authentication fields hold commas too but are not lists (section 7.3.1 names them).
LIST_HEADERS: Final[frozenset[int]] = frozenset(
    {
        H.VIA,
        H.CONTACT,
        H.ROUTE,
        H.RECORD_ROUTE,
        H.REQUIRE,
        H.PROXY_REQUIRE,
        H.SUPPORTED,
        H.PATH,
        H.REASON,
        H.WARNING,
        H.CONTENT_ENCODING,
        H.ALLOW,
        H.ACCEPT,
        H.UNSUPPORTED,
        H.ALLOW_EVENTS,
        H.P_ASSERTED_IDENTITY,
        H.P_PREFERRED_IDENTITY,
        H.REMOTE_PARTY_ID,
        H.DIVERSION,
        H.HISTORY_INFO,
        H.SERVICE_ROUTE,
        H.REQUEST_DISPOSITION,
        H.ACCEPT_CONTACT,
        H.REJECT_CONTACT,
        H.ACCEPT_ENCODING,
        H.ACCEPT_LANGUAGE,
        H.ALERT_INFO,
        H.CALL_INFO,
        H.CONTENT_LANGUAGE,
        H.ERROR_INFO,
        H.IN_REPLY_TO,
    }
)

_BY_LOWER_NAME: Final[dict[bytes, int]] = {name.lower(): hid for hid, name in CANONICAL_NAMES.items()} | _COMPACT

# RFC 3261 section 25.1: header-name = token; then HCOLON = *( SP / HTAB ) ":" SWS
_NAME: Final = re.compile(rb"([A-Za-z0-9\-.!%*_+`'~]+)[ \t]*")

_MOST_NAMES: Final = 4096
_LONGEST_NAME: Final = 64


class OddLine(Exception):
    """A line that does not begin with a header name: a folded continuation, or garbage. Never leaves the package."""


class _HeaderIds(dict[bytes, int]):
    """Exact bytes before the colon -> header id; learns spellings it has not seen, up to a bound."""

    def __missing__(self, name: bytes) -> int:
        match = _NAME.fullmatch(name)
        if match is None:
            raise OddLine(name)
        hid = _BY_LOWER_NAME.get(match[1].lower(), H.OTHER)
        if len(name) <= _LONGEST_NAME and len(self) < _MOST_NAMES:
            self[name] = hid
        return hid


HEADER_IDS: Final = _HeaderIds()
"""`HEADER_IDS[name]` is the id of a header name as written before the colon; raises OddLine when it is not a name."""

for _hid, _name in CANONICAL_NAMES.items():
    for _spelling in (_name, _name.lower(), _name.upper()):
        HEADER_IDS[_spelling] = _hid
for _name, _hid in _COMPACT.items():
    HEADER_IDS[_name] = HEADER_IDS[_name.upper()] = _hid


def header_id(name: bytes) -> int:
    """Id of a header name in any case or compact form; `H.OTHER` when unknown.

    Raises ValueError when `name` is not a header name at all: that is a mistake of the caller's, not of a peer.
    """
    try:
        return HEADER_IDS[name]
    except OddLine:
        raise ValueError(f"{name!r} is not a SIP header name; use letters, digits and -.!%*_+`'~") from None

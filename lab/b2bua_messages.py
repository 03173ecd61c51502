"""The fixed parts of FreeSWITCH 1.10.12's messages: header order, header values, status and cause tables.

Theory of operation. FreeSWITCH writes the headers of a message in one order, whatever the message; `assemble` takes a
dictionary and writes what is in it in that order, extra headers (X-..., Remote-Party-ID) behind Content-Length as
FreeSWITCH does. The tables say what a final response from the callee becomes on the caller's side; they are the
recorded scenarios c_map and c_direct_codes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from lab.sip import Message

USER_AGENT = "FreeSWITCH-B2BUA"
ALLOW = "INVITE, ACK, BYE, CANCEL, OPTIONS, MESSAGE, INFO, UPDATE, REGISTER, REFER, NOTIFY"
SUPPORTED = "timer, path, replaces"
ALLOW_EVENTS = "talk, hold, conference, refer"
FS_SUPPORT = ("X-FS-Support", "update_display,send_info")
SDP_TYPE = "application/sdp"
MIN_SE = 120  # seconds; a Session-Expires below it gets 422

ORDER = (
    "Via", "Route", "Record-Route", "Max-Forwards", "From", "To", "Call-ID", "CSeq", "Identity", "Contact", "RAck",
    "User-Agent", "Accept", "Allow", "Require", "Supported", "Allow-Events", "Session-Expires", "Min-SE", "Privacy",
    "Reason", "Proxy-Authenticate", "Retry-After", "Content-Type", "Content-Disposition", "Content-Length",
)  # fmt: skip

CAUSES = {
    1: "UNALLOCATED_NUMBER", 3: "NO_ROUTE_DESTINATION", 16: "NORMAL_CLEARING", 17: "USER_BUSY", 19: "NO_ANSWER",
    21: "CALL_REJECTED", 22: "NUMBER_CHANGED", 25: "EXCHANGE_ROUTING_ERROR", 28: "INVALID_NUMBER_FORMAT",
    31: "NORMAL_UNSPECIFIED", 38: "NETWORK_OUT_OF_ORDER", 41: "NORMAL_TEMPORARY_FAILURE", 63: "SERVICE_UNAVAILABLE",
    79: "SERVICE_NOT_IMPLEMENTED", 88: "INCOMPATIBLE_DESTINATION", 96: "MANDATORY_IE_MISSING",
    102: "RECOVERY_ON_TIMER_EXPIRE", 127: "INTERWORKING",
}  # fmt: skip

# status from the callee -> (reason phrase, Q.850 cause) toward the caller
FAILURES = {
    380: ("Alternative Service", 31), 400: ("Bad Request", 41), 401: ("Unauthorized", 21),
    402: ("Payment Required", 21), 403: ("Forbidden", 21), 404: ("Not Found", 1), 405: ("Method Not Allowed", 63),
    406: ("Not Acceptable", 79), 407: ("Proxy Authentication Required", 21), 408: ("Request Timeout", 102),
    410: ("Gone", 22), 413: ("Request Entity Too Large", 127), 415: ("Unsupported Media Type", 79),
    420: ("Bad Extension", 127), 421: ("Extension Required", 127), 422: ("Session Interval Too Small", 31),
    423: ("Interval Too Brief", 127), 480: ("Temporarily Unavailable", 16),
    481: ("Call/Transaction Does Not Exist", 41), 482: ("Loop Detected", 25), 483: ("Too Many Hops", 25),
    484: ("Address Incomplete", 28), 485: ("Ambiguous", 3), 486: ("Busy Here", 17), 487: ("Request Terminated", 16),
    488: ("Not Acceptable Here", 88), 489: ("Bad Event", 31), 491: ("Request Pending", 31),
    493: ("Undecipherable", 31), 494: ("Security Agreement Required", 31), 500: ("Internal Server Error", 41),
    501: ("Not Implemented", 79), 502: ("Bad Gateway", 38), 503: ("Service Unavailable", 41),
    504: ("Gateway Time-out", 102), 505: ("Version Not Supported", 127), 513: ("Message Too Large", 127),
    580: ("Precondition Failure", 31), 600: ("Busy Everywhere", 17), 603: ("Decline", 21),
    604: ("Does Not Exist Anywhere", 3), 606: ("Not Acceptable", 88), 607: ("Unwanted", 0),
}  # fmt: skip
ODD_REASONS = {429: 'SIP;cause=821;text="BAD_IDENTITY_INFO"', 607: 'SIP;cause=819;text="UNWANTED"'}
FOLLOWED = (300, 301, 302, 305)  # FreeSWITCH sends the call to the Contact by itself


def q850(cause: int) -> str:
    """A Reason header value."""
    return f'Q.850;cause={cause};text="{CAUSES[cause]}"'


def failure(status: int, *, challenged: bool = False) -> tuple[int, str, str]:
    """(status, phrase, Reason) for the caller when the callee failed with `status`; a challenge becomes 480 cause
    96."""
    if status in (401, 407) and challenged:
        return 480, FAILURES[480][0], q850(96)
    phrase, cause = FAILURES.get(status, ("", 31))
    return status, phrase, ODD_REASONS.get(status) or q850(cause)


Fields = dict[str, str | list[str]]


def assemble(message: Message, fields: Fields, extras: Iterable[tuple[str, str]] = (), body: str = "") -> Message:
    """Fill `message` with `fields` in FreeSWITCH's order, then `extras`; Content-Length always."""
    fields = {**fields, "Content-Length": "0"}
    for name in ORDER:
        value = fields.pop(name, None)
        for item in [value] if isinstance(value, str) else value or []:
            message.headers.append((name, item))
    if fields:
        raise ValueError(f"no place for {sorted(fields)} in FreeSWITCH's header order")
    message.headers += extras
    message.body = body.encode()
    return message


def response(request: Message, status: int, phrase: str, tag: str, fields: Fields) -> tuple[Message, Fields]:
    """An empty response and its fields: what every answer copies from its request, plus `fields`."""
    to = request.to
    copied: Fields = {
        "Via": request.values("Via"),
        "From": canonical(request["From"]),
        "To": canonical(request["To"] if to.tag or not tag else f"{request['To']};tag={tag}"),
        "Call-ID": request.call_id,
        "CSeq": request["CSeq"],
    }
    return Message(status=status, reason=phrase), {**copied, **fields}


def canonical(address: str) -> str:
    """A From or To as FreeSWITCH prints it again: escapes it does not need undone, parameters of the user part
    lost."""
    found = re.search(r"(sips?:)([^@>]*)(@)", address)
    if found is None:
        return address
    user = re.sub(r"%(2[1456789ABCDEF]|3D|3F|5F|7E)", lambda escape: chr(int(escape[1], 16)), found[2].split(";")[0])
    return address[: found.start(2)] + user + address[found.end(2) :]


def sdp_fields(*, negotiated: bool) -> Fields:
    """Content headers; FreeSWITCH adds Content-Disposition only to what its offer/answer engine printed."""
    return {"Content-Type": SDP_TYPE, "Content-Disposition": "session"} if negotiated else {"Content-Type": SDP_TYPE}

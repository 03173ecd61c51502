"""Session timers (RFC 4028): how long a session lives without a refresh, and who refreshes it.

A 2xx to INVITE or UPDATE with a Session-Expires header starts the interval; each later one starts it anew. The edge
does not refresh sessions. It watches: when the interval has passed, both endpoints have had their chance (the refresher
at half of it, the other side's BYE shortly before its end), and the call is dead.
"""

import re
from typing import Literal

from proxy.sip.message import H, Message

Refresher = Literal["uac", "uas"]

LEAST = 90
"""Shortest interval there may be, seconds (RFC 4028 section 4); a shorter one that is agreed on counts as this."""

_DELTA = re.compile(rb"\s*0*(\d{1,10})\s*(?:;(.*))?", re.DOTALL)
_REFRESHER = re.compile(rb"(?:^|;)\s*refresher\s*=\s*(uac|uas)\s*(?:;|\Z)", re.IGNORECASE)


def session_timer(message: Message) -> tuple[int, Refresher | None] | None:
    """(interval in seconds, refresher) of a message's Session-Expires; None when it has none, or a malformed one.

    The refresher is who sent the request ("uac") or who answered it ("uas"), or None when it is not said: in a request
    the answer will say it; in a 2xx it is a fault that RFC 4028 section 7.2 blames on the UAS, and nobody refreshes.
    """
    value = message.get(H.SESSION_EXPIRES)
    match = _DELTA.fullmatch(value) if value is not None else None
    if match is None or int(match[1]) == 0:
        return None
    said = _REFRESHER.search(match[2] or b"")
    refresher: Refresher | None = None
    if said is not None:
        refresher = "uac" if said[1].lower() == b"uac" else "uas"
    return max(int(match[1]), LEAST), refresher


def minimum(message: Message) -> int:
    """Seconds in Min-SE: the shortest interval everyone up to here accepts (section 5); 90 when absent or malformed."""
    value = message.get(H.MIN_SE)
    match = _DELTA.fullmatch(value) if value is not None else None
    return max(int(match[1]), LEAST) if match is not None else LEAST

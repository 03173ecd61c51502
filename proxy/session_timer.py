"""Session timers (RFC 4028) as the edge sees them: it neither starts nor refreshes one, it only knows when one ran out."""

from __future__ import annotations

from proxy.sip.message import H, Message


def session_timer(message: Message) -> tuple[int, str] | None:
    """(seconds, refresher) of a Session-Expires header; None when there is none or it is malformed.

    ``refresher`` is "uac", "uas" or "" when the message does not say. RFC 4028 section 4: delta-seconds, then parameters;
    below 90 seconds is not allowed (section 5) and is taken as 90, so that a wrong header ends no call early.
    """
    value = message.get(H.SESSION_EXPIRES)
    if value is None:
        return None
    first, *params = value.split(b";")
    digits = first.strip()
    if not digits.isdigit() or len(digits) > 9:
        return None
    refresher = ""
    for param in params:
        name, _, setting = param.partition(b"=")
        if name.strip().lower() == b"refresher" and setting.strip().lower() in (b"uac", b"uas"):
            refresher = setting.strip().lower().decode()
    return max(int(digits), 90), refresher

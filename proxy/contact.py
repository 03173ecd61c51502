"""Contact values as the edge needs them: the bare URI, and whether its address can be reached from here.

Pure; malformed values answer "unusable" instead of raising, since a Contact that nobody asks about may pass as it is.
"""

from __future__ import annotations

from proxy.flow import Address
from proxy.nat import is_private
from proxy.sip.headers import parse_name_addr_untrusted
from proxy.sip.message import H, Message
from proxy.sip.parser import BadMessage
from proxy.sip.uri import parse_uri_untrusted


def contact_uri(message: Message) -> bytes:
    """The URI of the first Contact, b"" when there is none or it cannot be read."""
    value = message.first_value(H.CONTACT)
    if value is None:
        return b""
    if value[:1] == b"<":
        end = value.find(b">")
        if end > 0:
            return value[1:end]
    try:
        return parse_name_addr_untrusted(value).uri
    except BadMessage:
        return b""


def contact_value(message: Message) -> bytes:
    """The first Contact line's value as it stands, b"" when there is none."""
    if H.CONTACT not in message.ids:
        return b""
    return message.lines[message.ids.index(H.CONTACT)]


def needs_alias(message: Message, source: Address) -> bool:
    """True when a message's Contact names a private address that is not where the message came from."""
    raw = contact_uri(message)
    if not raw:
        return False
    try:
        uri = parse_uri_untrusted(raw)
    except BadMessage:
        return False
    host = uri.host.decode("ascii", "replace")
    return is_private(host) and (host, uri.port or 5060) != source

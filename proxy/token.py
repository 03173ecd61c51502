"""The signed token this edge puts in its Record-Route URI, and its check on the way back.

A dialog's requests carry our Record-Route URI back to us in a Route header, untouched (RFC 3261 section 12.2.1.1). A
parameter of that URI therefore is the one memory that outlives a crash of the proxy: from it any instance with the
same secret learns which rtpengine call the dialog belongs to, so that a BYE frees the media even when the session is
in no store. The route set is held by the phones, so the value is hostile until its signature has been checked.

    sip:198.51.100.1:5060;lr;t=edge1-5f3a9c0d2b7e4816~A~node1~c0ffee00112233445566
                               ng call-id             leg node  80-bit MAC, hex

The payload is readable on purpose (it is in every trace, and none of it is secret); only the last field is a MAC:
keyed BLAKE2s (RFC 7693) of the payload, cut to 80 bits. ``~`` separates because it is legal in a URI parameter
(``unreserved``, RFC 3261 section 25.1) and in no field. What a token proves is that an instance of ours once gave it
to a party of that session; a party may replay it, in the same session, where it may send a BYE anyway.

The token has no expiry: ng call-ids are never reused, so an old token names a call that is gone.
"""

import hmac
import re
from dataclasses import dataclass
from hashlib import blake2s

MAC_HEX = 20
"""Length of the MAC in hex digits: 80 bits."""

MAX_TOKEN = 200
"""Tokens longer than this many bytes are not looked at."""

_FIELD = re.compile(rb"[A-Za-z0-9_.+:$-]+\Z")
_PERSON = b"rr-token"  # keeps these MACs apart from any other use of the same secret


@dataclass(frozen=True, slots=True)
class Token:
    """What a valid token says. ``ng_call_id``: the session's call-id on rtpengine. ``leg``: the session's name for the
    SIP leg the Record-Route was given to ("A", "B", "B2"). ``node``: name of the rtpengine node at that time (the
    session may have moved since)."""

    ng_call_id: bytes
    leg: bytes
    node: bytes


class Signer:
    """Makes and checks tokens with one secret, which every instance that may see the dialog must share."""

    __slots__ = ("_keyed",)

    def __init__(self, secret: bytes) -> None:
        """``secret``: at least 16 bytes; longer ones are hashed, so any length is good. Raises ValueError."""
        if len(secret) < 16:
            raise ValueError(f"the token secret has {len(secret)} bytes; give at least 16")
        key = blake2s(secret, person=_PERSON).digest()
        self._keyed = blake2s(digest_size=MAC_HEX // 2, key=key, person=_PERSON)

    def sign(self, ng_call_id: bytes, leg: bytes, node: bytes) -> bytes:
        """The token: a value fit for a URI parameter, 24 bytes longer than its three fields.

        Raises ValueError when a field is empty or has a byte outside ``A-Z a-z 0-9 _ . + : $ -``; our own call-ids,
        leg names and (checked at configuration load) node names never do.
        """
        for field in (ng_call_id, leg, node):
            if not _FIELD.match(field):
                raise ValueError(f"{field!r} cannot be a token field")
        payload = b"%b~%b~%b" % (ng_call_id, leg, node)
        return b"%b~%b" % (payload, self._mac(payload))

    def verify_untrusted(self, token: bytes) -> Token | None:
        """The fields of a token we signed, else None: a forged, damaged, cut or foreign value is an ordinary event.

        The comparison takes the same time wherever the difference is.
        """
        if len(token) > MAX_TOKEN:
            return None
        payload, _, mac = token.rpartition(b"~")
        if not hmac.compare_digest(self._mac(payload), mac):
            return None
        ng_call_id, leg, node = payload.split(b"~")  # we signed it, so it has three fields
        return Token(ng_call_id, leg, node)

    def _mac(self, payload: bytes) -> bytes:
        keyed = self._keyed.copy()
        keyed.update(payload)
        return keyed.hexdigest().encode()

"""What rtpengine is asked for: media profiles and interfaces as ng keys. Pure.

Theory of operation. A profile belongs to a party (rule 8), so every offer and answer is made in the profile of the
party that will read the result: `offer_keys(author, receiver)` and `answer_keys(answerer, offerer)`. FreeSWITCH always
reads the plain profile: what was made for a phone with another one is reduced to plain by `plain_view`, which keeps
the address and port that rtpengine gave (they are the correlator) and drops what only SRTP, ICE and DTLS need.

Keys that 10.5 is particular about (measured): `direction` in offers only, it may change in later offers, and it moves
the port then; `port-latching` in every command, or a port move of one phone changes the other's port; `received-from`
counts only with the flag SIP-source-address; lists must be lists.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from .session import Party

RTP: Final = "rtp"
SRTP: Final = "srtp"
WEBRTC: Final = "webrtc"

_PLAIN: dict[str, Any] = {
    "transport_protocol": "RTP/AVP",
    "ice": "remove",
    "rtcp_mux": ("demux",),
    "sdes": ("off",),
    "dtls": "off",
}
_WEAK_SUITES = ("no-NULL_HMAC_SHA1_80", "no-NULL_HMAC_SHA1_32", "no-F8_128_HMAC_SHA1_80", "no-F8_128_HMAC_SHA1_32")
PROFILES: dict[str, dict[str, Any]] = {
    RTP: _PLAIN,
    SRTP: {
        "transport_protocol": "RTP/SAVP",
        "ice": "remove",
        "rtcp_mux": ("demux",),
        "sdes": _WEAK_SUITES,
        "dtls": "off",
    },
    # DTLS=passive in an answer comes too late (the daemon ignores it), so it is pinned here, in what a browser reads.
    WEBRTC: {
        "transport_protocol": "UDP/TLS/RTP/SAVPF",
        "ice": "force",
        "rtcp_mux": ("offer", "require"),
        "sdes": ("off",),
        "dtls": "passive",
    },
}
"""Profile -> the keys that make an SDP in it (fields of ng_protocol.Offer and Answer)."""

_REPLACE = ("origin", "session-connection")
_TRUSTED = ("trust-address", "port-latching")
_BEHIND_NAT = ("SIP-source-address", "port-latching")

_SECURE_LINES = re.compile(
    rb"^a=(?:crypto|fingerprint|setup|tls-id|candidate|end-of-candidates|ice-\w+|rtcp-mux|rtcp-rsize|rtcp-fb|"
    rb"group:BUNDLE|msid|msid-semantic|mid|extmap|extmap-allow-mixed)\b[^\n]*\n",
    re.MULTILINE,
)
_PROTO = re.compile(rb"^(m=\S+ \d+(?:/\d+)? )(?:UDP/TLS/RTP/SAVPF?|RTP/S?AVPF?)(?= )", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Policy:
    """`public`, `lan`: logical interface names of rtpengine, None for its
    default interface (then no direction is sent). `bypass`: whether FreeSWITCH is expected to stay out of the media
    of a new call. `callee_profile`: assumed until the callee's is known. `delete_delay`: seconds."""

    public: str | None = None
    lan: str | None = None
    bypass: bool = True
    callee_profile: str = RTP
    delete_delay: int = 0

    def interface(self, side: str) -> str | None:
        """The interface that faces a phone on this side ("public" or "lan")."""
        return self.public if side == "public" else self.lan

    def offer_keys(self, author: Party, receiver: Party) -> dict[str, Any]:
        """Keys of an offer of `author`'s SDP, made for `receiver`. Call-id, tags and SDP are the caller's."""
        keys = {"replace": _REPLACE, **PROFILES[receiver.profile]}
        _trust(keys, author)
        if author.interface is not None and receiver.interface is not None:
            keys["direction"] = (author.interface, receiver.interface)
        return keys

    def answer_keys(self, answerer: Party, offerer: Party) -> dict[str, Any]:
        """Keys of the answer of `answerer`, made for `offerer`. No direction: it cannot move an announced port."""
        keys = {"replace": _REPLACE, **PROFILES[offerer.profile]}
        _trust(keys, answerer)
        return keys


def _trust(keys: dict[str, Any], author: Party) -> None:
    """A phone behind NAT writes an address nobody can reach: rtpengine starts from where its SIP comes from, and
    learns the port from the first packet."""
    if author.received is None:
        keys["flags"] = _TRUSTED
        return
    keys["flags"] = _BEHIND_NAT
    keys["received_from"] = ("IP6" if ":" in author.received[0] else "IP4", author.received[0])


def profile_of(sdp: bytes) -> str:
    """The profile a phone shows in an SDP it wrote itself."""
    if b"UDP/TLS/RTP/SAVP" in sdp or (b"a=fingerprint:" in sdp and b"a=ice-ufrag:" in sdp):
        return WEBRTC
    return SRTP if b"RTP/SAVP" in sdp else RTP


def plain_view(sdp: bytes, profile: str) -> bytes:
    """An SDP that rtpengine made in or from `profile`, as FreeSWITCH may see it (rule 2): RTP/AVP, no ICE, no crypto.

    A later re-INVITE in another profile than the first INVITE's makes FreeSWITCH reject the m-line toward the other
    leg, so this is done whatever the phones speak. Addresses and ports stay.
    """
    if profile == RTP:
        return sdp
    return _PROTO.sub(rb"\1RTP/AVP", _SECURE_LINES.sub(b"", sdp))

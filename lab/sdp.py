"""The phones' SDP: one audio line, printed as a desk phone prints it, read only as far as a phone needs.

Theory of operation. `describe` prints a session of RFC 4566 with one m=audio line (PCMU, PCMA, telephone-event).
`read` takes any SDP and gives where audio goes, in which direction, and the o= line; a session-level c= or direction
counts when the media has none of its own (RFC 4566 5.7, RFC 3264 5.1). `answer_direction` is the table of RFC 3264
6.1 for a phone that may be holding.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from lab.sip import Address

DIRECTIONS = ("sendrecv", "sendonly", "recvonly", "inactive")


@dataclass(frozen=True)
class Media:
    """What an SDP says about audio: destination (None when the line is refused with port 0), the author's direction,
    payload types in order, profile ("RTP/AVP"), and the o= value as (session id, version)."""

    remote: Address | None
    direction: str
    payloads: tuple[int, ...]
    profile: str
    origin: tuple[str, int]

    @property
    def sends(self) -> bool:
        """Whether the author will send."""
        return self.remote is not None and self.direction in ("sendrecv", "sendonly")

    @property
    def receives(self) -> bool:
        """Whether the author wants to receive."""
        return self.remote is not None and self.direction in ("sendrecv", "recvonly")


def describe(
    address: Address, *, session: int, version: int, direction: str = "sendrecv", payloads: str = "0 8 101"
) -> str:
    """An SDP with audio at `address`."""
    lines = [
        "v=0",
        f"o=- {session} {version} IN IP4 {address[0]}",
        "s=call",
        f"c=IN IP4 {address[0]}",
        "t=0 0",
        f"m=audio {address[1]} RTP/AVP {payloads}",
        "a=rtpmap:0 PCMU/8000",
        "a=rtpmap:8 PCMA/8000",
        "a=rtpmap:101 telephone-event/8000",
        "a=fmtp:101 0-15",
        "a=ptime:20",
        f"a={direction}",
    ]
    return "\r\n".join([*lines, ""])


def read(text: str) -> Media:
    """Read the first audio line. Raises ValueError when there is none or it has no address."""
    session, *medias = re.split(r"(?m)^(?=m=)", text)
    audio = next((media for media in medias if media.startswith("m=audio ")), None)
    if audio is None:
        raise ValueError(f"the SDP has no m=audio line: {text[:120]!r}")
    line = re.match(r"m=audio (\d+)(?:/\d+)? (\S+)((?: \S+)*)", audio)
    host = re.search(r"(?m)^c=IN IP[46] (\S+)", audio) or re.search(r"(?m)^c=IN IP[46] (\S+)", session)
    origin = re.search(r"(?m)^o=\S+ (\S+) (\d+) ", session)
    if line is None or host is None or origin is None:
        raise ValueError(f"the SDP has no usable m=audio, c= or o= line: {text[:200]!r}")
    said = re.search(rf"(?m)^a=({'|'.join(DIRECTIONS)})\s*$", audio) or re.search(
        rf"(?m)^a=({'|'.join(DIRECTIONS)})\s*$", session
    )
    port = int(line[1])
    return Media(
        remote=(host[1], port) if port else None,
        direction=said[1] if said else "sendrecv",
        payloads=tuple(int(word) for word in line[3].split() if word.isdigit()),
        profile=line[2],
        origin=(origin[1], int(origin[2])),
    )


def direction(*, send: bool, receive: bool) -> str:
    """The attribute for what we will do."""
    return {(True, True): "sendrecv", (True, False): "sendonly", (False, True): "recvonly"}.get(
        (send, receive), "inactive"
    )


def answer_direction(offered: Media, *, holding: bool) -> str:
    """Our direction in the answer to `offered` (RFC 3264 6.1); `holding`: we do not want to hear them."""
    return direction(send=offered.receives, receive=offered.sends and not holding)


def offer_direction(peer: Media | None, *, holding: bool) -> str:
    """Our direction in a new offer (RFC 3264 8.4): a peer that holds us is not asked to receive."""
    return direction(send=peer is None or peer.receives, receive=not holding)

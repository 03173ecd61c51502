"""The tree that ``query`` returns: call -> tags (parties) -> medias -> streams (RTP, RTCP), plus figures per SSRC.

Theory of operation. Plain data, converted by msgspec from the decoded reply; ``name=`` gives the daemon's key. A
stream's local address and port are where this party's media arrives at the daemon (and what the SDP sent to this
party says). ``endpoint`` is where media really came from (learned), ``advertised_endpoint`` what the SDP said; while
nothing arrived both are the same and ``last_packet`` is about the time of creation. Source: rtpengine mr10.5.3.5
daemon/call_interfaces.c ng_stats_*; keys of newer daemons are optional.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import field


class _Node(msgspec.Struct, frozen=True, kw_only=True):
    """Base: frozen, keyword-only."""


class Endpoint(_Node, frozen=True):
    """A transport address; ``family`` is ``IPv4`` or ``IPv6``. A party that has not answered has none: "" and 0."""

    address: str = ""
    port: int = 0
    family: str = ""

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


class Counters(_Node, frozen=True):
    """Packets, bytes and errors (packets that could not be handled, e.g. failed SRTP authentication)."""

    packets: int = 0
    bytes: int = 0
    errors: int = 0


class Stream(_Node, frozen=True):
    """One RTP or RTCP flow of a media section."""

    local_address: str | None = field(default=None, name="local address")
    local_port: int | None = field(default=None, name="local port")
    family: str = ""
    endpoint: Endpoint | None = None
    advertised_endpoint: Endpoint | None = field(default=None, name="advertised endpoint")
    crypto_suite: str | None = field(default=None, name="crypto suite")
    last_packet: int = field(default=0, name="last packet")
    """Epoch seconds; about the time of creation while nothing arrived."""
    last_kernel_packet: int = field(default=0, name="last kernel packet")
    last_user_packet: int = field(default=0, name="last user packet")
    ssrc: int | None = field(default=None, name="SSRC")
    flags: tuple[str, ...] = ()
    """``RTP``, ``RTCP``, ``fallback RTCP``, ``filled``, ``confirmed``, ``kernelized``, ``DTLS fingerprint verified``,
    ..."""
    received: Counters = field(default_factory=Counters, name="stats")
    sent: Counters | None = field(default=None, name="stats_out")
    """rtpengine 11.1 and newer."""

    @property
    def is_rtp(self) -> bool:
        """Whether RTP flows here (with rtcp-mux: RTCP too)."""
        return "RTP" in self.flags

    @property
    def is_rtcp(self) -> bool:
        """Whether RTCP flows here."""
        return "RTCP" in self.flags

    @property
    def learned(self) -> bool:
        """Whether a packet confirmed the endpoint."""
        return "confirmed" in self.flags


class Media(_Node, frozen=True):
    """One m= section of a party, from the daemon's side: ``send``/``recv`` in flags are what the *party* may do."""

    index: int
    type: str = ""
    protocol: str = ""
    codec: str | None = None
    """As ``PCMA/8000``, once media was seen or a codec handler exists."""
    flags: tuple[str, ...] = ()
    streams: tuple[Stream, ...] = ()

    @property
    def rtp(self) -> Stream | None:
        """The stream that carries RTP."""
        return next((stream for stream in self.streams if stream.is_rtp), None)


class Subscription(_Node, frozen=True):
    """Whom a party hears or is heard by; ``type`` is ``offer/answer`` or ``pub/sub``."""

    tag: str = ""
    type: str = ""


class Tag(_Node, frozen=True):
    """One party ("monologue"). An answerer that has not been named yet has no tag of its own in the SIP sense."""

    tag: str = ""
    via_branch: str | None = field(default=None, name="via-branch")
    label: str | None = None
    created: int = 0
    tag_aliases: tuple[str, ...] = field(default=(), name="tag-aliases")
    subscriptions: tuple[Subscription, ...] = ()
    subscribers: tuple[Subscription, ...] = ()
    medias: tuple[Media, ...] = ()


class Quality(_Node, frozen=True):
    """Figures of one or several RTCP reports."""

    mos_x10: int = field(default=0, name="MOS")
    """Mean opinion score times ten: 43 is 4.3."""
    round_trip_time: int = field(default=0, name="round-trip time")
    """Microseconds, end to end."""
    round_trip_time_leg: int = field(default=0, name="round-trip time leg")
    jitter: int = 0
    """Milliseconds."""
    packet_loss: int = field(default=0, name="packet loss")
    """Per cent."""
    samples: int = 0
    reported_at: int = field(default=0, name="reported at")

    @property
    def mos(self) -> float:
        """Mean opinion score, 1.0 to 5.0."""
        return self.mos_x10 / 10


class SsrcStats(_Node, frozen=True):
    """Of one reporter; present only once its RTCP told about the other side, at most one report a second counting.

    ``packets`` and ``bytes`` stay 0 in 10.5 without the kernel module; the streams count.
    """

    packets: int = 0
    bytes: int = 0
    cumulative_loss: int = field(default=0, name="cumulative loss")
    average: Quality | None = field(default=None, name="average MOS")
    lowest: Quality | None = field(default=None, name="lowest MOS")
    highest: Quality | None = field(default=None, name="highest MOS")


class Totals(_Node, frozen=True):
    """Sums over all streams of the call."""

    rtp: Counters = field(default_factory=Counters, name="RTP")
    rtcp: Counters = field(default_factory=Counters, name="RTCP")


class QueryReply(_Node, frozen=True):
    """One call. ``raw``: everything the daemon said, text decoded."""

    tags: dict[str, Tag]
    created: int = 0
    created_us: int = 0
    last_signal: int = field(default=0, name="last signal")
    ssrcs: dict[str, SsrcStats] = field(default_factory=dict, name="SSRC")
    """By SSRC as a decimal string."""
    totals: Totals = field(default_factory=Totals)
    raw: dict[str, Any] = field(default_factory=dict)

    def streams(self) -> tuple[tuple[Tag, Media, Stream], ...]:
        """Every stream with its party and media."""
        return tuple(
            (tag, media, stream) for tag in self.tags.values() for media in tag.medias for stream in media.streams
        )

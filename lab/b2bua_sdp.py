"""What FreeSWITCH 1.10.12 does to an SDP it relays in bypass_media: it parses, negotiates and prints it again.

Theory of operation. `Sdp.parse_untrusted` reads a description into a session and its m-lines; `Sdp.text` prints it
the way FreeSWITCH's SIP library does: rtpmap and fmtp directly under m=/c=/b=, a direction only where it differs from
the session's, nothing but the first payload type left of an m-line with port 0. `Negotiator` is one leg's
offer/answer engine. The B2BUA gives it the *other* leg's description as its own (`set_own`); the engine keeps the
session-level lines of the first one for ever, takes the m-lines from the newest, adds 1 to the o= version whenever
what it would send has changed, orders codecs by the peer's last answer and computes the direction from what the peer
last said. That is where the quirks come from that the recordings show: an answer `recvonly` to an offer `sendrecv`
loses its direction; after a leg that is on hold was re-INVITEd, `hold` sticks and its later answers say `sendonly`.
Everything here was fitted to the recorded traces; the names of rules say which.
"""

from __future__ import annotations

import copy
import random
from dataclasses import dataclass, field

MODES = ("inactive", "sendonly", "recvonly", "sendrecv")  # index = bits: 1 send, 2 receive
SEND, RECEIVE = 1, 2
BIG = 2**63 - 1

# RFC 3551 table 4: payload types that need no rtpmap
STATIC = {
    0: "PCMU/8000", 3: "GSM/8000", 4: "G723/8000", 8: "PCMA/8000", 9: "G722/8000", 13: "CN/8000", 18: "G729/8000",
    26: "JPEG/90000", 31: "H261/90000", 32: "MPV/90000", 33: "MP2T/90000", 34: "H263/90000",
}  # fmt: skip
AUXILIARY = ("telephone-event", "cn")  # never count as the negotiated codec, sorted behind it


class SdpError(Exception):
    """Not a session description; FreeSWITCH answers 400 Bad Session Description."""


@dataclass
class Codec:
    """One payload type of an m-line. `encoding` is `name/rate[/channels]` or empty when unknown."""

    number: int
    encoding: str = ""
    explicit: bool = False
    fmtp: str | None = None

    def same(self, other: Codec) -> bool:
        """Whether both name the same encoding and rate, whatever their numbers."""
        mine, theirs = self.encoding.lower().split("/")[:2], other.encoding.lower().split("/")[:2]
        return mine == theirs if mine[0] or theirs[0] else self.number == other.number

    @property
    def auxiliary(self) -> bool:
        """Whether it is telephone-event or comfort noise."""
        return self.encoding.split("/")[0].lower() in AUXILIARY


@dataclass
class Media:
    """One m-line. `codecs` for RTP, `formats` for anything else; `mode` as bits; `attributes` without rtpmap, fmtp,
    direction."""

    kind: str
    port: str
    proto: str
    codecs: list[Codec] = field(default_factory=list)
    formats: list[str] = field(default_factory=list)
    information: str | None = None
    connections: list[str] = field(default_factory=list)
    bandwidths: list[str] = field(default_factory=list)
    key: str | None = None
    mode: int = SEND | RECEIVE
    attributes: list[str] = field(default_factory=list)

    @property
    def rejected(self) -> bool:
        """Port 0."""
        return self.port.split("/")[0] == "0"

    @property
    def rtp(self) -> bool:
        """Whether formats are RTP payload types."""
        return "RTP/" in self.proto.upper()

    def reject(self, payload: str | None = None) -> Media:
        """This m-line with port 0, as FreeSWITCH prints it: one format, nothing else."""
        first = payload or (str(self.codecs[0].number) if self.codecs else self.formats[0] if self.formats else "19")
        return Media(self.kind, "0", self.proto, formats=[first], mode=0)

    def lines(self, session_mode: int) -> list[str]:
        """The printed lines."""
        formats = [str(codec.number) for codec in self.codecs] or self.formats
        out = [f"m={self.kind} {self.port} {self.proto} {' '.join(formats)}"]
        if self.information is not None:
            out.append(f"i={self.information}")
        out += [f"c={c}" for c in self.connections] + [f"b={b}" for b in self.bandwidths]
        if self.key is not None:
            out.append(f"k={self.key}")
        for codec in self.codecs:
            if codec.explicit:
                out.append(f"a=rtpmap:{codec.number} {codec.encoding}")
            if codec.fmtp is not None:
                out.append(f"a=fmtp:{codec.number} {codec.fmtp}")
        if not self.rejected and self.mode != session_mode:
            out.append(f"a={MODES[self.mode]}")
        return out + [f"a={a}" for a in self.attributes]


@dataclass
class Sdp:
    """A session description. `fields` are the session lines but v, o, s, t, c and a, in printed order."""

    user: str
    ident: int
    version: int
    address: str
    subject: str = "-"
    connection: str | None = None
    fields: dict[str, list[str]] = field(default_factory=dict)
    times: list[str] = field(default_factory=list)
    attributes: list[str] = field(default_factory=list)
    media: list[Media] = field(default_factory=list)

    @classmethod
    def parse_untrusted(cls, text: str) -> Sdp:
        """Read a description; line ends may be CRLF or LF, s= and t= may be missing. Raises SdpError, nothing
        else."""
        lines = text.replace("\r\n", "\n").rstrip("\n").split("\n")
        if lines[0] != "v=0" or len(lines) < 2 or not lines[1].startswith("o="):
            raise SdpError(f"does not begin with v=0 and o=: {lines[0][:40]!r}")
        origin = lines[1][2:].split(" ")
        if len(origin) != 6 or not all(part.isascii() and part.isdigit() for part in origin[1:3]):
            raise SdpError(f"bad o= line: {lines[1][:80]!r}")
        out = cls(origin[0], min(int(origin[1]), BIG), min(int(origin[2]), BIG), " ".join(origin[3:]))
        for number, line in enumerate(lines[2:], 3):
            if len(line) < 2 or line[1] != "=" or not line[0].islower():
                raise SdpError(f"line {number} is not type=value: {line[:40]!r}")
            if line[0] == "m" or out.media:
                out._media_line(line[0], line[2:])
            else:
                out._session_line(line[0], line[2:])
        mode = out.mode
        for media in out.media:
            directions = [a for a in media.attributes if a in MODES]
            media.mode = MODES.index(directions[-1]) if directions else mode
            media.attributes = [a for a in media.attributes if a not in MODES]
        out.media = [media.reject() if media.rejected else media for media in out.media]
        return out

    def _session_line(self, kind: str, value: str) -> None:
        if kind == "s":
            self.subject = value
        elif kind == "c":
            self.connection = value
        elif kind == "t":
            self.times.append(value)
        elif kind == "a":
            self.attributes.append(value)
        else:
            self.fields.setdefault(kind, []).append(value)

    def _media_line(self, kind: str, value: str) -> None:
        if kind == "m":
            parts = value.split()
            if len(parts) < 4 or not parts[1].replace("/", "", 1).isdigit():
                raise SdpError(f"bad m= line: {value[:60]!r}")
            media = Media(parts[0], parts[1], parts[2])
            if not media.rtp:
                media.formats = parts[3:]
            elif not all(f.isascii() and f.isdigit() and len(f) < 4 for f in parts[3:]):
                raise SdpError(f"a payload type is not a number: {value[:60]!r}")
            else:
                media.codecs = [Codec(int(f), STATIC.get(int(f), "")) for f in parts[3:]]
            self.media.append(media)
            return
        media = self.media[-1]
        if kind == "a":
            name, _, rest = value.partition(":")
            number, _, detail = rest.partition(" ")
            codec = next((c for c in media.codecs if str(c.number) == number), None)
            if name == "rtpmap" and media.rtp:  # a mapping for a payload type that is not in m= is dropped
                if codec is not None:
                    codec.encoding, codec.explicit = detail.strip(), True
            elif name == "fmtp" and media.rtp:
                if codec is not None:
                    codec.fmtp = detail
            else:
                media.attributes.append(value)
        elif kind == "i":
            media.information = value
        elif kind == "c":
            media.connections.append(value)
        elif kind == "b":
            media.bandwidths.append(value)
        elif kind == "k":
            media.key = value

    @property
    def mode(self) -> int:
        """The session-level direction."""
        return next((MODES.index(a) for a in self.attributes if a in MODES), SEND | RECEIVE)

    @property
    def holds(self) -> bool:
        """Whether an offer like this one puts the peer on hold: every m-line sendonly or inactive, or c=0.0.0.0."""
        active = [m for m in self.media if not m.rejected]
        return bool(active) and (
            all(not m.mode & RECEIVE for m in active) or (self.connection or "").endswith(" 0.0.0.0")
        )

    @property
    def text(self) -> str:
        """The printed description, CRLF line ends."""
        out = ["v=0", f"o={self.user} {self.ident} {self.version} {self.address}", f"s={self.subject}"]
        out += [f"{kind}={value}" for kind in "iuep" for value in self.fields.get(kind, [])]
        if self.connection is not None:
            out.append(f"c={self.connection}")
        out += [f"b={value}" for value in self.fields.get("b", [])]
        out += [f"t={value}" for value in self.times or ["0 0"]]
        out += [f"{kind}={value}" for kind in "rzk" for value in self.fields.get(kind, [])]
        out += [f"a={value}" for value in self.attributes]
        for media in self.media:
            out += media.lines(self.mode)
        return "\r\n".join([*out, ""])

    def without_ports(self) -> str:
        """As a capability description: what FreeSWITCH puts into the answer to an OPTIONS in a dialog."""
        other = copy.deepcopy(self)
        for media in other.media:
            media.port = "0"
        return other.text


def usable(connection: str | None) -> bool:
    """Whether FreeSWITCH takes an address for o= or c=: not missing, not 0.0.0.0, not loopback."""
    address = (connection or "").split(" ")[-1]
    return bool(address) and address not in ("0.0.0.0", "::", "::1") and not address.startswith("127.")


class Negotiator:
    """One leg's offer/answer engine. `hold` true makes what we send ask the peer to hear nothing from it."""

    def __init__(self, address: str, rng: random.Random) -> None:
        self._address, self._random = address, rng
        self.own: Sdp | None = None
        self.own_text = ""
        self.remote: Sdp | None = None
        self.hold = False
        self._own_version = self._remote_version = 0
        self._seen_own = self._seen_remote = 0
        self._local: Sdp | None = None
        self._sent: Sdp | None = None
        self._previous: tuple[Sdp | None, int, int] | None = None

    def set_own(self, text: str) -> None:
        """The description to present to the peer (the other leg's). Raises SdpError."""
        if text != self.own_text or self.own is None:
            self.own, self.own_text = Sdp.parse_untrusted(text), text
            self._own_version += 1

    def set_remote(self, text: str) -> None:
        """What the peer offered or answered. Raises SdpError."""
        self.remote = Sdp.parse_untrusted(text)
        self._remote_version += 1

    def offer(self) -> str:
        """The offer to send to the peer."""
        own, local = self._need(self.own), self._copy()
        if self._local is None or self._seen_own != self._own_version:
            media = [m.reject() if m.rejected else copy.deepcopy(m) for m in own.media]
            media += [old.reject("19") for old in local.media[len(media) :]]
            local.media = media
        self._directions(local, None)
        self._connection(local)
        self._previous = (self._local, self._seen_own, self._seen_remote)
        self._store(local, bump=self._sent is None or self._sent != local)
        self._seen_own = self._own_version
        return local.text

    def answer(self) -> str:
        """The answer to the peer's offer."""
        own, remote, local = self._need(self.own), self._need(self.remote), self._copy()
        if self._local is None or (self._seen_own, self._seen_remote) != (self._own_version, self._remote_version):
            local.media = [self._answer_line(i, offered, own) for i, offered in enumerate(remote.media)]
        self._directions(local, remote)
        self._connection(local)
        self._store(local, bump=True)
        self._seen_own, self._seen_remote = self._own_version, self._remote_version
        return local.text

    def answered(self) -> None:
        """The peer answered our offer (`set_remote` came before)."""
        remote, local = self._need(self.remote), self._copy()
        for i, media in enumerate(local.media):
            theirs = remote.media[i] if i < len(remote.media) else None
            if theirs is None or theirs.rejected:
                local.media[i] = media if media.rejected else media.reject()
            elif media.rtp and not media.rejected:
                media.codecs = sorted_by(media.codecs, theirs.codecs)
        self._directions(local, remote)
        self._store(local, bump=False)
        self._seen_remote = self._remote_version

    def refused(self) -> None:
        """The peer refused our offer: back to what was before it."""
        if self._previous is not None:
            self._local, self._seen_own, self._seen_remote = self._previous
        self._previous, self._sent = None, None

    def _answer_line(self, index: int, offered: Media, own: Sdp) -> Media:
        mine = own.media[index] if index < len(own.media) else None
        if mine is None or (mine.kind, mine.proto.upper()) != (offered.kind, offered.proto.upper()):
            mine = None
        if offered.rejected or mine is None:
            return offered.reject("19")
        if mine.rejected:
            return offered.reject("96" if offered.rtp else None)
        mine = copy.deepcopy(mine)
        if mine.rtp:
            mine.codecs = sorted_by(mine.codecs, offered.codecs)
        return mine

    def _directions(self, local: Sdp, remote: Sdp | None) -> None:
        own = self._need(self.own)
        for i, media in enumerate(local.media):
            if media.rejected or i >= len(own.media):
                continue
            theirs = remote.media[i].mode if remote is not None and i < len(remote.media) else None
            wanted = own.media[i].mode
            send = wanted & SEND
            if wanted and theirs is not None:  # what the peer wants to hear decides, not what our side wants to say
                send = SEND if theirs & RECEIVE else 0
            receive = 0 if self.hold else wanted & RECEIVE
            media.mode = 0 if theirs == 0 else send | receive

    def _connection(self, local: Sdp) -> None:
        own = self._need(self.own)
        if all(media.connections for media in local.media):
            return
        if self._seen_own != self._own_version or not usable(local.connection) or usable(own.connection):
            local.connection = own.connection if usable(own.connection) else local.connection
        if local.connection is None or (local.connection.endswith("0.0.0.0") and not usable(own.connection)):
            local.connection = local.address

    def _copy(self) -> Sdp:
        if self._local is not None:
            return copy.deepcopy(self._local)
        local = copy.deepcopy(self._need(self.own))
        local.media = []
        local.version = (local.version - 1) or self._random.getrandbits(62)
        local.ident = local.ident or self._random.getrandbits(62)
        if not usable(local.address):
            local.address = f"IN IP4 {self._address}"
        return local

    def _store(self, local: Sdp, *, bump: bool) -> None:
        if self._local == local:
            return
        if bump:
            local.version += 1
            self._sent = copy.deepcopy(local)
        self._local = local

    @staticmethod
    def _need(sdp: Sdp | None) -> Sdp:
        if sdp is None:
            raise SdpError("no session description to negotiate with")
        return sdp


def sorted_by(codecs: list[Codec], theirs: list[Codec]) -> list[Codec]:
    """Our codecs in the peer's order and numbering, auxiliary ones behind, those the peer does not have last."""
    left = list(codecs)
    common: list[Codec] = []
    auxiliary: list[Codec] = []
    for other in theirs:
        codec = next((c for c in left if c.same(other)), None)
        if codec is None:
            continue
        left.remove(codec)
        codec.number = other.number
        (auxiliary if codec.auxiliary and len(theirs) > 1 else common).append(codec)
    return common + auxiliary + left

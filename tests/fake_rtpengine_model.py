"""The call model of the fake rtpengine node: parties, media, ports, and how an SDP is rewritten. No sockets, no clock.

Theory of operation. It models what the contract tests observe on rtpengine 10.5.3.5 and no more. A call has parties
(daemon: monologues), found by tag or via-branch; a party has media sections, each with one even RTP port (and the
next for RTCP) per logical interface. ``rewrite`` takes the author's SDP and makes the one for the receiver: its own
address, the ports that face the receiver, the receiver's profile. A receiver keeps its port for ever, unless the
author's address or port moved and the flag ``port-latching`` is missing. A section that is muxed for sure (answered,
or offered with ``require``) has one port, odd or even in the daemon, here always odd, so that nobody counts on
parity. Codecs are left alone, ICE and keys are there but false: one candidate, a constant fingerprint, one crypto
line.
"""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ng_protocol.codec import decode_untrusted, texts
from ng_protocol.errors import BadReply

Request = dict[str, Any]
DIRECTIONS = ("sendrecv", "sendonly", "recvonly", "inactive")
_OWN_ATTRIBUTES = {*DIRECTIONS, "rtcp", "rtcp-mux", "crypto", "fingerprint", "setup", "tls-id", "group", "candidate"}
_OWN_ATTRIBUTES |= {"ice-ufrag", "ice-pwd", "ice-options", "ice-lite", "end-of-candidates"}
_STATIC_CODECS = {"0": "PCMU/8000", "8": "PCMA/8000", "9": "G722/8000", "13": "CN/8000", "18": "G729/8000"}


class Refusal(Exception):
    """The daemon answers ``error`` with this error-reason."""


def decode_request(payload: bytes) -> Request:
    """The request in a payload: text decoded, the SDP as bytes. Raises Refusal."""
    try:
        raw = decode_untrusted(payload)
    except BadReply:
        raise Refusal("Could not decode bencode dictionary") from None
    sdp = raw.pop("sdp", None)
    request: Request = texts(raw)
    if sdp is not None:
        request["sdp"] = sdp
    if "command" not in request:
        raise Refusal('Dictionary contains no key "command"')
    return request


@dataclass
class Media:
    """One m= section of a party. ``endpoint``: from its SDP; ``learned``: from packets; counters are set by tests."""

    kind: str = "audio"
    protocol: str = "RTP/AVP"
    endpoint: tuple[str, int] | None = None
    learned: tuple[str, int] | None = None
    ports: dict[str, int] = field(default_factory=dict)
    ice: bool = False
    dtls: bool = False
    sdes: bool = False
    mux: bool = False
    packets: int = 0
    bytes: int = 0
    errors: int = 0
    last_packet: int = 0


@dataclass
class Party:
    """A monologue. ``hears``: whom it gets media from, newest first."""

    tag: str = ""
    via_branch: str = ""
    label: str = ""
    interface: str = ""
    kind: str = "offer/answer"
    created: int = 0
    deleted: bool = False
    medias: list[Media] = field(default_factory=list)
    hears: list[Party] = field(default_factory=list)
    sdp: bytes = b""


@dataclass
class Call:
    """``ends_at``: trio time at which a deleted call disappears, None while it is not deleted."""

    call_id: str
    created: int = 0
    parties: list[Party] = field(default_factory=list)
    ends_at: float | None = None
    recording: bool = False
    playing: set[str] = field(default_factory=set)
    blocked: set[str] = field(default_factory=set)

    def by_tag(self, tag: str) -> Party | None:
        """The party with this tag; None for an empty tag."""
        return next((party for party in self.parties if tag and party.tag == tag), None)

    def by_branch(self, branch: str) -> Party | None:
        """The party with this via-branch; None for an empty one."""
        return next((party for party in self.parties if branch and party.via_branch == branch), None)

    def alive(self) -> bool:
        """Whether two parties that are not deleted still have to do with each other."""
        return any(not party.deleted and not other.deleted for party in self.parties for other in party.hears)

    def select(self, request: Request, *, needed: bool) -> list[Party]:
        """The parties named by label, address or from-tag, in this order; all without a name, unless one is needed."""
        if request.get("label"):
            found = [party for party in self.parties if party.label == request["label"]]
            if not found:
                raise Refusal("No monologue matching the given label")
            return found
        if request.get("address"):
            return self._select_by_address(request["address"])
        if request.get("from-tag"):
            party = self.by_tag(request["from-tag"])
            if party is None:
                raise Refusal("From-tag given, but no such tag exists")
            return [party]
        if needed and "all" not in request.get("flags", ()):
            raise Refusal("No participant party specified")
        return list(self.parties)

    def _select_by_address(self, address: str) -> list[Party]:
        try:
            socket.inet_aton(address)
        except OSError:
            raise Refusal("Failed to parse network address") from None
        for party in self.parties:
            if any(media.endpoint is not None and media.endpoint[0] == address for media in party.medias):
                return [party]
        raise Refusal("Failed to match address to any tag")

    def new_party(self, tag: str, branch: str = "") -> Party:
        """Adds a party."""
        party = Party(tag=tag, via_branch=branch, created=self.created)
        self.parties.append(party)
        return party

    def parties_of_offer(self, request: Request) -> tuple[Party, Party]:
        """Author and receiver of an offer, made when new."""
        branch = request.get("via-branch", "")
        author = self.by_tag(request["from-tag"]) or self.new_party(request["from-tag"])
        to_tag = request.get("to-tag", "")
        receiver = self.by_tag(to_tag)
        if receiver is None:
            receiver = self.by_branch(branch)
            if receiver is None and not branch and author.hears and (not to_tag or not author.hears[0].tag):
                receiver = author.hears[0]
            if receiver is None or receiver is author or (to_tag and receiver.tag):
                receiver = self.new_party("", branch)
            receiver.tag = receiver.tag or to_tag
        self._converse(author, receiver)
        return author, receiver

    def parties_of_answer(self, request: Request) -> tuple[Party, Party]:
        """Author (the answerer) and receiver (the offerer) of an answer, made when new."""
        receiver = self.by_tag(request["from-tag"]) or self.new_party(request["from-tag"])
        to_tag = request["to-tag"]
        author = self.by_tag(to_tag)
        if author is None:
            author = self.by_branch(request.get("via-branch", ""))
            if author is None and receiver.hears and not receiver.hears[0].tag:
                author = receiver.hears[0]
            if author is None or author.tag:
                author = self.new_party(to_tag)
            author.tag = to_tag
        self._converse(receiver, author)
        return author, receiver

    def _converse(self, one: Party, other: Party) -> None:
        """The two hear each other; whoever else heard one of them does not any more, yet is still heard by it."""
        for party in self.parties:
            if party is not one and party is not other:
                for hearer in (one, other):
                    if hearer in party.hears:
                        party.hears.remove(hearer)
        for party, peer in ((one, other), (other, one)):
            if peer in party.hears:
                party.hears.remove(peer)
            party.hears.insert(0, peer)


class Ports:
    """Even ports of each interface, handed out in order and again only after a full round, as the daemon does."""

    def __init__(self, low: int, high: int) -> None:
        self.low = low + low % 2
        self.high = high
        self._used: dict[str, set[int]] = {}
        self._next: dict[str, Iterator[int]] = {}

    def used(self, interface: str) -> int:
        """Ports in use, RTP and RTCP counted one each."""
        return 2 * len(self._used.get(interface, ()))

    def total(self) -> int:
        """Ports of one interface."""
        return self.high - self.low + 1

    def take(self, interface: str) -> int:
        """A free even port. Raises Refusal when there is none."""
        used = self._used.setdefault(interface, set())
        order = self._next.setdefault(interface, itertools.cycle(range(self.low, self.high, 2)))
        if 2 * len(used) + 2 > self.total():
            raise Refusal("Ran out of ports")
        port = next(port for port in order if port not in used)
        used.add(port)
        return port

    def release(self, media: Media) -> None:
        """Everything a media section holds."""
        for interface, port in media.ports.items():
            self._used[interface].discard(port)
        media.ports.clear()


@dataclass
class Section:
    """One m= section of an SDP, lines without line ends."""

    kind: str
    port: int
    protocol: str
    formats: str
    address: str
    lines: list[str]

    def attribute(self, name: str) -> bool:
        """Whether ``a=name`` or ``a=name:...`` is there."""
        return any(_name(line) == name for line in self.lines)


def _name(line: str) -> str:
    return line[2:].split(":", 1)[0] if line.startswith("a=") else ""


def _connection(lines: list[str]) -> str:
    return next((line.split()[2] for line in lines if line.startswith("c=") and len(line.split()) == 3), "")


def parse(sdp: bytes) -> tuple[list[str], list[Section]]:
    """Session lines and m= sections. Raises Refusal with the daemon's words."""
    lines = sdp.decode("utf-8", "surrogateescape").replace("\r\n", "\n").rstrip("\n").split("\n")
    if not lines[0].startswith("v="):
        raise Refusal("Failed to parse SDP")
    starts = [number for number, line in enumerate(lines) if line.startswith("m=")]
    session = lines[: starts[0]] if starts else lines
    sections = []
    for start, end in itertools.pairwise([*starts, len(lines)]):
        words = lines[start][2:].split(" ", 3)
        if len(words) < 4 or not words[1].isdigit():
            raise Refusal("Failed to parse SDP")
        body = lines[start + 1 : end]
        address = _connection(body) or _connection(session)
        if not address:
            raise Refusal("Incomplete SDP specification")
        for line in session:
            if _name(line) in ("fingerprint", "setup", "ice-ufrag", *DIRECTIONS):
                body.append(line)
        sections.append(Section(words[0], int(words[1]), words[2], words[3], address, body))
    return session, sections


class Rewriter:
    """What a node needs to turn an author's SDP into the receiver's. ``addresses``: logical interface -> IP address."""

    def __init__(self, addresses: dict[str, str], ports: Ports, fingerprint: str) -> None:
        self.addresses = addresses
        self.ports = ports
        self.fingerprint = fingerprint

    def rewrite(self, request: Request, author: Party, receiver: Party, *, offer: bool) -> bytes:
        """The receiver's SDP; learns the author's endpoints, takes ports. Raises Refusal."""
        session, sections = parse(request["sdp"])
        author.sdp = request["sdp"]
        default = next(iter(self.addresses))
        if offer and len(request.get("direction", ())) == 2:
            author.interface, receiver.interface = (
                name if name in self.addresses else default for name in request["direction"]
            )
        author.interface = author.interface or default
        receiver.interface = receiver.interface or default
        address = self.addresses[receiver.interface]
        out = [self._session_line(line, request, address) for line in session if _name(line) not in _OWN_ATTRIBUTES]
        for index, section in enumerate(sections):
            for party in (author, receiver):
                if len(party.medias) <= index:
                    party.medias.append(Media(kind=section.kind))
            out += self._section(request, section, author, receiver, index, offer)
        return ("\r\n".join(out) + "\r\n").encode("utf-8", "surrogateescape")

    @staticmethod
    def _session_line(line: str, request: Request, address: str) -> str:
        if line.startswith("o=") and "origin" in request.get("replace", ()):
            return " ".join([*line.split(" ")[:5], address])
        if line.startswith("c=") and not line.endswith(" 0.0.0.0"):
            return f"c=IN IP4 {address}"
        return line

    def _section(
        self, request: Request, section: Section, author: Party, receiver: Party, index: int, offer: bool
    ) -> list[str]:
        source, sink = author.medias[index], receiver.medias[index]
        if section.port == 0:
            self.ports.release(source)
            self.ports.release(sink)
            return [f"m={section.kind} 0 {section.protocol} {section.formats}"]
        endpoint = (self._source_address(request, section), section.port)
        moved = source.endpoint is not None and source.endpoint != endpoint
        source.endpoint = endpoint
        source.protocol = section.protocol
        self._profiles(request, section, source, sink, offer)
        latched = "port-latching" in request.get("flags", ())
        if moved and not latched and receiver.interface in sink.ports:
            port = self.ports.take(receiver.interface)
            self.ports.release(Media(ports={receiver.interface: sink.ports[receiver.interface]}))
            sink.ports[receiver.interface] = port
        for media, party in ((sink, receiver), (source, author)):
            if party.interface not in media.ports:
                media.ports[party.interface] = self.ports.take(party.interface)
        only_muxed = sink.mux and (not offer or "require" in request.get("rtcp-mux", ()))
        return self._section_lines(section, sink, receiver, offer, only_muxed)

    @staticmethod
    def _source_address(request: Request, section: Section) -> str:
        received = request.get("received-from", ())
        if "SIP-source-address" in request.get("flags", ()) and len(received) == 2:
            return str(received[1])
        return section.address

    @staticmethod
    def _profiles(request: Request, section: Section, source: Media, sink: Media, offer: bool) -> None:
        source.ice = section.attribute("ice-ufrag")
        source.mux = section.attribute("rtcp-mux")
        source.dtls = section.attribute("fingerprint")
        source.sdes = section.attribute("crypto")
        if not offer:
            return
        sink.protocol = request.get("transport-protocol", section.protocol)
        ice = request.get("ICE", "default")
        sink.ice = ice in ("force", "optional") or (ice == "default" and source.ice)
        secure = "SAVP" in sink.protocol
        sink.dtls = secure and request.get("DTLS", "") not in ("off", "no", "disable")
        sink.sdes = secure and not {"off", "no", "disable"} & set(request.get("SDES", ()))
        mux = request.get("rtcp-mux", ())
        sink.mux = "offer" in mux or "require" in mux or (source.mux and "demux" not in mux)

    def _section_lines(
        self, section: Section, sink: Media, receiver: Party, offer: bool, only_muxed: bool
    ) -> list[str]:
        address = self.addresses[receiver.interface]
        port = sink.ports[receiver.interface] + (1 if only_muxed else 0)
        out = [f"m={section.kind} {port} {sink.protocol} {section.formats}"]
        for line in section.lines:
            if line.startswith("c="):
                zero = line.endswith(" 0.0.0.0") and not section.attribute("ice-ufrag")
                out.append(line if zero else f"c=IN IP4 {address}")
            elif _name(line) not in _OWN_ATTRIBUTES:
                out.append(line)
        if "RTP/" in sink.protocol:
            mapped = {line[9:].split(" ")[0] for line in section.lines if line.startswith("a=rtpmap:")}
            for payload in section.formats.split():
                if payload in _STATIC_CODECS and payload not in mapped:
                    out.append(f"a=rtpmap:{payload} {_STATIC_CODECS[payload]}")
        direction = next((name for name in map(_name, section.lines) if name in DIRECTIONS), "sendrecv")
        if section.address == "0.0.0.0" and direction == "sendrecv" and not section.attribute("ice-ufrag"):
            direction = "sendonly"
        out.append(f"a={direction}")
        if "RTP/" in sink.protocol:
            out.append(f"a=rtcp:{port if only_muxed else port + 1}")
            out += ["a=rtcp-mux"] if sink.mux else []
        if sink.sdes and (offer or not sink.dtls):
            out.append("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz")
        if sink.dtls:
            out += [f"a=setup:{'actpass' if offer else 'active'}", f"a=fingerprint:sha-256 {self.fingerprint}"]
        if sink.ice:
            out += ["a=ice-ufrag:fake", "a=ice-pwd:fakefakefakefakefakefake"]
            out.append(f"a=candidate:fake 1 UDP 2130706431 {address} {port} typ host")
        return out

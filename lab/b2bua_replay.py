"""Replays a recording of a real FreeSWITCH through the stand-in and compares what the two send.

Theory of operation. A recording is a list of messages with times, sources and destinations (tests/data/freeswitch).
What the peers sent is fed to `B2bua` at its recorded time; what the stand-in sends is paired, per leg and in order,
with what FreeSWITCH sent. Values either of them made up (tags, branches, Call-IDs, CSeq starts, UUIDs, nonces, o=
versions) are learned from each pair: the same recorded value must always meet the same one of ours, and numbers must
keep their distance. Everything else has to be equal: destination, start line, every header in its place, every line
of the body, and the time within `tolerance`.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from lab.b2bua_config import B2buaConfig
from lab.b2bua_core import B2bua
from lab.sip import Address, Message

HEADER = re.compile(
    r"^---- #(\d+) t=([\d.]+) (\S+) \(([\d.]+):(\d+)\) -> (\S+) \(([\d.]+):(\d+)\)(?: body=(\S+))?$", re.MULTILINE
)
MADE = {
    "Via": re.compile(r"branch=z9hG4bK([^;]+)"),
    "Route": re.compile(r"ftag=([^;>]+)"),
    "From": re.compile(r";tag=([^;]+)"),
    "To": re.compile(r";tag=([^;]+)"),
    "Call-ID": re.compile(r"^(.*)$"),
    "X-PGPX": re.compile(r"^(.*)$"),
    "Proxy-Authenticate": re.compile(r'nonce="([^"]+)"'),
    "Content-Type": re.compile(r"boundary=(\S+)"),
}
NUMBER = {"CSeq": re.compile(r"^(\d{9})\b"), "RAck": re.compile(r"^\d+ (\d{9}) ")}
LATE = 0.25  # seconds the stand-in may be slower than FreeSWITCH was, where the next message from a peer depends on it


class Difference(Exception):
    """The stand-in did not do what FreeSWITCH did; the text says where and what."""


@dataclass
class Recorded:
    """One message of a recording. `sent` means FreeSWITCH sent it."""

    number: int
    time: float
    sent: bool
    source: Address
    destination: Address
    head: str
    body: bytes

    @property
    def message(self) -> Message:
        """Parsed."""
        return Message.parse_untrusted(self.head.replace("\n", "\r\n").encode("utf-8") + b"\r\n\r\n" + self.body)


def load(path: Path) -> list[Recorded]:
    """Read a recording."""
    text = gzip.decompress(path.read_bytes()).decode("utf-8")
    pieces = HEADER.split(text)[1:]
    out = []
    for at in range(0, len(pieces), 10):
        number, time, name, host, port, _, to_host, to_port, kind, content = pieces[at : at + 10]
        head, _, body = content.strip("\n").partition("\n\n")
        data = body
        if body:
            data += "" if kind in ("crlf-nonl", "lf-nonl") else "\n"
            data = data if kind in ("lf", "lf-nonl") else data.replace("\n", "\r\n")
        source, destination = (host, int(port)), (to_host, int(to_port))
        out.append(Recorded(int(number), float(time), name == "FS", source, destination, head, data.encode("utf-8")))
    return out


@dataclass
class Replay:
    """See the module's text. `icmp` names addresses where nobody listens."""

    recording: list[Recorded]
    config: B2buaConfig
    icmp: Iterable[Address] = ()
    tolerance: float = 0.1
    seed: int = 7
    problems: list[str] = field(default_factory=list)
    pairs: int = 0

    def __post_init__(self) -> None:
        self.b2bua = B2bua(self.config, self.seed)
        self._ours: dict[str, str] = {}  # recorded value -> ours
        self._theirs: dict[str, str] = {}  # and back
        self._numbers: dict[str, dict[int, int]] = {}  # recorded Call-ID -> {recorded number: ours}
        self._versions: dict[tuple[str, str], tuple[int, int]] = {}
        self._waiting: dict[str, list[Recorded]] = {}
        for item in self.recording:
            if item.sent:
                self._waiting.setdefault(item.message.call_id, []).append(item)
        first: dict[str, bool] = {}
        for item in self.recording:
            first.setdefault(item.message.call_id, item.sent)
        self._inbound_ids = {call_id for call_id, sent in first.items() if not sent}
        self._now = 0.0

    def run(self) -> None:
        """Replay everything. Raises Difference."""
        for index, item in enumerate(self.recording):
            if item.sent:
                continue
            self._advance(item.time)
            limit = item.time + LATE
            while self._behind(index) and (when := self.b2bua.next_deadline()) is not None and when <= limit:
                self._advance(when)
            self.b2bua.receive(self._translate(item), item.source, self._now)
            self._collect()
        self._advance(self.recording[-1].time + self.tolerance)
        for left in self._waiting.values():
            self.problems += [f"not sent: #{item.number} t={item.time} {item.head.splitlines()[0]}" for item in left]
        if self.problems:
            raise Difference("\n".join(self.problems[:12]))

    def _behind(self, index: int) -> bool:
        number = self.recording[index].number
        return any(left and left[0].number < number for left in self._waiting.values())

    def _advance(self, when: float) -> None:
        while (deadline := self.b2bua.next_deadline()) is not None and deadline <= when:
            self._now = max(self._now, deadline)
            self.b2bua.tick(self._now)
            self._collect()
        self._now = max(self._now, when)
        self.b2bua.tick(self._now)
        self._collect()

    def _collect(self) -> None:
        sent = list(self.b2bua.output)
        self.b2bua.output.clear()
        for data, destination in sent:
            self._pair(Message.parse_untrusted(data), destination)
            if destination in self.icmp:
                self.b2bua.refused(destination, self._now)
        if self.b2bua.output:
            self._collect()

    def _pair(self, mine: Message, destination: Address) -> None:
        leg = self._theirs.get(mine.call_id, mine.call_id)
        if leg not in self._waiting and mine.call_id not in self._inbound_ids:
            known = set(self._ours) | self._inbound_ids
            leg = next((call_id for call_id in self._waiting if call_id not in known), leg)
        left = self._waiting.get(leg)
        if not left:
            self.problems.append(f"unexpected at t={self._now:.3f}: {mine.start_line} [{mine['CSeq']}]")
            return
        item = left.pop(0)
        self.pairs += 1
        theirs = item.message
        where = f"#{item.number} t={item.time} {theirs.start_line}"
        if abs(self._now - item.time) > self.tolerance:
            self.problems.append(f"{where}: ours came at t={self._now:.3f}")
        if destination != item.destination:
            self.problems.append(f"{where}: ours went to {destination}")
        self._compare(where, leg, theirs, mine)

    def _compare(self, where: str, leg: str, theirs: Message, mine: Message) -> None:
        if theirs.start_line != mine.start_line:
            self.problems.append(f"{where}: ours is {mine.start_line}")
            return
        names, own_names = [k for k, _ in theirs.headers], [k for k, _ in mine.headers]
        if names != own_names:
            self.problems.append(f"{where}: headers\n  FreeSWITCH {names}\n  ours       {own_names}")
            return
        for (name, value), (_, own) in zip(theirs.headers, mine.headers, strict=True):
            if name == "Content-Length":
                continue
            if self._learned(leg, name, value, own) != own:
                self.problems.append(f"{where}: {name}\n  FreeSWITCH {value}\n  ours       {own}")
        if int(mine.get("Content-Length") or 0) != len(mine.body):
            self.problems.append(f"{where}: Content-Length {mine.get('Content-Length')} for {len(mine.body)} bytes")
        self._compare_body(where, leg, theirs.body.decode("utf-8"), mine.body.decode("utf-8"))

    def _learned(self, leg: str, name: str, value: str, own: str) -> str:
        """The recorded value with what was made up replaced by ours."""
        if (pattern := NUMBER.get(name)) and (found := pattern.search(value)) and (ours := pattern.search(own)):
            known = self._numbers.setdefault(leg, {})
            number, mine = int(found[1]), int(ours[1])
            if number not in known and (not known or mine - number == next(iter(known.values())) - next(iter(known))):
                known[number] = mine
            return value[: found.start(1)] + str(known.get(number, number)) + value[found.end(1) :]
        if (pattern := MADE.get(name)) and (found := pattern.search(value)) and (ours := pattern.search(own)):
            known_value = self._ours.get(found[1])
            if known_value is None and found[1] != ours[1] and ours[1] not in self._theirs:
                self._ours[found[1]], self._theirs[ours[1]] = ours[1], found[1]
                known_value = ours[1]
            return value[: found.start(1)] + (known_value or found[1]) + value[found.end(1) :]
        return value

    def _compare_body(self, where: str, leg: str, theirs: str, mine: str) -> None:
        for recorded, ours in self._ours.items():
            if len(recorded) == 36:
                theirs = theirs.replace(recorded, ours)
        own_lines, lines = mine.split("\r\n"), theirs.split("\r\n")
        for at, (line, own) in enumerate(zip(lines, own_lines, strict=False)):
            if line != own and line.startswith("o=") and own.startswith("o="):
                lines[at] = self._version(leg, line, own)
        if lines != own_lines:
            shown = [f"  {'  ' if a == b else '! '}{a!s:60} | {b}" for a, b in zip_longest(lines, own_lines)]
            self.problems.append("\n".join([f"{where}: body (FreeSWITCH | ours)", *shown]))

    def _version(self, leg: str, line: str, own: str) -> str:
        parts, mine = line.split(" "), own.split(" ")
        if len(parts) != 6 or len(mine) != 6 or len(parts[2]) < 12:
            return line
        base, own_base = self._versions.setdefault((leg, parts[0] + parts[1]), (int(parts[2]), int(mine[2])))
        parts[2] = str(int(parts[2]) - base + own_base)
        return " ".join(parts)

    def _translate(self, item: Recorded) -> bytes:
        """A peer's message as it would have been in our call."""
        message = item.message
        leg = message.call_id
        for name in ("CSeq", "RAck"):
            if found := NUMBER[name].search(message.get(name)):
                number = self._numbers.get(leg, {}).get(int(found[1])) if message.status else None
                if number is not None:
                    value = message[name]
                    message.set(name, value[: found.start(1)] + str(number) + value[found.end(1) :])
        head = message.encode()[: len(message.encode()) - len(message.body)].decode("utf-8")
        head = re.sub(r"[0-9A-Za-z-]{8,}", lambda found: self._token(found[0]), head)
        return head.encode("utf-8") + message.body

    def _token(self, token: str) -> str:
        if token.startswith("z9hG4bK"):
            return "z9hG4bK" + self._ours.get(token[7:], token[7:])
        return self._ours.get(token, token)


def zip_longest(left: list[str], right: list[str]) -> Iterable[tuple[str, str]]:
    """Pairs, the shorter list filled up with a dash."""
    width = max(len(left), len(right))
    return zip([*left, *["-"] * (width - len(left))], [*right, *["-"] * (width - len(right))], strict=True)

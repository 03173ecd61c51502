"""Call flows as text: what parties send, what the edge must send, compared with a readable diff.

    await play(world, '''
        caller -> edge    INVITE sip:1000@198.51.100.1
            Max-Forwards: 5
        edge -> caller    100 Trying
        edge -> fs        INVITE sip:b2bua-1000@10.0.0.3
            Max-Forwards: 4
            Record-Route: <sip:10.0.0.1:5080;r2=on;lr=on;ftag={tag};t=*>
        fs -> edge        180 Ringing
        edge -> caller    180 Ringing
        ... 4 s
        fs -> edge        INVITE sip:1000@10.0.0.1:5080  [B]
    ''')

A line is a message or a time: ``... N s`` lets N seconds pass. ``X -> edge`` is sent by a party: ``METHOD uri``
(inside a dialog the uri may be left out) or ``CODE reason (METHOD)``, the answer to the last request the party got,
or to the last of that method. ``edge -> X`` must be the next thing the edge sent; uri, reason and method may
be left out. ``edge.lan`` names the listener. ``[B]`` is the call, by a name of the ladder's (default A); ``x3`` repeats
a line.

Lines indented below a message are about its headers. Sent: ``Name: value`` replaces, ``+Name: value`` adds, ``-Name``
removes, ``sdp: alice`` puts a body from `SDPS`, or ``sdp: fs A``: what FreeSWITCH prints of the last SDP it got in call
A. Expected: the values of that name, the first for the first line and so on; ``-Name``: there is none; ``sdp:
host:port``, ``sdp: alice`` (byte for byte) or ``sdp: -``. In anything expected ``*`` matches anything, and ``{name}``
what it matched before, or anything the first time; in anything sent ``{name}`` is that.

Every party's messages must all be accounted for, in the order the edge sent them.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import trio

from lab.sip import Message
from proxy.media.table import addresses
from tests.media.ladder import alice, bob, carol
from tests.world import Packet, World, settle

SDPS: dict[str, bytes] = {
    "alice": alice(),
    "bob": bob(),
    "carol": carol(),
    "alice-hold": alice("sendonly", 2),
    "bob-held": bob("recvonly", 2),
    "garbage": b"this is no session description\r\n",
}

_MESSAGE = re.compile(r"(\S+)\s*->\s*(\S+)\s+(.*)")
_TIME = re.compile(r"\.\.\. *([\d.]+) s")
_TAIL = re.compile(r"\s+(?:\[(\w+)\]|x(\d+))\s*$")
_RESPONSE = re.compile(r"(\d{3})(?: (?!\()(.*?))?(?: \((\w+)\))?")


@dataclass
class Step:
    """One line with what is indented below it."""

    text: str
    source: str = ""
    to: str = ""
    what: str = ""
    call: str = "A"
    times: int = 1
    seconds: float | None = None
    about: list[str] = field(default_factory=list)

    @property
    def sent(self) -> bool:
        """Whether a party sends it."""
        return not self.source.startswith("edge")


def steps(text: str) -> list[Step]:
    """The lines of a ladder. Raises ValueError for one that is none."""
    found: list[Step] = []
    margin: int | None = None
    for line in text.splitlines():
        stripped = line.strip()
        if not stripped or stripped.startswith("--"):
            continue
        indent = len(line) - len(line.lstrip())
        margin = indent if margin is None else margin
        if indent > margin:
            found[-1].about.append(stripped)
        elif (time := _TIME.fullmatch(stripped)) is not None:
            found.append(Step(stripped, seconds=float(time[1])))
        elif (message := _MESSAGE.fullmatch(stripped)) is not None:
            step = Step(stripped, message[1], message[2], message[3].strip())
            while (tail := _TAIL.search(step.what)) is not None:
                step.what = step.what[: tail.start()]
                step.call, step.times = tail[1] or step.call, int(tail[2] or step.times)
            found.append(step)
        else:
            raise ValueError(f"not a line of a ladder: {stripped!r}")
    return found


class Ladder:
    """One flow being played; `names` are the calls by name, `known` the placeholders, both kept between texts; `sdps`:
    bodies by name."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.names: dict[str, str] = {}
        self.known: dict[str, str] = {}
        self.done: list[str] = []  # lines that went as they should
        self.pending: list[Packet] = []
        self.sdps = dict(SDPS)

    async def play(self, text: str) -> None:
        """Plays a text to its end; what the edge sent beyond it is an error."""
        await settle()  # a test may have injected something by itself
        self.pending += self.world.take()
        block: list[Step] = []
        for step in steps(text):
            if step.sent or step.seconds is not None:
                self._compare(block)
                block = []
                await self._act(step)
            else:
                block += [step] * step.times
        self._compare(block)

    async def _act(self, step: Step) -> None:
        self.done.append("  " + step.text)
        if step.seconds is not None:
            await trio.sleep(step.seconds)
        else:
            message = self._message(step)
            party = self.world.parties[step.source]
            _, _, listener = step.to.partition(".")
            for _ in range(step.times):
                party.send(message, listener)
        await settle()
        self.pending += self.world.take()

    # -- sending --------------------------------------------------------------------------------------------------

    def _message(self, step: Step) -> Message:
        party = self.world.parties[step.source]
        call_id = self.names.setdefault(step.call, f"{step.call}-{len(self.names)}@test")
        sdp = b""
        for line in step.about:
            if line.startswith("sdp:"):
                sdp = self._sdp(line[4:].split())
        what = self._filled(step.what)
        response = _RESPONSE.fullmatch(what)
        if response is not None:
            message = party.response(call_id, int(response[1]), response[2] or "", response[3] or "", sdp)
        else:
            method, _, uri = what.partition(" ")
            message = party.request(call_id, method, uri.strip(), sdp)
        for line in step.about:
            name, _, value = line.partition(":")
            if line.startswith("-"):
                message.remove(line[1:])
            elif line.startswith("+"):
                message.add(name[1:], self._filled(value.strip()))
            elif name != "sdp":
                message.set(name, self._filled(value.strip()))
        return message

    def _sdp(self, words: list[str]) -> bytes:
        if len(words) == 2:
            party = self.world.parties[words[0]]
            return party.reprint(party.call(self.names[words[1]]).sdp)
        return self.sdps[words[0]]

    def _filled(self, text: str) -> str:
        return re.sub(r"\{(\w+)\}", lambda found: self.known[found[1]], text)

    # -- expecting ------------------------------------------------------------------------------------------------

    def _compare(self, block: list[Step]) -> None:
        packets, self.pending = self.pending, []
        problems: list[str] = []
        wanted = [self._line(step) for step in block]
        found = []
        for index, packet in enumerate(packets):
            step = block[index] if index < len(block) else None
            problem = "unexpected" if step is None else self._problem(step, packet)
            found.append(wanted[index] if not problem else self._shown(packet))
            if step is not None and problem and problem != "other":
                problems.append(f"{wanted[index]}: {problem}")
                found[-1] = wanted[index] + "   <-- " + problem
        if found == wanted:
            self.done += ["  " + line for line in wanted]
            return
        diff = [line for line in difflib.ndiff(wanted, found) if not line.startswith("?")]
        shown = "\n".join([*self.done, *diff])
        details = "\n".join(p.data.decode("utf-8", "replace") for p in packets[:3])
        raise AssertionError(f"the flow differs (- expected, + sent):\n{shown}\n\n{details}")

    @staticmethod
    def _line(step: Step) -> str:
        return f"{step.source} -> {step.to}  {step.what}" + (f"  [{step.call}]" if step.call != "A" else "")

    def _shown(self, packet: Packet) -> str:
        call = next((name for name, call_id in self.names.items() if call_id == packet.message.call_id), "?")
        return f"edge.{packet.via} -> {packet.to}  {packet.summary}" + (f"  [{call}]" if call != "A" else "")

    def _problem(self, step: Step, packet: Packet) -> str:
        """ "" when the packet is what the step says, "other" when it is another message, else what differs."""
        message = packet.message
        call_id = self.names.setdefault(step.call, message.call_id)
        _, _, listener = step.source.partition(".")
        if step.to != packet.to or listener not in ("", packet.via) or call_id != message.call_id:
            return "other"
        response = _RESPONSE.fullmatch(step.what)
        if response is not None:
            code, reason, method = response.groups()
            same = message.status == int(code) and method in (None, message.cseq[1])
            if not same or (reason and not self._matches(reason, message.reason)):
                return "other"
        else:
            method, _, uri = step.what.partition(" ")
            if message.method != method or (uri and not self._matches(uri.strip(), message.uri)):
                return "other"
        return next(self._header_problems(step, message), "")

    def _header_problems(self, step: Step, message: Message) -> Iterator[str]:
        seen: dict[str, int] = {}
        for line in step.about:
            if line.startswith("-"):
                if line[1:] in message:
                    yield f"{line[1:]} is there: {message.all(line[1:])}"
                continue
            name, _, wanted = line.partition(":")
            wanted = wanted.strip()
            if name == "sdp":
                if not self._same_sdp(wanted, message.body):
                    yield f"sdp is not {wanted}: {message.body!r}"
                continue
            values = message.values(name) if name in ("Via", "Route", "Record-Route", "Contact") else message.all(name)
            index = seen.get(name, 0)
            seen[name] = index + 1
            if index >= len(values) or not self._matches(wanted, values[index]):
                yield f"{name} is {values[index] if index < len(values) else 'missing'}, not {wanted}"

    def _same_sdp(self, wanted: str, body: bytes) -> bool:
        if wanted == "-":
            return not body
        if wanted in self.sdps:
            return body == self.sdps[wanted]
        first = next(iter(addresses(body)), None)
        return first is not None and self._matches(wanted, f"{first[0].decode()}:{first[1].decode()}")

    def _matches(self, pattern: str, text: str) -> bool:
        """Whether a text is what a pattern says; fills placeholders in when it is."""
        parts = re.split(r"(\*|\{\w+\})", pattern)
        regex = ""
        for part in parts:
            if part == "*":
                regex += ".*"
            elif re.fullmatch(r"\{\w+\}", part):
                name = part[1:-1]
                known = self.known.get(name)
                regex += f"(?P<{name}>.+?)" if known is None and f"<{name}>" not in regex else (
                    re.escape(known) if known is not None else f"(?P={name})"
                )  # fmt: skip
            else:
                regex += re.escape(part)
        match = re.fullmatch(regex, text, re.DOTALL)
        if match is None:
            return False
        self.known.update(match.groupdict())
        return True


async def play(world: World, text: str) -> Ladder:
    """Plays one text in a world; the ladder it returns plays more of the same flow."""
    ladder = Ladder(world)
    await ladder.play(text)
    return ladder

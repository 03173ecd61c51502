"""Recorded calls: the edge does what Kamailio did in its place, message by message (tests/data/edge).

How it works: what the phones and FreeSWITCH sent is put before the edge at its recorded time; each message Kamailio
sent must have a counterpart of the edge, to the same address, equal line by line. Values each makes up differ: Via
branches are learned from the pairs and put into what the peers send afterwards, the token in our Record-Route is
learned likewise and taken off before comparing. Not compared: the 100 and the 200 to CANCEL (Kamailio's own words), the
order of header lines in the ACK of a failure and in a CANCEL (made by the proxy itself), and the alias we add for the
lab's private addresses.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
import trio

from lab.b2bua_replay import Recorded, load
from lab.sip import Address, Message
from tests.world import Packet, World, open_world

DATA = Path(__file__).parent.parent / "data" / "edge"
EDGE = "10.99.0.2"
CONFIG = """
[[listen]]
name = "public"
address = "10.99.0.2"
[[listen]]
name = "lan"
address = "10.99.0.2"
port = 5080
side = "lan"
[[freeswitch]]
name = "fs"
address = "10.99.0.3"
[[users]]
name = "1000"
uri = "sip:1000@10.99.0.9"
"""

CALLS = sorted(path.name.removesuffix(".txt.gz") for path in DATA.glob("*.txt.gz"))


class Replay:
    """One recording against one world."""

    def __init__(self, world: World, recording: list[Recorded]) -> None:
        self.world = world
        self.recording = recording
        self.names: dict[Address, str] = {}
        for item in recording:
            if item.source[0] != EDGE and item.source not in self.names:
                self.names[item.source] = f"p{len(self.names)}"
                world.party(self.names[item.source], item.source)
        self.branches: dict[str, str] = {}  # Kamailio's -> ours
        self.tokens: dict[str, str] = {}  # ftag -> token
        self.sent: list[Packet] = []
        self.compared = 0

    async def run(self) -> None:
        """Plays and compares everything."""
        start = trio.current_time()
        for item in self.recording:
            await trio.sleep(max(0.0, start + item.time - trio.current_time()))
            if item.source[0] == EDGE:
                await self._expect(item)
            else:
                text = item.head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + item.body
                for theirs, ours in self.branches.items():
                    text = text.replace(theirs.encode(), ours.encode())
                for ftag, token in self.tokens.items():
                    text = text.replace(f";ftag={ftag}>".encode(), f";ftag={ftag};t={token}>".encode())
                self.world.inject(
                    self.names[item.source], text, "lan" if item.destination == (EDGE, 5080) else "public"
                )

    async def _expect(self, item: Recorded) -> None:
        wanted = item.message
        if wanted.status == 100:
            return
        with trio.move_on_after(0.3):
            while True:
                self.sent += self.world.take()
                for packet in self.sent:
                    if self._same_kind(packet, item, wanted):
                        self.sent.remove(packet)
                        self._compare(packet.message, wanted, item.number)
                        return
                await trio.sleep(0.01)
        got = [f"{packet.to}: {packet.summary}" for packet in self.sent]
        raise AssertionError(f"#{item.number} {wanted.start_line!r} was not sent; there are {got}")

    def _same_kind(self, packet: Packet, item: Recorded, wanted: Message) -> bool:
        message = packet.message
        return (
            packet.to == self.names.get(item.destination)
            and message.call_id == wanted.call_id
            and (message.status, message.method, message["CSeq"]) == (wanted.status, wanted.method, wanted["CSeq"])
        )

    def _compare(self, ours: Message, wanted: Message, number: int) -> None:
        if not wanted.status:
            self.branches[wanted.via.branch] = ours.via.branch
        for found in re.finditer(r";ftag=([^;>]+);t=([^>;]+)>", str(ours)):
            self.tokens[found[1]] = found[2]
        self.compared += 1
        if wanted.status and wanted.cseq[1] == "CANCEL":
            return  # made by the proxy itself, Kamailio says "canceling"
        mine, theirs = self._lines(ours), self._lines(wanted)
        if ours.method in ("CANCEL", "ACK") and len(wanted.values("Via")) == 1:
            names = ("Via", "From", "To", "Call-ID", "CSeq", "Route", "Reason")
            mine, theirs = (sorted(line for line in lines if line.startswith(names)) for lines in (mine, theirs))
        assert ours.start_line == wanted.start_line
        assert mine == theirs, f"#{number} {wanted.start_line}"
        assert ours.body == wanted.body

    def _lines(self, message: Message) -> list[str]:
        lines = []
        for name, value in message.headers:
            value = re.sub(r";alias=[\d.]+~\d+~1", "", re.sub(r"(;ftag=[^;>]+);t=[^>;]+>", r"\1>", value))
            if name == "Via":
                for kamailios, branch in self.branches.items():
                    value = value.replace(branch, kamailios)
                head, *params = value.split(";")
                value = ";".join([head, *sorted(params)])
            lines.append(f"{name}: {value}")
        return lines


@pytest.mark.parametrize("name", CALLS)
async def test_the_edge_does_what_kamailio_did(autojump_clock: object, name: str) -> None:
    recording = load(DATA / f"{name}.txt.gz")
    async with open_world(CONFIG) as world:
        replay = Replay(world, recording)
        await replay.run()
        await trio.sleep(0.3)
        replay.sent += world.take()
        left = Counter(packet.summary for packet in replay.sent if packet.message.status != 100)
        assert not left, f"sent, but not by Kamailio: {left}"
        assert replay.compared >= 6
        await trio.sleep(70)  # some recordings end before the last ACK
        assert list(world.leftovers()) == []

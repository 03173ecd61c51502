"""What one message costs: byte codes executed and memory blocks kept, per kind of message of a plain relayed call.

Times say nothing on a shared machine, counts do: they are the same everywhere for one version of Python. A budget is
about a quarter above what was measured when it was written, so it fails when somebody puts work on the hot path, not
when somebody adds a line. Raise it knowingly.

Byte codes are counted by tracing every one of them (`f_trace_opcodes`), so only what runs as Python counts: the test
insists on the sources. Blocks are what `sys.getallocatedblocks()` has more after the message than before it, with the
collector off: what the message leaves behind, which an ended call has to give back.
"""

from __future__ import annotations

import gc
import sys
from collections import defaultdict
from collections.abc import Callable, Coroutine, Generator
from pathlib import Path
from statistics import median
from types import FrameType
from typing import Any

import pytest
import trio

import proxy.stack
import proxy.stateless
from proxy.config import load
from proxy.edge import Edge
from proxy.flow import Address

CALLER: Address = ("127.0.0.8", 5060)
CALLEE: Address = ("127.0.0.9", 5060)

CONFIG = """\
[proxy]
instance = "cost"
control = "{folder}/control.sock"
route = "{folder}/route.py"
log_level = "warning"
media = false

[[listen]]
name = "public"
side = "public"
address = "127.0.0.2"
port = 5060
"""
STATEFUL = """\
async def route(call):
    await call.relay("sip:service@127.0.0.9:5060", media=False)
"""
STATELESS = """\
def route(call):
    call.forward("sip:service@127.0.0.9:5060")
"""
SDP = (
    b"v=0\r\no=a 1 1 IN IP4 127.0.0.8\r\ns=-\r\nc=IN IP4 127.0.0.8\r\nt=0 0\r\n"
    b"m=audio 6000 RTP/AVP 8 0\r\na=rtpmap:8 PCMA/8000\r\n"
)
PARTIES = (
    b'From: "Caller" <sip:caller@127.0.0.8:5060>;tag=a%(n)d-1\r\n'
    b"To: <sip:service@127.0.0.2:5060>%(to)b\r\nCall-ID: %(n)d@127.0.0.8\r\n"
)
REQUEST = (
    b"%(method)b %(uri)b SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.8:5060;branch=z9hG4bK-%(n)d-%(method)b%(rport)b\r\n"
    b"%(route)bMax-Forwards: 70\r\n" + PARTIES + b"CSeq: %(cseq)d %(method)b\r\n"
    b"Contact: <sip:caller@127.0.0.8:5060>\r\n%(body)b"
)
RESPONSE = (
    b"SIP/2.0 %(status)b\r\n%(copied)b"
    + PARTIES
    + (b"CSeq: %(cseq)d %(method)b\r\nContact: <sip:callee@127.0.0.9:5060>\r\n%(body)b")
)
EMPTY = b"Content-Length: 0\r\n\r\n"
WITH_SDP = b"Content-Type: application/sdp\r\nContent-Length: %d\r\n\r\n%b" % (len(SDP), SDP)

Costs = dict[str, float]


class Counter:
    """What the functions given to `count` cost: byte codes of whatever runs in them when `tracing`, else blocks."""

    def __init__(self, tracing: bool) -> None:
        self.tracing = tracing
        self.counts: defaultdict[str, int] = defaultdict(int)
        self.kind = ""

    def trace(self, frame: FrameType, event: str, arg: Any) -> Callable[..., Any]:
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        if event == "opcode":
            self.counts[self.kind] += 1
        return self.trace

    def count(self, kind: str, function: Callable[[], Any]) -> None:
        self.kind = kind
        self.counts[kind] += 0
        before = sys.gettrace()
        blocks = sys.getallocatedblocks()
        if self.tracing:
            sys.settrace(self.trace)
        try:
            function()
        finally:
            sys.settrace(before)
            if not self.tracing:
                self.counts[kind] += sys.getallocatedblocks() - blocks


class Stepped:
    """A coroutine that is counted while it runs, and not while it waits."""

    def __init__(self, story: Coroutine[Any, Any, None], counter: Counter) -> None:
        self.story = story
        self.counter = counter

    def __await__(self) -> Generator[Any, Any, None]:
        answer: Any = None
        while True:
            wanted: list[Any] = [None]
            try:
                self.counter.count(
                    self.counter.kind, lambda answer=answer, wanted=wanted: wanted.append(self.story.send(answer))
                )
            except StopIteration:
                return
            answer = yield wanted.pop()


class Relayed:
    """An edge whose only socket is a list, and calls through it. `rport`: what the caller's Via has at its end."""

    def __init__(self, folder: Path, script: str, counter: Counter, rport: bytes = b";rport") -> None:
        (folder / "route.py").write_text(script)
        (folder / "proxy.toml").write_text(CONFIG.format(folder=folder))
        self.edge = Edge(load(folder / "proxy.toml"))
        self.counter = counter
        self.rport = rport
        self.sent: list[bytes] = []
        self.listener = self.edge.listeners[0]
        self.listener.sender = lambda data, addr: self.sent.append(data)

    def received(self, data: bytes, source: Address) -> None:
        if self.edge.stateless is not None:
            self.edge.stateless.received(data, self.listener.flow(source))
        else:
            self.edge.stack.received(data, self.listener.flow(source), trio.current_time())

    def last(self, start: bytes) -> bytes:
        return next(data for data in reversed(self.sent) if data.startswith(start))

    async def story(self, kind: str) -> None:
        """The steps of a story, if there is one; they are counted where it is stepped."""
        if self.edge.stateless is None:
            self.counter.kind = kind
            for _ in range(3):
                await trio.lowlevel.checkpoint()

    async def call(self, number: int) -> None:
        """One call, each message counted under its kind."""

        def feed(kind: str, template: bytes, source: Address, **values: Any) -> None:
            given = {"n": number, "to": b";tag=b%d-1" % number, "route": b"", "cseq": 1, "body": EMPTY, **values}
            data = template % {key.encode(): value for key, value in (given | {"rport": self.rport}).items()}
            before = len(self.sent)
            self.counter.count(kind, lambda: self.received(data, source))
            assert self.edge.stateless is None or len(self.sent) == before + 1

        us = b"sip:service@127.0.0.2:5060"
        feed("INVITE", REQUEST, CALLER, method=b"INVITE", uri=us, to=b"", body=WITH_SDP)
        await self.story("its story")
        invite = self.last(b"INVITE")
        copied = headers(invite, b"Via", b"Record-Route")
        feed("180", RESPONSE, CALLEE, status=b"180 Ringing", method=b"INVITE", copied=copied)
        feed("200", RESPONSE, CALLEE, status=b"200 OK", method=b"INVITE", copied=copied, body=WITH_SDP)
        await self.story("end of story")
        assert self.last(b"SIP/2.0 200")
        route = headers(invite, b"Record-Route").replace(b"Record-Route", b"Route")
        callee = b"sip:callee@127.0.0.9:5060"
        feed("ACK", REQUEST, CALLER, method=b"ACK", uri=callee, route=route)
        assert self.last(b"ACK")
        feed("BYE", REQUEST, CALLER, method=b"BYE", uri=callee, route=route, cseq=2)
        copied = headers(self.last(b"BYE"), b"Via")
        feed("200 of BYE", RESPONSE, CALLEE, status=b"200 OK", method=b"BYE", cseq=2, copied=copied)
        assert b"BYE" in self.last(b"SIP/2.0 200")
        self.sent.clear()


def headers(data: bytes, *names: bytes) -> bytes:
    """The lines of these headers, in order."""
    return b"".join(line + b"\r\n" for line in data.split(b"\r\n\r\n")[0].split(b"\r\n") if line.startswith(names))


async def costs(relayed: Relayed, monkeypatch: pytest.MonkeyPatch, calls: int, warm: int = 3) -> Costs:
    """Median cost by kind of message over `calls` calls; `warm` before them fill caches."""
    counter, seen = relayed.counter, defaultdict[str, list[int]](list)
    start = relayed.edge.driver.start

    async def counted(function: Callable[..., Any], *args: Any) -> None:
        await Stepped(function(*args), counter)

    monkeypatch.setattr(relayed.edge.driver, "start", lambda *story: start(counted, *story))
    gc.collect()
    gc.disable()
    try:
        async with trio.open_nursery() as nursery:
            relayed.edge.nursery = nursery
            for number in range(warm + calls):
                counter.counts.clear()
                await relayed.call(number)
                if number >= warm:
                    for kind, count in counter.counts.items():
                        seen[kind].append(count)
            nursery.cancel_scope.cancel()
    finally:
        gc.enable()
    return {kind: median(counts) for kind, counts in seen.items()}


KINDS = {
    "stateful": (STATEFUL, b";rport"),
    "stateless": (STATELESS, b""),
    "stateless, rport": (STATELESS, b";rport"),
}
"""Ways a call is relayed: the routing script, and what the caller's Via ends with."""

MESSAGES = ("INVITE", "180", "200", "ACK", "BYE", "200 of BYE")
STORY = ("its story", "end of story")

BYTE_CODES: dict[tuple[int, int], dict[str, tuple[int, ...]]] = {
    (3, 11): {
        "stateful": (2424, 1429, 1797, 2153, 2799, 1486, 1669, 178),
        "stateless": (823, 293, 293, 774, 774, 293),
        "stateless, rport": (882, 292, 292, 833, 833, 292),
    },
    (3, 12): {
        "stateful": (2241, 1307, 1648, 1958, 2569, 1366, 1541, 164),
        "stateless": (737, 254, 254, 687, 687, 254),
        "stateless, rport": (790, 252, 252, 740, 740, 252),
    },
    (3, 13): {
        "stateful": (2064, 1248, 1513, 1884, 2452, 1304, 1484, 150),
        "stateless": (730, 253, 253, 687, 687, 253),
        "stateless, rport": (782, 249, 249, 739, 739, 249),
    },
}
"""Measured byte codes by version of Python and way, in the order of MESSAGES and then STORY. Versions differ in what
one line of Python is compiled to."""

BLOCKS: dict[str, tuple[int, ...]] = {
    "stateful": (50, 5, 19, 4, 44, 20, 50, -5),
    "stateless": (3, 2, 2, 2, 2, 2),
    "stateless, rport": (3, 2, 2, 2, 2, 2),
}
"""Measured blocks, the dearest of the versions, in the same order. One or two of each are this test's: what was sent
is kept until the call is over."""

MARGIN = 1.25
BLOCK_MARGIN = 3
"""What a budget has above the measurement; blocks have at least this many, for small numbers."""


def measured(table: dict[str, tuple[int, ...]], which: str) -> Costs:
    """Measured costs of one way by kind of message."""
    return dict(zip(MESSAGES + STORY, map(float, table[which]), strict=False))


def byte_code_budget(version: tuple[int, int], which: str) -> Costs:
    """What each kind of message may execute. A version without measurements of its own gets those of the dearest."""
    tables = [BYTE_CODES[version]] if version in BYTE_CODES else list(BYTE_CODES.values())
    known = [measured(table, which) for table in tables]
    return {kind: max(costs[kind] for costs in known) * MARGIN for kind in known[0]}


def block_budget(which: str) -> Costs:
    """What each kind of message may keep."""
    return {
        kind: blocks + max(abs(blocks) * (MARGIN - 1), BLOCK_MARGIN) for kind, blocks in measured(BLOCKS, which).items()
    }


def assert_within(found: Costs, budget: Costs, what: str) -> None:
    assert found.keys() == budget.keys()
    over = {kind: (count, budget[kind]) for kind, count in found.items() if count > budget[kind]}
    assert not over, f"{what} and allowed, by message: {over}"


def test_the_sources_are_counted() -> None:
    """Byte codes of a compiled module cannot be seen: its costs would all be nothing."""
    for module in (proxy.stack, proxy.stateless):
        assert module.__file__ is not None
        assert module.__file__.endswith(".py"), f"{module.__file__}: run the tests on the sources"


@pytest.mark.parametrize("which", KINDS)
async def test_byte_codes_by_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str) -> None:
    script, rport = KINDS[which]
    found = await costs(Relayed(tmp_path, script, Counter(tracing=True), rport), monkeypatch, 3)
    assert_within(found, byte_code_budget(sys.version_info[:2], which), "byte codes executed")
    assert all(found.values()), "something of every kind of message was counted"


@pytest.mark.parametrize("which", KINDS)
async def test_blocks_kept_by_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str) -> None:
    script, rport = KINDS[which]
    found = await costs(Relayed(tmp_path, script, Counter(tracing=False), rport), monkeypatch, 15)
    assert_within(found, block_budget(which), "blocks kept")


@pytest.mark.parametrize("which", KINDS)
async def test_ended_calls_give_everything_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: object, which: str
) -> None:
    script, rport = KINDS[which]
    relayed = Relayed(tmp_path, script, Counter(tracing=False), rport)
    readings = []
    async with trio.open_nursery() as nursery:
        relayed.edge.nursery = nursery
        for batch in range(3):
            for number in range(CALLS):
                await relayed.call(batch * CALLS + number)
            for _ in range(3):
                await trio.sleep(AT_REST)
                relayed.edge.core.tick(trio.current_time())
            gc.collect()
            readings.append(sys.getallocatedblocks())
        nursery.cancel_scope.cancel()
    assert readings[2] - readings[1] < CALLS, f"blocks alive at rest after each {CALLS} calls: {readings}"


CALLS = 50
AT_REST = 100.0
"""Seconds after which nothing of a call is kept any more."""


def test_an_unknown_version_has_the_dearest_budget() -> None:
    for which in KINDS:
        strange = byte_code_budget((3, 99), which)
        assert strange.keys() == byte_code_budget((3, 11), which).keys()
        assert all(
            strange[kind] >= byte_code_budget(version, which)[kind] for version in BYTE_CODES for kind in strange
        )

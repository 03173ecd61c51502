"""A world around one `Edge` without sockets: parties at addresses, virtual time, every datagram kept.

    async with open_world(config("...")) as world:
        world.inject("caller", b"INVITE ...")     # what a party sends reaches the stack in the same call
        await settle()                            # stories and rtpengine get their turn
        for packet in world.take(): ...           # what the edge has sent since

Theory of operation. The edge is the real one, built from a TOML text; only its listeners' senders are lists and its
ticker runs without sockets. Under `autojump_clock` time passes in
`trio.sleep` alone. A `Party` is a SIP end played by
the test: it keeps one `Call` per Call-ID it has seen and builds requests and responses with the lab's own SIP, which
shares nothing with the edge. The edge's OPTIONS probes are answered and left out of the record, unless a party has
`answers_probes = False`, which swallows them. `tests/ladder.py` plays whole call flows written as text.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio
from trio.testing import wait_all_tasks_blocked

from lab.sip import Address, Ids, Message, SipError, Via
from lab.sip_dialog import Dialog
from proxy.config import Config, load
from proxy.edge import Edge
from proxy.flow import Listener
from proxy.state import State
from proxy.store import Store
from tests.fake_rtpengine import FakeNode, fake_node
from tests.media.ladder import FreeSwitch

PUBLIC = ("198.51.100.1", 5060)
LAN = ("10.0.0.1", 5080)

LISTEN = """
[[listen]]
name = "public"
address = "198.51.100.1"

[[listen]]
name = "lan"
address = "10.0.0.1"
port = 5080
side = "lan"
"""

TALK = f"""
[proxy]
instance = "edge1"
domains = ["example.test"]
secret = "0123456789abcdef"
{LISTEN}
[[freeswitch]]
name = "fs"
address = "10.0.0.3"

[[users]]
name = "1000"
uri = "sip:1000@203.0.113.9:5060"

[carrier]
uri = "sip:203.0.113.77:5060"
"""
"""The talk's deployment: public and LAN socket, one FreeSWITCH, one static user, a carrier."""

DIRECT = TALK.replace('[[freeswitch]]\nname = "fs"\naddress = "10.0.0.3"\n', "")
"""The same without FreeSWITCH."""

PARTIES: dict[str, Address] = {
    "caller": ("203.0.113.8", 5060),
    "callee": ("203.0.113.9", 5060),
    "carrier": ("203.0.113.77", 5060),
    "fs": ("10.0.0.3", 5060),
    "stranger": ("192.0.2.66", 5060),
}


def config(text: str = TALK, media: str = "", **changed: str) -> Config:
    """A configuration from its text; `media`: addresses of ng sockets. `changed`: settings of [timers]."""
    if media:
        for number, address in enumerate(media.split(), 1):
            text += f'\n[[rtpengine]]\nname = "node{number}"\naddress = "{address}"\n'
        text += "" if "[media]" in text else "[media]\n"
        text = text.replace("[media]\n", '[media]\npublic = "pub"\nlan = "lan"\n')
    if changed:
        text += "\n[timers]\n" + "".join(f"{name} = {value}\n" for name, value in changed.items())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "edge.toml")
        path.write_text(text)
        return load(path)


async def settle() -> None:
    """Lets every story run until it waits for something that takes time; loopback sockets are drained."""
    await wait_all_tasks_blocked()


@dataclass
class Packet:
    """One datagram the edge sent: `to` the party's name (or ip:port), `via` the listener's."""

    at: float
    data: bytes
    to: str
    via: str
    message: Message

    @property
    def summary(self) -> str:
        """`INVITE sip:...` or `200 OK (INVITE)`."""
        if self.message.status:
            return f"{self.message.status} {self.message.reason} ({self.message.cseq[1]})"
        return f"{self.message.method} {self.message.uri}"


@dataclass
class Call:
    """One party's view of one Call-ID."""

    call_id: str
    tag: str
    dialog: Dialog | None = None
    cseq: int = 0
    sent: dict[str, Message] = field(default_factory=dict)  # last request by method
    got: dict[str, Message] = field(default_factory=dict)
    replies: dict[str, Message] = field(default_factory=dict)  # last response received by method
    sdp: bytes = b""  # last SDP received


class Party:
    """A SIP end at an address. `contact` is what it writes into Contact and Via when that is not its address."""

    def __init__(self, world: World, name: str, addr: Address, contact: Address | None = None) -> None:
        self.world = world
        self.name = name
        self.addr = addr
        self.shown = contact or addr
        self.rport = False
        self.answers_probes = True
        self.probe_code = 200
        self.calls: dict[str, Call] = {}
        self.reprint = FreeSwitch()

    @property
    def hostport(self) -> str:
        """Its address as it writes it."""
        host, port = self.shown
        host = f"[{host}]" if ":" in host else host
        return host if port == 5060 else f"{host}:{port}"

    @property
    def contact(self) -> str:
        """Its Contact value."""
        return f"<sip:{self.name}@{self.hostport}>"

    def via(self, branch: str = "") -> str:
        """A Via value of its own."""
        rport = ";rport" if self.rport else ""
        return f"SIP/2.0/UDP {self.hostport}{rport};branch={branch or self.world.ids.branch()}"

    def call(self, call_id: str) -> Call:
        """Its view of a call, made when it has none."""
        if call_id not in self.calls:
            self.calls[call_id] = Call(call_id, self.world.ids.tag(), cseq=100 * len(self.calls))
        return self.calls[call_id]

    # -- what it sends --------------------------------------------------------------------------------------------

    def request(self, call_id: str, method: str, uri: str = "", sdp: bytes = b"") -> Message:
        """The next request in a call: a new dialog's without a confirmed one, else inside it."""
        call = self.call(call_id)
        if method == "CANCEL":
            return self._follow(call, method, call.sent["INVITE"]["To"])
        if method == "ACK":
            final = call.replies["INVITE"]
            if final.status >= 300:
                return self._follow(call, method, final["To"])
        if call.dialog is None:
            call.cseq += 1
            message = Message(method=method, uri=uri)
            message.headers = [
                ("Via", self.via()), ("Max-Forwards", "70"), ("To", f"<{uri}>"), ("Call-ID", call_id),
                ("From", f"<sip:{self.name}@{self.hostport}>;tag={call.tag}"), ("CSeq", f"{call.cseq} {method}"),
                ("Contact", self.contact),
            ]  # fmt: skip
        else:
            number = call.sent["INVITE"].cseq[0] if method == "ACK" else 0
            message = call.dialog.request(method, cseq=number)
            message.uri = uri or message.uri
            message.headers.insert(0, ("Via", self.via()))
            if method == "PRACK":
                reply = call.replies["INVITE"]
                message.add("RAck", f"{reply['RSeq']} {reply['CSeq']}")
        if sdp:
            message.add("Content-Type", "application/sdp")
            message.body = sdp
        return message

    @staticmethod
    def _follow(call: Call, method: str, to: str) -> Message:
        """CANCEL, or the ACK of a failed INVITE: same top Via and Request-URI (RFC 3261 9.1, 17.1.1.3)."""
        invite = call.sent["INVITE"]
        message = Message(method=method, uri=invite.uri)
        message.headers = [
            ("Via", invite.values("Via")[0]), *(("Route", route) for route in invite.values("Route")),
            ("Max-Forwards", "70"), ("From", invite["From"]), ("To", to), ("Call-ID", invite.call_id),
            ("CSeq", f"{invite.cseq[0]} {method}"),
        ]  # fmt: skip
        return message

    def response(self, call_id: str, code: int, reason: str = "", method: str = "", sdp: bytes = b"") -> Message:
        """A response to the last request of that method (default: the last one but ACKs) received in a call."""
        call = self.call(call_id)
        request = call.got[method] if method else [one for one in call.got.values() if one.method != "ACK"][-1]
        message = request.response(code, reason, tag="" if code == 100 else call.tag)
        if request.method in ("INVITE", "UPDATE", "SUBSCRIBE") and 100 < code < 300:
            message.add("Contact", self.contact)
        if sdp:
            message.add("Content-Type", "application/sdp")
            message.body = sdp
        return message

    def send(self, message: Message, listener: str = "") -> bytes:
        """Sends a message and remembers what the dialog needs."""
        call = self.call(message.call_id)
        if message.status:
            request = call.got[message.cseq[1]]
            if call.dialog is None and 200 <= message.status < 300 and message.cseq[1] in ("INVITE", "SUBSCRIBE"):
                call.dialog = Dialog.from_request(request, message.to.tag, self.contact)
        else:
            call.sent[message.method] = message
            call.tag = call.tag if call.dialog else message.from_.tag
        data = message.encode()
        self.world.inject(self.name, data, listener)
        return data

    # -- what it receives -----------------------------------------------------------------------------------------

    def receive(self, message: Message) -> None:
        """Keeps what later messages are built from."""
        call = self.call(message.call_id)
        if message.body and "sdp" in message.get("Content-Type"):
            call.sdp = message.body
        if not message.status:
            call.got.pop(message.method, None)
            call.got[message.method] = message
            if call.dialog is not None and message.method in ("INVITE", "UPDATE"):
                call.dialog.refresh(message)
            return
        method = message.cseq[1]
        call.replies[method] = message
        invite = call.sent.get("INVITE")
        if method == "SUBSCRIBE" and message.status < 300 and call.dialog is None:
            call.dialog = Dialog.from_response(call.sent[method], message)
        if method == "INVITE" and invite is not None and message.to.tag and message.status < 300:
            if call.dialog is None or not invite.to.tag:
                number = max(call.dialog.local_cseq, invite.cseq[0]) if call.dialog else invite.cseq[0]
                call.dialog = Dialog.from_response(invite, message)
                call.dialog.local_cseq = number
            else:
                call.dialog.refresh(message)


async def _at_once(function: Any, *args: Any) -> Any:
    """In place of a worker thread, which virtual time does not wait for."""
    return function(*args)


class World:
    """See the module. `wire` is everything sent so far; `take` what is new since the last `take`."""

    def __init__(
        self, config: Config, nursery: trio.Nursery, node: FakeNode | None = None, state: Path | None = None
    ) -> None:
        self.config = config
        self.state = state
        self.edge = self._edge()
        self.nursery = nursery
        self.node = node
        self.nodes: dict[str, FakeNode] = {} if node is None else {"node1": node}
        self.dead: set[str] = set()  # names of nodes that a test has killed
        self.ids = Ids(1)
        self.wire: list[Packet] = []
        self.raw: list[tuple[str, bytes]] = []  # sent, but the lab's SIP cannot read it
        self.probes = 0
        self.faults = 0  # routing scripts and stories that raised, as far as a test expects them
        self._taken = 0
        self._by_addr: dict[Address, Party] = {}
        self.parties: dict[str, Party] = {}
        for name, addr in PARTIES.items():
            self.party(name, addr)

    def _edge(self) -> Edge:
        state = None
        if self.state is not None:
            store = Store(self.state, in_thread=_at_once)
            store.open()
            state = State(store, b"0123456789abcdef")
        made = Edge(self.config, epoch=lambda: 1_700_000_000.0 + trio.current_time(), state=state)
        for listener in made.listeners:
            listener.sender = self._sender(listener)
        return made

    async def start(self, *, sampler: bool = False) -> None:
        """Runs what the edge runs, sockets excepted."""
        self.life: trio.CancelScope = await self.nursery.start(self._live, self.edge, sampler)
        await settle()

    async def _live(
        self, edge: Edge, sampler: bool, task_status: trio.TaskStatus[trio.CancelScope] = trio.TASK_STATUS_IGNORED
    ) -> None:
        async with trio.open_nursery() as nursery:
            edge.nursery = nursery
            edge.keeper.restore()
            await nursery.start(edge.keeper.store.run)
            for client in edge.clients.values():
                await nursery.start(client.run)
            if edge.mover is not None:
                await nursery.start(edge.mover.run)
                edge.mover.resume()
            nursery.start_soon(edge.keeper.verify)
            if sampler:
                await nursery.start(edge.sampler.run)
            nursery.start_soon(edge.ticker, [])
            task_status.started(nursery.cancel_scope)

    async def restart(self, *, down: float = 1.0, sampler: bool = False) -> None:
        """`kill -9`, and a start `down` seconds later: what was not written is gone, and so is whatever was under way.
        Needs a store."""
        store = self.edge.keeper.store
        assert isinstance(store, Store)
        store.abandon()
        self.life.cancel()
        for listener in self.edge.listeners:
            listener.sender = None
        await trio.sleep(down)
        self.edge = self._edge()
        await self.start(sampler=sampler)

    def party(self, name: str, addr: Address, contact: Address | None = None) -> Party:
        """A party by name; one of that name or address before it is replaced."""
        old = self.parties.get(name)
        if old is not None:
            del self._by_addr[old.addr]
        made = self.parties[name] = self._by_addr[addr] = Party(self, name, addr, contact)
        return made

    def listener(self, name: str) -> Listener:
        """A listener by name."""
        return next(one for one in self.edge.listeners if one.name == name)

    def home(self, party: Party) -> Listener:
        """The listener a party sends to: the LAN one from a FreeSWITCH, else the first."""
        lan = self.edge.dispatcher.is_freeswitch(party.addr[0])
        return next((one for one in self.edge.listeners if (one.side == "lan") == lan), self.edge.listeners[0])

    # -- the network ----------------------------------------------------------------------------------------------

    def inject(self, party: str, data: bytes, listener: str = "") -> None:
        """One datagram from a party reaches the edge."""
        sender = self.parties[party]
        to = self.listener(listener) if listener else self.home(sender)
        received, _ = self.edge._receivers(to)
        received(data, sender.addr)

    def unreachable(self, packet: Packet) -> None:
        """The network answers a packet with ICMP port unreachable."""
        _, unreachable = self.edge._receivers(self.listener(packet.via))
        unreachable(packet.data[:520], self.parties[packet.to].addr)

    def _sender(self, listener: Listener) -> Any:
        def send(data: bytes, addr: Address) -> None:
            party = self._by_addr.get(addr)
            name = party.name if party else f"{addr[0]}:{addr[1]}"
            try:
                message = Message.parse_untrusted(data)
            except SipError:
                self.raw.append((name, data))
                return
            if message.method == "OPTIONS" and message["From"].startswith("<sip:probe@"):
                self.probes += 1
                if party is not None and party.answers_probes:
                    self.edge.nursery.start_soon(self._answer_probe, party, listener.name, message)  # type: ignore[union-attr]
                return
            self.wire.append(Packet(trio.current_time(), data, name, listener.name, message))
            if party is not None:
                with suppress(SipError):  # somebody's damaged Contact: nothing of this party's will follow it
                    party.receive(message)

        return send

    async def _answer_probe(self, party: Party, listener: str, probe: Message) -> None:
        self.inject(party.name, probe.response(party.probe_code, tag="probe").encode(), listener)

    def take(self) -> list[Packet]:
        """What the edge has sent since the last call."""
        new = self.wire[self._taken :]
        self._taken = len(self.wire)
        return new

    def last(self, party: str, what: str) -> Message:
        """The last message a party got whose summary starts with ``what``; a copy, to change and send."""
        found = next(p for p in reversed(self.wire) if p.to == party and p.summary.startswith(what))
        return Message.parse_untrusted(found.data)

    # -- afterwards -----------------------------------------------------------------------------------------------

    @property
    def stats(self) -> dict[str, int]:
        """The edge's counters."""
        return self.edge.stack.stats

    def leftovers(self) -> Iterator[str]:
        """What is still alive of any call or transaction."""
        edge = self.edge
        yield from (f"server transaction {tx}" for tx in edge.stack.server.values())
        probes = ("OPTIONS",)
        yield from (f"client transaction {tx}" for tx in edge.stack.client.values() if tx.request.method not in probes)
        yield from (f"dialog {dialog.call_id!r}" for dialog in edge.core.dialogs)
        yield from (f"session {session.id}" for session in edge._sessions())
        for name, node in self.nodes.items():
            yield from (f"call {call_id} on {name}" for call_id in node.calls)

    async def over(self, seconds: float = 70.0) -> None:
        """Everything has ended: after the longest transaction timer nothing is left, nothing more was sent."""
        await settle()
        unseen = [f"{p.to}: {p.summary}" for p in self.take()]
        assert not unseen, f"sent, and nobody looked: {unseen}"
        await trio.sleep(seconds)
        unseen = [f"{p.to}: {p.summary}" for p in self.take()]
        assert not unseen, f"sent after the end: {unseen}"
        assert list(self.leftovers()) == []

    def check(self) -> None:
        """Nothing went wrong inside."""
        found = {name: self.stats[name] for name in ("internal_errors", "route_errors")}
        assert sum(found.values()) == self.faults, found
        assert not self.raw, f"the edge sent what is no SIP: {self.raw[0]}"


@asynccontextmanager
async def open_world(
    made: Config | str = TALK,
    *,
    node: bool = False,
    nodes: int = 0,
    sampler: bool = False,
    state: Path | None = None,
    **timers: str,
) -> AsyncGenerator[World, None]:
    """A running world, checked at its end. `node`: with media on a fake rtpengine; `nodes`: on so many, node1 at
    198.51.100.2 and 10.0.0.2, node2 at 198.51.100.3 and 10.0.1.3, ... `state`: a file for its store."""
    raised: Exception | None = None
    async with AsyncExitStack() as stack:
        fakes = {}
        for number in range(1, max(nodes, int(node)) + 1):
            at = {"pub": f"198.51.100.{number + 1}", "lan": f"10.0.{number - 1}.{number + 1}"}
            fakes[f"node{number}"] = await stack.enter_async_context(fake_node(interfaces=at))
        nursery = await stack.enter_async_context(trio.open_nursery())
        addresses = " ".join(fake.address for fake in fakes.values())
        settings = made if isinstance(made, Config) else config(made, addresses, **timers)
        world = World(settings, nursery, fakes.get("node1"), state)
        world.nodes = fakes
        await world.start(sampler=sampler)
        try:
            yield world
            world.check()
        except Exception as error:
            raised = error  # as it is, not in the nursery's group
        nursery.cancel_scope.cancel()
    if raised is not None:
        raise raised


def branch_of(message: Message) -> str:
    """The top Via's branch."""
    return Via.parse(message.values("Via")[0]).branch


def folded(data: bytes) -> bytes:
    """LF to CRLF in a text of a test."""
    return re.sub(rb"\r?\n", b"\r\n", data)

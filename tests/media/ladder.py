"""A stage for ladder tests of the anchor: phones and FreeSWITCH are played by the test, the node is real or a fake.

How it works. `Stage` has an anchor on one or more nodes and records every ng command that leaves. A `Dialog` is one SIP
dialog: `request`, `respond` and `ack` build real messages, hand them to the anchor and return the SDP that goes out.
`freeswitch` reprints an SDP the way FreeSWITCH 1.10.12 does it (recorded): rtpmaps move up, a=sendrecv goes, the
version of o= becomes a random 63-bit number and then counts up, for every leg on its own.
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import trio

from ng_protocol import Answer, Client, Delete, Offer
from proxy.media.anchor import Anchor, Leg, Refusal, Session
from proxy.media.policy import Policy
from proxy.media.pool import Pool
from proxy.media.session import without_origin
from proxy.media.table import MediaTable, addresses
from proxy.sip.message import Request, Response
from proxy.sip.parser import parse_untrusted
from proxy.sip.sdp import extract_sdp
from tests.fake_rtpengine import FakeNode

BROWSER = (
    b"v=0\r\no=- 4611731400430051336 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n"
    b"a=extmap-allow-mixed\r\na=msid-semantic: WMS stream\r\nm=audio 54400 UDP/TLS/RTP/SAVPF 111 0\r\n"
    b"c=IN IP4 198.51.100.11\r\na=rtcp:9 IN IP4 0.0.0.0\r\na=candidate:1 1 udp 2113937151 198.51.100.11 54400 typ host"
    b"\r\n"
    b"a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=ice-options:trickle\r\na=fingerprint:sha-256 "
    b"00:25:4A:6F:94:B9:DE:03:28:4D:72:97:BC:E1:06:2B:50:75:9A:BF:E4:09:2E:53:78:9D:C2:E7:0C:31:56:7B\r\n"
    b"a=setup:actpass\r\na=mid:0\r\na=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\na=sendrecv\r\n"
    b"a=msid:stream track\r\na=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\na=rtcp-fb:111 transport-cc\r\n"
    b"a=fmtp:111 minptime=10;useinbandfec=1\r\na=rtpmap:0 PCMU/8000\r\na=ssrc:1 cname:x\r\n"
)
"""What a browser writes (shortened)."""


def phone(address: str, port: int, direction: str = "sendrecv", version: int = 1, *, name: str = "phone") -> bytes:
    """What a phone writes."""
    return (
        f"v=0\r\no={name} 77 {version} IN IP4 {address}\r\ns=phone\r\nc=IN IP4 {address}\r\nt=0 0\r\n"
        f"m=audio {port} RTP/AVP 0 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\n"
        f"a={direction}\r\n"
    ).encode()


def alice(direction: str = "sendrecv", version: int = 1, port: int = 30000) -> bytes:
    return phone("127.0.0.8", port, direction, version, name="alice")


def bob(direction: str = "sendrecv", version: int = 1, port: int = 40000) -> bytes:
    return phone("127.0.0.9", port, direction, version, name="bob")


def carol(direction: str = "sendrecv", version: int = 1) -> bytes:
    return phone("127.0.0.7", 50000, direction, version, name="carol")


def own_media(port: int, direction: str = "sendrecv", version: int = 1795407545) -> bytes:
    """FreeSWITCH's own media (trace q8-after)."""
    line = "" if direction == "sendrecv" else f"a={direction}\r\n"
    return (
        f"v=0\r\no=FreeSWITCH 1795407544 {version} IN IP4 127.0.0.3\r\ns=FreeSWITCH\r\nc=IN IP4 127.0.0.3\r\nt=0 0\r\n"
        f"m=audio {port} RTP/AVP 0 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\n{line}"
        f"a=ptime:20\r\n"
    ).encode()


def crypto(sdp: bytes) -> bytes:
    """The same phone with SDES."""
    return (
        sdp.replace(b"RTP/AVP", b"RTP/SAVP")
        + b"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz\r\n"
    )


class FreeSwitch:
    """Reprints SDP (see the module); one per test."""

    def __init__(self) -> None:
        self._rng = random.Random(7)
        self._seen: dict[bytes, tuple[int, bytes]] = {}

    def __call__(self, sdp: bytes | None, direction: str | None = None) -> bytes:
        assert sdp is not None
        lines = sdp.split(b"\r\n")[:-1]
        origin = next(line for line in lines if line.startswith(b"o=")).split(b" ")
        body = b"\r\n".join(line for line in lines if not line.startswith(b"o="))
        version, last = self._seen.get(origin[1], (self._rng.getrandbits(63), b""))
        if body != last and last:
            version += 1
        self._seen[origin[1]] = (version, body)
        head = [line for line in lines if line[:2] in (b"v=", b"s=", b"c=", b"t=", b"m=")]
        maps = [line for line in lines if line.startswith((b"a=rtpmap", b"a=fmtp"))]
        ways = (b"a=sendrecv", b"a=sendonly", b"a=recvonly", b"a=inactive")
        rest = [line for line in lines if line.startswith(b"a=") and line not in maps and line not in ways]
        way = [line for line in lines if line in ways[1:]]
        if direction is not None:
            way = [] if direction == "sendrecv" else [b"a=" + direction.encode()]
        new_origin = b" ".join([b"o=-", origin[1], b"%d" % version, *origin[3:]])
        return b"\r\n".join([head[0], new_origin, *head[1:], *maps, *way, *rest, b""])


def where(sdp: bytes | None) -> tuple[str, int]:
    """Address and port of the first m-line."""
    assert sdp is not None
    host, port = addresses(sdp)[0]
    return host.decode(), int(port)


def way(sdp: bytes | None) -> str:
    assert sdp is not None
    for name in ("sendonly", "recvonly", "inactive"):
        if f"a={name}\r\n".encode() in sdp:
            return name
    return "sendrecv"


def origin(sdp: bytes | None) -> tuple[bytes, int]:
    """Session id and version of o=."""
    assert sdp is not None
    line = next(line for line in sdp.split(b"\r\n") if line.startswith(b"o="))
    return line.split(b" ")[1], int(line.split(b" ")[2])


class Recorder(Client):
    """A client that remembers its commands; `log` is shared by all nodes of a stage."""

    log: list[tuple[str, Any]]

    async def request(self, command: Any, timeout: float | None = None) -> Any:
        self.log.append((self.name, command))
        return await super().request(command, timeout)

    def submit(self, command: Any, on_done: Any = None, timeout: float | None = None) -> None:
        self.log.append((self.name, command))
        super().submit(command, on_done, timeout)


class Own:
    """The relay's part: jobs run in the nursery; re-INVITEs are kept and answered by `answer`."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.reinvites: list[tuple[Leg, bool, bytes]] = []
        self.hangups: list[tuple[Session, bytes]] = []
        self.answer: Callable[[Leg, bool, bytes], Awaitable[Response]] | None = None
        self.jobs: list[trio.Event] = []

    def spawn(self, job: Callable[..., Awaitable[None]], *args: Any) -> None:
        done = trio.Event()
        self.jobs.append(done)
        self.nursery.start_soon(self._run, done, job, *args)

    async def _run(self, done: trio.Event, job: Callable[..., Awaitable[None]], *args: Any) -> None:
        await job(*args)
        done.set()

    async def idle(self) -> None:
        """Waits until every job so far has ended."""
        for job in list(self.jobs):
            await job.wait()

    async def reinvite(self, leg: Leg, to_phone: bool, sdp: bytes) -> Response:
        self.reinvites.append((leg, to_phone, sdp))
        assert self.answer is not None, "nobody answers re-INVITEs of our own in this test"
        return await self.answer(leg, to_phone, sdp)

    async def hangup(self, session: Session, reason: bytes) -> None:
        self.hangups.append((session, reason))

    def answered_with(self, dialog: Dialog, sdp: bytes) -> None:
        """From now on re-INVITEs of ours get this SDP in a 200."""

        async def answer(leg: Leg, to_phone: bool, offered: bytes) -> Response:
            response = dialog.message(b"SIP/2.0 200 OK", b"9 INVITE", sdp, to_phone)
            assert isinstance(response, Response)
            return response

        self.answer = answer


class Transaction:
    """One request in a dialog. `out`: the SDP that goes on, None without one."""

    def __init__(self, message: Request, from_phone: bool, branch: bytes | None) -> None:
        self.message = message
        self.from_phone = from_phone
        self.branch = branch
        self.out: bytes | None = None
        self.refusal: Refusal | None = None


class Dialog:
    """A SIP dialog on the stage. `calling`: the phone sent the initial INVITE."""

    def __init__(self, stage: Stage, name: str, *, calling: bool) -> None:
        self.stage = stage
        self.call_id = f"cid-{name}".encode()
        self.calling = calling
        self.leg: Leg
        self.cseq = {True: 1, False: 123157725}
        self.confirmed = False

    def message(self, first: bytes, cseq: bytes, body: bytes | None, from_phone: bool, *more: bytes) -> Any:
        caller = b"<sip:a@x>;tag=caller"
        callee = b"<sip:b@x>;tag=callee" if self.confirmed else b"<sip:b@x>"
        ours = from_phone is self.calling
        lines = [
            first, b"Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKx", b"From: " + (caller if ours else callee),
            b"To: " + (callee if ours else caller), b"Call-ID: " + self.call_id, b"CSeq: " + cseq, *more,
        ]  # fmt: skip
        if body is not None:
            lines += [b"Content-Type: application/sdp"]
        lines += [b"Content-Length: %d" % len(body or b""), b"", b""]
        return parse_untrusted(b"\r\n".join(lines) + (body or b""))

    async def request(
        self, sdp: bytes | None, *, from_phone: bool, method: str = "INVITE", branch: bytes | None = None,
        join: bool = False, headers: tuple[bytes, ...] = (), cseq: int = 0,
    ) -> Transaction:  # fmt: skip
        """Sends a request; `join`: a first INVITE from FreeSWITCH that must find its session. `cseq`: 0 counts on."""
        if not cseq:
            self.cseq[from_phone] += 1
            cseq = self.cseq[from_phone]
        name = method.encode()
        number = b"%d %b" % (cseq, name)
        request = self.message(b"%b sip:b@x SIP/2.0" % name, number, sdp, from_phone, *headers)
        if join:
            leg = self.stage.anchor.second_leg(request, 0.0)
            assert leg is not None, "the second pass was not recognised"
            self.leg = leg
        transaction = Transaction(request, from_phone, branch)
        sent = request.copy()
        assert self.stage.anchor.needs(self.leg, request) == (method == "INVITE" or sdp is not None)
        transaction.refusal = await self.stage.anchor.request(self.leg, sent, from_phone, branch)
        if transaction.refusal is None:
            transaction.out = self.shown(extract_sdp(sent) if sent.body else None, not from_phone)
        return transaction

    def shown(self, sdp: bytes | None, to_phone: bool) -> bytes | None:
        """Remembers what an endpoint of this dialog was shown."""
        if sdp is not None:
            self.stage.shown.setdefault((self.call_id, "phone" if to_phone else "freeswitch"), []).append(sdp)
        return sdp

    async def respond(
        self, to: Transaction, code: int, sdp: bytes | None = None, *, reliable: bool = False
    ) -> bytes | None:
        """The other side's response; returns the SDP that goes on. A refusal is left in `to.refusal`."""
        cseq = b"%d %b" % (to.message.cseq, to.message.method.encode())
        more = (b"Require: 100rel", b"RSeq: 1") if reliable else ()
        response = self.message(b"SIP/2.0 %d Reason" % code, cseq, sdp, to.from_phone, *more)
        needed = self.stage.anchor.needs(self.leg, response, to.message)
        before = len(self.stage.log)
        to.refusal = await self.stage.anchor.response(self.leg, to.message, response, not to.from_phone, to.branch)
        assert needed or len(self.stage.log) == before, "needs() said no to a response that asks the node"
        if code < 300 and code >= 200 and to.message.method == "INVITE":
            self.confirmed = True
        out = extract_sdp(response) if response.body else None
        assert needed or out is None or out == sdp
        return self.shown(out, to.from_phone) if to.refusal is None else None

    async def ack(self, to: Transaction, sdp: bytes | None = None) -> bytes | None:
        request = self.message(b"ACK sip:b@x SIP/2.0", b"%d ACK" % to.message.cseq, sdp, to.from_phone)
        self.stage.anchor.confirmed(self.leg)
        needed = self.stage.anchor.needs(self.leg, request)
        refusal = await self.stage.anchor.request(self.leg, request, to.from_phone)
        assert refusal is None
        assert needed or sdp is None
        return self.shown(extract_sdp(request) if request.body else None, not to.from_phone)

    def bye(self) -> None:
        self.stage.anchor.leg_ended(self.leg)


class Stage:
    """See the module. `log`: (node, command) in the order they left.

    Every stage has its own seed: the real daemon of a test run must not see an ng call-id twice.
    """

    seeds = count(5)

    def __init__(self, nodes: dict[str, str], nursery: trio.Nursery, **policy: Any) -> None:
        self.log: list[tuple[str, Any]] = []
        self.shown: dict[tuple[bytes, str], list[bytes]] = {}
        self.clients: dict[str, Client] = {}
        for name, address in nodes.items():
            client = Recorder(address, name=name)
            client.log = self.log
            self.clients[name] = client
        self.table = MediaTable()
        self.pool = Pool(self.clients)
        self.policy = Policy(**{"public": "pub", "lan": "lan", **policy})
        self.anchor = Anchor(
            self.pool,
            self.policy,
            self.table,
            instance="edge1",
            epoch=lambda: 1000.0,
            rng=random.Random(next(self.seeds)),
        )
        self.fs = FreeSwitch()
        self.own = Own(nursery)
        self.anchor.own = self.own

    def dialog(self, name: str, **options: Any) -> Dialog:
        """A new call from a phone (or to one, with from_freeswitch=True), or a direct call with direct=True."""
        calling = not options.get("from_freeswitch", False)
        dialog = Dialog(self, name, calling=calling)
        dialog.leg = self.anchor.new_leg(
            dialog.call_id, b"caller", options.pop("side", "public"), ("127.0.0.8", 5060),
            direct=options.pop("direct", False), caller=b"alice@x", callee=b"1000@x", **options,
        )  # fmt: skip
        return dialog

    async def second(self, name: str, sdp: bytes | None, **options: Any) -> tuple[Dialog, Transaction]:
        """FreeSWITCH's INVITE of the second pass."""
        dialog = Dialog(self, name, calling=False)
        return dialog, await dialog.request(sdp, from_phone=False, join=True, **options)

    def commands(self, since: int = 0) -> list[str]:
        """`offer A->B`-like words of the commands since then, by tag."""
        return [self.word(command) for _, command in self.log[since:]]

    @staticmethod
    def word(command: Any) -> str:
        if isinstance(command, Offer):
            way = "" if not command.direction else " [" + ",".join(command.direction) + "]"
            return f"offer {command.from_tag}>{command.to_tag}{way}"
        if isinstance(command, Answer):
            return f"answer {command.from_tag}<{command.to_tag}"
        assert isinstance(command, Delete)
        return "delete" if command.from_tag is None else f"delete {command.from_tag} {command.via_branch}"

    def check_shown(self) -> None:
        """Whatever happened: only rtpengine's addresses, plain RTP for FreeSWITCH, and one rising o= per endpoint."""
        ids: dict[bytes, tuple[bytes, str]] = {}
        for endpoint, sdps in self.shown.items():
            last, body = 0, b""
            for sdp in sdps:
                assert where(sdp)[0] in ("127.0.0.1", "127.0.0.2"), (endpoint, sdp)
                if endpoint[1] == "phone":
                    assert where(sdp)[0] == "127.0.0.1", (endpoint, sdp)
                else:
                    assert b"RTP/AVP" in sdp and b"SAVP" not in sdp and b"a=crypto" not in sdp, (endpoint, sdp)
                number, version = origin(sdp)
                assert ids.setdefault(number, endpoint) == endpoint, "an o= that two endpoints share"
                bare = without_origin(sdp)
                assert version == last + (bare != body), (endpoint, last, sdp)
                last, body = version, bare

    def clean(self) -> None:
        """Nothing is left of any call."""
        assert list(self.anchor.sessions) == []
        assert self.table.address_count == 0


class Call:
    """An established call through FreeSWITCH, made by `establish`."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.a: Dialog
        self.b: Dialog
        self.to_freeswitch: dict[str, bytes] = {}
        self.to_alice = b""
        self.to_bob = b""

    @property
    def session(self) -> Session:
        return self.a.leg.session

    async def reinvite(
        self, who: str, offer: bytes, answer: bytes, *, fs_offer: str | None = None, fs_answer: str | None = None
    ) -> tuple[bytes, bytes]:
        """A re-INVITE of "a" or "b" through FreeSWITCH to the other; returns what the other and what `who` were shown.

        `fs_offer`, `fs_answer`: directions that FreeSWITCH gets wrong.
        """
        near, far = (self.a, self.b) if who == "a" else (self.b, self.a)
        fs = self.stage.fs
        first = await near.request(offer, from_phone=True)
        assert first.refusal is None, first.refusal
        second = await far.request(fs(first.out, fs_offer), from_phone=False)
        assert second.refusal is None, second.refusal
        back = await far.respond(second, 200, answer)
        await far.ack(second)
        shown = await near.respond(first, 200, fs(back, fs_answer))
        await near.ack(first)
        assert second.out is not None and shown is not None
        return second.out, shown

    async def hang_up(self) -> None:
        self.a.bye()
        self.b.bye()
        await settle()


async def establish(stage: Stage, offer: bytes | None = None, answer: bytes | None = None, **options: Any) -> Call:
    """A plain call, trace q1-const."""
    call = Call(stage)
    call.a = stage.dialog("a", **options)
    first = await call.a.request(offer or alice(), from_phone=True)
    assert first.refusal is None and first.out is not None, first.refusal
    call.b, second = await stage.second("b", stage.fs(first.out))
    await call.b.respond(second, 180)
    back = await call.b.respond(second, 200, answer or bob())
    await call.b.ack(second)
    await call.a.respond(first, 180)
    shown = await call.a.respond(first, 200, stage.fs(back))
    await call.a.ack(first)
    assert second.out is not None and back is not None and shown is not None
    call.to_bob, call.to_alice = second.out, shown
    call.to_freeswitch = {"a": first.out, "b": back}
    return call


async def settle() -> None:
    """Lets submitted commands reach the node."""
    for _ in range(20):
        await trio.lowlevel.checkpoint()


@asynccontextmanager
async def on(*nodes: FakeNode, **policy: Any) -> AsyncGenerator[Stage, None]:
    """A stage on these nodes, named node1, node2, ..."""
    async with trio.open_nursery() as nursery:
        stage = Stage({f"node{number}": node.address for number, node in enumerate(nodes, 1)}, nursery, **policy)
        for client in stage.clients.values():
            await nursery.start(client.run)
        yield stage
        nursery.cancel_scope.cancel()

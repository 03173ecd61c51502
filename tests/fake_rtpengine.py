"""An rtpengine node inside the test process: a real UDP socket on loopback, a modelled daemon behind it.

    async with fake_node() as node:
        async with open_client(node.address) as client: ...
        assert node.count("offer") == 1 and node.requests[0]["call-id"] == "c1"

Theory of operation. One trio task drains the socket; every command is executed at once and answered at once, so tests
under ``autojump_clock`` work (loopback delivers inside ``send``). What it does is what
``tests/ng_protocol/test_contract.py`` verifies on the real daemon too; the model of calls and SDP is in
``fake_rtpengine_model``. Trouble is made with plain attributes and methods: ``pause``/``resume`` (swallows
everything), ``stop``/``start`` (port closed: ICMP), ``restart`` (forgets everything), ``delay`` (seconds before each
reply), ``drop_requests``/``drop_replies`` (how many more to lose), ``garbage`` (payloads sent instead of the next
replies), ``fail_next(command, reason)``, ``max_sessions``. Two nodes in one test: ``fake_node(interfaces={"pub":
"127.0.1.1", "lan": "127.0.1.2"})``; the addresses need not exist.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio

from ng_protocol.codec import encode
from tests.fake_rtpengine_model import Call, Media, Party, Ports, Refusal, Request, Rewriter, decode_request, parse
from tests.fake_rtpengine_views import call_tree, control_tree, interfaces_tree

Reply = dict[str, Any]
NOT_FOUND = "Call-ID not found or tags didn't match"
EPOCH = 1_700_000_000


class FakeNode:
    """See the module. ``requests``: executed commands in order, text decoded but ``sdp`` as bytes; ``calls``: by
    call-id."""

    def __init__(
        self,
        nursery: trio.Nursery,
        *,
        interfaces: dict[str, str] | None = None,
        ports: tuple[int, int] = (30000, 39999),
        delete_delay: int = 0,
        max_sessions: int = -1,
    ) -> None:
        self._nursery = nursery
        self.interfaces = interfaces or {"pub": "127.0.0.1", "lan": "127.0.0.2"}
        self.port_range = ports
        self.delete_delay = delete_delay
        self.max_sessions = max_sessions
        self.requests: list[Request] = []
        self.datagrams = 0
        self.duplicates = 0
        self.delay = 0.0
        self.drop_requests = 0
        self.drop_replies = 0
        self.garbage: list[bytes] = []
        self.media_files: set[str] = set()
        self.media_flows = False
        self.paused = False
        self._failures: list[tuple[str, str]] = []
        self._port = 0
        self._sock: socket.socket | None = None
        self._restarts = 0
        self._handlers: dict[str, Callable[[Request], Reply]] = {
            "ping": lambda _: {"result": "pong"},
            "offer": self._offer,
            "answer": self._answer,
            "delete": self._delete,
            "query": self._query,
            "list": self._list,
            "statistics": self._statistics,
            "start recording": self._recording,
            "stop recording": self._recording,
            "play media": self._play_media,
            "stop media": self._stop_media,
            "play DTMF": self._play_dtmf,
            "publish": self._publish,
            "subscribe request": self._subscribe_request,
            "subscribe answer": self._subscribe_answer,
            "unsubscribe": self._unsubscribe,
        }
        for verb in ("block", "unblock"):
            self._handlers[f"{verb} media"] = self._handlers[f"{verb} DTMF"] = self._switch
        for name in ("silence media", "unsilence media", "start forwarding", "stop forwarding"):
            self._handlers[name] = self._switch
        self._forget()

    # -- what tests use ------------------------------------------------------------------------------------------

    @property
    def address(self) -> str:
        """``127.0.0.1:port``, the same after ``stop`` and ``start``."""
        return f"127.0.0.1:{self._port}"

    def count(self, command: str) -> int:
        """How many commands of this name were executed since the node was made."""
        return sum(request["command"] == command for request in self.requests)

    def of(self, command: str) -> list[Request]:
        """The executed commands of this name."""
        return [request for request in self.requests if request["command"] == command]

    def fail_next(self, command: str, reason: str) -> None:
        """The next command of this name is refused with this error-reason, and not executed."""
        self._failures.append((command, reason))

    def media(self, call_id: str, tag: str, *, packets: int, learned: tuple[str, int] | None = None) -> Media:
        """Pretends that a party sent packets; returns its first media section for more."""
        party = self.calls[call_id].by_tag(tag)
        assert party is not None, f"no party {tag!r} in call {call_id!r}"
        media = party.medias[0]
        media.packets, media.bytes, media.last_packet = packets, packets * 172, self._now()
        media.learned = learned or media.endpoint
        return media

    def pause(self) -> None:
        """Swallows every datagram until ``resume``."""
        self.paused = True

    def resume(self) -> None:
        """Answers again; what was swallowed stays lost."""
        self.paused = False

    def restart(self) -> None:
        """As if the daemon had been killed and started: calls, cookies, counters and uptime are gone."""
        self._restarts += 1
        self._forget()

    def stop(self) -> None:
        """Closes the port; senders get ICMP port unreachable."""
        sock, self._sock = self._sock, None
        if sock is not None:
            trio.lowlevel.notify_closing(sock)
            sock.close()

    def start(self) -> None:
        """Opens the port (the same one as before ``stop``) with nothing remembered."""
        self.restart()
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        sock.bind(("127.0.0.1", self._port))
        self._port = sock.getsockname()[1]
        self._sock = sock
        self._nursery.start_soon(self._serve, sock)

    # -- the socket ----------------------------------------------------------------------------------------------

    async def _serve(self, sock: socket.socket) -> None:
        while self._sock is sock:
            try:
                await trio.lowlevel.wait_readable(sock)
            except trio.ClosedResourceError:
                return
            while self._sock is sock:
                try:
                    datagram, peer = sock.recvfrom(65535)
                except BlockingIOError:
                    break
                reply = self._receive(datagram)
                if reply is None or len(reply) > 65507:  # more does not fit into a datagram: nothing leaves
                    continue
                if self.delay:
                    self._nursery.start_soon(self._send_later, sock, reply, peer, self.delay)
                else:
                    sock.sendto(reply, peer)

    async def _send_later(self, sock: socket.socket, reply: bytes, peer: Any, delay: float) -> None:
        await trio.sleep(delay)
        if self._sock is sock:
            sock.sendto(reply, peer)

    def _receive(self, datagram: bytes) -> bytes | None:
        self.datagrams += 1
        if self.paused:
            return None
        if self.drop_requests:
            self.drop_requests -= 1
            return None
        reply = self._answer_datagram(datagram)
        if reply is not None and self.drop_replies:
            self.drop_replies -= 1
            return None
        if reply is not None and self.garbage:
            return reply.split(b" ", 1)[0] + b" " + self.garbage.pop(0)
        return reply

    def _answer_datagram(self, datagram: bytes) -> bytes | None:
        cookie, space, payload = datagram.partition(b" ")
        if not cookie or not space:
            return None
        if cookie in self._cookies:
            self.duplicates += 1
        else:
            self._cookies[cookie] = cookie + b" " + encode(self._execute(payload))
        return self._cookies[cookie]

    def _execute(self, payload: bytes) -> Reply:
        try:
            if not payload:
                raise Refusal("Invalid data (no payload)")
            if payload[:1] != b"d":
                raise Refusal("Invalid NG data format")
            request = decode_request(payload)
            command = request["command"]
            self.requests.append(request)
            self._counts[command] += 1
            for index, (name, reason) in enumerate(self._failures):
                if name == command:
                    del self._failures[index]
                    raise Refusal(reason)
            if command not in self._handlers:
                raise Refusal("Unrecognized command")
            return {"result": "ok", **self._handlers[command](request)}
        except Refusal as refusal:
            self._errors += 1
            return {"result": "error", "error-reason": str(refusal)}

    # -- offer, answer, delete -----------------------------------------------------------------------------------

    def _forget(self) -> None:
        self.calls: dict[str, Call] = {}
        self.ports = Ports(*self.port_range)
        pairs = [f"{(self._restarts * 37 + number) % 256:02X}" for number in range(32)]
        self._rewriter = Rewriter(self.interfaces, self.ports, ":".join(pairs))
        self._cookies: dict[bytes, bytes] = {}
        self._counts: Counter[str] = Counter()
        self._errors = 0
        self._managed = 0
        self._rejected = 0
        self._started_at: float | None = None

    def _now(self) -> int:
        """Fake epoch seconds, moving with trio's clock from the first command on."""
        now = trio.current_time()
        if self._started_at is None:
            self._started_at = now
        return EPOCH + int(now - self._started_at)

    def _call(self, request: Request, reason: str = "Unknown call-ID") -> Call:
        call_id = _required(request, "call-id", "No call-id in message")
        self._purge()
        call = self.calls.get(call_id)
        if call is None:
            raise Refusal(reason)
        return call

    def _purge(self) -> None:
        now = trio.current_time()
        for call in [call for call in self.calls.values() if call.ends_at is not None and now >= call.ends_at]:
            self._destroy(call)

    def _destroy(self, call: Call) -> None:
        del self.calls[call.call_id]
        self._managed += 1
        for party in call.parties:
            for media in party.medias:
                self.ports.release(media)

    def _create(self, call_id: str) -> Call:
        call = self.calls[call_id] = Call(call_id, created=self._now())
        return call

    def _offer(self, request: Request) -> Reply:
        if request.get("sdp") == b"":
            return {}  # what 10.5 does
        sdp = _required(request, "sdp", "No SDP body in message")
        call_id = _required(request, "call-id", "No call-id in message")
        _required(request, "from-tag", "No from-tag in message")
        parse(sdp)
        self._purge()
        call = self.calls.get(call_id)
        if call is None:
            if 0 <= self.max_sessions <= len(self.calls):
                self._rejected += 1
                if "load limit" in request.get("supports", ()):
                    return {"result": "load limit", "message": "Parallel session limit reached"}
                raise Refusal("Parallel session limit reached")
            call = self._create(call_id)
        call.ends_at = None
        author, receiver = call.parties_of_offer(request)
        return self._rewrite(call, request, author, receiver, offer=True)

    def _answer(self, request: Request) -> Reply:
        _required(request, "sdp", "No SDP body in message")
        _required(request, "call-id", "No call-id in message")
        _required(request, "from-tag", "No from-tag in message")
        _required(request, "to-tag", "No to-tag in message")
        parse(request["sdp"])
        call = self._call(request, "Unknown call-id")
        author, receiver = call.parties_of_answer(request)
        return self._rewrite(call, request, author, receiver, offer=False)

    def _rewrite(self, call: Call, request: Request, author: Party, receiver: Party, *, offer: bool) -> Reply:
        author.label = request.get("label", author.label)
        try:
            sdp = self._rewriter.rewrite(request, author, receiver, offer=offer)
        except Refusal:
            self._destroy(call)  # the daemon destroys the call when ports run out, established parties included
            raise
        reply: Reply = {"sdp": sdp}
        if request.get("record-call") in ("yes", "on"):
            call.recording = True
            reply["recordings"] = [f"/fake/{call.call_id}.pcap"]
        return reply

    def _delete(self, request: Request) -> Reply:
        _required(request, "call-id", "No call-id in message")
        self._purge()
        call = self.calls.get(request["call-id"])
        party: Party | None = None
        if call is not None and request.get("from-tag"):
            party = self._party_to_delete(call, request)
        if call is None or (request.get("from-tag") and party is None):
            if "fatal" in request.get("flags", ()):
                raise Refusal(NOT_FOUND)
            return {"warning": NOT_FOUND}
        tree: Reply = {}
        if party is not None:
            tree = call_tree(call, call.parties, self.interfaces, self._now())
            party.deleted = True
            for media in party.medias:
                self.ports.release(media)
        if party is None or not call.alive():
            delay = int(request.get("delete-delay", self.delete_delay))
            call.ends_at = trio.current_time() + delay
            self._purge()
        return tree

    @staticmethod
    def _party_to_delete(call: Call, request: Request) -> Party | None:
        """10.5: the to-tag if there is one, else the branch, else (unknown branch included!) the from-tag's party."""
        if request.get("to-tag"):
            return call.by_tag(request["to-tag"])
        return call.by_branch(request.get("via-branch", "")) or call.by_tag(request["from-tag"])

    # -- views ---------------------------------------------------------------------------------------------------

    def _query(self, request: Request) -> Reply:
        call = self._call(request, "Unknown call-id")
        tag = request.get("to-tag") or request.get("from-tag")
        if not tag:
            return call_tree(call, call.parties, self.interfaces, self._now())
        party = call.by_tag(tag)
        return call_tree(call, [party, *party.hears] if party else [], self.interfaces, self._now())

    def _list(self, request: Request) -> Reply:
        self._purge()
        limit = int(request.get("limit", 32))
        if limit < 0:
            raise Refusal("invalid limit, must be >= 0")
        return {"calls": list(self.calls)[:limit]}

    def _statistics(self, request: Request) -> Reply:
        self._purge()
        self._now()
        assert self._started_at is not None
        uptime = int(trio.current_time() - self._started_at)
        return {
            "statistics": {
                "currentstatistics": {
                    "sessionsown": len(self.calls),
                    "sessionsforeign": 0,
                    "sessionstotal": len(self.calls),
                    "packetrate": 0,
                },
                "totalstatistics": {
                    "uptime": str(uptime),
                    "managedsessions": self._managed,
                    "rejectedsessions": self._rejected,
                },
                "interfaces": interfaces_tree(self.interfaces, self.ports),
                "controlstatistics": control_tree(self._counts, self._errors),
                "transcoders": [],
            }
        }

    # -- the rest ------------------------------------------------------------------------------------------------

    def _recording(self, request: Request) -> Reply:
        self._call(request, "Unknown call-id").recording = request["command"] == "start recording"
        return {}

    def _switch(self, request: Request) -> Reply:
        call = self._call(request)
        parties = call.select(request, needed=False)
        verb, what = request["command"].split(" ")
        for party in parties:
            if verb in ("block", "silence", "start"):
                call.blocked.add(f"{verb} {what} {party.tag}")
            else:
                on = {"unblock": "block", "unsilence": "silence", "stop": "start"}[verb]
                call.blocked.discard(f"{on} {what} {party.tag}")
        return {}

    def _play_media(self, request: Request) -> Reply:
        call = self._call(request)
        parties = call.select(request, needed=True)
        for key, source in (("file", "file"), ("blob", "blob"), ("db-id", "database")):
            if key in request:
                if request[key] not in self.media_files:
                    raise Refusal(f"Failed to start media playback from {source}")
                call.playing |= {party.tag for party in parties}
                return {"duration": 1000}
        raise Refusal("No media file specified")

    def _stop_media(self, request: Request) -> Reply:
        call = self._call(request)
        parties = call.select(request, needed=True)
        tags = {party.tag for party in parties}
        if not call.playing & tags:
            raise Refusal("Not currently playing media")
        call.playing -= tags
        return {}

    def _play_dtmf(self, request: Request) -> Reply:
        self._call(request).select(request, needed=True)
        if request.get("code", "") not in tuple("0123456789*#ABCD"):
            raise Refusal("Out of range 'code' specified")
        if not self.media_flows:
            raise Refusal("No SSRC context present for DTMF injection")
        return {}

    def _publish(self, request: Request) -> Reply:
        _required(request, "sdp", "No SDP body in message")
        call_id = _required(request, "call-id", "No call-id in message")
        tag = _required(request, "from-tag", "No from-tag in message")
        call = self.calls.get(call_id) or self._create(call_id)
        author = call.by_tag(tag) or call.new_party(tag)
        author.kind = "pub/sub"
        sdp = self._rewriter.rewrite(request, author, Party(), offer=True)
        return {"sdp": _directed(sdp, "recvonly")}

    def _subscribe_request(self, request: Request) -> Reply:
        call = self._call(request)
        tags = request.get("from-tags", [request["from-tag"]] if request.get("from-tag") else [])
        if "all" in request.get("flags", ()):
            tags = [party.tag for party in call.parties if party.kind == "offer/answer"]
        sources = [call.by_tag(tag) for tag in tags]
        if not sources:
            raise Refusal("No monologues matched")
        found = [source for source in sources if source is not None]
        if len(found) < len(sources):
            raise Refusal("From-tag given, but no such tag exists")
        tag = request.get("to-tag") or f"subscriber-{len(call.parties)}"
        subscriber = call.by_tag(tag) or call.new_party(tag)
        subscriber.kind = "pub/sub"
        subscriber.hears = found
        source = found[0]
        sdp = self._rewriter.rewrite({**request, "sdp": source.sdp}, source, subscriber, offer=True)
        one = {"from-tag": source.tag} if len(found) == 1 else {}
        return {**one, "sdp": _directed(sdp, "sendonly"), "to-tag": tag, "from-tags": [item.tag for item in found]}

    def _subscribe_answer(self, request: Request) -> Reply:
        call = self._call(request)
        if call.by_tag(_required(request, "to-tag", "No to-tag in message")) is None:
            raise Refusal("To-tag not found")
        return {}

    def _unsubscribe(self, request: Request) -> Reply:
        party = self._call(request).by_tag(_required(request, "to-tag", "No to-tag in message"))
        if party is not None:
            party.hears = []
        return {}


def _required(request: Request, key: str, reason: str) -> Any:
    if not request.get(key):
        raise Refusal(reason)
    return request[key]


def _directed(sdp: bytes, direction: str) -> bytes:
    return sdp.replace(b"a=sendrecv", b"a=" + direction.encode())


@asynccontextmanager
async def fake_node(**options: Any) -> AsyncGenerator[FakeNode, None]:
    """A running node; options as for FakeNode. Raises the errors of its body as they are, not in groups."""
    raised: Exception | None = None
    async with trio.open_nursery() as nursery:
        node = FakeNode(nursery, **options)
        node.start()
        try:
            yield node
        except Exception as error:
            raised = error
        finally:
            node.stop()
            nursery.cancel_scope.cancel()
    if raised is not None:
        raise raised

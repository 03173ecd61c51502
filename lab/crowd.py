"""A crowd of calls between two hosts, some of them with real RTP both ways: five hundred phones in one thread.

Theory of operation. `Crowd.run` is one loop in a thread of its own over an epoll: it reads SIP and RTP, sends the RTP
that is due, repeats what was not answered (500 ms, doubling), and carries out what `call` and `hang_up` have asked
for. There is one SIP socket per side, and one RTP socket per phone; every talking phone sends a packet each `ptime`,
the others one each `SLOW` seconds, so that to whoever looks at counters, which know whole seconds, all calls are alike.
Within each of the two periods whose turn it is is a queue, and needs no sorting. Phones answer everything at once:
INVITE and re-INVITE with 200 and an SDP that never changes, BYE with 200. A phone notes when it first and last heard
from each address, and whose SSRC it was: rtpengine passes an SSRC on, so it knows its peer by it. `End` keeps what
happened; figures are taken from it when the crowd is at rest. Times are `time.monotonic()`.
"""

from __future__ import annotations

import heapq
import itertools
import select
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from lab import crowd_sip, namespace
from lab.crowd_sip import Address, Packet
from lab.topology import EDGE_PUBLIC, Network

FIRST_RTP_PORT = 20_000
PTIME = 0.02
SLOW = 0.4
"""Seconds between two packets of a phone that does not talk."""
T1 = 0.5
RECEIVE_BUFFER = 8 << 20
SO_RCVBUFFORCE = 33  # asm-generic/socket.h
SIDES = ("caller", "callee")


@dataclass(slots=True)
class Heard:
    """Packets from one address: how many, the first, the last."""

    count: int = 0
    first: float = 0.0
    last: float = 0.0


@dataclass(slots=True)
class Change:
    """A re-INVITE received: when, and when its 200 was ACKed (0.0: not yet)."""

    cseq: int
    at: float
    acked: float = 0.0


@dataclass(slots=True)
class End:
    """One phone's end of one call."""

    number: int
    side: int
    call_id: bytes = b""
    local: bytes = b""
    remote: bytes = b""
    target: bytes = b""
    routes: list[bytes] = field(default_factory=list)
    cseq: int = 1
    sdp: bytes = b""
    port: Address = ("", 0)
    sock: socket.socket | None = None
    talks: bool = False
    destination: Address | None = None
    """Where our RTP goes; None: we are not to send."""
    pending: bytes = b""
    """What is repeated until it is answered (our INVITE or BYE, or our 200 until the ACK)."""
    replies: dict[int, bytes] = field(default_factory=dict)
    """Our 200s by CSeq, for repeated INVITEs."""
    status: int = 0
    """Caller: final status of the INVITE. Callee: 200 when it was ACKed."""
    invited: float = 0.0
    answered: float = 0.0
    """Caller: when the INVITE left and when its 200 came."""
    changes: list[Change] = field(default_factory=list)
    ended: float = 0.0
    ended_by_peer: bool = False
    heard: dict[str, Heard] = field(default_factory=dict)
    sequence: int = 0
    strangers: int = 0
    """RTP packets with an SSRC that is not the peer's."""

    @property
    def up(self) -> bool:
        """Whether the call stands at this end."""
        return self.status == 200 and not self.ended

    @property
    def ssrc(self) -> int:
        """What our RTP carries."""
        return 0x10000 + 2 * self.number + self.side

    def changed_since(self, moment: float) -> float | None:
        """When the first re-INVITE that came after `moment` was ACKed; None: none was."""
        return next((change.acked for change in self.changes if change.at >= moment and change.acked), None)

    def gap(self, away: str) -> float | None:
        """Seconds from the last packet of the address `away` to the first of another; None when either never came."""
        before = self.heard.get(away)
        after = [heard.first for address, heard in self.heard.items() if address != away]
        return min(after) - before.last if before is not None and after else None


class Crowd:
    """`calls` calls; those given sockets with `equip` have RTP. Make it with `open_crowd`, run `run` in a thread."""

    def __init__(self, sip: list[socket.socket], calls: int, ptime: float = PTIME) -> None:
        self._sip, self.ptime = sip, ptime
        self._hosts = [sock.getsockname()[:2] for sock in sip]
        self.ends = [[End(number, side) for number in range(calls)] for side in (0, 1)]
        self.edge: Address = (EDGE_PUBLIC, 5060)
        self.callee = b"1000"
        self.nonsense = 0
        """Datagrams that were not understood."""
        self.late = 0
        """RTP packets that left more than one `ptime` after their time: the machine is too slow."""
        self.sent = self.unsent = 0
        self._by_id: tuple[dict[bytes, End], dict[bytes, End]] = ({}, {})
        self._by_socket: dict[int, End] = {}
        self._queues: dict[float, deque[tuple[float, End]]] = {ptime: deque(), SLOW: deque()}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._commands: deque[Callable[[], None]] = deque()
        self._stopped = False
        self._payload = bytes([0xD5, 0x55]) * int(80 * ptime / PTIME)
        self._epoll = select.epoll()
        for sock in sip:
            self._epoll.register(sock, select.EPOLLIN)
        self._prefix = b"crowd-%d-" % time.monotonic_ns()

    # --- what the scenario asks for, from another thread

    def equip(self, number: int, sockets: Iterable[socket.socket], *, talks: bool) -> None:
        """Give call `number` two RTP sockets. Before `run`."""
        for side, sock in enumerate(sockets):
            end = self.ends[side][number]
            end.sock, end.port, end.talks = sock, sock.getsockname()[:2], talks
            self._by_socket[sock.fileno()] = end
            self._epoll.register(sock, select.EPOLLIN)

    def call(self, numbers: Iterable[int], rate: float) -> None:
        """Start these calls, `rate` a second."""
        callers = [self.ends[0][number] for number in numbers]
        self._commands.append(lambda: self._spread(callers, rate, self._invite))

    def hang_up(self, rate: float) -> None:
        """The callers of the calls that are up say BYE, `rate` a second."""
        self._commands.append(lambda: self._spread([end for end in self.ends[0] if end.up], rate, self._bye))

    def stop(self) -> None:
        """End `run`."""
        self._stopped = True

    def close(self) -> None:
        """Close every socket. After `run`."""
        self._epoll.close()
        for sock in [*self._sip, *(end.sock for side in self.ends for end in side if end.sock is not None)]:
            sock.close()

    # --- the loop

    def run(self) -> None:
        """Work until `stop`. Blocks."""
        due = time.monotonic()
        for period, queue in self._queues.items():
            talks = period == self.ptime
            ends = [end for pair in zip(*self.ends, strict=True) for end in pair if end.sock and end.talks == talks]
            queue.extend((due + period * place / len(ends), end) for place, end in enumerate(ends))
        sip = {sock.fileno(): side for side, sock in enumerate(self._sip)}
        while not self._stopped:
            now = time.monotonic()
            wake = min(now + 0.05, *(queue[0][0] for queue in self._queues.values() if queue))
            if self._timers:
                wake = min(wake, self._timers[0][0])
            for descriptor, _ in self._epoll.poll(max(0.0, wake - now)):
                side = sip.get(descriptor)
                if side is None:
                    self._hear(self._by_socket[descriptor])
                else:
                    self._read(side)
            for period, queue in self._queues.items():
                self._speak(period, queue, time.monotonic())
            while self._commands:
                self._commands.popleft()()
            now = time.monotonic()
            while self._timers and self._timers[0][0] <= now:
                heapq.heappop(self._timers)[2]()

    def _after(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._order), action))

    def _spread(self, ends: list[End], rate: float, action: Callable[[End], None]) -> None:
        for place, end in enumerate(ends):
            self._after(place / rate, lambda end=end: action(end))  # type: ignore[misc]

    # --- RTP

    def _speak(self, period: float, queue: deque[tuple[float, End]], now: float) -> None:
        payload = self._payload
        while queue and queue[0][0] <= now:
            due, end = queue.popleft()
            if now - due > self.ptime:
                self.late += 1
                due = now
            queue.append((due + period, end))
            if end.destination is None or end.sock is None:
                continue
            end.sequence = sequence = end.sequence + 1 & 0xFFFF
            header = struct.pack("!BBHII", 0x80, 0, sequence, sequence * len(payload) & 0xFFFFFFFF, end.ssrc)
            try:
                end.sock.sendto(header + payload, end.destination)
                self.sent += 1
            except OSError:  # ICMP tells of an earlier packet: the node is gone
                self.unsent += 1

    def _hear(self, end: End) -> None:
        assert end.sock is not None
        peer = end.ssrc ^ 1
        while True:
            try:
                data, source = end.sock.recvfrom(2048)
            except BlockingIOError:
                return
            except ConnectionRefusedError:
                continue
            now = time.monotonic()
            heard = end.heard.get(source[0])
            if heard is None:
                heard = end.heard[source[0]] = Heard(0, now)
            heard.count += 1
            heard.last = now
            if int.from_bytes(data[8:12], "big") != peer:
                end.strangers += 1

    # --- SIP

    def _send(self, end: End, data: bytes, to: Address | None = None) -> None:
        self._sip[end.side].sendto(data, to or self.edge)

    def _repeat(self, end: End, data: bytes, wait: float = T1) -> None:
        """Send `data` again and again until something else, or nothing, is pending."""
        end.pending = data

        def again() -> None:
            if end.pending is data and wait < 16:
                self._send(end, data)
                self._repeat(end, data, wait * 2)

        self._after(wait, again)

    def _via(self, end: End) -> bytes:
        host, port = self._hosts[end.side]
        branch = self._prefix + b"%d" % next(self._order)  # another crowd on the same address must not repeat it
        return b"SIP/2.0/UDP %s:%d;branch=z9hG4bK%s;rport" % (host.encode(), port, branch)

    def _contact(self, end: End) -> bytes:
        host, port = self._hosts[end.side]
        return b"<sip:%s@%s:%d>" % (b"2000" if end.side == 0 else self.callee, host.encode(), port)

    def _describe(self, end: End) -> bytes:
        if not end.sdp:
            port = end.port if end.sock is not None else (self._hosts[end.side][0], 40_000 + 2 * end.number)
            end.sdp = crowd_sip.describe(port, 1 + end.number)
        return end.sdp

    def _invite(self, end: End) -> None:
        end.call_id, end.invited = self._prefix + b"%d" % end.number, time.monotonic()
        uri = b"sip:%s@example.test" % self.callee
        end.local, end.remote = b"<sip:2000@example.test>;tag=a%d" % end.number, b"<%s>" % uri
        self._by_id[0][end.call_id] = end
        sdp, contact = self._describe(end), self._contact(end)
        data = crowd_sip.request(
            b"INVITE", uri, self._via(end), [], end.local, end.remote, end.call_id, end.cseq, contact, sdp
        )
        self._send(end, data)
        self._repeat(end, data)

    def _in_dialog(self, end: End, method: bytes, cseq: int) -> bytes:
        return crowd_sip.request(
            method, end.target, self._via(end), end.routes, end.local, end.remote, end.call_id, cseq
        )

    def _bye(self, end: End) -> None:
        if end.up:
            end.ended, end.destination = time.monotonic(), None
            end.cseq += 1
            data = self._in_dialog(end, b"BYE", end.cseq)
            self._send(end, data)
            self._repeat(end, data)

    def _read(self, side: int) -> None:
        while True:
            try:
                data, source = self._sip[side].recvfrom(65535)
            except BlockingIOError:
                return
            except ConnectionRefusedError:
                continue
            try:
                packet = Packet(data)
                if packet.status:
                    self._response(side, packet)
                else:
                    self._request(side, packet, source)
            except (ValueError, KeyError, IndexError):
                self.nonsense += 1

    def _response(self, side: int, packet: Packet) -> None:
        end = self._by_id[side].get(packet.call_id)
        if end is None or packet.cseq != end.cseq:
            return
        if packet.method == b"BYE" or packet.status < 200:
            end.pending = b""
        elif packet.status >= 300:
            end.status, end.pending = packet.status, b""
        else:
            self._established(end, packet)

    def _established(self, end: End, packet: Packet) -> None:
        if end.status != 200:
            end.status, end.pending, end.answered = 200, b"", time.monotonic()
            end.remote = packet.first(b"to")
            end.target = crowd_sip.target(packet.first(b"contact"))
            end.routes = packet.routes()[::-1]
            self._follow(end, packet.body)
        self._send(end, self._in_dialog(end, b"ACK", packet.cseq))

    def _request(self, side: int, packet: Packet, source: Address) -> None:
        end = self._by_id[side].get(packet.call_id)
        if packet.method == b"INVITE":
            self._offered(end if end is not None else self._incoming(packet), packet, source)
        elif packet.method == b"ACK":
            if end is not None:
                self._acknowledged(end, packet.cseq)
        elif end is None:
            self._sip[side].sendto(crowd_sip.respond(packet, b"481 Call Does Not Exist", b"none"), source)
        else:
            self._send(end, crowd_sip.respond(packet, b"200 OK", b""), source)
            if packet.method == b"BYE" and not end.ended:
                end.ended, end.ended_by_peer, end.destination, end.pending = time.monotonic(), True, None, b""

    def _incoming(self, packet: Packet) -> End:
        """Which call this INVITE is: the B2BUA passes the caller's Call-ID on as X-PGPX, an edge without B2BUA keeps
        it."""
        caller = self._by_id[0][packet.first(b"x-pgpx") or packet.call_id]
        end = self.ends[1][caller.number]
        end.call_id = packet.call_id
        end.remote = packet.first(b"from")
        end.local = packet.first(b"to") + b";tag=b%d" % end.number
        end.target = crowd_sip.target(packet.first(b"contact"))
        end.routes = packet.routes()
        self._by_id[1][end.call_id] = end
        return end

    def _offered(self, end: End, packet: Packet, source: Address) -> None:
        cseq = packet.cseq
        reply = end.replies.get(cseq)
        if reply is None:
            sdp, contact = self._describe(end), self._contact(end)
            reply = crowd_sip.respond(packet, b"200 OK", crowd_sip.tag(end.local), contact, sdp)
            end.replies[cseq] = reply
            if packet.body:
                self._follow(end, packet.body)
            if crowd_sip.tag(packet.first(b"to")):
                end.changes.append(Change(cseq, time.monotonic()))
            self._repeat(end, reply)
        self._send(end, reply, source)

    def _acknowledged(self, end: End, cseq: int) -> None:
        if end.pending is end.replies.get(cseq):
            end.pending = b""
        if not end.status:
            end.status = 200
        for change in end.changes:
            if change.cseq == cseq and not change.acked:
                change.acked = time.monotonic()

    def _follow(self, end: End, sdp: bytes) -> None:
        destination, wanted = crowd_sip.media(sdp)
        end.destination = destination if wanted else None


def open_crowd(network: Network, calls: int, talking: Iterable[int], ptime: float = PTIME) -> Crowd:
    """A crowd on the hosts `caller` and `callee`; the calls numbered in `talking` talk. Blocks. Raises OSError."""
    drawn = set(talking)

    def sockets(address: str) -> Callable[[], list[socket.socket]]:
        def make() -> list[socket.socket]:
            found = []
            for port in [5060, *(FIRST_RTP_PORT + 2 * number for number in range(calls))]:
                sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                found.append(sock)
                sock.setblocking(False)
                sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER if port == 5060 else 1 << 17)
                sock.bind((address, port))
            return found

        return make

    sides = [namespace.inside(network.ns(role), sockets(network.site(role).host)) for role in SIDES]
    crowd = Crowd([sides[0][0], sides[1][0]], calls, ptime)
    for number, pair in enumerate(zip(sides[0][1:], sides[1][1:], strict=True)):
        crowd.equip(number, pair, talks=number in drawn)
    return crowd

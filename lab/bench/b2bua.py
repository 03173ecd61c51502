"""The B2BUA of mode P4: what a FreeSWITCH with `bypass_media` does to a plain call, as cheaply as Python can.

    edge LAN -> INVITE b2bua-N (leg A) -> here -> INVITE N (leg B, new dialog, X-PGPX, the same SDP) -> edge LAN
    leg B's 180 and 200 go back on leg A with their SDP untouched; BYE on leg A ends leg B, and the other way round

It is part of the load, never of a figure, so it only has to be fast: one blocking socket, headers cut out of the
message as lines, leg B's Call-ID made from leg A's. It sends nothing twice. A request or response that comes again is
answered again and counted, and one repeat spoils the run. OPTIONS (the probes of both proxies) get 200.

`python -m lab.bench.b2bua TOTALS` serves until SIGTERM and writes its `Totals` to the file TOTALS as JSON.
"""

import json
import signal
import socket
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from uuid import uuid4

from lab.bench.processes import BenchError

ADDRESS = ("127.0.0.7", 5060)
"""Where it listens."""

LAN = ("127.0.0.3", 5080)
"""The edge's LAN socket: where every request of ours goes."""

PREFIX = b"b2bua-"
"""What the edge puts before the number."""

HERE = b"%b:%d" % (ADDRESS[0].encode(), ADDRESS[1])
EDGE = b"%b:%d" % (LAN[0].encode(), LAN[1])
MARK = b"B-"
"""What leg B's Call-ID begins with, before leg A's."""

CONTACT = b"Contact: <sip:b2bua@" + HERE + b">\r\n"
EMPTY = b"Content-Length: 0\r\n\r\n"


@dataclass
class Totals:
    """What it saw: calls begun, calls ended by BYE on both legs, messages that came again, messages it did not expect
    (the first few of them in words)."""

    calls: int = 0
    ended: int = 0
    retransmissions: int = 0
    unexpected: int = 0
    examples: list[str] = field(default_factory=list)

    def complaint(self, calls: int) -> str:
        """Why these totals do not prove that `calls` calls passed twice; "" when they do."""
        if (self.calls, self.ended, self.unexpected) == (calls, calls, 0):
            return ""
        words = f"the B2BUA saw {self.calls} calls begin and {self.ended} end of {calls}"
        return f"{words}, and {self.unexpected} messages it did not expect {self.examples}"


@dataclass(slots=True)
class Bridge:
    """One call: the leg A INVITE's lines that its responses repeat, its last response, and both legs' dialogs."""

    number: int
    copied: bytes
    record: bytes
    body: bytes
    last: bytes = b""
    caller: bytes = b""
    route_a: bytes = b""
    contact_a: bytes = b""
    route_b: bytes = b""
    contact_b: bytes = b""
    to_b: bytes = b""
    ack: bytes = b""
    answered: bool = False
    ending: bool = False


def uri_of(line: bytes) -> bytes:
    """The URI between the angle brackets of a header line, or all of its value without any."""
    start = line.find(b"<")
    return line[start + 1 : line.find(b">", start)] if start >= 0 else line.partition(b":")[2].strip()


def records(fields: dict[bytes, list[bytes]]) -> list[bytes]:
    """The values of Record-Route in order, however many stand in one line."""
    lines = (line[13:] for line in fields.get(b"Record-Route", ()))
    return [value.strip() for line in lines for value in line.split(b",")]


def routes(values: list[bytes]) -> bytes:
    """A route set as header lines."""
    return b"".join(b"Route: %b\r\n" % value for value in values)


class Switch:
    """The signalling: `received` takes one datagram and returns what to send to the edge, in order."""

    def __init__(self) -> None:
        self.totals = Totals()
        self.bridges: dict[bytes, Bridge] = {}

    def received(self, data: bytes) -> list[bytes]:
        """One datagram from the edge."""
        head, _, body = data.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        fields: dict[bytes, list[bytes]] = {}
        for line in lines:
            fields.setdefault(line[: line.find(b":")], []).append(line)
        call_id = fields[b"Call-ID"][0][9:]
        if first.startswith(b"SIP/2.0 "):
            return self.response(first, fields, body, call_id)
        return self.request(first, fields, body, call_id)

    def odd(self, first: bytes) -> list[bytes]:
        """A message that has no place here."""
        self.totals.unexpected += 1
        if len(self.totals.examples) < 5:
            self.totals.examples.append(first.decode("latin-1"))
        return []

    def request(self, first: bytes, fields: dict[bytes, list[bytes]], body: bytes, call_id: bytes) -> list[bytes]:
        """INVITE on leg A; ACK on leg A; BYE on either leg; OPTIONS."""
        method, uri, _ = first.split(b" ")
        echoed = [*fields[b"Via"], *fields[b"From"], *fields[b"To"], *fields[b"Call-ID"], *fields[b"CSeq"]]
        copied = b"\r\n".join(echoed) + b"\r\n"
        if method == b"OPTIONS":
            return [b"SIP/2.0 200 OK\r\n" + copied.replace(b"\r\nCall-ID", b";tag=o\r\nCall-ID", 1) + EMPTY]
        on_b = call_id.startswith(MARK)
        bridge = self.bridges.get(call_id.removeprefix(MARK))
        if method == b"INVITE" and bridge is None and not on_b:
            return self.invite(uri, fields, body, call_id, copied)
        if bridge is None:
            # A BYE that comes again after its call has ended.
            self.totals.retransmissions += 1
            return [b"SIP/2.0 200 OK\r\n" + copied + EMPTY] if method == b"BYE" else []
        if method == b"INVITE":
            self.totals.retransmissions += 1
            return [bridge.last]
        if method == b"ACK":
            return []
        if method != b"BYE":
            return self.odd(first)
        ok = b"SIP/2.0 200 OK\r\n" + copied + EMPTY
        if bridge.ending:
            self.totals.retransmissions += 1
            return [ok]
        bridge.ending = True
        return [ok, self.bye_a(bridge, call_id) if on_b else self.bye_b(bridge, call_id)]

    def invite(
        self, uri: bytes, fields: dict[bytes, list[bytes]], body: bytes, call_id: bytes, copied: bytes
    ) -> list[bytes]:
        """A new call: 100 on leg A, INVITE on leg B."""
        self.totals.calls += 1
        number = self.totals.calls
        record = b"".join(line + b"\r\n" for line in fields.get(b"Record-Route", ()))
        caller = fields[b"From"][0]
        bridge = Bridge(number, copied, record, body, caller=caller, contact_a=uri_of(fields[b"Contact"][0]))
        bridge.route_a = routes(records(fields))
        self.bridges[call_id] = bridge
        user = uri[4:].partition(b"@")[0].removeprefix(PREFIX)
        trying = b"SIP/2.0 100 Trying\r\n" + copied + EMPTY
        bridge.last = trying
        start = b"INVITE sip:%b@%b SIP/2.0\r\nVia: SIP/2.0/UDP %b;rport;branch=z9hG4bKi%d\r\n" % (
            user,
            EDGE,
            HERE,
            number,
        )
        dialog = b"From: <%b>;tag=fb%d\r\nTo: <sip:%b@%b>\r\n" % (uri_of(caller), number, user, EDGE)
        rest = b"Call-ID: %b%b\r\nCSeq: 1 INVITE\r\nX-PGPX: %b\r\n" % (MARK, call_id, str(uuid4()).encode())
        tail = b"Content-Type: application/sdp\r\nContent-Length: %d\r\n\r\n" % len(body)
        return [trying, start + b"Max-Forwards: 69\r\n" + dialog + rest + CONTACT + tail + body]

    def response(self, first: bytes, fields: dict[bytes, list[bytes]], body: bytes, call_id: bytes) -> list[bytes]:
        """To our INVITE on leg B, or to our BYE on either leg."""
        code = first[8:11]
        if code == b"100":
            return []
        leg_a = call_id.removeprefix(MARK)
        bridge = self.bridges.get(leg_a)
        if bridge is None:
            self.totals.retransmissions += 1
            return []
        if fields[b"CSeq"][0].endswith(b"BYE"):
            del self.bridges[leg_a]
            self.totals.ended += 1
            return [] if code == b"200" else self.odd(first)
        if code == b"200":
            if bridge.answered:
                self.totals.retransmissions += 1
                return [bridge.ack]
            return self.answered(bridge, fields, body, call_id)
        if code == b"180" or code == b"183":
            bridge.last = self.to_leg_a(bridge, first, body)
            return [bridge.last]
        return self.odd(first)

    def answered(self, bridge: Bridge, fields: dict[bytes, list[bytes]], body: bytes, call_id: bytes) -> list[bytes]:
        """The callee's 200: ACK it, answer leg A."""
        bridge.answered = True
        bridge.to_b = fields[b"To"][0]
        bridge.contact_b = uri_of(fields[b"Contact"][0])
        bridge.route_b = routes(records(fields)[::-1])
        bridge.ack = self.on_leg_b(bridge, b"ACK", b"1 ACK", call_id)
        bridge.last = self.to_leg_a(bridge, b"SIP/2.0 200 OK", body)
        return [bridge.ack, bridge.last]

    @staticmethod
    def to_leg_a(bridge: Bridge, first: bytes, body: bytes) -> bytes:
        """A response to leg A's INVITE, with our tag and leg B's SDP."""
        copied = bridge.copied.replace(b"\r\nCall-ID", b";tag=fa%d\r\nCall-ID" % bridge.number, 1)
        tail = b"Content-Type: application/sdp\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body) if body else EMPTY
        return first + b"\r\n" + copied + bridge.record + CONTACT + tail

    @staticmethod
    def on_leg_b(bridge: Bridge, method: bytes, cseq: bytes, call_id: bytes) -> bytes:
        """A request inside leg B."""
        return (
            b"%b %b SIP/2.0\r\nVia: SIP/2.0/UDP %b;rport;branch=z9hG4bK%b%d\r\n%bMax-Forwards: 70\r\n"
            b"From: <%b>;tag=fb%d\r\n%b\r\nCall-ID: %b\r\nCSeq: %b\r\n"
            % (
                *(method, bridge.contact_b, HERE, method, bridge.number, bridge.route_b),
                *(uri_of(bridge.caller), bridge.number, bridge.to_b, call_id, cseq),
            )
            + EMPTY
        )

    def bye_b(self, bridge: Bridge, call_id: bytes) -> bytes:
        """The caller hung up: end leg B."""
        return self.on_leg_b(bridge, b"BYE", b"2 BYE", MARK + call_id)

    @staticmethod
    def bye_a(bridge: Bridge, call_id: bytes) -> bytes:
        """The callee hung up: end leg A, in whose dialog we are the called side."""
        to = bridge.copied.partition(b"\r\nTo:")[2].partition(b"\r\n")[0]
        return (
            b"BYE %b SIP/2.0\r\nVia: SIP/2.0/UDP %b;rport;branch=z9hG4bKa%d\r\n%bMax-Forwards: 70\r\n"
            b"From:%b;tag=fa%d\r\nTo:%b\r\nCall-ID: %b\r\nCSeq: 1 BYE\r\n"
            % (
                *(bridge.contact_a, HERE, bridge.number, bridge.route_a, to, bridge.number),
                *(bridge.caller[5:], call_id.removeprefix(MARK)),
            )
            + EMPTY
        )


class Stopped(Exception):
    """SIGTERM."""


def _stop(*_: object) -> None:
    raise Stopped


def serve(switch: Switch) -> None:
    """Serve ADDRESS until SIGTERM."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        sock.bind(ADDRESS)
        signal.signal(signal.SIGTERM, _stop)
        while True:
            for message in switch.received(sock.recv(65_535)):
                sock.sendto(message, LAN)


def read(path: Path) -> Totals:
    """The totals a B2BUA that has ended left behind; BenchError when there are none."""
    if not path.exists():
        raise BenchError(f"the B2BUA left no totals in {path}; see its log in that folder")
    return Totals(**json.loads(path.read_text()))


def main(arguments: list[str]) -> None:
    """Entry point."""
    switch = Switch()
    try:
        serve(switch)
    except Stopped:
        Path(arguments[0]).write_text(json.dumps(asdict(switch.totals)))


if __name__ == "__main__":
    main(sys.argv[1:])

"""The stand-in's transactions: FreeSWITCH's repetition intervals, absorbing, ICMP."""

from __future__ import annotations

import pytest

from lab.b2bua_stack import Server, Stack
from lab.sip import Address, Message

PEER = ("10.0.0.9", 5060)


def message(method: str, branch: str = "z9hG4bKone") -> Message:
    """A request."""
    out = Message(method=method, uri="sip:x@10.0.0.3")
    out.headers = [
        ("Via", f"SIP/2.0/UDP 10.0.0.9:5060;branch={branch}"),
        ("From", "<sip:a@x>;tag=1"),
        ("To", "<sip:b@x>"),
    ]
    out.headers += [("Call-ID", "c"), ("CSeq", f"1 {method}")]
    return out


class Side:
    """A stack with a record of what it sent and was asked."""

    def __init__(self) -> None:
        self.requests: list[Server] = []
        self.acks: list[Message] = []
        self.stack = Stack(self.requests.append, self.acks.append)
        self.sent: list[tuple[float, str]] = []

    def until(self, when: float) -> None:
        """Let time pass."""
        self.take()
        while (deadline := self.stack.next_deadline()) is not None and deadline <= when:
            self.stack.tick(deadline)
            self.take()
        self.stack.tick(when)
        self.take()

    def take(self) -> None:
        """Note what was sent."""
        for data, _ in self.stack.output:
            self.sent.append((round(self.stack.now, 3), data.split(b"\r\n")[0].decode()))
        self.stack.output.clear()

    def receive(self, what: Message, source: Address = PEER) -> None:
        """A datagram arrives."""
        self.stack.receive(what.encode(), source, self.stack.now)
        self.take()


@pytest.mark.parametrize(
    "method, times",
    [("INVITE", [0, 1, 3, 7, 15, 31]), ("BYE", [0, 1, 3, 7, 11, 15, 19, 23, 27, 31])],
)
def test_unanswered_request(method: str, times: list[int]) -> None:
    """g_dead_bleg_proxy: repeated after 1, 3, 7, 15, 31 s, given up after 32."""
    side, ended = Side(), list[float]()
    side.stack.request(message(method), PEER, on_timeout=lambda: ended.append(side.stack.now))
    side.until(100)
    assert [when for when, _ in side.sent] == times
    assert ended == [32]


def test_a_provisional_response_stops_the_invite() -> None:
    side, seen = Side(), list[int]()
    invite = message("INVITE")
    side.stack.request(invite, PEER, on_response=lambda response: seen.append(response.status))
    side.receive(invite.response(180))
    side.until(200)
    side.receive(invite.response(486, tag="t"))
    side.receive(invite.response(486, tag="t"))
    assert seen == [180, 486]
    assert [line.split()[0] for _, line in side.sent] == ["INVITE", "ACK", "ACK"]


def test_unacknowledged_200() -> None:
    """a_no_ack: repeated until 32 s after the first, then told."""
    side, ended = Side(), list[float]()
    side.receive(message("INVITE"))
    server = side.requests[0]
    server.on_no_ack = lambda: ended.append(side.stack.now)
    server.respond(server.request.response(200, tag="t"))
    side.until(100)
    assert [when for when, _ in side.sent] == [0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    assert ended == [32]
    with pytest.raises(RuntimeError, match="second final"):
        server.respond(server.request.response(200, tag="t"))


def test_repetitions_and_acks() -> None:
    side = Side()
    for _ in range(3):
        side.receive(message("INVITE"))
    assert len(side.requests) == 1
    server = side.requests[0]
    server.respond(server.request.response(200, tag="t"))
    side.receive(message("ACK", "z9hG4bKother"))
    side.until(60)
    assert len(side.sent) == 1
    assert len(side.acks) == 1
    side.receive(message("INVITE"))
    assert len(side.sent) == 2  # the response again


def test_refused() -> None:
    side, ended = Side(), list[str]()
    client = side.stack.request(message("INVITE"), PEER)
    client.on_refused = lambda: ended.append("refused")
    side.stack.refused(("10.0.0.8", 5060), 0.1)
    side.stack.refused(PEER, 0.1)
    side.until(100)
    assert ended == ["refused"]
    assert len(side.sent) == 1


def test_received_and_rport() -> None:
    """RFC 3581 4: rport filled in, received only when the address differs."""
    side = Side()
    natted = message("OPTIONS")
    natted.set("Via", "SIP/2.0/UDP 192.168.1.2:5060;rport;branch=z9hG4bKn")
    side.receive(natted, ("10.0.0.9", 1234))
    assert side.requests[0].request.values("Via") == [
        "SIP/2.0/UDP 192.168.1.2:5060;rport=1234;branch=z9hG4bKn;received=10.0.0.9"
    ]
    side.stack.receive(b"\r\n\r\n", PEER, 0)
    side.stack.receive(b"junk", PEER, 0)
    assert side.stack.rejected == ["no empty line after the headers: the message is cut short"]

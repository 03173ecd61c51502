"""Stateless mode: ladders over an in-memory edge, and the fast way against the general way, message by message."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

from proxy.config import load
from proxy.edge import Edge
from proxy.flow import Flow
from proxy.stateless import Stateless

CALLER = ("203.0.113.8", 5060)
CALLEE = ("203.0.113.9", 5060)
SCRIPT = """
def route(call):
    if call.user == "silent":
        return call.drop()
    if call.user == "wrong":
        raise ValueError("a mistake in a script")
    if call.user == "busy":
        return call.reply(486)
    if call.user == "none":
        return None
    if call.user == "set":
        return call.forward(call.dispatch("backends"))
    if call.user == "turn":
        return call.forward(call.dispatch("backends", by="round-robin"))
    if call.user == "name":
        return call.forward("sip:x@name.example")
    call.forward("sip:%s@203.0.113.9:5060" % call.user)
"""
CONFIG = """
[proxy]
route = "route.py"
secret = "0123456789abcdef"
[[listen]]
name = "public"
address = "198.51.100.1"
[[listen]]
name = "second"
address = "198.51.100.1"
port = 5070
[[dispatch]]
name = "backends"
destinations = ["203.0.113.21", "203.0.113.22", "203.0.113.23:5080"]
probe = false
"""


class World:
    """An edge in stateless mode; ``out`` collects (listener, address, bytes)."""

    def __init__(self, folder: Path) -> None:
        (folder / "route.py").write_text(textwrap.dedent(SCRIPT))
        (folder / "edge.toml").write_text(CONFIG)
        self.edge = Edge(load(folder / "edge.toml"), clock=lambda: 0.0)
        self.out: list[tuple[str, tuple[str, int], bytes]] = []
        for listener in self.edge.listeners:
            listener.sender = self._collector(listener.name)
        assert self.edge.stateless is not None
        self.balancer: Stateless = self.edge.stateless

    def _collector(self, name: str):  # type: ignore[no-untyped-def]
        return lambda data, addr: self.out.append((name, addr, data))

    def flow(self, addr: tuple[str, int], listener: int = 0) -> Flow:
        return self.edge.listeners[listener].flow(addr)

    def send(
        self, data: bytes, addr: tuple[str, int] = CALLER, listener: int = 0
    ) -> list[tuple[str, tuple[str, int], bytes]]:
        self.out.clear()
        self.balancer.received(data, self.flow(addr, listener))
        return list(self.out)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def request(method: str = "INVITE", user: str = "1000", branch: str = "b1", extra: str = "", to_tag: str = "") -> bytes:
    return (
        f"{method} sip:{user}@198.51.100.1 SIP/2.0\r\n"
        f"Via: SIP/2.0/UDP 203.0.113.8:5060;branch=z9hG4bK{branch}\r\n"
        f"{extra}"
        "From: <sip:alice@203.0.113.8>;tag=a1\r\n"
        f"To: <sip:{user}@198.51.100.1>{to_tag}\r\n"
        "Call-ID: call-1@203.0.113.8\r\n"
        f"CSeq: 1 {method}\r\n"
        "Contact: <sip:alice@203.0.113.8:5060>\r\n"
        "Max-Forwards: 70\r\n"
        "Content-Length: 0\r\n\r\n"
    ).encode()


def header(data: bytes, name: str) -> list[bytes]:
    return re.findall(rb"\r\n" + name.encode() + rb": ([^\r\n]*)", data)


def response_to(data: bytes, code: int = 200) -> bytes:
    """The response a UAS would send to a request it got."""
    kept = b"".join(
        b"%s: %s\r\n" % (n.encode(), v)
        for n in ("Via", "Record-Route", "From", "To", "Call-ID", "CSeq")
        for v in header(data, n)
    )
    return b"SIP/2.0 %d OK\r\n" % code + kept + b"Content-Length: 0\r\n\r\n"


def test_a_call_passes_both_ways(world: World) -> None:
    """INVITE, 180, 200, ACK, BYE, 200: six messages, nothing remembered."""
    [(_, to, invite)] = world.send(request())
    assert to == CALLEE
    assert invite.startswith(
        b"INVITE sip:1000@203.0.113.9:5060 SIP/2.0\r\nRecord-Route: <sip:198.51.100.1;lr=on;ftag=a1;t="
    )
    assert header(invite, "Max-Forwards") == [b"69"]
    vias = header(invite, "Via")
    assert vias[0].startswith(b"SIP/2.0/UDP 198.51.100.1;branch=z9hG4bK")
    assert vias[1] == b"SIP/2.0/UDP 203.0.113.8:5060;branch=z9hG4bKb1"
    for code in (180, 200):
        [(_, to, answer)] = world.send(response_to(invite, code), CALLEE)
        assert to == CALLER
        assert header(answer, "Via") == [b"SIP/2.0/UDP 203.0.113.8:5060;branch=z9hG4bKb1"]
    route = f"Route: {header(invite, 'Record-Route')[0].decode()}\r\n"
    for method in ("ACK", "BYE"):
        asked = request(method, branch=method, extra=route, to_tag=";tag=b1").replace(
            b"@198.51.100.1 SIP", b"@203.0.113.9 SIP"
        )
        [(_, to, passed)] = world.send(asked)
        assert to == CALLEE
        assert header(passed, "Route") == []
        assert header(passed, "Record-Route") == []
    [(_, to, done)] = world.send(response_to(passed), CALLEE)
    assert to == CALLER
    assert len(header(done, "Via")) == 1
    assert not world.edge.stack.client and not world.edge.stack.server and not len(world.edge.core.dialogs)


def test_retransmission_cancel_and_failure_ack_have_the_invites_branch(world: World) -> None:
    """RFC 3261 16.11: the branch is computed from the one below."""
    branches = [header(world.send(request(method))[0][2], "Via")[0] for method in ("INVITE", "INVITE", "CANCEL")]
    ack = world.send(request("ACK", to_tag=";tag=x"))
    assert len({*branches, header(ack[0][2], "Via")[0]}) == 1
    assert header(world.send(request(branch="b2"))[0][2], "Via")[0] != branches[0]


def test_two_sockets_and_the_way_back(world: World) -> None:
    """What came in by the second socket goes back by the second socket."""
    [(name, _, invite)] = world.send(request(), listener=1)
    assert name == "second"
    [(name, to, _)] = world.send(response_to(invite), CALLEE)
    assert (name, to) == ("second", CALLER)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (request(user="busy"), 486),
        (request(user="none"), 404),
        (request(user="wrong"), 500),
        (request(user="name"), 404),
        (request().replace(b"Max-Forwards: 70", b"Max-Forwards: 0"), 483),
        (request(to_tag=";tag=b"), 404),
        (request(to_tag=";tag=b", extra="Route: <sip:198.51.100.1;lr=on;ftag=a1;t=forged>\r\n"), 404),
        (request(to_tag=";tag=b", extra="Route: <sip:198.51.100.1;lr>\r\n"), 404),
        (request(extra="Route: <sip:192.0.2.1;lr>\r\n", to_tag=";tag=b"), 404),
        (
            request()
            .replace(b"Content-Length: 0", b"Content-Length: 99")
            .lower()
            .replace(b"sip/2.0", b"SIP/2.0")
            .replace(b"invite", b"INVITE"),
            400,
        ),
    ],
)
def test_answered_here(world: World, data: bytes, code: int) -> None:
    [(_, to, answer)] = world.send(data)
    assert (to, answer.split(b" ")[1]) == (CALLER, b"%d" % code)


@pytest.mark.parametrize(
    "data",
    [
        request(user="silent"),
        b"\r\n\r\n",
        b"garbage",
        b"",
        b"SIP/2.0 200 OK\r\n\r\n",
        request("ACK", user="busy", to_tag=";tag=b"),
    ],
)
def test_silence(world: World, data: bytes) -> None:
    assert world.send(data) == []


def test_a_token_is_good_for_its_call_only(world: World) -> None:
    [(_, _, invite)] = world.send(request())
    route = f"Route: {header(invite, 'Record-Route')[0].decode()}\r\n"
    good = request("BYE", extra=route, to_tag=";tag=b").replace(b"@198.51.100.1 SIP", b"@203.0.113.9 SIP")
    assert world.send(good)[0][1] == CALLEE
    [(_, to, answer)] = world.send(good.replace(b"call-1@", b"call-2@"))
    assert (to, answer[:11]) == (CALLER, b"SIP/2.0 404")


def test_hash_keeps_a_call_together_and_round_robin_remembers(world: World) -> None:
    def destination(user: str, number: int, method: str = "INVITE") -> tuple[str, int]:
        return world.send(request(method, user=user).replace(b"call-1@", b"call-%d@" % number))[0][1]

    assert len({destination("set", number) for number in range(60)}) == 3
    assert all(destination("set", n) == destination("set", n, "CANCEL") for n in range(20))
    turns = [destination("turn", number) for number in range(6)]
    assert sorted(turns) == sorted([*set(turns)] * 2)
    assert destination("turn", 3, "CANCEL") == turns[3]
    down = world.edge.sets["backends"].destinations[0]
    world.edge.sets["backends"].mark_failed(down, 0.0, "icmp")
    assert down.addr not in {destination("set", number) for number in range(60)}


VARIANTS = [
    (
        "compact names",
        lambda data: (
            data.replace(b"\r\nVia: ", b"\r\nv: ").replace(b"\r\nFrom: ", b"\r\nf: ").replace(b"\r\nTo: ", b"\r\nt: ")
        ),
    ),
    ("lower case", lambda data: data.replace(b"\r\nMax-Forwards: ", b"\r\nmax-forwards: ")),
    ("folding", lambda data: data.replace(b"Call-ID: ", b"Call-ID:\r\n ")),
    ("no space", lambda data: data.replace(b"\r\nVia: ", b"\r\nVia:")),
    (
        "Via: a, b in one line",
        lambda data: data.replace(b";branch=z9hG4bKb1", b";branch=z9hG4bKb1, SIP/2.0/UDP 203.0.113.7;branch=z9hG4bK0"),
    ),
    ("rport", lambda data: data.replace(b";branch=z9hG4bKb1", b";rport;branch=z9hG4bKb1")),
    ("rport at the end", lambda data: data.replace(b";branch=z9hG4bKb1", b";branch=z9hG4bKb1;rport")),
    (
        "rport, other host",
        lambda data: data.replace(b"203.0.113.8:5060;branch=z9hG4bKb1", b"phone:9;branch=z9hG4bKb1;rport"),
    ),
    ("rport twice", lambda data: data.replace(b";branch=z9hG4bKb1", b";rport;branch=z9hG4bKb1;rport")),
    (
        "rport and received",
        lambda data: data.replace(b";branch", b";Received=203.0.113.7;branch").replace(b"Kb1", b"Kb1;rport"),
    ),
    ("host name in Via", lambda data: data.replace(b"UDP 203.0.113.8:5060", b"UDP phone.example")),
    (
        "a Via below",
        lambda data: data.replace(b"\r\nFrom", b"\r\nVia: SIP/2.0/UDP 203.0.113.7;branch=z9hG4bK0\r\nFrom", 1),
    ),
    (
        "Record-Route from before",
        lambda data: data.replace(b"\r\nFrom", b"\r\nRecord-Route: <sip:203.0.113.7;lr>\r\nFrom", 1),
    ),
    ("no Max-Forwards", lambda data: data.replace(b"Max-Forwards: 70\r\n", b"")),
    ("as sent", lambda data: data),
]


@pytest.mark.parametrize("method", ["INVITE", "OPTIONS", "CANCEL", "MESSAGE"])
@pytest.mark.parametrize("change", [row[1] for row in VARIANTS], ids=[row[0] for row in VARIANTS])
def test_fast_and_general_way_send_the_same(world: World, change, method: str, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    data = change(request(method))
    usual = world.send(data)
    monkeypatch.setattr(Stateless, "_request_fast_untrusted", lambda *_: False)
    general = world.send(data)
    assert len(usual) == 1
    # Max-Forwards stays in its place in both, Record-Route and Via stand on top in both.
    assert usual == general
    assert usual[0][1] == CALLEE
    answer = response_to(usual[0][2].replace(b"\r\nv:", b"\r\nVia:").replace(b"Via:SIP", b"Via: SIP"))
    folded = re.sub(rb"(?<=\r\nVia: )([^\r]*)\r\nVia: ", rb"\1, ", answer)
    answers = (answer, folded)
    assert folded.count(b"\r\nVia: ") == 1
    back = [world.send(data, CALLEE) for data in answers]
    monkeypatch.setattr(Stateless, "_response_fast", lambda *_: False)
    assert [world.send(data, CALLEE) for data in answers] == back
    assert all(len(sent) == 1 and sent[0][1][0] == "203.0.113.8" for sent in back)


def test_the_fast_way_takes_what_phones_and_stacks_usually_send(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """`rport` at the end of the Via, and all Vias of a response in one line."""
    for general in ("_request_untrusted", "_response_untrusted"):
        monkeypatch.delattr(Stateless, general)
    data = request().replace(b";branch=z9hG4bKb1", b";branch=z9hG4bKb1;rport")
    ((_, _, sent),) = world.send(data)
    assert b";branch=z9hG4bKb1;rport=5060;received=203.0.113.8\r\n" in sent
    below = b"SIP/2.0/UDP 203.0.113.8:5060;branch=z9hG4bKb1;rport=5060;received=203.0.113.8"
    folded = re.sub(rb"(?<=\r\nVia: )([^\r]*)\r\nVia: ", rb"\1, ", response_to(sent))
    ((_, addr, back),) = world.send(folded, CALLEE)
    assert addr == CALLER
    assert header(back, "Via") == [below]
    data = data.replace(b"Max-Forwards: 70\r\n", b"")
    for neighbour in (b"\r\nVia", b"\r\nFrom"):  # before the Via, and right behind it
        ((_, _, moved),) = world.send(data.replace(neighbour, b"\r\nMax-Forwards: 70" + neighbour, 1))
        assert sorted(moved.split(b"\r\n")) == sorted(sent.split(b"\r\n")), "the same lines in another order"


def test_every_prefix_of_a_message_is_survived(world: World) -> None:
    whole = request()
    for end in range(len(whole)):
        world.send(whole[:end])
    [(_, _, invite)] = world.send(whole)
    answer = response_to(invite)
    for end in range(len(answer)):
        world.send(answer[:end], CALLEE)
    assert world.send(whole)[0][1] == CALLEE


def test_a_response_that_is_not_for_us_is_dropped_and_counted(world: World) -> None:
    [(_, _, invite)] = world.send(request())
    before = world.edge.stack.stats["responses_stray"]
    assert world.send(response_to(invite).replace(b"UDP 198.51.100.1;", b"UDP 192.0.2.1;"), CALLEE) == []
    assert world.send(response_to(invite).replace(b".0\r\n", b".9\r\n", 1), CALLEE) == []
    assert world.edge.stack.stats["responses_stray"] == before + 2

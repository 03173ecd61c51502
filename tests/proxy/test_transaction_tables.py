"""Every row of the four transaction tables, walked on a stack with a virtual clock, and every pair without a row.

A transaction is brought into the row's state by the shortest path of events, then the row's event is applied and what
comes out (bytes sent, user told, timers) is compared with the row's actions, spelled out here a second time in
``MEANING``.
"""

from __future__ import annotations

from collections import deque

import pytest

from proxy.flow import Listener
from proxy.sip.message import Request, Response, make_response
from proxy.sip.parser import parse_untrusted
from proxy.sip.transaction import ICT, INITIAL, IST, NICT, NIST, TABLES, TERMINATED, Timers
from proxy.stack import Stack, Transaction

INVITE = (
    b"INVITE sip:1000@198.51.100.1 SIP/2.0\r\nVia: SIP/2.0/UDP 203.0.113.8;branch=z9hG4bKtest\r\nMax-Forwards: 70\r\n"
    b"From: <sip:a@x>;tag=1\r\nTo: <sip:1000@x>\r\nCall-ID: c1\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n"
)
OPTIONS = INVITE.replace(b"INVITE", b"OPTIONS")
ALL_EVENTS = {
    ICT: ("1xx", "2xx", "3xx", "retry", "life", "error"),
    IST: ("request", "send_1xx", "send_2xx", "send_3xx", "ack", "retry", "life", "error"),
    NICT: ("1xx", "final", "retry", "life", "error"),
    NIST: ("request", "send_1xx", "send_final", "life", "error"),
}


class Bench:
    """One transaction of a kind, its stack, and a record of what it does."""

    def __init__(self, kind: str) -> None:
        self.out: list[bytes] = []
        self.told: list[str] = []
        self.listener = Listener("public", "198.51.100.1", 5060, sender=lambda data, addr: self.out.append(data))
        self.stack = Stack(Timers())
        self.flow = self.listener.flow(("203.0.113.8", 5060))
        self.now = 100.0
        request = parse_untrusted(INVITE if kind in (ICT, IST) else OPTIONS)
        assert isinstance(request, Request)
        self.request = request
        self.kind = kind
        if kind in (IST, NIST):
            self.tx = self.stack.open_server(request, self.flow, ("k",), self)
        else:
            self.tx = self.stack.send_request(request, b"z9hG4bKtest", self.flow, self, self.now)
        self.out.clear()

    def on_response(self, tx: Transaction, response: Response, now: float) -> None:
        self.told.append("pass")

    def on_timeout(self, tx: Transaction, now: float) -> None:
        self.told.append("timeout")

    def on_unreachable(self, tx: Transaction, now: float) -> None:
        self.told.append("failed")

    def on_over(self) -> None: ...

    def on_ack(self, tx: Transaction, request: Request, now: float) -> None:
        self.told.append("pass")

    def apply(self, event: str) -> None:
        codes = {"1xx": 180, "2xx": 200, "final": 200, "3xx": 486}
        if event in codes:
            self.stack._step(self.tx, event, make_response(self.request, codes[event]), self.now)
        elif event.startswith("send_"):
            code = {"send_1xx": 180, "send_2xx": 200, "send_3xx": 486, "send_final": 200}[event]
            self.stack.respond(self.tx, code, make_response(self.request, code).to_bytes(), self.now)
        elif event in ("retry", "life"):
            at = self.tx.retry_at if event == "retry" else self.tx.life_at
            assert at > 0, f"{event} is not armed in {self.tx.state}"
            self.now = at
            other = self.tx.life_at if event == "retry" else self.tx.retry_at
            if other and other <= at:
                # The other timer is due as well; only this one is walked here.
                self.stack._step(self.tx, event, None, self.now)
            else:
                self.stack.tick(self.now)
        else:
            self.stack._step(self.tx, event, self.request, self.now)


def path_to(kind: str, state: str) -> list[str]:
    """Shortest list of events from the initial state to ``state``."""
    seen = {INITIAL[kind]}
    todo: deque[tuple[str, list[str]]] = deque([(INITIAL[kind], [])])
    while todo:
        here, path = todo.popleft()
        if here == state:
            return path
        for event, (after, _) in TABLES[kind].get(here, {}).items():
            if after not in seen:
                seen.add(after)
                todo.append((after, [*path, event]))
    raise AssertionError(f"{state} of {kind} cannot be reached")


ROWS = [(kind, state, event) for kind, table in TABLES.items() for state, rows in table.items() for event in rows]
GAPS = [
    (kind, state, event)
    for kind, table in TABLES.items()
    for state, rows in table.items()
    for event in ALL_EVENTS[kind]
    if event not in rows
]


@pytest.mark.parametrize(("kind", "state", "event"), ROWS)
def test_row(kind: str, state: str, event: str) -> None:
    after, actions = TABLES[kind][state][event]
    bench = Bench(kind)
    for step in path_to(kind, state):
        bench.apply(step)
    assert bench.tx.state == state
    if "resend" in actions and not bench.tx.last:
        bench.tx.last = b"something sent before"
    bench.out.clear()
    bench.told.clear()
    bench.apply(event)

    assert bench.tx.state == after
    sent = sum(name in ("send", "resend", "ack") for name in actions)
    assert len(bench.out) == sent
    if "ack" in actions:
        assert bench.out[0].startswith(b"ACK sip:1000@198.51.100.1 SIP/2.0\r\n")
    # A server transaction that times out or fails has nobody left to tell (RFC 3261 17.2.1, 17.2.4 as a proxy).
    told = [name for name in actions if name in ("pass", "timeout", "failed")]
    assert bench.told == [name for name in told if kind in (ICT, NICT) or name == "pass"]
    for name in actions:
        action, _, timer = name.partition(":")
        timers = bench.stack.timers
        if action == "arm_life":
            assert bench.tx.life_at == pytest.approx(bench.now + timers.life[timer])
        if action == "arm_retry":
            assert bench.tx.retry_at == pytest.approx(bench.now + timers.retry[timer])
        if action in ("double_retry", "slow_retry"):
            assert bench.tx.retry_at > bench.now
        if action == "stop_retry":
            assert bench.tx.retry_at == 0.0
        if action == "stop_life":
            assert bench.tx.life_at == 0.0
    gone = bench.tx not in bench.stack.client.values() and bench.tx not in bench.stack.server.values()
    assert gone == (after == TERMINATED)


@pytest.mark.parametrize(("kind", "state", "event"), GAPS)
def test_event_without_a_row_is_absorbed(kind: str, state: str, event: str) -> None:
    bench = Bench(kind)
    for step in path_to(kind, state):
        bench.apply(step)
    bench.out.clear()
    bench.told.clear()
    if event.startswith("send_"):
        before = bench.tx.last
        bench.apply(event)
        assert bench.tx.last == before
    else:
        bench.stack._step(bench.tx, event, make_response(bench.request, 200), bench.now)
    assert (bench.tx.state, bench.out, bench.told) == (state, [], [])


def test_invite_is_retransmitted_with_doubling_until_timer_b() -> None:
    """RFC 3261 17.1.1.2: 0.5, 1, 2, 4, 8, 16 s, then a timeout at 64*T1."""
    bench = Bench(ICT)
    times = []
    while (due := bench.stack.next_deadline()) is not None and not bench.told:
        before = len(bench.out)
        bench.stack.tick(due)
        if len(bench.out) > before:
            times.append(due - 100.0)
    assert times == pytest.approx([0.5, 1.5, 3.5, 7.5, 15.5, 31.5])
    assert bench.told == ["timeout"]
    assert not bench.stack.client


def test_non_invite_retransmits_up_to_t2_and_slower_after_a_provisional() -> None:
    """RFC 3261 17.1.2.2: 0.5, 1, 2, 4, 4, ...; in Proceeding always T2."""
    bench = Bench(NICT)
    gaps, last = [], 100.0
    for _ in range(5):
        due = bench.stack.next_deadline()
        assert due is not None
        bench.stack.tick(due)
        gaps.append(due - last)
        last = due
    assert gaps == pytest.approx([0.5, 1.0, 2.0, 4.0, 4.0])
    bench.now = last
    bench.apply("1xx")
    due = bench.stack.next_deadline()
    assert due is not None
    bench.stack.tick(due)
    assert bench.tx.interval == 4.0


def test_timers_scale_with_t1() -> None:
    timers = Timers(t1=0.1)
    assert timers.life["B"] == timers.life["H"] == pytest.approx(6.4)
    assert Timers().life["D"] == 32.0
    assert timers.next_retry("A", 16.0) == 32.0
    assert timers.next_retry("E", 16.0) == 4.0

"""Ring 1, the transaction layer: ``received(data, flow, now)`` in, bytes out through ``flow.send_nowait``.

How it works: a message is parsed, matched to a transaction (RFC 3261 17.1.3 and 17.2.3, also the RFC 2543 rules) and
fed as an event to the tables of ``sip/transaction``; the table's action names are bound to the methods below. What no
transaction absorbs goes to the ``User`` (``core``), which opens transactions with ``open_server`` and
``send_request``. There is no ``await`` and no clock here: time is an argument, ``next_deadline()`` says when
``tick(now)`` is due. Timers sit in one heap and are deleted lazily: a transaction remembers which deadline of each
kind still counts.

Network failures reach transactions through ``unreachable``: ICMP for a datagram we sent, found again by its Via
branch.
"""

from __future__ import annotations

import heapq
import re
from collections import defaultdict
from collections.abc import Callable
from typing import Any, Protocol

from proxy.flow import Address, Flow, Listener
from proxy.sip.message import H, Request, Response, make_ack, make_response
from proxy.sip.parser import BadMessage, is_keepalive, parse_untrusted
from proxy.sip.transaction import COMPLETED, ICT, INITIAL, IST, NICT, NIST, TABLES, TERMINATED, Timers

MAGIC = b"z9hG4bK"
MAX_DATAGRAM = 65_507
"""Bytes of payload in one UDP datagram over IPv4."""
_BRANCH = re.compile(rb"branch=(z9hG4bK[^;,\s]+)")
ServerKey = tuple[Any, ...]


class ClientUser(Protocol):
    """Who sent a request: a relay branch, a probe, a request of our own."""

    def on_response(self, tx: Transaction, response: Response, now: float) -> None: ...

    def on_timeout(self, tx: Transaction, now: float) -> None:
        """No final response in 64*T1 (RFC 3261 timers B and F)."""

    def on_unreachable(self, tx: Transaction, now: float) -> None:
        """The transport said the datagram could not be delivered (ICMP)."""


class Ignored:
    """The answer to our CANCEL says nothing we act on: the INVITE's own final response does (RFC 3261 9.1)."""

    def on_response(self, tx: Transaction, response: Response, now: float) -> None: ...

    def on_timeout(self, tx: Transaction, now: float) -> None: ...

    def on_unreachable(self, tx: Transaction, now: float) -> None: ...


class ServerUser(Protocol):
    """Who answers a request."""

    def on_ack(self, tx: Transaction, request: Request, now: float) -> None: ...

    def on_over(self) -> None:
        """Its transaction has ended."""


class User(Protocol):
    """The transaction user above the stack."""

    def on_request(self, request: Request, flow: Flow, key: ServerKey, now: float) -> None: ...

    def on_ack(self, request: Request, flow: Flow, now: float) -> None: ...

    def on_cancel(
        self, request: Request, flow: Flow, key: ServerKey, invite: Transaction | None, now: float
    ) -> None: ...


class Transaction:
    """One client or server transaction; ``last`` is what a retransmission repeats."""

    __slots__ = ("flow", "interval", "key", "kind", "last", "life_at", "request", "retry_at", "rows", "state", "user")

    def __init__(self, kind: str, key: Any, request: Request, flow: Flow, user: Any) -> None:
        self.kind = kind
        self.key = key
        self.request = request
        self.flow = flow
        self.user = user
        self.state = INITIAL[kind]
        self.rows = BOUND[kind]
        self.last = b""
        self.interval = 0.0
        self.retry_at = 0.0
        self.life_at = 0.0

    def __repr__(self) -> str:
        return f"<Transaction {self.kind} {self.state} {self.request.method}>"


class Stack:
    """The transaction layer over any number of listeners."""

    def __init__(self, timers: Timers | None = None, unique: bytes = b"0") -> None:
        self.timers = timers or Timers()
        self.user: User | None = None
        self.listeners: list[Listener] = []
        self.server: dict[ServerKey, Transaction] = {}
        self.client: dict[bytes, Transaction] = {}
        self.stats: defaultdict[str, int] = defaultdict(int)
        self.tap: Callable[[str, bytes, Flow], None] | None = None
        self._heap: list[tuple[float, int, Transaction, bool]] = []
        self._count = 0
        self._unique = MAGIC + unique

    # -- identifiers ---------------------------------------------------------------------------------------------

    def new_branch(self, loop_hash: int) -> bytes:
        """A Via branch of ours; the part behind the dot is the loop detection hash (RFC 3261 16.6 item 8)."""
        self._count += 1
        return b"%s%x.%08x" % (self._unique, self._count, loop_hash)

    # -- bytes in -------------------------------------------------------------------------------------------------

    def received(self, data: bytes, flow: Flow, now: float) -> None:
        """One datagram from ``flow``. Never raises for what the network sent: bad input is counted, answered or
        dropped."""
        try:
            message = parse_untrusted(data)
            if isinstance(message, Response):
                self._response_untrusted(message, now)
            else:
                self._request_untrusted(message, flow, now)
        except BadMessage as bad:
            if not is_keepalive(data):
                self.refuse_bad(bad, flow)

    def refuse_bad(self, bad: BadMessage, flow: Flow) -> None:
        """Answer a request that cannot be processed, when enough of it could be read to address a reply."""
        self.stats["bad_messages"] += 1
        partial = bad.partial
        if bad.status and partial is not None and partial.method != "ACK":
            self.stats["bad_answered"] += 1
            self.mark_source(partial, flow)
            response = make_response(partial, bad.status, bad.reason, to_tag=self.stateless_tag(partial))
            self.send_stateless(response, flow)

    def stateless_tag(self, request: Request) -> bytes:
        """A To tag that is the same for every retransmission of one request (RFC 3261 8.2.7)."""
        return b"%08x" % (hash((request.get(H.CALL_ID), request.get(H.VIA))) & 0xFFFFFFFF)

    def mark_source(self, request: Request, flow: Flow) -> None:
        """``received`` and ``rport`` in the topmost Via (RFC 3261 18.2.1, RFC 3581 section 4)."""
        via = request.via
        host, port = flow.addr
        source = host.encode()
        if via.rport is not None:
            request.mark_source(source, b"%d" % port)
        elif via.host != source:
            request.mark_source(source, None)

    def _request_untrusted(self, request: Request, flow: Flow, now: float) -> None:
        via = request.via
        method = request.method
        branch = via.branch
        group = "INVITE" if method in ("ACK", "CANCEL") else method
        if branch is not None and branch.startswith(MAGIC):
            key: ServerKey = (branch, via.host, via.port, group)
        else:
            key = self._key_2543(request, group)
        tx = self.server.get(key if method != "CANCEL" else (*key, "CANCEL"))
        if tx is not None:
            if method == "ACK":
                self._step(tx, "ack", request, now)
            else:
                self.stats["retransmissions_absorbed"] += 1
                self._step(tx, "request", request, now)
            return
        user = self.user
        if user is None:
            return
        self.stats["requests"] += 1
        self.mark_source(request, flow)
        if method == "ACK":
            user.on_ack(request, flow, now)
        elif method == "CANCEL":
            user.on_cancel(request, flow, (*key, "CANCEL"), self.server.get(key), now)
        else:
            user.on_request(request, flow, key, now)

    @staticmethod
    def _key_2543(request: Request, group: str) -> ServerKey:
        """RFC 3261 17.2.3, second half: Request-URI, tags, Call-ID, CSeq number and top Via. An ACK may have another
        Via and the To tag of the response, a CANCEL no To tag, so neither goes into the key; nor does the
        Request-URI, which an ACK to a 2xx takes from the Contact."""
        return (b"", request.call_id, request.from_tag, request.cseq, request.via.host, group)

    def _response_untrusted(self, response: Response, now: float) -> None:
        via = response.via
        branch = via.branch
        self.stats["responses"] += 1
        if branch is None:
            self.stats["responses_stray"] += 1
            return
        method = response.cseq_method
        tx = self.client.get(branch if method != "CANCEL" else b"C" + branch)
        if tx is None or tx.request.method != method:
            self.stats["responses_stray"] += 1  # RFC 6026 8.9: a stray response is not forwarded
            return
        code = response.code
        if code < 200:
            event = "1xx"
        elif tx.kind is NICT:
            event = "final"
        else:
            event = "2xx" if code < 300 else "3xx"
        self._step(tx, event, response, now)

    def unreachable(self, quoted: bytes, addr: Address, now: float) -> None:
        """ICMP said a datagram did not arrive; ``quoted`` is the beginning of what was sent."""
        self.stats["icmp"] += 1
        found = _BRANCH.search(quoted)
        if found is None:
            return
        branch = found.group(1)
        tx = self.client.get(b"C" + branch if quoted.startswith(b"CANCEL ") else branch)
        if tx is not None and tx.flow.addr == addr:
            self._step(tx, "error", None, now)

    # -- transactions ---------------------------------------------------------------------------------------------

    def open_server(self, request: Request, flow: Flow, key: ServerKey, user: ServerUser | None) -> Transaction:
        """A server transaction for ``request``; ``key`` is what ``User.on_request`` was given."""
        tx = Transaction(IST if request.method == "INVITE" else NIST, key, request, flow, user)
        self.server[key] = tx
        return tx

    def respond(self, tx: Transaction, code: int, data: bytes, now: float) -> None:
        """Send a response through its server transaction."""
        tx.last, last = data, tx.last
        if code < 200:
            event = "send_1xx"
        elif tx.kind is NIST:
            event = "send_final"
        else:
            event = "send_2xx" if code < 300 else "send_3xx"
        if event not in tx.rows.get(tx.state, ()):
            tx.last = last
            self.stats["responses_too_late"] += 1
            return
        self._step(tx, event, None, now)

    def send_request(self, request: Request, branch: bytes, flow: Flow, user: ClientUser, now: float) -> Transaction:
        """Send a request whose topmost Via has ``branch`` through a new client transaction.

        One that does not fit into a datagram is not sent, and nobody is called back: the transaction is terminated.
        """
        if request.method == "INVITE":
            kind, retry, life = ICT, "A", "B"
            key = branch
        else:
            kind, retry, life = NICT, "E", "F"
            key = branch if request.method != "CANCEL" else b"C" + branch
        tx = Transaction(kind, key, request, flow, user)
        tx.last = request.to_bytes()
        if len(tx.last) > MAX_DATAGRAM:
            tx.state = TERMINATED
            self.stats["requests_too_large"] += 1
            return tx
        self.client[key] = tx
        self._arm_retry(tx, retry, now)
        self._arm_life(tx, life, now)
        self._send(tx, None, now)
        return tx

    def hush(self, tx: Transaction) -> None:
        """No more retransmissions; the transaction lives on for what may still come."""
        tx.retry_at = 0.0

    def abandon(self, tx: Transaction) -> None:
        """Forget a transaction at once: no retransmission, no call back; late responses are strays."""
        tx.state = TERMINATED
        self._forget(tx)
        self._let_go(tx)

    def send_stateless(self, response: Response, flow: Flow) -> None:
        """Answer without a transaction (RFC 3261 8.2.7)."""
        data = response.to_bytes()
        self.stats["replies_stateless"] += 1
        if self.tap is not None:
            self.tap("out", data, flow)
        flow.send_nowait(data)

    # -- the tables' actions --------------------------------------------------------------------------------------

    def _step(self, tx: Transaction, event: str, message: Any, now: float) -> None:
        row = tx.rows[tx.state].get(event)
        if row is None:
            return
        state, actions = row
        tx.state = state
        if state is TERMINATED:
            self._forget(tx)
        for action, timer in actions:
            if timer is None:
                action(self, tx, message, now)
            else:
                action(self, tx, timer, now)
        if state in _OVER[tx.kind]:
            self._let_go(tx)

    def _let_go(self, tx: Transaction) -> None:
        """Nothing is reported any more: transaction and user must not hold each other for the garbage collector."""
        user, tx.user = tx.user, None
        if user is not None and tx.kind in (IST, NIST):
            user.on_over()

    def _forget(self, tx: Transaction) -> None:
        tx.retry_at = tx.life_at = 0.0
        table: dict[Any, Transaction] = self.server if tx.kind in (IST, NIST) else self.client
        if table.get(tx.key) is tx:
            del table[tx.key]

    def _send(self, tx: Transaction, _: Any, now: float) -> None:
        if self.tap is not None:
            self.tap("out", tx.last, tx.flow)
        flow = tx.flow
        flow.listener.send_nowait(tx.last, flow.addr)

    def _resend(self, tx: Transaction, _: Any, now: float) -> None:
        if tx.last:
            self.stats["retransmissions_sent"] += 1
            self._send(tx, None, now)

    def _pass(self, tx: Transaction, message: Any, now: float) -> None:
        if tx.kind is IST:
            if tx.user is not None:
                tx.user.on_ack(tx, message, now)
        else:
            tx.user.on_response(tx, message, now)

    def _ack(self, tx: Transaction, response: Response, now: float) -> None:
        data = make_ack(tx.request, response)
        if self.tap is not None:
            self.tap("out", data, tx.flow)
        tx.flow.send_nowait(data)

    def _timeout(self, tx: Transaction, _: Any, now: float) -> None:
        self.stats["timeouts"] += 1
        if tx.kind in (ICT, NICT):
            tx.user.on_timeout(tx, now)

    def _failed(self, tx: Transaction, _: Any, now: float) -> None:
        if tx.kind in (ICT, NICT):
            tx.user.on_unreachable(tx, now)

    def _arm_retry(self, tx: Transaction, timer: str, now: float) -> None:
        tx.interval = self.timers.retry[timer]
        self._push_retry(tx, now)

    def _double_retry(self, tx: Transaction, timer: str, now: float) -> None:
        tx.interval = self.timers.next_retry(timer, tx.interval)
        self._push_retry(tx, now)

    def _slow_retry(self, tx: Transaction, timer: str, now: float) -> None:
        tx.interval = self.timers.t2
        self._push_retry(tx, now)

    def _push_retry(self, tx: Transaction, now: float) -> None:
        tx.retry_at = now + tx.interval
        self._count += 1
        heapq.heappush(self._heap, (tx.retry_at, self._count, tx, False))

    def _stop_retry(self, tx: Transaction, _: Any, now: float) -> None:
        tx.retry_at = 0.0

    def _arm_life(self, tx: Transaction, timer: str, now: float) -> None:
        tx.life_at = now + self.timers.life[timer]
        self._count += 1
        heapq.heappush(self._heap, (tx.life_at, self._count, tx, True))

    def _stop_life(self, tx: Transaction, _: Any, now: float) -> None:
        tx.life_at = 0.0

    # -- time -----------------------------------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """When ``tick`` is due, in the clock of ``received``'s ``now``; None when nothing is pending."""
        heap = self._heap
        while heap:
            at, _, tx, life = heap[0]
            if (tx.life_at if life else tx.retry_at) == at:
                return at
            heapq.heappop(heap)
        return None

    def tick(self, now: float) -> None:
        """Fire every timer that is due at ``now``."""
        heap = self._heap
        while heap and heap[0][0] <= now:
            at, _, tx, life = heapq.heappop(heap)
            if life:
                if tx.life_at == at:
                    tx.life_at = 0.0
                    self._step(tx, "life", None, now)
            elif tx.retry_at == at:
                tx.retry_at = 0.0
                self._step(tx, "retry", None, now)


_OVER: dict[str, frozenset[str]] = {
    ICT: frozenset((TERMINATED, COMPLETED)),
    NICT: frozenset((TERMINATED, COMPLETED)),
    NIST: frozenset((TERMINATED,)),
    IST: frozenset((TERMINATED,)),
}
"""States in which a transaction of each kind has nothing to tell its user any more."""

Action = Callable[[Stack, Transaction, Any, float], None]
BoundRows = dict[str, dict[str, tuple[str, tuple[tuple[Action, str | None], ...]]]]

_ACTIONS: dict[str, Action] = {
    "pass": Stack._pass,
    "ack": Stack._ack,
    "send": Stack._send,
    "resend": Stack._resend,
    "timeout": Stack._timeout,
    "failed": Stack._failed,
    "arm_retry": Stack._arm_retry,
    "double_retry": Stack._double_retry,
    "slow_retry": Stack._slow_retry,
    "stop_retry": Stack._stop_retry,
    "arm_life": Stack._arm_life,
    "stop_life": Stack._stop_life,
}


def _bind(name: str) -> tuple[Action, str | None]:
    action, _, timer = name.partition(":")
    return _ACTIONS[action], timer or None


BOUND: dict[str, BoundRows] = {
    kind: {
        state: {event: (after, tuple(_bind(name) for name in actions)) for event, (after, actions) in rows.items()}
        for state, rows in table.items()
    }
    | {TERMINATED: {}}
    for kind, table in TABLES.items()
}

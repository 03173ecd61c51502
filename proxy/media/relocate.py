"""The first half of a move: another node gets the session's media, in a fresh ng call.

Theory of operation. `Relocation.start` takes the best node but the old one, and sends it `offer` and `answer` with the
agreed SDPs of every pair of parties that hear each other (phone and phone; phone and FreeSWITCH on each leg while
FreeSWITCH is in the media), all at once. Directions are those the receivers were told, so a hold stays one. A daemon
with several threads may work on the answer first and not know the call: then it is sent once more after its offer. When
every reply is in, the state of the parties is what the new node has. When the node fails, the next one is asked; while
there is none, every quarter of a second again.

The ng call-id is fresh each time (`Session.ng_call_id`), so that a delete which the old node owes can never kill a
later call. The old call is deleted at once when its node is lost, and when everybody has been told when the node still
works (`graceful`: nobody shall hear a gap); then a move can be taken back, too. A session that ends meanwhile is
deleted again behind the last reply: its delete may have overtaken the offer.

While the commands are under way they hold the session's turn: nobody else sends one. A call that nobody has answered
yet has no pair: it just leaves its node, and the offer in progress is made again on another one with its answer
(`Engine.answer`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ng_protocol import Command, Delete, NgBadRequest, NgError, NgLostCall
from proxy.sip.sdp import replace_direction

from .engine import Engine, NoNode
from .policy import WEBRTC
from .session import Party, Session, direction_of

PARK = 0.25
"""Seconds between two tries to find a node when there is none."""
NG_TIMEOUT = 1.0
"""Seconds a node has for the commands while there is another one to try."""


class Pair:
    """Two parties that hear each other. `offer`: SDP of `author`, `answer`: of `receiver`; `*_made`: what the new node
    made of them, for the other one."""

    __slots__ = ("answer", "answer_made", "author", "lost", "offer", "offer_made", "receiver")

    def __init__(self, author: Party, receiver: Party, offer: bytes, answer: bytes) -> None:
        self.author = author
        self.receiver = receiver
        self.offer = offer
        self.answer = answer
        self.offer_made: bytes | None = None
        self.answer_made: bytes | None = None
        self.lost = False  # the answer overtook its offer once


def pairs_of(session: Session) -> list[Pair]:
    """The pairs that are in force, with the SDPs and directions they have agreed on."""
    found: list[Pair] = []
    seen: set[Party] = set()
    for leg in session.legs:
        for one in leg.parties:
            other = one.linked
            if other is None or other.linked is not one or one in seen or other in seen:
                continue
            seen |= {one, other}
            # What an answer makes is no full offer (one codec, one key, no a=setup:actpass): the pickier one gets the
            # offer's result, FreeSWITCH the other.
            author, receiver = (other, one) if other.is_freeswitch or one.profile == WEBRTC else (one, other)
            offer, answer = agreed_sdp(author, receiver), agreed_sdp(receiver, author)
            if offer is not None and answer is not None:
                found.append(Pair(author, receiver, offer, answer))
    return found


def agreed_sdp(author: Party, receiver: Party) -> bytes | None:
    """The author's SDP with the direction the receiver was told: FreeSWITCH may have put it on hold by itself."""
    sdp = author.original or author.pending
    heard = receiver.heard
    if sdp is None or heard is None or heard.author is not author:
        return sdp
    direction = heard.direction
    return sdp if direction_of(sdp) == direction else replace_direction(sdp, direction)


class Relocation:
    """See the module. `later(delay, job)`: a timer; `anchored(where)`: the media is on another node; `hopeless(reason,
    why)`: no node takes it, `reason` for a Reason header. `patience`: seconds a call may be without any node."""

    def __init__(
        self,
        engine: Engine,
        session: Session,
        *,
        later: Callable[[float, Callable[[], None]], None],
        anchored: Callable[[str], None],
        hopeless: Callable[[bytes, str], None],
        patience: float,
        graceful: bool,
        may_stay: bool,
    ) -> None:
        self.engine = engine
        self.session = session
        self.graceful = graceful
        self.may_stay = may_stay
        self.asking = True
        self.pairs: list[Pair] = []
        self._later = later
        self._anchored = anchored
        self._hopeless = hopeless
        self._patience = patience
        self._began = engine.clock()
        self._over = False
        self._attempt = 0
        self._waiting = 0
        self._holding = False
        self._queued = False
        self._timeout: float | None = None
        self._tried: set[str] = set()
        self._left: list[tuple[str, str]] = []

    def start(self) -> None:
        """Takes another node; also when the one it moves to is lost meanwhile."""
        if self._over:
            return
        session, engine = self.session, self.engine
        self._attempt += 1
        self._waiting = 0
        self.asking = True
        self.pairs = pairs_of(session)
        if not self.pairs:
            self._leave()
            self._call("", fresh_call_id(session))
            self._let_go()
            self._arrived("it is anchored anew with the next answer")
            return
        now = engine.clock()
        if not self.may_stay:
            self._tried.add(session.node)
        group, labels = session.wish or (None, ())
        names = engine.pool.choose(f"{session.id}.{session.moves + 1}", now, group=group, labels=labels)
        left = [name for name in names if name not in self._tried]
        if left:
            self._tried.add(left[0])
            self._timeout = NG_TIMEOUT if len(left) > 1 else None
            self._leave()
            self._call(left[0], fresh_call_id(session))
            self._go_on()
            return
        self._tried.clear()
        if now - self._began < self._patience and not self.graceful:
            self._later(PARK, partial(self._again, self._attempt))
        else:
            self._give_up(b'SIP;cause=503;text="No media node left"', "no node takes it")

    def back(self) -> bool:
        """To where the session was: somebody refused to follow. False when that is not possible."""
        if self._over or not self.graceful or not self._left:
            return False
        node, call = self._left.pop(0)
        self.graceful = False
        self._leave()
        self._attempt += 1
        self._call(node, call)
        self.pairs = pairs_of(self.session)
        self.asking = True
        self._timeout = None
        self._go_on()
        return True

    def resume(self) -> None:
        """It is where it is to be: a move that a restart of the proxy interrupted."""
        self.asking = False
        self.pairs = pairs_of(self.session)

    def cancel(self) -> None:
        """The session has ended."""
        self._over = True
        self.asking = False
        self.clear_old()
        if self._queued:
            self._queued = False
            self.session.abandon_turn(self._my_turn)
        if self._holding and not self._waiting:
            self._let_go()

    def forget(self, node: str) -> None:
        """A node that was left gracefully is lost: no way back there."""
        if any(name == node for name, _ in self._left):
            self.graceful = False
            self.clear_old()

    def clear_old(self) -> None:
        """Everybody has been told: calls on nodes that still work go."""
        left, self._left = self._left, []
        for node, call in left:
            self.engine.pool.delete(node, Delete(call_id=call, delete_delay=self.engine.policy.delete_delay))

    # -- inside --------------------------------------------------------------------------------------------------------

    def _again(self, attempt: int) -> None:
        if attempt == self._attempt and self.asking:
            self.may_stay = True  # a node that may be chosen after a while is there again, be it the old one
            self.start()

    def _leave(self) -> None:
        session = self.session
        if self.graceful and session.node:
            self._left.append((session.node, session.ng_call_id))
        else:
            self.engine.leave_node(session)

    def _call(self, node: str, call: str) -> None:
        session = self.session
        session.node, session.ng_call_id = node, call
        session.stale.clear()
        for leg in session.legs:
            for x in leg.exchanges:
                x.seen = None  # what was made of it names the old node
            for party in (*leg.parties, *leg.callees.values()):
                party.offered_by = None

    def _go_on(self) -> None:
        if self._holding or self.session.take_turn():
            self._ask()
        elif not self._queued:
            self._queued = True
            self.session.await_turn(self._my_turn)

    def _my_turn(self) -> None:
        self._queued = False
        self._ask()

    def _ask(self) -> None:
        session, engine = self.session, self.engine
        self._holding = True
        attempt = self._attempt
        self._waiting = 2 * len(self.pairs)
        for pair in self.pairs:
            offer = engine.offer_command(pair.author, pair.receiver, pair.offer)
            answer = engine.answer_command(pair.author, pair.receiver, pair.answer)
            for command, done in ((offer, self._offered), (answer, self._answered)):
                if attempt == self._attempt:
                    self._submit(session.node, command, partial(done, attempt, pair))
        if not self.pairs:
            self._replied()

    def _submit(self, node: str, command: Command[Any], done: Callable[[Any], None]) -> None:
        try:
            client = self.engine.pool.client(node)
        except KeyError:
            done(NoNode(f"node {node} was removed"))
        else:
            client.submit(command, done, self._timeout)

    def _offered(self, attempt: int, pair: Pair, reply: Any) -> None:
        if attempt != self._attempt:
            return
        if isinstance(reply, NgError | NoNode):
            self._failed(reply)
            return
        pair.offer_made = reply.sdp
        if pair.lost:
            self._answer_again(attempt, pair)
        self._waiting -= 1
        self._replied()

    def _answered(self, attempt: int, pair: Pair, reply: Any) -> None:
        if attempt != self._attempt:
            return
        if isinstance(reply, NgLostCall) and not pair.lost and not self._over:
            pair.lost = True
            if pair.offer_made is not None:
                self._answer_again(attempt, pair)
            return
        if isinstance(reply, NgError | NoNode):
            self._failed(reply)
            return
        pair.answer_made = reply.sdp
        self._waiting -= 1
        self._replied()

    def _answer_again(self, attempt: int, pair: Pair) -> None:
        """Two datagrams sent at once may be worked on in any order."""
        answer = self.engine.answer_command(pair.author, pair.receiver, pair.answer)
        self._submit(self.session.node, answer, partial(self._answered, attempt, pair))

    def _replied(self) -> None:
        if self._waiting > 0:
            return
        if self._over:
            self._let_go()
            return
        session, engine = self.session, self.engine
        engine.pool.worked(session.node)
        for leg in session.legs:
            for party in (*leg.parties, *leg.callees.values()):
                party.made_for = {}
        for pair in self.pairs:
            assert pair.offer_made is not None and pair.answer_made is not None
            engine.offered(pair.author, pair.receiver, pair.offer, pair.offer_made)
            engine.answered(pair.author, pair.receiver, pair.answer, pair.answer_made)
        self._let_go()
        self._arrived(f"on node {session.node}")

    def _arrived(self, where: str) -> None:
        self.asking = False
        self.may_stay = False
        self._tried.clear()
        self._anchored(where)

    def _failed(self, error: NgError | NoNode) -> None:
        """The node cannot have it, now or at all."""
        session, engine = self.session, self.engine
        self._attempt += 1
        self._waiting = 0
        if self._over:
            self._let_go()
            return
        engine.note(session, f"move to node {session.node} failed: {error}")
        if isinstance(error, NgBadRequest):
            self._give_up(b'SIP;cause=503;text="Media could not be moved"', str(error))
            return
        engine.pool.failed(session.node, engine.clock())
        self.start()

    def _give_up(self, reason: bytes, why: str) -> None:
        self._let_go()
        self.asking = False
        self._hopeless(reason, why)

    def _let_go(self) -> None:
        """No reply is awaited any more. A delete sent before the last one may have been too early: again."""
        if self._holding:
            self._holding = False
            if self._over:
                self.engine.leave_node(self.session)
            self.session.leave_turn()


def fresh_call_id(session: Session) -> str:
    """The next ng call-id of a session: its id with a number."""
    session.moves += 1
    return f"{session.id}.{session.moves + 1}"

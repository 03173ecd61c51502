"""One ng command and what it means for the session: offers, answers, restoring, deleting.

Theory of operation. A session has one ng command in flight at a time; the lock is free nearly always and then costs
no checkpoint. The first offer of a session chooses the node: nodes are tried in the pool's order until one takes it
(set-up of the same INVITE), later commands go to that node only. Each success updates the parties: an offer adds a
rendition to its author, an answer links the two, so the state here mirrors what the daemon holds.

A node gets one retransmission interval for a first offer while there is another one to try, so a node that has just
died delays a call by that much at most. One that timed out may have executed the offer all the same, so it is sent a
delete nobody waits for; like every delete, it is owed to a node that cannot be reached (`Pool.delete`).

A command that fails because of its node, of a session that exists already, waits for the session to be moved to another
node (`Rescuer`) and is sent again there, an answer after its offer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol, TypeVar, cast

import trio

from ng_protocol import Answer, Client, Command, Delete, NgBadReply, NgError, NgLostCall, NgTimeout, Offer, OfferReply
from proxy.driver import Driver, Wake
from proxy.store import NULL, Persistence

from .policy import RTP, Policy, plain_view
from .pool import Pool
from .session import Party, Rendition, Session
from .table import MediaTable

_log = logging.getLogger(__name__)
ReplyT = TypeVar("ReplyT")

RESCUES = 3
"""How often a command is sent again because its session was moved meanwhile."""


class NoNode(Exception):
    """No rtpengine node is configured, or none of them took the session."""


class Rescuer(Protocol):
    """Who moves sessions to another node."""

    async def rescue(self, session: Session, call: str, why: str) -> bool:
        """A command in the ng call `call` failed because of its node. Waits until the session is on another one; False
        when there is none."""


async def _turn(session: Session) -> None:
    """Waits for the right to send an ng command for this session; costs nothing when it is free."""
    if session.take_turn():
        return
    turn = trio.Event()
    session.await_turn(turn.set)
    try:
        await turn.wait()
    except trio.Cancelled:
        session.abandon_turn(turn.set)
        raise


class Engine:
    """ng commands on behalf of sessions. `clock`: monotonic seconds; `epoch`: seconds since 1970.

    `setup_timeout`: seconds a node gets for a first offer when there is another one to try; more when its measured
    retransmission interval is longer.
    """

    def __init__(
        self,
        pool: Pool,
        policy: Policy,
        table: MediaTable,
        clock: Callable[[], float],
        epoch: Callable[[], float],
        setup_timeout: float = 0.25,
    ) -> None:
        self.pool = pool
        self.policy = policy
        self.table = table
        self.clock = clock
        self.epoch = epoch
        self.setup_timeout = setup_timeout
        self.rescuer: Rescuer | None = None
        self.store: Persistence = NULL
        self.driver: Driver | None = None

    async def ask(self, client: Client, command: Command[ReplyT], timeout: float | None = None) -> ReplyT:
        """The reply to a command; like ``client.request``, but a story need not be a trio task to wait for it."""
        if self.driver is None:
            return await client.request(command, timeout)
        wake = Wake(self.driver)
        client.begin(command, wake.wake, timeout)
        reply = await wake.wait()
        if isinstance(reply, NgError):
            raise reply
        return cast("ReplyT", reply)

    def note(self, session: Session, text: str) -> None:
        session.note(self.epoch(), text)

    async def offer(self, author: Party, receiver: Party, sdp: bytes) -> Rendition:
        """Offers `author`'s SDP to `receiver`. Raises NgError or NoNode; then nothing has changed here."""
        session, tries = author.session, 0
        while True:
            await _turn(session)
            call, node = session.ng_call_id, session.node
            try:
                command = self.offer_command(author, receiver, sdp)
                if not session.node:
                    reply = await self._first(session, command)
                else:
                    reply = await self.ask(self._client(session), command)
                break
            except (NgError, NoNode) as error:
                failure = error
            finally:
                session.leave_turn()
            tries += 1
            if tries > RESCUES or not node or not await self._rescued(session, call, failure):
                raise failure
        rendition = self.offered(author, receiver, sdp, reply.sdp)
        self.note(session, f"offer {author.name}->{receiver.name}")
        if session.stale:
            self._flush_stale(session, receiver)
        return rendition

    async def answer(self, offerer: Party, answerer: Party, sdp: bytes, offered: Rendition | None = None) -> Rendition:
        """Answers `offerer`'s last offer with `answerer`'s SDP. Raises NgError or NoNode.

        `offered`: what came of that offer. When the session has moved since, the offer is made again on the new node
        before it is answered there.
        """
        session, tries = offerer.session, 0
        while True:
            if offered is not None and offered.call != session.ng_call_id:
                offered = await self.offer(offerer, answerer, offered.original)
            if not session.node:
                raise NoNode(f"session {session.id} has an answer without an offer")
            await _turn(session)
            call, node = session.ng_call_id, session.node
            try:
                if offered is not None and offered.call != call:
                    continue  # it moved while this command waited for its turn
                reply = await self.ask(self._client(session), self.answer_command(offerer, answerer, sdp))
                break
            except (NgError, NoNode) as error:
                failure = error
            finally:
                session.leave_turn()
            tries += 1
            if tries > RESCUES or not node or not await self._rescued(session, call, failure):
                raise failure
        rendition = self.answered(offerer, answerer, sdp, reply.sdp)
        self.note(session, f"answer {answerer.name}->{offerer.name}")
        return rendition

    def offer_command(self, author: Party, receiver: Party, sdp: bytes) -> Offer:
        """The command that offers `author`'s SDP to `receiver`, in the session's present ng call."""
        return Offer(
            call_id=author.session.ng_call_id,
            from_tag=author.tag,
            to_tag=receiver.tag,
            via_branch=None if receiver.settled else receiver.via_branch,
            sdp=sdp,
            **self.policy.offer_keys(author, receiver),
        )

    def answer_command(self, offerer: Party, answerer: Party, sdp: bytes) -> Answer:
        """The command that answers `offerer`'s last offer with `answerer`'s SDP."""
        return Answer(
            call_id=offerer.session.ng_call_id,
            from_tag=offerer.tag,
            to_tag=answerer.tag,
            via_branch=None if answerer.settled else answerer.via_branch,
            sdp=sdp,
            **self.policy.answer_keys(answerer, offerer),
        )

    def offered(self, author: Party, receiver: Party, sdp: bytes, made: bytes) -> Rendition:
        """An offer was executed."""
        if receiver.offered_by is None:
            receiver.offered_by = author
        return self._rendition(author, receiver, sdp, made)

    def answered(self, offerer: Party, answerer: Party, sdp: bytes, made: bytes) -> Rendition:
        """An answer was executed."""
        offerer.linked, answerer.linked = answerer, offerer
        return self._rendition(answerer, offerer, sdp, made)

    async def associate(self, one: Party, other: Party) -> None:
        """Offers and answers the agreed SDPs of two parties again: what they have is put back in force (rule 11)."""
        if one.original is None or other.original is None:
            return
        offered = await self.offer(one, other, one.original)
        await self.answer(one, other, other.original, offered)

    def delete_branch(self, party: Party) -> None:
        """A callee failed: its ng branch must not be heard any more (rule 9). Nobody waits for it."""
        session = party.session
        if party.gone or party.offered_by is None or not session.node or party.via_branch is None:
            return
        party.gone = True
        self.note(session, f"branch {party.name} deleted")
        # The to-tag matters: 10.5 takes an unknown via-branch for a delete of the from-tag, and with the caller goes
        # the whole call. Newer daemons (13.0 on) do not look at it here and go by the branch.
        self.pool.delete(
            session.node,
            Delete(
                call_id=session.ng_call_id,
                from_tag=party.offered_by.tag,
                to_tag=party.tag,
                via_branch=party.via_branch,
                delete_delay=self.policy.delete_delay,
            ),
        )

    def delete(self, session: Session) -> None:
        """The session is over: one delete for the whole ng call, if there is one."""
        if session.state == "ended":
            return
        session.state = "ended"
        self.table.drop(session)
        for offer in list(session.offers.values()):
            session.release(offer)
        self.note(session, "ended")
        if session.move is not None:
            session.move.cancel()
        self.store.dirty(session)
        self.leave_node(session)
        session.dissolve()

    def leave_node(self, session: Session) -> None:
        """The session's ng call is not wanted any more where it is; owed when the node cannot be reached."""
        if session.node:
            delete = Delete(call_id=session.ng_call_id, delete_delay=self.policy.delete_delay)
            self.pool.delete(session.node, delete)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _client(self, session: Session) -> Client:
        try:
            return self.pool.client(session.node)
        except KeyError:
            raise NoNode(f"node {session.node} of session {session.id} was removed") from None

    async def _rescued(self, session: Session, call: str, failure: NgError | NoNode) -> bool:
        """Whether the session has another ng call than `call`, in which the command that failed may be sent again."""
        if session.state == "ended":
            return False
        if session.ng_call_id != call and session.move is None:
            return True
        lost = isinstance(failure, NoNode | NgLostCall) or failure.try_another_node
        if not lost or self.rescuer is None:
            return False
        return await self.rescuer.rescue(session, call, str(failure))

    async def _first(self, session: Session, command: Offer) -> OfferReply:
        group, labels = session.wish or (None, ())
        names = self.pool.choose(session.ng_call_id, self.clock(), group=group, labels=labels)
        failure: NgError | None = None
        for position, name in enumerate(names):
            client = self.pool.client(name)
            timeout = max(self.setup_timeout, client.rto) if position + 1 < len(names) else None
            try:
                reply = await self.ask(client, command, timeout)
            except NgError as error:
                if not (error.try_another_node or isinstance(error, NgBadReply)):
                    raise
                failure = error
                self.pool.failed(name, self.clock())
                self.note(session, f"node {name} did not take it: {error.kind}")
                _log.warning("set-up of %s: %s; trying the next node", session.id, error)
                if isinstance(error, NgTimeout | NgBadReply):  # it may have made the call all the same
                    self.pool.delete(name, Delete(call_id=session.ng_call_id, delete_delay=0))
                continue
            self.pool.worked(name)
            session.node = name
            self.note(session, f"on node {name}")
            return reply
        raise NoNode("no rtpengine node took the session; check the nodes' ng ports and limits") from failure

    def _rendition(self, author: Party, receiver: Party, original: bytes, made: bytes) -> Rendition:
        rendition = Rendition(
            author=author,
            receiver=receiver,
            original=original,
            made=made,
            plain=plain_view(made, receiver.profile if receiver.profile != RTP else author.profile),
            profile=receiver.profile,
            interface=receiver.interface,
            call=author.session.ng_call_id,
        )
        author.made_for[receiver] = rendition
        return rendition

    def _flush_stale(self, session: Session, taken: Party) -> None:
        if taken.is_freeswitch:
            return
        stale, session.stale = session.stale, []
        for party in stale:
            if party is not taken:
                self.delete_branch(party)

"""One ng command and what it means for the session: offers, answers, restoring, deleting.

Theory of operation. A session has one ng command in flight at a time; the lock is free nearly always and then costs
no checkpoint. The first offer of a session chooses the node: nodes are tried in the pool's order until one takes it
(set-up of the same INVITE), later commands go to that node only. Each success updates the parties: an offer adds a
rendition to its author, an answer links the two, so the state here mirrors what the daemon holds.

A node gets one retransmission interval for a first offer while there is another one to try, so a node that has just
died delays a call by that much at most. One that timed out may have executed the offer all the same, so it is sent a
delete nobody waits for; like every delete, it is owed to a node that cannot be reached (`Pool.delete`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar, cast

import trio

from ng_protocol import Answer, Client, Command, Delete, NgBadReply, NgError, NgTimeout, Offer, OfferReply
from proxy.driver import Driver, Wake
from proxy.store import NULL, Persistence

from .policy import RTP, Policy, plain_view
from .pool import Pool
from .session import Party, Rendition, Session
from .table import MediaTable

_log = logging.getLogger(__name__)
ReplyT = TypeVar("ReplyT")


class NoNode(Exception):
    """No rtpengine node is configured, or none of them took the session."""


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
        session = author.session
        command = Offer(
            call_id=session.id,
            from_tag=author.tag,
            to_tag=receiver.tag,
            via_branch=None if receiver.settled else receiver.via_branch,
            sdp=sdp,
            **self.policy.offer_keys(author, receiver),
        )
        await _turn(session)
        try:
            if not session.node:
                reply = await self._first(session, command)
            else:
                reply = await self.ask(self._client(session), command)
        finally:
            session.leave_turn()
        if receiver.offered_by is None:
            receiver.offered_by = author
        self.note(session, f"offer {author.name}->{receiver.name}")
        rendition = self._rendition(author, receiver, sdp, reply.sdp)
        if session.stale:
            self._flush_stale(session, receiver)
        return rendition

    async def answer(self, offerer: Party, answerer: Party, sdp: bytes) -> Rendition:
        """Answers `offerer`'s last offer with `answerer`'s SDP. Raises NgError."""
        session = offerer.session
        if not session.node:
            raise NoNode(f"session {session.id} has an answer without an offer")
        command = Answer(
            call_id=session.id,
            from_tag=offerer.tag,
            to_tag=answerer.tag,
            via_branch=None if answerer.settled else answerer.via_branch,
            sdp=sdp,
            **self.policy.answer_keys(answerer, offerer),
        )
        await _turn(session)
        try:
            reply = await self.ask(self._client(session), command)
        finally:
            session.leave_turn()
        offerer.linked, answerer.linked = answerer, offerer
        self.note(session, f"answer {answerer.name}->{offerer.name}")
        return self._rendition(answerer, offerer, sdp, reply.sdp)

    async def associate(self, one: Party, other: Party) -> None:
        """Offers and answers the agreed SDPs of two parties again: what they have is put back in force (rule 11)."""
        if one.original is None or other.original is None:
            return
        await self.offer(one, other, one.original)
        await self.answer(one, other, other.original)

    def delete_branch(self, party: Party) -> None:
        """A callee failed: its ng branch must not be heard any more (rule 9). Nobody waits for it."""
        session = party.session
        if party.gone or party.offered_by is None or not session.node or party.via_branch is None:
            return
        party.gone = True
        self.note(session, f"branch {party.name} deleted")
        self.pool.delete(
            session.node,
            Delete(
                call_id=session.id,
                from_tag=party.offered_by.tag,
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
        self.store.dirty(session)
        if session.node:
            self.pool.delete(session.node, Delete(call_id=session.id, delete_delay=self.policy.delete_delay))
        session.dissolve()

    # -- inside --------------------------------------------------------------------------------------------------------

    def _client(self, session: Session) -> Client:
        node = self.pool.nodes.get(session.node)
        if node is None:
            raise NoNode(f"node {session.node} of session {session.id} was removed")
        return node.client

    async def _first(self, session: Session, command: Offer) -> OfferReply:
        group, labels = session.wish or (None, ())
        names = self.pool.choose(session.id, self.clock(), group=group, labels=labels)
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
                    self.pool.delete(name, Delete(call_id=session.id, delete_delay=0))
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

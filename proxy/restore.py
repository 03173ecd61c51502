"""The proxy takes up its calls again after a restart: sessions and dialogs come back from the store.

Theory of operation. A `Keeper` connects a store with the running parts. It gives the store the function that makes a
session's snapshot; ``restore`` does the reverse before the first datagram is read: sessions, legs and the media
addresses FreeSWITCH was shown go back into the media table, dialogs with their CSeq maps into the core, session timers
and missing ACKs get their alarms again. The sampler finds the sessions by itself. Monotonic times are made anew from
seconds since 1970, so a restart of the machine does no harm.

Then, with the nodes' clients running, ``verify`` pays the deletes that are owed since the last run, and asks each node
about its calls once. A call the node does not know (it died or was restarted while nobody watched) is handed to
``session_lost``, which anchors it elsewhere; a node that does not answer is the watcher's affair, and not asked again
here. Sessions that cannot be taken up (still being set up when the proxy ended: their transactions died with it) are
deleted on their nodes.

What a ``kill -9`` loses, by the moment it comes:

- while the call is set up: the call. Nobody knows the INVITE any more, late responses are strays, the caller's CANCEL
  gets 481; ``reconcile`` deletes the ng call.
- between the ACK and the first write (50 ms at most): the session, not the call. Requests pass by their Routes and the
  signed token in them, a BYE deletes the ng call, but a re-INVITE passes without media handling.
- afterwards: what happened since the last write (50 ms at most). A re-INVITE under way then is sent again by whoever
  sent it; CSeq numbers that may have been used are left out (``snapshot.AHEAD``).
- our own re-INVITE: nothing; its number, and the node the call moved to, are stored before it leaves.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec
import trio

from ng_protocol import Delete, NgError, NgLostCall, Query
from proxy.media.owed import Owed, key_of
from proxy.media.session import Leg, Session
from proxy.snapshot import BadSnapshot, decode_untrusted, encode
from proxy.store import OWED, SESSIONS, NullStore, Store

if TYPE_CHECKING:
    from proxy.core import Core
    from proxy.dialogs import Dialog
    from proxy.media.anchor import Anchor

log = logging.getLogger("proxy")

IN_FLIGHT = 16
"""Queries under way to one node while restored calls are verified."""


class Keeper:
    """See the module. ``session_lost``: what becomes of a session whose node does not know it."""

    def __init__(
        self,
        core: Core,
        anchor: Anchor | None,
        store: Store | NullStore,
        *,
        clock: Callable[[], float],
        epoch: Callable[[], float],
        session_lost: Callable[[Session], None],
    ) -> None:
        self.core = core
        self.anchor = anchor
        self.store = store
        self.clock = clock
        self.epoch = epoch
        self.session_lost = session_lost
        self.restored: list[Session] = []
        self.abandoned: list[Session] = []
        core.store = store
        if anchor is not None:
            anchor.engine.store = store
        if isinstance(store, Store):
            store.encode = self._encode

    def _encode(self, session: Session) -> bytes:
        return encode(session, self._dialog_of, self.epoch() - self.clock())

    def _dialog_of(self, leg: Leg) -> Dialog | None:
        return self.core.dialogs.get(leg.call_id, leg.from_tag)

    # -- at start --------------------------------------------------------------------------------------------------

    def restore(self) -> None:
        """Take up every session of the store; before anything is received. Blocks for about 0.2 ms a session."""
        store, anchor = self.store, self.anchor
        if not isinstance(store, Store) or anchor is None:
            return
        now, shift = self.clock(), self.epoch() - self.clock()
        listeners = {listener.name: listener for listener in self.core.stack.listeners}
        for key, data in list(store.rows(SESSIONS)):
            try:
                found = decode_untrusted(data, listeners, shift)
            except BadSnapshot as bad:
                self.core.stats["sessions_unreadable"] += 1
                log.error("session %s in %s cannot be read: %s; left out", key, store.path, bad)
                store.drop(SESSIONS, key)
                continue
            session = found.session
            if session.state != "confirmed" or not session.legs or not found.dialogs:
                self.abandoned.append(session)
                continue
            anchor.adopt(session)
            for dialog in found.dialogs:
                self.core.dialogs.add(dialog)
                self.core.outcome.resume(dialog, now)
            session.note(self.epoch(), "taken up again after a restart of the proxy")
            self.restored.append(session)
        if self.restored or self.abandoned:
            log.warning(
                "restarted with %d calls from %s%s", len(self.restored), store.path,
                f"; {len(self.abandoned)} that were being set up are given up" if self.abandoned else "",
            )  # fmt: skip
        self.core.stats["sessions_restored"] += len(self.restored)
        self._take_debts(store, anchor.engine.pool.owed)

    def _take_debts(self, store: Store, owed: Owed) -> None:
        """The deletes that were owed are owed again, and every later one is stored."""
        for key, data in list(store.rows(OWED)):
            try:
                debt = msgspec.msgpack.decode(data, type=_Debt)
            except msgspec.MsgspecError as error:
                log.error("the owed delete %r in %s cannot be read: %s; left out", key, store.path, error)
                store.drop(OWED, key)
                continue
            owed.add(debt.node, debt.delete())
        owed.told.append(self._told)

    def _told(self, node: str, delete: Delete, owed: bool) -> None:
        key = "\0".join((node, *(part or "" for part in key_of(delete))))
        if not owed:
            self.store.drop(OWED, key)
            return
        debt = _Debt(node, delete.call_id, delete.from_tag, delete.to_tag, delete.via_branch, delete.delete_delay)
        self.store.put(OWED, key, msgspec.msgpack.encode(debt))

    # -- soon after ------------------------------------------------------------------------------------------------

    async def verify(self) -> None:
        """Ask the nodes about the restored calls; delete those given up. Returns when every node was asked."""
        anchor = self.anchor
        if anchor is None:
            return
        restored, self.restored = self.restored, []
        abandoned, self.abandoned = self.abandoned, []
        for session in abandoned:
            anchor.engine.delete(session)
        for name in list(anchor.engine.pool.nodes):
            anchor.engine.pool.pay(name)
        by_node: dict[str, list[Session]] = {}
        for session in restored:
            by_node.setdefault(session.node, []).append(session)
        async with trio.open_nursery() as nursery:
            for node, sessions in by_node.items():
                nursery.start_soon(self._verify_node, node, sessions)

    async def _verify_node(self, node: str, sessions: list[Session]) -> None:
        assert self.anchor is not None
        pool = self.anchor.engine.pool
        sessions.reverse()
        if node not in pool.nodes:
            log.warning("node %s of %d restored calls is not configured any more", node, len(sessions))
            for session in sessions:
                self.session_lost(session)
            return
        client = pool.client(node)

        async def ask() -> None:
            while sessions:
                session = sessions.pop()
                if session.state == "ended" or session.node != node:
                    continue
                try:
                    await client.request(Query(call_id=session.ng_call_id))
                except NgLostCall:
                    if session.state != "ended" and session.node == node:
                        self.session_lost(session)
                except NgError as error:
                    log.warning("restored calls on node %s are not verified: %s", node, error)
                    sessions.clear()

        async with trio.open_nursery() as nursery:
            for _ in range(min(IN_FLIGHT, len(sessions))):
                nursery.start_soon(ask)


class _Debt(msgspec.Struct, array_like=True):
    node: str
    call_id: str
    from_tag: str | None
    to_tag: str | None
    via_branch: str | None
    delete_delay: int | None

    def delete(self) -> Delete:
        """The command."""
        return Delete(
            call_id=self.call_id, from_tag=self.from_tag, to_tag=self.to_tag, via_branch=self.via_branch,
            delete_delay=self.delete_delay,
        )  # fmt: skip

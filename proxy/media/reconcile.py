"""Calls of ours on the nodes that nobody owns any more: found by looking, deleted after two confirmations.

Theory of operation. At start and every `interval` seconds each node is asked for its calls (`list`). Call-ids that are
not exactly of the form this instance makes are nobody's business here: other instances, other programs, and the
watcher's canaries are never touched. Ours that no live session has on that node are queried. A call that is still
without an owner at the next look, and in which no packet of any kind has arrived in between, is deleted. One in which
media flows is left alone however long that goes on: it is a call that the store never saw (the proxy was killed within
moments of its set-up), people are talking in it, and its BYE will delete it by the token.

What a session left behind on another node when it moved is deleted whether packets still arrive there or not, but not
while the move may be under way (`MOVING`).

`list` has no paging and no order in 10.5, and an answer has to fit into one datagram of 64 kB: at most `LIMIT` call-ids
are asked for, half as many after an answer that did not come. On a fuller node each look sees a part; parts differ, as
calls come and go.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import trio

from ng_protocol import Client, Delete, ListCalls, NgError, NgLostCall, NgTimeout, Query, QueryReply

from .session import Session

_log = logging.getLogger(__name__)

LIMIT = 1000
"""Call-ids asked for: of ours, with the longest name of an instance, that many are 53 kB."""
LEAST = 64
MOVING = 60.0
"""Seconds for which a call of a session that lives elsewhere is left alone: longer than any move takes."""


@dataclass(slots=True)
class _Suspect:
    """A call without an owner. `since`: monotonic, when its packet count `packets` was first seen."""

    since: float
    packets: int


class Reconciler:
    """See the module. `sessions`: the live ones. `clients`: of the nodes that can be asked now, by name. `delete(node,
    command)`: nobody waits for it. `tell(node, what, decided, calls)`: hears of deletions. `clock`: monotonic."""

    def __init__(
        self,
        instance: str,
        sessions: Callable[[], Iterable[Session]],
        clients: Callable[[], Mapping[str, Client]],
        delete: Callable[[str, Delete], None],
        tell: Callable[[str, str, str, int], None],
        *,
        interval: float = 60.0,
        delete_delay: int = 0,
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        self.interval = interval
        self.counters = {"deleted": 0, "unowned_with_media": 0, "failures": 0}
        self._ours = re.compile(rf"({re.escape(instance)}-[0-9a-f]{{16}})(?:\.\d+)?")
        self._sessions = sessions
        self._clients = clients
        self._delete = delete
        self._tell = tell
        self._delay = delete_delay
        self._clock = clock
        self._suspects: dict[str, dict[str, _Suspect]] = {}
        self._limits: dict[str, int] = {}

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self.look()
            await trio.sleep(self.interval)

    async def look(self) -> None:
        """One look at every node; none waits for another."""
        async with trio.open_nursery() as nursery:
            for name, client in self._clients().items():
                nursery.start_soon(self._look_at, name, client)

    async def _look_at(self, name: str, client: Client) -> None:
        limit = self._limits.setdefault(name, LIMIT)
        try:
            listed = (await client.request(ListCalls(limit=limit))).calls
        except NgTimeout:
            self.counters["failures"] += 1
            self._limits[name] = max(LEAST, limit // 2)
            return
        except NgError:
            self.counters["failures"] += 1
            return
        before = self._suspects.get(name, {})
        if len(listed) < limit:
            self._limits[name] = min(LIMIT, limit * 2)
            before = {call_id: before[call_id] for call_id in listed if call_id in before}
        self._suspects[name] = before
        living = {session.id: session for session in self._sessions()}
        owned = {session.ng_call_id for session in living.values() if session.node == name}
        ours = [found for call_id in listed if call_id not in owned and (found := self._ours.fullmatch(call_id))]
        deleted = 0
        for found in ours:
            call_id = found[0]
            try:
                reply = await client.request(Query(call_id=call_id))
            except NgLostCall:
                before.pop(call_id, None)
                continue
            except NgError:
                self.counters["failures"] += 1
                break
            deleted += self._judge(name, call_id, living.get(found[1]), packets_of(reply), before)
        if deleted:
            self.counters["deleted"] += deleted
            calls = "call" if deleted == 1 else "calls"
            self._tell(name, f"{deleted} {calls} of ours that nobody owns", "deleted", deleted)

    def _judge(
        self, name: str, call_id: str, session: Session | None, packets: int, suspects: dict[str, _Suspect]
    ) -> bool:
        """Whether the call was deleted. `session`: the one it was made for, if that lives, wherever it is now."""
        now = self._clock()
        if session is not None and session.state == "ended":
            session = None
        if session is not None and (session.node in ("", name) or session.ng_call_id == call_id):
            suspects.pop(call_id, None)  # it is being set up, or has come here while we asked
            return False
        known = suspects.get(call_id)
        if known is None:
            suspects[call_id] = _Suspect(now, packets)
            return False
        if session is not None:
            if now - known.since < MOVING:
                return False
        elif known.packets != packets:
            suspects[call_id] = _Suspect(now, packets)
            self.counters["unowned_with_media"] += 1
            return False
        elif now - known.since < max(self.interval * 0.9, self._delay):
            return False  # a call that has ended keeps its ports for the delay, and is listed
        del suspects[call_id]
        _log.info("call %s on node %s belongs to no session: deleted", call_id, name)
        self._delete(name, Delete(call_id=call_id, delete_delay=self._delay))
        return True


def packets_of(reply: QueryReply) -> int:
    """Packets of any kind received from anybody in a call."""
    return sum(stream.received.packets for _, _, stream in reply.streams())

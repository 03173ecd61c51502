"""Deletes owed to nodes that cannot be reached now: queued by node, paid when it answers again, never waited for.

Theory of operation. A delete that was not answered (or not sent, as its node is down) would leave a call behind on a
node that comes back. It is kept here under its node until the node has answered it, or does not know the call any more
(a restart forgot it: paid too). The delete of a whole call replaces those of its branches. `pay` keeps a number of
them in flight and goes on by itself with every answer; a failure stops it until the next `pay`. `told` hears of every
debt made (True) and settled (False), for a store. Synchronous: time and sockets are the client's business.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

from ng_protocol import Client, Delete, NgError, NgLostCall

_log = logging.getLogger(__name__)

IN_FLIGHT = 32
"""Deletes under way to one node at a time: a node that has just come back has calls to take, too."""
LIMIT = 100_000
"""Debts to one node; the oldest are forgotten beyond that, and die by the node's own timeouts."""

Key: TypeAlias = tuple[str, str | None, str | None]
Told: TypeAlias = Callable[[str, Delete, bool], None]


def key_of(delete: Delete) -> Key:
    """What makes two deletes the same debt."""
    return (delete.call_id, delete.from_tag, delete.via_branch)


class Owed:
    """Debts by node name. `told`: see the module; called at once, must not block."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        self._debts: dict[str, dict[Key, Delete]] = {}
        self._in_flight: dict[str, set[Key]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._debts.values()))

    def count(self, name: str) -> int:
        """Deletes owed to a node."""
        return len(self._debts.get(name, ()))

    def of(self, name: str) -> list[Delete]:
        """The deletes owed to a node, oldest first."""
        return list(self._debts.get(name, {}).values())

    def add(self, name: str, delete: Delete) -> None:
        """One more; the same one twice is one."""
        debts = self._debts.setdefault(name, {})
        key = key_of(delete)
        if key in debts or (delete.call_id, None, None) in debts:
            return
        if delete.from_tag is None and len(debts) < 1000:
            for other in [one for one in debts if one[0] == delete.call_id]:
                self._settle(name, other)
        if len(debts) >= LIMIT:
            _log.warning("more than %d deletes are owed to node %s; the oldest is forgotten", LIMIT, name)
            self._settle(name, next(iter(debts)))
        debts[key] = delete
        for told in self.told:
            told(name, delete, True)

    def pay(self, name: str, client: Client) -> None:
        """The node can be reached: send what is owed. Calling it again while it pays does no harm."""
        debts = self._debts.get(name)
        if not debts:
            return
        flying = self._in_flight.setdefault(name, set())
        # Sending may fail at once and call `_done` from within, hence the list.
        for key in [key for key in debts if key not in flying][: max(0, IN_FLIGHT - len(flying))]:
            delete = debts.get(key)
            if delete is not None:
                flying.add(key)
                client.submit(delete, partial(self._done, name, client, key))

    def forget(self, name: str) -> int:
        """The node was removed for good. Returns how many debts that ends."""
        keys = list(self._debts.get(name, ()))
        for key in keys:
            self._settle(name, key)
        self._debts.pop(name, None)
        self._in_flight.pop(name, None)
        return len(keys)

    def _done(self, name: str, client: Client, key: Key, result: Any) -> None:
        self._in_flight.get(name, set()).discard(key)
        if isinstance(result, NgError) and not isinstance(result, NgLostCall):
            return
        self._settle(name, key)
        self.pay(name, client)

    def _settle(self, name: str, key: Key) -> None:
        delete = self._debts.get(name, {}).pop(key, None)
        if delete is not None:
            for told in self.told:
                told(name, delete, False)

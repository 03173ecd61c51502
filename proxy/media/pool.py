"""Which rtpengine node takes a session: weighted rendezvous hashing among the nodes that may be chosen now.

Theory of operation. Every (session, node) pair gets a score from a hash, stretched by the node's weight (weighted
rendezvous hashing: -weight / ln(h)); a session goes to the node with the best score, and when that one cannot take
it, to the next. So a node added or removed moves only its own share. Load as told by `statistics` bends the weight: a
node with few free ports, a busy CPU or more than its share of the sessions gets less; without numbers the plain weights
hold.

Order of `choose`: nodes that are active and up, by tier (0 first), inside a tier by score; then those that just
failed a set-up (until `penalty` seconds have passed: one call pays for the discovery, not every call) and those under
suspicion. Never: draining and disabled ones (the operator said so), down and partitioned ones (nobody would answer;
pings find them again within a second), half-dead ones (a call without audio is worse than a 503 its caller can route
around). An empty list means 503 at once.

The candidates are kept in a list that is rebuilt when a node, a state or a load changed, so the hot path only hashes.
The pool also owns what is owed to nodes (`owed`), and hands events on: `events` is a list of functions called with each
`NodeEvent`.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from ng_protocol import Client, Delete, NgBusy, NgError

from .nodes import Admin, Load, Node, NodeEvent, Observed
from .owed import Owed

_log = logging.getLogger(__name__)

_LEAST = 0.02
"""Least share of its weight that load leaves to a node."""


class Pool:
    """The nodes, by name. `clients` and `weights` (1 when not named) are a short way to `add` nodes of one tier.

    `penalty`: seconds for which a node that did not take a set-up is tried last.
    """

    def __init__(
        self,
        clients: Mapping[str, Client] | None = None,
        weights: Mapping[str, float] | None = None,
        penalty: float = 1.0,
    ) -> None:
        self.nodes: dict[str, Node] = {}
        self.penalty = penalty
        self.owed = Owed()
        self.events: list[Callable[[NodeEvent], None]] = []
        self._avoid_until: dict[str, float] = {}
        self._candidates: list[tuple[Node, bytes, float]] | None = None
        for name, client in (clients or {}).items():
            self.add(Node(name, client, weight=float((weights or {}).get(name, 1.0))))

    # -- the nodes -----------------------------------------------------------------------------------------------------

    def add(self, node: Node) -> None:
        """One more node; its client must be running, or about to. Raises ValueError when the name is taken."""
        if node.name in self.nodes:
            raise ValueError(f"there is a node {node.name} already; remove it first, or give another name")
        self.nodes[node.name] = node
        self.changed()

    def remove(self, name: str) -> Node | None:
        """Forgets a node, and what is owed to it. Its live calls lose it: ask `watch` to let it leave instead."""
        node = self.nodes.pop(name, None)
        self._avoid_until.pop(name, None)
        self.owed.forget(name)
        self.changed()
        return node

    def client(self, name: str) -> Client:
        """The control channel of a node. Raises KeyError when there is no such node."""
        return self.nodes[name].client

    def set_admin(self, name: str, admin: Admin) -> None:
        """What the operator wants of a node. Raises KeyError."""
        self.nodes[name].admin = admin
        self.changed()

    def set_load(self, name: str, load: Load | None) -> None:
        """What `statistics` said of a node; None: it is not known any more."""
        self.nodes[name].load = load
        self.changed()

    def changed(self) -> None:
        """Something about a node changed (states, weights, labels, load): the candidates are made anew."""
        self._candidates = None

    def emit(self, event: NodeEvent) -> None:
        """Tells everybody who wants to know."""
        for told in self.events:
            told(event)

    # -- choosing ------------------------------------------------------------------------------------------------------

    def choose(
        self,
        session_id: str,
        now: float,
        *,
        group: str | None = None,
        labels: Iterable[str] = (),
        without: str | None = None,
    ) -> list[str]:
        """Names of the nodes in the order in which to try them for this session; empty when there is none.

        `group`: only nodes of this set; `labels`: only nodes that have all of them; `without`: not this one.
        """
        candidates = self._candidates
        if candidates is None:
            candidates = self._candidates = self._current()
        if group is not None or labels or without is not None:
            wanted = frozenset(labels)
            candidates = [
                one
                for one in candidates
                if one[0].name != without and (group is None or one[0].group == group) and wanted <= one[0].labels
            ]
        if len(candidates) < 2:
            return [one[0].name for one in candidates]
        key = session_id.encode("utf-8", "surrogateescape")
        avoid = self._avoid_until
        scored = [
            (
                node.observed is Observed.SUSPECT or (bool(avoid) and avoid.get(node.name, now) > now),
                node.tier,
                -_score(key, name, weight),
                node.name,
            )
            for node, name, weight in candidates
        ]
        scored.sort()
        return [one[3] for one in scored]

    def failed(self, name: str, now: float) -> None:
        """The node did not take a set-up: try it last for a while."""
        self._avoid_until[name] = now + self.penalty

    def worked(self, name: str) -> None:
        """The node took a command: forget the failure."""
        if self._avoid_until:
            self._avoid_until.pop(name, None)

    def _current(self) -> list[tuple[Node, bytes, float]]:
        """The nodes that may be chosen, with their names as hashed and their weights as bent by load."""
        able = [
            node
            for node in self.nodes.values()
            if node.admin is Admin.ACTIVE and node.observed in (Observed.UP, Observed.SUSPECT) and not node.leaving
        ]
        return [
            (node, b"\0" + node.name.encode(), node.weight * bend(node, [one for one in able if one.tier == node.tier]))
            for node in able
        ]

    # -- deletes -------------------------------------------------------------------------------------------------------

    def delete(self, name: str, delete: Delete) -> None:
        """Sends a delete nobody waits for; what its node does not answer is owed to it. An unknown node is none's, and
        a daemon that is gone has no calls."""
        node = self.nodes.get(name)
        if node is None or node.extinct:
            return
        if not node.reachable:
            self.owed.add(name, delete)
            return
        node.client.submit(delete, partial(self._deleted, name, delete))

    def owe(self, name: str, delete: Delete) -> None:
        """A delete for a node that is not reachable now; paid when it is. Kept for a node that is not known (yet),
        too: it may be added again."""
        self.owed.add(name, delete)

    def pay(self, name: str) -> None:
        """Sends what is owed to a node, if it can be reached."""
        node = self.nodes.get(name)
        if node is not None and node.reachable:
            self.owed.pay(name, node.client)

    def _deleted(self, name: str, delete: Delete, result: Any) -> None:
        if isinstance(result, NgError) and (result.try_another_node or isinstance(result, NgBusy)):
            self.owed.add(name, delete)


def _score(key: bytes, name: bytes, weight: float) -> float:
    digest = hashlib.blake2b(key + name, digest_size=8).digest()
    unit = (int.from_bytes(digest, "big") + 1) / (2**64 + 1)  # in (0, 1)
    return -weight / math.log(unit)


def bend(node: Node, tier: Iterable[Node]) -> float:
    """What load leaves of a node's weight, 0.02 to 1.5. `tier`: the nodes it is compared with, itself included.

    Free ports: full weight while a quarter is free, then less in proportion. CPU: full weight up to one half busy, a
    tenth at 95 %. Sessions: a node with more than its share gets less and the others more, within 0.5 to 1.5.
    """
    load = node.load
    if load is None:
        return 1.0
    factor = 1.0
    if load.ports_total > 0:
        factor = min(1.0, load.ports_free / load.ports_total / 0.25)
    if load.cpu is not None:
        factor *= min(1.0, max(0.1, 1.0 - 2.0 * (load.cpu - 0.5)))
    weights, sessions = 0.0, 0
    for one in tier:
        if one.load is not None:
            weights += one.weight
            sessions += one.load.sessions
    if weights > node.weight:
        # Ten calls more or less on a node are no load.
        factor *= min(1.5, max(0.5, (sessions * node.weight / weights + 10) / (load.sessions + 10)))
    return max(_LEAST, factor)

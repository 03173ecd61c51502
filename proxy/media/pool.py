"""Which rtpengine node takes a session: rendezvous hashing over weights, and a short memory of failures.

Theory of operation. Every (session, node) pair gets a score from a hash, stretched by the node's weight (weighted
rendezvous hashing: -weight / ln(h)); a session goes to the node with the best score, and when that one cannot take
it, to the next. So a node added or removed moves only its own share. Scores need no state, which lets several proxies
agree. A node that just failed a set-up is tried last until `penalty` seconds have passed: one call pays for the
discovery, not every call.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping

from ng_protocol import Client, Delete


class Pool:
    """The nodes and their clients. `weights`: share of the sessions, any positive number, 1 when not named."""

    def __init__(
        self, nodes: Mapping[str, Client], weights: Mapping[str, float] | None = None, penalty: float = 1.0
    ) -> None:
        self.nodes = dict(nodes)
        self.weights = {name: float((weights or {}).get(name, 1.0)) for name in self.nodes}
        self.penalty = penalty
        self._avoid_until: dict[str, float] = {}

    def client(self, name: str) -> Client:
        """The control channel of a node. Raises KeyError when there is no such node."""
        return self.nodes[name]

    def delete(self, name: str, delete: Delete) -> None:
        """Sends a delete nobody waits for. An unknown node is none's."""
        client = self.nodes.get(name)
        if client is not None:
            client.submit(delete)

    def choose(self, session_id: str, now: float, *, without: str | None = None) -> list[str]:
        """Names of the nodes in the order in which to try them for this session. Empty when there is none."""
        names = [name for name in self.nodes if name != without]
        if len(names) < 2:
            return names
        names.sort(key=lambda name: self._score(session_id, name), reverse=True)
        if self._avoid_until:
            names.sort(key=lambda name: self._avoid_until.get(name, now) > now)
        return names

    def failed(self, name: str, now: float) -> None:
        """The node did not take a set-up: try it last for a while."""
        self._avoid_until[name] = now + self.penalty

    def worked(self, name: str) -> None:
        """The node took a command: forget the failure."""
        if self._avoid_until:
            self._avoid_until.pop(name, None)

    def _score(self, session_id: str, name: str) -> float:
        digest = hashlib.blake2b(f"{session_id}\0{name}".encode(), digest_size=8).digest()
        unit = (int.from_bytes(digest, "big") + 1) / (2**64 + 1)  # in (0, 1)
        return -self.weights[name] / math.log(unit)

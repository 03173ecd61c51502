"""Media for the fake node: what one party of a call sends to its port comes out at the other party.

    async with fake_node() as node, Relay.on(node) as relay:
        relay.flows = False        # the daemon's control answers, its media does not

Only calls that were answered while the relay was there are relayed, and only their first medium. `node.restart()` and
`node.stop()` close the ports, as the end of the process would.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import trio

from tests.fake_rtpengine import FakeNode
from tests.fake_rtpengine_model import Call


class Relay:
    """See the module. `flows`: whether packets pass; `relayed`: how many did."""

    def __init__(self, node: FakeNode, nursery: trio.Nursery) -> None:
        self.node = node
        self.flows = True
        self.relayed = 0
        self._nursery = nursery
        self._open: dict[str, list[socket.socket]] = {}
        answer, delete, forget = node._handlers["answer"], node._handlers["delete"], node._forget
        stop = node.stop

        def answered(request: dict[str, Any]) -> dict[str, Any]:
            reply = answer(request)
            self._relay(node.calls[request["call-id"]])
            return reply

        def deleted(request: dict[str, Any]) -> dict[str, Any]:
            reply = delete(request)
            if request["call-id"] not in node.calls:
                self._close(request["call-id"])
            return reply

        def forgotten() -> None:
            self._close_all()
            forget()

        def stopped() -> None:
            self._close_all()
            stop()

        node._handlers["answer"], node._handlers["delete"] = answered, deleted
        node._forget, node.stop = forgotten, stopped  # type: ignore[method-assign]

    @classmethod
    @asynccontextmanager
    async def on(cls, node: FakeNode) -> AsyncGenerator[Relay, None]:
        """A relay for as long as the block."""
        async with trio.open_nursery() as nursery:
            relay = cls(node, nursery)
            try:
                yield relay
            finally:
                relay._close_all()
                nursery.cancel_scope.cancel()

    def _relay(self, call: Call) -> None:
        if call.call_id in self._open:
            return
        sockets = []
        for party in call.parties[:2]:
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.setblocking(False)
            sock.bind((self.node.interfaces[party.interface], party.medias[0].ports[party.interface]))
            sockets.append(sock)
        self._open[call.call_id] = sockets
        for here, there, party in zip(sockets, reversed(sockets), reversed(call.parties[:2]), strict=True):
            self._nursery.start_soon(self._pump, here, there, party.medias[0].endpoint)

    async def _pump(self, here: socket.socket, there: socket.socket, to: Any) -> None:
        while True:
            try:
                await trio.lowlevel.wait_readable(here)
                packet = here.recv(2048)
            except (trio.ClosedResourceError, OSError, ValueError):
                return
            if self.flows and not self.node.paused:
                self.relayed += 1
                there.sendto(packet, to)

    def _close(self, call_id: str) -> None:
        for sock in self._open.pop(call_id, ()):
            trio.lowlevel.notify_closing(sock)
            sock.close()

    def _close_all(self) -> None:
        for call_id in list(self._open):
            self._close(call_id)

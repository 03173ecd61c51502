"""The rtpengine of one run: userspace only, no delay before ports are free again, and its own totals read over ng.

The figures of a run count only when the node itself saw as many offers, answers and deletes as the calls owe it: with
Debian's defaults (delete-delay 30 s, a small port range) the ports run out after some 2,500 calls and the rest go
unanchored without a single error in sipp. A retransmitted command (same cookie) is answered from the node's cache and
not counted again.
"""

from dataclasses import dataclass
from pathlib import Path

import trio

from lab.bench.processes import BenchError, Daemon
from ng_protocol import NgError, Statistics, StatisticsReply, open_client

ADDRESS = "127.0.0.1"
NG_PORT = 2223
COMMAND = (
    *("rtpengine", "--config-file=none", "--foreground", "--log-stderr", "--log-level=4", "--table=-1"),
    *(f"--interface={ADDRESS}", f"--listen-ng={ADDRESS}:{NG_PORT}"),
    *("--delete-delay=0", "--port-min=10000", "--port-max=60000"),
)


@dataclass(frozen=True)
class NodeTotals:
    """What the node did in one run; `errors` are ng commands it refused."""

    offers: int
    answers: int
    deletes: int
    errors: int

    def __sub__(self, earlier: "NodeTotals") -> "NodeTotals":
        return NodeTotals(
            self.offers - earlier.offers,
            self.answers - earlier.answers,
            self.deletes - earlier.deletes,
            self.errors - earlier.errors,
        )

    def complaint(self, calls: int, anchors: int = 1) -> str:
        """Why these totals do not prove that every one of `calls` calls was anchored, `anchors` times; "" when they
        do."""
        wanted = calls * anchors
        if (self.offers, self.answers, self.deletes, self.errors) == (wanted, wanted, wanted, 0):
            return ""
        return (
            f"the node counted {self.offers} offers, {self.answers} answers, {self.deletes} deletes "
            f"and {self.errors} errors for {calls} calls with {anchors} anchor{'s' * (anchors > 1)} each"
        )


def totals_from(reply: StatisticsReply) -> NodeTotals:
    """What a `statistics` reply says of the commands the node carried out since it started."""
    return NodeTotals(reply.commands("offer"), reply.commands("answer"), reply.commands("delete"), reply.errors)


def read_totals() -> NodeTotals:
    """Ask the running node; BenchError when it does not answer."""

    async def ask() -> StatisticsReply:
        async with open_client(f"{ADDRESS}:{NG_PORT}", name="bench") as client:
            return await client.request(Statistics())

    try:
        return totals_from(trio.run(ask))
    except NgError as error:
        raise BenchError(f"the node's totals could not be read: {error}") from error


def start_node(folder: Path) -> Daemon:
    """A fresh node, its ng port bound."""
    node = Daemon("rtpengine", COMMAND, folder / "rtpengine.log")
    try:
        node.wait_bound(ADDRESS, NG_PORT)
    except BenchError:
        node.stop()
        raise
    return node

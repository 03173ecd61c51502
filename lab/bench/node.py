"""The rtpengine of one P3 run: userspace only, no delay before ports are free again, and its own totals read over ng.

The figures of a run count only when the node itself saw one offer, one answer and one delete for every call: with
Debian's defaults (delete-delay 30 s, a small port range) the ports run out after some 2,500 calls and the rest go
unanchored without a single error in sipp. rtpengine 10.5 keeps the totals as `controlstatistics.total*count` in the
reply to `statistics`; a retransmitted command (same cookie) is answered from its cache and not counted again.
"""

import socket
from dataclasses import dataclass
from pathlib import Path

import bencodepy

from lab.bench.processes import BenchError, Daemon

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

    def complaint(self, calls: int) -> str:
        """Why these totals do not prove that every one of `calls` calls was anchored; "" when they do."""
        if (self.offers, self.answers, self.deletes, self.errors) == (calls, calls, calls, 0):
            return ""
        return (
            f"the node counted {self.offers} offers, {self.answers} answers, {self.deletes} deletes "
            f"and {self.errors} errors for {calls} calls"
        )


def totals_from(reply: dict[bytes, object]) -> NodeTotals:
    """Totals out of a decoded `statistics` reply of rtpengine 10.5; BenchError when it has another shape."""
    statistics = reply.get(b"statistics")
    control = statistics.get(b"controlstatistics") if isinstance(statistics, dict) else None
    if not isinstance(control, dict):
        raise BenchError("rtpengine's statistics reply has no controlstatistics: not the 10.5 shape this bench knows")
    errors = sum(int(proxy[b"errorcount"]) for proxy in control[b"proxies"])
    offers, answers, deletes = (int(control[f"total{verb}count".encode()]) for verb in ("offer", "answer", "delete"))
    return NodeTotals(offers, answers, deletes, errors)


def read_totals() -> NodeTotals:
    """Ask the running node."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(3.0)
        sock.connect((ADDRESS, NG_PORT))
        sock.send(b"bench " + bencodepy.encode({"command": "statistics"}))
        try:
            cookie, _, body = sock.recv(65535).partition(b" ")
        except (TimeoutError, ConnectionRefusedError) as error:
            raise BenchError(f"rtpengine on {ADDRESS}:{NG_PORT} did not answer `statistics`: {error}") from error
    if cookie != b"bench":
        raise BenchError(f"rtpengine on {ADDRESS}:{NG_PORT} answered with the cookie {cookie!r}, not ours")
    return totals_from(bencodepy.decode(body))


def start_node(folder: Path) -> Daemon:
    """A fresh node, its ng port bound."""
    node = Daemon("rtpengine", COMMAND, folder / "rtpengine.log")
    try:
        node.wait_bound(ADDRESS, NG_PORT)
    except BenchError:
        node.stop()
        raise
    return node

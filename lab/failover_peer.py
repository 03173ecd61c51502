"""`python -m lab failover-peer`: what becomes of the same calls behind Kamailio and its rtpengine module.

Theory of operation. The network, the crowd and the measurement are those of the scenario `node_dies_500_calls`
(`lab/outage.py`); only the edge is another one: Kamailio with `lab/kamailio/failover.cfg`, two nodes in its set, the
first with nearly all of the weight. Each way of failing starts from scratch. Nothing is judged: the figures are
printed.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import trio

from lab import rtpengine, switch, topology
from lab.namespace import LabError
from lab.outage import KILLED, SILENT, Loss, Way, lose
from lab.probe import speaks_sip
from lab.process import Daemon, daemon
from lab.rtpengine import Node
from lab.switch import Kind
from lab.topology import B2BUA_LAN, EDGE_LAN, EDGE_PUBLIC, Network, Shape

TEMPLATE = Path(__file__).parent / "kamailio" / "failover.cfg"
MODULES = "/usr/lib/x86_64-linux-gnu/kamailio/modules/"
REST = 10.0
"""Seconds after the event in which Kamailio may do what it can."""


def configuration(network: Network, nodes: list[Node]) -> str:
    """Kamailio's configuration file."""
    text = TEMPLATE.read_text(encoding="utf-8")
    weights = (1000, 1)
    values = {
        "PUBLIC": EDGE_PUBLIC,
        "LAN": EDGE_LAN,
        "MODULES": MODULES,
        "B2BUA": B2BUA_LAN[0],
        "CALLEE": network.site("callee").address,
        "NODES": " ".join(f"udp:{node.address}={weight}" for node, weight in zip(nodes, weights, strict=True)),
    }
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text


@asynccontextmanager
async def kamailio(network: Network, nodes: list[Node], folder: Path) -> AsyncIterator[Daemon]:
    """Run it in the edge's place. Raises LabError."""
    config = folder / "kamailio.cfg"
    await trio.Path(config).write_text(configuration(network, nodes), encoding="utf-8")
    argv = ["kamailio", "-DD", "-E", "-f", str(config), "-Y", str(folder), "-P", str(folder / "kamailio.pid")]
    namespace = network.ns("edge")
    async with daemon("kamailio", argv, folder=folder, namespace=namespace) as child:
        await child.ready(lambda: speaks_sip(namespace, EDGE_LAN, (EDGE_LAN, 5080)))
        yield child


async def measure(way: Way, calls: int, talking: int, folder: Path) -> Loss:
    """One network, one failure. Raises LabError."""
    await trio.Path(folder).mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        network = await stack.enter_async_context(topology.build(Shape(nodes=2)))
        nodes = [
            await stack.enter_async_context(rtpengine.node(network, folder, f"node{n + 1}", n, "--log-level=3"))
            for n in range(2)
        ]
        await stack.enter_async_context(switch.switch(network, folder, Kind.STAND_IN))
        edge = await stack.enter_async_context(kamailio(network, nodes, folder))
        return await lose(
            network, nodes[0], way, edge.pid, calls=calls, talking=talking, rest=REST, seed=f"peer {way.name}"
        )


async def run(calls: int = 500, talking: int = 100) -> int:
    """Measure and print both ways; the exit code."""
    if shutil.which("kamailio") is None:
        raise LabError("kamailio is not installed (packages kamailio and kamailio-extra-modules)")
    with tempfile.TemporaryDirectory(prefix="mlab-peer-") as folder:
        for way in (KILLED, SILENT):
            loss = await measure(way, calls, talking, Path(folder, way.name.replace(" ", "-")))
            print(f"kamailio, {loss.line()}", flush=True)
    return 0

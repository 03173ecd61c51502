"""Kamailio's configuration is whole, Kamailio itself accepts it, and a small crowd goes through it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import trio

from lab import failover_peer
from lab.outage import KILLED
from lab.rtpengine import Node
from lab.topology import Network, NodeHost, Shape


def _nodes() -> list[Node]:
    found = []
    for number in (1, 2):
        node = Node.__new__(Node)
        node.name, node._address = f"node{number}", (f"10.20.0.{number + 3}", 2223)
        node.host = NodeHost(node.name, "", "", node._address, "")
        found.append(node)
    return found


@pytest.mark.real
def test_kamailio_accepts_the_configuration(tmp_path: Path) -> None:
    text = failover_peer.configuration(Network(Shape(nodes=2), "mlab0-0"), _nodes())
    assert "udp:10.20.0.4:2223=1000 udp:10.20.0.5:2223=1" in text
    file = tmp_path / "kamailio.cfg"
    file.write_text(text, encoding="utf-8")
    done = subprocess.run(["kamailio", "-c", "-f", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.real
async def test_a_small_crowd_loses_its_audio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failover_peer, "REST", 1.0)
    with trio.fail_after(30):
        loss = await failover_peer.measure(KILLED, 3, 3, tmp_path / "run")
    assert (loss.figures.dropped, loss.deaf) == (0, 0)
    assert loss.figures.complete == []
    assert loss.figures.talking >= 1
    assert loss.figures.audible == 0
    assert all(delay is not None and delay < 5 for delay in loss.delays)

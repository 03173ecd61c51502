"""Scenarios for the tests of the stage and the runner: each ends in a way of its own. The edge and the B2BUA are
`sleep` here (fixture `no_edge` of conftest.py); network, capture and rtpengine are real."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import trio

from lab import namespace, process
from lab.process import daemon
from lab.scenario import Failed, Findings, Lab, Scenario
from lab.switch import Kind
from lab.topology import Network


class Sleeper:
    """Stands for the edge and for a B2BUA."""

    def __init__(self, child: process.Daemon) -> None:
        self.daemon = child

    async def sessions(self) -> list[dict[str, Any]]:
        return []

    def store_rows(self) -> str:
        return ""


@asynccontextmanager
async def sleeping_edge(_settings: object, network: Network, _nodes: object, folder: Path) -> AsyncIterator[Sleeper]:
    async with daemon("edge", ["sleep", "1000"], folder=folder, namespace=network.ns("edge")) as child:
        yield Sleeper(child)


@asynccontextmanager
async def sleeping_switch(network: Network, folder: Path, _kind: Kind, number: int) -> AsyncIterator[Sleeper]:
    async with daemon(f"fs{number}", ["sleep", "1000"], folder=folder, namespace=network.ns("lan")) as child:
        yield Sleeper(child)


class Story(Scenario):
    """A scenario that does as its class says and remembers what it ran in."""

    name = "story"
    summary = "for tests"
    settle = 0.2
    prefix: ClassVar[str] = ""
    pids: ClassVar[list[int]] = []
    started: ClassVar[trio.Event]

    async def run(self, lab: Lab) -> None:
        type(self).prefix = lab.network.prefix
        type(self).pids = [child.pid for child in lab.daemons]
        assert len(self.pids) == 3
        await self.act(lab)

    async def act(self, lab: Lab) -> None:
        await lab.phone("caller", "2000", 440)

    def check(self, see: Findings) -> None:
        see.notes.append("all is well")


class Breaks(Story):
    async def act(self, lab: Lab) -> None:
        await lab.phone("caller", "2000", 440)
        raise Failed("the callee never rang")


class Crashes(Story):
    async def act(self, lab: Lab) -> None:
        raise ZeroDivisionError("oops")


class Hangs(Story):
    timeout = 0.3

    async def act(self, lab: Lab) -> None:
        await trio.sleep_forever()


class LosesRtpengine(Story):
    async def act(self, lab: Lab) -> None:
        os.kill(lab.nodes[0].daemon.pid, signal.SIGKILL)
        await lab.nodes[0].daemon.wait()


class LeavesACall(Story):
    async def act(self, lab: Lab) -> None:
        offer = (
            "v=0\r\no=- 1 1 IN IP4 203.0.113.17\r\ns=-\r\nc=IN IP4 203.0.113.17\r\nt=0 0\r\nm=audio 20000 RTP/AVP 0\r\n"
        )
        arguments = {"call-id": "left-behind", "from-tag": "a", "sdp": offer}
        reply = await lab.nodes[0].command("offer", 2.0, **arguments)
        assert reply is not None
        assert reply["result"] == "ok"


class Waits(Story):
    async def act(self, lab: Lab) -> None:
        self.started.set()
        await trio.sleep_forever()


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def left_behind(story: type[Story]) -> tuple[list[str], list[int]]:
    names = [name for name in namespace.kernel_netns.listnetns() if name.startswith(story.prefix)]
    return names, [pid for pid in story.pids if alive(pid)]

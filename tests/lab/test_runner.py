"""Verdicts, exit codes, and that a run leaves nothing behind however it ends. The edge and the B2BUA are `sleep`
here; network, capture and rtpengine are real."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
import trio

from lab import __main__ as command_line
from lab import namespace, process, requirements, runner, scenarios, stage
from lab.namespace import LabError
from lab.nat import Nat
from lab.process import daemon
from lab.runner import Options, exit_code, summary
from lab.scenario import Failed, Findings, Lab, Scenario
from lab.stage import Outcome, Verdict, play
from lab.switch import Kind
from lab.topology import Network, Shape


class Sleeper:
    """Stands for the edge and for a B2BUA."""

    def __init__(self, child: process.Daemon) -> None:
        self.daemon = child

    async def sessions(self) -> list[dict[str, Any]]:
        return []


@asynccontextmanager
async def sleeping_edge(_settings: object, network: Network, _nodes: object, folder: Path) -> AsyncIterator[Sleeper]:
    async with daemon("edge", ["sleep", "1000"], folder=folder, namespace=network.ns("edge")) as child:
        yield Sleeper(child)


@asynccontextmanager
async def sleeping_switch(network: Network, folder: Path, _kind: Kind, number: int) -> AsyncIterator[Sleeper]:
    async with daemon(f"fs{number}", ["sleep", "1000"], folder=folder, namespace=network.ns("lan")) as child:
        yield Sleeper(child)


@pytest.fixture
def no_edge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.proxy.edge", sleeping_edge)
    monkeypatch.setattr("lab.switch.switch", sleeping_switch)


class Story(Scenario):
    """A scenario that does as its class says and remembers what it ran in."""

    name = "story"
    summary = "for tests"
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


@pytest.mark.real
@pytest.mark.parametrize(
    ("story", "outcome", "reason"),
    [
        (Story, Outcome.PASS, "all is well"),
        (Breaks, Outcome.FAIL, "the callee never rang"),
        (Crashes, Outcome.FAIL, "ZeroDivisionError in the lab: oops"),
        (Hangs, Outcome.FAIL, "the story took longer than 0.3 s"),
        (LosesRtpengine, Outcome.FAIL, "rtpengine-node1 was killed by signal 9"),
        (LeavesACall, Outcome.FAIL, "rtpengine node1 still holds 1 call(s) 0.2 s after the end: left-behind"),
    ],
)
@pytest.mark.usefixtures("no_edge")
async def test_every_ending_has_its_verdict_and_leaves_nothing(
    story: type[Story], outcome: Outcome, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "SETTLE", 0.2)
    verdict = await play(story(), Kind.STAND_IN, tmp_path)
    assert verdict.outcome is outcome, verdict.problems
    assert verdict.reason.startswith(reason)
    assert "\n" not in verdict.reason
    assert story.prefix.startswith(f"mlab{os.getpid()}-")
    assert left_behind(story) == ([], [])
    files = {file.name for file in tmp_path.iterdir()}  # noqa: ASYNC240
    assert {"edge.pcap", "rtpengine-node1.log", "edge.log", "verdict.txt"} <= files
    assert ("traceback.txt" in files) is (story is Crashes)


@pytest.mark.real
@pytest.mark.usefixtures("no_edge")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_takes_everything_down(number: signal.Signals, tmp_path: Path) -> None:
    Waits.started = trio.Event()
    said: list[str] = []
    codes: list[int] = []

    async def run() -> None:
        codes.append(await runner.run([Waits], Options(out=tmp_path, kinds=[Kind.STAND_IN]), said.append))

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await Waits.started.wait()
            assert all(alive(pid) for pid in Waits.pids)
            os.kill(os.getpid(), number)
    assert codes == [130]
    assert said[-2:] == ["lab: interrupted; networks and processes are gone", "lab: 0 passed, 0 failed, 0 unsupported"]
    assert left_behind(Waits) == ([], [])


@pytest.mark.real
@pytest.mark.usefixtures("no_edge")
async def test_side_by_side(tmp_path: Path) -> None:
    said: list[str] = []
    code = await runner.run([Story, Breaks], Options(out=tmp_path, kinds=[Kind.STAND_IN]), said.append)
    assert code == 1
    assert said[0].startswith("lab: B2BUA stand-in (lab.b2bua)")
    assert "rtpengine 1" in said[0]
    assert sorted(line.split()[0] for line in said[2:-1]) == ["FAIL", "PASS"]
    assert sorted(line.split()[1] for line in said[2:-1]) == ["story", "story#2"]
    assert said[-1] == "lab: 1 passed, 1 failed, 0 unsupported"


@pytest.mark.real
def test_a_run_killed_outright_is_swept_by_the_next(tmp_path: Path) -> None:
    program = f"""
import trio, sys
from pathlib import Path
from lab import topology, process
async def main():
    async with topology.build(topology.Shape()) as network:
        folder, inside = Path({str(tmp_path)!r}), network.ns("lan")
        async with process.daemon("sleeper", ["sleep", "1000"], folder=folder, namespace=inside) as child:
            print(network.prefix, child.pid, flush=True)
            await trio.sleep_forever()
trio.run(main)
"""
    environment = {**os.environ, **process.python_environment()}
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment) as lab:
        assert lab.stdout is not None
        prefix, pid = lab.stdout.readline().split()
        lab.kill()
    assert prefix == f"mlab{lab.pid}-1"
    removed = namespace.sweep()
    assert {name for name in removed if name.startswith(prefix)} == {
        f"{prefix}-{role}" for role in ("internet", "edge", "lan", "caller", "callee", "carrier")
    }
    assert not alive(int(pid)) or Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"


async def test_missing_parts_are_unsupported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(requirements.PROGRAMS, "no-such-program", "no-such-package")
    verdict = await play(Story(), Kind.STAND_IN, tmp_path / "run")
    assert verdict.outcome is Outcome.UNSUPPORTED
    assert verdict.reason == "missing: program no-such-program (package no-such-package)"
    assert not (tmp_path / "run").exists()


def test_missing_kernel_features_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise LabError("nft refused the rules: No such file or directory")

    monkeypatch.setattr(namespace, "create", lambda _: None)
    monkeypatch.setattr(namespace, "join", lambda *_: None)
    monkeypatch.setattr(namespace, "nft", refuse)
    requirements.forget()
    [why] = requirements.missing(Shape(caller_nat=Nat.SYMMETRIC))
    assert why.startswith("kernel feature nftables NAT (symmetric): nft refused the rules")
    requirements.forget()


def verdicts(*outcomes: Outcome) -> Sequence[Verdict]:
    return [Verdict("x", outcome, "") for outcome in outcomes]


@pytest.mark.parametrize(
    ("outcomes", "code", "strict"),
    [
        ((Outcome.PASS, Outcome.PASS), 0, 0),
        ((Outcome.PASS, Outcome.UNSUPPORTED), 0, 1),
        ((Outcome.FAIL, Outcome.UNSUPPORTED), 1, 1),
        ((Outcome.FAIL,), 1, 1),
        ((), 0, 0),
    ],
)
def test_exit_codes(outcomes: tuple[Outcome, ...], code: int, strict: int) -> None:
    assert exit_code(verdicts(*outcomes), strict=False) == code
    assert exit_code(verdicts(*outcomes), strict=True) == strict


def test_lines() -> None:
    lines = verdicts(Outcome.PASS, Outcome.FAIL, Outcome.PASS, Outcome.UNSUPPORTED)
    assert summary(lines) == "lab: 2 passed, 1 failed, 1 unsupported"
    line = str(Verdict("plain_call", Outcome.FAIL, "no INVITE reached the callee", 3.21))
    assert line == "FAIL        plain_call                     3.2 s  no INVITE reached the callee"


def test_list_names_every_scenario(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["list"]) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert listed == list(scenarios.by_name())
    assert len(listed) == len(set(listed)) == len(scenarios.ALL)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run"], "name scenarios, or use --all"),
        (["run", "plain_cal"], "no scenario plain_cal; there are plain_call,"),
        (["run", "--jobs", "0", "plain_call"], "--jobs must be 1 or more"),
    ],
)
def test_usage(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        command_line.main(arguments)
    assert said in capsys.readouterr().err

"""`mediactl node ...` and `mediactl events` against a control server whose backend is a script."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from mediactl import nodes
from mediactl.errors import Exit
from proxy.control import node_schema, schema
from proxy.control.server import ControlServer
from tests.mediactl.conftest import Run


def event(line: str, number: int = 0) -> node_schema.NodeEventInfo:
    return node_schema.NodeEventInfo(number=number, at=5.0, node="node1", what=line, decided="", calls=1, line=line)


class Backend:
    """Answers from `answers`: method -> what to return, one after the other, the last one for ever."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.answers: dict[str, list[Any]] = {}

    def hello(self) -> schema.Hello:
        return schema.Hello(version="1.2.3", instance="edge1", uptime_s=1.0)

    def nodes(self) -> list[schema.NodeInfo]:
        found: list[schema.NodeInfo] = self._next("nodes")
        return found

    async def administer(self, method: str, params: Any) -> object:
        self.asked.append((method, params))
        return self._next(method)

    def _next(self, method: str) -> Any:
        answers = self.answers[method]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


Ask = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture
def backend() -> Backend:
    return Backend()


@asynccontextmanager
async def serving(path: str, backend: Backend) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        await nursery.start(ControlServer(path, backend).run)  # type: ignore[arg-type]
        yield
        nursery.cancel_scope.cancel()


@pytest.fixture
def ask(path: str, run: Run, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> Ask:
    monkeypatch.setattr(nodes, "POLL", 0.001)

    async def ask(*arguments: str) -> tuple[int, str, str]:
        async with serving(path, backend):
            return await trio.to_thread.run_sync(lambda: run("--socket", path, *arguments))

    return ask


@pytest.mark.parametrize("action", ["drain", *nodes.ACTIONS])
async def test_actions(ask: Ask, backend: Backend, action: str) -> None:
    backend.answers["node"] = [event("node node1: done by the operator")]
    assert await ask("node", action, "node1") == (0, "node node1: done by the operator\n", "")
    assert backend.asked == [("node", node_schema.NodeActionParams(node="node1", action=action))]  # type: ignore[arg-type]


async def test_json_is_what_the_line_says(ask: Ask, backend: Backend) -> None:
    backend.answers["node"] = [event("x")]
    _, out, _ = await ask("node", "disable", "node1", "--json")
    assert json.loads(out)["event"]["line"] == "x"


async def test_add(ask: Ask, backend: Backend) -> None:
    backend.answers["node_add"] = [event("node n: added")]
    arguments = ("--weight", "3", "--tier", "1", "--label", "a", "--label", "b", "--set", "s", "--no-canary")
    assert (await ask("node", "add", "n", "127.0.0.1:2223", *arguments))[0] == 0
    assert backend.asked[0][1] == node_schema.NodeAddParams(
        name="n", address="127.0.0.1:2223", weight=3, tier=1, labels=["a", "b"], set="s", canary=False
    )


async def test_reload(ask: Ask, backend: Backend) -> None:
    done = node_schema.Reloaded(added=["a"], removed=["b"], changed=["c", "d"], refused=["the address of e cannot"])
    backend.answers["nodes_reload"] = [done, node_schema.Reloaded(added=[], removed=[], changed=[], refused=[])]
    status, out, _ = await ask("node", "reload")
    assert (status, out) == (Exit.REFUSED, "added: a\nleaving: b\nchanged: c, d\nthe address of e cannot\n")
    assert await ask("node", "reload") == (0, "no node changed\n", "")


async def test_a_refusal_is_a_sentence_and_a_status(ask: Ask, backend: Backend) -> None:
    backend.answers["node"] = [schema.ControlError("not_found", "there is no node x: known are node1")]
    assert await ask("node", "drain", "x") == (Exit.NOT_FOUND, "", "mediactl: there is no node x: known are node1\n")
    backend.answers["node_add"] = [schema.ControlError("refused", "there is a node x already")]
    assert (await ask("node", "add", "x", "h:1"))[0] == Exit.REFUSED


async def test_dry_run_changes_nothing(ask: Ask, backend: Backend) -> None:
    moves = [("edge1-1", "node2", ""), ("edge1-2", "", "no other node has the label eu")]
    backend.answers["plan"] = [[node_schema.PlannedMoveInfo(session=s, to=to, note=note) for s, to, note in moves]]
    status, out, err = await ask("node", "drain", "node1", "--evacuate", "--dry-run")
    assert status == 0 and [method for method, _ in backend.asked] == ["plan"]
    assert out.splitlines() == [
        "SESSION  TO       NOTE",
        "edge1-1  node2",
        "edge1-2  nowhere  no other node has the label eu",
        "2 calls would be moved",
    ]
    assert err == "mediactl: 1 of them have nowhere to go\n"


def evacuation(moved: int, failed: int = 0, eta: float | None = None) -> node_schema.EvacuationInfo:
    left = 10 - moved - failed
    return node_schema.EvacuationInfo(
        node="node1", total=10, moved=moved, failed=failed, left=left, eta_s=eta, done=not left
    )


async def test_evacuate_without_waiting(ask: Ask, backend: Backend) -> None:
    backend.answers |= {"node": [event("drained")], "evacuate": [evacuation(0)]}
    status, out, _ = await ask("node", "drain", "node1", "--evacuate")
    assert (status, out) == (0, "drained\nnode node1: 0 of 10 calls moved, 10 to go\n")


@pytest.mark.parametrize("failed", [0, 2])
async def test_evacuate_and_wait(ask: Ask, backend: Backend, failed: int) -> None:
    backend.answers |= {
        "node": [event("drained")],
        "evacuate": [evacuation(0)],
        "evacuation": [evacuation(4, eta=65.0), evacuation(10 - failed, failed)],
    }
    status, out, err = await ask("node", "drain", "node1", "--evacuate", "--wait", "--json")
    assert status == (Exit.REFUSED if failed else 0)
    assert json.loads(out)["evacuation"] | {"eta_s": None} == {
        "node": "node1", "total": 10, "moved": 10 - failed, "failed": failed, "left": 0, "eta_s": None, "done": True,
    }  # fmt: skip
    assert err == "node node1: 0 of 10 calls moved, 10 to go\n", "one line each 5 s where there is no terminal"


def test_progress_in_words() -> None:
    assert nodes.progress(evacuation(4, 1, 65.0)) == (
        "node node1: 4 of 10 calls moved, 1 could not be moved, 5 to go, about 1m05s left"
    )
    assert nodes.progress(evacuation(10)) == "node node1: 10 of 10 calls moved; done"


async def test_drain_and_wait_for_the_calls_to_end(ask: Ask, backend: Backend) -> None:
    counts = (3, 2, 0)
    backend.answers |= {
        "node": [event("drained")],
        "nodes": [[schema.NodeInfo(name="node1", address="a", state="up", sessions=count)] for count in counts],
    }
    status, out, err = await ask("node", "drain", "node1", "--wait")
    assert (status, out) == (0, "drained\nnode node1: no call is left on it\n")
    assert err == "node node1: 3 calls are still on it\n"


def test_a_terminal_gets_one_line_that_changes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    line = nodes._ProgressLine()
    line.show("one")
    line.show("two\x1b[31m")
    line.end()
    assert capsys.readouterr().err == "\r\x1b[Kone\r\x1b[Ktwo\\x1b[31m\r\x1b[K"


@pytest.mark.parametrize("arguments", [["node", "drain", "x"], ["events"], ["node", "reload"]])
def test_a_node_has_no_nodes(run: Run, arguments: list[str]) -> None:
    status, _, err = run("--node", "127.0.0.1:2223", *arguments)
    assert status == Exit.USAGE and "leave --node out" in err


def test_an_action_is_needed(run: Run) -> None:
    assert run("node")[0] == Exit.USAGE


async def test_events(ask: Ask, backend: Backend) -> None:
    found = node_schema.Events(stream="s", last=2, events=[event("one", 1), event("two\x1b", 2)])
    backend.answers["events"] = [found]
    status, out, _ = await ask("events")
    assert status == 0 and [line.partition("  ")[2] for line in out.splitlines()] == ["one", "two\\x1b"]
    _, out, _ = await ask("events", "--json")
    assert [one["number"] for one in json.loads(out)["events"]] == [1, 2]


@pytest.mark.parametrize("as_json", [False, True])
async def test_following_events_until_ctrl_c(path: str, backend: Backend, as_json: bool) -> None:
    """A real process: what comes is printed at once, Ctrl-C ends it quietly; a proxy that started anew is noticed."""

    def answer(stream: str, last: int, *lines: str) -> node_schema.Events:
        events = [event(line, last - len(lines) + 1 + index) for index, line in enumerate(lines)]
        return node_schema.Events(stream=stream, last=last, events=events)

    backend.answers["events"] = [
        answer("1", 1, "one"),
        answer("1", 2, "two"),
        answer("2", 0),
        answer("2", 1, "anew"),
        trio.Cancelled,  # replaced below: nothing more comes
    ]

    async def administer(method: str, params: node_schema.EventsParams) -> object:
        backend.asked.append((method, params))
        if len(backend.answers["events"]) == 1:
            await trio.sleep(60)
        return backend.answers["events"].pop(0)

    backend.administer = administer  # type: ignore[method-assign]
    command = [sys.executable, "-m", "mediactl", "--socket", path, "events", "--follow", *(["--json"] * as_json)]
    async with serving(path, backend):
        process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout is not None and process.stderr is not None
        out = b""
        while out.count(b"\n") < 3:
            out += await process.stdout.receive_some()
        process.send_signal(signal.SIGINT)
        await process.wait()
        assert await process.stderr.receive_some() == b""
        await process.stdout.aclose()
        await process.stderr.aclose()
    lines = [json.loads(line)["line"] if as_json else line.partition("  ")[2] for line in out.decode().splitlines()]
    assert lines == ["one", "two", "anew"] and process.returncode == Exit.INTERRUPTED
    assert [params.after for _, params in backend.asked][:4] == [None, 1, 2, None]

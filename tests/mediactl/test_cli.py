"""mediactl as a person runs it: arguments in; text, JSON and exit status out. The control server is in the process."""

import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trio

from mediactl import cli
from mediactl.errors import Exit
from proxy.control import schema
from proxy.control.server import ControlServer


def make_info(number: int) -> schema.SessionInfo:
    return schema.SessionInfo(
        id=f"edge1-{number:02x}00aabbccddee",
        state="confirmed" if number % 2 else "early",
        call_ids=[f"call-{number}@phone", f"uuid-{number}"],
        caller=f"sip:{1000 + number}@example.test",
        callee="sip:2000@example.test",
        node=f"node{number % 3}",
        created=float(number),
        age_s=61.0,
        packets=schema.Packets(caller=number, callee=0),
        legs=[schema.LegInfo(name="A", call_id=f"call-{number}@phone", party="leg-A")],
    )


class FakeBackend:
    """Six sessions on three nodes; node1 does not answer."""

    def __init__(self) -> None:
        self.infos = [make_info(number) for number in range(6)]

    def hello(self) -> schema.Hello:
        return schema.Hello(version="1.2.3", instance="edge1", uptime_s=3700.0)

    def sessions(self) -> list[schema.SessionInfo]:
        return self.infos

    async def session(self, session_id: str) -> schema.SessionDetail:
        if session_id == "bug":
            raise RuntimeError("a bug")
        found = schema.resolve(session_id, ((info.id, info.call_ids) for info in self.infos))
        (info,) = [info for info in self.infos if info.id == found]
        error = "query failed on rtpengine node1: start it" if info.node == "node1" else None
        return schema.SessionDetail(
            session=info, queried=5.0, node_error=error, timeline=[schema.Event(at=1.0, text="answered")]
        )

    def nodes(self) -> list[schema.NodeInfo]:
        return [schema.NodeInfo(name="node1", address="127.0.0.1:2223", state="up", sessions=2)]

    def stats(self) -> schema.Stats:
        return {"calls": 7}


Run = Callable[..., tuple[int, str, str]]
Ask = Callable[..., Awaitable[tuple[int, str, str]]]


@asynccontextmanager
async def serving(path: str) -> AsyncIterator[ControlServer]:
    server = ControlServer(path, FakeBackend())
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        yield server
        nursery.cancel_scope.cancel()


@pytest.fixture
def ask(path: str, run: Run) -> Ask:
    """Run mediactl against a proxy at `path`."""

    async def ask(*arguments: str) -> tuple[int, str, str]:
        async with serving(path):
            return await trio.to_thread.run_sync(lambda: run("--socket", path, *arguments))

    return ask


# A proxy that answers -------------------------------------------------------------------------------------------------


async def test_ls(ask: Ask) -> None:
    status, out, err = await ask("ls")
    lines = out.splitlines()
    assert status == Exit.OK and err == ""
    assert lines[0].startswith("ID") and len(lines) == 7
    assert lines[2].split()[:4] == ["0100aabb", "confirmed", "1001", "2000"]


async def test_ls_filters_are_the_proxys(ask: Ask) -> None:
    _, out, _ = await ask("ls", "--on", "node1", "--state", "confirmed", "--number", "100")
    assert [line.split()[2] for line in out.splitlines()[1:]] == ["1001"]


async def test_ls_json_has_every_field_and_reads_back(ask: Ask) -> None:
    status, out, _ = await ask("ls", "--json", "--on", "node1")
    data = json.loads(out)
    assert status == Exit.OK and data["truncated"] is False
    assert msgspec.convert(data["sessions"], list[schema.SessionInfo]) == [make_info(1), make_info(4)]


async def test_ls_wide(ask: Ask) -> None:
    _, out, _ = await ask("ls", "--wide")
    assert "edge1-0100aabbccddee" in out and "call-1@phone  uuid-1" in out


async def test_show(ask: Ask) -> None:
    status, out, err = await ask("show", "0200")
    assert status == Exit.OK and err == ""
    assert "edge1-0200aabbccddee" in out and "answered" in out


async def test_show_finds_a_sip_call_id_and_prints_json_with_the_verdict(ask: Ask) -> None:
    status, out, _ = await ask("--json", "show", "uuid-2")
    data = json.loads(out)
    assert (
        status == Exit.OK and data["session"]["id"] == "edge1-0200aabbccddee" and data["verdict"] == "not answered yet"
    )


async def test_show_of_a_call_on_a_dead_node_shows_the_rest_and_says_so(ask: Ask) -> None:
    status, out, _ = await ask("show", "0100")
    assert status == Exit.NODE
    assert "uuid-1" in out or "call-1@phone" in out
    assert "start it" in out and "verdict: node node1 did not answer" in out


@pytest.mark.parametrize(
    ("session_id", "status", "says"),
    [
        ("nope", Exit.NOT_FOUND, "no session whose id or SIP Call-ID begins with 'nope'"),
        ("0", Exit.NOT_FOUND, "6 sessions begin with '0': edge1-0000aabbccddee, edge1-0100aabbccddee"),
        ("", Exit.USAGE, "is empty"),
        ("bug", Exit.UNREACHABLE, "its log has the details"),
    ],
)
async def test_show_fails_with_a_sentence(ask: Ask, session_id: str, status: int, says: str) -> None:
    for arguments in (["show", session_id], ["show", session_id, "--json"]):
        found, out, err = await ask(*arguments)
        assert found == status and out == ""
        assert err.startswith("mediactl: ") and says in err and err.count("\n") == 1


async def test_nodes(ask: Ask) -> None:
    assert "127.0.0.1:2223" in (await ask("nodes"))[1]
    assert json.loads((await ask("nodes", "--json"))[1])["nodes"][0]["sessions"] == 2


async def test_stats(ask: Ask) -> None:
    assert (await ask("stats"))[1].splitlines()[0].split() == ["calls", "7"]
    assert json.loads((await ask("stats", "--json"))[1])["control_requests"] == 2


async def test_version(ask: Ask) -> None:
    status, out, _ = await ask("version")
    assert status == Exit.OK and "1.2.3, instance edge1, up 1h01m" in out
    assert json.loads((await ask("version", "--json"))[1])["proxy"]["instance"] == "edge1"


async def test_the_environment_names_the_socket(path: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDIACTL_SOCKET", path)
    async with serving(path):
        assert (await trio.to_thread.run_sync(run, "nodes"))[0] == Exit.OK


# The command line -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "COMMAND"),
        (["reboot"], "invalid choice"),
        (["show"], "ID"),
        (["ls", "--state", "odd"], "invalid choice"),
        (["ls", "--limit", "0"], "'0' is not a number from 1 to 1500"),
        (["ls", "--limit", "many"], "'many' is not a number"),
        (["ls", "--limit", "5"], "--limit is for --node"),
        (["--node", "127.0.0.1", "ls"], "write host:port"),
        (["--node", "127.0.0.1:99999", "ls"], "write host:port"),
        (["--node", "a:1", "--socket", "b", "ls"], "not allowed with"),
        (["--node", "127.0.0.1:2223", "stats"], "use `mediactl nodes"),
        (["--node", "127.0.0.1:2223", "ls", "--on", "x"], "need a proxy"),
    ],
)
def test_usage_errors(run: Run, arguments: list[str], says: str) -> None:
    status, out, err = run(*arguments)
    assert status == Exit.USAGE and says in err and out == ""


def test_help_tells_the_exit_statuses(run: Run) -> None:
    status, out, _ = run("--help")
    assert status == Exit.OK
    for code in (Exit.OK, Exit.NOT_FOUND, Exit.USAGE, Exit.UNREACHABLE, Exit.NODE, Exit.REFUSED):
        assert f"\n  {int(code)}  " in out


def test_global_options_stand_before_or_after_the_command() -> None:
    for arguments in (
        ["--node", "h:1", "--json", "ls"],
        ["ls", "--node", "h:1", "--json"],
        ["--json", "ls", "--node", "h:1"],
    ):
        parsed = cli.parser().parse_args(arguments)
        assert (parsed.node, parsed.json, parsed.socket) == ("h:1", True, None)


def test_ctrl_c_is_quiet(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "run", interrupt)
    assert run("ls") == (Exit.INTERRUPTED, "", "")


def test_a_reader_that_has_seen_enough(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`mediactl ls | head -1`: no traceback and no complaint."""
    reader, writer = os.pipe()
    os.close(reader)
    monkeypatch.setattr(cli, "run", lambda arguments: cli.Output("x" * 100_000, None))
    with os.fdopen(writer, "w") as pipe:
        monkeypatch.setattr("sys.stdout", pipe)
        assert cli.main(["ls"]) == Exit.OK

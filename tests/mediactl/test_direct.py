"""mediactl --node: against the fake node, and against the real daemon where marked."""

import json
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from mediactl import direct
from mediactl.errors import Exit, Failure
from ng_protocol import Answer, Client, NgRefused, NgTimeout, Offer, open_client
from tests.fake_rtpengine import FakeNode, fake_node

SDP = b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio %d RTP/AVP 8\r\n"


async def make_calls(client: Client, count: int, prefix: str = "call-") -> None:
    """Answered calls, except the first, which is only offered."""
    for number in range(count):
        tags = {"call_id": f"{prefix}{number}", "from_tag": "from", "to_tag": "to"}
        await client.request(Offer(**tags, sdp=SDP % (6000 + 2 * number)))
        if number:
            await client.request(Answer(**tags, sdp=SDP % (7000 + 2 * number)))


@asynccontextmanager
async def node_and_client() -> AsyncIterator[tuple[FakeNode, Client]]:
    async with fake_node() as node, open_client(node.address) as client:
        yield node, client


async def test_every_call_is_listed(autojump_clock: MockClock) -> None:
    async with node_and_client() as (node, client):
        await make_calls(client, 50)
        node.media("call-7", "from", packets=123)
        listing = await direct.sessions(client, 500)
        assert listing.held is None
        found = {info.id: info for info in listing.sessions}
        assert found.keys() == {f"call-{number}" for number in range(50)}
        assert (found["call-0"].state, found["call-1"].state) == ("offered", "answered")
        seven = found["call-7"]
        assert (seven.caller, seven.callee, seven.node) == ("from", "to", node.address)
        assert (seven.packets.caller, seven.packets.callee, seven.sample_age_s) == (123, 0, 0.0)


async def test_a_cut_list_says_how_many_there_are(autojump_clock: MockClock) -> None:
    async with node_and_client() as (_, client):
        await make_calls(client, 12)
        listing = await direct.sessions(client, 5)
        assert len(listing.sessions) == 5 and listing.held == 12


async def test_queries_in_flight_are_bounded(autojump_clock: MockClock) -> None:
    async with node_and_client() as (node, client):
        await make_calls(client, 100)
        node.delay = 0.05
        most = 0

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, client.statistics().in_flight)
                await trio.sleep(0.01)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            assert len((await direct.sessions(client, 500)).sessions) == 100
            nursery.cancel_scope.cancel()
        assert 1 < most <= direct.IN_FLIGHT


async def test_a_call_that_ends_meanwhile_is_left_out(autojump_clock: MockClock) -> None:
    async with node_and_client() as (node, client):
        await make_calls(client, 5)
        node.fail_next("query", "Unknown call-id")
        assert len((await direct.sessions(client, 500)).sessions) == 4


async def test_a_node_that_dies_meanwhile_ends_the_listing(autojump_clock: MockClock) -> None:
    async with node_and_client() as (node, client):
        await make_calls(client, 40)
        node.delay = 0.05

        async def die() -> None:
            await trio.sleep(0.12)
            node.pause()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(die)
            with pytest.raises(NgTimeout):
                await direct.sessions(client, 500)


@pytest.mark.parametrize("prefix", ["call-12", "call-1"])
async def test_a_whole_id_needs_no_list(autojump_clock: MockClock, prefix: str) -> None:
    async with node_and_client() as (node, client):
        await make_calls(client, 13)
        detail = await direct.session(client, prefix, 1500)
        assert detail.session.id == prefix and node.count("list") == 0
        assert [(party.role, party.tag) for party in detail.parties] == [("caller", "from"), ("callee", "to")]


async def test_the_beginning_of_an_id_is_enough(autojump_clock: MockClock) -> None:
    async with node_and_client() as (_, client):
        await make_calls(client, 3, "edge1-0123456789ab")
        assert (await direct.session(client, "edge1-0123456789ab1", 1500)).session.id.endswith("ab1")
        assert (await direct.session(client, "0123456789ab2", 1500)).session.id.endswith("ab2")
        for prefix, says in (("edge1", "3 sessions begin with"), ("nope", "no session")):
            with pytest.raises(Failure, match=says) as caught:
                await direct.session(client, prefix, 1500)
            assert caught.value.code == Exit.NOT_FOUND


async def test_nodes(autojump_clock: MockClock) -> None:
    async with node_and_client() as (node, client):
        await make_calls(client, 3)
        (info,) = await direct.nodes(client)
        assert (info.address, info.state, info.node_sessions, info.offers, info.answers) == (
            node.address,
            "up",
            3,
            3,
            2,
        )


# As a person runs it ------------------------------------------------------------------------------------------------

Run = Callable[..., tuple[int, str, str]]


async def test_the_commands(run: Run) -> None:
    async with node_and_client() as (node, client):
        await make_calls(client, 4)
        ask = partial(trio.to_thread.run_sync, abandon_on_cancel=False)
        status, out, err = await ask(run, "ls", "--node", node.address)
        assert status == Exit.OK and len(out.splitlines()) == 5 and err == ""
        status, out, err = await ask(run, "ls", "--node", node.address, "--limit", "2")
        assert status == Exit.OK and len(out.splitlines()) == 3
        assert "cut at 2 calls, the node holds 4: raise --limit" in err
        status, out, _ = await ask(run, "ls", "--node", node.address, "--limit", "2", "--json")
        assert json.loads(out)["truncated"] is True
        status, out, _ = await ask(run, "ls", "--node", node.address, "--number", "nobody")
        assert status == Exit.OK and len(out.splitlines()) == 1
        status, out, _ = await ask(run, "show", "call-3", "--node", node.address)
        assert status == Exit.OK and "caller (A)" in out
        status, out, _ = await ask(run, "nodes", "--node", node.address)
        assert status == Exit.OK and node.address in out
        status, out, err = await ask(run, "show", "nope", "--node", node.address)
        assert status == Exit.NOT_FOUND and "no session" in err and out == ""
        node.fail_next("statistics", "Unrecognized command")
        status, _, err = await ask(run, "nodes", "--node", node.address)
        assert status == Exit.NODE and "Unrecognized command" in err and node.address in err
        node.garbage.append(b"d3:foo")
        status, _, err = await ask(run, "nodes", "--node", node.address)
        assert status == Exit.NODE and "ng port of rtpengine" in err
        status, out, _ = await ask(run, "version", "--node", node.address)
        assert status == Exit.OK and "not asked" in out


def test_nobody_listens(run: Run) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    for command in (["ls"], ["show", "x"], ["nodes"]):
        status, out, err = run("--node", address, *command)
        assert (status, out) == (Exit.UNREACHABLE, "")
        assert address in err and "nothing listens" in err and "start rtpengine there" in err


def test_a_host_that_has_no_address(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def unknown(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(trio.socket, "getaddrinfo", unknown)
    status, _, err = run("--node", "no.such.host:2223", "ls")
    assert status == Exit.UNREACHABLE and "no.such.host:2223" in err and "Name or service not known" in err


def test_ctrl_c_under_trio_is_quiet(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def interrupt(client: Client, limit: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(direct, "sessions", interrupt)
    assert run("--node", "127.0.0.1:2223", "ls") == (Exit.INTERRUPTED, "", "")


def test_silence_and_refusal_are_unreachable_everything_else_is_the_node() -> None:
    assert direct.failure_of_ng(NgTimeout("n", "list")).code == Exit.UNREACHABLE
    assert direct.failure_of_ng(NgRefused("n", "list")).code == Exit.UNREACHABLE


# The real daemon ----------------------------------------------------------------------------------------------------


@pytest.fixture
def rtpengine() -> Iterator[str]:
    """A daemon on loopback; its ng address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    arguments = [
        "--config-file=none",
        "--table=-1",
        "--foreground",
        "--log-level=3",
        "--interface=127.0.0.1",
        "--num-threads=1",
    ]
    daemon = subprocess.Popen(["rtpengine", *arguments, f"--listen-ng={address}"], stderr=subprocess.DEVNULL)
    yield address
    daemon.terminate()
    daemon.wait(10)


@pytest.mark.real
async def test_the_real_daemon(rtpengine: str, run: Run) -> None:
    ask = partial(trio.to_thread.run_sync, abandon_on_cancel=False)
    with trio.fail_after(20):
        async with open_client(rtpengine) as client:
            while True:
                try:
                    await direct.nodes(client)
                    break
                except NgRefused:
                    await trio.sleep(0.05)
            await make_calls(client, 4, "edge1-0123456789ab")
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as phone:
                detail = await direct.session(client, "edge1-0123456789ab3", 1500)
                host, _, port = str(detail.parties[0].streams[0].local).rpartition(":")
                phone.bind(("127.0.0.1", 6006))
                for number in range(5):
                    phone.sendto(b"\x80\x08" + number.to_bytes(2, "big") + b"\0" * 168, (host, int(port)))
                while True:
                    detail = await direct.session(client, "0123456789ab3", 1500)
                    if detail.session.packets.caller == 5:
                        break
                    await trio.sleep(0.05)
            assert detail.session.state == "answered" and detail.session.packets.callee == 0
            caller = detail.parties[0]
            assert (caller.role, caller.tag) == ("caller", "from")
            assert caller.streams[0].advertised == "127.0.0.1:6006" and caller.streams[0].component == "RTP"
            assert caller.streams[0].idle_s is not None and caller.streams[0].idle_s < 3
            assert detail.parties[1].streams[0].idle_s is None
            status, out, _ = await ask(run, "ls", "--node", rtpengine)
            assert status == Exit.OK and len(out.splitlines()) == 5 and "5/0" in out
            status, out, _ = await ask(run, "nodes", "--node", rtpengine, "--json")
            (node,) = json.loads(out)["nodes"]
            assert (node["node_sessions"], node["offers"], node["answers"]) == (4, 4, 3)
            assert node["ports_free"] > 0 and node["ports_used"] == 16

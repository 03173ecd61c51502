"""The control socket: answers, limits on clients, and what happens to the file in the file system."""

import os
import random
import re
import socket
import stat
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from proxy.control import node_schema, schema
from proxy.control.server import ControlServer, ControlSocketError, Limits


def make_info(number: int) -> schema.SessionInfo:
    return schema.SessionInfo(
        id=f"edge1-{number:012x}",
        state="confirmed",
        call_ids=[f"call-{number}"],
        caller=f"sip:{number}@example.test",
        callee="sip:2000@example.test",
        node=f"node{number % 2}",
        created=0.0,
        age_s=1.0,
        packets=schema.Packets(),
    )


class FakeBackend:
    """A few sessions; `session("boom")` is a bug, `session("slow")` takes 30 s."""

    def __init__(self, count: int = 3) -> None:
        self.count = count

    def hello(self) -> schema.Hello:
        return schema.Hello(version="1.2.3", instance="edge1", uptime_s=5.0)

    def sessions(self) -> Iterable[schema.SessionInfo]:
        return map(make_info, range(self.count))

    async def session(self, session_id: str) -> schema.SessionDetail:
        if session_id == "boom":
            raise RuntimeError("a bug")
        if session_id == "slow":
            await trio.sleep(30)
        if session_id == "dead":
            raise schema.ControlError("node", "node1 did not answer: look at it")
        schema.resolve(session_id, [(make_info(n).id, [f"call-{n}"]) for n in range(self.count)])
        return schema.SessionDetail(session=make_info(0), queried=1.0)

    def nodes(self) -> list[schema.NodeInfo]:
        return [schema.NodeInfo(name="node1", address="127.0.0.1:2223", state="up")]

    def stats(self) -> schema.Stats:
        return {"calls": 7}

    async def administer(self, method: str, params: node_schema.NodeParams) -> object:
        return [method, params.node]


class Client:
    """One connection; reads answers line by line."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._buffer = b""

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def answer(self) -> schema.Answer:
        while b"\n" not in self._buffer:
            received = await self.stream.receive_some()
            assert received, "the server closed the connection"
            self._buffer += received
        line, _, self._buffer = self._buffer.partition(b"\n")
        return msgspec.json.decode(line, type=schema.Answer)

    async def closed(self) -> bool:
        """Whether the server ends the connection without another answer."""
        try:
            return not self._buffer and not await self.stream.receive_some()
        except trio.BrokenResourceError:
            return True

    async def error(self, data: bytes) -> schema.Error:
        await self.send(data)
        answer = await self.answer()
        assert answer.error is not None
        return answer.error


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "run" / "control.sock")


class Bench(ControlServer):
    """A running server and the connections made to it."""

    clients: list[Client]

    async def connect(self) -> Client:
        client = Client(await trio.open_unix_socket(self.path))
        self.clients.append(client)
        return client


@asynccontextmanager
async def serving(path: str, backend: FakeBackend | None = None, **limits: float) -> AsyncIterator[Bench]:
    server = Bench(path, backend or FakeBackend(), Limits(**limits))  # type: ignore[arg-type]
    server.clients = []
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        yield server
        nursery.cancel_scope.cancel()
    for client in server.clients:
        await trio.aclose_forcefully(client.stream)


async def test_every_method_answers(path: str) -> None:
    async with serving(path) as server:
        client = await server.connect()
        kinds = {
            "hello": schema.Hello,
            "sessions": list[schema.SessionInfo],
            "session": schema.SessionDetail,
            "nodes": list[schema.NodeInfo],
            "stats": dict[str, int],
        }
        assert kinds.keys() == schema.METHODS.keys() - node_schema.METHODS.keys()
        for number, (method, kind) in enumerate(kinds.items()):
            params = schema.SessionParams(id="call-1") if method == "session" else None
            await client.send(schema.encode_request(method, params, number))
            answer = await client.answer()
            assert answer.error is None and answer.id == number
            result = msgspec.json.decode(answer.result, type=kind)
            if method == "stats":
                assert result["calls"] == 7 and result["control_requests"] == 5 and result["control_open_clients"] == 1
        assert server.counters.errors == 0


async def test_what_changes_nodes_goes_to_the_backend_with_its_parameters(path: str) -> None:
    async with serving(path) as server:
        client = await server.connect()
        await client.send(schema.encode_request("plan", node_schema.NodeParams(node="node1"), 1))
        answer = await client.answer()
        assert msgspec.json.decode(answer.result) == ["plan", "node1"]


async def test_sessions_are_filtered(path: str) -> None:
    async with serving(path, FakeBackend(10)) as server:
        client = await server.connect()
        await client.send(schema.encode_request("sessions", schema.SessionsParams(node="node1", number="sip:7@")))
        found = msgspec.json.decode((await client.answer()).result, type=list[schema.SessionInfo])
        assert [one.callee for one in found] and [one.id for one in found] == [make_info(7).id]


async def test_ten_thousand_sessions_leave_room_for_others(path: str) -> None:
    """Between two slices everybody else runs: counted, not timed."""
    async with serving(path, FakeBackend(10_000)) as server:
        client = await server.connect()
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                await trio.lowlevel.checkpoint()
                turns += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(others)
            await client.send(schema.encode_request("sessions"))
            answer = await client.answer()
            nursery.cancel_scope.cancel()
        assert turns >= 400
        assert len(msgspec.json.decode(answer.result, type=list[schema.SessionInfo])) == 10_000


async def test_an_empty_list_is_a_list(path: str) -> None:
    async with serving(path, FakeBackend(0)) as server:
        client = await server.connect()
        await client.send(schema.encode_request("sessions"))
        assert bytes((await client.answer()).result) == b"[]"


@pytest.mark.parametrize(
    ("session_id", "code", "says"),
    [
        ("nope", "not_found", "no session"),
        ("edge1-", "ambiguous", "3 sessions"),
        ("dead", "node", "did not answer"),
        ("boom", "internal", "RuntimeError.*its log"),
    ],
)
async def test_errors_are_answers(path: str, session_id: str, code: str, says: str) -> None:
    async with serving(path) as server:
        client = await server.connect()
        error = await client.error(schema.encode_request("session", schema.SessionParams(id=session_id), 4))
        assert error.code == code
        assert re.search(says, error.message)
        assert len(error.candidates) == (3 if code == "ambiguous" else 0)
        assert server.counters.errors == 1
        await client.send(schema.encode_request("hello"))
        assert (await client.answer()).error is None, "the connection must survive an error"


async def test_a_fault_of_ours_is_logged_with_its_trace(path: str, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(path) as server:
        client = await server.connect()
        await client.error(schema.encode_request("session", schema.SessionParams(id="boom")))
    assert "RuntimeError: a bug" in caplog.text


async def test_garbage_gets_an_error_and_the_connection_lives_on(path: str) -> None:
    rng = random.Random(5)
    async with serving(path) as server:
        client = await server.connect()
        for _ in range(200):
            garbage = bytes(byte for byte in rng.randbytes(rng.randint(1, 300)) if byte != 10) or b"x"
            error = await client.error(b"\x01" + garbage + b"\n")
            assert error.code == "bad_request"
        assert (await client.error(b'{"id":1,"method":"reboot"}\n')).code == "bad_request"
        assert (await client.error(b'{"id":1,"method":"session","params":{"id":[]}}\n')).code == "bad_request"
        await client.send(b"\n  \n" + schema.encode_request("hello", request_id="mine"))
        answer = await client.answer()
        assert answer.id == "mine" and answer.error is None
        assert server.counters.errors == 202


async def test_a_line_byte_by_byte_is_a_line(path: str) -> None:
    async with serving(path) as server:
        client = await server.connect()
        for byte in schema.encode_request("hello", request_id=9):
            await client.send(bytes([byte]))
            await trio.testing.wait_all_tasks_blocked()
        assert (await client.answer()).id == 9


async def test_many_requests_in_one_go_are_answered_in_order(path: str) -> None:
    async with serving(path) as server:
        client = await server.connect()
        requests = b"".join(schema.encode_request("hello", request_id=number) for number in range(500))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send, requests)
            assert [(await client.answer()).id for _ in range(500)] == list(range(500))


async def test_a_line_of_two_megabytes_is_refused_and_the_client_closed(path: str) -> None:
    async with serving(path) as server:
        client = await server.connect()
        error = None

        async def flood() -> None:
            try:
                await client.send(b"x" * 2_000_000)
            except trio.BrokenResourceError:
                return

        async with trio.open_nursery() as nursery:
            nursery.start_soon(flood)
            error = (await client.answer()).error
        assert error is not None and error.code == "bad_request" and "longer than 1048576 bytes" in error.message
        assert await client.closed()
        assert server.counters.dropped_clients == 1
        assert server.counters.requests == 0


@pytest.mark.parametrize(("length", "fine"), [(100, True), (101, False)])
async def test_the_limit_of_a_line_is_exact(path: str, length: int, fine: bool) -> None:
    async with serving(path, line=100) as server:
        client = await server.connect()
        line = b'{"id":1,"method":"hello","params":{}'.ljust(length - 1) + b"}\n"
        await client.send(line)
        answer = await client.answer()
        assert (answer.error is None) is fine


async def test_half_a_line_and_goodbye_is_nobodys_request(path: str) -> None:
    async with serving(path) as server:
        client = await server.connect()
        await client.send(b'{"id":1,"method":"hel')
        await client.stream.send_eof()
        assert await client.closed()
        assert server.counters.requests == 0 and server.counters.errors == 0
        assert server.counters.dropped_clients == 0


async def test_a_client_that_leaves_before_its_answer_hurts_nobody(path: str, autojump_clock: MockClock) -> None:
    async with serving(path, FakeBackend(10_000)) as server:
        for method in (
            schema.encode_request("sessions"),
            schema.encode_request("session", schema.SessionParams(id="slow")),
        ):
            client = await server.connect()
            await client.send(method)
            await client.stream.aclose()
        await trio.sleep(31)
        assert server.counters.open_clients == 0
        other = await server.connect()
        await other.send(schema.encode_request("hello"))
        assert (await other.answer()).error is None


async def test_a_silent_client_is_closed(path: str, autojump_clock: MockClock) -> None:
    async with serving(path) as server:
        silent, dripping = await server.connect(), await server.connect()
        start = trio.current_time()

        async def drip() -> None:
            """A byte now and then is not a request: the clock runs until the line is whole."""
            while trio.current_time() < start + 100:
                await trio.sleep(7)
                try:
                    await dripping.send(b"x")
                except trio.BrokenResourceError:
                    return

        async with trio.open_nursery() as nursery:
            nursery.start_soon(drip)
            assert await silent.closed()
            assert await dripping.closed()
            assert 60 <= trio.current_time() - start < 61
        assert server.counters.dropped_clients == 2


async def test_a_client_that_does_not_read_is_closed(path: str, autojump_clock: MockClock) -> None:
    async with serving(path, FakeBackend(10_000)) as server:
        client = await server.connect()
        await client.send(schema.encode_request("sessions") * 3)
        await trio.sleep(30)
        assert server.counters.dropped_clients == 1 and server.counters.open_clients == 0


async def test_a_busy_client_delays_no_other(path: str, autojump_clock: MockClock) -> None:
    async with serving(path) as server:
        waiting, other = await server.connect(), await server.connect()
        await waiting.send(schema.encode_request("session", schema.SessionParams(id="slow"), 1))
        before = trio.current_time()
        await other.send(schema.encode_request("hello"))
        await other.answer()
        assert trio.current_time() == before


async def test_too_many_clients_are_told_so(path: str) -> None:
    async with serving(path, clients=2) as server:
        first, second = await server.connect(), await server.connect()
        for client in (first, second):
            await client.send(schema.encode_request("hello"))
            await client.answer()
        third = await server.connect()
        error = (await third.answer()).error
        assert error is not None and "2 clients are connected already" in error.message
        assert await third.closed()
        assert server.counters.refused_clients == 1
        await first.stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        again = await server.connect()
        await again.send(schema.encode_request("hello"))
        assert (await again.answer()).error is None


def exists(path: str) -> bool:
    return os.path.exists(path)


def write(path: str, content: str) -> None:
    Path(path).write_text(content)


# The file ------------------------------------------------------------------------------------------------------------


async def test_the_socket_is_private_and_removed_at_the_end(path: str) -> None:
    mask = os.umask(0)
    try:
        async with serving(path):
            mode = os.stat(path).st_mode
            assert stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o600
            assert os.umask(0) == 0, "the process's umask must be as it was"
        assert not exists(path)
    finally:
        os.umask(mask)


@pytest.fixture
def stale(path: str) -> Iterator[str]:
    """A socket file whose process is gone."""
    os.makedirs(os.path.dirname(path))
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(path)
    yield path


async def test_a_stale_socket_is_replaced(stale: str) -> None:
    async with serving(stale) as server:
        client = await server.connect()
        await client.send(schema.encode_request("hello"))
        assert (await client.answer()).error is None


async def run_and_fail(path: str) -> str:
    with pytest.RaisesGroup(ControlSocketError) as caught:
        async with serving(path):
            pytest.fail("it must not start")
    return str(caught.value.exceptions[0])


async def test_a_socket_that_answers_is_not_taken(path: str) -> None:
    async with serving(path) as server:
        message = await run_and_fail(path)
        assert path in message and "another proxy answers" in message and "`control`" in message
        client = await server.connect()
        await client.send(schema.encode_request("hello"))
        assert (await client.answer()).error is None


async def test_something_else_at_the_path_is_not_touched(path: str) -> None:
    os.makedirs(path)
    assert "not a socket" in await run_and_fail(path)
    os.rmdir(path)
    write(path, "precious")
    assert "not a socket" in await run_and_fail(path)
    assert os.stat(path).st_size == len("precious")


async def test_a_path_that_cannot_be_says_why(tmp_path: Path) -> None:
    assert "too long" in await run_and_fail(str(tmp_path / ("x" * 120)))
    write(str(tmp_path / "file"), "")
    assert "cannot be made" in await run_and_fail(str(tmp_path / "file" / "sock"))


async def test_a_socket_that_is_no_longer_ours_is_left_alone(path: str) -> None:
    async with serving(path):
        os.unlink(path)
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(path)
        inode = os.stat(path).st_ino
    assert os.stat(path).st_ino == inode

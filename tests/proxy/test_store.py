"""The store alone: what is written when, what survives SIGKILL, and what happens when the disk does not work."""

from __future__ import annotations

import logging
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

from proxy.store import INTERVAL, NULL, OWED, RETRY, SESSIONS, SLICE, Store, StoreError

ROOT = Path(__file__).resolve().parents[2]


@dataclass(eq=False)
class Call:
    """A session as far as the store knows one."""

    id: str
    state: str = "confirmed"
    text: str = "1"


class Disk:
    """Runs what goes to the worker thread at once, and counts."""

    def __init__(self) -> None:
        self.writes = 0

    async def __call__(self, function: Callable[..., Any], *args: Any) -> Any:
        self.writes += 1
        return function(*args)


def opened(path: Path, disk: Disk | None = None) -> Store:
    store = Store(path, in_thread=disk or Disk())
    store.encode = lambda call: f"{call.id} {call.text}".encode()
    store.open()
    return store


def inside(path: Path, table: str = SESSIONS) -> dict[str, bytes]:
    """What another process sees in the file."""
    connection = sqlite3.connect(path)
    try:
        return dict(connection.execute(f"SELECT key, data FROM {table} ORDER BY number").fetchall())
    finally:
        connection.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "edge1.db"


async def test_many_changes_are_one_write(path: Path, autojump_clock: object, nursery: trio.Nursery) -> None:
    disk = Disk()
    store = opened(path, disk)
    await nursery.start(store.run)
    call = Call("a")
    for text in "123":
        call.text = text
        store.dirty(call)
        await trio.sleep(INTERVAL / 10)
    assert inside(path) == {}
    await trio.sleep(INTERVAL)
    assert inside(path) == {"a": b"a 3"}
    await trio.sleep(100)
    assert disk.writes == 1, "an idle store does nothing"
    store.dirty(call)
    await trio.sleep(2 * INTERVAL)
    assert (disk.writes, store.counters["rows_written"]) == (2, 2)


async def test_a_call_that_ends_between_two_writes_is_never_written(
    path: Path, autojump_clock: object, nursery: trio.Nursery
) -> None:
    disk = Disk()
    store = opened(path, disk)
    await nursery.start(store.run)
    call = Call("a")
    store.dirty(call)
    call.state = "ended"
    store.dirty(call)
    await trio.sleep(1)
    assert disk.writes == 0


async def test_rows_go_with_their_calls_and_others_keep_their_order(
    path: Path, autojump_clock: object, nursery: trio.Nursery
) -> None:
    store = opened(path)
    await nursery.start(store.run)
    calls = [Call(name) for name in "cab"]
    for call in calls:
        store.put(OWED, call.id, b"debt")
        await store.commit(call)
    calls[1].state = "ended"
    store.dirty(calls[1])
    calls[0].text = "2"
    store.dirty(calls[0])
    store.drop(OWED, "b")
    store.drop(OWED, "nobody")
    await trio.sleep(1)
    assert list(inside(path).items()) == [("c", b"c 2"), ("b", b"b 1")]
    assert list(inside(path, OWED)) == ["c", "a"]
    assert store.statistics()["store_sessions"] == 2


async def test_a_call_being_set_up_waits_unless_it_is_committed(
    path: Path, autojump_clock: object, nursery: trio.Nursery
) -> None:
    store = opened(path)
    await nursery.start(store.run)
    call, other = Call("a", "early"), Call("b", "early")
    store.dirty(call)
    store.dirty(other)
    await trio.sleep(1)
    assert inside(path) == {}
    assert await store.commit(call)
    assert list(inside(path)) == ["a"]
    call.text = "2"
    store.dirty(call)
    await trio.sleep(1)
    assert inside(path) == {"a": b"a 2"}


async def test_commits_are_durable_before_they_return_and_share_a_transaction(
    path: Path, autojump_clock: object, nursery: trio.Nursery
) -> None:
    disk = Disk()
    store = opened(path, disk)
    await nursery.start(store.run)
    began = trio.current_time()
    seen: list[bool] = []

    async def commit(call: Call) -> None:
        durable = await store.commit(call)
        seen.append(durable and inside(path)[call.id] == f"{call.id} 1".encode())

    async with trio.open_nursery() as many:
        for number in range(SLICE):
            many.start_soon(commit, Call(f"c{number}"))
    assert seen == [True] * SLICE
    assert disk.writes <= 2
    assert trio.current_time() == began, "nobody waits for the interval"


async def test_a_big_batch_lets_others_have_their_turn(
    path: Path, autojump_clock: object, nursery: trio.Nursery
) -> None:
    disk = Disk()
    store = opened(path, disk)
    await nursery.start(store.run)
    for number in range(3 * SLICE + 1):
        store.dirty(Call(f"c{number}"))
    await trio.sleep(1)
    assert disk.writes == 4
    assert len(inside(path)) == 3 * SLICE + 1


async def test_what_waits_is_written_on_the_way_out(path: Path, autojump_clock: object) -> None:
    store = opened(path)
    async with trio.open_nursery() as nursery:
        await nursery.start(store.run)
        store.dirty(Call("a"))
        nursery.cancel_scope.cancel()
    assert inside(path) == {"a": b"a 1"}
    assert await store.commit(Call("b")) is False, "closed"
    again = opened(path)
    assert list(again.rows(SESSIONS)) == [("a", b"a 1")]
    again.close()


async def test_it_works_with_a_real_thread(path: Path, nursery: trio.Nursery) -> None:
    store = Store(path)
    store.encode = lambda call: b"x"
    store.open()
    await nursery.start(store.run)
    with trio.fail_after(10):
        assert await store.commit(Call("a"))
    assert inside(path) == {"a": b"x"}


async def test_a_snapshot_that_fails_costs_its_own_call(
    path: Path, autojump_clock: object, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    store = opened(path)
    store.encode = lambda call: bytes(1 // (call.id != "bad"))
    await nursery.start(store.run)
    for name in ("a", "bad", "b"):
        store.dirty(Call(name))
    await trio.sleep(1)
    assert set(inside(path)) == {"a", "b"}
    assert store.counters["snapshots_failed"] == 1
    assert "no snapshot of session bad" in caplog.text


# -- the disk ----------------------------------------------------------------------------------------------------------


def pages(store: Store, count: int) -> None:
    """Lets the file grow to so many pages: SQLITE_FULL is what a full disk says."""
    assert store._connection is not None
    store._connection.execute(f"PRAGMA max_page_count={count}")


async def test_a_full_disk_costs_nobody_anything(
    path: Path, autojump_clock: object, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    store = opened(path)
    await nursery.start(store.run)
    gone = Call("gone")
    assert await store.commit(gone)
    pages(store, 1)
    big = Call("a", text="x" * 50_000)
    assert await store.commit(big) is False
    gone.state = "ended"
    store.dirty(gone)
    began = trio.current_time()
    assert await store.commit(Call("b", text="y" * 50_000)) is False
    assert trio.current_time() == began, "nobody waits for a disk that does not work"
    await trio.sleep(10 * RETRY)
    assert store.failing and store.counters["errors"] > 5
    lines = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(lines) == 1
    assert "cannot be written: database or disk is full; calls go on" in lines[0].getMessage()
    pages(store, 1_000_000)
    await trio.sleep(2 * RETRY)
    assert set(inside(path)) == {"a", "b"}, "what waited is there, and what ended meanwhile is not"
    assert not store.failing
    assert "is written again" in caplog.text
    assert await store.commit(Call("c"))


async def test_a_call_that_changes_while_the_disk_is_full_is_written_as_it_is_then(
    path: Path, autojump_clock: object, nursery: trio.Nursery
) -> None:
    store = opened(path)
    await nursery.start(store.run)
    pages(store, 1)
    call, short = Call("a", text="x" * 50_000), Call("b", text="x" * 50_000)
    await store.commit(call)
    await store.commit(short)
    call.text, short.state = "2", "ended"
    store.dirty(call)
    store.dirty(short)
    pages(store, 1_000_000)
    await trio.sleep(3 * RETRY)
    assert inside(path) == {"a": b"a 2"}


async def test_many_sessions_in_one_commit(path: Path, autojump_clock: object, nursery: trio.Nursery) -> None:
    disk = Disk()
    store = opened(path, disk)
    await nursery.start(store.run)
    assert await store.commit(*(Call(f"c{number}", "early") for number in range(SLICE)))
    assert (disk.writes, len(inside(path))) == (1, SLICE)


@pytest.mark.parametrize("damage", ["no database at all", "overwritten in the middle", "from the future"])
def test_a_damaged_file_is_moved_aside(path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    store = opened(path)
    store.encode = lambda call: b"x" * 3000
    for number in range(20):
        store.dirty(Call(f"c{number}"))
    store.close()
    if damage == "no database at all":
        path.write_bytes(b"this is no database" * 400)
    elif damage == "from the future":
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA user_version=99")
        connection.close()
    else:
        data = bytearray(path.read_bytes())
        data[4096:12000] = b"\xff" * (12000 - 4096)
        path.write_bytes(data)
    again = opened(path)
    assert list(again.rows(SESSIONS)) == []
    again.dirty(Call("new"))
    again.close()
    assert list(inside(path)) == ["new"]
    (aside,) = path.parent.glob("edge1.db.damaged-*")
    assert f"moved to {aside}" in caplog.text
    assert len(caplog.records) == 1


def test_one_process_at_a_time(path: Path) -> None:
    store = opened(path)
    with pytest.raises(StoreError) as caught:
        opened(path)
    assert f"another proxy (pid {os.getpid()}) uses it" in str(caught.value)
    store.close()
    opened(path).close()


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file/edge1\.db cannot be used: .*; give \[store\] a folder"):
        opened(tmp_path / "file" / "edge1.db")


def test_only_the_owner_may_read(path: Path) -> None:
    before = os.umask(0)
    try:
        opened(path).close()
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_no_store_is_no_work() -> None:
    call = Call("a")
    NULL.dirty(call)
    NULL.put(OWED, "a", b"")
    NULL.drop(OWED, "a")
    assert await NULL.commit(call) is False
    assert NULL.statistics() == {}


# -- the process -------------------------------------------------------------------------------------------------------

CHILD = """
import sys, resource
from pathlib import Path
import trio
from proxy.store import Store

class Call:
    def __init__(self, number):
        self.id, self.state, self.number = f"call{number}", "confirmed", number

async def main():
    store = Store(Path(sys.argv[1]))
    store.encode = lambda call: b"%d " % call.number * 400
    store.open()
    if len(sys.argv) > 2:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
    async with trio.open_nursery() as nursery:
        await nursery.start(store.run)
        old = None
        for number in range(100_000):
            call = Call(number)
            durable = await store.commit(call)
            if old is not None and number % 3:
                old.state = "ended"
                store.dirty(old)
                await store.commit(old)
            old = call
            print(number, int(durable), flush=True)
            if not durable:
                await trio.sleep_forever()

trio.run(main)
"""


def child(path: Path, *limit: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path), *limit], stdout=subprocess.PIPE, env=environment, text=True
    )


@pytest.mark.parametrize("reported", [1, 40, 200])
def test_what_was_committed_survives_sigkill(path: Path, reported: int) -> None:
    """Killed in the middle of commits: every call that was said to be durable is there, whole."""
    process = child(path)
    assert process.stdout is not None
    for number in range(reported):
        assert process.stdout.readline() == f"{number} 1\n"
    process.send_signal(signal.SIGKILL)
    rest = process.stdout.read().split("\n")
    process.wait()
    process.stdout.close()
    last = reported - 1 + sum(line.endswith(" 1") for line in rest)
    store = opened(path)
    rows = dict(store.rows(SESSIONS))
    store.close()
    # Of call n, n + 1 being no multiple of three removes it again before n + 1 is reported.
    wanted = {n for n in range(last + 1) if (n + 1) % 3 == 0 or n == last}
    assert {f"call{n}" for n in wanted - {last}} <= set(rows) <= {f"call{n}" for n in wanted | {last, last + 1}}
    assert all(data == key.removeprefix("call").encode().join([b"", b" "]) * 400 for key, data in rows.items())
    assert not list(path.parent.glob("*damaged*"))


def test_a_file_that_may_not_grow(path: Path) -> None:
    """RLIMIT_FSIZE: the process goes on, what was reported durable is there."""
    process = child(path, "200000")
    assert process.stdout is not None
    durable = []
    try:
        for line in process.stdout:
            number, good = line.split()
            if good == "0":
                break
            durable.append(f"call{number}")
        else:
            pytest.fail("it never met the limit")
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    store = opened(path)
    rows = dict(store.rows(SESSIONS))
    store.close()
    assert {name for name in durable[:-1] if (int(name[4:]) + 1) % 3 == 0} <= set(rows)

"""What must survive a restart, in one SQLite file: sessions written behind, owed deletes, room for more tables.

Theory of operation. A `Store` has tables of (key, bytes). Sessions are not handed over as bytes: ``dirty(session)``
only marks one, and the writer asks ``encode`` for its snapshot when it writes, so a session that changes ten times
between two writes costs one snapshot, and one that has ended before it was ever written costs none. The writer wakes
up when something is marked, waits ``interval``, and writes everything that is waiting in one transaction in a worker
thread; the event loop never touches the disk while calls are served. ``await commit(session)`` hurries it up and
returns when the transaction is in: all commits that wait share one.

The file is in WAL mode with ``synchronous=NORMAL``: a transaction that is in survives ``kill -9`` of the process,
but not always the machine losing power (the last ones may then be missing; the file is still whole). Only this process
may write: a lock file beside it says who does. Readers (the ``sqlite3`` program) do not disturb.

Trouble with the disk never reaches a call. Whatever goes wrong is one line in the log and a counter; what could not
be written waits in memory and is tried again every ``RETRY`` seconds. A file that is no database, damaged, or from a
newer version is moved aside under a name that is logged, and a new one is begun.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import trio

log = logging.getLogger("proxy")

VERSION = 1
"""Of the tables; in the file's ``user_version``. What is inside the values has versions of its own."""
INTERVAL = 0.05
"""Seconds something may wait before it is written."""
RETRY = 1.0
"""Seconds between two tries while the disk does not work."""
SLICE = 100
"""Snapshots made in one go, before others get their turn on the event loop."""
SESSIONS = "sessions"
OWED = "owed"
TABLES = (SESSIONS, OWED)


class Kept(Protocol):
    """What the store needs to know of a session. ``state``: "early" ones are not written, "ended" ones are removed."""

    id: str
    state: str


class Persistence(Protocol):
    """What the parts of the proxy use of a store."""

    def dirty(self, session: Kept) -> None:
        """The session has changed, or has ended: to be written soon."""

    async def commit(self, *sessions: Kept) -> bool:
        """Write sessions now, whatever their state, in one go. True when they are durable; False when the disk does not
        let us."""

    def put(self, table: str, key: str, data: bytes) -> None:
        """Write a value soon, in place of the one before it."""

    def drop(self, table: str, key: str) -> None:
        """Remove a value soon; an unknown one is fine."""


class StoreError(Exception):
    """The store cannot be used. ``str()`` says which file, why, and what to do."""


class NullStore:
    """No persistence: everything is forgotten at once."""

    def dirty(self, session: Kept) -> None:
        """Nothing."""

    async def commit(self, *sessions: Kept) -> bool:
        """Nothing was written."""
        return False

    def put(self, table: str, key: str, data: bytes) -> None:
        """Nothing."""

    def drop(self, table: str, key: str) -> None:
        """Nothing."""

    def statistics(self) -> dict[str, int | float]:
        """No counters."""
        return {}

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Nothing to do."""
        task_status.started()


NULL = NullStore()

Runner = Callable[..., Awaitable[Any]]
_Row = tuple[int, str, bytes]


class _Table:
    """Keys that are in the file with their row numbers, and what waits to be written (None: to be removed)."""

    __slots__ = ("last", "name", "numbers", "waiting")

    def __init__(self, name: str) -> None:
        self.name = name
        self.numbers: dict[str, int] = {}
        self.waiting: dict[str, bytes | None] = {}
        self.last = 0

    def take(self) -> tuple[list[_Row], list[tuple[int]]]:
        """Everything that waits, as rows to write and numbers of rows to remove."""
        written: list[_Row] = []
        removed: list[tuple[int]] = []
        for key, data in self.waiting.items():
            number = self.numbers.get(key)
            if data is None:
                if number is not None:
                    removed.append((number,))
                    del self.numbers[key]
                continue
            if number is None:
                self.last += 1
                number = self.numbers[key] = self.last
            written.append((number, key, data))
        self.waiting = {}
        return written, removed

    def give_back(self, written: list[_Row], removed: list[tuple[int]]) -> None:
        """They could not be written: they wait again, except where something newer does."""
        for _, key, data in written:
            self.waiting.setdefault(key, data)
        for (number,) in removed:
            key = f"\0{number}"  # its own key may have another row by now
            self.numbers[key] = number
            self.waiting[key] = None


_Batch = list[tuple[_Table, list[_Row], list[tuple[int]]]]


class _Round:
    """One transaction and those who wait for it."""

    __slots__ = ("done", "durable")

    def __init__(self) -> None:
        self.done = trio.Event()
        self.durable = False


class Store:
    """See the module. ``path``: the file, in a folder that is made when it is not there. ``in_thread(function,
    *args)``: where the disk is touched. Set ``encode`` before the first session is marked."""

    def __init__(self, path: Path, *, interval: float = INTERVAL, in_thread: Runner | None = None) -> None:
        self.path = path
        self.interval = interval
        self.encode: Callable[[Any], bytes] = _not_set
        self.counters = {"writes": 0, "rows_written": 0, "rows_removed": 0, "errors": 0, "snapshots_failed": 0}
        self.failing = False
        self._in_thread = in_thread or _in_worker
        self._tables = {name: _Table(name) for name in TABLES}
        self._sessions = self._tables[SESSIONS]
        self._dirty: set[Kept] = set()
        self._forced: set[Kept] = set()
        self._awake = False
        self._wake = trio.Event()
        self._hurry = trio.Event()
        self._round = _Round()
        self._connection: sqlite3.Connection | None = None
        self._lock: int | None = None

    # -- opening -------------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Lock and open the file; a damaged one is moved aside. Blocks. Raises StoreError when that cannot be done."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = _locked(self.path)
        except OSError as error:
            raise StoreError(f"{self.path} cannot be used: {_reason(error)}; give [store] a folder of ours") from error
        try:
            try:
                self._connection = self._opened()
            except (sqlite3.DatabaseError, _OtherVersion) as error:
                if isinstance(error, sqlite3.OperationalError) and not _is_damage(error):
                    raise
                self._move_aside(error)
                self._connection = self._opened()
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise StoreError(f"{self.path} cannot be opened: {_reason(error)}; see that the disk has room") from error

    def _opened(self) -> sqlite3.Connection:
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))  # it names who talks to whom
        connection = sqlite3.connect(self.path, timeout=5.0, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            found = connection.execute("PRAGMA user_version").fetchone()[0]
            if found > VERSION:
                raise _OtherVersion(f"it is of version {found}, and this program knows {VERSION}")
            broken = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if broken != "ok":
                raise sqlite3.DatabaseError(broken)
            for table in self._tables.values():
                connection.execute(
                    f"CREATE TABLE IF NOT EXISTS {table.name} "
                    "(number INTEGER PRIMARY KEY, key TEXT NOT NULL, data BLOB NOT NULL)"
                )
                rows = connection.execute(f"SELECT number, key FROM {table.name} ORDER BY number").fetchall()
                table.numbers = {key: number for number, key in rows}
                table.last = rows[-1][0] if rows else 0
            connection.execute(f"PRAGMA user_version={VERSION}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _move_aside(self, why: Exception) -> None:
        aside = self.path.with_name(f"{self.path.name}.damaged-{int(time.time())}-{os.getpid()}")
        for suffix in ("", "-wal", "-shm"):
            part = self.path.with_name(self.path.name + suffix)
            if part.exists():
                os.replace(part, aside.with_name(aside.name + suffix))
        self.counters["errors"] += 1
        log.error(
            "%s could not be read (%s): moved to %s, begun anew; its calls are not restored", self.path, why, aside
        )

    def rows(self, table: str) -> Iterator[tuple[str, bytes]]:
        """What is in a table, in the order in which it was first written. Blocks; before ``run`` only."""
        assert self._connection is not None
        yield from self._connection.execute(f"SELECT key, data FROM {table} ORDER BY number")

    def close(self) -> None:
        """Write what waits, close the file and let go of the lock. Blocks."""
        connection, self._connection = self._connection, None
        if connection is not None:
            batch = self._collect(list(self._dirty))
            if batch:
                try:
                    _write(connection, batch)
                except sqlite3.Error as error:
                    self.counters["errors"] += 1
                    log.error("%s: the last changes could not be written: %s", self.path, _reason(error))
            connection.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def abandon(self) -> None:
        """Close the file and let go of the lock without writing what waits, as the end of the process would."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self.close()

    # -- marking -------------------------------------------------------------------------------------------------------

    def dirty(self, session: Kept) -> None:
        """The session has changed, or has ended: written within the interval, unless it is still being set up."""
        self._dirty.add(session)
        if not self._awake:
            self._awake = True
            self._wake.set()

    async def commit(self, *sessions: Kept) -> bool:
        """The sessions as they are now, durable before this returns True. False: the disk does not work, or the store
        is closed; that was logged, and the sessions will be written when it does."""
        if self._connection is None:
            return False
        self._forced.update(sessions)
        for session in sessions:
            self.dirty(session)
        if self.failing:
            return False
        waited_for = self._round
        self._hurry.set()
        await waited_for.done.wait()
        return waited_for.durable

    def put(self, table: str, key: str, data: bytes) -> None:
        """Write a value soon, in place of the one before it."""
        self._tables[table].waiting[key] = data
        self._mark()

    def drop(self, table: str, key: str) -> None:
        """Remove a value soon; an unknown one is fine."""
        one = self._tables[table]
        if key in one.numbers or key in one.waiting:
            one.waiting[key] = None
            self._mark()

    def _mark(self) -> None:
        if not self._awake:
            self._awake = True
            self._wake.set()

    def statistics(self) -> dict[str, int | float]:
        """Counters for ``mediactl stats``: ``store_sessions`` are the rows in the file."""
        counted: dict[str, int | float] = {f"store_{name}": value for name, value in self.counters.items()}
        counted["store_sessions"] = len(self._sessions.numbers)
        counted["store_owed"] = len(self._tables[OWED].numbers)
        counted["store_failing"] = int(self.failing)
        return counted

    # -- writing -------------------------------------------------------------------------------------------------------

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write until cancelled; the last changes are written on the way out, and the file is closed."""
        task_status.started()
        try:
            while True:
                await self._wake.wait()
                if self.failing:
                    await trio.sleep(RETRY)
                elif not self._hurry.is_set():
                    with trio.move_on_after(self.interval):
                        await self._hurry.wait()
                await self._flush()
        finally:
            self._round.done.set()
            self.close()

    async def _flush(self) -> None:
        """Everything marked until now, in slices of one transaction each."""
        self._wake, self._hurry, self._awake = trio.Event(), trio.Event(), False
        current, self._round = self._round, _Round()
        marked, self._dirty = list(self._dirty), set()
        batch: _Batch = []
        try:
            while True:
                slice_, marked = marked[:SLICE], marked[SLICE:]
                batch = self._collect(slice_)
                if batch:
                    await self._in_thread(_write, self._connection, batch)
                    self._written(batch)
                if not marked:
                    break
            current.durable = True
            self._works_again()
        except BaseException as error:
            for table, written, removed in batch:
                table.give_back(written, removed)
            if not isinstance(error, sqlite3.Error):
                raise  # cancelled: what was given back is written on the way out
            self._failed(error)
        finally:
            self._dirty.update(marked)
            if self._dirty or any(table.waiting for table in self._tables.values()):
                self._mark()
            current.done.set()

    def _collect(self, marked: list[Kept]) -> _Batch:
        """What is to be written of these sessions, and of the other tables."""
        sessions = self._sessions
        for session in marked:
            forced = session in self._forced
            if forced:
                self._forced.discard(session)
            if session.state == "ended":
                if session.id in sessions.numbers or session.id in sessions.waiting:
                    sessions.waiting[session.id] = None
            elif forced or session.state != "early" or session.id in sessions.numbers:
                try:
                    sessions.waiting[session.id] = self.encode(session)
                except Exception:
                    # A mistake of ours in one snapshot must not stop the others'.
                    self.counters["snapshots_failed"] += 1
                    log.exception("no snapshot of session %s could be made; please report it", session.id)
        return [(table, *table.take()) for table in self._tables.values() if table.waiting]

    def _written(self, batch: _Batch) -> None:
        self.counters["writes"] += 1
        for _, written, removed in batch:
            self.counters["rows_written"] += len(written)
            self.counters["rows_removed"] += len(removed)

    def _failed(self, error: sqlite3.Error) -> None:
        self.counters["errors"] += 1
        if not self.failing:
            log.error(
                "%s cannot be written: %s; calls go on, but those that change now would not survive a restart",
                self.path, _reason(error),
            )  # fmt: skip
        self.failing = True

    def _works_again(self) -> None:
        if self.failing:
            log.warning("%s is written again", self.path)
        self.failing = False


class _OtherVersion(Exception):
    """The file is from a newer program."""


def _not_set(session: Any) -> bytes:
    raise RuntimeError("Store.encode was not set")


async def _in_worker(function: Callable[..., Any], *args: Any) -> Any:
    return await trio.to_thread.run_sync(function, *args)


def _write(connection: sqlite3.Connection, batch: _Batch) -> None:
    """One transaction, or nothing. Raises sqlite3.Error."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        for table, written, removed in batch:
            if written:
                connection.executemany(f"INSERT OR REPLACE INTO {table.name} VALUES (?, ?, ?)", written)
            if removed:
                connection.executemany(f"DELETE FROM {table.name} WHERE number = ?", removed)
        connection.execute("COMMIT")
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _locked(path: Path) -> int:
    """A descriptor that holds the lock beside the file until it is closed, or the process ends however. Raises OSError
    when another process has it."""
    lock = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner = os.pread(lock, 20, 0).decode("ascii", "replace").strip()
        os.close(lock)
        raise BlockingIOError(error.errno, f"another proxy (pid {owner or 'unknown'}) uses it") from error
    os.truncate(lock, 0)
    os.pwrite(lock, b"%d\n" % os.getpid(), 0)
    return lock


def _is_damage(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return (error.strerror or str(error))[:1].lower() + (error.strerror or str(error))[1:]
    return str(error)

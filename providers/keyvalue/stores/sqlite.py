"""A store in one SQLite file: for one machine, durable, with nothing else to run.

Each bucket is a file of its own, in write-ahead mode. An operation is all of a transaction or a
savepoint in one, and is acknowledged when that is committed: of one whose process is killed in the
middle nothing is left. A transaction that may write begins with the lock that writers need, so that
processes that share the file take turns.

SQLite blocks, so each store has a thread, and its operations run there one after another. To commit
takes most of the time, as the disk has to write; so the thread does all writes in one transaction
that came while it was at the one before. What is cancelled before is not executed.

Every write gives its row a new number, and SQLite never gives the same one twice to a table
(AUTOINCREMENT): it is the key's version.

The file of a bucket that somebody watches writes down what changes, by triggers: so it does for
whoever writes to it, and a bucket that nobody ever watched does nothing for it.
"""

import asyncio
import functools
import json
import sqlite3
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from lattice import errors, limits
from providers.keyvalue import bounds as sizes
from providers.keyvalue.bounds import Bounds
from providers.keyvalue.settings import SqliteSettings
from providers.keyvalue.stores import Page, Versioned, Watch, values
from providers.keyvalue.stores.computing import Computing
from providers.keyvalue.stores.values import Value
from providers.keyvalue.stores.watches import Change, Wanted

BUSY_TIMEOUT_S = 5.0
"""For other processes to finish their transactions. Each takes milliseconds, but who is next is
chance, and of twenty that write without a pause one in a thousand waited for longer than two
seconds. Half a call's usual time: a refusal still arrives. All operations of this store wait
meanwhile."""

BUSY_PAUSE_S = 0.002
"""Between looks at a lock: about what a transaction takes."""

FORGOTTEN_AT_ONCE = 10
"""Expired keys that a write removes besides: more than it can add, so they don't gather, and few
enough to cost it nothing."""

GROUP_MAX = 64
"""Operations of one transaction: with so many the disk's time no longer counts, and reads wait for
no more than these."""

GROUP_BYTES = 4 * limits.MIB
"""Of values in one transaction before its last: they are in the log beside the file until it is
committed, and SQLite works the log off in pieces of this size."""

COLLECTION_BYTES_MAX = 8 * limits.MIB
"""One list or set, as JSON: it is written whole to change one item."""

STATEMENTS_CACHED = 64
"""More than the statements of this file; each is compiled once."""

FORMAT = 1
"""Of the file, kept in its ``user_version``; a file of a later one is refused."""

_SCHEMA = """
CREATE TABLE entries (
    version INTEGER PRIMARY KEY AUTOINCREMENT,
    key BLOB NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    value BLOB NOT NULL,
    expires_at_s REAL
)
"""
_EXPIRIES = """
CREATE INDEX expiries ON entries (expires_at_s) WHERE expires_at_s IS NOT NULL
"""

LOOK_S = 0.1
"""Between looks for what other processes have changed; our own changes are told at once."""

# Replacing a row is no deletion here: triggers hear of such only if asked to. The last 10,000
# changes are remembered; a watcher that is further behind has missed some.
_WATCHED = (
    """
    CREATE TABLE IF NOT EXISTS changes (
        place INTEGER PRIMARY KEY AUTOINCREMENT,
        key BLOB NOT NULL,
        is_deletion INTEGER NOT NULL,
        expires_at_s REAL
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS watched (id TEXT NOT NULL)
    """,
    """
    INSERT INTO watched SELECT lower(hex(randomblob(16))) WHERE NOT EXISTS (SELECT * FROM watched)
    """,
    """
    CREATE TRIGGER IF NOT EXISTS written AFTER INSERT ON entries BEGIN
        INSERT INTO changes (key, is_deletion) VALUES (NEW.key, 0);
    END
    """,
    """
    CREATE TRIGGER IF NOT EXISTS deleted AFTER DELETE ON entries BEGIN
        INSERT INTO changes (key, is_deletion, expires_at_s) VALUES (OLD.key, 1, OLD.expires_at_s);
    END
    """,
    """
    CREATE TRIGGER IF NOT EXISTS remembered AFTER INSERT ON changes BEGIN
        DELETE FROM changes WHERE place <= NEW.place - 10000;
    END
    """,
)

Kind = Literal["bytes", "list", "set"]

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class _Found:
    value: Value
    version: bytes
    expires_at_s: float | None


@dataclass(frozen=True, slots=True)
class _Job:
    work: Callable[["_Table"], Any]
    size_bytes: int
    outcome: asyncio.Future[Any]


class SqliteStore(Computing):
    """Opens its file when first used, making it if it is not there."""

    def __init__(
        self, settings: SqliteSettings, bounds: Bounds, *, now_s: Callable[[], float] = time.time
    ) -> None:
        self._settings = settings
        self._bounds = bounds
        self._now_s = now_s
        self._connection: sqlite3.Connection | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"sqlite {settings.bucket}")
        self._waiting: deque[_Job] = deque()
        self._is_writing = False
        self._is_closed = False
        self._watches: set[SqliteWatch] = set()

    @property
    def label(self) -> str:
        return f"SQLite bucket {self._settings.bucket}"

    async def aclose(self) -> None:
        """Finish what has begun, give up what has not, and close the file. Safe to call twice."""
        if self._is_closed:
            return
        self._is_closed = True
        for job in self._waiting:
            if not job.outcome.done():
                job.outcome.set_exception(errors.Unavailable(f"{self.label} is closed"))
        self._waiting.clear()
        closing = asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown(wait=False)
        await closing
        # It was the last to do there: the thread ends at once.
        self._thread.shutdown()

    async def ping(self) -> None:
        await self._read(lambda table: table.count())

    async def contains(self, key: str) -> bool:
        return await self._read(lambda table: table.read(key) is not None)

    async def delete(self, key: str) -> bool:
        return await self._write(lambda table: table.delete(key))

    async def get(self, key: str) -> bytes | None:
        return await self._read(lambda table: table.content(key))

    async def set(self, key: str, value: bytes, *, expires_s: int) -> None:
        expires_at_s = self._now_s() + expires_s if expires_s else None
        await self._write(
            lambda table: table.write(key, value, expires_at_s), size_bytes=len(value)
        )

    async def current(self, key: str) -> Versioned:
        return await self._read(lambda table: self._versioned(key, table.read(key)))

    async def swap(self, key: str, version: bytes | None, value: bytes) -> Versioned | None:
        def work(table: "_Table") -> Versioned | None:
            found = table.read(key)
            now = self._versioned(key, found)
            if now.version != version:
                return now
            table.write(key, value, found.expires_at_s if found else None)
            return None

        return await self._write(work, size_bytes=len(value))

    async def list_keys(self, after: str | None) -> Page:
        """Reads only the page, by an index."""
        count = self._bounds.page_keys_max
        found = await self._read(lambda table: table.keys(after, count + 1))
        return Page(found[:count], found[count - 1] if len(found) > count else None)

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        def work(table: "_Table") -> list[bytes | None]:
            found: list[bytes | None] = []
            size_bytes = 0
            for key in keys:
                value = table.content(key)
                size_bytes += len(value or b"")
                sizes.check_reply([size_bytes], self._bounds)
                found.append(value)
            return found

        return await self._read(work)

    async def set_many(self, pairs: Sequence[tuple[str, bytes]]) -> None:
        def work(table: "_Table") -> None:
            for key, value in pairs:
                table.write(key, value, None)

        await self._write(work, size_bytes=sum(len(value) for _, value in pairs))

    async def delete_many(self, keys: Sequence[str]) -> None:
        def work(table: "_Table") -> None:
            for key in keys:
                table.delete(key)

        await self._write(work)

    async def watch_scope(self) -> str | None:
        return await self._write(lambda table: table.set_watched())

    async def watch(self, _wanted: Wanted, after: int | None) -> Watch:
        await self.watch_scope()
        last = await self._read(lambda table: table.last_place())
        # Of a file that was put in the place of another the places are other ones.
        begins_after = last if after is None else min(after, last)
        watch = SqliteWatch(self._changes, begins_after, self._watches.discard)
        self._watches.add(watch)
        return watch

    async def _changes(self, after: int, count: int) -> list[Change]:
        return await self._read(lambda table: table.changes(after, count))

    async def _values(self, keys: Sequence[str]) -> list[Value | None]:
        return await self._read(lambda table: [table.value(key) for key in keys])

    async def _change(
        self, key: str, change: Callable[[Value | None], tuple[Value | None, R]]
    ) -> R:
        def work(table: "_Table") -> R:
            found = table.read(key)
            before = found.value if found else None
            value, answer = change(before)
            if value is None or (not value and not isinstance(value, bytes)):
                table.delete(key)
            elif value != before or isinstance(value, bytes):
                table.write(key, value, found.expires_at_s if found else None)
            return answer

        return await self._write(work)

    def _versioned(self, key: str, found: _Found | None) -> Versioned:
        value = values.content(key, found.value if found else None)
        sizes.check_reply([len(value or b"")], self._bounds)
        return Versioned(value, found.version if found else None)

    async def _read(self, work: Callable[["_Table"], R]) -> R:
        """Do what only reads, at one moment, beside those who write."""
        self._check_open()
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._reading, work)

    async def _write(self, work: Callable[["_Table"], R], *, size_bytes: int = 0) -> R:
        """Do what may write, while nobody else does; done when it is committed."""
        self._check_open()
        job = _Job(work, size_bytes, asyncio.get_running_loop().create_future())
        self._waiting.append(job)
        self._start_group()
        result: R = await job.outcome
        return result

    def _check_open(self) -> None:
        if self._is_closed:
            raise errors.Unavailable(f"{self.label} is closed")

    def _start_group(self) -> None:
        """Have the thread do what waits, unless it is at a group already."""
        if self._is_writing or not self._waiting:
            return
        jobs: list[_Job] = []
        room_bytes = GROUP_BYTES
        while self._waiting and len(jobs) < GROUP_MAX and room_bytes > 0:
            job = self._waiting.popleft()
            if not job.outcome.done():
                jobs.append(job)
                room_bytes -= job.size_bytes
        self._is_writing = True
        group = asyncio.get_running_loop().run_in_executor(self._thread, self._writing, jobs)
        group.add_done_callback(functools.partial(self._end_group, jobs))

    def _end_group(self, jobs: list["_Job"], group: asyncio.Future[list[Any]]) -> None:
        self._is_writing = False
        failure = group.exception()
        outcomes = [failure] * len(jobs) if failure else group.result()
        for job, outcome in zip(jobs, outcomes, strict=True):
            if job.outcome.done():
                continue
            if isinstance(outcome, errors.LatticeError):
                job.outcome.set_exception(outcome.copy())
            elif isinstance(outcome, BaseException):
                job.outcome.set_exception(outcome)
            else:
                job.outcome.set_result(outcome)
        for watch in self._watches:
            watch.look()
        if not self._is_closed:
            self._start_group()

    def _reading(self, work: Callable[["_Table"], R]) -> R:
        with self._transaction("BEGIN DEFERRED") as table:
            return work(table)

    def _writing(self, jobs: list["_Job"]) -> list[Any]:
        """Do the jobs; gives what each returned, or the refusal it raised."""
        try:
            return self._together(jobs)
        except _FullError:
            # Nothing was done. What finds no room must not keep others from making some.
            return [self._alone(job) for job in jobs]

    def _alone(self, job: "_Job") -> Any:
        try:
            (outcome,) = self._together([job])
        except errors.LatticeError as refusal:
            return refusal
        return outcome

    def _together(self, jobs: list["_Job"]) -> list[Any]:
        """Do the jobs in one transaction."""
        outcomes: list[Any] = []
        with self._transaction("BEGIN IMMEDIATE") as table:
            for job in jobs:
                try:
                    with table.savepoint():
                        outcomes.append(job.work(table))
                except errors.LatticeError as refusal:
                    outcomes.append(refusal)
        return outcomes

    @contextmanager
    def _transaction(self, begin: str) -> Iterator["_Table"]:
        with self._translated():
            connection = self._opened()
            _take_turn(connection, begin)
            try:
                yield _Table(connection, self._now_s())
                connection.execute("COMMIT")
            except BaseException:
                # A disk that is full has SQLite do so by itself.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            path = self._settings.path
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Readable by this user alone, as are the files that SQLite puts beside it.
            path.touch(mode=0o600, exist_ok=True)
            connection = sqlite3.connect(
                path,
                timeout=BUSY_TIMEOUT_S,
                isolation_level=None,
                cached_statements=STATEMENTS_CACHED,
            )
            try:
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        _take_turn(connection, "PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {self._settings.synchronous.upper()}")
        page_bytes = connection.execute("PRAGMA page_size").fetchone()[0]
        pages_max = max(self._bounds.sqlite_bytes_max // page_bytes, 1)
        connection.execute(f"PRAGMA max_page_count = {pages_max}")
        connection.execute("BEGIN IMMEDIATE")
        found = connection.execute("PRAGMA user_version").fetchone()[0]
        if found == 0:
            connection.execute(_SCHEMA)
            connection.execute(_EXPIRIES)
            connection.execute(f"PRAGMA user_version = {FORMAT}")
        connection.execute("COMMIT")
        if found > FORMAT:
            raise errors.ProviderError(
                f"{self.label} has format {found}; this version reads up to {FORMAT}"
            )

    def _close(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """
        Raises:
            Unavailable: the file is busy, can't be opened, or its disk fails.
            ProviderError: SQLite refuses: the disk or the bucket is full, or the file is not its.
        """
        try:
            yield
        except sqlite3.Error as error:
            name = getattr(error, "sqlite_errorname", "")
            if name == "SQLITE_FULL":
                raise _FullError(
                    f"{self.label} is full: its disk, or the {self._bounds.sqlite_bytes_max} bytes "
                    "of sqlite_bytes_max; nothing was changed"
                ) from error
            if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
                raise errors.Unavailable(
                    f"{self.label} is busy: other processes hold it; nothing was changed"
                ) from error
            if name.startswith(("SQLITE_CANTOPEN", "SQLITE_IOERR")):
                # The file may be back later, and what is open is of no use until then.
                self._close()
                raise errors.Unavailable(f"{self.label} fails: {error}") from error
            raise errors.ProviderError(f"{self.label} refused: {error}") from error
        except OSError as error:
            raise errors.Unavailable(f"{self.label} fails: {error.strerror}") from error


class SqliteWatch:
    """What a bucket has written down of its changes, looked at now and then."""

    def __init__(
        self,
        read: Callable[[int, int], Awaitable[list[Change]]],
        after: int,
        closed: Callable[["SqliteWatch"], None],
    ) -> None:
        self._read = read
        self._closed = closed
        self._seen = after
        self._nudged = asyncio.Event()
        self.place = after
        self.lost = 0

    def look(self) -> None:
        """There may be something."""
        self._nudged.set()

    async def next(self, count_max: int) -> Sequence[Change]:
        while True:
            self._nudged.clear()
            found = await self._read(self._seen, count_max)
            if found:
                # Each change has the place after the one before, unless that is forgotten.
                self.lost += max(found[0].place - self._seen - 1, 0)
                self._seen = found[-1].place
                return found
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._nudged.wait()

    async def aclose(self) -> None:
        self._closed(self)


def _take_turn(connection: sqlite3.Connection, statement: str) -> None:
    """Execute a statement that needs a lock as soon as the lock is free.

    SQLite doesn't wait for every lock, and where it does it looks again ever more seldom: of many
    writers the latest come first. Here each looks as often as the others.
    """
    give_up_s = time.monotonic() + BUSY_TIMEOUT_S
    connection.execute("PRAGMA busy_timeout = 0")
    while True:
        try:
            connection.execute(statement)
            break
        except sqlite3.OperationalError as error:
            is_busy = error.sqlite_errorname.startswith("SQLITE_BUSY")
            if not is_busy or time.monotonic() >= give_up_s:
                raise
        time.sleep(BUSY_PAUSE_S)
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000:.0f}")


class _FullError(errors.ProviderError):
    """There is no room for a transaction, and nothing of it was done."""


class _Table:
    """The entries, inside a transaction."""

    def __init__(self, connection: sqlite3.Connection, now_s: float) -> None:
        self._connection = connection
        self._now_s = now_s

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """Undo what is done in it if it fails."""
        self._connection.execute("SAVEPOINT job")
        try:
            yield
        except errors.LatticeError:
            self._connection.execute("ROLLBACK TO job")
            raise
        finally:
            # An error of SQLite's own may have ended all of the transaction.
            if self._connection.in_transaction:
                self._connection.execute("RELEASE job")

    def count(self) -> int:
        """Whether the table can be read; says the latest version."""
        found = self._connection.execute("SELECT max(version) FROM entries").fetchone()
        return int(found[0] or 0)

    def read(self, key: str) -> _Found | None:
        row = self._connection.execute(
            "SELECT version, kind, value, expires_at_s FROM entries "
            "WHERE key = ? AND (expires_at_s IS NULL OR expires_at_s > ?)",
            (key.encode(), self._now_s),
        ).fetchone()
        if row is None:
            return None
        version, kind, data, expires_at_s = row
        return _Found(_decode(kind, data), b"%d" % version, expires_at_s)

    def value(self, key: str) -> Value | None:
        found = self.read(key)
        return found.value if found else None

    def content(self, key: str) -> bytes | None:
        return values.content(key, self.value(key))

    def write(self, key: str, value: Value, expires_at_s: float | None) -> None:
        self._forget_expired()
        # A row that is replaced is a new one, with a new number.
        self._connection.execute(
            "INSERT OR REPLACE INTO entries (key, kind, value, expires_at_s) VALUES (?, ?, ?, ?)",
            (key.encode(), *_encode(value), expires_at_s),
        )

    def delete(self, key: str) -> bool:
        was_there = self.read(key) is not None
        self._connection.execute("DELETE FROM entries WHERE key = ?", (key.encode(),))
        return was_there

    def keys(self, after: str | None, count: int) -> list[str]:
        rows = self._connection.execute(
            "SELECT key FROM entries WHERE key > ? AND (expires_at_s IS NULL OR expires_at_s > ?) "
            "ORDER BY key LIMIT ?",
            ((after or "").encode(), self._now_s, count),
        )
        return [key.decode() for (key,) in rows]

    def set_watched(self) -> str:
        """Have the file write down its changes; gives what names it."""
        for statement in _WATCHED:
            self._connection.execute(statement)
        return str(self._connection.execute("SELECT id FROM watched").fetchone()[0])

    def last_place(self) -> int:
        # The rows may all be gone; the counter is not.
        row = self._connection.execute(
            "SELECT seq FROM sqlite_sequence WHERE name = 'changes'"
        ).fetchone()
        return int(row[0]) if row else 0

    def changes(self, after: int, count: int) -> list[Change]:
        """Changes after a place. What had expired when it was removed counts as written: whoever
        reads it then finds nothing, and has nothing to tell.
        """
        rows = self._connection.execute(
            "SELECT place, key, is_deletion, expires_at_s FROM changes WHERE place > ? "
            "ORDER BY place LIMIT ?",
            (after, count),
        )
        return [
            Change(key.decode(), bool(is_deletion) and not self._is_over(expires_at_s), place=place)
            for place, key, is_deletion, expires_at_s in rows
        ]

    def _is_over(self, expires_at_s: float | None) -> bool:
        return expires_at_s is not None and expires_at_s <= self._now_s

    def _forget_expired(self) -> None:
        self._connection.execute(
            "DELETE FROM entries WHERE version IN "
            "(SELECT version FROM entries WHERE expires_at_s <= ? LIMIT ?)",
            (self._now_s, FORGOTTEN_AT_ONCE),
        )


def _encode(value: Value) -> tuple[Kind, bytes]:
    match value:
        case bytes():
            return "bytes", value
        case tuple():
            return "list", _collection(value)
        case frozenset():
            return "set", _collection(sorted(value))


def _collection(items: Sequence[str]) -> bytes:
    data = json.dumps(items).encode()
    if len(data) > COLLECTION_BYTES_MAX:
        raise errors.PayloadTooLarge("the list or set", len(data), COLLECTION_BYTES_MAX)
    return data


def _decode(kind: Kind, data: bytes) -> Value:
    match kind:
        case "bytes":
            return data
        case "list":
            return tuple(json.loads(data))
        case "set":
            return frozenset(json.loads(data))

"""What only the SQLite store can get wrong: its file, a full disk, a killed process, its thread."""

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lattice import errors, limits
from lattice.aio import processes
from providers.keyvalue.bounds import Bounds
from providers.keyvalue.settings import SqliteSettings, Synchronous
from providers.keyvalue.stores import sqlite
from providers.keyvalue.stores.sqlite import SqliteStore

KILLS = 5
"""Each at another point of a write, as the process goes on while we find out that we want it."""


def settings_of(directory: Path, *, bucket: str = "b") -> SqliteSettings:
    return SqliteSettings(bucket=bucket, directory=directory, synchronous="full")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(settings_of(tmp_path), Bounds())
    yield store
    await store.aclose()
    await store.aclose()


async def test_a_bucket_is_a_file_that_its_user_alone_can_read(tmp_path: Path) -> None:
    directory = tmp_path / "not" / "there"
    store = SqliteStore(settings_of(directory, bucket="orders"), Bounds())
    await store.set("k", b"v", expires_s=0)
    assert directory.stat().st_mode & 0o077 == 0
    files = {path.name: path.stat().st_mode & 0o777 for path in directory.iterdir()}
    assert files["orders.sqlite"] == 0o600
    assert set(files.values()) == {0o600}
    await store.aclose()
    assert [path.name for path in directory.iterdir()] == ["orders.sqlite"]


async def test_nothing_is_made_before_it_is_needed(tmp_path: Path) -> None:
    store = SqliteStore(settings_of(tmp_path / "none"), Bounds())
    await store.aclose()
    assert not (tmp_path / "none").exists()


async def test_buckets_of_one_directory_share_nothing(tmp_path: Path) -> None:
    one, two = (SqliteStore(settings_of(tmp_path, bucket=name), Bounds()) for name in "ab")
    await one.set("k", b"v", expires_s=0)
    assert not await two.contains("k")
    await one.aclose()
    await two.aclose()


async def test_data_outlives_the_store(tmp_path: Path) -> None:
    for expected in (1, 2, 3):
        store = SqliteStore(settings_of(tmp_path), Bounds())
        assert await store.increment("n", 1) == expected
        await store.aclose()


async def test_a_closed_store_is_unavailable_and_its_thread_is_gone(tmp_path: Path) -> None:
    store = SqliteStore(settings_of(tmp_path, bucket="closed"), Bounds())
    await store.ping()
    await store.aclose()
    with pytest.raises(errors.Unavailable, match="SQLite bucket closed is closed"):
        await store.get("k")
    assert not [t for t in threading.enumerate() if t.name.startswith("sqlite closed")]


@pytest.mark.parametrize("openers", [2, 3, 4, 20])
async def test_many_can_open_a_new_file_at_the_same_moment(
    tmp_path: Path, openers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # They wait for each other's turns at the disk, which others may keep busy.
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_S", 30.0)
    # Each new file is another chance for them to meet.
    for bucket in map(str, range(25)):
        settings = settings_of(tmp_path, bucket=bucket)
        stores = [SqliteStore(settings, Bounds()) for _ in range(openers)]
        sums = await asyncio.gather(*(store.increment("n", 1) for store in stores))
        assert sorted(sums) == list(range(1, openers + 1))
        for store in stores:
            await store.aclose()


async def test_a_full_bucket_takes_no_more_keeps_what_it_has_and_can_be_emptied(
    tmp_path: Path,
) -> None:
    store = SqliteStore(settings_of(tmp_path), Bounds(sqlite_bytes_max=256 * limits.KIB))
    await store.set("kept", b"kept", expires_s=0)
    taken = await fill(store)
    assert 0 < taken < 256
    with pytest.raises(errors.ProviderError, match=r"is full: .* 262144 bytes"):
        await store.set_many([("a", b"x"), ("b", bytes(100_000))])
    with pytest.raises(errors.ProviderError, match="is full"):
        await store.swap("kept", (await store.current("kept")).version, bytes(100_000))
    assert await store.get_many(["kept", "a", "b"]) == [b"kept", None, None]

    outcomes = await asyncio.gather(
        *(store.set(f"large{n}", bytes(200_000), expires_s=0) for n in range(3)),
        store.delete_many([f"k{n}" for n in range(taken)]),
        return_exceptions=True,
    )
    assert outcomes[-1] is None
    assert not await store.contains("k0")
    await store.delete_many([f"large{n}" for n in range(3)])
    assert await fill(store) > 0
    await store.aclose()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of two megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs permissions")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


async def test_a_full_disk_is_an_error_that_leaves_nothing_half_done(small_disk: Path) -> None:
    store = SqliteStore(settings_of(small_disk), Bounds())
    await store.set("kept", b"kept", expires_s=0)
    taken = await fill(store)
    assert taken > 0
    for _ in range(3):
        with pytest.raises(errors.ProviderError, match="is full"):
            await store.set_many([("a", b"x"), ("kept", bytes(400_000)), ("b", bytes(400_000))])
    keys = [f"k{n}" for n in range(taken)]
    assert await store.get_many(["kept", "a", "b", *keys]) == [
        b"kept",
        None,
        None,
        *[bytes(1_000)] * taken,
    ]
    await store.aclose()

    # Whoever opens it anew, with the disk as full as it was, finds the same.
    store = SqliteStore(settings_of(small_disk), Bounds())
    assert await store.get_many(["kept", "a", *keys]) == [b"kept", None, *[bytes(1_000)] * taken]
    await store.aclose()
    assert intact(small_disk / "b.sqlite")


async def fill(store: SqliteStore) -> int:
    """Set keys until the store refuses one; how many it took."""
    for taken in range(10_000):
        try:
            await store.set(f"k{taken}", bytes(1_000), expires_s=0)
        except errors.ProviderError:
            return taken
    raise AssertionError("the store is bottomless")


WRITER = """
import asyncio, itertools, sys
from pathlib import Path
from providers.keyvalue.bounds import Bounds
from providers.keyvalue.settings import SqliteSettings
from providers.keyvalue.stores.sqlite import SqliteStore

async def main():
    where = SqliteSettings(bucket="b", directory=Path(sys.argv[1]), synchronous="full")
    store = SqliteStore(where, Bounds())
    for _ in itertools.repeat(None):
        n = await store.increment("n", 1)
        await store.set_many([(f"{key}", b"%d" % n + bytes(20_000)) for key in range(20)])
        await store.list_add("l", str(n))
        print(n, flush=True)

asyncio.run(main())
"""


async def test_a_killed_process_loses_nothing_that_it_acknowledged_and_leaves_no_half(
    tmp_path: Path,
) -> None:
    told = 0
    for kill in range(KILLS):
        writer = await processes.spawn(
            sys.executable, "-c", WRITER, str(tmp_path), output=asyncio.subprocess.PIPE
        )
        assert writer.stdout is not None
        for _ in range(3 * kill + 1):
            told = int(await writer.stdout.readline())
        writer.kill()
        # What it had said before it died.
        for line in (await writer.stdout.read()).splitlines(keepends=True):
            told = int(line) if line.endswith(b"\n") else told
        await writer.wait()

        store = SqliteStore(settings_of(tmp_path), Bounds())
        counted = int(await store.get("n") or b"0")
        batch = {(await store.get(str(key)) or b"").rstrip(b"\0") for key in range(20)}
        items = [int(item) for item in await store.list_range("l", 0, -1)]
        await store.aclose()
        assert told <= counted <= told + 1
        assert len(batch) == 1
        assert told <= int(batch.pop()) <= counted
        assert items[-1] >= told
        assert intact(tmp_path / "b.sqlite")


def intact(path: Path) -> bool:
    connection = sqlite3.connect(path)
    try:
        return bool(connection.execute("PRAGMA integrity_check").fetchone() == ("ok",))
    finally:
        connection.close()


async def test_a_file_that_another_process_holds_is_unavailable_until_it_lets_go(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_S", 0.05)
    await store.set("k", b"v", expires_s=0)
    other = sqlite3.connect(tmp_path / "b.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(errors.Unavailable, match="busy"):
        await store.set("k", b"w", expires_s=0)
    # Reading goes on meanwhile.
    assert await store.get("k") == b"v"
    other.execute("ROLLBACK")
    await store.set("k", b"w", expires_s=0)
    other.close()


async def test_a_file_that_is_not_a_database_is_an_error_of_the_provider(tmp_path: Path) -> None:
    (tmp_path / "b.sqlite").write_bytes(b"not a database at all " * 100)
    store = SqliteStore(settings_of(tmp_path), Bounds())
    for _ in range(2):
        with pytest.raises(errors.ProviderError, match="not a database"):
            await store.get("k")
    await store.aclose()


async def test_a_file_of_a_later_version_is_refused_and_kept(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "b.sqlite")
    connection.execute("PRAGMA user_version = 2")
    connection.close()
    store = SqliteStore(settings_of(tmp_path), Bounds())
    with pytest.raises(errors.ProviderError, match="format 2; this version reads up to 1"):
        await store.set("k", b"v", expires_s=0)
    await store.aclose()


async def test_a_directory_that_can_not_be_made_is_unavailable_until_it_can(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").touch()
    store = SqliteStore(settings_of(tmp_path / "file"), Bounds())
    with pytest.raises(errors.Unavailable, match="SQLite bucket b fails"):
        await store.set("k", b"v", expires_s=0)
    (tmp_path / "file").unlink()
    await store.set("k", b"v", expires_s=0)
    await store.aclose()


async def test_what_expired_makes_room_though_nobody_reads_it(tmp_path: Path) -> None:
    now_s = 0.0
    store = SqliteStore(settings_of(tmp_path), Bounds(), now_s=lambda: now_s)
    for n in range(20):
        await store.set(f"k{n}", b"v", expires_s=10)
    now_s = 10.0
    for _ in range(3):
        await store.set("k", b"v", expires_s=0)
    await store.aclose()
    connection = sqlite3.connect(tmp_path / "b.sqlite")
    assert connection.execute("SELECT count(*) FROM entries").fetchone() == (1,)
    connection.close()


async def test_a_call_that_was_given_up_while_it_waited_is_not_executed(
    store: SqliteStore,
) -> None:
    await store.ping()
    go_on = threading.Event()
    blocked = asyncio.get_running_loop().run_in_executor(store._thread, go_on.wait, 10)
    first = asyncio.ensure_future(store.increment("n", 1))
    waiting = [asyncio.ensure_future(store.set("k", b"v", expires_s=0)) for _ in range(2)]
    await asyncio.sleep(0)
    for each in waiting:
        each.cancel()
    go_on.set()
    await blocked
    assert await first == 1
    assert not await store.contains("k")


async def test_writes_that_wait_are_committed_together_and_fail_alone(
    store: SqliteStore,
) -> None:
    await store.set("text", b"no number", expires_s=0)
    commits = 0

    def note(statement: str) -> None:
        nonlocal commits
        commits += statement == "COMMIT"

    await store._read(lambda table: table._connection.set_trace_callback(note))
    keys = ["text" if n % 3 == 0 else "n" for n in range(60)]
    outcomes = await asyncio.gather(
        *(store.increment(key, 1) for key in keys), return_exceptions=True
    )
    numbers = [outcome for outcome in outcomes if isinstance(outcome, int)]
    assert numbers == list(range(1, 41))
    assert sum(isinstance(outcome, errors.InvalidRequest) for outcome in outcomes) == 20
    assert await store.get("text") == b"no number"
    assert commits < 6


async def test_large_values_that_wait_are_not_all_in_one_transaction(
    store: SqliteStore, tmp_path: Path
) -> None:
    value = bytes(limits.MIB)
    await asyncio.gather(*(store.set(f"k{n}", value, expires_s=0) for n in range(40)))
    log = tmp_path / "b.sqlite-wal"
    size = await asyncio.to_thread(lambda: log.stat().st_size)
    assert size < 2 * sqlite.GROUP_BYTES + 4 * limits.MIB


async def test_a_list_that_outgrows_its_row_is_refused_and_kept(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "COLLECTION_BYTES_MAX", 20)
    await store.list_add("l", "x" * 10)
    with pytest.raises(errors.PayloadTooLarge, match="the list or set is 28 bytes"):
        await store.list_add("l", "x" * 10)
    assert await store.list_range("l", 0, -1) == ["x" * 10]


async def test_a_store_that_is_closed_gives_up_what_waits_and_finishes_what_has_begun(
    store: SqliteStore, tmp_path: Path
) -> None:
    await store.ping()
    go_on = threading.Event()
    blocked = asyncio.get_running_loop().run_in_executor(store._thread, go_on.wait, 10)
    begun = asyncio.ensure_future(store.increment("n", 1))
    await asyncio.sleep(0)
    waiting = asyncio.ensure_future(store.increment("n", 1))
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(store.aclose())
    await asyncio.sleep(0)
    go_on.set()
    await blocked
    await closing
    assert await begun == 1
    with pytest.raises(errors.Unavailable, match="is closed"):
        await waiting
    again = SqliteStore(settings_of(tmp_path), Bounds())
    assert await again.get("n") == b"1"
    await again.aclose()


async def test_lists_and_sets_are_json_that_other_programs_read(
    store: SqliteStore, tmp_path: Path
) -> None:
    await store.list_add("l", "żółć")
    await store.list_add("l", "a")
    connection = sqlite3.connect(tmp_path / "b.sqlite")
    row = connection.execute("SELECT kind, value FROM entries WHERE key = ?", (b"l",)).fetchone()
    connection.close()
    assert row[0] == "list"
    assert json.loads(row[1]) == ["żółć", "a"]


async def test_the_disk_writes_down_what_was_committed_unless_told_otherwise(
    tmp_path: Path,
) -> None:
    levels: dict[Synchronous, int] = {"full": 2, "normal": 1}
    for synchronous, level in levels.items():
        where = replace(settings_of(tmp_path), synchronous=synchronous)
        store = SqliteStore(where, Bounds())
        found = await store._read(
            lambda table: table._connection.execute("PRAGMA synchronous").fetchone()
        )
        assert found == (level,)
        await store.aclose()

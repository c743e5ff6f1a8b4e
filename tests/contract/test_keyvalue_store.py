"""What every key-value store promises, asked of each: memory, a real Redis, a real NATS, SQLite.

Time passes on a clock in the test's hand, except for Redis, which has its own: there a second of
expiry is a second.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from lattice import errors
from lattice.bus import Bus
from providers.keyvalue import settings
from providers.keyvalue.bounds import I64, U63, Bounds
from providers.keyvalue.settings import NatsSettings, RedisSettings, SqliteSettings
from providers.keyvalue.stores import VERSION_BYTES_MAX, Store, Versioned
from providers.keyvalue.stores.memory import MemoryStore
from providers.keyvalue.stores.nats import NatsStore
from providers.keyvalue.stores.redis import RedisStore
from providers.keyvalue.stores.sqlite import SqliteStore
from tests.support.nats_server import connected, nats_server
from tests.support.redis_server import RedisServer, redis_server

PATIENCE_S = 10.0
"""Far beyond what a real second of expiry takes on the slowest machine."""

ON_BOTH_LOOPS = pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])

I32_MIN, I32_MAX = -(2**31), 2**31 - 1
I64_MIN, I64_MAX = -(2**63), 2**63 - 1


class Backend(Protocol):
    """One place that keeps data, and any number of stores on it."""

    def open(self, bounds: Bounds = Bounds()) -> Store:  # noqa: B008 - frozen
        """A store as another process would have it, where there can be one."""
        ...

    async def wait_gone(self, store: Store, key: str) -> None:
        """Let a second pass, and return when the key has expired."""
        ...

    async def aclose(self) -> None: ...


@dataclass
class Clock:
    now_s: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now_s


class MemoryBackend:
    def __init__(self) -> None:
        self._clock = Clock()
        self._store = MemoryStore(Bounds(), now_s=self._clock)

    def open(self, bounds: Bounds = Bounds()) -> Store:  # noqa: B008 - frozen
        self._store.bounds = bounds
        return self._store

    async def wait_gone(self, store: Store, key: str) -> None:
        self._clock.now_s += 1

    async def aclose(self) -> None:
        await self._store.aclose()


class RedisBackend:
    def __init__(self, url: str) -> None:
        self._settings = settings.parse({}, {"url": url}, lattice="default")
        self._stores: list[RedisStore] = []

    def open(self, bounds: Bounds = Bounds()) -> Store:  # noqa: B008 - frozen
        assert isinstance(self._settings, RedisSettings)
        store = RedisStore(self._settings, bounds)
        self._stores.append(store)
        return store

    async def wait_gone(self, store: Store, key: str) -> None:
        give_up = time.monotonic() + PATIENCE_S
        while await store.contains(key):
            assert time.monotonic() < give_up, f"{key} did not expire"
            await asyncio.sleep(0.02)

    async def aclose(self) -> None:
        for store in self._stores:
            await store.aclose()


class NatsBackend:
    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._clock = Clock()
        parsed = settings.parse({}, {}, lattice="default")
        assert isinstance(parsed, NatsSettings)
        self._settings = parsed

    def open(self, bounds: Bounds = Bounds()) -> Store:  # noqa: B008 - frozen
        return NatsStore(self._bus, self._settings, bounds, now_s=self._clock)

    async def wait_gone(self, store: Store, key: str) -> None:
        self._clock.now_s += 1

    async def aclose(self) -> None:
        return


class SqliteBackend:
    def __init__(self, directory: Path) -> None:
        self._clock = Clock()
        provider = {"backend": "sqlite", "sqlite_directory": str(directory)}
        parsed = settings.parse(provider, {}, lattice="default")
        assert isinstance(parsed, SqliteSettings)
        self._settings = parsed
        self._stores: list[SqliteStore] = []

    def open(self, bounds: Bounds = Bounds()) -> Store:  # noqa: B008 - frozen
        store = SqliteStore(self._settings, bounds, now_s=self._clock)
        self._stores.append(store)
        return store

    async def wait_gone(self, store: Store, key: str) -> None:
        self._clock.now_s += 1

    async def aclose(self) -> None:
        for store in self._stores:
            await store.aclose()


BACKENDS = ("memory", "redis", "nats", "sqlite")


@pytest.fixture(scope="session")
def redis_service() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


async def open_backend(kind: str, request: pytest.FixtureRequest, stack: AsyncExitStack) -> Backend:
    backend: Backend
    match kind:
        case "memory":
            backend = MemoryBackend()
        case "redis":
            server: RedisServer = request.getfixturevalue("redis_service")
            server.flush()
            backend = RedisBackend(server.url)
        case "sqlite":
            directory = Path(stack.enter_context(TemporaryDirectory()))
            backend = SqliteBackend(directory)
        case _:
            nats = await stack.enter_async_context(nats_server())
            backend = NatsBackend(await stack.enter_async_context(connected(nats)))
    stack.push_async_callback(backend.aclose)
    return backend


@pytest.fixture(params=BACKENDS)
async def backend(request: pytest.FixtureRequest) -> AsyncIterator[Backend]:
    async with AsyncExitStack() as stack:
        yield await open_backend(request.param, request, stack)


@pytest.fixture
def store(backend: Backend) -> Store:
    return backend.open()


async def test_a_missing_key_reads_as_nothing(store: Store) -> None:
    assert await store.get("k") is None
    assert not await store.contains("k")
    assert not await store.delete("k")


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"plain",
        "żółć 🦀".encode(),
        b"\0\x01\n",
        "\u00c1".encode(),
        b"\xff\xfe\x80",
        b"\xc1",
        b"\xc1\x81\xa4text\xa1a",
        bytes(range(256)) * 1_200,
        b"\xc1" * 300_000,
    ],
    ids=[
        "empty",
        "plain",
        "wide",
        "control characters",
        "A acute",
        "not text",
        "the first byte of our own entries",
        "an entry of our own",
        "large",
        "large and like our own entries",
    ],
)
@ON_BOTH_LOOPS
async def test_bytes_come_back_as_they_were_set(store: Store, value: bytes) -> None:
    await store.set("k", value, expires_s=0)
    assert await store.get("k") == value
    await store.set("k", value, expires_s=1_000)
    assert await store.get("k") == value
    assert await store.contains("k")
    assert await store.swap("k", (await store.current("k")).version, value) is None
    assert await store.get("k") == value
    assert await store.get_many(["k"]) == [value]


async def test_any_text_can_be_a_key_and_none_is_taken_for_another(store: Store) -> None:
    keys = ["a b", "a.b", ".a", "a.", "a..b", ".", "..", "a=b", "a=3Db", "*", ">", "_kv", "$KV.x"]
    keys += ["a/b", "ключ", "🦀", "A", "a", "\0", "=", " ", "x" * 512, "ż" * 256, "." * 512]
    for number, key in enumerate(keys):
        await store.set(key, b"%d" % number, expires_s=0)
    assert [await store.get(key) for key in keys] == [b"%d" % n for n in range(len(keys))]


async def test_delete_says_whether_the_key_was_there_whatever_its_type(store: Store) -> None:
    await store.set("text", b"", expires_s=0)
    await store.list_add("list", "a")
    await store.set_add("set", "a")
    for key in ("text", "list", "set"):
        assert await store.contains(key)
        assert await store.delete(key)
        assert not await store.contains(key)
        assert not await store.delete(key)
        await store.set(key, b"again", expires_s=0)
        assert await store.get(key) == b"again"


async def test_set_replaces_a_value_of_any_type(store: Store) -> None:
    await store.list_add("k", "a")
    await store.set("k", b"text", expires_s=0)
    assert await store.get("k") == b"text"


async def test_a_key_is_gone_once_it_has_expired(backend: Backend, store: Store) -> None:
    await store.set("k", b"5", expires_s=1)
    assert await store.get("k") == b"5"

    await backend.wait_gone(store, "k")

    assert await store.get("k") is None
    assert not await store.contains("k")
    assert not await store.delete("k")
    assert await store.list_range("k", 0, -1) == []
    assert await store.set_union(["k"]) == frozenset()
    assert await store.increment("k", 1) == 1
    assert await store.get("k") == b"1"


async def test_a_set_without_expiry_forgets_an_earlier_one(backend: Backend, store: Store) -> None:
    await store.set("kept", b"a", expires_s=1)
    await store.set("kept", b"b", expires_s=0)
    await store.set("canary", b"", expires_s=1)
    await backend.wait_gone(store, "canary")
    assert await store.get("kept") == b"b"


async def test_a_deleted_key_takes_its_expiry_along(backend: Backend, store: Store) -> None:
    await store.set("k", b"a", expires_s=1)
    await store.delete("k")
    await store.list_add("k", "a")
    await store.set("canary", b"", expires_s=1)
    await backend.wait_gone(store, "canary")
    assert await store.list_range("k", 0, -1) == ["a"]


async def test_increment_keeps_the_expiry(backend: Backend, store: Store) -> None:
    await store.set("n", b"5", expires_s=1)
    assert await store.increment("n", 2) == 7
    await backend.wait_gone(store, "n")
    assert await store.get("n") is None


async def test_increment_counts_from_zero_and_back(store: Store) -> None:
    assert await store.increment("n", 3) == 3
    assert await store.increment("n", -5) == -2
    assert await store.increment("n", 0) == -2
    assert await store.get("n") == b"-2"
    assert await store.increment("new", 0) == 0
    assert await store.contains("new")


async def test_increment_works_on_text_that_is_a_number(store: Store) -> None:
    await store.set("n", b"3000000000", expires_s=0)
    assert await store.increment("n", -1_000_000_000) == 2_000_000_000


@pytest.mark.parametrize(
    "text",
    [
        "",
        "abc",
        "1.5",
        " 1",
        "1 ",
        "+1",
        "007",
        "-0",
        "-",
        "1e3",
        "0x10",
        "١",
        "99999999999999999999",
    ],
)
async def test_increment_refuses_what_is_not_a_number(store: Store, text: str) -> None:
    await store.set("n", text.encode(), expires_s=0)
    with pytest.raises(errors.InvalidRequest, match="'n' does not hold a decimal integer"):
        await store.increment("n", 1)
    assert await store.get("n") == text.encode()


@pytest.mark.parametrize(
    ("before", "amount"),
    [
        (str(I32_MAX), 1),
        (str(I32_MIN), -1),
        (str(I32_MAX), I32_MAX),
        (str(I32_MIN), I32_MIN),
        ("5000000000", 1),
        (str(2**53 + 1), 1),
        (str(2**63 - 1), 1),
        (str(-(2**63)), I32_MIN),
    ],
)
async def test_increment_never_leaves_the_range_and_loses_nothing(
    store: Store, before: str, amount: int
) -> None:
    await store.set("n", before.encode(), expires_s=0)
    with pytest.raises(errors.InvalidRequest, match="not be from -2147483648 to 2147483647"):
        await store.increment("n", amount)
    assert await store.get("n") == before.encode()


async def test_increment_reaches_both_ends_of_the_range(store: Store) -> None:
    assert await store.increment("n", I32_MAX) == I32_MAX
    assert await store.increment("n", I32_MIN) == -1
    assert await store.increment("m", I32_MIN) == I32_MIN


@ON_BOTH_LOOPS
async def test_a_hundred_concurrent_increments_all_count(backend: Backend, store: Store) -> None:
    other = backend.open()
    sums = await asyncio.gather(
        *(each.increment("n", 1) for each in [store, other] * 50),
    )
    assert sorted(sums) == list(range(1, 101))
    assert await store.get("n") == b"100"


async def test_concurrent_writers_of_a_collection_lose_nothing(
    backend: Backend, store: Store
) -> None:
    other = backend.open()
    items = [str(n) for n in range(40)]
    both = [store, other] * 20
    lengths = await asyncio.gather(
        *(each.list_add("list", item) for each, item in zip(both, items, strict=True))
    )
    added = await asyncio.gather(
        *(each.set_add("set", item) for each, item in zip(both, items[:20] * 2, strict=True))
    )
    assert sorted(lengths) == list(range(1, 41))
    assert sorted(await store.list_range("list", 0, -1)) == sorted(items)
    assert sum(added) == 20
    assert await store.set_union(["set"]) == frozenset(items[:20])


async def test_a_list_keeps_order_and_repetitions(store: Store) -> None:
    assert [await store.list_add("l", item) for item in ("b", "a", "b", "")] == [1, 2, 3, 4]
    assert await store.list_range("l", 0, -1) == ["b", "a", "b", ""]


@pytest.mark.parametrize(
    ("start", "stop", "found"),
    [
        (0, -1, "abcde"),
        (0, 0, "a"),
        (1, 3, "bcd"),
        (-2, -1, "de"),
        (-100, 1, "ab"),
        (3, 100, "de"),
        (0, -5, "a"),
        (0, -6, ""),
        (4, 1, ""),
        (5, 9, ""),
        (-1, 0, ""),
        (I32_MIN, I32_MAX, "abcde"),
        (I32_MAX, I32_MIN, ""),
    ],
)
async def test_a_range_counts_from_either_end(
    store: Store, start: int, stop: int, found: str
) -> None:
    for item in "abcde":
        await store.list_add("l", item)
    assert await store.list_range("l", start, stop) == list(found)


async def test_list_del_removes_the_first_occurrence_only(store: Store) -> None:
    for item in "abcab":
        await store.list_add("l", item)
    assert await store.list_del("l", "b")
    assert await store.list_range("l", 0, -1) == list("acab")
    assert not await store.list_del("l", "x")
    assert not await store.list_del("missing", "x")


async def test_a_set_holds_each_item_once(store: Store) -> None:
    assert await store.set_add("s", "a") == 1
    assert await store.set_add("s", "a") == 0
    assert await store.set_add("s", "") == 1
    assert await store.set_union(["s"]) == {"a", ""}
    assert await store.set_del("s", "a") == 1
    assert await store.set_del("s", "a") == 0
    assert await store.set_del("missing", "a") == 0


async def test_sets_combine(store: Store) -> None:
    for name, items in {"abc": "abc", "bcd": "bcd", "x": "x"}.items():
        for item in items:
            await store.set_add(name, item)
    assert await store.set_union(["abc", "bcd"]) == set("abcd")
    assert await store.set_intersection(["abc", "bcd"]) == set("bc")
    assert await store.set_intersection(["abc"]) == set("abc")
    assert await store.set_intersection(["abc", "abc"]) == set("abc")
    assert await store.set_intersection(["abc", "x"]) == frozenset()
    assert await store.set_intersection(["abc", "missing"]) == frozenset()
    assert await store.set_union(["missing"]) == frozenset()
    assert await store.set_union(["missing", "x"]) == {"x"}


async def test_a_collection_that_loses_its_last_item_is_gone(store: Store) -> None:
    await store.list_add("k", "a")
    assert await store.list_del("k", "a")
    assert not await store.contains("k")
    await store.set_add("k", "a")
    assert await store.set_del("k", "a")
    assert not await store.contains("k")
    assert await store.list_add("k", "a") == 1


async def test_clearing_says_whether_there_was_something(store: Store) -> None:
    await store.list_add("l", "a")
    await store.set_add("s", "a")
    assert await store.list_clear("l")
    assert not await store.list_clear("l")
    assert await store.set_clear("s")
    assert not await store.set_clear("s")


Operation = Callable[[Store, str], Awaitable[object]]

ON_TEXT: dict[str, Operation] = {
    "get": lambda store, key: store.get(key),
    "increment": lambda store, key: store.increment(key, 1),
    "current": lambda store, key: store.current(key),
    "swap": lambda store, key: store.swap(key, None, b""),
    "get_many": lambda store, key: store.get_many(["missing", key]),
}
ON_LISTS: dict[str, Operation] = {
    "list_add": lambda store, key: store.list_add(key, "x"),
    "list_clear": lambda store, key: store.list_clear(key),
    "list_del": lambda store, key: store.list_del(key, "a"),
    "list_range": lambda store, key: store.list_range(key, 0, -1),
}
ON_SETS: dict[str, Operation] = {
    "set_add": lambda store, key: store.set_add(key, "x"),
    "set_clear": lambda store, key: store.set_clear(key),
    "set_del": lambda store, key: store.set_del(key, "a"),
    "set_union": lambda store, key: store.set_union(["missing", key]),
    "set_intersection": lambda store, key: store.set_intersection(["missing", key]),
}


@pytest.mark.parametrize(
    ("key", "operations"),
    [
        pytest.param("text", {**ON_LISTS, **ON_SETS}, id="text"),
        pytest.param("list", {**ON_TEXT, **ON_SETS}, id="list"),
        pytest.param("set", {**ON_TEXT, **ON_LISTS}, id="set"),
    ],
)
async def test_an_operation_refuses_a_key_of_another_type(
    store: Store, key: str, operations: dict[str, Operation]
) -> None:
    await store.set("text", b"a", expires_s=0)
    await store.list_add("list", "a")
    await store.set_add("set", "a")
    for operation in operations.values():
        with pytest.raises(errors.InvalidRequest, match=f"'{key}' holds another type"):
            await operation(store, key)
    assert await store.get("text") == b"a"
    assert await store.list_range("list", 0, -1) == ["a"]
    assert await store.set_union(["set"]) == {"a"}


async def test_a_full_collection_takes_no_more(backend: Backend) -> None:
    store = backend.open(Bounds(items_max=2))
    for item in "ab":
        await store.list_add("l", item)
        await store.set_add("s", item)
    with pytest.raises(errors.InvalidRequest, match="'l' is at its limit of 2 items"):
        await store.list_add("l", "c")
    with pytest.raises(errors.InvalidRequest, match="'s' is at its limit of 2 items"):
        await store.set_add("s", "c")
    assert await store.set_add("s", "a") == 0
    await store.list_del("l", "a")
    assert await store.list_add("l", "c") == 2


async def test_a_reply_carries_no_more_than_its_bound(backend: Backend) -> None:
    store = backend.open(Bounds(reply_bytes_max=10))
    for item in ("żółw", "kot"):
        await store.list_add("l", item)
        await store.set_add(item, item)
        await store.set_add("s", item)
    assert await store.list_range("l", 0, -1) == ["żółw", "kot"]
    assert await store.set_union(["żółw", "kot"]) == {"żółw", "kot"}
    await store.list_add("l", "!")
    await store.set_add("s", "!")
    size = "reply is 11 bytes, over the limit of 10"
    with pytest.raises(errors.PayloadTooLarge, match=size):
        await store.list_range("l", 0, -1)
    with pytest.raises(errors.PayloadTooLarge, match=size):
        await store.set_union(["s"])
    with pytest.raises(errors.PayloadTooLarge, match=size):
        await store.set_intersection(["s", "s"])
    assert await store.list_range("l", 1, 2) == ["kot", "!"]


@ON_BOTH_LOOPS
async def test_cancelled_operations_leave_the_store_in_order(store: Store) -> None:
    for n in range(10):
        await store.set(f"k{n}", b"v%d" % n, expires_s=0)

    async def hurried(n: int) -> None:
        # Far too short for all of them: they end at every point of the way.
        async with asyncio.timeout(n / 20_000):
            await store.get(f"k{n % 10}")

    await asyncio.gather(*(hurried(n) for n in range(100)), return_exceptions=True)

    answers = await asyncio.gather(*(store.get(f"k{n % 10}") for n in range(100)))
    assert answers == [b"v%d" % (n % 10) for n in range(100)]


@ON_BOTH_LOOPS
async def test_a_store_answers_a_ping_and_names_itself(store: Store) -> None:
    await store.ping()
    assert store.label


async def test_a_swap_writes_what_nobody_wrote_meanwhile(store: Store) -> None:
    await store.set("k", b"a", expires_s=0)
    before = await store.current("k")
    assert before.value == b"a"
    assert before.version is not None
    assert len(before.version) <= VERSION_BYTES_MAX
    assert await store.swap("k", before.version, b"b") is None
    assert await store.get("k") == b"b"

    lost = await store.swap("k", before.version, b"c")
    assert lost == await store.current("k")
    assert lost is not None
    assert lost.value == b"b"
    assert await store.swap("k", lost.version, b"c") is None
    assert await store.get("k") == b"c"


async def test_a_swap_of_no_key_writes_only_while_there_is_none(store: Store) -> None:
    nothing = await store.current("k")
    assert nothing == Versioned(None, None)
    assert await store.swap("k", nothing.version, b"") is None
    lost = await store.swap("k", nothing.version, b"b")
    assert lost is not None
    assert lost.value == b""
    assert await store.get("k") == b""


@pytest.mark.parametrize("version", [b"", b"-", b"0", b"01", b"\xff", b"x" * 100])
async def test_a_version_that_is_none_matches_nothing(store: Store, version: bytes) -> None:
    assert await store.swap("missing", version, b"x") == Versioned(None, None)
    assert not await store.contains("missing")
    await store.set("k", b"a", expires_s=0)
    assert await store.swap("k", version, b"x") == await store.current("k")
    assert await store.get("k") == b"a"


Write = Callable[[Store], Awaitable[object]]

WRITES: dict[str, Write] = {
    "another value and back": lambda store: store.set_many([("k", b"2"), ("k", b"1")]),
    "the same value": lambda store: store.set("k", b"1", expires_s=0),
    "the same value in a batch": lambda store: store.set_many([("k", b"1")]),
    "an increment by nothing": lambda store: store.increment("k", 0),
    "a delete": lambda store: store.delete("k"),
    "a delete in a batch": lambda store: store.delete_many(["k"]),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
async def test_any_write_makes_a_version_that_never_was_before(
    backend: Backend, store: Store, write: Write
) -> None:
    await store.set("k", b"1", expires_s=0)
    before = await store.current("k")
    await write(backend.open())
    assert await store.swap("k", before.version, b"lost") is not None
    # Deleting would let a value that comes back pass for the one that went.
    await store.set("k", b"1", expires_s=0)
    now = await store.swap("k", before.version, b"lost")
    assert now is not None
    assert now.value == b"1"
    assert now.version != before.version


async def test_reading_changes_no_version(backend: Backend, store: Store) -> None:
    await store.set("k", b"1", expires_s=0)
    before = await store.current("k")
    other = backend.open()
    assert await other.current("k") == before
    await other.get("k")
    await other.contains("k")
    await other.get_many(["k"])
    await other.list_keys(None)
    with pytest.raises(errors.InvalidRequest):
        await other.increment("k", I32_MAX)
    with pytest.raises(errors.InvalidRequest):
        await other.list_add("k", "a")
    assert await store.swap("k", before.version, b"2") is None


async def test_a_version_is_over_when_the_key_expires(backend: Backend, store: Store) -> None:
    await store.set("k", b"a", expires_s=1)
    before = await store.current("k")
    await backend.wait_gone(store, "k")

    assert await store.current("k") == Versioned(None, None)
    assert await store.swap("k", before.version, b"lost") == Versioned(None, None)
    await store.set("k", b"a", expires_s=0)
    assert await store.swap("k", before.version, b"lost") == await store.current("k")
    assert await store.get("k") == b"a"


async def test_a_swap_keeps_the_expiry(backend: Backend, store: Store) -> None:
    await store.set("k", b"a", expires_s=1)
    assert await store.swap("k", (await store.current("k")).version, b"b") is None
    assert await store.get("k") == b"b"
    await backend.wait_gone(store, "k")
    assert await store.get("k") is None


async def test_a_swap_over_what_has_expired_lasts(backend: Backend, store: Store) -> None:
    await store.set("k", b"a", expires_s=1)
    await backend.wait_gone(store, "k")
    await store.set("canary", b"", expires_s=1)
    assert await store.swap("k", None, b"b") is None
    await backend.wait_gone(store, "canary")
    assert await store.get("k") == b"b"


@ON_BOTH_LOOPS
async def test_of_many_who_swap_one_version_exactly_one_wins(
    backend: Backend, store: Store
) -> None:
    stores = [store, backend.open(), backend.open()]
    for before in (Versioned(None, None), None, None):
        now = before or await store.current("k")
        outcomes = await asyncio.gather(
            *(stores[n % 3].swap("k", now.version, b"%d" % n) for n in range(60))
        )
        winners = [n for n, outcome in enumerate(outcomes) if outcome is None]
        assert len(winners) == 1
        assert await store.get("k") == b"%d" % winners[0]


async def test_who_swaps_until_it_works_loses_no_update(backend: Backend, store: Store) -> None:
    stores = [store, backend.open()]

    async def append(each: Store, letter: bytes) -> None:
        now: Versioned | None = await each.current("k")
        while now is not None:
            now = await each.swap("k", now.version, (now.value or b"") + letter)

    letters = [bytes([65 + n]) for n in range(20)]
    await asyncio.gather(
        *(append(stores[n % 2], letter) for n, letter in enumerate(letters)),
    )
    assert sorted((await store.get("k")) or b"") == sorted(b"".join(letters))


async def test_swaps_and_increments_of_one_number_all_count(backend: Backend, store: Store) -> None:
    other = backend.open()

    async def swap_one_more() -> None:
        now: Versioned | None = await other.current("n")
        while now is not None:
            now = await other.swap("n", now.version, b"%d" % (int(now.value or b"0") + 1))

    await asyncio.gather(
        *(swap_one_more() for _ in range(15)), *(store.increment("n", 1) for _ in range(30))
    )
    assert await store.get("n") == b"45"


async def test_increment_counts_in_64_bits_where_it_is_asked_to(store: Store) -> None:
    assert await store.increment("n", I64_MAX, within=I64) == I64_MAX
    assert await store.get("n") == b"%d" % I64_MAX
    assert await store.increment("n", -1, within=I64) == I64_MAX - 1
    assert await store.increment("n", I64_MIN, within=I64) == -2
    assert await store.increment("m", 2**53, within=I64) == 2**53
    assert await store.increment("m", 1, within=U63) == 2**53 + 1


@pytest.mark.parametrize(
    ("before", "amount", "within"),
    [
        (I64_MAX, 1, I64),
        (I64_MIN, -1, I64),
        (I64_MAX, I64_MAX, I64),
        (I64_MAX, 1, U63),
        (2**53 + 1, -(2**53) - 2, U63),
        (None, -1, U63),
        (-5, 2, U63),
    ],
)
async def test_an_increment_beyond_its_range_leaves_the_key_as_it_was(
    store: Store, before: int | None, amount: int, within: range
) -> None:
    value = None if before is None else b"%d" % before
    if value is not None:
        await store.set("n", value, expires_s=0)
    with pytest.raises(errors.InvalidRequest, match=f"not be from {within.start} to "):
        await store.increment("n", amount, within=within)
    assert await store.get("n") == value


async def test_a_refused_increment_keeps_the_expiry(backend: Backend, store: Store) -> None:
    await store.set("n", b"%d" % I64_MAX, expires_s=1)
    with pytest.raises(errors.InvalidRequest):
        await store.increment("n", 0)
    await backend.wait_gone(store, "n")
    assert await store.get("n") is None


async def listing(store: Store) -> list[str]:
    """All keys, page by page."""
    found: list[str] = []
    page = await store.list_keys(None)
    while True:
        found += page.keys
        if page.cursor is None:
            return found
        page = await store.list_keys(page.cursor)


HOSTILE_KEYS = ["a b", "a.b", ".a", "a.", "a..b", ".", "a=b", "a=3Db", "*", ">", "_kv", "$KV.x"]
HOSTILE_KEYS += ["ключ", "🦀", "\0", "=", " ", "x" * 512, "." * 512, "a\nb", "\ufffd", "{a}"]


@pytest.mark.parametrize("page_keys_max", [1, 3, len(HOSTILE_KEYS), 1_000])
async def test_a_listing_names_every_key_once_whatever_it_is_called_and_holds(
    backend: Backend, page_keys_max: int
) -> None:
    store = backend.open(Bounds(page_keys_max=page_keys_max))
    assert await listing(store) == []
    for number, key in enumerate(HOSTILE_KEYS):
        match number % 3:
            case 0:
                await store.set(key, b"\xff", expires_s=0)
            case 1:
                await store.list_add(key, "a")
            case _:
                await store.set_add(key, "a")
    # What versions take to be told must not show.
    await store.current(HOSTILE_KEYS[0])

    assert await listing(store) == sorted(HOSTILE_KEYS)


async def test_a_page_holds_no_more_than_its_bound(backend: Backend) -> None:
    store = backend.open(Bounds(page_keys_max=3))
    await store.set_many([(f"k{n}", b"") for n in range(7)])
    pages = [await store.list_keys(None)]
    while (cursor := pages[-1].cursor) is not None:
        pages.append(await store.list_keys(cursor))
    assert [page.keys for page in pages] == [["k0", "k1", "k2"], ["k3", "k4", "k5"], ["k6"]]


async def test_what_was_deleted_or_has_expired_is_not_listed(
    backend: Backend, store: Store
) -> None:
    await store.set_many([("deleted", b""), ("kept", b"")])
    await store.set("expired", b"", expires_s=1)
    await store.delete("deleted")
    await backend.wait_gone(store, "expired")
    assert await listing(store) == ["kept"]


async def test_a_cursor_of_a_key_that_is_gone_goes_on_behind_it(backend: Backend) -> None:
    store = backend.open(Bounds(page_keys_max=2))
    await store.set_many([(key, b"") for key in "abcd"])
    page = await store.list_keys(None)
    await store.delete_many(["a", "b"])
    assert page.cursor is not None
    assert (await store.list_keys(page.cursor)).keys == ["c", "d"]


async def test_a_listing_meets_every_key_that_stays_once_while_others_write(
    backend: Backend,
) -> None:
    store, writer = backend.open(Bounds(page_keys_max=7)), backend.open(Bounds(page_keys_max=7))
    staying = [f"{n:02}-stays" for n in range(40)]
    await store.set_many([(key, b"0") for key in staying])
    is_listing = True

    async def write() -> None:
        round_number = 0
        while is_listing:
            for n in range(0, 40, 3):
                round_number += 1
                await writer.set(f"{n:02}-comes-{round_number % 5}", b"", expires_s=0)
                await writer.increment(staying[(n * 7 + round_number) % 40], 1)
                await writer.delete(f"{n:02}-comes-{(round_number + 2) % 5}")
                # A store that never waits would leave no turn to who lists.
                await asyncio.sleep(0)

    async def read() -> list[str]:
        nonlocal is_listing
        try:
            return await listing(store)
        finally:
            is_listing = False

    found, _ = await asyncio.gather(read(), write())
    assert [key for key in found if key.endswith("-stays")] == staying
    assert len(set(found)) == len(found)


async def test_more_keys_than_can_be_listed_are_refused(
    backend: Backend,
) -> None:
    store = backend.open(Bounds(listed_keys_max=3))
    await store.set_many([(key, b"") for key in "abc"])
    assert await listing(store) == ["a", "b", "c"]
    await store.set("d", b"", expires_s=0)
    if isinstance(store, SqliteStore):
        assert await listing(store) == ["a", "b", "c", "d"]
        return
    with pytest.raises(errors.InvalidRequest, match=r"4 keys.* limited to 3"):
        await store.list_keys(None)


async def test_a_batch_reads_writes_and_deletes_many_keys(store: Store) -> None:
    await store.list_add("list", "a")
    pairs = [(f"k{n}", bytes([n])) for n in range(100)]
    await store.set_many([*pairs, ("k1", b"last"), ("list", b"no more")])
    keys = [key for key, _ in pairs]
    values = [value for _, value in pairs]
    values[1] = b"last"
    assert await store.get_many([*keys, "missing", "list", "k0"]) == [
        *values,
        None,
        b"no more",
        b"\0",
    ]
    await store.set_add("set", "a")
    await store.delete_many([*keys[:50], "missing", "set", "k0"])
    assert await store.get_many(keys) == [*[None] * 50, *values[50:]]
    assert not await store.contains("set")


async def test_a_batch_of_nothing_does_nothing(store: Store) -> None:
    assert await store.get_many([]) == []
    await store.set_many([])
    await store.delete_many([])


async def test_a_batch_forgets_an_earlier_expiry(backend: Backend, store: Store) -> None:
    await store.set("kept", b"a", expires_s=1)
    await store.set_many([("kept", b"b")])
    await store.set("canary", b"", expires_s=1)
    await backend.wait_gone(store, "canary")
    assert await store.get("kept") == b"b"


async def test_a_batch_that_reads_another_type_or_too_much_is_refused(backend: Backend) -> None:
    store = backend.open(Bounds(reply_bytes_max=10))
    await store.set_many([("a", b"x" * 6), ("b", b"x" * 4), ("c", b"x")])
    await store.set_add("set", "a")
    assert await store.get_many(["a", "b"]) == [b"x" * 6, b"x" * 4]
    with pytest.raises(errors.PayloadTooLarge, match="reply is 11 bytes, over the limit of 10"):
        await store.get_many(["a", "b", "c"])
    with pytest.raises(errors.InvalidRequest, match="'set' holds another type"):
        await store.get_many(["c", "set", "a"])


async def test_a_version_is_not_told_of_more_than_a_reply_carries(backend: Backend) -> None:
    await backend.open().set("k", b"x" * 11, expires_s=0)
    store = backend.open(Bounds(reply_bytes_max=10))
    for reading in (store.current("k"), store.swap("k", None, b"")):
        with pytest.raises(errors.PayloadTooLarge, match="reply is 11 bytes, over the limit of 10"):
            await reading


keys = st.sampled_from(["k1", "k2", "k3"])
texts = st.sampled_from(["", "a", "b", "7", str(I32_MAX), "-0", "ż"])
contents = st.sampled_from([b"", b"a", b"7", b"%d" % I32_MAX, b"-0", b"\xff", b"\xc1"])
numbers = st.sampled_from([0, 1, -1, 2, I32_MAX, I32_MIN])
indexes = st.integers(-4, 4)

steps = st.lists(
    st.one_of(
        st.tuples(st.just("get"), keys),
        st.tuples(st.just("set"), keys, contents),
        st.tuples(st.just("increment"), keys, numbers),
        st.tuples(st.just("contains"), keys),
        st.tuples(st.just("delete"), keys),
        st.tuples(st.sampled_from(["list_add", "list_del"]), keys, texts),
        st.tuples(st.just("list_range"), keys, indexes, indexes),
        st.tuples(st.sampled_from(["list_clear", "set_clear"]), keys),
        st.tuples(st.sampled_from(["set_add", "set_del"]), keys, texts),
        st.tuples(st.sampled_from(["set_union", "set_intersection"]), st.lists(keys, min_size=1)),
        st.tuples(st.just("current"), keys),
        st.tuples(st.just("swap"), keys, contents),
        st.tuples(st.just("list"), st.just("")),
        st.tuples(st.sampled_from(["get_many", "delete_many"]), st.lists(keys)),
        st.tuples(st.just("set_many"), st.lists(keys), contents),
    ),
    max_size=25,
)
Step = tuple[Any, ...]


class Actor:
    """Works on one store; remembers the versions that it saw, which are each backend's own."""

    def __init__(self, store: Store, prefix: str) -> None:
        self._store = store
        self._prefix = prefix
        self._versions: dict[str, bytes | None] = {}

    async def outcome(self, step: Step) -> object:
        """What one step returned, or the text of its refusal; both without the prefix."""
        name, target, *arguments = step
        prefix = self._prefix
        place: Any = (
            [prefix + key for key in target] if isinstance(target, list) else prefix + target
        )
        try:
            return await self._result(name, place, *arguments)
        except errors.LatticeError as error:
            # Of several refusals, which comes first is up to the backend.
            return error.code if "many" in name else (error.code, error.text.replace(prefix, ""))

    async def _result(self, name: str, place: Any, *arguments: Any) -> object:
        match name:
            case "set":
                await self._store.set(place, *arguments, expires_s=0)
            case "set_many":
                await self._store.set_many([(key, arguments[0]) for key in place])
            case "list":
                return [key.removeprefix(self._prefix) for key in await listing(self._store)]
            case "current":
                return self._seen(place, await self._store.current(place))
            case "swap":
                found = await self._store.swap(place, self._versions.get(place), *arguments)
                return None if found is None else self._seen(place, found)
            case _:
                return await getattr(self._store, name)(place, *arguments)
        return None

    def _seen(self, place: str, found: Versioned) -> tuple[bytes | None, bool]:
        self._versions[place] = found.version
        return found.value, found.version is None


@pytest.fixture(params=["redis", "nats", "sqlite"])
def runner_and_backend(
    request: pytest.FixtureRequest,
) -> Iterator[tuple[asyncio.Runner, Backend]]:
    """A backend that outlives the examples of a test, and the loop it lives on."""
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        try:
            yield runner, runner.run(open_backend(request.param, request, stack))
        finally:
            runner.run(closing(stack))


def closing(stack: AsyncExitStack) -> Coroutine[Any, Any, None]:
    return stack.aclose()


def test_every_backend_does_what_memory_does(
    runner_and_backend: tuple[asyncio.Runner, Backend],
) -> None:
    runner, backend = runner_and_backend
    bounds = replace(Bounds(), items_max=3, reply_bytes_max=14, page_keys_max=2)
    stores: list[Store] = []
    examples = 0

    async def compare(script: list[Step]) -> None:
        nonlocal examples
        examples += 1
        if not stores:
            stores.append(backend.open(bounds))
        memory = Actor(MemoryStore(bounds), "")
        other = Actor(stores[0], f"{examples}-")
        for step in script:
            expected = await memory.outcome(step)
            assert await other.outcome(step) == expected, step
        await other.outcome(("delete_many", ["k1", "k2", "k3"]))

    @hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(steps)
    def run(script: list[Step]) -> None:
        runner.run(compare(script))

    run()

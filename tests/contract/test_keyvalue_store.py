"""What every key-value store promises, asked of each of them: memory, a real Redis, a real NATS.

Time passes on a clock in the test's hand for memory and NATS; Redis has its own, so there a second
of expiry is a second.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any, Protocol

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from lattice import errors
from lattice.bus import Bus
from providers.keyvalue import settings
from providers.keyvalue.bounds import Bounds
from providers.keyvalue.settings import NatsSettings, RedisSettings
from providers.keyvalue.stores import Store
from providers.keyvalue.stores.memory import MemoryStore
from providers.keyvalue.stores.nats import NatsStore
from providers.keyvalue.stores.redis import RedisStore
from tests.support.nats_server import connected, nats_server
from tests.support.redis_server import RedisServer, redis_server

PATIENCE_S = 10.0
"""Far beyond what a real second of expiry takes on the slowest machine."""

I32_MIN, I32_MAX = -(2**31), 2**31 - 1


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


BACKENDS = ("memory", "redis", "nats")


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
    "text",
    ["", "plain", "żółć 🦀", "\0\x01\n", "\u00c1", "x" * 300_000],
    ids=["empty", "plain", "wide", "control characters", "A acute", "large"],
)
async def test_text_comes_back_as_it_was_set(store: Store, text: str) -> None:
    await store.set("k", text, expires_s=0)
    assert await store.get("k") == text
    await store.set("k", text, expires_s=1_000)
    assert await store.get("k") == text
    assert await store.contains("k")


async def test_any_text_can_be_a_key_and_none_is_taken_for_another(store: Store) -> None:
    keys = ["a b", "a.b", ".a", "a.", "a..b", ".", "..", "a=b", "a=3Db", "*", ">", "_kv", "$KV.x"]
    keys += ["a/b", "ключ", "🦀", "A", "a", "\0", "=", " ", "x" * 512, "ż" * 256, "." * 512]
    for number, key in enumerate(keys):
        await store.set(key, str(number), expires_s=0)
    assert [await store.get(key) for key in keys] == [str(n) for n in range(len(keys))]


async def test_delete_says_whether_the_key_was_there_whatever_its_type(store: Store) -> None:
    await store.set("text", "", expires_s=0)
    await store.list_add("list", "a")
    await store.set_add("set", "a")
    for key in ("text", "list", "set"):
        assert await store.contains(key)
        assert await store.delete(key)
        assert not await store.contains(key)
        assert not await store.delete(key)
        await store.set(key, "again", expires_s=0)
        assert await store.get(key) == "again"


async def test_set_replaces_a_value_of_any_type(store: Store) -> None:
    await store.list_add("k", "a")
    await store.set("k", "text", expires_s=0)
    assert await store.get("k") == "text"


async def test_a_key_is_gone_once_it_has_expired(backend: Backend, store: Store) -> None:
    await store.set("k", "5", expires_s=1)
    assert await store.get("k") == "5"

    await backend.wait_gone(store, "k")

    assert await store.get("k") is None
    assert not await store.contains("k")
    assert not await store.delete("k")
    assert await store.list_range("k", 0, -1) == []
    assert await store.set_union(["k"]) == frozenset()
    assert await store.increment("k", 1) == 1
    assert await store.get("k") == "1"


async def test_a_set_without_expiry_forgets_an_earlier_one(backend: Backend, store: Store) -> None:
    await store.set("kept", "a", expires_s=1)
    await store.set("kept", "b", expires_s=0)
    await store.set("canary", "", expires_s=1)
    await backend.wait_gone(store, "canary")
    assert await store.get("kept") == "b"


async def test_a_deleted_key_takes_its_expiry_along(backend: Backend, store: Store) -> None:
    await store.set("k", "a", expires_s=1)
    await store.delete("k")
    await store.list_add("k", "a")
    await store.set("canary", "", expires_s=1)
    await backend.wait_gone(store, "canary")
    assert await store.list_range("k", 0, -1) == ["a"]


async def test_increment_keeps_the_expiry(backend: Backend, store: Store) -> None:
    await store.set("n", "5", expires_s=1)
    assert await store.increment("n", 2) == 7
    await backend.wait_gone(store, "n")
    assert await store.get("n") is None


async def test_increment_counts_from_zero_and_back(store: Store) -> None:
    assert await store.increment("n", 3) == 3
    assert await store.increment("n", -5) == -2
    assert await store.increment("n", 0) == -2
    assert await store.get("n") == "-2"
    assert await store.increment("new", 0) == 0
    assert await store.contains("new")


async def test_increment_works_on_text_that_is_a_number(store: Store) -> None:
    await store.set("n", "3000000000", expires_s=0)
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
    await store.set("n", text, expires_s=0)
    with pytest.raises(errors.InvalidRequest, match="'n' does not hold a decimal integer"):
        await store.increment("n", 1)
    assert await store.get("n") == text


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
    await store.set("n", before, expires_s=0)
    with pytest.raises(errors.InvalidRequest, match="32-bit"):
        await store.increment("n", amount)
    assert await store.get("n") == before


async def test_increment_reaches_both_ends_of_the_range(store: Store) -> None:
    assert await store.increment("n", I32_MAX) == I32_MAX
    assert await store.increment("n", I32_MIN) == -1
    assert await store.increment("m", I32_MIN) == I32_MIN


async def test_a_hundred_concurrent_increments_all_count(backend: Backend, store: Store) -> None:
    other = backend.open()
    sums = await asyncio.gather(
        *(each.increment("n", 1) for each in [store, other] * 50),
    )
    assert sorted(sums) == list(range(1, 101))
    assert await store.get("n") == "100"


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
    await store.set("text", "a", expires_s=0)
    await store.list_add("list", "a")
    await store.set_add("set", "a")
    for operation in operations.values():
        with pytest.raises(errors.InvalidRequest, match=f"'{key}' holds another type"):
            await operation(store, key)
    assert await store.get("text") == "a"
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


async def test_cancelled_operations_leave_the_store_in_order(store: Store) -> None:
    for n in range(10):
        await store.set(f"k{n}", f"v{n}", expires_s=0)

    async def hurried(n: int) -> None:
        # Far too short for all of them: they end at every point of the way.
        async with asyncio.timeout(n / 20_000):
            await store.get(f"k{n % 10}")

    await asyncio.gather(*(hurried(n) for n in range(100)), return_exceptions=True)

    answers = await asyncio.gather(*(store.get(f"k{n % 10}") for n in range(100)))
    assert answers == [f"v{n % 10}" for n in range(100)]


async def test_a_store_answers_a_ping_and_names_itself(store: Store) -> None:
    await store.ping()
    assert store.label


keys = st.sampled_from(["k1", "k2", "k3"])
texts = st.sampled_from(["", "a", "b", "7", str(I32_MAX), "-0", "ż"])
numbers = st.sampled_from([0, 1, -1, 2, I32_MAX, I32_MIN])
indexes = st.integers(-4, 4)

steps = st.lists(
    st.one_of(
        st.tuples(st.just("get"), keys),
        st.tuples(st.just("set"), keys, texts),
        st.tuples(st.just("increment"), keys, numbers),
        st.tuples(st.just("contains"), keys),
        st.tuples(st.just("delete"), keys),
        st.tuples(st.sampled_from(["list_add", "list_del"]), keys, texts),
        st.tuples(st.just("list_range"), keys, indexes, indexes),
        st.tuples(st.sampled_from(["list_clear", "set_clear"]), keys),
        st.tuples(st.sampled_from(["set_add", "set_del"]), keys, texts),
        st.tuples(st.sampled_from(["set_union", "set_intersection"]), st.lists(keys, min_size=1)),
    ),
    max_size=25,
)
Step = tuple[Any, ...]


async def outcome(store: Store, prefix: str, step: Step) -> object:
    """What one step returned, or the text of its refusal; both without the prefix."""
    name, target, *arguments = step
    place: Any = [prefix + key for key in target] if isinstance(target, list) else prefix + target
    options = {"expires_s": 0} if name == "set" else {}
    try:
        return await getattr(store, name)(place, *arguments, **options)
    except errors.LatticeError as error:
        return error.code, error.text.replace(prefix, "")


@pytest.fixture(params=["redis", "nats"])
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
    bounds = replace(Bounds(), items_max=3, reply_bytes_max=14)
    stores: list[Store] = []
    examples = 0

    async def compare(script: list[Step]) -> None:
        nonlocal examples
        examples += 1
        if not stores:
            stores.append(backend.open(bounds))
        memory = MemoryStore(bounds)
        for step in script:
            expected = await outcome(memory, "", step)
            assert await outcome(stores[0], f"{examples}-", step) == expected, step

    @hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(steps)
    def run(script: list[Step]) -> None:
        runner.run(compare(script))

    run()

"""What every blob store promises, asked of each of them: memory, a directory, a real NATS, and S3
by way of moto; by way of versitygw, too, where it is installed.
"""

import asyncio
import hashlib
import shutil
import uuid
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    rule,
    run_state_machine_as_test,
)

from lattice import errors, limits
from lattice.bus import Bus
from lattice.bus.server import NatsServer
from providers.blobstore import settings
from providers.blobstore.bounds import Bounds
from providers.blobstore.settings import NatsSettings, S3Settings
from providers.blobstore.stores import ContainerId, ObjectId, ObjectInfo, Store, Writer
from providers.blobstore.stores.filesystem import FilesystemStore
from providers.blobstore.stores.memory import MemoryStore
from providers.blobstore.stores.nats import NatsStore
from providers.blobstore.stores.s3 import S3Store
from tests.support.nats_server import connected
from tests.support.s3_server import S3Server

ON_BOTH_LOOPS = pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])

HOSTILE_NAMES = [
    ".",
    "..",
    "...",
    "/",
    "//",
    "/etc/passwd",
    "../../etc/passwd",
    "a/../b",
    "a//b",
    "a/",
    "a/b/c",
    "./a",
    ".uploads",
    ".created",
    "%2E",
    "%",
    "a%00b",
    "\0",
    "a\0b",
    "\n",
    "\x01\x1f\x7f",
    "\u0085\u2028",
    "\ufffe",
    " ",
    " a ",
    "*",
    ">",
    "a.b.*",
    "$O.x",
    "\\",
    "..\\..\\a",
    "CON",
    "nul.txt",
    "a+",
    "+",
    "a+/b",
    "_",
    "__",
    "a__b",
    "=",
    "?x=1&y=2#z",
    "'\"<>|:;",
    "żółć",
    "🦀",
    "e\u0301",
    "\u00e9",
    "A",
    "a",
    "-rf",
    "~",
]


class Backend(Protocol):
    """One place that keeps data, and any number of stores on it."""

    namespace: str
    """One that nobody used before."""

    def open(self, bounds: Bounds = Bounds()) -> Store:  # noqa: B008 - frozen
        """A store as another process would have it, where there can be one."""
        ...

    async def aclose(self) -> None: ...


class MemoryBackend:
    namespace = "ns"

    def __init__(self) -> None:
        self._store = MemoryStore(Bounds())

    def open(self, bounds: Bounds = Bounds()) -> Store:  # noqa: B008 - frozen
        self._store.bounds = bounds
        return self._store

    async def aclose(self) -> None:
        await self._store.aclose()


class FilesystemBackend:
    namespace = "ns"

    def __init__(self, root: Path) -> None:
        self._root = root
        self._stores: list[FilesystemStore] = []

    def open(self, bounds: Bounds = Bounds()) -> Store:  # noqa: B008 - frozen
        store = FilesystemStore(self._root)
        self._stores.append(store)
        return store

    async def aclose(self) -> None:
        for store in self._stores:
            await store.aclose()


class NatsBackend:
    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.namespace = f"ns{uuid.uuid4().hex[:8]}"
        parsed = settings.parse({}, {}, lattice="default")
        assert isinstance(parsed, NatsSettings)
        self._settings = parsed

    def open(self, bounds: Bounds = Bounds()) -> Store:  # noqa: B008 - frozen
        return NatsStore(self._bus, self._settings)

    async def aclose(self) -> None:
        return


class S3Backend:
    def __init__(self, server: S3Server) -> None:
        self.namespace = f"ns{uuid.uuid4().hex[:8]}"
        parsed = settings.parse({}, server.config, lattice="default")
        assert isinstance(parsed, S3Settings)
        self._settings = parsed
        self._stores: list[S3Store] = []

    def open(self, bounds: Bounds = Bounds()) -> Store:  # noqa: B008 - frozen
        store = S3Store(self._settings)
        self._stores.append(store)
        return store

    async def aclose(self) -> None:
        for store in self._stores:
            await store.aclose()


BACKENDS = ["memory", "filesystem", "nats", "moto"]
if shutil.which("versitygw"):
    BACKENDS.append("versity")


# A server of S3 takes seconds to start: one process has all its tests.
ONE_SERVER = {
    "moto": pytest.mark.xdist_group("moto"),
    "versity": pytest.mark.xdist_group("versity"),
}


async def open_backend(
    kind: str, request: pytest.FixtureRequest, stack: AsyncExitStack, root: Path
) -> Backend:
    backend: Backend
    match kind:
        case "memory":
            backend = MemoryBackend()
        case "filesystem":
            backend = FilesystemBackend(root)
        case "nats":
            nats: NatsServer = request.getfixturevalue("nats")
            backend = NatsBackend(await stack.enter_async_context(connected(nats)))
        case _:
            backend = S3Backend(request.getfixturevalue(f"{kind}_service"))
    stack.push_async_callback(backend.aclose)
    return backend


@pytest.fixture(params=[pytest.param(kind, marks=ONE_SERVER.get(kind, ())) for kind in BACKENDS])
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Backend]:
    async with AsyncExitStack() as stack:
        yield await open_backend(request.param, request, stack, tmp_path)


@pytest.fixture
def store(backend: Backend) -> Store:
    return backend.open()


@pytest.fixture
async def box(backend: Backend, store: Store) -> ContainerId:
    """A container that is there, and empty."""
    container = ContainerId(backend.namespace, "box")
    await store.create_container(container)
    return container


async def write(store: Store, object_id: ObjectId, *parts: bytes) -> ObjectInfo:
    writer = await store.writer(object_id)
    try:
        for part in parts:
            await writer.append(part)
        return await writer.commit()
    finally:
        await writer.abort()


async def content(store: Store, object_id: ObjectId) -> bytes:
    return (await store.read(object_id, 0, 64 * limits.MIB)).data


async def names(store: Store, container: ContainerId, count: int = 1_000) -> list[str]:
    found: list[str] = []
    cursor: str | None = None
    while True:
        page = await store.objects(container, cursor, count)
        assert len(page.objects) <= count
        found += [each.name for each in page.objects]
        cursor = page.cursor
        if cursor is None:
            return found


def some_bytes(size: int, seed: str = "") -> bytes:
    """Bytes that say where they are from: no two stretches are alike."""
    blocks = (hashlib.sha256(f"{seed}{at}".encode()).digest() for at in range(0, size, 32))
    return b"".join(blocks)[:size]


async def test_a_container_is_there_once_it_is_made_and_until_it_is_deleted(
    backend: Backend, store: Store
) -> None:
    box = ContainerId(backend.namespace, "box")
    assert await store.container_created_at_s(box) is None
    assert await store.containers(backend.namespace) == []

    await store.create_container(box)
    created_at_s = await store.container_created_at_s(box)
    assert created_at_s is not None
    assert created_at_s > 1_600_000_000
    assert await store.containers(backend.namespace) == ["box"]
    assert await names(store, box) == []

    await store.delete_container(box)
    assert await store.container_created_at_s(box) is None
    assert await store.containers(backend.namespace) == []
    await store.delete_container(box)


async def test_a_container_made_twice_keeps_what_it_has(store: Store, box: ContainerId) -> None:
    await write(store, ObjectId(box, "a"), b"1")
    await store.create_container(box)
    assert await content(store, ObjectId(box, "a")) == b"1"


async def test_a_container_takes_its_objects_along(store: Store, box: ContainerId) -> None:
    for name in ("a", "b/c", "x" * 250):
        await write(store, ObjectId(box, name), b"1")
    await store.delete_container(box)
    with pytest.raises(errors.NotFound):
        await store.info(ObjectId(box, "a"))
    await store.create_container(box)
    assert await names(store, box) == []


async def test_containers_of_one_name_in_two_namespaces_are_two(
    backend: Backend, store: Store, box: ContainerId
) -> None:
    other = ContainerId(f"{backend.namespace}x", "box")
    await store.create_container(other)
    await write(store, ObjectId(box, "a"), b"mine")
    assert await names(store, other) == []
    assert await store.info(ObjectId(other, "a")) is None
    await store.delete_container(other)
    assert await content(store, ObjectId(box, "a")) == b"mine"
    assert await store.containers(f"{backend.namespace}x") == []


async def test_what_is_done_in_a_container_that_is_not_there_is_refused(
    backend: Backend, store: Store, box: ContainerId
) -> None:
    missing = ObjectId(ContainerId(backend.namespace, "none"), "a")
    await write(store, ObjectId(box, "a"), b"1")
    refused = pytest.raises(errors.NotFound, match="there is no container 'none'")
    with refused:
        await store.info(missing)
    with refused:
        await store.read(missing, 0, 1)
    with refused:
        await store.writer(missing)
    with refused:
        await store.delete(missing)
    with refused:
        await store.objects(missing.container, None, 10)
    with refused:
        await store.copy(missing, ObjectId(box, "b"))
    with refused:
        await store.copy(ObjectId(box, "a"), missing)


async def test_an_object_that_is_not_there_is_not_found(store: Store, box: ContainerId) -> None:
    missing = ObjectId(box, "none")
    assert await store.info(missing) is None
    await store.delete(missing)
    refused = pytest.raises(errors.NotFound, match="container 'box' has no object 'none'")
    with refused:
        await store.read(missing, 0, 1)
    with refused:
        await store.read(missing, 0, 0)
    with refused:
        await store.copy(missing, ObjectId(box, "b"))
    assert await store.info(ObjectId(box, "b")) is None


async def test_an_object_comes_back_as_it_was_written(store: Store, box: ContainerId) -> None:
    data = some_bytes(300_000)
    written = await write(store, ObjectId(box, "a"), data[:1], data[1:200_000], b"", data[200_000:])
    info = await store.info(ObjectId(box, "a"))
    assert info == written
    assert info is not None
    assert info.size == len(data)
    assert info.created_at_s > 1_600_000_000
    assert await content(store, ObjectId(box, "a")) == data


async def test_an_empty_object_is_one(store: Store, box: ContainerId) -> None:
    for parts in ((), (b"",)):
        await write(store, ObjectId(box, "empty"), *parts)
        part = await store.read(ObjectId(box, "empty"), 0, 10)
        assert part.data == b""
        assert part.of.size == 0
        assert await names(store, box) == ["empty"]
        await store.delete(ObjectId(box, "empty"))


@pytest.mark.parametrize(
    ("start", "size", "found"),
    [
        (0, 10, b"0123456789"),
        (0, 0, b""),
        (0, 1, b"0"),
        (3, 4, b"3456"),
        (9, 1, b"9"),
        (8, 100, b"89"),
        (10, 1, b""),
        (11, 5, b""),
        (2**40, 5, b""),
    ],
)
async def test_a_range_ends_where_the_object_does(
    store: Store, box: ContainerId, start: int, size: int, found: bytes
) -> None:
    await write(store, ObjectId(box, "a"), b"0123456789")
    part = await store.read(ObjectId(box, "a"), start, size)
    assert part.data == found
    assert part.of.size == 10


async def test_ranges_put_together_are_the_object(store: Store, box: ContainerId) -> None:
    data = some_bytes(1_000_003)
    await write(store, ObjectId(box, "a"), data)
    steps = [131_072, 1, 100_000, 131_073, 400_000, 65_536, 300_000]
    found, at = b"", 0
    for step in steps:
        found += (await store.read(ObjectId(box, "a"), at, step)).data
        at += step
    assert found == data


@ON_BOTH_LOOPS
async def test_an_object_larger_than_every_part_comes_back_in_ranges(
    store: Store, box: ContainerId
) -> None:
    data = some_bytes(12 * limits.MIB + 17)
    step = 3 * limits.MIB
    await write(
        store, ObjectId(box, "a"), *(data[at : at + step] for at in range(0, len(data), step))
    )
    found = b"".join(
        [(await store.read(ObjectId(box, "a"), at, step)).data for at in range(0, len(data), step)]
    )
    assert found == data


async def test_an_object_written_again_is_the_new_one_whole(store: Store, box: ContainerId) -> None:
    await write(store, ObjectId(box, "a"), b"a long one")
    before = await store.info(ObjectId(box, "a"))
    after = await write(store, ObjectId(box, "a"), b"short")
    assert before is not None
    assert before.version != after.version
    assert await content(store, ObjectId(box, "a")) == b"short"
    assert await names(store, box) == ["a"]


async def test_nobody_sees_an_object_before_it_is_committed(
    backend: Backend, store: Store, box: ContainerId
) -> None:
    other = backend.open()
    await write(store, ObjectId(box, "old"), b"old")
    new, old = await store.writer(ObjectId(box, "new")), await store.writer(ObjectId(box, "old"))
    for writer in (new, old):
        await writer.append(some_bytes(6 * limits.MIB))
    assert await names(other, box) == ["old"]
    assert await other.info(ObjectId(box, "new")) is None
    assert await content(other, ObjectId(box, "old")) == b"old"
    await new.commit()
    await old.commit()
    assert await names(other, box) == ["new", "old"]
    assert await content(other, ObjectId(box, "old")) == some_bytes(6 * limits.MIB)


async def test_an_aborted_write_leaves_nothing(store: Store, box: ContainerId) -> None:
    await write(store, ObjectId(box, "old"), b"old")
    for name in ("old", "new"):
        writer = await store.writer(ObjectId(box, name))
        await writer.append(some_bytes(6 * limits.MIB))
        await writer.abort()
        await writer.abort()
    assert await names(store, box) == ["old"]
    assert await content(store, ObjectId(box, "old")) == b"old"


async def test_an_abort_after_the_commit_takes_nothing_back(store: Store, box: ContainerId) -> None:
    writer = await store.writer(ObjectId(box, "a"))
    await writer.append(b"1")
    await writer.commit()
    await writer.abort()
    assert await content(store, ObjectId(box, "a")) == b"1"


async def test_a_commit_into_a_deleted_container_is_refused(store: Store, box: ContainerId) -> None:
    writer = await store.writer(ObjectId(box, "a"))
    await writer.append(b"1")
    await store.delete_container(box)
    with pytest.raises(errors.NotFound, match="there is no container 'box'"):
        await writer.commit()
    await writer.abort()
    assert await store.container_created_at_s(box) is None


@ON_BOTH_LOOPS
async def test_of_concurrent_writers_one_wins_whole(
    backend: Backend, store: Store, box: ContainerId
) -> None:
    stores = [store, backend.open()]
    contents = [some_bytes(300_000, seed=f"{n}-") for n in range(8)]
    halves = [(data[:150_000], data[150_000:]) for data in contents]
    await asyncio.gather(
        *(write(stores[n % 2], ObjectId(box, "a"), *each) for n, each in enumerate(halves))
    )
    assert await content(store, ObjectId(box, "a")) in contents
    assert await names(store, box) == ["a"]


async def test_the_last_to_commit_wins(backend: Backend, store: Store, box: ContainerId) -> None:
    first, second = (
        await store.writer(ObjectId(box, "a")),
        await backend.open().writer(ObjectId(box, "a")),
    )
    await second.append(b"second")
    await first.append(b"first")
    await second.commit()
    await first.commit()
    assert await content(store, ObjectId(box, "a")) == b"first"


async def test_whoever_reads_in_parts_hears_that_the_object_was_replaced(
    store: Store, box: ContainerId
) -> None:
    await write(store, ObjectId(box, "a"), b"0123456789")
    part = await store.read(ObjectId(box, "a"), 0, 5)
    version = part.of.version
    assert (await store.read(ObjectId(box, "a"), 5, 5, version=version)).data == b"56789"
    await write(store, ObjectId(box, "a"), b"abcdefghij")
    for start in (5, 100):
        with pytest.raises(errors.Conflict, match="'a' was replaced while it was read"):
            await store.read(ObjectId(box, "a"), start, 5, version=version)


async def test_a_deleted_object_is_gone_and_may_come_again(store: Store, box: ContainerId) -> None:
    for round_ in (b"1", b"2"):
        await write(store, ObjectId(box, "a"), round_)
        assert await content(store, ObjectId(box, "a")) == round_
        await store.delete(ObjectId(box, "a"))
        assert await store.info(ObjectId(box, "a")) is None
        assert await names(store, box) == []


async def test_a_copy_is_an_object_of_its_own(
    backend: Backend, store: Store, box: ContainerId
) -> None:
    other = ContainerId(backend.namespace, "other")
    await store.create_container(other)
    data = some_bytes(2 * limits.MIB + 5)
    await write(store, ObjectId(box, "a b/ż"), data)
    await write(store, ObjectId(other, "b"), b"before")
    await store.copy(ObjectId(box, "a b/ż"), ObjectId(other, "b"))
    await store.delete(ObjectId(box, "a b/ż"))
    assert await content(store, ObjectId(other, "b")) == data


async def test_a_copy_onto_itself_changes_nothing(store: Store, box: ContainerId) -> None:
    await write(store, ObjectId(box, "a"), b"1")
    await store.copy(ObjectId(box, "a"), ObjectId(box, "a"))
    assert await content(store, ObjectId(box, "a")) == b"1"


async def test_any_text_can_name_an_object_and_none_is_taken_for_another(
    store: Store, box: ContainerId, request: pytest.FixtureRequest
) -> None:
    hostile = [*HOSTILE_NAMES, "x" * 199, "x" * 200, "x" * 201]
    if "versity" in request.node.name:
        # It keeps keys as paths of files: one can't be a file and a directory, nor both cases.
        hostile = [name for name in hostile if not name.startswith("a") and "/" not in name]
    else:
        hostile += ["x" * 400, "ż" * 300, "x" * 399 + "/", "x" * 700]
    for number, name in enumerate(hostile):
        await write(store, ObjectId(box, name), str(number).encode())
    for number, name in enumerate(hostile):
        assert await content(store, ObjectId(box, name)) == str(number).encode(), name
    assert sorted(await names(store, box)) == sorted(hostile)
    for name in hostile:
        await store.delete(ObjectId(box, name))
    assert await names(store, box) == []


async def test_any_text_can_name_a_container_and_none_is_taken_for_another(
    backend: Backend, store: Store
) -> None:
    hostile = [*HOSTILE_NAMES[::2], "x" * 63, "ż" * 31]
    containers = [ContainerId(backend.namespace, name) for name in hostile]
    for container in containers:
        await store.create_container(container)
        await write(store, ObjectId(container, "a"), container.name.encode())
    for container in containers:
        assert await content(store, ObjectId(container, "a")) == container.name.encode()
    assert await store.containers(backend.namespace) == sorted(hostile)
    for container in containers:
        await store.delete_container(container)
    assert await store.containers(backend.namespace) == []


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 100])
async def test_pages_list_every_object_once(store: Store, box: ContainerId, count: int) -> None:
    wanted = [f"n{number}" for number in range(7)]
    for name in wanted:
        await write(store, ObjectId(box, name), name.encode())
    assert sorted(await names(store, box, count)) == wanted


async def test_a_listing_says_what_is_known_of_each_object(store: Store, box: ContainerId) -> None:
    for name in ("a", "b/c", "d e"):
        await write(store, ObjectId(box, name), b"x" * len(name))
    page = await store.objects(box, None, 10)
    assert page.cursor is None
    for each in page.objects:
        assert await store.info(ObjectId(box, each.name)) == each


@ON_BOTH_LOOPS
async def test_what_stays_is_listed_while_others_come_and_go(
    store: Store, box: ContainerId
) -> None:
    for name in ("a", "c", "e", "g", "i"):
        await write(store, ObjectId(box, name), b"1")
    page = await store.objects(box, None, 2)
    seen = [each.name for each in page.objects]
    assert seen == ["a", "c"]
    await store.delete(ObjectId(box, "c"))
    await write(store, ObjectId(box, "b"), b"1")
    await store.delete(ObjectId(box, "e"))
    while page.cursor is not None:
        page = await store.objects(box, page.cursor, 2)
        seen += [each.name for each in page.objects]
    assert seen == ["a", "c", "g", "i"]


async def test_a_backend_that_works_says_so(store: Store) -> None:
    await store.ping()
    assert store.label


async def test_closing_twice_is_closing_once(backend: Backend) -> None:
    store = backend.open()
    await store.ping()
    await store.aclose()
    await store.aclose()


R = TypeVar("R")

CONTAINERS = st.sampled_from(["a", "b", "../a"])
NAMES = st.sampled_from(["a", "b", "a/b", "a/", "..", "x" * 199 + "y", "x" * 200, "x" * 201, "ż"])
DATA = st.binary(max_size=40)


class AgainstADict(RuleBasedStateMachine):
    """Any run of operations comes to what a dict of dicts comes to."""

    writers = Bundle("writers")

    runner: asyncio.Runner
    store: Store
    runs = 0

    @initialize()
    def begin(self) -> None:
        AgainstADict.runs += 1
        self.namespace = f"run{self.runs}"
        self.model: dict[str, dict[str, bytes]] = {}

    def do(self, work: Coroutine[Any, Any, R]) -> R:
        return self.runner.run(work)

    def refused(self, work: Coroutine[Any, Any, object]) -> None:
        with pytest.raises(errors.NotFound):
            self.do(work)

    def container(self, name: str) -> ContainerId:
        return ContainerId(self.namespace, name)

    def object(self, container: str, name: str) -> ObjectId:
        return ObjectId(self.container(container), name)

    @rule(container=CONTAINERS)
    def create_container(self, container: str) -> None:
        self.do(self.store.create_container(self.container(container)))
        self.model.setdefault(container, {})

    @rule(container=CONTAINERS)
    def delete_container(self, container: str) -> None:
        self.do(self.store.delete_container(self.container(container)))
        self.model.pop(container, None)

    @rule()
    def list_containers(self) -> None:
        assert self.do(self.store.containers(self.namespace)) == sorted(self.model)

    @rule(container=CONTAINERS, count=st.integers(1, 3))
    def list_objects(self, container: str, count: int) -> None:
        listing = names(self.store, self.container(container), count)
        if container not in self.model:
            self.refused(listing)
        else:
            assert sorted(self.do(listing)) == sorted(self.model[container])

    @rule(target=writers, container=CONTAINERS, name=NAMES, parts=st.lists(DATA, max_size=3))
    def begin_to_write(
        self, container: str, name: str, parts: list[bytes]
    ) -> tuple[str, str, bytes, Writer] | None:
        if container not in self.model:
            self.refused(self.store.writer(self.object(container, name)))
            return None
        writer = self.do(self.store.writer(self.object(container, name)))
        for part in parts:
            self.do(writer.append(part))
        return container, name, b"".join(parts), writer

    @rule(begun=consumes(writers), commits=st.booleans())
    def end_to_write(self, begun: tuple[str, str, bytes, Writer] | None, commits: bool) -> None:
        if begun is None:
            return
        container, name, data, writer = begun
        if not commits:
            self.do(writer.abort())
        elif container not in self.model:
            self.refused(writer.commit())
            self.do(writer.abort())
        else:
            assert self.do(writer.commit()).size == len(data)
            self.model[container][name] = data

    @rule(container=CONTAINERS, name=NAMES)
    def delete(self, container: str, name: str) -> None:
        deletion = self.store.delete(self.object(container, name))
        if container not in self.model:
            self.refused(deletion)
        else:
            self.do(deletion)
            self.model[container].pop(name, None)

    @rule(container=CONTAINERS, name=NAMES, start=st.integers(0, 50), size=st.integers(0, 50))
    def read(self, container: str, name: str, start: int, size: int) -> None:
        reading = self.store.read(self.object(container, name), start, size)
        data = self.model.get(container, {}).get(name)
        if data is None:
            self.refused(reading)
        else:
            part = self.do(reading)
            assert part.data == data[start : start + size]
            assert part.of.size == len(data)

    @rule(of=st.tuples(CONTAINERS, NAMES), to=st.tuples(CONTAINERS, NAMES))
    def copy(self, of: tuple[str, str], to: tuple[str, str]) -> None:
        copying = self.store.copy(self.object(*of), self.object(*to))
        data = self.model.get(of[0], {}).get(of[1])
        if data is None or to[0] not in self.model:
            self.refused(copying)
        else:
            self.do(copying)
            self.model[to[0]][to[1]] = data


@pytest.mark.parametrize("kind", ["memory", "filesystem", "nats"])
def test_any_run_of_operations_comes_to_what_a_dict_comes_to(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        try:
            AgainstADict.runner = runner
            AgainstADict.store = runner.run(open_backend(kind, request, stack, tmp_path)).open()
            run_state_machine_as_test(
                AgainstADict,
                settings=hypothesis_settings(
                    max_examples=40,
                    stateful_step_count=25,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            runner.run(closing(stack))


async def closing(stack: AsyncExitStack) -> None:
    await stack.aclose()

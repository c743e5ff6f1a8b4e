"""Objects that are being written in parts: bounded, expiring, one step at a time."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest

from lattice import errors
from providers.blobstore.bounds import Bounds
from providers.blobstore.stores import ContainerId, ObjectId, ObjectInfo, Writer
from providers.blobstore.stores.memory import MemoryStore
from providers.blobstore.uploads import Uploads

BOX = ContainerId("ns", "box")
A, B = ObjectId(BOX, "a"), ObjectId(BOX, "b")
BOUNDS = replace(Bounds(), uploads_max=2, upload_idle_s=60, memory_bytes_max=10_000)


@dataclass
class Clock:
    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


class Gate:
    """A writer whose appends wait until the test lets them go on."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self.open = asyncio.Event()

    async def append(self, data: bytes) -> None:
        await self.open.wait()
        await self._writer.append(data)

    async def commit(self) -> ObjectInfo:
        return await self._writer.commit()

    async def abort(self) -> None:
        await self._writer.abort()


class GatedStore(MemoryStore):
    gate: Gate

    async def writer(self, object_id: ObjectId) -> Writer:
        self.gate = Gate(await super().writer(object_id))
        return self.gate


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store() -> MemoryStore:
    store = MemoryStore(BOUNDS)
    await store.create_container(BOX)
    return store


@pytest.fixture
async def uploads(clock: Clock) -> AsyncIterator[Uploads]:
    uploads = Uploads(BOUNDS, now_s=clock)
    yield uploads
    await uploads.aclose()
    assert len(uploads) == 0


async def test_only_so_many_are_written_at_a_time(uploads: Uploads, store: MemoryStore) -> None:
    first = await uploads.begin("me", store, A)
    await uploads.begin("you", store, A)
    with pytest.raises(errors.Overloaded, match="2 objects are being written in parts"):
        await uploads.begin("me", store, B)
    await uploads.abort("me", first)
    await uploads.begin("me", store, B)


async def test_a_begin_that_fails_takes_no_place(uploads: Uploads, store: MemoryStore) -> None:
    for _ in range(3):
        with pytest.raises(errors.NotFound):
            await uploads.begin("me", store, ObjectId(ContainerId("ns", "none"), "a"))
    await uploads.begin("me", store, A)


async def test_one_that_waits_too_long_is_given_up_and_one_that_goes_on_is_not(
    uploads: Uploads, store: MemoryStore, clock: Clock
) -> None:
    idle, busy = await uploads.begin("me", store, A), await uploads.begin("me", store, B)
    for upload in (idle, busy):
        await uploads.append("me", upload, 0, b"x" * 1_000)
    clock.now_s = 59.9
    await uploads.expire()
    await uploads.append("me", busy, 1_000, b"1")
    clock.now_s = 60.0
    await uploads.expire()
    with pytest.raises(errors.NotFound, match="it waited too long for its next part"):
        await uploads.append("me", idle, 1_000, b"1")
    await uploads.commit("me", busy)
    assert await store.info(A) is None
    assert await store.info(B) is not None


async def test_one_in_the_middle_of_a_step_is_not_idle(uploads: Uploads, clock: Clock) -> None:
    store = GatedStore(BOUNDS)
    await store.create_container(BOX)
    upload = await uploads.begin("me", store, A)
    appending = asyncio.ensure_future(uploads.append("me", upload, 0, b"1"))
    await asyncio.sleep(0)
    clock.now_s = 1_000.0
    await uploads.expire()
    store.gate.open.set()
    assert await appending == 1
    await uploads.commit("me", upload)


async def test_two_parts_at_a_time_are_added_one_after_the_other(uploads: Uploads) -> None:
    store = GatedStore(BOUNDS)
    await store.create_container(BOX)
    upload = await uploads.begin("me", store, A)
    same = [asyncio.ensure_future(uploads.append("me", upload, 0, b"12")) for _ in range(2)]
    await asyncio.sleep(0)
    store.gate.open.set()
    results = await asyncio.gather(*same, return_exceptions=True)
    assert results[0] == 2
    assert isinstance(results[1], errors.Conflict)
    assert (await uploads.commit("me", upload)).size == 2


async def test_a_step_that_fails_or_is_cancelled_gives_the_object_up(
    uploads: Uploads, store: MemoryStore
) -> None:
    full = await uploads.begin("me", store, A)
    with pytest.raises(errors.ProviderError, match="memory is full"):
        await uploads.append("me", full, 0, b"x" * 20_000)
    with pytest.raises(errors.NotFound):
        await uploads.commit("me", full)

    gated = GatedStore(BOUNDS)
    await gated.create_container(BOX)
    upload = await uploads.begin("me", gated, A)
    appending = asyncio.ensure_future(uploads.append("me", upload, 0, b"1"))
    await asyncio.sleep(0)
    appending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await appending
    with pytest.raises(errors.NotFound):
        await uploads.append("me", upload, 0, b"1")
    assert len(uploads) == 0


async def test_what_is_given_up_leaves_room_in_memory(uploads: Uploads, store: MemoryStore) -> None:
    for _ in range(20):
        upload = await uploads.begin("me", store, A)
        await uploads.append("me", upload, 0, b"x" * 5_000)
        await uploads.abort_of("me")
    assert len(uploads) == 0


async def test_one_expires_by_itself(store: MemoryStore) -> None:
    uploads = Uploads(replace(BOUNDS, upload_idle_s=1))
    upload = await uploads.begin("me", store, A)
    async with asyncio.timeout(20):
        while len(uploads):  # noqa: ASYNC110 - nothing else tells of it
            await asyncio.sleep(0.02)
    with pytest.raises(errors.NotFound):
        await uploads.commit("me", upload)
    await uploads.aclose()

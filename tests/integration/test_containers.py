"""Object stores written and read in parts, against NATS's own client and its server's books."""

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator

import pytest
from nats import connect
from nats.js import JetStreamContext
from nats.js.errors import ObjectNotFoundError

from lattice import errors, limits
from lattice.bus import Bus, Containers
from lattice.bus.server import NatsServer


@pytest.fixture
def bucket() -> str:
    return f"box-{uuid.uuid4().hex[:12]}"


@pytest.fixture
async def containers(bus: Bus, bucket: str) -> Containers:
    await bus.containers().create(bucket, replicas=1)
    return bus.containers()


@pytest.fixture
async def jetstream(nats: NatsServer) -> AsyncIterator[JetStreamContext]:
    """NATS's own client."""
    client = await connect(nats.url)
    yield client.jetstream()
    await client.close()


async def write(containers: Containers, bucket: str, name: str, data: bytes) -> None:
    writer = await containers.writer(bucket, name)
    await writer.append(data)
    await writer.commit()


async def chunks(jetstream: JetStreamContext, bucket: str) -> int:
    """Messages that hold content, by the server's own count."""
    info = await jetstream.stream_info(f"OBJ_{bucket}", subjects_filter=f"$O.{bucket}.C.>")
    return sum((info.state.subjects or {}).values())


async def test_the_stock_client_reads_what_is_written_here(
    containers: Containers, jetstream: JetStreamContext, bucket: str
) -> None:
    data = bytes(range(256)) * 2_000
    await write(containers, bucket, "a b", data)
    stock = await jetstream.object_store(bucket)
    found = await stock.get("a b")
    assert found.data == data
    assert found.info.size == len(data)
    await containers.remove(bucket, "a b")
    with pytest.raises(ObjectNotFoundError):
        await stock.get_info("a b")


async def test_what_the_stock_client_writes_is_read_here(
    containers: Containers, jetstream: JetStreamContext, bucket: str
) -> None:
    data = bytes(range(256)) * 2_000
    await (await jetstream.object_store(bucket)).put("ż", data)
    found, is_last = await containers.objects(bucket, after=None, count=10)
    assert is_last
    (stored,) = found
    assert (stored.name, stored.size) == ("ż", len(data))
    assert await containers.read(bucket, stored, 131_070, 10) == data[131_070:131_080]


async def test_no_chunk_is_left_of_what_was_replaced_removed_or_given_up(
    containers: Containers, jetstream: JetStreamContext, bucket: str
) -> None:
    for _ in range(3):
        await write(containers, bucket, "a", b"x" * 300_000)
    assert await chunks(jetstream, bucket) == 3
    await asyncio.gather(*(write(containers, bucket, "a", b"y" * 300_000) for _ in range(8)))
    assert await chunks(jetstream, bucket) == 3
    writer = await containers.writer(bucket, "a")
    await writer.append(b"z" * 300_000)
    await writer.abort()
    assert await chunks(jetstream, bucket) == 3
    await containers.remove(bucket, "a")
    info = await jetstream.stream_info(f"OBJ_{bucket}")
    assert info.state.messages == 0


async def test_a_reader_of_what_was_replaced_hears_so(
    containers: Containers, bus: Bus, bucket: str
) -> None:
    await write(containers, bucket, "a", b"x" * 300_000)
    stored = await containers.info(bucket, "a")
    assert stored is not None
    assert await containers.read(bucket, stored, 0, 1) == b"x"
    await write(containers, bucket, "a", b"y" * 300_000)
    for reader in (containers, bus.containers()):
        with pytest.raises(errors.Conflict, match="'a' was replaced while it was read"):
            await reader.read(bucket, stored, 0, 1)


async def test_a_hundred_megabytes_come_back_in_ranges(containers: Containers, bucket: str) -> None:
    part, count = limits.MIB, 100
    sent, came = hashlib.sha256(), hashlib.sha256()
    writer = await containers.writer(bucket, "large")
    for number in range(count):
        data = number.to_bytes(4, "big") * (part // 4)
        sent.update(data)
        await writer.append(data)
    stored = await writer.commit()
    assert stored.size == part * count
    step = 8 * part
    for at in range(0, stored.size, step):
        came.update(await containers.read(bucket, stored, at, step))
    assert came.digest() == sent.digest()


async def test_an_object_store_that_is_not_there_is_not_found(bus: Bus) -> None:
    containers = bus.containers()
    with pytest.raises(errors.NotFound, match="there is no object store none"):
        await containers.info("none", "a")
    with pytest.raises(errors.NotFound):
        await containers.writer("none", "a")
    with pytest.raises(errors.NotFound):
        await containers.objects("none", after=None, count=1)
    assert await containers.created_at_s("none") is None
    await containers.delete("none")

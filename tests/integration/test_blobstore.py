"""The blob provider in a lattice: inside a host and as a process, for actors and large objects."""

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import psutil
import pytest

from lattice import errors, limits
from lattice.wire import codec
from lattice.wire.invocation import Invocation, Reply
from tests.support.children import arguments
from tests.support.cluster import Cluster, LocalHost, without_reaper

KINDS = ["lattice+builtin://blobstore", "lattice+process://blobstore"]
WAYS = ["inside the host", "as a process"]

MEMORY_BYTES_MAX = 150 * limits.MIB
"""What moving a large object may add to the provider's memory: far less than the object, and more
than the parts in flight and what an allocator keeps."""


class Receiver:
    """Stands for an actor that receives chunks: the next one must not come before its answer."""

    def __init__(self) -> None:
        self.chunks: list[dict[str, Any]] = []
        self.is_busy = False
        self.has_all = asyncio.Event()

    async def accept(self, invocation: Invocation) -> Reply:
        assert not self.is_busy
        assert invocation.operation == "ChunkReceiver.ReceiveChunk"
        self.is_busy = True
        await asyncio.sleep(0)
        chunk = codec.unpack_payload(invocation.payload)
        self.chunks.append(chunk)
        if chunk["isLast"]:
            self.has_all.set()
        self.is_busy = False
        return Reply(codec.pack({}))


async def wasi(cluster: Cluster, operation: str, *arguments: Any, source: str = "album") -> Any:
    answer = codec.unpack(
        await cluster.call(
            "blobs",
            operation,
            codec.pack(list(arguments)),
            source=source,
            interface=f"wasi:blobstore/{operation.partition('.')[0]}",
        )
    )
    assert "ok" in answer, answer
    return answer["ok"]


async def wasmcloud(cluster: Cluster, operation: str, payload: Any) -> Any:
    answer = await cluster.call(
        "blobs",
        f"Blobstore.{operation}",
        codec.pack(payload),
        source="album",
        interface="wasmcloud:blobstore",
    )
    return codec.unpack(answer) if answer else None


@pytest.fixture
async def host(cluster: Cluster) -> LocalHost:
    (host,) = await cluster.start_hosts(1)
    return host


@pytest.mark.parametrize("reference", KINDS, ids=WAYS)
async def test_what_an_actor_stores_comes_back_chunk_by_chunk(
    cluster: Cluster, host: LocalHost, reference: str
) -> None:
    receiver = Receiver()
    await cluster.serve("album", receiver)
    await cluster.start_provider("blobs", reference, on=host)
    await cluster.link("album", "blobs", "wasmcloud:blobstore")
    await wasmcloud(cluster, "CreateContainer", "box")
    # More than a message of NATS holds, in either direction.
    data = hashlib.shake_128(b"blob").digest(3 * limits.MIB)
    where = {"objectId": "a", "containerId": "box"}
    half = len(data) // 2
    first = {**where, "bytes": data[:half], "offset": 0, "isLast": False}
    stream = await wasmcloud(cluster, "PutObject", {"chunk": first})
    last = {**where, "bytes": data[half:], "offset": half, "isLast": True}
    await wasmcloud(cluster, "PutChunk", {"chunk": last, **stream})

    answer = await wasmcloud(cluster, "GetObject", where)
    assert answer["contentLength"] == len(data)
    async with asyncio.timeout(20):
        await receiver.has_all.wait()
    chunks = [answer["initialChunk"], *receiver.chunks]
    assert b"".join(chunk["bytes"] for chunk in chunks) == data
    assert [chunk["offset"] for chunk in chunks] == list(range(0, len(data), 512 * limits.KIB))


async def test_actors_see_each_others_containers_only_where_an_operator_says_so(
    cluster: Cluster, host: LocalHost
) -> None:
    await cluster.control.put_config("photos", {"namespace": "photos"})
    await cluster.start_provider("blobs", KINDS[0], on=host)
    for source in ("album", "stranger"):
        await cluster.link(source, "blobs", "wasi:blobstore")
    await wasi(cluster, "blobstore.create-container", "box")
    assert not await wasi(cluster, "blobstore.container-exists", "box", source="stranger")

    for source in ("one", "two"):
        await cluster.link(source, "blobs", "wasi:blobstore", target_config=["photos"])
    await wasi(cluster, "blobstore.create-container", "box", source="one")
    assert await wasi(cluster, "blobstore.container-exists", "box", source="two")
    with pytest.raises(errors.NoLink):
        await wasi(cluster, "blobstore.container-exists", "box", source="unlinked")


@pytest.mark.parametrize("backend", ["nats", "filesystem"])
async def test_a_hundred_megabytes_move_both_ways_through_little_memory(
    cluster: Cluster, host: LocalHost, tmp_path: Path, backend: str
) -> None:
    await cluster.control.put_config("where", {"backend": backend, "root": str(tmp_path)})
    await cluster.start_provider("blobs", KINDS[1], on=host, config=["where"])
    await cluster.link("album", "blobs", "wasi:blobstore")
    await wasi(cluster, "blobstore.create-container", "box")
    process = provider_process()
    before_bytes = process.memory_info().rss
    part, count = 900 * limits.KIB, 114
    sent, came = hashlib.sha256(), hashlib.sha256()
    write = await wasi(cluster, "container.begin-write", "box", "a")
    for number in range(count):
        data = number.to_bytes(4, "big") * (part // 4)
        sent.update(data)
        await wasi(cluster, "container.append-data", write, number * part, data)
    await wasi(cluster, "container.commit-write", write)
    assert (await wasi(cluster, "container.object-info", "box", "a"))["size"] == part * count

    version: str | None = None
    for at in range(0, part * count, part):
        found = await wasi(cluster, "container.read-data", "box", "a", at, part, version)
        version = found["version"]
        came.update(found["data"])
    assert came.digest() == sent.digest()
    assert process.memory_info().rss - before_bytes < MEMORY_BYTES_MAX


def provider_process() -> psutil.Process:
    children = without_reaper(psutil.Process().children(recursive=True))
    (found,) = [child for child in children if arguments(child)[-1:] == ["blobstore"]]
    return found

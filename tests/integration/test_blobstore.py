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
    await cluster.control.put_config("chunks", {"chunk_bytes_max": str(2 * limits.MIB)})
    await cluster.start_provider("blobs", reference, on=host, config=["chunks"])
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
    # The first is as large as one may be.
    sizes = [len(chunk["bytes"]) // limits.KIB for chunk in chunks]
    assert sizes == [2048, 512, 512]


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


@pytest.mark.parametrize("reference", KINDS, ids=WAYS)
async def test_parts_of_an_object_reach_the_copy_that_writes_it_whichever_they_are_sent_to(
    cluster: Cluster, reference: str
) -> None:
    for host in await cluster.start_hosts(2):
        await cluster.start_provider("blobs", reference, on=host)
    await cluster.link("album", "blobs", "wasi:blobstore")
    await wasi(cluster, "blobstore.create-container", "cats")
    written = {}

    # Large enough to go by the object store, and often enough that both copies get some.
    for number in range(6):
        parts = [bytes([number, part]) * 400_000 for part in range(3)]
        write, end = await wasi(cluster, "container.begin-write", "cats", str(number)), 0
        for part in parts:
            end = await wasi(cluster, "container.append-data", write, end, part)
        await wasi(cluster, "container.commit-write", write)
        written[str(number)] = b"".join(parts)

    for name, data in written.items():
        assert await wasi(cluster, "container.get-data", "cats", name, 0, len(data)) == data


@pytest.mark.parametrize("reference", KINDS, ids=WAYS)
async def test_chunks_of_an_object_reach_the_copy_that_writes_it(
    cluster: Cluster, reference: str
) -> None:
    for host in await cluster.start_hosts(2):
        await cluster.start_provider("blobs", reference, on=host)
    await cluster.link("album", "blobs", "wasmcloud:blobstore")
    await wasmcloud(cluster, "CreateContainer", "cats")

    def chunk(offset: int, *, is_last: bool = False) -> dict[str, Any]:
        return {
            "containerId": "cats",
            "objectId": "tom",
            "bytes": b"x" * 10,
            "offset": offset,
            "isLast": is_last,
        }

    stream_id = (await wasmcloud(cluster, "PutObject", {"chunk": chunk(0)}))["streamId"]
    for number in range(1, 20):
        await wasmcloud(
            cluster,
            "PutChunk",
            {"chunk": chunk(number * 10, is_last=number == 19), "streamId": stream_id},
        )

    info = await wasmcloud(cluster, "GetObjectInfo", {"containerId": "cats", "objectId": "tom"})
    assert info["size"] == 200


async def test_a_write_whose_copy_has_ended_says_that_it_is_lost(cluster: Cluster) -> None:
    hosts = await cluster.start_hosts(2)
    for host in hosts:
        await cluster.start_provider("blobs", "lattice+builtin://blobstore", on=host)
    await cluster.link("album", "blobs", "wasi:blobstore")
    await wasi(cluster, "blobstore.create-container", "cats")
    write = await wasi(cluster, "container.begin-write", "cats", "tom")
    begun_on = write.rpartition("@")[2]
    assert begun_on in {host.id for host in hosts}
    await cluster.control.stop_provider("blobs", begun_on)
    await cluster.event("provider_stopped")

    for operation, wanted in (
        ("container.append-data", [write, 0, b"x"]),
        ("container.commit-write", [write]),
        ("container.abort-write", [write]),
    ):
        answer = await cluster.call(
            "blobs",
            operation,
            codec.pack(wanted),
            source="album",
            interface="wasi:blobstore/container",
        )
        assert codec.unpack(answer)["err"].startswith("not_found: what was being written is lost")


@pytest.mark.parametrize("host_id", ["nobody", ">", "*", "N" + "A" * 55, ""])
async def test_a_name_that_no_write_has_is_not_found(
    cluster: Cluster, host: LocalHost, host_id: str
) -> None:
    await cluster.start_provider("blobs", "lattice+builtin://blobstore", on=host)
    await cluster.link("album", "blobs", "wasi:blobstore")
    answer = await cluster.call(
        "blobs",
        "container.append-data",
        codec.pack([f"abc@{host_id}", 0, b"x"]),
        source="album",
        interface="wasi:blobstore/container",
    )
    assert codec.unpack(answer)["err"].startswith("not_found: ")


async def test_only_copies_of_a_provider_pass_calls_on(cluster: Cluster, host: LocalHost) -> None:
    await cluster.start_provider("blobs", "lattice+builtin://blobstore", on=host)
    await cluster.link("album", "blobs", "wasi:blobstore")

    with pytest.raises(errors.Denied, match="only copies of blobs"):
        await cluster.call(
            "blobs",
            "blobstore.container-exists",
            codec.pack(["album", "default", codec.pack(["cats"])]),
            source="mallory",
            interface="wasi:blobstore/blobstore",
            copy_host=host.id,
        )

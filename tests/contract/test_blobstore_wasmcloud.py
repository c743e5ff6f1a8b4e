"""``wasmcloud:blobstore`` as actors of every version speak it, over every backend."""

import asyncio
import io
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cbor2
import msgpack
import pytest

from lattice import errors
from providers.blobstore.provider import Blobstore
from providers.sdk import Call, Link
from tests.support import blob_provider
from tests.support.blob_provider import link, started
from tests.support.nats_server import connected
from tests.support.provider_context import FakeContext, Received

MAJOR_LIST, MAJOR_MAP = 4, 5
CONTENT = bytes(range(256)) * 8


def listed(value: Any) -> Any:
    """Structures as lists of their fields."""
    if isinstance(value, dict):
        return [listed(each) for each in value.values()]
    return value


def read_cbor(payload: bytes) -> Any:
    """Read as weld's generated code does, to which a time is two items in the place of one."""
    assert payload[:1] == b"\x7f"
    stream = io.BytesIO(payload[1:])
    value = _read_item(stream)
    assert stream.read() == b""
    return value


def _read_item(stream: io.BytesIO) -> Any:
    (head,) = stream.read(1)
    stream.seek(-1, io.SEEK_CUR)
    if head >> 5 not in {MAJOR_LIST, MAJOR_MAP}:
        return cbor2.CBORDecoder(stream, read_size=1).decode()
    stream.seek(1, io.SEEK_CUR)
    count = head & 31
    assert count < 24, "longer than this reader goes"
    if head >> 5 == MAJOR_LIST:
        return [_read_item(stream) for _ in range(count)]
    value = {}
    for _ in range(count):
        name = _read_item(stream)
        if name in {"createdAt", "lastModified"}:
            value[name] = {"sec": _read_item(stream), "nsec": _read_item(stream)}
        else:
            value[name] = _read_item(stream)
    return value


@dataclass(frozen=True)
class Speech:
    """How actors of some versions of the interface write, and read."""

    write: Callable[[Any], bytes]
    read: Callable[[bytes], Any]
    mark: bytes
    """How what it reads begins."""


SPEECHES = {
    "0.1.0": Speech(lambda value: b"\x7f" + cbor2.dumps(value), read_cbor, b"\x7f"),
    "0.1.1 to 0.7": Speech(lambda value: b"\x7f" + cbor2.dumps(listed(value)), read_cbor, b"\x7f"),
    "since 0.8": Speech(msgpack.packb, msgpack.unpackb, b""),
    "since 0.8, with a prefix": Speech(
        lambda value: b"\xc1" + msgpack.packb(value), msgpack.unpackb, b""
    ),
}


@dataclass(frozen=True)
class Actor:
    """Asks a provider over a link of its own."""

    provider: Blobstore
    context: FakeContext
    link: Link
    speech: Speech

    async def ask(self, operation: str, request: Any = None) -> Any:
        call = Call(
            source=self.link.source_id,
            link=self.link,
            interface="wasmcloud:blobstore",
            operation=f"Blobstore.{operation}",
            payload=b"" if request is None else self.speech.write(request),
            deadline=asyncio.get_running_loop().time() + 20,
        )
        answer = await self.provider.handle(call)
        if request is None:
            # An answer to nothing is in msgpack, which actors of every version read.
            return msgpack.unpackb(answer)
        return self.speech.read(answer) if answer else None

    async def put(self, name: str, content: bytes) -> None:
        assert await self.ask("PutObject", put_request(chunk(content, name=name))) == {}


def chunk(
    content: bytes, *, name: str = "a", offset: int = 0, is_last: bool = True
) -> dict[str, Any]:
    where = {"objectId": name, "containerId": "box"}
    return {**where, "bytes": content, "offset": offset, "isLast": is_last}


def put_request(first: dict[str, Any]) -> dict[str, Any]:
    return {"chunk": first, "contentType": "text/plain", "contentEncoding": None}


def put_chunk_request(
    each: dict[str, Any], stream_id: str, *, is_cancelled: bool = False
) -> dict[str, Any]:
    return {"chunk": each, "streamId": stream_id, "cancelAndRemove": is_cancelled}


def get_request(name: str, start: int | None = None, end: int | None = None) -> dict[str, Any]:
    where = {"objectId": name, "containerId": "box"}
    return {**where, "rangeStart": start, "rangeEnd": end}


def list_request(*, continuation: str | None = None, count: int | None = None) -> dict[str, Any]:
    return {
        "containerId": "box",
        "startWith": None,
        "continuation": continuation,
        "endWith": None,
        "endBefore": None,
        "maxItems": count,
    }


OBJECT = {"containerId": "box", "objectId": "a"}


@pytest.fixture(
    params=[
        "memory",
        "filesystem",
        "nats",
        pytest.param("s3", marks=pytest.mark.xdist_group("moto")),
    ]
)
async def provider(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[tuple[Blobstore, FakeContext]]:
    config = {"backend": request.param}
    async with AsyncExitStack() as stack:
        bus = None
        match request.param:
            case "filesystem":
                config["root"] = str(tmp_path)
            case "nats":
                bus = await stack.enter_async_context(connected(request.getfixturevalue("nats")))
            case "s3":
                config = request.getfixturevalue("moto_service").config
        context = blob_provider.context(bus)
        config["chunk_bytes_max"] = "2048"
        yield await stack.enter_async_context(started(config, context)), context


@pytest.fixture(params=list(SPEECHES.values()), ids=list(SPEECHES))
async def actor(request: pytest.FixtureRequest, provider: tuple[Blobstore, FakeContext]) -> Actor:
    """One whose container ``box`` is there, and empty."""
    blobs, context = provider
    over = link(contract="wasmcloud", namespace=f"ns{uuid.uuid4().hex[:8]}")
    await blobs.put_link(over)
    actor = Actor(blobs, context, over, request.param)
    assert await actor.ask("CreateContainer", "box") is None
    return actor


async def test_containers_are_made_described_listed_and_removed(actor: Actor) -> None:
    assert await actor.ask("ContainerExists", "box") is True
    assert await actor.ask("ContainerExists", "none") is False
    info = await actor.ask("GetContainerInfo", "box")
    assert info["containerId"] == "box"
    assert info["createdAt"]["sec"] > 1_600_000_000
    assert 0 <= info["createdAt"]["nsec"] < 1_000_000_000
    assert await actor.ask("ListContainers") == [{"containerId": "box"}]
    assert await actor.ask("RemoveContainers", ["box"]) == []
    assert await actor.ask("ListContainers") == []
    with pytest.raises(errors.NotFound):
        await actor.ask("GetContainerInfo", "box")


async def test_an_object_is_put_described_got_and_removed(actor: Actor) -> None:
    await actor.put("a", CONTENT)
    assert await actor.ask("ObjectExists", OBJECT) is True
    info = await actor.ask("GetObjectInfo", OBJECT)
    assert info.pop("lastModified")["sec"] > 1_600_000_000
    assert info == {**OBJECT, "contentLength": 2048, "size": 2048}
    assert await actor.ask("GetObject", get_request("a")) == {
        "success": True,
        "initialChunk": chunk(CONTENT),
        "contentLength": 2048,
    }
    some = await actor.ask("GetObject", get_request("a", 2, 4))
    assert some["initialChunk"] == chunk(b"\x02\x03\x04", offset=2)
    assert some["contentLength"] == 3
    removal = {"containerId": "box", "objects": ["a", "none"]}
    assert await actor.ask("RemoveObjects", removal) == []
    assert await actor.ask("ObjectExists", OBJECT) is False
    none = await actor.ask("GetObject", get_request("a"))
    assert none == {
        "success": False,
        "error": "container 'box' has no object 'a'",
        "contentLength": 0,
    }


async def test_an_object_is_put_chunk_by_chunk_or_taken_back(actor: Actor) -> None:
    first = chunk(b"012", is_last=False)
    stream_id = (await actor.ask("PutObject", put_request(first)))["streamId"]
    more = chunk(b"345", offset=3, is_last=False)
    assert await actor.ask("PutChunk", put_chunk_request(more, stream_id)) is None
    assert await actor.ask("ObjectExists", OBJECT) is False
    last = chunk(b"67", offset=6)
    assert await actor.ask("PutChunk", put_chunk_request(last, stream_id)) is None
    got = await actor.ask("GetObject", get_request("a"))
    assert got["initialChunk"] == chunk(b"01234567")

    stream_id = (await actor.ask("PutObject", put_request(first)))["streamId"]
    cancel = put_chunk_request(chunk(b"", offset=3), stream_id, is_cancelled=True)
    assert await actor.ask("PutChunk", cancel) is None
    with pytest.raises(errors.NotFound):
        await actor.ask("PutChunk", put_chunk_request(more, stream_id))


async def test_objects_are_listed_page_by_page(actor: Actor) -> None:
    for name in "abc":
        await actor.put(name, b"1")
    page = await actor.ask("ListObjects", list_request(count=2))
    assert page["isLast"] is False
    rest = await actor.ask("ListObjects", list_request(continuation=page["continuation"]))
    assert rest["isLast"] is True
    found = page["objects"] + rest["objects"]
    assert sorted(each["objectId"] for each in found) == ["a", "b", "c"]
    assert {(each["contentLength"], each["containerId"]) for each in found} == {(1, "box")}
    assert all(each["lastModified"]["sec"] > 1_600_000_000 for each in found)


@pytest.mark.parametrize("is_enough", [False, True], ids=["all of it", "until it has enough"])
async def test_what_is_larger_than_a_chunk_is_sent_to_the_actor(
    actor: Actor, is_enough: bool
) -> None:
    async def receive(sent: Received) -> bytes:
        return actor.speech.write({"cancelDownload": is_enough})

    actor.context.answer = receive
    whole = CONTENT + b"more" + CONTENT
    first = chunk(whole[:2048], is_last=False)
    stream_id = (await actor.ask("PutObject", put_request(first)))["streamId"]
    more = chunk(whole[2048:4096], offset=2048, is_last=False)
    await actor.ask("PutChunk", put_chunk_request(more, stream_id))
    await actor.ask("PutChunk", put_chunk_request(chunk(whole[4096:], offset=4096), stream_id))

    got = await actor.ask("GetObject", get_request("a"))
    assert got == {"success": True, "initialChunk": first, "contentLength": len(whole)}
    await actor.provider.drain()
    sent = [each.payload for each in actor.context.calls]
    assert all(each.startswith(actor.speech.mark) for each in sent)
    expected = [more, chunk(whole[4096:], offset=4096)]
    assert [actor.speech.read(each) for each in sent] == expected[: 1 if is_enough else None]

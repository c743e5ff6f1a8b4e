"""``wasmcloud:blobstore``: what the contract suite does not ask of every backend."""

import asyncio
from typing import Any

import pytest

from lattice import errors, limits
from lattice.wire import cbor, codec
from providers.blobstore import wasmcloud
from providers.blobstore.provider import Blobstore
from providers.sdk import Call
from tests.support.blob_provider import ask, link, started
from tests.support.provider_context import FakeContext, Received

OVER = link(contract="wasmcloud")


@pytest.fixture
async def provider(provider: Blobstore) -> Blobstore:
    await provider.put_link(OVER)
    await ask(provider, OVER, "Blobstore.CreateContainer", "box")
    return provider


async def call(provider: Blobstore, operation: str, payload: Any) -> Any:
    return await ask(provider, OVER, f"Blobstore.{operation}", payload)


async def send(provider: Blobstore, operation: str, payload: bytes) -> bytes:
    return await provider.handle(
        Call(
            source=OVER.source_id,
            link=OVER,
            interface="wasmcloud:blobstore",
            operation=f"Blobstore.{operation}",
            payload=payload,
            deadline=asyncio.get_running_loop().time() + 10,
        )
    )


def chunk(data: bytes, *, offset: int = 0, last: bool, name: str = "a") -> dict[str, Any]:
    fields = {"objectId": name, "containerId": "box", "bytes": data}
    return {**fields, "offset": offset, "isLast": last}


async def put(provider: Blobstore, name: str, data: bytes) -> None:
    assert await call(provider, "PutObject", {"chunk": chunk(data, last=True, name=name)}) == {}


async def test_what_one_contract_writes_the_other_reads(provider: Blobstore) -> None:
    await put(provider, "a", b"0123456789")
    assert await ask(provider, link(), "container.get-data", ["box", "a", 0, 99]) == {
        "ok": b"0123456789"
    }


async def test_a_small_object_comes_back_in_the_answer(provider: Blobstore) -> None:
    await put(provider, "a", b"0123456789")
    asked = {"containerId": "box", "objectId": "a"}
    assert await call(provider, "GetObject", asked) == {
        "success": True,
        "initialChunk": chunk(b"0123456789", last=True),
        "contentLength": 10,
    }
    assert await call(provider, "GetObject", {**asked, "rangeStart": 2, "rangeEnd": 4}) == {
        "success": True,
        "initialChunk": chunk(b"234", offset=2, last=True),
        "contentLength": 3,
    }
    beyond = await call(provider, "GetObject", {**asked, "rangeStart": 10})
    assert beyond["initialChunk"] == chunk(b"", offset=10, last=True)
    assert beyond["contentLength"] == 0


async def test_an_object_that_is_not_there_is_no_success(provider: Blobstore) -> None:
    asked = {"containerId": "box", "objectId": "none"}
    assert await call(provider, "GetObject", asked) == {
        "success": False,
        "error": "container 'box' has no object 'none'",
        "contentLength": 0,
    }
    assert await call(provider, "ObjectExists", asked) is False
    with pytest.raises(errors.NotFound):
        await call(provider, "GetObjectInfo", asked)


async def test_an_object_is_put_chunk_by_chunk(provider: Blobstore) -> None:
    answer = await call(provider, "PutObject", {"chunk": chunk(b"012", last=False)})
    stream = {"streamId": answer["streamId"]}
    assert (
        await call(provider, "PutChunk", {"chunk": chunk(b"345", offset=3, last=False), **stream})
        is None
    )
    asked = {"containerId": "box", "objectId": "a"}
    assert await call(provider, "ObjectExists", asked) is False
    # A list of integers is how some serializers write bytes.
    last = {**chunk(b"", offset=6, last=True), "bytes": [54, 55]}
    assert await call(provider, "PutChunk", {"chunk": last, **stream}) is None
    info = await call(provider, "GetObjectInfo", asked)
    assert info.pop("lastModified")["sec"] > 1_600_000_000
    assert info == {"objectId": "a", "containerId": "box", "contentLength": 8, "size": 8}
    with pytest.raises(errors.NotFound):
        await call(provider, "PutChunk", {"chunk": last, **stream})


async def test_a_chunk_of_another_object_than_its_stream_is_refused(provider: Blobstore) -> None:
    answer = await call(provider, "PutObject", {"chunk": chunk(b"012", last=False)})
    with pytest.raises(errors.InvalidRequest, match="another object than 'b'"):
        await call(
            provider, "PutChunk", {"chunk": chunk(b"1", offset=3, last=True, name="b"), **answer}
        )
    with pytest.raises(errors.InvalidRequest, match="begins at offset 0, not 3"):
        await call(provider, "PutObject", {"chunk": chunk(b"1", offset=3, last=True)})


async def test_the_rest_of_a_large_object_is_sent_chunk_by_chunk(
    provider: Blobstore, context: FakeContext
) -> None:
    received: list[dict[str, Any]] = []
    under_way = 0

    async def receive(sent: Received) -> bytes:
        nonlocal under_way
        assert under_way == 0, "the next chunk came before the answer for the last"
        under_way += 1
        await asyncio.sleep(0)
        received.append(sent.content)
        under_way -= 1
        return codec.pack({"cancelDownload": False})

    context.answer = receive
    await put(provider, "a", b"0123456789")
    asked = {"containerId": "box", "objectId": "a", "chunkSize": 4}
    first = await call(provider, "GetObject", asked)
    assert first["initialChunk"] == chunk(b"0123", last=False)
    assert first["contentLength"] == 10
    await provider.drain()
    assert received == [
        chunk(b"4567", offset=4, last=False),
        chunk(b"89", offset=8, last=True),
    ]
    assert {
        (each.target, each.interface, each.operation, each.link_name) for each in context.calls
    } == {("album", "wasmcloud:blobstore", "ChunkReceiver.ReceiveChunk", "default")}


async def test_an_object_that_fits_into_a_call_comes_whole_to_who_asks_for_no_size(
    provider: Blobstore, context: FakeContext
) -> None:
    # An actor made for wasmCloud's own providers may not take any further chunks.
    whole = bytes(3 * limits.MIB)
    await put(provider, "a", whole)
    answer = await call(provider, "GetObject", {"containerId": "box", "objectId": "a"})
    assert answer["initialChunk"] == chunk(whole, last=True)
    await provider.drain()
    assert context.calls == []


async def test_an_actor_that_has_enough_gets_no_more(
    provider: Blobstore, context: FakeContext
) -> None:
    async def receive(_sent: Received) -> bytes:
        return codec.pack({"cancelDownload": True})

    context.answer = receive
    await put(provider, "a", b"0123456789")
    await call(provider, "GetObject", {"containerId": "box", "objectId": "a", "chunkSize": 1})
    await provider.drain()
    assert len(context.calls) == 1


async def test_an_actor_that_fails_ends_what_it_is_sent(
    provider: Blobstore, context: FakeContext
) -> None:
    async def receive(_sent: Received) -> bytes:
        raise errors.ActorError("no room")

    context.answer = receive
    await put(provider, "a", b"0123456789")
    await call(provider, "GetObject", {"containerId": "box", "objectId": "a", "chunkSize": 1})
    await provider.drain()
    assert len(context.calls) == 1


async def test_too_many_downloads_at_a_time_are_refused(context: FakeContext) -> None:
    release = asyncio.Event()

    async def receive(_sent: Received) -> bytes:
        await release.wait()
        return codec.pack({})

    context.answer = receive
    async with started({"backend": "memory", "downloads_max": "1"}, context) as provider:
        await provider.put_link(OVER)
        await call(provider, "CreateContainer", "box")
        await put(provider, "a", b"0123456789")
        asked = {"containerId": "box", "objectId": "a", "chunkSize": 5}
        await call(provider, "GetObject", asked)
        with pytest.raises(errors.Overloaded, match="1 objects are being sent"):
            await call(provider, "GetObject", asked)
        release.set()
        await provider.drain()
        assert (await call(provider, "GetObject", asked))["success"]
        await provider.drain()


async def test_objects_are_listed_by_range_and_page(provider: Blobstore) -> None:
    for name in "abcde":
        await put(provider, name, b"1")

    async def listed(**asked: Any) -> tuple[list[str], bool, Any]:
        answer = await call(provider, "ListObjects", {"containerId": "box", **asked})
        names = [each["objectId"] for each in answer["objects"]]
        return names, answer["isLast"], answer.get("continuation")

    assert await listed() == (list("abcde"), True, None)
    assert await listed(startWith="b", endWith="d") == (list("bcd"), True, None)
    assert await listed(endBefore="c", maxItems=10) == (list("ab"), True, None)
    names, is_last, continuation = await listed(maxItems=3)
    assert (names, is_last) == (list("abc"), False)
    assert await listed(continuation=continuation, maxItems=3) == (list("de"), True, None)


async def test_objects_are_removed_and_failures_named(provider: Blobstore) -> None:
    await put(provider, "a", b"1")
    removal = {"containerId": "box", "objects": ["a", "none"]}
    assert await call(provider, "RemoveObjects", removal) == []
    failed = await call(provider, "RemoveObjects", {"containerId": "none", "objects": ["a"]})
    assert failed == [{"key": "a", "success": False, "error": "there is no container 'none'"}]


@pytest.mark.parametrize(
    "operation", sorted(wasmcloud.OPERATIONS.keys() - {"Blobstore.ListContainers"})
)
@pytest.mark.parametrize("payload", [None, 7, b"\xff", [7], {}, {"containerId": 7}, {"chunk": 7}])
async def test_payloads_of_wrong_types_are_refused(
    provider: Blobstore, operation: str, payload: Any
) -> None:
    with pytest.raises(errors.InvalidRequest, match="must be"):
        await ask(provider, OVER, operation, payload)


@pytest.mark.parametrize(
    ("operation", "request_cbor", "wrong"),
    [
        ("GetObject", ["a"], "containerId must be a string"),
        ("GetObject", [], "containerId must be a string"),
        ("GetObject", ["a", 7], "containerId must be a string"),
        ("GetObject", "a", "must be a map"),
        ("GetObject", ["a", "box", -1], "rangeStart must be"),
        ("PutObject", [["a", "box", 7, 0, True]], "bytes must be bytes"),
        ("PutObject", [["a"]], "containerId must be a string"),
        ("PutObject", ["a"], "chunk must be a map"),
        ("RemoveContainers", {"objects": []}, "must be a list"),
    ],
)
async def test_lists_of_fields_are_checked_like_maps(
    provider: Blobstore, operation: str, request_cbor: Any, wrong: str
) -> None:
    with pytest.raises(errors.InvalidRequest, match=wrong):
        await send(provider, operation, cbor.pack(request_cbor))


async def test_fields_that_a_later_version_adds_at_the_end_are_passed_over(
    provider: Blobstore,
) -> None:
    await put(provider, "a", b"1")
    answer = await send(provider, "ObjectExists", cbor.pack(["box", "a", {"new": [1]}, 7]))
    assert cbor.unpack(answer) is True


@pytest.mark.parametrize("payload", [b"\x7f", b"\x7f\xff", b"\x7f\xd8\x23\x63a+b", b"\x7f" * 9])
async def test_what_is_no_cbor_behind_its_prefix_is_refused(
    provider: Blobstore, payload: bytes
) -> None:
    with pytest.raises(errors.InvalidRequest, match="not a CBOR message"):
        await send(provider, "GetObject", payload)

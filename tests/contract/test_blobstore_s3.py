"""What only S3 can do to its store: other people's keys, unfinished uploads, sick servers."""

import asyncio
import socket
import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest
from botocore.loaders import JSONFileLoader

from lattice import errors, limits
from providers.blobstore import settings
from providers.blobstore.settings import S3Settings
from providers.blobstore.stores import ContainerId, ObjectId
from providers.blobstore.stores.s3 import S3Store
from tests.support.s3_server import S3Server

pytestmark = [
    pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"]),
    pytest.mark.xdist_group("moto"),
]

BOX = ContainerId("ns", "box")


@asynccontextmanager
async def opened(**config: str) -> AsyncIterator[S3Store]:
    found = settings.parse({}, config, lattice="default")
    assert isinstance(found, S3Settings)
    async with aclosing(S3Store(found)) as store:
        yield store


@pytest.fixture
def config(moto_service: S3Server) -> dict[str, str]:
    """With a prefix of its own."""
    return {**moto_service.config, "prefix": f"test/{uuid.uuid4().hex[:8]}-"}


@pytest.fixture
async def store(config: dict[str, str]) -> AsyncIterator[S3Store]:
    async with opened(**config) as store:
        await store.create_container(BOX)
        yield store


async def put(store: S3Store, key: str, data: bytes = b"1") -> None:
    """As any tool does, below the prefix."""
    await store.request("put_object", Key=f"{store._settings.prefix}{key}", Body=data)


async def uploads(store: S3Store) -> list[Any]:
    found = await store.request("list_multipart_uploads", Prefix=store._settings.prefix)
    uploads = found.get("Uploads", [])
    assert isinstance(uploads, list)
    return uploads


async def test_keys_are_what_a_person_looks_for(store: S3Store) -> None:
    writer = await store.writer(ObjectId(BOX, "photos/żółw 1.jpg"))
    await writer.append(b"turtle")
    await writer.commit()
    key = f"{store._settings.prefix}ns/box/photos/żółw 1.jpg"
    assert (await store.request("head_object", Key=key))["ContentLength"] == 6


async def test_objects_that_others_put_there_are_there_and_make_a_container(
    store: S3Store,
) -> None:
    await put(store, "ns/theirs/weights/one.bin", b"123")
    theirs = ContainerId("ns", "theirs")
    assert await store.containers("ns") == ["box", "theirs"]
    assert await store.container_created_at_s(theirs) is not None
    page = await store.objects(theirs, None, 1)
    assert [each.name for each in page.objects] == ["weights/one.bin"]
    assert (await store.read(ObjectId(theirs, "weights/one.bin"), 1, 9)).data == b"23"


async def test_keys_that_are_none_of_ours_are_not_seen(store: S3Store) -> None:
    for key in ("ns/box/%41", "ns/box/a//b", "ns/box/.a", "ns/other box/a", "nsx/box/a", "a"):
        await put(store, key)
    assert (await store.objects(BOX, None, 10)).objects == []
    assert await store.containers("ns") == ["box"]


async def test_two_prefixes_of_one_bucket_know_nothing_of_each_other(
    store: S3Store, config: dict[str, str]
) -> None:
    await put(store, "ns/box/a")
    async with opened(**{**config, "prefix": "elsewhere/"}) as other:
        assert await other.containers("ns") == []
        await other.delete_container(BOX)
    assert await store.info(ObjectId(BOX, "a")) is not None


async def test_a_large_write_that_is_given_up_leaves_no_parts(store: S3Store) -> None:
    writer = await store.writer(ObjectId(BOX, "a"))
    await writer.append(b"x" * 6 * limits.MIB)
    assert len(await uploads(store)) == 1
    await writer.abort()
    assert await uploads(store) == []
    await writer.abort()


async def test_a_small_object_takes_one_request_and_no_upload(store: S3Store) -> None:
    writer = await store.writer(ObjectId(BOX, "a"))
    await writer.append(b"x" * 5 * limits.MIB)
    assert await uploads(store) == []
    assert (await writer.commit()).size == 5 * limits.MIB


async def test_a_key_too_long_names_both_numbers(store: S3Store) -> None:
    with pytest.raises(errors.PayloadTooLarge, match=r"bytes, over the limit of 1024"):
        await store.writer(ObjectId(BOX, "x" * 1_024))


async def test_a_bucket_that_is_not_there_is_said(config: dict[str, str]) -> None:
    async with opened(**{**config, "bucket": "none"}) as store:
        for attempt in (store.containers("ns"), store.create_container(BOX)):
            with pytest.raises(errors.ProviderError, match=r"S3 bucket none at .* is not there"):
                await attempt


async def test_without_credentials_every_call_is_denied(
    config: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    del config["access_key_id"], config["secret_access_key"]
    async with opened(**config) as store:
        with pytest.raises(errors.Denied, match="set access_key_id and secret_access_key"):
            await store.ping()


async def test_a_server_that_says_nothing_is_unavailable(config: dict[str, str]) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        config |= {"endpoint_url": url, "response_timeout_ms": "50"}
        async with opened(**config) as store:
            with pytest.raises(errors.Unavailable, match="does not answer"):
                await store.ping()


async def test_calls_at_a_time_share_one_client(store: S3Store) -> None:
    names = [f"n{number}" for number in range(20)]
    await asyncio.gather(*(put(store, f"ns/box/{name}") for name in names))
    found = await asyncio.gather(*(store.info(ObjectId(BOX, name)) for name in names))
    assert [each.name for each in found if each] == names


async def test_only_the_first_store_reads_what_describes_s3(
    config: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(**config) as first:
        await first.ping()
    read: list[str] = []
    monkeypatch.setattr(JSONFileLoader, "load_file", lambda _self, path: read.append(path))

    async with opened(**config) as second:
        await second.ping()

    assert read == []

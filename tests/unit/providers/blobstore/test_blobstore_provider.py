"""Links, namespaces, their backends, and what callers hear when a backend is away."""

import asyncio
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from lattice import errors, limits
from providers.blobstore.provider import Blobstore
from providers.blobstore.stores.memory import MemoryStore
from providers.sdk import Link
from tests.support.blob_provider import ask, context, link, started
from tests.support.eventually import eventually_available
from tests.support.nats_server import connected, nats_server
from tests.support.redis_server import frozen

PATIENCE_S = 20.0

PHOTOS = {"namespace": "photos"}


async def create(provider: Blobstore, over: Link, name: str = "box", **options: float) -> None:
    answer = await ask(provider, over, "blobstore.create-container", [name], **options)
    assert answer == {"ok": name}


async def exists(provider: Blobstore, over: Link, name: str = "box") -> bool:
    answer = await ask(provider, over, "blobstore.container-exists", [name], timeout_s=PATIENCE_S)
    assert isinstance(answer["ok"], bool)
    return answer["ok"]


async def works_again(provider: Blobstore, over: Link) -> None:
    await eventually_available(lambda: exists(provider, over))


async def test_each_actor_has_containers_of_its_own(provider: Blobstore) -> None:
    one, two = link("one"), link("two")
    for each in (one, two):
        await provider.put_link(each)
    await create(provider, one)
    assert not await exists(provider, two)


async def test_actors_whose_links_name_one_namespace_share_its_containers(
    provider: Blobstore,
) -> None:
    one, two, other = link("one", NAMESPACE="photos"), link("two", **PHOTOS), link("three")
    for each in (one, two, other):
        await provider.put_link(each)
    await create(provider, one)
    assert await exists(provider, two)
    assert not await exists(provider, other)


async def test_a_call_over_no_link_names_the_command_that_puts_one(provider: Blobstore) -> None:
    with pytest.raises(errors.NoLink, match="lattice link put stranger blobs wasi blobstore"):
        await exists(provider, link("stranger"))


async def test_a_link_that_is_refused_leads_nowhere_any_more(provider: Blobstore) -> None:
    await provider.put_link(link("one"))
    over = link("one", backend="tape")
    with pytest.raises(errors.InvalidRequest, match="'tape' is not one of"):
        await provider.put_link(over)
    with pytest.raises(errors.NoLink):
        await exists(provider, over)
    await provider.put_link(link("one"))
    assert not await exists(provider, link("one"))


async def test_a_link_of_another_contract_or_that_names_a_directory_is_refused(
    provider: Blobstore,
) -> None:
    with pytest.raises(errors.InvalidRequest, match="not wasi:sql"):
        await provider.put_link(link().model_copy(update={"wit_package": "sql"}))
    with pytest.raises(errors.InvalidRequest, match="root may stand only in the provider's own"):
        await provider.put_link(link(backend="filesystem", root="/"))


async def test_an_unknown_operation_is_refused(provider: Blobstore) -> None:
    with pytest.raises(errors.InvalidRequest, match=r"no operation 'container\.burn'"):
        await ask(provider, link(), "container.burn", [])


async def test_a_link_put_again_or_anew_finds_its_data(provider: Blobstore) -> None:
    await create(provider, link())
    await provider.put_link(link())
    assert await exists(provider, link())
    await provider.delete_link(link())
    with pytest.raises(errors.NoLink):
        await exists(provider, link())
    await provider.put_link(link())
    assert await exists(provider, link())


async def test_what_is_being_written_ends_with_its_link(provider: Blobstore) -> None:
    await create(provider, link())
    begun = await ask(provider, link(), "container.begin-write", ["box", "a"])
    await provider.put_link(link())
    assert await ask(provider, link(), "container.append-data", [begun["ok"], 0, b"1"]) == {"ok": 1}
    await provider.put_link(link(unknown="key"))
    assert await ask(provider, link(), "container.append-data", [begun["ok"], 1, b"1"]) == {"ok": 2}
    moved = link(**PHOTOS)
    await provider.put_link(moved)
    answer = await ask(provider, moved, "container.append-data", [begun["ok"], 2, b"1"])
    assert answer["err"].startswith("not_found")


async def test_nobody_can_go_on_with_what_another_link_is_writing(provider: Blobstore) -> None:
    await create(provider, link())
    other = link("other")
    await provider.put_link(other)
    begun = await ask(provider, link(), "container.begin-write", ["box", "a"])
    for operation, arguments in (
        ("append-data", [begun["ok"], 0, b"1"]),
        ("commit-write", [begun["ok"]]),
        ("abort-write", [begun["ok"]]),
    ):
        answer = await ask(provider, other, f"container.{operation}", arguments)
        assert answer["err"].startswith("not_found")
    assert await ask(provider, link(), "container.commit-write", [begun["ok"]]) == {"ok": None}


async def test_a_wrong_configuration_keeps_the_provider_from_starting() -> None:
    for config in (
        {"backend": "tape"},
        {"backend": "filesystem"},
        {"backend": "s3"},
        {"chunk_bytes_max": "none"},
        {"namespace": "a/b"},
    ):
        with pytest.raises(errors.InvalidRequest):
            async with started(config):
                pass


async def test_a_changed_configuration_takes_effect_and_a_wrong_one_does_not(
    provider: Blobstore, tmp_path: Path
) -> None:
    await create(provider, link())
    with pytest.raises(errors.InvalidRequest, match="backend"):
        await provider.update_config({"backend": "tape"})
    assert await exists(provider, link())
    await provider.update_config({"backend": "filesystem", "ROOT": str(tmp_path)})
    await provider.put_link(link())
    assert not await exists(provider, link())
    await create(provider, link())
    assert (tmp_path / "album/box").is_dir()
    await provider.update_config({"backend": "memory", "name_bytes_max": "1"})
    await provider.put_link(link())
    answer = await ask(provider, link(), "container.has-object", ["box", "long"])
    assert answer["err"] == "payload_too_large: name of the object is 4 bytes, over the limit of 1"


async def test_reads_and_writes_take_turns_beyond_their_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at_a_time, most = 0, 0
    read = MemoryStore.read

    async def slow_read(*arguments: object, **options: object) -> object:
        nonlocal at_a_time, most
        at_a_time += 1
        most = max(most, at_a_time)
        for _ in range(3):
            await asyncio.sleep(0)
        at_a_time -= 1
        return await read(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(MemoryStore, "read", slow_read)
    async with started({"backend": "memory", "transfers_max": "3"}) as provider:
        await provider.put_link(link())
        await create(provider, link())
        await ask(provider, link(), "container.write-data", ["box", "a", b"1"])
        reads = (ask(provider, link(), "container.read-data", ["box", "a", 0, 1]) for _ in range(9))
        assert all("ok" in answer for answer in await asyncio.gather(*reads))
        assert most == 3


async def test_health_names_the_backend_that_is_down(tmp_path: Path) -> None:
    async with started({"backend": "memory", "root": str(tmp_path / "none")}) as provider:
        await provider.put_link(link("one"))
        assert (await provider.health()).healthy
        await provider.put_link(link("two", backend="filesystem"))
        health = await provider.health()
        assert not health.healthy
        assert f"directory {tmp_path}/none is not there" in (health.message or "")


async def test_without_the_s3_extra_a_link_says_how_to_get_it(
    provider: Blobstore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "providers.blobstore.stores.s3", raising=False)
    monkeypatch.setitem(sys.modules, "aiobotocore", None)
    monkeypatch.delitem(sys.modules, "aiobotocore.config", raising=False)
    with pytest.raises(errors.ProviderError, match=r"pip install 'lattice-runtime\[s3\]'"):
        await provider.put_link(link("one", backend="s3", bucket="b"))


async def test_an_s3_that_is_away_is_unavailable_and_the_link_is_taken(
    provider: Blobstore,
) -> None:
    config = {"backend": "s3", "bucket": "b", "endpoint_url": "http://127.0.0.1:9"}
    over = link("one", **config, access_key_id="id", secret_access_key="never shown")
    await provider.put_link(over)
    with pytest.raises(errors.Unavailable, match=r"S3 bucket b at 127\.0\.0\.1:9 does not"):
        await exists(provider, over)
    health = await provider.health()
    assert not health.healthy
    assert "never shown" not in (health.message or "")


async def test_a_silent_nats_is_unavailable_before_the_deadline_and_then_works_again() -> None:
    async with (
        nats_server() as server,
        connected(server) as bus,
        started({}, context(bus)) as provider,
    ):
        await provider.put_link(link())
        await create(provider, link())
        with (
            frozen(server.pid),
            pytest.raises(errors.Unavailable, match="NATS buckets LATTICEBLOBS_default"),
        ):
            await create(provider, link(), "other", timeout_s=0.5)
        await works_again(provider, link())


async def test_a_write_to_a_nats_that_falls_silent_ends_with_its_deadline() -> None:
    async with (
        nats_server() as server,
        connected(server) as bus,
        started({}, context(bus)) as provider,
    ):
        await provider.put_link(link())
        await create(provider, link())
        whole = ["box", "a", b"x" * 4 * limits.MIB]
        writing = asyncio.ensure_future(
            ask(provider, link(), "container.write-data", whole, timeout_s=1)
        )
        await asyncio.sleep(0)
        # Not what removing the write came to, which takes NATS as well.
        with (
            frozen(server.pid),
            pytest.raises(errors.Unavailable, match="before the call's deadline"),
        ):
            await writing
        await works_again(provider, link())
        assert await ask(provider, link(), "container.has-object", ["box", "a"]) == {"ok": False}


async def test_a_nats_that_went_away_in_the_middle_of_a_write_keeps_what_was_committed(
    tmp_path: Path,
) -> None:
    async with nats_server(store_dir=tmp_path) as server:
        port = urlsplit(server.url).port
        assert port is not None
        async with connected(server) as bus, started({}, context(bus)) as provider:
            await provider.put_link(link())
            await create(provider, link())
            await ask(provider, link(), "container.write-data", ["box", "a", b"old"])
            begun = await ask(provider, link(), "container.begin-write", ["box", "a"])
            part = b"x" * limits.MIB
            await ask(provider, link(), "container.append-data", [begun["ok"], 0, part])
            await server.aclose()
            with pytest.raises(errors.Unavailable):
                await ask(
                    provider, link(), "container.append-data", [begun["ok"], limits.MIB, part]
                )
            assert not (await provider.health()).healthy
            async with nats_server(store_dir=tmp_path, port=port):
                await works_again(provider, link())
                whole = ["box", "a", 0, 100]
                assert await ask(provider, link(), "container.get-data", whole) == {"ok": b"old"}
                answer = await ask(provider, link(), "container.commit-write", [begun["ok"]])
                assert answer["err"].startswith("not_found")

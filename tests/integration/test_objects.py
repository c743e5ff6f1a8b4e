"""Object stores, and the artefact store on top of them, over a real JetStream."""

import asyncio
import hashlib

import pytest

from lattice import artefacts, errors, limits, subjects
from lattice.bus import Bus, ObjectStore
from tests.support.eventually import PATIENCE_S, eventually
from tests.support.nats_server import connected, nats_server


@pytest.fixture
async def store(bus: Bus, lattice_name: str) -> ObjectStore:
    return await bus.objects(lattice_name)


class TestObjects:
    @pytest.mark.parametrize("size", [0, 1, 128 * 1024, 3_000_000])
    async def test_what_was_put_is_got(self, store: ObjectStore, size: int) -> None:
        data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)

        digest = await store.put("object", data)

        assert digest == hashlib.sha256(data).hexdigest()
        assert await store.get("object", bytes_max=size) == data
        assert await store.has("object")

    async def test_an_object_is_replaced(self, store: ObjectStore) -> None:
        await store.put("object", b"old")
        await store.put("object", b"new")

        assert await store.get("object", bytes_max=100) == b"new"

    async def test_one_that_is_too_large_is_not_fetched(self, store: ObjectStore) -> None:
        await store.put("object", bytes(101))

        with pytest.raises(errors.PayloadTooLarge) as caught:
            await store.get("object", bytes_max=100)

        assert caught.value.detail == {"size": 101, "limit": 100}

    async def test_one_that_is_not_there_is_not_found(self, store: ObjectStore) -> None:
        with pytest.raises(errors.NotFound):
            await store.get("never", bytes_max=100)
        assert not await store.has("never")

    async def test_a_deleted_one_is_gone(self, store: ObjectStore) -> None:
        await store.put("object", b"data")

        await store.delete("object")
        await store.delete("object")
        await store.delete("never")

        assert not await store.has("object")
        with pytest.raises(errors.NotFound):
            await store.get("object", bytes_max=100)

    async def test_an_expired_one_is_gone(self, bus: Bus, lattice_name: str) -> None:
        store = await bus.objects(f"{lattice_name}-short", ttl_s=0.3)
        await store.put("object", b"data")
        stream = f"OBJ_{store.name}"
        assert (await bus._jetstream.stream_info(stream)).state.messages > 0

        deadline = asyncio.get_running_loop().time() + PATIENCE_S
        while (await bus._jetstream.stream_info(stream)).state.messages:
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.05)

        assert not await store.has("object")
        with pytest.raises(errors.NotFound):
            await store.get("object", bytes_max=100)

    async def test_a_full_store_is_unavailable(self, bus: Bus, lattice_name: str) -> None:
        store = await bus.objects(f"{lattice_name}-small", bytes_max=200_000)

        with pytest.raises(errors.Unavailable):
            await store.put("object", bytes(1_000_000))

    async def test_without_a_server_it_is_unavailable(self, lattice_name: str) -> None:
        async with nats_server() as server, connected(server) as bus:
            store = await bus.objects(lattice_name)
            await server.aclose()
            await eventually(lambda: not bus.is_connected)

            with pytest.raises(errors.Unavailable):
                await store.put("object", b"data")

    async def test_many_processes_may_make_the_store_at_once(
        self, bus: Bus, lattice_name: str
    ) -> None:
        stores = await asyncio.gather(
            *(bus.objects(lattice_name, ttl_s=60, bytes_max=10**6) for _ in range(10))
        )
        await stores[0].put("object", b"data")

        assert await stores[-1].has("object")


class TestArtefacts:
    async def test_an_uploaded_artefact_is_downloaded_by_its_reference(
        self, bus: Bus, lattice_name: str
    ) -> None:
        stored = await artefacts.upload(bus, lattice_name, "echo.wasm", b"module")

        assert str(stored) == f"lattice://echo.wasm@sha256:{hashlib.sha256(b'module').hexdigest()}"
        assert artefacts.parse(str(stored)) == stored
        assert await artefacts.download(bus, lattice_name, stored) == b"module"

    async def test_uploading_twice_stores_once(self, bus: Bus, lattice_name: str) -> None:
        first = await artefacts.upload(bus, lattice_name, "echo", b"module")
        stream = f"OBJ_{subjects.artefact_bucket(lattice_name)}"
        before = (await bus._jetstream.stream_info(stream)).state.last_seq

        assert await artefacts.upload(bus, lattice_name, "echo", b"module") == first
        assert (await bus._jetstream.stream_info(stream)).state.last_seq == before

    async def test_an_artefact_that_is_too_large_is_refused(
        self, bus: Bus, lattice_name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(limits, "MODULE_BYTES_MAX", 10)

        with pytest.raises(errors.PayloadTooLarge):
            await artefacts.upload(bus, lattice_name, "echo", bytes(11))

    async def test_content_that_does_not_match_its_digest_is_denied(
        self, bus: Bus, lattice_name: str
    ) -> None:
        stored = await artefacts.upload(bus, lattice_name, "echo", b"module")
        store = await bus.objects(subjects.artefact_bucket(lattice_name))
        await store.put(stored.digest, b"something else")

        with pytest.raises(errors.Denied):
            await artefacts.download(bus, lattice_name, stored)

    async def test_an_artefact_nobody_uploaded_is_not_found(
        self, bus: Bus, lattice_name: str
    ) -> None:
        with pytest.raises(errors.NotFound):
            await artefacts.download(bus, lattice_name, artefacts.StoredArtefact("echo", "0" * 64))

"""Blobs as components see them, over a blob provider of the same process."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from host.engine import CallLimits, Engine, EngineSettings
from host.engine.wasi_blobstore import PART_BYTES, SYNC_BYTES_MAX, VALUES_MAX
from lattice import errors, limits
from lattice.wire import codec
from providers.blobstore.provider import Blobstore
from providers.sdk import Call
from tests.support import blob_provider
from tests.support.components import guest
from tests.support.engines import idle_engine
from tests.support.host_calls import PATIENCE_S, Host, Request, execution, now_s, run, until

LARGE = 2 * PART_BYTES + 1_000
"""Three parts."""


class Store:
    """What components under test are linked to; remembers what it was asked."""

    def __init__(self, provider: Blobstore) -> None:
        self.provider = provider
        self.link = blob_provider.link()
        self.asked: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        self.host = Host(self.answer)
        self.meddle: Callable[[str], Awaitable[bytes | None]] | None = None
        """May answer an operation in the provider's place."""

    async def answer(self, request: Request) -> bytes:
        _, namespace, operation, payload = request
        assert namespace == "wasi:blobstore"
        assert len(payload) < limits.INLINE_PAYLOAD_BYTES, "it fits a message"
        self.asked[operation.partition(".")[2]] += 1
        if self.meddle is not None and (answer := await self.meddle(operation)) is not None:
            return answer
        call = Call(
            source="album",
            link=self.link,
            interface="wasi:blobstore",
            operation=operation,
            payload=payload,
            deadline=now_s() + 10,
        )
        answer = await self.provider.handle(call)
        self.done[operation.partition(".")[2]] += "ok" in codec.unpack(answer)
        return answer

    async def ask(self, operation: str, *arguments: Any) -> Any:
        return await blob_provider.ask(self.provider, self.link, operation, list(arguments))

    async def size(self, name: str) -> int | None:
        found = await self.ask("container.object-info", "things", name)
        return found["ok"]["size"] if "ok" in found else None


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    async with blob_provider.started({"backend": "memory", "uploads_max": "20"}) as provider:
        store = Store(provider)
        await provider.put_link(store.link)
        yield store


@pytest.fixture
async def exercise(store: Store, compiled: Path) -> AsyncIterator[Callable[[str], Awaitable[Any]]]:
    """Have the component do something with blobs; nothing of it may be left."""
    async with idle_engine(instances_max=8, cache_dir=compiled) as engine:
        component = await engine.load(guest("capabilities"))

        async def exercise(what: str) -> Any:
            payload = codec.pack([f"blobs-{what}"])
            # Blobs of megabytes are written, and how long that takes is not the question.
            patient = CallLimits(cpu_time_s=PATIENCE_S)
            call = execution(
                component, payload, operation="exercise", host=store.host, limits=patient
            )
            return codec.unpack(await run(call))

        yield exercise
        await until(lambda: len(engine.tasks) == 0)
    done = store.done
    assert done["begin-write"] == done["commit-write"] + done["abort-write"], "a write is left"


Exercise = Callable[[str], Awaitable[Any]]


async def test_a_component_uses_everything_that_containers_have(exercise: Exercise) -> None:
    assert await exercise("tour") == {
        "ok": "false \"not_found: there is no container 'things'\" things things true"
        " \"not_found: container 'things' has no object 'a'\" [true, false, true]"
        ' c things 5 true [1, 2, 3] [] ["c"] true false'
    }


async def test_names_are_read_and_skipped_page_by_page(exercise: Exercise) -> None:
    assert await exercise("names 7") == {"ok": "2 false, 1 false, 6 true, 0 true, 1 0"}


@pytest.mark.parametrize("size", [0, 1, PART_BYTES, PART_BYTES + 1, LARGE])
@pytest.mark.parametrize("how", ["write", "write-polled"])
async def test_what_was_written_is_what_is_read(exercise: Exercise, how: str, size: int) -> None:
    assert await exercise(f"{how} {size}") == {"ok": ""}
    assert await exercise("read") == {"ok": f"{size} {size}"}
    assert await exercise("read-polled") == {"ok": str(size)}


async def test_a_small_object_is_one_call_and_a_large_one_a_call_per_part(
    exercise: Exercise, store: Store
) -> None:
    await exercise("write 1000")
    assert store.asked == {"create-container": 1, "write-data": 1}
    await exercise(f"write {LARGE}")
    assert store.asked["append-data"] == 3
    store.asked.clear()
    await exercise("read")
    assert store.asked == {"create-container": 1, "read-data": 3}


async def test_a_range_has_both_its_ends_and_no_more_than_there_is(exercise: Exercise) -> None:
    await exercise(f"write {LARGE}")
    most = 2**64 - 1
    for wanted, size in (
        ("0-0", 1),
        (f"{PART_BYTES}-{PART_BYTES}", 1),
        (f"5-{PART_BYTES + 5}", PART_BYTES + 1),
        (f"{LARGE - 3}-{most}", 3),
        (f"{LARGE}-{most}", 0),
        (f"{most}-{most}", 0),
        ("9-8", 0),
    ):
        assert await exercise(f"read {wanted}") == {"ok": f"{size} {size}"}


async def test_a_body_may_be_written_before_it_is_said_where_it_goes(
    exercise: Exercise, store: Store
) -> None:
    assert await exercise("write-body-first 100000") == {"ok": ""}
    assert await store.size("large") == 100_000
    with pytest.raises(errors.ActorTrapped, match="write-data was not called"):
        await exercise(f"write-body-first {PART_BYTES + 1}")


@pytest.mark.parametrize("size", [1_000, LARGE])
async def test_a_value_that_is_dropped_after_its_stream_is_complete(
    exercise: Exercise, store: Store, size: int
) -> None:
    assert await exercise(f"write-unfinished {size}") == {"ok": "true"}
    assert await store.size("large") == size


@pytest.mark.parametrize("size", [1_000, LARGE])
@pytest.mark.parametrize("how", ["write-dropped", "write-left", "write-trap"])
async def test_a_value_that_is_given_up_leaves_nothing_behind(
    exercise: Exercise, store: Store, how: str, size: int
) -> None:
    try:
        assert await exercise(f"{how} {size}") in ({"ok": "false"}, {"ok": ""})
    except errors.ActorTrapped:
        assert how == "write-trap"
    said = "the object large of the container things was not written: the guest did not finish"
    await until(lambda: any(said in text for _, text in store.host.lines))
    assert await store.size("large") is None


async def test_a_value_needs_a_place_and_has_one_only(exercise: Exercise) -> None:
    nowhere, twice = await exercise("write-nowhere"), await exercise("write-twice")
    assert "never given to write-data" in nowhere["err"]
    assert "given to write-data before" in twice["err"]


async def test_a_value_that_is_too_large_to_be_taken_at_once_says_so(exercise: Exercise) -> None:
    await exercise(f"write {SYNC_BYTES_MAX}")
    assert await exercise("read-sync") == {"ok": f"{SYNC_BYTES_MAX} true"}
    await exercise(f"write {SYNC_BYTES_MAX + 1}")
    refused = await exercise("read-sync")
    assert refused["err"].startswith("payload_too_large: ")
    assert str(SYNC_BYTES_MAX + 1) in refused["err"]
    assert "take it as a stream" in refused["err"]


async def test_an_object_is_copied_through_streams(exercise: Exercise) -> None:
    await exercise(f"write {LARGE}")
    assert await exercise("copy") == {"ok": str(LARGE)}


async def test_what_is_replaced_while_it_is_read_is_an_error_and_no_mixture(
    exercise: Exercise,
) -> None:
    replaced = await exercise(f"replaced {LARGE}")
    assert replaced["err"].startswith("conflict: ")
    assert await exercise("replaced 100") == {"ok": "100"}, "it was all there already"


async def test_a_call_has_only_so_many_values(exercise: Exercise) -> None:
    with pytest.raises(errors.ActorTrapped, match=f"{VALUES_MAX} objects at a time, the limit"):
        await exercise("write-many")
    await exercise("write 10")
    refused = await exercise("read-many")
    assert f"overloaded: the call reads and writes {VALUES_MAX} objects" in refused["err"]


async def test_streams_that_are_dropped_early_take_what_is_on_its_way_along(
    exercise: Exercise, store: Store
) -> None:
    await exercise(f"write {LARGE}")
    assert await exercise("read-early 50") == {"ok": ""}
    assert store.asked["read-data"] <= 100, "each fetched two parts at most"


@pytest.mark.parametrize("failing", ["begin-write", "append-data", "commit-write", "write-data"])
async def test_a_write_that_fails_says_so_when_it_is_finished(
    exercise: Exercise, store: Store, failing: str
) -> None:
    async def meddle(operation: str) -> bytes | None:
        if operation == f"container.{failing}":
            raise errors.Unavailable("the disk is full")
        return None

    store.meddle = meddle
    size = 1_000 if failing == "write-data" else LARGE
    failed = await exercise(f"write {size}")
    assert failed["err"] in ("unavailable: the disk is full", "closed")
    assert await store.size("large") is None


async def test_a_read_that_fails_is_the_streams_error(exercise: Exercise, store: Store) -> None:
    await exercise(f"write {LARGE}")

    async def meddle(operation: str) -> bytes | None:
        if operation == "container.read-data" and store.asked["read-data"] == 2:
            raise errors.Unavailable("the disk is gone")
        return None

    store.meddle = meddle
    assert await exercise("read") == {"err": "unavailable: the disk is gone"}


@pytest.mark.parametrize(
    "nonsense",
    [
        b"",
        b"\xc1",
        codec.pack(5),
        codec.pack({"ok": {"data": b"", "size": -1, "version": "1"}}),
        codec.pack({"ok": {"data": b"", "size": 9, "version": "1"}}),
        codec.pack({"ok": {"data": b"too much", "size": 2, "version": "1"}}),
        codec.pack({"err": "no code, or one that nobody knows: text"}),
    ],
)
async def test_a_store_that_answers_nonsense_is_an_error_to_the_guest(
    exercise: Exercise, store: Store, nonsense: bytes
) -> None:
    async def meddle(operation: str) -> bytes | None:
        return nonsense if operation == "container.read-data" else None

    store.meddle = meddle
    assert (await exercise("read"))["err"].startswith("provider_error: ")


async def test_a_call_that_ends_while_a_part_is_on_its_way_leaves_nothing_behind(
    store: Store,
) -> None:
    engine = Engine(EngineSettings(instances_max=8))
    component = await engine.load(guest("capabilities"))
    held = asyncio.Event()

    async def meddle(operation: str) -> bytes | None:
        if operation == "container.append-data" and store.asked["append-data"] == 2:
            held.set()
            await asyncio.Event().wait()
        return None

    store.meddle = meddle
    payload = codec.pack([f"blobs-write {LARGE}"])
    call = execution(component, payload, operation="exercise", host=store.host)
    assert not call.start()
    finish = asyncio.ensure_future(call.finish())
    await held.wait()
    call.abandon()
    with pytest.raises(errors.Cancelled):
        await finish
    await until(lambda: len(engine.tasks) == 0)
    assert store.asked["abort-write"] == 1
    assert await store.size("large") is None
    engine.close()

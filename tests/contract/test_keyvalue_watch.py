"""What an actor that watches is promised, on every backend: memory, a real Redis, NATS, SQLite."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from structlog.testing import capture_logs

from lattice import errors
from lattice.bus import Bus
from lattice.bus.server import NatsServer
from lattice.wire import codec
from providers.keyvalue.provider import KeyValue
from providers.keyvalue.stores import watches
from providers.sdk import Link, duty
from tests.support import keyvalue
from tests.support.eventually import eventually
from tests.support.keyvalue import Actor
from tests.support.nats_server import connected, nats_server
from tests.support.provider_context import Received
from tests.support.redis_server import RedisServer, redis_server

BACKENDS = ("memory", "redis", "nats", "sqlite")
SHARED = ("redis", "nats", "sqlite")
"""Those that several copies of the provider work on."""
ORDERED = ("nats", "sqlite")
"""Those that keep changes, and their order, for who tells of them next."""


@pytest.fixture(scope="module")
def redis_service() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@dataclass
class Scene:
    """An actor, and copies of the provider on one backend."""

    server: NatsServer
    store_dir: Path
    stack: AsyncExitStack
    config: dict[str, str]
    actor: Actor = field(default_factory=Actor)
    copies: int = 0

    async def restart(self) -> None:
        """End the NATS server, and start it again with what it had stored."""
        port = urlsplit(self.server.url).port
        assert port is not None
        await self.server.aclose()
        self.server = await self.stack.enter_async_context(
            nats_server(store_dir=self.store_dir, port=port)
        )

    async def bus(self) -> Bus:
        return await self.stack.enter_async_context(connected(self.server))

    async def copy(self) -> KeyValue:
        """One more copy of the provider, on a host of its own, that also takes writes."""
        self.copies += 1
        provider = await self.stack.enter_async_context(
            keyvalue.copy(await self.bus(), self.actor, self.config, host=f"N{self.copies}")
        )
        await provider.put_link(keyvalue.store_link())
        await provider.put_link(keyvalue.store_link(("wasmcloud", "keyvalue")))
        return provider

    async def watching(self, watch: str, **config: str) -> KeyValue:
        """A copy that tells the actor of changes."""
        provider = await self.copy()
        await provider.put_link(keyvalue.watch_link(watch, **config))
        return provider


@pytest.fixture
async def scene(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Scene]:
    config = {"backend": request.param}
    if request.param == "redis":
        redis: RedisServer = request.getfixturevalue("redis_service")
        redis.flush()
        redis.command("CONFIG SET notify-keyspace-events K$g")
        config["url"] = redis.url
    if request.param == "sqlite":
        config["sqlite_directory"] = str(tmp_path)
    async with AsyncExitStack() as stack:
        store_dir = tmp_path / "nats"
        server = await stack.enter_async_context(nats_server(store_dir=store_dir))
        yield Scene(server, store_dir, stack, config)


def on(*backends: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("scene", backends, indirect=True)


async def wasi(provider: KeyValue, operation: str, *arguments: Any) -> Any:
    answer = await keyvalue.call(provider, keyvalue.store_link(), operation, list(arguments))
    return answer["ok"]


async def wasmcloud(provider: KeyValue, operation: str, argument: Any) -> Any:
    link = keyvalue.store_link(("wasmcloud", "keyvalue"))
    return await keyvalue.call(provider, link, f"KeyValue.{operation}", argument)


async def told(scene: Scene, *expected: tuple[Any, ...]) -> None:
    """Wait until the actor has been told as much, and that it was this."""
    await eventually(lambda: len(scene.actor.told) >= len(expected))
    assert scene.actor.told == list(expected)


@on(*BACKENDS)
async def test_an_actor_is_told_what_a_key_holds_now_and_that_it_is_gone(scene: Scene) -> None:
    provider = await scene.watching("SET@cart,DEL@cart", timeout_ms="1234", name="carts")

    await wasi(provider, "store.set", "cart", b"\x00\xff")
    await told(scene, ("cart", b"\x00\xff"))
    await wasi(provider, "store.delete", "cart")
    await told(scene, ("cart", b"\x00\xff"), ("cart",))

    call = scene.actor.calls[0]
    assert (call.target, call.interface) == (keyvalue.ACTOR, "wasi:keyvalue/watcher")
    # The bucket's id is the link's name, by which the actor can use the store.
    assert call.content[0] == call.link_name == "carts"
    assert call.timeout_s == 1.234


@on(*BACKENDS)
async def test_an_actor_is_told_of_nothing_but_what_it_watches(scene: Scene) -> None:
    provider = await scene.watching("SET@a,DEL@b,SET@end", in_flight_max="1")

    for key in ("a", "b", "c", "ab"):
        await wasi(provider, "store.set", key, key.encode())
        await wasi(provider, "store.set", "between", b"")
    await told(scene, ("a", b"a"))
    for key in ("b", "c"):
        await wasi(provider, "store.delete", key)
    await told(scene, ("a", b"a"), ("b",))
    await wasi(provider, "store.delete", "a")
    await wasi(provider, "store.set", "end", b"!")

    await told(scene, ("a", b"a"), ("b",), ("end", b"!"))


@on(*BACKENDS)
async def test_every_kind_of_write_of_bytes_is_told(scene: Scene) -> None:
    provider = await scene.watching("SET@*,DEL@*", in_flight_max="1")

    await wasi(provider, "atomics.increment", "n", 7)
    await told(scene, ("n", b"7"))
    version = (await wasi(provider, "atomics.current", "n"))["version"]
    await wasi(provider, "atomics.swap", "n", version, b"8")
    await told(scene, ("n", b"7"), ("n", b"8"))
    await wasi(provider, "batch.set-many", [["m", b"1"]])
    await wasmcloud(provider, "Set", {"key": "text", "value": "ä", "expires": 1000})
    await wasi(provider, "batch.delete-many", ["m"])

    await told_in_any_order(scene, {("m",), ("text", "ä".encode())}, of=("m", "text"))


async def told_in_any_order(
    scene: Scene, expected: set[tuple[Any, ...]], *, of: tuple[str, ...]
) -> None:
    """Wait until these are the last that was told of some keys."""

    def last() -> set[tuple[Any, ...]]:
        return set({key: (key, *rest) for key, *rest in scene.actor.told if key in of}.values())

    await eventually(lambda: last() == expected)


@on(*BACKENDS)
async def test_lists_and_sets_are_told_only_when_they_are_gone(scene: Scene) -> None:
    provider = await scene.watching("SET@*,DEL@*", in_flight_max="1")

    await wasmcloud(provider, "ListAdd", {"listName": "todo", "value": "milk"})
    await wasmcloud(provider, "ListDel", {"listName": "todo", "value": "milk"})
    await told(scene, ("todo",))
    await wasmcloud(provider, "SetAdd", {"setName": "tags", "value": "new"})
    await wasmcloud(provider, "SetClear", "tags")

    await told(scene, ("todo",), ("tags",))


@on(*BACKENDS)
async def test_a_beginning_of_keys_is_watched_whatever_the_keys_are_called(scene: Scene) -> None:
    provider = await scene.watching("SET@a[*?:.*,DEL@ü=*", in_flight_max="1")
    matching = ["a[*?:.", "a[*?:.1", "a[*?:. ä"]

    for key in [*matching, "a", "a[*?:", "axx:.1"]:
        await wasi(provider, "store.set", key, b"")
    await wasi(provider, "store.set", "ü=1", b"")
    await wasi(provider, "store.delete", "ü=1")

    await told(scene, *((key, b"") for key in matching), ("ü=1",))


@on(*BACKENDS)
async def test_what_was_there_before_is_told_only_where_that_is_wanted(scene: Scene) -> None:
    provider = await scene.copy()
    await wasi(provider, "store.set", "old", b"1")

    await provider.put_link(keyvalue.watch_link("SET@*"))
    await wasi(provider, "store.set", "new", b"2")
    await told(scene, ("new", b"2"))
    await provider.put_link(keyvalue.watch_link("SET@*", watch_existing="true"))

    await eventually(lambda: len(scene.actor.told) == 3)
    assert sorted(scene.actor.told) == [("new", b"2"), ("new", b"2"), ("old", b"1")]


def hold_calls(scene: Scene) -> tuple[asyncio.Event, list[Any]]:
    """Have the actor's calls wait for an event; gives that, and what those that ended told."""
    gate = asyncio.Event()
    ended: list[Any] = []

    async def wait(received: Received) -> bytes:
        await gate.wait()
        ended.append(received.content)
        return codec.pack(None)

    scene.actor.answer = wait
    return gate, ended


@on(*BACKENDS)
async def test_calls_for_one_key_never_overlap_and_end_with_its_last_value(scene: Scene) -> None:
    gate, _ended = hold_calls(scene)
    provider = await scene.watching("SET@*")
    await wasi(provider, "store.set", "hot", b"first")
    await eventually(lambda: scene.actor.running.get("hot"))

    for number in range(50):
        await wasi(provider, "store.set", "hot", str(number).encode())
    await wasi(provider, "store.set", "other", b"x")
    await eventually(lambda: scene.actor.running.get("other"))
    gate.set()

    await told_in_any_order(scene, {("hot", b"49")}, of=("hot",))
    assert scene.actor.most_running == 1
    # Changes that followed faster than the actor answered are told by the last of them.
    assert scene.actor.told == [("hot", b"first"), ("other", b"x"), ("hot", b"49")]


@on(*BACKENDS)
async def test_a_call_that_was_not_executed_is_made_again_with_what_the_key_holds_then(
    scene: Scene,
) -> None:
    refused: list[Any] = []

    async def refuse_twice(received: Received) -> bytes:
        if len(refused) < 2:
            refused.append(received.content)
            raise errors.NotRunning("no actor")
        return codec.pack(None)

    scene.actor.answer = refuse_twice
    provider = await scene.watching("SET@*")

    await wasi(provider, "store.set", "a", b"1")

    await told(scene, ("a", b"1"), ("a", b"1"), ("a", b"1"))


@on(*BACKENDS)
async def test_a_call_that_failed_is_logged_and_not_made_again(scene: Scene) -> None:
    async def fail(received: Received) -> bytes:
        if received.content[1] == "bad":
            raise errors.ActorTrapped("unreachable")
        return codec.pack(None)

    scene.actor.answer = fail
    provider = await scene.watching("SET@*", in_flight_max="1")

    with capture_logs() as logs:
        await wasi(provider, "store.set", "bad", b"1")
        await wasi(provider, "store.set", "good", b"2")
        await told(scene, ("bad", b"1"), ("good", b"2"))

    (line,) = [each for each in logs if each["event"] == "changes were not told"]
    assert (line["count"], line["code"]) == (1, "actor_trapped")


@on(*BACKENDS)
async def test_an_actor_that_was_unlinked_is_told_nothing_more(scene: Scene) -> None:
    link = keyvalue.watch_link("SET@*")
    provider = await scene.watching("SET@*")
    await wasi(provider, "store.set", "a", b"1")
    await told(scene, ("a", b"1"))

    await provider.delete_link(link)
    await wasi(provider, "store.set", "b", b"2")
    # A link that is put again starts anew: what happened in between is nobody's.
    await provider.put_link(link)
    await wasi(provider, "store.set", "c", b"3")

    await told(scene, ("a", b"1"), ("c", b"3"))


@on(*BACKENDS)
async def test_a_link_that_changed_watches_what_it_says_now(scene: Scene) -> None:
    provider = await scene.watching("SET@a")

    await provider.put_link(keyvalue.watch_link("SET@b"))
    await wasi(provider, "store.set", "a", b"1")
    await wasi(provider, "store.set", "b", b"2")

    await told(scene, ("b", b"2"))


@on(*BACKENDS)
async def test_a_call_that_runs_is_ended_when_its_link_goes(scene: Scene) -> None:
    async def hang(_received: Received) -> bytes:
        await asyncio.Event().wait()
        raise AssertionError("it never ends by itself")

    scene.actor.answer = hang
    provider = await scene.watching("SET@*")
    await wasi(provider, "store.set", "a", b"1")
    await eventually(lambda: scene.actor.running.get("a"))

    await provider.delete_link(keyvalue.watch_link("SET@*"))

    assert scene.actor.running == {"a": 0}


@on(*BACKENDS)
async def test_a_provider_that_drains_lets_the_calls_that_run_end(scene: Scene) -> None:
    gate, ended = hold_calls(scene)
    provider = await scene.watching("SET@*")
    await wasi(provider, "store.set", "a", b"1")
    await eventually(lambda: scene.actor.running.get("a"))

    async with asyncio.TaskGroup() as group:
        group.create_task(provider.drain())
        await asyncio.sleep(0)
        gate.set()

    assert ended == [["default", "a", b"1"]]


@on(*SHARED)
async def test_of_several_copies_of_the_provider_one_tells(scene: Scene) -> None:
    copies = [await scene.watching("SET@*", in_flight_max="1") for _ in range(3)]

    for number, provider in enumerate(copies):
        await wasi(provider, "store.set", f"key{number}", b"x")

    await told(scene, *((f"key{number}", b"x") for number in range(3)))
    # All three copies had it to tell, had it been theirs.
    await wasi(copies[0], "store.set", "end", b"!")
    await eventually(lambda: scene.actor.told[-1] == ("end", b"!"))
    assert len(scene.actor.told) == 4


@on(*SHARED)
async def test_another_copy_goes_on_when_the_one_that_tells_ends(scene: Scene) -> None:
    first = await scene.watching("SET@*")
    second = await scene.watching("SET@*")
    await wasi(second, "store.set", "a", b"1")
    await told(scene, ("a", b"1"))

    await first.drain()
    await first.stop()

    for _ in range(600):
        # Not everywhere is told what happens before the other one has noticed.
        await wasi(second, "store.set", "b", b"2")
        if ("b", b"2") in scene.actor.told:
            break
        await asyncio.sleep(0.05)
    assert ("b", b"2") in scene.actor.told
    assert scene.actor.told.count(("a", b"1")) == 1


@on(*ORDERED)
async def test_what_changes_while_no_copy_tells_is_told_by_the_next(scene: Scene) -> None:
    first = await scene.watching("SET@*,DEL@*")
    await wasi(first, "store.set", "a", b"1")
    await told(scene, ("a", b"1"))
    second = await scene.copy()

    await first.drain()
    await first.stop()
    await wasi(second, "store.set", "b", b"2")
    await wasi(second, "store.delete", "a")
    await second.put_link(keyvalue.watch_link("SET@*,DEL@*"))

    await told_in_any_order(scene, {("a",), ("b", b"2")}, of=("a", "b"))
    assert len(scene.actor.told) == 3


@on(*ORDERED)
async def test_what_a_copy_had_not_told_when_it_was_killed_is_told_by_the_next(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duty, "LEASE_S", 2.0)
    monkeypatch.setattr(duty, "RENEW_S", 0.3)

    async def hang(_received: Received) -> bytes:
        await asyncio.Event().wait()
        raise AssertionError("it never ends by itself")

    writer = await scene.copy()
    # A copy whose connection is cut: it can neither renew its lease nor give it back.
    bus = await scene.bus()
    first = await scene.stack.enter_async_context(
        keyvalue.copy(bus, scene.actor, scene.config, host="N-killed")
    )
    await first.put_link(keyvalue.watch_link("SET@*"))
    await writer.put_link(keyvalue.watch_link("SET@*"))
    await wasi(writer, "store.set", "a", b"0")
    await told(scene, ("a", b"0"))
    scene.actor.answer = hang
    await wasi(writer, "store.set", "a", b"1")
    await eventually(lambda: scene.actor.running.get("a"))
    scene.actor.answer = keyvalue.taken

    await bus.aclose()

    # What was told since the last renewal is told again.
    await eventually(lambda: scene.actor.told.count(("a", b"1")) >= 2)


@on("memory")
async def test_changes_of_more_keys_than_are_held_are_counted(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watches, "NOTICED_MAX", 3)
    provider = await scene.watching("SET@*")

    with capture_logs() as logs:
        # In one go: the watch has no moment to take any of them.
        await wasi(provider, "batch.set-many", [[f"key{number}", b""] for number in range(5)])
        await eventually(lambda: len(scene.actor.told) == 3)

    (line,) = [each for each in logs if each["event"] == "changes were not told"]
    assert (line["count"], line["code"]) == (2, "overloaded")


@on("redis")
async def test_a_redis_that_tells_of_no_changes_is_refused_with_the_remedy(
    scene: Scene, redis_service: RedisServer
) -> None:
    redis_service.command('CONFIG SET notify-keyspace-events ""')

    with pytest.raises(errors.ProviderError, match="CONFIG SET notify-keyspace-events Kg\\$"):
        await scene.watching("SET@a")


@on("redis")
async def test_a_watch_begins_anew_when_redis_is_back(
    scene: Scene, redis_service: RedisServer
) -> None:
    provider = await scene.watching("SET@*")
    await wasi(provider, "store.set", "a", b"1")
    await told(scene, ("a", b"1"))

    redis_service.stop()
    await eventually(lambda: provider.links)
    await eventually_unhealthy(provider)
    redis_service.start()
    # A restarted server has forgotten what it was told: that is said, and mended when it is set.
    await eventually_unhealthy(provider, "notify-keyspace-events")
    redis_service.command("CONFIG SET notify-keyspace-events KA")
    await eventually_healthy(provider)

    await wasi(provider, "store.set", "b", b"2")
    await told(scene, ("a", b"1"), ("b", b"2"))


@on("redis")
async def test_a_call_that_runs_when_redis_goes_away_may_end(
    scene: Scene, redis_service: RedisServer
) -> None:
    gate, ended = hold_calls(scene)
    provider = await scene.watching("SET@*", in_flight_max="1")
    await wasi(provider, "store.set", "a", b"1")
    await eventually(lambda: scene.actor.running.get("a"))
    await wasi(provider, "store.set", "b", b"2")
    # Another's write has gone the whole way: so has the one before it.
    await wasi(provider, "store.set", "c", b"3")

    with capture_logs() as logs:
        redis_service.stop()
        await eventually_unhealthy(provider)
        gate.set()
        await eventually(lambda: [each for each in logs if each["event"] == "a watch broke off"])
        redis_service.start()

    assert ended == [["default", "a", b"1"]]


@on("nats")
async def test_a_watch_misses_nothing_while_nats_is_away(scene: Scene) -> None:
    provider = await scene.watching("SET@*")
    await wasi(provider, "store.set", "a", b"1")
    await told(scene, ("a", b"1"))

    await scene.restart()

    async def write() -> None:
        await wasi(provider, "store.set", "b", b"2")

    await eventually_done(write)
    await eventually(lambda: ("b", b"2") in scene.actor.told)
    assert scene.actor.told.count(("a", b"1")) == 1


async def eventually_done(write: Any) -> None:
    for _ in range(600):
        try:
            await write()
        except errors.LatticeError:
            await asyncio.sleep(0.05)
        else:
            return
    raise AssertionError("it was not done in time")


async def eventually_unhealthy(provider: KeyValue, part: str = "") -> None:
    for _ in range(600):
        health = await provider.health()
        if not health.healthy and part in (health.message or ""):
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"it never said that it is unhealthy: {health}")


async def eventually_healthy(provider: KeyValue) -> None:
    for _ in range(600):
        if (await provider.health()).healthy:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(await provider.health())


@pytest.mark.parametrize(
    ("link", "text"),
    [
        (keyvalue.watch_link(""), "watches nothing"),
        (keyvalue.watch_link("GET@a"), "want SET@KEY or DEL@KEY"),
        (keyvalue.watch_link("SET@"), "want SET@KEY or DEL@KEY"),
        (keyvalue.watch_link(",".join(f"SET@{n}" for n in range(101))), "limit of 100"),
        (
            keyvalue.watch_link("SET@a").model_copy(update={"interfaces": ["store"]}),
            "the provider is the target",
        ),
        (
            keyvalue.store_link().model_copy(update={"interfaces": ["watcher"]}),
            "has the provider as its source",
        ),
    ],
    ids=["nothing", "operation", "key", "too-many", "interface", "direction"],
)
@on("memory")
async def test_a_link_that_makes_no_sense_is_refused(scene: Scene, link: Link, text: str) -> None:
    provider = await scene.copy()

    with pytest.raises(errors.InvalidRequest, match=text):
        await provider.put_link(link)

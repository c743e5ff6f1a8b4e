"""Links, their backends, and what callers hear when a backend is away."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgpack
import pytest

from lattice import errors
from lattice.bus import Bus
from providers.keyvalue.provider import KeyValue
from providers.sdk import Call, Link
from tests.support.eventually import eventually, eventually_available
from tests.support.nats_server import connected, nats_server
from tests.support.provider_context import FakeContext
from tests.support.redis_server import RedisServer, frozen, redis_server


def link(
    source: str = "counter",
    *,
    namespace: str = "wasmcloud",
    package: str = "keyvalue",
    **config: str,
) -> Link:
    return Link(
        source_id=source,
        target="kv",
        wit_namespace=namespace,
        wit_package=package,
        target_config=config,
    )


async def ask(
    provider: KeyValue, over: Link, operation: str, payload: Any, *, timeout_s: float = 10.0
) -> Any:
    call = Call(
        source=over.source_id,
        link=over,
        interface="wasmcloud:keyvalue",
        operation=f"KeyValue.{operation}",
        payload=msgpack.packb(payload),
        deadline=asyncio.get_running_loop().time() + timeout_s,
    )
    reply = await provider.handle(call)
    return msgpack.unpackb(reply) if reply else None


async def ask_wasi(provider: KeyValue, over: Link, operation: str, *arguments: Any) -> Any:
    call = Call(
        source=over.source_id,
        link=over,
        interface=f"wasi:keyvalue/{operation.partition('.')[0]}",
        operation=operation,
        payload=msgpack.packb(arguments),
        deadline=asyncio.get_running_loop().time() + 10,
    )
    return msgpack.unpackb(await provider.handle(call))["ok"]


async def increment(provider: KeyValue, over: Link, *, timeout_s: float = 10.0) -> Any:
    return await ask(provider, over, "Increment", {"key": "n", "value": 1}, timeout_s=timeout_s)


@asynccontextmanager
async def started(config: dict[str, str], bus: Bus | None = None) -> AsyncIterator[KeyValue]:
    provider = KeyValue()
    try:
        await provider.start(FakeContext("kv", bus), config)
        yield provider
    finally:
        await provider.stop()


@pytest.fixture
async def provider() -> AsyncIterator[KeyValue]:
    async with started({"backend": "memory"}) as provider:
        yield provider


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


async def works_again(provider: KeyValue, over: Link) -> None:
    await eventually_available(lambda: ask(provider, over, "Contains", "n", timeout_s=2))


async def test_a_call_goes_to_the_backend_of_its_link(provider: KeyValue) -> None:
    over = link()
    await provider.put_link(over)
    assert await increment(provider, over) == 1
    assert await increment(provider, over) == 2


async def test_a_call_over_no_link_names_the_command_that_puts_one(provider: KeyValue) -> None:
    with pytest.raises(errors.NoLink, match="lattice link put counter kv wasmcloud keyvalue"):
        await increment(provider, link())


async def test_a_link_that_is_refused_leads_nowhere_any_more(provider: KeyValue) -> None:
    await provider.put_link(link())
    with pytest.raises(errors.InvalidRequest, match="'etcd' is not one of"):
        await provider.put_link(link(backend="etcd"))
    with pytest.raises(errors.NoLink):
        await increment(provider, link())


async def test_a_link_with_the_provider_as_its_source_is_refused(provider: KeyValue) -> None:
    turned = link().model_copy(update={"source_id": "kv", "target": "counter"})
    with pytest.raises(
        errors.InvalidRequest, match="lattice link put counter kv wasmcloud keyvalue"
    ):
        await provider.put_link(turned)


async def test_a_link_of_another_contract_is_refused(provider: KeyValue) -> None:
    with pytest.raises(
        errors.InvalidRequest, match="keyvalue and wasi:keyvalue, not wasmcloud:sql"
    ):
        await provider.put_link(link(package="sql"))


async def test_links_of_both_interfaces_share_what_they_name(provider: KeyValue) -> None:
    old, new = link("old"), link("new", namespace="wasi")
    await provider.put_link(old)
    await provider.put_link(new)
    assert await increment(provider, old) == 1
    assert await ask_wasi(provider, new, "atomics.increment", "n", 1) == 2
    with pytest.raises(errors.InvalidRequest, match="wasi:keyvalue has no operation"):
        await increment(provider, new)
    with pytest.raises(errors.InvalidRequest, match="wasmcloud:keyvalue has no operation"):
        await ask_wasi(provider, old, "store.get", "n")


async def test_a_link_reaches_the_bucket_that_it_names_and_no_other(
    redis: RedisServer, tmp_path: Path
) -> None:
    async with (
        nats_server() as server,
        connected(server) as bus,
        started({"sqlite_directory": str(tmp_path)}, bus) as provider,
    ):
        backends: list[tuple[dict[str, str], dict[str, str]]] = [
            ({"backend": kind, "bucket": "one"}, {"backend": kind, "bucket": "two"})
            for kind in ("memory", "nats", "sqlite")
        ]
        backends.append(({"url": redis.url}, {"url": f"{redis.url}/1"}))
        for here, elsewhere in backends:
            one, two = link("one", namespace="wasi", **here), link("two", **elsewhere)
            again = link("again", **here)
            for each in (one, two, again):
                await provider.put_link(each)
            await ask_wasi(provider, one, "store.set", "k", b"1")
            assert await ask(provider, two, "Contains", "k") is False
            assert await ask(provider, again, "Contains", "k") is True
        assert (await provider.health()).healthy


async def test_a_link_put_again_or_anew_finds_its_data(provider: KeyValue) -> None:
    await provider.put_link(link())
    await increment(provider, link())
    await provider.put_link(link())
    assert await increment(provider, link()) == 2
    await provider.delete_link(link())
    with pytest.raises(errors.NoLink):
        await increment(provider, link())
    await provider.put_link(link())
    assert await increment(provider, link()) == 3


async def test_deleting_an_unknown_link_makes_no_difference(provider: KeyValue) -> None:
    await provider.delete_link(link())


async def test_a_wrong_configuration_keeps_the_provider_from_starting() -> None:
    for config in ({"backend": "etcd"}, {"items_max": "none"}):
        with pytest.raises(errors.InvalidRequest):
            async with started(config):
                pass


async def test_a_changed_configuration_takes_effect_and_a_wrong_one_does_not(
    provider: KeyValue,
) -> None:
    over = link()
    await provider.put_link(over)
    await ask(provider, over, "ListAdd", {"listName": "l", "value": "a"})
    await provider.update_config({"backend": "memory", "items_max": "1"})
    await provider.put_link(over)
    with pytest.raises(errors.InvalidRequest, match="at its limit of 1 items"):
        await ask(provider, over, "ListAdd", {"listName": "l", "value": "a"})

    with pytest.raises(errors.InvalidRequest, match="backend"):
        await provider.update_config({"backend": "etcd"})
    assert await ask(provider, over, "ListRange", {"listName": "l", "start": 0, "stop": -1}) == [
        "a"
    ]


async def test_a_changed_configuration_moves_links_without_one_of_their_own(
    redis: RedisServer,
) -> None:
    async with started({"backend": "memory"}) as provider:
        moved, fixed = link("moved"), link("fixed", backend="memory")
        for each in (moved, fixed):
            await provider.put_link(each)
        await increment(provider, fixed)
        await provider.update_config({"url": redis.url})
        for each in (moved, fixed):
            await provider.put_link(each)
        assert await increment(provider, moved) == 1
        assert await increment(provider, fixed) == 2
        assert "$1\r\n1" in redis.command("GET n")


async def test_links_with_one_configuration_share_connections_and_the_last_closes_them(
    redis: RedisServer,
) -> None:
    async with started({}) as provider:
        one, two = link("one", url=redis.url), link("two", URL=redis.url)
        other = link("other", url=f"{redis.url}/1")
        for each in (one, two, other):
            await provider.put_link(each)
        assert redis.connections == 0
        assert [await increment(provider, each) for each in (one, two, other)] == [1, 2, 1]
        assert redis.connections == 2

        await provider.delete_link(one)
        assert await increment(provider, two) == 3
        await provider.delete_link(two)
        await provider.delete_link(other)

        await eventually(lambda: redis.connections == 0)


async def test_a_call_that_runs_outlives_its_link(redis: RedisServer) -> None:
    async with started({"backend_response_timeout_ms": "60000"}) as provider:
        over = link(url=redis.url)
        await provider.put_link(over)
        await increment(provider, over)
        with redis.frozen():
            running = asyncio.ensure_future(increment(provider, over))
            await asyncio.sleep(0)
            await provider.delete_link(over)
        assert await running == 2


async def test_a_silent_redis_is_unavailable_before_the_deadline_and_then_works_again(
    redis: RedisServer,
) -> None:
    async with started({"backend_response_timeout_ms": "60000"}) as provider:
        over = link(url=redis.url)
        await provider.put_link(over)
        await increment(provider, over)
        with redis.frozen():
            with pytest.raises(errors.Unavailable, match=f"redis at 127.0.0.1:{redis.port}/0"):
                await increment(provider, over, timeout_s=0.5)
            health = await provider.health()
            assert not health.healthy
            assert health.message == f"redis at 127.0.0.1:{redis.port}/0 does not answer"
        await works_again(provider, over)
        assert (await provider.health()).healthy


async def test_a_redis_that_went_away_is_unavailable_and_then_works_again(
    redis: RedisServer,
) -> None:
    async with started({}) as provider:
        over = link(url=redis.url)
        await provider.put_link(over)
        await asyncio.gather(*(increment(provider, over) for _ in range(20)))
        redis.stop()
        for _ in range(3):
            with pytest.raises(errors.Unavailable, match=r"redis at .* does not answer"):
                await increment(provider, over)
        redis.start()
        # Every connection of the pool is dead, and none of them costs a call.
        assert sorted(
            await asyncio.gather(*(increment(provider, over) for _ in range(20)))
        ) == list(range(1, 21))


async def test_a_link_to_a_redis_that_is_down_is_taken(redis: RedisServer) -> None:
    redis.stop()
    async with started({}) as provider:
        over = link(url=redis.url)
        await provider.put_link(over)
        with pytest.raises(errors.Unavailable):
            await increment(provider, over)
        redis.start()
        assert await increment(provider, over) == 1


async def test_health_names_the_backend_that_is_down_and_only_that(redis: RedisServer) -> None:
    async with started({"backend": "memory"}) as provider:
        assert (await provider.health()).healthy
        await provider.put_link(link("one"))
        await provider.put_link(link("two", url=redis.url))
        redis.stop()
        health = await provider.health()
        assert not health.healthy
        assert health.message is not None
        assert health.message.startswith(f"redis at 127.0.0.1:{redis.port}/0 does not answer: ")
        assert "memory" not in health.message


async def test_without_the_redis_extra_a_link_says_how_to_get_it(
    provider: KeyValue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "providers.keyvalue.stores.redis", raising=False)
    monkeypatch.setitem(sys.modules, "redis", None)
    monkeypatch.delitem(sys.modules, "redis.asyncio", raising=False)
    with pytest.raises(errors.ProviderError, match=r"pip install 'lattice-runtime\[redis\]'"):
        await provider.put_link(link(backend="redis"))


async def test_nats_links_share_a_bucket_only_when_they_name_the_same() -> None:
    async with nats_server() as server, connected(server) as bus, started({}, bus) as provider:
        one, two, other = link("one"), link("two"), link("other", bucket="carts")
        for each in (one, two, other):
            await provider.put_link(each)
        assert [await increment(provider, each) for each in (one, two, other)] == [1, 2, 1]
        assert (await provider.health()).healthy


async def test_a_silent_nats_is_unavailable_before_the_deadline_and_then_works_again() -> None:
    async with nats_server() as server, connected(server) as bus, started({}, bus) as provider:
        over = link()
        await provider.put_link(over)
        await increment(provider, over)
        with (
            frozen(server.pid),
            pytest.raises(errors.Unavailable, match="NATS bucket LATTICEKV_default"),
        ):
            await increment(provider, over, timeout_s=0.5)
        await works_again(provider, over)


async def test_a_nats_that_went_away_is_unavailable_and_then_works_again(tmp_path: Path) -> None:
    async with nats_server(store_dir=tmp_path) as server:
        port = urlsplit(server.url).port
        assert port is not None
        async with connected(server) as bus, started({}, bus) as provider:
            over = link()
            await provider.put_link(over)
            assert await increment(provider, over) == 1
            await server.aclose()
            with pytest.raises(errors.Unavailable):
                await increment(provider, over)
            health = await provider.health()
            assert not health.healthy
            assert "NATS bucket LATTICEKV_default" in (health.message or "")
            async with nats_server(store_dir=tmp_path, port=port):
                await works_again(provider, over)
                assert await increment(provider, over) == 2

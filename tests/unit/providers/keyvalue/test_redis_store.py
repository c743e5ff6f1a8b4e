"""What only the Redis store can get wrong: repeated commands, refusals, foreign data."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest

from lattice import errors
from providers.keyvalue import settings
from providers.keyvalue.bounds import Bounds
from providers.keyvalue.settings import RedisSettings
from providers.keyvalue.stores.redis import RedisStore
from tests.support.redis_server import RedisServer, redis_server

PATIENCE_S = 20.0


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


def settings_of(server: RedisServer, *, url: str | None = None) -> RedisSettings:
    parsed = settings.parse({}, {"url": url or server.url}, lattice="default")
    assert isinstance(parsed, RedisSettings)
    return parsed


@pytest.fixture
async def store(server: RedisServer) -> AsyncIterator[RedisStore]:
    store = RedisStore(settings_of(server), Bounds())
    yield store
    await store.aclose()
    await store.aclose()


async def test_keys_are_the_plain_ones_that_wasmcloud_used(
    server: RedisServer, store: RedisStore
) -> None:
    server.command('SET "old key" 41')
    assert await store.increment("old key", 1) == 42
    await store.list_add("l", "a")
    await store.set_add("s", "a")
    await store.set("t", b"a", expires_s=100)
    assert server.command("LRANGE l 0 -1") == "*1\r\n$1\r\na\r\n"
    assert server.command("SMEMBERS s") == "*1\r\n$1\r\na\r\n"
    assert server.command("TTL t") in (":100\r\n", ":99\r\n")


async def test_a_command_whose_outcome_is_unknown_is_not_repeated(server: RedisServer) -> None:
    store = RedisStore(replace(settings_of(server), response_timeout_s=0.1), Bounds())
    assert await store.increment("n", 1) == 1
    with server.frozen(), pytest.raises(errors.Unavailable):
        await store.increment("n", 1)
    # The server executes what reached it, once; a repetition would have made it more.
    give_up = time.monotonic() + PATIENCE_S
    while server.command("GET n") != "$1\r\n2\r\n":
        assert time.monotonic() < give_up
        await asyncio.sleep(0.02)
    assert await store.increment("n", 1) == 3
    await store.aclose()


async def test_no_more_connections_than_allowed_are_opened(server: RedisServer) -> None:
    store = RedisStore(replace(settings_of(server), connections_max=2), Bounds())
    assert len(await asyncio.gather(*(store.increment("n", 1) for _ in range(50)))) == 50
    assert server.connections == 2
    await store.aclose()


async def test_scripts_are_taught_anew_to_a_server_that_forgot_them(
    server: RedisServer, store: RedisStore
) -> None:
    assert await store.increment("n", 1) == 1
    server.command("SCRIPT FLUSH")
    assert await store.increment("n", 1) == 2


async def test_refused_credentials_are_denied_and_not_shown(server: RedisServer) -> None:
    server.command("CONFIG SET requirepass hunter2")
    for url in (server.url, server.url.replace("//", "//:wrong@")):
        store = RedisStore(settings_of(server, url=url), Bounds())
        with pytest.raises(errors.Denied) as caught:
            await store.get("k")
        assert "wrong@" not in caught.value.text
        await store.aclose()

    store = RedisStore(settings_of(server, url=server.url.replace("//", "//:hunter2@")), Bounds())
    assert await store.get("k") is None
    await store.aclose()


async def test_a_command_that_the_user_may_not_use_is_denied(
    server: RedisServer, store: RedisStore
) -> None:
    server.command("ACL SETUSER default -set -exists")
    with pytest.raises(errors.Denied, match="refused"):
        await store.set("k", b"v", expires_s=0)
    with pytest.raises(errors.Denied, match="refused"):
        await store.contains("k")


async def test_a_full_server_is_an_error_of_the_provider(
    server: RedisServer, store: RedisStore
) -> None:
    server.command("CONFIG SET maxmemory 1")
    with pytest.raises(errors.ProviderError, match="maxmemory"):
        await store.set("k", b"v", expires_s=0)
    with pytest.raises(errors.ProviderError, match="maxmemory"):
        await store.list_add("k", "v")
    with pytest.raises(errors.ProviderError, match="maxmemory"):
        await store.set_many([("a", b"v"), ("b", b"v")])
    with pytest.raises(errors.ProviderError, match="maxmemory"):
        await store.swap("k", None, b"v")
    assert server.command("DBSIZE") == ":0\r\n"


async def test_a_full_server_does_not_keep_a_key_from_being_deleted(
    server: RedisServer, store: RedisStore
) -> None:
    await store.set_many([("a", b"v"), ("b", b"v"), ("c", b"v")])
    server.command("CONFIG SET maxmemory 1")
    assert await store.delete("a")
    await store.delete_many(["b", "c"])
    assert server.command("DBSIZE") == ":0\r\n"


async def test_a_user_of_some_keys_only_can_work_on_them(
    server: RedisServer, store: RedisStore
) -> None:
    server.command("ACL SETUSER default resetkeys ~app:*")
    await store.set("app:k", b"a", expires_s=0)
    assert await store.swap("app:k", (await store.current("app:k")).version, b"b") is None
    assert await store.get_many(["app:k"]) == [b"b"]
    with pytest.raises(errors.Denied):
        await store.set("k", b"a", expires_s=0)


async def test_what_makes_versions_is_beside_the_key_only_while_somebody_may_swap(
    server: RedisServer, store: RedisStore
) -> None:
    await store.set("k", b"a", expires_s=0)
    version = (await store.current("k")).version
    assert server.command("DBSIZE") == ":2\r\n"
    assert server.command(r'TTL "k\xff"') in (":3600\r\n", ":3599\r\n")
    assert (await store.list_keys(None)).keys == ["k"]
    assert await store.swap("k", version, b"b") is None
    assert server.command("DBSIZE") == ":1\r\n"


async def test_what_another_program_writes_is_seen_by_its_value(
    server: RedisServer, store: RedisStore
) -> None:
    await store.set("k", b"a", expires_s=0)
    version = (await store.current("k")).version
    server.command("SET k b")
    lost = await store.swap("k", version, b"c")
    assert lost is not None
    assert lost.value == b"b"


async def test_a_version_that_was_forgotten_matches_nothing(
    server: RedisServer, store: RedisStore
) -> None:
    await store.set("k", b"a", expires_s=0)
    version = (await store.current("k")).version
    server.command(r'DEL "k\xff"')
    lost = await store.swap("k", version, b"c")
    assert lost is not None
    assert lost.value == b"a"
    assert await store.swap("k", lost.version, b"c") is None


async def test_names_that_are_not_text_are_not_listed(
    server: RedisServer, store: RedisStore
) -> None:
    server.command(r'SET "\xffk" a')
    server.command('SET "" a')
    server.command("SET k a")
    assert (await store.list_keys(None)).keys == ["k"]


async def test_bytes_that_are_not_text_are_an_error_of_the_provider(
    server: RedisServer, store: RedisStore
) -> None:
    server.command(r'SET k "\xff"')
    server.command(r'RPUSH l "\xff"')
    server.command(r'SADD s "\xff"')
    assert await store.get("k") == b"\xff"
    for reading in (store.list_range("l", 0, -1), store.set_union(["s"])):
        with pytest.raises(errors.ProviderError, match="not UTF-8 text"):
            await reading


async def test_what_others_made_too_large_is_refused_and_not_read(server: RedisServer) -> None:
    store = RedisStore(settings_of(server), Bounds(items_max=2, reply_bytes_max=5))
    server.command("SET k 123456")
    server.command("RPUSH l a b c d")
    server.command("SADD s a b c d")
    with pytest.raises(errors.PayloadTooLarge, match="6 bytes, over the limit of 5"):
        await store.get("k")
    with pytest.raises(errors.InvalidRequest, match="more items than one reply"):
        await store.list_range("l", 0, -1)
    with pytest.raises(errors.InvalidRequest, match="'s' holds more items"):
        await store.set_union(["missing", "s"])
    assert await store.list_range("l", 2, 3) == ["c", "d"]
    assert await store.list_del("l", "a")
    await store.aclose()


def test_an_option_that_the_library_refuses_is_a_wrong_url() -> None:
    parsed = settings.parse({}, {"url": "rediss://h?ssl_cert_reqs=perhaps"}, lattice="default")
    assert isinstance(parsed, RedisSettings)
    with pytest.raises(
        errors.InvalidRequest, match="redis at h:6379/0: the url has a wrong option"
    ):
        RedisStore(parsed, Bounds())

"""What a NATS server and its JetStream say of themselves."""

from pathlib import Path

import pytest

from lattice import errors, limits
from lattice.bus import Bus, NatsSettings
from lattice.bus.server import NatsServer
from tests.support.configured_nats import configured_nats
from tests.support.nats_server import connected, nats_server


async def test_a_server_says_what_it_is(nats: NatsServer) -> None:
    async with connected(nats) as bus:
        assert bus.server.version.startswith("2.")
        assert bus.server.max_payload == bus.max_payload
        assert bus.server.jetstream


async def test_an_account_says_what_it_holds() -> None:
    async with nats_server() as server, connected(server) as bus:
        await (await bus.bucket("ONE")).put("key", b"x" * 1000)
        await bus.objects("TWO", bytes_max=1_000_000)

        facts = await bus.account.facts()
        streams = {stream.name: stream for stream in await bus.account.streams()}

        assert facts.storage.used > 1000
        assert facts.streams.used == 2
        assert streams.keys() == {"KV_ONE", "OBJ_TWO"}
        assert streams["KV_ONE"].messages == 1
        assert streams["OBJ_TWO"].size.limit == 1_000_000


async def test_the_keys_of_a_bucket_are_listed_and_it_is_not_made_by_that() -> None:
    async with nats_server() as server, connected(server) as bus:
        bucket = await bus.bucket("ONE")
        assert await bus.account.keys("ONE") == []
        for key in ("b", "a", "gone"):
            await bucket.put(key, b"x")
        await bucket.delete("gone")

        assert await bus.account.keys("ONE") == ["a", "b"]
        assert await bus.account.keys("NONE") == []
        assert [stream.name for stream in await bus.account.streams()] == ["KV_ONE"]


async def test_without_jetstream_an_account_says_so(tmp_path: Path) -> None:
    async with configured_nats(tmp_path) as url:
        bus = await Bus.connect(NatsSettings(servers=(url,)), name="test")
        try:
            assert not bus.server.jetstream
            with pytest.raises(errors.Unavailable, match="--jetstream"):
                await bus.account.facts()
        finally:
            await bus.aclose()


async def test_an_account_with_limits_says_how_much_is_left(tmp_path: Path) -> None:
    configuration = f"""
    jetstream {{ store_dir: "{tmp_path}/store" }}
    accounts {{ A: {{
      jetstream: {{ max_file: 10MB, max_mem: 1MB, max_streams: 3 }}
      users: [{{ user: a, password: b }}]
    }} }}
    """
    async with configured_nats(tmp_path, configuration) as url:
        bus = await Bus.connect(NatsSettings(servers=(url.replace("//", "//a:b@"),)), name="test")
        try:
            facts = await bus.account.facts()
        finally:
            await bus.aclose()

    assert facts.streams.limit == 3
    assert facts.storage.limit == 10 * limits.MIB

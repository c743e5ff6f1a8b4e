"""The bus's way to streams: stored once, pulled as many as wanted, settled for good."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lattice import errors
from lattice.bus import Bus, NatsSettings, PullConsumer, StoredMessage
from tests.support import messaging
from tests.support.configured_nats import configured_nats
from tests.support.eventually import eventually
from tests.support.nats_server import connected, nats_server

V2 = "feature_flags { js_ack_fc_v2: true }"
"""Acknowledgements whose subjects name domain and account before the stream."""


@dataclass
class Scene:
    bus: Bus
    url: str
    received: list[StoredMessage] = field(default_factory=list)

    async def consumer(self) -> PullConsumer:
        return await self.bus.consumer("ORDERS", "workers", self.received.append, ack_wait_s=60)

    async def store(self, count: int) -> None:
        for number in range(count):
            await self.bus.publish_stored(
                "orders.new", b"%d" % number, message_id=str(number), deadline=self.soon()
            )

    def soon(self) -> float:
        return asyncio.get_running_loop().time() + 10

    async def unsettled(self) -> tuple[int, int]:
        return await messaging.unsettled(self.url, "ORDERS", "workers")


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with nats_server() as server, connected(server) as bus:
        await messaging.make_stream(server.url, "ORDERS", "orders.>")
        yield Scene(bus, server.url)


async def test_a_pull_brings_what_is_there_and_ends_with_the_last(scene: Scene) -> None:
    consumer = await scene.consumer()
    await scene.store(5)

    await consumer.pull(3)
    assert [message.body for message in scene.received] == [b"0", b"1", b"2"]
    assert await scene.unsettled() == (2, 3)
    await consumer.pull(2)

    assert [message.sequence for message in scene.received] == [1, 2, 3, 4, 5]
    assert {message.deliveries for message in scene.received} == {1}


async def test_a_pull_hands_over_each_message_as_it_comes(scene: Scene) -> None:
    consumer = await scene.consumer()
    pulling = asyncio.create_task(consumer.pull(10))

    await scene.store(1)
    await eventually(lambda: scene.received)

    assert not pulling.done()
    pulling.cancel()


async def test_a_pull_that_finds_nothing_ends_by_itself(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lattice.bus.streams.PULL_S", 0.05)
    consumer = await scene.consumer()

    await consumer.pull(10)

    assert scene.received == []


async def test_a_pull_fails_when_the_connection_is_lost(scene: Scene) -> None:
    consumer = await scene.consumer()
    pulling = asyncio.create_task(consumer.pull(10))
    await eventually(lambda: scene.bus.statistics().pending == 1)

    await scene.bus._client.replace()

    with pytest.raises(errors.Unavailable):
        await pulling
    assert scene.bus.statistics().pending == 0


async def test_a_pull_fails_when_its_consumer_is_gone(scene: Scene) -> None:
    consumer = await scene.consumer()
    pulling = asyncio.create_task(consumer.pull(10))
    await eventually(lambda: scene.bus.statistics().pending == 1)
    await scene.bus.flush()

    await scene.bus._jetstream.delete_consumer("ORDERS", "workers")
    with pytest.raises(errors.Unavailable, match="workers"):
        await pulling
    with pytest.raises(errors.Unavailable, match="workers"):
        await consumer.pull(1)


async def test_what_is_given_back_comes_again_and_what_is_given_up_does_not(scene: Scene) -> None:
    consumer = await scene.consumer()
    await scene.store(3)
    await consumer.pull(3)
    first, second, third = scene.received

    await first.acknowledge()
    await second.give_back()
    await third.give_up()
    await consumer.pull(1)

    assert (scene.received[-1].body, scene.received[-1].deliveries) == (b"1", 2)
    await scene.received[-1].give_back(3600)
    await scene.bus.flush()
    assert await scene.unsettled() == (0, 1)


async def test_a_message_is_stored_once_for_each_id(scene: Scene) -> None:
    stored = [
        await scene.bus.publish_stored("orders.new", b"x", message_id="7", deadline=scene.soon())
        for _ in range(2)
    ]

    assert [each.is_duplicate for each in stored] == [False, True]
    assert {(each.stream, each.sequence) for each in stored} == {("ORDERS", 1)}


async def test_the_stream_that_keeps_a_subject_is_found(scene: Scene) -> None:
    assert await scene.bus.stream_of("orders.new") == "ORDERS"
    assert await scene.bus.stream_of("elsewhere") is None


@pytest.mark.parametrize("domain", ["", "domain: hub"])
@pytest.mark.parametrize("flags", ["", V2])
async def test_messages_are_settled_however_the_server_names_acknowledgements(
    tmp_path: Path, flags: str, domain: str
) -> None:
    configuration = f'jetstream {{ store_dir: "{tmp_path}"\n{domain} }}\n{flags}'
    async with configured_nats(tmp_path, configuration) as url:
        await messaging.make_stream(url, "ORDERS", "orders.>")
        bus = await Bus.connect(NatsSettings(servers=(url,)), name="test")
        try:
            scene = Scene(bus, url)
            consumer = await scene.consumer()
            await scene.store(2)
            await consumer.pull(2)
            for message in scene.received:
                await message.extend()
                await message.acknowledge()
            await bus.flush()

            assert [message.sequence for message in scene.received] == [1, 2]
            assert [message.deliveries for message in scene.received] == [1, 1]
            assert await scene.unsettled() == (0, 0)
        finally:
            await bus.aclose()

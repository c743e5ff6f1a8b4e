"""What core subjects and streams promise alike to a link's actor, on a real nats-server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial

import pytest

from lattice import errors
from lattice.bus import Bus
from lattice.bus.server import NatsServer
from providers.messaging.provider import Messaging
from providers.sdk import Link
from tests.support import messaging
from tests.support.eventually import eventually
from tests.support.messaging import HANDLED, Actor, Received
from tests.support.nats_server import connected, nats_server

ON_BOTH_LOOPS = pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])

MODES = {
    "core": {"subscriptions": "orders.>"},
    "jetstream": {"subscriptions": "orders.>", "stream": "ORDERS", "consumer": "workers"},
}


@dataclass
class Scene:
    """A server, an actor, and copies of the provider with links in one mode."""

    mode: str
    server: NatsServer
    stack: AsyncExitStack
    actor: Actor = field(default_factory=Actor)
    publisher: Bus = field(init=False)

    async def copy(self) -> Messaging:
        """One more copy of the provider, with a connection of its own."""
        bus = await self.stack.enter_async_context(connected(self.server))
        return await self.stack.enter_async_context(messaging.provider(bus, self.actor))

    def link(self, **config: str) -> Link:
        return messaging.handler_link(**MODES[self.mode] | config)

    async def publish(self, *bodies: bytes, subject: str = "orders.new") -> None:
        for body in bodies:
            await self.publisher.publish(subject, body)
        await self.publisher.flush()


@pytest.fixture(params=sorted(MODES))
async def scene(request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(nats_server())
        scene = Scene(request.param, server, stack)
        scene.publisher = await stack.enter_async_context(connected(server))
        await messaging.make_stream(server.url, "ORDERS", "orders.>")
        yield scene


@ON_BOTH_LOOPS
async def test_a_message_reaches_the_actor_as_it_was_sent(scene: Scene) -> None:
    await (await scene.copy()).put_link(scene.link(timeout_ms="1234"))

    await scene.publish(b"\x00\xff", subject="orders.new.7")

    await eventually(lambda: scene.actor.ended)
    (call,) = scene.actor.calls
    assert (call.target, call.interface) == (messaging.ACTOR, "wasmcloud:messaging/handler")
    assert call.operation == "handler.handle-message"
    assert call.content == [{"subject": "orders.new.7", "body": b"\x00\xff", "reply-to": None}]
    assert call.timeout_s == 1.234


async def test_an_actor_of_a_link_without_interfaces_gets_the_older_contract(scene: Scene) -> None:
    link = scene.link().model_copy(update={"interfaces": []})
    await (await scene.copy()).put_link(link)

    await scene.publish(b"one")

    await eventually(lambda: scene.actor.ended)
    (call,) = scene.actor.calls
    assert (call.interface, call.operation) == (
        "wasmcloud:messaging",
        "MessageSubscriber.HandleMessage",
    )
    assert call.content == {"subject": "orders.new", "body": b"one"}


async def test_copies_of_the_provider_share_the_messages_of_a_link(scene: Scene) -> None:
    for _ in range(3):
        await (await scene.copy()).put_link(scene.link())
    bodies = [str(number).encode() for number in range(50)]

    await scene.publish(*bodies)

    await eventually(lambda: len(scene.actor.ended) >= len(bodies))
    assert sorted(scene.actor.bodies) == sorted(bodies)


async def test_an_actor_has_no_more_messages_than_its_link_allows(scene: Scene) -> None:
    gate = asyncio.Event()

    async def wait(_received: Received) -> bytes:
        await gate.wait()
        return HANDLED

    scene.actor.answer = wait
    await (await scene.copy()).put_link(scene.link(in_flight_max="3"))
    bodies = [str(number).encode() for number in range(20)]
    await scene.publish(*bodies)
    await eventually(lambda: scene.actor.running == 3)

    gate.set()

    await eventually(lambda: len(scene.actor.ended) == len(bodies))
    assert scene.actor.most_running == 3
    assert sorted(scene.actor.bodies) == sorted(bodies)


async def test_a_link_that_is_gone_brings_nothing_more_and_what_runs_is_finished(
    scene: Scene,
) -> None:
    gate = asyncio.Event()

    async def wait(_received: Received) -> bytes:
        await gate.wait()
        return HANDLED

    scene.actor.answer = wait
    running = await scene.copy()
    await running.put_link(scene.link())
    await scene.publish(b"before")
    await eventually(lambda: scene.actor.running == 1)

    await running.delete_link(scene.link())
    # During the first the end of the interest is sent; after the second the server knows it.
    for _ in range(2):
        await running.context.bus.flush()
    await scene.publish(b"after")
    gate.set()
    await running.drain()

    assert [call.body for call in scene.actor.ended] == [b"before"]
    assert scene.actor.bodies == [b"before"]


async def test_a_changed_link_loses_none_of_its_messages(scene: Scene) -> None:
    running = await scene.copy()
    await running.put_link(scene.link())
    bodies = [str(number).encode() for number in range(200)]

    for number, body in enumerate(bodies):
        if number % 20 == 0:
            await running.put_link(scene.link(timeout_ms=str(1000 + number)))
        await scene.publish(body)

    await eventually(lambda: len(scene.actor.ended) >= len(bodies))
    assert sorted(scene.actor.bodies) == sorted(bodies)


async def test_a_message_that_fails_holds_up_none_of_the_others(scene: Scene) -> None:
    async def fail_some(received: Received) -> bytes:
        if received.body == b"bad":
            raise errors.ActorTrapped("unreachable")
        return HANDLED

    scene.actor.answer = fail_some
    await (await scene.copy()).put_link(scene.link(in_flight_max="1", retry_ms="60000"))

    await scene.publish(b"bad", b"good")

    await eventually(lambda: [call.body for call in scene.actor.ended] == [b"good"])


async def test_a_large_message_is_brought_whole(scene: Scene) -> None:
    await (await scene.copy()).put_link(scene.link())
    body = b"x" * (scene.publisher.max_payload - 1000)

    await scene.publish(body)

    await eventually(lambda: scene.actor.ended)
    assert scene.actor.bodies == [body]


async def test_messages_come_again_after_the_server_was_away(scene: Scene) -> None:
    running = await scene.copy()
    await running.put_link(scene.link())
    await scene.publish(b"before")
    await eventually(lambda: scene.actor.ended)

    for bus in (scene.publisher, running.context.bus):
        await bus._client.replace()
        await eventually(partial(getattr, bus, "is_connected"))
        await bus.flush()
    await scene.publish(b"after")

    await eventually(lambda: b"after" in scene.actor.bodies)


@pytest.mark.parametrize(
    "pattern",
    [
        *(">", "*.new", "wasmbus.>", "wasmbus.rpc.default.*.call.*", "lattice.evt.default.>"),
        *("wadm.api.>", "$SYS.>", "$JS.ACK.>", "$KV.LATTICEDATA_default.>", "_INBOX.>", "_R_.>"),
    ],
)
async def test_a_link_can_not_read_what_the_lattice_and_nats_say_to_themselves(
    scene: Scene, pattern: str
) -> None:
    running = await scene.copy()

    with pytest.raises(errors.Denied):
        await running.put_link(scene.link(subscriptions=pattern))


async def test_a_link_that_is_refused_brings_nothing_any_more(scene: Scene) -> None:
    running = await scene.copy()
    await running.put_link(scene.link())

    with pytest.raises(errors.Denied):
        await running.put_link(scene.link(subscriptions="wasmbus.>"))
    await eventually(lambda: not running._ending)
    await scene.publish(b"late")
    await running.drain()

    assert scene.actor.calls == []

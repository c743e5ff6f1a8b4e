"""A messaging provider on a real nats-server, and an actor that the test plays itself."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import astuple, dataclass, field
from typing import Any

import nats
from nats.js.api import StreamConfig

from lattice.bus import Bus
from lattice.wire import codec
from providers.messaging.provider import Messaging
from providers.sdk import Call, Link
from tests.support import provider_context
from tests.support.provider_context import FakeContext

PROVIDER = "messages"
ACTOR = "worker"
PATIENCE_S = 20.0
"""Far beyond what any of it takes; only a failing test waits so long."""
HANDLED = codec.pack({"ok": None})


class Received(provider_context.Received):
    """One message that the actor got."""

    @property
    def message(self) -> dict[str, Any]:
        found = self.content[0] if isinstance(self.content, list) else self.content
        assert isinstance(found, dict)
        return found

    @property
    def body(self) -> bytes:
        body = self.message["body"]
        assert isinstance(body, bytes)
        return body


Answer = Callable[[Received], Awaitable[bytes]]


async def handled(_received: Received) -> bytes:
    return HANDLED


@dataclass
class Actor:
    """Handles messages as the test says; several copies of a provider may call it."""

    answer: Answer = handled
    calls: list[Received] = field(default_factory=list)
    """Those that have begun."""
    ended: list[Received] = field(default_factory=list)
    running: int = 0
    most_running: int = 0

    @property
    def bodies(self) -> list[bytes]:
        return [call.body for call in self.calls]

    async def handle(self, call: provider_context.Received) -> bytes:
        received = Received(*astuple(call))
        self.calls.append(received)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            answer = await self.answer(received)
        finally:
            self.running -= 1
        self.ended.append(received)
        return answer


def context(bus: Bus, actor: Actor) -> FakeContext:
    """What a copy of the provider is given: a real bus, and the actor in place of all actors."""
    return FakeContext(PROVIDER, bus, actor.handle)


def handler_link(**config: str) -> Link:
    """A link that brings messages to the actor."""
    return Link(
        source_id=PROVIDER,
        target=ACTOR,
        wit_namespace="wasmcloud",
        wit_package="messaging",
        interfaces=["handler"],
        source_config=config,
    )


def consumer_link(**config: str) -> Link:
    """A link by which the actor sends."""
    return Link(
        source_id=ACTOR,
        target=PROVIDER,
        wit_namespace="wasmcloud",
        wit_package="messaging",
        interfaces=["consumer"],
        target_config=config,
    )


@asynccontextmanager
async def provider(
    bus: Bus, actor: Actor, config: Mapping[str, str] | None = None
) -> AsyncIterator[Messaging]:
    """One copy of the provider, drained and stopped at the end as its host would."""
    running = Messaging()
    await running.start(context(bus, actor), config or {})
    try:
        yield running
        await running.drain()
    finally:
        await running.stop()


async def send(
    running: Messaging, link: Link, operation: str, payload: Any, *, timeout_s: float = 10.0
) -> Any:
    """Call the provider as the actor; gives the decoded result."""
    answer = await running.handle(
        Call(
            source=ACTOR,
            link=link,
            interface="wasmcloud:messaging",
            operation=operation,
            payload=codec.pack(payload),
            deadline=asyncio.get_running_loop().time() + timeout_s,
        )
    )
    return codec.unpack(answer) if answer else None


async def publish(
    running: Messaging, link: Link, subject: str, body: bytes = b"", *, reply_to: str | None = None
) -> Any:
    message = {"subject": subject, "body": body, "reply-to": reply_to}
    return await send(running, link, "consumer.publish", [message])


async def make_stream(url: str, name: str, *subjects: str, **config: Any) -> None:
    client = await nats.connect(url)
    try:
        await client.jetstream().add_stream(StreamConfig(name=name, subjects=[*subjects], **config))
    finally:
        await client.close()


async def stored(url: str, stream: str) -> list[Any]:
    """All messages of a stream, in order."""
    client = await nats.connect(url)
    try:
        jetstream = client.jetstream()
        state = (await jetstream.stream_info(stream)).state
        return [
            await jetstream.get_msg(stream, seq=sequence)
            for sequence in range(state.first_seq, state.last_seq + 1)
            if state.messages
        ]
    finally:
        await client.close()


async def unsettled(url: str, stream: str, consumer: str) -> tuple[int, int]:
    """Messages of a consumer that nobody has, and those that somebody has and has not settled."""
    client = await nats.connect(url)
    try:
        info = await client.jetstream().consumer_info(stream, consumer)
        return info.num_pending or 0, info.num_ack_pending or 0
    finally:
        await client.close()


async def settled(url: str, stream: str = "ORDERS", consumer: str = "workers") -> None:
    """Return once a consumer has nothing more to do."""
    async with asyncio.timeout(PATIENCE_S):
        while await unsettled(url, stream, consumer) != (0, 0):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)

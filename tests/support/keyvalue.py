"""Copies of the key-value provider, each with a host of its own, and an actor that they tell of
changes.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from lattice import limits
from lattice.bus import Bus
from lattice.wire import codec
from providers.keyvalue.provider import KeyValue
from providers.sdk import Call, Link
from tests.support.provider_context import FakeContext, Received

ACTOR = "alarm"
PROVIDER = "kv"
WRITER = "shop"


async def taken(_received: Received) -> bytes:
    return codec.pack(None)


@dataclass
class Actor:
    """Hears of changes, whichever copy of the provider tells."""

    answer: Callable[[Received], Awaitable[bytes]] = taken
    calls: list[Received] = field(default_factory=list)
    """Those that have begun."""
    running: dict[str, int] = field(default_factory=dict)
    most_running: int = 0
    """For one key at a time."""

    async def execute(self, received: Received) -> bytes:
        self.calls.append(received)
        key = received.content[1]
        self.running[key] = self.running.get(key, 0) + 1
        self.most_running = max(self.most_running, self.running[key])
        try:
            return await self.answer(received)
        finally:
            self.running[key] -= 1

    @property
    def told(self) -> list[tuple[Any, ...]]:
        """``(key, value)`` of each set, and ``(key,)`` of each deletion, in their order."""
        found = []
        for call in self.calls:
            _, *rest = call.content
            assert call.operation == ("watcher.on-set" if rest[1:] else "watcher.on-delete")
            found.append(tuple(rest))
        return found


@asynccontextmanager
async def copy(
    bus: Bus, actor: Actor, config: dict[str, str], *, host: str
) -> AsyncIterator[KeyValue]:
    """One copy of the provider."""
    provider = KeyValue()
    context = FakeContext(PROVIDER, wire=bus, answer=actor.execute, host_id=host)
    await provider.start(context, config)
    try:
        yield provider
    finally:
        await provider.stop()


def watch_link(watch: str, *, name: str = "default", **config: str) -> Link:
    return Link(
        source_id=PROVIDER,
        target=ACTOR,
        name=name,
        wit_namespace="wasi",
        wit_package="keyvalue",
        interfaces=["watcher"],
        source_config={"watch": watch, **config},
    )


def store_link(package: tuple[str, str] = ("wasi", "keyvalue"), **config: str) -> Link:
    namespace, name = package
    return Link(
        source_id=WRITER,
        target=PROVIDER,
        wit_namespace=namespace,
        wit_package=name,
        target_config=config,
    )


async def call(provider: KeyValue, link: Link, operation: str, argument: Any) -> Any:
    """What the provider answers along a link, which it has."""
    answer = await provider.handle(
        Call(
            source=link.source_id,
            link=link,
            interface=f"{link.wit_namespace}:{link.wit_package}",
            operation=operation,
            payload=codec.pack(argument),
            deadline=asyncio.get_running_loop().time() + limits.CALL_TIMEOUT_S,
        )
    )
    return codec.unpack(answer) if answer else None

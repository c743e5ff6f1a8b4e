"""A blob provider on its own, and calls over its links."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgpack

from lattice import limits
from lattice.bus import Bus
from lattice.wire.invocation import Reply
from providers.blobstore.provider import Blobstore
from providers.sdk import Call, Link

Receiver = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


@dataclass
class FakeContext:
    """What a provider on its own is given; the bus only where a test has one."""

    wire: Bus | None = None
    provider_id: str = "blobs"
    host_id: str = "NHOST"
    lattice: str = "default"
    receiver: Receiver | None = None
    """What the actors do with a chunk that is sent to them."""
    called: list[tuple[str, str, str, str]] = field(default_factory=list)

    @property
    def bus(self) -> Bus:
        assert self.wire is not None, "this test has no NATS"
        return self.wire

    async def call(
        self,
        target: str,
        interface: str,
        operation: str,
        payload: bytes,
        *,
        timeout_s: float = limits.CALL_TIMEOUT_S,
        link_name: str = "default",
        key: str | None = None,
        trace: str | None = None,
    ) -> bytes:
        assert self.receiver is not None, "nobody receives chunks here"
        self.called.append((target, interface, operation, link_name))
        packed = msgpack.packb(await self.receiver(msgpack.unpackb(payload)))
        assert isinstance(packed, bytes)
        return packed

    async def call_for_reply(self, *_arguments: Any, **_options: Any) -> Reply:
        raise NotImplementedError("this provider wants no reply's cost")


def link(source: str = "album", /, contract: str = "wasi", **config: str) -> Link:
    return Link(
        source_id=source,
        target="blobs",
        wit_namespace=contract,
        wit_package="blobstore",
        target_config=config,
    )


async def ask(
    provider: Blobstore, over: Link, operation: str, payload: Any, *, timeout_s: float = 10.0
) -> Any:
    """The decoded answer; None where there is none."""
    call = Call(
        source=over.source_id,
        link=over,
        interface=f"{over.wit_namespace}:blobstore",
        operation=operation,
        payload=msgpack.packb(payload),
        deadline=asyncio.get_running_loop().time() + timeout_s,
    )
    reply = await provider.handle(call)
    return msgpack.unpackb(reply) if reply else None


@asynccontextmanager
async def started(
    config: dict[str, str], context: FakeContext | None = None
) -> AsyncIterator[Blobstore]:
    provider = Blobstore()
    try:
        await provider.start(context or FakeContext(), config)
        yield provider
    finally:
        await provider.stop()

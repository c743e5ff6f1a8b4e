"""A blob provider on its own, and calls over its links."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgpack

from lattice.bus import Bus
from providers.blobstore.provider import Blobstore
from providers.sdk import Call, Link
from tests.support.provider_context import FakeContext


def context(bus: Bus | None = None) -> FakeContext:
    return FakeContext("blobs", bus)


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
    config: dict[str, str], given: FakeContext | None = None
) -> AsyncIterator[Blobstore]:
    provider = Blobstore()
    try:
        await provider.start(given or context(), config)
        yield provider
    finally:
        await provider.stop()

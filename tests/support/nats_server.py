"""A real nats-server with JetStream, on a free port, with a store of its own."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from lattice import errors, limits
from lattice.bus import Bus, NatsSettings
from lattice.bus.server import NatsServer

STORE_BYTES_MAX = 1024 * 1024 * limits.MIB
"""Each lattice asks for more than a gigabyte and uses next to nothing of it, and one server has
those of many tests: how much is free on the disk is not to decide."""


@asynccontextmanager
async def nats_server(
    *, store_dir: Path | None = None, port: int = -1
) -> AsyncIterator[NatsServer]:
    """A running server; a missing binary skips the test, but fails it where ``CI`` is set."""
    try:
        server = await NatsServer.start(
            store_dir=store_dir, store_bytes_max=STORE_BYTES_MAX, port=port
        )
    except errors.NotFound as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(error.text)
    try:
        yield server
    finally:
        await server.aclose()


@asynccontextmanager
async def connected(server: NatsServer, *, name: str = "test") -> AsyncIterator[Bus]:
    bus = await Bus.connect(NatsSettings(servers=(server.url,)), name=name)
    try:
        yield bus
    finally:
        await bus.aclose()

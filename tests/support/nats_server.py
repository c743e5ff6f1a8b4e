"""A real nats-server with JetStream, on a free port, with a store of its own."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from lattice import errors
from lattice.bus import Bus, NatsSettings
from lattice.bus.server import NatsServer


@asynccontextmanager
async def nats_server(
    *, store_dir: Path | None = None, port: int = -1
) -> AsyncIterator[NatsServer]:
    """A running server; a missing binary skips the test, but fails it where ``CI`` is set."""
    try:
        server = await NatsServer.start(store_dir=store_dir, port=port)
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

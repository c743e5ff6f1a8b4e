"""A TCP proxy that misbehaves on demand, for tests of partitions and frozen peers.

It shows what a network can do to a connection: end it for both ends or for one, refuse new ones,
hold every byte back in one direction or in both while the connection stays open, lose what one end
says, deliver late, slowly, or in fits and starts, as a network that loses packets does. It can't
reorder or corrupt bytes, as TCP doesn't.
"""

import asyncio
import random
from contextlib import suppress
from typing import Literal, Self
from urllib.parse import urlsplit

CHUNK_BYTES = 64 * 1024

Direction = Literal["up", "down"]
"""From the client to the server, or back."""


class Proxy:
    """Listens on a port of its own and forwards to ``upstream``, a URL with host and port."""

    def __init__(self, upstream: str) -> None:
        address = urlsplit(upstream)
        self._upstream = (address.hostname, address.port)
        self._writers: set[asyncio.StreamWriter] = set()
        self._handlers: set[asyncio.Task[None]] = set()
        self._flowing: dict[Direction, asyncio.Event] = {
            "up": asyncio.Event(),
            "down": asyncio.Event(),
        }
        self._upstream_writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._deaf: set[asyncio.StreamWriter] = set()
        self.refusing = False
        """New connections are closed at once."""
        self.delay_s = 0.0
        """Added to every chunk, in each direction."""
        self.jitter_s = 0.0
        """Added to the delay or taken from it, at most."""
        self.loss = 0.0
        """Share of the chunks that arrive only after ``resend_s``, as lost packets do."""
        self.resend_s = 0.2
        self.bytes_per_s: float | None = None
        """How fast each connection is in each direction; None for as fast as it can."""
        self.rng = random.Random(0)
        """Chooses jitter and losses."""
        self.url = ""
        self.thaw()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._forward, "127.0.0.1", 0)
        self.url = f"nats://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.thaw()
        while self._handlers:
            # Again, for one that was just being forwarded when the others were ended.
            self.drop()
            await asyncio.wait(self._handlers, timeout=0.05)

    def freeze(self, *directions: Direction) -> None:
        """Hold back every byte on connections that stay open, both ways if none is named."""
        for direction in directions or self._flowing:
            self._flowing[direction].clear()

    def thaw(self) -> None:
        """Let the bytes flow again, those held back first."""
        for flowing in self._flowing.values():
            flowing.set()

    def swallow(self) -> None:
        """Lose what upstream says on the connections there are; new ones are as they should be."""
        self._deaf |= self._writers

    def drop(self) -> None:
        """End every connection with a reset."""
        for writer in list(self._writers):
            writer.transport.abort()

    def half_open(self) -> None:
        """End every connection for the server alone: the client hears nothing, until ``thaw``."""
        self.freeze("down")
        for writer in list(self._upstream_writers):
            writer.transport.abort()

    async def _forward(
        self, client_reader: asyncio.StreamReader, client_writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        task.add_done_callback(self._handlers.discard)
        if self.refusing:
            client_writer.transport.abort()
            return
        try:
            reader, writer = await asyncio.open_connection(*self._upstream)
        except OSError:
            client_writer.transport.abort()
            return
        ends = {client_writer, writer}
        self._writers |= ends
        self._upstream_writers.add(writer)
        try:
            await asyncio.gather(
                self._pump(client_reader, writer, "up"), self._pump(reader, client_writer, "down")
            )
        finally:
            self._writers -= ends
            self._deaf -= ends
            self._upstream_writers.discard(writer)
            for end in ends:
                end.transport.abort()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: Direction
    ) -> None:
        flowing = self._flowing[direction]
        with suppress(OSError):
            while True:
                await flowing.wait()
                chunk = await reader.read(CHUNK_BYTES)
                # Its end is news as well, and held back like any other.
                await flowing.wait()
                if not chunk:
                    break
                if pause_s := self._pause_s(len(chunk)):
                    await asyncio.sleep(pause_s)
                if direction == "down" and writer in self._deaf:
                    continue
                writer.write(chunk)
                await writer.drain()
        # One end is gone: the other must learn of it, and its pump must end.
        writer.transport.abort()

    def _pause_s(self, size: int) -> float:
        pause_s = self.delay_s
        if self.jitter_s:
            pause_s = max(0.0, pause_s + self.rng.uniform(-self.jitter_s, self.jitter_s))
        if self.loss and self.rng.random() < self.loss:
            pause_s += self.resend_s
        if self.bytes_per_s:
            pause_s += size / self.bytes_per_s
        return pause_s

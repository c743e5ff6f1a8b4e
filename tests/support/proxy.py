"""A TCP proxy that misbehaves on demand, for tests of partitions and frozen peers.

It shows what a network can do to a connection: end it, refuse new ones, hold every byte back while
the connection stays open, lose what one end says, or deliver late. It can't reorder or corrupt
bytes, as TCP doesn't.
"""

import asyncio
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit

CHUNK_BYTES = 64 * 1024


class Proxy:
    """Listens on a port of its own and forwards to ``upstream``, a URL with host and port."""

    def __init__(self, upstream: str) -> None:
        address = urlsplit(upstream)
        self._upstream = (address.hostname, address.port)
        self._writers: set[asyncio.StreamWriter] = set()
        self._handlers: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._server: asyncio.Server | None = None
        self._deaf: set[asyncio.StreamWriter] = set()
        self.refusing = False
        """New connections are closed at once."""
        self.delay_s = 0.0
        """Added to every chunk, in each direction."""
        self.url = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._forward, "127.0.0.1", 0)
        self.url = f"nats://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.thaw()
        self.drop()
        while self._handlers:
            await asyncio.wait(self._handlers)

    def freeze(self) -> None:
        """Hold back every byte, in both directions, on connections that stay open."""
        self._flowing.clear()

    def thaw(self) -> None:
        """Let the bytes flow again, those held back first."""
        self._flowing.set()

    def swallow(self) -> None:
        """Lose what upstream says on the connections there are; new ones are as they should be."""
        self._deaf |= self._writers

    def drop(self) -> None:
        """End every connection with a reset."""
        for writer in list(self._writers):
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
        try:
            await asyncio.gather(
                self._pump(client_reader, writer),
                self._pump(reader, client_writer, swallowed=True),
            )
        finally:
            self._writers -= ends
            self._deaf -= ends
            for end in ends:
                end.transport.abort()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        swallowed: bool = False,
    ) -> None:
        """``swallowed``: whether ``swallow`` concerns this direction."""
        with suppress(OSError):
            while True:
                await self._flowing.wait()
                chunk = await reader.read(CHUNK_BYTES)
                if not chunk:
                    break
                await self._flowing.wait()
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                if swallowed and writer in self._deaf:
                    continue
                writer.write(chunk)
                await writer.drain()
        # One end is gone: the other must learn of it, and its pump must end.
        writer.transport.abort()

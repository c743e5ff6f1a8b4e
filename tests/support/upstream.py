"""An HTTP server whose requests and responses flow, as the test says, at the same time."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Self


class Exchange:
    """A request as it comes, and the connection to answer it over."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.head = ""
        """Request line and headers, as they were written."""
        self.body_bytes = 0
        """What has come of the body."""
        self.trailers: list[str] = []

    async def read_head(self) -> None:
        self.head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")

    def header(self, name: str) -> str | None:
        """The value of a header, in lower case."""
        lines = [line.partition(":") for line in self.head.lower().split("\r\n")[1:]]
        return next((value.strip() for key, _, value in lines if key == name), None)

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes.

        Raises:
            IncompleteReadError: it broke off.
        """
        if self.header("transfer-encoding") != "chunked":
            left = int(self.header("content-length") or "0")
            while left:
                if not (piece := await self._reader.read(min(left, 65536))):
                    raise asyncio.IncompleteReadError(b"", left)
                left -= len(piece)
                self.body_bytes += len(piece)
                yield piece
            return
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            piece = await self._reader.readexactly(size)
            await self._reader.readexactly(2)
            self.body_bytes += size
            yield piece
        while (line := await self._reader.readuntil(b"\r\n")) != b"\r\n":
            self.trailers.append(line.decode("latin-1").rstrip("\r\n"))

    async def begin(self, *headers: str, length: int | None = None) -> None:
        """Begin a response; its body comes in chunks where its length is not said."""
        framing = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
        await self.write("\r\n".join(["HTTP/1.1 200 OK", framing, *headers, "", ""]).encode())

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def write_chunk(self, content: bytes) -> None:
        await self.write(b"%x\r\n%b\r\n" % (len(content), content))

    async def end(self, *trailers: str) -> None:
        await self.write("\r\n".join(["0", *trailers, "", ""]).encode())

    def abort(self) -> None:
        self._writer.transport.abort()

    async def until_gone(self) -> None:
        """Return when the client has closed the connection."""
        with suppress(ConnectionError):
            while await self._reader.read(65536):
                continue


Serve = Callable[[Exchange], Awaitable[None]]


async def echo(exchange: Exchange) -> None:
    """Answer with what comes, as it comes, trailers included."""
    await exchange.begin()
    async for piece in exchange.pieces():
        await exchange.write_chunk(piece)
    await exchange.end(*exchange.trailers)


async def count(exchange: Exchange) -> None:
    """Answer with the body's size, when it is complete."""
    async for _ in exchange.pieces():
        pass
    text = str(exchange.body_bytes).encode()
    await exchange.begin(length=len(text))
    await exchange.write(text)


class Upstream:
    """Listens on a free port; serves one request after the other of each connection."""

    def __init__(self, serve: Serve = echo) -> None:
        self.serve = serve
        self.exchanges: list[Exchange] = []
        self.broken = 0
        """Exchanges that ended by the loss of their connection."""
        self.served = 0
        """Those that ended well."""
        self.connections = 0
        self._open: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._open:
            task.cancel()
        while self._open:
            await asyncio.wait(self._open)

    @property
    def authority(self) -> str:
        host, port = self._server.sockets[0].getsockname()
        return f"{host}:{port}"

    @property
    def url(self) -> str:
        return f"http://{self.authority}"

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        self.connections += 1
        try:
            with suppress(asyncio.CancelledError):
                await self._serve_all(reader, writer)
        finally:
            self._open.discard(task)
            writer.transport.abort()

    async def _serve_all(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            exchange = Exchange(reader, writer)
            try:
                await exchange.read_head()
            except (OSError, asyncio.IncompleteReadError):
                return
            self.exchanges.append(exchange)
            try:
                await self.serve(exchange)
            except (OSError, asyncio.IncompleteReadError):
                self.broken += 1
                return
            self.served += 1

"""An HTTP server that does what the test says, down to the byte."""

import asyncio
import ssl
import subprocess
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tests.support.upstream import Exchange


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it came."""

    method: str
    path: str
    headers: list[tuple[str, str]]
    """Names as they were written."""
    body: bytes
    trailers: list[tuple[str, str]] = field(default_factory=list)

    def header(self, name: str) -> str | None:
        """The value of a header, which has come at most once."""
        values = [value for key, value in self.headers if key.lower() == name]
        assert len(values) <= 1, f"{name} came {len(values)} times"
        return values[0] if values else None


Answer = Callable[[Asked, asyncio.StreamWriter], Awaitable[None]]
"""Writes the response to one request; closes the writer to end the connection."""


def answer(
    body: bytes = b"hello",
    *headers: tuple[str, str],
    status: str = "200 OK",
) -> bytes:
    """A plain response."""
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def writes(data: bytes, *, closes: bool = False) -> Answer:
    """Always the same bytes."""

    async def write(_: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        if closes:
            writer.close()

    return write


def redirects(location: str, status: str = "302 Found") -> Answer:
    return writes(answer(b"", ("location", location), status=status))


class Origin:
    """Listens on a free port, or on the given one."""

    def __init__(
        self,
        answers: Answer | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.answers = answers or writes(answer())
        self.asked: list[Asked] = []
        self.connections = 0
        self.names: list[str | None] = []
        """What TLS clients called this server."""
        self.open: set[asyncio.Task[None]] = set()
        """A task for each open connection."""
        self.writers: list[asyncio.StreamWriter] = []
        self.is_accepting = True
        """Whether it reads requests; otherwise it only takes connections."""
        self._host, self._port, self._tls = host, port, tls
        if tls is not None:
            tls.sni_callback = self._note_name
        self._server: asyncio.Server

    async def __aenter__(self) -> Self:
        self._server = await asyncio.get_running_loop().create_server(
            lambda: _Watched(self._serve), self._host, self._port, ssl=self._tls
        )
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self.open:
            task.cancel()
        while self.open:
            await asyncio.wait(self.open)

    @property
    def port(self) -> int:
        return self._port

    @property
    def url(self) -> str:
        scheme = "http" if self._tls is None else "https"
        return f"{scheme}://{self._host}:{self._port}"

    def _note_name(self, _: ssl.SSLObject, name: str | None, __: ssl.SSLContext) -> None:
        self.names.append(name)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.open.add(task)
        self.connections += 1
        self.writers.append(writer)
        try:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                if not self.is_accepting:
                    await asyncio.Event().wait()
                while not writer.is_closing():
                    asked = await _read(reader, writer)
                    self.asked.append(asked)
                    await self.answers(asked, writer)
        finally:
            self.open.discard(task)
            writer.transport.abort()


class _Watched(asyncio.StreamReaderProtocol):
    """Ends whoever serves a connection when the client has left it."""

    def __init__(
        self, serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
    ) -> None:
        self._serving: asyncio.Task[None] | None = None

        async def watched(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._serving = asyncio.current_task()
            await serve(reader, writer)

        super().__init__(asyncio.StreamReader(limit=1024 * 1024), watched)

    def eof_received(self) -> bool | None:
        self._end()
        return super().eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        self._end()
        super().connection_lost(error)

    def _end(self) -> None:
        if self._serving is not None:
            self._serving.cancel()


async def _read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Asked:
    exchange = Exchange(reader, writer)
    await exchange.read_head()
    first, *lines = exchange.head.split("\r\n")
    method, path, _ = first.split(" ")
    body = b"".join([piece async for piece in exchange.pieces()])
    return Asked(method, path, _fields(lines), body, _fields(exchange.trailers))


def _fields(lines: list[str]) -> list[tuple[str, str]]:
    parts = [line.partition(":") for line in lines if line]
    return [(name, value.strip()) for name, _, value in parts]


@dataclass(frozen=True, slots=True)
class Certificate:
    """PEM files: one that signs itself, and its key."""

    certificate: Path
    key: Path

    @property
    def server_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.certificate, self.key)
        return context


def certificate_for(directory: Path, *names: str) -> Certificate:
    """Make a certificate for these names, such as ``DNS:example.com``."""
    made = Certificate(directory / "certificate.pem", directory / "key.pem")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-days", "2"),
            *("-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", "/CN=test"),
            *("-addext", f"subjectAltName={','.join(names)}"),
            *("-out", made.certificate, "-keyout", made.key),
        ],
        check=True,
        capture_output=True,
    )
    return made

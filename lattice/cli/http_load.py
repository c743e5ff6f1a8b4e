"""An HTTP/1.1 client for one purpose: the same request, again and again, as fast as it is answered.

Each connection serves one caller and stays open. It parses with ``httptools``, since a client that
does more for each request would measure itself.
"""

import asyncio
import ssl
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

import httptools

from lattice import errors
from lattice.errors import BY_CODE

READ_BYTES = 64 * 1024
ERROR_STATUS_MIN = 400
CODE_HEADER = b"lattice-error"
LENGTH_HEADERS = (b"content-length", b"transfer-encoding")


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent, and where to."""

    host: str
    port: int
    tls: bool
    data: bytes
    bodiless: bool = False
    """Whether the answer ends with its headers, whatever they say of a body."""

    @classmethod
    def to(cls, url: str, *, method: str, headers: dict[str, str], body: bytes) -> "Request":
        """Put a request together.

        Raises:
            InvalidRequest: not a URL of HTTP, or a header that can't be sent.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise errors.InvalidRequest(f"{url!r} is not a URL: {error}") from None
        tls = parts.scheme == "https"
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        sent = {"Host": parts.netloc.rpartition("@")[2], "User-Agent": "lattice-bench", **headers}
        if body or method not in {"GET", "HEAD"}:
            sent["Content-Length"] = str(len(body))
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {sent[name]}" for name in sent)]
        head = "\r\n".join(lines)
        if not parts.hostname or not head.isascii() or len(head.splitlines()) != len(lines):
            raise errors.InvalidRequest(f"{url!r} with these headers is not a request of HTTP")
        data = head.encode() + b"\r\n\r\n" + body
        return cls(parts.hostname, port or (443 if tls else 80), tls, data, method == "HEAD")


class HttpLoad:
    """Connections to one server, at most as many as there are callers."""

    def __init__(self, request: Request, *, timeout_s: float) -> None:
        self._request = request
        self._timeout_s = timeout_s
        self._tls = ssl.create_default_context() if request.tls else None
        self._free: list[_Connection] = []

    async def send(self) -> None:
        """Make the request once.

        Raises:
            Unavailable: no connection, or it broke.
            DeadlineExceeded: no answer in time.
            LatticeError: as the answer's ``Lattice-Error`` says; other errors by their status.
        """
        connection = self._take()
        try:
            async with asyncio.timeout(self._timeout_s):
                if connection is None:
                    connection = await self._open()
                reply = await connection.exchange(self._request)
        except TimeoutError:
            _drop(connection)
            raise errors.DeadlineExceeded(f"no answer in {self._timeout_s:g} s") from None
        except (OSError, EOFError, httptools.HttpParserError) as error:
            _drop(connection)
            raise errors.Unavailable(f"{self._request.host}: {error}") from error
        except BaseException:
            _drop(connection)
            raise
        if reply.keep_alive:
            self._free.append(connection)
        else:
            _drop(connection)
        if reply.status >= ERROR_STATUS_MIN:
            raise _failure(reply)

    def close(self) -> None:
        while self._free:
            _drop(self._free.pop())

    def _take(self) -> "_Connection | None":
        while self._free:
            connection = self._free.pop()
            if not connection.is_over:
                return connection
            # The server closed it while nobody used it, which is its right.
            _drop(connection)
        return None

    async def _open(self) -> "_Connection":
        request = self._request
        return _Connection(
            *await asyncio.open_connection(request.host, request.port, ssl=self._tls)
        )


class _Reply:
    """Collects what the parser finds; the body is counted by it and thrown away."""

    def __init__(self, *, bodiless: bool) -> None:
        self._bodiless = bodiless
        self.parser = httptools.HttpResponseParser(self)
        self.complete = False
        self.status = 0
        self.keep_alive = True
        self.ends_with_connection = False
        """Whether the body has no other end."""
        self.code = ""
        self._has_length = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == CODE_HEADER:
            self.code = value.decode("latin-1")
        elif name.lower() in LENGTH_HEADERS:
            self._has_length = True

    def on_headers_complete(self) -> None:
        # Asked at the end, the parser has forgotten.
        self.keep_alive = self.parser.should_keep_alive()
        self.ends_with_connection = not self._has_length and not self.keep_alive
        self.complete = self._bodiless

    def on_message_complete(self) -> None:
        self.complete = True


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    @property
    def is_over(self) -> bool:
        return self._reader.at_eof()

    async def exchange(self, request: Request) -> _Reply:
        """Send a request and read its answer.

        Raises:
            OSError, EOFError: the connection broke.
            HttpParserError: what came is not HTTP.
        """
        reply = _Reply(bodiless=request.bodiless)
        self.writer.write(request.data)
        while not reply.complete:
            if not (received := await self._reader.read(READ_BYTES)):
                if reply.ends_with_connection:
                    break
                raise EOFError("the server closed the connection")
            reply.parser.feed_data(received)
        reply.status = reply.parser.get_status_code()
        # They hold each other, and the collector would have them all to find.
        del reply.parser
        return reply


def _failure(reply: _Reply) -> errors.LatticeError:
    if (kind := BY_CODE.get(reply.code)) is not None:
        return kind.from_parts(f"status {reply.status}")
    text = f"status {reply.status}"
    # RFC 9110: below 500 the client is at fault.
    return errors.InvalidRequest(text) if reply.status < 500 else errors.InternalError(text)


def _drop(connection: _Connection | None) -> None:
    if connection is not None:
        with suppress(OSError):
            connection.writer.close()

"""HTTP/1.1 over one connection to one address; h11 knows the protocol, this moves bytes and waits.

A connection goes to the very address that was judged: no name is looked up here. A name only serves
TLS, to find and to check the certificate. Bodies are passed on as they come, in whatever coding.

A request is sent whole, or its body flows while the response is read, which may begin, and even
end, before. Each side waits for the other: nothing is read of a source while the server takes
nothing, nor of the server while nobody reads the response.
"""

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

import h11

from lattice import errors, limits
from lattice.aio.tasks import TaskGroup
from lattice.wire.http import Headers
from lattice.wire.streams import Source
from providers.http_client import messages
from providers.http_client.addresses import Address
from providers.http_client.failures import Failure
from providers.http_client.messages import Request
from providers.http_client.targets import Target

PIECE_BYTES = 64 * limits.KIB
"""What is written, and parsed, at a time."""

BUFFER_BYTES = 256 * limits.KIB
"""What may have arrived and not been parsed yet; then the server has to wait."""

PARTS_MAX = 10_000
"""Parts that the body of a response may come in, and one more for each ``PART_BYTES`` of it: each
costs the parser as much as a large one, and a body in chunks of a byte would be an attack."""

PART_BYTES = 256

PARTS_PER_TURN = 64
"""After so many parts of a body the rest of the process has its turn: some milliseconds."""

_U64_MAX = 2**64 - 1


class Stale(Exception):
    """The server closed a kept connection before it answered: it may not have seen the request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Of one exchange."""

    first_byte_timeout_s: float
    between_bytes_timeout_s: float
    request_bytes_max: int
    response_bytes_max: int


class _Wire(asyncio.Protocol):
    """The bytes of a connection; at most one coroutine sends, and one receives."""

    def __init__(self, on_close: Callable[[], None]) -> None:
        self._on_close = on_close
        self._arrived = bytearray()
        self._is_full = False
        self._is_held_up = False
        self._ended = False
        self._error: Exception | None = None
        self._waiting: set[asyncio.Future[None]] = set()
        self._transport: asyncio.Transport
        self.is_expected = False
        """Whether anything may come: what comes unasked would answer a later request."""
        self.is_made = False
        """Whether there ever was a connection: then its end is told."""
        self.wanted_since: float | None = None
        """Since when somebody has wanted bytes, and none have come."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Those of uvloop are transports in all but ancestry.
        self._transport = cast(asyncio.Transport, transport)
        self.is_made = True

    def data_received(self, data: bytes) -> None:
        if not self.is_expected:
            self._transport.abort()
            return
        self._arrived += data
        self.wanted_since = None
        if len(self._arrived) > BUFFER_BYTES and not self._is_held_up:
            self._is_held_up = True
            self._transport.pause_reading()
        self._note_change()

    def eof_received(self) -> None:
        self._ended = True
        self.wanted_since = None
        self._note_change()

    def connection_lost(self, error: Exception | None) -> None:
        self._ended = True
        self.wanted_since = None
        self._error = error
        self._note_change()
        self._on_close()

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        self._note_change()

    @property
    def is_quiet(self) -> bool:
        """Whether it is open, and nothing came that was not asked for."""
        return not self._ended and not self._arrived

    @property
    def was_reset(self) -> bool:
        return self._error is not None

    async def send(self, data: bytes, timeout_s: float, *, through_answer: bool = False) -> bool:
        """Send everything, unless the server leaves before it took it, or answers.

        Returns whether everything was sent. With ``through_answer`` an answer may come meanwhile.

        Raises:
            Failure: the server takes nothing for so long.
        """
        view = memoryview(data)
        for start in range(0, len(view), PIECE_BYTES):
            if self._ended:
                return False
            self._transport.write(bytes(view[start : start + PIECE_BYTES]))
            while self._is_full:
                if self._ended or (self._arrived and not through_answer):
                    return False
                try:
                    await self._wait_changed(timeout_s)
                except TimeoutError:
                    if self._arrived:
                        # It may wait in its turn, until somebody reads what it answers.
                        continue
                    raise Failure(
                        "connection-write-timeout",
                        f"the server took nothing of the request for {timeout_s:g} s",
                    ) from None
        return True

    async def receive(self, timeout_s: float) -> bytes:
        """What has arrived, a piece at a time; nothing at the end.

        Raises:
            TimeoutError: nothing came.
        """
        while not self._arrived:
            if self._ended:
                return b""
            if self.wanted_since is None:
                self.wanted_since = asyncio.get_running_loop().time()
            await self._wait_changed(timeout_s)
        data = bytes(self._arrived[:PIECE_BYTES])
        del self._arrived[:PIECE_BYTES]
        if self._is_held_up and not self._ended and len(self._arrived) <= BUFFER_BYTES:
            self._is_held_up = False
            self._transport.resume_reading()
        return data

    @property
    def has_arrived(self) -> bool:
        """Whether there is something to receive."""
        return bool(self._arrived)

    def abort(self) -> None:
        self._transport.abort()

    async def _wait_changed(self, timeout_s: float) -> None:
        changed = asyncio.get_running_loop().create_future()
        self._waiting.add(changed)
        try:
            async with asyncio.timeout(timeout_s):
                await changed
        finally:
            self._waiting.discard(changed)

    def _note_change(self) -> None:
        for each in self._waiting:
            if not each.done():
                each.set_result(None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What begins a response."""

    status: int
    headers: Headers
    length: int | None
    """How long its body says it is."""


class Connection:
    """One connection. It carries a request at a time, and is good for nothing after a failure."""

    def __init__(self, wire: _Wire, target: Target, since_s: float, *, tasks: TaskGroup) -> None:
        """``tasks`` is where bodies of requests are sent that flow."""
        self._wire = wire
        self._http = h11.Connection(
            h11.CLIENT, max_incomplete_event_size=limits.HTTP_HEAD_BYTES_MAX
        )
        self._tasks = tasks
        self._exchanges = 0
        self._received_bytes = self._body_bytes = self._parts = 0
        self._ends_with_connection = False
        """Whether only the connection's end tells the end of the response's body."""
        self.is_over = False
        """Whether the response has ended."""
        self._is_sent = False
        """Whether all of the request was sent."""
        self._sending: asyncio.Task[None] | None = None
        self._sent_at = 0.0
        """When that ended."""
        self._broken: Exception | None = None
        """Why the request broke off."""
        self._parts_due = PARTS_PER_TURN
        """Parts of the body after which others have their turn."""
        self.trailers: Headers = []
        """What followed the response's body."""
        self.target = target
        self.since_s = since_s
        """When it was made, on the event loop's clock."""

    @property
    def is_reusable(self) -> bool:
        """Whether another request may go over it."""
        return self._http.states == {h11.CLIENT: h11.IDLE, h11.SERVER: h11.IDLE} and (
            self._wire.is_quiet
        )

    def abort(self) -> None:
        """Close it at once, whatever goes over it."""
        if self._sending is not None:
            self._sending.cancel()
        self._wire.abort()

    async def begin(self, request: Request, bounds: Bounds, source: Source | None = None) -> Head:
        """Send a checked request, and receive the head of its response.

        With the source of the rest of its body that goes on until ``finish`` or ``abort``.

        Raises:
            Stale: it had been used before, and was closed without a word.
            Failure: anything else.
        """
        self._exchanges += 1
        self._received_bytes = self._body_bytes = self._parts = 0
        self._parts_due = PARTS_PER_TURN
        self.is_over = self._is_sent = False
        self.trailers = []
        self._wire.is_expected = True
        try:
            if source is None:
                self._is_sent = await self._send(request, bounds)
            else:
                self._sending = self._tasks.spawn(
                    self._send_on(request, source, bounds), name="body of a request"
                )
            head = await self._receive_head(bounds)
        except h11.RemoteProtocolError as error:
            raise self._misbehaviour(error) from None
        headers = messages.received(head.headers)
        has_body = request.method != "HEAD" and head.status_code not in (204, 304)
        length = _length(headers)
        if has_body and length is not None:
            # Before any of it is read.
            _check_size(length, bounds)
        self._ends_with_connection = has_body and not _tells_its_end(head)
        return Head(status=head.status_code, headers=headers, length=length)

    async def read(self, bounds: Bounds, size_max: int, *, waits: bool = True) -> bytes:
        """Give a piece of the response's body; none when it ``is_over``.

        Without ``waits`` also none when none is there. Cancelling it loses nothing.

        Raises:
            Failure: it broke off, or the request did.
        """
        if self._parts >= self._parts_due:
            self._parts_due = self._parts + PARTS_PER_TURN
            await asyncio.sleep(0)
        try:
            return await self._read(bounds, size_max, waits=waits)
        except h11.RemoteProtocolError as error:
            raise self._misbehaviour(error) from None

    def finish(self) -> None:
        """End an exchange whose response has ended; what is not sent by then never is."""
        is_over = self._http.states == {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}
        # What follows a response unasked would be taken for the answer to the next request.
        if self._is_sent and is_over and not self._http.trailing_data[0]:
            self._http.start_next_cycle()
            self._wire.is_expected = False
        else:
            self.abort()

    async def _send(self, request: Request, bounds: Bounds) -> bool:
        parts = (
            self._http.send(_event_of(request)),
            self._http.send(h11.Data(data=request.body)) if request.body else b"",
            self._http.send(h11.EndOfMessage(headers=_raw(request.trailers))),
        )
        for part in parts:
            if part and not await self._wire.send(part, bounds.between_bytes_timeout_s):
                return False
        return True

    async def _send_on(self, request: Request, source: Source, bounds: Bounds) -> None:
        """Send a request whose body flows; one that breaks off takes the connection with it."""
        try:
            await self._send_flowing(request, source, bounds)
        except errors.LatticeError as error:
            text = f"the request's body broke off: {error.code}: {error.text}"
            self._broken = Failure("internal-error", text, text[: limits.ERROR_TEXT_CHARS])
        except Exception as error:
            self._broken = error
        finally:
            self._sent_at = asyncio.get_running_loop().time()
            if not self._is_sent:
                source.close()
            if self._broken is not None:
                self._wire.abort()

    async def _send_flowing(self, request: Request, source: Source, bounds: Bounds) -> None:
        timeout_s = bounds.between_bytes_timeout_s
        data = self._http.send(_event_of(request)) or b""
        content, size_bytes = request.body, len(request.body)
        while True:
            if content:
                if request.length is not None and size_bytes > request.length:
                    raise _unlike_promise(size_bytes, request.length)
                data += self._http.send(h11.Data(data=content)) or b""
            # With its last byte the server takes it for complete: that waits until it is.
            if size_bytes == request.length and await source.read(1):
                raise _unlike_promise(size_bytes + 1, request.length)
            if not await self._wire.send(data, timeout_s, through_answer=True):
                return
            if size_bytes == request.length or not (content := await source.read(PIECE_BYTES)):
                break
            data = b""
            size_bytes += len(content)
            messages.check_size(size_bytes, bounds.request_bytes_max)
        if request.length is not None and size_bytes < request.length:
            raise _unlike_promise(size_bytes, request.length)
        # Where the length was told there is no place for them.
        trailers = messages.checked_trailers(source.trailers) if request.length is None else []
        end = self._http.send(h11.EndOfMessage(headers=_raw(trailers))) or b""
        self._is_sent = await self._wire.send(end, timeout_s, through_answer=True)

    async def _read(self, bounds: Bounds, size_max: int, *, waits: bool) -> bytes:
        content = bytearray()
        # Many small parts make one piece, as far as they are there.
        while not self.is_over and len(content) < size_max and self._parts < self._parts_due:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                if not self._wire.has_arrived and (content or not waits):
                    break
                await self._feed(bounds, bounds.between_bytes_timeout_s)
                continue
            match event:
                case h11.Data():
                    self._parts += 1
                    self._body_bytes += len(event.data)
                    _check_size(self._body_bytes, bounds)
                    _check_parts(self._parts, self._body_bytes)
                    content += event.data
                case h11.EndOfMessage():
                    self.trailers = messages.received(event.headers)
                    self.is_over = True
                case _:
                    self.is_over = True
        if self.is_over and self._ends_with_connection and self._wire.was_reset:
            raise _incomplete()
        return bytes(content)

    async def _receive_head(self, bounds: Bounds) -> h11.Response:
        for _ in range(limits.HTTP_CLIENT_INTERIM_MAX):
            event = await self._event(bounds, bounds.first_byte_timeout_s)
            match event:
                case h11.Response():
                    size_bytes = sum(
                        len(name) + len(value) + 4 for name, value in event.headers.raw_items()
                    )
                    if size_bytes > limits.HTTP_HEAD_BYTES_MAX:
                        raise _head_too_large(size_bytes)
                    return event
                case h11.InformationalResponse():
                    continue
                case _:
                    raise self._closed()
        raise Failure("HTTP-protocol-error", "the server sends nothing but interim responses")

    async def _event(self, bounds: Bounds, timeout_s: float) -> "h11.Event | type[h11.PAUSED]":
        while (event := self._http.next_event()) is h11.NEED_DATA:
            await self._feed(bounds, timeout_s)
        assert event is h11.PAUSED or not isinstance(event, type)
        return event

    async def _feed(self, bounds: Bounds, timeout_s: float) -> None:
        """Have h11 know more of what the server sends."""
        data = await self._receive(
            bounds, bounds.between_bytes_timeout_s if self._received_bytes else timeout_s
        )
        if self._broken is not None:
            raise self._broken
        if not data and not self._received_bytes:
            raise self._closed()
        self._received_bytes += len(data)
        self._http.receive_data(data)

    async def _receive(self, bounds: Bounds, timeout_s: float) -> bytes:
        loop = asyncio.get_running_loop()
        while True:
            left_s = timeout_s
            if self._sending is None or self._sending.done():
                now = loop.time()
                left_s += max(self._wire.wanted_since or now, self._sent_at) - now
                if left_s <= 0:
                    raise self._silence(bounds)
            # Otherwise it may wait for the rest of the request, and has its time from then on.
            with suppress(TimeoutError):
                return await self._wire.receive(left_s)

    def _silence(self, bounds: Bounds) -> Failure:
        if not self._received_bytes:
            return Failure(
                "HTTP-response-timeout",
                f"the server did not begin to answer for {bounds.first_byte_timeout_s:g} s",
            )
        return Failure(
            "connection-read-timeout",
            f"the server stopped in its response for {bounds.between_bytes_timeout_s:g} s",
        )

    def _closed(self) -> Exception:
        if self._exchanges > 1:
            return Stale()
        return Failure(
            "connection-terminated", f"{self.target} closed the connection without a response"
        )

    def _misbehaviour(self, error: h11.RemoteProtocolError) -> Failure:
        if error.error_status_hint == 431:
            return _head_too_large(None)
        if str(error).startswith(("peer ", "can't handle event type ConnectionClosed")):
            return _incomplete()
        return Failure("HTTP-protocol-error", f"{self.target} does not speak HTTP/1.1: {error}")


async def connect(
    target: Target,
    address: Address,
    *,
    tls: ssl.SSLContext | None,
    tasks: TaskGroup,
    on_close: Callable[[], None],
) -> Connection:
    """Connect to this very address, and with ``tls`` prove that it is the target's.

    ``tasks`` is where it sends bodies that flow. ``on_close`` is called once, whether or not this
    fails.

    Raises:
        Failure: it can't be done.
    """
    loop = asyncio.get_running_loop()
    wire = _Wire(on_close)
    try:
        connected = await _connected(loop, address, target.port)
        await loop.create_connection(
            lambda: wire,
            sock=connected,
            ssl=tls,
            server_hostname=str(target.host) if tls is not None else None,
        )
    except BaseException as error:
        if not wire.is_made:
            on_close()
        if isinstance(error, OSError):
            raise _unreachable(target, address, error) from None
        raise
    return Connection(wire, target, loop.time(), tasks=tasks)


async def _connected(loop: asyncio.AbstractEventLoop, address: Address, port: int) -> socket.socket:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    connected = socket.socket(family, socket.SOCK_STREAM)
    try:
        connected.setblocking(False)
        await loop.sock_connect(connected, (str(address), port))
    except BaseException:
        connected.close()
        raise
    return connected


def _unreachable(target: Target, address: Address, error: OSError) -> Failure:
    where = f"{target} at {address}"
    match error:
        case ssl.SSLCertVerificationError():
            return Failure(
                "TLS-certificate-error",
                f"the certificate of {target} is not trusted: {error.verify_message};"
                " ca_file of the link names further authorities",
            )
        case ssl.SSLError() if "ALERT" in (error.reason or ""):
            return Failure(
                "TLS-alert-received",
                f"{where} refused TLS: {error.reason}",
                {"alert-id": None, "alert-message": error.reason},
            )
        case ssl.SSLError():
            return Failure("TLS-protocol-error", f"{where} does not speak TLS: {error.reason}")
        case ConnectionRefusedError():
            return Failure("connection-refused", f"{where} refuses connections")
        case TimeoutError():
            return Failure("connection-timeout", f"{where} does not answer")
        case ConnectionError():
            return Failure("connection-terminated", f"{where} closed the connection")
    if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.EADDRNOTAVAIL):
        return Failure("connection-limit-reached", f"no socket is left: {error.strerror}")
    if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EPERM):
        return Failure("destination-IP-unroutable", f"no way leads to {where}: {error.strerror}")
    return Failure("destination-unavailable", f"{where} can't be reached: {error}")


def _event_of(request: Request) -> h11.Request:
    return h11.Request(
        method=request.method, target=request.path, headers=_raw(messages.framed(request))
    )


def _raw(headers: Headers) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value) for name, value in headers]


def _tells_its_end(head: h11.Response) -> bool:
    """Whether a body's end is told otherwise than by the connection's."""
    return any(name in (b"content-length", b"transfer-encoding") for name, _ in head.headers)


def _length(headers: Headers) -> int | None:
    # h11 has seen to it that it is one number of at most twenty digits.
    return next((int(value) for name, value in headers if name == "content-length"), None)


def _check_size(size_bytes: int, bounds: Bounds) -> None:
    if size_bytes > bounds.response_bytes_max:
        raise Failure(
            "HTTP-response-body-size",
            f"the response's body is at least {size_bytes} bytes, over the limit of"
            f" {bounds.response_bytes_max}; max_response_body_bytes of the link can raise it",
            min(size_bytes, _U64_MAX),
        )


def _check_parts(parts: int, body_bytes: int) -> None:
    if parts > PARTS_MAX + body_bytes // PART_BYTES:
        raise Failure(
            "HTTP-protocol-error", f"the response came in {parts} parts for {body_bytes} bytes"
        )


def _unlike_promise(size_bytes: int, length: int) -> Failure:
    return Failure(
        "HTTP-request-body-size",
        f"content-length says {length}, and the body has {size_bytes} bytes",
        size_bytes,
    )


def _head_too_large(size_bytes: int | None) -> Failure:
    size = "more" if size_bytes is None else f"{size_bytes} bytes, more"
    return Failure(
        "HTTP-response-header-section-size",
        f"the response's headers are {size} than the limit of {limits.HTTP_HEAD_BYTES_MAX}",
        size_bytes,
    )


def _incomplete() -> Failure:
    return Failure("HTTP-response-incomplete", "the connection was closed within the response")

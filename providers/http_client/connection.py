"""HTTP/1.1 over one connection to one address; h11 knows the protocol, this moves bytes and waits.

A connection goes to the very address that was judged: no name is looked up here. A name only serves
TLS, to find and to check the certificate. Bodies are passed on as they come, in whatever coding.
"""

import asyncio
import errno
import itertools
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import h11

from lattice import limits
from lattice.wire.http import Headers, Response
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
    response_bytes_max: int
    hold: Callable[[int], bool]
    """Takes note of bytes that are to be held in memory; whether there is room for them."""


class _Wire(asyncio.Protocol):
    """The bytes of a connection; at most one coroutine waits for a change of it."""

    def __init__(self, on_close: Callable[[], None]) -> None:
        self._on_close = on_close
        self._arrived = bytearray()
        self._is_full = False
        self._is_held_up = False
        self._ended = False
        self._error: Exception | None = None
        self._changed: asyncio.Future[None] | None = None
        self._transport: asyncio.Transport
        self.is_expected = False
        """Whether anything may come: what comes unasked would answer a later request."""
        self.is_made = False
        """Whether there ever was a connection: then its end is told."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Those of uvloop are transports in all but ancestry.
        self._transport = cast(asyncio.Transport, transport)
        self.is_made = True

    def data_received(self, data: bytes) -> None:
        if not self.is_expected:
            self._transport.abort()
            return
        self._arrived += data
        if len(self._arrived) > BUFFER_BYTES and not self._is_held_up:
            self._is_held_up = True
            self._transport.pause_reading()
        self._note_change()

    def eof_received(self) -> None:
        self._ended = True
        self._note_change()

    def connection_lost(self, error: Exception | None) -> None:
        self._ended = True
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

    async def send(self, data: bytes, timeout_s: float) -> bool:
        """Send everything, unless the server answers or leaves before it took it.

        Returns whether everything was sent.

        Raises:
            Failure: the server takes nothing for so long.
        """
        view = memoryview(data)
        for start in range(0, len(view), PIECE_BYTES):
            if self._ended:
                return False
            self._transport.write(bytes(view[start : start + PIECE_BYTES]))
            while self._is_full:
                if not self.is_quiet:
                    return False
                try:
                    await self._wait_changed(timeout_s)
                except TimeoutError:
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
            await self._wait_changed(timeout_s)
        data = bytes(self._arrived[:PIECE_BYTES])
        del self._arrived[:PIECE_BYTES]
        if self._is_held_up and not self._ended and len(self._arrived) <= BUFFER_BYTES:
            self._is_held_up = False
            self._transport.resume_reading()
        return data

    def abort(self) -> None:
        self._transport.abort()

    async def _wait_changed(self, timeout_s: float) -> None:
        self._changed = asyncio.get_running_loop().create_future()
        async with asyncio.timeout(timeout_s):
            await self._changed

    def _note_change(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)


class Connection:
    """One connection. It carries a request at a time, and is good for nothing after a failure."""

    def __init__(self, wire: _Wire, target: Target, since_s: float) -> None:
        self._wire = wire
        self._http = h11.Connection(
            h11.CLIENT, max_incomplete_event_size=limits.HTTP_HEAD_BYTES_MAX
        )
        self._received_bytes = 0
        self._exchanges = 0
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
        """Close it at once."""
        self._wire.abort()

    async def exchange(self, request: Request, bounds: Bounds) -> Response:
        """Send a checked request and receive its response, whole.

        Raises:
            Stale: it had been used before, and was closed without a word.
            Failure: anything else.
        """
        self._exchanges += 1
        self._received_bytes = 0
        self._wire.is_expected = True
        try:
            is_sent = await self._send(request, bounds)
            response = await self._receive(request, bounds)
        except h11.RemoteProtocolError as error:
            raise self._misbehaviour(error) from None
        is_over = self._http.states == {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}
        # What follows a response unasked would be taken for the answer to the next request.
        if is_sent and is_over and not self._http.trailing_data[0]:
            self._http.start_next_cycle()
            self._wire.is_expected = False
        return response

    async def _send(self, request: Request, bounds: Bounds) -> bool:
        head = h11.Request(
            method=request.method, target=request.path, headers=_raw(messages.framed(request))
        )
        parts = (
            self._http.send(head),
            self._http.send(h11.Data(data=request.body)) if request.body else b"",
            self._http.send(h11.EndOfMessage(headers=_raw(request.trailers))),
        )
        for part in parts:
            if part and not await self._wire.send(part, bounds.between_bytes_timeout_s):
                return False
        return True

    async def _receive(self, request: Request, bounds: Bounds) -> Response:
        head = await self._receive_head(bounds)
        headers = messages.received(head.headers)
        has_body = request.method != "HEAD" and head.status_code not in (204, 304)
        if has_body:
            _check_length(headers, bounds)
        body = bytearray()
        trailers: Headers = []
        for part in itertools.count(1):
            if part % PARTS_PER_TURN == 0:
                await asyncio.sleep(0)
            event = await self._event(bounds, bounds.between_bytes_timeout_s)
            match event:
                case h11.Data():
                    _check_size(len(body) + len(event.data), bounds)
                    _hold(len(event.data), bounds)
                    body += event.data
                    _check_parts(part, len(body))
                case h11.EndOfMessage():
                    trailers = messages.received(event.headers)
                    break
                case h11.ConnectionClosed() | h11.PAUSED:
                    break
        if has_body and self._wire.was_reset and not _tells_its_end(head):
            raise _incomplete()
        return Response(
            status=head.status_code, headers=headers, body=bytes(body), trailers=trailers
        )

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
        while True:
            event = self._http.next_event()
            if event is not h11.NEED_DATA:
                assert event is h11.PAUSED or not isinstance(event, type)
                return event
            try:
                data = await self._wire.receive(
                    bounds.between_bytes_timeout_s if self._received_bytes else timeout_s
                )
            except TimeoutError:
                raise self._silence(bounds) from None
            if not data and not self._received_bytes:
                raise self._closed()
            self._received_bytes += len(data)
            self._http.receive_data(data)

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
    target: Target, address: Address, *, tls: ssl.SSLContext | None, on_close: Callable[[], None]
) -> Connection:
    """Connect to this very address, and with ``tls`` prove that it is the target's.

    ``on_close`` is called once, whether or not this fails.

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
    return Connection(wire, target, loop.time())


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


def _raw(headers: Headers) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value) for name, value in headers]


def _tells_its_end(head: h11.Response) -> bool:
    """Whether a body's end is told otherwise than by the connection's."""
    return any(name in (b"content-length", b"transfer-encoding") for name, _ in head.headers)


def _check_length(headers: Headers, bounds: Bounds) -> None:
    """Refuse what announces itself as too large before any of it is read."""
    for name, value in headers:
        if name == "content-length":
            # h11 has seen to it that it is a number of at most twenty digits.
            _check_size(int(value), bounds)


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


def _hold(size_bytes: int, bounds: Bounds) -> None:
    if not bounds.hold(size_bytes):
        raise Failure(
            "HTTP-response-body-size", "the provider has no room for more of the response's body"
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

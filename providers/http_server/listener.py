"""One listening address; the only file that knows uvicorn.

uvicorn's ``Server`` owns a process: its signals, its ticks, its exit code. This runs inside an
event loop that belongs to others, so it takes uvicorn's HTTP protocol and its ASGI interface, and
opens and closes addresses itself.

What uvicorn leaves unbounded is bounded here: connections, the size of a request's head, the time
it takes to arrive, requests sent ahead, bytes that make no progress (chunk extensions, trailers), a
body that goes on after its request was refused, a client that does not read its response. The times
are checked by one sweep a second over all connections, so that a request costs no timer.

When a client goes away before it was answered, the task that runs its request is cancelled: what
ASGI has for that, ``http.disconnect``, would need a second task per request to wait for it.
"""

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Protocol, Self

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from lattice import errors, limits
from lattice.aio.tasks import TaskGroup
from providers.http_server import problems
from providers.http_server.contract import Response
from providers.http_server.settings import Address, TlsFiles

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

CONNECTION, TRAILERS = "lattice.connection", "lattice.trailers"
"""Keys of a scope: who ends a response as ASGI can't, and what followed the request's body."""

BACKLOG = 2048
"""Connections the kernel holds until they are accepted; the kernel's own bound may be lower."""

SWEEP_S = 1.0
"""Interval of the sweep: what bounds of several seconds can be checked with."""

UNWIND_S = 0.2
"""How long cancelled requests may take to say so to their clients."""


class Listener:
    """An open address, and the connections it accepted."""

    def __init__(self, sock: socket.socket, state: "_State", server: asyncio.Server) -> None:
        self._state = state
        self._server = server
        self.socket = sock
        host, port = sock.getsockname()[:2]
        self.address = Address(host, port)
        """Where it listens, with the port that the system chose."""
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)

    @classmethod
    async def open(
        cls, sock: socket.socket, application: Application, *, tls: ssl.SSLContext | None = None
    ) -> Self:
        """Accept connections on a bound socket, and close it in the end."""
        config = uvicorn.Config(
            application,
            http=_Protocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
        )
        config.load()
        state = _State()
        try:
            server = await asyncio.get_running_loop().create_server(
                lambda: _Protocol(config=config, server_state=state, app_state={}),
                sock=sock,
                ssl=tls,
                backlog=BACKLOG,
            )
        except BaseException:
            sock.close()
            raise
        return cls(sock, state, server)

    @property
    def is_listening(self) -> bool:
        return self._server.is_serving()

    def stop_accepting(self) -> None:
        """Close the address and idle connections at once; running requests go on."""
        self._server.close()
        self._state.close()

    async def wait_quiet(self) -> None:
        """Wait until the last connection has ended, having stopped accepting."""
        await self._state.quiet.wait()

    async def wait_closed(self) -> None:
        """Wait until the last connection has ended, having stopped accepting, and let go of all."""
        await self.wait_quiet()
        self._sweeper.cancel()

    async def aclose(self, grace_s: float) -> None:
        """Stop accepting, let running requests end for so long, then cut them off."""
        self.stop_accepting()
        if not await self._quiet_within(grace_s):
            self._state.cut_off()
            await self._quiet_within(UNWIND_S)
            self._state.abort()
        await self._state.requests.aclose()
        self._sweeper.cancel()

    async def _quiet_within(self, time_s: float) -> bool:
        try:
            async with asyncio.timeout(time_s):
                await self._state.quiet.wait()
        except TimeoutError:
            return False
        return True

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        self._sweeper = loop.call_later(SWEEP_S, self._sweep)
        self._state.set_date()
        self._state.sweep(loop.time())


def bind(address: Address, *, beside: Listener | None = None) -> socket.socket:
    """Bind a socket, so that an address that can't be had is known before anything changes.

    ``beside`` is a listener about to be closed, whose port is the same: both may have it meanwhile.

    Raises:
        AlreadyExists: somebody listens there.
        Denied: the process may not have that port.
        InvalidRequest: the address is not one of this machine.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Connections of a predecessor that still linger must not keep the address from us.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setblocking(False)
        with _shared_port(sock, beside):
            sock.bind((address.host, address.port))
            # On Linux two sockets may bind one address as long as neither listens.
            sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise _bind_error(address, error) from error
    return sock


@contextlib.contextmanager
def _shared_port(sock: socket.socket, beside: Listener | None) -> Iterator[None]:
    """Let two sockets of ours have one port, and only while the second is bound."""
    sockets = [sock, beside.socket] if beside else []
    for each in sockets:
        each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        yield
    finally:
        for each in sockets:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)


def tls_context(files: TlsFiles) -> ssl.SSLContext:
    """Load a certificate and its key.

    Raises:
        InvalidRequest: a file is missing or not what it should be.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(files.certificate, files.private_key, password=_no_password)
    # ValueError: a path with a null byte, or the answer of _no_password.
    except (OSError, ValueError) as error:
        raise errors.InvalidRequest(
            f"tls_cert_file {files.certificate} and tls_priv_key_file {files.private_key} "
            f"can't be used: {error}"
        ) from error
    return context


def _no_password() -> str:
    """Stand in for OpenSSL's own question, which would block on the terminal."""
    raise ValueError("the key is encrypted")


def _bind_error(address: Address, error: OSError) -> errors.LatticeError:
    match error.errno:
        case errno.EADDRINUSE:
            return errors.AlreadyExists(f"address {address} is in use by another process or link")
        case errno.EACCES | errno.EPERM:
            return errors.Denied(f"address {address} needs a privilege that this process lacks")
        case errno.EADDRNOTAVAIL | errno.EAFNOSUPPORT:
            return errors.InvalidRequest(f"address {address} is not one of this machine")
        case _:
            return errors.Unavailable(f"address {address} can't be listened on: {error.strerror}")


class _State(ServerState):
    """What the connections of one address share."""

    def __init__(self) -> None:
        super().__init__()
        self.requests = TaskGroup("http requests")
        self.closing = False
        self.quiet = asyncio.Event()
        """Set when closing and the last connection has ended."""
        self._unsent: list[_GatheredTransport] = []
        self._loop = asyncio.get_running_loop()
        self.set_date()

    def flush_soon(self, transport: "_GatheredTransport") -> None:
        """Have a transport send what it keeps, together with the others of this pass."""
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent.append(transport)

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        for transport in unsent:
            transport.flush()

    def set_date(self) -> None:
        self.default_headers = [(b"date", formatdate(usegmt=True).encode())]

    def close(self) -> None:
        self.closing = True
        for connection in list(self.connections):
            connection.shutdown()
        self.check_quiet()

    def check_quiet(self) -> None:
        if self.closing and not self.connections:
            self.quiet.set()

    def sweep(self, now: float) -> None:
        for connection in self._protocols():
            connection.sweep(now)

    def cut_off(self) -> None:
        for connection in self._protocols():
            connection.cut_off()

    def abort(self) -> None:
        for connection in self._protocols():
            connection.transport.abort()

    def _protocols(self) -> "list[_Protocol]":
        return [each for each in self.connections if isinstance(each, _Protocol)]


class Connection(Protocol):
    """What ASGI has no messages for."""

    is_flowing: bool
    """Whether the response comes in pieces, made while the client reads: then the application is
    cancelled when the client goes away, also after the response has begun."""

    def end_with(self, trailers: list[tuple[bytes, bytes]]) -> None:
        """End a response that has been sent in chunks, with what follows the body."""

    def break_off(self) -> None:
        """End the connection in the middle of a response, so that nobody takes it for complete."""


class _Protocol(HttpToolsProtocol):
    """One connection, with bounds.

    A connection is *reading a head* from the first byte of a request, *receiving a body* from the
    end of its headers to its last byte, *lingering* while it does so after its response, and
    otherwise *idle* or waiting for the application.
    """

    server_state: _State
    transport: "_GatheredTransport"

    def __init__(
        self, *, config: uvicorn.Config, server_state: _State, app_state: dict[str, Any]
    ) -> None:
        super().__init__(config=config, server_state=server_state, app_state=app_state)
        self._running: RequestResponseCycle | None = None
        """The request being answered, or answered last; those behind it wait in the pipeline."""
        self._request: asyncio.Task[None] | None = None
        """Runs the application for it."""
        self._receiving_body = False
        self.is_flowing = False
        self._head_since: float | None = None
        self._lingering_since: float | None = None
        self._idle_since: float | None = None
        self._unproductive_bytes = 0
        """Bytes since the last that were of use: a whole head, or a piece of a body."""
        self._refusal: bytes | None = None
        """The last thing to send, once the responses before it have been."""
        self._unsent_bytes = 0
        self._stalled_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(_GatheredTransport(transport, self.server_state))
        self._head_since = self._stalled_since = self.loop.time()
        state = self.server_state
        if state.closing or len(state.connections) > limits.HTTP_CONNECTIONS_MAX:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._cancel_request()
        self.server_state.check_quiet()

    def data_received(self, data: bytes) -> None:
        if self._refusal is not None:
            return
        if self._head_since is None and not self._receiving_body:
            self._head_since = self.loop.time()
            self._idle_since = None
        self._unproductive_bytes += len(data)
        super().data_received(data)
        if self._unproductive_bytes > limits.HTTP_HEAD_BYTES_MAX:
            error = errors.PayloadTooLarge(
                "the request's head, or what frames its body,",
                self._unproductive_bytes,
                limits.HTTP_HEAD_BYTES_MAX,
            )
            self._refuse(problems.response(error, status=431))

    def on_headers_complete(self) -> None:
        if len(self.pipeline) >= limits.HTTP_PIPELINE_MAX:
            error = errors.Overloaded(f"{len(self.pipeline)} requests wait on this connection")
            self._refuse(problems.response(error))
            # Ends the parsing of what has been read; the bytes behind are not looked at any more.
            raise error
        super().on_headers_complete()
        self._head_since = None
        self._receiving_body = True
        self._unproductive_bytes = 0
        # Trailers come through the same callback; they must not reach the scope after routing.
        self.headers = []

    def on_body(self, body: bytes) -> None:
        self._unproductive_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._receiving_body = False
        if self.headers:
            self.cycle.scope[TRAILERS] = self.headers  # type: ignore[literal-required]
        self._lingering_since = None
        self._unproductive_bytes = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        # Not uvicorn's own, which would set a timer for every idle moment of every connection.
        self.server_state.total_requests += 1
        if len(self.server_state.requests) == 1:
            self.transport.flush()
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._receiving_body:
            self._lingering_since = self.loop.time()
        else:
            self._idle_since = self.loop.time()
        if self._refusal is not None:
            self._send_refusal()

    def send_400_response(self, msg: str) -> None:
        self._refuse(problems.response(errors.InvalidRequest(msg), status=400))

    def sweep(self, now: float) -> None:
        """End the connection if its time is up."""
        unsent_bytes = self.transport.get_write_buffer_size()
        if unsent_bytes == 0 or unsent_bytes < self._unsent_bytes:
            self._stalled_since = now
        self._unsent_bytes = unsent_bytes
        if now - self._stalled_since > limits.HTTP_STALL_S:
            self.transport.abort()
        elif _is_over(self._lingering_since, limits.HTTP_LINGER_S, now) or _is_over(
            self._idle_since, limits.HTTP_KEEP_ALIVE_S, now
        ):
            self.transport.close()
        elif _is_over(self._head_since, limits.HTTP_HEAD_TIMEOUT_S, now) and not self._is_busy():
            if not self._unproductive_bytes:
                self.transport.close()
            else:
                error = errors.DeadlineExceeded("the request's headers did not arrive in time")
                self._refuse(problems.response(error, status=408))

    def cut_off(self) -> None:
        """Cancel the request that runs, which still may answer; else end the connection."""
        if not self._cancel_request():
            self.transport.abort()

    def _cancel_request(self) -> bool:
        """Cancel the application, unless it has come to a response that ends by itself."""
        if self._running is None or self._running.response_complete:
            return False
        if self._running.response_started and not self.is_flowing:
            return False
        assert self._request is not None
        return self._request.cancel()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        self.is_flowing = False
        cycle.scope[CONNECTION] = self  # type: ignore[literal-required]
        self._request = self.server_state.requests.spawn(cycle.run_asgi(app), name="http request")

    def end_with(self, trailers: list[tuple[bytes, bytes]]) -> None:
        cycle = self._running
        assert cycle is not None, "it has begun"
        if cycle.disconnected:
            return
        lines = [b"0", *(name + b": " + value for name, value in trailers), b"", b""]
        self.transport.write(b"\r\n".join(lines))
        self._complete(cycle)
        if not cycle.keep_alive:
            self.transport.close()
        cycle.on_response()

    def break_off(self) -> None:
        assert self._running is not None, "it has begun"
        self._complete(self._running)
        self.transport.close()

    def _complete(self, cycle: RequestResponseCycle) -> None:
        cycle.response_complete = True
        cycle.message_event.set()

    def _is_busy(self) -> bool:
        return self._running is not None and not self._running.response_complete

    def _refuse(self, response: Response) -> None:
        """Answer what can't be parsed, after the requests before it, and close."""
        if self._refusal is None and not self.transport.is_closing():
            self._refusal = _serialise(response, self.server_state.default_headers)
            self._send_refusal()

    def _send_refusal(self) -> None:
        assert self._refusal is not None
        is_at_fault = self._receiving_body and self._running is self.cycle
        if self.pipeline or (self._is_busy() and not is_at_fault):
            # Written now, it would be taken for the answer to a request that still runs.
            return
        # With half a body missing it is the current request's answer, unless that has begun.
        if not (self._receiving_body and self.cycle.response_started):
            self.transport.write(self._refusal)
        self.transport.close()


class _GatheredTransport(asyncio.Transport):
    """A transport that keeps what is written until the event loop's pass is over.

    A response's head and body become one system call, and the responses of a pass are sent in one
    go, which lets clients on busy connections stay awake between them: waking one for each costs
    more than the sending. A request that runs alone has its response sent at once.
    """

    __slots__ = ("_inner", "_pieces", "_state")

    def __init__(self, inner: asyncio.Transport, state: _State) -> None:
        self._inner = inner
        self._state = state
        self._pieces: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._pieces:
            self._state.flush_soon(self)
        self._pieces.append(bytes(data))

    def flush(self) -> None:
        """Send what was kept."""
        if self._pieces:
            data = b"".join(self._pieces)
            self._pieces.clear()
            self._inner.write(data)

    def close(self) -> None:
        self.flush()
        self._inner.close()

    def abort(self) -> None:
        self._pieces.clear()
        self._inner.abort()

    def is_closing(self) -> bool:
        return self._inner.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._inner.get_extra_info(name, default)

    def get_write_buffer_size(self) -> int:
        return self._inner.get_write_buffer_size()

    def pause_reading(self) -> None:
        self._inner.pause_reading()

    def resume_reading(self) -> None:
        self._inner.resume_reading()


def _is_over(since: float | None, time_s: float, now: float) -> bool:
    return since is not None and now - since > time_s


def _serialise(response: Response, headers: list[tuple[bytes, bytes]]) -> bytes:
    phrase = HTTPStatus(response.status).phrase
    lines = [f"HTTP/1.1 {response.status} {phrase}".encode()]
    lines += [
        name + b": " + value
        for name, value in [
            *headers,
            *response.headers,
            (b"content-length", str(len(response.body)).encode()),
            (b"connection", b"close"),
        ]
    ]
    return b"\r\n".join([*lines, b"", response.body])

"""The ASGI application of one listener: a request becomes a call, its outcome a response.

Written without a framework, since it stands in the way of every call. On the fast path - no body, a
target in the same process - it suspends nowhere and creates no task or timer.
"""

import asyncio
import re
import secrets
from collections.abc import Awaitable
from time import perf_counter_ns
from typing import Protocol

import structlog

from lattice import errors, limits
from lattice.wire.invocation import Reply, parse_key
from providers.http_server import contract, cors, incoming_handler, problems
from providers.http_server.contract import Response
from providers.http_server.listener import Receive, Scope, Send
from providers.http_server.problems import Refused
from providers.http_server.routing import Header, Table
from providers.http_server.settings import LinkSettings

log = structlog.get_logger()

_TRACE = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


class Caller(Protocol):
    """The part of a provider's context that calls actors."""

    def __call__(
        self,
        target: str,
        interface: str,
        operation: str,
        payload: bytes,
        *,
        timeout_s: float,
        link_name: str,
        key: str | None,
        trace: str | None,
    ) -> Awaitable[Reply]: ...


class Endpoint:
    """A link that requests go over; its settings may be replaced between two requests."""

    __slots__ = ("is_wasi", "link_name", "running", "settings", "target")

    def __init__(
        self, target: str, link_name: str, settings: LinkSettings, *, is_wasi: bool = False
    ) -> None:
        self.target = target
        self.is_wasi = is_wasi
        """Whether the target serves ``wasi:http/incoming-handler``; the link says so."""
        self.link_name = link_name
        self.settings = settings
        self.running = 0
        """Requests that have begun and not ended."""


class BodyBudget:
    """Bytes of request bodies that a provider holds, all listeners together."""

    __slots__ = ("held_bytes",)

    def __init__(self) -> None:
        self.held_bytes = 0

    def take(self, size: int) -> None:
        """Count bytes about to be held.

        Raises:
            Refused: there is no room; nothing was counted.
        """
        if self.held_bytes + size > limits.HTTP_BODIES_BYTES_MAX:
            raise Refused(503, errors.Overloaded("too many request bodies are held in memory"))
        self.held_bytes += size


class Application:
    """Answers the requests of one listener."""

    def __init__(self, call: Caller, budget: BodyBudget, table: Table[Endpoint]) -> None:
        self._call = call
        self._budget = budget
        self.table = table
        """Where requests go; replaced as a whole when links change."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whatever happens."""
        header = contract.header_map(scope["headers"])
        settings = None
        try:
            endpoint = self._route(scope, header)
            settings = endpoint.settings
            response = await self._serve(endpoint, settings, scope, header, receive)
        except Refused as refusal:
            response = problems.refused(refusal)
        except errors.LatticeError as error:
            response = problems.response(error)
        except asyncio.CancelledError:
            # The listener cuts off what outlived its grace; this task ends with these words, and
            # without any when it was the client that went away.
            response = problems.response(errors.Cancelled("the HTTP server is stopping"))
        except Exception as error:
            response = problems.response(_bug(error))
        if settings is not None:
            _apply_policy(response, settings, header)
        await _send(send, scope["method"], response)

    def _route(self, scope: Scope, header: Header) -> Endpoint:
        try:
            endpoint = self.table.find(scope["raw_path"].decode("latin-1"), header)
        except errors.InvalidRequest as error:
            raise Refused(400, error) from error
        if endpoint is None:
            raise Refused(404, errors.NotFound("no link of this HTTP server is for this request"))
        return endpoint

    async def _serve(
        self,
        endpoint: Endpoint,
        settings: LinkSettings,
        scope: Scope,
        header: dict[str, list[str]],
        receive: Receive,
    ) -> Response:
        if settings.cors and (allowed := cors.preflight(settings.cors, scope["method"], header)):
            return allowed
        if settings.readonly and scope["method"] not in ("GET", "HEAD"):
            error = errors.Denied("only GET and HEAD are allowed in read-only mode")
            raise Refused(405, error, (b"allow", b"GET, HEAD"))
        if endpoint.running >= settings.requests_max:
            raise Refused(
                503, errors.Overloaded(f"{endpoint.running} requests run over this link already")
            )
        began_ns = perf_counter_ns()
        timeout_s = _timeout_s(settings, header)
        path, query = scope["raw_path"].decode("latin-1"), scope["query_string"].decode("latin-1")
        body = b""
        endpoint.running += 1
        try:
            if "content-length" in header or "transfer-encoding" in header:
                loop = asyncio.get_running_loop()
                deadline = loop.time() + timeout_s
                body = await self._read_body(receive, header, settings.body_bytes_max, deadline)
                timeout_s = max(0.0, deadline - loop.time())
            if endpoint.is_wasi:
                interface, operation = incoming_handler.INTERFACE, incoming_handler.OPERATION
                payload = incoming_handler.encode_request(
                    method=scope["method"],
                    scheme=scope["scheme"],
                    path=path,
                    query=query,
                    headers=scope["headers"],
                    body=body,
                )
            else:
                interface, operation = contract.INTERFACE, contract.OPERATION
                payload = contract.encode_request(scope["method"], path, query, header, body)
            reply = await self._call(
                endpoint.target,
                interface,
                operation,
                payload,
                timeout_s=timeout_s,
                link_name=endpoint.link_name,
                key=_idempotency_key(header),
                trace=_trace(header),
            )
        finally:
            endpoint.running -= 1
            self._budget.held_bytes -= len(body)
        decode = incoming_handler.decode_response if endpoint.is_wasi else contract.decode_response
        response = decode(reply.payload)
        if settings.server_timing:
            response.headers.append((b"server-timing", _timing(reply, began_ns)))
        return response

    async def _read_body(
        self, receive: Receive, header: Header, size_max: int, deadline: float
    ) -> bytes:
        """Collect a body; its bytes stay counted in the budget when it is returned."""
        declared = header.get("content-length", ["0"])[0]
        # The parser has made sure that it is a number.
        if int(declared) > size_max:
            raise _too_large(int(declared), size_max)
        pieces: list[bytes] = []
        size = 0
        complete = False
        try:
            async with asyncio.timeout_at(deadline):
                while not complete:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise errors.Cancelled("the client went away")
                    piece: bytes = message["body"]
                    if size + len(piece) > size_max:
                        raise _too_large(size + len(piece), size_max)
                    self._budget.take(len(piece))
                    size += len(piece)
                    pieces.append(piece)
                    complete = not message["more_body"]
        except TimeoutError as error:
            late = errors.DeadlineExceeded("the request's body did not arrive in time")
            raise Refused(408, late) from error
        finally:
            if not complete:
                self._budget.held_bytes -= size
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _too_large(size: int, size_max: int) -> Refused:
    return Refused(413, errors.PayloadTooLarge("the request's body", size, size_max))


def _timeout_s(settings: LinkSettings, header: Header) -> float:
    """Return the time for the whole request: the link's, unless the client wants less."""
    if (values := header.get("lattice-timeout-ms")) is None:
        return settings.timeout_s
    text = values[0]
    # More digits than any deadline has say "as long as you like".
    if not (text.isascii() and text.isdigit()) or not (milliseconds := int(text[:12])):
        error = errors.InvalidRequest(
            f"Lattice-Timeout-Ms is {text[:40]!r}: want a number of milliseconds from 1"
        )
        raise Refused(400, error)
    return min(settings.timeout_s, milliseconds / 1000)


def _idempotency_key(header: Header) -> str | None:
    if (values := header.get("idempotency-key")) is None:
        return None
    try:
        return parse_key(values[0], what="Idempotency-Key")
    except errors.InvalidRequest as error:
        raise Refused(400, error) from error


def _trace(header: Header) -> str | None:
    """Return the client's trace context, unless it is malformed (W3C Trace Context, 3.2)."""
    values = header.get("traceparent")
    return values[0] if values and _TRACE.fullmatch(values[0]) else None


def _timing(reply: Reply, began_ns: int) -> bytes:
    """What a call took, in milliseconds as W3C Server Timing has it.

    ``total`` is from the request's headers to the actor's answer, with the way there and back;
    ``cpu`` and ``queue`` are what the actor's host says.
    """
    total_ms = (perf_counter_ns() - began_ns) / 1e6
    if (usage := reply.usage) is None:
        return b"total;dur=%.3f" % total_ms
    parts = usage.cpu_us / 1e3, usage.queue_us / 1e3, total_ms
    return b"cpu;dur=%.3f, queue;dur=%.3f, total;dur=%.3f" % parts


def _apply_policy(response: Response, settings: LinkSettings, header: Header) -> None:
    """Add what the link's settings ask of every response, errors included."""
    if settings.cache_control is not None and all(
        name != b"cache-control" for name, _ in response.headers
    ):
        response.headers.append((b"cache-control", settings.cache_control.encode("latin-1")))
    if settings.cors is not None:
        origin = header.get("origin", [None])[0]
        response.headers = cors.apply(settings.cors, origin, response.headers)
    if not settings.keep_alive:
        response.headers.append((b"connection", b"close"))


def _bug(error: Exception) -> errors.InternalError:
    reference = secrets.token_hex(4)
    log.error("HTTP request failed", reference=reference, exc_info=error)
    return errors.InternalError(f"a bug of the HTTP server; see its log at reference {reference}")


async def _send(send: Send, method: str, response: Response) -> None:
    """Send a response, framed as RFC 9110 wants it for the method and the status."""
    body = response.body
    length: bytes | None = b"%d" % len(body)
    if response.status in (204, 304):
        body, length = b"", None
    elif response.status == 205:
        body, length = b"", b"0"
    elif method == "HEAD" and not body:
        length = response.length
    headers = response.headers
    if length is not None:
        headers.append((b"content-length", length))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

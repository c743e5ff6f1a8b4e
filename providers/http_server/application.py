"""The ASGI application of one listener: a request becomes a call, its outcome a response.

Written without a framework, since it stands in the way of every call. On the fast path - no body, a
target in the same process - it suspends nowhere and creates no task or timer.
"""

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from time import perf_counter_ns
from typing import Protocol

import structlog

from lattice import errors, limits
from lattice.wire import http
from lattice.wire.invocation import Reply, parse_key
from lattice.wire.streams import Source
from providers.http_server import contract, cors, incoming_handler, problems
from providers.http_server.bodies import RequestBody
from providers.http_server.contract import Response
from providers.http_server.listener import CONNECTION, TRAILERS, Connection, Receive, Scope, Send
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
        stream: Source | None,
        takes_stream: bool,
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
        settings = rest = None
        try:
            endpoint = self._route(scope, header)
            settings = endpoint.settings
            response, rest = await self._serve(endpoint, settings, scope, header, receive)
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
        if rest is not None:
            await _send_in_pieces(send, scope, response, rest)
        elif response.trailers and _takes_trailers(header) and not _is_bodiless(scope, response):
            await _send_in_pieces(send, scope, response, Rest())
        else:
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
    ) -> "tuple[Response, Rest | None]":
        """Have the endpoint answer; with a rest there is more to send, and it is to be closed."""
        if settings.cors and (allowed := cors.preflight(settings.cors, scope["method"], header)):
            return allowed, None
        if settings.readonly and scope["method"] not in ("GET", "HEAD"):
            error = errors.Denied("only GET and HEAD are allowed in read-only mode")
            raise Refused(405, error, (b"allow", b"GET, HEAD"))
        if endpoint.running >= settings.requests_max:
            raise Refused(
                503, errors.Overloaded(f"{endpoint.running} requests run over this link already")
            )
        began_ns = perf_counter_ns()
        timeout_s = _timeout_s(settings, header)
        key = _idempotency_key(header)
        path, query = scope["raw_path"].decode("latin-1"), scope["query_string"].decode("latin-1")
        body, upload, reply = b"", None, None
        endpoint.running += 1
        # Of a call with a key the whole answer is remembered; HTTP/1.0 has no chunks.
        may_flow = endpoint.is_wasi and key is None and scope["http_version"] == "1.1"
        try:
            if "content-length" in header or "transfer-encoding" in header:
                loop = asyncio.get_running_loop()
                deadline = loop.time() + timeout_s
                if may_flow:
                    body, upload = await self._begin_body(
                        receive, scope, header, settings.body_bytes_max, deadline
                    )
                else:
                    size_max = min(settings.body_bytes_max, limits.HTTP_BODY_BYTES_MAX)
                    body = await self._read_body(receive, header, size_max, deadline)
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
                    is_streamed=upload is not None,
                    trailers=[] if upload is not None else _trailers(scope),
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
                key=key,
                trace=_trace(header),
                stream=upload,
                takes_stream=may_flow,
            )
            decode = (
                incoming_handler.decode_response if endpoint.is_wasi else contract.decode_response
            )
            response = decode(reply.payload)
        except errors.LatticeError as error:
            _close(reply)
            reply = None
            if upload is not None and upload.refusal is not None:
                raise Refused(413, upload.refusal) from error
            raise
        except BaseException:
            _close(reply)
            reply = None
            raise
        finally:
            self._budget.held_bytes -= len(body)
            if reply is None or reply.stream is None:
                endpoint.running -= 1
                self._end_upload(upload)
        if settings.server_timing:
            response.headers.append((b"server-timing", _timing(reply, began_ns)))
        if reply.stream is None:
            return response, None
        return response, Rest(reply.stream, lambda: self._end(endpoint, upload))

    def _end(self, endpoint: Endpoint, upload: RequestBody | None) -> None:
        endpoint.running -= 1
        self._end_upload(upload)

    def _end_upload(self, upload: RequestBody | None) -> None:
        if upload is not None:
            upload.close()
            self._budget.held_bytes -= limits.STREAM_WINDOW_BYTES

    async def _begin_body(
        self, receive: Receive, scope: Scope, header: Header, size_max: int, deadline: float
    ) -> tuple[bytes, RequestBody | None]:
        """Collect a body that is small; of any other give what has come, and the rest of it."""
        declared = int(header.get("content-length", ["0"])[0])
        if declared > size_max:
            raise _too_large(declared, size_max)
        if "content-length" in header and declared <= limits.HTTP_WHOLE_BODY_BYTES:
            return await self._read_body(receive, header, size_max, deadline), None
        self._budget.take(limits.STREAM_WINDOW_BYTES)
        return b"", RequestBody(receive, size_max=size_max, trailers=lambda: _trailers(scope))

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


def _close(reply: Reply | None) -> None:
    """Want no more of an answer that can't be passed on."""
    if reply is not None and reply.stream is not None:
        reply.stream.close()


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


class Rest:
    """What of a response is still to come; without a source nothing but its trailers."""

    __slots__ = ("_ended", "source")

    def __init__(
        self, source: Source | None = None, ended: Callable[[], None] | None = None
    ) -> None:
        self.source = source
        self._ended = ended

    def close(self) -> None:
        """Want no more of it, and let go of what the request had."""
        if self.source is not None:
            self.source.close()
        if self._ended is not None:
            self._ended()


def _trailers(scope: Scope) -> http.Headers:
    """What followed the request's body, which was read."""
    return [(name.decode("latin-1"), value) for name, value in scope.get(TRAILERS, ())]


def _takes_trailers(header: Mapping[str, list[str]]) -> bool:
    """Whether the client said so (RFC 9110 section 6.5.1)."""
    said = ",".join(header.get("te", ())).lower()
    return any(each.partition(";")[0].strip() == "trailers" for each in said.split(","))


def _is_bodiless(scope: Scope, response: Response) -> bool:
    return scope["method"] == "HEAD" or response.status in (204, 205, 304)


async def _send_in_pieces(send: Send, scope: Scope, response: Response, rest: Rest) -> None:
    """Send a response while it is made, no faster than the client reads it.

    One that breaks off, or whose request is cancelled, ends its connection: the client sees that it
    is not complete.
    """
    if _is_bodiless(scope, response):
        rest.close()
        response.body = b""
        await _send(send, scope["method"], response)
        return
    connection: Connection = scope[CONNECTION]
    connection.is_flowing = True
    headers = response.headers
    if response.length is not None:
        headers.append((b"content-length", response.length))
    try:
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        if response.body:
            await send({"type": "http.response.body", "body": response.body, "more_body": True})
        trailers = response.trailers
        if (source := rest.source) is not None:
            while piece := await source.read(limits.STREAM_PIECE_BYTES):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            trailers = incoming_handler.checked_trailers(source.trailers)
    except errors.LatticeError as error:
        log.info("a response broke off", code=error.code, error=error.text)
        connection.break_off()
    except asyncio.CancelledError:
        # The client is gone, or the listener cuts off what outlived its grace.
        connection.break_off()
    else:
        header = contract.header_map(scope["headers"])
        if trailers and response.length is None and _takes_trailers(header):
            connection.end_with(trailers)
        else:
            await send({"type": "http.response.body", "body": b""})
    finally:
        rest.close()


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

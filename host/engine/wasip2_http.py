"""``wasi:http``: the types, and how an exported ``incoming-handler`` is called.

A handler is given resources and gives one; a call between hosts carries what they hold
(``lattice.wire.http``), and may carry the rest of a body that is large or still to come. A response
that is complete when the guest returns is given whole. If its caller takes a stream, one that the
guest has set and not completed is given as soon as the guest waits for something, and the rest of
its body flows while the guest goes on.
"""

import re
from typing import Any, ClassVar

from host.engine import wit
from host.engine.component import Entry
from host.engine.component_guest import ComponentGuest, Later, Table
from host.engine.guest import GuestFault
from host.engine.wasip2 import Readiness, StreamError, err, get, ok
from host.engine.wasip2_http_bodies import (
    BodyStream,
    FutureTrailers,
    IncomingBody,
    OutgoingBody,
)
from host.engine.wasip2_http_errors import error_code, in_words
from lattice import errors, limits
from lattice.wire import http
from lattice.wire.streams import Source

TABLE = Table()
function = TABLE.put

TYPES = "wasi:http/types"

FIELDS_BYTES_MAX = 256 * limits.KIB
"""Names and values of one set of headers; servers and clients refuse a quarter of it."""

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
"""Everything that fits the wire and can't end the line or hide in it."""

FORBIDDEN = frozenset(
    {
        *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization"),
        *("proxy-connection", "transfer-encoding", "upgrade", "host", "http2-settings"),
    }
)
"""Headers of the connection and the authority: those that wasmtime forbids, and keeps from guests.

Guests copy all headers of one message to another, and must not come upon one that is refused."""

METHODS = frozenset(
    {"get", "head", "post", "put", "delete", "connect", "options", "trace", "patch"}
)


class Fields:
    """Headers or trailers."""

    __slots__ = ("entries", "is_mutable")

    def __init__(self, entries: http.Headers, *, is_mutable: bool = False) -> None:
        self.entries = entries
        self.is_mutable = is_mutable

    def values(self, name: str) -> list[bytes]:
        wanted = name.lower()
        return [value for key, value in self.entries if key == wanted]

    def replace(self, name: str, values: list[bytes]) -> None:
        wanted = name.lower()
        kept = [each for each in self.entries if each[0] != wanted]
        self.entries = kept
        self.add(name, values)

    def add(self, name: str, values: list[bytes]) -> None:
        self.entries = [*self.entries, *((name.lower(), value) for value in values)]
        size = sum(len(key) + len(value) for key, value in self.entries)
        if size > FIELDS_BYTES_MAX:
            raise GuestFault(f"headers of {size} bytes are over the limit of {FIELDS_BYTES_MAX}")


def incoming_fields(headers: http.Headers) -> Fields:
    """Headers that came from outside, without those that a guest could not give again."""
    return Fields([each for each in headers if each[0] not in FORBIDDEN])


def method_case(method: str) -> dict[str, str | None]:
    """A method as WASI has it."""
    name = method.lower()
    # Methods are case-sensitive: only the upper-case ones are those that WASI has names for.
    return {name: None} if name in METHODS and method.isupper() else {"other": method}


def scheme_case(scheme: str) -> dict[str, str | None]:
    """A scheme as WASI has it."""
    known = {"http": "HTTP", "https": "HTTPS"}.get(scheme.lower())
    return {known: None} if known else {"other": scheme}


def check_stream(guest: ComponentGuest, request: http.Request) -> None:
    """Hold what a request says of its body against what came with it.

    Raises:
        InvalidRequest: the rest of the body is missing, or nobody spoke of it.
    """
    if request.is_streamed != (guest.source is not None):
        raise errors.InvalidRequest("the rest of the request's body did not come with it")


class IncomingRequest:
    __slots__ = ("is_consumed", "request", "source")

    def __init__(self, request: http.Request, source: Source | None) -> None:
        self.request = request
        self.source = source
        """The rest of its body."""
        self.is_consumed = False


class OutgoingResponse:
    __slots__ = ("body", "headers", "status")

    def __init__(self, headers: Fields) -> None:
        self.status = 200
        self.headers = headers
        self.body: OutgoingBody | None = None


class ResponseOutparam:
    """Where a handler says once what its response is."""

    __slots__ = ()


def declared_length(headers: Fields) -> int | None:
    """What content-length promises, if it is a number."""
    declared = headers.values("content-length")
    is_number = bool(declared) and declared[0].isdigit() and len(declared[0]) < 20
    return int(declared[0]) if is_number else None


def _check_field(name: str, values: list[bytes]) -> str | None:
    """What is wrong with a header, as WASI calls it."""
    if not _NAME.fullmatch(name) or not all(_VALUE.fullmatch(value) for value in values):
        return "invalid-syntax"
    return "forbidden" if name.lower() in FORBIDDEN else None


@function(TYPES, "[constructor]fields")
def _fields(guest: ComponentGuest) -> wit.Own:
    return guest.own("fields", Fields([], is_mutable=True))


@function(TYPES, "[static]fields.from-list")
def _fields_from_list(guest: ComponentGuest, entries: list[list[Any]]) -> Any:
    fields = Fields([], is_mutable=True)
    for name, value in entries:
        if (wrong := _check_field(name, [value])) is not None:
            return err({wrong: None})
    fields.entries = [(name.lower(), value) for name, value in entries]
    if entries:
        name, value = fields.entries.pop()
        fields.add(name, [value])
    return ok(guest.own("fields", fields))


@function(TYPES, "[method]fields.get")
def _fields_get(guest: ComponentGuest, fields: int, name: str) -> list[bytes]:
    return get(guest, fields, Fields).values(name)


@function(TYPES, "[method]fields.has")
def _fields_has(guest: ComponentGuest, fields: int, name: str) -> bool:
    return bool(get(guest, fields, Fields).values(name))


@function(TYPES, "[method]fields.entries")
def _fields_entries(guest: ComponentGuest, fields: int) -> list[tuple[str, bytes]]:
    return get(guest, fields, Fields).entries


@function(TYPES, "[method]fields.clone")
def _fields_clone(guest: ComponentGuest, fields: int) -> wit.Own:
    return guest.own("fields", Fields(get(guest, fields, Fields).entries, is_mutable=True))


@function(TYPES, "[method]fields.set")
def _fields_set(guest: ComponentGuest, number: int, name: str, values: list[bytes]) -> Any:
    fields = get(guest, number, Fields)
    if not fields.is_mutable:
        return err({"immutable": None})
    if (wrong := _check_field(name, values)) is not None:
        return err({wrong: None})
    fields.replace(name, values)
    return ok()


@function(TYPES, "[method]fields.append")
def _fields_append(guest: ComponentGuest, number: int, name: str, value: bytes) -> Any:
    fields = get(guest, number, Fields)
    if not fields.is_mutable:
        return err({"immutable": None})
    if (wrong := _check_field(name, [value])) is not None:
        return err({wrong: None})
    fields.add(name, [value])
    return ok()


@function(TYPES, "[method]fields.delete")
def _fields_delete(guest: ComponentGuest, number: int, name: str) -> Any:
    fields = get(guest, number, Fields)
    if not fields.is_mutable:
        return err({"immutable": None})
    if not _NAME.fullmatch(name):
        return err({"invalid-syntax": None})
    fields.replace(name, [])
    return ok()


@function(TYPES, "[method]incoming-request.method")
def _request_method(guest: ComponentGuest, number: int) -> dict[str, str | None]:
    return method_case(get(guest, number, IncomingRequest).request.method)


@function(TYPES, "[method]incoming-request.path-with-query")
def _request_path(guest: ComponentGuest, number: int) -> str | None:
    return get(guest, number, IncomingRequest).request.path


@function(TYPES, "[method]incoming-request.scheme")
def _request_scheme(guest: ComponentGuest, number: int) -> dict[str, str | None] | None:
    scheme = get(guest, number, IncomingRequest).request.scheme
    return None if scheme is None else scheme_case(scheme)


@function(TYPES, "[method]incoming-request.authority")
def _request_authority(guest: ComponentGuest, number: int) -> str | None:
    return get(guest, number, IncomingRequest).request.authority


@function(TYPES, "[method]incoming-request.headers")
def _request_headers(guest: ComponentGuest, number: int) -> wit.Own:
    return guest.own("fields", incoming_fields(get(guest, number, IncomingRequest).request.headers))


@function(TYPES, "[method]incoming-request.consume")
def _request_consume(guest: ComponentGuest, number: int) -> Any:
    incoming = get(guest, number, IncomingRequest)
    if incoming.is_consumed:
        return err()
    incoming.is_consumed = True
    request = incoming.request
    body = IncomingBody(guest, request.body, request.trailers, incoming.source)
    return ok(guest.own("incoming-body", body))


@function(TYPES, "[method]incoming-body.stream")
def _body_stream(guest: ComponentGuest, number: int) -> Any:
    body = get(guest, number, IncomingBody)
    if body.is_streamed:
        return err()
    body.is_streamed = True
    return ok(guest.own("input-stream", body.inflow))


@function(TYPES, "[static]incoming-body.finish")
def _body_finish(guest: ComponentGuest, number: int) -> wit.Own:
    body = guest.take(number)
    return guest.own("future-trailers", FutureTrailers(guest, body))


@function(TYPES, "[method]future-trailers.subscribe")
def _trailers_subscribe(guest: ComponentGuest, number: int) -> wit.Own:
    return guest.own("pollable", Readiness(get(guest, number, FutureTrailers)))


@function(TYPES, "[method]future-trailers.get")
def _trailers_get(guest: ComponentGuest, number: int) -> Any:
    future = get(guest, number, FutureTrailers)
    if not future.is_true():
        return None
    if future.is_taken:
        return err()
    future.is_taken = True
    if (failure := future.body.inflow.failure) is not None:
        return ok(err(error_code(failure)))
    trailers = future.body.trailers
    return ok(ok(guest.own("fields", Fields(trailers)) if trailers else None))


@function(TYPES, "[constructor]outgoing-response")
def _response(guest: ComponentGuest, headers: int) -> wit.Own:
    fields = guest.take(headers)
    fields.is_mutable = False
    return guest.own("outgoing-response", OutgoingResponse(fields))


@function(TYPES, "[method]outgoing-response.status-code")
def _response_status(guest: ComponentGuest, number: int) -> int:
    return get(guest, number, OutgoingResponse).status


@function(TYPES, "[method]outgoing-response.set-status-code")
def _response_set_status(guest: ComponentGuest, number: int, status: int) -> Any:
    if not 100 <= status <= 999:
        return err()
    get(guest, number, OutgoingResponse).status = status
    return ok()


@function(TYPES, "[method]outgoing-response.headers")
def _response_headers(guest: ComponentGuest, number: int) -> wit.Own:
    return guest.own("fields", Fields(get(guest, number, OutgoingResponse).headers.entries))


@function(TYPES, "[method]outgoing-response.body")
def _response_body(guest: ComponentGuest, number: int) -> Any:
    response = get(guest, number, OutgoingResponse)
    if response.body is not None:
        return err()
    response.body = OutgoingBody(
        declared_length(response.headers),
        guest.limits.response_bytes,
        is_bounded=guest.takes_stream,
    )
    return ok(guest.own("outgoing-body", response.body))


@function(TYPES, "[method]outgoing-body.write")
def _body_write(guest: ComponentGuest, number: int) -> Any:
    body = get(guest, number, OutgoingBody)
    if body.is_streamed:
        return err()
    body.is_streamed = True
    return ok(guest.own("output-stream", BodyStream(body)))


@function(TYPES, "[static]outgoing-body.finish")
def _outgoing_finish(guest: ComponentGuest, number: int, trailers: int | None) -> Any:
    body = guest.take(number)
    if body.finish([] if trailers is None else guest.take(trailers).entries):
        return ok()
    return err(body.size_code())


@function(TYPES, "[static]response-outparam.set")
def _set_response(guest: ComponentGuest, number: int, response: dict[str, Any]) -> None:
    guest.take(number)
    if "ok" in response:
        guest.answer = guest.take(response["ok"])
    else:
        guest.answer = response["err"]


@function(TYPES, "http-error-code")
def _error_code(guest: ComponentGuest, error: int) -> http.ErrorCode | None:
    failed = get(guest, error, StreamError)
    return failed.http_code if failed.cause is None else error_code(failed.cause)


class IncomingHandler(Entry):
    """The exported ``handle``: called with a request, answered with a response."""

    def arguments(self, guest: ComponentGuest, payload: bytes) -> list[Any]:
        request = self._unpack(payload)
        check_stream(guest, request)
        return [
            guest.own("incoming-request", IncomingRequest(request, guest.source)),
            guest.own("response-outparam", ResponseOutparam()),
        ]

    def early_response(self, guest: ComponentGuest) -> bytes | None:
        answer = guest.answer
        if not isinstance(answer, OutgoingResponse):
            return None
        body = answer.body
        window = limits.STREAM_WINDOW_BYTES
        if body is None or (body.is_finished and len(body.content) <= window):
            return self._pack(_whole(answer))
        guest.outflow = body
        return self._pack(
            http.Response(
                status=answer.status,
                headers=answer.headers.entries,
                body=body.take(window),
                is_streamed=True,
            )
        )

    def response(self, guest: ComponentGuest, _result: Any) -> bytes | Later:
        return self._answered(guest)

    def full_response(self, guest: ComponentGuest) -> bytes | None:
        answer = guest.answer
        if not isinstance(answer, OutgoingResponse):
            return None
        is_full = answer.body is None or answer.body.is_finished
        return self._answered(guest) if is_full else None

    def _answered(self, guest: ComponentGuest) -> bytes:
        answer = guest.answer
        if answer is None:
            raise errors.ActorError("the HTTP handler returned and never set its response")
        if not isinstance(answer, OutgoingResponse):
            return self._failed(answer)
        body = answer.body
        if body is not None and not body.is_finished:
            promised = "" if body.length is None else f" of the {body.length} it promised"
            raise errors.ActorError(
                f"the HTTP handler did not finish its body: it wrote {body.size} bytes{promised}"
            )
        # What has flowed is not given again.
        return self._pack(_whole(answer)) if guest.outflow is None else b""

    # How a call says it, and wants to hear it.

    def _unpack(self, payload: bytes) -> http.Request:
        return http.unpack_request(payload)

    def _pack(self, response: http.Response) -> bytes:
        return http.pack_response(response)

    def _failed(self, code: http.ErrorCode) -> bytes:
        said = f"the HTTP handler failed with {in_words(code)}"
        raise errors.ActorError(said[: limits.ERROR_TEXT_CHARS])


class LinkedHandler(IncomingHandler):
    """The same ``handle``, as the target of another component's ``outgoing-handler``.

    Options of the request are not looked at: they are about connections.
    """

    operation: ClassVar[str | None] = http.OUTGOING_OPERATION

    def _unpack(self, payload: bytes) -> http.Request:
        request, _ = http.unpack_outgoing_request(payload)
        return request

    def _pack(self, response: http.Response) -> bytes:
        return http.pack_outcome(response)

    def _failed(self, code: http.ErrorCode) -> bytes:
        return http.pack_outcome(code)


def _whole(answer: OutgoingResponse) -> http.Response:
    body = answer.body
    return http.Response(
        status=answer.status,
        headers=answer.headers.entries,
        body=b"" if body is None else bytes(body.content),
        trailers=[] if body is None else body.trailers,
    )

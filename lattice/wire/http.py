"""A request and its response as calls of ``wasi:http`` carry them.

The interfaces' own functions take resources, which don't leave an actor. So a call is the
function's with the resources' content: the arguments are a list of one request, the result is a
response. Both are msgpack maps; headers and trailers are lists of a name and its bytes, in order.

A call of ``outgoing-handler`` also carries what the request's options say, and its result is
``{"ok": response}`` or ``{"err": error-code}``, an error code being a map of the case to its
payload.
"""

from dataclasses import dataclass, field
from typing import Any

from lattice import errors
from lattice.wire import codec

INTERFACE = "wasi:http/incoming-handler"
OPERATION = "incoming-handler.handle"

OUTGOING_INTERFACE = "wasi:http/outgoing-handler"
OUTGOING_OPERATION = "outgoing-handler.handle"

DURATION_NS_MAX = 2**64 - 1
"""WASI's ``duration`` has so many bits."""

Headers = list[tuple[str, bytes]]
"""Names in lower case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    method: str
    path: str | None
    """With its query."""
    scheme: str | None = "http"
    authority: str | None = None
    headers: Headers = field(default_factory=list)
    body: bytes = b""
    trailers: Headers = field(default_factory=list)
    is_streamed: bool = False
    """Whether more of the body, and its trailers, come in the stream beside the call's payload."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    status: int
    headers: Headers = field(default_factory=list)
    body: bytes = b""
    trailers: Headers = field(default_factory=list)
    is_streamed: bool = False
    """As a request's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How long an outgoing request may wait; None leaves it to who sends it."""

    connect_timeout_s: float | None = None
    first_byte_timeout_s: float | None = None
    between_bytes_timeout_s: float | None = None


ErrorCode = dict[str, Any]
"""One case of ``wasi:http/types.error-code`` and its payload, None where it has none."""


def pack_request(request: Request) -> bytes:
    return codec.pack([_request_map(request)])


def unpack_request(payload: bytes) -> Request:
    """Decode the arguments of a call.

    Raises:
        InvalidRequest: they are not a request.
    """
    return _request(_sole_argument(payload, OPERATION))


def pack_outgoing_request(request: Request, options: Options) -> bytes:
    return codec.pack(
        [
            {
                **_request_map(request),
                "connect-timeout": _nanoseconds(options.connect_timeout_s),
                "first-byte-timeout": _nanoseconds(options.first_byte_timeout_s),
                "between-bytes-timeout": _nanoseconds(options.between_bytes_timeout_s),
            }
        ]
    )


def unpack_outgoing_request(payload: bytes) -> tuple[Request, Options]:
    """Decode the arguments of a call of ``outgoing-handler``.

    Raises:
        InvalidRequest: they are not a request with its options.
    """
    content = _sole_argument(payload, OUTGOING_OPERATION)
    options = Options(
        connect_timeout_s=content.duration_s("connect-timeout"),
        first_byte_timeout_s=content.duration_s("first-byte-timeout"),
        between_bytes_timeout_s=content.duration_s("between-bytes-timeout"),
    )
    return _request(content), options


def pack_response(response: Response) -> bytes:
    return codec.pack(_response_map(response))


def unpack_response(payload: bytes) -> Response:
    """Decode the result of a call.

    Raises:
        InvalidRequest: it is not a response.
    """
    return _response(codec.unpack(payload))


def pack_outcome(outcome: Response | ErrorCode) -> bytes:
    """Encode the result of a call of ``outgoing-handler``."""
    if isinstance(outcome, Response):
        return codec.pack({"ok": _response_map(outcome)})
    return codec.pack({"err": outcome})


def unpack_outcome(payload: bytes) -> Response | ErrorCode:
    """Decode the result of a call of ``outgoing-handler``.

    Raises:
        InvalidRequest: it is neither a response nor an error code.
    """
    match codec.unpack(payload):
        case {"ok": content, **others} if not others:
            return _response(content)
        case {"err": dict(code), **others} if not others and len(code) == 1:
            return code
        case _:
            raise errors.InvalidRequest("the outcome is neither a response nor an error code")


def _request_map(request: Request) -> dict[str, Any]:
    return {
        "method": request.method,
        "path": request.path,
        "scheme": request.scheme,
        "authority": request.authority,
        "headers": request.headers,
        "body": request.body,
        "trailers": request.trailers,
        **({"streamed": True} if request.is_streamed else {}),
    }


def _response_map(response: Response) -> dict[str, Any]:
    return {
        "status": response.status,
        "headers": response.headers,
        "body": response.body,
        "trailers": response.trailers,
        **({"streamed": True} if response.is_streamed else {}),
    }


def _nanoseconds(duration_s: float | None) -> int | None:
    return None if duration_s is None else min(int(duration_s * 1e9), DURATION_NS_MAX)


def _sole_argument(payload: bytes, operation: str) -> "_Content":
    arguments = codec.unpack(payload)
    if not isinstance(arguments, list) or len(arguments) != 1:
        raise errors.InvalidRequest(f"{operation} wants a list of one request")
    return _Content(arguments[0], "request")


def _request(content: "_Content") -> Request:
    return Request(
        method=content.text("method") or "GET",
        path=content.text("path"),
        scheme=content.text("scheme"),
        authority=content.text("authority"),
        headers=content.headers("headers"),
        body=content.bytes("body"),
        trailers=content.headers("trailers"),
        is_streamed=content.is_true("streamed"),
    )


def _response(value: Any) -> Response:
    content = _Content(value, "response")
    return Response(
        status=content.status(),
        headers=content.headers("headers"),
        body=content.bytes("body"),
        trailers=content.headers("trailers"),
        is_streamed=content.is_true("streamed"),
    )


class _Content:
    """A decoded map, whose parts are checked as they are taken."""

    def __init__(self, content: Any, what: str) -> None:
        if not isinstance(content, dict):
            raise errors.InvalidRequest(f"the {what} is not a map")
        self._content = content
        self._what = what

    def text(self, name: str) -> str | None:
        value = self._content.get(name)
        if value is not None and not isinstance(value, str):
            raise self._wrong(name, "a string")
        return value

    def bytes(self, name: str) -> bytes:
        value = self._content.get(name, b"")
        if not isinstance(value, bytes):
            raise self._wrong(name, "bytes")
        return value

    def is_true(self, name: str) -> bool:
        value = self._content.get(name, False)
        if not isinstance(value, bool):
            raise self._wrong(name, "true or false")
        return value

    def status(self) -> int:
        value = self._content.get("status")
        if type(value) is not int or not 100 <= value <= 999:
            raise self._wrong("status", "a number of three digits")
        return value

    def duration_s(self, name: str) -> float | None:
        value = self._content.get(name)
        if value is None:
            return None
        if type(value) is not int or not 0 <= value <= DURATION_NS_MAX:
            raise self._wrong(name, "a number of nanoseconds")
        return value / 1e9

    def headers(self, name: str) -> Headers:
        value = self._content.get(name, [])
        if not isinstance(value, list):
            raise self._wrong(name, "a list")
        found = []
        for each in value:
            match each:
                case [str(key), bytes(content)]:
                    found.append((key.lower(), content))
                case _:
                    raise self._wrong(name, "a list of names and bytes")
        return found

    def _wrong(self, name: str, want: str) -> errors.InvalidRequest:
        return errors.InvalidRequest(f"{name} of the {self._what} is not {want}")

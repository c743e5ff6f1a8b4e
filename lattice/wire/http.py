"""A request and its response as a call of ``wasi:http/incoming-handler`` carries them.

The interface's own function takes resources, which don't leave an actor. So its call is the
function's with the resources' content: the arguments are a list of one request, the result is a
response. Both are msgpack maps; headers and trailers are lists of a name and its bytes, in order.
"""

from dataclasses import dataclass, field
from typing import Any

from lattice import errors
from lattice.wire import codec

INTERFACE = "wasi:http/incoming-handler"
OPERATION = "incoming-handler.handle"

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    status: int
    headers: Headers = field(default_factory=list)
    body: bytes = b""
    trailers: Headers = field(default_factory=list)


def pack_request(request: Request) -> bytes:
    return codec.pack(
        [
            {
                "method": request.method,
                "path": request.path,
                "scheme": request.scheme,
                "authority": request.authority,
                "headers": request.headers,
                "body": request.body,
                "trailers": request.trailers,
            }
        ]
    )


def unpack_request(payload: bytes) -> Request:
    """Decode the arguments of a call.

    Raises:
        InvalidRequest: they are not a request.
    """
    arguments = codec.unpack(payload)
    if not isinstance(arguments, list) or len(arguments) != 1:
        raise errors.InvalidRequest(f"{OPERATION} wants a list of one request")
    content = _Content(arguments[0], "request")
    return Request(
        method=content.text("method") or "GET",
        path=content.text("path"),
        scheme=content.text("scheme"),
        authority=content.text("authority"),
        headers=content.headers("headers"),
        body=content.bytes("body"),
        trailers=content.headers("trailers"),
    )


def pack_response(response: Response) -> bytes:
    return codec.pack(
        {
            "status": response.status,
            "headers": response.headers,
            "body": response.body,
            "trailers": response.trailers,
        }
    )


def unpack_response(payload: bytes) -> Response:
    """Decode the result of a call.

    Raises:
        InvalidRequest: it is not a response.
    """
    content = _Content(codec.unpack(payload), "response")
    return Response(
        status=content.status(),
        headers=content.headers("headers"),
        body=content.bytes("body"),
        trailers=content.headers("trailers"),
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

    def status(self) -> int:
        value = self._content.get("status")
        if type(value) is not int or not 100 <= value <= 999:
            raise self._wrong("status", "a number of three digits")
        return value

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

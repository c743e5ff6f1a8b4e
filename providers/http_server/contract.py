"""``wasmcloud:httpserver``: an HTTP request as the payload of a call, and its answer back.

Source: ``httpserver.smithy`` of wasmCloud's interfaces, and what its 0.x provider made of it: the
path is the one in the request line, still percent-encoded; the query comes without its question
mark; header names are lower-case, values in order. In answers only what has a meaning is required:
an absent status is 200, absent headers and body are empty.
"""

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from lattice import errors
from lattice.wire import codec

INTERFACE = "wasmcloud:httpserver"
OPERATION = "HttpServer.HandleRequest"

STATUS_MIN, STATUS_MAX = 200, 599
"""Statuses that can be an answer; below 200 the client would wait for another."""

NAME_CHARS_MAX = 256
"""Longest name of a header; three times the longest that is registered."""
NAMES_CACHED = 1024
"""Names of headers remembered as checked; all actors of a host hardly use more."""

DROPPED_HEADERS = frozenset(
    {
        # They describe the connection, which is not the actor's (RFC 9110 section 7.6.1) ...
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        # ... and these the server writes itself.
        b"content-length",
        b"date",
    }
)

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
"""Everything that fits the wire and can't end the line or hide in it."""


@dataclass(slots=True)
class Response:
    """An answer, whoever wrote it."""

    status: int
    headers: list[tuple[bytes, bytes]]
    """Lower-case names; none that the server writes itself."""
    body: bytes
    length: bytes | None = None
    """Content-Length that the actor gave: an answer to HEAD may have it without a body."""
    is_streamed: bool = False
    """Whether more of the body is to come."""
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)
    """What follows the body, where the client takes that."""


def header_map(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, list[str]]:
    """Gather a request's headers; the names come in lower-case already."""
    header: dict[str, list[str]] = {}
    for name, value in headers:
        key = name.decode("latin-1")
        if key in header:
            header[key].append(value.decode("latin-1"))
        else:
            header[key] = [value.decode("latin-1")]
    return header


def encode_request(
    method: str, path: str, query: str, header: dict[str, list[str]], body: bytes
) -> bytes:
    return codec.pack(
        {"method": method, "path": path, "queryString": query, "header": header, "body": body}
    )


def decode_response(payload: bytes) -> Response:
    """Read an actor's answer.

    Raises:
        ActorError: it is not one, or would break HTTP's framing; says how.
    """
    try:
        message = codec.named(codec.unpack_payload(payload), ("statusCode", "header", "body"))
    except errors.NotExecuted as error:
        raise malformed(error.text) from error
    if not isinstance(message, dict):
        raise malformed("not a map")
    status = message.get("statusCode", 200)
    if type(status) is not int or not STATUS_MIN <= status <= STATUS_MAX:
        raise malformed(f"statusCode {str(status)[:40]} is not {STATUS_MIN} to {STATUS_MAX}")
    body = codec.as_bytes(b"" if (given := message.get("body")) is None else given)
    if body is None:
        raise malformed("body is not bytes")
    response = Response(status, [], body)
    if (header := message.get("header")) is not None:
        _take_headers(response, header)
    return response


def _take_headers(response: Response, header: Any) -> None:
    if not isinstance(header, dict):
        raise malformed("header is not a map")
    for name, values in header.items():
        if not isinstance(name, str):
            raise malformed(f"{str(name)[:100]!r} is not the name of a header")
        if not isinstance(values, list):
            raise malformed(f"the values of header {name[:100]} are not a list")
        if not values:
            take_name(name)
        for value in values:
            take_header(response, name, value)


def take_name(name: str) -> bytes:
    """Give a header's name as it is sent.

    Raises:
        ActorError: it is not one.
    """
    if (key := _wire_name(name)) is None:
        raise malformed(f"{name[:100]!r} is not the name of a header")
    return key


def take_header(response: Response, name: str, value: Any) -> None:
    """Add a header to a response, unless it is one that the server writes itself.

    Raises:
        ActorError: it would break HTTP's framing.
    """
    key = take_name(name)
    # Line ends in a value would let whoever influences it write headers of their own.
    if not isinstance(value, str) or not _VALUE.fullmatch(value):
        raise malformed(f"header {name[:100]} has a value that can't be sent")
    if key not in DROPPED_HEADERS:
        response.headers.append((key, value.strip(" \t").encode("latin-1")))
    elif key == b"content-length" and value.isdecimal() and value.isascii():
        response.length = value.encode()


@functools.lru_cache(maxsize=NAMES_CACHED)
def _wire_name(name: str) -> bytes | None:
    """Return a header's name as it is sent, or None if it is not one."""
    if len(name) > NAME_CHARS_MAX or not _NAME.fullmatch(name):
        return None
    return name.lower().encode("latin-1")


def malformed(text: str) -> errors.ActorError:
    return errors.ActorError(f"the actor's response is malformed: {text}")

"""What goes over a connection, checked before it does, and what of it concerns the caller.

A request is built here alone, so that no caller can write framing of its own: who it is for and how
long it is are the client's to say, and what concerns only the connection is dropped on both ways.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from lattice import limits
from lattice.wire.http import Headers
from providers.http_client.failures import Failure
from providers.http_client.targets import Target

NAME_CHARS_MAX = 256
"""Longest name of a header; three times the longest that is registered."""

LENGTH_DIGITS_MAX = 19
"""Of a content-length: more than any body has bytes, and fewer than int() would mind."""

METHOD_CHARS_MAX = 32
"""Longest method; the longest registered has 17."""

CONNECTION_HEADERS = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""They concern one connection, not the message (RFC 9110, section 7.6.1)."""

OUR_HEADERS = frozenset({"host", "content-length", "expect", "http2-settings"})
"""Of a request: the client writes them itself, or does without."""

METHODS_REFUSED = frozenset({"CONNECT", "TRACE"})
"""A tunnel leads past every rule; an echo shows what the client added."""

METHODS_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
"""They say that their body is empty (RFC 9110, section 8.6)."""

METHODS_REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
"""Doing them twice is doing them once (RFC 9110, section 9.2.2)."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request whose parts have been checked by ``checked``, or come from one that was."""

    target: Target
    method: str
    path: str
    headers: Headers = field(default_factory=list)
    """The caller's own; ``framed`` adds the client's."""
    body: bytes = b""
    trailers: Headers = field(default_factory=list)
    is_streamed: bool = False
    """Whether more of the body, and its trailers, are still to come."""
    length: int | None = None
    """How long a body that is streamed says it will be."""


def checked(request: Request, *, body_bytes_max: int) -> Request:
    """The request as it may be sent.

    Raises:
        Failure: it can't be sent so; the text says what is wrong.
    """
    method = request.method
    if not _TOKEN.fullmatch(method) or len(method) > METHOD_CHARS_MAX:
        raise Failure("HTTP-request-method-invalid", f"{method[:100]!r} is not a method")
    if method.upper() in METHODS_REFUSED:
        raise Failure("HTTP-request-method-invalid", f"{method} is not offered")
    if request.path == "*" and method != "OPTIONS":
        raise Failure("HTTP-request-URI-invalid", f"the path * is only for OPTIONS, not {method}")
    size_bytes = len(request.body)
    check_size(size_bytes, body_bytes_max)
    _check_fields(request.headers, "header")
    _check_fields(request.trailers, "trailer")
    lengths = {value.strip() for name, value in request.headers if name == "content-length"}
    length = None
    if request.is_streamed:
        length = _declared(lengths, body_bytes_max)
    elif lengths - {str(size_bytes).encode()}:
        raise Failure(
            "HTTP-request-body-size",
            f"content-length says {max(lengths)[:40]!r}, and the body is {size_bytes} bytes",
            size_bytes,
        )
    return Request(
        target=request.target,
        method=method,
        path=request.path,
        headers=_own(request.headers, CONNECTION_HEADERS | OUR_HEADERS),
        body=request.body,
        trailers=_own(request.trailers, CONNECTION_HEADERS | OUR_HEADERS),
        is_streamed=request.is_streamed,
        length=length,
    )


def check_size(size_bytes: int, body_bytes_max: int) -> None:
    """
    Raises:
        Failure: a request's body may not be so large.
    """
    if size_bytes > body_bytes_max:
        raise Failure(
            "HTTP-request-body-size",
            f"the body is {size_bytes} bytes, over the limit of {body_bytes_max};"
            " max_request_body_bytes of the link can raise it",
            size_bytes,
        )


def checked_trailers(trailers: Headers) -> Headers:
    """What of the trailers of a body that was streamed may be sent.

    Raises:
        Failure: one can't be.
    """
    _check_fields(trailers, "trailer")
    return _own(trailers, CONNECTION_HEADERS | OUR_HEADERS)


def _declared(lengths: set[bytes], body_bytes_max: int) -> int | None:
    if not lengths:
        return None
    said = lengths.pop()
    if lengths or not said.isdigit() or len(said) > LENGTH_DIGITS_MAX:
        raise Failure("HTTP-request-body-size", f"content-length says {said[:40]!r}: no number")
    check_size(int(said), body_bytes_max)
    return int(said)


def framed(request: Request) -> Headers:
    """All headers of a checked request, those that make it a message included."""
    headers = [("host", request.target.authority.encode()), *request.headers]
    if request.length is not None:
        headers.append(("content-length", str(request.length).encode()))
    elif request.is_streamed:
        headers.append(("transfer-encoding", b"chunked"))
    elif request.trailers:
        names = ", ".join(dict.fromkeys(name for name, _ in request.trailers))
        headers += [("transfer-encoding", b"chunked"), ("trailer", names.encode())]
    elif request.body or request.method in METHODS_WITH_BODY:
        headers.append(("content-length", str(len(request.body)).encode()))
    return headers


def received(fields: Iterable[tuple[bytes, bytes]]) -> Headers:
    """What of a response's headers or trailers concerns the caller, bytes as they came."""
    return _own(
        [(name.decode("latin-1").lower(), bytes(value)) for name, value in fields],
        CONNECTION_HEADERS,
    )


def _own(headers: Headers, dropped: frozenset[str]) -> Headers:
    named = {
        option.strip().decode("latin-1").lower()
        for name, value in headers
        if name == "connection"
        for option in value.split(b",")
    }
    dropped |= named
    return [(name, value.strip(b" \t")) for name, value in headers if name not in dropped]


def _check_fields(fields: Headers, what: str) -> None:
    size_bytes = 0
    for name, value in fields:
        if len(name) > NAME_CHARS_MAX or not _TOKEN.fullmatch(name):
            raise _wrong(what, name, value, f"{name[:100]!r} is not the name of a {what}")
        # Line ends in a value would let whoever influences it write headers of their own.
        if not _VALUE.fullmatch(value):
            raise _wrong(what, name, value, f"{what} {name} has a value that can't be sent")
        size_bytes += len(name) + len(value) + 4
    if size_bytes > limits.HTTP_HEAD_BYTES_MAX:
        raise Failure(
            f"HTTP-request-{what}-section-size",
            f"the {what}s are {size_bytes} bytes, over the limit of {limits.HTTP_HEAD_BYTES_MAX}",
            size_bytes,
        )


def _wrong(what: str, name: str, value: bytes, text: str) -> Failure:
    return Failure(
        f"HTTP-request-{what}-size", text, {"field-name": name[:100], "field-size": len(value)}
    )

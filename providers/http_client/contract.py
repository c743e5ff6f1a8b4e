"""``wasmcloud:httpclient``: a request as the payload of a call, and its response back.

Source: ``httpclient.smithy`` of wasmCloud's interfaces. Header names come back in lower case,
values in order. What has an obvious meaning when it is absent may be: the method is ``GET`` then,
headers and body are empty.
"""

from typing import Any

from lattice import errors
from lattice.wire import codec
from lattice.wire.http import Headers, Response
from providers.http_client import targets
from providers.http_client.messages import Request

PACKAGE = ("wasmcloud", "httpclient")
"""Namespace and package of the contract, as links name it."""

OPERATION = "HttpClient.Request"


def decode_request(payload: bytes) -> Request:
    """Read an actor's request.

    Raises:
        InvalidRequest: it is not one.
        Failure: its URL can't be used.
    """
    message = codec.named(codec.unpack_payload(payload), ("method", "url", "headers", "body"))
    if not isinstance(message, dict):
        raise errors.InvalidRequest(f"{OPERATION} wants a map of named fields")
    url = message.get("url")
    if not isinstance(url, str):
        raise _wrong("url", "a string")
    method = message.get("method") or "GET"
    if not isinstance(method, str):
        raise _wrong("method", "a string")
    body = codec.as_bytes(b"" if (given := message.get("body")) is None else given)
    if body is None:
        raise _wrong("body", "bytes")
    target, path = targets.parse_url(url)
    return Request(
        target=target,
        method=method,
        path=path,
        headers=_headers(message.get("headers")),
        body=body,
    )


def encode_response(response: Response) -> bytes:
    header: dict[str, list[str]] = {}
    for name, value in response.headers:
        header.setdefault(name, []).append(value.decode("latin-1"))
    return codec.pack({"statusCode": response.status, "header": header, "body": response.body})


def _headers(value: Any) -> Headers:
    headers: Headers = []
    if not isinstance(value, dict | None):
        raise _wrong("headers", "a map of names to lists of strings")
    for name, values in (value or {}).items():
        if not isinstance(name, str) or not isinstance(values, list):
            raise _wrong("headers", "a map of names to lists of strings")
        for each in values:
            if not isinstance(each, str):
                raise _wrong("headers", "a map of names to lists of strings")
            try:
                headers.append((name.lower(), each.encode("latin-1")))
            except UnicodeEncodeError:
                raise _wrong(f"header {name[:100]}", "of characters up to U+00FF") from None
    return headers


def _wrong(field: str, want: str) -> errors.InvalidRequest:
    return errors.InvalidRequest(f"{OPERATION}: {field} must be {want}", detail={"field": field})

"""A web of the test's own, for actors that send requests: a function from request to response.

It speaks both faces of the HTTP client: ``HttpClient.Request`` of ``wasmcloud:httpclient``, and
``wasi:http/outgoing-handler`` with what its resources hold.
"""

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from lattice.testing.capabilities import Function
from lattice.wire import codec

if TYPE_CHECKING:
    import httpx

Web = Callable[["httpx.Request"], "httpx.Response | Awaitable[httpx.Response]"]
"""Answers requests; may be a coroutine function."""

PACKAGES = ("wasmcloud:httpclient", "wasi:http")
"""By which actors send requests."""


def functions(web: Web) -> dict[str, Function]:
    """Raw functions that answer the operations of both faces."""

    async def request(payload: bytes) -> bytes:
        asked = codec.unpack_payload(payload)
        headers = [
            (name, value)
            for name, values in (asked.get("headers") or {}).items()
            for value in values
        ]
        response = await _ask(
            web,
            method=asked.get("method") or "GET",
            url=asked["url"],
            headers=headers,
            body=asked.get("body"),
        )
        header: dict[str, list[str]] = {}
        for name, value in response.headers.multi_items():
            header.setdefault(name, []).append(value)
        return codec.pack(
            {"statusCode": response.status_code, "header": header, "body": response.content}
        )

    async def handle(payload: bytes) -> bytes:
        asked: Mapping[str, Any] = codec.unpack(payload)[0]
        scheme, authority = asked.get("scheme") or "https", asked.get("authority") or ""
        response = await _ask(
            web,
            method=asked.get("method") or "GET",
            url=f"{scheme}://{authority}{asked.get('path') or '/'}",
            headers=[(name, bytes(value).decode("latin-1")) for name, value in asked["headers"]],
            body=asked.get("body"),
        )
        answer = {
            "status": response.status_code,
            "headers": [
                [name, value.encode("latin-1")] for name, value in response.headers.multi_items()
            ],
            "body": response.content,
            "trailers": [],
        }
        return codec.pack({"ok": answer})

    return {"HttpClient.Request": request, "outgoing-handler.handle": handle}


async def _ask(
    web: Web, *, method: str, url: str, headers: Iterable[tuple[str, str]], body: Any
) -> "httpx.Response":
    import httpx  # noqa: PLC0415 - only those tests need it whose actors send requests

    content = body.encode() if isinstance(body, str) else bytes(body or b"")
    answer = web(httpx.Request(method, url, headers=list(headers), content=content))
    response = await answer if inspect.isawaitable(answer) else answer
    await response.aread()
    return response

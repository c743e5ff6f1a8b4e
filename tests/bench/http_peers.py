"""The peers of the HTTP bench, each in a process of its own: ``NAME PORT``.

``provider`` is our HTTP provider with a plain function in the place of the actor; ``uvicorn`` is
stock uvicorn with the smallest ASGI application.
"""

import asyncio
import sys
from typing import Any

import uvicorn
import uvloop

from lattice import log
from lattice.wire import codec
from lattice.wire.invocation import Reply
from providers.http_server.provider import HttpServer
from providers.sdk import Link

BODY = b"GET /\n"
HEADERS = [(b"content-type", b"text/plain"), (b"content-length", str(len(BODY)).encode())]
ANSWER = Reply(
    codec.pack({"statusCode": 200, "header": {"content-type": ["text/plain"]}, "body": BODY})
)


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        await send({"type": "http.response.body", "body": BODY})


class Nobody:
    """A provider's context in which every call is answered at once, with the same bytes."""

    provider_id = "http"
    host_id = "bench"
    lattice = "bench"

    async def call_for_reply(self, *_arguments: Any, **_options: Any) -> Reply:
        return ANSWER


async def serve_provider(port: int) -> None:
    provider = HttpServer()
    await provider.start(Nobody(), {})  # type: ignore[arg-type]
    await provider.put_link(
        Link(
            source_id="http",
            target="nobody",
            wit_namespace="wasmcloud",
            wit_package="httpserver",
            source_config={"address": f"127.0.0.1:{port}"},
        )
    )
    await asyncio.Event().wait()


def serve_uvicorn(port: int) -> None:
    uvicorn.run(
        application,
        port=port,
        http="httptools",
        loop="uvloop",
        lifespan="off",
        access_log=False,
        log_level="error",
        server_header=False,
    )


if __name__ == "__main__":
    log.configure(level="error")
    if sys.argv[1] == "provider":
        uvloop.run(serve_provider(int(sys.argv[2])))
    else:
        serve_uvicorn(int(sys.argv[2]))

"""The near end of the peer chain: FastAPI. ``NATS_URL PORT``; run by the peers' interpreter."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import nats
import uvicorn
from fastapi import FastAPI, Request, Response


@asynccontextmanager
async def lifespan(application: FastAPI) -> AsyncIterator[None]:
    application.state.nats = await nats.connect(sys.argv[1])
    yield
    await application.state.nats.close()


application = FastAPI(lifespan=lifespan)


@application.get("/")  # type: ignore[untyped-decorator]
async def answer(request: Request) -> Response:
    line = f"{request.method} {request.url.path}\n".encode()
    reply = await request.app.state.nats.request("bench.chain", line, timeout=10)
    return Response(reply.data, media_type="text/plain")


uvicorn.run(
    application,
    port=int(sys.argv[2]),
    http="httptools",
    loop="uvloop",
    access_log=False,
    log_level="error",
)

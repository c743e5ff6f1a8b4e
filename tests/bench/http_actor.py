"""HTTP to an actor in the same host, against the same server answering by itself."""

import asyncio
import socket
import sys

import httpx

from lattice.bus.server import NatsServer
from lattice.wire import control
from tests.bench.processes import child, host, wrk
from tests.bench.report import Row, median_row

ROUNDS = 5
SECONDS = 2
CONNECTIONS = 32

BARE_SERVER = "tests.bench.bare_http_server"


async def measure() -> list[Row]:
    bare_port, actor_port = _free_port(), _free_port()
    server = await NatsServer.start()
    try:
        async with (
            child(sys.executable, "-m", BARE_SERVER, str(bare_port)),
            host(server.url, "bench") as runner,
        ):
            await runner.start_actor("echo", count=CONNECTIONS * 2)
            await runner.start_provider("lattice+builtin://http-server", "http")
            await runner.client.put_config("bench", {"address": f"127.0.0.1:{actor_port}"})
            await runner.client.put_link(
                control.Link(
                    source_id="http",
                    target="echo",
                    wit_namespace="wasmcloud",
                    wit_package="httpserver",
                    source_config=["bench"],
                )
            )
            bare, actor = (f"http://127.0.0.1:{port}/" for port in (bare_port, actor_port))
            await _wait_answering(bare)
            await _wait_answering(actor)
            ratios, rates = [], []
            for _ in range(ROUNDS):
                bare_rate = await wrk(bare, connections=CONNECTIONS, seconds=SECONDS)
                rates.append(await wrk(actor, connections=CONNECTIONS, seconds=SECONDS))
                ratios.append(rates[-1] / bare_rate)
    finally:
        await server.aclose()
    return [
        median_row(
            ratios,
            id="http_actor_throughput",
            unit="x",
            goal=0.5,
            better="higher",
            against="the same HTTP server answering the same bytes without an actor",
        ),
        median_row(
            rates,
            id="http_actor_rate",
            unit="requests/s",
            better="higher",
            against=f"wrk, {CONNECTIONS} connections, a fresh instance per request",
        ),
    ]


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


async def _wait_answering(url: str) -> None:
    async with asyncio.timeout(20), httpx.AsyncClient() as client:
        while True:
            try:
                if (await client.get(url)).status_code == httpx.codes.OK:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.05)

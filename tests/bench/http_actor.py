"""HTTP to an actor in the same host, against the same server answering without an actor."""

import asyncio
import socket
import statistics
import sys
from contextlib import AsyncExitStack

import httpx

from lattice.bus.server import NatsServer
from lattice.wire import control
from tests.bench.processes import child, host, wrk
from tests.bench.report import Row, median_row

ROUNDS = 5
SECONDS = 2
CONNECTIONS = 32
PEERS = ("provider", "uvicorn")


async def measure() -> list[Row]:
    """Interleaved rounds, so that a slow moment of the machine hits all of them."""
    ports = {name: _free_port() for name in (*PEERS, "actor")}
    async with AsyncExitStack() as stack:
        server = await NatsServer.start()
        stack.push_async_callback(server.aclose)
        for name in PEERS:
            command = (sys.executable, "-m", "tests.bench.http_peers", name, str(ports[name]))
            await stack.enter_async_context(child(*command))
        runner = await stack.enter_async_context(host(server.url, "bench"))
        await runner.start_actor("echo", count=CONNECTIONS * 2)
        await runner.start_provider("lattice+builtin://http-server", "http")
        await runner.client.put_config("bench", {"address": f"127.0.0.1:{ports['actor']}"})
        await runner.client.put_link(
            control.Link(
                source_id="http",
                target="echo",
                wit_namespace="wasmcloud",
                wit_package="httpserver",
                source_config=["bench"],
            )
        )
        rates: dict[str, list[float]] = {name: [] for name in ports}
        for port in ports.values():
            await _wait_answering(_url(port))
        for _ in range(ROUNDS):
            for name, port in ports.items():
                rates[name].append(await wrk(_url(port), connections=CONNECTIONS, seconds=SECONDS))
    return _rows(rates)


def _rows(rates: dict[str, list[float]]) -> list[Row]:
    shared = f"wrk, {CONNECTIONS} connections, one core for the server"
    provider_rate, uvicorn_rate = (statistics.median(rates[name]) for name in PEERS)
    return [
        median_row(
            [a / b for a, b in zip(rates["actor"], rates["provider"], strict=True)],
            id="http_actor_throughput",
            unit="x",
            goal=0.5,
            better="higher",
            against="the same HTTP server with a plain function in the place of the actor"
            f" ({provider_rate:.0f} requests/s)",
        ),
        median_row(
            [a / b for a, b in zip(rates["actor"], rates["uvicorn"], strict=True)],
            id="http_actor_against_uvicorn",
            unit="x",
            better="higher",
            against="stock uvicorn with the smallest ASGI application"
            f" ({uvicorn_rate:.0f} requests/s)",
        ),
        median_row(
            rates["actor"],
            id="http_actor_rate",
            unit="requests/s",
            better="higher",
            against=f"{shared}, a fresh instance per request",
        ),
    ]


def _url(port: int) -> str:
    return f"http://127.0.0.1:{port}/"


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

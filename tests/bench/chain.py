"""HTTP to an actor on another host, through a provider process and NATS, against a Python chain."""

import statistics
from contextlib import AsyncExitStack

from lattice.bus.server import NatsServer
from tests.bench import installed
from tests.bench.http_actor import SCRIPTS
from tests.bench.processes import answering, child, free_port, host, wrk
from tests.bench.report import Row, median_row, unmeasured

ROUNDS = 5
SECONDS = 2
CONNECTIONS = 32

ROW = {"id": "http_chain_throughput", "unit": "x", "goal": 0.5, "better": "higher"}


async def measure() -> list[Row]:
    """Interleaved rounds of both chains, on one NATS server."""
    try:
        await installed.wrk()
        python = await installed.chain_python()
    except installed.MissingError as reason:
        return [unmeasured(str(reason), **ROW)]
    ours, peers = free_port(), free_port()
    rates: dict[int, list[float]] = {ours: [], peers: []}
    async with AsyncExitStack() as stack:
        server = await NatsServer.start()
        stack.push_async_callback(server.aclose)
        near = await stack.enter_async_context(host(server.url, "near"))
        far = await stack.enter_async_context(host(server.url, "far"))
        await far.start_actor("echo", count=CONNECTIONS * 2)
        await near.serve_http("lattice+process://http-server", ours)
        for script, arguments in (
            ("chain_responder.py", (server.url,)),
            ("chain_web.py", (server.url, str(peers))),
        ):
            await stack.enter_async_context(child(str(python), str(SCRIPTS / script), *arguments))
        urls = {port: f"http://127.0.0.1:{port}/" for port in rates}
        for url in urls.values():
            await answering(url)
        for _ in range(ROUNDS):
            for port, url in urls.items():
                rates[port].append(await wrk(url, connections=CONNECTIONS, seconds=SECONDS))
    return [
        median_row(
            [a / b for a, b in zip(rates[ours], rates[peers], strict=True)],
            **ROW,
            against="FastAPI on uvicorn, nats-py, and a nats-py responder, without WebAssembly"
            f" ({statistics.median(rates[peers]):.0f} requests/s)",
        ),
        median_row(
            rates[ours],
            id="http_chain_rate",
            unit="requests/s",
            better="higher",
            against=f"wrk, {CONNECTIONS} connections; HTTP server process, NATS, actor's host",
        ),
    ]

"""HTTP to an actor in the same host: against workerd, and the same server without an actor."""

import shutil
import statistics
import sys
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from lattice.bus.server import NatsServer
from tests.bench import installed
from tests.bench.processes import EXAMPLES, answering, child, free_port, host, wrk
from tests.bench.report import Row, median_row, unmeasured

ROUNDS = 5
SECONDS = 2
CONNECTIONS = 32
PEERS = ("provider", "uvicorn")
WORKERD = "workerd"
SCRIPTS = Path(__file__).with_name("peers")

WORKERD_ROW = {
    "id": "http_actor_against_workerd",
    "unit": "x",
    "goal": 1.5,
    "better": "higher",
}


async def measure() -> list[Row]:
    """Interleaved rounds, so that a slow moment of the machine hits all of them."""
    ports = {name: free_port() for name in (*PEERS, "actor")}
    missing = ""
    try:
        await installed.wrk()
    except installed.MissingError as reason:
        return [unmeasured(str(reason), **WORKERD_ROW)]
    async with AsyncExitStack() as stack:
        server = await NatsServer.start()
        stack.push_async_callback(server.aclose)
        for name in PEERS:
            command = (sys.executable, "-m", "tests.bench.http_peers", name, str(ports[name]))
            await stack.enter_async_context(child(*command))
        try:
            program = await installed.workerd()
        except installed.MissingError as reason:
            missing = str(reason)
        else:
            ports[WORKERD] = free_port()
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="lattice-bench-")))
            await stack.enter_async_context(_workerd(program, folder, ports[WORKERD]))
        runner = await stack.enter_async_context(host(server.url, "bench"))
        await runner.start_actor("echo", count=CONNECTIONS * 2)
        await runner.serve_http("lattice+builtin://http-server", ports["actor"])
        rates: dict[str, list[float]] = {name: [] for name in ports}
        for port in ports.values():
            await answering(_url(port))
        for _ in range(ROUNDS):
            for name, port in ports.items():
                rates[name].append(await wrk(_url(port), connections=CONNECTIONS, seconds=SECONDS))
    return [_workerd_row(rates, missing), *_rows(rates)]


def _workerd(program: Path, folder: Path, port: int) -> AbstractAsyncContextManager[object]:
    """A Worker of the very module that our actor is."""
    for name in ("worker.js", "worker.capnp"):
        shutil.copy(SCRIPTS / name, folder)
    shutil.copy(EXAMPLES / "echo" / "echo.wasm", folder)
    return child(
        str(program), "serve", f"--socket-addr=http=127.0.0.1:{port}", str(folder / "worker.capnp")
    )


def _workerd_row(rates: dict[str, list[float]], missing: str) -> Row:
    if missing:
        return unmeasured(missing, **WORKERD_ROW)
    rate = statistics.median(rates[WORKERD])
    return median_row(
        [a / b for a, b in zip(rates["actor"], rates[WORKERD], strict=True)],
        **WORKERD_ROW,
        against="a Worker in workerd that makes an instance of the same module per request"
        f" ({rate:.0f} requests/s)",
    )


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

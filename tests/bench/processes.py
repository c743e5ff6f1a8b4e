"""Real processes for the benches that cross process borders: hosts, responders, load."""

import asyncio
import os
import re
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx

from lattice import artefacts
from lattice.aio import processes
from lattice.bus import Bus, NatsSettings
from lattice.control.client import ControlClient
from lattice.wire import control
from tests.bench import installed

START_TIMEOUT_S = 20.0
GRACE_S = 5.0
EXAMPLES = Path(__file__).parents[2] / "deploy" / "examples"


@asynccontextmanager
async def child(*command: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that ends with the block; its output is kept out of the way."""
    process = await processes.spawn(
        *command, output=asyncio.subprocess.DEVNULL, env=dict(os.environ)
    )
    try:
        yield process
    finally:
        await processes.end(process, grace_s=GRACE_S)


class BenchHost:
    """A host process and the means to command it."""

    def __init__(
        self, process: asyncio.subprocess.Process, bus: Bus, client: ControlClient, host_id: str
    ) -> None:
        self.process = process
        self.bus = bus
        self.client = client
        self.id = host_id

    async def start_actor(self, name: str, *, count: int) -> None:
        content = (EXAMPLES / name / f"{name}.wasm").read_bytes()
        reference = await artefacts.upload(self.bus, "default", name, content)
        command = control.ScaleComponent(
            component_id=name, component_ref=str(reference), count=count, host_id=self.id
        )
        async with self.client.events("component_scaled", "component_scale_failed") as events:
            await self.client.scale_component(command)
            event = await events.wait_for(lambda _: True, timeout_s=START_TIMEOUT_S)
        assert event is not None
        assert event.name == "component_scaled", event.data

    async def serve_http(self, reference: str, port: int) -> None:
        """Have an HTTP server listen on a port, for the actor ``echo``."""
        await self.start_provider(reference, "http")
        await self.client.put_config("bench", {"address": f"127.0.0.1:{port}"})
        await self.client.put_link(
            control.Link(
                source_id="http",
                target="echo",
                wit_namespace="wasmcloud",
                wit_package="httpserver",
                source_config=["bench"],
            )
        )

    async def start_provider(self, reference: str, provider_id: str) -> None:
        command = control.StartProvider(
            provider_id=provider_id, provider_ref=reference, host_id=self.id
        )
        async with self.client.events("provider_started", "provider_start_failed") as events:
            await self.client.start_provider(command)
            event = await events.wait_for(lambda _: True, timeout_s=START_TIMEOUT_S)
        assert event is not None
        assert event.name == "provider_started", event.data


@asynccontextmanager
async def host(nats_url: str, name: str) -> AsyncIterator[BenchHost]:
    """A host process that answers, on lattice ``default``."""
    command = (sys.executable, "-m", "host", "--nats", nats_url, "--name", name)
    async with AsyncExitStack() as stack:
        process = await stack.enter_async_context(child(*command, "--log-level", "error"))
        bus = await Bus.connect(NatsSettings(servers=(nats_url,)), name="bench")
        stack.push_async_callback(bus.aclose)
        client = ControlClient(bus, "default")
        async with asyncio.timeout(START_TIMEOUT_S):
            while not (
                found := [h for h in await client.hosts(wait_s=0.2) if h.friendly_name == name]
            ):
                continue
        yield BenchHost(process, bus, client, found[0].id)


async def wrk(url: str, *, connections: int, seconds: int) -> float:
    """Requests per second that wrk gets out of a URL; every answer must be a success.

    Raises:
        MissingError: there is no wrk, and it can't be had.
    """
    program = await installed.wrk()
    environment = dict(os.environ)
    if program.libraries is not None:
        environment["LD_LIBRARY_PATH"] = str(program.libraries)
    process = await asyncio.create_subprocess_exec(
        program.path,
        "-t1",
        f"-c{connections}",
        f"-d{seconds}s",
        url,
        stdout=asyncio.subprocess.PIPE,
        env=environment,
    )
    output = (await process.communicate())[0].decode()
    assert "Non-2xx" not in output, output
    match = re.search(r"Requests/sec:\s+([0-9.]+)", output)
    assert match, output
    return float(match[1])


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


async def answering(url: str) -> None:
    """Wait until a URL answers with success.

    Raises:
        TimeoutError: it does not.
    """
    async with asyncio.timeout(START_TIMEOUT_S), httpx.AsyncClient() as client:
        while True:
            try:
                if (await client.get(url)).status_code == httpx.codes.OK:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.05)

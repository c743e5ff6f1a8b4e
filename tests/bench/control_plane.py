"""The control plane as the lattice grows: 10 hosts, then 100, with ten actors and fifty links each.

The hosts are real and share four processes; what is measured is a client's wait, what a host costs,
and how long a new link takes to be in force everywhere.
"""

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import psutil

from lattice import artefacts, subjects
from lattice.aio import processes
from lattice.bus import Bus, NatsSettings
from lattice.bus.server import NatsServer
from lattice.control.client import ControlClient
from lattice.wire import control
from tests.bench import host_farm
from tests.bench.processes import EXAMPLES, GRACE_S
from tests.bench.report import Row, median_row

SIZES = (10, 100)
PROCESSES = 4
ACTORS_PER_HOST = 10
LINKS_PER_HOST = 50
LINKS_PER_SOURCE = 100
ROUNDS = 11
READY_S = 120.0
PATIENCE_S = 30.0
INTERACTIVE_MS = 1_000
"""What a person at a terminal does not notice as waiting."""


async def measure() -> list[Row]:
    """Both sizes, so that the growth shows."""
    return [row for size in SIZES for row in await _measure(size)]


async def _measure(size: int) -> list[Row]:
    async with AsyncExitStack() as stack:
        server = await NatsServer.start()
        stack.push_async_callback(server.aclose)
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        bus = await Bus.connect(NatsSettings(servers=(server.url,)), name="bench")
        stack.push_async_callback(bus.aclose)
        client = ControlClient(bus, "default", timeout_s=PATIENCE_S)
        began = time.monotonic()
        farms = await stack.enter_async_context(_farms(size, server.url, directory))
        start_ms = (time.monotonic() - began) * 1000 / size
        hosts = await _all_hosts(client, size)
        await _start_actors(bus, client, hosts)
        await _put_links(bus, size * LINKS_PER_HOST)
        memory_mib = sum(psutil.Process(farm.pid).memory_info().rss for farm in farms) / 2**20
        shape = f"{size} hosts, {size * ACTORS_PER_HOST} actors, {size * LINKS_PER_HOST} links"
        return [
            Row(
                id=f"host_start_{size}",
                value=round(start_ms, 1),
                unit="ms",
                better="lower",
                against=f"from the first process to all hosts ready, per host; {shape}",
            ),
            Row(
                id=f"host_memory_{size}",
                value=round(memory_mib / size, 2),
                unit="MiB",
                better="lower",
                against=f"resident memory per host, {size // PROCESSES} in a process; {shape}",
            ),
            await _timed(f"get_hosts_{size}", client.hosts, shape),
            await _timed(f"get_links_{size}", client.links, shape),
            await _timed(f"get_inventory_{size}", lambda: client.inventory(hosts[0]), shape),
            await _link_propagation(bus, client, size, shape),
        ]


async def _timed(row_id: str, ask: Callable[[], Awaitable[object]], shape: str) -> Row:
    times_ms = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        await ask()
        times_ms.append((time.perf_counter() - began) * 1000)
    return median_row(
        times_ms, id=row_id, unit="ms", goal=INTERACTIVE_MS, better="lower", against=shape
    )


async def _link_propagation(bus: Bus, client: ControlClient, size: int, shape: str) -> Row:
    times_ms: list[float] = []
    for number in range(ROUNDS):
        link = _link("latecomer", number, name=f"late-{number}")
        began_ms = time.monotonic() * 1000
        await client.put_link(link)
        times_ms += [seen_ms - began_ms for seen_ms in await _seen(bus, link.name, size)]
    return median_row(
        times_ms,
        id=f"link_effective_{size}",
        unit="ms",
        goal=100,
        better="lower",
        against=f"from the request to a host's having it, every host counted; {shape}",
    )


async def _seen(bus: Bus, link_name: str, size: int) -> list[float]:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            answers = await bus.request_many(
                host_farm.SEEN, link_name.encode(), timeout_s=PATIENCE_S, stop_after=PROCESSES
            )
            seen = [each for answer in answers for each in json.loads(answer.data)]
            if len(seen) == size:
                return seen


@asynccontextmanager
async def _farms(
    size: int, nats_url: str, directory: Path
) -> AsyncIterator[Sequence[asyncio.subprocess.Process]]:
    shares = [len(range(start, size, PROCESSES)) for start in range(PROCESSES)]
    async with AsyncExitStack() as stack:
        farms = []
        for number, share in enumerate(shares):
            farm = await processes.spawn(
                *(sys.executable, "-m", "tests.bench.host_farm"),
                *(str(share), nats_url, str(directory / str(number))),
                output=asyncio.subprocess.PIPE,
            )
            stack.push_async_callback(processes.end, farm, grace_s=GRACE_S)
            farms.append(farm)
        for farm in farms:
            assert farm.stdout is not None
            line = await asyncio.wait_for(farm.stdout.readline(), READY_S)
            assert line == b"ready\n", line
        yield farms


async def _all_hosts(client: ControlClient, size: int) -> list[str]:
    hosts = await client.hosts(wait_s=PATIENCE_S)
    assert len(hosts) == size, f"{len(hosts)} of {size} hosts answered"
    return [host.id for host in hosts]


async def _start_actors(bus: Bus, client: ControlClient, hosts: Sequence[str]) -> None:
    content = (EXAMPLES / "echo" / "echo.wasm").read_bytes()
    reference = str(await artefacts.upload(bus, "default", "echo", content))
    wanted = len(hosts) * ACTORS_PER_HOST
    async with client.events("component_scaled", "component_scale_failed") as events:
        for number, host_id in enumerate(hosts):
            for actor in range(ACTORS_PER_HOST):
                await client.scale_component(
                    control.ScaleComponent(
                        component_id=f"actor-{number}-{actor}",
                        component_ref=reference,
                        count=1,
                        host_id=host_id,
                    )
                )
        scaled: set[object] = set()
        while len(scaled) < wanted:
            event = await events.wait_for(lambda _: True, timeout_s=PATIENCE_S)
            assert event is not None, f"{len(scaled)} of {wanted} actors started"
            assert event.name == "component_scaled", event.data
            scaled.add(event.data["component_id"])


async def _put_links(bus: Bus, count: int) -> None:
    """Write them source by source: a hundred hosts on one machine are slow to follow each link."""
    bucket = await bus.bucket(subjects.state_bucket("default"))
    for start in range(0, count, LINKS_PER_SOURCE):
        source = f"source-{start}"
        numbers = range(start, min(count, start + LINKS_PER_SOURCE))
        spec = control.ComponentSpec(links=[_link(source, number) for number in numbers])
        await bucket.put(subjects.component_key(source), spec.model_dump_json().encode())


def _link(source: str, number: int, *, name: str = "default") -> control.Link:
    return control.Link(
        source_id=source,
        target=f"actor-{number % 10}-0",
        name=name,
        wit_namespace="bench",
        wit_package=f"package{number}",
    )

"""Actors that nobody calls: what ten thousand of them cost a host, and one whose code was evicted.

A host in this process, because its memory is measured from within; without the reconciler, whose
leader keeps a picture of the whole lattice that is not a matter of one host's actors.
"""

import asyncio
import gc
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from host.engine import Engine, EngineSettings
from host.runtime import Host
from host.settings import HostSettings
from lattice import artefacts
from lattice.bus import Bus, NatsSettings
from lattice.bus.server import NatsServer
from lattice.control.client import ControlClient
from lattice.wire import control
from tests.bench.engine import cold_call
from tests.bench.memory import settled_bytes
from tests.bench.report import Row, median_row
from tests.support.wat import assemble

ACTORS = 10_000
WARM = 200
TOGETHER = 100
"""Scale commands that are carried out at a time."""

RELOADS = 30
FUNCTIONS = 300
"""Functions of the module that is evicted: about 120 KiB of code, as a small program in C has."""


async def measure() -> list[Row]:
    return [*await _reloads(), *await _idle_actors()]


async def _reloads() -> list[Row]:
    """The first call to a module whose code was evicted, against compiling it."""
    wasm = assemble(large_echo())
    reloads_ms, compilations_ms = [], []
    with tempfile.TemporaryDirectory() as directory:
        engine = Engine(EngineSettings(instances_max=100, cache_dir=Path(directory)))
        try:
            module = await engine.load(wasm)
            for _ in range(RELOADS):
                assert engine.evict(module)
                began = time.perf_counter()
                await engine.reload(module, _never)
                await cold_call(module)
                reloads_ms.append((time.perf_counter() - began) * 1000)
        finally:
            engine.close()
    engine = Engine(EngineSettings(instances_max=100))
    try:
        for _ in range(5):
            began = time.perf_counter()
            await cold_call(await engine.load(wasm))
            compilations_ms.append((time.perf_counter() - began) * 1000)
            gc.collect()
    finally:
        engine.close()
    compiled_ms = sorted(compilations_ms)[len(compilations_ms) // 2]
    return [
        median_row(
            reloads_ms,
            id="evicted_first_call",
            unit="ms",
            goal=5,
            better="lower",
            against=f"a module of {len(wasm) // 1024} KiB loaded again from disk, and called;"
            f" to compile it takes {compiled_ms:.0f} ms",
        )
    ]


async def _never() -> bytes:
    raise AssertionError("the cache has it")


async def _idle_actors() -> list[Row]:
    async with _host() as (host, bus):
        reference = str(await artefacts.upload(bus, "default", "echo", assemble(large_echo(1))))
        starting = asyncio.Semaphore(TOGETHER)
        client = ControlClient(bus, "default")

        async def start(number: int) -> None:
            async with starting:
                await host._actors.scale(
                    control.ScaleComponent(
                        component_id=f"actor-{number}",
                        component_ref=reference,
                        host_id=host.id,
                        count=1,
                    )
                )

        async def start_all(numbers: range) -> float:
            began = time.perf_counter()
            await asyncio.gather(*(start(number) for number in numbers))
            return time.perf_counter() - began

        await start_all(range(ACTORS, ACTORS + WARM))
        before = settled_bytes()
        took_s = await start_all(range(ACTORS))
        each = (settled_bytes() - before) / ACTORS / 1024
        one_s = await start_all(range(ACTORS + WARM, ACTORS + WARM + 1))
        found = len((await client.inventory(host.id)).components)
        assert found == ACTORS + WARM + 1, found
    return [
        Row(
            id="idle_actor_memory",
            value=round(each, 2),
            unit="KiB",
            goal=8,
            better="lower",
            against=f"resident memory of each of {ACTORS} registered actors, subscriptions and all",
        ),
        Row(
            id="idle_actors_start",
            value=round(took_s, 1),
            unit="s",
            goal=60,
            better="lower",
            against=f"to start {ACTORS} actors, {TOGETHER} at a time;"
            f" one more takes {one_s * 1000:.0f} ms",
        ),
    ]


@asynccontextmanager
async def _host() -> AsyncIterator[tuple[Host, Bus]]:
    nats = await NatsServer.start()
    try:
        with tempfile.TemporaryDirectory() as directory:
            settings = HostSettings(
                nats_url=(nats.url,), data_dir=Path(directory), instances_max=100, reconcile=False
            )
            host = Host(settings, provider_environment={})
            task = asyncio.ensure_future(host.run())
            bus = await Bus.connect(NatsSettings(servers=(nats.url,)), name="bench")
            await host.ready.wait()
            try:
                yield host, bus
            finally:
                await bus.aclose()
                host.request_stop(1.0)
                await task
    finally:
        await nats.aclose()


def large_echo(functions: int = FUNCTIONS) -> str:
    """An echo with as much code as a real program has."""
    body = "(local.set 1 (i64.xor (i64.mul (local.get 1) (i64.const 31)) (i64.load (local.get 0))))"
    filler = "".join(
        f'(func $f{number} (export "f{number}") (param i32) (result i64) (local i64)'
        f" {body * 20} (i64.add (local.get 1) (i64.const {number})))"
        for number in range(functions)
    )
    return f"""(module
      (import "wapc" "__guest_request" (func $guest_request (param i32 i32)))
      (import "wapc" "__guest_response" (func $guest_response (param i32 i32)))
      (memory (export "memory") 2)
      {filler}
      (func (export "__guest_call") (param i32) (param $length i32) (result i32)
        (call $guest_request (i32.const 0) (i32.const 1024))
        (call $guest_response (i32.const 1024) (local.get $length))
        (i32.const 1)))"""

"""The engine alone, in this process: kept instances, and very many suspended calls."""

import asyncio
import gc
import time
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from host.engine import (
    CallLimits,
    Code,
    Engine,
    EngineSettings,
    Execution,
    Instances,
    ReusePolicy,
    execution_of,
)
from host.engine.settings import MAPS_PER_INSTANCE, MAPS_RESERVED, instances_ceiling
from tests.bench.memory import resident_bytes, settled_bytes
from tests.bench.report import Row, median_row, percentile
from tests.support.host_calls import NoExchange
from tests.support.wat import actor, assemble

CALLS = 5_000
ROUNDS = 5
SUSPENDED = (10_000, 20_000)
MAP_COUNT = Path("/proc/sys/vm/max_map_count")
START_LOOPS = 2_000_000
"""What a guest computes before its first call: a millisecond or so, as a language runtime does."""

PAYLOAD = b"x" * 100
LIMITS = CallLimits(memory_bytes=16 * 2**20, cpu_time_s=5.0, response_bytes=2**20)


class Nothing(NoExchange):
    """Surroundings of a guest that calls nobody."""

    def call(self, _binding: str, _namespace: str, _operation: str, _payload: bytes) -> bytes:
        return b""

    def check_link(self, _binding: str, _namespace: str) -> None: ...

    def log(self, level: str, text: str) -> None: ...


class Hold(NoExchange):
    """Surroundings that keep every host call waiting until all of them do."""

    def __init__(self, expected: int = 1) -> None:
        self.expected = expected
        self.waiting = 0
        self.release = asyncio.Event()
        self.full = asyncio.Event()

    def call(
        self, _binding: str, _namespace: str, _operation: str, payload: bytes
    ) -> Awaitable[bytes]:
        self.waiting += 1
        if self.waiting == self.expected:
            self.full.set()
        return self._wait(payload)

    async def _wait(self, payload: bytes) -> bytes:
        await self.release.wait()
        return payload

    def check_link(self, _binding: str, _namespace: str) -> None: ...

    def log(self, level: str, text: str) -> None: ...


async def measure() -> list[Row]:
    engine = Engine(EngineSettings(instances_max=100))
    try:
        rows = [await _reuse(engine)]
    finally:
        engine.close()
    for count in SUSPENDED:
        rows += await _suspended(count)
    return rows


async def cold_call(module: Code) -> None:
    """Call a fresh instance and look at what it says."""
    execution = _execution(module, Nothing())
    response = execution.result() if execution.start() else await execution.finish()
    assert response == PAYLOAD


def _execution(
    module: Code, host: Nothing | Hold, *, instances: Instances | None = None
) -> Execution:
    return execution_of(module)(
        module,
        host,
        operation="echo",
        payload=PAYLOAD,
        limits=LIMITS,
        deadline=time.monotonic() + 60,
        instances=instances,
    )


async def _reuse(engine: Engine) -> Row:
    """A guest whose start is dear, on a fresh instance each time and on one that is kept."""
    module = await engine.load(assemble(SLOW_START))
    host = Nothing()
    ratios = []
    for _ in range(ROUNDS):
        medians = {}
        for name, instances in (
            ("fresh", None),
            ("reuse", engine.instances(ReusePolicy(uses=10**5, age_s=600))),
        ):
            times_us = []
            for _ in range(CALLS // 25):
                began = time.perf_counter_ns()
                execution = _execution(module, host, instances=instances)
                if not execution.start():
                    await execution.finish()
                times_us.append((time.perf_counter_ns() - began) / 1000)
            medians[name] = percentile(times_us, 0.5)
            if instances is not None:
                instances.close()
        ratios.append(medians["fresh"] / medians["reuse"])
    return median_row(
        ratios,
        id="reuse_speedup",
        unit="x",
        better="higher",
        against=f"the same guest on a fresh instance each time: {medians['fresh']:.0f} us, and"
        f" {medians['reuse']:.1f} us on one that is kept; its start computes for a while",
    )


SLOW_START = f"""(module
  (import "wapc" "__guest_request" (func $guest_request (param i32 i32)))
  (import "wapc" "__guest_response" (func $guest_response (param i32 i32)))
  (memory (export "memory") 2)
  (func (export "wapc_init") (local $left i32)
    (local.set $left (i32.const {START_LOOPS}))
    (loop $again
      (local.set $left (i32.sub (local.get $left) (i32.const 1)))
      (br_if $again (local.get $left))))
  (func (export "__guest_call") (param i32) (param $length i32) (result i32)
    (call $guest_request (i32.const 0) (i32.const 1024))
    (call $guest_response (i32.const 1024) (local.get $length))
    (i32.const 1)))"""


async def _suspended(count: int) -> list[Row]:
    """Many calls waiting at a time: what each holds, and whether the loop still answers."""
    with _maps_for(count):
        engine = Engine(EngineSettings(instances_max=count))
        try:
            fit = engine.instances_max
            held, lags_ms = await _suspend(await engine.load(actor("relay")), fit)
        finally:
            engine.close()
            # Its mappings have to be gone before the bound on them is lowered again.
            gc.collect()
    name = "" if count == SUSPENDED[0] else f"_{count // 1000}k"
    ceiling = instances_ceiling()
    return [
        Row(
            id=f"suspended_call_memory{name}",
            value=round(held, 1),
            unit="KiB",
            goal=24,
            better="lower",
            against=f"resident memory of each of {fit} calls suspended on one loop;"
            f" vm.max_map_count has room for {ceiling} here as it is",
        ),
        Row(
            id=f"suspended_loop_lag_p99{name}",
            value=round(percentile(lags_ms, 0.99), 2),
            unit="ms",
            goal=20,
            better="lower",
            against=f"lateness of a 1 ms timer while {fit} calls are suspended",
        ),
    ]


@contextmanager
def _maps_for(count: int) -> Iterator[None]:
    """Raise the kernel's bound on mappings for a while where that is needed and allowed."""
    before = MAP_COUNT.read_text()
    if count > instances_ceiling():
        with suppress(OSError):
            MAP_COUNT.write_text(str(MAPS_RESERVED + count * MAPS_PER_INSTANCE))
    try:
        yield
    finally:
        with suppress(OSError):
            MAP_COUNT.write_text(before)


async def _suspend(module: Code, count: int) -> tuple[float, list[float]]:
    """KiB of each of so many suspended calls, and how late the loop was meanwhile."""
    await _warm(module)
    host = Hold(count)
    before = settled_bytes()

    async def call() -> None:
        execution = _execution(module, host)
        assert not execution.start()
        assert await execution.finish() == PAYLOAD

    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(call())
        await host.full.wait()
        held = (resident_bytes() - before) / count / 1024
        lags_ms = await _loop_lags_ms()
        host.release.set()
    return held, lags_ms


async def _warm(module: Code) -> None:
    host = Hold()
    host.release.set()
    execution = _execution(module, host)
    if not execution.start():
        await execution.finish()


async def _loop_lags_ms() -> list[float]:
    lags = []
    for _ in range(300):
        began = time.perf_counter()
        await asyncio.sleep(0.001)
        lags.append((time.perf_counter() - began - 0.001) * 1000)
    return lags

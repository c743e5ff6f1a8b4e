"""The engine alone, in this process: cold calls, and very many suspended ones."""

import asyncio
import gc
import os
import time
from collections.abc import Awaitable
from pathlib import Path

from host.engine import CallLimits, Engine, EngineSettings, Execution, Module
from tests.bench.report import Row, median_row, percentile
from tests.support.wat import actor

CALLS = 5_000
ROUNDS = 5
SUSPENDED = 10_000
PAYLOAD = b"x" * 100
LIMITS = CallLimits(memory_bytes=16 * 2**20, cpu_time_s=5.0, response_bytes=2**20)


class Nothing:
    """Surroundings of a guest that calls nobody."""

    def call(self, _binding: str, _namespace: str, _operation: str, _payload: bytes) -> bytes:
        return b""

    def log(self, level: str, text: str) -> None: ...


class Hold:
    """Surroundings that keep every host call waiting until all of them do."""

    def __init__(self) -> None:
        self.waiting = 0
        self.release = asyncio.Event()
        self.full = asyncio.Event()

    def call(
        self, _binding: str, _namespace: str, _operation: str, payload: bytes
    ) -> Awaitable[bytes]:
        self.waiting += 1
        if self.waiting == SUSPENDED:
            self.full.set()
        return self._wait(payload)

    async def _wait(self, payload: bytes) -> bytes:
        await self.release.wait()
        return payload

    def log(self, level: str, text: str) -> None: ...


async def measure() -> list[Row]:
    engine = Engine(EngineSettings())
    try:
        echo = await engine.load(actor("echo"))
        relay = await engine.load(actor("relay"))
        return [*await _cold_calls(echo), await _host_call(relay), *await _suspended(relay)]
    finally:
        engine.close()


def _execution(module: Module, host: Nothing | Hold) -> Execution:
    return Execution(
        module,
        host,
        operation="echo",
        payload=PAYLOAD,
        limits=LIMITS,
        deadline=time.monotonic() + 60,
    )


async def _cold_calls(module: Module) -> list[Row]:
    """New instance, request and response, drop: one after the other."""
    medians, tails = [], []
    host = Nothing()
    for _ in range(ROUNDS):
        times_us = []
        for _ in range(CALLS):
            began = time.perf_counter_ns()
            execution = _execution(module, host)
            # False when the machine took the CPU away for longer than a tick.
            response = execution.result() if execution.start() else await execution.finish()
            times_us.append((time.perf_counter_ns() - began) / 1000)
            assert response == PAYLOAD
        medians.append(percentile(times_us, 0.5))
        tails.append(percentile(times_us, 0.99))
    meaning = f"{ROUNDS} rounds of {CALLS} calls, 100-byte echo on a fresh instance each"
    return [
        median_row(
            medians, id="cold_call_p50", unit="us", goal=30, better="lower", against=meaning
        ),
        median_row(tails, id="cold_call_p99", unit="us", better="lower", against=meaning),
    ]


async def _host_call(module: Module) -> Row:
    """As above, with one host call that suspends the guest and is answered by the loop."""
    medians = []
    for _ in range(ROUNDS):
        times_us = []
        for _ in range(CALLS // 5):
            host = Hold()
            host.release.set()
            began = time.perf_counter_ns()
            execution = _execution(module, host)
            if not execution.start():
                await execution.finish()
            times_us.append((time.perf_counter_ns() - began) / 1000)
        medians.append(percentile(times_us, 0.5))
    return median_row(
        medians,
        id="suspending_call_p50",
        unit="us",
        better="lower",
        against="a fresh instance that makes one host call, answered at once",
    )


async def _suspended(module: Module) -> list[Row]:
    """Many calls waiting at a time: what each holds, and whether the loop still answers."""
    host = Hold()
    gc.collect()
    before = _resident_bytes()

    async def call() -> None:
        execution = _execution(module, host)
        assert not execution.start()
        assert await execution.finish() == PAYLOAD

    async with asyncio.TaskGroup() as group:
        for _ in range(SUSPENDED):
            group.create_task(call())
        await host.full.wait()
        held = (_resident_bytes() - before) / SUSPENDED / 1024
        lags_ms = await _loop_lags_ms()
        host.release.set()
    return [
        Row(
            id="suspended_call_memory",
            value=round(held, 1),
            unit="KiB",
            goal=32,
            better="lower",
            against=f"resident memory of each of {SUSPENDED} calls suspended on one loop",
        ),
        Row(
            id="suspended_loop_lag_p99",
            value=round(percentile(lags_ms, 0.99), 2),
            unit="ms",
            goal=20,
            better="lower",
            against=f"lateness of a 1 ms timer while {SUSPENDED} calls are suspended",
        ),
    ]


async def _loop_lags_ms() -> list[float]:
    lags = []
    for _ in range(300):
        began = time.perf_counter()
        await asyncio.sleep(0.001)
        lags.append((time.perf_counter() - began - 0.001) * 1000)
    return lags


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")

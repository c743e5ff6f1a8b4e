"""A call on a fresh instance, in process: against wasmtime's C API, bare, in the same run."""

import asyncio
import time
from collections.abc import Awaitable

from host.actors.actor import Actor
from host.engine import Engine, EngineSettings
from tests.bench import in_process
from tests.bench.in_process import Surroundings
from tests.bench.raw_wasmtime import RawEcho
from tests.bench.report import Row, median_row, percentile
from tests.support.wat import actor

CALLS = 5_000
SUSPENDING_CALLS = 1_000
ROUNDS = 5
PAYLOAD = b"x" * 100


async def measure() -> list[Row]:
    """Interleaved rounds, so that a slow moment of the machine hits all of them."""
    engine = Engine(EngineSettings())
    try:
        echo = await in_process.start(engine, "echo", actor("echo"))
        relay = await in_process.start(
            engine, "relay", actor("relay"), surroundings=Surroundings(_answered_by_the_loop)
        )
        raw = RawEcho()
        ours, bare, suspending = [], [], []
        for _ in range(ROUNDS):
            ours.append(await _times_us(echo, CALLS))
            bare.append(_raw_times_us(raw))
            suspending.append(await _times_us(relay, SUSPENDING_CALLS))
    finally:
        engine.close()
    meaning = f"{ROUNDS} rounds of {CALLS} calls, 100-byte echo on a fresh instance each, admitted"
    meaning += " and metered as in a host"
    medians, bare_medians = ([percentile(times, 0.5) for times in each] for each in (ours, bare))
    return [
        median_row(
            medians, id="cold_call_p50", unit="us", goal=25, better="lower", against=meaning
        ),
        median_row(
            [percentile(times, 0.99) for times in ours],
            id="cold_call_p99",
            unit="us",
            goal=100,
            better="lower",
            against=meaning,
        ),
        median_row(
            [a / b for a, b in zip(medians, bare_medians, strict=True)],
            id="cold_call_against_wasmtime",
            unit="x",
            goal=2,
            better="lower",
            against="wasmtime's C API through ctypes: instantiate, call, drop, and nothing else"
            f" ({percentile(bare_medians, 0.5):.1f} us)",
        ),
        median_row(
            [percentile(times, 0.5) for times in suspending],
            id="suspending_call_p50",
            unit="us",
            goal=80,
            better="lower",
            against="a fresh instance that makes one host call, which the loop answers",
        ),
    ]


def _answered_by_the_loop(payload: bytes) -> Awaitable[bytes]:
    answer = asyncio.get_running_loop().create_future()
    answer.get_loop().call_soon(answer.set_result, payload)
    return answer


async def _times_us(called: Actor, calls: int) -> list[float]:
    times_us = []
    for _ in range(calls):
        began = time.perf_counter_ns()
        reply = await in_process.call(called, PAYLOAD)
        times_us.append((time.perf_counter_ns() - began) / 1000)
        assert reply.payload == PAYLOAD
    return times_us


def _raw_times_us(raw: RawEcho) -> list[float]:
    times_us = []
    for _ in range(CALLS):
        began = time.perf_counter_ns()
        response = raw.call(b"Echo.Say", PAYLOAD)
        times_us.append((time.perf_counter_ns() - began) / 1000)
        assert response == PAYLOAD
    return times_us

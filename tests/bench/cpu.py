"""Guests that compute: linear in their work, in parallel, ended in time, and the loop goes on."""

import asyncio
import statistics
import time

from host.engine import Engine, EngineSettings
from lattice import errors
from lattice.wire.invocation import Reply
from tests.bench import in_process
from tests.bench.report import Row, median_row, percentile
from tests.support.wat import actor

ROUNDS = 5
SIZES = range(10, 101, 10)
"""Millions of steps of a loop; one takes about half a millisecond."""

PARALLEL_SIZE = 400
BUDGET_S = 0.05
KILLS = 20


async def measure() -> list[Row]:
    settings = EngineSettings()
    engine = Engine(settings)
    try:
        return [
            await _linear(engine),
            *await _parallel(engine),
            await _kill(engine, settings.epoch_tick_s),
        ]
    finally:
        engine.close()


async def _linear(engine: Engine) -> Row:
    """CPU time that the host metered, by work."""
    work = await in_process.start(engine, "work", actor("work"))
    measured: dict[int, list[float]] = {size: [] for size in SIZES}
    for _ in range(ROUNDS):
        for size, times_us in measured.items():
            usage = (await in_process.call(work, b"x" * size)).usage
            assert usage is not None
            times_us.append(usage.cpu_us)
    # The least of each: whatever shares the machine only ever adds to it.
    correlation = statistics.correlation(list(measured), list(map(min, measured.values())))
    return Row(
        id="cpu_linearity",
        value=round(correlation**2, 6),
        unit="R²",
        goal=0.999,
        better="higher",
        against=f"metered CPU time of {SIZES[0]} to {SIZES[-1]} million steps, fitted by a line",
    )


async def _parallel(engine: Engine) -> list[Row]:
    """Two at once, against one after the other; and how late the loop's timers are meanwhile."""
    work = await in_process.start(engine, "work", actor("work"))
    payload = b"x" * PARALLEL_SIZE
    gains, tails_ms = [], []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(2):
            await in_process.call(work, payload)
        in_turn_s = time.perf_counter() - began
        began = time.perf_counter()
        both = asyncio.gather(*(in_process.call(work, payload) for _ in range(2)))
        lags_ms = await _lags_ms(both)
        gains.append(in_turn_s / (time.perf_counter() - began))
        tails_ms.append(percentile(lags_ms, 0.99))
    return [
        median_row(
            gains,
            id="cpu_parallel",
            unit="x",
            goal=1.7,
            better="higher",
            against="two guests that compute, one after the other; 2 is two whole cores",
        ),
        median_row(
            tails_ms,
            id="cpu_loop_lag_p99",
            unit="ms",
            goal=15,
            better="lower",
            against="lateness of a 1 ms timer while two guests compute on two cores",
        ),
    ]


async def _lags_ms(until: asyncio.Future[list[Reply]]) -> list[float]:
    lags_ms = []
    while not until.done():
        began = time.perf_counter()
        await asyncio.sleep(0.001)
        lags_ms.append((time.perf_counter() - began - 0.001) * 1000)
    await until
    return lags_ms


async def _kill(engine: Engine, tick_s: float) -> Row:
    """CPU time that guests without an end got beyond their budget."""
    spin = await in_process.start(engine, "spin", actor("spin"), cpu_time_s=BUDGET_S)
    overruns = []
    for _ in range(KILLS):
        try:
            await in_process.call(spin, b"")
        except errors.CpuExceeded as error:
            used_s = error.detail["measured"] / 1e6
            overruns.append((used_s - BUDGET_S) / tick_s)
    assert len(overruns) == KILLS
    return median_row(
        overruns,
        id="cpu_kill_overrun",
        unit="ticks",
        goal=2,
        better="lower",
        against=f"CPU time beyond a budget of {BUDGET_S * 1000:g} ms when a guest without an end is"
        f" ended; a tick is {tick_s * 1000:g} ms",
    )

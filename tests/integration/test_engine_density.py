"""Ten thousand guests suspended at once, on one event loop."""

import asyncio
import gc
import os
from pathlib import Path

from host.engine import Engine, EngineSettings
from tests.support.host_calls import Host, Request, execution, run, until
from tests.support.wat import actor

CALLS = 10_000

CALL_BYTES_MAX = 24 * 1024
"""Resident memory of a suspended call: its fiber's stack, a page of its memory, its store, and
on our side the call, its task and the host call it waits for. About 20 KiB are usual."""


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_ten_thousand_suspended_calls_fit_in_memory_and_leave_the_loop_free() -> None:
    engine = Engine(EngineSettings(instances_max=CALLS))
    try:
        assert engine.instances_max == CALLS
        relay, echo = await engine.load(actor("relay")), await engine.load(actor("echo"))
        await run(execution(relay, b"warm"))
        gate = asyncio.Event()

        async def answer(request: Request) -> bytes:
            await gate.wait()
            return request[3]

        host = Host(answer)
        gc.collect()
        before = resident_bytes()
        tasks = [
            asyncio.create_task(run(execution(relay, b"%d" % n, host=host))) for n in range(CALLS)
        ]
        await until(lambda: engine.running == CALLS)
        assert (resident_bytes() - before) / CALLS < CALL_BYTES_MAX

        # Suspended calls take no turns: the loop comes round as if they were not there.
        tasks[0].cancel()
        await until(lambda: engine.running == CALLS - 1)
        for _ in range(1_000):
            assert await run(execution(echo, b"x")) == b"x"
            await asyncio.sleep(0)
        assert engine.running == CALLS - 1

        gate.set()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(outcomes[0], asyncio.CancelledError)
        assert outcomes[1:] == [b"%d" % n for n in range(1, CALLS)]
        assert engine.running == 0
    finally:
        engine.close()

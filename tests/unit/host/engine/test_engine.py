"""The engine's settings, its statistics, and its place in the process."""

import asyncio
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from host.engine import CallLimits, Engine, EngineSettings
from lattice import errors
from tests.support.host_calls import Host, execution, run
from tests.support.wat import actor

ROOT = Path(__file__).parents[4]


@pytest.fixture
def cache_dir() -> None:
    """Nowhere: what is compiled here is compiled anew."""


@pytest.mark.parametrize(
    "setting",
    [
        {"instances_max": 0},
        {"memory_bytes_max": 0},
        {"memory_bytes_max": 5 * 2**30},
        {"guest_stack_bytes": 0},
        {"guest_stack_bytes": 256 * 1024},
        {"stack_bytes": 1000},
        {"epoch_tick_s": 0.0},
        {"worker_threads": 0},
    ],
    ids=str,
)
def test_settings_that_would_abort_the_process_are_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(errors.InvalidRequest, match="must be at least"):
        EngineSettings(**setting)


async def test_a_call_may_not_be_given_more_memory_than_the_pool_has() -> None:
    engine = Engine(EngineSettings(instances_max=1, memory_bytes_max=2**20))
    try:
        call = execution(await engine.load(actor("echo")), limits=CallLimits(memory_bytes=2**21))
        with pytest.raises(errors.InvalidRequest, match="1048576"):
            await run(call)
    finally:
        engine.close()


async def test_statistics_count_what_was_done(engine: Engine) -> None:
    echo = await engine.load(actor("echo"))
    relay = await engine.load(actor("relay"))
    answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    suspended = execution(relay, host=Host(lambda _: answer))
    assert not suspended.start()
    await run(execution(echo, b"x"))

    during = engine.statistics()
    assert (during.instances, during.instances_max, during.modules) == (1, 64, 2)
    assert (during.calls, during.compiled, during.cache_hits) == (2, 2, 0)
    answer.set_result(b"")
    await suspended.finish()
    assert engine.statistics().instances == 0


async def test_a_log_that_fails_does_not_take_the_call_along(engine: Engine) -> None:
    class Mute(Host):
        def log(self, level: str, text: str) -> None:
            raise OSError("the disk is full")

    call = execution(await engine.load(actor("logs")), b"x", host=Mute())
    assert await run(call) == b""


async def test_an_interrupt_during_a_host_call_gives_the_instance_back(engine: Engine) -> None:
    def answer(_request: object) -> bytes:
        raise KeyboardInterrupt

    call = execution(await engine.load(actor("relay")), host=Host(answer))
    with pytest.raises(KeyboardInterrupt):
        await run(call)
    assert engine.running == 0


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_trap_is_a_trap_whenever_faulthandler_is_enabled(moment: str) -> None:
    program = f"""
        import asyncio, faulthandler
        from host.engine import Engine, EngineSettings
        from lattice import errors
        from tests.support.host_calls import execution, run
        from tests.support.wat import actor

        async def main():
            if {moment!r} == "before":
                faulthandler.enable()
            engine = Engine(EngineSettings(instances_max=1))
            faulthandler.enable()
            for way in range(8):
                try:
                    await run(execution(await engine.load(actor("traps")), bytes(way)))
                except errors.ActorTrapped:
                    pass
            engine.close()
            print("alive")

        asyncio.run(main())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert "alive" in done.stdout, done.stderr

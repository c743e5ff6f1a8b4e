"""WASI preview 1: what works, and that nothing else does."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from host.engine import CallLimits, Code, Engine, preview1, wasi
from lattice import errors, limits
from tests.support.host_calls import Host, execution, run, until

Load = Callable[[str], Awaitable[Code]]

STDOUT, STDERR, SLEEP, FACTS, MISUSE = ("x" * way for way in range(1, 6))
"""Operations of the guest; it goes by their length."""


@pytest.mark.parametrize(("operation", "level"), [(STDOUT, "info"), (STDERR, "warning")])
async def test_output_becomes_log_lines(load: Load, operation: str, level: str) -> None:
    host = Host()
    text = b"one\ntwo\n\nunfinished"
    assert await run(execution(await load("wasi"), text, operation=operation, host=host)) == b"\0"
    assert host.lines == [(level, line) for line in ("one", "two", "", "unfinished")]


async def test_a_line_without_end_is_cut(load: Load) -> None:
    host = Host()
    await run(execution(await load("wasi"), b"x" * 100_000, operation=STDOUT, host=host))
    ((_, line),) = host.lines
    assert line.startswith("x" * limits.LOG_LINE_CHARS + " [")


async def test_output_without_end_is_dropped_and_counted(load: Load) -> None:
    host = Host()
    call = execution(
        await load("wasi"),
        b"\n" * 50,
        operation=STDOUT,
        host=host,
        limits=CallLimits(log_lines=5),
    )
    await run(call)
    assert host.lines[:5] == [("info", "")] * 5
    assert host.lines[5:] == [("warning", "45 log lines were dropped")]


async def test_a_sleep_suspends_the_guest_and_not_the_loop(load: Load, engine: Engine) -> None:
    sleeping = [
        asyncio.create_task(run(execution(await load("wasi"), bytes(100), operation=SLEEP)))
        for _ in range(20)
    ]
    await until(lambda: engine.running == 20)
    assert not any(task.done() for task in sleeping)
    assert set(await asyncio.gather(*sleeping)) == {bytes([0, 1, 7])}, "one event, its own"


async def test_a_sleep_of_nothing_does_not_suspend(load: Load) -> None:
    assert await run(execution(await load("wasi"), operation=SLEEP)) == bytes([0, 1, 7])


async def test_a_sleep_past_the_deadline_ends_with_it(load: Load) -> None:
    call = execution(await load("wasi"), bytes(60_000), operation=SLEEP, timeout_s=0.05)
    with pytest.raises(errors.DeadlineExceeded):
        await run(call)


async def test_clocks_and_randomness_work_and_the_rest_is_empty(load: Load) -> None:
    facts = await run(execution(await load("wasi"), operation=FACTS))
    assert facts == bytes([0, 0, 0, 0, 0, 0, 0, preview1.BADF])


async def test_misuse_gets_the_error_number_wasi_gives_it(load: Load) -> None:
    host = Host()
    errnos = await run(execution(await load("wasi"), operation=MISUSE, host=host))
    assert list(errnos) == [
        preview1.INVAL,
        preview1.FAULT,
        preview1.FAULT,
        preview1.FAULT,
        preview1.BADF,
        preview1.BADF,
        preview1.FAULT,
    ]
    assert host.lines == []


async def test_leaving_start_with_status_zero_is_fine(load: Load) -> None:
    assert await run(execution(await load("exits"))) == b""


async def test_any_other_exit_is_a_trap_that_says_so(load: Load) -> None:
    with pytest.raises(errors.ActorTrapped, match="it exited with status 3"):
        await run(execution(await load("exits"), b"xxx"))


def test_the_whole_function_table_is_linked() -> None:
    assert len(wasi.FUNCTIONS) == 46

"""What blocks a loop is found; a process that stands still as a whole is not blamed for it."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from lattice.aio import stalls
from lattice.aio.stalls import LOOK_INTERVAL_S, STALL_S, Judge, StallWatch, State
from tests.support.eventually import eventually

BLOCKED_S = 3 * (STALL_S + LOOK_INTERVAL_S)


@pytest.fixture
async def watch() -> AsyncIterator[StallWatch]:
    watch = StallWatch.start()
    yield watch
    watch.close()


def judged(*looks: tuple[float, float, float]) -> list[State]:
    """What a judge that began at 0 says of looks: when, processor time, when the loop turned."""
    judge = Judge(now_s=0, cpu_s=0)
    return [judge.look(now_s=now, cpu_s=cpu, turned_s=turned)[0] for now, cpu, turned in looks]


def test_a_loop_that_turns_is_well_even_if_a_little_late() -> None:
    assert judged((0.1, 0, 0.05), (0.2, 0, 0.15), (0.4, 0, 0.15)) == [State.TURNS] * 3


def test_a_loop_that_does_not_turn_stalls_whether_it_computes_or_waits() -> None:
    assert judged((0.1, 0, 0), (0.2, 0, 0), (0.3, 0, 0), (0.4, 0, 0))[-1] is State.STALLS


def test_a_process_that_was_stopped_has_not_stalled() -> None:
    looks = [(0.1, 0.0, 0.1), (60.0, 0.01, 0.1), (60.1, 0.01, 0.1), (60.2, 0.02, 60.15)]

    assert judged(*looks) == [State.TURNS, State.FROZEN, State.TURNS, State.TURNS]


def test_a_loop_that_stays_blocked_after_the_process_stood_still_stalls() -> None:
    looks = [(60.0, 0.01, 0.0), *((60.0 + n / 10, 0.01, 0.0) for n in range(1, 5))]

    assert judged(*looks)[-1] is State.STALLS


def test_who_keeps_the_interpreters_lock_stalls_the_loop() -> None:
    assert judged((0.1, 0.0, 0.1), (3.0, 2.9, 0.1)) == [State.TURNS, State.STALLS]


async def test_a_blocked_loop_is_counted_once_with_its_stack(watch: StallWatch) -> None:
    with capture_logs() as logs:
        block_the_loop(BLOCKED_S)
        await eventually(lambda: watch._turned_s > time.monotonic() - LOOK_INTERVAL_S)

    seen = watch.statistics()
    assert seen.count == 1
    assert "block_the_loop" in seen.last_stack
    assert STALL_S < seen.last_s <= seen.worst_s
    told = [line for line in logs if line["event"] == "the event loop is blocked"]
    assert [line["stack"] for line in told] == [seen.last_stack]


async def test_stalls_are_logged_now_and_then_and_counted_always(watch: StallWatch) -> None:
    with capture_logs() as logs:
        for _ in range(3):
            block_the_loop(BLOCKED_S)
            await asyncio.sleep(3 * LOOK_INTERVAL_S)

    assert watch.statistics().count == 3
    assert len([line for line in logs if line["event"] == "the event loop is blocked"]) == 1


async def test_an_idle_loop_does_not_stall(watch: StallWatch) -> None:
    await asyncio.sleep(4 * STALL_S)

    assert watch.statistics().count == 0


async def test_closing_ends_the_thread() -> None:
    watch = StallWatch.start()
    watch.close()
    watch.close()

    assert "stall watch" not in {thread.name for thread in threading.enumerate()}


STOPPED = """
import asyncio, sys
from lattice.aio.stalls import StallWatch
async def main():
    watch = StallWatch.start()
    print("ready", flush=True)
    while not watch.statistics().frozen:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.5)
    print(watch.statistics().count, flush=True)
    watch.close()
asyncio.run(main())
"""


def test_a_process_that_is_stopped_and_continued_counts_no_stall() -> None:
    with subprocess.Popen([sys.executable, "-c", STOPPED], stdout=subprocess.PIPE, text=True) as it:
        assert it.stdout is not None
        while it.stdout.readline().strip() != "ready":
            assert it.poll() is None
        os.kill(it.pid, signal.SIGSTOP)
        os.waitpid(it.pid, os.WUNTRACED)
        # What is tested is that time passes for it without its doing anything.
        threading.Event().wait(2 * (STALL_S + LOOK_INTERVAL_S))
        os.kill(it.pid, signal.SIGCONT)

        assert [line.strip() for line in it.stdout if not line.startswith("20")] == ["0"]


def test_a_stack_is_bounded_and_ends_where_it_is() -> None:
    def deep(levels: int) -> str:
        return deep(levels - 1) if levels else stalls.stack_of(sys._getframe())

    lines = deep(100).splitlines()

    assert len(lines) == stalls.FRAMES_MAX
    assert lines[-1].endswith("in deep")


def block_the_loop(seconds: float) -> None:
    time.sleep(seconds)

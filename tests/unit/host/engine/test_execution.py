"""One call: its start, its ends, and what it leaves behind."""

import asyncio
import gc
import os
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from host.engine import CallLimits, Code, Engine, EngineSettings, Execution, ffi
from lattice import errors
from tests.support.host_calls import Host, Request, execution, now_s, run, until
from tests.support.wat import actor

Load = Callable[[str], Awaitable[Code]]

PAGE = 64 * 1024


async def never(_request: Request) -> bytes:
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


async def test_a_call_that_needs_no_host_ends_without_a_task_switch(load: Load) -> None:
    call = execution(await load("echo"), b"hello")

    assert call.start() or await call.finish() == b"hello"
    assert call.result() == b"hello"
    assert await call.finish() == b"hello"


async def test_both_names_of_the_abi_are_linked(load: Load) -> None:
    module = await load("echo_wasmbus")

    assert await run(execution(module, b"x")) == b"x"
    assert (module.abi, (await load("echo")).abi) == ("wasmbus", "wapc")


@pytest.mark.parametrize("size", [0, 1, 100_000])
async def test_payloads_come_back_whole(load: Load, size: int) -> None:
    payload = os.urandom(size)
    assert await run(execution(await load("echo"), payload)) == payload


async def test_every_call_sees_a_fresh_instance(load: Load) -> None:
    module = await load("starts")
    assert await run(execution(module)) == await run(execution(module))


async def test_a_host_call_answered_at_once_does_not_suspend(load: Load) -> None:
    host = Host()
    call = execution(await load("relay"), b"payload", operation="Kv.Get", host=host)

    assert await run(call) == b"payload"
    assert host.requests == [("default", "test:target", "Kv.Get", b"payload")]
    assert call.usage.host_calls == 1


async def test_a_host_call_answered_later_suspends_the_guest(load: Load) -> None:
    answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    call = execution(await load("relay"), host=Host(lambda _: answer))

    assert not call.start()
    answer.set_result(b"later")
    assert await call.finish() == b"later"


async def test_a_coroutine_answers_as_well(load: Load) -> None:
    async def answer(request: Request) -> bytes:
        await asyncio.sleep(0)
        return request[3].upper()

    assert await run(execution(await load("relay"), b"abc", host=Host(answer))) == b"ABC"


@pytest.mark.parametrize("later", [False, True])
async def test_an_error_of_the_host_reaches_the_guest_with_its_code(
    load: Load, later: bool
) -> None:
    async def fail_later(_request: Request) -> bytes:
        await asyncio.sleep(0)
        raise errors.NotRunning("nobody is home")

    def fail_now(_request: Request) -> bytes:
        raise errors.NotRunning("nobody is home")

    host = Host(fail_later if later else fail_now)
    with pytest.raises(errors.ActorError, match=r"^not_running: nobody is home$"):
        await run(execution(await load("relay"), host=host))


@pytest.mark.parametrize("later", [False, True])
async def test_a_bug_in_the_host_is_an_error_to_the_guest_and_no_trap(
    load: Load, later: bool
) -> None:
    async def fail_later(_request: Request) -> bytes:
        raise KeyError("secret detail")

    def fail_now(_request: Request) -> bytes:
        raise KeyError("secret detail")

    host = Host(fail_later if later else fail_now)
    with pytest.raises(errors.ActorError, match=r"^internal: ") as caught:
        await run(execution(await load("relay"), host=host))
    assert "secret" not in caught.value.text


async def test_a_timeout_raised_by_the_host_is_not_the_deadline_of_the_call(load: Load) -> None:
    async def fail(_request: Request) -> bytes:
        raise TimeoutError

    with pytest.raises(errors.ActorError, match=r"^internal: "):
        await run(execution(await load("relay"), host=Host(fail)))


async def test_an_actor_may_call_another_in_the_same_host(load: Load) -> None:
    relay, echo = await load("relay"), await load("echo")
    inner = Host(lambda request: run(execution(echo, request[3])))
    outer = Host(lambda request: run(execution(relay, request[3], host=inner)))

    assert await run(execution(relay, b"deep", host=outer)) == b"deep"


async def test_calls_started_inside_a_host_call_do_not_mix_guests(load: Load) -> None:
    relay, echo = await load("relay"), await load("echo")

    def answer(request: Request) -> bytes | Awaitable[bytes]:
        call = execution(echo, request[3] * 2)
        return call.result() if call.start() else call.finish()

    assert await run(execution(relay, b"ab", host=Host(answer))) == b"abab"


async def test_start_functions_run_in_order_and_may_suspend(load: Load) -> None:
    async def answer(request: Request) -> bytes:
        await asyncio.sleep(0)
        return b""

    host = Host(answer)
    assert await run(execution(await load("starts"), host=host)) == b"si_w"
    assert host.requests == [("name", "", "", b"")], "the start section's own call"


async def test_a_call_past_its_deadline_is_not_executed(load: Load, engine: Engine) -> None:
    call = execution(await load("echo"), timeout_s=-1)
    before = engine.statistics().calls

    assert call.start()
    with pytest.raises(errors.DeadlineExceeded, match="before the call was executed"):
        call.result()
    assert engine.statistics().calls == before


async def test_the_deadline_ends_a_suspended_call_and_cancels_its_host_call(load: Load) -> None:
    ended = []

    async def answer(_request: Request) -> bytes:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)
        return b""

    call = execution(await load("relay"), host=Host(answer), timeout_s=0.05)
    with pytest.raises(errors.DeadlineExceeded):
        await run(call)
    assert ended == [True]


async def test_the_deadline_holds_even_if_the_host_call_hides_its_cancellation(
    load: Load,
) -> None:
    async def answer(_request: Request) -> bytes:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise errors.Unavailable("gave up") from None
        return b""

    with pytest.raises(errors.DeadlineExceeded):
        await run(execution(await load("relay"), host=Host(answer), timeout_s=0.05))


async def test_the_deadline_ends_a_guest_that_keeps_the_cpu(load: Load) -> None:
    with pytest.raises(errors.DeadlineExceeded):
        await run(execution(await load("spin"), timeout_s=0.1))


async def test_the_cpu_budget_ends_a_guest_and_says_both_figures(load: Load) -> None:
    call = execution(await load("spin"), limits=CallLimits(cpu_time_s=0.05))

    with pytest.raises(errors.CpuExceeded) as caught:
        await run(call)
    assert caught.value.detail["limit"] == 50_000
    assert caught.value.detail["measured"] > 50_000
    assert call.usage.cpu_us == caught.value.detail["measured"]


async def test_a_guest_of_endless_host_calls_is_held_to_its_budget_too(load: Load) -> None:
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.create_task(count_turns())
    with pytest.raises(errors.CpuExceeded):
        await run(execution(await load("chatter"), limits=CallLimits(cpu_time_s=0.05)))
    counting.cancel()
    assert turns > 1, "the loop was held all the time"


async def test_a_guest_that_keeps_the_cpu_leaves_the_loop_and_still_answers(
    load: Load, engine: Engine
) -> None:
    assert await run(execution(await load("work"), bytes(100))) == b""
    assert engine.statistics().offloaded > 0


async def test_a_guest_gets_no_further_slice_on_the_loop_after_half_a_tick(
    load: Load, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    spin, loops = await load("spin"), threading.get_ident()
    spent_ns = []
    run_on = engine.steps.run

    def noting(base: int, program: int, clock: int) -> int:
        if threading.get_ident() == loops:
            spent_ns.append(ffi.Slot.from_address(base).cpu_ns)
        return run_on(base, program, clock)

    monkeypatch.setattr(engine, "steps", engine.steps._replace(run=noting))
    # Each begins at another moment of a tick, and is interrupted for the first time at the next.
    for _ in range(20):
        with pytest.raises(errors.CpuExceeded):
            await run(execution(spin, limits=CallLimits(cpu_time_s=0.02)))

    assert all(spent <= engine.turn_ns for spent in spent_ns)
    assert engine.statistics().offloaded > 0


async def test_a_host_call_made_in_a_worker_is_served_on_the_loop(
    load: Load, engine: Engine
) -> None:
    threads = []

    async def answer(_request: Request) -> bytes:
        threads.append(asyncio.get_running_loop())
        await asyncio.sleep(0)
        return b""

    await run(execution(await load("work_then_call"), bytes(100), host=Host(answer)))
    assert threads == [asyncio.get_running_loop()] * 2
    assert engine.statistics().offloaded >= 2


async def test_the_loop_answers_while_guests_keep_every_worker_busy(
    load: Load, engine: Engine
) -> None:
    spin, echo = await load("spin"), await load("echo")
    limits = CallLimits(cpu_time_s=0.3)
    hogs = [asyncio.create_task(run(execution(spin, limits=limits))) for _ in range(6)]
    answered = 0
    while not all(hog.done() for hog in hogs):
        assert await run(execution(echo, b"x")) == b"x"
        answered += 1
        await asyncio.sleep(0)

    for hog in hogs:
        with pytest.raises(errors.CpuExceeded):
            await hog
    # A loop that the hogs held would have come round once per slice at most.
    assert answered > 2 * engine.statistics().offloaded / len(hogs)


async def test_more_hogs_than_workers_share_them_fairly(load: Load, engine: Engine) -> None:
    spin = await load("spin")
    hogs = [execution(spin, timeout_s=50.0) for _ in range(12)]
    running = [asyncio.create_task(run(hog)) for hog in hogs]
    await until(lambda: engine.statistics().offloaded >= 6 * len(hogs))
    for each in running:
        each.cancel()
    await asyncio.gather(*running, return_exceptions=True)

    used_us = [hog.usage.cpu_us for hog in hogs]
    assert min(used_us) > sum(used_us) / len(used_us) / 10, used_us


async def test_cancelling_a_suspended_call_unwinds_it(load: Load, engine: Engine) -> None:
    call = execution(await load("relay"), host=Host(never))
    running = asyncio.create_task(run(call))
    await until(lambda: engine.running == 1)

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert engine.running == 0
    with pytest.raises(errors.Cancelled):
        call.result()


async def test_cancelling_a_call_in_a_worker_unwinds_it(load: Load, engine: Engine) -> None:
    running = asyncio.create_task(run(execution(await load("spin"))))
    await until(lambda: engine.statistics().offloaded > 0)

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (engine.running, engine.statistics().workers_busy) == (0, 0)


async def test_cancelling_calls_that_wait_for_a_worker_unwinds_them(
    load: Load, engine: Engine
) -> None:
    spin = await load("spin")
    running = [asyncio.create_task(run(execution(spin))) for _ in range(12)]
    await until(lambda: engine.statistics().workers_busy == 12)

    for task in running:
        task.cancel()
    outcomes = await asyncio.gather(*running, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {asyncio.CancelledError}
    assert (engine.running, len(engine.waiting)) == (0, 0)


@pytest.mark.parametrize("hogs", [1, 12])
async def test_a_coroutine_destroyed_in_mid_call_leaves_nothing(
    load: Load, engine: Engine, hogs: int
) -> None:
    spin = await load("spin")
    calls = [execution(spin) for _ in range(hogs)]
    assert not any(call.start() for call in calls)
    finishing = [call.finish() for call in calls]
    for coroutine in finishing:
        # Stepped by hand to its first wait: what a loop that is torn down leaves behind.
        coroutine.send(None)
    for coroutine in finishing:
        coroutine.close()

    assert (engine.running, engine.statistics().workers_busy, len(engine.waiting)) == (0, 0, 0)


async def test_an_abandoned_call_gives_its_instance_back(load: Load, engine: Engine) -> None:
    call = execution(await load("relay"), host=Host(never))
    assert not call.start()

    call.abandon()
    call.abandon()
    assert engine.running == 0
    with pytest.raises(errors.Cancelled):
        call.result()


@pytest.mark.parametrize("name", ["relay", "spin"])
async def test_abandoning_a_call_reaches_the_task_that_waits_for_it(
    load: Load, engine: Engine, name: str
) -> None:
    call = execution(await load(name), host=Host(never))
    running = asyncio.create_task(run(call))
    await until(lambda: engine.running == 1)
    await asyncio.sleep(0)

    call.abandon()
    with pytest.raises(errors.Cancelled):
        await running
    assert not running.cancelled()


async def test_a_host_call_may_abandon_its_own_call(load: Load, engine: Engine) -> None:
    calls: list[Execution] = []

    async def answer(_request: Request) -> bytes:
        await asyncio.sleep(0)
        calls[0].abandon()
        return b""

    calls.append(execution(await load("relay"), host=Host(answer)))
    with pytest.raises(errors.Cancelled):
        await run(calls[0])
    await asyncio.sleep(0)
    assert engine.running == 0


@pytest.mark.parametrize("outcome", ["bytes", "awaitable", "error"])
async def test_a_host_call_answered_at_once_may_abandon_its_own_call(
    load: Load, engine: Engine, outcome: str
) -> None:
    calls: list[Execution] = []

    def answer(request: Request) -> bytes | Awaitable[bytes]:
        calls[0].abandon()
        if outcome == "error":
            raise errors.NotFound("gone")
        return b"" if outcome == "bytes" else never(request)

    calls.append(execution(await load("relay"), host=Host(answer)))
    with pytest.raises(errors.Cancelled):
        await run(calls[0])
    assert engine.running == 0


@pytest.mark.parametrize("later", [False, True])
async def test_a_host_call_may_close_the_engine_under_its_own_guest(later: bool) -> None:
    engine = Engine(EngineSettings(instances_max=2))

    async def close_later(_request: Request) -> bytes:
        await asyncio.sleep(0)
        engine.close()
        return b""

    def close_now(_request: Request) -> bytes:
        engine.close()
        return b""

    work = await engine.load(actor("work_then_call"))
    host = Host(close_later if later else close_now)
    with pytest.raises(errors.Cancelled):
        await run(execution(work, bytes(100), host=host))
    assert engine.running == 0


async def test_when_every_instance_is_busy_the_call_is_refused_unexecuted() -> None:
    engine = Engine(EngineSettings(instances_max=2))
    try:
        relay = await engine.load(actor("relay"))
        held = [execution(relay, host=Host(never)) for _ in range(2)]
        assert not any(call.start() for call in held)

        with pytest.raises(errors.Overloaded, match="all 2 instances"):
            await run(execution(relay))
        held[0].abandon()
        assert await run(execution(relay, b"room")) == b"room"
        held[1].abandon()
    finally:
        engine.close()


async def test_a_guest_that_reports_an_error_fails_with_its_text(load: Load) -> None:
    with pytest.raises(errors.ActorError, match=r"^no such account$"):
        await run(execution(await load("fails")))


@pytest.mark.parametrize(
    ("payload", "said"), [(b"x", "gave no response"), (b"", "gave no error text")]
)
async def test_a_guest_that_never_answers_fails_saying_so(
    load: Load, payload: bytes, said: str
) -> None:
    with pytest.raises(errors.ActorError, match=said):
        await run(execution(await load("never_answers"), payload))


async def test_of_two_responses_the_last_counts(load: Load) -> None:
    assert await run(execution(await load("answers_twice"))) == b"second"


TRAPS = [
    "unreachable",
    "out of bounds memory access",
    "integer division by zero",
    "integer overflow",
    "invalid conversion to integer",
    "indirect call to null",
    "out of bounds table access",
    "call stack exhausted",
]


@pytest.mark.parametrize(("way", "kind"), list(enumerate(TRAPS)), ids=TRAPS)
async def test_a_trap_says_its_kind_and_where(load: Load, way: int, kind: str) -> None:
    with pytest.raises(errors.ActorTrapped) as caught:
        await run(execution(await load("traps"), bytes(way)))

    assert caught.value.detail["kind"] == kind
    assert caught.value.detail["memory_bytes"] == PAGE
    frames = caught.value.detail["backtrace"].splitlines()
    assert " @ 0x" in frames[0]
    if kind == "unreachable":
        assert frames[0].startswith("unreachable @")


async def test_memory_growth_without_end_is_reported_with_both_figures(load: Load) -> None:
    call = execution(await load("grow"), limits=CallLimits(memory_bytes=16 * PAGE))

    with pytest.raises(errors.MemoryExceeded) as caught:
        await run(call)
    assert caught.value.detail["limit"] == 16 * PAGE
    assert caught.value.detail["measured"] == 16 * PAGE
    assert call.usage.memory_bytes == 16 * PAGE


async def test_memory_growth_ends_at_the_pools_place_as_well(engine: Engine, load: Load) -> None:
    with pytest.raises(errors.MemoryExceeded) as caught:
        await run(execution(await load("grow")))
    assert caught.value.detail["measured"] == engine.memory_bytes_max


async def test_one_growth_over_the_limit_is_known_by_the_allocators_handler(load: Load) -> None:
    with pytest.raises(errors.MemoryExceeded):
        await run(execution(await load("grow_at_once")))


async def test_a_trap_far_below_the_memory_limit_is_a_trap(load: Load) -> None:
    with pytest.raises(errors.ActorTrapped):
        await run(execution(await load("traps")))


async def test_the_memory_limit_is_that_of_the_call(load: Load) -> None:
    module = await load("grow_and_answer")
    for pages, limit, expected in ((3, 8, 4), (9, 8, 1), (7, 8, 8)):
        call = execution(module, bytes(pages), limits=CallLimits(memory_bytes=limit * PAGE))
        await run(call)
        assert call.usage.memory_bytes == expected * PAGE


async def test_a_module_that_starts_over_the_limit_of_its_call_is_refused(load: Load) -> None:
    call = execution(await load("relay"), limits=CallLimits(memory_bytes=PAGE))

    with pytest.raises(errors.MemoryExceeded) as caught:
        await run(call)
    assert (caught.value.detail["measured"], caught.value.detail["limit"]) == (4 * PAGE, PAGE)


async def test_fuel_is_counted_when_the_engine_meters_it() -> None:
    engine = Engine(EngineSettings(instances_max=4, fuel=True))
    try:
        call = execution(await engine.load(actor("work")), bytes(1))
        await run(call)
        assert call.usage.fuel is not None
        assert call.usage.fuel > 1_000_000
    finally:
        engine.close()


async def test_closing_the_engine_ends_every_kind_of_running_call() -> None:
    engine = Engine(EngineSettings(instances_max=32))
    relay, spin = await engine.load(actor("relay")), await engine.load(actor("spin"))
    waiting = [asyncio.create_task(run(execution(relay, host=Host(never)))) for _ in range(3)]
    spinning = [asyncio.create_task(run(execution(spin))) for _ in range(6)]
    started = execution(relay, host=Host(never))
    assert not started.start()
    await until(lambda: engine.statistics().workers_busy == 6)

    engine.close()
    engine.close()
    outcomes = await asyncio.gather(*waiting, *spinning, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {errors.Cancelled}
    assert engine.running == 0
    with pytest.raises(errors.Draining):
        await run(execution(relay))


async def test_the_ticker_parks_when_nothing_runs_and_wakes_for_a_guest(
    load: Load, engine: Engine
) -> None:
    spin = await load("spin")
    await until(lambda: engine.parked)

    with pytest.raises(errors.CpuExceeded):
        await run(execution(spin, limits=CallLimits(cpu_time_s=0.02)))
    await until(lambda: engine.parked)


async def test_two_thousand_calls_suspended_at_once_all_end() -> None:
    engine = Engine(EngineSettings(instances_max=2_000))
    try:
        relay = await engine.load(actor("relay"))
        gate = asyncio.Event()

        async def answer(request: Request) -> bytes:
            await gate.wait()
            return request[3]

        calls = [execution(relay, b"%d" % n, host=Host(answer)) for n in range(2_000)]
        tasks = [asyncio.create_task(run(call)) for call in calls]
        await until(lambda: engine.running == 2_000)
        gate.set()
        assert await asyncio.gather(*tasks) == [b"%d" % n for n in range(2_000)]
        assert engine.running == 0
    finally:
        engine.close()


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_twenty_thousand_calls_leave_no_memory_behind(load: Load) -> None:
    echo, traps, relay = await load("echo"), await load("traps"), await load("relay")

    async def some(count: int) -> None:
        for n in range(count):
            if n % 10 == 0:
                with pytest.raises(errors.ActorTrapped):
                    await run(execution(traps))
            elif n % 10 == 1:
                await run(execution(relay, b"x", host=Host(_soon)))
            else:
                await run(execution(echo, b"x" * 100))
        gc.collect()

    await some(2_000)
    before = _resident_bytes()
    await some(20_000)
    assert _resident_bytes() - before < 4 * 1024 * 1024


async def _soon(_request: Request) -> bytes:
    await asyncio.sleep(0)
    return b""


async def test_the_deadline_of_the_test_helper_is_the_loops_clock() -> None:
    assert abs(now_s() - asyncio.get_running_loop().time()) < 1

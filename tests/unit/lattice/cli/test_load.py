"""A load: how much, how fast, and whom a stall is charged to."""

import asyncio
from collections.abc import Callable

import pytest

from lattice import errors
from lattice.cli import load
from lattice.cli.load import Outcome, Plan

STALL_S = 0.5


class Time:
    """A clock that only sleepers and calls move, one after the other."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def now(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.now_s += seconds


class Target:
    """Takes a millisecond for each call, but for what a test says of some."""

    def __init__(self, clock: Time, takes_s: Callable[[int], float] = lambda _: 0.001) -> None:
        self.clock = clock
        self.takes_s = takes_s
        self.begun_s: list[float] = []

    async def send(self) -> None:
        self.begun_s.append(self.clock.now_s)
        self.clock.now_s += self.takes_s(len(self.begun_s) - 1)


async def put_on(target: Target, plan: Plan) -> Outcome:
    outcome = Outcome()
    await load.run(target.send, plan, outcome, now=target.clock.now, sleep=target.clock.sleep)
    return outcome


async def test_as_many_calls_are_made_as_were_asked_for() -> None:
    target = Target(Time())

    outcome = await put_on(target, Plan(concurrency=3, calls=10))

    assert (len(target.begun_s), outcome.begun, outcome.succeeded) == (10, 10, 10)
    assert outcome.calls_per_s == pytest.approx(1_000)


async def test_a_load_ends_when_its_time_is_over() -> None:
    target = Target(Time())

    outcome = await put_on(target, Plan(concurrency=1, duration_s=0.0995))

    assert outcome.succeeded == 100


async def test_calls_begin_at_their_rate() -> None:
    target = Target(Time())

    await put_on(target, Plan(concurrency=1, calls=5, rate_per_s=10))

    began = target.begun_s[0]
    assert [at - began for at in target.begun_s] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


async def test_with_a_rate_a_stall_is_charged_to_every_call_that_it_kept_waiting() -> None:
    def takes_s(number: int) -> float:
        return STALL_S if number == 0 else 0.0

    target = Target(Time(), takes_s)
    outcome = await put_on(target, Plan(concurrency=1, calls=100, rate_per_s=100))

    # Half a second at a hundred calls each second: fifty were due while it stood still.
    slow = outcome.durations.total - sum(
        calls
        for low, calls in zip(
            outcome.durations.pairs()[::2], outcome.durations.pairs()[1::2], strict=True
        )
        if low == 0
    )
    assert slow == 50
    median = outcome.durations.quantile(0.75)
    assert median is not None
    assert median == pytest.approx(STALL_S * 1e6 / 2, rel=0.1)


async def test_without_a_rate_a_stall_is_one_slow_call() -> None:
    target = Target(Time(), lambda number: STALL_S if number == 0 else 0.0)

    outcome = await put_on(target, Plan(concurrency=1, calls=100))

    assert outcome.durations.quantile(0.98) == 0
    assert outcome.durations.greatest == pytest.approx(STALL_S * 1e6, rel=1 / 8)


async def test_calls_that_were_due_and_never_began_are_told() -> None:
    target = Target(Time(), lambda _: 0.1)

    outcome = await put_on(target, Plan(concurrency=1, duration_s=1.0, rate_per_s=100))

    assert outcome.begun == 10
    assert outcome.not_begun == 90


async def test_failures_are_counted_by_code_and_not_timed() -> None:
    outcome = Outcome()
    codes = iter([errors.Overloaded("full"), errors.Overloaded("full"), errors.Expired("late")])

    async def send() -> None:
        if (error := next(codes, None)) is not None:
            raise error

    await load.run(send, Plan(concurrency=1, calls=4), outcome)

    assert outcome.failures == {"overloaded": 2, "deadline_exceeded": 1}
    assert (outcome.succeeded, outcome.failed, outcome.durations.total) == (1, 3, 1)


async def test_a_load_that_is_ended_early_keeps_what_it_counted() -> None:
    outcome = Outcome()
    stuck = asyncio.Event()

    async def send() -> None:
        if outcome.succeeded == 2:
            stuck.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(load.run(send, Plan(concurrency=1, calls=9), outcome))
    await stuck.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert (outcome.begun, outcome.succeeded) == (3, 2)
    assert outcome.seconds > 0

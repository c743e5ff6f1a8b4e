"""Many calls at a time, or at a rate: when each begins, how long it takes, what becomes of it.

With a rate, call number *n* is due *n / rate* seconds after the start, whatever became of those
before it, and its time counts from when it was due. So a target that stands still for a second is
charged with the wait of every call that should have begun meanwhile, and not with one slow call
only, as a caller that politely waits would have it (*coordinated omission*).
"""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from lattice import errors
from lattice.wire.histogram import Histogram

Send = Callable[[], Awaitable[None]]
"""Makes one call; fails with a ``LatticeError``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much load: until a number of calls or a time, whichever comes first."""

    concurrency: int
    """Calls that may run at a time."""
    calls: int | None = None
    duration_s: float | None = None
    rate_per_s: float | None = None
    """None begins a call whenever another one has ended."""

    @property
    def calls_due(self) -> int | None:
        """Calls that the plan comes to; None when only time will tell."""
        if self.rate_per_s is None or self.duration_s is None:
            return self.calls
        due = max(1, round(self.rate_per_s * self.duration_s))
        return due if self.calls is None else min(due, self.calls)


@dataclass(slots=True)
class Outcome:
    """What came of a load so far."""

    began_s: float = 0.0
    """Monotonic seconds."""
    seconds: float = 0.0
    """From the start to the end of the last call."""
    begun: int = 0
    succeeded: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    """By error code."""
    durations: Histogram = field(default_factory=Histogram)
    """Microseconds of the calls that succeeded; with a rate, from when each was due."""
    not_begun: int = 0
    """Calls that were due before the end, and for which there never was room."""

    @property
    def failed(self) -> int:
        return self.failures.total()

    @property
    def calls_per_s(self) -> float:
        return self.succeeded / self.seconds if self.seconds > 0 else 0.0


async def run(
    send: Send,
    plan: Plan,
    outcome: Outcome,
    *,
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Put a load on, and count in ``outcome`` what becomes of it; it may be read meanwhile.

    Cancelling gives up the calls that run, and leaves the outcome as far as it came.
    """
    outcome.began_s = began_s = now()
    end_s = None if plan.duration_s is None else began_s + plan.duration_s
    calls_max = plan.calls_due

    numbers = itertools.count() if calls_max is None else iter(range(calls_max))

    async def caller() -> None:
        for number in numbers:
            due_s = now_s = now()
            if end_s is not None and now_s >= end_s:
                return
            if plan.rate_per_s is not None:
                due_s = began_s + number / plan.rate_per_s
                if due_s > now_s:
                    await sleep(due_s - now_s)
            outcome.begun += 1
            await _count(send, due_s, outcome, now)

    try:
        await asyncio.gather(*(caller() for _ in range(plan.concurrency)))
    finally:
        outcome.seconds = now() - began_s
        if plan.rate_per_s is not None and calls_max is not None:
            due = min(calls_max, int(outcome.seconds * plan.rate_per_s))
            outcome.not_begun = max(0, due - outcome.begun)


async def _count(send: Send, due_s: float, outcome: Outcome, now: Callable[[], float]) -> None:
    try:
        await send()
    except errors.LatticeError as error:
        outcome.failures[error.code] += 1
    else:
        outcome.succeeded += 1
        outcome.durations.add(round((now() - due_s) * 1e6))

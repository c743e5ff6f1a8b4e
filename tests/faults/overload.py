"""How an actor takes more calls than it can serve: what it holds, and what it still gets done."""

import asyncio
from collections import Counter
from dataclasses import dataclass

from lattice import errors
from tests.faults.arena import PROBE, Arena

INSTANCES = 2
HOLD_MS = 40
"""What each call takes, nearly all of it waiting: the actor is full, not the machine."""

PHASE_S = 3.0
WARM_UP_S = 0.5
FACTORS = (2, 10)
CALL_TIMEOUT_S = 4.0

GOODPUT_LEAST = 0.8
"""Shedding must be cheaper than serving."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overload:
    """What was measured."""

    held_calls: int
    """Calls in flight at once that an actor took before it said ``overloaded``."""
    peak_per_s: float
    goodput: dict[int, float]
    """By how many times more was offered than the peak: what was served of the peak."""
    refused_ms: float
    """Median time until a call was refused, the runtime's own repetitions included."""


async def measure(arena: Arena) -> Overload:
    """Overload an actor on one host of a lattice that is well otherwise."""
    host = arena.hosts[0]
    await arena.scale("meter", "relay", INSTANCES, host)
    await arena.put_link("meter", "ledger")
    await arena.until_answers("meter")
    held = await _burst(arena)
    peak = (await _offer(arena, per_s=None)).served_per_s
    goodput, waits = {}, []
    for factor in FACTORS:
        result = await _offer(arena, per_s=peak * factor)
        goodput[factor] = round(result.served_per_s / peak, 3)
        waits += result.refused_s
    await arena.scale("meter", "relay", 0, host)
    refused_ms = round(sorted(waits)[len(waits) // 2] * 1000, 1) if waits else 0.0
    overload = Overload(
        held_calls=held, peak_per_s=round(peak, 1), goodput=goodput, refused_ms=refused_ms
    )
    for factor, share in goodput.items():
        arena.history.observe(
            "meter",
            "figure",
            figure=f"goodput at {factor} times the peak",
            value=share,
            least=GOODPUT_LEAST,
        )
    return overload


class _Result:
    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.served_per_s = 0.0
        self.refused_s: list[float] = []


async def _burst(arena: Arena) -> int:
    """How many of very many calls at once are taken; none of them is repeated by anyone."""
    result = _Result()
    await asyncio.gather(*(_call(arena, result) for _ in range(1000)))
    return 1000 - result.outcomes["overloaded"]


async def _offer(arena: Arena, *, per_s: float | None) -> _Result:
    """Offer calls at a rate, or as fast as they are answered, and count what was served."""
    result = _Result()
    now = asyncio.get_running_loop().time
    began = now()
    counts_from, ends = began + WARM_UP_S, began + WARM_UP_S + PHASE_S
    calls: set[asyncio.Task[None]] = set()
    offered = 0
    while now() < ends:
        if per_s is None:
            wanted = 4 * INSTANCES - len(calls)
        else:
            wanted = int((now() - began) * per_s) - offered
        for _ in range(wanted):
            offered += 1
            task = asyncio.create_task(_call(arena, result, counts_from, ends), name="offered")
            calls.add(task)
            task.add_done_callback(calls.discard)
        await asyncio.sleep(0.002)
    if calls:
        await asyncio.wait(calls)
    result.served_per_s = result.outcomes["served in time"] / PHASE_S
    return result


async def _call(arena: Arena, result: _Result, counts_from: float = 0.0, ends: float = 0.0) -> None:
    now = asyncio.get_running_loop().time
    began = now()
    payload = f"{HOLD_MS} {PROBE}".encode()
    try:
        await arena.rpc.call(arena.call("meter", "Ledger.Hold", payload, timeout_s=CALL_TIMEOUT_S))
    except errors.LatticeError as error:
        result.outcomes[error.code] += 1
        if error.code == "overloaded":
            result.refused_s.append(now() - began)
    else:
        result.outcomes["ok"] += 1
        if counts_from <= now() < ends:
            result.outcomes["served in time"] += 1

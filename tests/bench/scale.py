"""Whether a hundred times as much costs a hundred times as much: calls, actors, links."""

import itertools
import statistics
import time
import tracemalloc

from host.actors.actor import Actor
from host.actors.slots import Slots
from host.engine import Engine, EngineSettings
from host.hostcalls.outward import find_link
from lattice.state.links import LinkTable
from lattice.wire.control import Link
from tests.bench import in_process
from tests.bench.memory import settled_bytes
from tests.bench.report import Row, median_row, steepness
from tests.support.wat import actor

CALLS = 100_000
CALLS_AT_A_TIME = 1_000
ACTORS = (1, 10, 50, 200)
LINKS = (1, 10, 100, 1_000)
ROUNDS = 5
PAYLOAD = b"x" * 100

FLAT = 2.0
"""Largest cost per unit as a multiple of the smallest that is still called flat. What grows with
the number would be tenfold at least; what no longer fits the processor's caches is less."""


async def measure() -> list[Row]:
    engine = Engine(EngineSettings())
    try:
        return [*await _calls(engine), *await _actors(engine), *_links()]
    finally:
        engine.close()


async def _calls(engine: Engine) -> list[Row]:
    echo = await in_process.start(engine, "echo", actor("echo"))
    await _time_us(echo, CALLS_AT_A_TIME)
    before = settled_bytes()
    costs_us = [await _time_us(echo, CALLS_AT_A_TIME) for _ in range(CALLS // CALLS_AT_A_TIME)]
    tenth = len(costs_us) // 10
    ends = [statistics.median(part) for part in (costs_us[:tenth], costs_us[-tenth:])]
    return [
        Row(
            id="calls_time",
            value=round(steepness(ends), 3),
            unit="x",
            goal=FLAT,
            better="lower",
            against=f"CPU time of a call among the first and the last tenth of {CALLS} calls",
        ),
        Row(
            id="calls_memory",
            value=round((settled_bytes() - before) / CALLS, 2),
            unit="bytes",
            goal=16,
            better="lower",
            against=f"growth of resident memory by {CALLS} calls, for each",
        ),
    ]


async def _actors(engine: Engine) -> list[Row]:
    slots = Slots(engine.instances_max)
    # The first of all pays for what all share.
    await in_process.start(engine, "first", _variant(-1), slots=slots)
    actors: list[Actor] = []
    start_ms, memory_kib, call_us = [], [], []
    for previous, count in itertools.pairwise((0, *ACTORS)):
        before, times_ms = settled_bytes(), []
        for number in range(previous, count):
            began = time.process_time()
            started = await in_process.start(engine, f"a{number}", _variant(number), slots=slots)
            times_ms.append((time.process_time() - began) * 1000)
            actors.append(started)
        start_ms.append(statistics.median(times_ms))
        call_us.append(await _time_us_of(actors))
        memory_kib.append((settled_bytes() - before) / 1024 / (count - previous))
    return [
        _flatness(start_ms[1:], "actors_start_time", "CPU time per start", ACTORS[1:], "actors"),
        _flatness(call_us, "actors_call_time", "CPU time per call", ACTORS, "actors"),
        Row(
            id="actors_memory",
            value=round(memory_kib[-1] / max(memory_kib[-2], 1), 3),
            unit="x",
            goal=FLAT,
            better="lower",
            against=f"resident memory of each of the actors up to {ACTORS[-1]}, each with code of"
            f" its own ({memory_kib[-1]:.0f} KiB), against those up to {ACTORS[-2]}",
        ),
    ]


def _links() -> list[Row]:
    """All of one source, which is the most that a look-up could have to look through."""
    find_us: list[list[float]] = []
    memory_bytes = []
    for count in LINKS:
        tracemalloc.start()
        table = LinkTable()
        table.replace("source", [_link(number) for number in range(count)])
        memory_bytes.append(tracemalloc.get_traced_memory()[0] / count)
        tracemalloc.stop()
        names = [f"link-{number}" for number in range(count)]
        find_us.append([_find_us(table, names) for _ in range(ROUNDS)])
    return [
        median_row(
            [steepness(costs) for costs in zip(*find_us, strict=True)],
            id="links_find_time",
            unit="x",
            goal=FLAT,
            better="lower",
            against=f"CPU time to find a link of {LINKS[0]} to {LINKS[-1]} links, largest by"
            " smallest",
        ),
        # The table's own size is in the first one's.
        _flatness(memory_bytes[1:], "links_memory", "memory of each", LINKS[1:], "links"),
    ]


def _find_us(table: LinkTable, names: list[str], *, finds: int = 20_000) -> float:
    began = time.process_time()
    for name in itertools.islice(itertools.cycle(names), finds):
        find_link(table, "source", name, "wasmcloud:keyvalue")
    return (time.process_time() - began) * 1e6 / finds


def _flatness(costs: list[float], row_id: str, what: str, sizes: tuple[int, ...], unit: str) -> Row:
    return Row(
        id=row_id,
        value=round(steepness(costs), 3),
        unit="x",
        goal=FLAT,
        better="lower",
        against=f"{what} at {', '.join(map(str, sizes))} {unit}, largest by smallest",
    )


async def _time_us(called: Actor, calls: int) -> float:
    began = time.process_time()
    for _ in range(calls):
        await in_process.call(called, PAYLOAD)
    return (time.process_time() - began) * 1e6 / calls


async def _time_us_of(actors: list[Actor], *, calls: int = 5_000) -> float:
    for called in actors:
        await in_process.call(called, PAYLOAD)
    began = time.process_time()
    for called in itertools.islice(itertools.cycle(actors), calls):
        await in_process.call(called, PAYLOAD)
    return (time.process_time() - began) * 1e6 / calls


def _variant(number: int) -> bytes:
    """The echo guest with a custom section, which makes it a module of its own."""
    content = b"\x05bench" + number.to_bytes(4, "little", signed=True)
    return actor("echo") + b"\x00" + bytes([len(content)]) + content


def _link(number: int) -> Link:
    return Link(
        source_id="source",
        target=f"target-{number}",
        name=f"link-{number}",
        wit_namespace="wasmcloud",
        wit_package="keyvalue",
    )

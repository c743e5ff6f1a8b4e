"""One run: a lattice is started, used and tormented, left to get well, read, and judged."""

import asyncio
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import psutil

from lattice.control import diagnostics
from lattice.control.figures import FiguresClient
from tests.faults import ledger, overload, schedule
from tests.faults.arena import LATTICE, PROBE, Arena, open_arena
from tests.faults.checkers import Checker, Violation, check_all
from tests.faults.checkers.bounds import BoundChecker, ExpectationChecker, LeakChecker
from tests.faults.checkers.delivery import DeliveryChecker
from tests.faults.checkers.recovery import ConvergenceChecker, LivenessChecker
from tests.faults.checkers.register import RegisterChecker
from tests.faults.checkers.sets import SetChecker
from tests.faults.checkers.watch import WatchChecker
from tests.faults.history import Entry, History, operations
from tests.faults.nemeses import table
from tests.faults.nemeses.callers import MaliciousGuests
from tests.faults.nemeses.nemesis import Nemesis
from tests.faults.report import Report, call_rows, fault_rows
from tests.faults.schedule import Window
from tests.faults.workload import Workload

CONVERGE_BOUND_S = 30.0

SLOWER_BESIDE_MALICE = 25.0
"""How many times slower a good call may be beside malicious guests, half of the time: they burn
two cores that it needs itself."""

RELEASE_S = 20.0
"""NATS forgets a consumer some seconds after whoever listened to it went away."""

LEAKS_ALLOWED: Mapping[str, int] = {
    # The HTTP server may have moved there, with its listener and its clients' connections.
    "file descriptors": 16,
    # Of the pool that runs guests which burn CPU; it grows to its bound when it is first needed.
    "threads": 8,
    # Health checks, questions and calls that the hosts make of themselves.
    "asyncio tasks": 8,
    "JetStream consumers": 0,
    "provider processes": 0,
    "instances": 0,
    "connections": 0,
    "subscriptions": 0,
}

CHECKERS: Sequence[Checker] = (
    DeliveryChecker(),
    SetChecker("links"),
    SetChecker("configs"),
    RegisterChecker(),
    WatchChecker(),
    LivenessChecker(),
    ConvergenceChecker(bound_s=CONVERGE_BOUND_S),
    BoundChecker(),
    LeakChecker(allowed=LEAKS_ALLOWED),
    ExpectationChecker(),
)
"""Every promise; another one joins the suite by a line here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a run is made of; two runs with the same have the same schedule."""

    seed: int
    duration_s: float
    servers: int = 1
    faults: tuple[str, ...] = ()
    """Names of those to choose from; all if none is named."""
    is_short: bool = False
    """Without figures of overload, and without the wait until NATS has forgotten lost watches."""


def windows(settings: Settings) -> list[Window]:
    """The schedule of a run."""
    kinds = [
        nemesis.kind()
        for nemesis in table.by_name(settings.faults, servers=settings.servers).values()
    ]
    return schedule.plan(settings.seed, kinds, duration_s=settings.duration_s)


async def run(
    settings: Settings, *, file: IO[str] | None = None, logs: Path | None = None
) -> Report:
    """Do it; ``file`` takes the history, ``logs`` the processes' own words if they are of use."""
    history = History(time.monotonic, file)
    figures: dict[str, object] = {}
    planned = windows(settings)
    is_well = False
    async with open_arena(history, nats_servers=settings.servers) as arena:
        try:
            if not await arena.wait_converged():
                raise AssertionError(f"the lattice did not start: {history.entries[-1].data}")
            if not settings.is_short:
                figures["overload"] = asdict(await overload.measure(arena))
            await _torment(arena, settings, planned)
            for call_id, at in ledger.read(arena.ledgers):
                if call_id != PROBE:
                    history.observe("ledger", "execution", at=at, call=call_id)
            figures |= _compare_malice(history)
            violations = check_all(CHECKERS, history.entries)
            is_well = not violations
        finally:
            if not is_well and logs is not None:
                await _keep_logs(arena, logs)
    return _report(settings, planned, history, figures, violations)


async def _torment(arena: Arena, settings: Settings, planned: Sequence[Window]) -> None:
    history = arena.history
    await arena.warm_up()
    before = await _count_resources(arena, is_short=settings.is_short)
    _note_resources(history, "before", before)
    workload = Workload(arena, settings.seed)
    try:
        await workload.open()
        found = table.by_name(settings.faults, servers=settings.servers)
        await asyncio.sleep(schedule.SETTLE_S)
        for window in planned:
            await strike(found[window.fault](arena), window)
            await asyncio.sleep(window.quiet_s - window.ends_s)
        history.observe("suite", "healed")
        await workload.stop()
        if await arena.wait_converged():
            await workload.wait_caught_up()
            await workload.final_reads()
    finally:
        await workload.aclose()
    _note_resources(
        history, "after", await _wait_released(arena, before, is_short=settings.is_short)
    )


async def strike(nemesis: Nemesis, window: Window) -> None:
    """Inject a fault, wait, and end it; the history has it as one operation."""
    history = nemesis.arena.history
    fault = history.invoke(
        "nemesis",
        "fault",
        fault=window.fault,
        number=window.number,
        total=nemesis.total,
        bound_s=nemesis.bound_s,
    )
    victim = await nemesis.inject(window)
    await asyncio.sleep(window.ends_s - window.begins_s)
    await nemesis.heal()
    history.complete(fault, "ok", victim=victim)


async def _count_resources(arena: Arena, *, is_short: bool) -> dict[tuple[str, str], int]:
    """Count what must be as many after a run as before, when nobody uses anything."""
    counts: dict[tuple[str, str], int] = {}
    for host in arena.hosts:
        assert host.process is not None
        process = psutil.Process(host.process.pid)
        counts[host.name, "file descriptors"] = process.num_fds()
        counts[host.name, "threads"] = process.num_threads()
        counts[host.name, "provider processes"] = len(host.providers())
    # Of all together: those of the reconciler that leads move from host to host, as the app does.
    counts["hosts", "asyncio tasks"] = sum(
        told.tasks_of_loop for told in await diagnostics.of_hosts(arena.bus, LATTICE)
    )
    figures = await FiguresClient(arena.bus, LATTICE).hosts()
    counts["hosts", "instances"] = sum(host.running for host in figures)
    if is_short:
        return counts
    for resource in ("connections", "subscriptions", "JetStream consumers"):
        counts["NATS", resource] = 0
    for server in arena.servers:
        state = await server.monitor("varz") or {}
        jetstream = await server.monitor("jsz") or {}
        counts["NATS", "connections"] += state.get("connections", 0)
        counts["NATS", "subscriptions"] += state.get("subscriptions", 0)
        counts["NATS", "JetStream consumers"] += jetstream.get("consumers", 0)
    return counts


async def _wait_released(
    arena: Arena, before: Mapping[tuple[str, str], int], *, is_short: bool
) -> dict[tuple[str, str], int]:
    """Count again, until it is as little as before or has had its time to be."""
    end = arena.history.elapsed_s() + RELEASE_S
    while True:
        counts = await _count_resources(arena, is_short=is_short)
        left = [key for key in counts if counts[key] - before[key] > LEAKS_ALLOWED[key[1]]]
        if not left or arena.history.elapsed_s() > end:
            return counts
        await asyncio.sleep(0.5)


def _note_resources(history: History, when: str, counts: Mapping[tuple[str, str], int]) -> None:
    for (process, resource), value in counts.items():
        history.observe(process, "resources", when=when, resource=resource, value=value)


def _compare_malice(history: History) -> dict[str, object]:
    """How much slower good calls were beside malicious guests; noted as a figure with its bound."""
    faults = operations(history.entries, "fault")
    spans = [
        (fault.invoke.at_s, fault.completion.at_s, fault.data["fault"])
        for fault in faults
        if fault.completion is not None
    ]
    beside, quiet = [], []
    for call in operations(history.entries, "canary"):
        if call.data["of"] != "call" or call.phase != "ok" or call.completion is None:
            continue
        took_s = call.completion.at_s - call.invoke.at_s
        during = {name for begins, ends, name in spans if begins <= call.invoke.at_s <= ends}
        if MaliciousGuests.name in during:
            beside.append(took_s)
        elif not during:
            quiet.append(took_s)
    if not beside or not quiet:
        return {}
    ratio = round(statistics.median(beside) / statistics.median(quiet), 2)
    name = "latency of good calls beside malicious guests, ratio of medians"
    history.observe("canary", "figure", figure=name, value=ratio, most=SLOWER_BESIDE_MALICE)
    return {name: ratio}


async def _keep_logs(arena: Arena, logs: Path) -> None:
    """Keep what the processes wrote, their tasks, and what NATS says of its clients."""
    states = {
        f"{told.name}-tasks.json": json.dumps([task.model_dump() for task in told.tasks], indent=2)
        for told in await diagnostics.of_hosts(arena.bus, LATTICE)
    }
    for server in arena.servers:
        for name, path in (
            ("consumers", "jsz?consumers=true&config=true"),
            ("connections", "connz"),
        ):
            state = await server.monitor(path)
            states[f"{server.name}-{name}.json"] = json.dumps(state, indent=2)
    await asyncio.to_thread(_write_logs, logs, arena.workspace, states)


def _write_logs(logs: Path, workspace: Path, states: Mapping[str, str]) -> None:
    logs.mkdir(parents=True, exist_ok=True)
    for log in workspace.glob("*.log"):
        (logs / log.name).write_bytes(log.read_bytes())
    for name, text in states.items():
        (logs / name).write_text(text)


def _report(
    settings: Settings,
    planned: Sequence[Window],
    history: History,
    figures: Mapping[str, object],
    violations: Sequence[Violation],
) -> Report:
    entries: Sequence[Entry] = history.entries
    return Report(
        seed=settings.seed,
        servers=settings.servers,
        duration_s=round(history.elapsed_s(), 1),
        schedule=[str(window) for window in planned],
        faults=fault_rows(entries),
        calls=call_rows(entries),
        figures=figures,
        violations=violations,
    )

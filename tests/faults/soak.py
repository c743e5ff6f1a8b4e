"""``python -m tests.faults.soak [--minutes N]``: hours of use and churn, and what grew by then.

Every figure is sampled while everything is in use, and a line is laid through the second half of
its samples: the first half is caches and pools that fill. A slope is held against what a leak of
one thing for each of very many events would amount to.
"""

import argparse
import asyncio
import statistics
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psutil
from rich.console import Console
from rich.table import Table

from lattice import errors, log
from lattice.control import diagnostics
from lattice.control.figures import FiguresClient
from tests.faults import schedule
from tests.faults.arena import LATTICE, Arena, open_arena
from tests.faults.history import History
from tests.faults.nemeses import table
from tests.faults.run import strike
from tests.faults.workload import Workload

SAMPLE_S = 5.0

CHURN = (
    "provider killed",
    "connections reset",
    "partition of 300 ms",
    "flood",
    "malicious guests",
    "call cycle",
    "malformed and forged messages",
)
"""Faults that leave the hosts' processes alive: one that was started anew has nothing to show."""

SLOPES_MAX: Mapping[str, float] = {
    "memory MiB": 60.0,
    "file descriptors": 12.0,
    "threads": 6.0,
    "asyncio tasks": 12.0,
    "subscriptions": 30.0,
    "JetStream consumers": 12.0,
    "calls in flight": 60.0,
}
"""Per hour."""

JUDGED_FROM_MINUTES = 10.0
"""Of a shorter soak the slopes are shown, and mean nothing: it is still warming up."""


@dataclass(frozen=True, slots=True)
class Slope:
    """How a figure moved."""

    figure: str
    first: float
    last: float
    per_hour: float

    @property
    def name(self) -> str:
        """What it is a figure of, without whose."""
        return self.figure.partition(": ")[2]

    @property
    def ok(self) -> bool:
        return self.per_hour <= SLOPES_MAX[self.name]


def slopes(samples: Mapping[str, Sequence[tuple[float, float]]]) -> list[Slope]:
    """A line through the second half of each figure's samples: pairs of seconds and values."""
    found = []
    for figure, points in sorted(samples.items()):
        later = points[len(points) // 2 :]
        if len(later) < 2:
            continue
        line = statistics.linear_regression([at for at, _ in later], [value for _, value in later])
        found.append(Slope(figure, points[0][1], points[-1][1], round(line.slope * 3600, 2)))
    return found


async def soak(*, seed: int, duration_s: float) -> tuple[list[Slope], Counter[str]]:
    """Use a lattice for so long: what grew, and how often each fault could not be injected.

    An hour of a busy machine has a moment in which the suite's own request is not answered in time;
    that is no reason to lose the hour.
    """
    history = History(time.monotonic)
    samples: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    left_out: Counter[str] = Counter()
    async with open_arena(history, nats_servers=1) as arena:
        await arena.wait_converged()
        workload = Workload(arena, seed, kept_share=0.0)
        sampling = asyncio.create_task(_sample(arena, samples), name="samples")
        try:
            await workload.open()
            found = table.by_name(CHURN, servers=1)
            kinds = [nemesis.kind() for nemesis in found.values()]
            for window in schedule.plan(seed, kinds, duration_s=duration_s):
                try:
                    await strike(found[window.fault](arena), window)
                except (errors.LatticeError, TimeoutError):
                    left_out[window.fault] += 1
                await asyncio.sleep(window.quiet_s - window.ends_s)
                # Nobody judges it, and an hour's is large.
                history.entries.clear()
            await workload.stop()
        finally:
            sampling.cancel()
            await asyncio.wait((sampling,))
            await workload.aclose()
    return slopes(samples), left_out


async def _sample(arena: Arena, samples: defaultdict[str, list[tuple[float, float]]]) -> None:
    while True:
        at_s = arena.history.elapsed_s()
        for host in arena.hosts:
            assert host.process is not None
            process = psutil.Process(host.process.pid)
            for name, value in (
                ("memory MiB", process.memory_info().rss / 2**20),
                ("file descriptors", process.num_fds()),
                ("threads", process.num_threads()),
            ):
                samples[f"{host.name}: {name}"].append((at_s, value))
        for told in await diagnostics.of_hosts(arena.bus, LATTICE):
            samples[f"{told.name}: asyncio tasks"].append((at_s, told.tasks_of_loop))
        state = await arena.servers[0].monitor("varz") or {}
        jetstream = await arena.servers[0].monitor("jsz") or {}
        figures = await FiguresClient(arena.bus, LATTICE).hosts()
        for name, value in (
            ("subscriptions", state.get("subscriptions", 0)),
            ("JetStream consumers", jetstream.get("consumers", 0)),
            ("calls in flight", sum(host.running + host.waiting for host in figures)),
        ):
            samples[f"lattice: {name}"].append((at_s, value))
        await asyncio.sleep(SAMPLE_S)


def show(found: Sequence[Slope], console: Console) -> None:
    table = Table(title="second half, as a line", title_justify="left")
    for column in ("figure", "first", "last", "per hour", "most", "ok"):
        table.add_column(column, justify="left" if column in {"figure", "ok"} else "right")
    for slope in found:
        table.add_row(
            slope.figure,
            f"{slope.first:.1f}",
            f"{slope.last:.1f}",
            f"{slope.per_hour:+.1f}",
            f"{SLOPES_MAX[slope.name]:g}",
            "yes" if slope.ok else "NO",
        )
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=60.0)
    options = parser.parse_args()
    log.configure(level="critical")
    found, left_out = asyncio.run(soak(seed=options.seed, duration_s=options.minutes * 60))
    console = Console(width=max(100, Console().width))
    show(found, console)
    for fault, count in left_out.items():
        console.print(f"could not be injected: {fault}, {count} times")
    if options.minutes < JUDGED_FROM_MINUTES:
        console.print(f"too short to be judged: that takes {JUDGED_FROM_MINUTES:g} minutes")
        return
    sys.exit(0 if all(slope.ok for slope in found) else 1)


if __name__ == "__main__":
    main()

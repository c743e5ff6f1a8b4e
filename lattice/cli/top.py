"""What hosts and components do right now, second by second."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from lattice import limits
from lattice.cli import hosts, output
from lattice.cli.connection import connect
from lattice.cli.options import Options, command
from lattice.cli.output import Form, Result
from lattice.control import figures
from lattice.control.figures import Change, FiguresClient
from lattice.wire.control import uptime_human
from lattice.wire.figures import ActorFigures, HostFigures
from lattice.wire.histogram import Histogram

INTERVAL_S = 1.0

_NOTHING = "-"

_HEAD_LINES = 4
"""Lines of a screen that are neither a host nor a component."""


class SortKey(StrEnum):
    """What components can be sorted by, the greatest first; names in their order."""

    CALLS = "calls"
    FAILURES = "failures"
    P99 = "p99"
    QUEUE = "queue"
    MEMORY = "memory"
    CPU = "cpu"
    NAME = "name"


def register(app: typer.Typer, *, panel: str) -> None:
    command(app, "top", panel=panel, example="lattice top --sort p99")(top)


async def top(
    options: Options,
    *,
    once: Annotated[bool, typer.Option("--once", help="Show it once, and end.")] = False,
    interval: Annotated[
        float, typer.Option(min=0.1, max=3600, metavar="SECONDS", help="Between two looks.")
    ] = INTERVAL_S,
    sort: Annotated[SortKey, typer.Option(help="What components are sorted by.")] = SortKey.CALLS,
) -> None:
    """Show what hosts and components do, again each second until Ctrl-C.

    Rates, percentiles and CPU are of the time since the look before; percentiles of a component
    without calls in that time are of all its calls so far. With --output json each look is one
    line.
    """
    async with connect(options) as connection:
        client = FiguresClient(connection.bus, connection.lattice, timeout_s=connection.timeout_s)
        loop = asyncio.get_running_loop()
        before = Look(loop.time(), await client.hosts())
        screen = None if once or options.form is Form.JSON else output.terminal()
        live = (
            nullcontext()
            if screen is None
            else Live(console=screen, screen=True, auto_refresh=False)
        )
        with suppress(asyncio.CancelledError), live as drawn:
            if screen is not None and drawn is not None:
                drawn.update(view(compare(before, before), sort, rows=screen.height), refresh=True)
            while True:
                await asyncio.sleep(max(0.0, before.at_s + interval - loop.time()))
                now = Look(loop.time(), await client.hosts())
                moment = compare(before, now)
                before = now
                if screen is not None and drawn is not None:
                    drawn.update(view(moment, sort, rows=screen.height), refresh=True)
                else:
                    _show(moment, connection.lattice, sort, options.form, last=once)
                if once:
                    return


@dataclass(frozen=True, slots=True)
class Look:
    """All hosts' figures at a time."""

    at_s: float
    hosts: Sequence[HostFigures]


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """What one component does, on all hosts together."""

    figures: ActorFigures
    hosts: int
    change: Change
    over_s: float

    @property
    def calls_per_s(self) -> float:
        return _per_s(self.change.completed + self.change.failed, self.over_s)

    @property
    def failures_per_s(self) -> float:
        return _per_s(self.change.failed + self.change.refused, self.over_s)

    @property
    def cpu_share(self) -> float:
        """CPU seconds per second: 1 is one whole core."""
        return _per_s(self.change.cpu_us / 1e6, self.over_s)

    @property
    def durations(self) -> Histogram:
        """Those of late; all that there are of a component without calls of late."""
        return self.change.durations if self.change.durations.total else self.figures.durations

    def quantile_us(self, share: float) -> int | None:
        return self.durations.quantile(share)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What two looks show together."""

    hosts: Sequence[HostFigures]
    calls_per_s: Mapping[str, float]
    """By host."""
    components: Sequence[Component]


def compare(before: Look, now: Look) -> Moment:
    """What was done between two looks; of one and the same nothing."""
    over_s = now.at_s - before.at_s
    changes = figures.changes(before.hosts, now.hosts)
    by_host: dict[str, list[Change]] = {host.id: [] for host in now.hosts}
    by_actor: dict[str, list[Change]] = {}
    for (host_id, actor_id), change in changes.items():
        by_host[host_id].append(change)
        by_actor.setdefault(actor_id, []).append(change)
    runners = [actor.id for host in now.hosts for actor in host.actors]
    return Moment(
        hosts=now.hosts,
        calls_per_s={
            host_id: _per_s(sum(change.completed + change.failed for change in parts), over_s)
            for host_id, parts in by_host.items()
        },
        components=[
            Component(
                figures=together,
                hosts=runners.count(actor_id),
                change=figures.sum_of(by_actor.get(actor_id, [])),
                over_s=over_s,
            )
            for actor_id, together in figures.by_actor(now.hosts).items()
        ],
    )


def ordered(components: Sequence[Component], sort: SortKey) -> list[Component]:
    """The components by what is asked for, and by name where that is equal."""
    by_name = sorted(components, key=lambda component: component.figures.id)

    def size(component: Component) -> float:
        match sort:
            case SortKey.CALLS:
                return component.calls_per_s
            case SortKey.FAILURES:
                return component.failures_per_s
            case SortKey.P99:
                return component.quantile_us(0.99) or 0
            case SortKey.QUEUE:
                return component.figures.waiting
            case SortKey.MEMORY:
                return component.figures.memory_bytes
            case SortKey.CPU:
                return component.cpu_share
            case SortKey.NAME:
                return 0

    return sorted(by_name, key=size, reverse=True)


def fields(moment: Moment, lattice: str, sort: SortKey) -> dict[str, Any]:
    """A look as JSON."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "lattice": lattice,
        "hosts": [
            {
                "id": host.id,
                "name": host.name,
                "state": _state(host),
                "load": round(host.load, 4),
                "running": host.running,
                "waiting": host.waiting,
                "instances_max": host.instances_max,
                "memory_bytes": host.memory_bytes,
                "guest_memory_bytes": host.guest_memory_bytes,
                "guest_memory_bytes_max": host.guest_memory_bytes_max,
                "retried": host.retried,
                "retries_refused": host.retries_refused,
                "uptime_seconds": host.uptime_s,
                "calls_per_s": round(moment.calls_per_s[host.id], 1),
                "components_left_out": host.left_out,
            }
            for host in moment.hosts
        ],
        "components": [_component_fields(one) for one in ordered(moment.components, sort)],
    }


def view(moment: Moment, sort: SortKey, *, rows: int | None = None) -> RenderableType:
    """A look for people, on a screen of so many lines if it is one."""
    components = ordered(moment.components, sort)
    room = None if rows is None else max(rows - _HEAD_LINES - len(moment.hosts), 1)
    shown = components[:room]
    left_out = len(components) - len(shown) + sum(host.left_out for host in moment.hosts)
    parts: list[RenderableType] = [
        output.table(_HOST_HEADINGS, (_host_row(host, moment) for host in moment.hosts)),
        "",
        output.table(_COMPONENT_HEADINGS, map(_component_row, shown)),
    ]
    if left_out:
        parts.append(Text(f"and {left_out} more"))
    return Group(*parts)


_HOST_HEADINGS = ("Host", "State", "Load", "Running", "Waiting", "Calls/s", "Memory", "Uptime")

_COMPONENT_HEADINGS = (
    "Component",
    "Hosts",
    "Calls/s",
    "Fail/s",
    "p50",
    "p99",
    "Queue",
    "Running",
    "Memory",
    "CPU",
)


def _show(moment: Moment, lattice: str, sort: SortKey, form: Form, *, last: bool) -> None:
    if form is Form.JSON:
        output.show_json({"success": True, **fields(moment, lattice, sort)})
        return
    # In a pipe one look follows the other, with an empty line between them.
    text = [view(moment, sort), *([] if last else [""])]
    note = "" if moment.hosts else hosts.nobody(lattice)
    output.show(Result(fields={}, text=text, note=note), form)


def _host_row(host: HostFigures, moment: Moment) -> tuple[str, ...]:
    return (
        host.name,
        _state(host),
        f"{host.load:.0%}",
        str(host.running),
        str(host.waiting),
        f"{moment.calls_per_s[host.id]:.1f}",
        _bytes(host.memory_bytes),
        uptime_human(host.uptime_s),
    )


def _component_row(component: Component) -> tuple[str, ...]:
    now = component.figures
    return (
        now.id,
        str(component.hosts),
        f"{component.calls_per_s:.1f}",
        f"{component.failures_per_s:.1f}",
        _duration(component.quantile_us(0.5)),
        _duration(component.quantile_us(0.99)),
        str(now.waiting),
        "throttled" if now.throttled_ms else f"{now.running}/{now.count}",
        _bytes(now.memory_bytes),
        f"{component.cpu_share:.0%}",
    )


def _component_fields(component: Component) -> dict[str, Any]:
    now = component.figures
    return {
        "id": now.id,
        "hosts": component.hosts,
        "calls_per_s": round(component.calls_per_s, 1),
        "failures_per_s": round(component.failures_per_s, 1),
        **_spread_us(component.durations),
        "queued_p99_us": now.queued.quantile(0.99),
        "waiting": now.waiting,
        "running": now.running,
        "count": now.count,
        "memory_bytes": now.memory_bytes,
        "cpu_share": round(component.cpu_share, 4),
        "completed": now.completed,
        "failed": now.failed,
        "trapped": now.trapped,
        "cancelled": now.cancelled,
        "refused": now.refused,
        "throttled_ms": now.throttled_ms,
        "bytes_in": now.bytes_in,
        "bytes_out": now.bytes_out,
        "cpu_us": now.cpu_us,
        "fuel": now.fuel,
        "host_calls": now.host_calls,
        "links": [
            {
                "name": link.name,
                "interface": link.interface,
                "target": link.target,
                "calls": link.calls,
                "failures": link.failures,
                "bytes_in": link.bytes_in,
                "bytes_out": link.bytes_out,
                "cpu_us": link.cpu_us,
                **_spread_us(link.durations),
            }
            for link in now.links
        ],
    }


def _spread_us(durations: Histogram) -> dict[str, float | None]:
    mean = durations.mean
    return {
        "min_us": durations.least,
        "avg_us": None if mean is None else round(mean, 1),
        "p50_us": durations.quantile(0.5),
        "p99_us": durations.quantile(0.99),
        "max_us": durations.greatest,
    }


def _state(host: HostFigures) -> str:
    return "draining" if host.draining else "ready"


def _per_s(amount: float, over_s: float) -> float:
    return amount / over_s if over_s > 0 else 0.0


def _bytes(size: int) -> str:
    if not size:
        return _NOTHING
    return f"{size / limits.MIB:.0f} MiB" if size >= limits.MIB else f"{size / limits.KIB:.0f} KiB"


def _duration(microseconds: int | None) -> str:
    if microseconds is None:
        return _NOTHING
    if microseconds < 1_000:
        return f"{microseconds} us"
    if microseconds < 1_000_000:
        return f"{microseconds / 1_000:.1f} ms"
    return f"{microseconds / 1_000_000:.1f} s"

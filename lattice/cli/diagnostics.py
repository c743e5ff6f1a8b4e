"""``lattice get diagnostics``: how hosts are themselves, beneath what runs on them."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

import typer
from rich.console import RenderableType
from rich.text import Text

from lattice.cli import hosts, output
from lattice.cli.connection import connect
from lattice.cli.hosts import WatchOption
from lattice.cli.options import Options, command
from lattice.cli.output import Result
from lattice.control import diagnostics
from lattice.wire.diagnostics import ConnectionDiagnostics, HostDiagnostics


def register(get: typer.Typer) -> None:
    command(get, "diagnostics", example="lattice get diagnostics alpha")(get_diagnostics)


async def get_diagnostics(
    options: Options,
    host: hosts.OneHostArgument = None,
    *,
    watch: WatchOption = None,
) -> Result | None:
    """Show how a host itself is: its connections, its event loop, its tasks, its bounds.

    What was dropped, replaced or blocked is counted since the host started. With --watch, again and
    again until Ctrl-C.
    """
    async with connect(options) as connection:

        async def look() -> Result:
            bus, lattice = connection.bus, connection.lattice
            if host is None:
                found = await diagnostics.of_hosts(bus, lattice, timeout_s=connection.timeout_s)
            else:
                host_id = (await hosts.find(connection, host)).id
                found = [
                    await diagnostics.of_host(bus, lattice, host_id, timeout_s=connection.timeout_s)
                ]
            return diagnostics_result(found, lattice)

        return await hosts.once_or_watch(look, options, watch)


def diagnostics_result(found: list[HostDiagnostics], lattice: str) -> Result:
    text: list[RenderableType] = []
    for host in found:
        text += [*([""] if text else []), *_text(host)]
    return Result(
        fields={"diagnostics": [host.model_dump() for host in found]},
        text=text,
        note="" if found else hosts.nobody(lattice),
    )


def _text(host: HostDiagnostics) -> Iterator[RenderableType]:
    name, host_id = output.visible(host.name), output.visible(host.id)
    yield Text.assemble(("Host ", "bold"), (name, "bold"), f" ({host_id})")
    yield output.table(
        ("Connection", "Server", "Round trip", "Reconnects", "Deaf", "Dropped", "Pending", "Out"),
        [_connection_row(one) for one in host.connections],
    )
    for one in host.connections:
        if one.replaced:
            yield f"  {one.purpose} was made anew, last because {output.visible(one.replaced_for)}"
        if one.dropped:
            yield f"  {one.purpose} dropped {output.visible(_counts(one.dropped_by_subject))}"
    yield output.table(
        ("Bound", "Now", "Most"),
        [(one.name, f"{one.value:,}", f"{one.most:,}") for one in host.bounds],
    )
    yield output.table(
        ("Task", "Owner", "Age (seconds)", "Restarts", "Last failure"),
        [
            (one.name, one.group, f"{one.age_s:.0f}", str(one.restarts), one.last_failure)
            for one in host.tasks
        ],
    )
    if host.tasks_left_out:
        yield f"  and {host.tasks_left_out} more tasks"
    for failed in host.failures:
        yield output.visible(f"  failed in {failed.group}: {failed.count}, last {failed.last}")
    yield from _stalls(host)


def _stalls(host: HostDiagnostics) -> Iterator[RenderableType]:
    stalls = host.stalls
    if stalls.frozen:
        yield f"  the whole process stood still {stalls.frozen} times"
    if not stalls.count:
        yield "  the event loop was never blocked"
        return
    last = datetime.fromtimestamp(stalls.last_at, UTC).isoformat(timespec="seconds")
    yield (
        f"  the event loop was blocked {stalls.count} times, {stalls.worst_s:.2f} s at worst;"
        f" last at {last} for {stalls.last_s:.2f} s:"
    )
    yield from (f"    {output.visible(line)}" for line in stalls.last_stack.splitlines())


def _connection_row(one: ConnectionDiagnostics) -> tuple[str, ...]:
    trip = "" if one.round_trip_s is None else f"{one.round_trip_s * 1000:.1f} ms"
    return (
        one.purpose,
        one.server if one.connected else "not connected",
        trip,
        *map(str, (one.reconnects, one.replaced, one.dropped, one.pending, one.outgoing_bytes)),
    )


def _counts(by_subject: dict[str, int]) -> str:
    return ", ".join(f"{count} on {subject}" for subject, count in _most(by_subject.items()))


def _most(counts: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    return sorted(counts, key=lambda pair: (-pair[1], pair[0]))

"""What actors write, and hosts about them: lately, and live."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

import typer

from lattice import limits, names
from lattice.cli import completion, hosts, output
from lattice.cli.connection import connect
from lattice.cli.options import Options, command
from lattice.cli.output import Form, Result
from lattice.control.logs import LogsClient
from lattice.wire.logs import Line, Lines, RecentRequest

LINES = 50
"""Lines that are shown of the past: a screen."""


class LeastLevel(StrEnum):
    """The levels of lines."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


def register(app: typer.Typer, *, panel: str) -> None:
    command(app, "logs", panel=panel, example="lattice logs -f counter")(logs)


async def logs(
    options: Options,
    components: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="COMPONENT...",
            help="Ids of components; all if absent.",
            autocompletion=completion.components,
        ),
    ] = None,
    *,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with new lines until Ctrl-C.")
    ] = False,
    host: Annotated[
        str | None,
        typer.Option(
            metavar="HOST",
            help="Lines of one host only: its id, or its name or part of it.",
            autocompletion=completion.hosts,
        ),
    ] = None,
    level: Annotated[
        LeastLevel, typer.Option(help="The least severe lines to show.")
    ] = LeastLevel.DEBUG,
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=0, max=10_000, help="How many of the last lines.")
    ] = LINES,
) -> Result | None:
    """Show what components have written lately, and with -f what they write from now on.

    Lines of the host about a component, a trap for example, are among them. A host keeps the last
    lines of each component while it runs. With -f and --output json each line is one object.
    """
    ids = [names.parse_entity(component) for component in components or []] or None
    async with connect(options) as connection:
        client = LogsClient(connection.bus, connection.lattice, timeout_s=connection.timeout_s)
        only = None if host is None else (await hosts.find(connection, host)).id
        request = RecentRequest(
            ids=None if ids is None else list(ids), level=level.value, lines=max(lines, 1)
        )

        async def look() -> list[Shown]:
            if not lines:
                return []
            return last(await client.recent(request), lines, host_id=only)

        if not follow:
            found = await look()
            return Result(
                fields={"lines": [fields(*one) for one in found]},
                text=[text(*one) for one in found],
                note="" if found else "nothing was written lately; -f waits for more",
            )
        async with client.follow(ids=request.ids, level=request.level) as stream:
            shown = set()
            for one in await look():
                shown.add(_identity(*one))
                _show(one, options.form)
            output.note("following; Ctrl-C ends it")
            with suppress(asyncio.CancelledError):
                async for message in stream:
                    if only not in (None, message.host):
                        continue
                    for line in message.lines:
                        # What was written while the recent lines were asked for came both ways.
                        if _identity(message, line) not in shown:
                            _show((message, line), options.form)
                    if message.dropped:
                        _show_dropped(message, options.form)
    return None


Shown = tuple[Lines, Line]
"""A line, and the message that says which host it is from."""


def last(answers: Iterable[Lines], count: int, *, host_id: str | None) -> list[Shown]:
    """The last lines of all hosts, in the order of the hosts' clocks."""
    found = [
        (answer, line)
        for answer in answers
        if host_id in (None, answer.host)
        for line in answer.lines
    ]
    found.sort(key=lambda one: (one[1].time_ms, one[0].host, one[1].number))
    return found[-count:]


def fields(message: Lines, line: Line) -> dict[str, Any]:
    time = datetime.fromtimestamp(line.time_ms / 1000, UTC)
    return {
        "time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "host_id": message.host,
        "host": message.name,
        "component_id": line.actor,
        "level": line.level,
        "by": line.by,
        "text": line.text,
        "call": line.call,
    }


def text(message: Lines, line: Line) -> str:
    """A line for people; what a host says about an actor is told from what the actor says."""
    time = datetime.fromtimestamp(line.time_ms / 1000, UTC).astimezone().strftime("%H:%M:%S.%f")
    who = line.actor if line.by == "guest" else f"{line.actor} (host)"
    head = f"{time[:-3]}  {message.name}  {who}  {line.level}  "
    return output.visible(f"{head}{line.text}".replace("\n", "\n    "))


def _show(one: Shown, form: Form) -> None:
    if form is Form.JSON:
        output.show_json(fields(*one))
    else:
        output.show(Result(fields={}, text=[text(*one)]), form)


def _show_dropped(message: Lines, form: Form) -> None:
    if form is Form.JSON:
        output.show_json(
            {"host_id": message.host, "host": message.name, "dropped": message.dropped}
        )
    else:
        output.note(
            f"host {message.name} dropped {message.dropped} lines: more than"
            f" {limits.LOG_LINES_PER_S} in a second"
        )


def _identity(message: Lines, line: Line) -> tuple[str, int, int]:
    return message.host, line.number, line.time_ms

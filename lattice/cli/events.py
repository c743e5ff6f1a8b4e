"""Events of the lattice as they happen: wasmCloud's and our own."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from lattice import errors, names, subjects
from lattice.bus import Message
from lattice.cli import completion, hosts, output
from lattice.cli.connection import Connection, connect
from lattice.cli.options import Options, command
from lattice.cli.output import Form, Result
from lattice.wire import events as wire

EVENTS_WAITING_MAX = 10_000
"""Events held while they can't be printed; older ones are dropped first."""

NAMES_WAIT_S = 1.0
"""How long hosts may take to tell their names; the others are shown by their ids."""

VALUE_CHARS_MAX = 200
"""How much of one value people are shown."""

_NAME = re.compile(r"[a-z0-9_]+")

_ELSEWHERE = frozenset({"host_id", "friendly_name"})
"""What a line tells already."""

_REPEATED = frozenset({"public_key", "instance_id", "contract_id", "code"})
"""What says the same as another field, to programs."""


def register(app: typer.Typer, *, panel: str) -> None:
    command(app, "events", panel=panel, example="lattice events --filter component_scaled")(events)


async def events(
    options: Options,
    *,
    filters: Annotated[
        list[str] | None,
        typer.Option(
            "--filter", metavar="NAME,...", help="Events of these names only. Repeatable."
        ),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            metavar="HOST",
            help="Events of one host only: its id, or its name or part of it.",
            autocompletion=completion.hosts,
        ),
    ] = None,
    component: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help="Events about one component only, its links among them.",
            autocompletion=completion.components,
        ),
    ] = None,
    count: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="End after so many.")
    ] = None,
) -> None:
    """Show events as they happen, until Ctrl-C.

    Those that wasmCloud knows and those that only we have. With --output json each is one line.
    Events are delivered at most once and not kept: there is no asking for older ones.
    """
    wanted = names_of(filters or [])
    if component is not None:
        names.parse_entity(component)
    async with connect(options) as connection:
        source = None if host is None else (await hosts.find(connection, host)).id
        async with listening(connection) as stream:
            friendly = await _friendly_names(connection)
            output.note("listening; Ctrl-C ends it")
            with suppress(asyncio.CancelledError):
                shown = 0
                while count is None or shown < count:
                    event = await stream.next()
                    _learn_name(friendly, event)
                    if matches(event, names=wanted, source=source, component=component):
                        show(event, friendly.get(event.source, event.source), options.form)
                        shown += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """An event as it arrived."""

    name: str
    source: str
    """Id of the host that published it."""
    time: datetime
    own: bool
    """Whether it is of the family that wasmCloud does not know."""
    data: Mapping[str, Any]


class Stream:
    """Events of both families in the order of their arrival."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Seen] = asyncio.Queue(EVENTS_WAITING_MAX)

    async def next(self) -> Seen:
        return await self._queue.get()

    async def receive(self, message: Message) -> None:
        await self._take(message, own=False)

    async def receive_own(self, message: Message) -> None:
        await self._take(message, own=True)

    async def _take(self, message: Message, *, own: bool) -> None:
        if (event := wire.decode(message.data)) is None:
            return
        name, source, data = event
        if self._queue.full():
            self._queue.get_nowait()
        told = wire.time_of(message.data)
        time = datetime.now(UTC) if told is None else datetime.fromtimestamp(told, UTC)
        self._queue.put_nowait(Seen(name=name, source=source, time=time, own=own, data=data))


@asynccontextmanager
async def listening(connection: Connection) -> AsyncIterator[Stream]:
    """Hear every event from now on."""
    stream = Stream()
    subscriptions = [
        await connection.bus.subscribe(family(connection.lattice, ">"), receive)
        for family, receive in (
            (subjects.event, stream.receive),
            (subjects.own_event, stream.receive_own),
        )
    ]
    await connection.bus.flush()
    try:
        for subscription in subscriptions:
            subscription.check()
        yield stream
    finally:
        for subscription in subscriptions:
            await subscription.unsubscribe()


def names_of(filters: Iterable[str]) -> frozenset[str]:
    """Event names, several of them separated by commas; none means all.

    Raises:
        InvalidRequest: not a name for an event.
    """
    found = {part.strip() for text in filters for part in text.split(",") if part.strip()}
    for name in found:
        if not _NAME.fullmatch(name):
            raise errors.InvalidRequest(
                f"{name!r} is not the name of an event; one is called component_scaled"
            )
    return frozenset(found)


def matches(
    event: Seen, *, names: frozenset[str], source: str | None, component: str | None
) -> bool:
    """Whether an event is wanted: all that is asked for must be true of it."""
    about = (event.data.get(key) for key in ("component_id", "source_id", "target"))
    return (
        (not names or event.name in names)
        and (source is None or event.source == source)
        and (component is None or component in about)
    )


def show(event: Seen, host: str, form: Form) -> None:
    if form is Form.JSON:
        output.show_json(fields(event, host))
    else:
        output.show(Result(fields={}, text=[line(event, host)]), form)


def fields(event: Seen, host: str) -> dict[str, Any]:
    return {
        "time": event.time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "name": event.name,
        "family": "lattice" if event.own else "wasmcloud",
        "host_id": event.source,
        "host": host,
        "data": output.printable(event.data),
    }


def line(event: Seen, host: str) -> str:
    time = event.time.astimezone().strftime("%H:%M:%S.%f")[:-3]
    words = (time, event.name, host, essentials(event))
    return output.visible("  ".join(word for word in words if word)).replace("\n", " ")


def essentials(event: Seen) -> str:
    """What people want to know of an event, in one line."""
    data = event.data
    if event.name in ("linkdef_set", "linkdef_set_failed", "linkdef_deleted"):
        text = f"{data.get('source_id')} -> {data.get('target') or 'its target'}"
        text += f" {data.get('wit_namespace')}:{data.get('wit_package')}"
        if (name := data.get("name", names.DEFAULT_LINK)) != names.DEFAULT_LINK:
            text += f" ({name})"
        return f"{text} {data['error']}" if "error" in data else text
    if event.name == "host_heartbeat":
        held = {kind: data.get(kind) for kind in ("components", "providers")}
        return " ".join(
            f"{kind}={len(items)}" for kind, items in held.items() if isinstance(items, list)
        )
    told: list[str] = []
    for key, value in data.items():
        if key in _ELSEWHERE or key in _REPEATED or value in (None, "", [], {}):
            continue
        if key in ("component_id", "provider_id", "config_name"):
            told.insert(0, str(value))
        elif key in ("labels", "annotations") and isinstance(value, Mapping):
            told.append(" ".join(f"{name}={text}" for name, text in value.items()))
        elif isinstance(value, str | int | float):
            short = hosts.with_short_digests(value) if isinstance(value, str) else value
            told.append(f"{key}={short}")
    return " ".join(text[:VALUE_CHARS_MAX] for text in told)


async def _friendly_names(connection: Connection) -> dict[str, str]:
    found = await connection.control.hosts(wait_s=NAMES_WAIT_S)
    return {host.id: host.friendly_name for host in found}


def _learn_name(friendly: dict[str, str], event: Seen) -> None:
    # Heartbeats of hosts, and the start of new ones.
    if isinstance(name := event.data.get("friendly_name"), str):
        friendly[event.source] = name

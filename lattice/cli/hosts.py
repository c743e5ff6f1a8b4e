"""Hosts: which there are, what runs on them, which one is meant, and stopping one."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Annotated

import typer
from rich.console import RenderableType
from rich.text import Text

from lattice import errors, limits, names
from lattice.cli import completion, output
from lattice.cli.connection import Connection, connect
from lattice.cli.options import Options, command
from lattice.cli.output import Result
from lattice.wire.control import Host, HostInventory, ProviderCrashes

QUICK_WAIT_S = 0.25
"""A host whose exact name answers by then is taken without waiting for slower ones."""

STOP_MARGIN_S = limits.PROVIDER_STOP_TIMEOUT_S + 2.0
"""What a host may take on top of its drain: its providers, and its last event."""

DIGEST_CHARS = 12
"""How much of a digest is shown to people; as much as ``docker`` and ``git`` show."""

_DIGEST = re.compile(r"@sha256:[0-9a-f]+")

WatchOption = Annotated[
    float | None,
    typer.Option(min=0.1, metavar="SECONDS", help="Look again every so many seconds."),
]


HostArgument = Annotated[
    str,
    typer.Argument(
        metavar="HOST",
        help="Id of the host, or its name or part of it.",
        autocompletion=completion.hosts,
    ),
]
OneHostArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="HOST",
        help="Id of a host, or its name or part of it; all if absent.",
        autocompletion=completion.hosts,
    ),
]


class NoHost(errors.NotFound):
    """No host has such an id or name."""

    remedy = "see which hosts there are with: lattice get hosts"


def register(get: typer.Typer, stop: typer.Typer) -> None:
    command(get, "hosts", example="lattice get hosts --output json")(get_hosts)
    command(get, "inventory", example="lattice get inventory alpha")(get_inventory)
    command(stop, "host", example="lattice stop host alpha --host-timeout 5000")(stop_host)


async def get_hosts(options: Options, *, watch: WatchOption = None) -> Result | None:
    """List the hosts of the lattice.

    Every host that answers within the timeout, by name. With --watch, again and again until Ctrl-C.
    """
    async with connect(options) as connection:

        async def look() -> Result:
            return hosts_result(await connection.control.hosts(), connection.lattice)

        return await once_or_watch(look, options, watch)


async def get_inventory(
    options: Options,
    host: OneHostArgument = None,
    *,
    watch: WatchOption = None,
) -> Result | None:
    """Show what runs on a host, or on all of them.

    Its labels, its components with how many of their calls may run at once, its providers. With
    --watch, again and again until Ctrl-C.
    """
    async with connect(options) as connection:

        async def look() -> Result:
            return inventories_result(await looked_into(connection, host), connection.lattice)

        return await once_or_watch(look, options, watch)


async def stop_host(
    options: Options,
    host: HostArgument,
    *,
    host_timeout: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="MS",
            help="How long its running calls may take to end, in milliseconds.",
            show_default=f"{limits.DRAIN_TIMEOUT_S * 1000:.0f}",
        ),
    ] = None,
    skip_wait: Annotated[
        bool, typer.Option("--skip-wait", help="Return when the host has taken the request.")
    ] = False,
) -> Result:
    """Have a host drain and end.

    It takes no new calls, finishes those that run within --host-timeout, stops its providers, and
    goes. The command ends when the host says that it has stopped, or answers no more.
    """
    async with connect(options) as connection:
        found = await find(connection, host)
        drain_s = limits.DRAIN_TIMEOUT_S if host_timeout is None else host_timeout / 1000
        async with connection.control.events("host_stopped") as stream:
            await connection.control.stop_host(found.id, timeout_ms=host_timeout)
            if not skip_wait:
                with output.busy(f"waiting for host {found.name} to end"):
                    event = await stream.wait_for(
                        lambda event: event.source == found.id, timeout_s=drain_s + STOP_MARGIN_S
                    )
                # The event may have been lost; a host that answers no more is gone as well.
                if event is None and await _answers(connection, found.id):
                    raise errors.DeadlineExceeded(f"host {found.name} has not ended yet")
    text = f"Host [{found.name}] {'is stopping' if skip_wait else 'stopped'}"
    return Result(fields={"result": text, "host_id": found.id}, text=[text])


@dataclass(frozen=True, slots=True)
class Found:
    """The host that was meant."""

    id: str
    name: str
    """Its friendly name, or its id again where only that is known."""


async def find(connection: Connection, text: str) -> Found:
    """The host that a full id, a name or a part of a name means.

    An id is taken as it is: whether such a host answers shows when it is asked for something.

    Raises:
        NotFound: no host has such a name.
        InvalidRequest: several have; the text lists them.
    """
    try:
        host_id = names.parse_host(text)
    except errors.InvalidRequest:
        pass
    else:
        return Found(host_id, host_id)
    quick = [
        host
        for host in await connection.control.hosts(wait_s=QUICK_WAIT_S)
        if host.friendly_name == text
    ]
    hosts = quick or await connection.control.hosts()
    chosen = choose(hosts, text, connection.lattice)
    return Found(chosen.id, chosen.friendly_name)


def choose(hosts: Iterable[Host], text: str, lattice: str) -> Host:
    """The one host that a text means: by id or whole name, else by a part of its name.

    Raises:
        NotFound: none.
        InvalidRequest: more than one; the text lists them.
    """
    hosts = list(hosts)
    part = text.lower()
    matches = [host for host in hosts if text in (host.id, host.friendly_name)] or [
        host for host in hosts if part in host.friendly_name.lower()
    ]
    match matches:
        case [host]:
            return host
        case []:
            raise NoHost(f"no host named {text!r} answers on lattice {lattice!r}")
        case _:
            listed = ", ".join(f"{host.friendly_name} ({host.id})" for host in matches)
            raise errors.InvalidRequest(f"{text!r} may be any of {listed}: name one in full")


async def inventories(connection: Connection) -> list[HostInventory]:
    """What runs on every host that answers, by host name."""
    hosts = await connection.control.hosts()
    answers = await asyncio.gather(*(_inventory(connection, host.id) for host in hosts))
    return [inventory for inventory in answers if inventory is not None]


async def looked_into(connection: Connection, host: str | None) -> list[HostInventory]:
    """The inventory of the host that is named, or of all.

    Raises:
        NotFound: there is no such host.
    """
    if host is None:
        return await inventories(connection)
    found = await find(connection, host)
    return [await connection.control.inventory(found.id)]


def hosts_result(hosts: list[Host], lattice: str) -> Result:
    rows = [(host.id, host.friendly_name, str(host.uptime_seconds)) for host in hosts]
    table = output.table(("Host ID", "Friendly name", "Uptime (seconds)"), rows)
    return Result(
        fields={"hosts": [host.to_json() for host in hosts]},
        text=[table],
        note="" if hosts else nobody(lattice),
    )


def inventories_result(found: list[HostInventory], lattice: str) -> Result:
    text: list[RenderableType] = []
    for inventory in found:
        text += [*([""] if text else []), *_inventory_text(inventory)]
    return Result(
        fields={"inventories": [inventory.to_json() for inventory in found]},
        text=text,
        note="" if found else nobody(lattice),
    )


def nobody(lattice: str) -> str:
    """What to say when a lattice has no hosts."""
    return f"no host answers on lattice {lattice!r}; start one with: lattice host"


def with_short_digests(text: str | None) -> str:
    """A text with the digests of its references cut to what people compare."""
    return _DIGEST.sub(lambda found: found[0][: len("@sha256:") + DIGEST_CHARS], text or "")


def _inventory_text(inventory: HostInventory) -> list[RenderableType]:
    name, host_id = output.visible(inventory.friendly_name), output.visible(inventory.host_id)
    labels = ", ".join(f"{key}={value}" for key, value in sorted(inventory.labels.items()))
    text: list[RenderableType] = [
        Text.assemble(("Host ", "bold"), (name, "bold"), f" ({host_id})"),
        output.visible(f"  up {inventory.uptime_human}, version {inventory.version}"),
        output.visible(f"  labels: {labels or 'none'}"),
    ]
    if inventory.components:
        components = [
            (c.id, c.name or "", str(c.max_instances), with_short_digests(c.image_ref))
            for c in inventory.components
        ]
        text.append(output.table(("Component ID", "Name", "Max count", "Reference"), components))
        text += [
            output.visible(
                f"  {c.id} is throttled for {c.throttled.backoff_ms} ms after {c.throttled.traps}"
                f" traps in a row: {c.throttled.reason}"
            )
            for c in inventory.components
            if c.throttled
        ]
    else:
        text.append("  no components")
    if inventory.providers:
        providers = [
            (p.id, p.name or "", with_short_digests(p.image_ref)) for p in inventory.providers
        ]
        text.append(output.table(("Provider ID", "Name", "Reference"), providers))
        text += [
            output.visible(f"  {p.id} {_crashes(p.crashes)}")
            for p in inventory.providers
            if p.crashes
        ]
    else:
        text.append("  no providers")
    return text


def _crashes(crashes: ProviderCrashes) -> str:
    often = f"crashed {crashes.count} time{'' if crashes.count == 1 else 's'} lately"
    match crashes.state:
        case "given_up":
            return f"is given up: it {often}, at last: {crashes.reason}"
        case "restarting":
            return f"is started again in {crashes.backoff_ms} ms: it {often}: {crashes.reason}"
    return f"runs again: it {often}: {crashes.reason}"


async def _inventory(connection: Connection, host_id: str) -> HostInventory | None:
    try:
        return await connection.control.inventory(host_id)
    except errors.NotFound:
        # It went between its answer to the ping and this question.
        return None


async def _answers(connection: Connection, host_id: str) -> bool:
    return await _inventory(connection, host_id) is not None


async def once_or_watch(
    look: Callable[[], Awaitable[Result]], options: Options, watch_s: float | None
) -> Result | None:
    """One look, or looks until Ctrl-C."""
    if watch_s is None:
        return await look()
    while True:
        result = await look()
        output.clear()
        output.show(result, options.form)
        await asyncio.sleep(watch_s)

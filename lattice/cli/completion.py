"""What a shell completes: names that only the lattice knows, asked for while somebody types.

A completion that is late or broken is worse than none, so it asks for a moment only, and whatever
goes wrong is silence.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import typer

from lattice import log, subjects
from lattice.cli import connection
from lattice.cli.connection import Connection
from lattice.cli.options import Options
from lattice.wire.control import HostInventory

TIMEOUT_S = 1.0
"""How long a person waits for the Tab key before they type on."""

WAIT_S = 0.25
"""How long hosts are waited for: those that take longer are not offered."""


def hosts(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Names of hosts, with their ids; ids where somebody began to type one."""
    return offered(ctx, incomplete, _hosts)


def components(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Ids of the components that run."""
    return offered(ctx, incomplete, _components)


def providers(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Ids of the providers that run."""
    return offered(ctx, incomplete, _providers)


def entities(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Ids of the components and the providers that run."""
    return offered(ctx, incomplete, _entities)


def sources(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Ids of what has links."""
    return offered(ctx, incomplete, _sources)


def configs(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Names of configs."""
    return offered(ctx, incomplete, _configs)


def given(ctx: typer.Context) -> Options:
    """The common options, as far as they have been typed: those nearest to the cursor win."""
    options = Options()
    here: Any = ctx
    while here is not None:
        known = {name: here.params.get(name) for name in Options.__dataclass_fields__}
        options = options.over(Options(**{name: value for name, value in known.items() if value}))
        here = here.parent
    return options


def offered(
    ctx: typer.Context,
    incomplete: str,
    ask: Callable[[Connection], Awaitable[Iterable[tuple[str, str]]]],
) -> list[tuple[str, str]]:
    """What ``ask`` finds that begins as somebody began to type, each with its description."""

    async def offer() -> list[tuple[str, str]]:
        async with asyncio.timeout(TIMEOUT_S), connection.connect(given(ctx)) as lattice:
            return sorted({item for item in await ask(lattice) if item[0].startswith(incomplete)})

    log.configure(level="critical")
    try:
        return asyncio.run(offer())
    except Exception:
        return []


async def _hosts(lattice: Connection) -> list[tuple[str, str]]:
    found = await lattice.control.hosts(wait_s=WAIT_S)
    by_name = [(host.friendly_name, host.id) for host in found]
    return by_name + [(host_id, name) for name, host_id in by_name]


async def _components(lattice: Connection) -> list[tuple[str, str]]:
    return [
        (component.id, component.image_ref)
        for inventory in await _inventories(lattice)
        for component in inventory.components
    ]


async def _providers(lattice: Connection) -> list[tuple[str, str]]:
    return [
        (provider.id, provider.image_ref or "")
        for inventory in await _inventories(lattice)
        for provider in inventory.providers
    ]


async def _entities(lattice: Connection) -> list[tuple[str, str]]:
    return [*await _components(lattice), *await _providers(lattice)]


async def _sources(lattice: Connection) -> list[tuple[str, str]]:
    return [(link.source_id, "") for link in await lattice.control.links()]


async def _configs(lattice: Connection) -> list[tuple[str, str]]:
    return [
        (name, "")
        for name in await lattice.bus.account.keys(subjects.config_bucket(lattice.lattice))
    ]


async def _inventories(lattice: Connection) -> list[HostInventory]:
    found = await lattice.control.hosts(wait_s=WAIT_S)
    return await asyncio.gather(*(lattice.control.inventory(host.id) for host in found))

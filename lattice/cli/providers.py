"""Capability providers: start, stop."""

import asyncio
from typing import Annotated

import typer

from lattice import errors, installed, limits, names
from lattice.cli import auctions, completion, hosts, outcomes, output
from lattice.cli.components import (
    AnnotationOption,
    ConfigOption,
    ConstraintOption,
    HostOption,
    SkipWaitOption,
    WaitTimeoutOption,
)
from lattice.cli.connection import Connection, connect
from lattice.cli.options import Options, command, pairs
from lattice.cli.output import Result
from lattice.wire.control import HostInventory, StartProvider

STARTED = "provider_started"
FAILED = "provider_start_failed"

IdArgument = Annotated[
    str,
    typer.Argument(metavar="ID", help="Id of the provider.", autocompletion=completion.providers),
]


def register(start: typer.Typer, stop: typer.Typer) -> None:
    command(start, "provider", example="lattice start provider http-server http --host-id beta")(
        start_provider
    )
    command(stop, "provider", example="lattice stop provider http")(stop_provider)


async def start_provider(
    options: Options,
    reference: Annotated[
        str,
        typer.Argument(
            metavar="REFERENCE",
            help="A name (such as http-server), lattice+builtin://NAME (inside the host,"
            " the same), lattice+process://NAME (a process of its own), file:// or a registry"
            " reference.",
        ),
    ],
    provider_id: IdArgument,
    *,
    host_id: HostOption = None,
    constraint: ConstraintOption = None,
    config: ConfigOption = None,
    annotation: AnnotationOption = None,
    skip_wait: SkipWaitOption = False,
    wait_timeout_ms: WaitTimeoutOption = outcomes.WAIT_TIMEOUT_MS,
) -> Result:
    """Start a provider on the host that is named, or else on the one best placed to run it.

    Hosts whose labels meet every constraint bid for it, the less loaded the sooner, and the first
    bid wins. The command ends when the provider runs, or has failed to start.
    """
    names.parse_entity(provider_id)
    constraints = pairs(constraint or [], "constraint")
    annotations = pairs(annotation or [], "annotation")
    reference = installed.reference(reference)
    async with connect(options) as connection:
        host = await auctions.place(
            connection,
            connection.control.auction_provider,
            reference=reference,
            entity_id=provider_id,
            host=host_id,
            constraints=constraints,
        )
        request = StartProvider(
            provider_id=provider_id,
            provider_ref=reference,
            host_id=host.id,
            config=config or [],
            annotations=annotations,
        )
        await start_and_wait(
            connection, request, skip_wait=skip_wait, wait_timeout_ms=wait_timeout_ms
        )
    verb = "starting" if skip_wait else "started"
    text = f"Provider [{provider_id}] (ref: [{reference}]) {verb} on host [{host.name}]"
    return Result(
        fields={
            "result": text,
            "provider_ref": reference,
            "provider_id": provider_id,
            "host_id": host.id,
        },
        text=[text],
    )


async def stop_provider(
    options: Options, provider_id: IdArgument, *, host_id: HostOption = None
) -> Result:
    """Stop a provider on the host that is named, or else on every host that runs it.

    It is asked to end, and killed when it does not; the command ends when it has gone.
    """
    names.parse_entity(provider_id)
    async with connect(options) as connection:
        running = running_on(await hosts.looked_into(connection, host_id), provider_id)
        if not running:
            where = "on that host" if host_id else f"on any host of lattice {connection.lattice!r}"
            raise errors.NotRunning(f"provider {provider_id} does not run {where}")
        # A host answers when the provider has ended.
        control = connection.patient(limits.PROVIDER_STOP_TIMEOUT_S)
        await asyncio.gather(*(control.stop_provider(provider_id, host) for host in running))
    text = f"Provider [{provider_id}] stopped successfully"
    return Result(
        fields={
            "result": text,
            "provider_id": provider_id,
            "host_id": running[0],
            "host_ids": running,
        },
        text=[text],
    )


def running_on(found: list[HostInventory], provider_id: str) -> list[str]:
    """Ids of the hosts that run the provider."""
    return [
        inventory.host_id
        for inventory in found
        if any(provider.id == provider_id for provider in inventory.providers)
    ]


async def start_and_wait(
    connection: Connection, request: StartProvider, *, skip_wait: bool, wait_timeout_ms: int
) -> None:
    """Ask a host to start a provider, and wait until it runs."""

    async def look() -> bool:
        inventory = await connection.control.inventory(request.host_id)
        return bool(running_on([inventory], request.provider_id))

    async with connection.control.events(STARTED, FAILED) as stream:
        await connection.control.start_provider(request)
        if skip_wait:
            return
        with output.busy(f"waiting for provider {request.provider_id}"):
            await outcomes.wait(
                stream,
                done=STARTED,
                failed=FAILED,
                concerns={"provider_id": request.provider_id, "host_id": request.host_id},
                timeout_ms=wait_timeout_ms,
                look=look,
                what=f"provider {request.provider_id}",
            )

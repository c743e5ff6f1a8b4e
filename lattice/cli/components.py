"""Actors, which wasmCloud's commands call components: start, scale, stop."""

import asyncio
from typing import Annotated

import typer

from lattice import errors, names
from lattice.cli import auctions, completion, hosts, outcomes, output, references
from lattice.cli.connection import Connection, connect
from lattice.cli.options import Options, command, pairs
from lattice.cli.output import Result
from lattice.wire.control import HostInventory, ScaleComponent, UpdateComponent

UNBOUNDED = 2**32 - 1
"""``wash``'s word for as many instances as the host allows."""

SCALED = "component_scaled"
FAILED = "component_scale_failed"

ReferenceArgument = Annotated[
    str,
    typer.Argument(
        metavar="REFERENCE",
        help="A file here, which is uploaded to the lattice; lattice://, file:// (a file of the"
        " host) or a registry reference.",
    ),
]
IdArgument = Annotated[
    str,
    typer.Argument(metavar="ID", help="Id of the component.", autocompletion=completion.components),
]
ConfigOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="A named config for it; later ones win. Repeatable.",
        autocompletion=completion.configs,
    ),
]
AnnotationOption = Annotated[
    list[str] | None,
    typer.Option(
        "--annotation", "--annotations", "-a", metavar="KEY=VALUE", help="Shown in the inventory."
    ),
]
ConstraintOption = Annotated[
    list[str] | None,
    typer.Option(
        "--constraint",
        "-c",
        metavar="LABEL=VALUE",
        help="A label that the host must have. Repeatable.",
    ),
]
HostOption = Annotated[
    str | None,
    typer.Option(
        "--host-id",
        metavar="HOST",
        help="Id of the host, or its name or part of it.",
        autocompletion=completion.hosts,
    ),
]
SkipWaitOption = Annotated[
    bool, typer.Option("--skip-wait", help="Return when the host has taken the request.")
]
WaitTimeoutOption = Annotated[
    int,
    typer.Option(min=1, metavar="MS", help="How long to wait for the outcome, in milliseconds."),
]


def register(
    start: typer.Typer, scale: typer.Typer, update: typer.Typer, stop: typer.Typer
) -> None:
    command(
        start,
        "component",
        example="lattice start component ./counter.wasm counter --host-id alpha",
    )(start_component)
    command(
        scale,
        "component",
        example="lattice scale component alpha ./counter.wasm counter --max-instances 100",
    )(scale_component)
    command(update, "component", example="lattice update component counter ./counter-2.wasm")(
        update_component
    )
    command(stop, "component", example="lattice stop component counter")(stop_component)


async def start_component(
    options: Options,
    reference: ReferenceArgument,
    component_id: IdArgument,
    *,
    host_id: HostOption = None,
    max_instances: Annotated[
        int,
        typer.Option(
            "--max-instances",
            "--max",
            "--count",
            min=1,
            max=UNBOUNDED,
            metavar="N",
            help="Calls that may run at the same time.",
        ),
    ] = 1,
    constraint: ConstraintOption = None,
    config: ConfigOption = None,
    annotation: AnnotationOption = None,
    skip_wait: SkipWaitOption = False,
    wait_timeout_ms: WaitTimeoutOption = outcomes.WAIT_TIMEOUT_MS,
) -> Result:
    """Start a component on the host that is named, or else on the one best placed to run it.

    Hosts whose labels meet every constraint bid for it, the less loaded the sooner, and the first
    bid wins. The command ends when the component runs, or has failed to start.
    """
    names.parse_entity(component_id)
    constraints = pairs(constraint or [], "constraint")
    annotations = pairs(annotation or [], "annotation")
    async with connect(options) as connection:
        reference = await references.component(connection, reference)
        host = await auctions.place(
            connection,
            connection.control.auction_component,
            reference=reference,
            entity_id=component_id,
            host=host_id,
            constraints=constraints,
        )
        request = ScaleComponent(
            component_id=component_id,
            component_ref=reference,
            count=max_instances,
            annotations=annotations,
            host_id=host.id,
            config=config or [],
        )
        await scale_and_wait(
            connection, request, skip_wait=skip_wait, wait_timeout_ms=wait_timeout_ms
        )
    verb = "starting" if skip_wait else "started"
    return _result(
        f"Component [{component_id}] (ref: [{reference}]) {verb} on host [{host.name}]",
        request,
    )


async def scale_component(
    options: Options,
    host: hosts.HostArgument,
    reference: ReferenceArgument,
    component_id: IdArgument,
    *,
    max_instances: Annotated[
        int,
        typer.Option(
            "--max-instances",
            "--max",
            "--count",
            "-c",
            min=0,
            max=UNBOUNDED,
            metavar="N",
            help="Calls that may run at the same time; 0 stops it.",
            show_default="as many as the host allows",
        ),
    ] = UNBOUNDED,
    config: ConfigOption = None,
    annotation: AnnotationOption = None,
    skip_wait: SkipWaitOption = False,
    wait_timeout_ms: WaitTimeoutOption = outcomes.WAIT_TIMEOUT_MS,
    allow_update: Annotated[
        bool,
        typer.Option("--allow-update", help="Replace the running code if the reference differs."),
    ] = False,
) -> Result:
    """Change how many calls of a component may run at the same time on a host.

    It is started if it does not run there, and stopped at 0. The command ends when it is done.
    """
    names.parse_entity(component_id)
    annotations = pairs(annotation or [], "annotation")
    async with connect(options) as connection:
        found = await hosts.find(connection, host)
        reference = await references.component(connection, reference)
        request = ScaleComponent(
            component_id=component_id,
            component_ref=reference,
            count=max_instances,
            annotations=annotations,
            host_id=found.id,
            config=config or [],
            allow_update=allow_update,
        )
        await scale_and_wait(
            connection, request, skip_wait=skip_wait, wait_timeout_ms=wait_timeout_ms
        )
    verb = "scaling" if skip_wait else "scaled"
    return _result(
        f"Component [{component_id}] (ref: [{reference}]) {verb} on host [{found.name}]"
        f" to {concurrency(max_instances)}",
        request,
        max_instances=max_instances,
    )


async def update_component(
    options: Options,
    component_id: IdArgument,
    reference: ReferenceArgument,
    *,
    host_id: HostOption = None,
    annotation: AnnotationOption = None,
    skip_wait: SkipWaitOption = False,
    wait_timeout_ms: WaitTimeoutOption = outcomes.WAIT_TIMEOUT_MS,
) -> Result:
    """Replace the code of a component that runs, on the host that is named or wherever it runs.

    No call fails by it: those that run end in the old code, those that come are for the new one. It
    keeps its count, its configs and its links; and its annotations, unless others are given.
    """
    names.parse_entity(component_id)
    annotations = pairs(annotation or [], "annotation")
    async with connect(options) as connection:
        running = {
            inventory.host_id: component
            for inventory in await hosts.looked_into(connection, host_id)
            for component in inventory.components
            if component.id == component_id
        }
        if not running:
            raise _not_running(component_id, host_id, connection)
        reference = await references.component(connection, reference)
        requests = [
            UpdateComponent(
                component_id=component_id,
                annotations=annotations or component.annotations or {},
                host_id=host,
                new_component_ref=reference,
            )
            for host, component in running.items()
            if component.image_ref != reference
        ]
        await asyncio.gather(
            *(
                update_and_wait(
                    connection, request, skip_wait=skip_wait, wait_timeout_ms=wait_timeout_ms
                )
                for request in requests
            )
        )
    verb = "updating" if skip_wait else "updated"
    if not requests:
        verb = "already updated"
    text = f"Component [{component_id}] {verb} to [{reference}]"
    return Result(
        fields={
            "result": text,
            "component_id": component_id,
            "component_ref": reference,
            "host_id": next(iter(running)),
            "host_ids": list(running),
            "updated_host_ids": [request.host_id for request in requests],
        },
        text=[text],
    )


async def stop_component(
    options: Options,
    component_id: IdArgument,
    *,
    host_id: HostOption = None,
    skip_wait: SkipWaitOption = False,
    wait_timeout_ms: WaitTimeoutOption = outcomes.WAIT_TIMEOUT_MS,
) -> Result:
    """Stop a component on the host that is named, or else on every host that runs it.

    It takes no new calls there and finishes those that run; the command ends when it has.
    """
    names.parse_entity(component_id)
    async with connect(options) as connection:
        found = await hosts.looked_into(connection, host_id)
        requests = stop_requests(found, component_id)
        if not requests:
            raise _not_running(component_id, host_id, connection)
        await asyncio.gather(
            *(
                scale_and_wait(
                    connection, request, skip_wait=skip_wait, wait_timeout_ms=wait_timeout_ms
                )
                for request in requests
            )
        )
    text = f"Component [{component_id}] {'stopping' if skip_wait else 'stopped'}"
    return Result(
        fields={
            "result": text,
            "component_id": component_id,
            "host_id": requests[0].host_id,
            "host_ids": [request.host_id for request in requests],
        },
        text=[text],
    )


def stop_requests(found: list[HostInventory], component_id: str) -> list[ScaleComponent]:
    """One request for each host that runs the component."""
    return [
        ScaleComponent(
            component_id=component_id,
            component_ref=component.image_ref,
            count=0,
            host_id=inventory.host_id,
        )
        for inventory in found
        for component in inventory.components
        if component.id == component_id
    ]


def concurrency(max_instances: int) -> str:
    """A count in ``wash``'s words."""
    if max_instances == UNBOUNDED:
        return "unbounded concurrency"
    return f"{max_instances} max concurrent instances"


def _not_running(
    component_id: str, host: str | None, connection: Connection
) -> errors.LatticeError:
    where = "on that host" if host else f"on any host of lattice {connection.lattice!r}"
    return errors.NotRunning(f"component {component_id} does not run {where}")


async def update_and_wait(
    connection: Connection, request: UpdateComponent, *, skip_wait: bool, wait_timeout_ms: int
) -> None:
    """Ask a host to replace a component's code, and wait until it has."""

    async def look() -> bool:
        inventory = await connection.control.inventory(request.host_id)
        return any(
            (c.id, c.image_ref) == (request.component_id, request.new_component_ref)
            for c in inventory.components
        )

    async with connection.control.events(SCALED, FAILED) as stream:
        await connection.control.update_component(request)
        if skip_wait:
            return
        with output.busy(f"waiting for component {request.component_id}"):
            await outcomes.wait(
                stream,
                done=SCALED,
                failed=FAILED,
                # A host of wasmCloud's also tells that the old one is gone, in the same words.
                concerns={
                    "component_id": request.component_id,
                    "host_id": request.host_id,
                    "image_ref": request.new_component_ref,
                },
                timeout_ms=wait_timeout_ms,
                look=look,
                what=f"component {request.component_id}",
            )


async def scale_and_wait(
    connection: Connection, request: ScaleComponent, *, skip_wait: bool, wait_timeout_ms: int
) -> None:
    """Ask a host to run a component so many times at once, and wait until it does."""

    async def look() -> bool:
        inventory = await connection.control.inventory(request.host_id)
        running = {
            (each.image_ref, each.max_instances)
            for each in inventory.components
            if each.id == request.component_id
        }
        wanted = (request.component_ref, request.count)
        return wanted in running if request.count else not running

    async with connection.control.events(SCALED, FAILED) as stream:
        if remark := await connection.control.scale_component(request):
            output.note(remark)
        if skip_wait:
            return
        with output.busy(f"waiting for component {request.component_id}"):
            await outcomes.wait(
                stream,
                done=SCALED,
                failed=FAILED,
                concerns={"component_id": request.component_id, "host_id": request.host_id},
                timeout_ms=wait_timeout_ms,
                look=look,
                what=f"component {request.component_id}",
            )


def _result(text: str, request: ScaleComponent, **more: int) -> Result:
    fields = {
        "result": text,
        "component_ref": request.component_ref,
        "component_id": request.component_id,
        "host_id": request.host_id,
        **more,
    }
    return Result(fields=fields, text=[text])

"""Actors, which wasmCloud's commands call components: start, scale, stop."""

import asyncio
from typing import Annotated

import typer

from lattice import errors, names
from lattice.cli import auctions, hosts, outcomes, output, references
from lattice.cli.connection import Connection, connect
from lattice.cli.options import Options, command, pairs
from lattice.cli.output import Result
from lattice.wire.control import HostInventory, ScaleComponent

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
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="Id of the component.")]
ConfigOption = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="A named config for it; later ones win. Repeatable."),
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
    typer.Option("--host-id", metavar="HOST", help="Id of the host, or its name or part of it."),
]
SkipWaitOption = Annotated[
    bool, typer.Option("--skip-wait", help="Return when the host has taken the request.")
]
WaitTimeoutOption = Annotated[
    int,
    typer.Option(min=1, metavar="MS", help="How long to wait for the outcome, in milliseconds."),
]


def register(start: typer.Typer, scale: typer.Typer, stop: typer.Typer) -> None:
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
    """Start a component on the host that is named, or else on the one best placed to run it."""
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
        await _scale(connection, request, skip_wait=skip_wait, wait_timeout_ms=wait_timeout_ms)
    verb = "starting" if skip_wait else "started"
    return _result(
        f"Component [{component_id}] (ref: [{reference}]) {verb} on host [{host.name}]",
        request,
    )


async def scale_component(
    options: Options,
    host: Annotated[
        str, typer.Argument(help="Id of the host, or its name or part of it.", metavar="HOST")
    ],
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
    """Change how many calls of a component may run at the same time on a host."""
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
        await _scale(connection, request, skip_wait=skip_wait, wait_timeout_ms=wait_timeout_ms)
    verb = "scaling" if skip_wait else "scaled"
    return _result(
        f"Component [{component_id}] (ref: [{reference}]) {verb} on host [{found.name}]"
        f" to {concurrency(max_instances)}",
        request,
        max_instances=max_instances,
    )


async def stop_component(
    options: Options,
    component_id: IdArgument,
    *,
    host_id: HostOption = None,
    skip_wait: SkipWaitOption = False,
    wait_timeout_ms: WaitTimeoutOption = outcomes.WAIT_TIMEOUT_MS,
) -> Result:
    """Stop a component on the host that is named, or else on every host that runs it."""
    names.parse_entity(component_id)
    async with connect(options) as connection:
        found = await hosts.looked_into(connection, host_id)
        requests = stop_requests(found, component_id)
        if not requests:
            where = "on that host" if host_id else f"on any host of lattice {connection.lattice!r}"
            raise errors.NotRunning(f"component {component_id} does not run {where}")
        await asyncio.gather(
            *(
                _scale(connection, request, skip_wait=skip_wait, wait_timeout_ms=wait_timeout_ms)
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


async def _scale(
    connection: Connection, request: ScaleComponent, *, skip_wait: bool, wait_timeout_ms: int
) -> None:
    """Ask a host to run a component so many times at once, and wait until it does."""
    wanted = request.count > 0

    async def look() -> bool:
        inventory = await connection.control.inventory(request.host_id)
        running = any(c.id == request.component_id for c in inventory.components)
        return running == wanted

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

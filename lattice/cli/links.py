"""Links: put, delete, list."""

import sys
from typing import Annotated

import typer

from lattice import errors, names
from lattice.cli import completion, output
from lattice.cli.connection import connect
from lattice.cli.options import Options, command
from lattice.cli.output import Result
from lattice.wire.control import DeleteLink, Link

LinkNameOption = Annotated[
    str,
    typer.Option("--link-name", "-l", metavar="NAME", help="Name of the link."),
]
SourceFilter = Annotated[
    str | None,
    typer.Option(
        metavar="ID",
        help="Only links from this component or provider.",
        autocompletion=completion.sources,
    ),
]
TargetFilter = Annotated[
    str | None,
    typer.Option(
        metavar="ID",
        help="Only links to this component or provider.",
        autocompletion=completion.entities,
    ),
]


def register(get: typer.Typer, link: typer.Typer) -> None:
    command(get, "links", example="lattice get links --source counter")(query_links)
    command(link, "query", example="lattice link query --target counter")(query_links)
    command(
        link,
        "put",
        example="lattice link put http counter wasmcloud httpserver --source-config hello-http",
    )(put_link)
    command(link, "del", example="lattice link del counter wasmcloud keyvalue")(delete_link)


async def query_links(
    options: Options, *, source: SourceFilter = None, target: TargetFilter = None
) -> Result:
    """List the links: who may call whom, over which interface, under which name.

    All of the lattice's, or only those from a source and to a target.
    """
    async with connect(options) as connection:
        links = chosen(await connection.control.links(), source=source, target=target)
    return links_result(links)


async def put_link(
    options: Options,
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", help="Id of the caller.", autocompletion=completion.entities
        ),
    ],
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET", help="Id of the callee.", autocompletion=completion.entities
        ),
    ],
    namespace: Annotated[
        str, typer.Argument(metavar="NAMESPACE", help="wasmcloud of wasmcloud:keyvalue.")
    ],
    package: Annotated[
        str, typer.Argument(metavar="PACKAGE", help="keyvalue of wasmcloud:keyvalue.")
    ],
    *,
    interface: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="An interface of the package; all if absent. Repeatable."
        ),
    ] = None,
    source_config: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A named config for the caller. Repeatable.",
            autocompletion=completion.configs,
        ),
    ] = None,
    target_config: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A named config for the callee. Repeatable.",
            autocompletion=completion.configs,
        ),
    ] = None,
    link_name: LinkNameOption = names.DEFAULT_LINK,
) -> Result:
    """Put a link: from now on SOURCE may call TARGET over the interfaces of a package.

    Neither of them has to run yet. A source can have several links on one package, under different
    names; the one that a caller uses when it names none is called default.
    """
    link = Link(
        source_id=names.parse_entity(source),
        target=names.parse_entity(target),
        name=names.parse_link_name(link_name),
        wit_namespace=namespace,
        wit_package=package,
        interfaces=interface or [],
        source_config=source_config or [],
        target_config=target_config or [],
    )
    async with connect(options) as connection:
        await connection.control.put_link(link)
    text = f"Published link ({source}) -> ({target}) successfully"
    return Result(fields={"result": text, "link": link.to_json()}, text=[text])


async def delete_link(
    options: Options,
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="SOURCE", help="Id of the caller.", autocompletion=completion.sources
        ),
    ] = None,
    namespace: Annotated[
        str | None, typer.Argument(metavar="NAMESPACE", help="wasmcloud of wasmcloud:keyvalue.")
    ] = None,
    package: Annotated[
        str | None, typer.Argument(metavar="PACKAGE", help="keyvalue of wasmcloud:keyvalue.")
    ] = None,
    *,
    link_name: LinkNameOption = names.DEFAULT_LINK,
    target: Annotated[
        str | None, typer.Option(metavar="ID", help="Only the link to this callee.")
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Delete every link, or every one of SOURCE.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="With --all: don't ask.")] = False,
) -> Result:
    """Delete a link; calls over it fail from now on.

    It is no error if there is none. With --all every link goes, or every one of SOURCE; that is
    asked for first, unless --force says so.
    """
    if every:
        if namespace is not None:
            raise errors.InvalidRequest("--all goes with a SOURCE at the most")
        return await _delete_all(options, source, force=force)
    if source is None or namespace is None or package is None:
        raise errors.InvalidRequest("name the link by SOURCE NAMESPACE PACKAGE, or say --all")
    request = DeleteLink(
        source_id=names.parse_entity(source),
        name=names.parse_link_name(link_name),
        wit_namespace=namespace,
        wit_package=package,
        target=target,
    )
    async with connect(options) as connection:
        await connection.control.delete_link(request)
    text = f"Deleted link for {source} on {namespace}:{package} ({link_name}) successfully"
    return Result(fields={"result": text}, text=[text])


def chosen(links: list[Link], *, source: str | None, target: str | None) -> list[Link]:
    """The links from a source and to a target, in an order that stays."""
    matches = (
        link for link in links if source in (None, link.source_id) and target in (None, link.target)
    )
    return sorted(matches, key=lambda link: (*link.key, link.target))


def links_result(links: list[Link]) -> Result:
    rows = [(link.source_id, link.target, interfaces(link), link.name) for link in links]
    table = output.table(("Source ID", "Target", "Interface(s)", "Name"), rows)
    return Result(
        fields={"links": [link.to_json() for link in links]},
        text=[table],
        note="" if links else "there are no such links; put one with: lattice link put",
    )


def interfaces(link: Link) -> str:
    """``wasi:keyvalue/atomics,store``, or the bare package for all of its interfaces."""
    package = f"{link.wit_namespace}:{link.wit_package}"
    return f"{package}/{','.join(link.interfaces)}" if link.interfaces else package


async def _delete_all(options: Options, source: str | None, *, force: bool) -> Result:
    async with connect(options) as connection:
        links = chosen(await connection.control.links(), source=source, target=None)
        if links and not force:
            _confirm(len(links), connection.lattice)
        for link in links:
            await connection.control.delete_link(
                DeleteLink(**link.model_dump(include=set(DeleteLink.model_fields)))
            )
    text = f"Deleted {len(links)} links"
    return Result(fields={"result": text, "links": [link.to_json() for link in links]}, text=[text])


def _confirm(count: int, lattice: str) -> None:
    """Ask a person; a script has to say ``--force``.

    Raises:
        InvalidRequest: there is no terminal to ask at.
        Cancelled: the answer was no.
    """
    if not sys.stdin.isatty():
        raise errors.InvalidRequest(f"this would delete {count} links; confirm with --force")
    if not typer.confirm(f"Delete {count} links of lattice {lattice}?", err=True):
        raise errors.Cancelled("nothing was deleted")

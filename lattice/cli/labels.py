"""Labels of hosts: set and deleted while they run."""

from collections.abc import Iterable
from typing import Annotated

import typer

from lattice import errors
from lattice.cli import hosts
from lattice.cli.connection import connect
from lattice.cli.options import Options, command, pairs
from lattice.cli.output import Result


def register(app: typer.Typer, *, panel: str) -> None:
    command(app, "label", panel=panel, example="lattice label alpha zone=a,disk=ssd")(label)


async def label(
    options: Options,
    host: hosts.HostArgument,
    labels: Annotated[
        list[str],
        typer.Argument(metavar="KEY=VALUE,...", help="The labels; with --delete, their keys."),
    ],
    *,
    delete: Annotated[bool, typer.Option("--delete", help="Delete the labels of these keys.")] = (
        False
    ),
) -> Result:
    """Set labels of a host, or delete them.

    Constraints and spread requirements are matched with labels, from now on with these. A host
    keeps what was set while it runs, and starts again with what it was configured with.
    """
    wanted = parsed(labels, delete=delete)
    async with connect(options) as connection:
        found = await hosts.find(connection, host)
        for key, value in wanted.items():
            if delete:
                await connection.control.delete_label(found.id, key)
            else:
                await connection.control.put_label(found.id, key, value)
    listed = ",".join(key if delete else f"{key}={value}" for key, value in wanted.items())
    text = f"Host `{found.name}` {'unlabeled' if delete else 'labeled'} with `{listed}`"
    return Result(
        fields={
            "result": text,
            "host_id": found.id,
            "deleted": delete,
            "processed": [list(pair) for pair in wanted.items()],
        },
        text=[text],
    )


def parsed(texts: Iterable[str], *, delete: bool) -> dict[str, str]:
    """Read ``key=value`` labels, several of them separated by commas as ``wash`` has it.

    To delete one its key is enough.

    Raises:
        InvalidRequest: no key, no value where one is wanted, or a key given twice.
    """
    parts = (part for given in texts for part in given.split(",") if part)
    if delete:
        parts = (part if "=" in part else f"{part}=" for part in parts)
    labels = pairs(parts, "label")
    if not labels:
        raise errors.InvalidRequest("name at least one label")
    return labels

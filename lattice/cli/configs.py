"""Named configs: put, get, delete."""

from typing import Annotated

import typer

from lattice import errors, names
from lattice.cli import completion, output
from lattice.cli.connection import connect
from lattice.cli.options import Options, command, pairs
from lattice.cli.output import Result

NameArgument = Annotated[
    str,
    typer.Argument(metavar="NAME", help="Name of the config.", autocompletion=completion.configs),
]


class NoConfig(errors.NotFound):
    """There is no config of that name."""

    remedy = "put it with: lattice config put NAME key=value"


def register(config: typer.Typer) -> None:
    command(config, "put", example="lattice config put hello-http address=127.0.0.1:8080")(
        put_config
    )
    command(config, "get", example="lattice config get hello-http")(get_config)
    command(config, "del", example="lattice config del hello-http")(delete_config)


async def put_config(
    options: Options,
    name: NameArgument,
    values: Annotated[
        list[str], typer.Argument(metavar="KEY=VALUE...", help="The values, all of them.")
    ],
) -> Result:
    """Store a named config, replacing one of that name.

    Components, providers and links that name it go by the new values at once. A value may have
    equals signs in it, and may be empty.
    """
    names.parse_config_name(name)
    config = pairs(values, "value")
    async with connect(options) as connection:
        await connection.control.put_config(name, config)
    text = f"Configuration '{name}' put successfully."
    return Result(fields={"result": text, "name": name, "config": config}, text=[text])


async def get_config(options: Options, name: NameArgument) -> Result:
    """Show a named config.

    One key=value a line, as put takes them.
    """
    names.parse_config_name(name)
    async with connect(options) as connection:
        config = await connection.control.config(name)
    if config is None:
        raise NoConfig(f"there is no config named {name!r}")
    lines = [output.visible(f"{key}={value}") for key, value in sorted(config.items())]
    return Result(fields={"name": name, "config": config}, text=lines)


async def delete_config(options: Options, name: NameArgument) -> Result:
    """Delete a named config.

    It is no error if there is none. What still names it goes on with an empty one.
    """
    names.parse_config_name(name)
    async with connect(options) as connection:
        await connection.control.delete_config(name)
    text = f"Configuration '{name}' deleted successfully."
    return Result(fields={"result": text, "name": name}, text=[text])

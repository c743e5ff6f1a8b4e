"""``lattice build``: the language's own tools make a module or a component of a folder."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from lattice import project
from lattice.cli import files, inspection, output
from lattice.cli.options import Options, command
from lattice.cli.output import Failed, Result
from lattice.guests import building, tools
from lattice.guests.building import BuildFailed, Built
from lattice.guests.tools import Toolbox

FolderArgument = Annotated[
    Path | None,
    typer.Argument(metavar="DIR", help="The project's folder.", show_default="this one"),
]
ToolsOption = Annotated[
    Path | None,
    typer.Option(
        "--tools",
        envvar="LATTICE_TOOLS",
        metavar="DIR",
        help="Where tools are kept for all projects.",
        show_default="$XDG_CACHE_HOME/lattice/tools",
    ),
]
InstallOption = Annotated[
    bool, typer.Option("--install/--no-install", help="Install tools that are missing.")
]


def register(app: typer.Typer, *, panel: str) -> None:
    command(app, "build", panel=panel, example="lattice build --output json", offline=True)(build)


async def build(
    options: Options,
    folder: FolderArgument = None,
    *,
    again: Annotated[
        bool, typer.Option("--again", help="Build even if nothing has changed.")
    ] = False,
    install: InstallOption = True,
    tools_dir: ToolsOption = None,
) -> Result:
    """Build the actor of this folder with its language's own tools.

    What was built of the same files is not built again. Tools that are missing are installed, with
    pinned versions, once for all projects; what can't be installed says how you get it.
    """
    found = project.load(folder or Path())
    with output.doing(options.form) as say:
        toolbox = find_tools(tools_dir, may_install=install, say=say)
        try:
            built = await building.build(found, toolbox, again=again, say=say)
        except BuildFailed as error:
            raise Failed(error.text) from error
    return Result(fields=fields(built), text=_text(built), note=built.output)


def find_tools(folder: Path | None, *, may_install: bool, say: Callable[[str], None]) -> Toolbox:
    """Where this process finds tools."""
    return Toolbox(
        folder=files.named(folder or tools.default_folder(os.environ)).absolute(),
        environment=dict(os.environ),
        may_install=may_install,
        say=say,
    )


def fields(built: Built) -> dict[str, object]:
    """What a build made, as JSON."""
    return {
        "path": str(built.path),
        "bytes": built.size_bytes,
        "digest": built.digest,
        "kind": built.binary.abi.value,
        "is_new": built.is_new,
        "elapsed_ms": round(built.elapsed_s * 1000),
        "needs_links": inspection.needs_json(built.binary.needs),
        "said": built.output,
    }


def _text(built: Built) -> list[str]:
    took = f"built in {built.elapsed_s:.1f} s" if built.is_new else "nothing has changed"
    line = f"{built.path}: {built.binary.abi}, {built.size_bytes:,} bytes, {took}"
    return [output.visible(line)]

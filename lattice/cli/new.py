"""``lattice new``: a folder to write an actor in."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from lattice import errors
from lattice.cli import output
from lattice.cli.options import Options, command
from lattice.cli.output import Result
from lattice.guests import templates
from lattice.project import Kind, Language

KIND_ALIASES = {"message": Kind.MESSAGING}


def register(app: typer.Typer, *, panel: str) -> None:
    command(app, "new", panel=panel, example="lattice new http hello --language c", offline=True)(
        new
    )


def _kinds(incomplete: str) -> list[str]:
    return [kind for kind in Kind if kind.startswith(incomplete)]


def _languages(incomplete: str) -> Iterator[tuple[str, str]]:
    for language, name in templates.LANGUAGE_NAMES.items():
        if language.startswith(incomplete):
            yield language.value, name


async def new(
    _options: Options,
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help="What it answers: http, messaging or custom.",
            autocompletion=_kinds,
        ),
    ],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name, such as my-shop.")],
    *,
    language: Annotated[
        str,
        typer.Option(
            "--language",
            "-l",
            metavar="LANGUAGE",
            help=f"What it is written in: {', '.join(sorted(templates.KINDS))}.",
            autocompletion=_languages,
        ),
    ],
    directory: Annotated[
        Path | None,
        typer.Option(
            "--directory",
            "-d",
            metavar="DIR",
            help="Where to put it; empty, or not there yet.",
            show_default="NAME",
        ),
    ] = None,
) -> Result:
    """Make a folder to write an actor in: its source, a test, and a project file.

    In it, lattice build makes the module or component, lattice dev runs it, lattice test tests it.
    """
    chosen = _language(language)
    made = templates.files(_kind(kind), chosen, name)
    folder = directory or Path(name)
    templates.write(made, folder)
    lines = [
        output.visible(f"{folder} is an actor in {templates.LANGUAGE_NAMES[chosen]}:"),
        *(f"  {file.path}" for file in made),
        "",
        output.visible(f"$ cd {folder}"),
        "$ lattice build",
    ]
    fields = {
        "folder": str(folder.absolute()),
        "language": chosen.value,
        "kind": _kind(kind).value,
        "files": [file.path for file in made],
    }
    return Result(fields=fields, text=lines)


def _kind(text: str) -> Kind:
    if (kind := KIND_ALIASES.get(text)) is not None:
        return kind
    try:
        return Kind(text)
    except ValueError:
        raise errors.InvalidRequest(
            f"there is no kind {text[:40]!r}; there are: {', '.join(Kind)}"
        ) from None


def _language(text: str) -> Language:
    if text not in templates.KINDS:
        raise errors.InvalidRequest(
            f"there is no template in {text[:40]!r}; there are those in:"
            f" {', '.join(sorted(templates.KINDS))}"
        )
    return Language(text)

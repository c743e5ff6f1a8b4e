"""Completion in a shell: of commands and options, and of what runs in the lattice."""

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from typer.completion import get_completion_script, install  # type: ignore[attr-defined]

from lattice import errors
from lattice.cli.options import PROGRAM, Options, command
from lattice.cli.output import Result

VARIABLE = "_LATTICE_COMPLETE"
"""By which the script asks this command what to offer."""


class Shell(StrEnum):
    """The shells that can complete."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


ShellArgument = Annotated[
    Shell | None, typer.Argument(metavar="SHELL", help="bash, zsh or fish; yours if absent.")
]


class NoShell(errors.InvalidRequest):
    """It can't be told which shell is meant."""

    remedy = "name it: lattice completion install bash, or zsh, or fish"


def register(group: typer.Typer) -> None:
    command(group, "install", example="lattice completion install bash", offline=True)(
        install_completion
    )
    command(group, "show", example="lattice completion show zsh", offline=True)(show_completion)


async def install_completion(_options: Options, shell: ShellArgument = None) -> Result:
    """Have your shell complete this command, from the next one you open.

    Besides commands and options it completes the names of hosts, components, providers, configs and
    contexts; it asks the lattice for a second at the most, and says nothing when that fails.
    """
    chosen = shell or _own_shell()
    try:
        name, path = install(shell=chosen.value, prog_name=PROGRAM, complete_var=VARIABLE)
    except OSError as error:
        raise errors.InvalidRequest(f"can't install it: {error.strerror}") from error
    text = f"Completion for {name} installed in {path}; it works in the next shell you open"
    return Result(fields={"result": text, "shell": name, "path": str(path)}, text=[text])


async def show_completion(_options: Options, shell: ShellArgument = None) -> Result:
    """Print what your shell needs to complete this command.

    For those who keep their shell's configuration elsewhere than ``install`` would write.
    """
    chosen = shell or _own_shell()
    script = get_completion_script(prog_name=PROGRAM, complete_var=VARIABLE, shell=chosen.value)
    return Result(fields={"shell": chosen.value, "script": script}, text=[script])


def _own_shell() -> Shell:
    """The user's shell.

    Raises:
        InvalidRequest: there is none, or one that is not known here.
    """
    name = Path(os.environ.get("SHELL", "")).name
    try:
        return Shell(name)
    except ValueError:
        raise NoShell(f"no completion is known for the shell {name!r}") from None

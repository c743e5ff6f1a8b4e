"""``lattice test``: a project's own tests, run by pytest."""

import importlib.util
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from lattice import errors, project
from lattice.cli import files, local, output
from lattice.cli.build import InstallOption, ToolsOption, find_tools
from lattice.cli.options import Options, command
from lattice.cli.output import Failed
from lattice.guests import building
from lattice.guests.building import BuildFailed

TESTS = "tests"
"""Folder of a project's tests."""


class NoPytest(errors.NotFound):
    """pytest is not installed where this program is."""

    remedy = "get it with: pip install 'lattice-runtime[testing]'"


class NoTests(errors.NotFound):
    """A project has no tests."""

    remedy = "write tests/test_actor.py: a function there that asks for the fixture actor"


def register(app: typer.Typer, *, panel: str) -> None:
    command(app, "test", panel=panel, example="lattice test -- -k counts", offline=True)(run_tests)


async def run_tests(
    options: Options,
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PYTEST_ARGUMENT...",
            help="Passed on to pytest; those that begin with a dash stand behind --.",
            show_default=False,
        ),
    ] = None,
    *,
    folder: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The project's folder.", show_default="this one"),
    ] = None,
    real: Annotated[
        bool,
        typer.Option(
            "--real",
            help="Have the actor's capabilities be those of its project file: they are faked"
            " otherwise, with their data in memory.",
        ),
    ] = False,
    install: InstallOption = True,
    tools_dir: ToolsOption = None,
) -> None:
    """Build the project and run its tests, those in its folder tests.

    They are pytest's: a test that asks for the fixture actor gets the built actor, in a lattice of
    its own. Exit status and output are pytest's.
    """
    found = project.load(folder or Path())
    if importlib.util.find_spec("pytest") is None:
        raise NoPytest("there is no pytest to run the tests with")
    if not arguments and not (found.folder / TESTS).is_dir():
        raise NoTests(f"there is no folder {TESTS} in {found.folder}")
    with output.doing(options.form) as say:
        toolbox = find_tools(tools_dir, may_install=install, say=say)
        try:
            await building.build(found, toolbox, say=say)
        except BuildFailed as error:
            raise Failed(error.text) from error
    words = local.module_command("pytest", *pytest_arguments(arguments or [], real=real))
    environment = local.module_environment(os.environ)
    if tools_dir is not None:
        environment["LATTICE_TOOLS"] = str(files.named(tools_dir).absolute())
    os.chdir(found.folder)
    # pytest takes this process over: the terminal, signals and the exit status are its own.
    os.execve(sys.executable, words, environment)  # noqa: S606 - no shell is what is wanted


def pytest_arguments(given: list[str], *, real: bool) -> list[str]:
    """What pytest is told: what every project's tests need, and what was given."""
    # The folder is where it looks when nothing that was given is one.
    arguments = ["--rootdir=.", "-o", f"testpaths={TESTS}"]
    if importlib.util.find_spec("pytest_asyncio") is not None:
        # Nobody has to mark the tests that are asynchronous.
        arguments += ["-o", "asyncio_mode=auto"]
        arguments += ["-o", "asyncio_default_fixture_loop_scope=function"]
    return [*arguments, *(["--lattice-real"] if real else []), *given]

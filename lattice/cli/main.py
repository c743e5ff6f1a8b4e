"""The tree of commands, and the way out: nobody ever sees a traceback who did not ask for one."""

import sys
from typing import Annotated

import typer

from lattice import __version__
from lattice.cli import (
    calls,
    components,
    configs,
    demo,
    hosts,
    links,
    options,
    output,
    providers,
    up,
)
from lattice.cli.options import COMMON_PANEL, TIMEOUT_MS_MAX, Options
from lattice.cli.output import Form

RUN = "Run a lattice"
LOOK = "Look at it"
ACT = "Actors and providers"
WIRE = "Wire them together"

HELP = (
    "Drive a lattice of WebAssembly actors and capability providers.\n\n"
    "Exit status: 0 done, 1 failed, 2 wrong usage or request, 3 not found or not running, 4"
    " unavailable or too late, 5 conflict or already there, 6 denied, 7 overloaded or draining, 70"
    " a bug."
)


def build() -> typer.Typer:
    """The whole tree."""
    app = _group(HELP)
    get = _group("Show hosts, what runs on them, links.")
    start = _group("Start a component or a provider.")
    scale = _group("Change how much of a component runs.")
    stop = _group("Stop a component, a provider or a host.")
    link = _group("Put, delete and list links.")
    config = _group("Put, get and delete named configs.")

    app.callback()(root)
    up.register(app, panel=RUN)
    demo.register(app, panel=RUN)
    app.add_typer(get, name="get", rich_help_panel=LOOK)
    hosts.register(get, stop)
    for name, group in (("start", start), ("scale", scale), ("stop", stop)):
        app.add_typer(group, name=name, rich_help_panel=ACT)
    components.register(start, scale, stop)
    providers.register(start, stop)
    calls.register(app, panel=ACT)
    app.add_typer(link, name="link", rich_help_panel=WIRE)
    links.register(get, link)
    app.add_typer(config, name="config", rich_help_panel=WIRE)
    configs.register(config)
    return app


def root(
    context: typer.Context,
    *,
    nats: Annotated[
        str | None,
        typer.Option(
            envvar="LATTICE_NATS_URL",
            metavar="URL",
            help="NATS servers, separated by commas.",
            rich_help_panel=COMMON_PANEL,
        ),
    ] = None,
    lattice: Annotated[
        str | None,
        typer.Option(
            "--lattice",
            "-x",
            envvar="LATTICE_LATTICE",
            metavar="NAME",
            help="Name of the lattice.",
            rich_help_panel=COMMON_PANEL,
        ),
    ] = None,
    credentials: Annotated[
        str | None,
        typer.Option(
            envvar="LATTICE_NATS_CREDENTIALS",
            metavar="FILE",
            help="NATS credentials file.",
            rich_help_panel=COMMON_PANEL,
        ),
    ] = None,
    timeout_ms: Annotated[
        int | None,
        typer.Option(
            "--timeout-ms",
            "-t",
            min=1,
            max=TIMEOUT_MS_MAX,
            metavar="MS",
            help="How long to wait for an answer, in milliseconds.",
            rich_help_panel=COMMON_PANEL,
        ),
    ] = None,
    form: Annotated[
        Form | None,
        typer.Option(
            "--output",
            "-o",
            envvar="LATTICE_OUTPUT",
            help="Form of the result.",
            rich_help_panel=COMMON_PANEL,
        ),
    ] = None,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug",
            envvar="LATTICE_DEBUG",
            help="Show tracebacks and log lines.",
            rich_help_panel=COMMON_PANEL,
        ),
    ] = False,
    version: Annotated[  # noqa: ARG001 - its callback has acted on it
        bool,
        typer.Option(
            "--version",
            callback=lambda wanted: _version(wanted=wanted),
            is_eager=True,
            help="Show the version.",
        ),
    ] = False,
) -> None:
    # No docstring: the help stands with the tree.
    context.obj = Options(
        nats=nats,
        lattice=lattice,
        credentials=credentials,
        timeout_ms=timeout_ms,
        output=form,
        debug=debug,
    )


def main() -> None:
    """Run the command line of this process."""
    try:
        build()(prog_name="lattice")
    except BrokenPipeError:
        sys.exit(options.silence_output())
    except Exception as error:
        sys.exit(output.fail(options.bug(error), Form.TEXT))


def _group(text: str) -> typer.Typer:
    return typer.Typer(
        help=text,
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["--help", "-h"]},
    )


def _version(*, wanted: bool) -> None:
    if wanted:
        print(f"lattice {__version__}")
        raise typer.Exit

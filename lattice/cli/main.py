"""The tree of commands, and the way out: nobody ever sees a traceback who did not ask for one."""

import inspect
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from lattice import __version__, errors
from lattice.cli import (
    apps,
    artefacts,
    bench,
    calls,
    claims,
    components,
    configs,
    ctx,
    demo,
    dev,
    diagnostics,
    doctor,
    events,
    hosts,
    inspection,
    keys,
    labels,
    links,
    logs,
    new,
    options,
    output,
    par,
    providers,
    reconcile,
    shells,
    test,
    top,
    up,
)
from lattice.cli.build import register as register_build
from lattice.cli.options import Options, command
from lattice.cli.output import Form

RUN = "Run a lattice"
WRITE = "Write an actor"
LOOK = "Look at it"
ACT = "Actors and providers"
WIRE = "Wire them together"
DECLARE = "Say what should run"
PUBLISH = "Publish"
CONFIGURE = "Configure this command"

PANELS = (RUN, WRITE, LOOK, ACT, DECLARE, WIRE, PUBLISH, CONFIGURE)
"""In the order of the help."""

HELP = (
    "Drive a lattice of WebAssembly actors and capability providers.\n\n"
    "Exit status: 0 done, 1 failed, 2 wrong usage or request, 3 not found or not running, 4"
    " unavailable or too late, 5 conflict or already there, 6 denied, 7 overloaded or draining, 70"
    " a bug."
)

VersionOption = Annotated[
    bool,
    typer.Option(
        "--version",
        callback=lambda wanted: _version(wanted=wanted),
        is_eager=True,
        help="Show the version.",
    ),
]


ALIASES = {
    "completions": "completion",
    "context": "ctx",
    "contexts": "ctx",
    "key": "keys",
    "links": "link",
    "tag": "label",
}
"""Other names that ``wash`` has for commands; understood, and not shown."""


class NoCommand(errors.NotFound):
    """There is no such command."""

    remedy = "see which there are with: lattice --help"


class Ordered(TyperGroup):
    """A group that lists its commands panel by panel, in the order of the panels."""

    def list_commands(self, ctx: Any) -> list[str]:
        def panel(name: str) -> int:
            heading = getattr(self.commands[name], "rich_help_panel", None)
            return PANELS.index(heading) if heading in PANELS else len(PANELS)

        return sorted(super().list_commands(ctx), key=panel)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return super().get_command(ctx, ALIASES.get(cmd_name, cmd_name))


def build() -> typer.Typer:
    """The whole tree."""
    app = _group(HELP, cls=Ordered)
    options.sign(_root, inspect.signature(_own_options).parameters.values(), name="root", text="")
    app.callback()(_root)

    up.register(app, panel=RUN)
    reconcile.register(app, panel=RUN)
    demo.register(app, panel=RUN)

    new.register(app, panel=WRITE)
    register_build(app, panel=WRITE)
    dev.register(app, panel=WRITE)
    test.register(app, panel=WRITE)

    get = _group("Show hosts, what runs on them, links, claims.")
    app.add_typer(get, name="get", rich_help_panel=LOOK)
    inspection.register(app, get, panel=LOOK)
    diagnostics.register(get)
    doctor.register(app, panel=LOOK)
    events.register(app, panel=LOOK)
    logs.register(app, panel=LOOK)
    top.register(app, panel=LOOK)

    start = _group("Start a component or a provider.")
    scale = _group("Change how much of a component runs.")
    update = _group("Replace the code of a component that runs.")
    stop = _group("Stop a component, a provider or a host.")
    verbs = {"start": start, "scale": scale, "update": update, "stop": stop}
    for name, group in verbs.items():
        app.add_typer(group, name=name, rich_help_panel=ACT)
    hosts.register(get, stop)
    components.register(start, scale, update, stop)
    providers.register(start, stop)
    calls.register(app, panel=ACT)
    bench.register(app, panel=ACT)
    labels.register(app, panel=ACT)

    link = _group("Put, delete and list links.")
    config = _group("Put, get and delete named configs.")
    app.add_typer(link, name="link", rich_help_panel=WIRE)
    app.add_typer(config, name="config", rich_help_panel=WIRE)
    links.register(get, link)
    configs.register(config)

    desired = _group("Apps: what should run, kept so while hosts come and go.")
    app.add_typer(desired, name="app", rich_help_panel=DECLARE)
    apps.register(desired)

    artefacts.register(app, panel=PUBLISH)
    signing = _group("Sign an actor, and see who signed one.")
    archive = _group("Make provider archives, and look into them.")
    keyring = _group("Make and keep the keys that sign.")
    for name, group in (("claims", signing), ("par", archive), ("keys", keyring)):
        app.add_typer(group, name=name, rich_help_panel=PUBLISH)
    claims.register(signing)
    par.register(archive)
    keys.register(keyring)

    contexts = _group("Keep named connections, and say which one is meant.")
    completion = _group("Have your shell complete this command.")
    app.add_typer(contexts, name="ctx", rich_help_panel=CONFIGURE)
    app.add_typer(completion, name="completion", rich_help_panel=CONFIGURE)
    ctx.register(contexts)
    shells.register(completion)
    command(app, "help", panel=CONFIGURE, example="lattice help start component", offline=True)(
        show_help
    )
    return app


async def show_help(
    _options: Options,
    words: Annotated[
        list[str] | None, typer.Argument(metavar="COMMAND...", help="The command; all if absent.")
    ] = None,
) -> None:
    """Show what a command does and how it is used.

    The same as --help after it.
    """
    tree = typer.main.get_command(build())
    found: Any = tree
    for position, word in enumerate(words or [], start=1):
        name = ALIASES.get(word, word) if position == 1 else word
        if (found := getattr(found, "commands", {}).get(name)) is None:
            raise NoCommand(f"there is no command {' '.join((words or [])[:position])!r}")
    tree.main([*(words or []), "--help"], prog_name=shells.PROGRAM, standalone_mode=False)


def main() -> None:
    """Run the command line of this process."""
    try:
        build()(prog_name=shells.PROGRAM)
    except BrokenPipeError:
        sys.exit(options.silence_output())
    except Exception as error:
        sys.exit(output.fail(options.bug(error), Form.TEXT))


def _root(ctx: typer.Context, **values: Any) -> None:
    values.pop("version")
    ctx.obj = options.given(ctx, values)


def _own_options(*, version: VersionOption = False) -> None:
    """Carry what stands before a command only; its callback has acted on it."""


def _group(text: str, *, cls: type[TyperGroup] = TyperGroup) -> typer.Typer:
    return typer.Typer(
        cls=cls,
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

"""The tree of commands, and the way out: nobody ever sees a traceback who did not ask for one."""

import importlib
import inspect
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from lattice import __version__, errors
from lattice.cli import options, output
from lattice.cli.options import PROGRAM, Options, command
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


WrongUsage: type[typer.BadParameter] = typer.BadParameter.__mro__[1]
"""What Typer raises for a command line that it does not understand; it has no name for it."""


class NoCommand(errors.NotFound):
    """There is no such command."""

    remedy = "see which there are with: lattice --help"


@dataclass(frozen=True, slots=True)
class Word:
    """What may stand first in a command line: where the help lists it, and what it is for."""

    panel: str
    summary: str
    """Of a command, the first paragraph of its own help, which is not imported to list it."""
    module: str = ""
    """The one of ``lattice.cli`` that knows it, where that has another name."""
    is_group: bool = False


WORDS: Mapping[str, Word] = {
    "up": Word(RUN, "Start a nats-server and hosts here, until Ctrl-C; with --nats, hosts only."),
    "host": Word(
        RUN, "Run one host in the foreground, until Ctrl-C; it drains before it goes.", module="up"
    ),
    "reconcile": Word(RUN, "Keep deployed apps as they shall be, in the foreground, until Ctrl-C."),
    "demo": Word(
        RUN,
        "Show a lattice at work: two hosts, an actor, two providers, links changed while they run.",
    ),
    "new": Word(
        WRITE, "Make a folder to write an actor in: its source, a test, and a project file."
    ),
    "build": Word(WRITE, "Build the actor of this folder with its language's own tools."),
    "dev": Word(
        WRITE,
        "Build the project in a folder, run it, and replace it while it runs when a source"
        " changes.",
    ),
    "test": Word(WRITE, "Build the project and run its tests, those in its folder tests."),
    "inspect": Word(
        LOOK,
        "Show what a module, a component or a provider archive says of itself.",
        module="inspection",
    ),
    "doctor": Word(
        LOOK, "Check everything a lattice stands on, and say what to do about what is wrong."
    ),
    "events": Word(LOOK, "Show events as they happen, until Ctrl-C."),
    "logs": Word(
        LOOK,
        "Show what components have written lately, and with -f what they write from now on.",
    ),
    "top": Word(LOOK, "Show what hosts and components do, again each second until Ctrl-C."),
    "get": Word(LOOK, "Show hosts, what runs on them, links, claims.", is_group=True),
    "call": Word(ACT, "Call a component or a provider and print its answer.", module="calls"),
    "bench": Word(ACT, "Put a load on a URL or an actor, and show how it bore it."),
    "label": Word(ACT, "Set labels of a host, or delete them.", module="labels"),
    "start": Word(ACT, "Start a component or a provider.", is_group=True),
    "scale": Word(ACT, "Change how much of a component runs.", is_group=True),
    "update": Word(ACT, "Replace the code of a component that runs.", is_group=True),
    "stop": Word(ACT, "Stop a component, a provider or a host.", is_group=True),
    "app": Word(
        DECLARE,
        "Apps: what should run, kept so while hosts come and go.",
        module="apps",
        is_group=True,
    ),
    "link": Word(WIRE, "Put, delete and list links.", is_group=True),
    "config": Word(WIRE, "Put, get and delete named configs.", module="configs", is_group=True),
    "push": Word(
        PUBLISH,
        "Push an actor or a provider archive to an OCI registry, and print its digest.",
        module="artefacts",
    ),
    "pull": Word(
        PUBLISH,
        "Pull an actor or a provider from an OCI registry into a file; what it says is verified.",
        module="artefacts",
    ),
    "claims": Word(PUBLISH, "Sign an actor, and see who signed one.", is_group=True),
    "par": Word(PUBLISH, "Make provider archives, and look into them.", is_group=True),
    "keys": Word(PUBLISH, "Make and keep the keys that sign.", is_group=True),
    "help": Word(CONFIGURE, "Show what a command does and how it is used."),
    "ctx": Word(CONFIGURE, "Keep named connections, and say which one is meant.", is_group=True),
    "completion": Word(
        CONFIGURE, "Have your shell complete this command.", module="shells", is_group=True
    ),
}
"""Every word, in the order of the help."""


class Tree(TyperGroup):
    """All commands, of which one is loaded when it is meant; the help lists them by their words.

    To import every command takes longer than most of them run.
    """

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = {
            name: TyperCommand(name, help=word.summary, rich_help_panel=word.panel)
            for name, word in WORDS.items()
        }

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return super().get_command(ctx, ALIASES.get(cmd_name, cmd_name))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, meant, rest = super().resolve_command(ctx, args)
        return name, load(str(meant.name)) if meant is not None else None, rest


def build() -> typer.Typer:
    """The whole tree, each command to be loaded when it is meant."""
    app = _group(HELP, cls=Tree)
    options.sign(_root, inspect.signature(_own_options).parameters.values(), name="root", text="")
    app.callback()(_root)
    return app


def load(name: str) -> Any:
    """The command of a word, or its group of commands, made by the modules that know it."""
    app = _group(HELP)
    app.callback()(_root)
    groups = {group: _group(word.summary) for group, word in WORDS.items() if word.is_group}
    register(name, app, groups)
    if (group := groups.get(name)) is not None:
        app.add_typer(group, name=name, rich_help_panel=WORDS[name].panel)
    whole = typer.main.get_command(app)
    assert isinstance(whole, TyperGroup)
    return whole.commands[name]


def register(name: str, app: typer.Typer, groups: Mapping[str, typer.Typer]) -> None:
    """Import the modules that know a word, and no others, and have them register their commands."""
    word = WORDS[name]
    match name:
        case "get" | "start" | "scale" | "update" | "stop" | "link":
            from lattice.cli import components, diagnostics, hosts, links, providers, signed

            get, start, stop = groups["get"], groups["start"], groups["stop"]
            signed.register(get)
            diagnostics.register(get)
            hosts.register(get, stop)
            components.register(start, groups["scale"], groups["update"], stop)
            providers.register(start, stop)
            links.register(get, groups["link"])
        case "help":
            command(
                app, name, panel=word.panel, example="lattice help start component", offline=True
            )(show_help)
        case _:
            module = importlib.import_module(f"lattice.cli.{word.module or name}")
            if word.is_group:
                module.register(groups[name])
            else:
                module.register(app, panel=word.panel)


async def show_help(
    _options: Options,
    words: Annotated[
        list[str] | None, typer.Argument(metavar="COMMAND...", help="The command; all if absent.")
    ] = None,
) -> None:
    """Show what a command does and how it is used.

    The same as --help after it.
    """
    words = words or []
    found: Any = None
    for position, word in enumerate(words):
        if position == 0:
            name = ALIASES.get(word, word)
            found = load(name) if name in WORDS else None
        else:
            found = getattr(found, "commands", {}).get(word)
        if found is None:
            raise NoCommand(f"there is no command {' '.join(words[: position + 1])!r}")
    tree = typer.main.get_command(build())
    tree.main([*words, "--help"], prog_name=PROGRAM, standalone_mode=False)


def main() -> None:
    """Run the command line of this process."""
    output.prepare_streams()
    form = options.form_of(sys.argv[1:], os.environ)
    try:
        # Typer itself says what is wrong in how it is used, and leaves; to people only.
        sys.exit(build()(prog_name=PROGRAM, standalone_mode=form is Form.TEXT))
    except WrongUsage as error:
        sys.exit(output.fail(errors.InvalidRequest(error.format_message()), form))
    except BrokenPipeError:
        sys.exit(options.silence_output())
    except Exception as error:
        sys.exit(output.fail(options.unforeseen(error), form))
    finally:
        _drop_unwritten()


def _drop_unwritten() -> None:
    """Don't try again at exit what standard output did not take: that would be another status."""
    try:
        sys.stdout.flush()
    except OSError:
        options.silence_output()


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

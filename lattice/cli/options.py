"""Options that every command takes, before or after its name, and how a command is run."""

import asyncio
import functools
import inspect
import os
import re
import sys
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, ParamSpec, get_type_hints

import typer

from lattice import errors, limits, names
from lattice.cli import contexts, files, output
from lattice.cli.contexts import TIMEOUT_MS_MAX, Context
from lattice.cli.output import Form, Result

if TYPE_CHECKING:
    from lattice.bus import NatsSettings

P = ParamSpec("P")

PROGRAM = "lattice"

COMMON_PANEL = "Connection and output"
"""Heading of the common options in a command's help."""

OFFLINE = frozenset({"output", "debug"})
"""Common options of commands that need no lattice; the others' short names are theirs to use."""

DEFAULT_SERVERS = (names.DEFAULT_NATS_URL,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The common options; None where none was given.

    Their one declaration: Typer reads it for what stands before a command and for what stands
    after it.
    """

    nats: Annotated[
        str | None,
        typer.Option(
            envvar="LATTICE_NATS_URL",
            metavar="URL",
            help="NATS servers, separated by commas.",
            show_default=DEFAULT_SERVERS[0],
            rich_help_panel=COMMON_PANEL,
        ),
    ] = None
    lattice: Annotated[
        str | None,
        typer.Option(
            "--lattice",
            "-x",
            envvar="LATTICE_LATTICE",
            metavar="NAME",
            help="Name of the lattice.",
            show_default=names.DEFAULT_LATTICE,
            rich_help_panel=COMMON_PANEL,
        ),
    ] = None
    credentials: Annotated[
        str | None,
        typer.Option(
            envvar="LATTICE_NATS_CREDENTIALS",
            metavar="FILE",
            help="NATS credentials file.",
            rich_help_panel=COMMON_PANEL,
        ),
    ] = None
    context: Annotated[
        str | None,
        typer.Option(
            "--context",
            envvar="LATTICE_CONTEXT",
            metavar="NAME",
            help="Take what is not given from this context; see lattice ctx.",
            autocompletion=contexts.beginning_with,
            rich_help_panel=COMMON_PANEL,
        ),
    ] = None
    timeout_ms: Annotated[
        int | None,
        typer.Option(
            "--timeout-ms",
            "-t",
            min=1,
            max=TIMEOUT_MS_MAX,
            metavar="MS",
            help="How long to wait for an answer, in milliseconds.",
            show_default="2000; of a call 10000",
            rich_help_panel=COMMON_PANEL,
        ),
    ] = None
    output: Annotated[
        Form | None,
        typer.Option(
            "--output",
            "-o",
            envvar="LATTICE_OUTPUT",
            help="Form of the result.",
            show_default="text",
            rich_help_panel=COMMON_PANEL,
        ),
    ] = None
    debug: Annotated[
        bool,
        typer.Option(
            "--debug",
            envvar="LATTICE_DEBUG",
            help="Show tracebacks and log lines.",
            rich_help_panel=COMMON_PANEL,
        ),
    ] = False

    def over(self, general: "Options") -> "Options":
        """These options, with ``general`` ones in the gaps."""
        return Options(
            **{name: getattr(self, name) or getattr(general, name) for name in _parameters()}
        )

    @property
    def stored(self) -> Context:
        """The context that is in force: the one that is named, or the default one.

        Raises:
            NotFound: there is no such context.
            InvalidRequest: its file is no context.
        """
        return contexts.chosen(self.context)

    @property
    def form(self) -> Form:
        return self.output or Form.TEXT

    @property
    def timeout_s(self) -> float:
        """How long to wait for a control reply.

        Raises:
            NotFound, InvalidRequest: as ``stored``.
        """
        timeout_ms = self.timeout_ms or self.stored.timeout_ms
        return timeout_ms / 1000 if timeout_ms else limits.CONTROL_TIMEOUT_S

    @property
    def lattice_name(self) -> str:
        """The lattice's name.

        Raises:
            InvalidRequest: not a name for one.
            NotFound, InvalidRequest: as ``stored``.
        """
        return names.parse_lattice(self.lattice or self.stored.lattice or names.DEFAULT_LATTICE)

    @property
    def servers(self) -> tuple[str, ...]:
        """NATS servers, the default one when none is named.

        Raises:
            NotFound, InvalidRequest: as ``stored``.
        """
        text = self.nats or self.stored.nats_url or ""
        given = tuple(server.strip() for server in text.split(","))
        return tuple(server for server in given if server) or DEFAULT_SERVERS

    @property
    def settings(self) -> "NatsSettings":
        """How to reach NATS.

        Raises:
            NotFound: there is no such credentials file.
            NotFound, InvalidRequest: as ``stored``.
        """
        # Loaded here: a help text, a version and a completed word need no connection.
        from lattice.bus import NatsSettings  # noqa: PLC0415

        credentials = self.credentials
        # Those of a context are for its own servers and must not go to others.
        if credentials is None and self.nats is None:
            credentials = self.stored.credentials
        file = None if credentials is None else files.named(credentials)
        if file is not None and not files.is_file(file):
            raise errors.NotFound(f"there is no credentials file {credentials}")
        return NatsSettings(
            servers=self.servers, credentials_file=None if file is None else str(file)
        )


def command(
    group: typer.Typer, name: str, *, example: str, panel: str | None = None, offline: bool = False
) -> Callable[
    [Callable[Concatenate[Options, P], Coroutine[Any, Any, Result | None]]],
    Callable[Concatenate[Options, P], Coroutine[Any, Any, Result | None]],
]:
    """Make an asynchronous function a command: parsed by Typer, run to its end, result printed.

    Its first parameter gets the common options; the others are Typer's. Its docstring is the help,
    the first paragraph of it the summary. One that is ``offline`` has nothing to do with a lattice
    and takes only the common options about its output.
    """

    def register(
        work: Callable[Concatenate[Options, P], Coroutine[Any, Any, Result | None]],
    ) -> Callable[Concatenate[Options, P], Coroutine[Any, Any, Result | None]]:
        def entry(ctx: typer.Context, **values: Any) -> None:
            options = given(ctx, values)
            run(work(options, **values), options)  # type: ignore[call-arg]

        own = list(inspect.signature(work).parameters.values())[1:]
        sign(entry, own, name=work.__name__, text=_help(work.__doc__ or ""), offline=offline)
        group.command(name, epilog=f"Example: {example}", rich_help_panel=panel)(entry)
        return work

    return register


def run(work: Coroutine[Any, Any, Result | None], options: Options) -> None:
    """Do a command's work, print what came of it, and leave with the status that says so."""
    try:
        status = _do(work, options)
    except BrokenPipeError:
        status = silence_output()
    if status:
        raise typer.Exit(status)


def _do(work: Coroutine[Any, Any, Result | None], options: Options) -> int:
    """Do a command's work, print what came of it, and give its exit status.

    Raises:
        BrokenPipeError: nobody reads what it prints.
    """
    try:
        from lattice import log  # noqa: PLC0415 - as in ``Options.settings``

        log.configure(level="debug" if options.debug else "error")
        if (result := asyncio.run(work)) is None:
            return 0
        output.show(result, options.form)
    except errors.LatticeError as error:
        return output.fail(error, options.form, debug=options.debug)
    except (KeyboardInterrupt, asyncio.CancelledError):
        # It may not have begun, and would complain of that.
        work.close()
        return output.INTERRUPTED
    except BrokenPipeError:
        raise
    except Exception as error:
        return output.fail(unforeseen(error), options.form, debug=options.debug)
    return result.status


def unforeseen(error: Exception) -> errors.LatticeError:
    """An exception that nobody foresaw, in one line: the machine said no, or it is a bug."""
    failure: errors.LatticeError
    if isinstance(error, OSError) and error.strerror:
        what = "" if error.filename is None else f"can't use {error.filename}: "
        failure = output.Failed(f"{what}{error.strerror}")
    else:
        failure = errors.InternalError(
            f"{type(error).__name__}: {error}; this is a bug, LATTICE_DEBUG=1 shows where"
        )
    failure.__cause__ = error
    return failure


def form_of(arguments: Sequence[str], environment: Mapping[str, str]) -> Form:
    """The form of the result that a command line asks for, also one that can't be understood."""
    form = environment.get("LATTICE_OUTPUT")
    for position, argument in enumerate(arguments):
        if argument == "--":
            break
        if argument in {"-o", "--output"}:
            form = next(iter(arguments[position + 1 :]), None)
        elif (found := re.fullmatch(r"(?:--output=|-o)(\w+)", argument)) is not None:
            form = found[1]
    return Form.JSON if form == Form.JSON else Form.TEXT


def silence_output() -> int:
    """Give up on a standard output that nobody reads, so that its flush at exit is quiet too."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return output.PIPE_CLOSED


def pairs(texts: Iterable[str], what: str) -> dict[str, str]:
    """Read ``key=value`` arguments; a value may have ``=`` in it, and may be empty.

    Raises:
        InvalidRequest: no ``=``, an empty key, or a key given twice.
    """
    values: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise errors.InvalidRequest(f"{what} {text!r} is not of the form key=value")
        if key in values:
            raise errors.InvalidRequest(f"{what} {key!r} is given twice")
        values[key] = value
    return values


def parameters() -> list[inspect.Parameter]:
    """The parameters by which Typer learns of the common options."""
    return list(_parameters().values())


def given(ctx: typer.Context, values: dict[str, Any]) -> Options:
    """Take the common options out of a command's arguments.

    What stands after a command wins over what stands before it, and that over the environment.
    """
    own = {name: values.pop(name) for name in _parameters() if name in values}
    if not isinstance(ctx.obj, Options):
        return Options(**own)
    late = {name: value for name, value in own.items() if _is_typed(ctx, name)}
    return Options(**late).over(ctx.obj)


def sign(
    entry: Callable[..., None],
    own: Iterable[inspect.Parameter],
    *,
    name: str,
    text: str,
    offline: bool = False,
) -> None:
    """Give an entry the signature that Typer reads: its own parameters, then the common ones."""
    signature = [
        _CONTEXT,
        *(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own),
        *(common for common in parameters() if not offline or common.name in OFFLINE),
    ]
    entry.__name__ = name
    entry.__doc__ = text
    entry.__annotations__ = {p.name: p.annotation for p in signature}
    entry.__signature__ = inspect.Signature(signature)  # type: ignore[attr-defined]


@functools.cache
def _parameters() -> dict[str, inspect.Parameter]:
    hints = get_type_hints(Options, include_extras=True)
    return {
        field.name: inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=hints[field.name],
        )
        for field in fields(Options)
    }


def _help(docstring: str) -> str:
    """A docstring as help: without what callers are told, its paragraphs in one line each."""
    text = inspect.cleandoc(docstring).partition("\n\nRaises:")[0].replace("``", "")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def _is_typed(ctx: typer.Context, name: str) -> bool:
    # By name: Typer brings a copy of click with it, or not, depending on its version.
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


_CONTEXT = inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)

"""Options that every command takes, before or after its name, and how a command is run."""

import asyncio
import inspect
import os
import sys
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Concatenate, ParamSpec

import typer

from lattice import errors, limits, log, names
from lattice.bus import NatsSettings
from lattice.cli import output
from lattice.cli.output import Form, Result

P = ParamSpec("P")

COMMON_PANEL = "Connection and output"
"""Heading of the common options in a command's help."""

DEFAULT_SERVERS = NatsSettings().servers

TIMEOUT_MS_MAX = int(limits.CALL_TIMEOUT_S_MAX * 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The common options; None where none was given."""

    nats: str | None = None
    """NATS servers, separated by commas."""
    lattice: str | None = None
    credentials: str | None = None
    """Path of a NATS credentials file."""
    timeout_ms: int | None = None
    output: Form | None = None
    debug: bool = False
    """Show tracebacks and debug log lines."""

    def over(self, general: "Options") -> "Options":
        """These options, with ``general`` ones in the gaps."""
        return Options(
            nats=self.nats or general.nats,
            lattice=self.lattice or general.lattice,
            credentials=self.credentials or general.credentials,
            timeout_ms=self.timeout_ms or general.timeout_ms,
            output=self.output or general.output,
            debug=self.debug or general.debug,
        )

    @property
    def form(self) -> Form:
        return self.output or Form.TEXT

    @property
    def timeout_s(self) -> float:
        """How long to wait for a control reply."""
        return self.timeout_ms / 1000 if self.timeout_ms else limits.CONTROL_TIMEOUT_S

    @property
    def lattice_name(self) -> str:
        """The lattice's name.

        Raises:
            InvalidRequest: not a name for one.
        """
        return names.parse_lattice(self.lattice or names.DEFAULT_LATTICE)

    @property
    def servers(self) -> tuple[str, ...]:
        """NATS servers, the default one when none is named."""
        given = tuple(server.strip() for server in (self.nats or "").split(","))
        return tuple(server for server in given if server) or DEFAULT_SERVERS

    @property
    def settings(self) -> NatsSettings:
        """How to reach NATS.

        Raises:
            NotFound: there is no such credentials file.
        """
        if self.credentials is not None and not Path(self.credentials).is_file():
            raise errors.NotFound(f"there is no credentials file {self.credentials}")
        return NatsSettings(servers=self.servers, credentials_file=self.credentials)


def command(
    group: typer.Typer, name: str, *, example: str, panel: str | None = None
) -> Callable[
    [Callable[Concatenate[Options, P], Coroutine[Any, Any, Result | None]]],
    Callable[Concatenate[Options, P], Coroutine[Any, Any, Result | None]],
]:
    """Make an asynchronous function a command: parsed by Typer, run to its end, result printed.

    Its first parameter gets the common options; the others are Typer's. The first paragraph of its
    docstring is the help.
    """

    def register(
        work: Callable[Concatenate[Options, P], Coroutine[Any, Any, Result | None]],
    ) -> Callable[Concatenate[Options, P], Coroutine[Any, Any, Result | None]]:
        def entry(**values: Any) -> None:
            options = _take_common(values)
            run(work(options, **values), options)  # type: ignore[call-arg]

        _describe(entry, work)
        group.command(name, epilog=f"Example: {example}", rich_help_panel=panel)(entry)
        return work

    return register


def run(work: Coroutine[Any, Any, Result | None], options: Options) -> None:
    """Do a command's work, print what came of it, and leave with the status that says so."""
    log.configure(level="debug" if options.debug else "error")
    status = 0
    try:
        if (result := asyncio.run(work)) is not None:
            output.show(result, options.form)
    except errors.LatticeError as error:
        status = output.fail(error, options.form, debug=options.debug)
    except (KeyboardInterrupt, asyncio.CancelledError):
        status = output.INTERRUPTED
    except BrokenPipeError:
        status = silence_output()
    except Exception as error:
        status = output.fail(bug(error), options.form, debug=options.debug)
    if status:
        raise typer.Exit(status)


def bug(error: Exception) -> errors.InternalError:
    """An exception that nobody foresaw, in one line."""
    internal = errors.InternalError(
        f"{type(error).__name__}: {error}; this is a bug, LATTICE_DEBUG=1 shows where"
    )
    internal.__cause__ = error
    return internal


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


def _take_common(values: dict[str, Any]) -> Options:
    """Take the common options out of a command's arguments; given late, they win."""
    context: typer.Context = values.pop("context")
    own = Options(**{name: values.pop(name) for name in _COMMON.parameters})
    return own.over(context.obj) if isinstance(context.obj, Options) else own


def _common(
    *,
    nats: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="NATS servers, separated by commas (env LATTICE_NATS_URL).",
            show_default=DEFAULT_SERVERS[0],
            rich_help_panel=COMMON_PANEL,
        ),
    ] = None,
    lattice: Annotated[
        str | None,
        typer.Option(
            "--lattice",
            "-x",
            metavar="NAME",
            help="Name of the lattice (env LATTICE_LATTICE).",
            show_default=names.DEFAULT_LATTICE,
            rich_help_panel=COMMON_PANEL,
        ),
    ] = None,
    credentials: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="NATS credentials file (env LATTICE_NATS_CREDENTIALS).",
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
            show_default="2000; of a call 10000",
            rich_help_panel=COMMON_PANEL,
        ),
    ] = None,
    output: Annotated[
        Form | None,
        typer.Option(
            "--output",
            "-o",
            help="Form of the result (env LATTICE_OUTPUT).",
            show_default="text",
            rich_help_panel=COMMON_PANEL,
        ),
    ] = None,
) -> None:
    """Carry the common options' declarations; their names are those of ``Options``."""


_COMMON = inspect.signature(_common)

_CONTEXT = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)


def _describe(entry: Callable[..., None], work: Callable[..., Any]) -> None:
    """Give an entry the signature that Typer reads: the work's own parameters and the common."""
    own = list(inspect.signature(work).parameters.values())[1:]
    parameters = [
        _CONTEXT,
        *(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own),
        *_COMMON.parameters.values(),
    ]
    entry.__name__ = work.__name__
    entry.__doc__ = inspect.cleandoc(work.__doc__ or "").partition("\n\n")[0]
    entry.__annotations__ = {p.name: p.annotation for p in parameters}
    entry.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]

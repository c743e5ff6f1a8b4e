"""Contexts: list, new, show, edit, del, and which of them is the default."""

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from rich.console import RenderableType

from lattice import errors, limits, names
from lattice.aio import processes
from lattice.cli import contexts, files, output
from lattice.cli.contexts import Context
from lattice.cli.options import DEFAULT_SERVERS, Options, command
from lattice.cli.output import Result

NameArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="Name of the context.", autocompletion=contexts.beginning_with
    ),
]


def register(group: typer.Typer) -> None:
    command(group, "list", example="lattice ctx list", offline=True)(list_contexts)
    command(group, "new", example="lattice ctx new prod --nats nats://nats.example.org -x prod")(
        new_context
    )
    command(group, "show", example="lattice ctx show prod")(show_context)
    command(group, "edit", example="lattice ctx edit prod --timeout-ms 5000")(edit_context)
    command(group, "del", example="lattice ctx del prod", offline=True)(delete_context)
    command(group, "default", example="lattice ctx default prod", offline=True)(default_context)
    command(group, "use", example="lattice ctx use prod", offline=True)(default_context)


async def list_contexts(_options: Options) -> Result:
    """List the contexts, and which of them is the default.

    A context is a named connection: servers, lattice, credentials, timeout. Any command takes
    what it is not told from the context that --context names, or else from the default one. What
    is said by an option or in the environment wins over a context.
    """
    everything, default = contexts.all_names(), contexts.default_name()
    text: list[RenderableType] = [
        f"{name} (default)" if name == default else name for name in everything
    ]
    note = "" if everything else "there are no contexts; make one with: lattice ctx new NAME"
    if others := contexts.wash_names():
        note += f"{'; ' if note else ''}wash has {', '.join(others)}: lattice ctx new NAME"
        note += " --from-wash NAME takes one over"
    return Result(fields={"contexts": everything, "default": default}, text=text, note=note)


async def new_context(
    options: Options,
    name: NameArgument,
    *,
    from_wash: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Take over a context of wasmCloud's wash: its name, or its file."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace one of that name.")] = False,
) -> Result:
    """Make a context of the connection that is in force.

    What --nats, --lattice, --credentials and --timeout-ms say goes into it, whether as an option or
    in the environment. With --from-wash it is what that context says, and options win over it.
    """
    if contexts.path(name).exists() and not force:
        raise errors.AlreadyExists(f"there is a context {name!r} already; replace it with --force")
    left_out: list[str] = []
    context = Context()
    if from_wash is not None:
        context, left_out = from_wash_context(contexts.wash_file(from_wash))
    context = merged(context, options)
    contexts.save(name, context)
    note = f"not taken over, as there is no such setting here: {', '.join(left_out)}"
    return _result(f"Created context {name}", name, context, note=note if left_out else "")


async def show_context(
    options: Options,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="Name of the context; the one in force if absent.",
            autocompletion=contexts.beginning_with,
        ),
    ] = None,
) -> Result:
    """Show what a context says, and what it leaves as it is.

    Without a name the one that is in force.
    """
    name = name or options.context or contexts.default_name()
    context = Context() if name is None else contexts.load(name)
    lines = [
        f"context      {name or 'none'}",
        f"servers      {context.nats_url or f'{DEFAULT_SERVERS[0]} (the usual)'}",
        f"lattice      {context.lattice or f'{names.DEFAULT_LATTICE} (the usual)'}",
        f"credentials  {context.credentials or 'none'}",
        f"timeout      {context.timeout_ms or f'{limits.CONTROL_TIMEOUT_S * 1000:.0f}'} ms",
    ]
    text: list[RenderableType] = [output.visible(line) for line in lines]
    return Result(fields={"name": name, "context": _fields(context)}, text=text)


async def edit_context(
    options: Options,
    name: NameArgument,
    *,
    editor: Annotated[
        str | None,
        typer.Option(
            "--editor",
            "-e",
            envvar="EDITOR",
            metavar="COMMAND",
            help="What to edit its file with, when no option says what to change.",
        ),
    ] = None,
) -> Result:
    """Change a context: what the options say, or by hand in an editor.

    With any of --nats, --lattice, --credentials and --timeout-ms, those are changed. With none, its
    file is opened in the editor, and looked over afterwards.
    """
    context = contexts.load(name) if contexts.path(name).exists() else _missing(name)
    changed = merged(context, options)
    if changed != context:
        contexts.save(name, changed)
    else:
        _open(editor, contexts.path(name))
        changed = contexts.load(name)
    return _result(f"Context {name} changed", name, changed)


async def delete_context(_options: Options, name: NameArgument) -> Result:
    """Delete a context.

    If it is the default one there is no default any more, and commands go where they go without.
    """
    contexts.delete(name)
    text = f"Deleted context {name}"
    return Result(fields={"result": text, "name": name}, text=[text])


async def default_context(
    _options: Options,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="Name of the context.",
            autocompletion=contexts.beginning_with,
        ),
    ] = None,
    *,
    none: Annotated[bool, typer.Option("--none", help="Have no default any more.")] = False,
) -> Result:
    """Say which context is meant when a command names none.

    From then on every command goes to its lattice, until another is made the default, or --none.
    """
    if (name is None) != none:
        raise errors.InvalidRequest("name a context, or say --none")
    contexts.set_default(name)
    text = "There is no default context any more" if name is None else f"Default context is {name}"
    return Result(fields={"result": text, "default": name}, text=[text])


def merged(context: Context, options: Options) -> Context:
    """A context with what the options say over it.

    Raises:
        InvalidRequest: not a name for a lattice.
    """
    if options.lattice is not None:
        names.parse_lattice(options.lattice)
    credentials = options.credentials
    if credentials is not None:
        # A context is used from anywhere.
        credentials = str(files.named(credentials).absolute())
    said = {
        "nats_url": options.nats,
        "lattice": options.lattice,
        "credentials": credentials,
        "timeout_ms": options.timeout_ms,
    }
    return context.model_copy(update={key: value for key, value in said.items() if value})


class WashContext(BaseModel):
    """A context of ``wash`` 0.2x to 0.4x, as far as it says something to us."""

    model_config = ConfigDict(defer_build=True, extra="allow", frozen=True)

    ctl_host: str = "127.0.0.1"
    ctl_port: int = Field(default=4222, ge=1, le=65535)
    ctl_credsfile: str | None = None
    ctl_timeout: int = Field(default=2000, ge=1)
    lattice: str | None = None
    lattice_prefix: str | None = None


WASH_ONLY = ("ctl_jwt", "ctl_seed", "ctl_tls_ca_file", "ctl_tls_first", "js_domain")
"""What we have no setting for; a context that has one is taken over without it, and says so."""


def from_wash_context(file: Path) -> tuple[Context, list[str]]:
    """What a context of ``wash`` says, and the names of what had to be left out.

    Raises:
        NotFound: there is no such file.
        InvalidRequest: it is no such context.
    """
    try:
        wash = WashContext.model_validate_json(contexts.read(file))
    except OSError as error:
        raise errors.NotFound(f"can't read {file}: {error.strerror}") from error
    except ValidationError as error:
        fault = contexts.first_fault(error)
        raise errors.InvalidRequest(f"{file} is no context of wash: {fault}") from None
    host = wash.ctl_host if "://" in wash.ctl_host else f"nats://{wash.ctl_host}"
    lattice = wash.lattice or wash.lattice_prefix
    context = Context(
        nats_url=f"{host}:{wash.ctl_port}",
        lattice=None if lattice is None else names.parse_lattice(lattice),
        credentials=wash.ctl_credsfile or None,
        timeout_ms=min(wash.ctl_timeout, contexts.TIMEOUT_MS_MAX),
    )
    return context, [key for key in WASH_ONLY if (wash.model_extra or {}).get(key)]


def _missing(name: str) -> Context:
    raise contexts.NoContext(f"there is no context {name!r} in {contexts.path(name).parent}")


def _open(editor: str | None, file: Path) -> None:
    """Have a person edit a file.

    Raises:
        InvalidRequest: there is no terminal, or no editor, or it failed.
    """
    if not sys.stdin.isatty():
        raise errors.InvalidRequest("say what to change: --nats, --lattice, --credentials or so")
    words = shlex.split(editor or os.environ.get("VISUAL") or "vi")
    try:
        # The person's own editor, with the person's own file.
        status = subprocess.run([*words, str(file)], check=False).returncode  # noqa: S603
    except OSError as error:
        raise errors.InvalidRequest(f"can't run {words[0]}: {error.strerror}") from error
    if status:
        raise errors.InvalidRequest(f"{words[0]} {processes.ending(status)}")


def _fields(context: Context) -> dict[str, Any]:
    return context.model_dump()


def _result(text: str, name: str, context: Context, *, note: str = "") -> Result:
    fields = {"result": text, "name": name, "context": _fields(context)}
    return Result(fields=fields, text=[text], note=note)

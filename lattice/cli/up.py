"""``lattice up``: a lattice on this machine, in the foreground; and ``lattice host``: one host."""

import os
import re
import socket
import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.panel import Panel
from rich.text import Text

from lattice.cli import files, local, output
from lattice.cli.local import LocalLattice, LocalSettings
from lattice.cli.options import Options, command, pairs
from lattice.cli.output import Result

NATS_PORT = 4222
"""NATS's own; every NATS client looks there."""

HOSTS_MAX = 64
"""Hosts on one machine: each is a process, and one would do."""

_UNSAFE = re.compile(r"[^A-Za-z0-9-]+")


class LogLevel(StrEnum):
    """The least severe log lines to be written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


LabelOption = Annotated[
    list[str] | None,
    typer.Option("--label", metavar="KEY=VALUE", help="A label for constraints. Repeatable."),
]


def register(app: typer.Typer, *, panel: str) -> None:
    command(app, "up", panel=panel, example="lattice up --hosts 2 --label zone=a")(up)
    command(app, "host", panel=panel, example="lattice host --name alpha --label zone=a")(host)


async def up(
    options: Options,
    *,
    hosts: Annotated[
        int, typer.Option(min=1, max=HOSTS_MAX, metavar="N", help="How many hosts to start.")
    ] = 1,
    port: Annotated[
        int, typer.Option(min=1, max=65535, metavar="PORT", help="Port of the nats-server.")
    ] = NATS_PORT,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where its state is kept.",
            show_default="$XDG_DATA_HOME/lattice/up",
        ),
    ] = None,
    label: LabelOption = None,
    log_level: Annotated[
        LogLevel, typer.Option(help="The least severe log lines to write.")
    ] = LogLevel.INFO,
) -> None:
    """Start a nats-server and hosts here, until Ctrl-C; with --nats, hosts only.

    Links, configs and uploaded modules are kept for the next time, what runs is not. Ctrl-C has the
    hosts drain first, a second one kills what is left.
    """
    servers = options.servers if options.nats else ()
    settings = LocalSettings(
        host_names=host_names(hosts, machine=socket.gethostname() if servers else None),
        lattice=options.lattice_name,
        data_dir=files.named(data_dir or default_data_dir(os.environ)).absolute(),
        servers=servers,
        credentials=options.credentials,
        port=port,
        labels=[f"{key}={value}" for key, value in pairs(label or [], "label").items()],
        log_level=log_level.value,
    )
    with local.interruption() as end:
        async with local.running(settings) as lattice:
            usual = Options(context=options.context)
            output.show(ready_result(lattice, usual), options.form)
            await end.wait(lattice)


async def host(
    options: Options,
    *,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Friendly name; made up if absent.")
    ] = None,
    label: LabelOption = None,
    data_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where it keeps what it compiled.")
    ] = None,
    log_level: Annotated[
        LogLevel | None,
        typer.Option(help="The least severe log lines to write.", show_default="info"),
    ] = None,
    allow_file_load: Annotated[
        bool, typer.Option("--allow-file-load", help="Let file:// references be loaded.")
    ] = False,
    host_seed: Annotated[
        str | None, typer.Option(metavar="SEED", help="Seed of its id: an nkey, SN and more.")
    ] = None,
    no_reconcile: Annotated[
        bool,
        typer.Option("--no-reconcile", help="Leave deployed apps to other hosts to look after."),
    ] = False,
) -> None:
    """Run one host in the foreground, until Ctrl-C; it drains before it goes.

    It joins the lattice at --nats. What else can be set of a host is set in its environment.
    """
    labels = pairs(label or [], "label")
    arguments = local.host_arguments(
        servers=options.servers,
        lattice_name=options.lattice_name,
        name=name,
        labels=[f"{key}={value}" for key, value in labels.items()],
        data_dir=data_dir,
        log_level=None if log_level is None else log_level.value,
    )
    if allow_file_load:
        arguments.append("--allow-file-load")
    if no_reconcile:
        arguments.append("--no-reconcile")
    environment = local.module_environment(os.environ)
    if (credentials := options.settings.credentials_file) is not None:
        environment["LATTICE_NATS_CREDENTIALS"] = credentials
    if host_seed is not None:
        # Not as an argument: every user of the machine can read those.
        environment["LATTICE_HOST_SEED"] = host_seed
    # The host takes this process over: signals and the exit status are its own.
    os.execve(sys.executable, local.module_command("host", *arguments), environment)  # noqa: S606 - no shell is what is wanted


def host_names(count: int, *, machine: str | None) -> list[str]:
    """Names for hosts: ``host-1`` …; in a lattice shared with other machines, by ``machine``."""
    short = "" if machine is None else machine.partition(".")[0]
    prefix = _UNSAFE.sub("-", short).strip("-") or "host"
    return [f"{prefix}-{number}" for number in range(1, count + 1)]


def default_data_dir(environment: Mapping[str, str]) -> Path:
    """Where a program keeps its data by the XDG base directory specification."""
    base = Path(environment.get("XDG_DATA_HOME") or "~/.local/share").expanduser()
    return base / "lattice" / "up"


def ready_result(lattice: LocalLattice, usual: Options) -> Result:
    names = ", ".join(host.name for host in lattice.hosts)
    origin = ", which was there: no server was started" if lattice.server is None else ""
    lines = [
        f"NATS     {lattice.nats_url}{origin}",
        f"lattice  {lattice.lattice}",
        f"hosts    {names}",
        "",
    ]
    lines += [f"$ {text}" for text in next_commands(lattice, usual)]
    return Result(
        fields={
            "nats_url": lattice.nats_url,
            "lattice": lattice.lattice,
            "hosts": [{"id": host.id, "name": host.name} for host in lattice.hosts],
        },
        text=[Panel(Text("\n".join(lines)), title="lattice is up", expand=False, padding=(0, 2))],
        note="Ctrl-C ends it.",
    )


def next_commands(lattice: LocalLattice, usual: Options) -> list[str]:
    """What to type in another terminal, the address first where it is not the ``usual`` one."""
    commands = []
    if lattice.nats_url not in usual.servers:
        commands.append(f"export LATTICE_NATS_URL={lattice.nats_url}")
    if lattice.lattice != usual.lattice_name:
        commands.append(f"export LATTICE_LATTICE={lattice.lattice}")
    return [
        *commands,
        "lattice get hosts",
        "lattice start component ./counter.wasm counter",
        "lattice start provider http-server http",
        "lattice get inventory",
    ]

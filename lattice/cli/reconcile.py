"""``lattice reconcile``: what keeps deployed apps as they shall be, without a host."""

import asyncio
import signal
import socket
from typing import Annotated

import typer

from lattice import log
from lattice.cli.options import Options, command
from lattice.cli.up import LogLevel
from lattice.reconcile.standalone import Standalone


def register(app: typer.Typer, *, panel: str) -> None:
    command(app, "reconcile", panel=panel, example="lattice reconcile --name control-1")(reconcile)


async def reconcile(
    options: Options,
    *,
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What it is called.", show_default="from the machine"),
    ] = None,
    log_level: Annotated[
        LogLevel, typer.Option(metavar="LEVEL", help="The least severe log lines to write.")
    ] = LogLevel.INFO,
) -> None:
    """Keep deployed apps as they shall be, in the foreground, until Ctrl-C.

    Hosts do so themselves unless they are started with --no-reconcile; of all that take part one
    leads.
    """
    log.configure(level="debug" if options.debug else log_level.value)
    standalone = Standalone(
        options.settings,
        options.lattice_name,
        name=name or f"reconciler-{socket.gethostname()}",
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, standalone.request_stop)
    await standalone.run()

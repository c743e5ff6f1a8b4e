"""``lattice dev``: a project's actor at work while it is written.

A lattice is used or started, the actor built and run with what its project file wants around it. A
change of a source is a new build, and what that makes takes the old one's place without a failed
call; a build that fails leaves the old one at work. Ctrl-C takes down what this has put up.
"""

import asyncio
import fcntl
import hashlib
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from lattice import errors, limits, project, workbench
from lattice.aio.tasks import TaskGroup
from lattice.bus import Bus
from lattice.cli import completion, development, local, output, up, watching
from lattice.cli.build import FolderArgument, InstallOption, ToolsOption, fields, find_tools
from lattice.cli.connection import Connection, connect
from lattice.cli.development import Development
from lattice.cli.local import LOOPBACK, Interruption, LocalLattice, LocalSettings
from lattice.cli.narration import Narrator
from lattice.cli.options import Options, command
from lattice.cli.output import Failed
from lattice.control.client import ControlClient
from lattice.control.logs import LogsClient
from lattice.guests import building
from lattice.guests.building import BuildFailed
from lattice.guests.tools import Toolbox
from lattice.project import Project
from lattice.workbench import Workbench

LOOK_FOR_HOSTS_S = 0.5
"""How long a lattice that may run already is listened to."""

HOST_LOOK_S = 2.0
HOST_MISSED_MAX = 3
"""How far apart to look after a host that was not started here, and how often in vain."""

LISTENING_ATTEMPTS = 100
LISTENING_PAUSE_S = 0.05
"""How often, and how far apart, to look whether the web server listens."""


def register(app: typer.Typer, *, panel: str) -> None:
    command(app, "dev", panel=panel, example="lattice dev --once")(dev)


async def dev(
    options: Options,
    folder: FolderArgument = None,
    *,
    watch: Annotated[
        bool, typer.Option("--watch/--no-watch", help="Build again when a source changes.")
    ] = True,
    once: Annotated[
        bool, typer.Option("--once", help="End once the actor is at work, and say whether it is.")
    ] = False,
    own_lattice: Annotated[
        bool, typer.Option("--own-lattice", help="Start a lattice even if one runs.")
    ] = False,
    host_id: Annotated[
        str | None,
        typer.Option(
            metavar="HOST",
            help="Run it on this host of a lattice that runs already: its id, or its name or part"
            " of it.",
            autocompletion=completion.hosts,
        ),
    ] = None,
    install: InstallOption = True,
    tools_dir: ToolsOption = None,
) -> None:
    """Build the project in a folder, run it, and replace it while it runs when a source changes.

    Uses the lattice at --nats, and starts one here if none runs. With --output json every line is
    one object. Ctrl-C takes down what was put up, and only that.
    """
    narrator = Narrator(options.form)
    first = project.load(folder or Path())
    place = data_dir(first.folder, os.environ)
    with held(place, first), local.interruption() as end:
        async with AsyncExitStack() as stack:
            ground = await stack.enter_async_context(
                _ground(options, place, first, own=own_lattice)
            )
            connection = await stack.enter_async_context(connect(ground.options))
            host = await development.place(
                connection,
                first,
                host=host_id,
                prefer=[host.id for host in ground.lattice.hosts],
            )
            if ground.lattice.server is not None:
                # Nobody else is in it: what is left there is an earlier version's.
                await development.delete_all_links(connection)
            narrator.tell(
                "lattice",
                f"{ground.lattice.nats_url}, lattice {connection.lattice}"
                + (", started for this" if ground.lattice.hosts else ", which ran already"),
                {
                    "nats_url": ground.lattice.nats_url,
                    "lattice": connection.lattice,
                    "started": bool(ground.lattice.hosts),
                    "host_id": host,
                },
            )
            toolbox = find_tools(tools_dir, may_install=install, say=narrator.step)
            work = _Work(first, connection, narrator, toolbox, host_id=host)
            stack.push_async_callback(work.clear)
            tasks = TaskGroup("dev")
            stack.push_async_callback(tasks.aclose)
            heard = asyncio.Event()
            tasks.guard(lambda: _show_logs(connection, first, narrator, heard), name="log lines")
            await heard.wait()
            before = work.look()
            if not await work.renew() and (once or not watch):
                raise Failed(f"{first.actor.name} is not at work")
            if once:
                return
            if watch:
                tasks.spawn(work.follow(before), name="watch the sources")
                narrator.tell("watching", f"{first.folder}; Ctrl-C ends it")
            if not ground.lattice.hosts:
                tasks.spawn(_watch_host(connection, host, end), name="watch the host")
            await end.wait(ground.lattice)
            narrator.tell("ending", "taking down what was put up")


class _Work:
    """Builds a project and has the lattice follow it, over and over."""

    def __init__(
        self,
        first: Project,
        connection: Connection,
        narrator: Narrator,
        toolbox: Toolbox,
        *,
        host_id: str,
    ) -> None:
        self._project = first
        self._narrator = narrator
        self._toolbox = toolbox
        self._development = Development(connection, first, host_id=host_id)
        self._http = ""
        """The address that the web server got instead of ``self._wanted_http``."""
        self._wanted_http = ""
        self._has_run = False

    def look(self) -> watching.Look:
        """What the project's files look like now."""
        return watching.look_at(self._project.sources())

    async def follow(self, before: watching.Look) -> None:
        """Build again whenever the files look different from ``before``."""
        folder = self._project.folder
        while True:
            try:
                after = await watching.wait_changed(folder, before, self.look)
            except errors.LatticeError as error:
                self._narrator.fail("problem", error, head="watch")
                return
            paths = [str(path.relative_to(folder)) for path in watching.changed(before, after)]
            self._narrator.tell("changed", ", ".join(paths), {"paths": paths})
            before = after
            await self.renew()

    async def renew(self) -> bool:
        """Build, and have the lattice follow; whether the actor is at work as the files say.

        What goes wrong is told; the actor goes on as it was.
        """
        clock = asyncio.get_running_loop().time
        try:
            self._reread()
            await self._build()
            bench = self._lay_out()
            began = clock()
            is_new = await self._development.change(bench, self._project.output)
            await self._tell_at_work(bench, is_new=is_new, ms=round((clock() - began) * 1000))
        except BuildFailed as error:
            # The tool's own words; what they say is no error of the list.
            words, told = error.text, output.failure_fields(error)
            self._narrator.tell("build_failed", words, told, style="red", head="build")
            return False
        except errors.LatticeError as error:
            self._narrator.fail("problem", error, head="refused")
            return False
        return True

    async def clear(self) -> None:
        await self._development.clear()
        self._narrator.tell("ended", "everything that was put up is gone")

    def _reread(self) -> None:
        """Take what the project file says now.

        Raises:
            LatticeError: nothing that can be used.
        """
        read = project.load(self._project.folder)
        if read.actor.name != self._project.actor.name:
            raise errors.InvalidRequest(
                f"actor.name was {self._project.actor.name} and is {read.actor.name} now: the"
                " running actor can't be renamed; end lattice dev and start it again"
            )
        self._project = read

    async def _build(self) -> None:
        built = await building.build(self._project, self._toolbox, say=self._narrator.step)
        text = f"{self._project.actor.output}, {built.size_bytes / limits.KIB:,.1f} KiB"
        took = f"in {built.elapsed_s:.1f} s" if built.is_new else "nothing has changed"
        words = f"{text}, {took}\n{built.output}".rstrip()
        self._narrator.tell("built", words, fields(built))

    def _lay_out(self) -> Workbench:
        """What is wanted around the actor, with an address of HTTP that is free."""
        bench = workbench.lay_out(self._project)
        if (wanted := workbench.http_address(bench)) is None:
            return bench
        if wanted != self._wanted_http:
            self._wanted_http, self._http = wanted, free_address(wanted)
        return workbench.lay_out(self._project, http=self._http)

    async def _tell_at_work(self, bench: Workbench, *, is_new: bool, ms: int) -> None:
        if bench.url is not None:
            await _wait_listening(self._http)
        if not is_new:
            self._narrator.tell("unchanged", "the same module as before", {"url": bench.url})
            return
        event = "swapped" if self._has_run else "ready"
        where = bench.url or self._project.actor.name
        if not self._has_run and _port(self._wanted_http) not in (0, _port(self._http)):
            where += f", as port {_port(self._wanted_http)} is taken,"
        self._narrator.tell(
            event, f"{where} in {ms} ms", {"url": bench.url, "ms": ms}, style="green"
        )
        self._has_run = True


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ground:
    """The lattice that a project is developed in, and how commands reach it."""

    lattice: LocalLattice
    """With the processes that were started for it, which may be none."""
    options: Options


@asynccontextmanager
async def _ground(
    options: Options, place: Path, found: Project, *, own: bool
) -> AsyncIterator[_Ground]:
    """A lattice that runs already, or else one that is started and ends with this.

    With ``own``, one that is started in any case, on whatever port is free.

    Raises:
        Unavailable: no NATS server answers at the address that was given.
        LatticeError: as ``local.running``.
    """
    is_named = options.nats is not None or options.stored.nats_url is not None
    runs = None if own else await _look_for_hosts(options, is_named=is_named)
    if runs:
        lattice = LocalLattice(servers=options.servers, lattice=options.lattice_name)
        yield _Ground(lattice=lattice, options=options)
        return
    # Credentials are for the servers that were meant, never for one of our own.
    credentials = None if runs is None else options.settings.credentials_file
    log_dir = place / "logs"
    log_dir.mkdir(parents=True, exist_ok=True)
    settings = LocalSettings(
        host_names=(f"dev-{found.actor.name}",),
        lattice=options.lattice_name,
        data_dir=place / "lattice",
        servers=() if runs is None else options.servers,
        credentials=credentials,
        port=up.NATS_PORT if not own and local.is_port_free(up.NATS_PORT) else -1,
        log_dir=log_dir,
    )
    async with local.running(settings) as lattice:
        reached = replace(options, nats=",".join(lattice.servers), credentials=credentials)
        yield _Ground(lattice=lattice, options=reached)


async def _look_for_hosts(options: Options, *, is_named: bool) -> bool | None:
    """Whether a lattice has hosts; None where not even NATS runs, and none was named."""
    try:
        bus = await Bus.connect(options.settings, name="lattice command")
    except errors.Unavailable:
        if is_named:
            raise
        return None
    try:
        control = ControlClient(bus, options.lattice_name, timeout_s=options.timeout_s)
        return bool(await control.hosts(wait_s=LOOK_FOR_HOSTS_S))
    finally:
        await bus.aclose()


async def _show_logs(
    connection: Connection, shown: Project, narrator: Narrator, heard: asyncio.Event
) -> None:
    client = LogsClient(connection.bus, connection.lattice, timeout_s=connection.timeout_s)
    async with client.follow(ids=[shown.actor.name]) as stream:
        heard.set()
        async for message in stream:
            for line in message.lines:
                narrator.log(line, message.name)
            if (dropped := message.dropped) > 0:
                told = {"lines": dropped, "host": message.name}
                narrator.tell("dropped", f"{dropped} lines, for which there was no room", told)


async def _watch_host(connection: Connection, host_id: str, end: Interruption) -> None:
    """End the command when the host of another's lattice is gone, and the actor with it."""
    missed = 0
    while missed < HOST_MISSED_MAX:
        await asyncio.sleep(HOST_LOOK_S)
        try:
            await connection.control.inventory(host_id)
            missed = 0
        except errors.LatticeError:
            missed += 1
    end.fail(Failed(f"host {host_id} is gone, and with it the actor: start lattice dev again"))


@contextmanager
def held(place: Path, found: Project) -> Iterator[None]:
    """Be the only ``lattice dev`` of a project.

    Raises:
        Conflict: there is one already; the text says which process.
        Denied: its data directory can't be made or written.
    """
    try:
        place.mkdir(parents=True, exist_ok=True)
        lock = (place / "lock").open("a+")
    except OSError as error:
        raise errors.Denied(f"can't use data directory {place}: {error.strerror}") from error
    with lock:
        lock.seek(0)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise errors.Conflict(
                f"lattice dev runs already for {found.folder}, as process {lock.read().strip()}:"
                " end that one with Ctrl-C first"
            ) from None
        lock.truncate()
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


def data_dir(folder: Path, environment: Mapping[str, str]) -> Path:
    """Where a lattice that is started for a project keeps its state: not in the folder itself."""
    resolved = folder.resolve()
    digest = hashlib.sha256(str(resolved).encode()).hexdigest()[:12]
    return up.default_data_dir(environment).parent / "dev" / f"{resolved.name}-{digest}"


def _port(address: str) -> int:
    """The port of an address; 0 where that is left open, or there is no address."""
    return int(address.rpartition(":")[2] or 0)


def free_address(wanted: str) -> str:
    """An address with another port if its own is taken here, or was left open."""
    host, port = wanted.rpartition(":")[0], _port(wanted)
    is_here = host in (LOOPBACK, "localhost", "0.0.0.0")  # noqa: S104 - compared, not bound
    if not is_here or (port and local.is_port_free(port)):
        return wanted
    return f"{host}:{local.free_port()}"


async def _wait_listening(address: str) -> None:
    """Return when a web server takes connections.

    Raises:
        Failed: it does not.
    """
    host, _, port = address.rpartition(":")
    for _ in range(LISTENING_ATTEMPTS):
        with suppress(OSError):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
            writer.close()
            await writer.wait_closed()
            return
        await asyncio.sleep(LISTENING_PAUSE_S)
    raise Failed(f"nobody listens on {address}; see lattice logs, and the host's log")

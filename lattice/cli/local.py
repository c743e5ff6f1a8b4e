"""A lattice on this machine: a nats-server and host processes, started and ended together.

Everything started here is a child of this process and dies with it, whatever becomes of it. In
order: the server, then the hosts; the end goes the other way, hosts draining first.
"""

import asyncio
import errno
import fcntl
import os
import signal
import site
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import lattice
from lattice import errors, limits
from lattice.aio import processes
from lattice.aio.tasks import TaskGroup
from lattice.bus import Bus, NatsSettings
from lattice.bus.credentials import without_credentials
from lattice.bus.server import NatsServer
from lattice.cli import output
from lattice.cli.output import Failed
from lattice.control.client import ControlClient
from lattice.wire.control import Host

LOOPBACK = "127.0.0.1"

PING_WAIT_S = 0.25
"""How long each round of asking for the hosts lasts."""

READY_TIMEOUT_S = 30.0
"""From starting hosts until all of them must answer; they may have actors to restore."""

END_GRACE_S = limits.DRAIN_TIMEOUT_S + limits.PROVIDER_STOP_TIMEOUT_S + 2.0
"""From asking a host to end until it is killed: its drain, its providers, and a moment."""

LOG_CHARS_MAX = 4_000
"""How much of a host's log an error repeats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSettings:
    """What to start."""

    host_names: Sequence[str]
    lattice: str
    data_dir: Path
    """State of the server and of the hosts; locked while in use."""
    servers: tuple[str, ...] = ()
    """NATS servers that run already; with none, one is started."""
    credentials: str | None = None
    port: int = -1
    """Port of the server that is started; -1 for any free one."""
    labels: Sequence[str] = ()
    """``key=value`` each, given to every host."""
    log_level: str = "info"
    log_dir: Path | None = None
    """Where each host's log goes as ``NAME.log``; None for this process's standard error."""


@dataclass(slots=True, kw_only=True)
class LocalHost:
    """A host process."""

    name: str
    process: asyncio.subprocess.Process
    log_file: Path | None
    id: str = ""
    """Known once it has answered."""

    def last_words(self) -> str:
        """The end of its log; empty when that went to standard error."""
        if self.log_file is None:
            return ""
        with suppress(OSError):
            return self.log_file.read_text(errors="replace")[-LOG_CHARS_MAX:].strip()
        return ""


@dataclass(slots=True, kw_only=True)
class LocalLattice:
    """What runs."""

    servers: tuple[str, ...]
    lattice: str
    hosts: list[LocalHost] = field(default_factory=list)
    server: NatsServer | None = None

    @property
    def nats_url(self) -> str:
        """Where NATS is, without user and password."""
        return ",".join(without_credentials(server) for server in self.servers)


class Interruption:
    """Ctrl-C and SIGTERM: the first asks for an orderly end, the next for an end at once.

    Unless somebody waits for the first one it cancels the task as well: there is nothing to be kept
    of a start that is half done.
    """

    def __init__(self) -> None:
        self._task = asyncio.current_task()
        self._end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._awaited = False

    async def wait(self, lattice: LocalLattice) -> None:
        """Return when an end is asked for, or when every host was stopped by a command.

        Raises:
            Failed: a process of the lattice ended that nobody had stopped.
        """
        tasks = TaskGroup("processes")
        for host in lattice.hosts:
            tasks.spawn(self._watch_host(host, lattice), name=f"watch host {host.name}")
        if lattice.server is not None:
            tasks.spawn(self._watch_server(lattice.server), name="watch nats-server")
        self._awaited = True
        try:
            await self._end
        finally:
            await tasks.aclose()

    def fail(self, error: errors.LatticeError) -> None:
        """End the wait with an error: what there is to wait for is gone."""
        if not self._end.done():
            self._end.set_exception(error)

    def ask(self) -> None:
        if self._awaited and not self._end.done():
            self._end.set_result(None)
        elif self._task is not None:
            self._task.cancel()

    async def _watch_host(self, host: LocalHost, lattice: LocalLattice) -> None:
        status = await host.process.wait()
        if status != 0:
            self._fail(f"host {host.name}", status)
            return
        # It ends in order only when it was told to: by lattice stop host, or a signal.
        output.note(f"host {host.name} was stopped")
        if all(host.process.returncode == 0 for host in lattice.hosts) and not self._end.done():
            self._end.set_result(None)

    async def _watch_server(self, server: NatsServer) -> None:
        self._fail("nats-server", await server.wait_stopped())

    def _fail(self, what: str, status: int) -> None:
        self.fail(Failed(f"{what} {processes.ending(status)}, and nobody had asked it to end"))


@contextmanager
def interruption() -> Iterator[Interruption]:
    """Take over Ctrl-C and SIGTERM for the task at hand, and the loss of its terminal."""
    loop = asyncio.get_running_loop()
    wanted = Interruption()
    signals = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        # Under nohup it is ignored, and stays so.
        signals.append(signal.SIGHUP)
    for number in signals:
        loop.add_signal_handler(number, wanted.ask)
    try:
        yield wanted
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


@asynccontextmanager
async def running(settings: LocalSettings) -> AsyncIterator[LocalLattice]:
    """Start a lattice; when this is entered, every host answers.

    Raises:
        AlreadyExists: the port is taken, or the lattice has a host of such a name.
        Conflict: the data directory is in use.
        NotFound: no nats-server is installed.
        Unavailable: NATS does not answer.
        Failed: a host ended, or did not answer in time.
    """
    async with AsyncExitStack() as stack:
        stack.enter_context(locked(settings.data_dir))
        local = await _with_server(settings, stack)
        async with _control(settings, local) as control:
            before = await _ids_before(control, settings) if settings.servers else set()
            stack.push_async_callback(_end_hosts, local.hosts)
            for name in settings.host_names:
                local.hosts.append(await _start_host(settings, local, name))
            await _wait_ready(control, local, before)
        yield local


def module_command(module: str, *arguments: str) -> list[str]:
    """A command line that runs a module of ours by this very interpreter.

    ``-P`` keeps the working directory out of the import path: any directory may have a folder that
    is called ``host``.
    """
    return [sys.executable, "-P", "-m", module, *arguments]


def module_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment in which ``module_command`` finds what this process has found."""
    root = str(Path(lattice.__file__).resolve().parents[1])
    if root in site.getsitepackages():
        return dict(environment)
    # A checkout: not on the import path by itself, whether it is installed as editable or not.
    paths = [root, *filter(None, [environment.get("PYTHONPATH")])]
    return {**environment, "PYTHONPATH": os.pathsep.join(paths)}


def host_arguments(
    *,
    servers: Sequence[str],
    lattice_name: str,
    name: str | None = None,
    labels: Sequence[str] = (),
    data_dir: Path | None = None,
    log_level: str | None = None,
) -> list[str]:
    """Arguments of ``python -m host``."""
    arguments = ["--nats", ",".join(servers), "--lattice", lattice_name]
    if name is not None:
        arguments += ["--name", name]
    for label in labels:
        arguments += ["--label", label]
    if data_dir is not None:
        arguments += ["--data-dir", str(data_dir)]
    if log_level is not None:
        arguments += ["--log-level", log_level]
    return arguments


def is_port_free(port: int) -> bool:
    """Whether a server could listen there now, on the loopback address."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: a connection of an earlier one that is not quite gone is no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise errors.Denied(f"can't listen on port {port}: {error.strerror}") from error
    return True


def free_port() -> int:
    """A port that is free at this moment."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


@contextmanager
def locked(data_dir: Path) -> Iterator[None]:
    """Hold a data directory: two servers in one store would ruin it.

    Raises:
        Conflict: somebody else holds it.
        Denied: it can't be made or written.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        lock = (data_dir / "lock").open("w")
    except OSError as error:
        raise errors.Denied(f"can't use data directory {data_dir}: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise errors.Conflict(
                f"data directory {data_dir} is in use, by another lattice up perhaps;"
                " name another one with --data-dir"
            ) from None
        yield


async def _with_server(settings: LocalSettings, stack: AsyncExitStack) -> LocalLattice:
    if settings.servers:
        return LocalLattice(servers=settings.servers, lattice=settings.lattice)
    if settings.port > 0 and not is_port_free(settings.port):
        raise errors.AlreadyExists(
            f"port {settings.port} is taken; if that is a nats-server, use it with"
            f" --nats nats://{LOOPBACK}:{settings.port}, or choose another port with --port"
        )
    server = await NatsServer.start(
        store_dir=settings.data_dir / "nats", host=LOOPBACK, port=settings.port
    )
    stack.push_async_callback(server.aclose)
    return LocalLattice(servers=(server.url,), lattice=settings.lattice, server=server)


@asynccontextmanager
async def _control(settings: LocalSettings, local: LocalLattice) -> AsyncIterator[ControlClient]:
    nats = NatsSettings(servers=local.servers, credentials_file=settings.credentials)
    bus = await Bus.connect(nats, name="lattice command")
    try:
        yield ControlClient(bus, settings.lattice)
    finally:
        await bus.aclose()


async def _ids_before(control: ControlClient, settings: LocalSettings) -> set[str]:
    """Ids of the hosts that a shared lattice has already.

    Raises:
        AlreadyExists: one of them has a name that is about to be given.
    """
    hosts = await control.hosts(wait_s=PING_WAIT_S)
    for host in hosts:
        if host.friendly_name in settings.host_names:
            raise errors.AlreadyExists(
                f"lattice {settings.lattice!r} has a host named {host.friendly_name!r} already;"
                " choose another lattice with --lattice, or stop that host"
            )
    return {host.id for host in hosts}


async def _start_host(settings: LocalSettings, local: LocalLattice, name: str) -> LocalHost:
    arguments = host_arguments(
        servers=local.servers,
        lattice_name=settings.lattice,
        name=name,
        labels=settings.labels,
        data_dir=settings.data_dir / "hosts",
        log_level=settings.log_level,
    )
    environment = module_environment(os.environ)
    if len(settings.host_names) > 1:
        # One seed is one id; two hosts of one id would answer for each other.
        environment.pop("LATTICE_HOST_SEED", None)
    if settings.credentials is not None:
        environment["LATTICE_NATS_CREDENTIALS"] = settings.credentials
    command = module_command("host", *arguments)
    if settings.log_dir is None:
        # Its standard output as well: ours is for results.
        process = await processes.spawn(*command, output=sys.stderr.fileno(), env=environment)
        return LocalHost(name=name, process=process, log_file=None)
    log_file = settings.log_dir / f"{name}.log"
    with log_file.open("wb") as log:
        process = await processes.spawn(*command, output=log, env=environment)
    return LocalHost(name=name, process=process, log_file=log_file)


async def _wait_ready(control: ControlClient, local: LocalLattice, before: set[str]) -> None:
    try:
        async with asyncio.timeout(READY_TIMEOUT_S):
            while not all(host.id for host in local.hosts):
                _check_alive(local.hosts)
                answers = await control.hosts(wait_s=PING_WAIT_S)
                recognise(local.hosts, answers, before)
                if not answers:
                    # Nobody listens yet, and that answer comes at once.
                    await asyncio.sleep(PING_WAIT_S / 5)
    except TimeoutError:
        silent = ", ".join(host.name for host in local.hosts if not host.id)
        raise Failed(f"no answer from {silent} within {READY_TIMEOUT_S:.0f} s") from None


def recognise(hosts: Sequence[LocalHost], answers: Sequence[Host], before: set[str]) -> None:
    """Give hosts the ids under which they answered, passing over those that were there before."""
    ids = {answer.friendly_name: answer.id for answer in answers if answer.id not in before}
    for host in hosts:
        host.id = ids.get(host.name, host.id)


def _check_alive(hosts: Sequence[LocalHost]) -> None:
    for host in hosts:
        if (status := host.process.returncode) is not None:
            words = host.last_words()
            raise Failed(
                f"host {host.name} {processes.ending(status)} before it was ready"
                + (f":\n{words}" if words else "")
            )


async def _end_hosts(hosts: Sequence[LocalHost]) -> None:
    await asyncio.gather(*(processes.end(host.process, grace_s=END_GRACE_S) for host in hosts))

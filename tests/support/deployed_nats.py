"""nats-servers that run the files of ``deploy/nats`` as they stand.

What a test can't use is replaced, and must be there to be replaced: the ports by free ones, the
directory by one of the test's own, the names of other machines by this one.
"""

import asyncio
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from lattice import errors
from lattice.aio import processes
from lattice.bus import Bus, NatsSettings, server
from tests.support.eventually import eventually
from tests.support.origin import Certificate
from tests.support.proxy import Proxy

FILES = Path(__file__).parents[2] / "deploy" / "nats"

NAMES = ("n1", "n2", "n3")

START_S = 30.0
"""A cluster elects the leader of JetStream within seconds."""


class Deployed:
    """A server that runs one of the files; it can be killed, and started again."""

    def __init__(
        self, workspace: Path, file: str, name: str, port: int, certificate: Certificate | None
    ) -> None:
        self._workspace = workspace
        self._file = file
        self.name = name
        self.port = port
        self.certificate = certificate
        """Shown to its clients, which may come over TLS only; without one they come as they are."""
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return (self._workspace / "log").read_text(errors="replace")

    async def start(self) -> None:
        with (self._workspace / "log").open("ab") as output:
            self._process = await processes.spawn(
                server.find_binary(),
                *("--config", self._workspace / self._file, "--name", self.name),
                output=output,
            )
        await eventually(self._listens, timeout_s=START_S)

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def kill(self) -> None:
        self.signal(signal.SIGKILL)
        assert self._process is not None
        await self._process.wait()

    async def wait_stopped(self) -> None:
        assert self._process is not None
        await self._process.wait()

    async def aclose(self) -> None:
        if self._process is not None:
            await processes.end(self._process, grace_s=5)

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.returncode is None, self.log
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@asynccontextmanager
async def deployed(
    workspace: Path,
    file: str,
    *,
    name: str = "nats",
    replaced: Mapping[str, str] | None = None,
    accounts: bool = False,
) -> AsyncIterator[Deployed]:
    """A running server; ``replaced`` says what stands for addresses that the file names."""
    running = prepared(workspace, file, name=name, replaced=replaced or {}, accounts=accounts)
    await running.start()
    try:
        yield running
    finally:
        await running.aclose()


def prepared(
    workspace: Path,
    file: str,
    *,
    name: str,
    replaced: Mapping[str, str],
    accounts: bool = False,
    certificate: Certificate | None = None,
) -> Deployed:
    """A server that is ready to be started."""
    workspace.mkdir(parents=True, exist_ok=True)
    for shared in ("lattice.conf", "accounts.conf"):
        shutil.copy(FILES / shared, workspace / shared)
    client = free_port()
    text = (FILES / file).read_text()
    if accounts:
        text += '\ninclude "accounts.conf"\n'
    if certificate is not None:
        files = f'cert_file: "{certificate.certificate}", key_file: "{certificate.key}"'
        text += f"\ntls {{ {files} }}\n"
    wanted = {"port: 4222": f"port: {client}", **replaced}
    if "store_dir" in text:
        wanted["/var/lib/nats"] = str(workspace / "store")
    for old, new in wanted.items():
        assert old in text, f"{file} does not say {old!r}"
        text = text.replace(old, new)
    (workspace / file).write_text(text.replace('"0.0.0.0"', '"127.0.0.1"'))
    monitored = (workspace / "lattice.conf").read_text()
    (workspace / "lattice.conf").write_text(monitored.replace("127.0.0.1:8222", "127.0.0.1:-1"))
    return Deployed(workspace, file, name, client, certificate)


@asynccontextmanager
async def deployed_cluster(
    workspace: Path,
    *,
    accounts: bool = False,
    between: list[Proxy] | None = None,
    certificate: Certificate | None = None,
) -> AsyncIterator[list[Deployed]]:
    """Three servers of ``cluster.conf``, once they keep three copies of what is written.

    With accounts nobody is let in to try; their own users see when it is so. ``between`` gets the
    proxies through which the first two reach each other; without it they do so directly.
    """
    async with AsyncExitStack() as stack:
        servers = await _prepared_cluster(workspace, accounts, between, certificate, stack)
        for one in servers:
            stack.push_async_callback(one.aclose)
        for one in servers[:2]:
            await one.start()
        if between is not None:
            # Otherwise the third one would tell them of each other's own address.
            await eventually(lambda: all("Route connection created" in s.log for s in servers[:2]))
        await servers[2].start()
        if not accounts:
            await _wait_ready(servers)
        yield servers


async def _prepared_cluster(
    workspace: Path,
    accounts: bool,
    between: list[Proxy] | None,
    certificate: Certificate | None,
    stack: AsyncExitStack,
) -> list[Deployed]:
    routes = {name: free_port() for name in NAMES}
    servers = []
    for name in NAMES:
        addresses = {f"{other}:6222": f"127.0.0.1:{port}" for other, port in routes.items()}
        if between is not None and name in NAMES[:2]:
            other = next(each for each in NAMES[:2] if each != name)
            proxy = Proxy(f"nats://127.0.0.1:{routes[other]}")
            between.append(await stack.enter_async_context(proxy))
            addresses[f"{other}:6222"] = proxy.url.removeprefix("nats://")
        servers.append(
            prepared(
                workspace / name,
                "cluster.conf",
                name=name,
                replaced={**addresses, "port: 6222": f"port: {routes[name]}"},
                accounts=accounts,
                certificate=certificate,
            )
        )
    return servers


def settings_of(servers: list[Deployed], *, replicas: int = 3) -> NatsSettings:
    certificate = servers[0].certificate
    return NatsSettings(
        servers=tuple(one.url for one in servers),
        replicas=replicas,
        tls_ca_file=None if certificate is None else str(certificate.certificate),
    )


async def _wait_ready(servers: list[Deployed]) -> None:
    bus = await Bus.connect(settings_of(servers), name="ready")
    deadline = asyncio.get_running_loop().time() + START_S
    try:
        while True:
            try:
                await bus.bucket("ready")
            except errors.Unavailable:
                assert asyncio.get_running_loop().time() < deadline
                await asyncio.sleep(0.1)
            else:
                return
    finally:
        await bus.aclose()


def free_port() -> int:
    with socket.socket() as found:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])

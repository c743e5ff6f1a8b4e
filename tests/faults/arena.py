"""The lattice under test: nats-servers, hosts behind proxies of their own, and an app deployed."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import nats
import psutil

from lattice import artefacts, errors, limits, subjects
from lattice.aio import processes
from lattice.bus import Bus, NatsSettings
from lattice.control.client import ControlClient
from lattice.identity import keys
from lattice.reconcile.leader import LEASE_S
from lattice.rpc import Rpc
from lattice.wire import control
from lattice.wire.invocation import Invocation
from tests.faults.history import History
from tests.faults.servers import Server, free_ports, start_servers
from tests.support.cluster import ROOT, without_reaper
from tests.support.proxy import Proxy
from tests.support.wat import actor as assembled

INSTALLED = Path(__file__).parent / "installed"
"""Holds the entry point of the ledger, as pip would."""

LATTICE = "default"
TESTER = "tester"
"""Who the suite is to those it calls."""

PROBE = "probe"
"""Id of the calls with which the suite looks whether everything works; they are not judged."""

HOSTS = 3
MAILBOX_CALLS = 100
CPU_TIME_S = 0.5
MEMORY_BYTES = 16 * limits.MIB

WARM_UP_CALLS = 50
"""With a key each, to whichever host NATS picks: it leaves none of three out."""

OUTCOME_BYTES_MAX = 8 * limits.MIB
"""Of calls with idempotency keys: far more than a run of minutes has."""

START_TIMEOUT_S = 30.0
CONVERGE_TIMEOUT_S = 60.0
"""How long the suite waits for the lattice to get well before it says that it did not."""

COMMAND_TIMEOUT_S = 10.0
"""For what the suite itself asks of the control plane, to set the stage: that is not what is
judged, and the machine may be busy."""

DATA_CALL_TIMEOUT_S = 2.0
"""Deadline of the suite's calls."""

ACTORS: Mapping[str, tuple[str, int]] = {
    "relay": ("relay", 100),
    "front": ("relay", 100),
    "circle": ("relay", 100),
    "echo": ("echo", 100),
    "spin": ("spin", 2),
    "traps": ("traps", 2),
    "bomb": ("grow", 2),
    "shout": ("shouts", 2),
}
"""Actors that run on every host: from which module, how many instances."""

LINKS = (("front", "relay"), ("relay", "ledger"), ("circle", "circle"))


@dataclass(slots=True)
class HostUnderTest:
    """One host: the same to the lattice however often it is started."""

    name: str
    seed: str
    proxies: list[Proxy]
    log_file: Path
    process: asyncio.subprocess.Process | None = field(default=None, repr=False)

    @property
    def id(self) -> str:
        return keys.host_id(self.seed)

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.returncode is None

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def providers(self) -> list[psutil.Process]:
        """Its provider processes."""
        if not self.is_running:
            return []
        assert self.process is not None
        with contextlib.suppress(psutil.NoSuchProcess):
            return without_reaper(psutil.Process(self.process.pid).children(recursive=True))
        return []


class Arena:
    """Everything that is tormented, and the means to."""

    def __init__(
        self, history: History, workspace: Path, servers: list[Server], stack: AsyncExitStack
    ) -> None:
        self.history = history
        self.workspace = workspace
        self.servers = servers
        self.ledgers = workspace / "ledgers"
        self.hosts: list[HostUnderTest] = []
        self.observer_proxies: list[Proxy] = []
        """Between the suite's second observer and the servers: partitions strike it as well."""
        self.links_writable = asyncio.Event()
        """Cleared while the bucket that holds them is not there."""
        self.links_writable.set()
        self._stack = stack
        self._http_port = 0
        self.bus: Bus
        self.control: ControlClient
        self.rpc: Rpc

    async def open(self) -> None:
        self.ledgers.mkdir()
        self.bus = await self.connect("suite")
        self.control = ControlClient(self.bus, LATTICE, timeout_s=COMMAND_TIMEOUT_S)
        self.rpc = Rpc(self.bus, LATTICE, at=TESTER)
        self._stack.push_async_callback(self.rpc.aclose)
        # As large as a host makes it there would be no room for the others.
        await self.bus.bucket(
            subjects.outcome_bucket(LATTICE),
            ttl_s=limits.IDEMPOTENCY_TTL_S,
            bytes_max=OUTCOME_BYTES_MAX,
            replicas=len(self.servers),
        )
        if len(self.servers) > 1:
            await self._make_replicated()
        self.observer_proxies = await self._proxies()
        for number, name in enumerate(("alpha", "beta", "gamma")[:HOSTS]):
            proxies = await self._proxies()
            # Each prefers another server, as if it were the one nearby.
            first = number % len(proxies)
            host = HostUnderTest(
                name,
                keys.new_host_seed(),
                proxies[first:] + proxies[:first],
                self.workspace / f"{name}.log",
            )
            self.hosts.append(host)
        # Before the proxies are closed: a host would try to get through them again and again.
        self._stack.push_async_callback(self._end_hosts)
        await asyncio.gather(*map(self.start_host, self.hosts))
        await self._deploy()

    @property
    def urls(self) -> tuple[str, ...]:
        return tuple(server.url for server in self.servers)

    @property
    def http_url(self) -> str:
        return f"http://127.0.0.1:{self._http_port}"

    async def connect(
        self, name: str, urls: tuple[str, ...] = (), *, stack: AsyncExitStack | None = None
    ) -> Bus:
        """A connection that is closed with the stack, or with the arena."""
        bus = await Bus.connect(NatsSettings(servers=urls or self.urls), name=name)
        (stack or self._stack).push_async_callback(bus.aclose)
        return bus

    async def start_host(self, host: HostUnderTest) -> None:
        """Start a host that does not run; returns when it says that it has."""
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{ROOT}:{INSTALLED}",
            "LATTICE_HOST_SEED": host.seed,
            "LATTICE_NAME": host.name,
            "LATTICE_DATA_DIR": str(self.workspace / "data"),
            "LATTICE_NATS_URL": ",".join(proxy.url for proxy in host.proxies),
            "LATTICE_MAILBOX_CALLS": str(MAILBOX_CALLS),
            "LATTICE_CPU_TIME_S": str(CPU_TIME_S),
            "LATTICE_MEMORY_BYTES": str(MEMORY_BYTES),
            "LATTICE_INSTANCES_MAX": "1000",
            "LATTICE_HEARTBEAT_S": "5",
        }
        began = host.log_file.stat().st_size if host.log_file.exists() else 0
        with host.log_file.open("ab") as output:
            host.process = await processes.spawn(
                sys.executable, "-m", "tests.faults.host_program", output=output, env=environment
            )
        async with asyncio.timeout(START_TIMEOUT_S):
            while b"host started" not in host.log_file.read_bytes()[began:]:
                if not host.is_running:
                    raise AssertionError(f"{host.name} ended at once; see {host.log_file}")
                await asyncio.sleep(0.05)

    async def kill_host(self, host: HostUnderTest) -> None:
        host.signal(signal.SIGKILL)
        assert host.process is not None
        await host.process.wait()

    async def _end_hosts(self) -> None:
        for host in self.hosts:
            if host.is_running:
                host.signal(signal.SIGCONT)
        await asyncio.gather(
            *(processes.end(h.process, grace_s=10) for h in self.hosts if h.process is not None)
        )

    def victim(self, draw: float) -> HostUnderTest:
        return self.hosts[int(draw * len(self.hosts))]

    def call(
        self, target: str, operation: str, payload: bytes, *, timeout_s: float = DATA_CALL_TIMEOUT_S
    ) -> Invocation:
        """An invocation from the suite."""
        return Invocation(
            source=TESTER,
            target=target,
            interface="test:target",
            operation=operation,
            payload=payload,
            deadline=asyncio.get_running_loop().time() + timeout_s,
        )

    async def scale(self, actor_id: str, module: str, count: int, host: HostUnderTest) -> None:
        """Tell a host how many instances of an actor it may run, besides the app's."""
        image = await artefacts.upload(self.bus, LATTICE, module, assembled(module))
        await self.control.scale_component(
            control.ScaleComponent(
                component_id=actor_id, component_ref=str(image), count=count, host_id=host.id
            )
        )

    async def put_link(self, source: str, target: str) -> None:
        link = control.Link(
            source_id=source, target=target, wit_namespace="test", wit_package="target"
        )
        await self.control.put_link(link)

    async def until_answers(self, target: str) -> None:
        """Return once something that was just started, and linked to the ledger, works."""
        async with asyncio.timeout(START_TIMEOUT_S):
            while True:
                with contextlib.suppress(errors.LatticeError):
                    await self.rpc.call(self.call(target, "Ledger.Note", PROBE.encode()))
                    return
                await asyncio.sleep(0.02)

    async def warm_up(self) -> None:
        """Have every host do once what leaves something behind: a subscription for answers."""
        for number in range(WARM_UP_CALLS):
            call = self.call("relay", "Ledger.Note", PROBE.encode())
            call.key = f"{PROBE}-{number}"
            await self.rpc.call(call)

    async def not_converged(self) -> str | None:
        """What is not as it should be; None when everything is."""
        try:
            async with asyncio.timeout(10):
                return await self._missing()
        except (errors.LatticeError, TimeoutError, httpx.HTTPError) as error:
            return f"{type(error).__name__}: {error}"

    async def wait_converged(self) -> bool:
        """Wait until everything is as it should be; False when it did not come to that."""
        end = self.history.elapsed_s() + CONVERGE_TIMEOUT_S
        while (missing := await self.not_converged()) is not None:
            self.history.observe("suite", "not converged", text=missing)
            if self.history.elapsed_s() > end:
                return False
            await asyncio.sleep(0.2)
        self.history.observe("suite", "converged")
        return True

    async def _missing(self) -> str | None:
        found = {host.id for host in await self.control.hosts(wait_s=1.0)}
        serving_http = 0
        for host in self.hosts:
            if host.id not in found:
                return f"{host.name} does not answer"
            inventory = await self.control.inventory(host.id)
            running = {component.id for component in inventory.components}
            if absent := sorted(ACTORS.keys() - running):
                return f"{host.name} does not run {', '.join(absent)}"
            providers = [provider.id for provider in inventory.providers]
            if "ledger" not in providers:
                return f"{host.name} does not run ledger"
            serving_http += providers.count("http")
        if serving_http != 1:
            return f"{serving_http} hosts serve HTTP, want one"
        # Any host may answer: so many questions reach each of them.
        for number in range(12):
            for target in ("front", "relay", "echo"):
                payload = PROBE.encode()
                operation = "Echo.Say" if target == "echo" else "Ledger.Note"
                reply = await self.rpc.call(self.call(target, operation, payload, timeout_s=2))
                if reply.payload != payload:
                    return f"{target} answered nonsense"
            if number == 0:
                async with httpx.AsyncClient(timeout=2, trust_env=False) as client:
                    answer = await client.get(f"{self.http_url}/{PROBE}")
                if answer.status_code != 200:
                    return f"HTTP answered {answer.status_code}"
        return None

    async def _deploy(self) -> None:
        (self._http_port,) = free_ports(1)
        images = {}
        for module in {module for module, _ in ACTORS.values()}:
            images[module] = str(
                await artefacts.upload(self.bus, LATTICE, module, assembled(module))
            )
        manifest = _manifest(images, ledgers=self.ledgers, http_port=self._http_port)
        await self._ask_apps("put", json.dumps(manifest).encode())
        await self._ask_apps("deploy", b"", "faults")
        # The suite calls the ledger itself, and is no part of the app.
        await self.put_link(TESTER, "ledger")

    async def _ask_apps(self, operation: str, body: bytes, app: str | None = None) -> None:
        message = await self.bus.request(
            subjects.app_api(LATTICE, operation, app),
            body,
            deadline=asyncio.get_running_loop().time() + START_TIMEOUT_S,
        )
        answer: dict[str, Any] = json.loads(message.data)
        assert answer["result"] not in {"error", "notfound"}, answer

    async def _proxies(self) -> list[Proxy]:
        return [await self._stack.enter_async_context(Proxy(server.url)) for server in self.servers]

    async def _make_replicated(self) -> None:
        """Make the buckets before any host does, so that they survive the loss of any server."""
        buckets: list[tuple[str, float | None]] = [
            (subjects.state_bucket(LATTICE), None),
            (subjects.config_bucket(LATTICE), None),
            (subjects.app_bucket(LATTICE), None),
            (subjects.reconciler_bucket(LATTICE), None),
            (subjects.lease_bucket(LATTICE), LEASE_S),
        ]
        for name, ttl_s in buckets:
            await self.bus.bucket(name, ttl_s=ttl_s, replicas=3)
        client = await nats.connect(self.urls[0])
        try:
            bucket = subjects.artefact_bucket(LATTICE)
            await client.jetstream().create_object_store(
                bucket, config=nats.js.api.ObjectStoreConfig(bucket=bucket, replicas=3)
            )
        finally:
            await client.close()


@asynccontextmanager
async def open_arena(history: History, *, nats_servers: int) -> AsyncIterator[Arena]:
    """A lattice that has just been started; everything of it is gone afterwards."""
    async with AsyncExitStack() as stack:
        workspace = Path(tempfile.mkdtemp(prefix="lattice-faults-"))
        stack.callback(shutil.rmtree, workspace, ignore_errors=True)
        servers = await start_servers(workspace, count=nats_servers)
        for server in servers:
            stack.push_async_callback(server.aclose)
        arena = Arena(history, workspace, servers, stack)
        await arena.open()
        yield arena


def _manifest(images: Mapping[str, str], *, ledgers: Path, http_port: int) -> dict[str, Any]:
    """The app: the actors and a ledger on every host, an HTTP server on one."""

    def link(target: str, interface: str = "test:target", **source: str) -> dict[str, Any]:
        namespace, _, package = interface.partition(":")
        properties: dict[str, Any] = {
            "namespace": namespace,
            "package": package,
            "interfaces": [],
            "target": {"name": target},
        }
        if source:
            properties["source"] = {"config": [{"name": "web", "properties": source}]}
        return {"type": "link", "properties": properties}

    def everywhere(instances: int) -> dict[str, Any]:
        return {"type": "daemonscaler", "properties": {"instances": instances}}

    components: list[dict[str, Any]] = [
        {
            "name": actor_id,
            "type": "component",
            "properties": {"image": images[module], "id": actor_id},
            "traits": [
                everywhere(count),
                *(link(target) for source, target in LINKS if source == actor_id),
            ],
        }
        for actor_id, (module, count) in ACTORS.items()
    ]
    components += [
        {
            "name": "ledger",
            "type": "capability",
            "properties": {
                "image": "lattice+process://ledger",
                "id": "ledger",
                "config": [{"name": "ledger", "properties": {"directory": str(ledgers)}}],
            },
            "traits": [everywhere(1)],
        },
        {
            "name": "http",
            "type": "capability",
            "properties": {"image": "lattice+builtin://http-server", "id": "http"},
            "traits": [
                {"type": "spreadscaler", "properties": {"instances": 1}},
                link("relay", "wasmcloud:httpserver", address=f"127.0.0.1:{http_port}"),
            ],
        },
    ]
    return {
        "apiVersion": "core.oam.dev/v1beta1",
        "kind": "Application",
        "metadata": {"name": "faults", "annotations": {"version": "v1"}},
        "spec": {"components": components},
    }

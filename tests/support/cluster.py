"""A lattice of real hosts on a real nats-server: in this process, or as processes to be killed.

Hosts in this process share its event loop, so a test can look into them, and their end is checked:
no instance, no task and no child process may be left. Hosts as processes are what a user starts.
"""

import asyncio
import json
import os
import signal
import sys
import tempfile
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import psutil

from host.engine import EngineStatistics
from host.runtime import Host
from host.settings import HostSettings
from host.supervise.guardian import REAPER
from lattice import artefacts, subjects
from lattice.aio import processes
from lattice.aio.tasks import TaskGroup
from lattice.bus import Bus, Message
from lattice.bus.server import NatsServer
from lattice.control.client import ControlClient, Event
from lattice.identity import keys
from lattice.rpc import Rpc, Target
from lattice.wire import control, events
from lattice.wire.invocation import Invocation, Reply
from tests.support.children import arguments
from tests.support.eventually import eventually
from tests.support.nats_server import connected, nats_server
from tests.support.wat import actor as assembled

ROOT = Path(__file__).parents[2]

INSTALLED = Path(__file__).parent / "installed"
"""Holds the entry points of the providers in ``tests.support.providers``, as pip would."""

INSTANCES = 64
"""Instances of a host in this process: each engine reserves address space for all of its own."""

OUTCOME_S = 20.0
"""How long a command may take until the event that tells its outcome."""

TESTER = "tester"
"""Who the test is to those it calls."""


class Located(Protocol):
    """Where something may be started."""

    @property
    def id(self) -> str: ...


@dataclass
class LocalHost:
    """A host in this process."""

    host: Host
    task: asyncio.Task[None]

    @property
    def id(self) -> str:
        return self.host.id

    @property
    def engine(self) -> EngineStatistics:
        return self.host._engine.statistics()

    @property
    def running(self) -> bool:
        return not self.task.done()

    async def stop(self, *, drain_s: float = 5.0) -> None:
        """Have it drain, and wait for its end; what it failed with is raised."""
        self.host.request_stop(drain_s)
        await self.task


@dataclass
class HostProcess:
    """A host in a process of its own."""

    id: str
    process: asyncio.subprocess.Process
    log_file: Path

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    @property
    def children(self) -> list[psutil.Process]:
        """Its provider processes, and what those have started."""
        return without_reaper(psutil.Process(self.process.pid).children(recursive=True))

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def kill(self) -> None:
        self.signal(signal.SIGKILL)
        await self.process.wait()


class Cluster:
    """A lattice and everything in it; the test has a connection of its own."""

    def __init__(
        self, nats: NatsServer, bus: Bus, stack: AsyncExitStack, *, store_dir: Path, data_dir: Path
    ) -> None:
        self.nats = nats
        self._store_dir = store_dir
        self.bus = bus
        self.lattice = "default"
        self.control = ControlClient(bus, self.lattice, timeout_s=10)
        self.rpc = Rpc(bus, self.lattice, at=TESTER)
        self.hosts: list[LocalHost] = []
        self.events: list[Event] = []
        """Every event seen so far, wasmCloud's and our own."""
        self._data_dir = data_dir
        self._stack = stack
        self._tasks = TaskGroup("cluster")

    async def open(self) -> None:
        self._stack.push_async_callback(self._tasks.aclose)
        self._stack.push_async_callback(self.rpc.aclose)
        await self.rpc.hear_cancellations()
        await self.rpc.hear_departures()
        for subject in (subjects.event(self.lattice, ">"), subjects.own_event(self.lattice, ">")):
            await self.bus.subscribe(subject, self._note_event)
        await self.bus.flush()

    async def kill_nats(self) -> None:
        """Take the nats-server away by force; what it stored stays."""
        os.kill(self.nats.pid, signal.SIGKILL)
        await self.nats.wait_stopped()

    async def revive_nats(self) -> None:
        """Start a nats-server in its place: same address, same store."""
        port = urlsplit(self.nats.url).port
        assert port is not None
        self.nats = await self._stack.enter_async_context(
            nats_server(store_dir=self._store_dir, port=port)
        )
        await eventually(lambda: self.bus.is_connected, timeout_s=OUTCOME_S)

    async def start_hosts(self, count: int, **settings: Any) -> list[LocalHost]:
        """Start hosts in this process; they are stopped, and looked over, at the end."""
        return [await self._start_host(settings) for _ in range(count)]

    async def start_process(
        self,
        *options: str,
        seed: str | None = None,
        program: Sequence[str] = ("-m", "host"),
        settings: Mapping[str, str] | None = None,
    ) -> HostProcess:
        """Start one host as a user does; it is killed at the end.

        ``settings`` are environment variables.
        """
        seed = seed or keys.new_host_seed()
        self._data_dir.mkdir(parents=True, exist_ok=True)
        log_file = self._data_dir / f"{uuid.uuid4().hex}.log"
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{ROOT}:{INSTALLED}",
            "LATTICE_HOST_SEED": seed,
            "LATTICE_DATA_DIR": str(self._data_dir),
            "LATTICE_NATS_URL": self.nats.url,
            **(settings or {}),
        }
        with log_file.open("ab") as output:
            process = await processes.spawn(
                sys.executable, *program, *options, output=output, env=environment
            )
        self._stack.push_async_callback(processes.end, process, grace_s=0)
        running = HostProcess(keys.host_id(seed), process, log_file)
        await eventually(
            lambda: "host started" in running.log or process.returncode is not None,
            timeout_s=OUTCOME_S,
        )
        assert process.returncode is None, running.log
        return running

    async def upload(self, name: str, wasm: bytes | None = None) -> str:
        """Put a module into the artefact store: ``tests/actors/{name}.wat`` unless given."""
        content = assembled(name) if wasm is None else wasm
        return str(await artefacts.upload(self.bus, self.lattice, name, content))

    async def start_actor(
        self,
        actor_id: str,
        *,
        on: Located,
        module: str | None = None,
        wasm: bytes | None = None,
        count: int = 10,
        within_s: float = OUTCOME_S,
        **command: Any,
    ) -> Event:
        """Start an actor and wait until it runs; ``module`` names its file if its id does not."""
        event = await self.scale(
            actor_id,
            on=on,
            component_ref=await self.upload(module or actor_id, wasm),
            count=count,
            within_s=within_s,
            **command,
        )
        assert event.name == "component_scaled", event
        return event

    async def scale(
        self, actor_id: str, *, on: Located, within_s: float = OUTCOME_S, **command: Any
    ) -> Event:
        """Send a scale command and wait for its outcome."""
        names = ("component_scaled", "component_scale_failed")
        seen = len(self._matching(names, on, component_id=actor_id))
        request = control.ScaleComponent(component_id=actor_id, host_id=on.id, **command)
        await self.control.scale_component(request)
        return await self._next(names, seen, on, within_s=within_s, component_id=actor_id)

    async def start_provider(
        self,
        provider_id: str,
        reference: str,
        *,
        on: Located,
        config: Sequence[str] = (),
        expected: str = "provider_started",
    ) -> Event:
        """Start a provider and wait for the outcome, which must be ``expected``."""
        names = ("provider_started", "provider_start_failed")
        seen = len(self._matching(names, on, provider_id=provider_id))
        await self.control.start_provider(
            control.StartProvider(
                provider_id=provider_id,
                provider_ref=reference,
                host_id=on.id,
                config=list(config),
            )
        )
        event = await self._next(names, seen, on, provider_id=provider_id)
        assert event.name == expected, event
        return event

    async def link(
        self, source: str, target: str, interface: str = "test:target", **fields: Any
    ) -> None:
        """Put a link and wait until every host in this process has it."""
        namespace, _, package = interface.partition(":")
        link = control.Link(
            source_id=source, target=target, wit_namespace=namespace, wit_package=package, **fields
        )
        await self.control.put_link(link)
        await eventually(
            lambda: all(link in host.host._actors._state.links for host in self._alive())
        )

    async def unlink(self, source: str, interface: str = "test:target", **fields: Any) -> None:
        """Delete a link and wait until no host in this process has it."""
        namespace, _, package = interface.partition(":")
        request = control.DeleteLink(
            source_id=source, wit_namespace=namespace, wit_package=package, **fields
        )
        await self.control.delete_link(request)
        key = (source, request.name, namespace, package)
        await eventually(
            lambda: (
                not any(
                    link.key == key
                    for host in self._alive()
                    for link in host.host._actors._state.links
                )
            )
        )

    async def serve(self, target_id: str, target: Target) -> None:
        """Have the test itself answer calls to ``target_id``."""
        await self.rpc.serve(target_id, target)
        await self.bus.flush()

    async def call(
        self,
        target: str,
        operation: str = "Test.Run",
        payload: bytes = b"",
        *,
        source: str = TESTER,
        interface: str = "test:target",
        timeout_s: float = 20.0,
        **fields: Any,
    ) -> bytes:
        """Call a target over NATS, and give the payload of its answer."""
        reply = await self.rpc.call(
            Invocation(
                source=source,
                target=target,
                interface=interface,
                operation=operation,
                payload=payload,
                deadline=asyncio.get_running_loop().time() + timeout_s,
                **fields,
            )
        )
        return reply.payload

    async def ask(
        self,
        target: str,
        operation: str = "Test.Run",
        payload: bytes = b"",
        *,
        headers: dict[str, str] | None = None,
    ) -> Message:
        """Call an actor through the plain door."""
        return await self.bus.request(
            subjects.door(self.lattice, target, operation),
            payload,
            headers=headers,
            deadline=asyncio.get_running_loop().time() + 20,
        )

    async def request(self, *tokens: str, body: object = b"") -> dict[str, Any]:
        """Send a control request, and give the reply's JSON as it came."""
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        message = await self.bus.request(
            subjects.control(self.lattice, *tokens),
            payload,
            deadline=asyncio.get_running_loop().time() + 10,
        )
        reply: dict[str, Any] = json.loads(message.data)
        return reply

    async def event(self, name: str, *, count: int = 1, **data: Any) -> Event:
        """Wait until an event has been seen ``count`` times, and give that one."""
        return await self._next((name,), count - 1, None, **data)

    def seen(self, name: str, **data: object) -> int:
        """How often an event has been seen."""
        return len(self._matching((name,), None, **data))

    async def _next(
        self,
        names: tuple[str, ...],
        seen: int,
        on: Located | None,
        *,
        within_s: float = OUTCOME_S,
        **data: Any,
    ) -> Event:
        await eventually(lambda: len(self._matching(names, on, **data)) > seen, timeout_s=within_s)
        return self._matching(names, on, **data)[seen]

    def _matching(self, names: tuple[str, ...], on: Located | None, **data: object) -> list[Event]:
        return [
            event
            for event in self.events
            if event.name in names
            and (on is None or event.source == on.id)
            and data.items() <= event.data.items()
        ]

    def _alive(self) -> list[LocalHost]:
        return [host for host in self.hosts if host.running]

    async def _start_host(self, settings: dict[str, Any]) -> LocalHost:
        values: dict[str, Any] = {
            "nats_url": self.nats.url,
            "name": f"host-{len(self.hosts)}",
            "data_dir": self._data_dir,
            "instances_max": INSTANCES,
        }
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}:{INSTALLED}"}
        host = Host(HostSettings(**(values | settings)), provider_environment=environment)
        task = self._tasks.spawn(host.run(), name=f"host {len(self.hosts)}")
        running = LocalHost(host, task)
        self.hosts.append(running)
        self._stack.push_async_callback(self._stop_host, running)
        await eventually(lambda: host.ready.is_set() or task.done())
        assert not task.done(), task.exception()
        return running

    async def _stop_host(self, running: LocalHost) -> None:
        if running.running:
            await eventually(lambda: running.engine.instances == 0)
            running.host.request_stop(1.0)
        await running.task

    async def _note_event(self, message: Message) -> None:
        if (event := events.decode(message.data)) is not None:
            self.events.append(Event(*event))


@asynccontextmanager
async def lattice_cluster(data_dir: Path) -> AsyncIterator[Cluster]:
    """A lattice on a nats-server of its own, taken down and checked for leaks at the end.

    ``data_dir`` holds the hosts' caches; it may be shared by many clusters.
    """
    before = _children()
    async with AsyncExitStack() as stack:
        store_dir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nats-store-")))
        sys.path.append(str(INSTALLED))
        stack.callback(sys.path.remove, str(INSTALLED))
        nats = await stack.enter_async_context(nats_server(store_dir=store_dir))
        bus = await stack.enter_async_context(connected(nats))
        cluster = Cluster(nats, bus, stack, store_dir=store_dir, data_dir=data_dir)
        await cluster.open()
        yield cluster
    left = _children() - before
    assert not left, f"child processes left over: {left}"


class Gate:
    """A target that holds every call until the test opens it, then echoes the payload."""

    def __init__(self) -> None:
        self.waiting = 0
        self.calls: Counter[str] = Counter()
        """Calls by source."""
        self.invocations: list[Invocation] = []
        self.left_s: list[float] = []
        """How much time each of them had left when it arrived."""
        self.answer: bytes | None = None
        """What it answers instead of the payload."""
        self._open = asyncio.Event()

    def open(self) -> None:
        self._open.set()

    def close(self) -> None:
        self._open.clear()

    async def accept(self, invocation: Invocation) -> Reply:
        self.waiting += 1
        self.calls[invocation.source] += 1
        self.invocations.append(invocation)
        self.left_s.append(invocation.deadline - asyncio.get_running_loop().time())
        try:
            async with asyncio.timeout_at(invocation.deadline):
                await self._open.wait()
        finally:
            self.waiting -= 1
        return Reply(invocation.payload if self.answer is None else self.answer)


def without_reaper(children: Iterable[psutil.Process]) -> list[psutil.Process]:
    """A host's children but the one that ends the others when it dies."""
    return [child for child in children if str(REAPER) not in arguments(child)]


def _children() -> set[int]:
    return {child.pid for child in psutil.Process().children(recursive=True)}

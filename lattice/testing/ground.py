"""What every test's lattice stands on: a nats-server, a host in this process, a way to call."""

import asyncio
import socket
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from host.runtime import Host
from host.settings import HostSettings
from lattice import artefacts, errors, limits, names, subjects
from lattice.aio.tasks import TaskGroup
from lattice.bus import Bus, NatsSettings
from lattice.bus.server import NatsServer
from lattice.control.client import ControlClient, Event
from lattice.rpc import Rpc, Target
from lattice.wire import control, logs
from lattice.wire.control import ScaleComponent, StartProvider, UpdateComponent
from lattice.wire.invocation import Invocation, Reply
from lattice.wire.logs import Line

TESTER = "test"
"""Who a test is to those that it calls."""

LOOPBACK = "127.0.0.1"

INSTANCES_MAX = 256
"""Instances of a test's host: an engine reserves address space for all of its own."""

OUTCOME_S = limits.COMPILE_TIMEOUT_S + 10.0
"""How long a start may take: the host compiles first."""

DRAIN_S = 1.0
"""How long calls that still run at the end of a test may take."""

LOG_LINES_MAX = 10_000
"""Lines of an actor that a test gets, of those that its host has kept."""

LISTENING_ATTEMPTS = 200
LISTENING_PAUSE_S = 0.02
"""How often, and how far apart, to look whether a web server listens."""


class Ground:
    """A lattice with nothing in it but one host. Everything on it belongs to one event loop."""

    def __init__(self) -> None:
        self.nats_url = ""
        self.bus: Bus
        self._host: Host
        self._rpc: Rpc
        self._control: ControlClient
        self._lattice = names.DEFAULT_LATTICE

    async def open(self, stack: AsyncExitStack, data_dir: Path) -> None:
        """Start it; the stack takes it down. ``data_dir``: for what hosts compile, to be shared.

        Raises:
            NotFound: no nats-server is installed.
            Unavailable: it did not start.
        """
        server = await NatsServer.start()
        stack.push_async_callback(server.aclose)
        self.nats_url = server.url
        settings = HostSettings(
            nats_url=server.url,
            lattice=self._lattice,
            name="test",
            data_dir=data_dir,
            instances_max=INSTANCES_MAX,
            reconcile=False,
        )
        self._host = Host(settings, provider_environment={})
        tasks = TaskGroup("lattice of a test")
        stack.push_async_callback(tasks.aclose)
        running = tasks.spawn(self._host.run(), name="host")
        stack.push_async_callback(self._end_host, running)
        ready = tasks.spawn(_wait(self._host.ready), name="wait for the host")
        await asyncio.wait((ready, running), return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            await running
        self.bus = await Bus.connect(NatsSettings(servers=(server.url,)), name="test")
        stack.push_async_callback(self.bus.aclose)
        self._control = ControlClient(self.bus, self._lattice)
        self._rpc = Rpc(self.bus, self._lattice, at=TESTER)
        stack.push_async_callback(self._rpc.aclose)
        await self._rpc.hear_cancellations()
        await self._rpc.hear_departures()

    async def serve(self, target_id: str, target: Target) -> None:
        """Have the test itself answer calls to ``target_id``."""
        await self._rpc.serve(target_id, target)
        await self.bus.flush()

    async def call(self, invocation: Invocation) -> Reply:
        return await self._rpc.call(invocation)

    async def upload(self, name: str, content: bytes) -> str:
        """Put a module into the lattice's store, and give its reference."""
        return str(await artefacts.upload(self.bus, self._lattice, name, content))

    async def put_config(self, name: str, values: Mapping[str, str]) -> None:
        await self._control.put_config(name, dict(values))

    async def scale(self, actor_id: str, *, reference: str = "", count: int, config: str) -> None:
        """Start, resize or, with a ``count`` of 0, stop an actor.

        Raises:
            LatticeError: the host could not.
        """
        command = ScaleComponent(
            component_id=actor_id,
            component_ref=reference,
            count=count,
            host_id=self._host.id,
            config=[config],
        )
        async with self._control.events("component_scaled", "component_scale_failed") as stream:
            await self._control.scale_component(command)
            event = await stream.wait_for(
                lambda event: event.data.get("component_id") == actor_id, timeout_s=OUTCOME_S
            )
        _raise_failure(event, actor_id)

    async def update(self, actor_id: str, reference: str) -> None:
        """Give an actor that runs another module.

        Raises:
            LatticeError: the host could not, and the old one serves on.
        """
        command = UpdateComponent(
            component_id=actor_id, host_id=self._host.id, new_component_ref=reference
        )
        async with self._control.events("component_scaled", "component_scale_failed") as stream:
            await self._control.update_component(command)
            event = await stream.wait_for(
                lambda event: (
                    (event.data.get("component_id"), event.data.get("image_ref"))
                    == (actor_id, reference)
                ),
                timeout_s=OUTCOME_S,
            )
        _raise_failure(event, actor_id)

    async def start_provider(
        self, provider_id: str, reference: str, config: Mapping[str, str]
    ) -> None:
        """Start a provider with a config of its own.

        Raises:
            LatticeError: it could not be started.
        """
        await self.put_config(provider_id, config)
        command = StartProvider(
            provider_id=provider_id,
            provider_ref=reference,
            host_id=self._host.id,
            config=[provider_id],
        )
        async with self._control.events("provider_started", "provider_start_failed") as stream:
            await self._control.start_provider(command)
            event = await stream.wait_for(
                lambda event: event.data.get("provider_id") == provider_id, timeout_s=OUTCOME_S
            )
        _raise_failure(event, provider_id)

    async def put_link(
        self,
        source: str,
        interface: str,
        target: str,
        *,
        name: str = "default",
        interfaces: Sequence[str] = (),
        source_config: Mapping[str, str] | None = None,
        target_config: Mapping[str, str] | None = None,
    ) -> None:
        """Put a link with configs of its own.

        ``interfaces``: those of a package; all of them if there is none, and none in ``interface``.
        """
        parsed = names.parse_interface(interface)
        base = f"{source}-{parsed.namespace}-{parsed.package}-{name}"
        configs = {f"{base}-source": source_config, f"{base}-target": target_config}
        for config_name, values in configs.items():
            if values:
                await self.put_config(config_name, values)
        await self._control.put_link(
            control.Link(
                source_id=source,
                target=target,
                name=name,
                wit_namespace=parsed.namespace,
                wit_package=parsed.package,
                interfaces=[*interfaces] or ([parsed.name] if parsed.name else []),
                source_config=[f"{base}-source"] if source_config else [],
                target_config=[f"{base}-target"] if target_config else [],
            )
        )

    async def delete_link(self, source: str, interface: str, *, name: str = "default") -> None:
        """Delete a link, if there is one."""
        parsed = names.parse_interface(interface)
        await self._control.delete_link(
            control.DeleteLink(
                source_id=source,
                name=name,
                wit_namespace=parsed.namespace,
                wit_package=parsed.package,
            )
        )

    async def lines_of(self, actor_id: str) -> list[Line]:
        """What an actor wrote, and its host about it."""
        # Asked of the one host there is: what was written before a call's answer is among it.
        message = await self.bus.request(
            subjects.logs_recent(self._lattice),
            logs.encode(logs.RecentRequest(ids=[actor_id], lines=LOG_LINES_MAX)),
            deadline=now_s() + limits.CONTROL_TIMEOUT_S,
        )
        return logs.decode_lines(message.data).lines

    async def _end_host(self, running: asyncio.Task[None]) -> None:
        self._host.request_stop(DRAIN_S)
        await running


def now_s() -> float:
    """The clock of deadlines."""
    return asyncio.get_running_loop().time()


def free_address() -> str:
    """An address of this machine that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        return f"{LOOPBACK}:{listener.getsockname()[1]}"


async def wait_listening(address: str) -> None:
    """Return when somebody takes connections at an address.

    Raises:
        Unavailable: nobody does.
    """
    host, _, port = address.rpartition(":")
    for _ in range(LISTENING_ATTEMPTS):
        try:
            _, writer = await asyncio.open_connection(host, int(port))
        except OSError:
            await asyncio.sleep(LISTENING_PAUSE_S)
            continue
        writer.close()
        await writer.wait_closed()
        return
    raise errors.Unavailable(f"nobody listens on {address}")


async def _wait(event: asyncio.Event) -> None:
    await event.wait()


def _raise_failure(event: Event | None, what: str) -> None:
    """Raise what an event of failure says, or that none came at all."""
    if event is None:
        raise errors.DeadlineExceeded(f"no news of {what} within {OUTCOME_S:.0f} s")
    text, code = event.data.get("error"), event.data.get("code")
    if isinstance(text, str):
        cls = errors.BY_CODE.get(code) if isinstance(code, str) else None
        raise (cls or errors.InternalError).from_parts(text)

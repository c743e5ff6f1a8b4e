"""A host: everything above put together, in the order it starts and, backwards, stops.

Three connections to NATS, so that one that is blocked or gone does not blind the others: calls,
control and state, heartbeats.
"""

import asyncio
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial

import structlog

import lattice
from host.actors.registry import Actors
from host.actors.slots import Slots
from host.actors.throttle import ThrottlePolicy
from host.artefacts.fetch import Fetcher
from host.artefacts.shelf import Shelf
from host.control.foreign import ForeignProviders
from host.control.handlers import Handlers
from host.control.server import ControlServer
from host.diagnostics import Diagnostics
from host.engine import CallLimits, Engine, EngineSettings
from host.events import Events
from host.figures import FiguresServer, resident_bytes
from host.heartbeat import Heartbeat
from host.labels import Labels
from host.logs import Logs
from host.memory import machine_bytes
from host.settings import HostSettings
from host.supervise.providers import Providers, Surroundings
from host.supervise.restarts import RestartPolicy
from host.trust import Trust
from lattice import limits
from lattice.aio.stalls import StallWatch
from lattice.aio.tasks import TaskGroup
from lattice.bus import OUTGOING_BYTES_MAX, Bus
from lattice.identity import keys
from lattice.reconcile.reconciler import Reconciler
from lattice.rpc import Rpc
from lattice.state.links import Difference
from lattice.state.store import State
from lattice.wire import control
from lattice.wire.diagnostics import BoundDiagnostics
from lattice.wire.figures import HostFigures

log = structlog.get_logger()


DESCRIBED_AT_ONCE = 50
"""Actors of an inventory, before other tasks get their turn: about a millisecond of work."""


class Host:
    """One host of a lattice. ``run`` it; ask it to stop with ``request_stop``."""

    def __init__(self, settings: HostSettings, *, provider_environment: Mapping[str, str]) -> None:
        """``provider_environment``: what provider processes may see of the host's environment.

        Raises:
            InvalidRequest: the host's seed is not one.
        """
        self._settings = settings
        self._provider_environment = provider_environment
        self.id = keys.host_id(settings.host_seed or keys.new_host_seed())
        self.labels = Labels(settings.labels)
        self._started = time.monotonic()
        self._stop_requested = asyncio.Event()
        self._drain_s = limits.DRAIN_TIMEOUT_S
        self.ready = asyncio.Event()
        """Set once the host answers control requests."""
        self._answers = False
        """Whether control requests are heard, so that providers may be running."""
        self._reconciler: Reconciler | None = None
        self._connections: dict[str, Bus]
        self._engine: Engine
        self._slots: Slots
        self._rpc: Rpc
        self._actors: Actors
        self._providers: Providers

    @property
    def draining(self) -> bool:
        """Whether it was asked to stop, and takes on nothing new."""
        return self._stop_requested.is_set()

    @property
    def load(self) -> float:
        """Share of its instances that run, 0 to 1."""
        figures = self._engine.statistics()
        return figures.instances / figures.instances_max

    def request_stop(self, drain_s: float | None = None) -> None:
        """Have the host drain, for ``drain_s`` at the most, and ``run`` return."""
        if drain_s is not None:
            self._drain_s = drain_s
        self._stop_requested.set()

    async def run(self) -> None:
        """Join the lattice, work until asked to stop, drain, and leave nothing behind.

        Raises:
            Unavailable, Denied: NATS can't be reached, or JetStream is off.
            InternalError: the engine could not be made on this machine.
        """
        settings = self._settings
        async with AsyncExitStack() as stack:
            stalls = StallWatch.start()
            stack.callback(stalls.close)
            connections = self._connections = {
                purpose: await self._connect(stack, purpose)
                for purpose in ("calls", "control", "beats")
            }
            calls, control_bus, beats = connections.values()
            tasks = TaskGroup("host")
            stack.push_async_callback(tasks.aclose)
            self._engine = self._make_engine()
            stack.callback(self._engine.close)
            self._slots = self._make_slots()
            self._rpc = rpc = Rpc(calls, settings.lattice, at=self.id)
            stack.push_async_callback(rpc.aclose)
            await rpc.hear_cancellations()
            await rpc.hear_departures()
            state = await State.open(control_bus, settings.lattice, self, tasks)
            events = Events(control_bus, settings.lattice, self.id)
            registries = settings.registries
            fetcher = Fetcher(
                control_bus,
                settings.lattice,
                allow_file_load=settings.allow_file_load,
                registries=registries,
                shelf=Shelf(
                    settings.data_dir / "artefacts",
                    bytes_max=settings.artefact_cache_bytes,
                ),
            )
            stack.push_async_callback(fetcher.aclose)
            judge = Trust(frozenset(settings.trusted_issuers))
            logs = Logs(control_bus, settings.lattice, self.id, settings.name)
            await logs.open()
            tasks.guard(logs.run, name="log lines")
            self._actors = Actors(
                host_id=self.id,
                engine=self._engine,
                rpc=rpc,
                state=state,
                events=events,
                fetcher=fetcher,
                judge=judge,
                logs=logs,
                tasks=tasks,
                slots=self._slots,
                call_limits=self._call_limits(),
                throttle=ThrottlePolicy(
                    traps=settings.throttle_traps,
                    pause_s=min(limits.THROTTLE_S, settings.throttle_s_max),
                    pause_s_max=settings.throttle_s_max,
                ),
                preopen=settings.preopens,
                mailbox_calls=settings.mailbox_calls,
            )
            self._providers = Providers(
                Surroundings(
                    host_id=self.id,
                    lattice=settings.lattice,
                    bus=calls,
                    rpc=rpc,
                    state=state,
                    events=events,
                    fetcher=fetcher,
                    judge=judge,
                    environment=self._provider_environment,
                    log_level=settings.log_level,
                    structured_logging=settings.log_format == "json",
                    restarts=RestartPolicy(
                        restarts_max=settings.provider_restarts_max,
                        window_s=settings.provider_restart_window_s,
                    ),
                )
            )
            stack.push_async_callback(self._providers.aclose)
            handlers = Handlers(
                host_id=self.id,
                facts=self,
                actors=self._actors,
                providers=self._providers,
                state=state,
                events=events,
                foreign=ForeignProviders(calls, settings.lattice, state),
                registries=registries,
                tasks=tasks,
                stop_host=self.request_stop,
            )
            server = ControlServer(
                control_bus,
                settings.lattice,
                self.id,
                handlers.table(),
                prefix=settings.ctl_topic_prefix,
                auctions=settings.auctions,
            )
            await FiguresServer(
                control_bus,
                settings.lattice,
                self.id,
                host=self._host_figures,
                actors=self._actors,
            ).open()
            diagnostics = Diagnostics(
                connections,
                settings.lattice,
                self.id,
                settings.name,
                events=events,
                stalls=stalls,
                bounds=self._bounds,
                uptime_s=self._uptime_s,
            )
            await diagnostics.open()
            tasks.guard(diagnostics.run, name="diagnostics")
            self._answers = True
            await server.open()
            stack.push_async_callback(server.aclose)
            self._start_heartbeat(beats, tasks)
            if settings.reconcile:
                self._reconciler = await self._open_reconciler(control_bus, state, stack)
            await self._announce(events)
            await self._stop_requested.wait()
            if self._reconciler is not None:
                # Whoever leads next moves what runs here while it still runs.
                await self._reconciler.aclose()
            try:
                await self._drain(events)
            finally:
                await events.publish("host_stopped", labels=self.labels.all())
            log.info("host stopped", host=self.id)

    def describe(self) -> control.Host:
        uptime_s = self._uptime_s()
        url = self._settings.nats.public_url
        return control.Host(
            id=self.id,
            friendly_name=self._settings.name,
            labels=self.labels.all(),
            lattice=self._settings.lattice,
            uptime_seconds=uptime_s,
            uptime_human=control.uptime_human(uptime_s),
            version=lattice.__version__,
            rpc_host=url,
            ctl_host=url,
        )

    async def inventory(
        self, *, after: str = "", bytes_max: int | None = None
    ) -> control.InventoryPart:
        """Describe what runs: the actors behind that id, and with the first the providers.

        Other tasks get their turns meanwhile; what starts or stops then may be in it or not.
        """
        uptime_s = self._uptime_s()
        rest = control.HostInventory(
            providers=[] if after else self._providers.describe(),
            host_id=self.id,
            friendly_name=self._settings.name,
            labels=self.labels.all(),
            version=lattice.__version__,
            uptime_human=control.uptime_human(uptime_s),
            uptime_seconds=uptime_s,
        )
        writer = control.InventoryWriter(rest, bytes_max=bytes_max)
        wanted = self._actors.ids(after=after)
        gone = 0
        for number, actor_id in enumerate(wanted, 1):
            if (component := self._actors.describe(actor_id)) is None:
                gone += 1
            elif not writer.add(component):
                break
            if number % DESCRIBED_AT_ONCE == 0:
                await asyncio.sleep(0)
        return writer.finish(of=len(wanted) - gone)

    def links_changed(self, difference: Difference) -> None:
        """Pass on what the state's mirror saw; actors look links up at every call."""
        if self._reconciler is not None:
            self._reconciler.state_changed()
        if self._answers:
            self._providers.links_changed(difference)

    def configs_changed(self, config_names: frozenset[str]) -> None:
        if self._reconciler is not None:
            self._reconciler.state_changed()
        if self._answers:
            self._actors.configs_changed(config_names)
            self._providers.configs_changed()

    async def _connect(self, stack: AsyncExitStack, purpose: str) -> Bus:
        bus = await Bus.connect(self._settings.nats, name=f"host {self._settings.name} {purpose}")
        stack.push_async_callback(bus.aclose)
        return bus

    async def _open_reconciler(self, bus: Bus, state: State, stack: AsyncExitStack) -> Reconciler:
        reconciler = Reconciler(
            bus,
            self._settings.lattice,
            state,
            source=self.id,
            name=self._settings.name,
            prefix=self._settings.ctl_topic_prefix,
        )
        stack.push_async_callback(reconciler.aclose)
        await reconciler.open()
        return reconciler

    def _make_engine(self) -> Engine:
        settings = self._settings
        return Engine(
            EngineSettings(
                instances_max=settings.instances_max,
                memory_bytes_max=settings.memory_bytes,
                cache_dir=settings.data_dir / "modules",
                code_bytes_max=settings.code_bytes,
                reuse_bytes_max=min(limits.REUSE_IDLE_BYTES, self._guest_bytes_max // 8),
                fuel=settings.fuel,
            )
        )

    def _make_slots(self) -> Slots:
        engine = self._engine
        return Slots(engine.instances_max, memory=engine, bytes_max=self._guest_bytes_max)

    @property
    def _guest_bytes_max(self) -> int:
        if (asked := self._settings.guest_memory_bytes) is not None:
            return asked
        return int(machine_bytes() * limits.GUEST_MEMORY_SHARE)

    def _call_limits(self) -> CallLimits:
        return CallLimits(
            memory_bytes=self._settings.memory_bytes,
            cpu_time_s=self._settings.cpu_time_s,
            response_bytes=limits.PAYLOAD_BYTES_MAX,
        )

    def _start_heartbeat(self, bus: Bus, tasks: TaskGroup) -> None:
        heartbeat = Heartbeat(
            bus,
            self._settings.lattice,
            self.id,
            inventory=partial(self.inventory, bytes_max=limits.INVENTORY_BYTES),
            figures=self._vital_figures,
            interval_s=self._settings.heartbeat_s,
        )
        tasks.guard(heartbeat.run_heartbeat, name="heartbeat")
        tasks.guard(heartbeat.run_beat, name="beat")

    def _vital_figures(self) -> dict[str, float | bool]:
        """What a beat says."""
        now = self._host_figures()
        return {
            "uptime": now.uptime_s,
            "load": now.load,
            "running": now.running,
            "waiting": now.waiting,
            "draining": now.draining,
            "memory": now.memory_bytes,
        }

    def _host_figures(self) -> HostFigures:
        statistics, slots, retries = self._engine.statistics(), self._slots, self._rpc.retries
        return HostFigures(
            id=self.id,
            name=self._settings.name,
            uptime_s=self._uptime_s(),
            load=self.load,
            running=statistics.instances,
            waiting=self._actors.waiting,
            instances_max=statistics.instances_max,
            memory_bytes=resident_bytes(),
            draining=self.draining,
            guest_memory_bytes=slots.held_bytes,
            guest_memory_bytes_max=slots.bytes_max,
            retried=retries.spent,
            retries_refused=retries.refused,
            modules_loaded=statistics.modules_loaded,
            code_bytes=statistics.code_bytes,
            code_bytes_max=statistics.code_bytes_max,
            evictions=statistics.evicted,
            reloads=statistics.reloaded,
        )

    def _bounds(self) -> list[BoundDiagnostics]:
        """What is bounded on this host as a whole, or at its fullest actor."""
        engine = self._engine.statistics()
        waiting = [actor.statistics().waiting for actor, _ in self._actors.counted()]
        connections = [bus.statistics() for bus in self._connections.values()]
        pending = max(one.pending for one in connections)
        outgoing = max(one.outgoing_bytes for one in connections)
        values = (
            ("running instances", engine.instances, engine.instances_max),
            ("idle instances", engine.idle, limits.REUSE_IDLE_MAX),
            ("modules with code", engine.modules_loaded, engine.modules_loaded_max),
            ("bytes of compiled code", engine.code_bytes, engine.code_bytes_max),
            ("calls in the fullest mailbox", max(waiting, default=0), self._settings.mailbox_calls),
            ("requests of one connection", pending, limits.CALLS_PENDING_MAX),
            ("outgoing bytes of one connection", outgoing, OUTGOING_BYTES_MAX),
        )
        return [BoundDiagnostics(name=name, value=value, most=most) for name, value, most in values]

    async def _announce(self, events: Events) -> None:
        self.ready.set()
        log.info(
            "host started", host=self.id, name=self._settings.name, lattice=self._settings.lattice
        )
        await events.publish(
            "host_started",
            friendly_name=self._settings.name,
            labels=self.labels.all(),
            uptime_seconds=0,
            version=lattice.__version__,
        )

    async def _drain(self, events: Events) -> None:
        log.info("host draining", host=self.id, drain_s=self._drain_s)
        await events.publish_own("host_draining", host_id=self.id)
        clock = asyncio.get_running_loop().time
        end = clock() + self._drain_s
        # Those who bring calls in first, then who serves them, last what they lean on. Other hosts'
        # calls go elsewhere from the beginning, so that each has all the time there is.
        await asyncio.gather(
            self._providers.stop_sources(drain_s=self._drain_s), self._actors.leave()
        )
        await self._actors.stop_all(drain_s=max(0.0, end - clock()))
        await self._providers.stop_all(drain_s=max(0.0, end - clock()))

    def _uptime_s(self) -> int:
        return int(time.monotonic() - self._started)

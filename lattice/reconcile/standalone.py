"""A reconciler without a host, in a process of its own."""

import asyncio
from contextlib import AsyncExitStack

import structlog

from lattice import subjects
from lattice.aio.tasks import TaskGroup
from lattice.bus import Bus, NatsSettings
from lattice.reconcile.reconciler import Reconciler
from lattice.state.links import Difference
from lattice.state.store import State

log = structlog.get_logger()


class Standalone:
    """One reconciler. ``run`` it; ask it to stop with ``request_stop``."""

    def __init__(
        self,
        nats: NatsSettings,
        lattice: str,
        *,
        name: str,
        prefix: str = subjects.CONTROL_PREFIX,
    ) -> None:
        """``prefix``: of the hosts' control subjects."""
        self._nats = nats
        self._lattice = lattice
        self._name = name
        self._prefix = prefix
        self._reconciler: Reconciler | None = None
        self._stop_requested = asyncio.Event()

    def request_stop(self) -> None:
        """Have it resign, and ``run`` return."""
        self._stop_requested.set()

    async def run(self) -> None:
        """Take part until asked to stop.

        Raises:
            Unavailable, Denied: NATS can't be reached, or JetStream is off.
        """
        async with AsyncExitStack() as stack:
            bus = await Bus.connect(self._nats, name=f"reconciler {self._name}")
            stack.push_async_callback(bus.aclose)
            tasks = TaskGroup("reconciler alone")
            stack.push_async_callback(tasks.aclose)
            state = await State.open(bus, self._lattice, self, tasks)
            self._reconciler = Reconciler(
                bus,
                self._lattice,
                state,
                source=self._name,
                name=self._name,
                prefix=self._prefix,
            )
            stack.push_async_callback(self._reconciler.aclose)
            await self._reconciler.open()
            log.info("reconciler started", name=self._name, lattice=self._lattice)
            await self._stop_requested.wait()
        log.info("reconciler stopped", name=self._name)

    def links_changed(self, _difference: Difference) -> None:
        """Pass on what the state's mirror saw."""
        if self._reconciler is not None:
            self._reconciler.state_changed()

    def configs_changed(self, _config_names: frozenset[str]) -> None:
        if self._reconciler is not None:
            self._reconciler.state_changed()

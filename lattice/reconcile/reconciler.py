"""A reconciler: it answers for apps, and leads when it is its turn.

There is one in every host unless it is told otherwise, and they may run alone. All of them answer;
the one that leads decides and acts.
"""

import asyncio
from contextlib import suppress

import structlog

from lattice import errors, subjects
from lattice.aio import tasks
from lattice.aio.tasks import TaskGroup
from lattice.bus import Bus
from lattice.control.client import ControlClient
from lattice.reconcile.leader import Leader, Term
from lattice.reconcile.server import AppServer
from lattice.reconcile.session import STEP_TIMEOUT_S, Session
from lattice.reconcile.store import Apps
from lattice.state.store import State
from lattice.wire.reconciler import Leading

log = structlog.get_logger()

READY_S = 3.0
"""How long ``open`` waits to know whether to answer; it is known later when NATS is slow."""

RETRY_S = 1.0
"""Pause before a leader that failed tries again."""


class Reconciler:
    """Keeps the apps of one lattice as they shall be. ``open`` it, ``aclose`` it."""

    def __init__(
        self,
        bus: Bus,
        lattice: str,
        state: State,
        *,
        source: str,
        name: str,
        prefix: str = subjects.CONTROL_PREFIX,
    ) -> None:
        """``source``: id of the host, or what else events are from; ``name``: for people.

        ``prefix``: of the control subjects. ``state_changed`` has to be called when the state does.
        """
        self._bus = bus
        self._lattice = lattice
        self._state = state
        self._source = source
        self._name = name
        self._control = ControlClient(bus, lattice, timeout_s=STEP_TIMEOUT_S, prefix=prefix)
        self._apps: Apps
        self._server: AppServer | None = None
        self._tasks = TaskGroup("reconciler")
        self._session: Session | None = None
        self._leading: asyncio.Task[None] | None = None
        self._told = asyncio.Event()
        self._settled = asyncio.Event()
        self._closing = False
        self._leader = Leader(
            bus, lattice, name=name, won=self._won, lost=self._lost, heard=self._heard
        )

    async def open(self) -> None:
        """Take part; returns when it answers, unless another wadm does or NATS is slow.

        Raises:
            Unavailable: JetStream is off, or does not answer.
        """
        self._apps = await Apps.open(self._bus, self._lattice, self._apps_changed, self._tasks)
        server = AppServer(self._bus, self._lattice, self._apps, name=self._name)
        self._server = server
        self._tasks.guard(lambda: self._serve_or_not(server), name="serve apps, or step back")
        self._bus.on_reconnect(self._resync)
        await self._leader.open()
        with suppress(TimeoutError):
            async with asyncio.timeout(READY_S):
                await self._settled.wait()

    async def aclose(self) -> None:
        """Stop acting, resign, and answer no more, in this order. Safe to call twice."""
        self._closing = True
        if self._leading is not None:
            await tasks.end(self._leading)
        await self._leader.aclose()
        await self._tasks.aclose()
        if self._server is not None:
            await self._server.aclose()

    @property
    def leads(self) -> bool:
        return self._leader.term is not None

    def state_changed(self) -> None:
        """Links or configs are not what they were."""
        if self._session is not None:
            self._session.state_changed()

    def _apps_changed(self) -> None:
        if self._session is not None:
            self._session.wake()

    def _resync(self) -> None:
        if self._session is not None:
            self._session.resync()

    def _won(self, term: Term) -> None:
        if not self._closing and self._server is not None:
            work = self._lead(term, self._server, self._leading)
            self._leading = self._tasks.spawn(work, name="lead")

    def _lost(self) -> None:
        if self._leading is not None:
            self._leading.cancel()

    def _heard(self, _word: Leading) -> None:
        self._told.set()

    async def _lead(self, term: Term, server: AppServer, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await tasks.end(before)
        while self._leader.term is term:
            self._session = Session(
                self._bus,
                self._lattice,
                term,
                source=self._source,
                leader=self._leader,
                state=self._state,
                apps=self._apps,
                server=server,
                control=self._control,
            )
            try:
                await self._session.run()
            except errors.Conflict as error:
                log.warning("this reconciler leads no more", error=error.text)
                # Not from in here: losing the term cancels this very task.
                self._tasks.spawn(self._leader.resign(), name="resign")
                return
            except errors.LatticeError as error:
                log.warning("leading failed, trying again", error=error.text)
            except Exception as error:
                log.error("leading failed by a bug", exc_info=error)
            finally:
                self._session = None
            await asyncio.sleep(RETRY_S)

    async def _serve_or_not(self, server: AppServer) -> None:
        while True:
            await self._told.wait()
            self._told.clear()
            if self._leader.stepped_back:
                await server.aclose()
            else:
                await server.open()
                self._settled.set()

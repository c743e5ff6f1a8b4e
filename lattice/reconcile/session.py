"""One term of leading: look, decide, remember, act, and tell how far it is.

The order is what keeps two leaders from doing one thing twice: nothing is done before the memory of
it is stored, and it can only be stored by the leader of the latest term.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import assert_never

import structlog

from lattice import errors, limits, subjects
from lattice.aio.tasks import TaskGroup
from lattice.bus import Bus
from lattice.control.client import ControlClient
from lattice.reconcile import plans
from lattice.reconcile.apps import resolve
from lattice.reconcile.leader import Leader, Term
from lattice.reconcile.model import (
    App,
    AppRecord,
    AppStatus,
    DeleteConfig,
    DeleteLink,
    Memory,
    PutConfig,
    PutLink,
    ScaleComponent,
    StartProvider,
    Step,
    StopProvider,
)
from lattice.reconcile.observer import Observer
from lattice.reconcile.planning import decide, failed, preview
from lattice.reconcile.server import AppServer, somebody_else_serves
from lattice.reconcile.store import Apps, MemoryStore, StoredStatus
from lattice.state.store import State
from lattice.wire import apps as wire
from lattice.wire import events

log = structlog.get_logger()

STEPS_AT_ONCE = 16
"""Commands under way at a time, over all hosts."""

STEP_TIMEOUT_S = 5.0
"""How long a host may take to acknowledge a command; what it does then shows in its inventory."""

LOOK_AGAIN_S = 10.0
"""A decision is made at least so often, should something have been missed."""

HOLD_S = 0.25
"""How long a leader that may not act waits until it looks whether it may."""

SETTLE_S = 0.02
"""After a change further ones are waited for so long: an event seldom comes alone."""

PROBE_S = 3.0
"""Between looks at whether a real wadm serves this lattice as well."""

PROBE_TIMEOUT_S = 1.0
"""How long it may take to answer."""

CLEAR_LOOKS = 2
"""Looks without another wadm after which we serve again: one answer may be lost."""

OnHost = ScaleComponent | StartProvider | StopProvider
"""Commands to one host."""


class Session:
    """What a leader does until its term is over. ``run`` it; cancelling it is its usual end."""

    def __init__(
        self,
        bus: Bus,
        lattice: str,
        term: Term,
        *,
        source: str,
        leader: Leader,
        state: State,
        apps: Apps,
        server: AppServer,
        control: ControlClient,
    ) -> None:
        """``source``: id of the host, or what else our events are from."""
        self._bus = bus
        self._lattice = lattice
        self._term = term
        self._source = source
        self._leader = leader
        self._apps = apps
        self._server = server
        self._control = control
        self._memory: MemoryStore
        self._failures: dict[str, str] = {}
        self._told: dict[str, StoredStatus] = {}
        self._wake = asyncio.Event()
        self._room = asyncio.Semaphore(STEPS_AT_ONCE)
        self._tasks = TaskGroup("leading")
        self._took_s = 0.0
        """How long deciding took the last time."""
        self._looked = False
        self._clear_looks = 0
        self._resolved: dict[str, tuple[AppRecord, App]] = {}
        self._observer = Observer(
            bus, lattice, control, state, changed=self.wake, failed=self._note_failure
        )

    def wake(self) -> None:
        """Something changed: decide anew."""
        self._wake.set()

    def state_changed(self) -> None:
        """Links or configs are not what they were."""
        self._observer.state_changed()
        self.wake()

    def resync(self) -> None:
        """Something may have been missed."""
        self._observer.refresh_all()

    async def run(self) -> None:
        """Lead for ever.

        Raises:
            Conflict: this term is over, another leader's has begun.
            Unavailable: NATS is away; leading may be tried again.
        """
        plans_subscription = None
        try:
            self._memory = await MemoryStore.claim(self._bus, self._lattice, self._term.epoch)
            await self._observer.open(self._memory.hosts)
            if self._leader.stepped_back:
                await self._look_who_serves()
            self._tasks.guard(self._watch_who_serves, name="look who else serves apps")
            plans_subscription = await self._server.serve_plans(self._plan)
            await self._decide_for_ever()
        finally:
            await self._tasks.aclose()
            if plans_subscription is not None:
                await plans_subscription.unsubscribe()
            await self._observer.aclose()

    async def _decide_for_ever(self) -> None:
        while True:
            self._wake.clear()
            look_again_at = time.time() + LOOK_AGAIN_S
            if not self._may_act:
                look_again_at = time.time() + HOLD_S
            else:
                try:
                    wake_at = await self._decide()
                except (errors.Unavailable, errors.PayloadTooLarge) as error:
                    log.warning("nothing can be decided now", error=error.text)
                else:
                    look_again_at = min(look_again_at, wake_at or look_again_at)
            # So that deciding takes a fifth of the time at the most.
            await asyncio.sleep(min(max(SETTLE_S, 4 * self._took_s), LOOK_AGAIN_S))
            with suppress(TimeoutError):
                async with asyncio.timeout(max(look_again_at - time.time(), 0)):
                    await self._wake.wait()

    @property
    def _may_act(self) -> bool:
        return self._term.is_valid and not self._leader.stepped_back

    async def _decide(self) -> float | None:
        """Decide once and begin what follows from it; returns when to decide again."""
        now = time.time()
        memory = self._memory.memory
        failures, self._failures = self._failures, {}
        for key, error in failures.items():
            memory = failed(memory, key, error, now)
        records = list(self._apps)
        apps, observed = self._resolve(records), self._observer.observed()
        # In a large lattice it takes a third of a second, and the host has calls to serve.
        began = time.perf_counter()
        decision = await asyncio.to_thread(decide, apps, observed, memory, now)
        self._took_s = time.perf_counter() - began
        try:
            await self._memory.save(decision.memory, self._observer.hosts)
        except errors.LatticeError:
            self._failures = failures | self._failures
            raise
        self._observer.watch(_watched(decision.memory, self._resolved))
        for step in decision.steps:
            log.info("reconciling", app=step.app, reason=step.reason)
            self._tasks.spawn(self._carry_out(step), name=f"carry out {step.command.key}")
        for record in records:
            if (status := decision.statuses.get(record.name)) is not None:
                await self._tell(record, status)
        return decision.wake_at

    def _resolve(self, records: Sequence[AppRecord]) -> list[App]:
        """The apps of records; only those that have changed are read again."""
        before, self._resolved = self._resolved, {}
        for record in records:
            known = before.get(record.name)
            if known is None or known[0] is not record:
                known = (record, resolve(record))
            self._resolved[record.name] = known
        return [app for _, app in self._resolved.values()]

    async def _carry_out(self, step: Step) -> None:
        async with self._room:
            if not self._may_act:
                return
            command = step.command
            try:
                async with asyncio.timeout(STEP_TIMEOUT_S + 2 * limits.PROVIDER_STOP_TIMEOUT_S):
                    await self._send(step)
            except errors.NotFound as error:
                # The host is gone, or what was to be stopped; its inventory will tell.
                if isinstance(command, PutLink):
                    self._note_failure(command.key, error.text)
            except (errors.OutcomeUnknown, TimeoutError) as error:
                log.warning("a command may not have arrived", command=command.key, error=str(error))
            except errors.Draining as error:
                if isinstance(command, OnHost):
                    self._observer.note_draining(command.host)
                self._note_failure(command.key, error.text)
            except errors.LatticeError as error:
                log.warning("a command was refused", command=command.key, error=error.text)
                self._note_failure(command.key, error.text)
            if isinstance(command, OnHost):
                self._observer.refresh(command.host)
                self._observer.expect(command.host)
            else:
                # What belongs to the lattice is done when it is acknowledged.
                self.wake()

    async def _send(self, step: Step) -> None:
        match step.command:
            case ScaleComponent() as command:
                await self._control.scale_component(command.request)
            case StartProvider() as command:
                await self._control.start_provider(command.request)
            case StopProvider() as command:
                await self._control.stop_provider(command.provider, command.host)
            case PutLink() as command:
                await self._control.put_link(command.request)
            case DeleteLink() as command:
                await self._control.delete_link(command.request)
            case PutConfig() as command:
                await self._control.put_config(command.name, dict(command.values))
            case DeleteConfig() as command:
                await self._control.delete_config(command.name)
            case _:
                assert_never(step.command)

    def _note_failure(self, key: str, error: str) -> None:
        self._failures[key] = error
        self.wake()

    async def _tell(self, record: AppRecord, status: AppStatus) -> None:
        """Store and publish an app's status if it is another one; forget the app if it is gone."""
        if record.deleting:
            if status.gone:
                await self._apps.forget(record)
                self._told.pop(record.name, None)
            return
        told = StoredStatus(generation=record.generation, status=_on_the_wire(status))
        before = self._told.get(record.name) or self._apps.status(record.name)
        if told == before:
            return
        try:
            await self._apps.put_status(record.name, told)
        except errors.PayloadTooLarge:
            short = told.status.model_copy(update={"scalers": []})
            await self._apps.put_status(record.name, told.model_copy(update={"status": short}))
        self._told[record.name] = told
        if before is None or told.status != before.status:
            subject = subjects.app_status(self._lattice, record.name)
            await self._bus.publish(subject, told.status.encode())

    async def _plan(self, app: App) -> wire.PlanAnswer:
        observed = self._observer.observed()
        others = self._resolve(list(self._apps))
        steps = await asyncio.to_thread(
            preview, app, others, observed, self._memory.memory, time.time()
        )
        return plans.answer(app.name, steps, observed)

    async def _watch_who_serves(self) -> None:
        while True:
            await asyncio.sleep(PROBE_S)
            try:
                await self._look_who_serves()
            except errors.Unavailable as error:
                log.debug("can't look who else serves apps", error=error.text)

    async def _look_who_serves(self) -> None:
        """Step back for a real wadm, and forward again when it is gone."""
        first, self._looked = not self._looked, True
        if await somebody_else_serves(self._bus, self._lattice, timeout_s=PROBE_TIMEOUT_S):
            self._clear_looks = 0
            if first or not self._leader.stepped_back:
                log.warning("a wadm serves this lattice: this reconciler steps back")
                await self._leader.step_back(True)
                await self._publish("reconciler_stepped_back")
            return
        self._clear_looks += 1
        if self._leader.stepped_back and (first or self._clear_looks >= CLEAR_LOOKS):
            await self._leader.step_back(False)
            if not first:
                log.warning("no wadm serves this lattice any more: this reconciler takes over")
                await self._publish("reconciler_took_over")
            self.wake()

    async def _publish(self, name: str) -> None:
        subject = subjects.own_event(self._lattice, name)
        data: Mapping[str, object] = {"epoch": self._term.epoch}
        await self._bus.publish(subject, events.encode(name, data, source=self._source))


def _watched(
    memory: Memory, apps: Mapping[str, tuple[AppRecord, App]]
) -> dict[str, frozenset[str]]:
    """The actors of rollouts, by the hosts on which they have to prove themselves."""
    watched: dict[str, frozenset[str]] = {}
    for name, remembered in memory.apps.items():
        app = apps[name][1].desired if name in apps else None
        if remembered.rollout is None or app is None:
            continue
        actors = {scaler.entity for scaler in app.scalers if scaler.kind == "component"}
        for host in remembered.rollout.hosts:
            watched[host] = watched.get(host, frozenset()) | actors
    return watched


def _on_the_wire(status: AppStatus) -> wire.Status:
    return wire.Status(
        status=wire.StatusInfo(type=wire.StatusType(status.status.value), message=status.message),
        scalers=[
            wire.ScalerStatus(
                id=scaler.id,
                kind=scaler.kind,
                name=scaler.name,
                status=wire.StatusInfo(
                    type=wire.StatusType(scaler.status.value), message=scaler.message
                ),
            )
            for scaler in status.scalers
        ],
        version=status.version or "",
    )

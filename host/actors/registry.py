"""Which actors this host runs: started, resized and stopped by ``scale``, changed by ``update``.

Commands for one actor are carried out one after the other; those for different actors side by side.
Each ends in an event, ``component_scaled`` or ``component_scale_failed``.
"""

import asyncio
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import structlog

from host import trust
from host.actors.actor import Actor
from host.actors.slots import Slots
from host.actors.throttle import Throttle, ThrottlePolicy
from host.actors.world import Allowed, world_of
from host.artefacts.fetch import Fetcher
from host.engine import CallLimits, Code, Engine, Instances, ReusePolicy, World, parse_policy
from host.events import Events
from host.hostcalls.builtin import Builtins
from host.hostcalls.outward import Outward
from host.logs import Logs
from host.trust import Trust
from lattice import errors, limits, names
from lattice.aio.tasks import TaskGroup
from lattice.identity.claims import Claims
from lattice.rpc import Rpc, Service
from lattice.state.store import State
from lattice.wire.control import (
    ComponentDescription,
    ScaleComponent,
    Throttling,
    UpdateComponent,
)
from lattice.wire.invocation import Invocation

log = structlog.get_logger()

ACTORS_MAX = 50_000
"""Actors on one host: an idle one takes 6 KiB and as good as no time; wasmCloud starts 10,000."""

ANSWER_S = 1.0
"""How long the answers of calls that were ended by force may take to be sent."""


@dataclass(slots=True)
class _Running:
    actor: Actor
    service: Service
    command: ScaleComponent
    """The latest command, whose annotations and configs are in force."""
    claims: Claims | None
    """What its module says of itself, if it is signed."""
    outward: Outward
    """Counts the calls over its links."""

    @property
    def is_quiet(self) -> bool:
        """Whether no call is in hand, and no answer on its way out."""
        return self.actor.is_idle and self.service.is_answered

    async def quiet(self) -> None:
        """Return when neither calls nor answers were in hand a moment ago."""
        await self.service.answered()
        await self.actor.idle()


class Actors:
    """This host's actors."""

    def __init__(
        self,
        *,
        host_id: str,
        engine: Engine,
        rpc: Rpc,
        state: State,
        events: Events,
        fetcher: Fetcher,
        judge: Trust,
        logs: Logs,
        tasks: TaskGroup,
        slots: Slots,
        call_limits: CallLimits,
        throttle: ThrottlePolicy,
        preopen: Mapping[str, Allowed] | None = None,
        mailbox_calls: int = limits.MAILBOX_CALLS,
    ) -> None:
        self._host_id = host_id
        self._engine = engine
        self._rpc = rpc
        self._state = state
        self._events = events
        self._fetcher = fetcher
        self._judge = judge
        self._logs = logs
        self._tasks = tasks
        self._slots = slots
        self._call_limits = call_limits
        self._throttle = throttle
        self._preopen = preopen or {}
        self._mailbox_calls = mailbox_calls
        self._running: dict[str, _Running] = {}
        self._turns: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        self._stopping = False

    def __contains__(self, actor_id: str) -> bool:
        return actor_id in self._running

    def get(self, actor_id: str) -> Actor | None:
        running = self._running.get(actor_id)
        return running.actor if running else None

    @property
    def waiting(self) -> int:
        """Calls that wait in mailboxes, of all actors together."""
        return self._slots.waiting

    def counted(self) -> list[tuple[Actor, Outward]]:
        """Who counts their calls: each actor, and those over its links."""
        return [(running.actor, running.outward) for running in self._running.values()]

    def ids(self, *, after: str = "") -> list[str]:
        """Those that run here, in order, behind that one."""
        return sorted(actor_id for actor_id in self._running if actor_id > after)

    def describe(self, actor_id: str) -> ComponentDescription | None:
        """What the inventory says of an actor; None where it does not run."""
        if (running := self._running.get(actor_id)) is None:
            return None
        return ComponentDescription(
            id=actor_id,
            image_ref=running.command.component_ref,
            name=running.claims.name if running.claims else None,
            annotations=running.command.annotations,
            revision=(running.claims.revision or 0) if running.claims else 0,
            max_instances=running.command.count,
            limits=running.command.component_limits,
            throttled=self._throttling(running.actor.throttle),
        )

    def check(self, command: ScaleComponent) -> str:
        """Look a command over before it is acknowledged, and return a remark on it.

        Raises:
            InvalidRequest: not an id, or limits that are none.
            Denied: its config wants a directory that this host does not give.
            NotFound: a named config does not exist.
            Draining: the host is stopping.
        """
        if self._stopping:
            raise errors.Draining("this host is stopping")
        actor_id = names.parse_entity(command.component_id)
        self._limits_of(command)
        if command.count:
            self._state.check_configs(command.config)
            self._reuse_of(command)
            self._world_of(command)
        running = self._running.get(actor_id)
        if running is None or not command.count:
            return ""
        return _remark(running.command.component_ref, command)

    def check_update(self, command: UpdateComponent) -> str | None:
        """Look an update over; the reference that it replaces, None when there is nothing to do.

        Raises:
            NotFound: the actor does not run here; wasmCloud's words.
            InvalidRequest: no reference.
            Draining: the host is stopping.
        """
        if self._stopping:
            raise errors.Draining("this host is stopping")
        actor_id = names.parse_entity(command.component_id)
        if (running := self._running.get(actor_id)) is None:
            raise errors.NotFound(f"component {actor_id} not found")
        if not command.new_component_ref:
            raise errors.InvalidRequest("new_component_ref names nothing")
        old = running.command.component_ref
        return None if old == command.new_component_ref else old

    async def scale(self, command: ScaleComponent) -> None:
        """Carry out a command that was checked; an event tells how it went."""
        async with self._turn(command.component_id):
            try:
                data = await self._scale(command)
            except errors.LatticeError as error:
                await self._report_failure(command, error)
            else:
                await self._events.publish("component_scaled", **data)

    async def update(self, command: UpdateComponent) -> None:
        """Carry out an update that was checked; events tell how it went.

        Of the old image that it is gone, of the new one that it runs. wasmCloud says so the other
        way round, and whoever counts by id alone then takes the actor for stopped; and of a failure
        it says nothing.
        """
        async with self._turn(command.component_id):
            if (running := self._running.get(command.component_id)) is None:
                log.warning("actor stopped before its update", actor=command.component_id)
                return
            old, old_claims = running.command, running.claims
            wanted = old.model_copy(
                update={
                    "component_ref": command.new_component_ref,
                    "annotations": command.annotations,
                    "allow_update": True,
                }
            )
            try:
                data = await self._change(running, wanted)
            except errors.LatticeError as error:
                await self._report_failure(wanted, error)
                return
            gone = old.model_copy(update={"count": 0})
            await self._events.publish("component_scaled", **self._event_data(gone, old_claims))
            await self._events.publish("component_scaled", **data)

    def configs_changed(self, config_names: frozenset[str]) -> None:
        """Have further calls find through WASI what the configs say now.

        What can't be had leaves an actor with what it had: it serves on, and the log says why.
        """
        for actor_id, running in self._running.items():
            if config_names.isdisjoint(running.command.config):
                continue
            try:
                running.actor.world = self._world_of(running.command)
            except errors.LatticeError as error:
                log.warning("config not followed", actor=actor_id, error=error.text)

    async def leave(self) -> None:
        """Have other hosts' calls go elsewhere, and start nothing more."""
        self._stopping = True
        await asyncio.gather(*(each.service.leave() for each in self._running.values()))

    async def stop_all(self, *, drain_s: float) -> None:
        """Let all calls that were accepted end within ``drain_s``, and end those that did not.

        Until then the actors serve each other as before: what one of them was asked may take a call
        to another, and a chain that began here ends here.
        """
        await self.leave()
        running = list(self._running.values())
        try:
            async with asyncio.timeout(drain_s):
                while not all(each.is_quiet for each in running):
                    for each in running:
                        await each.quiet()
        except TimeoutError:
            log.warning("actors are stopped with calls still running")
        await asyncio.gather(*(self._end(actor_id) for actor_id in list(self._running)))

    def _turn(self, actor_id: str) -> asyncio.Lock:
        return self._turns.setdefault(actor_id, asyncio.Lock())

    async def _scale(self, command: ScaleComponent) -> dict[str, object]:
        """Do it, and give what its event says."""
        running = self._running.get(command.component_id)
        if not command.count:
            await self._stop(command.component_id, drain_s=limits.DRAIN_TIMEOUT_S)
            if running is None:
                return self._event_data(command, None)
            stopped = running.command.model_copy(update={"count": 0})
            return self._event_data(stopped, running.claims)
        if running is not None:
            return await self._change(running, command)
        return await self._start(command)

    async def _start(self, command: ScaleComponent) -> dict[str, object]:
        if len(self._running) >= ACTORS_MAX:
            raise errors.Overloaded(f"this host runs {ACTORS_MAX} actors already")
        module, claims = await self._load(command.component_ref)
        actor_id = command.component_id
        await self._note(actor_id, command.component_ref, claims)
        builtins = Builtins(
            log=partial(self._logs.guest, actor_id), config=partial(self._config, actor_id)
        )
        outward = Outward(
            actor_id,
            links=self._state.links,
            link_config=self._state.merged_config,
            rpc=self._rpc,
            builtins=builtins,
            logs=self._logs,
        )
        actor = Actor(
            actor_id,
            module,
            count=_bounded(command.count),
            slots=self._slots,
            surroundings=outward.surroundings,
            call_limits=self._limits_of(command),
            world=self._world_of(command),
            mailbox_calls=self._mailbox_calls,
            report=self._note_trap,
            throttle=self._throttle,
            throttle_notice=self._note_throttle,
            instances=self._instances_of(command),
            reload=self._reload,
            tasks=self._tasks,
        )
        service = await self._rpc.serve(actor_id, actor, door=True)
        if self._stopping:
            await service.aclose()
            raise errors.Draining("this host is stopping")
        self._running[actor_id] = _Running(actor, service, command, claims, outward)
        # They may have changed while the subscriptions were made.
        self.configs_changed(frozenset(command.config))
        log.info(
            "actor started", actor=actor_id, count=command.count, reference=command.component_ref
        )
        return self._event_data(command, claims)

    async def _change(self, running: _Running, command: ScaleComponent) -> dict[str, object]:
        old = running.command
        world = self._world_of(command)
        reference = command.component_ref or old.component_ref
        if reference != old.component_ref:
            if command.allow_update:
                module, running.claims = await self._load(reference)
                await self._note(command.component_id, reference, running.claims)
                running.actor.replace(module)
            else:
                reference = old.component_ref
        running.actor.restrict(self._limits_of(command))
        running.actor.world = world
        running.actor.resize(_bounded(command.count))
        # Whoever scales by hand says nothing of annotations; they stay, or their owner would take
        # the actor for a stranger's.
        annotations = command.annotations or old.annotations
        running.command = command.model_copy(
            update={"component_ref": reference, "annotations": annotations}
        )
        if self._reuse_of(running.command) != running.actor.reuse_policy:
            running.actor.reuse(self._instances_of(running.command))
        log.info("actor scaled", actor=command.component_id, count=command.count)
        return self._event_data(running.command, running.claims)

    async def _load(self, reference: str) -> tuple[Code, Claims | None]:
        wasm = await self._fetcher.fetch(reference)
        claims = await self._judge.admit_module(wasm)
        return await self._engine.load(wasm), claims

    async def _reload(self, actor_id: str, module: Code) -> None:
        """Load evicted code again; the artefact is fetched only if the host's cache lost it.

        Raises:
            LatticeError: as ``Engine.reload`` and ``Fetcher.fetch``.
        """
        if (running := self._running.get(actor_id)) is None:
            raise errors.Draining(f"{actor_id} is being stopped on this host")
        reference = running.command.component_ref
        await self._engine.reload(module, lambda: self._fetcher.fetch(reference))

    async def _note(self, actor_id: str, reference: str, claims: Claims | None) -> None:
        """Keep in the lattice's state what is started, where wasmCloud's tools look for it."""
        try:
            if claims is not None:
                await self._state.put_claims(trust.stored(claims))
            await self._state.note_started(actor_id, reference)
        except errors.LatticeError as error:
            # Nothing that runs depends on it.
            log.warning("a start could not be noted", actor=actor_id, error=error.text)

    async def _stop(self, actor_id: str, *, drain_s: float) -> None:
        """Take no more calls, let those that were accepted end within ``drain_s``, end the rest."""
        if (running := self._running.get(actor_id)) is None:
            return
        # First out of the queue group, then wait: whatever arrived until then is ours to answer.
        await running.service.aclose()
        try:
            async with asyncio.timeout(drain_s):
                await running.quiet()
        except TimeoutError:
            pass
        await self._end(actor_id)

    async def _end(self, actor_id: str) -> None:
        """Answer whatever still runs or waits at once, and forget the actor."""
        if (running := self._running.pop(actor_id, None)) is None:
            return
        await running.service.aclose()
        await running.actor.stop(drain_s=0)
        try:
            async with asyncio.timeout(ANSWER_S):
                await running.service.answered()
        except TimeoutError:
            await running.service.abandon()
        log.info("actor stopped", actor=actor_id)

    def _config(self, actor_id: str) -> dict[str, str]:
        running = self._running.get(actor_id)
        return self._state.merged_config(running.command.config) if running else {}

    def _reuse_of(self, command: ScaleComponent) -> ReusePolicy | None:
        """What its annotations say of its instances, or else its configs.

        Raises:
            InvalidRequest: they say something that makes no sense.
        """
        return parse_policy({**self._state.merged_config(command.config), **command.annotations})

    def _instances_of(self, command: ScaleComponent) -> Instances | None:
        policy = self._reuse_of(command)
        return self._engine.instances(policy) if policy is not None else None

    def _world_of(self, command: ScaleComponent) -> World:
        return world_of(self._state.merged_config(command.config), self._preopen)

    def _limits_of(self, command: ScaleComponent) -> CallLimits:
        """The host's limits, lowered to what the command asks for."""
        wanted = command.component_limits or {}
        memory_bytes, cpu_time_s = self._call_limits.memory_bytes, self._call_limits.cpu_time_s
        try:
            if "max_memory_limit" in wanted:
                memory_bytes = min(memory_bytes, int(wanted["max_memory_limit"]))
            if "max_execution_time" in wanted:
                cpu_time_s = min(cpu_time_s, int(wanted["max_execution_time"]) / 1000)
        except (ValueError, OverflowError):
            raise errors.InvalidRequest(
                "component_limits: max_memory_limit wants bytes, max_execution_time milliseconds"
            ) from None
        if memory_bytes <= 0 or cpu_time_s <= 0:
            raise errors.InvalidRequest("component_limits: a limit must be above 0")
        return replace(self._call_limits, memory_bytes=memory_bytes, cpu_time_s=cpu_time_s)

    def _note_trap(self, invocation: Invocation, error: errors.LatticeError) -> None:
        # Their callers hear of it; a host's log would be full of them.
        log.debug("a call was ended", actor=invocation.target, error=error.text)
        backtrace = error.detail.get("backtrace") or ""
        text = f"{error.text}\n{backtrace}".rstrip()
        self._logs.remark(invocation.target, "warning", text, call=invocation.id)

    def _note_throttle(self, actor_id: str, throttle: Throttle) -> None:
        """Tell log and lattice that an actor is throttled, or no more."""
        if (running := self._running.get(actor_id)) is None:
            return
        data = self._event_data(running.command, running.claims)
        name, remark = "component_recovered", "it ends by itself again, and is throttled no more"
        if (told := self._throttling(throttle)) is not None:
            name, remark = "component_throttled", f"throttled after {told.traps} traps in a row"
            data |= told.to_json()
        log.warning("actor throttled" if told else "actor throttled no more", actor=actor_id)
        self._logs.remark(actor_id, "warning", remark)
        self._tasks.spawn(self._events.publish_own(name, **data), name="throttle event")

    def _throttling(self, throttle: Throttle) -> Throttling | None:
        if not throttle.is_on:
            return None
        left_s = throttle.left_s(asyncio.get_running_loop().time())
        return Throttling(
            traps=throttle.traps, backoff_ms=round(left_s * 1_000), reason=throttle.reason
        )

    async def _report_failure(self, command: ScaleComponent, error: errors.LatticeError) -> None:
        log.error("actor could not be scaled", actor=command.component_id, error=error.text)
        self._logs.remark(command.component_id, "error", f"could not be scaled: {error.text}")
        await self._events.publish(
            "component_scale_failed",
            **self._event_data(command, None),
            error=error.text,
            code=error.code,
        )

    def _event_data(self, command: ScaleComponent, claims: Claims | None) -> dict[str, object]:
        return {
            **trust.module_facts(claims),
            "annotations": command.annotations,
            "host_id": self._host_id,
            "image_ref": command.component_ref,
            "max_instances": command.count,
            "component_id": command.component_id,
        }


def _bounded(count: int) -> int:
    """``wash`` asks for 2**32-1 instances when it means "as many as there is room for"."""
    return min(count, limits.ACTOR_COUNT_MAX)


def _remark(running_reference: str, command: ScaleComponent) -> str:
    """What wasmCloud says of a scale command that names another image."""
    wanted = command.component_ref
    if not wanted or wanted == running_reference:
        return ""
    if command.allow_update:
        return (
            "Requested to scale existing component, with a changed image reference:"
            f" {running_reference} != {wanted}. The component will be scaled, and the image"
            " reference will be updated afterwards."
        )
    return (
        "Requested to scale existing component to a different image reference:"
        f" {running_reference} != {wanted}. The component will be scaled but the image reference"
        " will not be updated. If you meant to update this component to a new image ref, use the"
        " update command."
    )

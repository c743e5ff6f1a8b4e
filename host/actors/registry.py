"""Which actors this host runs: started, resized, updated and stopped by one command, ``scale``.

Commands for one actor are carried out one after the other; those for different actors side by side.
Each ends in an event, ``component_scaled`` or ``component_scale_failed``.
"""

import asyncio
import weakref
from dataclasses import dataclass, replace

import structlog

from host.actors.actor import Actor
from host.artefacts.fetch import Fetcher
from host.engine import CallLimits, Engine
from host.events import Events
from host.hostcalls.builtin import Builtins
from host.hostcalls.outward import Outward, write_log
from lattice import errors, limits, names
from lattice.rpc import Rpc, Service
from lattice.state.store import State
from lattice.wire.control import ComponentDescription, ScaleComponent

log = structlog.get_logger()

ACTORS_MAX = 10_000
"""Actors on one host, wasmCloud's ``max-components``."""


@dataclass(slots=True)
class _Running:
    actor: Actor
    service: Service
    command: ScaleComponent
    """The latest command, whose annotations and configs are in force."""


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
        call_limits: CallLimits,
        mailbox_calls: int = limits.MAILBOX_CALLS,
    ) -> None:
        self._host_id = host_id
        self._engine = engine
        self._rpc = rpc
        self._state = state
        self._events = events
        self._fetcher = fetcher
        self._call_limits = call_limits
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
        return sum(running.actor.statistics().waiting for running in self._running.values())

    def describe(self) -> list[ComponentDescription]:
        return [
            ComponentDescription(
                id=actor_id,
                image_ref=running.command.component_ref,
                annotations=running.command.annotations,
                max_instances=running.command.count,
                limits=running.command.component_limits,
            )
            for actor_id, running in sorted(self._running.items())
        ]

    def check(self, command: ScaleComponent) -> str:
        """Look a command over before it is acknowledged, and return a remark on it.

        Raises:
            InvalidRequest: not an id, or limits that are none.
            NotFound: a named config does not exist.
            Draining: the host is stopping.
        """
        if self._stopping:
            raise errors.Draining("this host is stopping")
        actor_id = names.parse_entity(command.component_id)
        self._limits_of(command)
        if command.count:
            self._state.check_configs(command.config)
        running = self._running.get(actor_id)
        if running is None or not command.count:
            return ""
        return _remark(running.command.component_ref, command)

    async def scale(self, command: ScaleComponent) -> None:
        """Carry out a command that was checked; an event tells how it went."""
        turn = self._turns.setdefault(command.component_id, asyncio.Lock())
        async with turn:
            try:
                done = await self._scale(command)
            except errors.LatticeError as error:
                log.error("actor could not be scaled", actor=command.component_id, error=error.text)
                await self._events.publish(
                    "component_scale_failed",
                    **self._event_data(command),
                    error=error.text,
                    code=error.code,
                )
            else:
                await self._events.publish("component_scaled", **self._event_data(done))

    async def stop_all(self, *, drain_s: float) -> None:
        """Take no further calls, and let all that were accepted end within ``drain_s``."""
        self._stopping = True
        await asyncio.gather(
            *(self._stop(actor_id, drain_s=drain_s) for actor_id in list(self._running))
        )

    async def _scale(self, command: ScaleComponent) -> ScaleComponent:
        running = self._running.get(command.component_id)
        if not command.count:
            await self._stop(command.component_id, drain_s=limits.DRAIN_TIMEOUT_S)
            known = running.command.component_ref if running else ""
            return command.model_copy(update={"component_ref": command.component_ref or known})
        if running is None:
            await self._start(command)
            return command
        return await self._change(running, command)

    async def _start(self, command: ScaleComponent) -> None:
        if len(self._running) >= ACTORS_MAX:
            raise errors.Overloaded(f"this host runs {ACTORS_MAX} actors already")
        module = await self._engine.load(await self._fetcher.fetch(command.component_ref))
        actor_id = command.component_id
        builtins = Builtins(
            log=lambda level, text: write_log(actor_id, level, text),
            config=lambda: self._config(actor_id),
        )
        outward = Outward(actor_id, links=self._state.links, rpc=self._rpc, builtins=builtins)
        actor = Actor(
            actor_id,
            module,
            count=_bounded(command.count),
            surroundings=outward.surroundings,
            call_limits=self._limits_of(command),
            mailbox_calls=self._mailbox_calls,
        )
        service = await self._rpc.serve(actor_id, actor, door=True)
        if self._stopping:
            await service.aclose()
            raise errors.Draining("this host is stopping")
        self._running[actor_id] = _Running(actor, service, command)
        log.info(
            "actor started", actor=actor_id, count=command.count, reference=command.component_ref
        )

    async def _change(self, running: _Running, command: ScaleComponent) -> ScaleComponent:
        old = running.command
        reference = command.component_ref or old.component_ref
        if reference != old.component_ref:
            if command.allow_update:
                module = await self._engine.load(await self._fetcher.fetch(reference))
                running.actor.replace(module)
            else:
                reference = old.component_ref
        running.actor.restrict(self._limits_of(command))
        running.actor.resize(_bounded(command.count))
        running.command = command.model_copy(update={"component_ref": reference})
        log.info("actor scaled", actor=command.component_id, count=command.count)
        return running.command

    async def _stop(self, actor_id: str, *, drain_s: float) -> None:
        if (running := self._running.pop(actor_id, None)) is None:
            return
        # First out of the queue group, then wait: whatever arrived until then is ours to answer.
        await running.service.aclose()
        await running.actor.stop(drain_s=drain_s)
        log.info("actor stopped", actor=actor_id)

    def _config(self, actor_id: str) -> dict[str, str]:
        running = self._running.get(actor_id)
        return self._state.merged_config(running.command.config) if running else {}

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

    def _event_data(self, command: ScaleComponent) -> dict[str, object]:
        return {
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

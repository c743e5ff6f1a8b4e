"""Keeps one provider running, and telling it what it should know.

Three things happen side by side, none waits for another: the copy is watched, restarted with
back-off, and given up when that does not help; its health is asked; and what it was told (links,
configuration) is brought in line with what is true, by difference, so that nothing depends on
having seen every change.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from host.events import Events
from host.supervise.copies import Copy
from host.supervise.restarts import Phase, RestartPolicy, Restarts
from lattice import errors, limits
from lattice.aio.tasks import TaskGroup
from lattice.wire.control import ProviderCrashes, StartProvider
from lattice.wire.provider import Health, HostData, ResolvedLink

log = structlog.get_logger()

FIRST_HEALTH_S = 5.0
"""From the start to the first health check, as in wasmCloud 1.x."""

HEALTH_FAILURES_MAX = 3
"""Health checks in a row without an answer, after which the copy is replaced."""

RETELL_DELAY_S = 0.5
"""Pause after a provider could not be told something."""


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What a provider should know."""

    links: dict[tuple[str, ...], ResolvedLink]
    config: dict[str, str]


class Supervisor:
    """One provider on this host."""

    def __init__(
        self,
        command: StartProvider,
        *,
        host_data: Callable[[Knowledge], HostData],
        knowledge: Callable[[], Knowledge],
        new_copy: Callable[[], Awaitable[Copy]],
        events: Events,
        host_id: str,
        restarts: RestartPolicy,
        departed: Callable[[], Awaitable[None]],
    ) -> None:
        """``knowledge`` says what is true now; ``host_data`` makes a new copy's handshake of it.

        ``departed`` hears of the end of every copy that ran, before the next one is started.
        """
        self.command = command
        self._host_data = host_data
        self._knowledge = knowledge
        self._new_copy = new_copy
        self._events = events
        self._host_id = host_id
        self._copy: Copy | None = None
        self._told = Knowledge({}, {})
        self._changed = asyncio.Event()
        self._tasks = TaskGroup(f"supervisor of {command.provider_id}")
        self._log = log.bind(provider=command.provider_id)
        self._healthy: bool | None = None
        self._restart_wanted = asyncio.Event()
        self._departed = departed
        self._clock = asyncio.get_running_loop().time
        self._restarts = Restarts(restarts, self._clock())

    @property
    def is_given_up(self) -> bool:
        """Whether it does not run, and will not unless it is started anew."""
        return self._restarts.phase is Phase.GIVEN_UP

    def crashes(self) -> ProviderCrashes | None:
        """What is to be told of it in inventories; nothing when nothing happened lately."""
        restarts, now = self._restarts, self._clock()
        count = restarts.crashes(now)
        if not count and restarts.phase is Phase.RUNNING:
            return None
        return ProviderCrashes(
            state=restarts.phase,
            count=count,
            backoff_ms=round(restarts.left_s(now) * 1000),
            reason=restarts.reason,
        )

    @property
    def told(self) -> Knowledge:
        """What the running copy knows."""
        return self._told

    async def start(self) -> None:
        """Start the first copy; returns when it answers.

        Raises:
            LatticeError: it did not come up; nothing of it is left.
        """
        await self._start_copy()
        self._tasks.guard(self._watch, name="watch")
        self._tasks.guard(self._keep_told, name="keep told")
        self._tasks.guard(self._ask_health, name="ask health")

    def refresh(self) -> None:
        """What the provider should know may have changed."""
        self._changed.set()

    async def stop(self, *, drain_s: float = limits.PROVIDER_STOP_TIMEOUT_S) -> None:
        """Stop the provider, in order if it will. Safe to call twice."""
        await self._tasks.aclose()
        if self._copy is not None:
            copy, self._copy = self._copy, None
            await copy.stop(drain_s=drain_s)
            await self._departed()

    async def _start_copy(self) -> None:
        knowledge = self._knowledge()
        copy = await self._new_copy()
        await copy.start(self._host_data(knowledge))
        self._copy, self._told = copy, knowledge
        self._changed.set()

    async def _watch(self) -> None:
        """Replace the copy whenever it ends or was found hung, until that is given up."""
        while not self.is_given_up:
            if (copy := self._copy) is not None:
                await self._bury(copy)
            else:
                await self._revive()
        await self._tell_given_up()
        # It is guarded, so that ending would have it run again.
        await asyncio.get_running_loop().create_future()

    async def _bury(self, copy: Copy) -> None:
        """Wait for a copy's end, and tell of it."""
        reason = await self._ended(copy)
        self._restarts.crashed(self._clock(), random.uniform, reason)
        self._log.error("provider ended", reason=reason)
        await self._events.publish_own(
            "provider_crashed", **self._identity(), reason=reason, **copy.last_facts()
        )
        # Ours until it has ended: were this cancelled, ``stop`` would have to end it.
        await copy.stop(drain_s=0)
        self._copy = None
        await self._departed()

    async def _revive(self) -> None:
        """Start another copy when it is due."""
        await asyncio.sleep(self._restarts.left_s(self._clock()))
        try:
            await self._start_copy()
        except errors.Unavailable as error:
            # NATS or a registry is away, which says nothing of the provider.
            self._restarts.postponed(self._clock(), random.uniform)
            self._log.warning("provider could not be restarted yet", error=error.text)
        except errors.LatticeError as error:
            self._restarts.crashed(self._clock(), random.uniform, error.text)
            self._log.error("provider could not be restarted", error=error.text)
        else:
            self._restarts.started(self._clock())
            self._log.info("provider restarted")
            await self._events.publish_own("provider_restarted", **self._identity())

    async def _tell_given_up(self) -> None:
        crashes, reason = self._restarts.crashes(self._clock()), self._restarts.reason
        self._log.critical(
            "provider given up: it is not restarted any more", crashes=crashes, reason=reason
        )
        await self._events.publish_own(
            "provider_gave_up", **self._identity(), crashes=crashes, reason=reason
        )

    async def _ended(self, copy: Copy) -> str:
        self._restart_wanted.clear()
        group = TaskGroup("end of a copy")
        reasons: asyncio.Queue[str] = asyncio.Queue(2)

        async def note_end() -> None:
            reasons.put_nowait(await copy.wait_ended())

        async def note_hang() -> None:
            await self._restart_wanted.wait()
            reasons.put_nowait(f"{HEALTH_FAILURES_MAX} health checks in a row were not answered")

        group.spawn(note_end(), name="wait for its end")
        group.spawn(note_hang(), name="wait for a hang")
        try:
            return await reasons.get()
        finally:
            await group.aclose()

    async def _keep_told(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            if (copy := self._copy) is None:
                continue
            try:
                await self._tell(copy, self._knowledge())
            except errors.LatticeError as error:
                self._log.warning("provider could not be told", error=error.text)
                await asyncio.sleep(RETELL_DELAY_S)
                self._changed.set()

    async def _tell(self, copy: Copy, knowledge: Knowledge) -> None:
        told = self._told
        if knowledge.config != told.config:
            await copy.update_config(knowledge.config)
        # Deletions first: a new link may take an address that a deleted one held.
        for key, link in told.links.items():
            if key not in knowledge.links:
                await copy.delete_link(link)
        for key, link in knowledge.links.items():
            if told.links.get(key) != link:
                await copy.put_link(link)
        self._told = knowledge

    async def _ask_health(self) -> None:
        await asyncio.sleep(FIRST_HEALTH_S)
        asked, silences = self._copy, 0
        while True:
            if (copy := self._copy) is not None:
                if copy is not asked:
                    asked, silences = copy, 0
                try:
                    health = await copy.health()
                except errors.LatticeError as error:
                    # Our own way to it is blocked: nothing is known of the copy.
                    self._log.debug("provider could not be asked", error=error.text)
                else:
                    silences = silences + 1 if health is None else 0
                    await self._judge(copy, health, silences)
            await asyncio.sleep(limits.HEALTH_INTERVAL_S)

    async def _judge(self, copy: Copy, health: Health | None, silences: int) -> None:
        await self._report(health)
        if self._copy is not copy:
            return
        if silences >= HEALTH_FAILURES_MAX:
            self._restart_wanted.set()
        elif health is not None and health.healthy:
            self._restarts.was_well(self._clock())

    async def _report(self, health: Health | None) -> None:
        """Publish how it is; silence counts as failure, which wasmCloud 1.x never reported."""
        healthy = health is not None and health.healthy
        if healthy == self._healthy:
            name = "health_check_status"
        elif healthy:
            name = "health_check_passed"
        else:
            name = "health_check_failed"
            self._log.warning(
                "provider is not healthy", message=health.message if health else "no answer"
            )
        self._healthy = healthy
        await self._events.publish(
            name, host_id=self._host_id, provider_id=self.command.provider_id
        )

    def _identity(self) -> dict[str, str]:
        return {"host_id": self._host_id, "provider_id": self.command.provider_id}

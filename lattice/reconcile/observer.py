"""The lattice as it is seen, while this reconciler leads.

Nothing is ever concluded from an event but that somebody has to be asked: an inventory is read in
full from its host, so that an event that was lost, doubled or overtaken costs time, not truth.
Every host is asked again now and then without a reason.

A host whose beats stop is asked as well, at once: NATS itself answers for a process that is gone,
so a crash is known within two seconds, and a slow network is not taken for one. Whoever still waits
for an answer of a provider there hears of it.
"""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import structlog

from lattice import errors, names, subjects
from lattice.aio.tasks import TaskGroup
from lattice.bus import Bus, Message, Subscription
from lattice.control.client import ControlClient
from lattice.control.figures import FiguresClient
from lattice.reconcile.liveness import Signs, judge
from lattice.reconcile.model import (
    HostState,
    Observed,
    ObservedComponent,
    ObservedHost,
    ObservedProvider,
    component_key,
    provider_key,
)
from lattice.state.store import State
from lattice.wire import codec, events
from lattice.wire.control import HostInventory
from lattice.wire.figures import ActorFigures

log = structlog.get_logger()

READERS = 16
"""Inventories that are read at the same time."""

HOSTS_MAX = 10_000
"""Hosts that are followed: anybody may publish beats of made-up ones."""

TICK_S = 0.25
"""Between looks at who has been silent."""

SILENCE_S = 1.5
"""A host whose beat is late by half its interval is asked whether it is there."""

ASK_AGAIN_S = 1.0
"""Between such questions to one host."""

REREAD_S = 30.0
"""A host of which nothing is heard but beats is read again after about so long."""

WATCH_S = 0.25
"""Between looks at a host where a new version has to prove itself."""

EXPECT_S = 1.5
"""A host that was told to change something is read again after so long: its event may be lost."""

LARGE_HOST = 500
"""Actors from which on a host is not read again the moment that something changes there."""

READ_S_PER_ACTOR = 0.0002
"""Pause between two readings of such a host, for each of its actors: ten times what reading takes.
One on which ten thousand are started, one after the other, would be read without end."""

FIND_S = 1.0
"""How long hosts may take to answer the first call; later ones are found by their beats."""

FORGET_S = 60.0
"""How long a dead host is kept, so that its return is not news."""

READS_AGAIN = frozenset(
    {
        "component_scaled",
        "component_scale_failed",
        "host_heartbeat",
        "host_started",
        "labels_changed",
        "provider_gave_up",
        "provider_start_failed",
        "provider_started",
        "provider_stopped",
    }
)
"""Events after which a host's inventory is another one, or may be."""

HEALTH = {"health_check_passed": True, "health_check_failed": False}


@dataclass(slots=True)
class _Host:
    """What is known of one host."""

    id: str
    signs: Signs
    inventory: HostInventory | None = None
    """None until it was read: what such a host runs is not known, so it is not observed."""
    health: dict[str, bool] = field(default_factory=dict)
    """Of its providers, by id."""
    figures: Mapping[str, ActorFigures] = field(default_factory=dict)
    """Of those actors that are watched, by id."""
    draining: bool = False
    state: HostState = "alive"
    asked_at: float = 0.0
    read_at: float = 0.0
    """When to read it again without a reason."""


class Observer:
    """Follows the hosts of one lattice. ``open`` it, then ask; ``changed`` hears when to."""

    def __init__(
        self,
        bus: Bus,
        lattice: str,
        control: ControlClient,
        state: State,
        *,
        changed: Callable[[], None],
        failed: Callable[[str, str], None],
    ) -> None:
        """``failed`` hears that something could not be started: its attempt's key, and why."""
        self._bus = bus
        self._lattice = lattice
        self._control = control
        self._figures = FiguresClient(bus, lattice)
        self._state = state
        self._changed = changed
        self._failed = failed
        self._hosts: dict[str, _Host] = {}
        self._watched: Mapping[str, frozenset[str]] = {}
        self._configs = state.configs
        self._queue: asyncio.Queue[str] = asyncio.Queue()
        self._queued: set[str] = set()
        self._subscriptions: list[Subscription] = []
        self._tasks = TaskGroup("observer")

    async def open(self, remembered: Sequence[str]) -> None:
        """Follow the lattice; returns when every host that answers at once has been read.

        ``remembered``: ids of hosts that were there a moment ago; those are waited for.

        Raises:
            Unavailable: NATS is away.
        """
        for subject, callback in (
            (subjects.beat(self._lattice, "*"), self._on_beat),
            (subjects.event(self._lattice, "*"), self._on_event),
            *(
                (subjects.own_event(self._lattice, name), self._on_event)
                for name in ("host_draining", "provider_gave_up")
            ),
        ):
            self._subscriptions.append(await self._bus.subscribe(subject, callback))
        await self._bus.flush()
        found = [host.id for host in await self._control.hosts(wait_s=FIND_S)]
        first = [host for host_id in {*remembered, *found} if (host := self._meet(host_id))]
        with suppress(TimeoutError):
            # One that is frozen must not hold up what is to be done about it.
            async with asyncio.timeout(FIND_S):
                await asyncio.gather(*(self._read(host) for host in first))
        for number in range(READERS):
            self._tasks.guard(self._keep_reading, name=f"read inventories {number}")
        self._tasks.guard(self._watch, name="watch for silence")

    async def aclose(self) -> None:
        """Follow it no more. Safe to call twice."""
        for subscription in self._subscriptions:
            await subscription.unsubscribe()
        self._subscriptions.clear()
        await self._tasks.aclose()

    @property
    def hosts(self) -> list[str]:
        """Ids of the hosts that are not dead."""
        return sorted(host.id for host in self._hosts.values() if host.state != "dead")

    def observed(self) -> Observed:
        """The lattice as far as it is known."""
        return Observed(
            hosts={
                host.id: _observed(host, host.inventory)
                for host in self._hosts.values()
                if host.inventory is not None
            },
            links=tuple(self._state.links),
            configs=self._configs,
        )

    def state_changed(self) -> None:
        """Links or configs are not what they were."""
        self._configs = self._state.configs

    def watch(self, actors: Mapping[str, frozenset[str]]) -> None:
        """Look closely at some hosts, by id, and count the calls of some of their actors.

        A rollout depends on it: how well a new version does is in no inventory.
        """
        self._watched = actors

    def note_draining(self, host_id: str) -> None:
        """A host has said that it is going away."""
        if (host := self._hosts.get(host_id)) is not None and not host.draining:
            host.draining = True
            self._changed()

    def expect(self, host_id: str) -> None:
        """A host was told to change something: read it soon, even if it says nothing."""
        if (host := self._hosts.get(host_id)) is not None:
            host.read_at = min(host.read_at, _now() + EXPECT_S)

    def refresh(self, host_id: str) -> None:
        """What is known of a host may be wrong: read it now."""
        if host_id in self._hosts and host_id not in self._queued:
            self._queued.add(host_id)
            self._queue.put_nowait(host_id)

    def _refresh_soon(self, host: _Host) -> None:
        """Read a host now, or if it is large and was just read, a little later."""
        actors = len(host.inventory.components) if host.inventory else 0
        due = earliest_reading(host.asked_at, actors)
        if due <= _now():
            self.refresh(host.id)
        else:
            host.read_at = min(host.read_at, due)

    def refresh_all(self) -> None:
        """Something may have been missed."""
        for host_id in self._hosts:
            self.refresh(host_id)

    def _meet(self, host_id: str) -> _Host | None:
        """The host of an id, which may be new; None for what can't be one."""
        if (host := self._hosts.get(host_id)) is not None:
            return host
        try:
            names.parse_host(host_id)
        except errors.InvalidRequest:
            return None
        if len(self._hosts) >= HOSTS_MAX:
            return None
        host = _Host(id=host_id, signs=Signs(heard=_now()))
        self._hosts[host_id] = host
        return host

    async def _on_beat(self, message: Message) -> None:
        host_id = message.subject.rpartition(".")[2]
        is_new = host_id not in self._hosts
        if (host := self._meet(host_id)) is None:
            return
        host.signs = replace(host.signs, beat=_now())
        if _says_draining(message.data):
            self.note_draining(host_id)
        if is_new or host.state == "dead":
            self.refresh(host_id)
        self._judge(host)

    async def _on_event(self, message: Message) -> None:
        if (event := events.decode(message.data)) is None:
            return
        name, source, data = event
        if (host := self._meet(source)) is None:
            return
        if name == "host_stopped":
            host.signs = replace(host.signs, stopped=_now())
            self._judge(host)
            return
        host.signs = replace(host.signs, heard=_now())
        if name == "host_started":
            host.draining = False
            host.health.clear()
        elif name == "host_draining":
            self.note_draining(source)
        elif name in HEALTH:
            self._note_health(host, data.get("provider_id"), HEALTH[name])
        self._note_failure(name, source, data)
        if name in READS_AGAIN:
            self._refresh_soon(host)

    def _note_health(self, host: _Host, provider: object, healthy: bool) -> None:
        # Of what does not run there nothing is kept: anybody may publish.
        if isinstance(provider, str) and provider in self._provider_ids(host):
            changed = host.health.get(provider) != healthy
            host.health[provider] = healthy
            if changed:
                self._changed()

    def _note_failure(self, name: str, host_id: str, data: dict[str, object]) -> None:
        match name, data:
            case "component_scale_failed", {"component_id": str(entity), "error": str(error)}:
                self._failed(component_key(host_id, entity), error)
            case "provider_start_failed", {"provider_id": str(entity), "error": str(error)}:
                self._failed(provider_key(host_id, entity), error)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            now = _now()
            for host in list(self._hosts.values()):
                self._judge(host)
                unsure = host.inventory is None or _is_late(host.signs, now)
                late = unsure and now - host.asked_at > ASK_AGAIN_S
                close = host.id in self._watched and now - host.asked_at > WATCH_S
                if late or close or now > host.read_at:
                    self.refresh(host.id)
                if host.state == "dead" and now - host.signs.last > FORGET_S:
                    del self._hosts[host.id]

    async def _keep_reading(self) -> None:
        while True:
            host_id = await self._queue.get()
            # From here on another reason is a reason to read once more.
            self._queued.discard(host_id)
            if (host := self._hosts.get(host_id)) is not None:
                await self._read(host)

    async def _read(self, host: _Host) -> None:
        now = host.asked_at = _now()
        host.read_at = now + REREAD_S * random.uniform(0.75, 1.25)  # noqa: S311 - no secret
        try:
            inventory = await self._control.inventory(host.id)
            figures = await self._count(host)
        except errors.NotFound:
            host.signs = replace(host.signs, absent=_now())
        except errors.LatticeError as error:
            log.debug("a host could not be read", host=host.id, error=error.text)
        else:
            host.signs = replace(host.signs, heard=_now())
            before = (_facts(host.inventory), host.figures)
            host.inventory, host.figures = inventory, figures
            if (_facts(inventory), figures) != before:
                host.health = {
                    provider: healthy
                    for provider, healthy in host.health.items()
                    if provider in self._provider_ids(host)
                }
                self._changed()
        self._judge(host)

    async def _count(self, host: _Host) -> Mapping[str, ActorFigures]:
        """The figures of a host's watched actors; what was known where it does not answer."""
        watched = self._watched.get(host.id)
        if not watched:
            return {}
        try:
            told = await self._figures.host(host.id, *sorted(watched))
        except errors.LatticeError:
            # wasmCloud's own hosts count nothing.
            return host.figures
        return {actor.id: actor for actor in told.actors}

    def _judge(self, host: _Host) -> None:
        state = judge(host.signs, _now())
        if state != host.state:
            log.info("a host is in another state", host=host.id, state=state)
            host.state = state
            self._changed()
            if state == "dead":
                self._tasks.spawn(
                    self._tell_departures(self._provider_ids(host)), name=f"what {host.id} ran"
                )

    async def _tell_departures(self, providers: set[str]) -> None:
        """Tell callers that copies are gone: their host can't, and they would wait for long."""
        for provider_id in sorted(providers):
            with suppress(errors.LatticeError):
                await self._bus.publish(subjects.departure(self._lattice, provider_id))

    @staticmethod
    def _provider_ids(host: _Host) -> set[str]:
        return {provider.id for provider in host.inventory.providers} if host.inventory else set()


def earliest_reading(asked_at: float, actors: int) -> float:
    """When a host may be read again because something changed there."""
    return asked_at + actors * READ_S_PER_ACTOR if actors >= LARGE_HOST else asked_at


def _observed(host: _Host, inventory: HostInventory) -> ObservedHost:
    return ObservedHost(
        id=host.id,
        name=inventory.friendly_name,
        labels=inventory.labels,
        state=host.state,
        draining=host.draining,
        components={
            component.id: ObservedComponent(
                reference=component.image_ref,
                count=component.max_instances,
                annotations=component.annotations or {},
                calls=counted.completed + counted.failed if counted else None,
                failures=counted.failed if counted else None,
            )
            for component in inventory.components
            for counted in (host.figures.get(component.id),)
        },
        providers={
            provider.id: ObservedProvider(
                reference=provider.image_ref or "",
                annotations=provider.annotations or {},
                healthy=host.health.get(provider.id),
                given_up=provider.crashes.reason
                if provider.crashes is not None and provider.is_given_up
                else None,
            )
            for provider in inventory.providers
        },
    )


def _says_draining(beat: bytes) -> bool:
    try:
        figures = codec.unpack(beat)
    except errors.LatticeError:
        return False
    return isinstance(figures, dict) and figures.get("draining") is True


def _is_late(signs: Signs, now: float) -> bool:
    """Whether a host should have been heard of by now."""
    return now - signs.last > SILENCE_S if signs.beat is not None else now >= signs.suspect_at


def _facts(inventory: HostInventory | None) -> object:
    """What matters of an inventory: not how long its host has been up."""
    if inventory is None:
        return None
    return (
        inventory.components,
        inventory.providers,
        inventory.labels,
        inventory.friendly_name,
    )


def _now() -> float:
    """Monotonic: a clock that is set must not make hosts die."""
    return asyncio.get_running_loop().time()

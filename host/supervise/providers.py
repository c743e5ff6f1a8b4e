"""The providers of this host by id: starting and stopping them, and passing on what changes."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

import structlog

from host import trust
from host.artefacts.fetch import Fetcher
from host.events import Events
from host.supervise.copies import BuiltinCopy, Copy, ProcessCopy, find_provider, process_command
from host.supervise.guardian import Guardian
from host.supervise.restarts import RestartPolicy
from host.supervise.supervisor import Knowledge, Supervisor
from host.trust import Trust
from lattice import errors, limits, names
from lattice.bus import Bus
from lattice.identity.claims import Claims
from lattice.rpc import Rpc
from lattice.state.links import Difference
from lattice.state.store import State
from lattice.wire.control import ProviderDescription, StartProvider
from lattice.wire.provider import HostData, resolve

log = structlog.get_logger()

BUILTIN_SCHEMES = ("lattice+builtin://", "wasmcloud+builtin://")
PROCESS_SCHEME = "lattice+process://"

PROVIDERS_MAX = 1_000
"""Providers on one host: each may be a process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a provider's start needs of the host."""

    host_id: str
    lattice: str
    bus: Bus
    rpc: Rpc
    state: State
    events: Events
    fetcher: Fetcher
    judge: Trust
    environment: Mapping[str, str]
    """Environment of provider processes: the host's own is not theirs to see."""
    log_level: str
    structured_logging: bool
    restarts: RestartPolicy


@dataclass(frozen=True, slots=True)
class _Source:
    """What a reference named when it was looked at."""

    new_copy: Callable[[], Awaitable[Copy]]
    """Makes a copy that is not started yet; at each restart, so what it needs may be gone."""
    claims: Claims | None = None
    """What its archive says of it, if it is signed."""
    host_scoped: bool = True
    """Whether our SDK runs it, which hears what this very host tells it."""


@dataclass(frozen=True, slots=True)
class _Running:
    supervisor: Supervisor
    claims: Claims | None


class Providers:
    """Starts, stops and informs this host's providers."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._host = surroundings
        self._running: dict[str, _Running] = {}
        self._starting: set[str] = set()
        self._guardian = Guardian()
        self._stopping = False

    def __contains__(self, provider_id: str) -> bool:
        """Whether it runs here, or is about to; one that was given up is none of both."""
        running = self._running.get(provider_id)
        return provider_id in self._starting or (
            running is not None and not running.supervisor.is_given_up
        )

    def describe(self) -> list[ProviderDescription]:
        return [
            ProviderDescription(
                id=provider_id,
                image_ref=running.supervisor.command.provider_ref,
                name=running.claims.name if running.claims else None,
                revision=(running.claims.revision or 0) if running.claims else 0,
                annotations=running.supervisor.command.annotations,
                crashes=running.supervisor.crashes(),
            )
            for provider_id, running in sorted(self._running.items())
        ]

    def reserve(self, command: StartProvider) -> None:
        """Take the id for a provider that is about to be started.

        Raises:
            AlreadyExists: it is taken; wasmCloud's words.
            InvalidRequest: not an id, or a reference of a kind that is not known.
            NotFound: a named config is missing, or no such provider is installed.
            Overloaded: this host has as many providers as it may.
        """
        provider_id = names.parse_entity(command.provider_id)
        if provider_id in self:
            raise errors.AlreadyExists("provider with that ID is already running")
        if len(self._running.keys() | self._starting | {provider_id}) > PROVIDERS_MAX:
            raise errors.Overloaded(f"this host runs {PROVIDERS_MAX} providers already")
        self._host.state.check_configs(command.config)
        self._check_reference(command.provider_ref)
        self._starting.add(provider_id)

    async def start(self, command: StartProvider) -> None:
        """Start a provider whose id is reserved, and say how it went in an event."""
        try:
            running = await self._start(command)
        except errors.LatticeError as error:
            log.error(
                "provider could not be started", provider=command.provider_id, error=error.text
            )
            await self._host.events.publish(
                "provider_start_failed",
                provider_ref=command.provider_ref,
                provider_id=command.provider_id,
                host_id=self._host.host_id,
                error=error.text,
                code=error.code,
                link_name="default",
            )
            return
        finally:
            self._starting.discard(command.provider_id)
        given_up = self._running.pop(command.provider_id, None)
        self._running[command.provider_id] = running
        if given_up is not None:
            await given_up.supervisor.stop()
        log.info("provider started", provider=command.provider_id, reference=command.provider_ref)
        await self._host.events.publish(
            "provider_started",
            host_id=self._host.host_id,
            image_ref=command.provider_ref,
            provider_id=command.provider_id,
            annotations=command.annotations,
            **trust.provider_facts(running.claims, command.provider_id),
        )

    async def _start(self, command: StartProvider) -> _Running:
        source = await self._obtain(command.provider_ref)
        await self._note(command, source.claims)
        supervisor = Supervisor(
            command,
            host_data=lambda knowledge: self._host_data(
                command, knowledge, host_scoped=source.host_scoped
            ),
            knowledge=lambda: self._knowledge(command),
            new_copy=source.new_copy,
            events=self._host.events,
            host_id=self._host.host_id,
            restarts=self._host.restarts,
            departed=lambda: self._host.rpc.tell_departure(command.provider_id),
        )
        await supervisor.start()
        if self._stopping:
            await supervisor.stop()
            raise errors.Draining("this host is stopping")
        return _Running(supervisor, source.claims)

    async def _note(self, command: StartProvider, claims: Claims | None) -> None:
        """Keep in the lattice's state what is started, where wasmCloud's tools look for it."""
        state = self._host.state
        try:
            if claims is not None:
                await state.put_claims(trust.stored(claims))
            await state.note_started(command.provider_id, command.provider_ref)
        except errors.LatticeError as error:
            # Nothing that runs depends on it.
            log.warning(
                "a start could not be noted", provider=command.provider_id, error=error.text
            )

    async def stop(
        self, provider_id: str, *, drain_s: float = limits.PROVIDER_STOP_TIMEOUT_S
    ) -> None:
        """Stop a provider, with ``drain_s`` for what runs there; returns when it has ended.

        Raises:
            NotFound: it does not run here; wasmCloud's words.
        """
        if (running := self._running.pop(provider_id, None)) is None:
            raise errors.NotFound("provider with that ID is not running")
        await running.supervisor.stop(drain_s=drain_s)
        log.info("provider stopped", provider=provider_id)
        await self._host.events.publish(
            "provider_stopped",
            host_id=self._host.host_id,
            provider_id=provider_id,
            annotations=running.supervisor.command.annotations,
            reason="stop",
            instance_id=provider_id,
            public_key=provider_id,
            link_name="default",
        )

    async def stop_sources(self, *, drain_s: float) -> None:
        """Stop the providers that call actors, so that nothing new comes in; start no more."""
        self._stopping = True
        await self._stop_several(
            (
                provider_id
                for provider_id, running in self._running.items()
                if any(
                    link.source_id == provider_id for link in running.supervisor.told.links.values()
                )
            ),
            drain_s,
        )

    async def stop_all(self, *, drain_s: float) -> None:
        self._stopping = True
        await self._stop_several(self._running, drain_s)

    async def _stop_several(self, provider_ids: Iterable[str], drain_s: float) -> None:
        async def stop(provider_id: str) -> None:
            # A control request may have been quicker.
            with suppress(errors.NotFound):
                await self.stop(provider_id, drain_s=drain_s)

        await asyncio.gather(*map(stop, list(provider_ids)))

    async def aclose(self) -> None:
        """See to it that nothing is left of any process. Safe to call twice."""
        await self._guardian.aclose()

    def links_changed(self, difference: Difference) -> None:
        concerned = {
            entity
            for link in (*difference.put, *difference.deleted)
            for entity in (link.source_id, link.target)
        }
        for provider_id in concerned & self._running.keys():
            self._running[provider_id].supervisor.refresh()

    def configs_changed(self) -> None:
        # Configs are few and change rarely: each provider finds out by itself what concerns it.
        for running in self._running.values():
            running.supervisor.refresh()

    def _knowledge(self, command: StartProvider) -> Knowledge:
        state = self._host.state
        resolved = (
            resolve(
                link,
                state.merged_config(link.source_config),
                state.merged_config(link.target_config),
            )
            for link in state.links.of(command.provider_id)
        )
        return Knowledge({link.key: link for link in resolved}, state.merged_config(command.config))

    def _host_data(
        self, command: StartProvider, knowledge: Knowledge, *, host_scoped: bool
    ) -> HostData:
        nats = self._host.bus.settings
        return HostData(
            host_id=self._host.host_id,
            lattice_rpc_prefix=self._host.lattice,
            lattice_rpc_url=",".join(nats.servers),
            lattice_rpc_user_jwt=nats.user_jwt or "",
            lattice_rpc_user_seed=nats.user_seed or "",
            provider_key=command.provider_id,
            instance_id=str(uuid.uuid4()),
            link_definitions=list(knowledge.links.values()),
            config=knowledge.config,
            default_rpc_timeout_ms=int(limits.CALL_TIMEOUT_S * 1000),
            structured_logging=self._host.structured_logging,
            log_level=self._host.log_level,
            host_scoped=host_scoped,
        )

    def _check_reference(self, reference: str) -> None:
        """Say at once what can't be started, before the start is acknowledged.

        Raises:
            InvalidRequest: no such kind.
            NotFound: no such provider is installed.
            Denied: a file or a registry's latest, which this host does not allow.
        """
        if (name := _builtin_name(reference)) is not None:
            find_provider(name)
        elif reference.startswith(PROCESS_SCHEME):
            find_provider(reference.removeprefix(PROCESS_SCHEME))
        else:
            self._host.fetcher.check(reference)

    async def _obtain(self, reference: str) -> _Source:
        """What a reference names, on this machine and judged.

        Raises:
            LatticeError: it can't be had, or this host does not trust who made it.
        """
        host = self._host
        # What is installed here was chosen by whoever runs the host: it needs no signature.
        if (name := _builtin_name(reference)) is not None:
            provider = find_provider(name).load()

            async def builtin() -> Copy:
                return BuiltinCopy(provider, bus=host.bus, rpc=host.rpc)

            return _Source(builtin)
        if reference.startswith(PROCESS_SCHEME):
            command = process_command(reference.removeprefix(PROCESS_SCHEME))

            async def installed() -> Copy:
                return ProcessCopy(
                    command, bus=host.bus, environment=host.environment, guardian=self._guardian
                )

            return _Source(installed)
        fetched = await host.fetcher.executable(reference)
        host.judge.admit(fetched.claims)

        async def foreign() -> Copy:
            path = fetched.path
            if not path.exists():
                # It had to make room for others; this very one is fetched again.
                path = (await host.fetcher.executable(fetched.reference)).path
            return ProcessCopy(
                (str(path),),
                bus=host.bus,
                environment=host.environment,
                guardian=self._guardian,
                foreign=True,
            )

        return _Source(foreign, claims=fetched.claims, host_scoped=False)


def _builtin_name(reference: str) -> str | None:
    for scheme in BUILTIN_SCHEMES:
        if reference.startswith(scheme):
            return reference.removeprefix(scheme)
    return None

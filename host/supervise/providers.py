"""The providers of this host by id: starting and stopping them, and passing on what changes."""

import asyncio
import uuid
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

import structlog

from host.artefacts.fetch import FILE_SCHEME, Fetcher
from host.events import Events
from host.supervise.copies import BuiltinCopy, Copy, ProcessCopy, find_provider, process_command
from host.supervise.supervisor import Knowledge, Supervisor
from lattice import errors, limits, names
from lattice.bus import Bus
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
    environment: Mapping[str, str]
    """Environment of provider processes: the host's own is not theirs to see."""
    log_level: str
    structured_logging: bool


class Providers:
    """Starts, stops and informs this host's providers."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._host = surroundings
        self._supervisors: dict[str, Supervisor] = {}
        self._starting: set[str] = set()
        self._stopping = False

    def __contains__(self, provider_id: str) -> bool:
        return provider_id in self._supervisors or provider_id in self._starting

    def describe(self) -> list[ProviderDescription]:
        return [
            ProviderDescription(
                id=provider_id,
                image_ref=supervisor.command.provider_ref,
                annotations=supervisor.command.annotations,
            )
            for provider_id, supervisor in sorted(self._supervisors.items())
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
        if len(self._supervisors) + len(self._starting) >= PROVIDERS_MAX:
            raise errors.Overloaded(f"this host runs {PROVIDERS_MAX} providers already")
        self._host.state.check_configs(command.config)
        self._new_copy(command.provider_ref)
        self._starting.add(provider_id)

    async def start(self, command: StartProvider) -> None:
        """Start a provider whose id is reserved, and say how it went in an event."""
        supervisor = Supervisor(
            command,
            host_data=lambda knowledge: self._host_data(command, knowledge),
            knowledge=lambda: self._knowledge(command),
            new_copy=lambda: self._new_copy(command.provider_ref),
            events=self._host.events,
            host_id=self._host.host_id,
        )
        try:
            await supervisor.start()
            if self._stopping:
                await supervisor.stop()
                raise errors.Draining("this host is stopping")
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
        self._supervisors[command.provider_id] = supervisor
        log.info("provider started", provider=command.provider_id, reference=command.provider_ref)
        await self._host.events.publish(
            "provider_started",
            host_id=self._host.host_id,
            image_ref=command.provider_ref,
            provider_id=command.provider_id,
            annotations=command.annotations,
        )

    async def stop(self, provider_id: str) -> None:
        """Stop a provider; returns when it has ended.

        Raises:
            NotFound: it does not run here; wasmCloud's words.
        """
        supervisor = self._supervisors.pop(provider_id, None)
        if supervisor is None:
            raise errors.NotFound("provider with that ID is not running")
        await supervisor.stop()
        log.info("provider stopped", provider=provider_id)
        await self._host.events.publish(
            "provider_stopped",
            host_id=self._host.host_id,
            provider_id=provider_id,
            annotations=supervisor.command.annotations,
            reason="stop",
            instance_id=provider_id,
            public_key=provider_id,
            link_name="default",
        )

    async def stop_sources(self) -> None:
        """Stop the providers that call actors, so that nothing new comes in; start no more."""
        self._stopping = True
        await self._stop_several(
            provider_id
            for provider_id, supervisor in self._supervisors.items()
            if any(link.source_id == provider_id for link in supervisor.told.links.values())
        )

    async def stop_all(self) -> None:
        self._stopping = True
        await self._stop_several(self._supervisors)

    async def _stop_several(self, provider_ids: Iterable[str]) -> None:
        async def stop(provider_id: str) -> None:
            # A control request may have been quicker.
            with suppress(errors.NotFound):
                await self.stop(provider_id)

        await asyncio.gather(*map(stop, list(provider_ids)))

    def links_changed(self, difference: Difference) -> None:
        concerned = {
            entity
            for link in (*difference.put, *difference.deleted)
            for entity in (link.source_id, link.target)
        }
        for provider_id, supervisor in self._supervisors.items():
            if provider_id in concerned:
                supervisor.refresh()

    def configs_changed(self) -> None:
        # Configs are few and change rarely: each provider finds out by itself what concerns it.
        for supervisor in self._supervisors.values():
            supervisor.refresh()

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

    def _host_data(self, command: StartProvider, knowledge: Knowledge) -> HostData:
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
        )

    def _new_copy(self, reference: str) -> Copy:
        """A copy of the kind that the reference asks for, not started.

        Raises:
            InvalidRequest: no such kind.
            NotFound: no such provider is installed.
            Denied: a file, which this host does not allow.
        """
        host = self._host
        for scheme in BUILTIN_SCHEMES:
            if reference.startswith(scheme):
                provider = find_provider(reference.removeprefix(scheme)).load()
                return BuiltinCopy(provider, bus=host.bus, rpc=host.rpc)
        foreign = reference.startswith(FILE_SCHEME)
        if foreign:
            command: tuple[str, ...] = (str(host.fetcher.local_path(reference)),)
        elif reference.startswith(PROCESS_SCHEME):
            command = process_command(reference.removeprefix(PROCESS_SCHEME))
        else:
            raise errors.InvalidRequest(
                f"can't start {reference[:200]!r}: want lattice+builtin://NAME,"
                " lattice+process://NAME, or file:///PATH on a host that allows it"
            )
        return ProcessCopy(command, bus=host.bus, environment=host.environment, foreign=foreign)

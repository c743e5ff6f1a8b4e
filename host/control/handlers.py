"""What each control request does: one method each, named for its subject."""

import asyncio
from collections.abc import Callable
from typing import Protocol

import structlog

from host.actors.registry import Actors
from host.control.foreign import ForeignProviders
from host.control.server import Handler
from host.events import Events
from host.labels import Labels
from host.supervise.providers import Providers
from lattice import errors, limits
from lattice.aio.tasks import TaskGroup
from lattice.registry.credentials import Credentials, RegistryAccess
from lattice.state.store import State, is_secret
from lattice.subjects import ControlSubject
from lattice.wire import control

log = structlog.get_logger()

BID_DELAY_S = 0.02
"""How long a fully loaded host holds back its bid: ``wash`` takes the first that comes."""


class HostFacts(Protocol):
    """What a host says of itself."""

    @property
    def load(self) -> float:
        """Share of its instances that run, 0 to 1."""
        ...

    @property
    def draining(self) -> bool:
        """Whether it takes on nothing new, as it is going away."""
        ...

    @property
    def labels(self) -> Labels: ...

    def describe(self) -> control.Host: ...

    async def inventory(
        self, *, after: str = "", bytes_max: int | None = None
    ) -> control.InventoryPart:
        """The components behind that id, as many as have room, and the rest of the host."""
        ...


class Handlers:
    """The control interface of one host."""

    def __init__(
        self,
        *,
        host_id: str,
        facts: HostFacts,
        actors: Actors,
        providers: Providers,
        state: State,
        events: Events,
        foreign: ForeignProviders,
        registries: RegistryAccess,
        tasks: TaskGroup,
        stop_host: Callable[[float | None], None],
    ) -> None:
        """``stop_host`` takes the seconds that running calls have to end."""
        self._host_id = host_id
        self._facts = facts
        self._actors = actors
        self._providers = providers
        self._state = state
        self._events = events
        self._foreign = foreign
        self._registries = registries
        self._tasks = tasks
        self._stop_host = stop_host

    def table(self) -> dict[tuple[str, str], Handler]:
        """Every request that is supported, by noun and verb."""
        return {
            ("host", "ping"): self.host_ping,
            ("host", "get"): self.host_get,
            ("host", "stop"): self.host_stop,
            ("component", "auction"): self.component_auction,
            ("component", "scale"): self.component_scale,
            ("component", "update"): self.component_update,
            ("provider", "auction"): self.provider_auction,
            ("provider", "start"): self.provider_start,
            ("provider", "stop"): self.provider_stop,
            ("link", "get"): self.link_get,
            ("link", "put"): self.link_put,
            ("link", "del"): self.link_del,
            ("claims", "get"): self.claims_get,
            ("config", "get"): self.config_get,
            ("config", "put"): self.config_put,
            ("config", "del"): self.config_del,
            ("label", "put"): self.label_put,
            ("label", "del"): self.label_del,
            ("registry", "put"): self.registry_put,
        }

    async def host_ping(self, _subject: ControlSubject, _body: bytes) -> bytes:
        return control.accepted(self._facts.describe().to_json())

    async def host_get(self, _subject: ControlSubject, body: bytes) -> bytes:
        if not body:
            return control.list_inventory(await self._facts.inventory())
        page = control.parse(control.InventoryPage, body, what="inventory page")
        return control.list_inventory(
            await self._facts.inventory(after=page.after, bytes_max=limits.INVENTORY_BYTES)
        )

    async def host_stop(self, _subject: ControlSubject, body: bytes) -> bytes:
        command = control.parse(control.StopHost, body or b"{}", what="stop command")
        self._check_host(command.host_id)
        # Milliseconds: wasmCloud's documentation says seconds in places, its code does not.
        self._stop_host(None if command.timeout is None else command.timeout / 1000)
        return control.accepted(message="successfully handled stop host")

    async def component_auction(self, _subject: ControlSubject, body: bytes) -> bytes | None:
        request = control.parse(control.ComponentAuction, body, what="component auction command")
        if request.component_id in self._actors or not self._would_run(request.constraints):
            return None
        await self._hold_back()
        bid = control.ComponentBid(**request.model_dump(), host_id=self._host_id)
        return control.accepted(bid.to_json())

    async def component_scale(self, _subject: ControlSubject, body: bytes) -> bytes:
        command = control.parse(control.ScaleComponent, body, what="component scale command")
        self._check_host(command.host_id)
        self._check_taking_on()
        if command.count and command.component_id in self._providers:
            raise errors.AlreadyExists(f"{command.component_id} is the id of a provider here")
        await self._state.catch_up(command.config)
        remark = self._actors.check(command)
        _note_secrets(command.component_id, command.config)
        self._tasks.spawn(self._actors.scale(command), name=f"scale {command.component_id}")
        return control.accepted(message=remark)

    async def component_update(self, _subject: ControlSubject, body: bytes) -> bytes:
        command = control.parse(control.UpdateComponent, body, what="component update command")
        self._check_host(command.host_id)
        actor_id, new = command.component_id, command.new_component_ref
        if (old := self._actors.check_update(command)) is None:
            return control.accepted(message=f"component {actor_id} already updated to {new}")
        self._tasks.spawn(self._actors.update(command), name=f"update {actor_id}")
        return control.accepted(message=f"component {actor_id} updating from {old} to {new}")

    async def provider_auction(self, _subject: ControlSubject, body: bytes) -> bytes | None:
        request = control.parse(control.ProviderAuction, body, what="provider auction command")
        if request.provider_id in self._providers or not self._would_run(request.constraints):
            return None
        await self._hold_back()
        bid = control.ProviderBid(**request.model_dump(), host_id=self._host_id)
        return control.accepted(bid.to_json())

    async def provider_start(self, _subject: ControlSubject, body: bytes) -> bytes:
        command = control.parse(control.StartProvider, body, what="provider start command")
        self._check_host(command.host_id)
        self._check_taking_on()
        if command.provider_id in self._actors:
            raise errors.AlreadyExists(f"{command.provider_id} is the id of an actor here")
        await self._state.catch_up(command.config)
        self._providers.reserve(command)
        _note_secrets(command.provider_id, command.config)
        self._tasks.spawn(self._providers.start(command), name=f"start {command.provider_id}")
        return control.accepted(message="successfully started provider")

    async def provider_stop(self, _subject: ControlSubject, body: bytes) -> bytes:
        command = control.parse(control.StopProvider, body, what="provider stop command")
        self._check_host(command.host_id)
        await self._providers.stop(command.provider_id)
        return control.accepted(message="successfully stopped provider")

    async def link_get(self, _subject: ControlSubject, body: bytes) -> bytes:
        # 1.x asks with nothing, and would not look at what there is.
        page = control.parse(control.LinkPage, body, what="link page") if body else None
        return control.list_links(self._state.links, page)

    async def link_put(self, _subject: ControlSubject, body: bytes) -> bytes:
        link = control.parse(control.Link, body, what="wrpc link definition")
        try:
            await self._state.put_link(link)
        except errors.LatticeError as error:
            await self._events.publish("linkdef_set_failed", **link.to_json(), error=error.text)
            raise
        _note_secrets(link.source_id, [*link.source_config, *link.target_config])
        await self._foreign.put_link(link)
        await self._events.publish("linkdef_set", **link.to_json())
        return control.accepted(message="successfully set link")

    async def link_del(self, _subject: ControlSubject, body: bytes) -> bytes:
        request = control.parse(control.DeleteLink, body, what="wrpc link definition")
        deleted = await self._state.delete_link(request)
        if deleted is not None:
            await self._foreign.delete_link(deleted)
        found = {"target": deleted.target, "interfaces": deleted.interfaces} if deleted else {}
        await self._events.publish(
            "linkdef_deleted",
            source_id=request.source_id,
            name=request.name,
            wit_namespace=request.wit_namespace,
            wit_package=request.wit_package,
            **found,
        )
        return control.accepted(message="successfully deleted link")

    async def claims_get(self, _subject: ControlSubject, _body: bytes) -> bytes:
        return control.accepted([claims.to_map() for claims in self._state.claims])

    async def config_get(self, subject: ControlSubject, _body: bytes) -> bytes:
        config = self._state.config(_name(subject))
        if config is None:
            # A success without a response: wasmCloud's clients read it as "none".
            return control.accepted(message="Configuration not found")
        return control.accepted(config)

    async def config_put(self, subject: ControlSubject, body: bytes) -> bytes:
        name = _name(subject)
        await self._state.put_config(name, body)
        await self._events.publish("config_set", config_name=name)
        return control.accepted(message="successfully put config")

    async def config_del(self, subject: ControlSubject, _body: bytes) -> bytes:
        name = _name(subject)
        await self._state.delete_config(name)
        await self._events.publish("config_deleted", config_name=name)
        return control.accepted(message="successfully deleted config")

    async def label_put(self, _subject: ControlSubject, body: bytes) -> bytes:
        label = control.parse(control.PutLabel, body, what="put label request")
        self._facts.labels.put(label.key, label.value)
        await self._tell_labels()
        return control.accepted(message="successfully put label")

    async def label_del(self, _subject: ControlSubject, body: bytes) -> bytes:
        label = control.parse(control.DeleteLabel, body, what="delete label request")
        if not self._facts.labels.delete(label.key):
            return control.accepted(message="successfully deleted label (no such label)")
        await self._tell_labels()
        return control.accepted(message="successfully deleted label")

    async def registry_put(self, _subject: ControlSubject, body: bytes) -> bytes:
        given = control.parse_registries(body)
        self._registries.put({registry: _credentials(each) for registry, each in given.items()})
        return control.accepted(message="successfully put registries")

    async def _tell_labels(self) -> None:
        labels = self._facts.labels.all()
        await self._events.publish("labels_changed", host_id=self._host_id, labels=labels)

    def _check_host(self, host_id: str) -> None:
        if host_id not in ("", self._host_id):
            raise errors.InvalidRequest(f"invalid host_id [{host_id}]")

    def _check_taking_on(self) -> None:
        if self._facts.draining:
            raise errors.Draining("this host is stopping")

    def _would_run(self, constraints: dict[str, str]) -> bool:
        """Whether this host bids in an auction with these constraints."""
        return not self._facts.draining and self._facts.labels.satisfy(constraints)

    async def _hold_back(self) -> None:
        await asyncio.sleep(BID_DELAY_S * self._facts.load)


def _name(subject: ControlSubject) -> str:
    if subject.name is None:
        raise errors.InvalidRequest("unsupported subject")
    return subject.name


def _note_secrets(entity: str, config_names: list[str]) -> None:
    """Say that references into a secrets backend are kept, and nothing more."""
    if secrets := [name for name in config_names if is_secret(name)]:
        log.warning("secrets are not fetched: no backend is supported", of=entity, names=secrets)


def _credentials(given: control.RegistryCredential) -> Credentials:
    """What 1.x makes of the fields: a token beside a user's name is a password.

    Raises:
        InvalidRequest: a user's name or a password alone.
    """
    password = given.password or (given.token if given.username else None)
    if bool(given.username) != bool(password):
        raise errors.InvalidRequest("a registry wants username and password, or a token alone")
    if given.username:
        return Credentials(username=given.username, password=password)
    return Credentials(token=given.token)

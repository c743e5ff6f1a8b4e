"""What each control request does: one method each, named for its subject."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from host.actors.registry import Actors
from host.control.server import Handler
from host.events import Events
from host.supervise.providers import Providers
from lattice import errors
from lattice.aio.tasks import TaskGroup
from lattice.state.store import State
from lattice.subjects import ControlSubject
from lattice.wire import control

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
    def labels(self) -> dict[str, str]: ...

    def describe(self) -> control.Host: ...

    def inventory(self) -> control.HostInventory: ...


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
            ("provider", "auction"): self.provider_auction,
            ("provider", "start"): self.provider_start,
            ("provider", "stop"): self.provider_stop,
            ("link", "get"): self.link_get,
            ("link", "put"): self.link_put,
            ("link", "del"): self.link_del,
            ("config", "get"): self.config_get,
            ("config", "put"): self.config_put,
            ("config", "del"): self.config_del,
        }

    async def host_ping(self, _subject: ControlSubject, _body: bytes) -> bytes:
        return control.accepted(self._facts.describe().to_json())

    async def host_get(self, _subject: ControlSubject, _body: bytes) -> bytes:
        return control.accepted(self._facts.inventory().to_json())

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
        self._tasks.spawn(self._actors.scale(command), name=f"scale {command.component_id}")
        return control.accepted(message=remark)

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
        self._tasks.spawn(self._providers.start(command), name=f"start {command.provider_id}")
        return control.accepted(message="successfully started provider")

    async def provider_stop(self, _subject: ControlSubject, body: bytes) -> bytes:
        command = control.parse(control.StopProvider, body, what="provider stop command")
        self._check_host(command.host_id)
        await self._providers.stop(command.provider_id)
        return control.accepted(message="successfully stopped provider")

    async def link_get(self, _subject: ControlSubject, _body: bytes) -> bytes:
        return control.accepted([link.to_json() for link in self._state.links])

    async def link_put(self, _subject: ControlSubject, body: bytes) -> bytes:
        link = control.parse(control.Link, body, what="wrpc link definition")
        try:
            await self._state.put_link(link)
        except errors.LatticeError as error:
            await self._events.publish("linkdef_set_failed", **link.to_json(), error=error.text)
            raise
        await self._events.publish("linkdef_set", **link.to_json())
        return control.accepted(message="successfully set link")

    async def link_del(self, _subject: ControlSubject, body: bytes) -> bytes:
        request = control.parse(control.DeleteLink, body, what="wrpc link definition")
        deleted = await self._state.delete_link(request)
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

    async def config_get(self, subject: ControlSubject, _body: bytes) -> bytes:
        config = self._state.config(_name(subject))
        if config is None:
            # A success without a response: wasmCloud's clients read it as "none".
            return control.accepted(message="Configuration not found")
        return control.accepted(config)

    async def config_put(self, subject: ControlSubject, body: bytes) -> bytes:
        name = _name(subject)
        await self._state.put_config(name, control.parse_config(body))
        await self._events.publish("config_set", config_name=name)
        return control.accepted(message="successfully put config")

    async def config_del(self, subject: ControlSubject, _body: bytes) -> bytes:
        name = _name(subject)
        await self._state.delete_config(name)
        await self._events.publish("config_deleted", config_name=name)
        return control.accepted(message="successfully deleted config")

    def _check_host(self, host_id: str) -> None:
        if host_id not in ("", self._host_id):
            raise errors.InvalidRequest(f"invalid host_id [{host_id}]")

    def _check_taking_on(self) -> None:
        if self._facts.draining:
            raise errors.Draining("this host is stopping")

    def _would_run(self, constraints: dict[str, str]) -> bool:
        """Whether this host bids in an auction with these constraints."""
        labels = self._facts.labels
        return not self._facts.draining and all(
            labels.get(key) == value for key, value in constraints.items()
        )

    async def _hold_back(self) -> None:
        await asyncio.sleep(BID_DELAY_S * self._facts.load)


def _name(subject: ControlSubject) -> str:
    if subject.name is None:
        raise errors.InvalidRequest("unsupported subject")
    return subject.name

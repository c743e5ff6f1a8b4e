"""One method per control request, as wasmCloud 1.x's control interface has them.

Scale, update and start are acknowledged at once and done later: whoever needs the outcome follows
``outcome`` of the event that tells it, opened *before* the request is sent.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from lattice import errors, limits, subjects
from lattice.bus import Bus, Message
from lattice.wire import control, events

log = structlog.get_logger()

AUCTION_TIMEOUT_S = 2.0
"""How long an auction takes bids; hosts delay theirs by their load, so the first is the best."""

PING_QUIET_S = 0.5
"""When no further host answered for so long, all have: round trips don't differ by more."""

PAGES_MAX = 1_000
"""Pages of links that are taken; a host that sends more goes round in circles."""

EVENTS_WAITING_MAX = 10_000
"""Events held for a slow reader; older ones are dropped first."""

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")

_LATER = ConfigDict(defer_build=True)
"""To make an adapter takes longer than to import the rest, and few are used by one command."""

_links = TypeAdapter(list[control.Link], config=_LATER)
_claims = TypeAdapter(list[dict[str, str]], config=_LATER)
_config = TypeAdapter(dict[str, str], config=_LATER)


@dataclass(frozen=True, slots=True)
class Event:
    """A lattice event: its name without wasmCloud's prefix, the host it is from, its data."""

    name: str
    source: str
    data: dict[str, Any]


class NoHosts(errors.Unavailable):
    """No host at all is there to ask."""

    remedy = "where there are hosts, see that --lattice and --nats name theirs"


class ControlClient:
    """Asks the hosts of one lattice. Every method may raise ``Unavailable`` when NATS is away."""

    def __init__(
        self,
        bus: Bus,
        lattice: str,
        *,
        timeout_s: float = limits.CONTROL_TIMEOUT_S,
        prefix: str = subjects.CONTROL_PREFIX,
    ) -> None:
        """``prefix``: the hosts' ``ctl_topic_prefix``."""
        self._bus = bus
        self._lattice = lattice
        self._timeout_s = timeout_s
        self._prefix = prefix

    async def hosts(self, *, wait_s: float | None = None) -> list[control.Host]:
        """Every host that answers a ping in time, by name; nonsense is left out."""
        answers = await self._bus.request_many(
            self._subject("host", "ping"),
            timeout_s=wait_s or self._timeout_s,
            quiet_s=PING_QUIET_S,
        )
        hosts = []
        for answer in answers:
            try:
                hosts.append(_response(control.Host, answer))
            except errors.LatticeError as error:
                log.warning("a host's answer can't be read", error=error.text)
        return sorted(hosts, key=lambda host: (host.friendly_name, host.id))

    async def inventory(self, host_id: str) -> control.HostInventory:
        """What runs on a host; as many requests as it takes.

        Raises:
            NotFound: no host of that id answers.
        """
        page = control.InventoryPage()
        inventory: control.HostInventory | None = None
        for _ in range(PAGES_MAX):
            reply = _accepted(await self._ask_host(host_id, "host", "get", page))
            part = _validated(TypeAdapter(control.HostInventory), reply.response)
            if inventory is None:
                inventory = part
            else:
                inventory.components.extend(part.components)
            # A 1.x host sends all that it has at once.
            if reply.next is None or not part.components:
                break
            page = control.InventoryPage(after=part.components[-1].id)
        assert inventory is not None, "there is a first page"
        return inventory

    async def stop_host(self, host_id: str, *, timeout_ms: int | None = None) -> None:
        """Have a host drain and end; ``timeout_ms`` bounds the wait for running calls.

        Raises:
            NotFound: no host of that id answers.
        """
        command = control.StopHost(host_id=host_id, timeout=timeout_ms)
        await self._ask_host(host_id, "host", "stop", command)

    async def auction_component(
        self, reference: str, component_id: str, constraints: dict[str, str]
    ) -> control.ComponentBid | None:
        """The first, and so best, host that would run an actor; None when none would."""
        request = control.ComponentAuction(
            component_ref=reference, component_id=component_id, constraints=constraints
        )
        return await self._auction("component", request, control.ComponentBid)

    async def auction_provider(
        self, reference: str, provider_id: str, constraints: dict[str, str]
    ) -> control.ProviderBid | None:
        """The first, and so best, host that would run a provider; None when none would."""
        request = control.ProviderAuction(
            provider_ref=reference, provider_id=provider_id, constraints=constraints
        )
        return await self._auction("provider", request, control.ProviderBid)

    async def scale_component(self, command: control.ScaleComponent) -> str:
        """Have a host run an actor with at most ``count`` instances at once; 0 stops it.

        Returns the host's remark, which may be empty.

        Raises:
            NotFound: no host of that id answers.
            InvalidRequest: the host refused the command.
        """
        message = await self._ask_host(command.host_id, "component", "scale", command)
        return _accepted(message).message

    async def update_component(self, command: control.UpdateComponent) -> str:
        """Have a host give a running actor another image; no call fails by it.

        Returns the host's remark.

        Raises:
            NotFound: no host of that id answers, or the actor does not run there.
        """
        message = await self._ask_host(command.host_id, "component", "update", command)
        return _accepted(message).message

    async def start_provider(self, command: control.StartProvider) -> None:
        """Have a host start a provider.

        Raises:
            NotFound: no host of that id answers.
            AlreadyExists: a provider of that id runs there.
        """
        await self._ask_host(command.host_id, "provider", "start", command)

    async def stop_provider(self, provider_id: str, host_id: str) -> None:
        """Have a host stop a provider; returns when it has.

        Raises:
            NotFound: no host of that id answers, or the provider does not run there.
        """
        command = control.StopProvider(provider_id=provider_id, host_id=host_id)
        # The answer comes when it has ended, and one that hangs is asked, told and then killed.
        patience_s = 2 * limits.PROVIDER_STOP_TIMEOUT_S
        await self._ask_host(host_id, "provider", "stop", command, patience_s=patience_s)

    async def links(self) -> list[control.Link]:
        """Every link, in order; as many requests as it takes."""
        links: list[control.Link] = []
        page = control.LinkPage()
        for _ in range(PAGES_MAX):
            reply = _accepted(await self._ask("link", "get", body=page))
            taken = _validated(_links, reply.response)
            links += taken
            # A 1.x host sends all that it has at once.
            if reply.next is None or not taken:
                break
            page = control.LinkPage(after=taken[-1].order)
        return links

    async def put_link(self, link: control.Link) -> None:
        """Store a link; it is in force when this returns, on every host within milliseconds.

        Raises:
            Conflict: the name is taken by a link to another target.
            NotFound: it names a config that does not exist.
            InvalidRequest: not a proper link.
        """
        _accepted(await self._ask("link", "put", body=link))

    async def delete_link(self, request: control.DeleteLink) -> None:
        """Delete a link; no error when there is none.

        Raises:
            Conflict: several match, and the request names no target.
        """
        _accepted(await self._ask("link", "del", body=request))

    async def claims(self) -> list[dict[str, str]]:
        """What signed artefacts say of themselves, those that were ever started here."""
        reply = _accepted(await self._ask("claims", "get"))
        return _validated(_claims, reply.response)

    async def config(self, name: str) -> dict[str, str] | None:
        """A named config, or None."""
        reply = _accepted(await self._ask("config", "get", name))
        return None if reply.response is None else _validated(_config, reply.response)

    async def put_config(self, name: str, config: dict[str, str]) -> None:
        """Store a named config, replacing one of that name."""
        _accepted(await self._ask("config", "put", name, body=config))

    async def delete_config(self, name: str) -> None:
        """Delete a named config; no error when there is none."""
        _accepted(await self._ask("config", "del", name))

    async def put_label(self, host_id: str, key: str, value: str) -> None:
        """Set a label of a host, until it stops.

        Raises:
            NotFound: no host of that id answers.
            InvalidRequest: one of the host's own labels.
        """
        await self._ask_host(host_id, "label", "put", control.PutLabel(key=key, value=value))

    async def delete_label(self, host_id: str, key: str) -> None:
        """Delete a label of a host; no error when it has none of that key.

        Raises:
            NotFound, InvalidRequest: as ``put_label``.
        """
        await self._ask_host(host_id, "label", "del", control.DeleteLabel(key=key))

    async def put_registries(self, registries: Mapping[str, control.RegistryCredential]) -> int:
        """Give every host credentials of registries, until it stops; how many hosts took them."""
        answers = await self._bus.request_many(
            self._subject("registry", "put"),
            _encode({name: credential.to_json() for name, credential in registries.items()}),
            timeout_s=self._timeout_s,
            quiet_s=PING_QUIET_S,
        )
        for answer in answers:
            _accepted(answer)
        return len(answers)

    @asynccontextmanager
    async def events(self, *event_names: str, own: bool = False) -> AsyncIterator["EventStream"]:
        """Listen to events by name, all of wasmCloud's family when none is named.

        With ``own``, to ours that wasmCloud does not know as well. Events are delivered at most
        once: a reader that must not miss an outcome looks at the inventory as well.
        """
        stream = EventStream()
        families = (subjects.event, subjects.own_event) if own else (subjects.event,)
        subscriptions = [
            await self._bus.subscribe(family(self._lattice, name), stream.receive)
            for name in event_names or (">",)
            for family in families
        ]
        # Interest must have reached the server before the request whose outcome is awaited.
        await self._bus.flush()
        try:
            yield stream
        finally:
            for subscription in subscriptions:
                await subscription.unsubscribe()

    def _subject(self, *tokens: str) -> str:
        return subjects.control(self._lattice, *tokens, prefix=self._prefix)

    async def _ask(
        self, noun: str, verb: str, name: str | None = None, body: BaseModel | object = None
    ) -> Message:
        subject = self._subject(noun, verb, *([name] if name is not None else []))
        try:
            return await self._bus.request(subject, _encode(body), deadline=self._deadline())
        except errors.NotRunning:
            raise NoHosts(
                f"no host answers on lattice {self._lattice!r}; start one with: lattice host"
            ) from None

    async def _ask_host(
        self,
        host_id: str,
        noun: str,
        verb: str,
        body: BaseModel | None = None,
        *,
        patience_s: float = 0,
    ) -> Message:
        subject = self._subject(noun, verb, host_id)
        deadline = self._deadline() + patience_s
        try:
            message = await self._bus.request(subject, _encode(body), deadline=deadline)
        except errors.NotRunning:
            raise errors.NotFound(
                f"no host {host_id} answers on lattice {self._lattice!r}; see: lattice get hosts"
            ) from None
        _accepted(message)
        return message

    async def _auction(self, noun: str, request: BaseModel, bid: type[M]) -> M | None:
        answers = await self._bus.request_many(
            self._subject(noun, "auction"),
            _encode(request),
            timeout_s=AUCTION_TIMEOUT_S,
            stop_after=1,
        )
        return _response(bid, answers[0]) if answers else None

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self._timeout_s


class EventStream:
    """Events in the order of their arrival."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Event] = asyncio.Queue(EVENTS_WAITING_MAX)

    async def receive(self, message: Message) -> None:
        if (event := events.decode(message.data)) is not None:
            if self._queue.full():
                self._queue.get_nowait()
            self._queue.put_nowait(Event(*event))

    def __aiter__(self) -> "EventStream":
        return self

    async def __anext__(self) -> Event:
        return await self._queue.get()

    async def wait_for(self, matches: Callable[[Event], bool], *, timeout_s: float) -> Event | None:
        """The next event that matches; None when none came in time."""
        try:
            async with asyncio.timeout(timeout_s):
                async for event in self:
                    if matches(event):
                        return event
        except TimeoutError:
            pass
        return None


def _encode(body: BaseModel | object) -> bytes:
    if body is None:
        return b""
    if isinstance(body, BaseModel):
        return body.model_dump_json(exclude_none=True).encode()
    return json.dumps(body).encode()


def _accepted(message: Message) -> control.ControlReply:
    reply = control.parse(control.ControlReply, message.data, what="control reply")
    reply.raise_for_failure()
    return reply


def _response(kind: type[M], message: Message) -> M:
    return _validated(TypeAdapter(kind), _accepted(message).response)


def _validated(kind: TypeAdapter[T], response: object) -> T:
    try:
        return kind.validate_python(response)
    except ValidationError as error:
        raise errors.InvalidRequest(f"a host answered with something else: {error}") from None

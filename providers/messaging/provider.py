"""The messaging provider: actors' messages out, others' messages in, each along its link.

A link with the provider as its source brings messages to its target; a link with the provider as
its target lets its source send. What a link does not allow does not happen: one that is refused
brings nothing any more, not even what it brought before.
"""

import asyncio
import uuid
from collections.abc import Mapping
from functools import partial

import structlog

from lattice import errors
from lattice.aio import retry
from lattice.aio.tasks import TaskGroup
from lattice.bus import Bus, NatsSettings
from providers.messaging import contract, settings
from providers.messaging.contract import Message
from providers.messaging.grants import Territory
from providers.messaging.settings import HandlerSettings, SendingSettings
from providers.messaging.sources import CoreSource, Source, StreamSource
from providers.sdk import Call, Context, Health, Link, Provider, backends, configuration

log = structlog.get_logger()

STORE_AGAIN_S = 0.05
"""First pause before a message is sent to a stream again that may or may not have it."""
STORE_AGAIN_S_MAX = 1.0

LinkKey = tuple[str, str, str, str, str]


class Connections:
    """A connection for each NATS that links name; the lattice's own is there anyway."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._buses: dict[NatsSettings, Bus] = {}
        self._users: dict[NatsSettings, int] = {}

    async def take(self, where: NatsSettings | None) -> Bus:
        """The connection, until ``leave``; made for the first who wants it.

        Raises:
            Unavailable: nothing answers there.
            Denied: the credentials are refused.
            InvalidRequest: the credentials can't be read.
        """
        if where is None:
            return self._context.bus
        if where not in self._buses:
            name = f"provider {self._context.provider_id}"
            self._buses[where] = await Bus.connect(where, name=name)
        self._users[where] = self._users.get(where, 0) + 1
        return self._buses[where]

    async def leave(self, where: NatsSettings | None) -> None:
        """Close it if nobody else has it."""
        if where is None or where not in self._users:
            return
        self._users[where] -= 1
        if self._users[where] == 0:
            del self._users[where]
            await self._buses.pop(where).aclose()

    @property
    def problems(self) -> list[str]:
        return [
            f"{where.public_url} is away"
            for where, bus in self._buses.items()
            if not bus.is_connected
        ]

    async def aclose(self) -> None:
        buses = list(self._buses.values())
        self._buses.clear()
        self._users.clear()
        await asyncio.gather(*(bus.aclose() for bus in buses))


class Messaging(Provider):
    """Serves ``wasmcloud:messaging`` with NATS: core subjects and JetStream."""

    def __init__(self) -> None:
        self._context: Context | None = None
        self._connections: Connections
        self._config: dict[str, str] = {}
        self._territory = Territory()
        self._links: dict[LinkKey, Link] = {}
        self._inward: dict[LinkKey, tuple[HandlerSettings, list[Source]]] = {}
        self._outward: dict[LinkKey, tuple[SendingSettings, Bus]] = {}
        self._refusals: dict[LinkKey, errors.LatticeError] = {}
        self._ending: set[Source] = set()
        """Of links that are gone: they take nothing more, and finish what they have."""
        self._tasks = TaskGroup("messaging")

    async def start(self, context: Context, config: Mapping[str, str]) -> None:
        """
        Raises:
            InvalidRequest: the configuration is wrong.
        """
        self._context = context
        self._connections = Connections(context)
        self._take_config(config)

    async def drain(self) -> None:
        sources = [*self._sources, *self._ending]
        await asyncio.gather(*(source.drain() for source in sources))

    async def stop(self) -> None:
        if self._context is None:
            return
        await asyncio.gather(*(source.aclose() for source in [*self._sources, *self._ending]))
        await self._tasks.aclose()
        await self._connections.aclose()

    async def update_config(self, config: Mapping[str, str]) -> None:
        """Take a changed configuration; links that it changes work by it at once.

        Raises:
            InvalidRequest: the configuration is wrong, and the one before it stays in force.
        """
        if dict(config) == self._config:
            return
        self._take_config(config)
        for link in list(self._links.values()):
            try:
                await self._put(link)
            except errors.LatticeError as refusal:
                log.warning(
                    "link refused",
                    source=link.source_id,
                    target=link.target,
                    code=refusal.code,
                    error=refusal.text,
                )

    async def put_link(self, link: Link) -> None:
        """Take a link, by which messages come or go from now on.

        Raises:
            InvalidRequest: not a link that this provider can serve, or a setting is wrong.
            Denied: it names subjects that are not for links.
            NotFound: there is no such stream or consumer.
            Unavailable: its NATS is away.
        """
        self._links[link.key] = link
        await self._put(link)

    async def delete_link(self, link: Link) -> None:
        """Take nothing more along the link; messages that its actor has are finished."""
        self._links.pop(link.key, None)
        self._refusals.pop(link.key, None)
        await self._end(link.key)

    async def handle(self, call: Call) -> bytes:
        """Send what an actor wants to have sent.

        Raises:
            NoLink: no such link is known.
            Denied: the link does not allow the subject.
            InvalidRequest: an unknown operation, or a field is wrong.
            PayloadTooLarge: the message is larger than NATS takes.
            NotRunning: nobody listens to a request.
            NotFound: no stream keeps the message, and the link wants that.
            ProviderError: the stream refused it.
            DeadlineExceeded: no answer in time.
            Unavailable: NATS is away.
        """
        if (refusal := self._refusals.get(call.link.key)) is not None:
            # A copy: one error raised by call after call would gather all their tracebacks.
            raise refusal.from_parts(refusal.text, at=refusal.at, detail=refusal.detail)
        if (outward := self._outward.get(call.link.key)) is None:
            raise errors.NoLink(
                call.source, call.link.name, call.interface, target=self._started.provider_id
            )
        sending, bus = outward
        wanted = contract.decode(call.operation, call.payload)
        self._check(wanted.message, sending)
        deadline = backends.answer_by(call.deadline)
        if isinstance(wanted, contract.Publish):
            await _publish(bus, wanted.message, sending, call.key, deadline)
            return contract.encode_published(wanted)
        now = asyncio.get_running_loop().time()
        answer = await bus.request(
            wanted.message.subject,
            wanted.message.body,
            deadline=min(deadline, now + wanted.timeout_s),
        )
        # Its own subject is an inbox of ours, which means nothing to the actor.
        found = Message(
            subject=wanted.message.subject, body=answer.data, reply_to=answer.reply or None
        )
        return contract.encode_answer(wanted, found)

    async def health(self) -> Health:
        problems = [source.problem for source in self._sources if source.problem]
        problems += self._connections.problems
        return Health(healthy=not problems, message="; ".join(sorted(problems)) or None)

    @property
    def _started(self) -> Context:
        assert self._context is not None, "start comes before everything else"
        return self._context

    @property
    def _sources(self) -> list[Source]:
        return [source for _, sources in self._inward.values() for source in sources]

    def _take_config(self, config: Mapping[str, str]) -> None:
        territory = settings.parse_territory(config)
        settings.parse_sending(config, {})
        if unknown := configuration.ignored(config, settings.PROVIDER_KEYS):
            log.warning("provider configuration keys ignored", keys=unknown)
        self._config, self._territory = dict(config), territory

    def _check(self, message: Message, sending: SendingSettings) -> None:
        """Whether a link may send a message; where answers to it go, others will send for it."""
        for subject in (message.subject, message.reply_to):
            if subject is not None:
                self._territory.check_send(
                    subject, allowed=sending.allowed, is_answering=sending.is_answering
                )

    async def _put(self, link: Link) -> None:
        try:
            is_inward = self._is_inward(link)
            known = settings.HANDLER_KEYS if is_inward else settings.CONSUMER_KEYS
            config = link.source_config if is_inward else link.target_config
            if unknown := configuration.ignored(config, known):
                log.warning(
                    "link configuration keys ignored",
                    source=link.source_id,
                    target=link.target,
                    keys=unknown,
                )
            if is_inward:
                await self._open_inward(link)
            else:
                await self._open_outward(link)
        except errors.LatticeError as refusal:
            self._refusals[link.key] = refusal
            await self._end(link.key)
            raise
        self._refusals.pop(link.key, None)

    def _is_inward(self, link: Link) -> bool:
        """Whether messages go to the link's target, the actor.

        Raises:
            InvalidRequest: the link is for something else, or the wrong way round.
        """
        if (link.wit_namespace, link.wit_package) != contract.PACKAGE:
            raise errors.InvalidRequest(
                f"the provider serves {':'.join(contract.PACKAGE)}, not {link.wit_namespace}:"
                f"{link.wit_package}; put the link with: wasmcloud messaging"
            )
        is_inward = link.source_id == self._started.provider_id
        wanted, others, other = (
            (contract.HANDLERS, contract.CONSUMERS, contract.CONSUMER)
            if is_inward
            else (contract.CONSUMERS, contract.HANDLERS, contract.HANDLER)
        )
        if not others.isdisjoint(link.interfaces) and wanted.isdisjoint(link.interfaces):
            raise errors.InvalidRequest(
                f"a link for {other} has the {'actor' if is_inward else 'provider'} as its source:"
                f" lattice link put {link.target} {link.source_id} wasmcloud messaging"
                f" --interface {other}"
            )
        return is_inward

    async def _open_outward(self, link: Link) -> None:
        sending = settings.parse_sending(self._config, link.target_config)
        bus = await self._connections.take(sending.connection)
        await self._end(link.key)
        self._outward[link.key] = (sending, bus)

    async def _open_inward(self, link: Link) -> None:
        # Copies of the provider share a link's messages, or its actor would get each many times.
        queue = f"{self._started.lattice}.{link.source_id}.{link.target}.{link.name}"
        handler = settings.parse_handler(self._config, link.source_config, default_queue=queue)
        self._territory.check_read(each.subject for each in handler.subscriptions)
        bus = await self._connections.take(handler.connection)
        try:
            sources = await self._open_sources(link, handler, bus)
        except BaseException:
            await self._connections.leave(handler.connection)
            raise
        await self._end(link.key)
        self._inward[link.key] = (handler, sources)

    async def _open_sources(self, link: Link, handler: HandlerSettings, bus: Bus) -> list[Source]:
        """All of a link's sources, or none."""
        handle = partial(self._handle_message, link, handler.timeout_s)
        opened: list[Source] = []
        try:
            if handler.subscriptions:
                core = CoreSource(bus, handler, handle, actor=link.target)
                await core.open(handler.subscriptions)
                opened.append(core)
            for consumer in handler.consumers:
                stream = StreamSource(
                    bus,
                    consumer,
                    handler,
                    handle,
                    actor=link.target,
                    territory=self._territory,
                )
                await stream.open()
                opened.append(stream)
        except BaseException:
            await asyncio.gather(*(source.aclose() for source in opened))
            raise
        return opened

    async def _handle_message(self, link: Link, timeout_s: float, message: Message) -> None:
        """Bring a message to the link's actor.

        Raises:
            LatticeError: it was not handled.
        """
        is_wit = not contract.HANDLERS.isdisjoint(link.interfaces)
        delivery = contract.encode_delivery(message, is_wit=is_wit)
        answer = await self._started.call(
            link.target,
            delivery.interface,
            delivery.operation,
            delivery.payload,
            timeout_s=timeout_s,
            link_name=link.name,
        )
        contract.check_handled(answer, is_wit=is_wit)

    async def _end(self, key: LinkKey) -> None:
        """End what a link had; its messages in flight end by themselves."""
        if (outward := self._outward.pop(key, None)) is not None:
            await self._connections.leave(outward[0].connection)
        if (inward := self._inward.pop(key, None)) is not None:
            handler, sources = inward
            self._ending.update(sources)
            self._tasks.spawn(self._finish(handler, sources), name=f"drain {key[1]}")

    async def _finish(self, handler: HandlerSettings, sources: list[Source]) -> None:
        try:
            await asyncio.gather(*(source.drain() for source in sources))
        finally:
            await asyncio.gather(*(source.aclose() for source in sources))
            self._ending.difference_update(sources)
            await self._connections.leave(handler.connection)


async def _publish(
    bus: Bus, message: Message, sending: SendingSettings, key: str | None, deadline: float
) -> None:
    if not sending.is_stored:
        await bus.publish(message.subject, message.body, reply=message.reply_to or "")
        return
    # The same id for every attempt: the stream keeps one of them.
    message_id = key or uuid.uuid4().hex
    for pause_s in retry.backoff(STORE_AGAIN_S, max_s=STORE_AGAIN_S_MAX):
        try:
            await bus.publish_stored(
                message.subject, message.body, message_id=message_id, deadline=deadline
            )
        except errors.Unavailable:
            if asyncio.get_running_loop().time() + pause_s >= deadline:
                raise
        else:
            return
        await asyncio.sleep(pause_s)

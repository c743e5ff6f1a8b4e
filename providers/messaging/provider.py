"""The messaging provider: actors' messages out, others' messages in, each along its link.

A link with the provider as its source brings messages to its target; a link with the provider as
its target lets its source send. What a link does not allow does not happen: one that is refused
brings nothing any more, not even what it brought before.
"""

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from lattice import errors
from lattice.aio import retry
from lattice.aio.tasks import TaskGroup
from lattice.bus import Bus, NatsSettings
from providers.messaging import contract, settings
from providers.messaging.contract import Message
from providers.messaging.grants import Territory
from providers.messaging.settings import HandlerSettings, SendingSettings
from providers.messaging.sources import CoreSource, Source, StreamSource
from providers.sdk import Call, Health, Link, LinkedProvider, backends, configuration
from providers.sdk.linked import check_package
from providers.sdk.sharing import Share, Shared

STORE_AGAIN_S = 0.05
"""First pause before a message is sent to a stream again that may or may not have it."""
STORE_AGAIN_S_MAX = 1.0

Connection = Share[NatsSettings | None, Bus]
"""A connection to a NATS that links name, None for the lattice's own."""


@dataclass(frozen=True, slots=True)
class Outward:
    """What a link lets its actor send, and by which connection."""

    sending: SendingSettings
    connection: Connection


@dataclass(frozen=True, slots=True)
class Inward:
    """Where the messages of a link come from."""

    sources: Sequence[Source]
    connection: Connection


class Messaging(LinkedProvider[Outward | Inward]):
    """Serves ``wasmcloud:messaging`` with NATS: core subjects and JetStream."""

    provider_keys = settings.PROVIDER_KEYS

    def __init__(self) -> None:
        super().__init__()
        self._connections = Shared(self._connect, self._disconnect)
        self._territory = Territory()
        self._ending: set[Source] = set()
        """Of links that are gone: they take nothing more, and finish what they have."""
        self._tasks = TaskGroup("messaging")

    async def drain(self) -> None:
        await asyncio.gather(*(source.drain() for source in [*self._sources, *self._ending]))

    async def stop(self) -> None:
        await asyncio.gather(*(source.aclose() for source in [*self._sources, *self._ending]))
        await self._tasks.aclose()
        await self._connections.aclose()

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
        leading = self.opened_for(call)
        assert isinstance(leading, Outward), "calls come along links to the provider"
        wanted = contract.decode(call.operation, call.payload)
        self._check(wanted.message, leading.sending)
        deadline = backends.answer_by(call.deadline)
        async with self._connections.using(leading.connection) as bus:
            if isinstance(wanted, contract.Publish):
                await _publish(bus, wanted.message, leading.sending, call.key, deadline)
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
        problems += [
            f"{share.where.public_url} is away"
            for share in self._connections.shares
            if share.where is not None and not share.thing.is_connected
        ]
        return Health(healthy=not problems, message="; ".join(sorted(problems)) or None)

    def read_config(self, config: Mapping[str, str]) -> None:
        territory = settings.parse_territory(config)
        settings.parse_sending(config, {})
        self._territory = territory

    async def open_link(self, link: Link, _before: Outward | Inward | None) -> Outward | Inward:
        """Let messages come or go along a link.

        Raises:
            InvalidRequest: not a link that this provider can serve, or a setting is wrong.
            Denied: it names subjects that are not for links.
            NotFound: there is no such stream or consumer.
            Unavailable: its NATS is away.
        """
        is_inward = self._is_inward(link)
        configuration.tell_ignored(
            link.source_config if is_inward else link.target_config,
            settings.HANDLER_KEYS if is_inward else settings.CONSUMER_KEYS,
            source=link.source_id,
            target=link.target,
        )
        return await (self._open_inward(link) if is_inward else self._open_outward(link))

    async def close_link(self, opened: Outward | Inward) -> None:
        """Take nothing more along a link; messages that its actor has are finished."""
        match opened:
            case Outward():
                await self._connections.release(opened.connection)
            case Inward():
                self._ending.update(opened.sources)
                self._tasks.spawn(self._finish(opened), name="drain messages")

    @property
    def _sources(self) -> list[Source]:
        return [
            source
            for opened in self.links.values()
            if isinstance(opened, Inward)
            for source in opened.sources
        ]

    async def _connect(self, where: NatsSettings | None) -> Bus:
        """
        Raises:
            Unavailable: nothing answers there.
            Denied: the credentials are refused.
            InvalidRequest: the credentials can't be read.
        """
        if where is None:
            return self.context.bus
        return await Bus.connect(where, name=f"provider {self.context.provider_id}")

    async def _disconnect(self, bus: Bus) -> None:
        if bus is not self.context.bus:
            await bus.aclose()

    def _check(self, message: Message, sending: SendingSettings) -> None:
        """Whether a link may send a message; where answers to it go, others will send for it."""
        for subject in (message.subject, message.reply_to):
            if subject is not None:
                self._territory.check_send(
                    subject, allowed=sending.allowed, is_answering=sending.is_answering
                )

    def _is_inward(self, link: Link) -> bool:
        """Whether messages go to the link's target, the actor.

        Raises:
            InvalidRequest: the link is for something else, or the wrong way round.
        """
        check_package(link, contract.PACKAGE)
        is_inward = link.source_id == self.context.provider_id
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

    async def _open_outward(self, link: Link) -> Outward:
        sending = settings.parse_sending(self.config, link.target_config)
        return Outward(sending, await self._connections.take(sending.connection))

    async def _open_inward(self, link: Link) -> Inward:
        # Copies of the provider share a link's messages, or its actor would get each many times.
        queue = f"{self.context.lattice}.{link.source_id}.{link.target}.{link.name}"
        handler = settings.parse_handler(self.config, link.source_config, default_queue=queue)
        self._territory.check_read(each.subject for each in handler.subscriptions)
        connection = await self._connections.take(handler.connection)
        try:
            return Inward(await self._open_sources(link, handler, connection.thing), connection)
        except BaseException:
            await self._connections.release(connection)
            raise

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
        answer = await self.context.call(
            link.target,
            delivery.interface,
            delivery.operation,
            delivery.payload,
            timeout_s=timeout_s,
            link_name=link.name,
        )
        contract.check_handled(answer, is_wit=is_wit)

    async def _finish(self, inward: Inward) -> None:
        try:
            await asyncio.gather(*(source.drain() for source in inward.sources))
        finally:
            await asyncio.gather(*(source.aclose() for source in inward.sources))
            self._ending.difference_update(inward.sources)
            await self._connections.release(inward.connection)


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

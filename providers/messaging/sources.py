"""Where a link's messages come from: core subjects, at most once, or a stream, at least once.

Both bring no more to the actor at a time than the link allows, and both end in order: what has
arrived is handled, or goes back to where it came from.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Protocol

import structlog

from lattice import errors, limits
from lattice.aio import retry
from lattice.aio.tasks import TaskGroup, end
from lattice.bus import Bus, PullConsumer, StoredMessage
from lattice.bus import Message as NatsMessage
from lattice.bus import Subscription as BusSubscription
from providers.messaging import delivery, grants
from providers.messaging.contract import Message
from providers.messaging.delivery import Acknowledge, Bury, Settlement, TryAgain
from providers.messaging.grants import Territory
from providers.messaging.settings import ConsumerSettings, HandlerSettings, Subscription

log = structlog.get_logger()

WAITING_BYTES_MAX = 64 * limits.MIB
"""Bodies of the core messages of a link that wait; as an actor's mailbox."""

REPORT_S = 5.0
"""Between two lines in the log about messages that were lost: there may be thousands a second."""

HOLD_S = 0.05
"""First pause before a message is offered again to an actor that does not run or has no room."""
HOLD_S_MAX = 2.0

PULL_AGAIN_S = 0.1
"""First pause before messages are asked for again after that failed."""
PULL_AGAIN_S_MAX = 5.0

SETTLE_S = 60.0
"""How long it is tried to tell the server what became of a message, while NATS is away."""
SETTLE_AGAIN_S = 0.1
SETTLE_AGAIN_S_MAX = 2.0

EXTENSIONS = 3
"""How often within its time for an answer a message in flight is said to be worked on: two of these
may be lost."""

Handle = Callable[[Message], Awaitable[None]]
"""Brings a message to the actor, and returns when that has handled it.

Raises:
    LatticeError: it has not.
"""


class Source(Protocol):
    """One way by which messages come."""

    @property
    def problem(self) -> str | None:
        """What keeps messages from coming; for a health check."""
        ...

    async def drain(self) -> None:
        """Take nothing more, and return when what is in flight has ended."""
        ...

    async def aclose(self) -> None:
        """End at once. Safe to call twice."""
        ...


class CoreSource:
    """Messages of subjects, handed on at most once: what fails, or has no room, is lost."""

    def __init__(self, bus: Bus, settings: HandlerSettings, handle: Handle, *, actor: str) -> None:
        self._bus = bus
        self._settings = settings
        self._handle = handle
        self._actor = actor
        self._waiting: deque[Message] = deque()
        self._waiting_bytes = 0
        self._tasks = TaskGroup(f"messages for {actor}")
        self._subscriptions: list[BusSubscription] = []
        self._lost = 0
        self._reported_at = -REPORT_S

    @property
    def problem(self) -> str | None:
        return None

    async def open(self, subscriptions: tuple[Subscription, ...]) -> None:
        """Subscribe.

        Raises:
            Unavailable: not connected; nothing is subscribed to.
        """
        try:
            for each in subscriptions:
                self._subscriptions.append(
                    await self._bus.subscribe(each.subject, self._receive, queue=each.queue)
                )
            await self._bus.flush()
        except BaseException:
            await self.aclose()
            raise

    async def drain(self) -> None:
        for subscription in self._subscriptions:
            await subscription.drain()
        await self._tasks.join()

    async def aclose(self) -> None:
        for subscription in self._subscriptions:
            await subscription.unsubscribe()
        self._waiting.clear()
        await self._tasks.aclose()

    async def _receive(self, message: NatsMessage) -> None:
        received = Message(
            subject=message.subject, body=message.data, reply_to=message.reply or None
        )
        if len(self._tasks) < self._settings.in_flight_max:
            self._tasks.spawn(self._handle_in_turn(received), name=message.subject)
        elif (
            len(self._waiting) < self._settings.waiting_max
            and self._waiting_bytes + len(message.data) <= WAITING_BYTES_MAX
        ):
            self._waiting.append(received)
            self._waiting_bytes += len(message.data)
        else:
            self._note_lost(
                errors.Overloaded(f"{len(self._waiting)} messages for {self._actor} are waiting")
            )

    async def _handle_in_turn(self, message: Message) -> None:
        """Handle a message, and then those that had to wait for one in flight to end."""
        while True:
            try:
                await self._handle(message)
            except errors.LatticeError as error:
                self._note_lost(error)
            if not self._waiting:
                return
            message = self._waiting.popleft()
            self._waiting_bytes -= len(message.body)

    def _note_lost(self, error: errors.LatticeError) -> None:
        self._lost += 1
        now = time.monotonic()
        if now - self._reported_at >= REPORT_S:
            log.warning(
                "messages were not handled",
                actor=self._actor,
                count=self._lost,
                code=error.code,
                error=error.text,
            )
            self._lost, self._reported_at = 0, now


class StreamSource:
    """Messages of a stream, each handed on until it was handled, or given up for good."""

    def __init__(
        self,
        bus: Bus,
        consumer: ConsumerSettings,
        settings: HandlerSettings,
        handle: Handle,
        *,
        actor: str,
        territory: Territory,
    ) -> None:
        self._bus = bus
        self._wanted = consumer
        self._settings = settings
        self._handle = handle
        self._actor = actor
        self._territory = territory
        self._consumer: PullConsumer | None = None
        self._in_flight: dict[int, StoredMessage] = {}
        """By sequence, as each was delivered last: only that delivery can still be settled."""
        self._freed = asyncio.Event()
        self._draining = asyncio.Event()
        self._pull_problem: str | None = None
        self._bury_problem: str | None = None
        self._tasks = TaskGroup(f"stream {consumer.stream} for {actor}")
        self._handling = TaskGroup(f"messages of {consumer.stream} for {actor}")
        self._following: asyncio.Task[None] | None = None

    @property
    def problem(self) -> str | None:
        return self._pull_problem or self._bury_problem

    async def open(self) -> None:
        """Open the consumer, and begin to pull.

        Raises:
            Denied: it would read what links may not.
            InvalidRequest: the consumer that is there reads something else than the link says.
            LatticeError: as ``Bus.consumer``.
        """
        await self._open_consumer()
        self._following = self._tasks.guard(self._follow, name="pull")
        self._tasks.guard(self._extend, name="extend")

    async def drain(self) -> None:
        self._draining.set()
        if self._following is not None:
            await end(self._following)
        if self._consumer is not None:
            await self._consumer.drain()
        await self._handling.join()

    async def aclose(self) -> None:
        self._draining.set()
        await self._tasks.aclose()
        if self._consumer is not None:
            await self._consumer.drain()
        await self._handling.aclose()

    async def _open_consumer(self) -> None:
        wanted = self._wanted
        # Looked at before anything is made, and again in what was there.
        self._territory.check_read(wanted.filters)
        consumer = await self._bus.consumer(
            wanted.stream,
            wanted.name,
            self._receive,
            filters=wanted.filters,
            ack_wait_s=self._settings.ack_wait_s,
            only_new=self._settings.only_new,
            make=wanted.is_made,
        )
        self._consumer = consumer
        try:
            await self._check(consumer)
        except errors.LatticeError:
            await consumer.drain()
            self._consumer = None
            raise

    async def _check(self, consumer: PullConsumer) -> None:
        wanted, found = self._wanted, consumer.facts.filters
        who = f"consumer {wanted.name} of stream {wanted.stream}"
        if not found:
            raise errors.Denied(
                f"{who} reads all of a stream that copies others; name what the link may read:"
                " subscriptions"
            )
        self._territory.check_read(found)
        if wanted.filters and set(wanted.filters) != set(found):
            raise errors.InvalidRequest(
                f"{who} reads {', '.join(found)}, not {', '.join(wanted.filters)};"
                " name another consumer, which is made then"
            )
        await self._check_dead_letter(found)

    async def _check_dead_letter(self, filters: tuple[str, ...]) -> None:
        if (subject := self._settings.dead_letter) is None:
            return
        self._territory.check_send(subject, allowed=None, is_answering=False)
        kept_in = await self._bus.stream_of(subject)
        if kept_in is None:
            raise errors.NotFound(
                f"no stream keeps dead_letter {subject}; make one with:"
                f" nats stream add NAME --subjects {subject}"
            )
        if kept_in == self._wanted.stream and any(grants.covers(each, subject) for each in filters):
            raise errors.InvalidRequest(
                f"dead_letter is {subject}, which the consumer itself reads: it would go in circles"
            )

    async def _follow(self) -> None:
        """Pull for ever, as many as there is room for."""
        pauses = retry.backoff(PULL_AGAIN_S, max_s=PULL_AGAIN_S_MAX)
        while True:
            try:
                if self._consumer is None:
                    await self._open_consumer()
                assert self._consumer is not None
                room = self._wanted.in_flight_max - len(self._in_flight)
                if room > 0:
                    await self._consumer.pull(room)
                else:
                    self._freed.clear()
                    await self._freed.wait()
            except errors.LatticeError as error:
                self._pull_problem = f"{self._wanted.stream}: {error.text}"
                log.warning(
                    "can't pull messages now",
                    stream=self._wanted.stream,
                    consumer=self._wanted.name,
                    error=error.text,
                )
                await self._drop_consumer()
                await asyncio.sleep(next(pauses))
            else:
                self._pull_problem = None
                pauses = retry.backoff(PULL_AGAIN_S, max_s=PULL_AGAIN_S_MAX)

    async def _drop_consumer(self) -> None:
        """Have the consumer opened anew: it may be gone from the server."""
        before, self._consumer = self._consumer, None
        if before is not None:
            await before.drain()

    async def _extend(self) -> None:
        """Say of all that is in flight, now and then, that it is worked on."""
        while True:
            ack_wait_s = self._settings.ack_wait_s
            if self._consumer is not None:
                ack_wait_s = self._consumer.facts.ack_wait_s
            await asyncio.sleep(ack_wait_s / EXTENSIONS)
            for message in list(self._in_flight.values()):
                try:
                    await message.extend()
                except errors.LatticeError:
                    # Away: it will be delivered again, and there is nobody to tell.
                    break

    def _receive(self, message: StoredMessage) -> None:
        if message.sequence in self._in_flight:
            # The server heard nothing of it for a while: it is worked on all the same.
            self._in_flight[message.sequence] = message
            return
        if self._draining.is_set() or len(self._in_flight) >= self._wanted.in_flight_max:
            self._handling.spawn(self._return(message), name=message.subject)
            return
        self._in_flight[message.sequence] = message
        self._handling.spawn(self._handle_stored(message), name=message.subject)

    async def _handle_stored(self, message: StoredMessage) -> None:
        # Also when it was cancelled: then somebody else is to have it.
        settlement: Settlement = TryAgain(self._settings.retry_s)
        try:
            settlement = await self._attempt(message)
        finally:
            try:
                await self._settle(message.sequence, settlement)
            finally:
                del self._in_flight[message.sequence]
                self._freed.set()

    async def _return(self, message: StoredMessage) -> None:
        """Give back what there is no room for; left alone it would come again too, but later."""
        with suppress(errors.LatticeError):
            await message.give_back()

    @property
    def _deliveries_max(self) -> int:
        """Ours or the server's own, whichever is less: after its own it delivers no more."""
        servers = self._consumer.facts.deliveries_max if self._consumer is not None else None
        return min(self._settings.deliveries_max, servers or self._settings.deliveries_max)

    async def _attempt(self, message: StoredMessage) -> Settlement:
        deliveries_max = self._deliveries_max
        if message.deliveries > deliveries_max + delivery.UNSETTLED_MAX:
            return Bury(delivery.too_often(message.deliveries))
        for pause_s in retry.backoff(HOLD_S, max_s=HOLD_S_MAX):
            try:
                await self._handle(Message(subject=message.subject, body=message.body))
            except errors.LatticeError as error:
                if not delivery.may_wait(error):
                    return delivery.after_failure(
                        error, message.deliveries, self._settings, deliveries_max
                    )
            else:
                return Acknowledge()
            try:
                async with asyncio.timeout(pause_s):
                    await self._draining.wait()
            except TimeoutError:
                continue
            return TryAgain(0)
        raise AssertionError("a back-off has no end")

    async def _settle(self, sequence: int, settlement: Settlement) -> None:
        """Do what was decided, if need be once NATS is back.

        What can't be told to the server before the source ends, or in ``SETTLE_S``, is delivered
        again.
        """
        give_up = time.monotonic() + SETTLE_S
        for pause_s in retry.backoff(SETTLE_AGAIN_S, max_s=SETTLE_AGAIN_S_MAX):
            message = self._in_flight[sequence]
            try:
                match settlement:
                    case Acknowledge():
                        await message.acknowledge()
                    case TryAgain(delay_s):
                        await message.give_back(delay_s)
                    case Bury(error):
                        await self._bury(message, error)
                return
            except errors.LatticeError as error:
                if self._draining.is_set() or time.monotonic() > give_up:
                    log.warning(
                        "a message will be delivered again: it could not be settled",
                        stream=self._wanted.stream,
                        sequence=sequence,
                        error=error.text,
                    )
                    return
            await asyncio.sleep(pause_s)

    async def _bury(self, message: StoredMessage, error: errors.LatticeError) -> None:
        stream, consumer = self._wanted.stream, self._wanted.name
        report = log.bind(
            actor=self._actor,
            stream=stream,
            sequence=message.sequence,
            deliveries=message.deliveries,
            code=error.code,
            error=error.text,
        )
        if (subject := self._settings.dead_letter) is None:
            report.error("a message was given up; the link names no dead_letter")
            await message.give_up()
            return
        headers = delivery.dead_letter_headers(
            message, error, stream=stream, consumer=consumer, actor=self._actor
        )
        try:
            await self._bus.publish_stored(
                subject,
                message.body,
                message_id=f"{stream}.{consumer}.{message.sequence}",
                headers=headers,
                deadline=asyncio.get_running_loop().time() + limits.STATE_TIMEOUT_S,
            )
        except errors.LatticeError as refusal:
            self._bury_problem = f"dead_letter {subject}: {refusal.text}"
            report.error("a message can't be put into the dead letters", refusal=refusal.text)
            await message.give_back(self._settings.retry_s_max)
            return
        self._bury_problem = None
        report.warning("a message is in the dead letters now", dead_letter=subject)
        await message.give_up()

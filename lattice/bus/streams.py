"""JetStream streams: messages that are kept until whoever reads them has dealt with them.

A *consumer* is the server's memory of how far a group of readers has come. Ours ask for messages,
as many as they have room for; what is not acknowledged in time is delivered again. nats-py's own
``fetch`` waits on after the connection was lost, and hands over a whole batch or nothing; here a
request for messages fails like any other, and each message is handed over as it comes.
"""

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import uuid4

import nats.js.errors
from nats.js import JetStreamContext, api

from lattice import errors
from lattice.bus.translation import translated

if TYPE_CHECKING:
    from lattice.bus.connection import Bus, Message, Subscription

PULL_S = 5.0
"""How long a request for messages stays with the server. Should either side lose it, no message is
asked for until it is over."""

READER_FORGOTTEN_S = 30.0
"""How long the server keeps a reader that asks for nothing: several of its requests may be late."""

PULL_MARGIN_S = 2.0
"""After that long a request whose end the server did not tell is taken to be over."""

_ACK = "$JS.ACK."


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAt:
    """Where a stream has put a message."""

    stream: str
    sequence: int
    is_duplicate: bool
    """Whether the stream had a message of that id already, and kept only that one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerFacts:
    """A consumer as it is at the server."""

    stream: str
    name: str
    filters: tuple[str, ...]
    """Subjects that it reads, wildcards included; empty when that is not known, as its stream
    copies others and it reads all of it."""
    ack_wait_s: float
    """A message that is not heard of for so long is delivered again."""
    deliveries_max: int | None
    """After so many deliveries the server gives a message up by itself; None for never."""


class StoredMessage:
    """A message of a stream, to be settled by one of its methods: each may raise ``Unavailable``.

    One that is not settled within the consumer's ``ack_wait_s`` is delivered again.
    """

    __slots__ = ("_bus", "_reply", "body", "deliveries", "headers", "sequence", "subject")

    def __init__(self, bus: "Bus", message: "Message") -> None:
        self._bus = bus
        self._reply = message.reply
        self.subject = message.subject
        self.body = message.data
        self.headers = message.headers or {}
        tokens = message.reply.split(".")
        # $JS.ACK, [domain, account,] stream, consumer, deliveries, sequence and more.
        numbers = tokens[6:8] if len(tokens) >= 11 else tokens[4:6]
        self.deliveries, self.sequence = (int(number) for number in numbers)
        """How often it was delivered, this time included; its place in the stream."""

    async def acknowledge(self) -> None:
        """It was dealt with."""
        await self._bus.publish(self._reply, b"+ACK")

    async def give_back(self, delay_s: float = 0) -> None:
        """Have it delivered again, to whoever asks then."""
        body = b"-NAK"
        if delay_s > 0:
            body += b" " + json.dumps({"delay": int(delay_s * 1e9)}).encode()
        await self._bus.publish(self._reply, body)

    async def give_up(self) -> None:
        """Have it never delivered again."""
        await self._bus.publish(self._reply, b"+TERM")

    async def extend(self) -> None:
        """Say that it is still worked on."""
        await self._bus.publish(self._reply, b"+WPI")


class PullConsumer:
    """One process's end of a consumer. Many, in other processes too, share its messages."""

    def __init__(
        self, bus: "Bus", facts: ConsumerFacts, receive: Callable[[StoredMessage], None]
    ) -> None:
        self._bus = bus
        self.facts = facts
        self._receive = receive
        self._inbox = ""
        self._subscription: Subscription | None = None
        self._wanted = 0
        self._pulling: tuple[str, asyncio.Future[Message]] | None = None

    async def open(self) -> None:
        """Be ready for messages.

        Raises:
            Unavailable: not connected.
        """
        self._inbox = self._bus.new_inbox()
        self._subscription = await self._bus.subscribe(f"{self._inbox}.*", self._take)

    async def pull(self, count: int) -> None:
        """Ask for messages, at most ``count``, and return when they came or none more will.

        Each was handed to ``receive`` as it came. That is within ``PULL_S`` and a little, even if
        there are none. One pull at a time; cancelling it leaves the server free to send still.

        Raises:
            Unavailable: the connection was lost, or there is no such consumer any more.
            Denied: NATS does not permit us to ask.
        """
        loop = asyncio.get_running_loop()
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self.facts.stream}.{self.facts.name}"
        request = {"batch": count, "expires": int(PULL_S * 1e9)}
        with self._bus.awaiting(subject) as (token, ended):
            self._wanted, self._pulling = count, (token, ended)
            timer = loop.call_later(PULL_S + PULL_MARGIN_S, _finish, ended, None)
            try:
                reply = f"{self._inbox}.{token}"
                await self._bus.publish(subject, json.dumps(request).encode(), reply=reply)
                await ended
            finally:
                timer.cancel()
                self._pulling = None

    async def drain(self) -> None:
        """Ask for no more, and return when what was on its way has been handed over."""
        if self._subscription is not None:
            await self._subscription.drain()

    async def _take(self, message: "Message") -> None:
        if message.reply.startswith(_ACK):
            self._wanted -= 1
            if self._wanted <= 0 and self._pulling is not None:
                _finish(self._pulling[1], None)
            self._receive(StoredMessage(self._bus, message))
        elif self._pulling is not None and message.subject.endswith(f".{self._pulling[0]}"):
            _finish(self._pulling[1], _refusal(message.headers or {}, self.facts))


def _refusal(headers: Mapping[str, str], facts: ConsumerFacts) -> errors.LatticeError | None:
    """Why the server ended a request for messages; None when there was nothing wrong with it."""
    status = headers.get("Status", "")
    if status in ("404", "408"):
        return None
    reason = headers.get("Description") or "nobody answers for it"
    return errors.Unavailable(f"consumer {facts.name} of stream {facts.stream}: {status} {reason}")


def _finish(ended: "asyncio.Future[Message]", error: errors.LatticeError | None) -> None:
    if ended.done():
        return
    if error is not None:
        ended.set_exception(error)
    else:
        # Nobody looks at it: there is no one message that ends a request for several.
        ended.set_result(None)  # type: ignore[arg-type]


async def open_consumer(
    jetstream: JetStreamContext,
    stream: str,
    name: str,
    *,
    filters: Iterable[str],
    ack_wait_s: float,
    only_new: bool,
    make: bool,
) -> ConsumerFacts:
    with translated(f"stream {stream}"):
        try:
            config = (await jetstream.stream_info(stream)).config
        except nats.js.errors.NotFoundError:
            raise errors.NotFound(
                f"there is no stream {stream}; make one with: nats stream add {stream}"
            ) from None
        try:
            info = await jetstream.consumer_info(stream, name)
        except nats.js.errors.NotFoundError:
            if not make:
                raise errors.NotFound(f"stream {stream} has no consumer {name}") from None
            wanted = list(filters)
            policy = api.DeliverPolicy.NEW if only_new else api.DeliverPolicy.ALL
            made = api.ConsumerConfig(
                durable_name=name,
                deliver_policy=policy,
                ack_policy=api.AckPolicy.EXPLICIT,
                ack_wait=ack_wait_s,
                filter_subject=wanted[0] if len(wanted) == 1 else None,
                filter_subjects=wanted if len(wanted) > 1 else None,
            )
            # Should another process make it in the meantime, the same is no error.
            info = await jetstream.add_consumer(stream, made)
    if info.config.deliver_subject or info.config.ack_policy != api.AckPolicy.EXPLICIT:
        raise errors.InvalidRequest(
            f"consumer {name} of stream {stream} must be a pull consumer with explicit acks"
        )
    # What it copies from others may be about anything.
    subjects = [] if config.mirror or config.sources else config.subjects or []
    single = [info.config.filter_subject] if info.config.filter_subject else []
    deliveries_max = info.config.max_deliver
    return ConsumerFacts(
        stream=stream,
        name=name,
        filters=tuple(info.config.filter_subjects or single or subjects),
        ack_wait_s=info.config.ack_wait or ack_wait_s,
        deliveries_max=deliveries_max if deliveries_max and deliveries_max > 0 else None,
    )


async def open_reader(
    jetstream: JetStreamContext, stream: str, *, filters: Iterable[str], after: int | None
) -> tuple[ConsumerFacts, int]:
    with translated(f"stream {stream}"):
        last = (await jetstream.stream_info(stream)).state.last_seq
        if after is None:
            after = last
        elif after > last:
            # It is not the stream that it was: one that was made anew counts from one again.
            after = 0
        wanted = list(filters)
        info = await jetstream.add_consumer(
            stream,
            api.ConsumerConfig(
                name=uuid4().hex,
                deliver_policy=api.DeliverPolicy.BY_START_SEQUENCE,
                opt_start_seq=after + 1,
                ack_policy=api.AckPolicy.NONE,
                filter_subject=wanted[0] if len(wanted) == 1 else None,
                filter_subjects=wanted if len(wanted) > 1 else None,
                inactive_threshold=READER_FORGOTTEN_S,
                mem_storage=True,
                num_replicas=1,
            ),
        )
    facts = ConsumerFacts(
        stream=stream, name=info.name, filters=tuple(wanted), ack_wait_s=0, deliveries_max=None
    )
    return facts, after


async def stream_of(jetstream: JetStreamContext, subject: str) -> str | None:
    with translated(f"the stream of {subject}"):
        try:
            return await jetstream.find_stream_name_by_subject(subject)
        except nats.js.errors.NotFoundError:
            return None


def stored_at(answer: bytes, subject: str) -> StoredAt:
    """Read a stream's acknowledgement.

    Raises:
        ProviderError: the stream refused, or it is none; either way nothing was stored.
    """
    try:
        fields = json.loads(answer)
        if "error" in fields:
            reason = str(fields["error"].get("description", "no reason given"))
            raise errors.ProviderError(f"the stream of {subject} refused the message: {reason}")
        return StoredAt(
            stream=str(fields["stream"]),
            sequence=int(fields["seq"]),
            is_duplicate=bool(fields.get("duplicate", False)),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise errors.ProviderError(f"what answered on {subject} is not a stream") from None

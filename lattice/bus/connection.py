"""One NATS connection, made strict.

What nats-py leaves open and we don't (measured on 2.15 and 2.16):

* A request in flight when the server goes away would wait for its whole timeout; here it fails with
  ``unavailable`` as soon as the connection is lost.
* A message published while disconnected would be sent after the reconnection, when its sender has
  long given up; here it fails at once.
* A publisher that waits for a frozen socket would wait beyond its deadline, and the loss of such a
  connection would never be noticed; here neither outlives the other (see ``client``).
* After 60 attempts a connection would close for good; here it tries for ever.
* A subscription's callback runs one message at a time; callbacks here only decide and hand over, so
  they never wait. A cancellation inside one ends the subscription; here it is started again.
* A connection may count as connected and hear nothing; here each is probed and replaced (see
  ``liveness``).
* A server that is told to go says so, and some seconds later closes its connections with whatever
  is on its way; here it is left before, for another one.
"""

import asyncio
import re
from asyncio import FIRST_COMPLETED
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol, Self

import nats.errors
import structlog
from nats.js import JetStreamContext

from lattice import errors, limits
from lattice.aio import retry
from lattice.aio.tasks import TaskGroup
from lattice.bus import library, liveness
from lattice.bus.account import Account, ServerFacts
from lattice.bus.buckets import Bucket, open_bucket
from lattice.bus.client import (
    SUBJECT_BYTES_MAX,
    SUBSCRIPTION_BYTES_MAX,
    SUBSCRIPTION_MESSAGES_MAX,
    Refuse,
    StrictClient,
    check_subject,
    headers_bytes,
)
from lattice.bus.containers import Containers
from lattice.bus.credentials import NatsSettings, login_options, without_credentials
from lattice.bus.liveness import PROBE, Fault, Liveness, Look
from lattice.bus.objects import ObjectStore, open_objects
from lattice.bus.streams import (
    PullConsumer,
    StoredAt,
    StoredMessage,
    open_consumer,
    open_reader,
    stored_at,
    stream_of,
)

log = structlog.get_logger()

CONNECT_TIMEOUT_S = 5.0
"""From dialling to a working connection; a server may accept and then stay silent."""

NEVER_S = 10 * 365 * 86_400
"""The client's own pings would end a connection whose answers are only late; ours don't."""

RECONNECT_WAIT_S = 0.25
"""Pause between attempts to reconnect; a restarted server must be found at once."""

LEAVE_SPREAD_S = 1.0
"""Connections leave a server that is about to go within so long, not all at once."""

LEAVE_ANSWERS_S = 2.0
"""How long those who wait for an answer may get it over the connection that is to be left, while
new questions wait. With the spread, less than the grace period that we recommend for servers."""

LEAVE_S_MAX = 5.0
"""Leaving and arriving: beyond that whatever waits for it hears that there is no connection."""

_FORBIDDEN = re.compile(r'permissions violation for (publish|subscription) to "([^"]+)"')


class Message(Protocol):
    """A message as it arrived."""

    @property
    def subject(self) -> str: ...

    @property
    def reply(self) -> str: ...

    @property
    def data(self) -> bytes: ...

    @property
    def headers(self) -> dict[str, str] | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class BusStatistics:
    """One connection, since it was made. What is counted only grows."""

    connected: bool
    server: str
    """Name of the server at the other end, or of the last one."""
    round_trip_s: float | None
    """Of the last probe that came back."""
    reconnects: int
    replaced: int
    """Times that a probe found it deaf and had it made anew; these are reconnects as well."""
    replaced_for: str
    """The last reason."""
    revived: int
    """Subscriptions, and attempts to reconnect, that had ended and were started again."""
    subscriptions: int
    pending: int
    """Requests that wait for an answer."""
    outgoing_bytes: int
    dropped: int
    """Messages that their subscription had no room for."""
    dropped_by_subject: Mapping[str, int]


class Subscription:
    """Interest in a subject; ends with ``unsubscribe`` or ``drain``, or with its bus."""

    __slots__ = ("_client", "inner")

    def __init__(self, client: StrictClient, inner: Any) -> None:
        self._client = client
        self.inner = inner
        """The client's own."""

    def check(self) -> None:
        """Make sure that it is permitted; whether it is becomes known by the bus's next flush.

        Raises:
            Denied: NATS does not permit this user to hear that subject.
        """
        if self.inner.subject.lower() in self._client.unheard:
            raise errors.Denied(
                f"NATS does not permit this user to subscribe to {self.inner.subject}"
            )

    async def unsubscribe(self) -> None:
        """Stop at once; messages not yet handed to the callback are lost. Safe to call twice."""
        await self._end(self.inner.unsubscribe)

    async def drain(self) -> None:
        """Stop receiving, and return when the callback has seen everything that had arrived."""
        if (leftover := self._client.leftover) is not None:
            # Calls may still come over it.
            await leftover.ended.wait()
        await self._end(self.inner.drain)

    async def _end(self, end: Callable[[], Awaitable[None]]) -> None:
        try:
            await end()
        except (nats.errors.Error, TimeoutError, OSError):
            # Closed already, or the connection is: either way there is no interest left.
            return
        finally:
            # Should the server not have heard of it, a reconnection must not renew the interest.
            self._client.forget(self.inner)


class Bus:
    """A connection to NATS. Make one with ``connect``; close it with ``aclose``."""

    def __init__(self, client: StrictClient, settings: NatsSettings, *, name: str) -> None:
        self._client = client
        self._settings = settings
        self._name = name
        self._jetstream: JetStreamContext = client.jetstream(timeout=limits.STATE_TIMEOUT_S)
        self._inbox = client.new_inbox()
        self._answers: Subscription
        self._probe_subject = f"{self._inbox}.{PROBE}"
        self._probe_forbidden = False
        self._pending: dict[str, tuple[asyncio.Future[Message], str]] = {}
        """Answers to come, and the subject each was asked on, by the last token of its inbox."""
        self._next_token = 0
        self._closing = False
        self._leaving: asyncio.Task[None] | None = None
        self._must_leave_again = False
        """The server that was come to is about to go as well."""
        self._questions_held: asyncio.Future[None] | None = None
        """While those who wait for an answer get it before a server is left; done after that."""
        self._between: asyncio.Future[None] | None = None
        """While a server has been left, and another one is not reached; done when it is."""
        self._unsent = 0
        """Messages that wait for the other server."""
        self._unanswered = 0
        """Requests whose answers were lost with the server that was left last."""
        self._reconnected: list[Callable[[], None]] = []
        self._tasks = TaskGroup(f"bus {name}")
        self._liveness = Liveness()
        self._replaced = 0
        self._replaced_for = ""
        self._revived = 0
        self._drops_told = 0
        self._echoed_at = 0.0
        """When a probe last came back, on the loop's clock."""
        self._round_trip_s: float | None = None

    @classmethod
    async def connect(cls, settings: NatsSettings, *, name: str) -> Self:
        """Connect, or say why not; later losses are repaired for ever.

        ``name`` is shown by the server's connection listing.

        Raises:
            Unavailable: nothing answered, or it is not NATS.
            Denied: the server refused the credentials.
            InvalidRequest: the credentials can't be read.
        """
        bus: Self | None = None
        if any(url.lower().startswith(library.WEB_SOCKETS) for url in settings.servers):
            library.import_web_sockets()

        async def on_disconnect() -> None:
            if bus is not None:
                bus._lost()

        async def on_reconnect() -> None:
            if bus is not None:
                bus._found()

        async def on_error(error: Exception) -> None:
            if isinstance(error, nats.errors.SlowConsumerError):
                # Told in sum: there may be thousands a second.
                client.drops.note(error.sub.subject, error.sub)
                return
            if bus is not None and (found := _FORBIDDEN.search(str(error))) is not None:
                refuse = bus._refuse if found[1] == "publish" else bus._refuse_interest
                refuse(found[2])
                return
            # While disconnected, every attempt to reconnect fails with one of these.
            report = log.warning if bus is not None and bus.is_connected else log.debug
            report("nats reported an error", connection=name, error=str(error) or repr(error))

        async def on_lame_duck() -> None:
            if bus is not None:
                bus._begin_to_leave()

        options: dict[str, Any] = {
            "name": name,
            "error_cb": on_error,
            "disconnected_cb": on_disconnect,
            "reconnected_cb": on_reconnect,
            "lame_duck_mode_cb": on_lame_duck,
            "ping_interval": NEVER_S,
            "reconnect_time_wait": RECONNECT_WAIT_S,
            "max_reconnect_attempts": -1,
            "connect_timeout": CONNECT_TIMEOUT_S,
            # Never reached: its wait for the socket swallows cancellations, so ours comes before.
            "pending_size": 1024 * limits.MIB,
        } | login_options(settings)
        client = await _connect_once(settings, options)
        bus = cls(client, settings, name=name)
        await bus._open_inbox()
        bus._tasks.guard(bus._watch, name=f"watch {name}")
        bus._tasks.guard(client.deliver_shared, name=f"messages {name}")
        return bus

    @property
    def is_connected(self) -> bool:
        return bool(self._client.is_connected)

    @property
    def max_payload(self) -> int:
        """Largest message the server takes, in bytes."""
        return int(self._client.max_payload)

    @property
    def server(self) -> ServerFacts:
        """The server at the other end, as it was when it was connected to."""
        info = self._client._server_info  # noqa: SLF001 - offered nowhere else
        return ServerFacts(
            name=str(info.get("server_name", "")),
            version=str(info.get("version", "")),
            max_payload=self.max_payload,
            jetstream=bool(info.get("jetstream", False)),
        )

    @property
    def account(self) -> Account:
        """What JetStream says of itself."""
        return Account(self._jetstream)

    def containers(self) -> Containers:
        """Object stores whose objects are written and read in parts."""
        return Containers(self._jetstream)

    @property
    def settings(self) -> NatsSettings:
        return self._settings

    def statistics(self) -> BusStatistics:
        client = self._client
        return BusStatistics(
            connected=self.is_connected,
            server=self.server.name,
            round_trip_s=self._round_trip_s,
            reconnects=int(client.stats["reconnects"]),
            replaced=self._replaced,
            replaced_for=self._replaced_for,
            revived=self._revived,
            subscriptions=len(client._subs),  # noqa: SLF001 - offered nowhere else
            pending=len(self._pending),
            outgoing_bytes=client.outgoing_bytes,
            dropped=client.drops.total,
            dropped_by_subject=dict(client.drops.by_subject),
        )

    def on_reconnect(self, notice: Callable[[], None]) -> None:
        """Have ``notice`` called after each reconnection: what was missed must be asked for."""
        self._reconnected.append(notice)

    async def publish(
        self,
        subject: str,
        payload: bytes = b"",
        *,
        reply: str = "",
        headers: dict[str, str] | None = None,
    ) -> None:
        """Send a message, at most once.

        Waits while the socket has much to take already, until the connection counts as lost.

        Raises:
            Unavailable: not connected.
            InvalidRequest: not a subject, or a header that can't be one.
            PayloadTooLarge: over the server's ``max_payload``, with its headers.
        """
        if reply:
            try:
                check_subject(reply)
            except nats.errors.BadSubjectError:
                raise _no_subject(reply) from None
        if self._between is not None:
            self._unsent += 1
            try:
                await asyncio.shield(self._between)
            finally:
                self._unsent -= 1
        try:
            await self._client.publish(subject, payload, reply=reply, headers=headers)
        except nats.errors.MaxPayloadError:
            size = len(payload) + (headers_bytes(headers) if headers else 0)
            raise errors.PayloadTooLarge("message", size, self.max_payload) from None
        except nats.errors.BadSubjectError:
            raise _no_subject(subject) from None
        except (nats.errors.BadHeaderError, UnicodeEncodeError):
            raise errors.InvalidRequest("a header is not of the kind that NATS carries") from None
        except nats.errors.ConnectionReconnectingError:
            raise errors.NatsAway("not connected to NATS") from None
        except (nats.errors.Error, OSError) as error:
            raise _unavailable(error) from error

    async def respond(self, message: Message, payload: bytes) -> None:
        """Answer a message, if it wants an answer; as ``publish``, in a third of the time.

        Raises:
            Unavailable: not connected.
            PayloadTooLarge: over the server's ``max_payload``.
        """
        reply = message.reply
        if not reply:
            return
        if self._between is not None or not self._client.answer(reply.encode(), payload):
            await self.publish(reply, payload)

    async def request(
        self,
        subject: str,
        payload: bytes = b"",
        *,
        deadline: float,
        headers: dict[str, str] | None = None,
        is_nested: bool = False,
    ) -> Message:
        """Send a request and wait for its answer, until ``deadline`` on the event loop's clock.

        One that ``is_nested`` is a part of what another process waits for: it is not held while a
        server is about to be left, or two that leave one would wait for each other.

        Cancelling it forgets the answer; the request itself is on its way.

        Raises:
            NotRunning: nobody listens there.
            Denied: NATS does not permit us to ask there.
            DeadlineExceeded: no answer in time.
            Unavailable: the connection is, or was in the meantime, lost.
        """
        loop = asyncio.get_running_loop()
        if deadline <= loop.time():
            raise errors.DeadlineExceeded("no time left to ask")
        while (left := self._between or (None if is_nested else self._questions_held)) and (
            not left.done()
        ):
            await _wait_until(deadline, left)
        with self.awaiting(subject) as (token, answer):
            timer = loop.call_at(deadline, _expire, answer)
            try:
                while self._client.is_full and not answer.done():
                    room = self._client.wait_room()
                    await asyncio.wait((answer, room), return_when=FIRST_COMPLETED)
                if not answer.done():
                    reply = f"{self._inbox}.{token}"
                    await self.publish(subject, payload, reply=reply, headers=headers)
                message = await answer
            finally:
                timer.cancel()
        if not message.data and message.headers and message.headers.get("Status") == "503":
            raise errors.NotRunning(f"nobody listens on {subject}")
        return message

    @contextmanager
    def awaiting(self, subject: str) -> Iterator[tuple[str, "asyncio.Future[Message]"]]:
        """What becomes of a question on ``subject``, and a token to know its answer by.

        The future fails when the connection is lost, or when NATS does not permit the question.

        Raises:
            Overloaded: too many are waiting already.
        """
        if len(self._pending) >= limits.CALLS_PENDING_MAX:
            raise errors.Overloaded(f"{len(self._pending)} requests are waiting for an answer")
        self._next_token += 1
        token = f"{self._next_token:x}"
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._pending[token] = answer, subject
        try:
            yield token, answer
        finally:
            del self._pending[token]
            if answer.done() and not answer.cancelled():
                # Looked at for one whose question could not even be sent.
                answer.exception()

    def waiting_on(self, subject: str) -> frozenset[str]:
        """Requests that wait for an answer now, on subjects that begin so; for ``fail``."""
        return frozenset(
            token
            for token, (answer, asked) in self._pending.items()
            if asked.startswith(subject) and not answer.done()
        )

    def fail(self, requests: Iterable[str], error: errors.LatticeError) -> int:
        """Have those of some requests that still wait end in an error; how many did."""
        answers = [self._pending[token][0] for token in requests if token in self._pending]
        failed = [answer for answer in answers if not answer.done()]
        for answer in failed:
            answer.set_exception(type(error).from_parts(error.text))
        return len(failed)

    async def request_many(
        self,
        subject: str,
        payload: bytes = b"",
        *,
        timeout_s: float,
        quiet_s: float | None = None,
        stop_after: int | None = None,
        headers: dict[str, str] | None = None,
    ) -> list[Message]:
        """Ask everybody, and collect answers until the time is up.

        Or until ``stop_after`` have come, or none came for ``quiet_s`` after the last one. Nobody
        listening is an empty list, at once.
        """
        answers: list[Message] = []
        enough = asyncio.Event()
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout_s

        async def collect(message: Message) -> None:
            if not message.data:
                enough.set()
                return
            answers.append(message)
            if stop_after is not None and len(answers) >= stop_after:
                enough.set()
            elif quiet_s is not None and not limit.expired():
                limit.reschedule(min(end, loop.time() + quiet_s))

        limit = asyncio.timeout_at(end)
        inbox = self._client.new_inbox()
        subscription = await self.subscribe(inbox, collect)
        try:
            async with limit:
                await self.publish(subject, payload, reply=inbox, headers=headers)
                await enough.wait()
        except TimeoutError:
            pass
        finally:
            await subscription.unsubscribe()
        return answers

    async def subscribe(
        self,
        subject: str,
        callback: Callable[[Message], Awaitable[None]],
        *,
        queue: str = "",
        shared: bool = False,
        refuse: Refuse | None = None,
    ) -> Subscription:
        """Hand every message on ``subject`` to ``callback``, in order, one at a time.

        The callback must not wait for anything, or it holds up the messages behind it. What it
        raises is logged. With ``shared`` it takes its turns with those of all such subscriptions,
        and costs a tenth of the memory: for those that are many. Of these alone, ``refuse`` may
        answer messages that there is no room for, at a fraction of what handing them over costs.

        Raises:
            InvalidRequest: not a subject.
            Unavailable: the connection is closed.
        """
        inner: Any
        try:
            check_subject(subject)
            if shared:
                inner = await self._client.subscribe_shared(subject, queue, callback, refuse)
            else:
                inner = await self._client.subscribe(
                    subject,
                    queue=queue,
                    cb=callback,
                    pending_msgs_limit=SUBSCRIPTION_MESSAGES_MAX,
                    pending_bytes_limit=SUBSCRIPTION_BYTES_MAX,
                )
        except nats.errors.BadSubjectError:
            raise _no_subject(subject) from None
        except (nats.errors.Error, OSError) as error:
            raise _unavailable(error) from error
        return Subscription(self._client, inner)

    async def flush(self, timeout_s: float = limits.CONTROL_TIMEOUT_S) -> None:
        """Return when the server has seen everything sent so far.

        Raises:
            Unavailable: not connected, or it did not say so in time.
        """
        # Without the tasks that read and write the client's own would return at once.
        if not (self._client.is_connected and self._client.is_working):
            raise errors.NatsAway("not connected to NATS")
        try:
            async with asyncio.timeout(timeout_s):
                await self._client.flush()
        except (nats.errors.Error, OSError, TimeoutError) as error:
            raise _unavailable(error) from error

    async def bucket(
        self,
        name: str,
        *,
        ttl_s: float | None = None,
        history: int = 1,
        replicas: int | None = None,
        bytes_max: int | None = None,
    ) -> Bucket:
        """Open a key-value bucket, creating it when it is not there.

        With as many ``replicas`` as the settings say, unless told otherwise. One that is there is
        left as it is; fewer copies than wanted are logged.

        Raises:
            Unavailable: JetStream is off or has no answer; the text names the remedy.
        """
        return await open_bucket(
            self._jetstream,
            name,
            ttl_s=ttl_s,
            history=history,
            replicas=replicas or self._settings.replicas,
            bytes_max=bytes_max,
        )

    async def objects(
        self,
        name: str,
        *,
        ttl_s: float | None = None,
        bytes_max: int | None = None,
        replicas: int | None = None,
    ) -> ObjectStore:
        """Open an object store, creating it when it is not there; ``replicas`` as for ``bucket``.

        Raises:
            Unavailable: as ``bucket``.
        """
        return await open_objects(
            self._jetstream,
            name,
            ttl_s=ttl_s,
            bytes_max=bytes_max,
            replicas=replicas or self._settings.replicas,
        )

    async def publish_stored(
        self,
        subject: str,
        payload: bytes,
        *,
        message_id: str,
        deadline: float,
        headers: Mapping[str, str] | None = None,
    ) -> StoredAt:
        """Have a stream keep a message, once for each ``message_id`` in its window of duplicates.

        So after ``DeadlineExceeded`` or ``Unavailable``, when it may or may not be stored, the same
        may be tried again.

        Raises:
            NotFound: no stream keeps what is sent there.
            ProviderError: the stream refused the message.
            LatticeError: as ``request``.
        """
        try:
            answer = await self.request(
                subject,
                payload,
                deadline=deadline,
                headers={**(headers or {}), "Nats-Msg-Id": message_id},
            )
        except errors.NotRunning:
            raise errors.NotFound(
                f"no stream keeps {subject}; make one with:"
                f" nats stream add NAME --subjects {subject}"
            ) from None
        return stored_at(answer.data, subject)

    async def stream_of(self, subject: str) -> str | None:
        """The stream that keeps what is sent to a subject, if any.

        Raises:
            Unavailable: as ``bucket``.
        """
        return await stream_of(self._jetstream, subject)

    async def consumer(
        self,
        stream: str,
        name: str,
        receive: Callable[[StoredMessage], None],
        *,
        filters: Iterable[str] = (),
        ack_wait_s: float,
        only_new: bool = False,
        make: bool = True,
    ) -> PullConsumer:
        """Open a durable pull consumer; ``receive``, which never waits, gets what it asks for.

        One that is not there is made, unless told otherwise: with these ``filters`` (without any it
        reads the whole stream), from the stream's beginning or ``only_new`` messages, and with so
        long to settle one. One that is there is left as it is; ``facts`` says how.

        Raises:
            NotFound: there is no such stream; or no such consumer, and none is to be made.
            InvalidRequest: the consumer that is there is not one to pull from.
            Unavailable: as ``bucket``.
        """
        facts = await open_consumer(
            self._jetstream,
            stream,
            name,
            filters=filters,
            ack_wait_s=ack_wait_s,
            only_new=only_new,
            make=make,
        )
        consumer = PullConsumer(self, facts, receive)
        await consumer.open()
        return consumer

    async def reader(
        self,
        stream: str,
        receive: Callable[[StoredMessage], None],
        *,
        filters: Iterable[str],
        after: int | None,
    ) -> tuple[PullConsumer, int]:
        """Read a stream from after a sequence, or from now on; none of its messages is settled.

        Gives what to pull with, and the sequence that it begins after: 0 if ``after`` is beyond the
        stream's end, as that of another stream of the same name. It has no memory: after a failed
        pull open another, after the last message that came.

        Raises:
            Unavailable: as ``bucket``, or there is no such stream.
        """
        facts, begins_after = await open_reader(
            self._jetstream, stream, filters=filters, after=after
        )
        reader = PullConsumer(self, facts, receive)
        await reader.open()
        return reader, begins_after

    def new_inbox(self) -> str:
        """A subject that nobody else knows."""
        return str(self._client.new_inbox())

    async def aclose(self) -> None:
        """Send what is buffered and close; requests in flight fail. Safe to call twice."""
        if self._closing:
            return
        self._closing = True
        await self._tasks.aclose()
        try:
            await self.flush()
        except errors.Unavailable:
            # Nobody takes what is buffered, and closing must not wait for that.
            self._client.abandon()
        self._fail_pending("the connection is closed")
        await self._client.close()

    async def _open_inbox(self) -> None:
        self._answers = await self.subscribe(f"{self._inbox}.*", self._on_answer)

    async def _on_answer(self, message: Message) -> None:
        token = message.subject.rpartition(".")[2]
        waiting = self._pending.get(token)
        # None: its caller gave up, or somebody answered twice. The late answer is dropped.
        if waiting is not None and not waiting[0].done():
            waiting[0].set_result(message)
        elif token == PROBE:
            self._echoed_at = asyncio.get_running_loop().time()

    async def _watch(self) -> None:
        """Probe the connection for ever, and replace it when it turns out to be deaf."""
        while True:
            for what in await self._client.revive():
                self._revived += 1
                log.error("started again what had ended", connection=self._name, what=what)
            self._report_drops()
            if self.is_connected:
                fault = await self._probe()
                if fault is not None:
                    await self._replace(fault)
            else:
                self._liveness.start_over()
                await asyncio.sleep(liveness.PROBE_INTERVAL_S)

    async def _probe(self) -> Fault | None:
        """Send a probe, and look after one interval what became of it."""
        client, inbox = self._client, self._answers.inner
        reconnects, drops = client.stats["reconnects"], client.drops.of(inbox)
        began = asyncio.get_running_loop().time()
        pong = None
        # Lost while it was sent: then there is nothing to judge.
        with suppress(nats.errors.Error, OSError):
            pong = await client.probe(None if self._probe_forbidden else self._probe_subject)
        await asyncio.sleep(liveness.PROBE_INTERVAL_S)
        if pong is None or not self.is_connected or client.stats["reconnects"] != reconnects:
            self._liveness.start_over()
            return None
        echoed = self._echoed_at >= began
        if echoed:
            self._round_trip_s = self._echoed_at - began
        return self._liveness.judge(
            Look(
                working=client.is_working,
                echoed=echoed,
                passed=pong.done(),
                handled=inbox.pending_msgs == 0 and client.drops.of(inbox) == drops,
                received=client.received,
            )
        )

    async def _replace(self, fault: Fault) -> None:
        self._replaced += 1
        self._replaced_for = fault.value
        self._liveness.start_over()
        log.error(
            "a nats connection is deaf; making another one",
            connection=self._name,
            cause=fault.value,
        )
        await self._client.replace()

    def _begin_to_leave(self) -> None:
        """Leave a server that is about to go, if there is another one."""
        log.info("a nats server is about to go", connection=self._name, server=self.server.name)
        if self._leaving is not None:
            self._must_leave_again = True
        elif not self._closing and self._client.has_alternative:
            self._leaving = self._tasks.spawn(self._leave(), name=f"leave a server {self._name}")

    async def _leave(self) -> None:
        """Go to another server, and lose nothing on the way.

        First whoever waits for an answer gets it, while further questions wait. Then the server is
        told to send no more but calls. What is published from then on, answers above all, waits for
        the other server. When that has its connection, and the one that is left knows, the calls go
        there; what the one that is left had sent arrives.
        """
        client, loop = self._client, asyncio.get_running_loop()
        leftover, reading = None, None
        reconnects = client.stats["reconnects"]
        self._unanswered = 0
        try:
            await asyncio.sleep(retry.full_jitter(LEAVE_SPREAD_S, 0))
            self._questions_held = loop.create_future()
            end = loop.time() + LEAVE_ANSWERS_S
            while (asked := self._asked()) and (left_s := end - loop.time()) > 0:
                await asyncio.wait(asked, timeout=left_s)
            async with asyncio.timeout(LEAVE_S_MAX):
                between = self._between = loop.create_future()
                await client.pause()
                if client.stats["reconnects"] == reconnects:
                    leftover = await client.move()
                    reading = self._tasks.spawn(leftover.read(), name=f"left over {self._name}")
                    # A time-out here must not end it for those who wait to send.
                    await asyncio.shield(between)
                    await leftover.leave_groups()
        except (nats.errors.Error, OSError, TimeoutError) as error:
            log.warning(
                "a nats server was not left in time; what it had for us may be lost",
                connection=self._name,
                error=str(error) or type(error).__name__,
                unanswered=self._unanswered,
                unsent=self._unsent,
            )
        else:
            log.info(
                "a nats server was left",
                connection=self._name,
                server=self.server.name,
                unanswered=self._unanswered,
            )
        finally:
            if leftover is not None:
                leftover.close()
            if reading is not None:
                reading.cancel()
            held, self._questions_held = self._questions_held, None
            left, self._between = self._between, None
            self._leaving = None
            for gate in (held, left):
                if gate is not None and not gate.done():
                    gate.set_result(None)
        if self._must_leave_again:
            self._must_leave_again = False
            self._begin_to_leave()

    def _asked(self) -> list[asyncio.Future[Any]]:
        """Answers that somebody waits for."""
        answers = [*(answer for answer, _ in self._pending.values()), *self._client.asked]
        return [answer for answer in answers if not answer.done()]

    def _report_drops(self) -> None:
        drops = self._client.drops
        if (count := drops.total - self._drops_told) > 0:
            self._drops_told = drops.total
            log.warning(
                "messages were dropped: their subscription had no room for them",
                connection=self._name,
                count=count,
                by_subject=dict(drops.by_subject),
            )

    def _lost(self) -> None:
        unanswered = self._fail_pending("the connection to NATS was lost")
        if self._between is not None:
            self._unanswered += unanswered
        elif not self._closing:
            log.warning(
                "nats connection lost",
                connection=self._name,
                server=self._settings.public_url,
                unanswered=unanswered,
            )

    def _found(self) -> None:
        # What it may do may have changed meanwhile.
        self._probe_forbidden = False
        self._client.unheard.clear()
        log.info("nats connection restored", connection=self._name, server=self.server.name)
        if self._between is not None and not self._between.done():
            self._between.set_result(None)
        for notice in self._reconnected:
            notice()

    def _refuse(self, subject: str) -> None:
        """Fail the requests on a subject that NATS does not permit us; it says so in lower case."""
        log.warning(
            "NATS does not permit this user to publish", connection=self._name, subject=subject
        )
        if subject == self._probe_subject.lower():
            self._probe_forbidden = True
        self._client.refuse(subject)
        for answer, asked in self._pending.values():
            if asked.lower() == subject and not answer.done():
                answer.set_exception(
                    errors.Denied(f"NATS does not permit this user to publish on {asked}")
                )

    def _refuse_interest(self, subject: str) -> None:
        log.warning(
            "NATS does not permit this user to subscribe", connection=self._name, subject=subject
        )
        self._client.unheard.add(subject)

    def _fail_pending(self, text: str) -> int:
        return self.fail(list(self._pending), errors.NatsAway(text))


async def _connect_once(settings: NatsSettings, options: dict[str, Any]) -> StrictClient:
    """Try each server once: a wrong address is the user's to hear about, at once."""
    failure: Exception = ValueError("no server is named")
    for server in settings.servers:
        client = StrictClient()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S + 1):
                await client.connect(servers=[server], allow_reconnect=False, **options)
            # From here on losses are repaired, on any of the servers.
            client.options["allow_reconnect"] = True
            client.set_server_pool(list(settings.servers))
            return client
        except (nats.errors.Error, OSError, TimeoutError, ValueError) as error:
            await client.close()
            failure = error
    raise _cannot_connect(settings, failure) from failure


async def _wait_until(deadline: float, future: asyncio.Future[None]) -> None:
    try:
        async with asyncio.timeout_at(deadline):
            await asyncio.shield(future)
    except TimeoutError:
        raise errors.DeadlineExceeded("time ran out on the way to another NATS server") from None


def _expire(answer: asyncio.Future[Message]) -> None:
    if not answer.done():
        answer.set_exception(errors.DeadlineExceeded("no answer within the deadline"))


def _no_subject(subject: str) -> errors.InvalidRequest:
    return errors.InvalidRequest(
        f"{subject[:100]!r} can't be a subject: want up to {SUBJECT_BYTES_MAX} bytes of text,"
        " in tokens between dots, without blanks"
    )


def _unavailable(error: Exception) -> errors.NatsAway:
    return errors.NatsAway(f"NATS: {str(error) or type(error).__name__}")


def _cannot_connect(settings: NatsSettings, error: Exception) -> errors.LatticeError:
    where = ", ".join(without_credentials(server) for server in settings.servers)
    if isinstance(error, nats.errors.AuthorizationError) or "uthorization" in str(error):
        return errors.Denied(f"NATS at {where} refused the credentials")
    return errors.NatsAway(
        f"no NATS server answers at {where} ({str(error) or type(error).__name__});"
        " start one with: lattice up, or name yours with --nats"
    )

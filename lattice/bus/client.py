"""nats-py's client with the corners closed in which a connection dies without telling (2.16).

Each method replaces one of its internals, as it offers no other way; ``tests/integration/test_bus``
breaks a connection in each of these ways.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast
from weakref import WeakKeyDictionary

import nats.errors
import structlog
from nats.aio.client import PING_PROTO, Client, Srv
from nats.aio.subscription import Subscription

from lattice import limits
from lattice.bus.drops import INBOXES, Drops
from lattice.bus.leftover import Leftover
from lattice.bus.parser import LeanParser

log = structlog.get_logger()

CANCEL_AGAIN_S = 0.05
"""After so long a reconnection that was cancelled is taken to have missed it."""

OUTGOING_BYTES_MAX = 2 * limits.MIB
"""Bytes on their way out before a publisher waits for the socket."""

SUBSCRIPTION_MESSAGES_MAX = 65_536
"""Messages one subscription may hold that its callback has not seen; beyond it they are dropped."""

SUBSCRIPTION_BYTES_MAX = 128 * limits.MIB


SUBJECT_BYTES_MAX = 3 * limits.KIB
"""Longest subject that is sent. A server ends the connection, with all that is under way on it, for
a line over four kilobytes; beside the subject it has room for an inbox and two numbers."""


@dataclass(slots=True)
class SharedMessage:
    """A message for a shared subscription: the client's own takes three times as long to make."""

    subject: str
    reply: str
    data: bytes
    headers: dict[str, str] | None


Callback = Callable[[SharedMessage], Awaitable[None]]

Refuse = Callable[[int], bytes | None]
"""Given a message's size: the answer that it gets while there is no room for it, or None."""

ROOM_CHECK_S = 0.002
"""Between looks at whether the socket has taken them: a fast one takes so many in that time."""


class SharedSubscription:
    """Interest whose messages are handed over by one task of the connection, with those of others.

    The client's own holds a queue and a task, five kilobytes and more: too much for each of ten
    thousand actors. This has what the client looks at in one, and is its own queue.
    """

    __slots__ = (
        "__weakref__",
        "_callback",
        "_client",
        "_closed",
        "_id",
        "_pending_size",
        "_queue",
        "_received",
        "_subject",
        "_waiting",
        "refuse",
    )

    _max_msgs: Final = 0
    _pending_bytes_limit: Final = SUBSCRIPTION_BYTES_MAX
    _future: Final = None
    _jsi: Final = None
    _wait_for_msgs_task: Final = None
    _message_iterator: Final = None
    _pending_next_msgs_calls: Final = None

    def __init__(
        self,
        client: "StrictClient",
        number: int,
        subject: str,
        queue: str,
        callback: Callback,
        refuse: Refuse | None,
    ) -> None:
        self._client = client
        self._id = number
        self._subject = subject
        self._queue = queue
        self._callback = callback
        self.refuse = refuse
        """Asked before a message is even lined up: a flood must cost less than what it asks for."""
        self._received = 0
        self._closed = False
        self._waiting = 0
        self._pending_size = 0

    @property
    def subject(self) -> str:
        return self._subject

    @property
    def queue(self) -> str:
        return self._queue

    def line_up(self, message: SharedMessage) -> bool:
        """Line a message up behind those of all others; false when too much waits already."""
        size = len(message.data)
        if (
            self._waiting >= SUBSCRIPTION_MESSAGES_MAX
            or self._pending_size + size >= SUBSCRIPTION_BYTES_MAX
        ):
            return False
        self._received += 1
        self._waiting += 1
        self._pending_size += size
        self._client.line_up((self, message))
        return True

    async def deliver(self, message: SharedMessage) -> None:
        """Hand a message to the callback, unless the subscription has ended."""
        self._waiting -= 1
        self._pending_size -= len(message.data)
        if not self._closed:
            await self._callback(message)

    async def unsubscribe(self) -> None:
        """End it now; what waits is dropped.

        Raises:
            Error: not connected.
        """
        self._closed = True
        if not self._client.is_reconnecting:
            await self._client._send_unsubscribe(self._id)  # noqa: SLF001 - as the client's own

    async def drain(self) -> None:
        """End it once the callback has seen everything that had arrived.

        Raises:
            Error: not connected.
        """
        try:
            await self._client._send_unsubscribe(self._id)  # noqa: SLF001 - as the client's own
            await self._client.flush()
            await self._client.pass_by()
        finally:
            self._closed = True

    _drain = drain

    def _stop_processing(self) -> None:
        self._closed = True


_ACK = b"$JS.ACK."


def first_form(reply: bytes) -> bytes:
    """The subject of an acknowledgement in the only form that the client can read.

    Since 2.15 a server may be told (``js_ack_fc_v2``) to put domain and account before the stream,
    and the client would take the consumer's name for a number. That is where it reads them: for a
    watch, which acknowledges nothing. All others are handed over as they came.
    """
    tokens = reply.split(b".")
    # $JS.ACK, [domain, account,] stream, consumer, four numbers, pending[, more].
    return reply if len(tokens) < 11 else b".".join((*tokens[:2], *tokens[4:11]))


def check_subject(subject: str) -> None:
    """Refuse a subject for which the server would end the connection, or take it for more.

    Raises:
        BadSubjectError: it is empty, too long, or not text without blanks.
    """
    if subject.split() != [subject]:
        raise nats.errors.BadSubjectError
    if subject.isascii():
        size = len(subject)
    else:
        try:
            size = len(subject.encode())
        except UnicodeEncodeError:
            raise nats.errors.BadSubjectError from None
    if size > SUBJECT_BYTES_MAX:
        raise nats.errors.BadSubjectError


def headers_bytes(headers: Mapping[str, Any]) -> int:
    """What headers add to a message: a line each, one before them, and one after."""
    lines = sum(
        len(name.encode()) + len(str(value).encode()) + 4 for name, value in headers.items()
    )
    return len("NATS/1.0\r\n\r\n") + lines


class Forbidden(nats.errors.Error):
    """NATS does not permit this user to ask JetStream that."""

    def __init__(self, subject: str) -> None:
        super().__init__(f"NATS does not permit this user to publish on {subject}")


class StrictClient(Client):
    """A client that survives what strangers and a silent peer can do to it."""

    def __init__(self) -> None:
        super().__init__()
        self.drops = Drops()
        self.leftover: Leftover | None = None
        """What is left of a connection that was moved from."""
        self.unheard: set[str] = set()
        """Subjects, in lower case, that NATS does not permit this user to subscribe to."""
        self._asked_on: WeakKeyDictionary[asyncio.Future[Any], str] = WeakKeyDictionary()
        """Of what JetStream was asked, the subjects."""
        self._room: asyncio.Future[None] | None = None
        self._ps = LeanParser(self)
        self._shared: deque[tuple[SharedSubscription, SharedMessage] | asyncio.Future[None]]
        self._shared = deque()
        """Messages of all shared subscriptions, and who waits for those before it to be gone."""
        self._shared_came = asyncio.Event()

    async def subscribe_shared(
        self, subject: str, queue: str, callback: Callback, refuse: Refuse | None = None
    ) -> SharedSubscription:
        """Subscribe at the cost of a few hundred bytes; ``deliver_shared`` must be running.

        Messages that want an answer get the one of ``refuse`` while it has one, and go no further.

        Raises:
            Error: as the client's ``subscribe``.
        """
        if self.is_closed:
            raise nats.errors.ConnectionClosedError
        self._sid += 1
        subscription = SharedSubscription(self, self._sid, subject, queue, callback, refuse)
        # It has what the client uses of one of its own.
        own = cast(Subscription, subscription)
        self._subs[self._sid] = own
        await self._send_subscribe(own)
        return subscription

    async def deliver_shared(self) -> None:
        """Hand over what comes for shared subscriptions, in order, for ever."""
        while True:
            if not self._shared:
                self._write_gathered()
                self._shared_came.clear()
                await self._shared_came.wait()
                continue
            item = self._shared.popleft()
            if isinstance(item, asyncio.Future):
                if not item.done():
                    item.set_result(None)
                continue
            subscription, message = item
            try:
                await subscription.deliver(message)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise
                log.error("a callback was cancelled", subject=subscription.subject)
            except Exception as error:
                await self._error_cb(error)

    def _write_gathered(self) -> None:
        """Write all answers to what came at once, a pass of the loop before the flusher would.

        Where the socket has not taken all that was before them, the flusher does, and waits for it.
        """
        if self._pending and self._transport is not None and self.is_connected:
            writer = self._transport._io_writer  # type: ignore[attr-defined] # noqa: SLF001
            if not writer.transport.get_write_buffer_size():
                self._transport.writelines(self._pending)
                self._pending = []
                self._pending_data_size = 0

    async def pass_by(self) -> None:
        """Return when all messages of shared subscriptions that are here now were handed over."""
        passed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.line_up(passed)
        await passed

    def line_up(
        self, item: tuple[SharedSubscription, SharedMessage] | asyncio.Future[None]
    ) -> None:
        """Have ``deliver_shared`` come to something, behind all that is there already."""
        self._shared.append(item)
        self._shared_came.set()

    @property
    def is_full(self) -> bool:
        """Whether a publisher has to wait until the socket has taken more.

        What asyncio holds counts as well: before 3.12.9 and 3.13.2 it takes any number of lines and
        makes nobody wait (CVE-2024-12254).
        """
        return self.is_connected and self.outgoing_bytes > OUTGOING_BYTES_MAX

    @property
    def outgoing_bytes(self) -> int:
        """Bytes that the socket has not taken yet."""
        writer = getattr(self._transport, "_io_writer", None)
        held = 0 if writer is None else writer.transport.get_write_buffer_size()
        return int(self._pending_data_size + held)

    @property
    def received(self) -> int:
        """Grows with whatever arrives, be it a part of a message."""
        return int(self.stats["in_bytes"] + self.stats["in_msgs"] + len(self._ps.buf))

    @property
    def is_working(self) -> bool:
        """Whether the tasks that read, write and ping still run."""
        tasks = (self._reading_task, self._flusher_task, self._ping_interval_task)
        return all(task is not None and not task.done() for task in tasks)

    def wait_room(self) -> asyncio.Future[None]:
        """Done when it is time to look again whether it is full; one timer serves all who wait."""
        if self._room is None:
            loop = asyncio.get_running_loop()
            self._room = loop.create_future()
            loop.call_later(ROOM_CHECK_S, self._look_again, self._room)
        return self._room

    def _look_again(self, room: asyncio.Future[None]) -> None:
        self._room = None
        room.set_result(None)

    async def probe(self, subject: str | None) -> asyncio.Future[bool]:
        """Send a message to ourselves, if we may, and a ping behind it, whose answer is returned.

        It does not wait for room: whether the socket takes anything is what it is to find out.
        """
        if subject is not None:
            await super().publish(subject)
        pong: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        await self._send_ping(pong)
        return pong

    async def replace(self) -> None:
        """Give the connection up and make another one, with every subscription."""
        await self._process_op_err(nats.errors.StaleConnectionError())

    async def move(self) -> Leftover:
        """Make another connection, and give what is left of the one there was; close that.

        Raises:
            Error: the connection was lost.
        """
        reading, transport = self._reading_task, self._transport
        assert reading is not None
        assert transport is not None
        # Two readers would tear a message apart.
        reading.cancel()
        await asyncio.wait((reading,))
        if not self.is_connected:
            raise nats.errors.ConnectionReconnectingError
        self.leftover = Leftover(self, transport, cast(LeanParser, self._ps))
        for unsent in self._pending:
            transport.write(unsent)
        self._transport, self._ps = None, LeanParser(self)
        await self.replace()
        return self.leftover

    @property
    def has_alternative(self) -> bool:
        """Whether it knows of another server than the one at the other end."""
        return len(self._server_pool) > 1

    @property
    def asked(self) -> list[asyncio.Future[Any]]:
        """Answers to come of those that JetStream was asked for."""
        return list(self._resp_map.values())

    def refuse(self, subject: str) -> None:
        """Fail what JetStream was asked on a subject, given in lower case, that is not permitted.

        The server does not answer such, and its own would wait for the whole timeout.
        """
        for answer, asked in list(self._asked_on.items()):
            if asked.lower() == subject and not answer.done():
                answer.set_exception(Forbidden(asked))

    async def pause(self) -> None:
        """Have the server send no more but answers and calls; a reconnection renews every interest.

        When this returns, all that it had sent is here.

        Raises:
            Error: the connection was lost.
        """
        for number, subscription in list(self._subs.items()):
            is_answer = subscription.subject.startswith(INBOXES)
            # A consumer of JetStream would be taken for one whose follower is gone.
            if is_answer or subscription.queue:
                continue
            if subscription._jsi is None:  # noqa: SLF001 - nothing public tells
                await self._send_unsubscribe(number)
        await self.flush()

    async def revive(self) -> list[str]:
        """Start again what ended and should not have; returns what that was.

        A cancellation inside a callback ends its subscription's task, and an error that is not one
        of the network's ends the attempts to reconnect.
        """
        revived = []
        for subscription in list(self._subs.values()):
            task: Any = subscription._wait_for_msgs_task  # noqa: SLF001 - nothing public tells
            if task is not None and task.done() and not subscription._closed:  # noqa: SLF001
                subscription._start(self._error_cb)  # noqa: SLF001
                revived.append(f"subscription {subscription.subject}")
        attempts = self._reconnection_task
        if self.is_reconnecting and (attempts is None or attempts.done()):
            self._status = Client.CONNECTING
            await super()._process_op_err(nats.errors.StaleConnectionError())
            revived.append("reconnection")
        return revived

    def abandon(self) -> None:
        """Give the socket up with everything that was still to be sent.

        Its own ``close`` waits until a peer that may be frozen has taken it all; and what is kept
        over a reconnection would be executed when its sender has long given up.
        """
        self._pending.clear()
        self._pending_data_size = 0
        for answer in list(self._resp_map.values()):
            # What JetStream was asked; its own would wait for the whole timeout.
            if not answer.done():
                answer.set_exception(nats.errors.ConnectionReconnectingError())
                # Looked at here for one that nobody waits for: its question could not be sent.
                answer.exception()
        self._abort()

    def _abort(self) -> None:
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()

    async def publish(
        self,
        subject: str,
        payload: bytes = b"",
        reply: str = "",
        headers: dict[str, Any] | None = None,
    ) -> None:
        """Send now or not at all; its own would send after the reconnection.

        Waits while the socket has much to take already, until the connection counts as lost.

        Raises:
            BadSubjectError: too long, or not text.
            MaxPayloadError: too large, with its headers.
            ConnectionReconnectingError: not connected.
        """
        check_subject(subject)
        if headers and len(payload) + headers_bytes(headers) > self._max_payload:
            # Its own looks at the payload alone, and the server would end the connection.
            raise nats.errors.MaxPayloadError
        # Who reads must go on: it answers the server's flow control from between two messages.
        while self.is_full and asyncio.current_task() is not self._reading_task:
            await asyncio.shield(self.wait_room())
        if not self.is_connected:
            raise nats.errors.ConnectionReconnectingError
        if (answer := self._resp_map.get(reply.rpartition(".")[2])) is not None:
            self._asked_on[answer] = subject
        await super().publish(subject, payload, reply, headers)

    async def close(self) -> None:
        """Close for good, even in the middle of a reconnection.

        Parts of one swallow a cancellation, and then go on to restore what was closed.
        """
        while (task := self._reconnection_task) is not None and not task.done():
            task.cancel()
            await asyncio.wait((task,), timeout=CANCEL_AGAIN_S)
        for subscription in self._subs.values():
            # A watch that was cancelled half-made has no owner that would end its checks.
            consumer: Any = subscription._jsi  # noqa: SLF001 - nothing public leads to it
            for check in (consumer._hbtask, consumer._fctask) if consumer else ():  # noqa: SLF001
                if check is not None:
                    check.cancel()
        if self._flush_queue is not None:
            # Otherwise it never got as far as its own can close.
            await super().close()
        # One that failed to connect counts as closed, and its socket would stay open.
        self.abandon()

    def forget(self, subscription: Subscription | SharedSubscription) -> None:
        """Drop a subscription whose end the server may not have heard of."""
        subscription._stop_processing()  # noqa: SLF001 - its own way is too late
        self._remove_sub(subscription._id)  # noqa: SLF001

    async def _select_next_server(self) -> None:
        """Fail at once when the first connection does; its own tries the same server for ever."""
        if self.options["allow_reconnect"]:
            # The one that was lost comes last.
            self._server_pool.sort(key=lambda server: server is self._current_server)
            await super()._select_next_server()
        else:
            self._current_server = self._server_pool[0]
            await self._connect_to_server(self._current_server)

    async def _connect_to_server(self, s: Srv) -> None:
        # An attempt that failed after the handshake had begun leaves its socket open.
        self._abort()
        await super()._connect_to_server(s)

    async def _process_connect_init(self) -> None:
        """Take the handshake's failures for failures of the attempt.

        A credentials file that is just being replaced would otherwise end all attempts.
        """
        try:
            await super()._process_connect_init()
        except (nats.errors.Error, OSError, TimeoutError):
            raise
        except Exception as error:
            raise nats.errors.Error(f"handshake failed: {type(error).__name__}") from error

    async def _send_ping(self, future: asyncio.Future[bool] | None = None) -> None:
        """Ping behind what was sent so far; its own overtakes it, so that ``flush`` proves nothing.

        A subscription that was flushed is then not yet known to the server.
        """
        self._pongs.append(future or asyncio.get_running_loop().create_future())
        await self._send_command(PING_PROTO)
        await self._flush_pending()

    async def _process_pong(self) -> None:
        """Pass over an answer that nobody waits for any more; its own would stop reading."""
        if self._pongs and self._pongs[0].done():
            self._pongs[0] = asyncio.get_running_loop().create_future()
        await super()._process_pong()

    async def _process_op_err(self, e: Exception) -> None:
        if self.is_connected:
            self.abandon()
        await super()._process_op_err(e)

    async def _process_err(self, err_msg: str) -> None:
        """Report what the server complains of; its own would close the connection for good.

        After a fatal complaint the server closes it, which is then repaired like any other loss.
        """
        await self._error_cb(nats.errors.Error(f"nats: {err_msg}"))

    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes
    ) -> None:
        """Pass over a message that can't be read; its own would stop reading, in silence.

        A subject that is not UTF-8 is enough, and anybody may publish one.
        """
        subscription: Any = self._subs.get(sid)
        try:
            if type(subscription) is SharedSubscription:
                await self._process_shared(subscription, subject, reply, data, headers)
                return
            if reply.startswith(_ACK) and subscription is not None and subscription._jsi:  # noqa: SLF001
                reply = first_form(reply)
            await super()._process_msg(sid, subject, reply, data, headers)
        except (ValueError, IndexError) as error:
            log.warning("a message can't be read", subject=repr(subject), error=str(error))

    async def _process_shared(
        self,
        subscription: SharedSubscription,
        subject: bytes,
        reply: bytes,
        data: bytes,
        headers: bytes | None,
    ) -> None:
        """Refuse a message, or line it up: all that its own does for one, in a third of the time.

        Raises:
            ValueError: it can't be read.
        """
        stats = self.stats
        stats["in_msgs"] += 1
        stats["in_bytes"] += len(data)
        if (
            reply
            and subscription.refuse is not None
            and (answer := subscription.refuse(len(data))) is not None
            # Otherwise it waits, and whoever takes it waits for the socket.
            and self.answer(reply, answer)
        ):
            return
        told = await self._process_headers(headers) if headers else None
        message = SharedMessage(subject.decode(), reply.decode(), data, told)
        if not subscription.line_up(message):
            own = cast(Subscription, subscription)
            await self._error_cb(
                nats.errors.SlowConsumerError(message.subject, message.reply, own._id, own)  # noqa: SLF001
            )

    def answer(self, reply: bytes, answer: bytes) -> bool:
        """Answer a message at once, with others in one write; false if that can't be, or must wait.

        ``reply`` is as it came. Then ``publish`` waits, or says what is wrong.
        """
        flushes = self._flush_queue
        if (
            not self.is_connected
            or self._pending_data_size > OUTGOING_BYTES_MAX
            or len(answer) > self._max_payload
            or flushes is None
            or self._flusher_task is None
            or self._flusher_task.done()
        ):
            return False
        self.stats["out_msgs"] += 1
        self.stats["out_bytes"] += len(answer)
        command = b"PUB %b  %d\r\n%b\r\n" % (reply, len(answer), answer)
        self._pending.append(command)
        self._pending_data_size += len(command)
        if flushes.empty():
            # It writes whatever has gathered by the time that it runs.
            flushes.put_nowait(asyncio.get_running_loop().create_future())
        return True

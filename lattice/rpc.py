"""Calls: to a target in this process directly, to any other over NATS, with the same meaning.

A call is delivered at most once. What failed without having been executed (``overloaded``,
``not_running``, ``draining``) is repeated here, at most twice, within the deadline and within the
process's budget for it; nothing else is.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Protocol
from weakref import WeakSet

import structlog

from lattice import errors, limits, names, subjects
from lattice.aio import retry
from lattice.aio.arrivals import Arrivals
from lattice.aio.tasks import TaskGroup
from lattice.aio.turns import Line, Turns
from lattice.bus import Bus, Message, Subscription
from lattice.cancellation import CancellableCalls
from lattice.departures import Departures
from lattice.idempotency import OncePerKey
from lattice.payloads import Payloads, check_size
from lattice.streams import Borrowed, Loan, Streams
from lattice.wire import invocation as wire
from lattice.wire.invocation import Invocation, PayloadRef, Reply
from lattice.wire.streams import Source

log = structlog.get_logger()

DOOR_SOURCE = "nats"
"""Who the plain door's callers are to the target: a NATS client, nobody with links."""

REFUSAL_S = 0.01
"""How long the figures in an answer of an overloaded process may be those of before."""

TIMEOUT_HEADER = "Lattice-Timeout-Ms"
"""By which a plain caller sets its deadline."""

KEY_HEADER = "Lattice-Idempotency-Key"
"""By which a plain caller has its call executed once."""


def parse_timeout_ms(text: str, *, what: str) -> float:
    """Seconds from milliseconds as people write them, held to the longest deadline there is.

    Raises:
        InvalidRequest: not a positive number; ``what`` says whose it is.
    """
    # Digits without end would be too much for int().
    if len(text) > 9 or not (text.isascii() and text.isdigit()) or int(text) == 0:
        raise errors.InvalidRequest(f"{what}: {text[:20]!r} is not a number above 0")
    return min(int(text) / 1000, limits.CALL_TIMEOUT_S_MAX)


class Target(Protocol):
    """Whatever answers calls: an actor or a provider."""

    def accept(self, invocation: Invocation) -> Reply | Awaitable[Reply]:
        """Take a call: its answer when it could be had at once, otherwise the wait for it.

        Never blocks, and does not outlive the invocation's deadline. Cancelling the wait abandons
        the call.

        Raises:
            LatticeError: refused, or failed at once.
        """
        ...


class Rpc:
    """One process's way to call and to be called."""

    def __init__(self, bus: Bus, lattice: str, *, at: str) -> None:
        """``at`` names this process in the errors it answers with: its host's id."""
        self._bus = bus
        self._lattice = lattice
        self._at = at
        self._targets: dict[str, Target] = {}
        self._payloads = Payloads(bus, lattice)
        self._tasks = TaskGroup("calls")
        self.now = asyncio.get_running_loop().time
        """The clock of deadlines."""
        self.arrivals = Arrivals(self._catch_up, self._tasks)
        """When what is read now has arrived."""
        self.turns = Turns(self._tasks)
        """What comes in faster than it can be served."""
        self.retries = retry.RetryBudget(
            share=limits.RETRY_SHARE,
            per_s=limits.RETRIES_PER_S,
            saved_max=limits.RETRIES_SAVED_MAX,
            now=self.now(),
        )
        """What this process has repeated, and may."""
        self._cancellable = CancellableCalls(lattice)
        self._departures = Departures(bus, lattice, self._tasks)
        self._calls: WeakSet[TaskGroup] = WeakSet()
        """Of each service, those that run; a group lives as long as one of its tasks."""
        self._once = OncePerKey(bus, lattice, self._payloads, at=at)
        self._streams = Streams(bus, TaskGroup("streams"))

    async def call(self, invocation: Invocation) -> Reply:
        """Call a target and wait for its answer, until the invocation's deadline.

        Cancelling unwinds the callee: here at once, elsewhere as soon as it hears of it. A call
        with an idempotency key goes on, for whoever comes back with the key.

        Raises:
            LatticeError: any of the list; its ``executed`` says whether it had an effect.
        """
        if invocation.hops > limits.HOPS_MAX:
            raise errors.HopLimit(invocation.hops, limits.HOPS_MAX, at=self._at)
        if invocation.key is not None:
            _check_whole(invocation)
        self.retries.calls += 1
        # The first try is direct when it can be; a repetition gives other hosts their chance.
        target = None
        if invocation.copy_host is None:
            target = self._targets.get(invocation.target)
        attempt = 0
        while True:
            try:
                if target is None:
                    return await self._call_remote(invocation)
                return await self._run(target, invocation)
            except errors.NotExecuted as error:
                if not error.retryable or attempt == limits.RETRIES_MAX:
                    raise
                pause_s = retry.full_jitter(limits.RETRY_DELAY_S, attempt)
                now = self.now()
                if now + pause_s >= invocation.deadline or not self.retries.spend(now):
                    raise
            attempt += 1
            target = None
            await asyncio.sleep(pause_s)

    async def serve(self, target_id: str, target: Target, *, door: bool = False) -> "Service":
        """Answer the calls to ``target_id``, together with every other process that does.

        With ``door``, NATS clients without an SDK may call it as well.

        When this returns, calls from anywhere reach it.

        Raises:
            Denied: NATS does not permit this process to serve it.
            Unavailable: NATS is away.
        """
        service = Service(self, self._bus, self._lattice, target_id, target)
        self.arrivals.start()
        await service.open(door=door)
        self._targets[target_id] = target
        return service

    async def serve_copy(self, target_id: str, target: Target) -> "Service":
        """Answer the calls to the copy of ``target_id`` that is on this process's host.

        Raises:
            Unavailable: NATS is away.
        """
        service = Service(self, self._bus, self._lattice, target_id, target, copy_host=self._at)
        self.arrivals.start()
        await service.open(door=False)
        return service

    async def hear_cancellations(self, target_id: str = "*") -> None:
        """End calls served here when their callers in other processes go away.

        One subscription, whatever is served; ``target_id`` for a process that serves one target
        and may listen to nothing else.

        Raises:
            Unavailable: NATS is away.
        """
        await self._bus.subscribe(
            subjects.cancels(self._lattice, target_id), self._cancellable.receive
        )

    async def hear_departures(self) -> None:
        """Fail calls at once whose executor is gone, where that is certain.

        Raises:
            Unavailable: NATS is away.
        """
        await self._bus.subscribe(subjects.departure(self._lattice), self._departures.receive)

    async def tell_departure(self, target_id: str) -> None:
        """Tell callers everywhere that a copy of a provider is gone, with the calls it had."""
        await self._departures.tell(target_id)

    async def aclose(self) -> None:
        """Abandon what still runs; its callers hear ``cancelled``. Safe to call twice."""
        self.arrivals.close()
        await self._streams.aclose()
        await self._once.aclose()
        await asyncio.gather(*(calls.aclose() for calls in list(self._calls)))
        await self._tasks.aclose()

    @property
    def calls_in_hand(self) -> int:
        """Calls from elsewhere that have not ended at once, and are not answered yet."""
        return sum(len(calls) for calls in self._calls)

    def new_calls(self, target_id: str) -> TaskGroup:
        """Where calls to a target run; abandoned with this, if they have not ended before."""
        calls = TaskGroup(f"calls to {target_id}")
        self._calls.add(calls)
        return calls

    async def _call_remote(self, invocation: Invocation) -> Reply:
        if invocation.stream is None:
            return await self._send_request(invocation, None)
        loan = await self._lend(invocation.stream, invocation.source)
        reply = None
        try:
            reply = await self._send_request(invocation, loan.token)
        finally:
            if reply is None or reply.stream is None:
                loan.close()
        if isinstance(reply.stream, Borrowed):
            # The callee goes on, and may read as long as its answer is read.
            reply.stream.on_close(loan.close)
        return reply

    async def _lend(self, source: Source, owner: str) -> Loan:
        token = secrets.token_urlsafe(16)
        return await self._streams.lend(
            source, subjects.stream(self._lattice, owner, token), token=token
        )

    async def _send_request(self, invocation: Invocation, stream_token: str | None) -> Reply:
        ref = None
        if len(invocation.payload) > self._payloads.inline_bytes_max:
            async with _until(invocation.deadline):
                ref = await self._payloads.put(f"{invocation.id}.q", invocation.payload)
        try:
            message = await self._bus.request(
                self._subject(invocation),
                wire.encode_request(invocation, now=self.now(), ref=ref, stream_token=stream_token),
                deadline=invocation.deadline,
                is_nested=invocation.hops > 0,
            )
        except asyncio.CancelledError:
            await self._call_off(invocation)
            raise
        except errors.NotRunning:
            # Nobody will ever fetch it, and the store has room for a few dozen of the largest.
            if ref is not None:
                await self._payloads.discard(ref)
            raise
        reply, ref = wire.decode_reply(message.data)
        if ref is not None:
            async with _until(invocation.deadline):
                reply.payload = await self._payloads.take(ref)
        if reply.stream_token is not None:
            reply.stream = self._borrow(invocation, invocation.target, reply.stream_token)
        return reply

    def _subject(self, invocation: Invocation) -> str:
        target, source, host = invocation.target, invocation.source, invocation.copy_host
        if host is None:
            return subjects.call(self._lattice, target, source)
        return subjects.copy_call(self._lattice, target, host, source)

    def _borrow(self, invocation: Invocation, owner: str, token: str) -> Borrowed:
        subject = subjects.stream(self._lattice, owner, token)
        return self._streams.borrow(subject, deadline=invocation.deadline)

    async def _call_off(self, invocation: Invocation) -> None:
        """Have whoever executes a call stop; should that get lost, its deadline ends it."""
        subject = subjects.cancel(self._lattice, invocation.target, invocation.source)
        try:
            async with asyncio.timeout(limits.CANCEL_TIMEOUT_S):
                await self._bus.publish(subject, wire.encode_cancel(invocation.id))
        except (errors.LatticeError, TimeoutError) as error:
            log.debug("a call could not be called off", call=invocation.id, error=str(error))

    def _run(self, target: Target, invocation: Invocation) -> Awaitable[Reply]:
        """Have a target answer here, once if the call has an idempotency key.

        Raises, when awaited:
            LatticeError: as ``_execute``, and what ``OncePerKey.run`` adds.
        """
        if invocation.key is None:
            return self._execute(target, invocation)
        return self._once.run(invocation, partial(self._execute, target, invocation))

    async def _execute(self, target: Target, invocation: Invocation) -> Reply:
        """Have a target answer here, held to what a call over the wire is held to.

        Raises:
            LatticeError: saying where it failed; ``InternalError`` for what is not of the list.
        """
        try:
            self._check(invocation)
            check_size(len(invocation.payload))
            outcome = target.accept(invocation)
            reply = outcome if isinstance(outcome, Reply) else await outcome
            try:
                _check_answer(reply.payload)
            except errors.ProviderError:
                if reply.stream is not None:
                    reply.stream.close()
                raise
        except errors.LatticeError as error:
            error.at = error.at or self._at
            raise
        except asyncio.CancelledError:
            if _is_cancelled():
                raise
            raise errors.Cancelled("the call was abandoned", at=self._at) from None
        except Exception as error:
            raise self._bug(error) from error
        return reply

    def line(self, serve: Callable[[Message, float], Awaitable[float | None]]) -> Line[Message]:
        """A line of messages that are served in turn with those of all other lines."""
        return Line(self.turns, serve, now=self.arrivals.now)

    async def receive(
        self, message: Message, target_id: str, target: Target, arrived: float, tasks: TaskGroup
    ) -> float | None:
        """Serve one message from the call subject; what takes time goes on among ``tasks``.

        The time since it arrived counts: what has expired by now is not executed. Gives the seconds
        that the call had when it arrived; None for what is no call.
        """
        call_id, patience_s = "", None
        try:
            invocation, ref = wire.decode_request(
                message.data,
                source=subjects.caller_of(message.subject),
                target=target_id,
                now=arrived,
            )
            call_id, patience_s = invocation.id, invocation.deadline - arrived
            self._check(invocation)
            if invocation.key is not None:
                # Others may hear the same answer, and compare the same payload.
                _check_whole(invocation)
            if invocation.stream_token is not None:
                invocation.stream = self._borrow(
                    invocation, invocation.source, invocation.stream_token
                )
            if ref is not None:
                fetched = self._fetch_then_run(target, invocation, ref)
                self._wait(invocation, fetched, message, tasks)
                return patience_s
            if invocation.key is not None:
                self._wait(invocation, self._run(target, invocation), message, tasks)
                return patience_s
            outcome = target.accept(invocation)
            if type(outcome) is not Reply:
                self._wait(invocation, outcome, message, tasks)  # type: ignore[arg-type]
                return patience_s
        except errors.LatticeError as error:
            await self._send(message, self._encode_error(call_id, error))
        except Exception as error:
            await self._send(message, self._encode_error(call_id, self._bug(error)))
        else:
            if outcome.stream is None and len(outcome.payload) <= self._payloads.inline_bytes_max:
                await self._send(message, wire.encode_reply(call_id, outcome))
            else:
                # Storing it takes time, and the messages behind this one must not wait for that.
                tasks.spawn(self._answer(message, call_id, outcome), name="large answer")
        return patience_s

    def refusal(self, error: errors.Overloaded) -> bytes:
        """An answer to calls that nobody looked at, so that it names no call."""
        return self._encode_error("", error)

    async def refuse(self, message: Message, refusal: bytes) -> None:
        """Answer a message from the call subject that there is no room for."""
        await self._send(message, refusal)

    async def receive_plain(
        self, message: Message, target_id: str, target: Target, arrived: float, tasks: TaskGroup
    ) -> float | None:
        """Serve one message from the plain door: a payload in, a payload or error headers out.

        Gives the seconds that the call had, as ``receive``.
        """
        patience_s = None
        try:
            patience_s = _timeout_s(message.headers or {})
            invocation = Invocation(
                source=DOOR_SOURCE,
                target=target_id,
                interface="",
                operation=subjects.operation_of(self._lattice, target_id, message.subject),
                payload=message.data,
                deadline=arrived + patience_s,
                key=_key(message.headers or {}),
                trace=(message.headers or {}).get("traceparent"),
            )
            self._check(invocation)
            outcome = (
                target.accept(invocation)
                if invocation.key is None
                else self._run(target, invocation)
            )
            if type(outcome) is not Reply:
                tasks.spawn(
                    self._wait_then_answer_plain(outcome, message),  # type: ignore[arg-type]
                    name="plain call",
                )
                return patience_s
        except errors.LatticeError as error:
            await self._send_plain_error(message, error)
        except Exception as error:
            await self._send_plain_error(message, self._bug(error))
        else:
            await self._answer_plain(message, outcome)
        return patience_s

    async def refuse_plain(self, message: Message, error: errors.Overloaded) -> None:
        """Answer a message from the plain door that there is no room for."""
        await self._send_plain_error(message, error)

    async def _catch_up(self) -> None:
        try:
            await self._bus.flush()
        except errors.Unavailable:
            # With the connection went what it had brought and nobody has read.
            log.debug("the connection was lost during a standstill")

    def forget(self, target_id: str, target: Target) -> None:
        """Call the target directly no more; one that has taken its place stays."""
        if self._targets.get(target_id) is target:
            del self._targets[target_id]

    def _check(self, invocation: Invocation) -> None:
        if invocation.deadline <= self.now():
            raise errors.Expired("its time was up when it arrived; not executed")
        if invocation.hops > limits.HOPS_MAX:
            raise errors.HopLimit(invocation.hops, limits.HOPS_MAX)

    def _wait(
        self,
        invocation: Invocation,
        outcome: Awaitable[Reply],
        message: Message,
        tasks: TaskGroup,
    ) -> None:
        """Answer when a call has ended; until then its caller may call it off."""
        task = tasks.spawn(self._wait_then_answer(outcome, invocation.id, message), name="call")
        self._cancellable.add(invocation, task)

    async def _fetch_then_run(
        self, target: Target, invocation: Invocation, ref: PayloadRef
    ) -> Reply:
        async with _until(invocation.deadline):
            invocation.payload = await self._payloads.take(ref)
        return await self._run(target, invocation)

    async def _wait_then_answer(
        self, outcome: Awaitable[Reply], call_id: str, message: Message
    ) -> None:
        try:
            reply = await outcome
        except errors.LatticeError as error:
            await self._send(message, self._encode_error(call_id, error))
        except asyncio.CancelledError:
            abandoned = errors.Cancelled("the call was abandoned")
            await self._send(message, self._encode_error(call_id, abandoned))
            if _is_cancelled():
                raise
        except Exception as error:
            await self._send(message, self._encode_error(call_id, self._bug(error)))
        else:
            await self._answer(message, call_id, reply)

    async def _answer(self, message: Message, call_id: str, reply: Reply) -> None:
        if reply.stream is not None:
            await self._answer_with_stream(message, call_id, reply, reply.stream)
            return
        if len(reply.payload) <= self._payloads.inline_bytes_max:
            await self._send(message, wire.encode_reply(call_id, reply))
            return
        try:
            _check_answer(reply.payload)
            ref = await self._payloads.put(f"{call_id}.a", reply.payload)
        except errors.LatticeError as error:
            await self._send(message, self._encode_error(call_id, error))
        except asyncio.CancelledError:
            abandoned = errors.Cancelled("its answer was abandoned on its way")
            await self._send(message, self._encode_error(call_id, abandoned))
            raise
        else:
            await self._send(message, wire.encode_reply(call_id, reply, ref=ref))

    async def _answer_with_stream(
        self, message: Message, call_id: str, reply: Reply, source: Source
    ) -> None:
        try:
            # Its target is the subject's; the caller finds the stream by that as well.
            loan = await self._lend(source, subjects.target_of(message.subject))
        except errors.LatticeError as error:
            source.close()
            await self._send(message, self._encode_error(call_id, error))
        except asyncio.CancelledError:
            source.close()
            raise
        else:
            await self._send(message, wire.encode_reply(call_id, reply, stream_token=loan.token))

    async def _send(self, message: Message, envelope: bytes) -> None:
        try:
            await self._bus.respond(message, envelope)
        except errors.LatticeError as error:
            # The caller learns of the lost connection by itself.
            log.debug("an answer could not be sent", error=error.text)

    async def _wait_then_answer_plain(self, outcome: Awaitable[Reply], message: Message) -> None:
        try:
            reply = await outcome
        except errors.LatticeError as error:
            await self._send_plain_error(message, error)
        except asyncio.CancelledError:
            await self._send_plain_error(message, errors.Cancelled("the call was abandoned"))
            if _is_cancelled():
                raise
        except Exception as error:
            await self._send_plain_error(message, self._bug(error))
        else:
            await self._answer_plain(message, reply)

    async def _answer_plain(self, message: Message, reply: Reply) -> None:
        try:
            await self._bus.respond(message, reply.payload)
        except errors.LatticeError as error:
            await self._send_plain_error(message, error)

    async def _send_plain_error(self, message: Message, error: errors.LatticeError) -> None:
        if not message.reply:
            return
        text = " ".join(error.text.split())[: limits.ERROR_TEXT_CHARS]
        text = text.encode(errors="replace").decode()
        headers = {"Nats-Service-Error": text or error.code, "Nats-Service-Error-Code": error.code}
        try:
            await self._bus.publish(message.reply, headers=headers)
        except errors.LatticeError as failure:
            log.debug("an answer could not be sent", error=failure.text)

    def _encode_error(self, call_id: str, error: errors.LatticeError) -> bytes:
        error.at = error.at or self._at
        return wire.encode_error(call_id, error)

    def _bug(self, error: Exception) -> errors.InternalError:
        reference = wire.new_id()
        log.error("a call failed by a bug", reference=reference, exc_info=error)
        return errors.InternalError(f"a bug, logged on {self._at} as {reference}", at=self._at)


class Service:
    """A target that is being served. ``aclose`` takes it out of the lattice.

    In order: ``leave``, so that what comes next goes elsewhere; ``answered``, for as long as there
    is time; ``aclose``. There may be tens of thousands, most of them idle: what only a busy one
    needs is made then.
    """

    __slots__ = (
        "_bus",
        "_calls",
        "_copy_host",
        "_lattice",
        "_line",
        "_plain_line",
        "_refusal_bytes",
        "_refusal_expires",
        "_rpc",
        "_subscriptions",
        "_target",
        "_target_id",
    )

    def __init__(
        self,
        rpc: Rpc,
        bus: Bus,
        lattice: str,
        target_id: str,
        target: Target,
        *,
        copy_host: str | None = None,
    ) -> None:
        self._rpc = rpc
        self._bus = bus
        self._lattice = lattice
        self._target_id = names.parse_entity(target_id)
        self._target = target
        self._copy_host = copy_host
        self._subscriptions: list[Subscription] = []
        self._calls: TaskGroup | None = None
        """Calls that arrived over NATS, until their answers are on their way."""
        self._line: Line[Message] | None = None
        self._plain_line: Line[Message] | None = None
        self._refusal_bytes = b""
        self._refusal_expires = 0.0

    async def open(self, *, door: bool) -> None:
        queue = subjects.queue_group(self._lattice, self._target_id)
        calls = subjects.calls(self._lattice, self._target_id)
        if self._copy_host is not None:
            calls = subjects.copy_calls(self._lattice, self._target_id, self._copy_host)
            queue = ""
        doors = subjects.doors(self._lattice, self._target_id)
        try:
            self._subscriptions.append(
                await self._bus.subscribe(
                    calls, self._on_call, queue=queue, shared=True, refuse=self._refuse
                )
            )
            if door:
                self._subscriptions.append(
                    await self._bus.subscribe(doors, self._on_plain, queue=queue, shared=True)
                )
            await self._bus.flush()
            for subscription in self._subscriptions:
                subscription.check()
        except BaseException:
            # Nobody will close what was not opened, and it would go on taking calls.
            for subscription in self._subscriptions:
                await subscription.unsubscribe()
            raise

    async def leave(self) -> None:
        """Have NATS send no more calls here; returns when all that it had sent are in hand.

        Callers in this process still reach the target, as the calls that it serves may come back
        to it. Safe to call twice.
        """
        subscriptions, self._subscriptions = self._subscriptions, []
        await asyncio.gather(*(subscription.drain() for subscription in subscriptions))

    @property
    def is_answered(self) -> bool:
        lines = (self._line, self._plain_line)
        return not self._calls and all(line is None or line.is_empty for line in lines)

    async def answered(self) -> None:
        """Return when every call that arrived over NATS has its answer on the way."""
        await self._lines_empty()
        if self._calls is not None:
            await self._calls.join()

    async def abandon(self) -> None:
        """End what runs of the calls that arrived over NATS; their callers hear ``cancelled``."""
        if self._calls is not None:
            await self._calls.aclose()

    async def aclose(self) -> None:
        """Take no more calls from anywhere; those that arrived go on. Safe to call twice."""
        await self.leave()
        self._rpc.forget(self._target_id, self._target)
        await self._lines_empty()

    async def _lines_empty(self) -> None:
        for line in (self._line, self._plain_line):
            if line is not None:
                await line.wait_empty()

    def _in_hand(self) -> TaskGroup:
        if self._calls is None:
            self._calls = self._rpc.new_calls(self._target_id)
        return self._calls

    async def _on_call(self, message: Message) -> None:
        if self._rpc.turns.is_free:
            await self._serve_call(message, self._rpc.arrivals.now())
            self._rpc.turns.note_done()
            return
        if self._line is None:
            self._line = self._rpc.line(self._serve_call)
        if not self._line.offer(message, len(message.data)):
            # Rare: most of these are refused before they get here.
            await self._rpc.refuse(message, self._refusal(self._line))

    async def _on_plain(self, message: Message) -> None:
        if self._rpc.turns.is_free:
            await self._serve_plain(message, self._rpc.arrivals.now())
            self._rpc.turns.note_done()
            return
        if self._plain_line is None:
            self._plain_line = self._rpc.line(self._serve_plain)
        if not self._plain_line.offer(message, len(message.data)):
            await self._rpc.refuse_plain(message, self._backlogged(self._plain_line))

    def _refuse(self, size: int) -> bytes | None:
        line = self._line
        return self._refusal(line) if line is not None and line.is_full(size) else None

    def _refusal(self, line: Line[Message]) -> bytes:
        """What callers hear while the line is full: made anew a hundred times a second only.

        Refusing must be far cheaper than serving, or a host would be busy with nothing else.
        """
        now = self._rpc.now()
        if now >= self._refusal_expires:
            self._refusal_expires = now + REFUSAL_S
            self._refusal_bytes = self._rpc.refusal(self._backlogged(line))
        return self._refusal_bytes

    def _backlogged(self, line: Line[Message]) -> errors.Overloaded:
        return errors.Overloaded(
            f"{self._target_id} gets more calls than this process can serve: {line.describe()}"
        )

    async def _serve_call(self, message: Message, arrived: float) -> float | None:
        return await self._rpc.receive(
            message, self._target_id, self._target, arrived, self._in_hand()
        )

    async def _serve_plain(self, message: Message, arrived: float) -> float | None:
        return await self._rpc.receive_plain(
            message, self._target_id, self._target, arrived, self._in_hand()
        )


def _check_whole(invocation: Invocation) -> None:
    """Hold a call with an idempotency key to being all in its payload, and its answer too.

    Raises:
        InvalidRequest: some of it is still to come.
    """
    if invocation.stream is not None or invocation.stream_token is not None:
        raise errors.InvalidRequest("a call with an idempotency key must be whole: it has a stream")
    invocation.takes_stream = False


def _check_answer(payload: bytes) -> None:
    """Hold an answer to the limit; its call was executed, so a refusal must not read like one."""
    if len(payload) > limits.PAYLOAD_BYTES_MAX:
        raise errors.ProviderError(
            f"the answer is {len(payload)} bytes, over the limit of {limits.PAYLOAD_BYTES_MAX}",
            detail={"size": len(payload), "limit": limits.PAYLOAD_BYTES_MAX},
        )


def _is_cancelled() -> bool:
    """Whether a ``CancelledError`` is meant for this task, and not for what it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


@asynccontextmanager
async def _until(deadline: float) -> AsyncIterator[None]:
    """End what moves a large payload when the call's time is up.

    Raises:
        DeadlineExceeded: it is.
    """
    try:
        async with asyncio.timeout_at(deadline):
            yield
    except TimeoutError:
        raise errors.DeadlineExceeded("time ran out while a large payload was moved") from None


def _key(headers: dict[str, str]) -> str | None:
    """The idempotency key of a plain caller.

    Raises:
        InvalidRequest: it can't be one.
    """
    text = headers.get(KEY_HEADER)
    return None if text is None else wire.parse_key(text, what=KEY_HEADER)


def _timeout_s(headers: dict[str, str]) -> float:
    """The deadline that a plain caller asks for.

    Raises:
        InvalidRequest: not a positive number of milliseconds.
    """
    if (text := headers.get(TIMEOUT_HEADER)) is None:
        return limits.CALL_TIMEOUT_S
    return parse_timeout_ms(text, what=TIMEOUT_HEADER)

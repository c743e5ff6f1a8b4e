"""Bodies that flow while their call goes on: read in pieces by one reader, at the reader's pace.

A call or its answer may carry one *source* beside its payload. In one process that is the object
itself. Between two, its owner *lends* it: it listens on a subject of the stream's own, which the
message names, and the reader asks there for piece after piece (``wire.streams``). So nothing flows
that nobody asked for, and a stream holds at most one piece at its owner.

Questions are repeated when their answers are lost, so that a stream survives a restart of NATS. It
ends in good order, or broken: when its owner says so or is gone, when the reader has been silent
for ``STREAM_SILENCE_S``, at the deadline of its call.
"""

import asyncio
import contextlib
from collections.abc import Callable

import structlog

from lattice import errors, limits
from lattice.aio.tasks import TaskGroup
from lattice.bus import Bus, Message, Subscription
from lattice.wire import streams as wire
from lattice.wire.streams import Piece, Question, Source, Trailers

log = structlog.get_logger()


class Loan:
    """A source of this process that another one may read."""

    def __init__(
        self,
        bus: Bus,
        tasks: TaskGroup,
        subject: str,
        source: Source,
        *,
        token: str,
        ended: Callable[["Loan"], None],
    ) -> None:
        self._bus = bus
        self._tasks = tasks
        self._subject = subject
        self.token = token
        """What a message says of it."""
        self._source = source
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._asked_at = self._loop.time()
        self._last = Piece(at=0, content=b"")
        """The piece that was given last: its answer may be lost, and asked for again."""
        self._waiting: tuple[Question, str] | None = None
        """The question that waits, and where it wants its answer."""
        self._reading: asyncio.Task[None] | None = None
        self._subscription: Subscription | None = None
        self._silence = self._loop.call_later(limits.STREAM_SILENCE_S, self._check_silence)
        self._is_over = False

    async def open(self) -> None:
        """Have questions reach it.

        Raises:
            Unavailable: NATS is away.
        """
        self._subscription = await self._bus.subscribe(
            self._subject, self._on_question, shared=True
        )

    def close(self) -> None:
        """Lend it no more; what it lends is not touched."""
        if self._is_over:
            return
        self._is_over = True
        self._silence.cancel()
        if self._reading is not None:
            self._reading.cancel()
        if self._subscription is not None:
            self._tasks.spawn(self._subscription.unsubscribe(), name="end of a stream")
        self._ended(self)

    def _give_up(self) -> None:
        self.close()
        self._source.close()

    def _check_silence(self) -> None:
        silent_s = self._loop.time() - self._asked_at
        if silent_s < limits.STREAM_SILENCE_S:
            left_s = limits.STREAM_SILENCE_S - silent_s
            self._silence = self._loop.call_later(left_s, self._check_silence)
            return
        log.info("a stream was given up: nobody reads it", silent_s=round(silent_s))
        self._give_up()

    async def _on_question(self, message: Message) -> None:
        try:
            question = wire.decode_question(message.data)
        except errors.InvalidRequest as error:
            log.debug("a malformed question for a stream", error=error.text)
            return
        if self._is_over:
            return
        if question.stop:
            self._give_up()
            return
        self._asked_at = self._loop.time()
        self._waiting = question, message.reply
        if self._reading is None or self._reading.done():
            self._reading = self._tasks.spawn(self._answer(), name="piece of a stream")

    async def _answer(self) -> None:
        while self._waiting is not None:
            question, _ = self._waiting
            last = self._last
            if question.at == last.at + len(last.content):
                await self._read_on(question)
            elif question.at != last.at:
                gap = errors.InvalidRequest("it asks for a piece that is gone")
                self._last = Piece(at=question.at, content=b"", error=gap)
            # It may have been asked again meanwhile, by a reader that expects no answer elsewhere.
            (_, reply), self._waiting = self._waiting, None
            try:
                await self._bus.publish(reply, wire.encode_piece(self._last))
            except errors.LatticeError as error:
                # The reader asks again, if it can.
                log.debug("a piece of a stream could not be sent", error=error.text)

    async def _read_on(self, question: Question) -> None:
        at, size_max = question.at, min(question.size_max, limits.STREAM_PIECE_BYTES)
        if self._last.is_end or self._last.error is not None:
            return
        try:
            async with asyncio.timeout(limits.STREAM_PATIENCE_S):
                content = await self._source.read(size_max)
        except TimeoutError:
            self._last = Piece(at=at, content=b"")
        except errors.LatticeError as error:
            self._last = Piece(at=at, content=b"", error=error)
        else:
            trailers = [] if content else self._source.trailers
            self._last = Piece(at=at, content=content, is_end=not content, trailers=trailers)


class Borrowed:
    """A source of another process."""

    def __init__(self, bus: Bus, tasks: TaskGroup, subject: str, *, deadline: float) -> None:
        """``deadline`` is the call's: the stream is broken when it has passed."""
        self._bus = bus
        self._tasks = tasks
        self._subject = subject
        self._deadline = deadline
        self._loop = asyncio.get_running_loop()
        self._at = 0
        self._is_over = False
        self._closed: Callable[[], None] | None = None
        self._trailers: Trailers = []

    @property
    def trailers(self) -> Trailers:
        return self._trailers

    def on_close(self, closed: Callable[[], None]) -> None:
        """Have this called when it is closed, for what lives as long as it does."""
        self._closed = closed

    async def read(self, size_max: int) -> bytes:
        question = Question(at=self._at, size_max=min(size_max, limits.STREAM_PIECE_BYTES))
        while not self._is_over:
            piece = await self._ask(question)
            if piece.error is not None:
                raise piece.error
            if piece.at != self._at:
                continue
            if piece.is_end:
                self._trailers = piece.trailers
                self.close()
            elif piece.content:
                self._at += len(piece.content)
                return piece.content
        return b""

    def close(self) -> None:
        if self._is_over:
            return
        self._is_over = True
        self._tasks.spawn(self._say_stop(), name="end of a stream")
        if self._closed is not None:
            self._closed()

    async def _say_stop(self) -> None:
        try:
            async with asyncio.timeout(limits.CANCEL_TIMEOUT_S):
                await self._bus.publish(self._subject, wire.encode_question(Question(stop=True)))
        except (errors.LatticeError, TimeoutError) as error:
            # Then its owner notices the silence.
            log.debug("a stream could not be called off", error=str(error))

    async def _ask(self, question: Question) -> Piece:
        """Ask until there is an answer.

        Raises:
            Unavailable: the owner is gone, or silent.
            DeadlineExceeded: the call's time is up.
            InvalidRequest: it gave no piece.
            Denied: NATS does not permit us to ask there.
        """
        data = wire.encode_question(question)
        silences = 0
        gone_at: float | None = None
        while (now := self._loop.time()) < self._deadline:
            try:
                until = now + limits.STREAM_PATIENCE_S + limits.STREAM_GRACE_S
                message = await self._bus.request(
                    self._subject, data, deadline=min(until, self._deadline)
                )
                return wire.decode_piece(message.data)
            except errors.NotRunning:
                # After a restart of NATS a moment passes until it knows again who listens.
                gone_at = now if gone_at is None else gone_at
                if now - gone_at > limits.STREAM_GRACE_S:
                    raise errors.Unavailable(
                        "the body broke off: who had the rest of it is gone"
                    ) from None
            except errors.DeadlineExceeded:
                silences += 1
                if silences == SILENCES_MAX:
                    raise errors.Unavailable(
                        f"the body broke off: who had the rest of it did not answer {silences}"
                        " times"
                    ) from None
                continue
            except errors.Unavailable as error:
                log.debug("a stream waits for NATS", error=error.text)
            await asyncio.sleep(min(AGAIN_S, max(0.0, self._deadline - self._loop.time())))
        raise errors.DeadlineExceeded("the call's time was up before its body was complete")


SILENCES_MAX = 2
"""Questions in a row without an answer, after which the owner is taken to be gone."""

AGAIN_S = 0.1
"""Pause before a question is asked again that could not be answered."""


class Streams:
    """What one process lends and borrows."""

    def __init__(self, bus: Bus, tasks: TaskGroup) -> None:
        self._bus = bus
        self._tasks = tasks
        self._loans: set[Loan] = set()

    def __len__(self) -> int:
        return len(self._loans)

    async def lend(self, source: Source, subject: str, *, token: str) -> Loan:
        """Let another process read a source; the subject, which the token ends, must be new.

        Raises:
            Overloaded: too many are lent already.
            Unavailable: NATS is away.
        """
        if len(self._loans) >= limits.STREAMS_MAX:
            raise errors.Overloaded(f"{len(self._loans)} bodies flow from this process already")
        loan = Loan(self._bus, self._tasks, subject, source, token=token, ended=self._loans.discard)
        self._loans.add(loan)
        try:
            await loan.open()
        except BaseException:
            loan.close()
            raise
        return loan

    def borrow(self, subject: str, *, deadline: float) -> Borrowed:
        return Borrowed(self._bus, self._tasks, subject, deadline=deadline)

    async def aclose(self) -> None:
        """Lend nothing any more; whoever reads learns it from NATS."""
        for loan in list(self._loans):
            loan.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limits.CANCEL_TIMEOUT_S):
                await self._tasks.join()
        await self._tasks.aclose()

"""Bodies of ``wasi:http``, as a guest reads and writes them.

What a guest reads is there, or is still to come from a *source* (``lattice.wire.streams``), which
is asked for a piece only when the guest wants it. What it writes is kept until somebody reads it:
whole, when the guest has ended or the request is sent; or in pieces, by a reader that keeps the
guest waiting while ``STREAM_WINDOW_BYTES`` are unread.

A guest may run in a worker thread. It touches only what is plain data here; whoever waits on the
event loop's thread is told through the loop.
"""

import asyncio
from collections.abc import Callable

from host.engine.component_guest import Abandonable, ComponentGuest
from host.engine.guest import GuestFault
from host.engine.wasip2 import (
    BLOCKING_WRITE_BYTES,
    CHUNK_BYTES,
    Arrival,
    Condition,
    InputStream,
    OutputStream,
    StreamError,
    until_true,
)
from lattice import errors, limits
from lattice.wire import http
from lattice.wire.streams import Source

FIRST_WRITE_BYTES = limits.MIB
"""Bytes that a body takes in its first write, as wasmtime has it.

There are HTTP libraries that write a whole body at once, whatever they were told there is room for,
and go on with what they believe is left: StarlingMonkey's, under every ``fetch`` in JavaScript.
"""


class Inflow(InputStream):
    """A body that a guest reads: what is there of it, and the rest from its source."""

    __slots__ = ("_arrival", "_fetching", "_guest", "_is_drained", "_source", "failed")

    def __init__(self, guest: ComponentGuest, content: bytes, source: Source | None) -> None:
        super().__init__(content)
        self._guest = guest
        self._source = source
        self._fetching = False
        self._is_drained = source is None
        self._arrival = None if source is None else Arrival(self)
        self.failed: errors.LatticeError | None = None

    @property
    def failure(self) -> errors.LatticeError | None:
        return self.failed

    @property
    def arrival(self) -> Condition | None:
        return self._arrival

    @property
    def is_at_end(self) -> bool:
        return self._is_drained and not self.is_held

    @property
    def is_readable(self) -> bool:
        return self.is_held or self._is_drained or self.failed is not None

    def begin_fetch(self) -> None:
        """Ask for a piece, unless that is under way or not needed."""
        if not self.is_readable and not self._fetching:
            self._fetching = True
            self._guest.begin(self._fetch(), name="body for a guest")

    async def _fetch(self) -> None:
        assert self._source is not None, "it is not drained"
        assert self._arrival is not None, "as above"
        try:
            content = await self._source.read(CHUNK_BYTES)
        except errors.LatticeError as error:
            self.failed = error
        else:
            self.put(content)
            self._is_drained = not content
        finally:
            self._fetching = False
        self._arrival.wake()


class Rest:
    """What of a response is still to come, while the request it answers may still flow.

    Both end together: at its end, with an error, when the guest drops it, and with its call.
    """

    __slots__ = ("_guest", "_is_over", "_loop", "_request", "_source")

    def __init__(
        self, guest: ComponentGuest, source: Source, request: "OutgoingBody | None"
    ) -> None:
        """``request`` is the body that may still flow the other way."""
        self._guest = guest
        self._source = source
        self._request = request
        self._loop = asyncio.get_running_loop()
        self._is_over = False
        guest.flowing.add(self)

    @property
    def trailers(self) -> http.Headers:
        return self._source.trailers

    async def read(self, size_max: int) -> bytes:
        content = b""
        try:
            content = await self._source.read(size_max)
        except errors.LatticeError:
            self.close()
            raise
        if not content:
            self.close()
        return content

    def close(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._guest.flowing.discard(self)
            self._source.close()
            if self._request is not None:
                self._request.close()

    def give_up(self) -> None:
        """Close it, from whatever thread the guest runs on."""
        self._loop.call_soon_threadsafe(self.close)


class IncomingBody(Abandonable):
    """What a request or a response brings."""

    __slots__ = ("_source", "_trailers", "inflow", "is_streamed")

    def __init__(
        self,
        guest: ComponentGuest,
        content: bytes,
        trailers: http.Headers,
        source: Source | None = None,
    ) -> None:
        self.inflow = Inflow(guest, content, source)
        self._trailers = trailers
        self._source = source
        self.is_streamed = False
        """Whether the guest has its stream."""

    @property
    def trailers(self) -> http.Headers:
        return self._trailers if self._source is None else self._source.trailers

    def abandon(self) -> None:
        # A request's goes with its call: whoever sent it waits for the response.
        if isinstance(self._source, Rest):
            self._source.give_up()


class FutureTrailers(Condition, Abandonable):
    """What follows a body: there when its end has come, to which the rest of it is skipped."""

    __slots__ = ("_guest", "_is_skipping", "body", "is_taken")

    def __init__(self, guest: ComponentGuest, body: IncomingBody) -> None:
        super().__init__()
        self._guest = guest
        self._is_skipping = False
        self.body = body
        self.is_taken = False
        body.inflow.put(b"")

    def is_true(self) -> bool:
        return self.body.inflow.is_at_end or self.body.inflow.failure is not None

    def prepare(self) -> None:
        if not self.is_true() and not self._is_skipping:
            self._is_skipping = True
            self._guest.begin(self._skip(), name="rest of a body")

    async def _skip(self) -> None:
        inflow = self.body.inflow
        assert inflow.arrival is not None, "it is not at its end"
        while not self.is_true():
            await until_true(inflow.arrival)
            inflow.put(b"")
        self.wake()

    def abandon(self) -> None:
        self.body.abandon()


class Room(Condition):
    """There is room for more of a body, or nobody wants any."""

    __slots__ = ("_body",)

    def __init__(self, body: "OutgoingBody") -> None:
        super().__init__()
        self._body = body

    def is_true(self) -> bool:
        return self._body.room() != 0


class OutgoingBody(Abandonable):
    """A body that a guest writes: a response's, or a request's."""

    __slots__ = (
        "_changed",
        "_loop",
        "closed",
        "content",
        "error",
        "is_bounded",
        "is_closed",
        "is_finished",
        "is_request",
        "is_streamed",
        "length",
        "settled",
        "size",
        "size_max",
        "trailers",
        "vacancy",
    )

    def __init__(
        self,
        length: int | None,
        size_max: int,
        *,
        is_request: bool = False,
        is_bounded: bool = False,
    ) -> None:
        """``is_bounded`` where a reader comes for what is more than the window."""
        self.content = bytearray()
        """What was written and nobody has read."""
        self.size = 0
        """Bytes that were written in all."""
        self.length = length
        """What content-length promises."""
        self.size_max = size_max
        """Of a body that is kept whole."""
        self.is_bounded = is_bounded
        self.is_request = is_request
        self.trailers: http.Headers = []
        self.is_streamed = False
        """Whether the guest has its stream."""
        self.is_finished = False
        self.is_closed = False
        """Whether its reader wants no more."""
        self.error: errors.LatticeError | None = None
        """Why it is never finished, for its reader."""
        self.closed: Callable[[], None] | None = None
        """Called when its reader wants no more of what is not complete."""
        self.settled: Callable[[], object] | None = None
        """Called when it is finished, or never will be."""
        self.vacancy = Room(self)
        self._loop: asyncio.AbstractEventLoop | None = None
        """That of those who wait, once somebody does."""
        self._changed: asyncio.Event | None = None

    # The guest's side, on whatever thread.

    def room(self) -> int | None:
        if self.is_finished or self.is_closed:
            return None
        if self.size == 0:
            return FIRST_WRITE_BYTES
        if self.is_bounded:
            left = limits.STREAM_WINDOW_BYTES - len(self.content)
            # What blocking writes take at a time, or they would wait for a little more each time.
            return min(CHUNK_BYTES, left) if left >= BLOCKING_WRITE_BYTES else 0
        return CHUNK_BYTES

    def write(self, guest: ComponentGuest, content: bytes) -> StreamError | None:
        """Take more of it; gives what is wrong when that is more than was promised."""
        size = self.size + len(content)
        if self.length is not None and size > self.length:
            return self._overrun(guest, size, self.length)
        if size > self.size_max and not self.is_bounded:
            if self.is_request:
                raise GuestFault(
                    f"the request's body of {size} bytes is over the limit of {self.size_max}"
                )
            guest.oversize = size
            raise GuestFault("the response is too large")
        self.size = size
        self.content += content
        self._tell()
        return None

    def _overrun(self, guest: ComponentGuest, size: int, length: int) -> StreamError:
        self.size = size
        why = f"it writes {size} bytes of body, and its content-length is {length}"
        guest.log("warning", why)
        self._break(why)
        return StreamError(why, http_code=self.size_code())

    def size_code(self) -> http.ErrorCode:
        """Say that it has another size than it was said to have."""
        return {f"HTTP-{'request' if self.is_request else 'response'}-body-size": self.size}

    def put(self, content: bytes) -> None:
        """Begin it with what is there already, and was bounded before."""
        self.size += len(content)
        self.content += content

    def finish(self, trailers: http.Headers) -> bool:
        """End it in good order; false if it is not as long as it was said to be."""
        if self.length is not None and self.size != self.length:
            self._break(f"it was said to be {self.length} bytes, and ended after {self.size}")
            return False
        self.trailers = trailers
        self.is_finished = True
        self._tell()
        return True

    def abandon(self) -> None:
        self._break("it was dropped before it was finished")

    def _break(self, why: str) -> None:
        # A response that breaks off says so when its handler has ended.
        if self.is_request:
            self.error = self.error or errors.ActorError(f"the request's body broke off: {why}")
            self._tell()

    def _tell(self) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._look)

    # The reader's side, on the event loop's thread.

    def prepare(self) -> None:
        self._loop = asyncio.get_running_loop()

    def _look(self) -> None:
        if self.is_settled and self.settled is not None:
            self.settled()
        if self._changed is not None:
            self._changed.set()

    @property
    def is_settled(self) -> bool:
        """Whether it is finished, or never will be."""
        return self.is_finished or self.error is not None

    def take(self, size_max: int) -> bytes:
        """Take what was written, and is not read."""
        taken = bytes(self.content[:size_max])
        # Only these: a guest in a worker thread may be writing more.
        del self.content[: len(taken)]
        self.vacancy.wake()
        return taken

    async def read(self, size_max: int) -> bytes:
        self.prepare()
        if self._changed is None:
            self._changed = asyncio.Event()
        while True:
            self._changed.clear()
            if self.is_closed:
                raise errors.Cancelled("nobody wants the rest of the body")
            if self.content:
                return self.take(size_max)
            if self.is_finished:
                return b""
            if self.error is not None:
                raise self.error.from_parts(
                    self.error.text, at=self.error.at, detail=self.error.detail
                )
            await self._changed.wait()

    def fail(self, error: errors.LatticeError) -> None:
        """Break it off, unless it is complete: no more comes."""
        if not self.is_finished:
            self.error = self.error or error
            self._look()

    def close(self) -> None:
        if self.is_closed or (self.is_finished and not self.content):
            return
        self.is_closed = True
        self.content.clear()
        self._look()
        self.vacancy.wake()
        if self.closed is not None:
            self.closed()


class BodyStream(OutputStream):
    """What a guest writes to a body through."""

    __slots__ = ("_body",)

    def __init__(self, body: OutgoingBody) -> None:
        self._body = body

    @property
    def vacancy(self) -> Condition:
        return self._body.vacancy

    def room(self) -> int | None:
        return self._body.room()

    def write(self, guest: ComponentGuest, content: bytes) -> StreamError | None:
        return self._body.write(guest, content)

"""Reads and follows what actors, and hosts about them, write."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import structlog

from lattice import errors, limits, subjects
from lattice.aio.tasks import TaskGroup
from lattice.bus import Bus, Message
from lattice.wire import logs
from lattice.wire.logs import Level, Lines, RecentRequest, Want

log = structlog.get_logger()

QUIET_S = 0.3
"""When no further host answered for so long, all have."""

RENEW_S = limits.LOG_LEASE_S / 3
"""Between two times a follower says what it wants: one that is lost does no harm."""

MESSAGES_WAITING_MAX = 1_000
"""Messages held for a slow reader; older ones are dropped first."""


class LogsClient:
    """One lattice's log lines. Every method may raise ``Unavailable`` when NATS is away."""

    def __init__(
        self, bus: Bus, lattice: str, *, timeout_s: float = limits.CONTROL_TIMEOUT_S
    ) -> None:
        self._bus = bus
        self._lattice = lattice
        self._timeout_s = timeout_s

    async def recent(self, request: RecentRequest) -> list[Lines]:
        """The last lines that each host keeps; nonsense is left out."""
        answers = await self._bus.request_many(
            subjects.logs_recent(self._lattice),
            logs.encode(request),
            timeout_s=self._timeout_s,
            quiet_s=min(QUIET_S, self._timeout_s),
        )
        return [lines for answer in answers if (lines := _read(answer)) is not None]

    @asynccontextmanager
    async def follow(
        self, *, ids: list[str] | None = None, level: Level = "debug"
    ) -> AsyncIterator["LineStream"]:
        """Have every host publish lines from now on, for as long as this is open."""
        stream = LineStream(ids, level)
        subscription = await self._bus.subscribe(
            subjects.log_lines(self._lattice, "*", "*"), stream.receive
        )
        tasks = TaskGroup("log follower")
        follower = secrets.token_urlsafe(9)

        async def want(ttl_s: float) -> None:
            wanted = Want(follower=follower, ids=ids, level=level, ttl_ms=int(ttl_s * 1000))
            await self._bus.publish(subjects.logs_wanted(self._lattice), logs.encode(wanted))

        async def renew() -> None:
            while True:
                await asyncio.sleep(RENEW_S)
                with suppress(errors.Unavailable):
                    await want(limits.LOG_LEASE_S)

        try:
            await want(limits.LOG_LEASE_S)
            # Whoever asks for recent lines next misses none in between.
            await self._bus.flush()
            subscription.check()
            tasks.guard(renew, name="renew the lease")
            yield stream
        finally:
            await tasks.aclose()
            with suppress(errors.Unavailable):
                await want(0)
            await subscription.unsubscribe()


class LineStream:
    """Messages of hosts in the order of their arrival."""

    def __init__(self, ids: list[str] | None, level: Level) -> None:
        self._ids = frozenset(ids) if ids is not None else None
        self._severity = logs.severity(level)
        self._queue: asyncio.Queue[Lines] = asyncio.Queue(MESSAGES_WAITING_MAX)

    async def receive(self, message: Message) -> None:
        # Somebody else may follow other actors, and lesser lines.
        if self._ids is not None and message.subject.rpartition(".")[2] not in self._ids:
            return
        if (lines := _read(message)) is None:
            return
        lines.lines = [line for line in lines.lines if logs.severity(line.level) >= self._severity]
        if lines.lines or lines.dropped:
            if self._queue.full():
                self._queue.get_nowait()
            self._queue.put_nowait(lines)

    def __aiter__(self) -> "LineStream":
        return self

    async def __anext__(self) -> Lines:
        return await self._queue.get()


def _read(message: Message) -> Lines | None:
    try:
        return logs.decode_lines(message.data)
    except errors.LatticeError as error:
        log.warning("a host's log lines can't be read", error=error.text)
        return None

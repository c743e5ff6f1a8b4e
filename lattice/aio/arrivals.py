"""When messages arrived, in a process that may have stood still meanwhile.

A message that came while the process was frozen, or its event loop blocked, lay in the socket
until now, and nobody knows for how long. Taken for new, it would be done long after its sender gave
up. So until all of that is read, messages count as having come when the standstill began: one that
came towards its end is given less time than it had, and none is given more.
"""

import asyncio
from collections.abc import Awaitable, Callable

from lattice.aio.tasks import TaskGroup

PULSE_S = 0.25
"""Between two signs of life of the event loop."""

STANDSTILL_S = 1.0
"""A sign of life that is late by so much was kept from coming; a busy loop is late by less."""


class Arrivals:
    """The clock of arrivals of one event loop."""

    def __init__(self, catch_up: Callable[[], Awaitable[None]], tasks: TaskGroup) -> None:
        """``catch_up`` returns when everything that was sent to us before it was called is read."""
        self._catch_up = catch_up
        self._tasks = tasks
        self._loop = asyncio.get_running_loop()
        self._pulse_at = self._loop.time()
        self._since: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Watch for standstills. Safe to call twice."""
        if self._timer is None:
            self._pulse_at = self._loop.time()
            self._timer = self._loop.call_later(PULSE_S, self._pulse)

    def close(self) -> None:
        """Watch no more. Safe to call twice."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def now(self) -> float:
        """When a message arrived that is read now, on the event loop's clock."""
        return self._loop.time() if self._since is None else self._since

    def _pulse(self) -> None:
        now, before = self._loop.time(), self._pulse_at
        self._pulse_at = now
        self._timer = self._loop.call_later(PULSE_S, self._pulse)
        if now - before < PULSE_S + STANDSTILL_S or self._since is not None:
            return
        self._since = before
        self._tasks.spawn(self._read_all(), name="read what came during a standstill")

    async def _read_all(self) -> None:
        try:
            await self._catch_up()
        finally:
            self._since = None

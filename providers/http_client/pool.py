"""Connections of one link that wait for its next request."""

import asyncio
from dataclasses import dataclass

from lattice import limits
from providers.http_client.connection import Connection
from providers.http_client.targets import Target


@dataclass(frozen=True, slots=True)
class _Idle:
    connection: Connection
    since_s: float


class Pool:
    """Keeps a bounded number of connections for a bounded time; the one used last goes out first.

    They were made under the link's own rules, and nobody else gets them.
    """

    def __init__(self, *, connections_max: int, idle_s: float) -> None:
        self._connections_max = connections_max
        self._idle_s = idle_s
        self._idle: list[_Idle] = []
        """The one idle for longest first."""
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False

    def take(self, target: Target) -> Connection | None:
        """A connection to the target that is open still, or None."""
        for place in reversed(range(len(self._idle))):
            if self._idle[place].connection.target == target:
                connection = self._idle.pop(place).connection
                if _is_good(connection):
                    return connection
                connection.abort()
        return None

    def put(self, connection: Connection) -> None:
        """Keep a connection that has done its work, or close it."""
        if self._is_closed or self._connections_max == 0 or not _is_good(connection):
            connection.abort()
            return
        if len(self._idle) >= self._connections_max:
            self.drop_oldest()
        loop = asyncio.get_running_loop()
        self._idle.append(_Idle(connection, loop.time()))
        if self._timer is None:
            self._timer = loop.call_later(self._idle_s, self._reap)

    def drop_oldest(self) -> bool:
        """Close the connection that has been idle for longest; whether there was one."""
        if not self._idle:
            return False
        self._idle.pop(0).connection.abort()
        return True

    def close(self) -> None:
        """Close all that is idle, and all that will be put."""
        self._is_closed = True
        while self.drop_oldest():
            continue
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _reap(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        while self._idle and self._idle[0].since_s + self._idle_s <= loop.time():
            self.drop_oldest()
        if self._idle:
            self._timer = loop.call_at(self._idle[0].since_s + self._idle_s, self._reap)


def _is_good(connection: Connection) -> bool:
    age_s = asyncio.get_running_loop().time() - connection.since_s
    return connection.is_reusable and age_s < limits.HTTP_CLIENT_CONNECTION_AGE_S

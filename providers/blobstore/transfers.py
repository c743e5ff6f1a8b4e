"""Calls that move data take turns, so that what a provider holds of it is bounded."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from lattice import errors, limits

WAITING_BYTES_MAX = 256 * limits.MIB
"""What calls may bring along that wait for their turn: they are in memory already."""


class Transfers:
    """So many at a time."""

    def __init__(self, count: int) -> None:
        self._turns = asyncio.Semaphore(count)
        self._waiting_bytes = 0

    @asynccontextmanager
    async def turn(self, size_bytes: int = 0) -> AsyncIterator[None]:
        """Wait for a turn with so much in hand, and have it.

        Raises:
            Overloaded: those that wait have too much in hand already.
        """
        if self._turns.locked() and self._waiting_bytes + size_bytes > WAITING_BYTES_MAX:
            raise errors.Overloaded(
                f"{self._waiting_bytes} bytes wait to be written, and {size_bytes} more are over"
                f" the limit of {WAITING_BYTES_MAX}"
            )
        self._waiting_bytes += size_bytes
        try:
            await self._turns.acquire()
        finally:
            self._waiting_bytes -= size_bytes
        try:
            yield
        finally:
            self._turns.release()

"""Waiting for something that another task or process is about to do, with a bound."""

import asyncio
from collections.abc import Awaitable, Callable

from lattice import errors

PATIENCE_S = 30.0
"""Far beyond what any of it takes on a busy machine; only a failing test waits so long."""


async def eventually(condition: Callable[[], object], *, timeout_s: float = PATIENCE_S) -> None:
    """Return once ``condition()`` is true.

    Raises:
        AssertionError: it did not come true in time.
    """
    deadline = asyncio.get_running_loop().time() + timeout_s
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it did not come true in time"
        await asyncio.sleep(0.005)


async def eventually_available(
    use: Callable[[], Awaitable[object]], *, timeout_s: float = 2 * PATIENCE_S
) -> None:
    """Return once what was away does its work again.

    Raises:
        Unavailable: it did not in time.
    """
    deadline = asyncio.get_running_loop().time() + timeout_s
    while True:
        try:
            await use()
        except errors.Unavailable:
            if asyncio.get_running_loop().time() >= deadline:
                raise
            await asyncio.sleep(0.05)
        else:
            return

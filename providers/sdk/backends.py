"""What stands behind a provider: given up before its caller does, and asked whether it is there."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Protocol

from lattice import errors
from lattice.wire.provider import Health

REPLY_MARGIN_S = 0.1
"""An answer must set out this long before the deadline, or its caller hears only of the deadline.
Of a short deadline it is at most a tenth."""

PING_TIMEOUT_S = 1.5
"""For a backend to show that it is there; a health check as a whole has two seconds."""


class Backend(Protocol):
    """What can be asked whether it is there."""

    @property
    def label(self) -> str:
        """What errors call it."""
        ...

    async def ping(self) -> None:
        """
        Raises:
            LatticeError: it is not there.
        """
        ...


def answer_by(deadline: float) -> float:
    """A deadline, in the loop's time, that leaves time to say that nobody answered."""
    left_s = deadline - asyncio.get_running_loop().time()
    return deadline - min(REPLY_MARGIN_S, max(left_s, 0.0) / 10)


@asynccontextmanager
async def answering(backend: Backend, deadline: float) -> AsyncIterator[None]:
    """Wait for a backend's answer, but not so long that its caller can't be told of none.

    Raises:
        Unavailable: it did not answer.
    """
    try:
        async with asyncio.timeout_at(answer_by(deadline)):
            yield
    except TimeoutError:
        raise errors.Unavailable(
            f"{backend.label} did not answer before the call's deadline"
        ) from None


async def health(backends: Iterable[Backend]) -> Health:
    """Healthy when every backend answers; the message names those that don't."""
    failures = await asyncio.gather(*map(failure, backends))
    down = "; ".join(sorted(filter(None, failures)))
    return Health(healthy=not down, message=down or None)


async def failure(backend: Backend) -> str | None:
    """What is wrong with a backend; None when it answers."""
    try:
        async with asyncio.timeout(PING_TIMEOUT_S):
            await backend.ping()
    except TimeoutError:
        return f"{backend.label} does not answer"
    except errors.LatticeError as error:
        return error.text
    return None

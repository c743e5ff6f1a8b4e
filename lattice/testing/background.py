"""An event loop in a thread of its own, and what it does for tests of either kind.

A lattice lives there, so that it outlasts the event loop of a single test, and serves tests that
have none.
"""

import asyncio
import threading
from collections.abc import Coroutine, Generator
from concurrent.futures import Future
from typing import Any, Generic, Self, TypeVar

from lattice import limits

RESULT_TIMEOUT_S = limits.COMPILE_TIMEOUT_S + 30.0
"""How long a synchronous test waits for a result: the slowest start, and more."""

T = TypeVar("T")


class Pending(Generic[T]):
    """Something that has begun: ``await`` it, or ask for its ``result()``.

    It goes on whether anybody waits or not; cancelling who awaits it cancels it.
    """

    def __init__(self, future: Future[T]) -> None:
        self._future = future

    def __await__(self) -> Generator[Any, None, T]:
        return asyncio.wrap_future(self._future).__await__()

    def result(self, timeout_s: float = RESULT_TIMEOUT_S) -> T:
        """Wait here until it is done.

        Raises:
            TimeoutError: it is not done in time, and is cancelled.
            RuntimeError: called where an event loop runs, which it would hold up: await it there.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise RuntimeError("an event loop runs here: await it instead of asking for result()")
        return _waited(self._future, timeout_s)

    def cancel(self) -> None:
        """Have it end, if it has not."""
        self._future.cancel()


class Background:
    """A thread that runs an event loop until it is closed."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="lattice", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def run(self, work: Coroutine[Any, Any, T]) -> Pending[T]:
        """Begin something there."""
        return Pending(asyncio.run_coroutine_threadsafe(work, self._loop))

    def do(self, work: Coroutine[Any, Any, T], timeout_s: float = RESULT_TIMEOUT_S) -> T:
        """Do something there that is short, and wait for it here.

        Raises:
            TimeoutError: it is not done in time, and is cancelled.
        """
        return _waited(asyncio.run_coroutine_threadsafe(work, self._loop), timeout_s)

    def close(self) -> None:
        """End the loop, and what was forgotten on it. Safe to call twice."""
        if self._loop.is_closed():
            return
        self.do(self._end_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end_all(self) -> None:
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await self._loop.shutdown_asyncgens()
        await self._loop.shutdown_default_executor()


def _waited(future: Future[T], timeout_s: float) -> T:
    try:
        return future.result(timeout_s)
    except TimeoutError:
        future.cancel()
        raise

"""The only place that creates tasks: each is named, kept alive, and its end is noticed.

An *eternal* task (a watch, a heartbeat) has no good way to end: its exit, failure or unexpected
cancellation is logged, and it is started again after a pause. A *child* task serves one call.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import structlog

log = structlog.get_logger()

RESTART_DELAY_S = 1.0
"""Pause before an eternal task that ended is started again; long enough not to spin."""

CANCEL_AGAIN_S = 0.5
"""After so long a task that is to end is cancelled again."""


class TaskGroup:
    """Tasks that belong to one owner and end with it.

    Unlike ``asyncio.TaskGroup``, one failure does not take the others down: calls are independent
    of each other, and eternal tasks are restarted.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closing = False

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def names(self) -> list[str]:
        """Names of the running tasks, for diagnostics."""
        return sorted(task.get_name() for task in self._tasks)

    def spawn(self, coroutine: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        """Run a child task; a failure that it did not handle itself is logged."""
        task = asyncio.create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def guard(self, work: Callable[[], Awaitable[None]], *, name: str) -> asyncio.Task[None]:
        """Run ``work`` for ever, starting it again whenever it ends."""
        return self.spawn(self._forever(work, name), name=name)

    async def aclose(self) -> None:
        """Cancel every task and wait until all have ended. Safe to call twice."""
        self._closing = True
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            # What swallowed its cancellation, as library code may, hears of it again.
            await asyncio.wait(self._tasks, timeout=CANCEL_AGAIN_S)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("task failed", task=task.get_name(), owner=self._name, exc_info=error)

    async def _forever(self, work: Callable[[], Awaitable[None]], name: str) -> None:
        while True:
            try:
                await work()
                log.warning("eternal task ended", task=name, owner=self._name)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if self._closing or (task is not None and task.cancelling()):
                    raise
                # Something that it waited for was cancelled, not the task itself.
                log.warning("eternal task cancelled", task=name, owner=self._name)
            except Exception as error:
                log.error("eternal task failed", task=name, owner=self._name, exc_info=error)
            if self._closing:
                return
            await asyncio.sleep(RESTART_DELAY_S)

"""The only place that creates tasks: each is named, kept alive, and its end is noticed.

An *eternal* task (a watch, a heartbeat) has no good way to end: its exit, failure or unexpected
cancellation is logged, and it is started again after a pause. A *child* task serves one call.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

import structlog

log = structlog.get_logger()

RESTART_DELAY_S = 1.0
"""Pause before an eternal task that ended is started again; long enough not to spin."""

CANCEL_AGAIN_S = 0.5
"""After so long a task that is to end is cancelled again."""


FAILURE_CHARS_MAX = 200
"""What is kept of a failure's text; the log has it in full."""


@dataclass(slots=True)
class Record:
    """What is known of one task."""

    group: str
    name: str
    eternal: bool
    since_s: float
    """When it was made, on the monotonic clock."""
    restarts: int = 0
    last_failure: str = ""


@dataclass(slots=True)
class Failures:
    """Child tasks of one group that failed without handling it."""

    count: int = 0
    last: str = ""


class TaskGroup:
    """Tasks that belong to one owner and end with it.

    Unlike ``asyncio.TaskGroup``, one failure does not take the others down: calls are independent
    of each other, and eternal tasks are restarted.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.failures = Failures()
        self._tasks: dict[asyncio.Task[Any], Record] = {}
        self._closing = False
        _groups.add(self)

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def names(self) -> list[str]:
        """Names of the running tasks, for diagnostics."""
        return sorted(task.get_name() for task in self._tasks)

    @property
    def records(self) -> Iterator[Record]:
        """What is known of the running tasks, the oldest first."""
        return iter(self._tasks.values())

    def spawn(self, coroutine: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        """Run a child task; a failure that it did not handle itself is logged."""
        return self._spawn(coroutine, Record(self.name, name, False, time.monotonic()))

    def guard(self, work: Callable[[], Awaitable[None]], *, name: str) -> asyncio.Task[None]:
        """Run ``work`` for ever, starting it again whenever it ends."""
        record = Record(self.name, name, True, time.monotonic())
        return self._spawn(self._forever(work, record), record)

    async def join(self) -> None:
        """Return when no task runs; those that are added meanwhile are waited for as well."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def aclose(self) -> None:
        """Cancel every task and wait until all have ended. Safe to call twice."""
        self._closing = True
        while self._tasks:
            await end(*self._tasks)
            # Each is forgotten by a callback, which has yet to run.
            await asyncio.sleep(0)

    def _spawn(self, coroutine: Coroutine[Any, Any, None], record: Record) -> asyncio.Task[None]:
        task = asyncio.create_task(coroutine, name=record.name)
        self._tasks[task] = record
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failures.count += 1
            self.failures.last = f"{task.get_name()}: {_text(error)}"[:FAILURE_CHARS_MAX]
            log.error("task failed", task=task.get_name(), owner=self.name, exc_info=error)

    async def _forever(self, work: Callable[[], Awaitable[None]], record: Record) -> None:
        name = record.name
        while True:
            try:
                await work()
                record.last_failure = "it ended"
                log.warning("eternal task ended", task=name, owner=self.name)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if self._closing or (task is not None and task.cancelling()):
                    raise
                # Something that it waited for was cancelled, not the task itself.
                record.last_failure = "it was cancelled"
                log.warning("eternal task cancelled", task=name, owner=self.name)
            except Exception as error:
                record.last_failure = _text(error)
                log.error("eternal task failed", task=name, owner=self.name, exc_info=error)
            if self._closing:
                return
            record.restarts += 1
            await asyncio.sleep(RESTART_DELAY_S)


async def end(*tasks: asyncio.Task[None]) -> None:
    """Cancel tasks and wait until all of them have ended, whatever they end with.

    What swallowed its cancellation, as library code may, hears of it again.
    """
    while running := [task for task in tasks if not task.done()]:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=CANCEL_AGAIN_S)


def groups() -> list[TaskGroup]:
    """Every group of this process, by name."""
    return sorted(_groups, key=lambda group: group.name)


_groups: WeakSet[TaskGroup] = WeakSet()


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:FAILURE_CHARS_MAX]

"""Calls of other processes that run or wait in this one, to be ended when their callers go away.

A caller that stops waiting publishes the call's id on the subject of target and source; every
process that may execute the target's calls hears it, and the one that has the call ends its task.
All others ignore it. A cancellation is a courtesy: one that is lost leaves the call to its
deadline.
"""

import asyncio

import structlog

from lattice import errors, limits, subjects
from lattice.bus import Message
from lattice.wire import invocation as wire
from lattice.wire.invocation import Invocation

log = structlog.get_logger()

EARLY_MAX = 1_000
"""Cancellations kept for calls that are not known here: most are other processes' calls, but one
may have overtaken its call, which is then right behind it."""

_Key = tuple[str, str, str]
"""Target, source, call id."""


class CancellableCalls:
    """Tasks by the call that each of them executes, while it does."""

    def __init__(self, lattice: str) -> None:
        self._lattice = lattice
        self._tasks: dict[_Key, asyncio.Task[None]] = {}
        self._early: dict[_Key, None] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def add(self, invocation: Invocation, task: asyncio.Task[None]) -> None:
        """Let the call be called off until its task ends, unless there are too many already."""
        if len(self._tasks) >= limits.CANCELLABLE_CALLS_MAX:
            return
        key = (invocation.target, invocation.source, invocation.id)
        self._tasks[key] = task
        task.add_done_callback(lambda _: self._forget(key, task))
        if key in self._early:
            del self._early[key]
            _cancel(task)

    async def receive(self, message: Message) -> None:
        """End the call that a message calls off, if it is here and its caller's."""
        try:
            target, source = subjects.parse_cancel(self._lattice, message.subject)
            call_id = wire.decode_cancel(message.data)
        except errors.InvalidRequest as error:
            log.debug("a malformed cancellation", subject=message.subject, error=error.text)
            return
        key = (target, source, call_id)
        if (task := self._tasks.get(key)) is not None:
            _cancel(task)
            return
        self._early[key] = None
        if len(self._early) > EARLY_MAX:
            del self._early[next(iter(self._early))]

    def _forget(self, key: _Key, task: asyncio.Task[None]) -> None:
        # A repetition of the call, which has the same id, may have taken its place.
        if self._tasks.get(key) is task:
            del self._tasks[key]


def _cancel(task: asyncio.Task[None]) -> None:
    # Not at once: a task that has not begun yet would end without having awaited the target's
    # answer, and nothing would give back what the target set aside for it.
    asyncio.get_running_loop().call_soon(task.cancel)

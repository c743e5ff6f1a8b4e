"""Work that arrives in floods, done in turn and in slices, so that nothing else waits long for it.

A client library hands over everything that one read of the socket brought, without a pause. Done
right there it would hold the event loop for as long as all of it takes: no heartbeat, no answer,
no other line. Here one pass of the loop does ``SLICE_S`` of it; what is left stands in *lines*,
which take turns. An idle process does what comes in at once, and pays a look at the clock for it.

A line takes what it can expect to do in time, going by how fast it moved and how patient senders
were of late. One that went by its number or its oldest item alone would fill in the first second of
a flood with work for ten, and then spend its time on items whose senders are just giving up.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from math import inf
from time import perf_counter
from typing import Generic, TypeVar

import structlog

from lattice import limits
from lattice.aio.tasks import TaskGroup

log = structlog.get_logger()

T = TypeVar("T")

SLICE_S = 0.005
"""Work done in one pass of the event loop: as long as one guest may hold it, and a hundred times
what the pass itself costs."""

GAP_S = 0.00002
"""After a longer pause than this between two items the event loop has had a pass, most likely. To
know it for sure would cost a pass of its own each time; to be wrong costs a slice."""


PACE_ITEMS = 32
"""Over about so many items the pace of a line is averaged: the passes of the loop between slices
are in it, and it has followed a change of what items cost before that matters."""

PACE_TIMES_MAX = 8
"""Times the pace so far that one item counts for, at most: a process that was stopped did not serve
for that long. Items that did become slower show it one after another; these move the pace by a
fifth each, so that it has followed within a few dozen."""

PACE_S_MIN = 0.001
"""A faster pace counts as this for that bound, or it could never rise from nothing."""

WAIT_SHARE = 0.5
"""Of the time that items have, what they may be expected to stand in line."""


class Turns:
    """The lines of one process, and the task that is there while something stands in them."""

    def __init__(self, tasks: TaskGroup, *, slice_s: float = SLICE_S) -> None:
        self._tasks = tasks
        self._slice_s = slice_s
        self._ring: deque[Line[object]] = deque()
        """Lines in which something stands, each once; the one whose turn it is first."""
        self._slice_ends = 0.0
        self._last_done = 0.0

    @property
    def is_free(self) -> bool:
        """Whether nobody waits, and there is time left in this pass of the loop.

        Whoever then does something calls ``note_done`` after it.
        """
        if self._ring:
            return False
        now = perf_counter()
        if now - self._last_done > GAP_S:
            self._slice_ends = now + self._slice_s
            return True
        return now < self._slice_ends

    def note_done(self) -> None:
        """Note the end of something that was done because ``is_free`` said so."""
        self._last_done = perf_counter()

    def join(self, line: "Line[object]") -> None:
        """Give a turn to a line in which something stands again."""
        self._ring.append(line)
        if len(self._ring) == 1:
            self._tasks.spawn(self._run(), name="work in turn")

    async def _run(self) -> None:
        """Do what stands in the lines, one item of each in turn."""
        slice_ends = perf_counter() + self._slice_s
        while self._ring:
            # It keeps its place meanwhile: whoever comes now finds the process busy.
            line = self._ring[0]
            await line.do_next()
            self._ring.popleft()
            if line:
                self._ring.append(line)
            # With an empty ring there must be no wait: whoever joins it starts this anew.
            if self._ring and perf_counter() >= slice_ends:
                await asyncio.sleep(0)
                slice_ends = perf_counter() + self._slice_s


class Line(Generic[T]):
    """Items of one kind that wait to be done, in order; bounded by number, size and patience."""

    __slots__ = (
        "_busy",
        "_bytes",
        "_bytes_max",
        "_do",
        "_emptied",
        "_item_s",
        "_items",
        "_items_max",
        "_moved_at",
        "_now",
        "_patience_s",
        "_turns",
    )

    def __init__(
        self,
        turns: Turns,
        do: Callable[[T, float], Awaitable[float | None]],
        *,
        items_max: int = limits.BACKLOG_CALLS,
        bytes_max: int = limits.BACKLOG_BYTES,
        now: Callable[[], float],
    ) -> None:
        """``do`` gets an item and the time of its arrival on the clock ``now``.

        It gives the seconds that the item had from then on, if it could see that. It handles its
        own errors, and waits for nothing that takes time.
        """
        self._turns = turns
        self._do = do
        self._items_max = items_max
        self._bytes_max = bytes_max
        self._now = now
        self._items: deque[tuple[T, int, float]] = deque()
        self._bytes = 0
        self._item_s = 0.0
        """From one item to the next, on average, while something stands in it."""
        self._moved_at = 0.0
        self._patience_s = inf
        """How long items may take until they are done, on average; for ever until it is known."""
        self._busy = False
        self._emptied: asyncio.Event | None = None

    def __len__(self) -> int:
        return len(self._items)

    @property
    def is_empty(self) -> bool:
        """Whether nothing stands in it and nothing of it is being done."""
        return not (self._items or self._busy)

    def offer(self, item: T, size: int) -> bool:
        """Line an item up, unless the line is full.

        Whoever finds ``Turns.is_free`` does it at once instead.
        """
        if self.is_full(size):
            return False
        self._items.append((item, size, self._now()))
        self._bytes += size
        # The one that is being done keeps its line in the ring.
        if len(self._items) == 1 and not self._busy:
            self._moved_at = perf_counter()
            self._turns.join(self)  # type: ignore[arg-type]
        return True

    def is_full(self, size: int) -> bool:
        """Whether there is no room for an item of that size; an empty line has room for any."""
        return bool(self._items) and (
            len(self._items) >= self._items_max
            or self._bytes + size > self._bytes_max
            or max(self._wait_s, self._age_s) >= WAIT_SHARE * self._patience_s
        )

    def describe(self) -> str:
        """How full it is, with the bounds."""
        return (
            f"{len(self._items)} of {self._items_max} wait to be looked at, with {self._bytes} of"
            f" {self._bytes_max} bytes, the oldest for {self._age_s:.3f}, the next one would for"
            f" {self._wait_s:.3f} of {WAIT_SHARE * self._patience_s:.3f} s"
        )

    @property
    def _age_s(self) -> float:
        return self._now() - self._items[0][2] if self._items else 0.0

    @property
    def _wait_s(self) -> float:
        """How long a newcomer would wait, going by how fast the line moves."""
        return len(self._items) * self._item_s

    async def do_next(self) -> None:
        """Do the item that has waited longest."""
        item, size, arrived = self._items.popleft()
        self._bytes -= size
        self._busy = True
        try:
            self._note_patience(await self._do(item, arrived))
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # Something that it waited for was cancelled, not the task that serves all lines.
            log.error("work in turn was cancelled")
        except Exception as error:
            log.error("work in turn failed", exc_info=error)
        finally:
            self._busy = False
            now = perf_counter()
            self._item_s = pace_after(self._item_s, now - self._moved_at)
            self._moved_at = now
            if not self._items and self._emptied is not None:
                self._emptied.set()

    def _note_patience(self, patience_s: float | None) -> None:
        if patience_s is None:
            return
        if self._patience_s == inf:
            self._patience_s = patience_s
        else:
            self._patience_s += (patience_s - self._patience_s) / PACE_ITEMS

    async def wait_empty(self) -> None:
        """Return when everything that was taken has been done."""
        while self._items or self._busy:
            self._emptied = asyncio.Event()
            await self._emptied.wait()


def pace_after(pace_s: float, item_s: float) -> float:
    """The average time from one item to the next, after one more that took so long."""
    counted_s = min(item_s, PACE_TIMES_MAX * max(pace_s, PACE_S_MIN))
    return pace_s + (counted_s - pace_s) / PACE_ITEMS

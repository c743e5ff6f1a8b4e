"""Finds what blocks the event loop: a thread looks whether it turns, and at its stack when not.

While the loop is blocked no call is answered, no heartbeat sent and no time-out noticed, whatever
the reason: a computation in a callback, a file on a slow disk, a C function that keeps the
interpreter's lock. A process that was stopped as a whole (SIGSTOP, a debugger, a machine without a
free processor) stands still as well, and is no stall: then the watching thread was late itself,
and the process used no processor meanwhile.
"""

import asyncio
import sys
import threading
import time
import traceback
from dataclasses import dataclass, replace
from enum import StrEnum
from types import FrameType
from typing import Self

import structlog

log = structlog.get_logger()

STALL_S = 0.25
"""A loop that is late by more is said to stall: a quarter of the interval between two beats."""

LOOK_INTERVAL_S = 0.1
"""Between looks, and between turns of the loop that they look for: twenty wakings a second."""

BUSY_SHARE = 0.5
"""Share of a gap in the thread's own turns that the process must have computed for it to be a
stall: somebody kept the interpreter's lock. With less the process did not run."""

LOG_INTERVAL_S = 10.0
"""Between stacks that are logged; all are counted."""

FRAMES_MAX = 30
"""Innermost frames of a stack that are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stalls:
    """What was seen of one loop since it is watched."""

    count: int = 0
    worst_s: float = 0.0
    last_s: float = 0.0
    last_stack: str = ""
    """Where the loop was when the last one was noticed, innermost frame last."""
    last_at: float = 0.0
    """When that was, on the system's clock."""
    frozen: int = 0
    """Times that the process as a whole stood still."""


class State(StrEnum):
    """What the loop does, as far as one look can tell."""

    TURNS = "turns"
    STALLS = "stalls"
    FROZEN = "frozen"


class Judge:
    """Tells a stall from a process that stood still; looked at from time to time."""

    def __init__(self, *, now_s: float, cpu_s: float) -> None:
        self._looked_s = now_s
        self._cpu_s = cpu_s
        self._since_s = now_s

    def look(self, *, now_s: float, cpu_s: float, turned_s: float) -> tuple[State, float]:
        """What the loop does, and by how many seconds it is late.

        ``cpu_s``: processor time of the whole process; ``turned_s``: when the loop last turned.
        """
        gap_s, used_s = now_s - self._looked_s, cpu_s - self._cpu_s
        self._looked_s, self._cpu_s = now_s, cpu_s
        if gap_s > LOOK_INTERVAL_S + STALL_S and used_s < gap_s * BUSY_SHARE:
            # The loop had no chance to turn either: it gets one from now on.
            self._since_s = now_s
            return State.FROZEN, gap_s
        late_s = now_s - max(turned_s, self._since_s) - LOOK_INTERVAL_S
        return (State.STALLS, late_s) if late_s > STALL_S else (State.TURNS, 0.0)


class StallWatch:
    """Watches the loop it is made in. Close it, or its thread goes on."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread_id = threading.get_ident()
        self._turned_s = time.monotonic()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = threading.Event()
        self._stalls = Stalls()
        self._logged_s = -LOG_INTERVAL_S
        self._thread = threading.Thread(target=self._watch, name="stall watch", daemon=True)

    @classmethod
    def start(cls) -> Self:
        watch = cls()
        watch._turn()
        watch._thread.start()
        return watch

    def statistics(self) -> Stalls:
        return self._stalls

    def close(self) -> None:
        """Stop to watch. Safe to call twice."""
        self._closed.set()
        if self._timer is not None:
            self._timer.cancel()
        self._thread.join()

    def _turn(self) -> None:
        self._turned_s = time.monotonic()
        self._timer = self._loop.call_later(LOOK_INTERVAL_S, self._turn)

    def _watch(self) -> None:
        judge = Judge(now_s=time.monotonic(), cpu_s=time.process_time())
        stalled = False
        while not self._closed.wait(LOOK_INTERVAL_S):
            state, late_s = judge.look(
                now_s=time.monotonic(), cpu_s=time.process_time(), turned_s=self._turned_s
            )
            match state:
                case State.TURNS:
                    stalled = False
                case State.FROZEN:
                    stalled = False
                    self._stalls = replace(self._stalls, frozen=self._stalls.frozen + 1)
                    log.warning("this process stood still", seconds=round(late_s, 3))
                case State.STALLS:
                    self._note(late_s, began=not stalled)
                    stalled = True

    def _note(self, late_s: float, *, began: bool) -> None:
        stalls = self._stalls
        if began:
            stack = stack_of(sys._current_frames().get(self._thread_id))  # noqa: SLF001 - CPython's only door
            stalls = replace(stalls, count=stalls.count + 1, last_stack=stack, last_at=time.time())
        self._stalls = replace(stalls, last_s=late_s, worst_s=max(stalls.worst_s, late_s))
        if began and (now_s := time.monotonic()) - self._logged_s >= LOG_INTERVAL_S:
            self._logged_s = now_s
            log.warning(
                "the event loop is blocked",
                seconds=round(late_s, 3),
                stalls=stalls.count,
                stack=stalls.last_stack,
            )


def stack_of(frame: FrameType | None) -> str:
    """A thread's stack as text, innermost frame last; without source, which is on a disk."""
    if frame is None:
        return ""
    frames = traceback.StackSummary.extract(
        traceback.walk_stack(frame), limit=FRAMES_MAX, lookup_lines=False
    )
    return "\n".join(f"{f.filename}:{f.lineno} in {f.name}" for f in reversed(frames))

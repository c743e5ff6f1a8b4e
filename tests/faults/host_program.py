"""``lattice-host`` on a machine whose wall clock can be set: each SIGUSR1 moves it to and fro.

Only what Python reads as the time moves, as when an operator sets the clock; the monotonic clock
goes on as it must. And at each SIGUSR2 its event loop is blocked, as by a library that waits.
"""

import signal
import time
from collections.abc import Callable

JUMP_S = 300.0
"""Five minutes: far beyond every time-out, lease and heartbeat."""


BLOCKED_S = 3.0
"""Longer than a call may take, shorter than a silence for which NATS drops a connection."""


def block_the_loop(*_: object) -> None:
    """Runs on the main thread, as the loop does."""
    time.sleep(BLOCKED_S)


class WallClock:
    """Stands in for ``time.time``."""

    def __init__(self, true_time: Callable[[], float]) -> None:
        self._true_time = true_time
        self._ahead_s = 0.0

    def time(self) -> float:
        return self._true_time() + self._ahead_s

    def time_ns(self) -> int:
        return int(self.time() * 1e9)

    def jump(self, *_: object) -> None:
        self._ahead_s = JUMP_S - self._ahead_s


def main() -> None:
    """Run a host."""
    clock = WallClock(time.time)
    time.time, time.time_ns = clock.time, clock.time_ns
    signal.signal(signal.SIGUSR1, clock.jump)
    signal.signal(signal.SIGUSR2, block_the_loop)
    # Only now: what it imports keeps the functions that it finds.
    from host import __main__ as host  # noqa: PLC0415

    # Providers of the tests are found there, as installed ones are in their environment.
    host.PASSED_ON += ("PYTHONPATH",)  # type: ignore[assignment]
    host.main()


if __name__ == "__main__":
    main()

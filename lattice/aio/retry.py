"""Back-off schedules; randomness is handed in so that tests can fix it."""

import random
from collections.abc import Iterator


def backoff(
    first_s: float, *, factor: float = 2.0, max_s: float = 30.0, rng: random.Random | None = None
) -> Iterator[float]:
    """Pauses in seconds, growing to ``max_s``, each drawn from its upper half.

    Half of each pause is kept as a floor, so that a schedule can't degenerate into a busy loop.
    """
    uniform = (rng or random).uniform
    pause_s = first_s
    while True:
        yield uniform(pause_s / 2, pause_s)
        pause_s = min(pause_s * factor, max_s)


class RetryBudget:
    """How often a process may repeat what failed: a share of its calls, and a few in any case.

    Without it a load that is too much would be answered with more load, by everybody at once.
    """

    __slots__ = (
        "_called",
        "_left",
        "_per_s",
        "_saved_max",
        "_share",
        "_then",
        "calls",
        "refused",
        "spent",
    )

    def __init__(self, *, share: float, per_s: float, saved_max: float, now: float) -> None:
        self._share = share
        self._per_s = per_s
        self._saved_max = saved_max
        self._left = per_s
        self._then = now
        self._called = 0
        self.calls = 0
        """First attempts; whoever makes one counts it here."""
        self.spent = 0
        """Repetitions made."""
        self.refused = 0
        """Repetitions that would have been beyond the budget."""

    def spend(self, now: float) -> bool:
        """Take one repetition out of the budget; false when none is left."""
        earned = (self.calls - self._called) * self._share + (now - self._then) * self._per_s
        self._left = min(self._left + earned, self._saved_max)
        self._called, self._then = self.calls, now
        if self._left < 1:
            self.refused += 1
            return False
        self._left -= 1
        self.spent += 1
        return True


def full_jitter(first_s: float, attempt: int, *, rng: random.Random | None = None) -> float:
    """Pause in seconds before repetition ``attempt`` (from 0), below its exponential bound."""
    return (rng or random).uniform(0, first_s * 2.0**attempt)

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


def full_jitter(first_s: float, attempt: int, *, rng: random.Random | None = None) -> float:
    """Pause in seconds before repetition ``attempt`` (from 0), below its exponential bound."""
    return (rng or random).uniform(0, first_s * 2.0**attempt)

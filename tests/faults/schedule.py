"""Which fault is injected when: a function of the seed and of nothing else."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

QUIET_SHARE = 0.25
"""Of the time, at the least, nothing is wrong: most bugs show while a lattice gets well."""

SETTLE_S = 2.0
"""Before the first fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What the schedule must know of a fault."""

    name: str
    shortest_s: float
    longest_s: float
    """How long one lasts, between these."""
    rest_s: float = 4.0
    """Quiet that it needs afterwards."""
    felt_s: float = 0.0
    """For how long it may be felt from its beginning: not before that does another one strike."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """One fault: injected at ``begins_s``, healed at ``ends_s``, then quiet until ``quiet_s``."""

    number: int
    fault: str
    begins_s: float
    ends_s: float
    quiet_s: float
    draw: float
    """0 to 1: whom it strikes is chosen by it, among those that are there."""

    def __str__(self) -> str:
        lasts_s = self.ends_s - self.begins_s
        return f"{self.begins_s:7.1f} s  {self.fault} for {lasts_s:.1f} s  (draw {self.draw:.3f})"


def plan(seed: int, kinds: Sequence[Kind], *, duration_s: float) -> list[Window]:
    """Faults one after the other until the time is up, each kind before any a second time.

    The order of ``kinds`` does not matter; their names and figures do.
    """
    rng = random.Random(seed)
    ordered = sorted(kinds, key=lambda kind: kind.name)
    windows: list[Window] = []
    waiting: list[Kind] = []
    now_s = SETTLE_S
    while True:
        if not waiting:
            waiting = rng.sample(ordered, len(ordered))
        kind = waiting.pop()
        lasts_s = rng.uniform(kind.shortest_s, kind.longest_s)
        share_s = lasts_s * QUIET_SHARE / (1 - QUIET_SHARE)
        rest_s = max(kind.rest_s, kind.felt_s - lasts_s, share_s) * rng.uniform(1, 1.25)
        if now_s + lasts_s + rest_s > duration_s:
            return windows
        windows.append(
            Window(
                number=len(windows),
                fault=kind.name,
                begins_s=round(now_s, 3),
                ends_s=round(now_s + lasts_s, 3),
                quiet_s=round(now_s + lasts_s + rest_s, 3),
                draw=round(rng.random(), 6),
            )
        )
        now_s += lasts_s + rest_s

"""Who is alive, judged by the signs of life that were seen and by nothing else.

Our hosts beat every second: three missed beats make one suspect, a further bound makes it dead, and
so does, at once, a question that nobody was there to hear. wasmCloud's own hosts don't beat; their
heartbeat, every half minute, is all there is.

Times are seconds of the observer's own clock, whichever that is: a host's clock is never asked.
"""

from dataclasses import dataclass

from lattice import limits
from lattice.reconcile.model import HostState

BEATS_MISSED = 3
"""Beats in a row that have to be missing until a host is suspect."""

SLACK_S = 0.5
"""How late a beat may be: a busy event loop, or a network that hiccups."""

SUSPECT_AFTER_S = BEATS_MISSED * limits.BEAT_S + SLACK_S

DEAD_AFTER_S = 8.0
"""Silence after which a host is dead though nobody could tell: a partition, a frozen machine.
With what follows, what it ran is back in less than ten."""

HEARTBEAT_SUSPECT_AFTER_S = limits.HEARTBEAT_S + 10.0
"""The same for a host that has no beats: one heartbeat is missing."""

HEARTBEAT_DEAD_AFTER_S = 70.0
"""Two are: wadm's own bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signs:
    """When a host was last heard of, in which way."""

    beat: float | None = None
    """Its last beat; None for one that never did."""
    heard: float
    """Its last heartbeat, event or answer, or when it was first heard of."""
    absent: float | None = None
    """When NATS last said that nobody listens to questions for it; a timeout is no such proof."""
    stopped: float | None = None
    """When it last said that it stops."""

    @property
    def last(self) -> float:
        return self.heard if self.beat is None else max(self.beat, self.heard)

    @property
    def suspect_at(self) -> float:
        beats = self.beat is not None
        return self.last + (SUSPECT_AFTER_S if beats else HEARTBEAT_SUSPECT_AFTER_S)

    @property
    def dead_at(self) -> float:
        beats = self.beat is not None
        return self.last + (DEAD_AFTER_S if beats else HEARTBEAT_DEAD_AFTER_S)


def judge(signs: Signs, now: float) -> HostState:
    """Whether a host lives. A sign of life that is later than the proof of absence counts more."""
    if any(end is not None and end >= signs.last for end in (signs.absent, signs.stopped)):
        return "dead"
    if now >= signs.dead_at:
        return "dead"
    return "suspect" if now >= signs.suspect_at else "alive"


assert SUSPECT_AFTER_S < DEAD_AFTER_S
assert HEARTBEAT_SUSPECT_AFTER_S < HEARTBEAT_DEAD_AFTER_S

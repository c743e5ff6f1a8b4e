"""When a provider that ended is started again, and when no more: a state machine without clock.

Pauses double with every crash, and a copy that answered its health checks for long enough starts
them over. Apart from that, as in Erlang's supervisors, one that ends too often within a window is
given up: what crashes all the time does not work, and should be seen not to.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from lattice import limits


class Phase(StrEnum):
    """How it stands with a provider."""

    RUNNING = "running"
    RESTARTING = "restarting"
    """Its copy ended; the next one is waited for."""
    GIVEN_UP = "given_up"
    """Nothing more is tried until somebody says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartPolicy:
    """When and how often."""

    restarts_max: int = limits.PROVIDER_RESTARTS_MAX
    """Restarts within the window; the crash after that is the last. 0 restarts nothing."""
    window_s: float = limits.PROVIDER_RESTART_WINDOW_S
    pause_s: float = limits.PROVIDER_RESTART_S
    """The first pause, doubled each time; each is drawn from its upper half."""
    pause_s_max: float = limits.PROVIDER_RESTART_S_MAX
    steady_s: float = limits.PROVIDER_STEADY_S
    """A copy that was well for so long has recovered: the next pause is the first one again."""


class Restarts:
    """One provider's record. ``now`` is in seconds of any one clock that never goes back."""

    __slots__ = ("_attempt", "_crashes", "_due", "_policy", "_since", "phase", "reason")

    def __init__(self, policy: RestartPolicy, now: float) -> None:
        """Its first copy runs."""
        self._policy = policy
        self._attempt = 0
        self._crashes: deque[float] = deque()
        self._since = now
        self._due = now
        self.phase = Phase.RUNNING
        self.reason = ""
        """How the last copy ended."""

    def crashes(self, now: float) -> int:
        """How often it ended within the window before now."""
        return sum(now - crash <= self._policy.window_s for crash in self._crashes)

    def left_s(self, now: float) -> float:
        """Seconds until the next copy is started; 0 when none is waited for."""
        return max(0.0, self._due - now) if self.phase is Phase.RESTARTING else 0.0

    def started(self, now: float) -> None:
        """Note that a copy runs."""
        self.phase = Phase.RUNNING
        self._since = now

    def was_well(self, now: float) -> None:
        """Note that the running copy has answered."""
        if now - self._since >= self._policy.steady_s:
            self._attempt = 0

    def crashed(self, now: float, uniform: Callable[[float, float], float], reason: str) -> None:
        """Note that a copy ended, or did not come up.

        ``uniform`` draws the pause, as ``random.uniform`` does.
        """
        while self._crashes and now - self._crashes[0] > self._policy.window_s:
            self._crashes.popleft()
        self._crashes.append(now)
        self.reason = reason
        if len(self._crashes) > self._policy.restarts_max:
            self.phase = Phase.GIVEN_UP
        else:
            self.postponed(now, uniform)

    def postponed(self, now: float, uniform: Callable[[float, float], float]) -> None:
        """Note that no copy could be tried, by no fault of the provider."""
        policy = self._policy
        bound_s = min(policy.pause_s * 2.0**self._attempt, policy.pause_s_max)
        if bound_s < policy.pause_s_max:
            self._attempt += 1
        self.phase = Phase.RESTARTING
        self._due = now + uniform(bound_s / 2, bound_s)

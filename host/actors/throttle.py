"""Whether an actor that keeps trapping may be called: a state machine, without clock or chance.

After so many calls in a row that a trap or a limit ended, no further one is executed for a while.
Then one call is let through as a probe. Its success ends all this; its failure doubles the time. A
call that ends in any other way, or was begun before, says what it says: any success is one.
"""

from collections.abc import Callable
from dataclasses import dataclass

from lattice import limits


@dataclass(frozen=True, slots=True, kw_only=True)
class ThrottlePolicy:
    """When and for how long."""

    traps: int = limits.THROTTLE_TRAPS
    """Calls in a row that were ended by force until the actor is throttled; 0 for never."""
    pause_s: float = limits.THROTTLE_S
    """Bound of the first pause, doubled each time."""
    pause_s_max: float = limits.THROTTLE_S_MAX


class Throttle:
    """One actor's record. ``now`` is in seconds of any one clock that never goes back."""

    __slots__ = ("_attempt", "_policy", "_probing", "_until", "reason", "traps")

    def __init__(self, policy: ThrottlePolicy) -> None:
        self._policy = policy
        self._attempt = 0
        self._until: float | None = None
        self._probing = False
        self.traps = 0
        """Calls in a row that were ended by force."""
        self.reason = ""
        """What the last of them was told."""

    @property
    def is_on(self) -> bool:
        return self._until is not None

    def left_s(self, now: float) -> float:
        """Seconds until a call may be let through; 0 when one may, or is."""
        return 0.0 if self._until is None else max(0.0, self._until - now)

    def admit(self, now: float) -> bool:
        """Whether a call may be executed. If so while it is on, that call is the probe.

        Its end must be told: ``succeeded``, ``failed``, or ``lost`` when it says nothing.
        """
        if self._until is None:
            return True
        if self._probing or now < self._until:
            return False
        self._probing = True
        return True

    def succeeded(self) -> bool:
        """Note a guest that ended by itself; true when that ends the throttling."""
        was_on = self.is_on
        self.traps = self._attempt = 0
        self._until = None
        self._probing = False
        return was_on

    def failed(
        self, now: float, uniform: Callable[[float, float], float], reason: str, *, probe: bool
    ) -> bool:
        """Note a guest that was ended by force; true when that begins the throttling.

        ``uniform`` draws the pause, as ``random.uniform`` does.
        """
        self.traps += 1
        self.reason = reason
        policy = self._policy
        if not policy.traps or self.traps < policy.traps:
            return False
        if self.is_on and not probe:
            # It was running when the throttling began: no news.
            return False
        begins = not self.is_on
        pause_s = min(policy.pause_s * 2.0**self._attempt, policy.pause_s_max)
        if pause_s < policy.pause_s_max:
            self._attempt += 1
        self._probing = False
        # Full jitter, or all the hosts that it traps on would try again together.
        self._until = now + uniform(0, pause_s)
        return begins

    def lost(self) -> None:
        """Note that the probe ended without saying anything of the guest: another may follow."""
        self._probing = False

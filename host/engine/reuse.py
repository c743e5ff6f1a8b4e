"""Instances that serve more than one call, for guests whose start is dear.

The rule is a fresh instance for each call. An actor whose language needs milliseconds to start may
have its instances kept instead, for a bounded number of calls and a bounded time: what one call
leaves in memory the next one of *the same actor* finds. An instance is kept only after a call that
returned; one that trapped, was cancelled, or hit a limit is dropped, whatever its actor wishes.

Idle ones take places and memory of the pool. They are few, they expire, and whoever needs a place
gets the oldest one's.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from host.engine import ffi
from host.engine.code import Code
from lattice import errors, limits

INSTANCES = "lattice.dev/instances"
"""Annotation of an actor, or key of its config: ``fresh``, or ``reuse``."""
USES = "lattice.dev/instances-uses"
AGE = "lattice.dev/instances-age-seconds"

SWEEP_S = 1.0
"""Between looks at whether idle instances have become too old."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReusePolicy:
    """How long an instance may be kept."""

    uses: int = limits.REUSE_CALLS
    """Calls that one instance serves at the most."""
    age_s: float = limits.REUSE_S
    """Seconds from its start after which it serves no further one."""


def parse_policy(said: Mapping[str, str]) -> ReusePolicy | None:
    """The policy that annotations or configs ask for; None for a fresh instance each time.

    Raises:
        InvalidRequest: it is none; names the key.
    """
    match said.get(INSTANCES, "fresh"):
        case "fresh":
            return None
        case "reuse":
            return ReusePolicy(
                uses=_number(said, USES, limits.REUSE_CALLS, limits.REUSE_CALLS_MAX),
                age_s=_number(said, AGE, int(limits.REUSE_S), int(limits.REUSE_S_MAX)),
            )
        case other:
            raise errors.InvalidRequest(f"{INSTANCES} is {other[:100]!r}: want fresh or reuse")


def _number(said: Mapping[str, str], key: str, default: int, most: int) -> int:
    if (text := said.get(key)) is None:
        return default
    # Digits without end would be too much for int().
    if len(text) > 9 or not (text.isascii() and text.isdigit()) or not 1 <= int(text) <= most:
        raise errors.InvalidRequest(f"{key} is {text[:20]!r}: want a number from 1 to {most}")
    return int(text)


@dataclass(slots=True, eq=False)
class Instance:
    """One that serves a call, or waits for the next one."""

    slot: ffi.Slot
    base: ffi.Address
    code: Code
    expires_s: float
    """On the monotonic clock."""
    uses: int = 1
    memory_bytes: int = 0
    holds: object = None
    """What a component's instance has of the host's from one call to the next."""


class Instances:
    """One actor's instances: nobody else is ever given one of them."""

    __slots__ = ("_all", "_idle", "policy")

    def __init__(self, all_idle: "IdleInstances", policy: ReusePolicy) -> None:
        self._all = all_idle
        self._idle: list[Instance] = []
        self.policy = policy

    def __len__(self) -> int:
        return len(self._idle)

    def take(self, code: Code) -> Instance | None:
        """An idle instance of that code, the one used last, or None."""
        now = time.monotonic()
        while self._idle:
            instance = self._idle.pop()
            self._all.note_gone(instance)
            if instance.code is code and now < instance.expires_s:
                instance.uses += 1
                return instance
            self._all.drop(instance)
        return None

    def keep(self, instance: Instance, memory_bytes: int) -> bool:
        """Keep one whose call has returned, unless it has served long enough or grown too large."""
        if (
            instance.uses >= self.policy.uses
            or memory_bytes > limits.REUSE_MEMORY_BYTES
            or len(self._idle) >= limits.REUSE_IDLE_PER_ACTOR
            or time.monotonic() >= instance.expires_s
        ):
            return False
        instance.memory_bytes = memory_bytes
        if not self._all.note_idle(instance, self):
            return False
        self._idle.append(instance)
        return True

    def remove(self, instance: Instance) -> None:
        """Forget an idle one, which ``IdleInstances`` drops."""
        self._idle.remove(instance)

    def close(self) -> None:
        """Drop all that are idle, and keep none of those that serve a call now."""
        self.policy = replace(self.policy, uses=0)
        for instance in list(self._idle):
            self._all.drop_idle(instance)

    def renewed(self) -> "Instances":
        """Close it, and give an empty one with the same policy."""
        new = Instances(self._all, self.policy)
        self.close()
        return new


class IdleInstances:
    """All idle instances of an engine, the one that waits longest first; bounded together."""

    def __init__(self, *, bytes_max: int, drop: Callable[[Instance], None]) -> None:
        self._bytes_max = bytes_max
        self.drop = drop
        """Frees an instance that is not here any more."""
        self.owners: OrderedDict[Instance, Instances] = OrderedDict()
        """Whose each of them is."""
        self.bytes = 0
        self._sweep: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self.owners)

    def note_idle(self, instance: Instance, owner: Instances) -> bool:
        """Count one in; false if there is no room for it, even without the older ones."""
        if instance.memory_bytes > self._bytes_max:
            return False
        while self.owners and (
            len(self.owners) >= limits.REUSE_IDLE_MAX
            or self.bytes + instance.memory_bytes > self._bytes_max
        ):
            self.drop_oldest()
        self.owners[instance] = owner
        self.bytes += instance.memory_bytes
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(SWEEP_S, self._drop_expired)
        return True

    def note_gone(self, instance: Instance) -> None:
        """Count one out."""
        del self.owners[instance]
        self.bytes -= instance.memory_bytes

    def drop_idle(self, instance: Instance) -> None:
        """Drop one that is here."""
        self.owners[instance].remove(instance)
        self.note_gone(instance)
        self.drop(instance)

    def drop_oldest(self) -> None:
        """Make room for somebody else's."""
        self.drop_idle(next(iter(self.owners)))

    def drop_of(self, code: Code) -> None:
        """Drop all of code that is to go."""
        for instance in [each for each in self.owners if each.code is code]:
            self.drop_idle(instance)

    def clear(self) -> None:
        """Drop all."""
        while self.owners:
            self.drop_oldest()
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None

    def _drop_expired(self) -> None:
        now = time.monotonic()
        for instance in [each for each in self.owners if now >= each.expires_s]:
            self.drop_idle(instance)
        self._sweep = None
        if self.owners:
            self._sweep = asyncio.get_running_loop().call_later(SWEEP_S, self._drop_expired)

"""Whether a connection that says it is there can hear, judged from looks at it.

A probe is a message to ourselves, through the server and an ordinary subscription, with a ping
right behind it. The server answers in order: the ping's answer without the message proves that the
message will never come, however busy the connection is. Without either, what counts is whether
anything arrives at all: a connection under load is late, a deaf one is silent.
"""

from dataclasses import dataclass
from enum import StrEnum

PROBE = "probe"
"""Last token of a subject for messages to ourselves, which a user's permissions should allow; those
of requests' inboxes are numbers in hex."""

PROBE_INTERVAL_S = 2.0
"""Between probes: one small message and one ping per connection."""

PROBE_MISSES_MAX = 3
"""Looks in a row that find only silence before a connection is replaced: with the interval, a deaf
one is found within eight seconds. One that was frozen itself has at most one look behind it when it
thaws, so a process that was stopped does not give up what waits in its sockets."""


class Fault(StrEnum):
    """Why a connection that counts as connected must be replaced."""

    STOPPED = "the client stopped to read or to write"
    SILENT = "nothing arrives"
    UNROUTED = "a message to itself did not come back"


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a look at a connection shows, one interval after a probe was sent."""

    working: bool
    """The tasks that read and write still run."""
    echoed: bool
    """The probe came back."""
    passed: bool
    """The ping behind it was answered."""
    handled: bool
    """Nothing waits on the probe's subscription, and nothing of it was dropped."""
    received: int
    """Grows with whatever arrives."""


class Liveness:
    """Judges one connection, look by look."""

    def __init__(self) -> None:
        self._misses = 0
        self._received = -1
        self._proven = False

    @property
    def proven(self) -> bool:
        """Whether probes are known to come back; where permissions forbid them they never do."""
        return self._proven

    def judge(self, look: Look) -> Fault | None:
        """What is wrong, if anything."""
        if not look.working:
            return Fault.STOPPED
        arrived = look.received != self._received
        self._received = look.received
        if look.echoed:
            self._proven = True
        elif look.passed and look.handled and self._proven:
            # Once only, until an echo shows that it helped: the permission may be gone.
            self._proven = False
            return Fault.UNROUTED
        elif not (look.passed or arrived):
            self._misses += 1
            return Fault.SILENT if self._misses >= PROBE_MISSES_MAX else None
        self._misses = 0
        return None

    def start_over(self) -> None:
        """It is another connection now."""
        self._misses = 0

"""The host's running instances, shared out between its actors: who may have the next one.

No clock, no tasks: ``Actor`` asks, and starts whom ``next`` names. Three rules:

* Actors that wait take turns, one instance each, however many calls each of them has waiting; so a
  flooded actor, or one with an enormous ``count``, slows another down but never starves it.
* The last places are for actors that have nothing running. Otherwise one actor's calls could hold
  every place while all of them wait for an answer of another, which then would never run.
* Nobody overtakes: a newcomer gets a place only when no actor waits that could have it.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from lattice import limits

_KEPT_SHARE = 8
"""One place in so many is kept for actors that run nothing."""


class Share:
    """One actor's part: what runs and waits. Changed by ``Slots`` alone."""

    __slots__ = ("begin", "count", "line", "running", "waiting", "waiting_bytes")

    def __init__(self, count: int, begin: Callable[[], None]) -> None:
        self.count = count
        """Instances at the most; ``Slots.resized`` must hear of a change."""
        self.begin = begin
        """Starts the actor's oldest waiting call, which has a place now, or gives that back."""
        self.running = 0
        self.waiting = 0
        self.waiting_bytes = 0
        self.line: OrderedDict[Share, None] | None = None
        """Where it stands when only the host, not its own count, keeps it waiting."""


class Memory(Protocol):
    """Who counts the memory of the instances that run."""

    @property
    def held_bytes(self) -> int: ...


@dataclass(slots=True)
class NoMemory:
    """Counts none."""

    held_bytes: int = 0


class Slots:
    """Places for running instances, and the turn of those who wait for one."""

    def __init__(
        self,
        places: int,
        *,
        memory: Memory | None = None,
        bytes_max: int = 2**63,
        waiting_bytes_max: int = limits.MAILBOXES_BYTES,
    ) -> None:
        """When the instances that run hold ``bytes_max`` of ``memory``, no further one starts.

        That is looked at before each start, so that one instance at the most goes beyond by itself;
        those that grow while they run are not stopped, only waited for.
        """
        self.places = places
        self.kept = min(places // _KEPT_SHARE, limits.INSTANCES_KEPT)
        """Places for actors that run nothing."""
        self.taken = 0
        self.waiting = 0
        """Calls that wait, of all actors together."""
        self.waiting_bytes = 0
        self.waiting_bytes_max = waiting_bytes_max
        self.bytes_max = bytes_max
        self._bytes_shared = bytes_max - bytes_max // _KEPT_SHARE
        self._places_shared = places - self.kept
        self._memory = memory or NoMemory()
        self.promised_bytes = 0
        """Memory that calls will have which got a place and have not begun; their actors know."""
        self._idle: OrderedDict[Share, None] = OrderedDict()
        self._busy: OrderedDict[Share, None] = OrderedDict()

    @property
    def held_bytes(self) -> int:
        """Memory of the instances that run, or are about to."""
        return self._memory.held_bytes + self.promised_bytes

    def enter(self, share: Share) -> bool:
        """Take a place for a call that just came; false when it must wait or be refused."""
        # On the path of every call, so nothing is called here that can be looked at.
        if running := share.running:
            places, bytes_max, others = self._places_shared, self._bytes_shared, self._busy
        else:
            places, bytes_max, others = self.places, self.bytes_max, self._idle
        if (
            running >= share.count
            or share.waiting
            or others
            or self.taken >= places
            or self._memory.held_bytes + self.promised_bytes >= bytes_max
        ):
            return False
        share.running = running + 1
        self.taken += 1
        return True

    def wait(self, share: Share, size: int) -> None:
        """Count a call, with its payload's size, that waits for a place."""
        share.waiting += 1
        share.waiting_bytes += size
        self.waiting += 1
        self.waiting_bytes += size
        if share.line is None:
            self._line_up(share)

    def withdraw(self, share: Share, size: int) -> None:
        """Count a call out that waits no more, whatever the reason."""
        share.waiting -= 1
        share.waiting_bytes -= size
        self.waiting -= 1
        self.waiting_bytes -= size
        if share.line is not None and not share.waiting:
            self._step_out(share)

    def leave(self, share: Share) -> bool:
        """Give a place back; true when somebody may have it: then call ``share_out``."""
        share.running -= 1
        self.taken -= 1
        if share.waiting:
            self._line_up(share)
        return bool(self._idle or self._busy)

    def resized(self, share: Share) -> None:
        """Note that the actor's ``count`` is another one; ``share_out`` must follow."""
        if share.waiting:
            self._line_up(share)

    def share_out(self) -> None:
        """Have calls begin for which there is room, the actors in turn."""
        while (share := self._next()) is not None:
            share.running += 1
            self.taken += 1
            self._step_out(share)
            share.begin()
            if share.waiting and share.line is None:
                self._line_up(share)

    def _next(self) -> Share | None:
        """Whose turn it is, if there is room for it."""
        # Who runs nothing goes first: it is owed most, and the kept places are for it alone.
        for line in (self._idle, self._busy):
            if line:
                share = next(iter(line))
                if self._has_room(share):
                    return share
        return None

    def _has_room(self, share: Share) -> bool:
        if share.running:
            places, bytes_max = self._places_shared, self._bytes_shared
        else:
            places, bytes_max = self.places, self.bytes_max
        return self.taken < places and self.held_bytes < bytes_max

    def _line_up(self, share: Share) -> None:
        """Stand in the line that fits, at its end unless it stands there already."""
        line = None
        if share.running < share.count:
            line = self._busy if share.running else self._idle
        if share.line is not line:
            if share.line is not None:
                del share.line[share]
            share.line = line
            if line is not None:
                line[share] = None

    def _step_out(self, share: Share) -> None:
        if share.line is not None:
            del share.line[share]
            share.line = None

"""What a watch of a store tells: which keys have changed, not what they hold now.

So no backend has to keep values for those who watch, and a key that changes faster than its watcher
can be told of takes no more room than one that changed once.
"""

import asyncio
from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass

from lattice import errors

NOTICED_MAX = 1_000
"""Keys that one watch holds until they are taken; of a further one the change is lost, and counted.
As many wait for their calls besides."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A key, or how keys begin."""

    text: str
    is_prefix: bool = False

    def matches(self, key: str) -> bool:
        return key.startswith(self.text) if self.is_prefix else key == self.text


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a watcher wants to hear of."""

    sets: tuple[Pattern, ...]
    deletions: tuple[Pattern, ...]

    @property
    def patterns(self) -> tuple[Pattern, ...]:
        return tuple(dict.fromkeys((*self.sets, *self.deletions)))

    def wants(self, change: "Change") -> bool:
        patterns = self.deletions if change.is_deletion else self.sets
        return any(pattern.matches(change.key) for pattern in patterns)


@dataclass(frozen=True, slots=True)
class Change:
    """The last that is known to have happened to a key."""

    key: str
    is_deletion: bool
    place: int = 0
    """In the order of the backend's changes, where it keeps one."""


class Arrivals:
    """Lets who takes changes wait for them, until no more will come."""

    def __init__(self) -> None:
        self._came = asyncio.Event()
        self._failure: errors.LatticeError | None = None

    def note(self) -> None:
        """Some are there."""
        self._came.set()

    def fail(self, error: errors.LatticeError) -> None:
        """No more will come."""
        self._failure = error
        self._came.set()

    async def wait(self, held: Sized) -> None:
        """Return when something is held.

        Raises:
            LatticeError: nothing is, and no more will come.
        """
        while not held:
            if self._failure is not None:
                raise self._failure.copy()
            self._came.clear()
            await self._came.wait()


class Notices:
    """A watch's changes until they are taken: of each key the last, and of a bounded number."""

    def __init__(self, wanted: Wanted, closed: Callable[["Notices"], None]) -> None:
        self._wanted = wanted
        self._closed = closed
        self._changes: dict[str, Change] = {}
        self._arrivals = Arrivals()
        self.lost = 0
        """Changes that there was no room for."""
        self.place: int | None = None
        """These are told as they happen, and never again."""

    def put(self, change: Change) -> None:
        if not self._wanted.wants(change):
            return
        if change.key not in self._changes and len(self._changes) >= NOTICED_MAX:
            self.lost += 1
            return
        self._changes[change.key] = change
        self._arrivals.note()

    def fail(self, error: errors.LatticeError) -> None:
        """No more will come."""
        self._arrivals.fail(error)

    async def next(self, count_max: int) -> Sequence[Change]:
        await self._arrivals.wait(self._changes)
        keys = list(self._changes)[:count_max]
        return [self._changes.pop(key) for key in keys]

    async def aclose(self) -> None:
        self._closed(self)

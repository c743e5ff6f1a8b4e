"""What several links and calls use at a time: opened for the first, closed after the last."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

Where = TypeVar("Where")
Thing = TypeVar("Thing")


class Share(Generic[Where, Thing]):
    """A thing, what it was opened for, and how many need it."""

    __slots__ = ("holders", "thing", "where")

    def __init__(self, where: Where, thing: Thing) -> None:
        self.where = where
        self.thing = thing
        self.holders = 0


class Shared(Generic[Where, Thing]):
    """One thing for all who want the same.

    Not to be told to ``take`` by two at once, as a provider never is: links come one at a time.
    """

    def __init__(
        self,
        open_thing: Callable[[Where], Awaitable[Thing]],
        close_thing: Callable[[Thing], Awaitable[None]],
    ) -> None:
        self._open = open_thing
        self._close = close_thing
        self._shares: dict[Where, Share[Where, Thing]] = {}

    @property
    def shares(self) -> list[Share[Where, Thing]]:
        return list(self._shares.values())

    async def take(self, where: Where) -> Share[Where, Thing]:
        """The share in what is wanted, until ``release``.

        Raises:
            LatticeError: it can't be opened.
        """
        share = self._shares.get(where)
        if share is None:
            share = self._shares[where] = Share(where, await self._open(where))
        share.holders += 1
        return share

    def hold(self, share: Share[Where, Thing]) -> Callable[[], Awaitable[None]]:
        """Need a thing that is open for somebody else too; what this gives lets it go."""
        share.holders += 1
        return lambda: self.release(share)

    @asynccontextmanager
    async def using(self, share: Share[Where, Thing]) -> AsyncIterator[Thing]:
        release = self.hold(share)
        try:
            yield share.thing
        finally:
            await release()

    async def release(self, share: Share[Where, Thing]) -> None:
        """Need it no more; the last one closes it."""
        share.holders -= 1
        if share.holders == 0 and self._shares.get(share.where) is share:
            del self._shares[share.where]
            await self._close(share.thing)

    async def aclose(self) -> None:
        """Close everything, whoever needs it."""
        shares = list(self._shares.values())
        self._shares.clear()
        for share in shares:
            await self._close(share.thing)

"""Numbers, lists and sets for backends that can't compute, but replace a value at one moment."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TypeVar

from providers.keyvalue.bounds import I32, Bounds
from providers.keyvalue.stores import values
from providers.keyvalue.stores.values import Value

R = TypeVar("R")


class Computing(ABC):
    """The operations of a ``Store`` that ``values`` works out."""

    _bounds: Bounds

    @abstractmethod
    async def _change(
        self, key: str, change: Callable[[Value | None], tuple[Value | None, R]]
    ) -> R:
        """Replace a value by what ``change`` makes of it, and return what it says of that.

        An empty list or set, and None, delete the key. An expiry stays. ``change`` may be called
        more than once.
        """

    @abstractmethod
    async def _values(self, keys: Sequence[str]) -> list[Value | None]:
        """The value of each key, read at one moment where the backend can."""

    async def increment(self, key: str, amount: int, *, within: range = I32) -> int:
        return await self._change(key, lambda value: values.increment(key, value, amount, within))

    async def list_add(self, name: str, item: str) -> int:
        bounds = self._bounds
        return await self._change(name, lambda value: values.list_add(name, value, item, bounds))

    async def list_clear(self, name: str) -> bool:
        return await self._change(name, lambda value: values.list_clear(name, value))

    async def list_del(self, name: str, item: str) -> bool:
        return await self._change(name, lambda value: values.list_del(name, value, item))

    async def list_range(self, name: str, start: int, stop: int) -> list[str]:
        (value,) = await self._values([name])
        return values.list_range(name, value, start, stop, self._bounds)

    async def set_add(self, name: str, item: str) -> int:
        bounds = self._bounds
        return await self._change(name, lambda value: values.set_add(name, value, item, bounds))

    async def set_clear(self, name: str) -> bool:
        return await self._change(name, lambda value: values.set_clear(name, value))

    async def set_del(self, name: str, item: str) -> int:
        return await self._change(name, lambda value: values.set_del(name, value, item))

    async def set_union(self, names: Sequence[str]) -> frozenset[str]:
        return values.union(await self._sets(names), self._bounds)

    async def set_intersection(self, names: Sequence[str]) -> frozenset[str]:
        return values.intersection(await self._sets(names), self._bounds)

    async def _sets(self, names: Sequence[str]) -> list[frozenset[str]]:
        found = await self._values(names)
        return [values.members(name, value) for name, value in zip(names, found, strict=True)]

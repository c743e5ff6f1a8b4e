"""The contract of a backend. Its docstrings are the specification; one suite runs every backend.

``tests/contract/test_keyvalue_store.py`` is that suite. Keys and items arrive checked against the
bounds of their length; how many items a collection may have is the store's to check.
"""

from collections.abc import Sequence
from typing import Protocol


class Store(Protocol):
    """Keys, each holding text, a list or a set.

    A key exists while it holds something: a list or a set that loses its last item is gone. Every
    operation is atomic, also against other processes on the same backend. Cancelling a write may
    leave it done or not done.

    Every method raises ``Unavailable`` when the backend is away or silent (a write may have been
    done then), ``Denied`` when it refuses the credentials, and ``ProviderError`` when it refuses
    the work: it is full, or holds something that is not UTF-8 text. The store repairs its
    connection by itself; it never repeats a write whose outcome it does not know.
    """

    @property
    def label(self) -> str:
        """What a person calls this backend, with its address and without credentials."""
        ...

    async def aclose(self) -> None:
        """Let go of connections. Safe to call twice."""
        ...

    async def ping(self) -> None:
        """Return if the backend can do its work now."""
        ...

    async def contains(self, key: str) -> bool:
        """Whether there is such a key, of any type."""
        ...

    async def delete(self, key: str) -> bool:
        """Remove a key of any type; whether it was there."""
        ...

    async def get(self, key: str) -> str | None:
        """Read text.

        Raises:
            InvalidRequest: the key holds a list or a set.
        """
        ...

    async def set(self, key: str, value: str, *, expires_s: int) -> None:
        """Make the key hold text, whatever it held; 0 seconds is for ever.

        An expiry set earlier is forgotten. The key is gone for every reader once it has expired.
        """
        ...

    async def increment(self, key: str, amount: int) -> int:
        """Add to a number in text, and return the sum; no key counts as 0. Keeps the expiry.

        Raises:
            InvalidRequest: not a decimal integer, or the sum does not fit 32 bits; the value is
                as it was.
        """
        ...

    async def list_add(self, name: str, item: str) -> int:
        """Append to a list, and return its new length.

        Raises:
            InvalidRequest: not a list, or it is full.
        """
        ...

    async def list_clear(self, name: str) -> bool:
        """Remove a list; whether it was there.

        Raises:
            InvalidRequest: not a list.
        """
        ...

    async def list_del(self, name: str, item: str) -> bool:
        """Remove the first occurrence of an item; whether there was one.

        Raises:
            InvalidRequest: not a list.
        """
        ...

    async def list_range(self, name: str, start: int, stop: int) -> list[str]:
        """Items from ``start`` to ``stop``, both included; -1 is the last. Out of range is cut.

        Raises:
            InvalidRequest: not a list.
            PayloadTooLarge: more than one reply may carry.
        """
        ...

    async def set_add(self, name: str, item: str) -> int:
        """Add to a set; how many items were added, 0 or 1.

        Raises:
            InvalidRequest: not a set, or it is full and the item is new.
        """
        ...

    async def set_clear(self, name: str) -> bool:
        """Remove a set; whether it was there.

        Raises:
            InvalidRequest: not a set.
        """
        ...

    async def set_del(self, name: str, item: str) -> int:
        """Remove from a set; how many items were removed, 0 or 1.

        Raises:
            InvalidRequest: not a set.
        """
        ...

    async def set_union(self, names: Sequence[str]) -> frozenset[str]:
        """Items of any of the sets, of which at least one is named.

        The sets are read at one moment where the backend can; NATS reads them one after another.

        Raises:
            InvalidRequest: one of them is not a set.
            PayloadTooLarge: more than one reply may carry.
        """
        ...

    async def set_intersection(self, names: Sequence[str]) -> frozenset[str]:
        """Items of all of the sets, of which at least one is named; otherwise as ``set_union``."""
        ...

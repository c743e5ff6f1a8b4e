"""The contract of a backend. Its docstrings are the specification; one suite runs every backend.

``tests/contract/test_keyvalue_store.py`` is that suite. Keys and items arrive checked against the
bounds of their length; how many items a collection may have is the store's to check.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from providers.keyvalue.bounds import I32
from providers.keyvalue.stores.watches import Change, Wanted

VERSION_BYTES_MAX = 100
"""Of a version that a caller hands back; the longest of ours is Redis's, of 72."""


@dataclass(frozen=True, slots=True)
class Versioned:
    """Bytes, and the version that a swap compares; both None for no key."""

    value: bytes | None
    version: bytes | None


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the keys, in the order of their UTF-8 bytes."""

    keys: list[str]
    """May be fewer than a page holds, even none, with more to come."""
    cursor: str | None
    """What the next page comes after; None when this was the last."""


class Watch(Protocol):
    """Changes of a store from one moment on, until the connection to it is lost."""

    @property
    def place(self) -> int | None:
        """Where in the order of changes it began; None where the backend keeps no order."""
        ...

    @property
    def lost(self) -> int:
        """Changes that came faster than they were taken, and had no room."""
        ...

    async def next(self, count_max: int) -> Sequence[Change]:
        """Some changes, in the order in which they happened to each key; waits for the first.

        Of a key that changed more than once only the last may be told. Cancelling it loses none.

        Raises:
            Unavailable: changes may be missed from now on; open another one.
        """
        ...

    async def aclose(self) -> None:
        """Safe to call twice."""
        ...


class Store(Protocol):
    """Keys, each holding bytes, a list of text or a set of text.

    A key exists while it holds something: a list or a set that loses its last item is gone. Every
    operation is atomic, also against other processes on the same backend. Cancelling a write may
    leave it done or not done.

    Every method raises ``Unavailable`` when the backend is away or silent (a write may have been
    done then), ``Denied`` when it refuses the credentials, and ``ProviderError`` when it refuses
    the work: it is full, or holds something that is not ours. The store repairs its connection by
    itself; it never repeats a write whose outcome it does not know.
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

    async def get(self, key: str) -> bytes | None:
        """Read bytes.

        Raises:
            InvalidRequest: the key holds a list or a set.
        """
        ...

    async def set(self, key: str, value: bytes, *, expires_s: int) -> None:
        """Make the key hold bytes, whatever it held; 0 seconds is for ever.

        An expiry set earlier is forgotten. The key is gone for every reader once it has expired.
        """
        ...

    async def increment(self, key: str, amount: int, *, within: range = I32) -> int:
        """Add to a number in text, and return the sum; no key counts as 0. Keeps the expiry.

        ``amount`` fits 64 bits with a sign, and ``within`` lies in them.

        Raises:
            InvalidRequest: not a decimal integer, or the sum is not ``within``; the value is as it
                was.
        """
        ...

    async def current(self, key: str) -> Versioned:
        """Read bytes and their version, at one moment.

        Every write of bytes gives the key a version that it never had before, whatever is written,
        also after it was deleted or has expired in between: a value that went and came back is
        another. No key has no version.

        Raises:
            InvalidRequest: the key holds a list or a set.
            PayloadTooLarge: more than one reply may carry.
        """
        ...

    async def swap(self, key: str, version: bytes | None, value: bytes) -> Versioned | None:
        """Write bytes if the key still has that version, None for no key; keeps the expiry.

        Returns None when it is done. Otherwise nothing was changed, and what is there instead is
        returned. Of those who swap the same version exactly one succeeds. Any bytes may be handed
        in for a version: those that are none match nothing.

        Raises:
            InvalidRequest: the key holds a list or a set.
            PayloadTooLarge: what is there instead is more than one reply may carry.
        """
        ...

    async def list_keys(self, after: str | None) -> Page:
        """The next keys of any type after a page's ``cursor``; None begins.

        A key that is there from the first page to the last is on exactly one of them, whatever
        else is written meanwhile. One that comes or goes meanwhile is on one or on none.

        Raises:
            InvalidRequest: there are more keys than can be listed.
        """
        ...

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """Read bytes of each key. What others write meanwhile may be in some and not in others.

        Raises:
            InvalidRequest: a key holds a list or a set.
            PayloadTooLarge: more than one reply may carry.
        """
        ...

    async def set_many(self, pairs: Sequence[tuple[str, bytes]]) -> None:
        """Set each key, for ever; of those given twice the last counts.

        What fails may have set some and not others, save for what is refused before: nothing is
        set if one of them is too large.
        """
        ...

    async def delete_many(self, keys: Sequence[str]) -> None:
        """Remove each key, of any type; what fails may have removed some and not others."""
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

    async def watch_scope(self) -> str | None:
        """What names these changes among all: equal for all processes that would be told of them.

        None where no other process is.

        Raises:
            ProviderError: the backend is set up to tell nobody; the text says what to do.
        """
        ...

    async def watch(self, wanted: Wanted, after: int | None, /) -> Watch:
        """Changes of keys from now on, or from after a place of the same scope.

        A key changes when it is made to hold something, and when it is deleted; its expiry is not
        told. What is not ``wanted`` may be told as well. Where the backend keeps an
        order, a place is good for as long as the changes after it are kept.
        """
        ...

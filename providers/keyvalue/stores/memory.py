"""A store in the memory of its process: for development, tests, and data that may be lost."""

import heapq
import itertools
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lattice import errors
from providers.keyvalue import bounds as sizes
from providers.keyvalue.bounds import I32, Bounds, text_bytes
from providers.keyvalue.stores import Page, Versioned, Watch, values
from providers.keyvalue.stores.values import Value
from providers.keyvalue.stores.watches import Change, Notices, Wanted

ENTRY_OVERHEAD_BYTES = 200
"""Charged for each key on top of its text: the objects that hold it."""

ITEM_OVERHEAD_BYTES = 100
"""Charged for each item of a list or a set: a string object, and its slot."""


@dataclass(frozen=True, slots=True)
class _Entry:
    value: Value
    size_bytes: int
    expires_at_s: float | None
    version: bytes


class MemoryStore:
    """Nothing here waits, so every operation is atomic. ``now_s`` is a clock that never steps."""

    label = "memory"

    def __init__(self, bounds: Bounds, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self.bounds = bounds
        """May be replaced at any time; what is held already stays."""
        self._now_s = now_s
        self._entries: dict[str, _Entry] = {}
        self._size_bytes = 0
        self._watches: set[Notices] = set()
        # A version outlives the process in the hands of a caller: the next one must not repeat it.
        self._versions = itertools.count(secrets.randbits(64))
        self._expiries: list[tuple[float, str]] = []
        """A heap of when keys expire; a pair whose key was rewritten since means nothing."""

    async def aclose(self) -> None:
        self._entries.clear()
        self._expiries.clear()
        self._size_bytes = 0

    async def ping(self) -> None:
        return

    async def contains(self, key: str) -> bool:
        return self._read(key) is not None

    async def delete(self, key: str) -> bool:
        return self._delete(key, self._read(key))

    async def get(self, key: str) -> bytes | None:
        return values.content(key, self._value(key))

    async def set(self, key: str, value: bytes, *, expires_s: int) -> None:
        expires_at_s = self._now_s() + expires_s if expires_s else None
        self._write(key, value, len(value), expires_at_s)

    async def increment(self, key: str, amount: int, *, within: range = I32) -> int:
        entry = self._read(key)
        value = entry.value if entry else None
        digits, total = values.increment(key, value, amount, within)
        self._write(key, digits, len(digits), entry.expires_at_s if entry else None)
        return total

    async def current(self, key: str) -> Versioned:
        entry = self._read(key)
        value = values.content(key, entry.value if entry else None)
        sizes.check_reply([len(value or b"")], self.bounds)
        return Versioned(value, entry.version if entry else None)

    async def swap(self, key: str, version: bytes | None, value: bytes) -> Versioned | None:
        now = await self.current(key)
        if now.version != version:
            return now
        entry = self._read(key)
        self._write(key, value, len(value), entry.expires_at_s if entry else None)
        return None

    async def list_keys(self, after: str | None) -> Page:
        self._forget_expired()
        sizes.check_listed(len(self._entries), self.bounds)
        return values.page(self._entries, after, self.bounds)

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        found = [await self.get(key) for key in keys]
        sizes.check_reply((len(value or b"") for value in found), self.bounds)
        return found

    async def set_many(self, pairs: Sequence[tuple[str, bytes]]) -> None:
        for key, value in pairs:
            await self.set(key, value, expires_s=0)

    async def delete_many(self, keys: Sequence[str]) -> None:
        for key in keys:
            await self.delete(key)

    async def list_add(self, name: str, item: str) -> int:
        held, length = values.list_add(name, self._value(name), item, self.bounds)
        self._write_collection(name, held, grown_bytes=_item_bytes(item))
        return length

    async def list_clear(self, name: str) -> bool:
        _, was_there = values.list_clear(name, self._value(name))
        self._delete(name, self._read(name))
        return was_there

    async def list_del(self, name: str, item: str) -> bool:
        held, is_less = values.list_del(name, self._value(name), item)
        if is_less:
            self._write_collection(name, held, grown_bytes=-_item_bytes(item))
        return is_less

    async def list_range(self, name: str, start: int, stop: int) -> list[str]:
        return values.list_range(name, self._value(name), start, stop, self.bounds)

    async def set_add(self, name: str, item: str) -> int:
        held, added = values.set_add(name, self._value(name), item, self.bounds)
        if added:
            self._write_collection(name, held, grown_bytes=_item_bytes(item))
        return added

    async def set_clear(self, name: str) -> bool:
        _, was_there = values.set_clear(name, self._value(name))
        self._delete(name, self._read(name))
        return was_there

    async def set_del(self, name: str, item: str) -> int:
        held, removed = values.set_del(name, self._value(name), item)
        if removed:
            self._write_collection(name, held, grown_bytes=-_item_bytes(item))
        return removed

    async def set_union(self, names: Sequence[str]) -> frozenset[str]:
        return values.union(self._sets(names), self.bounds)

    async def set_intersection(self, names: Sequence[str]) -> frozenset[str]:
        return values.intersection(self._sets(names), self.bounds)

    async def watch_scope(self) -> str | None:
        return None

    async def watch(self, wanted: Wanted, _after: int | None) -> Watch:
        notices = Notices(wanted, self._watches.discard)
        self._watches.add(notices)
        return notices

    def _tell(self, key: str, *, is_deletion: bool) -> None:
        for notices in self._watches:
            notices.put(Change(key, is_deletion))

    def _sets(self, names: Sequence[str]) -> list[frozenset[str]]:
        return [values.members(name, self._value(name)) for name in names]

    def _value(self, key: str) -> Value | None:
        entry = self._read(key)
        return entry.value if entry else None

    def _read(self, key: str) -> _Entry | None:
        entry = self._entries.get(key)
        if entry and entry.expires_at_s is not None and entry.expires_at_s <= self._now_s():
            self._remove(key, entry)
            return None
        return entry

    def _remove(self, key: str, entry: _Entry) -> None:
        self._size_bytes -= entry.size_bytes
        del self._entries[key]

    def _delete(self, key: str, entry: _Entry | None) -> bool:
        if entry is None:
            return False
        self._remove(key, entry)
        self._tell(key, is_deletion=True)
        return True

    def _write_collection(self, name: str, held: Value, *, grown_bytes: int) -> None:
        entry = self._read(name)
        if not held:
            self._delete(name, entry)
            return
        content_bytes = grown_bytes + (_content_bytes(name, entry) if entry else 0)
        self._write(name, held, content_bytes, entry.expires_at_s if entry else None)

    def _write(
        self, key: str, value: Value, content_bytes: int, expires_at_s: float | None
    ) -> None:
        self._forget_expired()
        size_bytes = ENTRY_OVERHEAD_BYTES + text_bytes(key) + content_bytes
        before = self._entries.get(key)
        total_bytes = self._size_bytes + size_bytes - (before.size_bytes if before else 0)
        if total_bytes > self.bounds.memory_bytes_max and (
            before is None or size_bytes > before.size_bytes
        ):
            raise errors.ProviderError(
                f"memory is full: {total_bytes} bytes would be over memory_bytes_max",
                detail={"size": total_bytes, "limit": self.bounds.memory_bytes_max},
            )
        self._size_bytes = total_bytes
        version = b"%x" % next(self._versions)
        self._entries[key] = _Entry(value, size_bytes, expires_at_s, version)
        if expires_at_s is not None and (before is None or before.expires_at_s != expires_at_s):
            heapq.heappush(self._expiries, (expires_at_s, key))
        self._tell(key, is_deletion=False)

    def _forget_expired(self) -> None:
        """Drop what nobody may ever ask for again, or it would fill the memory."""
        now_s = self._now_s()
        while self._expiries and self._expiries[0][0] <= now_s:
            expires_at_s, key = heapq.heappop(self._expiries)
            entry = self._entries.get(key)
            if entry is not None and entry.expires_at_s == expires_at_s:
                self._remove(key, entry)
        # Rewritten keys leave pairs behind; rebuilding so rarely costs each write next to nothing.
        if len(self._expiries) > 2 * len(self._entries) + 1_000:
            self._expiries = [
                (entry.expires_at_s, key)
                for key, entry in self._entries.items()
                if entry.expires_at_s is not None
            ]
            heapq.heapify(self._expiries)


def _item_bytes(item: str) -> int:
    return ITEM_OVERHEAD_BYTES + text_bytes(item)


def _content_bytes(key: str, entry: _Entry) -> int:
    return entry.size_bytes - ENTRY_OVERHEAD_BYTES - text_bytes(key)

"""A store in a JetStream key-value bucket: replicated, and there wherever a lattice is.

One entry of the bucket holds all of a key. Bytes without an expiry are stored as they are, so that
``nats kv get`` shows them and other programs may write them. Anything else starts with a byte that
no UTF-8 text can have, followed by a msgpack map; so do bytes that happen to start with it. Changes
are compare-and-set, repeated when another process was first; within this process they take turns,
so that only processes collide. A key's version is the revision of its entry.

JetStream knows no age of single keys here: an entry carries the time it expires, and a reader
after that time finds nothing. The clocks of hosts that share a bucket should agree to the second.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import unquote_to_bytes
from weakref import WeakValueDictionary

from lattice import errors, limits
from lattice.aio import retry
from lattice.aio.tasks import TaskGroup
from lattice.bus import Bucket, Bus, PullConsumer, StoredMessage
from lattice.wire import codec
from providers.keyvalue import bounds as sizes
from providers.keyvalue.bounds import Bounds
from providers.keyvalue.settings import NatsSettings
from providers.keyvalue.stores import Page, Versioned, Watch, values
from providers.keyvalue.stores.computing import Computing
from providers.keyvalue.stores.values import Value
from providers.keyvalue.stores.watches import Arrivals, Change, Wanted

MARKER = b"\xc1"
"""First byte of an entry that is not plain: never part of UTF-8 (RFC 3629, section 1)."""

PLAIN_KEY_CHARS = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_/.")
"""What a bucket's key may have, except ``=``, which introduces an escaped byte here."""

CONFLICT_PAUSE_S = 0.002
"""Bound of the first pause after a lost compare-and-set: about one round trip to JetStream."""

CONFLICT_DOUBLINGS_MAX = 6
"""The bound of the pause stops growing at an eighth of a second: some writer always wins."""

REQUESTS_AT_ONCE = 16
"""Of one batch or page: one after another each would wait for its round trip, and all together
they would hold up everybody else on the connection."""

READ_AHEAD = 100
"""Messages of a watch that are asked for at a time: enough that the round trip does not count."""

DELETIONS = ("DEL", "PURGE")
"""What a message of a bucket says of itself that has no value: ours are the second."""

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Held:
    """What an entry says: a value, and when it is no more, in seconds since 1970."""

    value: Value
    expires_at_s: float | None = None


@dataclass(frozen=True, slots=True)
class _Found:
    """What is there now. The revision outlives an expired value: it must be written over."""

    held: Held | None
    revision: int

    @property
    def value(self) -> Value | None:
        return self.held.value if self.held else None


class NatsStore(Computing):
    """Opens its bucket when first used, making it if it is not there."""

    def __init__(
        self,
        bus: Bus,
        settings: NatsSettings,
        bounds: Bounds,
        *,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._bus = bus
        self._settings = settings
        self._bounds = bounds
        self._now_s = now_s
        self._bucket: Bucket | None = None
        self._opening = asyncio.Lock()
        # A lock lives as long as somebody holds it or waits for it.
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        # Each has all names in memory meanwhile.
        self._listing = asyncio.Lock()

    @property
    def label(self) -> str:
        return f"NATS bucket {self._settings.bucket}"

    async def aclose(self) -> None:
        """The connection belongs to the provider's host; nothing is held here."""

    async def ping(self) -> None:
        await (await self._opened()).last_sequence()

    async def contains(self, key: str) -> bool:
        return (await self._read(key)).held is not None

    async def delete(self, key: str) -> bool:
        return await self._change(key, lambda value: (None, value is not None))

    async def get(self, key: str) -> bytes | None:
        return values.content(key, (await self._read(key)).value)

    async def set(self, key: str, value: bytes, *, expires_s: int) -> None:
        held = Held(value, self._now_s() + expires_s if expires_s else None)
        await self._write(key, self._entry(key, held), expected=None)

    async def current(self, key: str) -> Versioned:
        return self._versioned(key, await self._read(key))

    async def swap(self, key: str, version: bytes | None, value: bytes) -> Versioned | None:
        async with self._turn(key):
            found = await self._read(key)
            now = self._versioned(key, found)
            if now.version != version:
                return now
            try:
                await self._replace(key, found, value)
            except errors.Conflict:
                # In a cluster the leader may still show what the lost write was compared with; a
                # version that is seen to be over tells the caller to look again all the same.
                return self._versioned(key, await self._read(key))
        return None

    async def list_keys(self, after: str | None) -> Page:
        """Reads the names of all keys, and then each key of the page, as it may have expired."""
        async with self._listing:
            bucket = await self._opened()
            names = await bucket.keys(keys_max=self._bounds.listed_keys_max)
            # So many names would keep the event loop for tenths of a second.
            page = await asyncio.to_thread(_page, names, after, self._bounds)
        there = await self._all(self._is_there, page.keys)
        keys = [key for key, is_there in zip(page.keys, there, strict=True) if is_there]
        return Page(keys, page.cursor)

    async def _is_there(self, key: str) -> bool:
        try:
            return await self.contains(key)
        except errors.ProviderError:
            # Somebody else's entry, which only this key's own readers need to hear of.
            return True

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        room_bytes = self._bounds.reply_bytes_max

        async def get(key: str) -> bytes | None:
            nonlocal room_bytes
            value = await self.get(key)
            room_bytes -= len(value or b"")
            sizes.check_reply([self._bounds.reply_bytes_max - room_bytes], self._bounds)
            return value

        return await self._all(get, keys)

    async def set_many(self, pairs: Sequence[tuple[str, bytes]]) -> None:
        entries = {key: self._entry(key, Held(value)) for key, value in pairs}

        async def put(key: str) -> None:
            await self._write(key, entries[key], expected=None)

        await self._all(put, list(entries))

    async def delete_many(self, keys: Sequence[str]) -> None:
        await self._all(self.delete, list(dict.fromkeys(keys)))

    async def watch_scope(self) -> str | None:
        return self.label

    async def watch(self, wanted: Wanted, after: int | None) -> Watch:
        # Made, if it is not there, and also if it was there before.
        self._bucket = None
        bucket = await self._opened()
        return await NatsWatch.open(self._bus, bucket.name, wanted, after)

    async def _all(self, work: Callable[[str], Awaitable[R]], keys: Sequence[str]) -> list[R]:
        """Work off keys, some at a time, in their order."""
        done: list[R] = []
        for at in range(0, len(keys), REQUESTS_AT_ONCE):
            done += await asyncio.gather(*map(work, keys[at : at + REQUESTS_AT_ONCE]))
        return done

    async def _values(self, keys: Sequence[str]) -> list[Value | None]:
        return [(await self._read(key)).value for key in keys]

    async def _change(
        self, key: str, change: Callable[[Value | None], tuple[Value | None, R]]
    ) -> R:
        """
        Raises:
            Conflict: others kept winning; nothing was changed.
        """
        async with self._turn(key):
            for attempt in range(limits.CAS_ATTEMPTS_MAX):
                found = await self._read(key)
                value, answer = change(found.value)
                # Bytes that stay the same are a write nevertheless: their version is another.
                if not isinstance(value, bytes) and (
                    value == found.value or (not value and found.held is None)
                ):
                    return answer
                try:
                    await self._replace(key, found, value)
                except errors.Conflict:
                    doublings = min(attempt, CONFLICT_DOUBLINGS_MAX)
                    await asyncio.sleep(retry.full_jitter(CONFLICT_PAUSE_S, doublings))
                else:
                    return answer
        raise errors.Conflict(
            f"{self.label}: other writers won {limits.CAS_ATTEMPTS_MAX} times in a row"
        )

    async def _replace(self, key: str, found: _Found, value: Value | None) -> None:
        if value is None or (not value and not isinstance(value, bytes)):
            bucket = await self._opened()
            await bucket.delete(encode_key(key), expected=found.revision)
            return
        held = Held(value, found.held.expires_at_s if found.held else None)
        await self._write(key, self._entry(key, held), expected=found.revision)

    def _turn(self, key: str) -> asyncio.Lock:
        return self._turns.setdefault(key, asyncio.Lock())

    def _versioned(self, key: str, found: _Found) -> Versioned:
        value = values.content(key, found.value)
        sizes.check_reply([len(value or b"")], self._bounds)
        return Versioned(value, None if value is None else b"%d" % found.revision)

    async def _read(self, key: str) -> _Found:
        bucket = await self._opened()
        entry = await bucket.get(encode_key(key))
        if entry is None:
            return _Found(None, 0)
        held = decode(key, entry.value)
        if held.expires_at_s is not None and held.expires_at_s <= self._now_s():
            return _Found(None, entry.revision)
        return _Found(held, entry.revision)

    def _entry(self, key: str, held: Held) -> bytes:
        """The entry that says so.

        Raises:
            PayloadTooLarge: it would not fit a message.
        """
        data = encode(held)
        bytes_max = min(limits.INLINE_PAYLOAD_BYTES, self._bus.max_payload)
        if len(data) > bytes_max:
            raise errors.PayloadTooLarge(f"all of key {key!r}", len(data), bytes_max)
        return data

    async def _write(self, key: str, data: bytes, *, expected: int | None) -> None:
        bucket = await self._opened()
        try:
            await bucket.put(encode_key(key), data, expected=expected)
        except errors.Unavailable:
            # Perhaps somebody deleted the bucket: the next operation opens it, or makes it, anew.
            self._bucket = None
            raise

    async def _opened(self) -> Bucket:
        # While disconnected a write would wait, and be sent when its caller has long given up.
        if not self._bus.is_connected:
            raise errors.Unavailable(f"{self.label}: not connected to NATS")
        async with self._opening:
            if self._bucket is None:
                self._bucket = await self._bus.bucket(
                    self._settings.bucket, replicas=self._settings.replicas
                )
        return self._bucket


class NatsWatch:
    """The messages of a bucket's stream as they come; what is not taken waits there."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._changes: deque[Change] = deque()
        self._arrivals = Arrivals()
        self._taken = asyncio.Event()
        self._reader: PullConsumer
        self._tasks = TaskGroup("watch of a bucket")
        self.place = 0
        self.lost = 0

    @classmethod
    async def open(cls, bus: Bus, bucket: str, wanted: Wanted, after: int | None) -> "NatsWatch":
        watch = cls(f"$KV.{bucket}.")
        watch._reader, watch.place = await bus.reader(
            f"KV_{bucket}",
            watch._receive,
            filters=_filters(f"$KV.{bucket}.", wanted),
            after=after,
        )
        watch._tasks.spawn(watch._pull(), name="pull")
        return watch

    async def next(self, count_max: int) -> Sequence[Change]:
        await self._arrivals.wait(self._changes)
        count = min(count_max, len(self._changes))
        found = [self._changes.popleft() for _ in range(count)]
        self._taken.set()
        return found

    async def aclose(self) -> None:
        await self._tasks.aclose()
        await self._reader.drain()

    async def _pull(self) -> None:
        try:
            while True:
                if (room := READ_AHEAD - len(self._changes)) > 0:
                    await self._reader.pull(room)
                else:
                    self._taken.clear()
                    await self._taken.wait()
        except errors.LatticeError as error:
            self._arrivals.fail(error)

    def _receive(self, message: StoredMessage) -> None:
        key = key_of(message.subject.removeprefix(self._prefix))
        # A marker that the server left in place of what has expired is neither.
        is_expiry = message.headers.get("Nats-Marker-Reason") == "MaxAge"
        if key is not None and not is_expiry:
            is_deletion = (
                message.headers.get("KV-Operation") in DELETIONS
                or "Nats-Marker-Reason" in message.headers
            )
            self._changes.append(Change(key, is_deletion, message.sequence))
            self._arrivals.note()


def _filters(prefix: str, wanted: Wanted) -> list[str]:
    """Subjects that a watch reads: of keys that begin with something, all, as no wildcard does."""
    patterns = wanted.patterns
    if any(pattern.is_prefix for pattern in patterns):
        return [f"{prefix}>"]
    return [prefix + encode_key(pattern.text) for pattern in patterns]


def encode_key(key: str) -> str:
    """A key as a bucket takes it: readable, and different for different keys.

    Bytes that a bucket refuses become ``=XX``, and so do ``=`` itself, a dot that would make an
    empty token of the subject, and a leading underscore, as ``_kv`` is reserved.
    """
    encoded: list[str] = []
    data = key.encode()
    for at, byte in enumerate(data):
        edge = at in (0, len(data) - 1)
        empty_token = byte == ord(".") and (edge or data[at - 1] == byte)
        if byte not in PLAIN_KEY_CHARS or empty_token or (at == 0 and byte == ord("_")):
            encoded.append(f"={byte:02X}")
        else:
            encoded.append(chr(byte))
    return "".join(encoded)


def _read_name(encoded: str) -> str:
    """The key that ``encode_key`` was given, if it ever gave that name; else something or other.

    Fast, as it is done for all names of a bucket.
    """
    if "=" not in encoded:
        return encoded
    return unquote_to_bytes(encoded.replace("=", "%")).decode(errors="replace")


def key_of(encoded: str) -> str | None:
    """The key that has a name in the bucket; None for a name that no key has."""
    key = _read_name(encoded)
    return key if encode_key(key) == encoded else None


def _page(names: Collection[str], after: str | None, bounds: Bounds) -> Page:
    """A page of keys, of the names of all; names that no key has only make it shorter."""
    there = frozenset(names)
    page = values.page({_read_name(name) for name in there}, after, bounds)
    return Page([key for key in page.keys if encode_key(key) in there], page.cursor)


def encode(held: Held) -> bytes:
    """An entry of the bucket. Equal values are equal bytes."""
    value = held.value
    if isinstance(value, bytes) and held.expires_at_s is None and not value.startswith(MARKER):
        return value
    fields: dict[str, Any] = {}
    match held.value:
        case bytes(value):
            fields |= _content_fields(value)
        case tuple():
            fields["list"] = list(held.value)
        case frozenset():
            fields["set"] = sorted(held.value)
    if held.expires_at_s is not None:
        fields["expires_at_s"] = held.expires_at_s
    return MARKER + codec.pack(fields)


def _content_fields(value: bytes) -> dict[str, Any]:
    try:
        return {"text": value.decode()}
    except UnicodeDecodeError:
        return {"bytes": value}


def decode(key: str, data: bytes) -> Held:
    """What an entry of the bucket says, whoever wrote it.

    Raises:
        ProviderError: it starts with our marker, and is not ours.
    """
    if not data.startswith(MARKER):
        return Held(data)
    try:
        fields = codec.unpack(data[len(MARKER) :])
    except errors.InvalidRequest:
        raise _foreign(key) from None
    match fields:
        case {"text": str(text)}:
            value: Value = text.encode()
        case {"bytes": bytes(content)}:
            value = content
        case {"list": [*items]} if items and all(isinstance(item, str) for item in items):
            value = tuple(items)
        case {"set": [*items]} if items and all(isinstance(item, str) for item in items):
            value = frozenset(items)
        case _:
            raise _foreign(key)
    expires_at_s = fields.get("expires_at_s")
    if expires_at_s is not None and not isinstance(expires_at_s, int | float):
        raise _foreign(key)
    return Held(value, expires_at_s)


def _foreign(key: str) -> errors.ProviderError:
    return errors.ProviderError(
        f"key {key!r} holds an entry that starts with byte 0xC1 and is not the provider's"
    )

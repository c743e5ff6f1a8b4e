"""What is stored of apps, and what a leader must not forget.

Apps are written by whoever serves the API, by compare-and-set, and read from a mirror. Statuses and
the memory are written by the leader alone. The memory is the fence: a new leader begins by writing
it anew, so that whatever the one before it still wants to write is refused, and with it what it
wanted to do, as nothing is done before the memory of it is stored.
"""

import asyncio
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Self

import structlog
from pydantic import ValidationError

from lattice import errors, limits, subjects
from lattice.aio.tasks import TaskGroup
from lattice.bus import Bucket, Bus
from lattice.bus.buckets import Changes
from lattice.reconcile.model import AppRecord, ManifestVersion, Memory, Stored
from lattice.wire import apps

log = structlog.get_logger()

APPS_MAX = 1_000
"""Apps of one lattice: every reconciler holds all of them, and the list of them is one message."""

VERSIONS_MAX = 100
"""Versions kept of an app; the oldest that nobody needs make room for new ones."""

RECORD_BYTES_MAX = 768 * limits.KIB
"""Size of an app with all its versions: one value of a bucket, which is one message."""

MEMORY_BYTES_MAX = 64 * limits.MIB
"""Size of the memory as read: it is stored compressed, and a bucket is anybody's to write."""

CATCH_UP_S = 1.0
"""How long a reader waits for the mirror to have what others wrote before, then reads anyway."""

MEMORY_KEY = "memory"


class StoredStatus(Stored):
    """An app's status, and which deployment it is about."""

    generation: int
    status: apps.Status


class Apps:
    """The apps of a lattice. ``changed`` hears when one is put, deployed, undeployed or deleted."""

    def __init__(self, bucket: Bucket, changed: Callable[[], None]) -> None:
        self._bucket = bucket
        self._changed = changed
        self._mirror = bucket.mirror(self._take_over)
        self._records: dict[str, AppRecord] = {}
        self._statuses: dict[str, StoredStatus] = {}

    @classmethod
    async def open(
        cls, bus: Bus, lattice: str, changed: Callable[[], None], tasks: TaskGroup
    ) -> Self:
        """Open the lattice's apps, and follow them; returns when all have been read.

        Raises:
            Unavailable: JetStream is off, or does not answer.
        """
        opened = cls(await bus.bucket(subjects.app_bucket(lattice)), changed)
        bus.on_reconnect(opened._mirror.resync)
        tasks.guard(opened._mirror.run, name=f"follow {opened._mirror.name}")
        try:
            async with asyncio.timeout(limits.STATE_TIMEOUT_S):
                await opened._mirror.synced.wait()
        except TimeoutError:
            raise errors.Unavailable(f"the apps of lattice {lattice} could not be read") from None
        return opened

    def __iter__(self) -> Iterator[AppRecord]:
        """Every app, by name; those being deleted are among them."""
        return (self._records[name] for name in sorted(self._records))

    def get(self, name: str) -> AppRecord | None:
        return self._records.get(name)

    def status(self, name: str) -> StoredStatus | None:
        """The status that was stored last, which may be of an earlier deployment."""
        return self._statuses.get(name)

    async def catch_up(self) -> None:
        """Wait until everything that was acknowledged before, by whomever, is known here.

        Raises:
            Unavailable: NATS is away.
        """
        sequence = await self._bucket.last_sequence()
        await self._mirror.wait_for(sequence, timeout_s=CATCH_UP_S)

    async def change(self, name: str, change: Callable[[AppRecord | None], AppRecord]) -> AppRecord:
        """Write an app by compare-and-set, deciding anew whenever somebody else won.

        What ``change`` raises ends it. When this returns, the change is stored and known here.

        Raises:
            InvalidRequest: it is stored malformed, or there are too many apps.
            PayloadTooLarge: all its versions together are too large.
            Unavailable: NATS is away; it may have been stored.
        """
        key = subjects.app_key(name)
        for _ in range(limits.CAS_ATTEMPTS_MAX):
            entry = await self._bucket.get(key)
            record = None if entry is None else _parse_record(name, entry.value)
            if record is None and len(self._records) >= APPS_MAX:
                raise errors.InvalidRequest(f"there are {APPS_MAX} apps, as many as there may be")
            changed = change(record)
            if changed == record:
                return changed
            changed = _pruned(changed)
            value = changed.model_dump_json().encode()
            with suppress(errors.Conflict):
                revision = await self._bucket.put(
                    key, value, expected=entry.revision if entry else 0
                )
                await self._mirror.wait_for(revision, timeout_s=CATCH_UP_S)
                return changed
        raise errors.Conflict(f"app {name} is being written by too many at once")

    async def forget(self, record: AppRecord) -> None:
        """Delete an app of which nothing is left, unless it has been changed in the meantime.

        Raises:
            Unavailable: NATS is away.
        """
        key = subjects.app_key(record.name)
        entry = await self._bucket.get(key)
        if entry is None or _parse_record(record.name, entry.value) != record:
            return
        with suppress(errors.Conflict):
            await self._bucket.delete(key, expected=entry.revision)
            await self._bucket.delete(subjects.app_status_key(record.name))

    async def put_status(self, name: str, status: StoredStatus) -> None:
        """Store an app's status; only a leader does.

        Raises:
            PayloadTooLarge: it has too many parts.
            Unavailable: NATS is away.
        """
        await self._bucket.put(subjects.app_status_key(name), status.model_dump_json().encode())

    def _take_over(self, changes: Changes) -> None:
        changed = False
        for key, value in changes.items():
            if (name := subjects.app_of(key)) is not None:
                changed = self._take_over_record(name, value) or changed
            elif (name := subjects.app_of_status(key)) is not None:
                self._take_over_status(name, value)
            else:
                log.warning("an unknown key among the apps is left alone", key=key)
        if changed:
            self._changed()

    def _take_over_record(self, name: str, value: bytes | None) -> bool:
        if value is None:
            return self._records.pop(name, None) is not None
        try:
            self._records[name] = _parse_record(name, value)
        except errors.InvalidRequest as error:
            # What was known of it stays in force: one bad value must not stop an app.
            log.error("an app can't be read", app=name, error=error.text)
            return False
        return True

    def _take_over_status(self, name: str, value: bytes | None) -> None:
        if value is None:
            self._statuses.pop(name, None)
            return
        try:
            self._statuses[name] = StoredStatus.model_validate_json(value)
        except ValidationError:
            log.warning("an app's status can't be read", app=name)


class LeadersMemory(Stored):
    """What is stored for the next leader."""

    epoch: int = 0
    """Of the leader that wrote it."""
    hosts: list[str] = []
    """Ids of the hosts that it knew: whoever follows it asks them first."""
    memory: Memory = Memory()


class MemoryStore:
    """The memory of the reconciler that leads, for one term."""

    def __init__(self, bucket: Bucket, epoch: int) -> None:
        self._bucket = bucket
        self._epoch = epoch
        self._revision = 0
        self._stored = LeadersMemory()

    @classmethod
    async def claim(cls, bus: Bus, lattice: str, epoch: int) -> Self:
        """Take the memory over from the leader before, which can't write it from now on.

        Raises:
            Conflict: too many want it at once.
            Unavailable: NATS is away.
        """
        bucket = await bus.bucket(subjects.reconciler_bucket(lattice))
        for _ in range(limits.CAS_ATTEMPTS_MAX):
            entry = await bucket.get(MEMORY_KEY)
            stored = _parse_memory(entry.value) if entry else LeadersMemory()
            # A bucket of leases that was made anew counts from one again.
            store = cls(bucket, max(epoch, stored.epoch + 1))
            store._revision = entry.revision if entry else 0
            with suppress(errors.Conflict):
                await store._put(stored.model_copy(update={"epoch": store._epoch}))
                return store
        raise errors.Conflict("the reconciler's memory is being claimed by too many at once")

    @property
    def memory(self) -> Memory:
        return self._stored.memory

    @property
    def hosts(self) -> list[str]:
        return self._stored.hosts

    async def save(self, memory: Memory, hosts: list[str]) -> None:
        """Store what changed. Only when this returns may be done what the memory says was begun.

        Raises:
            Conflict: this term is over.
            PayloadTooLarge: the server takes no message so large.
            Unavailable: NATS is away; it may have been stored.
        """
        fresh = LeadersMemory(epoch=self._epoch, hosts=hosts, memory=memory)
        if fresh == self._stored:
            return
        try:
            await self._put(fresh)
        except errors.Conflict:
            # It may be a write of our own whose acknowledgement was lost.
            entry = await self._bucket.get(MEMORY_KEY)
            if entry is None or _parse_memory(entry.value).epoch != self._epoch:
                raise
            self._revision = entry.revision
            await self._put(fresh)

    async def _put(self, fresh: LeadersMemory) -> None:
        value = zlib.compress(fresh.model_dump_json().encode(), level=1)
        self._revision = await self._bucket.put(MEMORY_KEY, value, expected=self._revision)
        self._stored = fresh


def _parse_record(name: str, value: bytes) -> AppRecord:
    try:
        record = AppRecord.model_validate_json(value)
    except ValidationError as error:
        raise errors.InvalidRequest(
            f"what is stored of app {name} is malformed; not touched: {error.error_count()} errors"
        ) from None
    if record.name != name:
        raise errors.InvalidRequest(f"what is stored of app {name} is another's; not touched")
    return record


def _parse_memory(value: bytes) -> LeadersMemory:
    """The stored memory; an empty one when it can't be read, as then what runs is adopted anew."""
    try:
        inflating = zlib.decompressobj()
        text = inflating.decompress(value, MEMORY_BYTES_MAX)
        return LeadersMemory.model_validate_json(text)
    except (zlib.error, ValidationError) as error:
        log.error("the reconciler's memory can't be read", error=type(error).__name__)
        return LeadersMemory()


def _size(version: ManifestVersion) -> int:
    return len(version.model_dump_json())


def _pruned(record: AppRecord) -> AppRecord:
    """The record without its oldest versions that nobody needs, if it has too many.

    Raises:
        PayloadTooLarge: what is needed is too large already.
    """
    versions = list(record.versions)
    size = sum(map(_size, versions))
    needed = {record.deployed, record.previous, versions[-1].version if versions else None}
    for kept in record.versions:
        if len(versions) <= VERSIONS_MAX and size <= RECORD_BYTES_MAX:
            break
        if kept.version not in needed:
            versions.remove(kept)
            size -= _size(kept)
            log.info("an old version makes room", app=record.name, version=kept.version)
    if size > RECORD_BYTES_MAX:
        raise errors.PayloadTooLarge(f"app {record.name}", size, RECORD_BYTES_MAX)
    return record.model_copy(update={"versions": versions})

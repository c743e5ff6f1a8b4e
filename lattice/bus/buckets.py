"""JetStream key-value buckets: written by compare-and-set, followed by a mirror without gaps.

Reads go to the stream's leader: any replica may answer a direct get, and an old value would be
taken for the truth. A *mirror* is a local copy kept by a watch. A watch can end silently (a server
restarted, a consumer lost), so the mirror starts over in full after each reconnection, whenever the
stream has moved on while the watch was quiet, and when a change had no room in the client's queue.
"""

import asyncio
import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import nats.errors
import nats.js.errors
import structlog
from nats.js import JetStreamContext, api
from nats.js.kv import KeyValue

from lattice import errors, limits
from lattice.bus.translation import translated

log = structlog.get_logger()

QUIET_CHECK_S = 2.0
"""A watch that was quiet for so long is compared with the stream's end."""

RESYNC_SPREAD_S = 0.25
"""All hosts lose a server at once: each waits up to so long before it reads in full again."""

WATCH_FORGOTTEN_S = 10.0
"""How long the server keeps a watch that nobody listens to. Each lost connection leaves one behind,
and nats-py's five minutes would gather hundreds for a host whose connection flaps."""

RETRY_DELAY_S = 0.5
"""Pause after a failed attempt to follow a bucket; a server needs seconds to come back."""

NAMES_MAX = 100_000
"""Names of keys that a server tells in one answer (``JSMaxSubjectDetails``)."""

_KEY = re.compile(r"[-/_=A-Za-z0-9]+(?:\.[-/_=A-Za-z0-9]+)*")


@dataclass(frozen=True, slots=True)
class Entry:
    """A value and the revision that a compare-and-set names."""

    key: str
    value: bytes
    revision: int


@dataclass(frozen=True, slots=True)
class Extent:
    """How much a bucket holds."""

    messages: int
    """Values, and marks of keys that were deleted."""
    last_sequence: int
    """Revision of the latest write, even if nothing is left of it."""


Changes = Mapping[str, bytes | None]
"""Values by key; None for a key that is gone."""


class Bucket:
    """One key-value bucket."""

    def __init__(self, jetstream: JetStreamContext, store: KeyValue, name: str) -> None:
        self._jetstream = jetstream
        self._store = store
        self._stream = f"KV_{name}"
        self.name = name

    async def get(self, key: str) -> Entry | None:
        """Read a key from the stream's leader.

        Raises:
            InvalidRequest: not a key.
            Unavailable: NATS is away.
        """
        with translated(self.name):
            try:
                message = await self._jetstream.get_msg(
                    self._stream, subject=f"$KV.{self.name}.{_checked(key)}"
                )
            except nats.js.errors.NotFoundError:
                return None
        if (message.headers or {}).get("KV-Operation") or message.seq is None:
            return None
        return Entry(key, message.data or b"", message.seq)

    async def put(self, key: str, value: bytes, *, expected: int | None = None) -> int:
        """Write a key and return its new revision.

        With ``expected`` the write happens only while the key has that revision; 0 means that it
        must not exist. Cancelling may leave the write done or not done.

        Raises:
            InvalidRequest: not a key.
            Conflict: the revision is another one.
            PayloadTooLarge: over the server's ``max_payload``.
            Unavailable: NATS is away; the write may have been done.
        """
        _checked(key)
        with translated(self.name):
            try:
                if expected is None:
                    return await self._store.put(key, value)
                if expected == 0:
                    return await self._store.create(key, value)
                return await self._store.update(key, value, last=expected)
            except nats.js.errors.KeyNotFoundError:
                # What was in the way of a creation has expired since; or, in a cluster, the leader
                # refuses a second value before it can show the first.
                raise errors.Conflict(f"{self.name}: somebody else wrote it first") from None
            except nats.errors.MaxPayloadError:
                limit = self._jetstream._nc.max_payload  # noqa: SLF001 - known nowhere else here
                raise errors.PayloadTooLarge(f"value of {key}", len(value), limit) from None

    async def delete(self, key: str, *, expected: int | None = None) -> int:
        """Delete a key and return the revision of the mark that tells so; it may not be there.

        Raises:
            InvalidRequest, Conflict, Unavailable: as ``put``.
        """
        _checked(key)
        with translated(self.name):
            # nats-py's own keep the revision to themselves.
            headers = {"KV-Operation": "PURGE", api.Header.ROLLUP.value: "sub"}
            if expected is not None:
                headers[api.Header.EXPECTED_LAST_SUBJECT_SEQUENCE.value] = str(expected)
            subject = f"$KV.{self.name}.{key}"
            try:
                return (await self._jetstream.publish(subject, headers=headers)).seq
            except nats.js.errors.APIError as error:
                # 10071 and 10164: wrong last sequence, as nats-py's own update reads them.
                if error.err_code in (10071, 10164):
                    raise errors.Conflict(f"{self.name}: somebody else wrote it first") from error
                raise

    async def keys(self, *, keys_max: int) -> list[str]:
        """Names of the keys, in no order, and of those that were deleted since the stream began.

        A deleted key leaves a mark that only reading it tells from a value. All names are in memory
        at once, fewer than 100,000 in any case, as the server tells no more in one answer.

        Raises:
            InvalidRequest: there are more.
            Unavailable: NATS is away.
        """
        limit = min(keys_max, NAMES_MAX - 1)
        prefix = f"$KV.{self.name}."
        with translated(self.name):
            info = await self._jetstream.stream_info(self._stream)
            count = -(-info.state.messages // max(info.config.max_msgs_per_subject or 1, 1))
            if count <= limit:
                info = await self._jetstream.stream_info(self._stream, f"{prefix}>")
                subjects = info.state.subjects or {}
                count = len(subjects)
        if count > limit:
            raise errors.InvalidRequest(
                f"bucket {self.name} has {count} keys or more, deleted ones included, and listing "
                f"is limited to {limit}",
                detail={"size": count, "limit": limit},
            )
        return [subject.removeprefix(prefix) for subject in subjects]

    def mirror(self, changed: Callable[[Changes], None]) -> "Mirror":
        """A local copy; ``changed`` hears of every difference, in the loop, without a wait."""
        return Mirror(self, self._store, changed)

    async def last_sequence(self) -> int:
        return (await self.extent()).last_sequence

    async def extent(self) -> "Extent":
        with translated(self.name):
            info = await self._jetstream.stream_info(self._stream)
        return Extent(messages=info.state.messages, last_sequence=info.state.last_seq)


class Mirror:
    """What a bucket holds, as far as is known here. ``run`` keeps it so."""

    def __init__(self, bucket: Bucket, store: KeyValue, changed: Callable[[Changes], None]) -> None:
        self._bucket = bucket
        self._store = store
        self._changed = changed
        self._session: asyncio.Timeout | None = None
        self._last_sequence = 0
        self._moved: asyncio.Future[None] | None = None
        self.values: dict[str, bytes] = {}
        self.synced = asyncio.Event()
        """Set once the bucket has been read in full for the first time."""

    def resync(self) -> None:
        """Read everything again: something may have been missed."""
        if self._session is not None and not self._session.expired():
            self._session.reschedule(asyncio.get_running_loop().time())

    @property
    def _is_stale(self) -> bool:
        """Whether a resync was asked for; its cancellation may be lost in what it interrupts.

        ``asyncio.wait_for`` of Python 3.11 prefers a result that came at the same moment.
        """
        return self._session is not None and self._session.expired()

    @property
    def name(self) -> str:
        return self._bucket.name

    async def wait_for(self, revision: int, *, timeout_s: float) -> bool:
        """Wait until the mirror has seen a revision; False when the time was up before."""
        try:
            async with asyncio.timeout(timeout_s):
                while self._last_sequence < revision:
                    self._moved = self._moved or asyncio.get_running_loop().create_future()
                    await asyncio.shield(self._moved)
        except TimeoutError:
            return False
        return True

    async def run(self) -> None:
        """Follow the bucket for ever; what was known stays in force while NATS is away."""
        while True:
            try:
                # Looked at before the watch begins: all of this much is then in its first read.
                extent = await self._bucket.extent()
                with translated(self._bucket.name):
                    # Never interrupted by a resync: a half-made watch would go on for ever.
                    watcher = await self._store.watchall(inactive_threshold=WATCH_FORGOTTEN_S)
                try:
                    async with asyncio.timeout(None) as self._session:
                        await self._follow(watcher, extent)
                finally:
                    self._session = None
                    await _stop(watcher)
            except TimeoutError:
                log.debug("reading a bucket again in full", bucket=self._bucket.name)
            except (errors.Unavailable, errors.Denied) as error:
                log.warning("can't follow a bucket now", bucket=self._bucket.name, error=error.text)
                await asyncio.sleep(RETRY_DELAY_S)
            await asyncio.sleep(random.uniform(0, RESYNC_SPREAD_S))  # noqa: S311 - no secret

    async def _follow(self, watcher: KeyValue.KeyWatcher, extent: Extent) -> None:
        """Read the bucket, then its changes, until a gap shows."""
        if not await self._read_all(watcher, extent):
            return
        while not (self._dropped(watcher) or self._is_stale):
            try:
                entry = await watcher.updates(timeout=QUIET_CHECK_S)
            except nats.errors.TimeoutError:
                if await self._bucket.last_sequence() != self._last_sequence:
                    log.warning("a watch missed changes", bucket=self._bucket.name)
                    return
                continue
            if entry is not None:
                self._apply([entry, *_waiting(watcher)])

    def _dropped(self, watcher: KeyValue.KeyWatcher) -> bool:
        """Whether the watch lost changes because we were too slow; its own checks don't tell."""
        client: Any = self._bucket._jetstream._nc  # noqa: SLF001 - the way to it
        subscription: Any = watcher._sub  # noqa: SLF001 - nothing public leads to it
        lost = client.drops.of(subscription._sub)  # noqa: SLF001
        if lost:
            log.warning("a watch had no room for changes", bucket=self._bucket.name, changes=lost)
        return bool(lost)

    async def _read_all(self, watcher: KeyValue.KeyWatcher, extent: Extent) -> bool:
        """Read the bucket in full; False when what was read has gaps, and nothing is taken over."""
        fresh: dict[str, bytes] = {}
        markers = 0
        last = 0
        with translated(self._bucket.name):
            while True:
                entry = await watcher.updates(timeout=limits.STATE_TIMEOUT_S)
                if entry is None:
                    # nats-py's word that this was all. It comes too early when the server's answer
                    # to "how much is there" overtakes the messages.
                    if last or not extent.messages:
                        break
                    continue
                last = max(last, entry.revision or 0)
                if entry.operation:
                    markers += 1
                else:
                    fresh[entry.key] = entry.value or b""
                if entry.delta == 0:
                    break
        if self._dropped(watcher):
            # What is not there would be taken for deleted.
            return False
        if not fresh and not markers and self.values:
            log.error(
                "a bucket is suddenly empty; going on with what was known",
                bucket=self._bucket.name,
                keys=len(self.values),
            )
        else:
            gone = self.values.keys() - fresh.keys()
            changes: dict[str, bytes | None] = dict.fromkeys(gone)
            changes |= {k: v for k, v in fresh.items() if self.values.get(k) != v}
            self.values = fresh
            if changes:
                self._changed(changes)
        # A bucket that was made anew counts from one again.
        self._last_sequence = 0
        # Keys may be gone without leaving a message behind; the bucket's extent knows of them.
        self._advance(max(last, extent.last_sequence))
        self.synced.set()
        return True

    def _apply(self, entries: Iterable[KeyValue.Entry]) -> None:
        """Take over changes in their order; of those to one key only the last is told."""
        changes: dict[str, bytes | None] = {}
        last = 0
        for entry in entries:
            last = entry.revision or 0
            value = None if entry.operation else entry.value or b""
            if value is None:
                self.values.pop(entry.key, None)
            elif self.values.get(entry.key) == value:
                continue
            else:
                self.values[entry.key] = value
            changes[entry.key] = value
        if changes:
            self._changed(changes)
        self._advance(last)

    def _advance(self, sequence: int) -> None:
        self._last_sequence = max(self._last_sequence, sequence)
        if self._moved is not None:
            self._moved.set_result(None)
            self._moved = None


async def open_bucket(
    jetstream: JetStreamContext,
    name: str,
    *,
    ttl_s: float | None,
    history: int,
    replicas: int,
    bytes_max: int | None = None,
) -> Bucket:
    with translated(name):
        try:
            store = await jetstream.key_value(name)
            await _check_replicas(jetstream, name, replicas)
        except nats.js.errors.BucketNotFoundError:
            config = api.KeyValueConfig(
                bucket=name, ttl=ttl_s, history=history, replicas=replicas, max_bytes=bytes_max
            )
            try:
                store = await jetstream.create_key_value(config)
            except nats.js.errors.BadRequestError:
                # Another process made it in the meantime.
                store = await jetstream.key_value(name)
    return Bucket(jetstream, store, name)


async def _check_replicas(jetstream: JetStreamContext, name: str, wanted: int) -> None:
    """Tell of a bucket with fewer copies than wanted; whoever made it may have had a reason."""
    if wanted == 1:
        return
    found = (await jetstream.stream_info(f"KV_{name}")).config.num_replicas or 1
    if found < wanted:
        log.warning(
            "a bucket has fewer replicas than wanted; change it with: nats stream edit",
            bucket=name,
            stream=f"KV_{name}",
            replicas=found,
            wanted=wanted,
        )


def _checked(key: str) -> str:
    if not _KEY.fullmatch(key):
        raise errors.InvalidRequest(f"{key[:100]!r} can't be a key of a bucket")
    return key


def _waiting(watcher: KeyValue.KeyWatcher) -> Iterator[KeyValue.Entry]:
    """What a watch has received besides: whoever is behind must not look at each state between."""
    queue = watcher._updates  # noqa: SLF001 - nothing public says what is waiting
    while not queue.empty():
        # Between the entries may stand nats-py's marks for the end of a read, or of the watch.
        if isinstance(entry := queue.get_nowait(), KeyValue.Entry):
            yield entry


async def _stop(watcher: KeyValue.KeyWatcher) -> None:
    try:
        await watcher.stop()
    except (nats.errors.Error, OSError):
        # The connection is gone, and the watch with it.
        return
    finally:
        # In which case its heartbeat check would go on, and make consumers for nobody.
        subscription: Any = watcher._sub  # noqa: SLF001 - nothing public leads to it
        if (check := subscription._sub._jsi._hbtask) is not None:  # noqa: SLF001
            check.cancel()

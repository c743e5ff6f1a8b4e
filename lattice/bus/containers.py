"""JetStream object stores as containers of objects of any size, written and read in parts.

The format is that of NATS's own tools (ADR-20), so that ``nats object`` works on the same data; the
client library can only move objects whole, and would lose one of two concurrent writers' chunks.
Here an object's record is replaced by compare-and-set, so that each writer removes the chunks of
exactly the one that it replaced. Reads go to the stream's leader.
"""

import asyncio
import base64
import hashlib
import json
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import nats.errors
import nats.js.errors
from nats.js import JetStreamContext, api

from lattice import errors, limits
from lattice.bus.objects import CHUNK_BYTES_MAX
from lattice.bus.translation import translated

HEADERS_BYTES_MAX = 4 * limits.KIB
"""Room left in a message for its headers."""

READS_MAX = 8
"""Chunks of one range that are asked for at a time."""

LISTED_MAX = 100_000
"""Objects of one container that can be listed: the server tells no more subjects at once."""

POSITIONS_KEPT = 256
"""Objects whose chunks' places are remembered: whoever reads in ranges comes back soon."""

FETCH_MESSAGES = 500
"""Headers of chunks that are asked for at a time; half a megabyte at most."""

_CONFLICTS = (10071, 10164)
"""JetStream's codes for "wrong last sequence"."""

_NO_STREAM = 10059
"""JetStream's code for a stream that is not there, as against a message."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object's record."""

    name: str
    size: int
    chunks: int
    nuid: str
    """Names its chunks; another one for each time that it is written."""
    stored_at_s: float
    """On the server's clock, in seconds since 1970."""
    revision: int
    """Of the record, for the next compare-and-set."""


@dataclass(frozen=True, slots=True)
class _Chunk:
    sequence: int
    start: int
    """Offset in the object."""
    end: int


class Containers:
    """Object stores of one connection, by the names of their buckets.

    Every method may raise ``Unavailable``. Those that take a bucket raise ``NotFound`` when there
    is none, unless they say otherwise.
    """

    def __init__(self, jetstream: JetStreamContext) -> None:
        self._jetstream = jetstream
        self._positions: OrderedDict[str, list[_Chunk]] = OrderedDict()

    async def create(self, bucket: str, *, replicas: int) -> None:
        """Make an object store; one that is there is left as it is."""
        with translated(bucket):
            try:
                await self._jetstream.stream_info(_stream(bucket))
            except nats.js.errors.NotFoundError:
                config = api.ObjectStoreConfig(bucket=bucket, replicas=replicas)
                try:
                    await self._jetstream.create_object_store(bucket=bucket, config=config)
                except nats.js.errors.BadRequestError:
                    # Another process made it in the meantime.
                    await self._jetstream.stream_info(_stream(bucket))

    async def delete(self, bucket: str) -> None:
        """Remove an object store and all in it, if it is there."""
        with translated(bucket):
            try:
                await self._jetstream.delete_stream(_stream(bucket))
            except nats.js.errors.NotFoundError:
                return

    async def created_at_s(self, bucket: str) -> float | None:
        """When it was made, in seconds since 1970; None if there is none."""
        with translated(bucket):
            try:
                info = await self._jetstream.stream_info(_stream(bucket))
            except nats.js.errors.NotFoundError:
                return None
        return info.created.timestamp() if info.created else 0.0

    async def names(self, beginning: str) -> list[str]:
        """Buckets whose names begin so, sorted."""
        found: set[str] = set()
        seen = 0
        with translated(f"object stores {beginning}"):
            while page := await self._jetstream.streams_info(offset=seen):
                seen += len(page)
                names = (info.config.name or "" for info in page)
                found.update(name for name in names if name.startswith(_stream(beginning)))
        return sorted(name.removeprefix(_stream("")) for name in found)

    async def objects(
        self, bucket: str, *, after: str | None, count: int
    ) -> tuple[list[StoredObject], bool]:
        """Up to ``count`` objects by name, and whether these were the last.

        Raises:
            ProviderError: there are more than can be listed.
        """
        with translated(bucket), _must_exist(bucket):
            info = await self._jetstream.stream_info(
                _stream(bucket), subjects_filter=f"$O.{bucket}.M.>"
            )
        subjects = info.state.subjects or {}
        if len(subjects) >= LISTED_MAX:
            raise errors.ProviderError(
                f"{bucket} has {len(subjects)} objects or more, over the limit of {LISTED_MAX}"
                " that can be listed"
            )
        names = sorted(filter(None, map(_name_of, subjects)))
        names = [name for name in names if after is None or name > after]
        found: list[StoredObject] = []
        for at in range(0, len(names), READS_MAX):
            batch = names[at : at + READS_MAX]
            known = await asyncio.gather(*(self.info(bucket, name) for name in batch))
            found += [each for each in known if each is not None]
            if len(found) > count:
                break
        return found[:count], len(found) <= count

    async def info(self, bucket: str, name: str) -> StoredObject | None:
        """An object's record; None if there is none."""
        found, _ = await self._record(bucket, name)
        return found

    async def read(self, bucket: str, stored: StoredObject, start: int, size: int) -> bytes:
        """Some of an object's bytes; less where it ends.

        Raises:
            Conflict: the object was replaced or removed meanwhile.
        """
        end = min(start + size, stored.size)
        if start >= end:
            return b""
        chunks = [
            chunk
            for chunk in await self._chunks(bucket, stored)
            if chunk.end > start and chunk.start < end
        ]
        parts: list[bytes] = []
        for at in range(0, len(chunks), READS_MAX):
            batch = chunks[at : at + READS_MAX]
            parts += await asyncio.gather(*(self._chunk(bucket, stored, each) for each in batch))
        first = chunks[0].start
        return b"".join(parts)[start - first : end - first]

    async def writer(self, bucket: str, name: str) -> "ObjectWriter":
        """Begin to write an object."""
        with translated(bucket), _must_exist(bucket):
            await self._jetstream.stream_info(_stream(bucket))
        return ObjectWriter(self, self._jetstream, bucket, name)

    async def remove(self, bucket: str, name: str) -> None:
        """Remove an object, if it is there.

        Raises:
            Conflict: others kept replacing it.
        """
        for _ in range(limits.CAS_ATTEMPTS_MAX):
            found, revision = await self._record(bucket, name)
            if found is None:
                return
            gone = {"name": name, "bucket": bucket, "nuid": found.nuid, "deleted": True, "size": 0}
            marker = await self.replace(bucket, name, gone, expected=revision)
            if marker is not None:
                # The marker has told everybody; without it listings stay short.
                await self.purge(bucket, _record_subject(bucket, name), before=marker + 1)
                await self.purge(bucket, _chunks_subject(bucket, found.nuid))
                return
        raise _lost(bucket, name)

    async def commit(self, bucket: str, name: str, record: dict[str, Any]) -> StoredObject:
        """Make a record the object's, and remove the chunks of the one before."""
        for _ in range(limits.CAS_ATTEMPTS_MAX):
            before, revision = await self._record(bucket, name)
            if await self.replace(bucket, name, record, expected=revision) is None:
                continue
            if before is not None:
                await self.purge(bucket, _chunks_subject(bucket, before.nuid))
            found = await self.info(bucket, name)
            # Somebody may have replaced it already: it was there all the same.
            return found or StoredObject(name, record["size"], record["chunks"], "", 0.0, 0)
        raise _lost(bucket, name)

    async def replace(
        self, bucket: str, name: str, record: dict[str, Any], *, expected: int
    ) -> int | None:
        """Write a record over that of a revision; None when it has another one by now."""
        headers = {
            api.Header.ROLLUP.value: "sub",
            api.Header.EXPECTED_LAST_SUBJECT_SEQUENCE.value: str(expected),
        }
        with translated(bucket), _must_exist(bucket):
            try:
                answer = await self._jetstream.publish(
                    _record_subject(bucket, name),
                    json.dumps(record).encode(),
                    headers=headers,
                    stream=_stream(bucket),
                )
            except nats.js.errors.APIError as error:
                if error.err_code in _CONFLICTS:
                    return None
                raise
        return answer.seq

    async def purge(self, bucket: str, subject: str, *, before: int | None = None) -> None:
        with translated(bucket):
            try:
                await self._jetstream.purge_stream(_stream(bucket), seq=before, subject=subject)
            except nats.js.errors.NotFoundError:
                return

    async def _record(self, bucket: str, name: str) -> tuple[StoredObject | None, int]:
        """An object's record, and the revision to replace: that of what tells of its end, too."""
        with translated(bucket), _must_exist(bucket):
            try:
                message = await self._jetstream.get_msg(
                    _stream(bucket), subject=_record_subject(bucket, name)
                )
            except nats.js.errors.NotFoundError as error:
                if error.err_code == _NO_STREAM:
                    raise
                return None, 0
        revision = message.seq or 0
        match _json(message.data or b""):
            case {"nuid": str(nuid), "size": int(size), "chunks": int(chunks), **rest} if (
                not rest.get("deleted") and _is_no_link(rest.get("options"))
            ):
                stored_at_s = message.time.timestamp() if message.time else 0.0
                return StoredObject(name, size, chunks, nuid, stored_at_s, revision), revision
            case _:
                return None, revision

    async def _chunks(self, bucket: str, stored: StoredObject) -> list[_Chunk]:
        """Where an object's chunks are: a name for chunks is used once, so this can't get old."""
        if (known := self._positions.get(stored.nuid)) is not None:
            self._positions.move_to_end(stored.nuid)
            return known
        found = await self._find_chunks(bucket, stored)
        self._positions[stored.nuid] = found
        if len(self._positions) > POSITIONS_KEPT:
            self._positions.popitem(last=False)
        return found

    async def _find_chunks(self, bucket: str, stored: StoredObject) -> list[_Chunk]:
        config = api.ConsumerConfig(
            ack_policy=api.AckPolicy.NONE,
            deliver_policy=api.DeliverPolicy.ALL,
            headers_only=True,
            mem_storage=True,
            inactive_threshold=limits.STATE_TIMEOUT_S,
        )
        found: list[_Chunk] = []
        with translated(bucket), _must_exist(bucket):
            subscription = await self._jetstream.pull_subscribe(
                _chunks_subject(bucket, stored.nuid), stream=_stream(bucket), config=config
            )
            try:
                there = (await subscription.consumer_info()).num_pending or 0
                # They may be on their way to a replica; or never come, and nobody should wait.
                if there < stored.chunks and not await self._is_current(bucket, stored):
                    raise _replaced(stored)
                while len(found) < stored.chunks:
                    wanted = min(FETCH_MESSAGES, stored.chunks - len(found))
                    for message in await subscription.fetch(wanted, timeout=limits.STATE_TIMEOUT_S):
                        start = found[-1].end if found else 0
                        end = start + int((message.headers or {}).get("Nats-Msg-Size", "0"))
                        found.append(_Chunk(message.metadata.sequence.stream, start, end))
            except nats.errors.TimeoutError:
                if await self._is_current(bucket, stored):
                    raise
                raise _replaced(stored) from None
            finally:
                await _end(subscription)
        return found

    async def _is_current(self, bucket: str, stored: StoredObject) -> bool:
        found = await self.info(bucket, stored.name)
        return found is not None and found.nuid == stored.nuid

    async def _chunk(self, bucket: str, stored: StoredObject, chunk: _Chunk) -> bytes:
        with translated(bucket), _must_exist(bucket):
            try:
                message = await self._jetstream.get_msg(_stream(bucket), seq=chunk.sequence)
            except nats.js.errors.NotFoundError as error:
                if error.err_code == _NO_STREAM:
                    raise
                raise _replaced(stored) from None
        return message.data or b""


class ObjectWriter:
    """An object on its way into a store; nobody sees it before ``commit``."""

    def __init__(
        self, containers: Containers, jetstream: JetStreamContext, bucket: str, name: str
    ) -> None:
        self._containers = containers
        self._jetstream = jetstream
        self._bucket = bucket
        self._name = name
        client: Any = jetstream._nc  # noqa: SLF001 - the way to it
        self._nuid: str = client._nuid.next().decode()  # noqa: SLF001
        self._chunk_bytes = min(CHUNK_BYTES_MAX, client.max_payload - HEADERS_BYTES_MAX)
        self._waiting = bytearray()
        self._digest = hashlib.sha256()
        self._size = 0
        self._chunks = 0
        self._is_done = False

    async def append(self, data: bytes) -> None:
        """Add to the end; returns when the server has all but the beginning of a chunk.

        Raises:
            Unavailable: NATS is away, or the store is full; nothing may be added any more.
        """
        self._waiting += data
        while len(self._waiting) >= self._chunk_bytes:
            await self._publish(bytes(self._waiting[: self._chunk_bytes]))
            del self._waiting[: self._chunk_bytes]

    async def commit(self) -> StoredObject:
        """Make it the object of its name.

        Raises:
            Conflict: others kept replacing it.
            NotFound, Unavailable: as ``Containers``.
        """
        if self._waiting:
            await self._publish(bytes(self._waiting))
            self._waiting.clear()
        digest = base64.urlsafe_b64encode(self._digest.digest()).decode()
        record = {
            "name": self._name,
            "bucket": self._bucket,
            "nuid": self._nuid,
            "size": self._size,
            "chunks": self._chunks,
            "digest": f"SHA-256={digest}",
            "options": {"max_chunk_size": self._chunk_bytes},
        }
        stored = await self._containers.commit(self._bucket, self._name, record)
        self._is_done = True
        return stored

    async def abort(self) -> None:
        """Remove what was written, unless it was committed. Safe to call twice."""
        if self._is_done:
            return
        self._is_done = True
        self._waiting.clear()
        # A commit whose answer was lost may have been done: its chunks are an object's then.
        found = await self._containers.info(self._bucket, self._name)
        if found is None or found.nuid != self._nuid:
            await self._containers.purge(self._bucket, _chunks_subject(self._bucket, self._nuid))

    async def _publish(self, chunk: bytes) -> None:
        with translated(self._bucket), _must_exist(self._bucket):
            await self._jetstream.publish(
                _chunks_subject(self._bucket, self._nuid), chunk, stream=_stream(self._bucket)
            )
        self._digest.update(chunk)
        self._size += len(chunk)
        self._chunks += 1


@contextmanager
def _must_exist(bucket: str) -> Iterator[None]:
    """
    Raises:
        NotFound: JetStream says that there is no such object store.
    """
    try:
        yield
    except (nats.js.errors.NotFoundError, nats.js.errors.NoStreamResponseError):
        raise errors.NotFound(f"there is no object store {bucket}") from None


async def _end(subscription: JetStreamContext.PullSubscription) -> None:
    """Remove a consumer; the server forgets by itself what can't be removed now."""
    try:
        await subscription.unsubscribe()
    except (nats.errors.Error, OSError):
        return


def _stream(bucket: str) -> str:
    return f"OBJ_{bucket}"


def _chunks_subject(bucket: str, nuid: str) -> str:
    return f"$O.{bucket}.C.{nuid}"


def _record_subject(bucket: str, name: str) -> str:
    return f"$O.{bucket}.M.{base64.urlsafe_b64encode(name.encode()).decode()}"


def _name_of(subject: str) -> str | None:
    """The object that a record's subject names."""
    try:
        return base64.urlsafe_b64decode(subject.rpartition(".")[2]).decode()
    except ValueError:
        return None


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return None


def _is_no_link(options: Any) -> bool:
    """Whether an object has content of its own; links to others are not followed."""
    return not (isinstance(options, dict) and options.get("link"))


def _replaced(stored: StoredObject) -> errors.Conflict:
    return errors.Conflict(f"object {stored.name!r} was replaced while it was read; begin again")


def _lost(bucket: str, name: str) -> errors.Conflict:
    return errors.Conflict(
        f"{bucket}: other writers of {name!r} won {limits.CAS_ATTEMPTS_MAX} times in a row"
    )

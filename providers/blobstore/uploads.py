"""Objects that are being written in parts, between one call and the next: few, and not for ever.

An object is written by the copy of the provider at which it was begun. Its name for the steps that
follow names that copy's host as well, so that any other copy can pass them on.

Nobody sees such an object before it is committed. One whose next part does not come in time, whose
link is gone or whose step failed is given up, and leaves nothing behind.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

import structlog

from lattice import errors, names
from lattice.aio.tasks import TaskGroup
from lattice.names import HostId
from providers.blobstore import bounds as sizes
from providers.blobstore.bounds import Bounds
from providers.blobstore.stores import ObjectId, ObjectInfo, Store, Writer
from providers.blobstore.stores.writing import abandon

log = structlog.get_logger()


class Elsewhere(Exception):
    """Another copy of the provider has it: a word to whoever passes calls on, and no failure."""

    def __init__(self, host_id: HostId) -> None:
        super().__init__(host_id)
        self.host_id = host_id


@dataclass(slots=True)
class _Upload:
    owner: Hashable
    object_id: ObjectId
    writer: Writer
    expires_at_s: float
    size_bytes: int = 0
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class Uploads:
    """All of one provider. ``now_s`` is a clock that never steps."""

    def __init__(self, bounds: Bounds, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self.bounds = bounds
        """May be replaced at any time."""
        self.host_id = ""
        """That of this copy, once it is known."""
        self._now_s = now_s
        self._uploads: dict[str, _Upload] = {}
        self._beginning = 0
        self._tasks = TaskGroup("blobstore uploads")
        self._expiring: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._uploads)

    async def begin(self, owner: Hashable, store: Store, object_id: ObjectId) -> str:
        """Begin to write an object; gives what names it for the steps that follow.

        Raises:
            Overloaded: as many are being written as may be.
            LatticeError: as ``Store.writer``.
        """
        if len(self._uploads) + self._beginning >= self.bounds.uploads_max:
            raise errors.Overloaded(
                f"{self.bounds.uploads_max} objects are being written in parts, as many as"
                " uploads_max allows"
            )
        self._beginning += 1
        try:
            writer = await store.writer(object_id)
        finally:
            self._beginning -= 1
        upload_id = f"{secrets.token_hex(16)}@{self.host_id}"
        self._uploads[upload_id] = _Upload(owner, object_id, writer, self._expiry())
        if self._expiring is None or self._expiring.done():
            self._expiring = self._tasks.spawn(self._expire_in_time(), name="expire uploads")
        return upload_id

    async def append(self, owner: Hashable, upload_id: str, offset: int, data: bytes) -> int:
        """Add to the end of an object, which is at ``offset``; gives where it ends then.

        Raises:
            Elsewhere: another copy has it; as for the other steps.
            NotFound: it is not being written, or not any more.
            Conflict: it ends elsewhere; the text says where, and it is as it was.
            PayloadTooLarge: the object would be too large, or the part is; it is as it was.
            LatticeError: what the store raises; the object has been given up.
        """
        upload = self._find(owner, upload_id)
        async with upload.turn:
            if self._uploads.get(upload_id) is not upload:
                raise _unknown(upload_id)
            if offset != upload.size_bytes:
                raise errors.Conflict(
                    f"the next part begins at offset {upload.size_bytes}, not {offset}",
                    detail={"offset": upload.size_bytes},
                )
            sizes.check_chunk("part", len(data), self.bounds)
            sizes.check_object(upload.size_bytes + len(data), self.bounds)
            try:
                await upload.writer.append(data)
            except BaseException:
                self._give_up(upload_id)
                raise
            upload.size_bytes += len(data)
            upload.expires_at_s = self._expiry()
            return upload.size_bytes

    async def commit(self, owner: Hashable, upload_id: str) -> ObjectInfo:
        """Make an object what was written, whole.

        Raises:
            NotFound: it is not being written, or not any more.
            LatticeError: as ``Writer.commit``; the object has been given up.
        """
        upload = self._find(owner, upload_id)
        async with upload.turn:
            if self._uploads.get(upload_id) is not upload:
                raise _unknown(upload_id)
            try:
                info = await upload.writer.commit()
            except BaseException:
                self._give_up(upload_id)
                raise
            del self._uploads[upload_id]
            return info

    async def abort(self, owner: Hashable, upload_id: str) -> None:
        """Give an object up.

        Raises:
            NotFound: it is not being written, or not any more.
        """
        upload = self._find(owner, upload_id)
        async with upload.turn:
            if self._uploads.pop(upload_id, None) is not None:
                await abandon(upload.writer, upload.object_id)

    def object_of(self, owner: Hashable, upload_id: str) -> ObjectId:
        """
        Raises:
            NotFound: it is not being written, or not any more.
        """
        return self._find(owner, upload_id).object_id

    async def abort_of(self, owner: Hashable) -> None:
        """Give up all of one owner."""
        mine = [key for key, upload in self._uploads.items() if upload.owner == owner]
        gone = [self._uploads.pop(key) for key in mine]
        await asyncio.gather(*(abandon(each.writer, each.object_id) for each in gone))

    def discard(self, writer: Writer, object_id: ObjectId) -> None:
        """Leave nothing of a write, without a wait: the time of its call may be up."""
        self._tasks.spawn(abandon(writer, object_id), name="give up a write")

    async def aclose(self) -> None:
        """Give up everything."""
        await asyncio.gather(*(self.abort_of(each.owner) for each in [*self._uploads.values()]))
        # What was given up on its own is still being removed.
        if self._expiring is not None:
            self._expiring.cancel()
        await self._tasks.join()

    async def expire(self) -> None:
        """Give up what waited too long for its next part."""
        now_s = self._now_s()
        for upload_id, upload in list(self._uploads.items()):
            # One that is in the middle of a step is not idle.
            if upload.expires_at_s <= now_s and not upload.turn.locked():
                log.info(
                    "an object that was being written was given up", object=upload.object_id.name
                )
                del self._uploads[upload_id]
                await abandon(upload.writer, upload.object_id)

    async def _expire_in_time(self) -> None:
        while self._uploads:
            first_s = min(upload.expires_at_s for upload in self._uploads.values())
            await asyncio.sleep(max(first_s - self._now_s(), self.bounds.upload_idle_s / 10))
            await self.expire()

    def _expiry(self) -> float:
        return self._now_s() + self.bounds.upload_idle_s

    def _find(self, owner: Hashable, upload_id: str) -> _Upload:
        upload = self._uploads.get(upload_id)
        # Whoever guesses another's name for it learns no more than with a wrong one.
        if upload is None or upload.owner != owner:
            host_id = _host_of(upload_id)
            if host_id in (None, self.host_id):
                raise _unknown(upload_id)
            raise Elsewhere(host_id)
        return upload

    def _give_up(self, upload_id: str) -> None:
        if (upload := self._uploads.pop(upload_id, None)) is not None:
            self.discard(upload.writer, upload.object_id)


def _host_of(upload_id: str) -> HostId | None:
    """The host whose copy has a write, by the write's name; None for what is no such name."""
    try:
        return names.parse_host(upload_id.rpartition("@")[2])
    except errors.InvalidRequest:
        return None


def _unknown(upload_id: str) -> errors.NotFound:
    return errors.NotFound(
        f"nothing is being written as {upload_id[:40]!r}: it was committed or given up, or it"
        " waited too long for its next part"
    )


def gone(host_id: HostId) -> errors.NotFound:
    """What became of a write whose copy of the provider is not there any more."""
    return errors.NotFound(
        "what was being written is lost: the copy of the provider where it was begun, on"
        f" {host_id}, has ended; begin it anew"
    )

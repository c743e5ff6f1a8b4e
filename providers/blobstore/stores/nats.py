"""A store in JetStream: an object store for each container, there wherever a lattice is.

A bucket's name is ``{beginning}__{namespace}__{container}``, with what it can't have escaped; in it
objects have their own names, in the format of NATS's tools.
"""

from lattice import errors
from lattice.aio.tasks import TaskGroup
from lattice.bus import Bus, Containers, ObjectWriter, StoredObject
from providers.blobstore.settings import NatsSettings
from providers.blobstore.stores import (
    ContainerId,
    ObjectId,
    ObjectInfo,
    Page,
    Part,
    Writer,
    escaping,
    no_container,
    no_object,
    replaced,
    writing,
)

STREAM_BYTES_MAX = 251
"""Longest name of a bucket: a stream's is at most 255, and begins with ``OBJ_``."""


class NatsStore:
    """On the connection of the provider's host."""

    def __init__(self, bus: Bus, settings: NatsSettings) -> None:
        self._bus = bus
        self._settings = settings
        self._remote = bus.containers()
        self._tasks = TaskGroup("blobstore copies")

    @property
    def label(self) -> str:
        return f"NATS buckets {self._settings.bucket}"

    async def aclose(self) -> None:
        await self._tasks.join()

    async def ping(self) -> None:
        # Whether there is such a bucket makes no difference: JetStream has answered.
        await self._containers.created_at_s(self._settings.bucket)

    async def create_container(self, container: ContainerId) -> None:
        await self._containers.create(self._bucket(container), replicas=self._settings.replicas)

    async def container_created_at_s(self, container: ContainerId) -> float | None:
        return await self._containers.created_at_s(self._bucket(container))

    async def containers(self, namespace: str) -> list[str]:
        beginning = f"{self._settings.bucket}__{escaping.token(namespace)}__"
        buckets = await self._containers.names(beginning)
        names = (escaping.from_token(bucket.removeprefix(beginning)) for bucket in buckets)
        return sorted(filter(None, names))

    async def delete_container(self, container: ContainerId) -> None:
        await self._containers.delete(self._bucket(container))

    async def objects(self, container: ContainerId, cursor: str | None, count: int) -> Page:
        try:
            found, is_last = await self._containers.objects(
                self._bucket(container), after=cursor, count=count
            )
        except errors.NotFound:
            raise no_container(container) from None
        return Page([_info(each) for each in found], None if is_last else found[-1].name)

    async def info(self, object_id: ObjectId) -> ObjectInfo | None:
        found = await self._stored(object_id)
        return _info(found) if found else None

    async def read(
        self, object_id: ObjectId, start: int, size: int, *, version: str | None = None
    ) -> Part:
        found = await self._stored(object_id)
        if found is None:
            raise no_object(object_id)
        if version not in (None, found.nuid):
            raise replaced(object_id)
        bucket = self._bucket(object_id.container)
        try:
            data = await self._containers.read(bucket, found, start, size)
        except errors.NotFound:
            raise no_container(object_id.container) from None
        return Part(_info(found), data)

    async def writer(self, object_id: ObjectId) -> Writer:
        bucket = self._bucket(object_id.container)
        try:
            writer = await self._containers.writer(bucket, object_id.name)
        except errors.NotFound:
            raise no_container(object_id.container) from None
        return _NatsWriter(writer, object_id)

    async def delete(self, object_id: ObjectId) -> None:
        try:
            await self._containers.remove(self._bucket(object_id.container), object_id.name)
        except errors.NotFound:
            raise no_container(object_id.container) from None

    async def copy(self, source: ObjectId, target: ObjectId) -> None:
        await writing.copy(self, source, target, self._tasks)

    async def _stored(self, object_id: ObjectId) -> StoredObject | None:
        try:
            return await self._containers.info(self._bucket(object_id.container), object_id.name)
        except errors.NotFound:
            raise no_container(object_id.container) from None

    @property
    def _containers(self) -> Containers:
        # While disconnected a write would wait, and be sent when its caller has long given up.
        if not self._bus.is_connected:
            raise errors.Unavailable(f"{self.label}: not connected to NATS")
        return self._remote

    def _bucket(self, container: ContainerId) -> str:
        parts = (escaping.token(container.namespace), escaping.token(container.name))
        bucket = "__".join((self._settings.bucket, *parts))
        if len(bucket) > STREAM_BYTES_MAX:
            raise errors.PayloadTooLarge(
                f"name of container {container.name!r} as a bucket's", len(bucket), STREAM_BYTES_MAX
            )
        return bucket


class _NatsWriter:
    def __init__(self, writer: ObjectWriter, object_id: ObjectId) -> None:
        self._writer = writer
        self._object_id = object_id

    async def append(self, data: bytes) -> None:
        try:
            await self._writer.append(data)
        except errors.NotFound:
            raise no_container(self._object_id.container) from None

    async def commit(self) -> ObjectInfo:
        try:
            return _info(await self._writer.commit())
        except errors.NotFound:
            raise no_container(self._object_id.container) from None

    async def abort(self) -> None:
        try:
            await self._writer.abort()
        except errors.NotFound:
            return


def _info(stored: StoredObject) -> ObjectInfo:
    return ObjectInfo(stored.name, stored.size, stored.stored_at_s, stored.nuid)

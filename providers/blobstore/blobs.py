"""What both contracts do, for one link: names and sizes checked, then done by the link's store."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from lattice import errors
from providers.blobstore import bounds as sizes
from providers.blobstore.bounds import Bounds
from providers.blobstore.stores import (
    ContainerId,
    ObjectId,
    ObjectInfo,
    Page,
    Part,
    Store,
    no_container,
    no_object,
)
from providers.blobstore.transfers import Transfers
from providers.blobstore.uploads import Uploads


@dataclass(frozen=True, slots=True, kw_only=True)
class Blobs:
    """One link's containers. Everything raises ``InvalidRequest`` or ``PayloadTooLarge`` for names
    out of bounds, and what ``Store`` raises.
    """

    owner: Hashable
    """The link, to which what is being written belongs."""
    namespace: str
    store: Store
    bounds: Bounds
    uploads: Uploads
    transfers: Transfers

    def container(self, name: str) -> ContainerId:
        sizes.check_name("name of the container", name, self.bounds.container_bytes_max)
        return ContainerId(self.namespace, name)

    def object(self, container: str, name: str) -> ObjectId:
        sizes.check_name("name of the object", name, self.bounds.name_bytes_max)
        return ObjectId(self.container(container), name)

    async def create_container(self, name: str) -> None:
        """Make a container; one that is there stays as it is.

        Raises:
            InvalidRequest: there are as many as may be.
        """
        container = self.container(name)
        if await self.store.container_created_at_s(container) is not None:
            return
        count = len(await self.store.containers(self.namespace))
        if count >= self.bounds.containers_max:
            raise errors.InvalidRequest(
                f"there are {count} containers, at the limit of {self.bounds.containers_max};"
                " delete one, or raise containers_max",
                detail={"count": count, "limit": self.bounds.containers_max},
            )
        await self.store.create_container(container)

    async def has_container(self, name: str) -> bool:
        return await self.store.container_created_at_s(self.container(name)) is not None

    async def container_created_at_s(self, name: str) -> float:
        """
        Raises:
            NotFound: there is no such container.
        """
        container = self.container(name)
        created_at_s = await self.store.container_created_at_s(container)
        if created_at_s is None:
            raise no_container(container)
        return created_at_s

    async def containers(self) -> list[str]:
        return await self.store.containers(self.namespace)

    async def delete_container(self, name: str) -> None:
        await self.store.delete_container(self.container(name))

    async def clear(self, name: str) -> None:
        """Remove every object of a container, as many as there were when it began."""
        container = self.container(name)
        cursor: str | None = None
        while True:
            page = await self.store.objects(container, cursor, self.bounds.page_objects_max)
            for each in page.objects:
                await self.store.delete(ObjectId(container, each.name))
            cursor = page.cursor
            if cursor is None:
                return

    async def objects(self, container: str, cursor: str | None, count: int | None) -> Page:
        """A page of a container's objects, of as many as asked for and as may be."""
        if cursor is not None:
            # Three times as long at most: it may be a name, escaped.
            sizes.check_name("cursor", cursor, 3 * self.bounds.name_bytes_max)
        most = self.bounds.page_objects_max
        if count is not None and count < 1:
            raise errors.InvalidRequest("a page must have room for 1 object or more")
        return await self.store.objects(
            self.container(container), cursor, most if count is None else min(count, most)
        )

    async def has_object(self, container: str, name: str) -> bool:
        return await self.store.info(self.object(container, name)) is not None

    async def info(self, container: str, name: str) -> ObjectInfo:
        """
        Raises:
            NotFound: there is no such object, or container.
        """
        object_id = self.object(container, name)
        found = await self.store.info(object_id)
        if found is None:
            raise no_object(object_id)
        return found

    async def read(
        self, container: str, name: str, start: int, size: int, *, version: str | None = None
    ) -> Part:
        """Up to ``size`` bytes from ``start``.

        Raises:
            NotFound, Conflict: as ``Store.read``.
            PayloadTooLarge: more than one call may read.
        """
        object_id = self.object(container, name)
        sizes.check_chunk("range", size, self.bounds)
        async with self.transfers.turn():
            return await self.store.read(object_id, start, size, version=version)

    async def read_whole(self, container: str, name: str, start: int, end: int) -> bytes:
        """Bytes ``start`` to ``end``, both included, or as many of these as there are.

        Raises:
            NotFound: there is no such object, or container.
            PayloadTooLarge: there are more than one call may read.
        """
        found = await self.info(container, name)
        size = min(end + 1, found.size) - start
        if size <= 0:
            return b""
        part = await self.read(container, name, start, size, version=found.version)
        return part.data

    async def write(self, container: str, name: str, data: bytes) -> ObjectInfo:
        """Make an object what ``data`` is, at once.

        Raises:
            NotFound: there is no such container.
            PayloadTooLarge: so large it may not be.
        """
        object_id = self.object(container, name)
        sizes.check_chunk("data", len(data), self.bounds)
        sizes.check_object(len(data), self.bounds)
        async with self.transfers.turn(len(data)):
            writer = await self.store.writer(object_id)
            try:
                await writer.append(data)
                return await writer.commit()
            except BaseException:
                self.uploads.discard(writer, object_id)
                raise

    async def begin(self, container: str, name: str) -> str:
        """Begin to write an object in parts; see ``Uploads``."""
        return await self.uploads.begin(self.owner, self.store, self.object(container, name))

    async def append(self, upload_id: str, offset: int, data: bytes) -> int:
        async with self.transfers.turn(len(data)):
            return await self.uploads.append(self.owner, upload_id, offset, data)

    async def commit(self, upload_id: str) -> ObjectInfo:
        async with self.transfers.turn():
            return await self.uploads.commit(self.owner, upload_id)

    async def abort(self, upload_id: str) -> None:
        await self.uploads.abort(self.owner, upload_id)

    async def delete(self, container: str, name: str) -> None:
        await self.store.delete(self.object(container, name))

    async def delete_all(self, container: str, names: Sequence[str]) -> None:
        """Remove objects one after another.

        Raises:
            InvalidRequest: they are more than one call may name.
        """
        if len(names) > self.bounds.page_objects_max:
            raise errors.InvalidRequest(
                f"{len(names)} names are over the limit of {self.bounds.page_objects_max}",
                detail={"count": len(names), "limit": self.bounds.page_objects_max},
            )
        objects = [self.object(container, name) for name in names]
        for each in objects:
            await self.store.delete(each)

    async def copy(self, source: ObjectId, target: ObjectId) -> None:
        """Make ``target`` what ``source`` is.

        Raises:
            NotFound, Conflict: as ``Store.copy``.
        """
        async with self.transfers.turn():
            await self.store.copy(source, target)

    async def move(self, source: ObjectId, target: ObjectId) -> None:
        """``copy``, then remove the source; between the two there are both."""
        await self.copy(source, target)
        if source != target:
            await self.store.delete(source)

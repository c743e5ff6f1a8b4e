"""A store in the memory of its process: for development, tests, and data that may be lost."""

import heapq
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from lattice import errors
from lattice.aio.tasks import TaskGroup
from providers.blobstore.bounds import Bounds
from providers.blobstore.stores import (
    ContainerId,
    ObjectId,
    ObjectInfo,
    Page,
    Part,
    Writer,
    no_container,
    no_object,
    replaced,
    writing,
)

ENTRY_OVERHEAD_BYTES = 500
"""Charged for each object and container on top of its content: the Python objects that hold it."""


@dataclass(slots=True)
class _Container:
    created_at_s: float
    objects: dict[str, tuple[ObjectInfo, bytes]] = field(default_factory=dict)


class MemoryStore:
    """Nothing here waits, so every operation is atomic."""

    label = "memory"

    def __init__(self, bounds: Bounds, *, now_s: Callable[[], float] = time.time) -> None:
        self.bounds = bounds
        """May be replaced at any time; what is held already stays."""
        self._now_s = now_s
        self._containers: dict[ContainerId, _Container] = {}
        self._size_bytes = 0
        self._writes = 0
        self._tasks = TaskGroup("blobstore copies")

    async def aclose(self) -> None:
        await self._tasks.join()
        self._containers.clear()
        self._size_bytes = 0

    async def ping(self) -> None:
        return

    async def create_container(self, container: ContainerId) -> None:
        if container not in self._containers:
            self.take(ENTRY_OVERHEAD_BYTES)
            self._containers[container] = _Container(self._now_s())

    async def container_created_at_s(self, container: ContainerId) -> float | None:
        found = self._containers.get(container)
        return found.created_at_s if found else None

    async def containers(self, namespace: str) -> list[str]:
        return sorted(each.name for each in self._containers if each.namespace == namespace)

    async def delete_container(self, container: ContainerId) -> None:
        if (found := self._containers.pop(container, None)) is not None:
            self.give_back(ENTRY_OVERHEAD_BYTES)
            for _, data in found.objects.values():
                self.give_back(ENTRY_OVERHEAD_BYTES + len(data))

    async def objects(self, container: ContainerId, cursor: str | None, count: int) -> Page:
        held = self._objects(container)
        following = (name for name in held if cursor is None or name > cursor)
        names = heapq.nsmallest(count + 1, following)
        found = [held[name][0] for name in names[:count]]
        return Page(found, found[-1].name if found and len(names) > count else None)

    async def info(self, object_id: ObjectId) -> ObjectInfo | None:
        found = self._objects(object_id.container).get(object_id.name)
        return found[0] if found else None

    async def read(
        self, object_id: ObjectId, start: int, size: int, *, version: str | None = None
    ) -> Part:
        found = self._objects(object_id.container).get(object_id.name)
        if found is None:
            raise no_object(object_id)
        info, data = found
        if version not in (None, info.version):
            raise replaced(object_id)
        return Part(info, data[start : start + size])

    async def writer(self, object_id: ObjectId) -> Writer:
        self._objects(object_id.container)
        return _MemoryWriter(self, object_id)

    async def delete(self, object_id: ObjectId) -> None:
        found = self._objects(object_id.container).pop(object_id.name, None)
        if found is not None:
            self.give_back(ENTRY_OVERHEAD_BYTES + len(found[1]))

    async def copy(self, source: ObjectId, target: ObjectId) -> None:
        await writing.copy(self, source, target, self._tasks)

    def put(self, object_id: ObjectId, data: bytes) -> ObjectInfo:
        """Make an object what ``data`` is, whose bytes were taken already."""
        held = self._objects(object_id.container)
        before = held.get(object_id.name)
        if before is not None:
            self.give_back(len(before[1]))
        else:
            self.take(ENTRY_OVERHEAD_BYTES)
        self._writes += 1
        info = ObjectInfo(object_id.name, len(data), self._now_s(), str(self._writes))
        held[object_id.name] = (info, data)
        return info

    def take(self, size_bytes: int) -> None:
        """
        Raises:
            ProviderError: there is no room for so much.
        """
        total_bytes = self._size_bytes + size_bytes
        if total_bytes > self.bounds.memory_bytes_max:
            raise errors.ProviderError(
                f"memory is full: {total_bytes} bytes would be over memory_bytes_max,"
                f" {self.bounds.memory_bytes_max}",
                detail={"size": total_bytes, "limit": self.bounds.memory_bytes_max},
            )
        self._size_bytes = total_bytes

    def give_back(self, size_bytes: int) -> None:
        self._size_bytes -= size_bytes

    def _objects(self, container: ContainerId) -> dict[str, tuple[ObjectInfo, bytes]]:
        found = self._containers.get(container)
        if found is None:
            raise no_container(container)
        return found.objects


class _MemoryWriter:
    def __init__(self, store: MemoryStore, object_id: ObjectId) -> None:
        self._store = store
        self._object_id = object_id
        self._parts: list[bytes] = []

    async def append(self, data: bytes) -> None:
        self._store.take(len(data))
        self._parts.append(data)

    async def commit(self) -> ObjectInfo:
        info = self._store.put(self._object_id, b"".join(self._parts))
        self._parts = []
        return info

    async def abort(self) -> None:
        parts, self._parts = self._parts, []
        self._store.give_back(sum(map(len, parts)))

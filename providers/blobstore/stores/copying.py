"""Copies within a backend that can't do it by itself: read in parts, and written as one object."""

from lattice import limits
from providers.blobstore.stores import ObjectId, Store, no_object

PART_BYTES = limits.MIB
"""Held in memory at a time."""


async def copy(store: Store, source: ObjectId, target: ObjectId) -> None:
    """See ``Store.copy``: the version holds the parts together."""
    found = await store.info(source)
    if found is None:
        raise no_object(source)
    writer = await store.writer(target)
    try:
        for start in range(0, found.size, PART_BYTES):
            part = await store.read(source, start, PART_BYTES, version=found.version)
            await writer.append(part.data)
        await writer.commit()
    finally:
        await writer.abort()

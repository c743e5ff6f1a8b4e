"""Writes that end early, and copies within a backend that can't make them by itself."""

import asyncio

import structlog

from lattice import errors, limits
from lattice.aio.tasks import TaskGroup
from providers.blobstore.stores import ObjectId, Store, Writer, no_object

log = structlog.get_logger()

PART_BYTES = limits.MIB
"""Of a copy, held in memory at a time."""

ABORT_TIMEOUT_S = 10.0
"""For a backend to remove what was written; one that is away can't, and must not hold us up."""


async def abandon(writer: Writer, object_id: ObjectId) -> None:
    """Have a backend leave nothing of a write, as far as it can; never fails.

    For a task of its own: the time of the call that failed may be up.
    """
    try:
        async with asyncio.timeout(ABORT_TIMEOUT_S):
            await writer.abort()
    except (TimeoutError, errors.LatticeError) as error:
        log.warning(
            "what was written of an object could not be removed",
            object=object_id.name,
            error=str(error),
        )


async def copy(store: Store, source: ObjectId, target: ObjectId, tasks: TaskGroup) -> None:
    """See ``Store.copy``: read in parts, which the version holds together, and written as one."""
    found = await store.info(source)
    if found is None:
        raise no_object(source)
    writer = await store.writer(target)
    try:
        for start in range(0, found.size, PART_BYTES):
            part = await store.read(source, start, PART_BYTES, version=found.version)
            await writer.append(part.data)
        await writer.commit()
    except BaseException:
        tasks.spawn(abandon(writer, target), name="give up a copy")
        raise

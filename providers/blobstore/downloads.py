"""Objects that are being sent to actors chunk by chunk, after ``Blobstore.GetObject``.

The next chunk sets out when the actor has answered for the one before: so an actor that is slow is
not overrun, and the provider holds one chunk for each of them.
"""

from collections.abc import Awaitable, Callable

import structlog

from lattice import errors
from lattice.aio.tasks import TaskGroup
from lattice.wire import codec
from providers.blobstore import payloads
from providers.blobstore.blobs import Blobs
from providers.blobstore.bounds import Bounds
from providers.blobstore.stores import ObjectInfo
from providers.sdk import Context, Link

log = structlog.get_logger()

INTERFACE = "wasmcloud:blobstore"
OPERATION = "ChunkReceiver.ReceiveChunk"


class Downloads:
    """All of one provider."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        """May be replaced at any time."""
        self._tasks = TaskGroup("blobstore downloads")

    def check_room(self) -> None:
        """
        Raises:
            Overloaded: as many objects are being sent as may be.
        """
        if len(self._tasks) >= self.bounds.downloads_max:
            raise errors.Overloaded(
                f"{self.bounds.downloads_max} objects are being sent to actors, as many as"
                " downloads_max allows"
            )

    def begin(
        self,
        context: Context,
        held: Callable[[], Awaitable[None]],
        link: Link,
        blobs: Blobs,
        container: str,
        of: ObjectInfo,
        *,
        start: int,
        end: int,
        chunk_bytes: int,
        encoding: payloads.Encoding,
    ) -> None:
        """Send bytes ``start`` to ``end``, the latter not included, behind the caller's back.

        The store is held until then, and ``held`` lets it go.
        """

        async def send() -> None:
            try:
                for at in range(start, end, chunk_bytes):
                    size = min(chunk_bytes, end - at)
                    part = await blobs.read(container, of.name, at, size, version=of.version)
                    chunk = chunk_of(container, of.name, part.data, at, at + size >= end)
                    answer = await context.call(
                        link.source_id,
                        INTERFACE,
                        OPERATION,
                        encoding.pack(chunk),
                        link_name=link.name,
                    )
                    if _is_cancelled(answer):
                        return
            except errors.LatticeError as error:
                log.warning(
                    "an object could not be sent to the end",
                    actor=link.source_id,
                    object=of.name,
                    error=error.text,
                )
            finally:
                await held()

        self._tasks.spawn(send(), name=f"send an object to {link.source_id}")

    async def join(self) -> None:
        """Return when nothing is being sent."""
        await self._tasks.join()

    async def aclose(self) -> None:
        await self._tasks.aclose()


def chunk_of(
    container: str, name: str, data: bytes, offset: int, is_last: bool
) -> dict[str, object]:
    return {
        "objectId": name,
        "containerId": container,
        "bytes": data,
        "offset": offset,
        "isLast": is_last,
    }


def _is_cancelled(answer: bytes) -> bool:
    """
    Raises:
        InvalidRequest: the answer is of no encoding that the contract has.
    """
    decoded = codec.named(payloads.unpack(answer), ("cancelDownload",))
    return isinstance(decoded, dict) and decoded.get("cancelDownload") is True

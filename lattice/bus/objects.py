"""JetStream object stores: bytes too large for a message, by name."""

import asyncio
import hashlib

import nats.js.errors
from nats.js import JetStreamContext, api
from nats.js.object_store import ObjectStore as NatsObjectStore

from lattice import errors, limits
from lattice.bus.translation import translated

TRANSFER_TIMEOUT_S = 60.0
"""For one object: the largest module over a slow line; a broken transfer must not wait for ever."""

CHUNK_BYTES_MAX = 128 * limits.KIB
"""Bytes of an object in one message, where the server takes such: what NATS's own tools use."""


class ObjectStore:
    """One object store."""

    def __init__(self, jetstream: JetStreamContext, store: NatsObjectStore, name: str) -> None:
        self._jetstream = jetstream
        self._store = store
        self.name = name

    async def put(self, name: str, data: bytes) -> str:
        """Store an object whole, replacing one of the same name; returns its SHA-256 in hex.

        Raises:
            Unavailable: NATS is away, or the store is full.
        """
        # Looked at each time: after a reconnection it may be a server that takes less.
        room = self._jetstream._nc.max_payload  # noqa: SLF001 - known nowhere else here
        options = api.ObjectMetaOptions(max_chunk_size=min(CHUNK_BYTES_MAX, room))
        with translated(self.name):
            async with asyncio.timeout(TRANSFER_TIMEOUT_S):
                await self._store.put(name, data, api.ObjectMeta(options=options))
        return hashlib.sha256(data).hexdigest()

    async def get(self, name: str, *, bytes_max: int) -> bytes:
        """Fetch an object whole; its content is checked against the digest it was stored with.

        Raises:
            NotFound: there is none of that name, or it has expired.
            PayloadTooLarge: it is larger than ``bytes_max``; nothing is fetched.
            Unavailable: NATS is away, or the transfer broke.
        """
        with translated(self.name):
            async with asyncio.timeout(TRANSFER_TIMEOUT_S):
                try:
                    info = await self._store.get_info(name)
                    if (info.size or 0) > bytes_max:
                        raise errors.PayloadTooLarge(f"object {name}", info.size or 0, bytes_max)
                    result = await self._store.get(name)
                except (nats.js.errors.NotFoundError, nats.js.errors.ObjectNotFoundError):
                    raise errors.NotFound(f"{self.name} has no object {name!r}") from None
                except nats.js.errors.DigestMismatchError:
                    raise errors.Unavailable(f"object {name} arrived damaged") from None
        return result.data or b""

    async def has(self, name: str) -> bool:
        with translated(self.name):
            try:
                async with asyncio.timeout(limits.STATE_TIMEOUT_S):
                    await self._store.get_info(name)
            except (nats.js.errors.NotFoundError, nats.js.errors.ObjectNotFoundError):
                return False
        return True

    async def delete(self, name: str) -> None:
        """Remove an object; it is no error if it is not there.

        Raises:
            Unavailable: NATS is away.
        """
        with translated(self.name):
            try:
                async with asyncio.timeout(limits.STATE_TIMEOUT_S):
                    await self._store.delete(name)
            except (nats.js.errors.NotFoundError, nats.js.errors.ObjectNotFoundError):
                return


async def open_objects(
    jetstream: JetStreamContext,
    name: str,
    *,
    ttl_s: float | None,
    bytes_max: int | None,
    replicas: int,
) -> ObjectStore:
    with translated(name):
        try:
            store = await jetstream.object_store(name)
        except (nats.js.errors.NotFoundError, nats.js.errors.BucketNotFoundError):
            config = api.ObjectStoreConfig(
                bucket=name, ttl=ttl_s, max_bytes=bytes_max, replicas=replicas
            )
            try:
                store = await jetstream.create_object_store(bucket=name, config=config)
            except nats.js.errors.BadRequestError:
                # Another process made it in the meantime.
                store = await jetstream.object_store(name)
    return ObjectStore(jetstream, store, name)

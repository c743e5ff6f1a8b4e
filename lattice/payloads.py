"""Payloads too large for a message: by reference, in an object store that forgets them."""

import hashlib

import structlog

from lattice import errors, limits, subjects
from lattice.bus import Bus, ObjectStore
from lattice.wire.invocation import PayloadRef

log = structlog.get_logger()


class Payloads:
    """What one process stores there, and fetches."""

    def __init__(self, bus: Bus, lattice: str) -> None:
        self._bus = bus
        self._bucket = subjects.payload_bucket(lattice)
        self._store: ObjectStore | None = None

    @property
    def inline_bytes_max(self) -> int:
        """Largest payload that travels inside its envelope on this connection."""
        room = self._bus.max_payload - limits.ENVELOPE_BYTES_MARGIN
        return min(limits.INLINE_PAYLOAD_BYTES, room)

    async def put(self, name: str, payload: bytes) -> PayloadRef:
        """Store a payload for one reader.

        Raises:
            PayloadTooLarge: over the limit of all payloads.
            Unavailable: NATS is away, or the store is full.
        """
        check_size(len(payload))
        store = await self._open()
        digest = await store.put(name, payload)
        return PayloadRef(name=name, size=len(payload), digest=digest)

    async def take(self, ref: PayloadRef) -> bytes:
        """Fetch a payload and remove it from the store.

        Raises:
            LatticeError: as ``read``.
        """
        payload = await self.read(ref)
        await (await self._open()).delete(ref.name)
        return payload

    async def read(self, ref: PayloadRef) -> bytes:
        """Fetch a payload that others will read as well.

        Raises:
            PayloadTooLarge: it says it is over the limit, or turns out to be.
            InvalidRequest: it is not what the reference says.
            Unavailable: NATS is away, or the payload has expired.
        """
        check_size(ref.size)
        store = await self._open()
        try:
            payload = await store.get(ref.name, bytes_max=limits.PAYLOAD_BYTES_MAX)
        except errors.NotFound as error:
            raise errors.Unavailable(f"the payload is gone: {error.text}") from error
        if hashlib.sha256(payload).hexdigest() != ref.digest:
            raise errors.InvalidRequest("the payload is not the one its reference names")
        return payload

    async def discard(self, ref: PayloadRef) -> None:
        """Remove a payload that nobody will read; should that fail, it expires."""
        try:
            await (await self._open()).delete(ref.name)
        except (errors.Unavailable, errors.Denied) as error:
            log.debug("a payload could not be removed", error=error.text)

    async def _open(self) -> ObjectStore:
        if self._store is None:
            self._store = await self._bus.objects(
                self._bucket,
                ttl_s=limits.PAYLOAD_TTL_S,
                bytes_max=limits.PAYLOAD_STORE_BYTES_MAX,
            )
        return self._store


def check_size(size: int) -> None:
    """Hold the bytes of a payload to the limit of all payloads.

    Raises:
        PayloadTooLarge: it is over that.
    """
    if size > limits.PAYLOAD_BYTES_MAX:
        raise errors.PayloadTooLarge("payload", size, limits.PAYLOAD_BYTES_MAX)

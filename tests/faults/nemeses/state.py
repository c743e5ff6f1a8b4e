"""The state is suddenly empty, gone, or has no room to grow."""

import asyncio
from contextlib import suppress

import nats
import nats.errors
import nats.js.errors

from lattice import subjects
from tests.faults.arena import LATTICE
from tests.faults.nemeses.nemesis import Nemesis
from tests.faults.schedule import Window

FILLER = "FILLER"
FILLER_BYTES = 900_000
"""Of one message: just under what the server takes."""


class PurgedBucket(Nemesis):
    """The bucket of links is empty all of a sudden; what runs must go on with what it knew.

    Nobody writes links meanwhile, and at the end they are put back as from a backup.
    """

    name = "bucket purged"
    bound_s = 5.0
    deleted = False

    async def inject(self, window: Window) -> str:
        self.arena.links_writable.clear()
        # Whoever is writing has a deadline.
        await asyncio.sleep(2.5)
        self._client = await nats.connect(self.arena.urls[0])
        self._jetstream = self._client.jetstream(timeout=5)
        bucket = subjects.state_bucket(LATTICE)
        self._stream = f"KV_{bucket}"
        # Not by a watch, as the client lists keys: it would leave a consumer behind.
        info = await self._jetstream.stream_info(self._stream, subjects_filter=">")
        self._config = info.config
        store = await self._jetstream.key_value(bucket)
        self._backup = {}
        for subject in info.state.subjects or {}:
            key = subject.removeprefix(f"$KV.{bucket}.")
            with suppress(nats.js.errors.KeyNotFoundError):
                self._backup[key] = (await store.get(key)).value
        if self.deleted:
            await self._jetstream.delete_stream(self._stream)
        else:
            await self._jetstream.purge_stream(self._stream)
        return bucket

    async def heal(self) -> None:
        bucket = subjects.state_bucket(LATTICE)
        if self.deleted:
            with suppress(nats.js.errors.BadRequestError):
                await self._jetstream.add_stream(self._config)
        store = await self._jetstream.key_value(bucket)
        for key, value in self._backup.items():
            await store.put(key, value or b"")
        await self._client.close()
        self.arena.links_writable.set()


class DeletedBucket(PurgedBucket):
    """The bucket of links is gone, stream and all."""

    name = "bucket deleted"
    deleted = True


class DiskFull(Nemesis):
    """JetStream has no room left: writes are refused, and everything else goes on."""

    name = "disk full"
    lasts_s = (2.0, 4.0)
    rest_s = 5.0
    total = True
    servers = frozenset({1})

    async def inject(self, window: Window) -> str:
        self._client = await nats.connect(self.arena.urls[0])
        self._jetstream = self._client.jetstream(timeout=5)
        await self._jetstream.add_stream(name=FILLER, subjects=[FILLER])
        filler = bytes(FILLER_BYTES)
        with suppress(nats.js.errors.APIError, nats.errors.Error):
            while True:
                await self._jetstream.publish(FILLER, filler)
        return "JetStream"

    async def heal(self) -> None:
        await self._jetstream.delete_stream(FILLER)
        await self._client.close()

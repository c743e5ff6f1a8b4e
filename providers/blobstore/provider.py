"""The blob provider: one store per backend that its links name, shared by equal links.

A store is opened with the first link that needs it, and closed when the last such link is gone and
the last call over it has ended. Opening one connects to nothing yet: a backend that is down makes
calls fail, not links, and both work again once it is back.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from lattice import errors
from lattice.names import HostId
from providers.blobstore import payloads, settings, wasi, wasmcloud
from providers.blobstore.blobs import Blobs
from providers.blobstore.bounds import CEILINGS, Bounds
from providers.blobstore.downloads import Downloads
from providers.blobstore.settings import (
    FilesystemSettings,
    MemorySettings,
    NatsSettings,
    S3Settings,
    Settings,
)
from providers.blobstore.stores import Store
from providers.blobstore.stores.filesystem import FilesystemStore
from providers.blobstore.stores.memory import MemoryStore
from providers.blobstore.stores.nats import NatsStore
from providers.blobstore.transfers import Transfers
from providers.blobstore.uploads import Elsewhere, Uploads, gone
from providers.sdk import Call, Health, Link, LinkedProvider, backends, configuration
from providers.sdk.linked import LinkKey
from providers.sdk.sharing import Share, Shared

PACKAGES = (("wasi", "blobstore"), ("wasmcloud", "blobstore"))
"""Namespaces and packages of the contracts, as links name them; either link serves both."""


@dataclass(frozen=True, slots=True)
class Leading:
    """What a link leads to."""

    owner: LinkKey
    """Whose writes in parts they are."""
    share: Share[Settings, Store]
    namespace: str


class Blobstore(LinkedProvider[Leading]):
    """Serves ``wasi:blobstore`` and ``wasmcloud:blobstore`` from NATS, S3, a directory or its own
    memory, as each link says.
    """

    provider_keys = settings.PROVIDER_KEYS

    def __init__(self) -> None:
        super().__init__()
        self._bounds = Bounds()
        self._memory = MemoryStore(self._bounds)
        self._uploads = Uploads(self._bounds)
        self._downloads = Downloads(self._bounds)
        self._transfers = Transfers(self._bounds.transfers_max)
        self._stores = Shared(self._open, self._close)

    async def drain(self) -> None:
        await self._downloads.join()

    async def stop(self) -> None:
        await self._downloads.aclose()
        await self._uploads.aclose()
        await self._stores.aclose()
        await self._memory.aclose()

    async def handle(self, call: Call) -> bytes:
        """Execute one operation of either contract.

        Raises:
            NoLink: no such link is known.
            InvalidRequest: no such operation.
            Unavailable: the backend did not answer in time.
            LatticeError: what the operation says of the call.
        """
        leading = self.opened_for(call)
        async with (
            self._stores.using(leading.share) as store,
            backends.answering(store, call.deadline),
        ):
            try:
                return await self._execute(call, leading)
            except Elsewhere as found:
                return await self._pass_on(call, found.host_id)

    async def health(self) -> Health:
        return await backends.health(share.thing for share in self._stores.shares)

    def read_config(self, config: Mapping[str, str]) -> None:
        bounds = configuration.bounds(Bounds, config, CEILINGS)
        settings.parse(config, {}, lattice=self.context.lattice)
        settings.parse_namespace(config, {}, source="actor")
        if bounds.transfers_max != self._bounds.transfers_max:
            self._transfers = Transfers(bounds.transfers_max)
        self._uploads.host_id = self.context.host_id
        self._bounds = self._memory.bounds = bounds
        self._uploads.bounds = self._downloads.bounds = bounds

    async def open_link(self, link: Link, before: Leading | None) -> Leading:
        self.check_serves(link, *PACKAGES)
        configuration.tell_ignored(link.target_config, settings.LINK_KEYS, source=link.source_id)
        where = settings.parse(self.config, link.target_config, lattice=self.context.lattice)
        namespace = settings.parse_namespace(self.config, link.target_config, source=link.source_id)
        if before is not None and (before.share.where, before.namespace) == (where, namespace):
            # What is being written goes on.
            return before
        return Leading(link.key, await self._stores.take(where), namespace)

    async def close_link(self, opened: Leading) -> None:
        # What is being written would end up where the link leads no more.
        await self._uploads.abort_of(opened.owner)
        await self._stores.release(opened.share)

    async def _pass_on(self, call: Call, host_id: HostId) -> bytes:
        """Have a step of a write done by the copy of the provider that has begun it.

        Raises:
            NotFound: it has ended, and the write with it.
            LatticeError: as ``Context.pass_on``.
        """
        try:
            return await self.context.pass_on(call, host_id)
        except errors.NotRunning:
            if call.operation in wasi.OPERATIONS:
                return wasi.refusal(gone(host_id))
            raise gone(host_id) from None

    async def _execute(self, call: Call, leading: Leading) -> bytes:
        blobs = Blobs(
            owner=leading.owner,
            namespace=leading.namespace,
            store=leading.share.thing,
            bounds=self._bounds,
            uploads=self._uploads,
            transfers=self._transfers,
        )
        if call.operation in wasi.OPERATIONS:
            return await wasi.execute(blobs, call.operation, call.payload)
        if call.operation in wasmcloud.OPERATIONS:
            face = wasmcloud.Face(
                blobs=blobs,
                link=call.link,
                context=self.context,
                downloads=self._downloads,
                encoding=payloads.encoding_of(call.payload),
                hold=lambda: self._stores.hold(leading.share),
            )
            return await wasmcloud.execute(face, call.operation, call.payload)
        raise errors.InvalidRequest(f"{call.interface} has no operation {call.operation[:100]!r}")

    async def _open(self, where: Settings) -> Store:
        match where:
            case MemorySettings():
                return self._memory
            case FilesystemSettings():
                return FilesystemStore(where.root)
            case NatsSettings():
                return NatsStore(self.context.bus, where)
            case S3Settings():
                # The library takes the better part of a second to load.
                return await asyncio.to_thread(_open_s3, where)

    async def _close(self, store: Store) -> None:
        # The memory is the provider's own: a link put anew finds its data where it was.
        if store is not self._memory:
            await store.aclose()


def _open_s3(where: S3Settings) -> Store:
    try:
        from providers.blobstore.stores.s3 import S3Store  # noqa: PLC0415 - an optional extra
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("aiobotocore", "botocore"):
            raise
        raise errors.ProviderError(
            "backend=s3 needs a library; install it with: pip install 'lattice-runtime[s3]'"
        ) from None
    return S3Store(where)

"""The blob provider: one store per backend that its links name, shared by equal links.

A store is opened with the first link that needs it, and closed when the last such link is gone and
the last call over it has ended. Opening one connects to nothing yet: a backend that is down makes
calls fail, not links, and both work again once it is back.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import structlog

from lattice import errors
from providers.blobstore import settings, wasi, wasmcloud
from providers.blobstore.blobs import Blobs
from providers.blobstore.bounds import Bounds
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
from providers.blobstore.uploads import Uploads
from providers.sdk import Call, Context, Health, Link, Provider, backends, configuration

log = structlog.get_logger()

PACKAGES = frozenset({("wasi", "blobstore"), ("wasmcloud", "blobstore")})
"""Namespaces and packages of the contracts, as links name them; either link serves both."""

LinkKey = tuple[str, ...]


class _Holding:
    """A store, and how many links and running calls need it."""

    def __init__(self, where: Settings, store: Store) -> None:
        self.where = where
        self.store = store
        self.holders = 0


@dataclass(frozen=True, slots=True)
class _Taken:
    """What a link that was taken leads to."""

    holding: _Holding
    namespace: str


class Blobstore(Provider):
    """Serves ``wasi:blobstore`` and ``wasmcloud:blobstore`` from NATS, S3, a directory or its own
    memory, as each link says.
    """

    def __init__(self) -> None:
        self._context: Context | None = None
        self._config: dict[str, str] = {}
        self._bounds = Bounds()
        self._memory = MemoryStore(self._bounds)
        self._uploads = Uploads(self._bounds)
        self._downloads = Downloads(self._bounds)
        self._transfers = Transfers(self._bounds.transfers_max)
        self._holdings: dict[Settings, _Holding] = {}
        self._links: dict[LinkKey, tuple[Link, _Taken | errors.LatticeError]] = {}

    async def start(self, context: Context, config: Mapping[str, str]) -> None:
        """
        Raises:
            InvalidRequest: the configuration is wrong.
        """
        self._context = context
        self._take_config(config)

    async def drain(self) -> None:
        await self._downloads.join()

    async def stop(self) -> None:
        await self._downloads.aclose()
        await self._uploads.aclose()
        for holding in list(self._holdings.values()):
            await holding.store.aclose()
        await self._memory.aclose()
        self._holdings.clear()
        self._links.clear()

    async def update_config(self, config: Mapping[str, str]) -> None:
        """Take a changed configuration; links that it moves go to their new backend at once.

        Raises:
            InvalidRequest: the configuration is wrong, and the one before it stays in force.
        """
        self._take_config(config)
        for link, _ in list(self._links.values()):
            try:
                await self.put_link(link)
            except errors.LatticeError:
                # Kept with the link: calls over it say so.
                continue

    async def put_link(self, link: Link) -> None:
        if link.target != self._started.provider_id:
            return
        _, before = self._links.get(link.key, (None, None))
        taken: _Taken | None = None
        try:
            taken = await self._take(link)
        except errors.LatticeError as refusal:
            self._links[link.key] = (link, refusal)
            raise
        else:
            self._links[link.key] = (link, taken)
        finally:
            if taken != before:
                # What is being written would end up where the link leads no more.
                await self._uploads.abort_of(link.key)
            await self._let_go(before)

    async def delete_link(self, link: Link) -> None:
        _, before = self._links.pop(link.key, (None, None))
        await self._uploads.abort_of(link.key)
        await self._let_go(before)

    async def handle(self, call: Call) -> bytes:
        """Execute one operation of either contract.

        Raises:
            NoLink: no such link is known.
            InvalidRequest: no such operation.
            Unavailable: the backend did not answer in time.
            LatticeError: what ``put_link`` said of the link, or the operation of the call.
        """
        _, taken = self._links.get(call.link.key, (None, None))
        if taken is None:
            raise errors.NoLink(
                call.source, call.link.name, call.interface, target=self._started.provider_id
            )
        if isinstance(taken, errors.LatticeError):
            raise taken.copy()
        taken.holding.holders += 1
        try:
            with backends.answered_by(call.deadline, taken.holding.store.label) as deadline:
                async with asyncio.timeout_at(deadline):
                    return await self._execute(call, taken)
        finally:
            await self._release(taken.holding)

    async def health(self) -> Health:
        """Healthy when every backend in use answers; the message names those that don't."""
        stores = [holding.store for holding in self._holdings.values()]
        failures = await asyncio.gather(*(backends.failure(store) for store in stores))
        down = "; ".join(sorted(failure for failure in failures if failure))
        return Health(healthy=not down, message=down or None)

    @property
    def _started(self) -> Context:
        assert self._context is not None, "start comes before everything else"
        return self._context

    async def _execute(self, call: Call, taken: _Taken) -> bytes:
        blobs = Blobs(
            owner=call.link.key,
            namespace=taken.namespace,
            store=taken.holding.store,
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
                context=self._started,
                downloads=self._downloads,
                hold=lambda: self._hold(taken.holding),
            )
            return await wasmcloud.execute(face, call.operation, call.payload)
        raise errors.InvalidRequest(f"{call.interface} has no operation {call.operation[:100]!r}")

    def _take_config(self, config: Mapping[str, str]) -> None:
        bounds = settings.parse_bounds(config)
        settings.parse(config, {}, lattice=self._started.lattice)
        settings.parse_namespace(config, {}, source="actor")
        if unknown := configuration.ignored(config, settings.PROVIDER_KEYS):
            log.warning("provider configuration keys ignored", keys=unknown)
        if bounds.transfers_max != self._bounds.transfers_max:
            self._transfers = Transfers(bounds.transfers_max)
        self._config = dict(config)
        self._bounds = self._memory.bounds = bounds
        self._uploads.bounds = self._downloads.bounds = bounds

    async def _take(self, link: Link) -> _Taken:
        """What a link means, its store counted as needed once more."""
        if (link.wit_namespace, link.wit_package) not in PACKAGES:
            raise errors.InvalidRequest(
                "the provider serves wasi:blobstore and wasmcloud:blobstore, "
                f"not {link.wit_namespace}:{link.wit_package}"
            )
        where = settings.parse(self._config, link.target_config, lattice=self._started.lattice)
        namespace = settings.parse_namespace(
            self._config, link.target_config, source=link.source_id
        )
        if unknown := configuration.ignored(link.target_config, settings.LINK_KEYS):
            log.warning("link configuration keys ignored", source=link.source_id, keys=unknown)
        holding = self._holdings.get(where)
        if holding is None:
            holding = self._holdings[where] = _Holding(where, await self._open(where))
        holding.holders += 1
        return _Taken(holding, namespace)

    async def _open(self, where: Settings) -> Store:
        match where:
            case MemorySettings():
                return self._memory
            case FilesystemSettings():
                return FilesystemStore(where.root)
            case NatsSettings():
                return NatsStore(self._started.bus, where)
            case S3Settings():
                # The library takes the better part of a second to load.
                return await asyncio.to_thread(_open_s3, where)

    def _hold(self, holding: _Holding) -> Callable[[], Awaitable[None]]:
        holding.holders += 1
        return lambda: self._release(holding)

    async def _let_go(self, taken: _Taken | errors.LatticeError | None) -> None:
        if isinstance(taken, _Taken):
            await self._release(taken.holding)

    async def _release(self, holding: _Holding) -> None:
        holding.holders -= 1
        if holding.holders > 0:
            return
        self._holdings.pop(holding.where, None)
        # The memory is the provider's own: a link put anew finds its data where it was.
        if holding.store is not self._memory:
            await holding.store.aclose()


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

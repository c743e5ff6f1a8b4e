"""The key-value provider: one store per backend that its links name, shared by equal links.

A store is opened with the first link that needs it, and closed when the last such link is gone and
the last call over it has ended. Opening one connects to nothing yet: a backend that is down makes
calls fail, not links, and both work again once it is back.
"""

from collections.abc import Mapping

from lattice import errors
from providers.keyvalue import contract, settings, wasi
from providers.keyvalue.bounds import CEILINGS, Bounds
from providers.keyvalue.settings import (
    MemorySettings,
    NatsSettings,
    RedisSettings,
    Settings,
    SqliteSettings,
)
from providers.keyvalue.stores import Store
from providers.keyvalue.stores.memory import MemoryStore
from providers.keyvalue.stores.nats import NatsStore
from providers.keyvalue.stores.sqlite import SqliteStore
from providers.sdk import Call, Health, Link, LinkedProvider, backends, configuration
from providers.sdk.sharing import Share, Shared

FACES = {contract.PACKAGE: contract.execute, wasi.PACKAGE: wasi.execute}
"""What is served, by the namespace and package that a link names; all on the same stores."""

Leading = Share[tuple[Settings, Bounds], Store]
"""What a link leads to."""


class KeyValue(LinkedProvider[Leading]):
    """Serves ``wasmcloud:keyvalue`` and ``wasi:keyvalue`` from what each link says."""

    provider_keys = settings.PROVIDER_KEYS

    def __init__(self) -> None:
        super().__init__()
        self._bounds = Bounds()
        self._memories: dict[str, MemoryStore] = {}
        self._stores = Shared(self._open, self._close)

    async def stop(self) -> None:
        await self._stores.aclose()
        for memory in self._memories.values():
            await memory.aclose()

    async def handle(self, call: Call) -> bytes:
        """Execute one operation of the contract.

        Raises:
            NoLink: no such link is known.
            Unavailable: the backend did not answer in time.
            LatticeError: what the link's face says of the call.
        """
        share = self.opened_for(call)
        _, bounds = share.where
        execute = FACES[call.link.wit_namespace, call.link.wit_package]
        async with (
            self._stores.using(share) as store,
            backends.answering(store, call.deadline),
        ):
            return await execute(store, bounds, call.operation, call.payload)

    async def health(self) -> Health:
        return await backends.health(share.thing for share in self._stores.shares)

    def read_config(self, config: Mapping[str, str]) -> None:
        bounds = configuration.bounds(Bounds, config, CEILINGS)
        settings.parse(config, {}, lattice=self.context.lattice)
        self._bounds = bounds
        for memory in self._memories.values():
            memory.bounds = bounds

    async def open_link(self, link: Link, _before: Leading | None) -> Leading:
        self.check_serves(link, *FACES)
        configuration.tell_ignored(link.target_config, settings.LINK_KEYS, source=link.source_id)
        where = settings.parse(self.config, link.target_config, lattice=self.context.lattice)
        return await self._stores.take((where, self._bounds))

    async def close_link(self, opened: Leading) -> None:
        await self._stores.release(opened)

    async def _open(self, wanted: tuple[Settings, Bounds]) -> Store:
        where, bounds = wanted
        match where:
            case MemorySettings(bucket=bucket):
                return self._memories.setdefault(bucket, MemoryStore(bounds))
            case RedisSettings():
                return _open_redis(where, bounds)
            case NatsSettings():
                return NatsStore(self.context.bus, where, bounds)
            case SqliteSettings():
                return SqliteStore(where, bounds)

    async def _close(self, store: Store) -> None:
        # Memory is the provider's own: a link put anew finds its data where it was.
        if not isinstance(store, MemoryStore):
            await store.aclose()


def _open_redis(where: RedisSettings, bounds: Bounds) -> Store:
    try:
        from providers.keyvalue.stores.redis import RedisStore  # noqa: PLC0415 - an optional extra
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "redis":
            raise
        raise errors.ProviderError(
            "backend=redis needs a library; install it with: pip install 'lattice-runtime[redis]'"
        ) from None
    return RedisStore(where, bounds)

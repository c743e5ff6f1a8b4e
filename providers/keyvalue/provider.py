"""The key-value provider: one store per backend that its links name, shared by equal links.

A store is opened with the first link that needs it, and closed when the last such link is gone and
the last call over it has ended. Opening one connects to nothing yet: a backend that is down makes
calls fail, not links, and both work again once it is back.
"""

import asyncio
from collections.abc import Mapping

import structlog

from lattice import errors
from providers.keyvalue import contract, settings, wasi
from providers.keyvalue.bounds import Bounds
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
from providers.sdk import Call, Context, Health, Link, Provider, backends, configuration

log = structlog.get_logger()

FACES = {contract.PACKAGE: contract.execute, wasi.PACKAGE: wasi.execute}
"""What is served, by the namespace and package that a link names; all on the same stores."""

LinkKey = tuple[str, ...]


class _Holding:
    """A store, and how many links and running calls need it."""

    def __init__(self, where: Settings, bounds: Bounds, store: Store) -> None:
        self.where = where
        self.bounds = bounds
        self.store = store
        self.holders = 0


class KeyValue(Provider):
    """Serves ``wasmcloud:keyvalue`` and ``wasi:keyvalue`` from what each link says."""

    def __init__(self) -> None:
        self._context: Context | None = None
        self._config: dict[str, str] = {}
        self._bounds = Bounds()
        self._memories: dict[str, MemoryStore] = {}
        self._holdings: dict[tuple[Settings, Bounds], _Holding] = {}
        self._links: dict[LinkKey, tuple[Link, _Holding | errors.LatticeError]] = {}

    async def start(self, context: Context, config: Mapping[str, str]) -> None:
        """
        Raises:
            InvalidRequest: the configuration is wrong.
        """
        self._context = context
        self._take_config(config)

    async def stop(self) -> None:
        for holding in list(self._holdings.values()):
            await holding.store.aclose()
        for memory in self._memories.values():
            await memory.aclose()
        self._memories.clear()
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
        try:
            holding = self._hold(link)
        except errors.LatticeError as refusal:
            self._links[link.key] = (link, refusal)
            raise
        else:
            self._links[link.key] = (link, holding)
        finally:
            await self._release(before)

    async def delete_link(self, link: Link) -> None:
        _, before = self._links.pop(link.key, (None, None))
        await self._release(before)

    async def handle(self, call: Call) -> bytes:
        """Execute one operation of the contract.

        Raises:
            NoLink: no such link is known.
            Unavailable: the backend did not answer in time.
            LatticeError: what ``put_link`` said of the link, or the link's face of the call.
        """
        _, holding = self._links.get(call.link.key, (None, None))
        if holding is None:
            raise errors.NoLink(
                call.source, call.link.name, call.interface, target=self._started.provider_id
            )
        if isinstance(holding, errors.LatticeError):
            raise holding.copy()
        holding.holders += 1
        try:
            with backends.answered_by(call.deadline, holding.store.label) as deadline:
                async with asyncio.timeout_at(deadline):
                    execute = FACES[call.link.wit_namespace, call.link.wit_package]
                    return await execute(
                        holding.store, holding.bounds, call.operation, call.payload
                    )
        finally:
            await self._release(holding)

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

    def _take_config(self, config: Mapping[str, str]) -> None:
        bounds = settings.parse_bounds(config)
        settings.parse(config, {}, lattice=self._started.lattice)
        if unknown := configuration.ignored(config, settings.PROVIDER_KEYS):
            log.warning("provider configuration keys ignored", keys=unknown)
        self._config = dict(config)
        self._bounds = bounds
        for memory in self._memories.values():
            memory.bounds = bounds

    def _hold(self, link: Link) -> _Holding:
        """The store that a link means, counted as needed once more."""
        if (link.wit_namespace, link.wit_package) not in FACES:
            raise errors.InvalidRequest(
                f"the provider serves {' and '.join(map(':'.join, FACES))}, "
                f"not {link.wit_namespace}:{link.wit_package}"
            )
        if unknown := configuration.ignored(link.target_config, settings.LINK_KEYS):
            log.warning("link configuration keys ignored", source=link.source_id, keys=unknown)
        where = settings.parse(self._config, link.target_config, lattice=self._started.lattice)
        key = (where, self._bounds)
        holding = self._holdings.get(key)
        if holding is None:
            holding = _Holding(where, self._bounds, self._open(where))
            self._holdings[key] = holding
        holding.holders += 1
        return holding

    def _open(self, where: Settings) -> Store:
        match where:
            case MemorySettings(bucket=bucket):
                return self._memories.setdefault(bucket, MemoryStore(self._bounds))
            case RedisSettings():
                return _open_redis(where, self._bounds)
            case NatsSettings():
                return NatsStore(self._started.bus, where, self._bounds)
            case SqliteSettings():
                return SqliteStore(where, self._bounds)

    async def _release(self, holding: _Holding | errors.LatticeError | None) -> None:
        if not isinstance(holding, _Holding):
            return
        holding.holders -= 1
        if holding.holders > 0:
            return
        self._holdings.pop((holding.where, holding.bounds), None)
        # Memory is the provider's own: a link put anew finds its data where it was.
        if not isinstance(holding.store, MemoryStore):
            await holding.store.aclose()


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

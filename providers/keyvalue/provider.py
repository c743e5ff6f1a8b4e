"""The key-value provider: one store per backend that its links name, shared by equal links.

A link with the provider as its target lets its source use a store; one with the provider as its
source has its target told of changes.

A store is opened with the first link that needs it, and closed when the last such link is gone and
the last call over it has ended. Opening one connects to nothing yet: a backend that is down makes
calls fail, not links, and both work again once it is back.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from lattice import errors
from providers.keyvalue import contract, settings, wasi
from providers.keyvalue.bounds import CEILINGS, Bounds
from providers.keyvalue.settings import (
    MemorySettings,
    NatsSettings,
    RedisSettings,
    Settings,
    SqliteSettings,
    WatchSettings,
)
from providers.keyvalue.stores import Store
from providers.keyvalue.stores.memory import MemoryStore
from providers.keyvalue.stores.nats import NatsStore
from providers.keyvalue.stores.sqlite import SqliteStore
from providers.keyvalue.watcher import Watcher
from providers.sdk import Call, Health, Link, LinkedProvider, backends, configuration
from providers.sdk.configuration import folded
from providers.sdk.sharing import Share, Shared

FACES = {contract.PACKAGE: contract.execute, wasi.PACKAGE: wasi.execute}
"""What is served, by the namespace and package that a link names; all on the same stores."""

Leading = Share[tuple[Settings, Bounds], Store]
"""What a link leads to."""


WATCHER = "watcher"
"""The interface of ``wasi:keyvalue`` that actors export and the provider calls."""


@dataclass(frozen=True, slots=True)
class Watching:
    """An actor that is told of changes."""

    share: Leading
    settings: WatchSettings
    watcher: Watcher


class KeyValue(LinkedProvider[Leading | Watching]):
    """Serves ``wasmcloud:keyvalue`` and ``wasi:keyvalue`` from what each link says, and calls
    ``wasi:keyvalue/watcher`` of actors that want to be told of changes.
    """

    provider_keys = settings.PROVIDER_KEYS

    def __init__(self) -> None:
        super().__init__()
        self._bounds = Bounds()
        self._memories: dict[str, MemoryStore] = {}
        self._stores = Shared(self._open, self._close)

    async def drain(self) -> None:
        await asyncio.gather(*(watcher.drain() for watcher in self._watchers))

    async def stop(self) -> None:
        await asyncio.gather(*(watcher.aclose() for watcher in self._watchers))
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
        assert isinstance(share, Share), "calls come along links to the provider"
        _, bounds = share.where
        execute = FACES[call.link.wit_namespace, call.link.wit_package]
        async with (
            self._stores.using(share) as store,
            backends.answering(store, call.deadline),
        ):
            return await execute(store, bounds, call.operation, call.payload)

    async def health(self) -> Health:
        found = await backends.health(share.thing for share in self._stores.shares)
        problems = [watcher.problem for watcher in self._watchers if watcher.problem]
        if not problems:
            return found
        problems += [found.message] if found.message else []
        return Health(healthy=False, message="; ".join(sorted(problems)))

    def read_config(self, config: Mapping[str, str]) -> None:
        bounds = configuration.bounds(Bounds, config, CEILINGS)
        settings.parse(config, {}, lattice=self.context.lattice)
        self._bounds = bounds
        for memory in self._memories.values():
            memory.bounds = bounds

    async def open_link(self, link: Link, before: Leading | Watching | None) -> Leading | Watching:
        if link.source_id == self.context.provider_id and _may_watch(link):
            return await self._open_watch(link, before)
        self.check_serves(link, *FACES)
        if link.interfaces == [WATCHER]:
            raise errors.InvalidRequest(
                f"a link for {WATCHER} has the provider as its source: lattice link put"
                f" {link.target} {link.source_id} wasi keyvalue --interface {WATCHER}"
            )
        configuration.tell_ignored(link.target_config, settings.LINK_KEYS, source=link.source_id)
        where = settings.parse(self.config, link.target_config, lattice=self.context.lattice)
        return await self._stores.take((where, self._bounds))

    async def close_link(self, opened: Leading | Watching) -> None:
        if isinstance(opened, Watching):
            await opened.watcher.forget()
            opened = opened.share
        await self._stores.release(opened)

    @property
    def _watchers(self) -> list[Watcher]:
        return [each.watcher for each in self.links.values() if isinstance(each, Watching)]

    async def _open_watch(self, link: Link, before: Leading | Watching | None) -> Watching:
        """Have the link's target told of changes.

        Raises:
            InvalidRequest: a setting is wrong.
            ProviderError: the backend tells of no changes.
            Unavailable: it is away, or JetStream is.
        """
        # wasmCloud's example manifest writes it for the target.
        config = {**folded(link.target_config), **folded(link.source_config)}
        configuration.tell_ignored(config, settings.WATCH_KEYS, target=link.target)
        wanted = settings.parse_watch(self.config, config, lattice=self.context.lattice)
        if isinstance(before, Watching):
            if (before.settings, before.share.where[1]) == (wanted, self._bounds):
                return before
            # Two at a time would tell the actor of one change twice.
            await before.watcher.forget()
        share = await self._stores.take((wanted.where, self._bounds))
        watcher = Watcher(share.thing, wanted, link, self.context)
        try:
            await watcher.open()
        except BaseException:
            await self._stores.release(share)
            raise
        return Watching(share, wanted, watcher)

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


def _may_watch(link: Link) -> bool:
    """Whether a link's target may be one that watches."""
    is_named = not link.interfaces or WATCHER in link.interfaces
    return (link.wit_namespace, link.wit_package) == wasi.PACKAGE and is_named


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

"""The lattice's links and configs: mirrors to read from, compare-and-set to write."""

import asyncio
import json
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from typing import Protocol, Self
from weakref import WeakValueDictionary

import structlog
from pydantic import ValidationError

from lattice import errors, limits, names, subjects
from lattice.aio.tasks import TaskGroup
from lattice.bus import Bucket, Bus
from lattice.bus.buckets import Changes
from lattice.state import links
from lattice.state.links import Difference, LinkTable
from lattice.wire import control
from lattice.wire.control import ComponentSpec, DeleteLink, Link, StoredClaims

log = structlog.get_logger()

CAUGHT_UP_TIMEOUT_S = 1.0
"""How long a writer waits for its own write to show in the mirror before it answers anyway."""

SECRET_PREFIX = "SECRET_"  # noqa: S105 - the name of a reference, not a secret
"""Config names that begin so are references into a secrets backend, stored like any other."""


class Listener(Protocol):
    """Whoever acts on changes: called in the loop, must not wait."""

    def links_changed(self, difference: Difference) -> None: ...

    def configs_changed(self, config_names: frozenset[str]) -> None: ...


class State:
    """A process's view of the lattice's state. Open it, then read; every write is acknowledged."""

    def __init__(self, data: Bucket, configs: Bucket, listener: Listener) -> None:
        self._data = data
        self._configs = configs
        self._listener = listener
        self._data_mirror = data.mirror(self._data_changed)
        self._config_mirror = configs.mirror(self._configs_changed)
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self.links = LinkTable()

    @classmethod
    async def open(cls, bus: Bus, lattice: str, listener: Listener, tasks: TaskGroup) -> Self:
        """Open the lattice's buckets, making them when this is its first host, and follow them.

        Returns when both have been read in full.

        Raises:
            Unavailable: JetStream is off, or does not answer.
        """
        data = await bus.bucket(subjects.state_bucket(lattice))
        configs = await bus.bucket(subjects.config_bucket(lattice))
        state = cls(data, configs, listener)
        mirrors = (state._data_mirror, state._config_mirror)
        for mirror in mirrors:
            bus.on_reconnect(mirror.resync)
            tasks.guard(mirror.run, name=f"follow {mirror.name}")
        try:
            async with asyncio.timeout(limits.STATE_TIMEOUT_S):
                for mirror in mirrors:
                    await mirror.synced.wait()
        except TimeoutError:
            raise errors.Unavailable(f"the state of lattice {lattice} could not be read") from None
        return state

    def config(self, name: str) -> dict[str, str] | None:
        """A named config, or None."""
        if (value := self._config_mirror.values.get(name)) is None:
            return None
        try:
            return control.parse_config(value)
        except errors.LatticeError:
            log.warning("a config is not a map of strings", config=name)
            return None

    @property
    def configs(self) -> dict[str, dict[str, str]]:
        """Every named config; what is not a map of strings is left out."""
        configs = {name: self.config(name) for name in self._config_mirror.values}
        return {name: config for name, config in configs.items() if config is not None}

    def merged_config(self, config_names: Iterable[str]) -> dict[str, str]:
        """Several named configs as one; later ones win, missing ones count as empty.

        References into a secrets backend are no configuration and left out.
        """
        return control.merge_configs(
            [self.config(name) or {} for name in config_names if not is_secret(name)]
        )

    @property
    def claims(self) -> list[StoredClaims]:
        """What signed artefacts say of themselves, by subject; what can't be read is left out."""
        claims = []
        for key, value in sorted(self._data_mirror.values.items()):
            if not subjects.is_claims_key(key):
                continue
            try:
                claims.append(StoredClaims.model_validate_json(value))
            except ValidationError:
                # wasmCloud 0.x wrote some of another form.
                log.debug("stored claims can't be read; not touched", key=key)
        return claims

    def check_configs(self, config_names: Iterable[str]) -> None:
        """Make sure that every named config exists.

        Raises:
            NotFound: in wasmCloud's words, naming each that is missing.
        """
        missing = [name for name in config_names if name not in self._config_mirror.values]
        if missing:
            texts = [
                f"Secret reference {name} not found in config store. "
                if is_secret(name)
                else f"Configuration {name} not found in config store. "
                for name in missing
            ]
            raise errors.NotFound("Failed to validate configuration and secrets. " + "".join(texts))

    async def catch_up(self, config_names: Collection[str]) -> None:
        """Wait for configs that were put through another host a moment ago to be known here.

        Raises:
            InvalidRequest: more of them than anything may name.
            Unavailable: NATS is away.
        """
        # Each that is not known costs a read.
        if len(config_names) > limits.CONFIGS_MAX:
            raise errors.InvalidRequest(
                f"{len(config_names)} configs are named, over the limit of {limits.CONFIGS_MAX}"
            )
        for name in config_names:
            if name in self._config_mirror.values:
                continue
            with suppress(errors.InvalidRequest):
                if (entry := await self._configs.get(name)) is not None:
                    await self._config_mirror.wait_for(
                        entry.revision, timeout_s=CAUGHT_UP_TIMEOUT_S
                    )

    async def put_link(self, link: Link) -> None:
        """Store a link. When this returns, it is in the bucket and in force on this host.

        Raises:
            Conflict: the name is taken by a link to another target.
            InvalidRequest: not a proper link.
            NotFound: it names a config that does not exist.
            Unavailable: NATS is away; the link may have been stored.
        """
        _check_names(link)
        config_names = [*link.source_config, *link.target_config]
        await self.catch_up(config_names)
        self.check_configs(config_names)
        await self._change_spec(link.source_id, lambda spec: links.put(spec, link))

    async def delete_link(self, request: DeleteLink) -> Link | None:
        """Delete a link, and return it if there was one.

        Raises:
            Conflict: several links match.
            Unavailable: NATS is away; the link may have been deleted.
        """
        deleted: Link | None = None

        def change(spec: ComponentSpec) -> ComponentSpec:
            nonlocal deleted
            spec, deleted = links.delete(spec, request)
            return spec

        names.parse_entity(request.source_id)
        await self._change_spec(request.source_id, change)
        return deleted

    async def note_started(self, entity: str, reference: str) -> None:
        """Store what was started under an id, unless that is known; its links stay.

        wasmCloud 1.x keeps the first reference for ever, so a later one does not replace it.

        Raises:
            Conflict, InvalidRequest, Unavailable: as ``put_link``.
        """

        def change(spec: ComponentSpec) -> ComponentSpec:
            return spec if spec.url else spec.model_copy(update={"url": reference})

        await self._change_spec(entity, change)

    async def put_claims(self, claims: StoredClaims) -> None:
        """Store what a signed artefact says of itself, unless just that is stored already.

        Raises:
            InvalidRequest: its subject is no public key.
            Unavailable: NATS is away; it may have been stored.
        """
        key = subjects.claims_key(names.parse_entity(claims.subject))
        value = json.dumps(claims.to_json(), separators=(",", ":")).encode()
        if self._data_mirror.values.get(key) != value:
            revision = await self._data.put(key, value)
            await self._data_mirror.wait_for(revision, timeout_s=CAUGHT_UP_TIMEOUT_S)

    async def put_config(self, name: str, config: bytes) -> None:
        """Store a named config as its JSON came, replacing one of that name.

        Raises:
            InvalidRequest: not a name for a config, or no map of strings.
            PayloadTooLarge: over the limit for configs.
            Unavailable: NATS is away; it may have been stored.
        """
        names.parse_config_name(name)
        control.parse_config(config)
        revision = await self._configs.put(name, config)
        await self._config_mirror.wait_for(revision, timeout_s=CAUGHT_UP_TIMEOUT_S)

    async def delete_config(self, name: str) -> None:
        """Delete a named config; it is no error if there is none.

        Raises:
            InvalidRequest, Unavailable: as ``put_config``.
        """
        names.parse_config_name(name)
        revision = await self._configs.delete(name)
        await self._config_mirror.wait_for(revision, timeout_s=CAUGHT_UP_TIMEOUT_S)

    async def _change_spec(
        self, source: str, change: Callable[[ComponentSpec], ComponentSpec]
    ) -> None:
        """Change a source's spec and wait until the change shows here."""
        # Taking turns here leaves only other hosts to lose against: 200 writers at once would
        # otherwise need some 20,000 attempts.
        async with self._turns.setdefault(source, asyncio.Lock()):
            revision = await self._replace_spec(source, change)
        if revision is not None:
            await self._data_mirror.wait_for(revision, timeout_s=CAUGHT_UP_TIMEOUT_S)

    async def _replace_spec(
        self, source: str, change: Callable[[ComponentSpec], ComponentSpec]
    ) -> int | None:
        """Write by compare-and-set, deciding anew whenever somebody else won.

        Returns the new revision, or None when there was nothing to change.
        """
        key = subjects.component_key(source)
        for _ in range(limits.CAS_ATTEMPTS_MAX):
            entry = await self._data.get(key)
            stored = entry.value if entry else b"{}"
            spec = _parse_spec(source, stored)
            changed = change(spec)
            if changed == spec:
                return None
            value = _rewritten(stored, spec, changed)
            with suppress(errors.Conflict):
                return await self._data.put(key, value, expected=entry.revision if entry else 0)
        raise errors.Conflict(f"the links of {source} are being written by too many at once")

    def _data_changed(self, changes: Changes) -> None:
        put: list[Link] = []
        deleted: list[Link] = []
        for key, value in changes.items():
            source = subjects.component_of(key)
            if source is None:
                _note_other_key(key)
                continue
            try:
                spec = _parse_spec(source, b"{}" if value is None else value)
            except errors.LatticeError as error:
                log.warning("a source's links can't be read", source=source, error=error.text)
                continue
            difference = self.links.replace(source, spec.links)
            put += difference.put
            deleted += difference.deleted
        if put or deleted:
            self._listener.links_changed(Difference(tuple(put), tuple(deleted)))

    def _configs_changed(self, changes: Changes) -> None:
        self._listener.configs_changed(frozenset(changes))


def _parse_spec(source: str, value: bytes) -> ComponentSpec:
    try:
        return ComponentSpec.model_validate_json(value)
    except ValidationError as error:
        raise errors.InvalidRequest(
            f"the stored links of {source} are malformed; not touched: {error.error_count()} errors"
        ) from None


def _rewritten(stored: bytes, spec: ComponentSpec, changed: ComponentSpec) -> bytes:
    """The stored JSON with what changed, and everything else as it stands there.

    A newer host, or another implementation, may keep fields there that we don't know.
    """
    fields = json.loads(stored)
    as_stored = {
        id(link): text for link, text in zip(spec.links, fields.get("links", []), strict=True)
    }
    fields["url"] = changed.url
    fields["links"] = [as_stored.get(id(link)) or link.to_json() for link in changed.links]
    return json.dumps(fields, separators=(",", ":")).encode()


def _note_other_key(key: str) -> None:
    """Say what a key is that holds no links; none of them is ever written or deleted."""
    if subjects.is_older_key(key):
        log.debug("a key of wasmCloud 0.x is left alone", key=key)
    elif not subjects.is_claims_key(key):
        log.warning("an unknown key in the state bucket is left alone", key=key)


def is_secret(config_name: str) -> bool:
    """Whether a config is a reference into a secrets backend."""
    return config_name.startswith(SECRET_PREFIX)


def _check_names(link: Link) -> None:
    names.parse_entity(link.source_id)
    names.parse_entity(link.target)
    names.parse_link_name(link.name)
    names.parse_interface(f"{link.wit_namespace}:{link.wit_package}")
    if len(link.interfaces) > limits.INTERFACES_MAX:
        raise errors.InvalidRequest(
            f"the link names {len(link.interfaces)} interfaces, over the limit of"
            f" {limits.INTERFACES_MAX}"
        )
    for interface in link.interfaces:
        names.parse_interface(f"{link.wit_namespace}:{link.wit_package}/{interface}")

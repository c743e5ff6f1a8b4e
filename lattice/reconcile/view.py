"""What was observed, arranged for the questions that planning asks."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lattice.manifest import (
    APP_ANNOTATION,
    MANAGED_BY,
    MANAGED_BY_ANNOTATION,
    SCALER_ANNOTATION,
    DesiredScaler,
)
from lattice.manifest.resolution import EntityKind
from lattice.reconcile.model import (
    Observed,
    ObservedComponent,
    ObservedHost,
    ObservedProvider,
    component_key,
    link_key,
    provider_key,
)
from lattice.wire.control import Link

Copy = ObservedComponent | ObservedProvider
"""An actor or a provider on one host."""


@dataclass(frozen=True, slots=True)
class Owned:
    """A copy that is marked as an app's."""

    kind: EntityKind
    entity: str
    host: str
    copy: Copy


class View:
    """The hosts that are not dead, and what runs on them."""

    def __init__(self, observed: Observed) -> None:
        self.hosts: dict[str, ObservedHost] = {
            host.id: host
            for host in sorted(observed.hosts.values(), key=lambda host: (host.name, host.id))
            if host.state != "dead"
        }
        self.configs = observed.configs
        self.links_by_key = {link_key(link.order): link for link in observed.links}
        self.configs_of_links = {
            name for link in observed.links for name in (*link.source_config, *link.target_config)
        }
        self._by_lookup: defaultdict[tuple[str, str, str, str], list[Link]] = defaultdict(list)
        for link in observed.links:
            self._by_lookup[link.key].append(link)
        self._copies: defaultdict[tuple[EntityKind, str], dict[str, Copy]] = defaultdict(dict)
        self._owned: defaultdict[str, list[Owned]] = defaultdict(list)
        self.loads: Counter[str] = Counter()
        for host in self.hosts.values():
            for entity, component in host.components.items():
                # A host may tell of one that it stopped a moment ago.
                if component.count:
                    self._add("component", entity, host.id, component)
            for entity, provider in host.providers.items():
                if provider.given_up is None:
                    self._add("provider", entity, host.id, provider)
                else:
                    self._note_owned("provider", entity, host.id, provider)

    def _add(self, kind: EntityKind, entity: str, host: str, copy: Copy) -> None:
        self._copies[kind, entity][host] = copy
        self.loads[host] += 1
        self._note_owned(kind, entity, host, copy)

    def _note_owned(self, kind: EntityKind, entity: str, host: str, copy: Copy) -> None:
        if (app := owner(copy.annotations)) is not None:
            self._owned[app].append(Owned(kind, entity, host, copy))

    @property
    def any_alive(self) -> bool:
        """Whether there is anybody to ask; if not, nothing that is missing means anything."""
        return any(host.state == "alive" for host in self.hosts.values())

    def is_alive(self, host: str) -> bool:
        return host in self.hosts and self.hosts[host].state == "alive"

    def given_up(self) -> Iterator[tuple[str, ObservedProvider]]:
        """Apps' providers that do not run though they were told to, by what they are tried by."""
        for host in self.hosts.values():
            for entity, provider in host.providers.items():
                if provider.given_up is not None and owner(provider.annotations) is not None:
                    yield provider_key(host.id, entity), provider

    def copies(self, kind: EntityKind, entity: str) -> Mapping[str, Copy]:
        """By host."""
        return self._copies.get((kind, entity), {})

    def owned(self, app: str) -> list[Owned]:
        return self._owned.get(app, [])

    def rivals(self, link: Link) -> Iterator[Link]:
        """Links that stand where this one would: same name and interfaces, another target."""
        for other in self._by_lookup.get(link.key, ()):
            if other.target != link.target and _overlap(other.interfaces, link.interfaces):
                yield other

    def label(self, host: str) -> str:
        """A host for people."""
        return self.hosts[host].name or host if host in self.hosts else host


def owner(annotations: Mapping[str, str]) -> str | None:
    """The app that a copy is marked with, if it is one of a reconciler's."""
    if annotations.get(MANAGED_BY_ANNOTATION) != MANAGED_BY:
        return None
    return annotations.get(APP_ANNOTATION)


def is_current(copy: Copy, scaler: DesiredScaler) -> bool:
    """Whether a copy is of a scaler's version: its image, and its list of configs."""
    return (
        copy.reference == scaler.reference and copy.annotations.get(SCALER_ANNOTATION) == scaler.id
    )


def attempt_key(kind: EntityKind, host: str, entity: str) -> str:
    """What attempts at a copy are remembered by."""
    return component_key(host, entity) if kind == "component" else provider_key(host, entity)


def _overlap(some: list[str], others: list[str]) -> bool:
    return not some or not others or not set(some).isdisjoint(others)

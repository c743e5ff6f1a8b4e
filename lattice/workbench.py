"""What stands around a project's actor while it is developed or tested: providers, links, configs.

Pure: from a project to what a lattice shall have for it, and from two such states to the steps that
lead from one to the other. ``lattice dev`` and ``lattice.testing`` carry them out.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from lattice import installed, names
from lattice.project import Abi, Instances, Kind, Link, Project
from lattice.wire import control

ACTOR_COUNT = 100
"""Calls of the actor that may run at the same time: a browser's, or a small load test's."""

REUSE = "lattice.dev/instances"
"""Key of an actor's config by which its instances are kept (docs/guests/instances.md)."""

HTTP_SERVER = "http-server"
MESSAGING = "messaging"

_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """A provider of the project's own."""

    id: str
    reference: str
    config: str
    """Name of the config that it is started with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workbench:
    """What a lattice has for one project's actor."""

    actor_id: str
    actor_config: str
    """Name of the actor's own config."""
    configs: Mapping[str, Mapping[str, str]]
    """By name; every one that is named here."""
    providers: tuple[Provider, ...]
    links: tuple[control.Link, ...]
    url: str | None
    """Where the actor answers HTTP, if it does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """What turns one workbench into another, in this order."""

    delete_links: tuple[control.Link, ...]
    stop_providers: tuple[Provider, ...]
    put_configs: Mapping[str, Mapping[str, str]]
    start_providers: tuple[Provider, ...]
    put_links: tuple[control.Link, ...]
    delete_configs: tuple[str, ...]


def lay_out(project: Project, *, http: str | None = None) -> Workbench:
    """What a project wants around its actor; ``http`` instead of its own address.

    Everything in it is named after the actor, so that several projects share a lattice.

    Raises:
        InvalidRequest: a name that is made from the actor's would be too long.
    """
    bench = _Layout(project)
    for link in project.dev.links:
        bench.add(link)
    match project.actor.kind:
        case Kind.HTTP:
            bench.serve_http(http or project.dev.http)
        case Kind.MESSAGING:
            bench.subscribe()
        case Kind.CUSTOM:
            pass
    return bench.laid_out()


def steps(before: Workbench | None, after: Workbench | None) -> Steps:
    """What leads from one workbench to another; None is an empty lattice."""
    old, new = before or _EMPTY, after or _EMPTY
    stop = tuple(provider for provider in old.providers if provider not in new.providers)
    start = tuple(provider for provider in new.providers if provider not in old.providers)
    return Steps(
        delete_links=tuple(link for link in old.links if link not in new.links),
        stop_providers=stop,
        put_configs={
            name: values for name, values in new.configs.items() if old.configs.get(name) != values
        },
        start_providers=start,
        put_links=tuple(link for link in new.links if link not in old.links),
        delete_configs=tuple(sorted(old.configs.keys() - new.configs.keys())),
    )


def http_address(bench: Workbench) -> str | None:
    """Where a workbench's actor answers HTTP: a host and a port."""
    return None if bench.url is None else bench.url.removeprefix("http://").removesuffix("/")


class _Layout:
    """A workbench in the making."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._actor_id = project.actor.name
        self._actor_config = f"{self._actor_id}-dev"
        own = dict(project.dev.config)
        if project.dev.instances is Instances.REUSE:
            own[REUSE] = "reuse"
        self._configs: dict[str, Mapping[str, str]] = {self._actor_config: own}
        self._providers: dict[str, Provider] = {}
        self._links: list[control.Link] = []
        self._url: str | None = None

    def add(self, link: Link) -> None:
        """The link of an actor, and what it leads to."""
        target = link.target
        if target is None:
            assert link.provider is not None, "the project file has one of both"
            target = self._provider(link.provider, link.provider_config).id
        interface = names.parse_interface(link.interface)
        self._put(
            interface,
            source=self._actor_id,
            target=target,
            name=link.name,
            target_config=self._config(
                f"{self._actor_id}-dev-{interface.package}-{link.name}", link.config
            ),
        )

    def serve_http(self, address: str) -> None:
        provider = self._provider(HTTP_SERVER, {})
        interface = (
            "wasi:http/incoming-handler"
            if self._project.actor.abi is Abi.COMPONENT
            else "wasmcloud:httpserver"
        )
        config = self._config(f"{provider.id}-address", {"address": address})
        self._put(
            names.parse_interface(interface),
            source=provider.id,
            target=self._actor_id,
            source_config=config,
        )
        self._url = f"http://{address}/"

    def subscribe(self) -> None:
        provider = self._provider(MESSAGING, {})
        subjects = {"subscriptions": ",".join(self._project.dev.subscriptions)}
        interface = (
            "wasmcloud:messaging/handler"
            if self._project.actor.abi is Abi.COMPONENT
            else "wasmcloud:messaging"
        )
        self._put(
            names.parse_interface(interface),
            source=provider.id,
            target=self._actor_id,
            source_config=self._config(f"{provider.id}-subjects", subjects),
        )

    def laid_out(self) -> Workbench:
        return Workbench(
            actor_id=self._actor_id,
            actor_config=self._actor_config,
            configs=self._configs,
            providers=tuple(self._providers.values()),
            links=tuple(self._links),
            url=self._url,
        )

    def _put(
        self,
        interface: names.Interface,
        *,
        source: str,
        target: str,
        name: str = "default",
        source_config: list[str] | None = None,
        target_config: list[str] | None = None,
    ) -> None:
        link = control.Link(
            source_id=source,
            target=target,
            name=name,
            wit_namespace=interface.namespace,
            wit_package=interface.package,
            interfaces=[interface.name] if interface.name else [],
            source_config=source_config or [],
            target_config=target_config or [],
        )
        for position, known in enumerate(self._links):
            # Two interfaces of one package under one name are one link.
            if known.key == link.key and known.target == link.target:
                both = sorted({*known.interfaces, *link.interfaces})
                every = not (known.interfaces and link.interfaces)
                self._links[position] = known.model_copy(
                    update={"interfaces": [] if every else both}
                )
                return
        self._links.append(link)

    def _provider(self, text: str, config: Mapping[str, str]) -> Provider:
        """One provider for all links that want the same one with the same config."""
        reference = installed.reference(text)
        base = f"{self._actor_id}-{provider_name(reference)}"
        number = 1
        while (known := self._providers.get(_numbered(base, number))) is not None:
            if (known.reference, self._configs[known.config]) == (reference, config):
                return known
            number += 1
        provider_id = names.parse_entity(_numbered(base, number))
        name = f"{provider_id}-dev"
        self._configs[name] = config
        provider = Provider(id=provider_id, reference=reference, config=name)
        self._providers[provider_id] = provider
        return provider

    def _config(self, name: str, values: Mapping[str, str]) -> list[str]:
        """The names that a link gives for a config, none for an empty one."""
        if not values:
            return []
        self._configs[name] = values
        return [name]


def _numbered(base: str, number: int) -> str:
    return base if number == 1 else f"{base}-{number}"


def provider_name(reference: str) -> str:
    """A name for a provider from its reference: the last part of it, without tag and digest."""
    last = reference.rstrip("/").rpartition("/")[2].partition("@")[0].partition(":")[0]
    return _UNSAFE.sub("-", last).strip("-") or "provider"


_EMPTY = Workbench(actor_id="", actor_config="", configs={}, providers=(), links=(), url=None)

"""A project's actor in a lattice, with all that it wants around it; and all of it gone again.

What stands in the lattice is remembered step by step, so that a step that fails leaves nothing
unknown: the next change goes on from there, and the end takes down what is really there.
"""

import asyncio
from collections.abc import Awaitable, Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from lattice import artefacts, errors, limits, subjects, workbench
from lattice.aio.tasks import TaskGroup
from lattice.artefacts import StoredArtefact
from lattice.cli import auctions, components, files, hosts, outcomes, providers, references
from lattice.cli.connection import Connection
from lattice.project import Project
from lattice.wire import control
from lattice.wire.control import ScaleComponent, StartProvider, UpdateComponent
from lattice.workbench import Provider, Workbench

PROJECT = "lattice.dev/project"
"""Annotation of what ``lattice dev`` has started: the project's folder."""

START_TIMEOUT_MS = int((limits.COMPILE_TIMEOUT_S + 10.0) * 1000)
"""How long a start may take: the host compiles first, and whoever develops waits for that."""

CLEAR_TIMEOUT_S = 20.0
"""For taking everything down: the drain of the actor, the end of its providers, and a moment."""


class Development:
    """What a lattice has for one project."""

    def __init__(self, connection: Connection, project: Project, *, host_id: str) -> None:
        """``host_id``: the host that runs all of it."""
        self._connection = connection
        self._control = connection.control
        self._actor_id = project.actor.name
        self._annotations = {PROJECT: str(project.folder)}
        self._host_id = host_id
        self._have = Workbench(
            actor_id=self._actor_id, actor_config="", configs={}, providers=(), links=(), url=None
        )
        self._stored: StoredArtefact | None = None
        """The module that runs, if it was put into the lattice's store from here."""

    async def change(self, wanted: Workbench, module: Path) -> bool:
        """Make the lattice what is wanted, with this module; whether the module is another one.

        No call fails by it: those that run end in the old code, those that come are for the new
        one, and it takes over only when it is ready to.

        Raises:
            LatticeError: a step failed. What was there before it is still there; an actor whose new
                module is refused goes on with the old one.
        """
        steps = workbench.steps(self._have, wanted)
        for link in steps.delete_links:
            await self._delete_link(link)
        for provider in steps.stop_providers:
            await self._stop_provider(provider)
        for name, values in steps.put_configs.items():
            await self._control.put_config(name, dict(values))
            self._note(configs={**self._have.configs, name: values})
        self._note(actor_config=wanted.actor_config)
        is_new = await self._run(
            module, wanted.actor_config, changed=wanted.actor_config in steps.put_configs
        )
        for provider in steps.start_providers:
            await self._start_provider(provider)
        for link in steps.put_links:
            await self._control.put_link(link)
            self._note(links=(*self._have.links, link))
        for name in steps.delete_configs:
            await self._delete_config(name)
        self._note(url=wanted.url)
        return is_new

    async def clear(self) -> None:
        """Take down everything that was put up; what can't be reached is let be."""
        # In a task of its own: before Python 3.11.3 a time-out in one that was cancelled, as by
        # Ctrl-C, is another cancellation.
        await TaskGroup("development").spawn(self._clear_in_time(), name="clear")

    async def _clear_in_time(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(CLEAR_TIMEOUT_S):
                await self._clear()

    async def _clear(self) -> None:
        # Who brings calls in goes first, and drains; then who serves them, last what that leans on.
        sources = {link.source_id for link in self._have.links}
        first = [provider for provider in self._have.providers if provider.id in sources]
        for provider in first:
            await _tried(self._stop_provider(provider))
        await _tried(self._stop_actor())
        for provider in self._have.providers:
            await _tried(self._stop_provider(provider))
        for link in self._have.links:
            await _tried(self._delete_link(link))
        for name in self._have.configs:
            await _tried(self._delete_config(name))
        await _tried(self._discard(self._stored))

    async def _run(self, module: Path, config: str, *, changed: bool) -> bool:
        """Run the actor with a module; whether it ran with another one before, or not at all.

        ``changed``: whether its config is another one.
        """
        content = files.read(module, limits.MODULE_BYTES_MAX)
        before = self._stored
        stored = await self._store(references.artefact_name(module), content)
        inventory = await self._control.inventory(self._host_id)
        running = next((c for c in inventory.components if c.id == self._actor_id), None)
        if running is not None and running.image_ref == str(stored):
            if changed:
                # Whether its instances are kept is looked at when it is scaled.
                await self._scale(str(stored), config)
            return False
        try:
            if running is None:
                await self._scale(str(stored), config)
            else:
                await self._update(str(stored))
        except errors.LatticeError:
            if self._stored is not before:
                await _tried(self._discard(self._stored))
                self._stored = before
            raise
        if self._stored is not before:
            await _tried(self._discard(before))
        return True

    async def _store(self, name: str, content: bytes) -> StoredArtefact:
        """Put a module into the lattice's store, and note whether it is ours to take out again."""
        bus, lattice = self._connection.bus, self._connection.lattice
        stored = await artefacts.find(bus, lattice, name, content)
        if stored is not None:
            return stored
        self._stored = await artefacts.upload(bus, lattice, name, content)
        return self._stored

    async def _discard(self, stored: StoredArtefact | None) -> None:
        if stored is not None:
            bucket = subjects.artefact_bucket(self._connection.lattice)
            await (await self._connection.bus.objects(bucket)).delete(stored.digest)

    async def _scale(self, reference: str, config: str) -> None:
        await components.scale_and_wait(
            self._connection,
            ScaleComponent(
                component_ref=reference,
                component_id=self._actor_id,
                annotations=self._annotations,
                count=workbench.ACTOR_COUNT,
                host_id=self._host_id,
                config=[config],
            ),
            skip_wait=False,
            wait_timeout_ms=START_TIMEOUT_MS,
        )

    async def _update(self, reference: str) -> None:
        await components.update_and_wait(
            self._connection,
            UpdateComponent(
                component_id=self._actor_id,
                annotations=self._annotations,
                host_id=self._host_id,
                new_component_ref=reference,
            ),
            skip_wait=False,
            wait_timeout_ms=START_TIMEOUT_MS,
        )

    async def _stop_actor(self) -> None:
        found = await hosts.inventories(self._connection)
        ours = [inventory for inventory in found if inventory.host_id == self._host_id]
        for request in components.stop_requests(ours, self._actor_id):
            await components.scale_and_wait(
                self._connection,
                request,
                skip_wait=False,
                wait_timeout_ms=outcomes.WAIT_TIMEOUT_MS,
            )

    async def _start_provider(self, provider: Provider) -> None:
        request = StartProvider(
            provider_id=provider.id,
            provider_ref=provider.reference,
            host_id=self._host_id,
            config=[provider.config],
            annotations=self._annotations,
        )
        await providers.start_and_wait(
            self._connection, request, skip_wait=False, wait_timeout_ms=outcomes.WAIT_TIMEOUT_MS
        )
        self._note(providers=(*self._have.providers, provider))

    async def _stop_provider(self, provider: Provider) -> None:
        with suppress(errors.NotFound):
            await self._control.stop_provider(provider.id, self._host_id)
        left = tuple(each for each in self._have.providers if each != provider)
        self._note(providers=left)

    async def _delete_link(self, link: control.Link) -> None:
        await delete_link(self._connection, link)
        self._note(links=tuple(each for each in self._have.links if each != link))

    async def _delete_config(self, name: str) -> None:
        await self._control.delete_config(name)
        left = {key: value for key, value in self._have.configs.items() if key != name}
        self._note(configs=left)

    def _note(self, **changes: object) -> None:
        self._have = replace(self._have, **changes)  # type: ignore[arg-type]


async def place(
    connection: Connection, project: Project, *, host: str | None, prefer: Iterable[str]
) -> str:
    """The host for a project: the one that is named, one of those preferred, or the least loaded.

    What a killed ``lattice dev`` has left of the same project is taken down first.

    Raises:
        AlreadyExists: somebody else runs something under the actor's id.
        NotFound: no such host, or none would run it.
        Unavailable: no host answers.
    """
    await _remove_leftovers(connection, project)
    if host is None and (preferred := next(iter(prefer), None)) is not None:
        return preferred
    found = await auctions.place(
        connection,
        connection.control.auction_component,
        reference=f"{artefacts.SCHEME}{project.actor.name}@sha256:{'0' * 64}",
        entity_id=project.actor.name,
        host=host,
        constraints={},
    )
    return found.id


async def delete_all_links(connection: Connection) -> None:
    """Delete every link of a lattice: what is left in one that nobody else uses."""
    for link in await connection.control.links():
        await delete_link(connection, link)


async def delete_link(connection: Connection, link: control.Link) -> None:
    await connection.control.delete_link(
        control.DeleteLink(
            source_id=link.source_id,
            name=link.name,
            wit_namespace=link.wit_namespace,
            wit_package=link.wit_package,
            target=link.target,
        )
    )


async def _remove_leftovers(connection: Connection, project: Project) -> None:
    found = await hosts.inventories(connection)
    actor_id, folder = project.actor.name, str(project.folder)
    for inventory in found:
        for component in inventory.components:
            if component.id == actor_id and (component.annotations or {}).get(PROJECT) != folder:
                raise errors.AlreadyExists(
                    f"component {actor_id} runs already on host {inventory.friendly_name}, and not"
                    f" for {folder}: stop it with lattice stop component {actor_id}, or choose"
                    " another lattice with --lattice"
                )
    for request in components.stop_requests(found, actor_id):
        await components.scale_and_wait(
            connection, request, skip_wait=False, wait_timeout_ms=outcomes.WAIT_TIMEOUT_MS
        )
    for inventory in found:
        for provider in inventory.providers:
            if (provider.annotations or {}).get(PROJECT) == folder:
                await connection.control.stop_provider(provider.id, inventory.host_id)


async def _tried(work: Awaitable[None]) -> None:
    """Do what can be done: at the end nobody is left to tell."""
    with suppress(errors.LatticeError):
        await work

"""A project's actor in a test's lattice, built first, with what the project wants around it."""

from collections.abc import Mapping
from pathlib import Path

from lattice import project, workbench
from lattice.guests import building, tools
from lattice.guests.tools import Toolbox
from lattice.project import Project
from lattice.testing.actors import Actor
from lattice.testing.lattices import Backing, Lattice, faked
from lattice.wire import control
from lattice.workbench import Workbench

BUILD_TIMEOUT_S = 1_900.0
"""For a build: each step of one has a bound of its own, and is killed at that."""


def find(start: Path) -> Project:
    """The project that a file or folder belongs to: the nearest project file above it.

    Raises:
        NotFound: there is none.
        InvalidRequest: it is no project file.
    """
    start = start.absolute()
    for folder in (start, *start.parents):
        if (folder / project.FILE).is_file():
            return project.load(folder)
    raise project.NoProject(f"there is no {project.FILE} in {start}, or above it")


async def build(found: Project, environment: Mapping[str, str]) -> None:
    """Build a project, unless nothing has changed.

    Raises:
        LatticeError: as ``building.build``.
    """
    given = environment.get("LATTICE_TOOLS")
    folder = tools.default_folder(environment) if given is None else Path(given)
    await building.build(found, Toolbox(folder=folder.absolute(), environment=environment))


async def start(lattice: Lattice, found: Project, *, real: bool) -> Actor:
    """Start a built project's actor with its own config, links and providers.

    Its links lead to capabilities, whatever stands behind those: with ``real`` the providers as the
    project file configures them, otherwise those that keep data keep it in memory. Where a link
    leads to something that is no provider, nothing does: the test says what it answers.

    Raises:
        LatticeError: it could not be started.
    """
    bench = workbench.lay_out(found)
    config = bench.configs[bench.actor_config]
    actor = await lattice.run(found.output, bench.actor_id, config=config)
    for link in bench.links:
        if link.source_id == bench.actor_id:
            await lattice.lead(link, _backing(bench, link, real=real))
        elif link.wit_package == workbench.MESSAGING:
            await _subscribe(lattice, bench, link)
        # A web server gets a port of its own, once a test asks for something.
    return actor


def _backing(bench: Workbench, link: control.Link, *, real: bool) -> Backing | None:
    """What stands behind a link of the actor's."""
    for provider in bench.providers:
        if provider.id == link.target:
            config = bench.configs[provider.config]
            if not real:
                return faked(provider.reference, config)
            merged = {
                key: value
                for name in link.target_config
                for key, value in bench.configs[name].items()
            }
            return Backing(
                id=provider.id, reference=provider.reference, config=config, link_config=merged
            )
    return None


async def _subscribe(lattice: Lattice, bench: Workbench, link: control.Link) -> None:
    """Start the provider that brings the actor its messages."""
    (provider,) = (each for each in bench.providers if each.id == link.source_id)
    await lattice.ground.start_provider(
        provider.id, provider.reference, bench.configs[provider.config]
    )
    await lattice.ground.put_link(
        provider.id,
        f"{link.wit_namespace}:{link.wit_package}",
        link.target,
        interfaces=link.interfaces,
        source_config=bench.configs[link.source_config[0]],
    )

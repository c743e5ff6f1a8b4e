"""Fixtures for pytest: ``lattice``, a whole one for a test, and ``actor``, the project's in it.

pytest loads this wherever the distribution is installed, so it imports nothing until a test asks
for a fixture.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from lattice.project import Project
    from lattice.testing import Actor, Background, Lattice

GROUP = "lattice"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup(GROUP, "actors of a lattice")
    group.addoption(
        "--lattice-real",
        dest="lattice_real",
        action="store_true",
        help="have the actor's capabilities be the real ones of its project file",
    )


@pytest.fixture(scope="session")
def lattice_background() -> Iterator["Background"]:
    """The event loop that lattices live on."""
    import structlog  # noqa: PLC0415

    from lattice import log  # noqa: PLC0415
    from lattice.testing import Background  # noqa: PLC0415

    if not structlog.is_configured():
        # What a host says of itself is not what failed in the test.
        log.configure(level="error")
    with Background() as background:
        yield background


@pytest.fixture(scope="session")
def lattice_projects() -> dict[Path, "Project"]:
    """The projects that this session has built, by folder."""
    return {}


@pytest.fixture(scope="session")
def lattice_cache(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where hosts keep what they compiled: what one test has compiled, the next ones find there."""
    if (cache := getattr(request.config, "cache", None)) is not None:
        return Path(cache.mkdir("lattice-host"))
    return tmp_path_factory.getbasetemp() / "lattice-host"


@pytest.fixture
def lattice(lattice_background: "Background", lattice_cache: Path) -> Iterator["Lattice"]:
    """A lattice of this test's own: start actors in it, and say what stands around them."""
    from lattice.testing.lattices import opened  # noqa: PLC0415

    with opened(lattice_background, lattice_cache) as lattice:
        yield lattice


@pytest.fixture
def lattice_project(
    request: pytest.FixtureRequest,
    lattice_background: "Background",
    lattice_projects: dict[Path, "Project"],
) -> "Project":
    """The project that the test belongs to, built."""
    from lattice.testing import projects  # noqa: PLC0415

    found = projects.find(request.path.parent)
    if found.folder not in lattice_projects:
        lattice_background.do(projects.build(found, dict(os.environ)), projects.BUILD_TIMEOUT_S)
        lattice_projects[found.folder] = found
    return found


@pytest.fixture
def actor(
    request: pytest.FixtureRequest,
    lattice: "Lattice",
    lattice_background: "Background",
    lattice_project: "Project",
) -> "Actor":
    """The project's actor, with its links and its config, in this test's own lattice."""
    from lattice.testing import projects  # noqa: PLC0415

    real = bool(request.config.getoption("lattice_real"))
    return lattice_background.do(projects.start(lattice, lattice_project, real=real))

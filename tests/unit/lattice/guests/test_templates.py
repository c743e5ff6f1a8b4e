"""Folders for new actors: whole, of one mind about names, and refused where they can't be had."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from lattice import errors, project
from lattice.guests import recipes, templates
from lattice.project import Kind, Language

CASES = [(kind, language) for language, kinds in templates.KINDS.items() for kind in kinds]

PINNED = re.compile(r"=?\d+\.\d+\.\d+")


def texts(kind: Kind, language: Language, name: str = "my-shop") -> dict[str, str]:
    return {file.path: file.content.decode() for file in templates.files(kind, language, name)}


@pytest.mark.parametrize(("kind", "language"), CASES)
def test_a_template_is_a_project_with_source_a_test_and_what_to_do(
    kind: Kind, language: Language
) -> None:
    files = texts(kind, language)

    found = project.parse(files["lattice.toml"].encode(), folder=Path("/x"))
    assert (found.actor.kind, found.actor.language) == (kind, language)
    assert found.actor.abi is recipes.ABIS[language]
    assert found.actor.output == "build/my-shop.wasm"
    assert {"README.md", ".gitignore", "tests/test_my_shop.py"} <= set(files)
    assert "/build/" in files[".gitignore"].splitlines()


@pytest.mark.parametrize(("kind", "language"), CASES)
def test_nothing_of_a_template_is_left_to_be_filled_in(kind: Kind, language: Language) -> None:
    for path, text in texts(kind, language).items():
        assert "{{" not in path, path
        assert not re.search(r"\{\{[a-z_]+\}\}", text), path
        assert not path.endswith(".in"), path
        assert "dot-" not in path, path


@pytest.mark.parametrize(("kind", "language"), CASES)
def test_what_a_template_is_built_from_is_among_its_files(
    kind: Kind, language: Language, tmp_path: Path
) -> None:
    templates.write(templates.files(kind, language, "my-shop"), tmp_path)

    found = project.load(tmp_path)

    kinds = {path.suffix for path in found.sources()}
    assert {".toml"} < kinds
    assert not any("tests" in path.parts for path in found.sources())


@pytest.mark.parametrize(("kind", "language"), CASES)
def test_the_tests_of_a_template_are_python(kind: Kind, language: Language) -> None:
    compile(texts(kind, language)["tests/test_my_shop.py"], "test_my_shop.py", "exec")


@pytest.mark.parametrize(("kind", "language"), CASES)
def test_the_versions_of_what_a_template_needs_are_pinned(kind: Kind, language: Language) -> None:
    files = texts(kind, language)

    if "package.json" in files:
        manifest = json.loads(files["package.json"])
        assert manifest["name"] == "my-shop"
        assert all(PINNED.fullmatch(text) for text in manifest["devDependencies"].values())
    if "Cargo.toml" in files:
        manifest = tomllib.loads(files["Cargo.toml"])
        assert all(PINNED.fullmatch(text) for text in manifest["dependencies"].values())


def test_a_language_without_a_template_says_which_have_one() -> None:
    with pytest.raises(errors.InvalidRequest, match="there is one in: assemblyscript, c, go"):
        templates.files(Kind.HTTP, Language.OTHER, "hello")


@pytest.mark.parametrize("name", ["hello", "a", "my-shop", "a1-b2", "x" * 64])
def test_a_name_that_every_language_takes_is_taken(name: str) -> None:
    templates.check_name(name)


@pytest.mark.parametrize(
    "name",
    ["", "Hello", "1st", "a--b", "a-", "-a", "a_b", "a b", "a/b", "..", "x" * 65, "ä", "a-1"],
)
def test_any_other_name_is_refused(name: str) -> None:
    with pytest.raises(errors.InvalidRequest, match="is no name for a project"):
        templates.check_name(name)


def test_a_folder_that_has_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("three years of work")

    with pytest.raises(errors.AlreadyExists, match="not empty"):
        templates.write(templates.files(Kind.HTTP, Language.C, "hello"), tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    templates.write(templates.files(Kind.HTTP, Language.C, "hello"), tmp_path)

    assert (tmp_path / "src" / "hello.c").is_file()

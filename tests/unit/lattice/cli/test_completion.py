"""What is completed while somebody types, and silence when it can't be."""

from collections.abc import Callable

import pytest
import typer
from typer.testing import CliRunner

from lattice.cli import completion, contexts, main, shells
from lattice.cli.contexts import Context
from lattice.cli.options import Options
from lattice.cli.output import Form

Completion = Callable[[typer.Context, str], list[tuple[str, str]]]


def context(**values: object) -> typer.Context:
    """What has been typed so far: of ``get inventory``, below the whole command."""
    tree = typer.main.get_command(main.build())
    root = typer.Context(tree)
    root.params = {"nats": "nats://127.0.0.1:1", "lattice": "root", "output": None}
    inner = typer.Context(tree, parent=root)
    inner.params = values
    return inner


def test_the_options_nearest_to_the_cursor_win() -> None:
    typed = completion.given(context(lattice="mine", output=Form.JSON, host="x"))

    assert typed == Options(nats="nats://127.0.0.1:1", lattice="mine", output=Form.JSON)


@pytest.mark.parametrize(
    "complete",
    [
        completion.hosts,
        completion.components,
        completion.providers,
        completion.entities,
        completion.sources,
        completion.configs,
    ],
    ids=lambda function: function.__name__,
)
def test_without_a_lattice_nothing_is_offered(complete: Completion) -> None:
    assert complete(context(), "") == []


def test_contexts_are_offered_by_how_they_begin() -> None:
    for name in ("prod", "preview", "other"):
        contexts.save(name, Context())

    assert contexts.beginning_with("pr") == ["preview", "prod"]


@pytest.mark.parametrize("shell", list(shells.Shell))
def test_every_shell_has_a_script(shell: shells.Shell) -> None:
    result = CliRunner().invoke(main.build(), ["completion", "show", shell.value])

    assert result.exit_code == 0
    assert shells.VARIABLE in result.output


def test_a_shell_that_can_not_complete_is_told_which_can() -> None:
    result = CliRunner().invoke(main.build(), ["completion", "show"], env={"SHELL": "/bin/tcsh"})

    assert result.exit_code == 2
    assert "tcsh" in result.output

"""What a command imports: that is most of the time that it takes to start."""

import subprocess
import sys

import pytest

from lattice.cli import main
from tests.support import command_reference

HEAVY = frozenset(
    {
        *("aiohttp", "attr", "httpx", "nats", "pydantic_settings", "pygments", "rich", "structlog"),
        *("uvicorn", "wasmtime", "yaml"),
    }
)
"""Libraries that take long to import."""

NOWHERE = "nats://127.0.0.1:1"
"""Nothing listens there."""


def imported(*program: str) -> set[str]:
    """The modules that a program imports until it ends."""
    ended = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", *program],
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line for line in ended.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines}


def heavy(modules: set[str]) -> set[str]:
    # By their parts: Python lists the name of what was not to be had, too.
    return {module.partition(".")[0] for module in modules if "." in module} & HEAVY


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]], ids=" ".join)
def test_help_and_version_import_no_command_and_nothing_heavy(arguments: list[str]) -> None:
    modules = imported("lattice.cli", *arguments)

    assert {module for module in modules if module.startswith("lattice.cli.")} == {
        "lattice.cli.contexts",
        "lattice.cli.files",
        "lattice.cli.main",
        "lattice.cli.options",
        "lattice.cli.output",
    }
    # Typer writes help with all of rich.
    assert heavy(modules) <= {"attr", "pygments", "rich"}


def test_a_command_imports_what_it_needs_and_no_other() -> None:
    modules = imported("lattice.cli", "get", "hosts", "--nats", NOWHERE)

    assert heavy(modules) == {"nats", "rich", "structlog"}
    assert "lattice.control.client" in modules
    others = (
        *("lattice.cli.demo", "lattice.manifest", "lattice.reconcile", "lattice.registry"),
        *("lattice.control.apps", "lattice.wire.apps"),
    )
    assert [module for module in modules if module.startswith(others)] == []


def test_a_host_imports_nothing_of_http_until_it_pulls_and_nothing_for_terminals() -> None:
    modules = imported("host", "--lattice", "no name of a lattice")

    assert heavy(modules) == HEAVY - {
        *("aiohttp", "attr", "httpx", "pygments", "rich", "uvicorn"),
    }


def test_a_provider_imports_only_what_it_needs_itself() -> None:
    assert heavy(imported("providers.sdk", "keyvalue")) == {"nats", "structlog"}


@pytest.mark.parametrize("name", main.WORDS)
def test_a_word_is_listed_by_the_first_paragraph_of_its_help(name: str) -> None:
    summary = str(main.load(name).help).partition("\n\n")[0]

    assert main.WORDS[name].summary == summary


def test_every_alias_means_a_word() -> None:
    assert set(main.ALIASES.values()) <= set(main.WORDS)


def test_the_help_lists_every_panel_in_its_order() -> None:
    panels = [word.panel for word in main.WORDS.values()]

    assert panels == sorted(panels, key=main.PANELS.index)
    assert command_reference.tree().list_commands(None) == list(main.WORDS)  # type: ignore[arg-type]

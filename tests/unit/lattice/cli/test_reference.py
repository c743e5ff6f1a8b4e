"""The reference page of the command line is complete."""

import re
from pathlib import Path

import pytest

from lattice.cli import output
from tests.support import command_reference

COMMANDS = {listed.name for listed in command_reference.commands()}

WITHOUT_JSON = {"help", "host", "reconcile", "test"}
"""They print help, a log, or what pytest does, and no result."""

PAGE = (Path(__file__).parents[4] / "docs" / "cli.md").read_text()


@pytest.mark.parametrize("name", sorted(COMMANDS - WITHOUT_JSON))
def test_the_page_has_the_json_of_every_command(name: str) -> None:
    section = PAGE.partition("## JSON")[2]

    assert f"`{name}`" in section or f"`{name} " in section


def test_the_page_has_the_exit_status_of_every_error_code() -> None:
    section = PAGE.partition("## Exit status")[2].partition("##")[0]
    shown = {
        code: int(status)
        for status, codes in re.findall(r"^\| (\d+) \|.*\|(.*)\|$", section, re.MULTILINE)
        for code in re.findall(r"`(\w+)`", codes)
    }

    assert shown == output.EXIT_STATUS

"""The tree of commands, its help, and the way out when something goes wrong."""

from collections.abc import Iterator

import pytest
import typer
from typer.core import TyperGroup
from typer.testing import CliRunner

from lattice import __version__, errors, log
from lattice.cli import main, options, output
from lattice.cli.options import Options
from lattice.cli.output import Form, Result

COMMANDS = {
    "call",
    "config del",
    "config get",
    "config put",
    "demo",
    "get hosts",
    "get inventory",
    "get links",
    "host",
    "link del",
    "link put",
    "link query",
    "scale component",
    "start component",
    "start provider",
    "stop component",
    "stop host",
    "stop provider",
    "up",
}


def leaves(group: TyperGroup, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every command with its epilog, by its full name."""
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from leaves(command, f"{prefix}{name} ")
        else:
            yield prefix + name, command.epilog or ""


def tree() -> TyperGroup:
    group = typer.main.get_command(main.build())
    assert isinstance(group, TyperGroup)
    return group


def test_every_command_is_there_and_shows_an_example_of_itself() -> None:
    found = dict(leaves(tree()))

    assert found.keys() == COMMANDS
    for name, epilog in found.items():
        assert epilog.startswith(f"Example: lattice {name}"), name


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help_and_the_common_options(name: str) -> None:
    result = CliRunner().invoke(main.build(), [*name.split(), "--help"])

    assert result.exit_code == 0
    for option in ("--nats", "--lattice", "--credentials", "--timeout-ms", "--output"):
        assert option in result.output


def test_the_version_is_that_of_the_package() -> None:
    assert CliRunner().invoke(main.build(), ["--version"]).output == f"lattice {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [["bogus"], ["get", "hosts", "--output", "xml"], ["link", "put", "a"], ["up", "--hosts", "0"]],
    ids=" ".join,
)
def test_wrong_usage_has_status_2(arguments: list[str]) -> None:
    assert CliRunner().invoke(main.build(), arguments).exit_code == 2


@pytest.fixture
def quiet_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the process's log as the tests have it."""
    monkeypatch.setattr(log, "configure", lambda **_: None)


@pytest.mark.usefixtures("quiet_log")
def test_an_exception_that_nobody_foresaw_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    async def work() -> None:
        raise KeyError("surprise")

    with pytest.raises(typer.Exit) as caught:
        options.run(work(), Options())

    assert caught.value.exit_code == 70
    complaint = capsys.readouterr().err
    assert complaint.count("\n") == 1
    assert "KeyError: 'surprise'" in complaint
    assert "LATTICE_DEBUG=1" in complaint


@pytest.mark.usefixtures("quiet_log")
def test_a_traceback_is_shown_to_those_who_ask(capsys: pytest.CaptureFixture[str]) -> None:
    async def work() -> None:
        raise errors.Denied("no")

    with pytest.raises(typer.Exit):
        options.run(work(), Options(debug=True))

    assert "Traceback" in capsys.readouterr().err


@pytest.mark.usefixtures("quiet_log")
def test_a_result_is_printed_in_the_form_that_was_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def work() -> Result:
        return Result(fields={"a": 1}, text=["one"])

    options.run(work(), Options(output=Form.JSON))

    assert capsys.readouterr().out == '{"success":true,"a":1}\n'


@pytest.mark.usefixtures("quiet_log")
def test_ctrl_c_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    async def work() -> None:
        raise KeyboardInterrupt

    with pytest.raises(typer.Exit) as caught:
        options.run(work(), Options())

    assert caught.value.exit_code == output.INTERRUPTED
    assert capsys.readouterr() == ("", "")

"""The tree of commands, its help, and the way out when something goes wrong."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from lattice import __version__, errors
from lattice.cli import main, options, output
from lattice.cli.options import Options
from lattice.cli.output import Form, Result
from tests.support import command_reference

COMMANDS = {listed.name: listed for listed in command_reference.commands()}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_shows_an_example_of_itself(name: str) -> None:
    assert COMMANDS[name].command.epilog.startswith(f"Example: lattice {name}")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_summary_of_one_line_and_says_more_below_it(name: str) -> None:
    summary, *more = COMMANDS[name].command.help.split("\n\n")

    assert 10 < len(summary) <= 100
    assert summary.endswith(".")
    assert "\n" not in summary
    assert more


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_and_argument_of_a_command_has_help(name: str) -> None:
    without = [p.name for p in COMMANDS[name].command.params if not p.help and not p.hidden]

    assert without == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_the_common_options(name: str) -> None:
    result = CliRunner().invoke(main.build(), [*name.split(), "--help"])

    assert result.exit_code == 0
    taken = {parameter.name for parameter in COMMANDS[name].command.params}
    # A command that needs no lattice does not say how to reach one.
    assert taken >= (options.OFFLINE if "nats" not in taken else set(Options.__dataclass_fields__))


def test_the_help_has_every_panel_in_its_order() -> None:
    shown = CliRunner().invoke(main.build(), ["--help"]).output

    found = [shown.index(f" {panel} ") for panel in main.PANELS]
    assert found == sorted(found)


@pytest.mark.parametrize("name", ["get hosts", "help", "ctx new", "links query"])
def test_help_of_a_command_is_what_it_shows_itself(name: str) -> None:
    def shown(*arguments: str) -> str:
        result = CliRunner().invoke(main.build(), arguments, prog_name=options.PROGRAM)
        assert result.exit_code == 0
        return result.output

    assert shown("help", *name.split()) == shown(*name.split(), "--help")


def test_help_of_a_command_that_is_not_there_says_so() -> None:
    result = CliRunner().invoke(main.build(), ["help", "get", "bogus"])

    assert result.exit_code == 3
    assert "'get bogus'" in result.output


def test_the_version_is_that_of_the_package() -> None:
    assert CliRunner().invoke(main.build(), ["--version"]).output == f"lattice {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [["bogus"], ["get", "hosts", "--output", "xml"], ["link", "put", "a"], ["up", "--hosts", "0"]],
    ids=" ".join,
)
def test_wrong_usage_has_status_2(arguments: list[str]) -> None:
    assert CliRunner().invoke(main.build(), arguments).exit_code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["-o", "json", "bogus"],
        ["link", "put", "a", "--output=json"],
        ["up", "-ojson", "--hosts", "0"],
        ["get", "--output", "json", "hosts", "--no-such-option"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_told_in_json_to_who_wants_that(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["lattice", *arguments])

    with pytest.raises(SystemExit) as caught:
        main.main()

    told = capsys.readouterr()
    assert caught.value.code == 2
    assert told.err == ""
    answer = json.loads(told.out)
    assert (answer["success"], answer["code"]) == (False, "invalid_request")
    assert answer["error"]


@pytest.mark.parametrize(
    ("arguments", "environment", "form"),
    [
        ([], {}, Form.TEXT),
        ([], {"LATTICE_OUTPUT": "json"}, Form.JSON),
        (["-o", "text"], {"LATTICE_OUTPUT": "json"}, Form.TEXT),
        (["--output"], {}, Form.TEXT),
        (["call", "--", "-o", "json"], {}, Form.TEXT),
        (["-o", "xml"], {}, Form.TEXT),
    ],
)
def test_the_form_is_known_though_the_command_line_is_not_understood(
    arguments: list[str], environment: dict[str, str], form: Form
) -> None:
    assert options.form_of(arguments, environment) is form


@pytest.mark.parametrize(
    ("ending", "status", "told"),
    [
        (">&-", 0, ""),
        (">/dev/full", 1, "error: No space left on device [unavailable]\n"),
        ("| (exec <&-; read -r _ < {gate}); exit ${{PIPESTATUS[0]}}", 141, ""),
    ],
    ids=["closed", "full", "nobody reads it"],
)
def test_an_output_that_takes_nothing_is_no_bug(
    ending: str, status: int, told: str, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    command = f"{sys.executable} -m lattice.cli ctx list -o json"
    if "gate" in ending:
        # It starts only when its reader is gone.
        command = f"(: > {gate}; exec {command})"
    ended = subprocess.run(
        ["bash", "-c", f"{command} {ending.format(gate=gate)}"],
        capture_output=True,
        text=True,
        check=False,
        # What is held back until the end may fail then, as most people have it.
        env={**os.environ, "LATTICE_HOME": str(tmp_path), "PYTHONUNBUFFERED": ""},
    )
    assert (ended.returncode, ended.stderr) == (status, told)


def test_a_terminal_of_another_alphabet_is_no_bug(tmp_path: Path) -> None:
    own = {key: value for key, value in os.environ.items() if not key.startswith("LATTICE_")}
    ended = subprocess.run(
        [sys.executable, "-m", "lattice.cli", "doctor", "--nats", "nats://127.0.0.1:1"],
        capture_output=True,
        text=True,
        check=False,
        env={**own, "PYTHONIOENCODING": "ascii", "LATTICE_HOME": str(tmp_path)},
    )
    assert (ended.returncode, ended.stderr) == (1, "")
    assert "\\u2717 no NATS server answers" in ended.stdout


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(28, "No space left on device"), "error: No space left on device"),
        (PermissionError(13, "Permission denied", "/x"), "error: can't use /x: Permission denied"),
    ],
)
def test_what_the_machine_refuses_is_no_bug(
    error: OSError, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def work() -> None:
        raise error

    with pytest.raises(typer.Exit) as caught:
        options.run(work(), Options())

    assert caught.value.exit_code == output.FAILED
    assert capsys.readouterr().err == f"{told} [unavailable]\n"


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


def test_a_traceback_is_shown_to_those_who_ask(capsys: pytest.CaptureFixture[str]) -> None:
    async def work() -> None:
        raise errors.Denied("no")

    with pytest.raises(typer.Exit):
        options.run(work(), Options(debug=True))

    assert "Traceback" in capsys.readouterr().err


def test_a_result_is_printed_in_the_form_that_was_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def work() -> Result:
        return Result(fields={"a": 1}, text=["one"])

    options.run(work(), Options(output=Form.JSON))

    assert capsys.readouterr().out == '{"success":true,"a":1}\n'


def test_ctrl_c_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    async def work() -> None:
        raise KeyboardInterrupt

    with pytest.raises(typer.Exit) as caught:
        options.run(work(), Options())

    assert caught.value.exit_code == output.INTERRUPTED
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("module", ["lattice.cli.main", "lattice.cli.ctx", "lattice.log"])
def test_ctrl_c_is_quiet_while_modules_are_imported(module: str) -> None:
    interrupted = (
        "import sys\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, path, target=None):\n"
        f"        if name == {module!r}:\n"
        "            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        "from lattice.cli.__main__ import main\n"
        "main()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", interrupted, "ctx", "list"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (output.INTERRUPTED, "", "")


def test_ctrl_c_is_quiet_before_a_command_runs() -> None:
    interrupted = (
        "from lattice.cli import __main__, main\n"
        "def interrupt():\n"
        "    raise KeyboardInterrupt\n"
        "main.build = interrupt\n"
        "__main__.main()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", interrupted, "ctx", "list"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (output.INTERRUPTED, "", "")

"""What is printed, and the exit status that goes with it."""

import io
import json
import sys

import pytest

from lattice import errors
from lattice.cli import output
from lattice.cli.output import Failed, Form, Result


def test_every_error_code_has_an_exit_status() -> None:
    assert output.EXIT_STATUS.keys() == errors.BY_CODE.keys()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.ActorError("no"), 1),
        (errors.InvalidRequest("no"), 2),
        (errors.NotRunning("no"), 3),
        (errors.NoLink("a", "default", "wasmcloud:keyvalue"), 3),
        (errors.DeadlineExceeded("no"), 4),
        (errors.Conflict("no"), 5),
        (errors.Denied("no"), 6),
        (errors.Overloaded("no"), 7),
        (errors.InternalError("no"), 70),
        (Failed("no"), 1),
    ],
    ids=lambda value: getattr(value, "code", None),
)
def test_the_exit_status_tells_the_kind_of_failure(error: errors.LatticeError, status: int) -> None:
    assert output.exit_status(error) == status


def test_a_failure_as_text_goes_to_standard_error_with_its_code_and_remedy(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status = output.fail(errors.NotRunning("nobody runs it"), Form.TEXT)

    captured = capsys.readouterr()
    assert status == 3
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "error: nobody runs it [not_running]",
        "remedy: see what runs with: lattice get inventory",
    ]


def test_a_failure_as_json_goes_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    error = errors.PayloadTooLarge("payload", 3, 2, at="NHOST")

    assert output.fail(error, Form.JSON) == 2

    captured = capsys.readouterr()
    assert captured.err == ""
    assert json.loads(captured.out) == {
        "success": False,
        "error": "payload is 3 bytes, over the limit of 2",
        "code": "payload_too_large",
        "remedy": "",
        "at": "NHOST",
        "detail": {"size": 3, "limit": 2},
    }


def test_a_trap_shows_the_beginning_of_its_backtrace() -> None:
    frames = "\n".join(f"frame {number}" for number in range(100))

    lines = [str(line) for line in output.failure_lines(errors.ActorTrapped("x", backtrace=frames))]

    assert "  frame 0" in lines
    assert "  frame 99" not in lines
    assert "  and 70 more" in lines


def test_a_result_as_json_is_one_line_that_says_success(
    capsys: pytest.CaptureFixture[str],
) -> None:
    output.show(Result(fields={"hosts": []}, text=["none"]), Form.JSON)

    assert capsys.readouterr().out == '{"success":true,"hosts":[]}\n'


def test_the_lines_of_a_table_end_with_what_can_be_seen(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = [("a", ""), ("b", "long name")]

    output.show(Result(fields={}, text=[output.table(("Id", "Name"), rows)]), Form.TEXT)

    assert capsys.readouterr().out == "Id  Name\na\nb   long name\n"


def test_a_table_is_not_wrapped_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    row = ("N" * 56, "x" * 200)

    output.show(Result(fields={}, text=[output.table(("Id", "Name"), [row])]), Form.TEXT)

    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [["Id", "Name"], list(row)]


def test_text_from_elsewhere_is_printed_without_being_read_as_markup(
    capsys: pytest.CaptureFixture[str],
) -> None:
    output.show(Result(fields={}, text=["[bold]x[/bold] :smile:"]), Form.TEXT)

    assert capsys.readouterr().out == "[bold]x[/bold] :smile:\n"


def test_control_characters_from_elsewhere_never_reach_a_terminal() -> None:
    assert output.visible("a\x1b[31m\r\x9bb\tc\n") == "a\\x1b[31m\\r\\x9bb\tc\n"


def test_a_note_does_not_mix_with_the_result(capsys: pytest.CaptureFixture[str]) -> None:
    output.show(Result(fields={}, text=["result"], note="by the way"), Form.TEXT)

    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("result\n", "by the way\n")


def test_values_of_msgpack_become_values_of_json() -> None:
    value = {1: b"text", "b": [b"\xff\x00", None, 1.5], b"c": True}

    assert output.printable(value) == {"1": "text", "b": ["ff00", None, 1.5], "c": True}


def test_raw_bytes_are_written_untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(sys, "stdout", stream)

    output.show(Result(fields={}, text=[], raw=b"\xff\x00\n"), Form.TEXT)

    assert stream.buffer.getvalue() == b"\xff\x00\n"

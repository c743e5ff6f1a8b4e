"""What a command tells as it goes, for people and for tools."""

import json
import time
from typing import Any

import pytest

from lattice import errors
from lattice.cli.narration import Narrator
from lattice.cli.output import Form
from lattice.wire.logs import Line

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "localtime", time.gmtime)


def people() -> Narrator:
    return Narrator(Form.TEXT, now_s=lambda: 3723.004)


def tools() -> Narrator:
    return Narrator(Form.JSON, now_s=lambda: 3723.004)


def line(text: str, **fields: Any) -> Line:
    values: dict[str, Any] = {"actor": "a", "number": 1, "time_ms": 1500, "level": "info"}
    return Line(**(values | {"text": text, "by": "guest", "call": "c1"} | fields))


def test_people_get_the_time_a_word_and_the_rest_indented(capsys: Capture) -> None:
    people().tell("built", "first\nsecond", {"bytes": 1})

    assert capsys.readouterr().out == "01:02:03.004  built     first\n  second\n"


def test_tools_get_one_object_a_line(capsys: Capture) -> None:
    tools().tell("built", "first\nsecond", {"bytes": 1})

    assert json.loads(capsys.readouterr().out) == {"event": "built", "bytes": 1}


def test_a_failure_has_its_code_and_remedy_in_both_forms(capsys: Capture) -> None:
    failure = errors.Overloaded("too much", at="N")

    people().fail("problem", failure, head="refused")
    text = capsys.readouterr().out
    tools().fail("problem", failure, head="refused")
    fields = json.loads(capsys.readouterr().out)

    assert text.startswith("01:02:03.004  refused   too much [overloaded]\n  remedy: ")
    assert (fields["event"], fields["code"], fields["at"]) == ("problem", "overloaded", "N")


def test_log_lines_say_who_wrote_them_and_how_serious_they_are(capsys: Capture) -> None:
    people().log(line("well"), "host-1")
    people().log(line("trapped\n  0: culprit", by="host", level="warning"), "host-1")

    assert capsys.readouterr().out == (
        "00:00:01.500  info      well\n00:00:01.500  host      trapped\n    0: culprit\n"
    )


def test_what_a_guest_writes_drives_no_terminal(capsys: Capture) -> None:
    people().log(line("\x1b[2Jgone [red]not markup"), "host-1")

    out = capsys.readouterr().out
    assert "\x1b[2J" not in out
    assert "[red]not markup" in out


def test_log_lines_for_tools_name_call_and_host(capsys: Capture) -> None:
    tools().log(line("well"), "host-1")

    assert json.loads(capsys.readouterr().out) == {
        "event": "log", "time_ms": 1500, "level": "info", "by": "guest", "text": "well",
        "call": "c1", "host": "host-1",
    }  # fmt: skip

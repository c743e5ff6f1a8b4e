"""Logging is set up per process, so it is tested in one."""

import json
import subprocess
import sys

PROGRAM = """
import structlog
from lattice import log
log.configure(level={level!r}, form={form!r})
logger = structlog.get_logger()
logger.debug("quiet")
logger.info("host started", host="N1")
secret = "geheim"
try:
    raise ValueError("failed")
except ValueError:
    logger.exception("it failed")
"""


def run(*, level: str = "info", form: str = "text") -> str:
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(level=level, form=form)],
        check=True,
        capture_output=True,
        text=True,
    )
    assert process.stdout == ""
    return process.stderr


def test_lines_go_to_standard_error_from_the_level_asked_for() -> None:
    assert "quiet" not in run()
    assert "quiet" in run(level="debug")
    assert "host started" in run()


def test_json_lines_are_one_object_each() -> None:
    started, failed = map(json.loads, run(form="json").splitlines())

    assert (started["event"], started["host"], started["level"]) == ("host started", "N1", "info")
    assert "ValueError: failed" in failed["exception"]


def test_a_traceback_does_not_show_the_values_of_variables() -> None:
    for form in ("text", "json"):
        output = run(form=form)
        assert "ValueError" in output
        assert "secret = 'geheim'" not in output
        assert "│" not in output

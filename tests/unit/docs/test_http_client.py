"""The page of the HTTP client says what its code does."""

import re

import pytest

from lattice import errors, limits
from providers.http_client import failures, rules, settings
from providers.http_client.settings import Settings
from tests.support.reference_docs import DOCS

PAGE = (DOCS / "providers" / "http-client.md").read_text()


def rows(section: str) -> list[list[str]]:
    """The rows of a section's first table, a list of cells each."""
    text = PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0]
    lines = re.findall(r"^\| (.*) \|$", text, re.MULTILINE)
    return [[cell.strip() for cell in line.split(" | ")] for line in lines[1:]]


def test_every_key_has_its_row_and_no_other() -> None:
    documented = {cells[0].strip("`") for cells in rows("Configuration")}

    assert documented == settings.KEYS - {"ssl_certs_file"}


def test_the_defaults_are_those_of_the_code() -> None:
    default = Settings()
    shown = {
        key.strip("`"): int(value[1])
        for key, text, *_ in rows("Configuration")
        if (value := re.match(r"`(\d+)`", text))
    }

    assert shown == {
        "redirects_max": default.redirects_max,
        "connect_timeout_ms": default.connect_timeout_s * 1_000,
        "first_byte_timeout_ms": default.first_byte_timeout_s * 1_000,
        "between_bytes_timeout_ms": default.between_bytes_timeout_s * 1_000,
        "idle_timeout_ms": default.idle_s * 1_000,
        "max_request_body_bytes": default.request_bytes_max,
        "max_response_body_bytes": default.response_bytes_max,
        "max_concurrent_requests": default.requests_max,
        "max_idle_connections": default.idle_connections_max,
    }


@pytest.mark.parametrize("key", sorted(settings.KEYS))
def test_the_ranges_are_those_of_the_code(key: str) -> None:
    units = {cells[0].strip("`"): cells[2] for cells in rows("Configuration")}
    match = re.search(r"(?:(\d+) )?to (\d+)( MiB)?$", units.get(key, ""))
    if match is None:
        return
    least, most = int(match[1] or 0), int(match[2]) * (limits.MIB if match[3] else 1)

    for value in (least, most):
        settings.parse({}, {key: str(value)})
    for value in (least - 1, most + 1):
        with pytest.raises(errors.InvalidRequest):
            settings.parse({}, {key: str(value)})


def test_every_failure_has_its_row_with_its_code() -> None:
    documented = {
        case: code.strip("`")
        for cases, code, _ in rows("Errors")
        for case in re.findall(r"`([A-Za-z-]+)`", cases)
    }

    assert documented == {case: cls.code for case, cls in failures.ERRORS.items()}


def test_the_rules_shown_are_rules() -> None:
    shown = [cells[0].strip("`") for cells in rows("What a link may reach")]

    assert len(rules.parse(" ".join(shown)).rules) == len(shown) == 7


def test_the_grammar_is_the_one_of_the_code() -> None:
    grammar = re.search(r"```\n(allow .*?)```", PAGE, re.DOTALL)
    assert grammar
    documented = rules.__doc__ or ""
    assert [line.strip() for line in grammar[1].splitlines()] == [
        line.strip() for line in documented.splitlines() if " = " in line
    ]

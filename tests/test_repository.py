"""What every file of the repository has in common."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

BYTES_MAX = 1024 * 1024

# Spelled so that this file does not find itself.
UNFINISHED = re.compile("|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X"]) + r"\b")

ELSEWHERE = re.compile(r"(?<![\w.~}:/-])/(?:work|root|home|tmp)/[\w.-]+")
"""Paths on somebody's machine; a URL's path and one below a variable are something else."""

REQUIRED = [
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "pyproject.toml",
]


def repository_files() -> list[Path]:
    """Every file that is, or would be, committed."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split("\0")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git repository", allow_module_level=True)
    return sorted({ROOT / name for name in listed if name and (ROOT / name).is_file()})


FILES = repository_files()
CONTENTS = {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in FILES}
TEXTS = {
    name: content.decode(errors="replace")
    for name, content in CONTENTS.items()
    if b"\0" not in content
}


def lines(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{name}:{number}: {line.strip()[:100]}"
        for name, text in TEXTS.items()
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


def test_nothing_is_left_for_later() -> None:
    assert lines(UNFINISHED) == []


def test_no_file_names_a_path_on_somebodys_machine() -> None:
    assert lines(ELSEWHERE) == []


def test_no_file_is_large() -> None:
    assert [name for name, content in CONTENTS.items() if len(content) > BYTES_MAX] == []


def test_only_what_examples_run_on_and_tests_are_binary() -> None:
    example = re.compile(r"deploy/examples/[^/]+/[^/]+\.(wasm|weights)|tests/.*")

    assert [name for name in CONTENTS if name not in TEXTS and not example.fullmatch(name)] == []


def test_no_key_is_committed() -> None:
    key = re.compile(r"BEGIN [A-Z ]*PRIVATE KEY|\bS[NACOUX][A-Z2-7]{56}\b")

    assert lines(key) == []


@pytest.mark.parametrize("name", REQUIRED)
def test_a_file_that_everybody_looks_for_is_there(name: str) -> None:
    assert CONTENTS.get(name)


def test_every_package_has_a_charter() -> None:
    silent = [
        name
        for name, text in TEXTS.items()
        if re.fullmatch(r"(lattice|host|providers)/(.*/)?__init__\.py", name)
        and not ast.get_docstring(ast.parse(text))
    ]

    assert silent == []


def test_every_module_begins_with_what_it_is_for() -> None:
    silent = [
        name
        for name, text in TEXTS.items()
        if re.fullmatch(r"(lattice|host|providers)/.*\.py", name)
        and not ast.get_docstring(ast.parse(text))
    ]

    assert silent == []


def test_every_text_ends_with_one_line_end_and_has_none_of_the_other_kind() -> None:
    wrong = [
        name
        for name, text in TEXTS.items()
        if text and (not text.endswith("\n") or text.endswith("\n\n") or "\r\n" in text)
    ]

    assert wrong == []


def test_tests_of_one_name_do_not_shadow_each_other() -> None:
    """Two test modules of one name need packages around them, or pytest takes one for the other."""
    bare = [
        Path(name).stem
        for name in TEXTS
        if re.fullmatch(r"tests/.*test_[^/]*\.py", name)
        and f"{Path(name).parent.as_posix()}/__init__.py" not in CONTENTS
    ]

    assert sorted({name for name in bare if bare.count(name) > 1}) == []


def test_every_promise_names_tests_that_exist() -> None:
    promises = TEXTS["README.md"].partition("## What you can rely on")[2].partition("\n## ")[0]
    rows = [line for line in promises.splitlines() if line.startswith("| ")][2:]
    assert len(rows) > 5

    for row in rows:
        named = re.findall(r"\[`(\w+)`\]\((tests/[^)]+)\)", row)
        assert named, row
        for name, path in named:
            assert re.search(rf"\b{name}\b", TEXTS[path] + path), f"{path} has no {name}"


def test_tests_of_a_group_run_in_one_process(tmp_path: Path) -> None:
    (tmp_path / "test_group.py").write_text(
        "import os, pathlib, pytest\n"
        "pytestmark = pytest.mark.xdist_group('one')\n"
        "@pytest.mark.parametrize('n', range(4))\n"
        "def test_it(n):\n"
        "    pathlib.Path(os.environ['PYTEST_XDIST_WORKER']).touch()\n"
    )
    words = ("-m", "pytest", "-q", "-n", "2", "--dist", "loadgroup", "--rootdir", ".")
    ended = subprocess.run(
        [sys.executable, *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert "4 passed" in ended.stdout, ended.stdout + ended.stderr
    assert len(list(tmp_path.glob("gw*"))) == 1

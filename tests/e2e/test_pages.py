"""What the pages show is what happens: their commands, typed as they stand there, in order.

A ``console`` block holds commands and, where the page shows one, their exact output. A block below
a line that is only a file's name is that file.
"""

import re
from pathlib import Path

import nats
import pytest

from lattice.project import Language
from tests.support import command_line, toolchains

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [
    page
    for page in [README, *sorted(ROOT.glob("docs/**/*.md")), *sorted(ROOT.glob("deploy/**/*.md"))]
    # Packages that an example in JavaScript was built with have pages of their own.
    if "node_modules" not in page.parts and "```console" in page.read_text()
]
HTTP_PORTS = (8080, 8081)
"""What the pages' readers are told to use."""

ONE_AT_A_TIME = pytest.mark.xdist_group("the ports of the pages")
"""Of pages that have something listen there: two at once would be in each other's way."""

LANGUAGES = {language.value: language for language in Language}
"""By the names of their pages."""


def listens(page: Path) -> bool:
    """Whether a page may have something listen on those ports."""
    return any(str(port) in page.read_text() for port in HTTP_PORTS)


def test_the_pages_with_commands_are_found() -> None:
    names = {str(page.relative_to(ROOT)) for page in PAGES}
    assert {"README.md", "docs/guests/c.md", "docs/providers/http-server.md"} <= names


# Pages on languages have their compilers installed, when they are not here yet.
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(
            page,
            id=str(page.relative_to(ROOT)),
            marks=[ONE_AT_A_TIME] if listens(page) else [],
        )
        for page in PAGES
    ],
)
async def test_the_commands_of_a_page_do_what_it_shows(page: Path, tmp_path: Path) -> None:
    if listens(page) and (taken := [port for port in HTTP_PORTS if not command_line.is_free(port)]):
        pytest.skip(f"the pages' ports {taken} are taken on this machine")
    if (language := LANGUAGES.get(page.stem)) is not None:
        await toolchains.require(language)
    workplace = tmp_path / "workplace"
    workplace.mkdir()
    (workplace / "deploy").symlink_to(ROOT / "deploy")
    for name, content in files(page):
        (workplace / name).write_text(content)

    async with command_line.up(tmp_path / "data", "--hosts", "2") as lattice:
        for command, shown in commands(page):
            outcome = await lattice.shell(command, directory=workplace)
            assert outcome.status == 0, f"{command}: {outcome.errors}"
            if shown:
                # A page can't show whether the last line ends.
                assert outcome.output.rstrip("\n") == shown.rstrip("\n"), command


async def test_the_plain_door_shown_in_the_readme_is_the_same_call(tmp_path: Path) -> None:
    shown = re.search(r"`nats req (\S+) (\S+)`", README.read_text())
    assert shown
    subject, payload = shown.groups()

    async with command_line.up(tmp_path) as lattice:
        echo = f"lattice start component {ROOT}/deploy/examples/echo/echo.wasm echo"
        assert (await lattice.shell(echo)).status == 0
        client = await nats.connect(lattice.nats_url)
        try:
            answer = await client.request(subject, payload.encode(), timeout=5)
        finally:
            await client.close()
    assert answer.data == payload.encode()


def commands(page: Path) -> list[tuple[str, str]]:
    """The commands of a page, each with the output shown for it."""
    steps = []
    for block in re.findall(r"^```console\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL):
        for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            # A backslash at the end of a line continues the command.
            match = re.match(r"((?:[^\n]*\\\n)*[^\n]*\n)(.*)", step, re.DOTALL)
            assert match
            steps.append((match[1].strip(), match[2]))
    return steps


def files(page: Path) -> list[tuple[str, str]]:
    """The files that a page shows, with their content."""
    pattern = r"^`([\w.]+)`:\n\n```\w+\n(.*?)^```$"
    return re.findall(pattern, page.read_text(), re.MULTILINE | re.DOTALL)

"""What the pages show is what happens: their commands, typed as they stand there."""

import re
import socket
from pathlib import Path

import pytest

from tests.support import command_line

README = Path(__file__).parents[2] / "README.md"
HTTP_PORT = 8080
"""What the README's reader is told to use."""


def console_blocks(page: Path) -> list[tuple[str, str]]:
    """The commands of a page's ``console`` blocks, each with the output shown for it."""
    steps = []
    for block in re.findall(r"^```console\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL):
        for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = step.partition("\n")
            steps.append((command, output))
    return steps


async def test_the_commands_of_the_readme_do_what_it_shows(tmp_path: Path) -> None:
    steps = console_blocks(README)
    assert len(steps) > 10, "the README's commands were not found"
    if not _is_free(HTTP_PORT):
        pytest.skip(f"port {HTTP_PORT} of the README is taken on this machine")

    async with command_line.up(tmp_path, "--hosts", "2") as lattice:
        for command, shown in steps:
            outcome = await lattice.shell(command)
            assert outcome.status == 0, f"{command}: {outcome.errors}"
            if shown:
                assert outcome.output == shown, command


async def test_the_plain_door_shown_in_the_readme_is_the_same_call(tmp_path: Path) -> None:
    import nats  # noqa: PLC0415 - a stock client, as the README promises

    subject, _, payload = (
        (re.search(r"`nats req (\S+) (\S+)`", README.read_text()) or pytest.fail("not shown"))[0]
        .strip("`")
        .removeprefix("nats req ")
        .partition(" ")
    )

    async with command_line.up(tmp_path) as lattice:
        echo = "lattice start component deploy/examples/echo/echo.wasm echo"
        assert (await lattice.shell(echo)).status == 0
        client = await nats.connect(lattice.nats_url)
        try:
            answer = await client.request(subject, payload.encode(), timeout=5)
        finally:
            await client.close()
    assert answer.data == payload.encode()


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True

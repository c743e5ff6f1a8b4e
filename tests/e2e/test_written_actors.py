"""From nothing to an actor whose own tests pass, as somebody would who writes one."""

from pathlib import Path

import pytest

from lattice.project import Kind
from tests.support import command_line
from tests.support.c_guest import needs_compiler


@needs_compiler
@pytest.mark.timeout(300)  # A compiler new to the machine first builds its own run-time library.
@pytest.mark.parametrize("kind", Kind)
async def test_a_new_actor_is_built_and_passes_the_tests_that_came_with_it(
    kind: Kind, tmp_path: Path
) -> None:
    made = await command_line.run_shell(
        f"lattice new {kind} hello --language c", directory=tmp_path
    )
    built = await command_line.run_shell(
        "lattice build --output json", directory=tmp_path / "hello"
    )
    tested = await command_line.run_shell("lattice test", directory=tmp_path / "hello")

    assert made.status == 0, made.errors
    assert built.json["kind"] == "waPC", built.errors
    assert tested.status == 0, tested.output + tested.errors
    assert "passed" in tested.output

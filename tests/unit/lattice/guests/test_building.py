"""Building: done when something changed, looked at when done, and told when it failed."""

import os
import sys
from pathlib import Path

import pytest

from lattice import binaries, errors, project
from lattice.guests import building
from lattice.guests.building import BuildFailed, Built
from lattice.guests.tools import Toolbox
from tests.support.wat import assemble

WAPC = assemble('(module (func (export "__guest_call") (param i32 i32) (result i32) i32.const 1))')
HTTP = assemble("""
  (component
    (component $nothing)
    (instance $nothing (instantiate $nothing))
    (export "wasi:http/incoming-handler@0.2.0" (instance $nothing)))
""")


class Workshop:
    """A project whose tool is a line of Python, and what is said while it is built."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: list[str] = []

    def write(self, script: str, *, abi: str = "wapc", kind: str = "custom") -> None:
        command = ", ".join(repr(word) for word in (sys.executable, "-c", script))
        self.folder.joinpath(project.FILE).write_text(
            f'[actor]\nname = "x"\nlanguage = "other"\nabi = "{abi}"\nkind = "{kind}"\n'
            f'output = "build/x.wasm"\n[build]\ncommand = [{command}]\n'
        )

    async def build(self, *, again: bool = False) -> Built:
        toolbox = Toolbox(folder=self.folder / "tools", environment=dict(os.environ))
        found = project.load(self.folder)
        return await building.build(found, toolbox, again=again, say=self.said.append)


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    (tmp_path / "made.wasm").write_bytes(WAPC)
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "x.c").write_text("1")
    made = Workshop(tmp_path)
    made.write(COPY)
    return made


COPY = 'import shutil; shutil.copy("made.wasm", "build/x.wasm"); print("a warning")'


async def test_what_a_tool_made_is_looked_at(workshop: Workshop) -> None:
    built = await workshop.build()

    assert built.path == workshop.folder / "build" / "x.wasm"
    assert built.size_bytes == len(WAPC)
    assert built.binary.abi is binaries.Abi.WAPC
    assert (built.is_new, built.output) == (True, "a warning")


async def test_what_has_not_changed_is_not_built_again(workshop: Workshop) -> None:
    first = await workshop.build()
    second = await workshop.build()

    assert (second.is_new, second.digest) == (False, first.digest)
    assert len(workshop.said) == 1


async def test_it_is_built_again_when_asked_to(workshop: Workshop) -> None:
    await workshop.build()

    assert (await workshop.build(again=True)).is_new


@pytest.mark.parametrize("changed", ["src/x.c", "src/new.c", "build/x.wasm"])
async def test_it_is_built_again_when_a_source_or_the_output_changed(
    workshop: Workshop, changed: str
) -> None:
    await workshop.build()
    (workshop.folder / changed).write_text("2")

    assert (await workshop.build()).is_new


async def test_it_is_built_again_when_a_build_failed_in_between(workshop: Workshop) -> None:
    await workshop.build()
    workshop.write("raise SystemExit(3)")
    with pytest.raises(BuildFailed):
        await workshop.build()
    workshop.write(COPY)

    assert (await workshop.build()).is_new


async def test_a_tool_that_fails_is_told_with_its_status_and_what_it_said(
    workshop: Workshop,
) -> None:
    workshop.write('print("x.c:1: no such thing"); raise SystemExit(3)')

    with pytest.raises(BuildFailed) as caught:
        await workshop.build()

    assert "failed with status 3:\nx.c:1: no such thing" in caught.value.text


@pytest.mark.parametrize("linked", ["src/outside.c", "src/shared"])
async def test_a_failed_build_names_links_that_lead_out_of_the_folder(
    workshop: Workshop, tmp_path_factory: pytest.TempPathFactory, linked: str
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "outside.c").write_text("1")
    source = elsewhere if linked == "src/shared" else elsewhere / "outside.c"
    (workshop.folder / linked).symlink_to(source)
    (workshop.folder / "src/inside.c").symlink_to("x.c")
    workshop.write("raise SystemExit(3)")

    with pytest.raises(BuildFailed, match=rf"as {linked} links out of the folder"):
        await workshop.build()


async def test_a_tool_that_made_nothing_is_told(workshop: Workshop) -> None:
    workshop.write("pass")

    with pytest.raises(BuildFailed, match=r"there is no build/x\.wasm"):
        await workshop.build()


async def test_something_else_than_webassembly_is_refused(workshop: Workshop) -> None:
    (workshop.folder / "made.wasm").write_bytes(b"#!/bin/sh")

    with pytest.raises(BuildFailed, match=r"build/x\.wasm is not what was to be built"):
        await workshop.build()


async def test_another_abi_than_the_project_says_is_refused(workshop: Workshop) -> None:
    workshop.write(COPY, abi="component")

    with pytest.raises(BuildFailed, match="speaks waPC, and component was wanted"):
        await workshop.build()


async def test_an_http_actor_that_answers_no_http_is_refused(workshop: Workshop) -> None:
    (workshop.folder / "made.wasm").write_bytes(assemble("(component)"))
    workshop.write(COPY, abi="component", kind="http")
    with pytest.raises(BuildFailed, match="does not export wasi:http/incoming-handler"):
        await workshop.build()

    (workshop.folder / "made.wasm").write_bytes(HTTP)

    assert (await workshop.build()).binary.abi is binaries.Abi.COMPONENT


async def test_a_program_that_is_not_there_is_told(workshop: Workshop) -> None:
    path = workshop.folder / project.FILE
    path.write_text(path.read_text().replace(repr(sys.executable), '"no-such-tool"'))

    with pytest.raises(errors.NotFound, match="there is no program no-such-tool"):
        await workshop.build()


async def test_a_tool_that_never_ends_is_ended(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "BUILD_TIMEOUT_S", 0.3)
    workshop.write("import time; print('thinking', flush=True); time.sleep(600)")

    with pytest.raises(errors.DeadlineExceeded, match="took longer than 0 s and was ended"):
        await workshop.build()


async def test_of_a_tool_that_talks_without_end_the_last_words_are_kept(
    workshop: Workshop,
) -> None:
    workshop.write("print('x' * 1_000_000); print('the end'); raise SystemExit(1)")

    with pytest.raises(BuildFailed) as caught:
        await workshop.build()

    assert caught.value.text.endswith("the end")
    assert len(caught.value.text) < 70_000

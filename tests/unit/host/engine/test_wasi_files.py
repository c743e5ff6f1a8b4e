"""Directories of an actor, through its own calls: what it can do, and that nothing stays open."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from host.engine import Code, Directory, Engine, Execution, World, preview1
from host.engine.descriptors import DESCRIPTORS_MAX
from lattice import errors
from tests.support.c_guest import compiled, needs_compiler
from tests.support.host_calls import Host, now_s, run, until
from tests.support.open_files import open_below

pytestmark = needs_compiler

Call = Callable[[str, bytes], Execution]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    data = tmp_path / "data"
    data.mkdir()
    (data / "greeting").write_text("hello")
    (tmp_path / "secret").write_text("secret")
    return data


@pytest.fixture
async def module(engine: Engine) -> Code:
    return await engine.load(compiled("files"))


def call(
    module: Code, data: Path | None, operation: str, payload: bytes, *, writable: bool = False
) -> Execution:
    directories = []
    if data is not None:
        directories = [Directory(guest_path="/data", host_path=data, writable=writable)]
    return Execution(
        module,
        Host(),
        operation=operation,
        payload=payload,
        world=World(directories=tuple(directories)),
        deadline=now_s() + 30,
    )


async def test_a_file_is_read(module: Code, data: Path) -> None:
    assert await run(call(module, data, "r", b"greeting")) == b"\0hello"
    await until(lambda: not open_below(data))


async def test_without_a_directory_there_is_no_descriptor(module: Code) -> None:
    for operation in "rwl":
        assert await run(call(module, None, operation, b"x")) == bytes([preview1.BADF])


async def test_a_directory_is_read_only_unless_said_otherwise(module: Code, data: Path) -> None:
    refused = bytes([preview1.ROFS])
    assert await run(call(module, data, "w", b"new")) == refused
    assert await run(call(module, data, "w", b"new", writable=True)) == b"\0"
    assert (data / "new").read_text() == "new"


async def test_a_directory_is_listed(module: Code, data: Path) -> None:
    listing = await run(call(module, data, "l", b""))
    assert listing[0] == 0
    assert b"greeting" in listing


@pytest.mark.parametrize("path", [b"../secret", b"/etc/passwd", b"x/../../secret"])
async def test_no_path_leads_out(module: Code, data: Path, path: bytes) -> None:
    (data / "x").mkdir()
    assert await run(call(module, data, "r", path)) == bytes([preview1.NOTCAPABLE])


async def test_descriptors_of_a_call_are_bounded(module: Code, data: Path) -> None:
    room = DESCRIPTORS_MAX - 4
    assert await run(call(module, data, "o", b"greeting")) == bytes([preview1.MFILE, room])
    await until(lambda: not open_below(data))


async def test_files_are_closed_when_the_guest_traps(module: Code, data: Path) -> None:
    with pytest.raises(errors.ActorTrapped):
        await run(call(module, data, "t", b"greeting"))
    await until(lambda: not open_below(data))


async def test_files_are_closed_when_the_caller_goes_away(module: Code, data: Path) -> None:
    task = asyncio.create_task(run(call(module, data, "s", b"greeting")))
    await until(lambda: str(data / "greeting") in open_below(data))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: not open_below(data))


async def test_a_closed_engine_leaves_no_file_open(
    engine: Engine, module: Code, data: Path
) -> None:
    task = asyncio.create_task(run(call(module, data, "s", b"greeting")))
    await until(lambda: str(data / "greeting") in open_below(data))
    engine.close()
    with pytest.raises(errors.Cancelled):
        await task
    assert not open_below(data)

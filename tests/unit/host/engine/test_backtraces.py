"""Backtraces: functions, and lines where a module has debug information."""

import re

import pytest

from host.engine import Engine
from host.engine import module as module_facts
from lattice import errors
from tests.support.c_guest import compiled, needs_compiler
from tests.support.host_calls import execution, run


@pytest.fixture
def cache_dir() -> None:
    """Nowhere: what is compiled here is compiled anew."""


async def backtrace(engine: Engine, *options: str) -> list[str]:
    module = await engine.load(compiled("lines", *options))
    with pytest.raises(errors.ActorTrapped) as trapped:
        await run(execution(module, b"xxx"))
    return str(trapped.value.detail["backtrace"]).splitlines()


@needs_compiler
async def test_with_debug_information_a_trap_names_files_and_lines(engine: Engine) -> None:
    frames = await backtrace(engine, "-g")

    assert [re.sub(r"at \S*/|:\d+ @.*", "", frame) for frame in frames] == [
        "deepest lines.c:10",
        "middle lines.c:16",
        "guest_call lines.c:24",
    ]


@needs_compiler
async def test_without_debug_information_it_names_functions(engine: Engine) -> None:
    frames = await backtrace(engine, "-g", "-g0")

    assert [frame.split(" @ ")[0] for frame in frames] == ["deepest", "middle", "guest_call"]


@needs_compiler
async def test_with_too_much_debug_information_it_names_functions(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module_facts, "DEBUG_BYTES_MAX", 100)
    frames = await backtrace(engine, "-g")

    assert [frame.split(" @ ")[0] for frame in frames] == ["deepest", "middle", "guest_call"]


def test_a_broken_module_is_left_to_the_compiler() -> None:
    broken = module_facts.MAGIC + module_facts.CORE_VERSION + b"\0\xff"
    assert module_facts.without_much_debug(broken) == broken


@needs_compiler
async def test_a_file_whose_name_looks_like_a_failing_allocator_is_none(engine: Engine) -> None:
    # As a path, "/room/lines.c" would have the "oom" of "rust_oom".
    frames = await backtrace(engine, "-g", "-ffile-prefix-map=/=/room/")

    assert "oom" in "".join(frames)

"""Programs that are no actors: run once, from their start to their exit."""

import pytest

from host.engine import Engine, Finished, run_command
from lattice import errors
from tests.support.c_guest import compiled, needs_compiler
from tests.support.wat import actor, assemble


@needs_compiler
async def test_a_program_finds_its_arguments_and_variables_and_exits(engine: Engine) -> None:
    finished = await run_command(
        engine,
        compiled("program"),
        arguments=["program", "", "two words"],
        environment={"HOME": "/", "EMPTY": ""},
    )

    assert finished == Finished(
        status=3, output=b"program\n\ntwo words\n", errors=b"HOME=/\nEMPTY=\n"
    )


@needs_compiler
async def test_a_program_that_returns_has_status_zero(engine: Engine) -> None:
    assert await run_command(engine, compiled("program")) == Finished(
        status=0, output=b"", errors=b""
    )


async def test_what_has_no_start_is_no_program(engine: Engine) -> None:
    with pytest.raises(errors.InvalidRequest, match="exports no _start"):
        await run_command(engine, actor("echo"))


async def test_a_program_is_no_actor(engine: Engine) -> None:
    program = assemble('(module (memory (export "memory") 1) (func (export "_start")))')
    assert (await run_command(engine, program)).status == 0
    with pytest.raises(errors.InvalidRequest, match="exports no __guest_call"):
        await engine.load(program)


async def test_a_program_that_traps_raises(engine: Engine) -> None:
    program = assemble(
        '(module (memory (export "memory") 1) (func (export "_start") (unreachable)))'
    )
    with pytest.raises(errors.ActorTrapped):
        await run_command(engine, program)


async def test_a_program_runs_out_of_time(engine: Engine) -> None:
    program = assemble(
        '(module (memory (export "memory") 1) (func (export "_start") (loop (br 0))))'
    )
    with pytest.raises(errors.DeadlineExceeded):
        await run_command(engine, program, timeout_s=0.05)

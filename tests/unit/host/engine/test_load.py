"""Modules: which are taken, why others are not, and how often one is compiled."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from host.engine import Code, Engine, EngineSettings
from lattice import errors
from tests.support.host_calls import execution, run, until
from tests.support.wat import actor, assemble

Load = Callable[[str], Awaitable[Code]]


@pytest.fixture
def cache_dir() -> None:
    """Nowhere: what is compiled here is compiled anew."""


async def test_a_module_knows_what_it_is(load: Load) -> None:
    module = await load("relay")
    assert (module.abi, module.size) == ("wapc", len(actor("relay")))
    assert len(module.digest) == 64
    assert "wapc.__host_call" in module.imports
    assert module.exports == ("__guest_call",)
    assert module.memory_bytes_min == 4 * 64 * 1024


REFUSED = {
    "no_guest_call": "exports no __guest_call",
    "no_memory": 'exports no memory named "memory"',
    "wrong_signature": r"__guest_call is exported as func \(i32, i64\) -> \(i32\)",
}


@pytest.mark.parametrize(("name", "said"), list(REFUSED.items()), ids=list(REFUSED))
async def test_a_module_that_is_no_actor_is_refused_saying_why(
    load: Load, name: str, said: str
) -> None:
    with pytest.raises(errors.InvalidRequest, match=said):
        await load(name)


async def test_a_module_over_the_memory_limit_is_refused_naming_both(load: Load) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        await load("huge")
    assert str(256 << 20) in caught.value.text
    assert str(64 << 20) in caught.value.text


async def test_every_import_that_cannot_be_linked_is_named(load: Load) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        await load("unknown_import")
    assert 'unknown import "env.launch"' in caught.value.text
    assert 'unknown import "wapc.__host_teleport"' in caught.value.text
    assert 'import "wapc.__console_log" as func (i32) -> ()' in caught.value.text


@pytest.mark.parametrize(
    ("wasm", "said"),
    [
        (b"", "not WebAssembly"),
        (b"#!/bin/sh", "not WebAssembly"),
        (b"(module)", "not WebAssembly"),
        (b"\0asm\x0d\0\1\0", "component exports no function"),
        (b"\0asm\2\0\0\0", "unknown version"),
        (b"\0asm", "unknown version"),
        (b"\0asm\1\0\0\0\xff\xff\xff", "does not compile"),
    ],
    ids=["nothing", "a script", "text", "an empty component", "a version", "a stub", "garbage"],
)
async def test_what_is_no_module_is_refused_saying_what_it_is(
    engine: Engine, wasm: bytes, said: str
) -> None:
    with pytest.raises(errors.InvalidRequest, match=said):
        await engine.load(wasm)


async def test_a_module_over_the_size_limit_is_refused_with_both_figures() -> None:
    engine = Engine(EngineSettings(instances_max=1, module_bytes_max=100))
    try:
        with pytest.raises(errors.PayloadTooLarge) as caught:
            await engine.load(bytes(101))
        assert caught.value.detail == {"size": 101, "limit": 100}
    finally:
        engine.close()


async def test_loading_one_module_many_times_at_once_compiles_it_once(engine: Engine) -> None:
    wasm = actor("echo")
    modules = await asyncio.gather(*(engine.load(wasm) for _ in range(10)))
    assert len({id(module) for module in modules}) == 1
    assert engine.statistics().compiled == 1
    assert await engine.load(wasm) is modules[0]


async def test_one_waiter_that_gives_up_does_not_take_the_others_along(engine: Engine) -> None:
    wasm = actor("echo")
    first = asyncio.create_task(engine.load(wasm))
    second = asyncio.create_task(engine.load(wasm))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).size == len(wasm)


async def test_a_compilation_over_its_time_is_reported_and_its_result_kept() -> None:
    engine = Engine(EngineSettings(instances_max=1, compile_timeout_s=0.0))
    try:
        with pytest.raises(errors.DeadlineExceeded, match="did not compile within 0 s"):
            await engine.load(actor("echo"))
    finally:
        engine.close()


async def test_a_module_nobody_holds_is_forgotten(engine: Engine) -> None:
    module = await engine.load(actor("echo"))
    assert engine.statistics().modules == 1
    del module
    await until(lambda: engine.statistics().modules == 0)


async def test_a_module_outlives_every_other_reference_while_a_call_uses_it(
    engine: Engine,
) -> None:
    call = execution(await engine.load(actor("work")), bytes(50))
    assert await run(call) == b""


async def test_memory_shared_between_threads_is_not_taken(engine: Engine) -> None:
    wasm = assemble(
        """(module (memory (export "memory") 1 1 shared)
        (func (export "__guest_call") (param i32 i32) (result i32) (i32.const 1)))"""
    )
    with pytest.raises(errors.InvalidRequest):
        await engine.load(wasm)


async def test_an_engine_asked_for_more_than_there_is_makes_do_with_less() -> None:
    engine = Engine(EngineSettings(instances_max=10_000_000))
    try:
        assert 1 <= engine.statistics().instances_max < 10_000_000
        echo = await engine.load(actor("echo"))
        assert await run(execution(echo, b"x")) == b"x"
    finally:
        engine.close()


async def test_a_closed_engine_loads_nothing() -> None:
    engine = Engine(EngineSettings(instances_max=1))
    engine.close()
    with pytest.raises(errors.Draining):
        await engine.load(actor("echo"))

"""Components that break the canonical ABI's rules: each ends in a typed error, the host goes on."""

import asyncio
import resource
from collections.abc import AsyncIterator

import pytest

from host.engine import Engine
from lattice import errors, limits
from lattice.wire import codec
from tests.support.components import CALLER, DOUBLER, guest
from tests.support.engines import assert_works, idle_engine
from tests.support.host_calls import Host, execution, run, until
from tests.support.wat import assemble


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with idle_engine(instances_max=8) as engine:
        yield engine
        await assert_works(engine)


def returning(kind: str, body: str, *, memory: str = "1", realloc: str = "unreachable") -> bytes:
    """A component whose ``run`` takes a string and gives a value at the address this code gives."""
    return assemble(f"""
      (component
        (core module $main
          (memory (export "memory") {memory})
          (func (export "realloc") (param i32 i32 i32 i32) (result i32) {realloc})
          (func (export "run") (param i32 i32) (result i32) {body}))
        (core instance $main (instantiate $main))
        (func (export "run") (param "text" string) (result {kind}) (canon lift
          (core func $main "run")
          (memory (core memory $main "memory"))
          (realloc (core func $main "realloc")))))
    """)


ALLOCATES = "(i32.const 1024)"
"""An allocator that always gives the same place."""

AT_8 = "(i32.store (i32.const 0) (i32.const 8))"
"""Where a list or a string begins, written where it is returned."""


def sized(length: str) -> str:
    return f"{AT_8} (i32.store (i32.const 4) (i32.const {length})) (i32.const 0)"


@pytest.mark.parametrize(
    ("wasm", "said"),
    [
        (returning("string", "unreachable"), "unreachable"),
        (returning("string", "unreachable", realloc="(i32.const -1)"), "realloc return"),
        (returning("string", "(i32.const 65536)", realloc=ALLOCATES), "out of bounds"),
        (returning("string", "(i32.const 3)", realloc=ALLOCATES), "not aligned"),
        (returning("string", sized("65536"), realloc=ALLOCATES), "out of bounds"),
        (returning("(list u32)", sized("-1"), realloc=ALLOCATES), ""),
        (
            returning(
                "string",
                f"(i32.store8 (i32.const 8) (i32.const 0xff)) {sized('1')}",
                realloc=ALLOCATES,
            ),
            "utf-8",
        ),
        (
            returning(
                "(option u32)",
                "(i32.store8 (i32.const 0) (i32.const 9)) (i32.const 0)",
                realloc=ALLOCATES,
            ),
            "discriminant",
        ),
        (
            returning(
                "(tuple char char)",
                "(i32.store (i32.const 0) (i32.const 0xd800)) (i32.const 0)",
                realloc=ALLOCATES,
            ),
            "char",
        ),
    ],
    ids=[
        "an allocator that traps",
        "an allocator that gives nothing",
        "a result beyond its memory",
        "a result out of line",
        "a string beyond its memory",
        "a list of four billion",
        "a string that is none",
        "an option that is neither",
        "half a character",
    ],
)
async def test_a_guest_that_lies_about_its_result_traps(
    engine: Engine, wasm: bytes, said: str
) -> None:
    component = await engine.load(wasm)
    with pytest.raises(errors.ActorTrapped) as trapped:
        await run(execution(component, codec.pack(["text"]), operation="run"))
    assert said in trapped.value.text.lower()


async def test_a_result_of_too_many_values_ends_the_call_before_it_is_copied(
    engine: Engine,
) -> None:
    wasm = returning("(list u8)", sized("60000000"), memory="1000", realloc=ALLOCATES)
    component = await engine.load(wasm)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(errors.ActorTrapped, match="too much data is being copied"):
        await run(execution(component, codec.pack(["text"]), operation="run"))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert after - before < 500 * limits.KIB, "in KiB: as values they would take 2 GB"


async def test_any_payload_is_answered_with_an_error_or_a_result(engine: Engine) -> None:
    component = await engine.load(DOUBLER)
    for payload in (b"", b"\xc1", b"\x90", b"\x91\xc0", b"\x91\xcf" + b"\xff" * 8, b"\xff" * 100):
        with pytest.raises(errors.InvalidRequest):
            await run(execution(component, payload, operation="ops.double"))


@pytest.mark.parametrize("waits", [1, 2])
async def test_a_call_can_be_ended_at_any_of_its_waits(engine: Engine, waits: int) -> None:
    component = await engine.load(CALLER)
    asked: list[asyncio.Future[bytes]] = []

    def answer(_request: object) -> asyncio.Future[bytes]:
        asked.append(asyncio.get_running_loop().create_future())
        if len(asked) < waits:
            asked[-1].set_result(codec.pack(1))
        return asked[-1]

    call = execution(component, codec.pack([1]), operation="more.quadruple", host=Host(answer))
    assert not call.start()
    finish = asyncio.ensure_future(call.finish())
    await until(lambda: len(asked) == waits)
    call.abandon()
    with pytest.raises(errors.Cancelled):
        await finish


async def test_a_store_that_answers_nonsense_is_an_error_to_the_guest(engine: Engine) -> None:
    component = await engine.load(guest("capabilities"))
    nonsense = [b"", b"\xc1", *map(codec.pack, (5, {}, {"ok": "x"}, {"err": None}, {"ok": [b""]}))]
    asked = ("store", "keys 0", "keys2 0", "increment 1", "increment2 1", "swap", "batch", "many 2")
    for what in asked:
        for answer in nonsense:
            host = Host(lambda _request, answer=answer: answer)  # type: ignore[misc]
            call = execution(component, codec.pack([what]), operation="exercise", host=host)
            result = codec.unpack(await run(call))
            assert "Error::Other" in result["err"], (what, answer)


async def test_a_store_that_tells_a_swap_nonsense_is_an_error_to_the_guest(engine: Engine) -> None:
    component = await engine.load(guest("capabilities"))
    nothing = codec.pack({"ok": {"value": None, "version": None}})
    for answer in ({"err": {"cas-failed": None}}, {"err": {"other": "x"}}, {"ok": 1}, None):
        answers = iter([nothing, codec.pack({"ok": None}), codec.pack(answer)])
        host = Host(lambda _request, answers=answers: next(answers))  # type: ignore[misc]
        call = execution(component, codec.pack(["swap"]), operation="exercise", host=host)
        assert "Error::Other" in codec.unpack(await run(call))["err"], answer

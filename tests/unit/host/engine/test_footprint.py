"""What a component's memories and tables come to, and that their sum is what is limited."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from host.engine import CallLimits, Engine
from host.engine.component_binary import PAGE_BYTES, read
from host.engine.footprint import (
    INSTANCES_MAX,
    MEMORIES_MAX,
    TABLE_ELEMENTS_TOTAL_MAX,
    TABLES_MAX,
    footprint,
)
from host.engine.module import TABLE_ELEMENTS_MAX
from lattice import errors
from lattice.wire import codec
from tests.support.components import CALLER, DOUBLER, guest
from tests.support.engines import idle_engine
from tests.support.host_calls import execution, run
from tests.support.wat import assemble


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with idle_engine(instances_max=40) as engine:
        yield engine


ONE = '(core module $one (memory (export "memory") 1) (table 2 funcref))'
"""A module of one memory and one table."""


def times(what: str, count: int, kind: str = "core instance") -> str:
    return f"({kind} (instantiate {what}))" * count


@pytest.mark.parametrize(
    ("text", "instances", "memories", "pages"),
    [
        (ONE, 0, 0, 0),
        (ONE + times("$one", 3), 3, 3, 3),
        (f"{ONE} {times('$one', 2)} (core module $two (memory 5)) {times('$two', 1)}", 3, 3, 7),
        # A component with two, made three times.
        (
            f"(component $c {ONE} {times('$one', 2)}) {times('$c', 3, 'instance')}",
            6,
            6,
            6,
        ),
        # One module from outside, made inside.
        (
            f"""{ONE} (component $c (alias outer 1 $one (core module $m)) {times("$m", 2)})
            {times("$c", 2, "instance")}""",
            4,
            4,
            4,
        ),
        # Exports have numbers of their own.
        (
            f"""(component $c) (component $d {ONE} {times("$one", 1)})
            (export $e "d" (component $d)) {times("$e", 2, "instance")}""",
            2,
            2,
            2,
        ),
    ],
    ids=["defined only", "thrice", "two modules", "nested", "from outside", "exported"],
)
def test_memories_are_counted_as_often_as_they_are_made(
    text: str, instances: int, memories: int, pages: int
) -> None:
    found = footprint(read(assemble(f"(component {text})")))
    assert (found.instances, found.memories) == (instances, memories)
    assert found.memory_bytes == pages * PAGE_BYTES
    assert found.is_known


@pytest.mark.parametrize("name", ["http_handler", "capabilities", "files"])
def test_what_toolchains_make_is_understood(name: str) -> None:
    found = footprint(read(guest(name)))
    assert found.is_known
    assert found.memories == 1
    assert 1 <= found.instances <= 10


def test_what_other_toolchains_make_is_understood() -> None:
    examples = Path(__file__).parents[4] / "deploy" / "examples"
    for wasm in (CALLER, DOUBLER, *map(Path.read_bytes, examples.rglob("*.wasm"))):
        if wasm[4:8] != b"\x01\0\0\0":
            assert footprint(read(wasm)).is_known


def test_what_cannot_be_followed_counts_as_the_most_there_may_be() -> None:
    """A module that is handed over, here under another one's eyes."""
    given = assemble(f"""
      (component {ONE}
        (component $c (import "m" (core module $m)) {times("$m", 1)})
        (instance (instantiate $c (with "m" (core module $one)))))
    """)
    found = footprint(read(given))
    assert (found.instances, found.memories, found.tables) == (
        INSTANCES_MAX,
        MEMORIES_MAX,
        TABLES_MAX,
    )


def test_doubling_comes_to_an_end() -> None:
    deep = f"(component $c0 {ONE} {times('$one', 2)})"
    for level in range(1, 200):
        deep += f"(component $c{level} (alias outer 1 $c{level - 1} (component $d))"
        deep += f"{times('$d', 2, 'instance')})"
    found = footprint(read(assemble(f"(component {deep} {times('$c199', 1, 'instance')})")))
    assert (found.memories, found.is_known) == (1 << 32, True)


GROW = """
  (func (export "grow") (result i32) (local $pages i32)
    (loop $more
      (if (i32.ne (memory.grow (i32.const 1)) (i32.const -1)) (then
        (local.set $pages (i32.add (local.get $pages) (i32.const 1)))
        (br $more))))
    (local.get $pages))
"""

GROW_TABLE = """
  (func (export "grow") (result i32) (local $elements i32)
    (loop $more
      (if (i32.ne (table.grow (ref.null func) (i32.const 1000)) (i32.const -1)) (then
        (local.set $elements (i32.add (local.get $elements) (i32.const 1000)))
        (br $more))))
    (local.get $elements))
"""


def growing(module: str, count: int) -> bytes:
    """A component of several instances of a module, each of which can be made to grow."""
    text = f"(core module $one {module})"
    for number in range(count):
        text += f"(core instance $i{number} (instantiate $one))"
        text += f'(func $f{number} (result u32) (canon lift (core func $i{number} "grow")))'
    text += f"""
      (core module $all
        {"".join(f'(import "" "{n}" (func $f{n} (result i32)))' for n in range(count))}
        (func (export "all") (result i32)
          (i32.const 0) {"".join(f"(i32.add (call $f{n}))" for n in range(count))}))
      (core instance $all (instantiate $all (with "" (instance
        {"".join(f'(export "{n}" (func $i{n} "grow"))' for n in range(count))}))))
      (func (export "all") (result u32) (canon lift (core func $all "all")))
    """
    return assemble(f"(component {text})")


@pytest.mark.parametrize("count", [1, 2, 3, 16])
async def test_all_memories_together_grow_to_the_limit(engine: Engine, count: int) -> None:
    pages = 64
    component = await engine.load(growing("(memory 1)" + GROW, count))
    limits = CallLimits(memory_bytes=pages * PAGE_BYTES)
    grown = codec.unpack(await run(execution(component, operation="all", limits=limits)))
    assert grown == pages // count * count - count


@pytest.mark.parametrize("count", [1, 4, 8, 32])
async def test_all_tables_together_grow_to_their_limit(engine: Engine, count: int) -> None:
    component = await engine.load(growing("(table 1 funcref)" + GROW_TABLE, count))
    grown = codec.unpack(await run(execution(component, operation="all")))
    most = min(count * TABLE_ELEMENTS_MAX, TABLE_ELEMENTS_TOTAL_MAX)
    assert most - 1000 * count <= grown <= most


async def test_memories_of_different_sizes_must_fit_side_by_side(engine: Engine) -> None:
    uneven = f"(core module $a (memory 20)) {times('$a', 1)} {ONE} {times('$one', 1)}"
    component = await engine.load(
        assemble(f"""(component {uneven}
          (core module $f (func (export "f"))) (core instance $f (instantiate $f))
          (func (export "f") (canon lift (core func $f "f"))))""")
    )
    for pages, fits in ((40, True), (39, False), (21, False)):
        limits = CallLimits(memory_bytes=pages * PAGE_BYTES)
        call = execution(component, operation="f", limits=limits)
        if fits:
            await run(call)
            continue
        with pytest.raises(errors.MemoryExceeded) as refused:
            await run(call)
        assert str(40 * PAGE_BYTES) in refused.value.text
        assert str(pages * PAGE_BYTES) in refused.value.text


MANY: dict[str, Callable[[], str]] = {
    "17 memories, over the limit of 16": lambda: ONE + times("$one", 17),
    "33 tables, over the limit of 32": lambda: (
        "(core module $t (table 1 funcref))" + times("$t", 33)
    ),
    "201 instances of core modules, over the limit of 200": lambda: (
        "(core module $n)" + times("$n", 201)
    ),
    "100001 elements, over the limit of 100000 for each of 1": lambda: (
        "(core module $t (table 100001 funcref))" + times("$t", 1)
    ),
    "50001 elements, over the limit of 50000 for each of 8": lambda: (
        "(core module $t (table 50001 funcref))" + times("$t", 8)
    ),
    r"needs 5242880000 bytes of memory \(2 memories share it evenly\), over the limit of": lambda: (
        f"(core module $a (memory 40000)) {times('$a', 1)} {ONE} {times('$one', 1)}"
    ),
}


@pytest.mark.parametrize("said", MANY)
async def test_more_than_there_may_be_is_refused_when_it_is_loaded(
    engine: Engine, said: str
) -> None:
    with pytest.raises(errors.InvalidRequest, match=said):
        await engine.load(assemble(f"(component {MANY[said]()})"))

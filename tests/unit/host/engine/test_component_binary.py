"""Reading what a component is made of, and adding to it, whatever the bytes are."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from host.engine import Engine, EngineSettings
from host.engine.component_binary import (
    COMPONENT,
    CORE_INSTANCES,
    ENTRIES_MAX,
    MODULE,
    PAGE_BYTES,
    TYPE_SORT,
    TYPES,
    read,
)
from host.engine.footprint import INSTANCES_MAX, MEMORIES_MAX, footprint
from host.engine.gauge import gauged
from lattice import errors
from lattice.identity import sections
from tests.support.components import CALLER, KEEPS, guest
from tests.support.host_calls import execution, run
from tests.support.wat import assemble

NESTED = assemble("""
  (component
    (core module $one (memory (export "memory") 1) (table 2 funcref))
    (core instance $one (instantiate $one))
    (component $c
      (alias outer 1 $one (core module $m))
      (core instance $m (instantiate $m))
      (core module $two (import "m" "memory" (memory 1)) (memory 3))
      (core instance (instantiate $two (with "m" (instance $m)))))
    (export $e "d" (component $c))
    (instance (instantiate $c))
    (instance (instantiate $e)))
""")
"""Nine pages in five memories."""


def check(wasm: bytes) -> None:
    """Whatever it is, it is read in bounded time or refused; and stays what it was, with more."""
    try:
        binary = read(wasm)
    except errors.InvalidRequest:
        return
    needs = footprint(binary)
    if (added := gauged(binary, needs)) is None:
        return
    again = read(added)
    assert again.is_known
    found = footprint(again)
    assert (found.memories, found.memory_bytes) == (needs.memories, needs.memory_bytes)
    assert found.instances < needs.instances + 2 * needs.memories


def test_what_is_added_makes_no_memory() -> None:
    needs = footprint(read(NESTED))
    assert (needs.memories, needs.memory_bytes) == (5, 9 * PAGE_BYTES)
    assert gauged(read(NESTED), needs) is not None
    check(NESTED)


@pytest.mark.parametrize("wasm", [NESTED, CALLER], ids=["nested", "imports"])
def test_any_byte_may_be_another(wasm: bytes) -> None:
    for place, byte in itertools.product(range(8, len(wasm)), (0, 1, 0x7F, 0xFF)):
        check(wasm[:place] + bytes([byte]) + wasm[place + 1 :])


@given(st.data())
def test_pieces_may_be_gone_doubled_or_rubbish(data: st.DataObject) -> None:
    wasm = data.draw(st.sampled_from([NESTED, CALLER, KEEPS, guest("capabilities")]))
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(8, len(wasm)))
        end = data.draw(st.integers(start, min(start + 40, len(wasm))))
        piece = data.draw(st.one_of(st.just(wasm[start:end] * 2), st.binary(max_size=20)))
        wasm = wasm[:start] + piece + wasm[end:]
    check(wasm)


def binaries(parts: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Modules and components of sections with right lengths and any kinds."""
    section = st.builds(sections.section, st.integers(0, 14), parts)
    header = st.sampled_from([sections.MODULE, sections.COMPONENT])
    return st.builds(
        lambda first, kinds: first + b"".join(kinds), header, st.lists(section, max_size=6)
    )


CONTENTS = st.one_of(
    st.binary(max_size=30),
    # Lists, forms and numbers, which are mostly small.
    st.lists(st.integers(0, 5), max_size=30).map(bytes),
    st.integers(0, 2**70).map(sections.number),
)


@given(st.recursive(binaries(CONTENTS), lambda inner: binaries(CONTENTS | inner), max_leaves=20))
def test_sections_may_hold_anything(wasm: bytes) -> None:
    check(wasm)


def component(kind: int, content: bytes) -> bytes:
    return sections.COMPONENT + sections.section(kind, content)


def test_a_list_that_claims_to_be_endless_is_refused() -> None:
    for kind in (CORE_INSTANCES, 5, 6, 8, 10, 11):
        with pytest.raises(errors.InvalidRequest, match=f"more than {ENTRIES_MAX} entries"):
            read(component(kind, sections.number(2**63)))


def test_types_are_counted_without_being_read() -> None:
    assert read(component(TYPES, sections.number(2**63))).counts[TYPE_SORT] == 2**63


def test_entries_are_counted_over_all_lists_and_layers() -> None:
    """Of instances made of nothing, and of memories of modules within."""
    half = ENTRIES_MAX // 2
    instances = sections.section(CORE_INSTANCES, sections.number(half) + b"\1\0" * half)
    memories = sections.section(5, sections.number(half) + b"\0\0" * half)
    wasm = component(COMPONENT, component(MODULE, sections.MODULE + memories)) + instances
    assert read(wasm).is_known
    with pytest.raises(errors.InvalidRequest, match="entries in all"):
        read(wasm + sections.section(CORE_INSTANCES, b"\1\1\0"))


def test_components_within_components_come_to_an_end() -> None:
    wasm = sections.COMPONENT
    for _ in range(sections.DEPTH_MAX):
        wasm = component(COMPONENT, wasm)
    check(wasm)
    assert read(wasm).is_known
    with pytest.raises(errors.InvalidRequest, match="too deep"):
        read(component(COMPONENT, wasm))


MODULES = {
    "plain": "",
    "has one": "(memory 2)",
    "exports one": '(memory (export "memory") 1)',
    "imports one": '(import "m" "memory" (memory 1))',
    "imports one and has one": '(import "m" "memory" (memory 1)) (memory 3)',
}


@st.composite
def components(draw: st.DrawFn, depth: int = 0) -> str:
    """The inside of a component, which exports ``run``: some instances of modules and components,
    defined in it or further out.
    """
    text = (
        '(core module $giver (memory (export "memory") 1)) (core instance $m (instantiate $giver))'
    )
    text += '(core module $runs (func (export "run"))) (core instance $run (instantiate $runs))'
    text += '(func (export "run") (canon lift (core func $run "run")))'
    names = draw(st.lists(st.sampled_from(sorted(MODULES)), max_size=3))
    for number, name in enumerate(names):
        text += f"(core module $module{number} {MODULES[name]})"
        for _ in range(draw(st.integers(0, 2))):
            text += f'(core instance (instantiate $module{number} (with "m" (instance $m))))'
    if depth:
        text += "(alias outer 1 $giver (core module $outer)) (core instance (instantiate $outer))"
    for number in range(draw(st.integers(0, 2 - depth))):
        text += f"(component $component{number} {draw(components(depth + 1))})"
        text += f"(instance (instantiate $component{number}))" * draw(st.integers(0, 2))
    return text


@given(components())
@settings(max_examples=40)
async def test_every_memory_of_every_composition_is_told(text: str) -> None:
    wasm = assemble(f"(component {text})")
    needs = footprint(read(wasm))
    if needs.memories > MEMORIES_MAX or needs.instances > INSTANCES_MAX:
        return
    assert gauged(read(wasm), needs) is not None
    engine = Engine(EngineSettings(instances_max=150))
    try:
        call = execution(await engine.load(wasm), operation="run")
        await run(call)
        assert call.usage.memory_bytes == needs.memory_bytes
        assert engine.statistics().compiled == 1
    finally:
        engine.close()

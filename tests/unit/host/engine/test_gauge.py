"""What a component's memory has grown to: told by an export that the host adds to its binary."""

import time
from collections.abc import AsyncIterator

import pytest

from host.engine import CallLimits, Code, Component, Engine, EngineSettings, gauge, steps, traps
from host.engine.component_binary import PAGE_BYTES, read
from host.engine.component_execution import ComponentExecution
from host.engine.footprint import INSTANCES_MAX, MEMORIES_MAX, footprint
from host.engine.gauge import NAME, gauged
from host.engine.reuse import ReusePolicy
from lattice import errors, limits
from lattice.wire import codec
from tests.support.components import CALLER, DOUBLER, guest
from tests.support.engines import idle_engine
from tests.support.host_calls import Host, execution, run
from tests.support.wat import assemble


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with idle_engine(instances_max=20) as engine:
        yield engine


def growing(count: int = 1, *, fillers: int = 0) -> bytes:
    """A component of several memories, each of which grows by as many pages as it is told."""
    functions = "".join(
        f"""(core instance $i{number} (instantiate $one))
        (func (export "grow{number}") (param "pages" u32) (result u32)
          (canon lift (core func $i{number} "grow")))"""
        for number in range(count)
    )
    return assemble(f"""(component
      (core module $one
        (memory (export "mine") 1)
        (func (export "grow") (param i32) (result i32)
          (if (i32.eq (local.get 0) (i32.const 13)) (then unreachable))
          (memory.grow (local.get 0))))
      (core module $filler)
      {"(core instance (instantiate $filler))" * fillers}
      {functions})""")


async def memory_after(code: Code, operation: str, *arguments: object) -> int:
    call = execution(code, codec.pack(list(arguments)), operation=operation)
    await run(call)
    return call.usage.memory_bytes // PAGE_BYTES


async def test_a_call_tells_what_memory_it_had_at_its_end(engine: Engine) -> None:
    component = await engine.load(growing())
    assert await memory_after(component, "grow0", 0) == 1
    assert await memory_after(component, "grow0", 40) == 41


@pytest.mark.parametrize("count", [2, 3, MEMORIES_MAX])
async def test_the_sizes_of_all_memories_are_added(engine: Engine, count: int) -> None:
    component = await engine.load(growing(count))
    assert await memory_after(component, "grow0", 5) == count + 5
    assert await memory_after(component, f"grow{count - 1}", 5) == count + 5


async def test_a_component_may_have_as_many_instances_as_before(engine: Engine) -> None:
    component = await engine.load(growing(2, fillers=INSTANCES_MAX - 2))
    with pytest.raises(errors.Overloaded, match="no room for another instance"):
        await memory_after(component, "grow0", 5)
    alone = Engine(EngineSettings(instances_max=60))
    component = await alone.load(growing(2, fillers=INSTANCES_MAX - 2))
    assert await memory_after(component, "grow0", 5) == 7
    alone.close()


async def test_growth_that_was_refused_is_not_told(engine: Engine) -> None:
    component = await engine.load(growing())
    limits = CallLimits(memory_bytes=10 * PAGE_BYTES)
    call = execution(component, codec.pack([10]), operation="grow0", limits=limits)
    assert codec.unpack(await run(call)) == 2**32 - 1
    assert call.usage.memory_bytes == PAGE_BYTES


async def test_a_call_that_fails_tells_what_it_started_with(engine: Engine) -> None:
    call = execution(await engine.load(growing()), codec.pack([13]), operation="grow0")
    with pytest.raises(errors.ActorTrapped):
        await run(call)
    assert call.usage.memory_bytes == PAGE_BYTES


async def test_an_instance_that_trapped_lets_nobody_ask_it(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which is why a call that fails tells no more."""
    settle = ComponentExecution._settle

    def ask_then_settle(call: ComponentExecution, state: int) -> bool:
        slot, place = call._guest.slot, call._code.native.gauge
        assert "unreachable" in str(traps.explain_component(slot, call._guest))
        assert place is not None
        call._ask_gauge(place)
        assert call._step(time.CLOCK_MONOTONIC) == steps.FAULT
        return settle(call, state)

    call = execution(await engine.load(growing()), codec.pack([13]), operation="grow0")
    monkeypatch.setattr(ComponentExecution, "_settle", ask_then_settle)
    with pytest.raises(errors.ActorTrapped, match="cannot enter component instance"):
        await run(call)


async def test_an_instance_that_is_kept_tells_it_anew(engine: Engine) -> None:
    component, instances = await engine.load(growing()), engine.instances(ReusePolicy())
    for call_number in range(1, 4):
        call = execution(component, codec.pack([2]), operation="grow0", instances=instances)
        await run(call)
        assert call.usage.memory_bytes == (1 + 2 * call_number) * PAGE_BYTES
    instances.close()


async def test_a_kept_instance_whose_call_fails_tells_what_that_call_started_with(
    engine: Engine,
) -> None:
    component, instances = await engine.load(growing()), engine.instances(ReusePolicy())
    await run(execution(component, codec.pack([4]), operation="grow0", instances=instances))
    failing = execution(component, codec.pack([13]), operation="grow0", instances=instances)
    with pytest.raises(errors.ActorTrapped):
        await run(failing)
    assert failing.usage.memory_bytes == 5 * PAGE_BYTES
    instances.close()


async def test_an_instance_that_has_grown_too_large_is_not_kept(engine: Engine) -> None:
    component, instances = await engine.load(growing()), engine.instances(ReusePolicy())
    pages = limits.REUSE_MEMORY_BYTES // PAGE_BYTES
    for grown, kept in ((pages - 1, True), (1, False), (1, True)):
        await run(execution(component, codec.pack([grown]), operation="grow0", instances=instances))
        assert len(engine.idle.owners) == kept
    instances.close()


async def test_a_suspended_call_tells_it_too(engine: Engine) -> None:
    call = execution(
        await engine.load(CALLER),
        codec.pack([1]),
        operation="more.quadruple",
        host=Host(lambda _request: codec.pack(2)),
    )
    assert codec.unpack(await run(call)) == 2
    assert call.usage.memory_bytes == PAGE_BYTES


async def test_what_toolchains_make_tells_it(engine: Engine) -> None:
    script = codec.pack(["std-read /" + "x" * 2_000_000])
    call = execution(await engine.load(guest("files")), script, operation="run")
    await run(call)
    begins = footprint(read(guest("files"))).memory_bytes
    assert call.usage.memory_bytes > begins + 2_000_000


async def test_the_export_is_the_hosts_own(engine: Engine) -> None:
    component = await engine.load(growing())
    assert isinstance(component, Component)
    assert list(component.facts.entries) == ["grow0"]
    with pytest.raises(errors.InvalidRequest, match="no operation"):
        await memory_after(component, NAME)
    # What has nothing to call but that has nothing.
    with pytest.raises(errors.InvalidRequest, match="no function that can be called"):
        await engine.load(
            assemble("""(component (core module $one (memory (export "m") 1))
            (core instance (instantiate $one)))""")
        )


async def test_no_component_is_refused_for_a_figure(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gauge, "_added", lambda *_: [b"\x0b\1\1"])
    assert await memory_after(await engine.load(growing()), "grow0", 5) == 1


TOLD = {
    "a memory that is not exported": """
      (core module $one (memory 2) (func (export "run") (drop (memory.grow (i32.const 5)))))
      (core instance $one (instantiate $one))
      (func (export "run") (canon lift (core func $one "run")))
    """,
    "one that is exported, by a module that imports another one": """
      (core module $other (memory (export "memory") 1))
      (core instance $other (instantiate $other))
      (core module $one
        (import "other" "memory" (memory 1)) (memory $own 1)
        (export "theirs" (memory 0)) (export "ours" (memory $own))
        (func (export "run") (drop (memory.grow $own (i32.const 5)))))
      (core instance $one (instantiate $one (with "other" (instance $other))))
      (func (export "run") (canon lift (core func $one "run")))
    """,
    "one of a component within": """
      (component $inner
        (core module $one (memory 2) (func (export "run") (drop (memory.grow (i32.const 5)))))
        (core instance $one (instantiate $one))
        (func (export "run") (canon lift (core func $one "run"))))
      (instance $inner (instantiate $inner))
      (export "run" (func $inner "run"))
    """,
    "those of components within components, from further out and twice": """
      (core module $grows (memory 1) (func (export "run") (drop (memory.grow (i32.const 5)))))
      (component $inner
        (component $innermost
          (alias outer 2 $grows (core module $one))
          (core instance $one (instantiate $one))
          (func (export "run") (canon lift (core func $one "run"))))
        (instance $unused (instantiate $innermost))
        (instance $used (instantiate $innermost))
        (export "run" (func $used "run")))
      (instance $inner (instantiate $inner))
      (export "run" (func $inner "run"))
    """,
}
"""Components of two pages whose ``run`` makes them seven."""


@pytest.mark.parametrize("what", TOLD)
async def test_memories_are_told_wherever_they_are(engine: Engine, what: str) -> None:
    component = await engine.load(assemble(f"(component {TOLD[what]})"))
    assert await memory_after(component, "run") == 7


async def test_an_instance_that_is_exported_whole_shows_nothing_of_it(engine: Engine) -> None:
    component = await engine.load(
        assemble(f"""(component
          (component $inner {TOLD["a memory that is not exported"]})
          (instance $inner (instantiate $inner))
          (export "acme:one/inner" (instance $inner)))""")
    )
    assert isinstance(component, Component)
    assert list(component.facts.entries) == ["inner.run"]
    assert await memory_after(component, "inner.run") == 7


UNTOLD = {
    "no memory": DOUBLER,
    "a module that is handed over": assemble("""
      (component
        (core module $one (memory 1) (func (export "run")))
        (component $c
          (import "m" (core module $m (export "run" (func))))
          (core instance $m (instantiate $m))
          (func (export "run") (canon lift (core func $m "run"))))
        (instance $c (instantiate $c (with "m" (core module $one))))
        (export "run" (func $c "run")))
    """),
    "an export of that name": assemble(f"""
      (component
        (core module $one (memory (export "memory") 1) (func (export "run")))
        (core instance $one (instantiate $one))
        (func (export "run") (canon lift (core func $one "run")))
        (func (export "{NAME}") (canon lift (core func $one "run"))))
    """),
}


@pytest.mark.parametrize("what", UNTOLD)
async def test_what_can_not_be_told_is_left_as_it_is(engine: Engine, what: str) -> None:
    binary = read(UNTOLD[what])
    needs = footprint(binary)
    assert gauged(binary, needs) is None
    if what != "no memory":
        component = await engine.load(UNTOLD[what])
        assert await memory_after(component, "run") == needs.memory_bytes // PAGE_BYTES

"""Components through the same door as modules: loaded, limited, interrupted and cancelled alike."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from host.engine import CallLimits, Code, Component, Engine, EngineSettings
from lattice import errors
from lattice.wire import codec
from tests.support.components import CALLER, KEEPS_INSIDE, exporting
from tests.support.engines import idle_engine
from tests.support.host_calls import Host, execution, run, until
from tests.support.wat import assemble

PLAIN = assemble("""
  (component
    (core module $main
      (memory (export "memory") 1)
      (func (export "add") (param i32 i32) (result i32)
        (i32.add (local.get 0) (local.get 1)))
      (func (export "spin") (loop (br 0)))
      (func (export "trap") unreachable)
      (func $boom (export "boom") unreachable)
      (func $rust_oom unreachable)
      (func (export "use-up") (call $rust_oom))
      (func (export "grow") (if (i32.eq (memory.grow (i32.const 64)) (i32.const -1))
        (then unreachable))))
    (core instance $main (instantiate $main))
    (func (export "add") (param "a" u32) (param "b" u32) (result u32)
      (canon lift (core func $main "add")))
    (func (export "spin") (canon lift (core func $main "spin")))
    (func (export "trap") (canon lift (core func $main "trap")))
    (func (export "boom") (canon lift (core func $main "boom")))
    (func (export "use-up") (canon lift (core func $main "use-up")))
    (func (export "grow") (canon lift (core func $main "grow"))))
""")


NESTED = assemble("""
  (component
    (component $greeter
      (core module $main
        (memory (export "memory") 1)
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 64))
        (func (export "length") (param i32 i32) (result i32) (local.get 1)))
      (core instance $main (instantiate $main))
      (func (export "length") (param "text" string) (result u32)
        (canon lift (core func $main "length") (memory (core memory $main "memory"))
          (realloc (core func $main "realloc")))))
    (component $caller
      (import "length" (func $length (param "text" string) (result u32)))
      (core module $libc (memory (export "memory") 1) (data (i32.const 0) "seven b"))
      (core instance $libc (instantiate $libc))
      (core func $length (canon lower (func $length) (memory (core memory $libc "memory"))))
      (core module $main
        (import "" "length" (func $length (param i32 i32) (result i32)))
        (func (export "measure") (result i32) (call $length (i32.const 0) (i32.const 7))))
      (core instance $main (instantiate $main
        (with "" (instance (export "length" (func $length))))))
      (func (export "measure") (result u32) (canon lift (core func $main "measure"))))
    (instance $greeter (instantiate $greeter))
    (instance $caller (instantiate $caller (with "length" (func $greeter "length"))))
    (export "measure" (func $caller "measure")))
""")
"""Two components in one, each with a memory of its own: what lies between them reads both."""


@pytest.fixture
async def engine(compiled: Path) -> AsyncIterator[Engine]:
    async with idle_engine(instances_max=64, cache_dir=compiled) as engine:
        yield engine


async def call(code: Code, operation: str, *arguments: object, host: Host | None = None) -> object:
    payload = codec.pack(list(arguments))
    return codec.unpack(await run(execution(code, payload, operation=operation, host=host)))


async def test_what_it_is_shows_in_the_bytes(engine: Engine) -> None:
    component = await engine.load(PLAIN)
    assert isinstance(component, Component)
    assert component.abi == "component"


async def test_a_function_of_the_world_is_called_by_its_name(engine: Engine) -> None:
    assert await call(await engine.load(PLAIN), "add", 2, 3) == 5


async def test_components_within_a_component_pass_values_from_memory_to_memory(
    engine: Engine,
) -> None:
    assert await call(await engine.load(NESTED), "measure") == 7


async def test_resources_pass_between_the_components_of_one(engine: Engine) -> None:
    component = await engine.load(KEEPS_INSIDE)
    host = Host()
    assert await call(component, "measure", 7, host=host) == 70
    assert (component.imports, host.requests) == ((), [])


async def test_a_module_with_several_memories_is_refused_all_the_same(engine: Engine) -> None:
    guest = '(func (export "__guest_call") (param i32 i32) (result i32) (i32.const 1))'

    with pytest.raises(errors.InvalidRequest, match="memories count of 2"):
        await engine.load(assemble(f"(module (memory 1) (memory 1) {guest})"))


async def test_a_function_of_an_interface_is_called_by_both_names(engine: Engine) -> None:
    component = await engine.load(CALLER)
    host = Host(lambda request: codec.pack(codec.unpack(request[3])[0] * 2))
    assert await call(component, "more.quadruple", 5, host=host) == 20
    assert host.requests == [
        ("", "acme:math/ops", "ops.double", codec.pack([5])),
        ("", "acme:math/ops", "ops.double", codec.pack([10])),
    ]


async def test_a_host_call_suspends_the_guest_and_not_the_loop(engine: Engine) -> None:
    component = await engine.load(CALLER)
    answers: list[asyncio.Future[bytes]] = []

    def answer(_request: object) -> asyncio.Future[bytes]:
        answers.append(asyncio.get_running_loop().create_future())
        return answers[-1]

    tasks = [
        asyncio.ensure_future(call(component, "more.quadruple", each, host=Host(answer)))
        for each in range(10)
    ]
    await until(lambda: len(answers) == 10)
    for index in reversed(range(10)):
        answers[index].set_result(codec.pack(100 + index))
    await until(lambda: len(answers) == 20)
    for index in range(10, 20):
        answers[index].set_result(codec.pack(index))
    assert await asyncio.gather(*tasks) == [19, 18, 17, 16, 15, 14, 13, 12, 11, 10]


async def test_an_error_reaches_a_guest_whose_function_can_tell_it(engine: Engine) -> None:
    def answer(_request: object) -> bytes:
        raise errors.NotRunning("nobody there")

    result = await call(await engine.load(CALLER), "try", 1, host=Host(answer))
    assert result == {"err": "not_running: nobody there"}


async def test_an_error_that_no_function_can_tell_ends_the_call(engine: Engine) -> None:
    def answer(_request: object) -> bytes:
        raise errors.NotRunning("nobody there")

    with pytest.raises(errors.ActorError, match="can't say so: not_running: nobody there"):
        await call(await engine.load(CALLER), "more.quadruple", 1, host=Host(answer))


async def test_a_trap_has_its_kind_and_a_backtrace(engine: Engine) -> None:
    with pytest.raises(errors.ActorTrapped) as trapped:
        await call(await engine.load(PLAIN), "trap")
    assert trapped.value.text == "the actor trapped: unreachable"
    assert trapped.value.detail["backtrace"]


async def test_an_allocator_that_fails_is_told_by_its_name_and_nobody_elses(
    engine: Engine,
) -> None:
    component = await engine.load(PLAIN)
    with pytest.raises(errors.MemoryExceeded):
        await call(component, "use-up")
    with pytest.raises(errors.ActorTrapped, match="unreachable"):
        await call(component, "boom")


async def test_a_loop_without_end_uses_up_its_cpu_time(engine: Engine) -> None:
    component = await engine.load(PLAIN)
    spin = execution(component, operation="spin", limits=CallLimits(cpu_time_s=0.05))
    with pytest.raises(errors.CpuExceeded):
        await run(spin)
    assert spin.usage.cpu_us >= 50_000


async def test_the_deadline_ends_a_loop_in_a_worker(engine: Engine) -> None:
    spin = execution(await engine.load(PLAIN), operation="spin", timeout_s=0.05)
    with pytest.raises(errors.DeadlineExceeded):
        await run(spin)


async def test_cancelling_unwinds_a_guest_that_waits(engine: Engine) -> None:
    component = await engine.load(CALLER)
    waiting: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    host = Host(lambda _request: waiting)
    task = asyncio.ensure_future(call(component, "more.quadruple", 1, host=host))
    await until(lambda: bool(host.requests))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert waiting.cancelled()


async def test_memory_ends_at_the_limit(engine: Engine) -> None:
    component = await engine.load(PLAIN)
    assert await call(component, "grow") is None
    grow = execution(component, operation="grow", limits=CallLimits(memory_bytes=1_048_576))
    with pytest.raises(errors.ActorTrapped):
        await run(grow)


async def test_an_unknown_operation_is_refused_with_those_there_are(engine: Engine) -> None:
    with pytest.raises(errors.InvalidRequest, match="it has: add, boom, grow, spin, trap, use-up"):
        await call(await engine.load(PLAIN), "subtract")


async def test_compiled_code_is_kept_between_starts(tmp_path: Path) -> None:
    settings = EngineSettings(instances_max=8, cache_dir=tmp_path)
    for compiled, hits in ((1, 0), (0, 1)):
        engine = Engine(settings)
        assert await call(await engine.load(PLAIN), "add", 1, 1) == 2
        figures = engine.statistics()
        engine.close()
        assert (figures.compiled, figures.cache_hits) == (compiled, hits)


def importing(what: str) -> bytes:
    return assemble(f"""
      (component {what}
        (core module $main (func (export "run")))
        (core instance $main (instantiate $main))
        (func (export "run") (canon lift (core func $main "run"))))
    """)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (
            '(import "a:b/c" (instance (export "f" (func (param "x" (stream u8))))))',
            "only WASI 0.2 is supported",
        ),
        (
            '(import "a:b/c" (instance (export "f" (func (result (future u8))))))',
            "only WASI 0.2 is supported",
        ),
        (
            '(import "a:b/c" (instance (export "f" (func (param "x" error-context)))))',
            "only WASI 0.2 is supported",
        ),
        (
            '(import "wasi:http/types@0.3.0" (instance (export "f" (func))))',
            "imports wasi:http/types@0.3.0, and of WASI only 0.2",
        ),
        ('(import "f" (func))', "imports the function f of no interface"),
        (
            '(import "r" (type (sub resource)))',
            "the import r is a resource outside of an interface",
        ),
        ('(import "m" (core module (export "f" (func))))', "is a module or a component"),
    ],
    ids=[
        "stream",
        "future",
        "error-context",
        "0.3",
        "bare function",
        "bare resource",
        "module",
    ],
)
async def test_what_can_not_run_is_refused_before_linking(
    engine: Engine, what: str, said: str
) -> None:
    with pytest.raises(errors.InvalidRequest, match=said):
        await engine.load(importing(what))


RESOURCEFUL = assemble("""
  (component
    (import "a:b/store@1.0.0" (instance $store
      (export "bucket" (type $bucket (sub resource)))
      (export "[static]bucket.open" (func (result (own $bucket))))
      (export "count" (func (result u32)))))
    (core func $open (canon lower (func $store "[static]bucket.open")))
    (core func $count (canon lower (func $store "count")))
    (core module $main
      (import "host" "open" (func $open (result i32)))
      (import "host" "count" (func $count (result i32)))
      (func (export "open") (result i32) (call $open))
      (func (export "count") (result i32) (call $count)))
    (core instance $main (instantiate $main (with "host" (instance
      (export "open" (func $open)) (export "count" (func $count))))))
    (func (export "open") (result u32) (canon lift (core func $main "open")))
    (func (export "count") (result u32) (canon lift (core func $main "count"))))
""")
"""Imports an interface of somebody else's, with and without resources in its functions."""


async def test_an_import_with_resources_hinders_nobody_who_does_not_call_it(engine: Engine) -> None:
    component = await engine.load(RESOURCEFUL)
    host = Host(lambda _request: codec.pack(7))
    assert codec.unpack(await run(execution(component, operation="count", host=host))) == 7
    assert host.requests == [("", "a:b/store", "store.count", codec.pack([]))]


async def test_calling_an_import_with_resources_traps_and_says_why(engine: Engine) -> None:
    component = await engine.load(RESOURCEFUL)
    said = re.escape(
        "it called a:b/store@1.0.0#[static]bucket.open, which takes or gives resources, and"
        " resources don't leave an actor"
    )
    with pytest.raises(errors.ActorTrapped, match=said):
        await run(execution(component, operation="open"))


USES = assemble("""
  (component
    (import "wasi:http/types@0.2.0" (instance $types
      (export "fields" (type $fields (sub resource)))
      (export "[constructor]fields" (func (result (own $fields))))))
    (alias export $types "fields" (type $fields))
    (import "headers" (type $headers (eq $fields)))
    (core func $new (canon lower (func $types "[constructor]fields")))
    (core module $main
      (import "" "new" (func $new (result i32)))
      (func (export "count") (result i32) (drop (call $new)) (i32.const 1))
      (func (export "keep") (param i32)))
    (core instance $main (instantiate $main (with "" (instance (export "new" (func $new))))))
    (func (export "count") (result u32) (canon lift (core func $main "count")))
    (func (export "keep") (param "headers" (own $headers)) (canon lift (core func $main "keep"))))
""")
"""Its world uses a resource of an interface by a name of its own."""


async def test_a_world_may_use_a_resource_of_an_interface(engine: Engine) -> None:
    component = await engine.load(USES)
    assert await call(component, "count") == 1
    assert component.imports == ("wasi:http/types@0.2.0",)
    with pytest.raises(errors.InvalidRequest, match="it has: count"):
        await call(component, "keep")


async def test_a_world_may_export_a_resource_of_its_own(engine: Engine) -> None:
    component = await engine.load(
        assemble("""
          (component
            (type $r (resource (rep i32)))
            (export "r" (type $r))
            (core module $main (func (export "one") (result i32) (i32.const 1)))
            (core instance $main (instantiate $main))
            (func (export "one") (result u32) (canon lift (core func $main "one"))))
        """)
    )
    assert await call(component, "one") == 1


@pytest.mark.parametrize("newer", ["(stream u8)", "(future u8)", "error-context"])
@pytest.mark.parametrize(
    "around",
    [
        "(list $newer)",
        "(option $newer)",
        "(tuple u8 $newer)",
        "(result $newer)",
        "(result (error $newer))",
    ],
)
async def test_what_is_newer_is_refused_however_deep_it_lies(
    engine: Engine, newer: str, around: str
) -> None:
    kinds = f"(type $newer {newer}) (type $around {around}) (type $deep (list $around))"
    function = '(export "f" (func (param "x" $deep)))'
    nothing = """(core module $main (func (export "f") (param i32 i32)))
        (core instance $main (instantiate $main))"""
    memory = """(core module $memory (memory (export "memory") 1)
          (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable))
        (core instance $memory (instantiate $memory))"""
    for wasm in (
        f'(component (import "a:b/c" (instance {kinds} {function})))',
        f"""(component {nothing} {memory} {kinds}
          (func (export "f") (param "x" $deep) (canon lift (core func $main "f")
            (memory (core memory $memory "memory")) (realloc (core func $memory "realloc")))))""",
    ):
        with pytest.raises(errors.InvalidRequest, match=r"only WASI 0\.2 is supported"):
            await engine.load(assemble(wasm))


async def test_a_component_without_functions_is_refused(engine: Engine) -> None:
    with pytest.raises(errors.InvalidRequest, match="exports no function"):
        await engine.load(assemble("(component)"))


async def test_types_that_multiply_are_refused(engine: Engine) -> None:
    types = "(type $t0 (tuple u8 u8 u8 u8))" + "".join(
        f"(type $t{n + 1} (tuple{f' $t{n}' * 4}))" for n in range(8)
    )
    fan = importing(f'{types}(import "a:b/c" (instance (export "f" (func (param "x" $t8)))))')
    with pytest.raises(errors.InvalidRequest):
        await engine.load(fan)


async def test_more_memory_than_there_is_is_refused(engine: Engine) -> None:
    hungry = assemble("""
      (component
        (core module $a (memory 1000)) (core instance (instantiate $a))
        (core module $b (memory 100)) (core instance (instantiate $b)))
    """)
    with pytest.raises(errors.InvalidRequest, match="needs 131072000 bytes of memory"):
        await engine.load(hungry)


async def test_functions_of_two_packages_that_share_a_name_are_called_by_their_full_ones(
    engine: Engine,
) -> None:
    component = await engine.load(
        exporting(("acme:one/ops@1.0.0", "add", 1), ("acme:two/ops@1.0.0", "add", 2))
    )
    assert await call(component, "acme:one/ops.add", 5) == 6
    assert await call(component, "acme:two/ops.add", 5) == 7
    with pytest.raises(
        errors.InvalidRequest, match=r"it has: acme:one/ops\.add, acme:two/ops\.add"
    ):
        await call(component, "ops.add", 5)


async def test_a_call_over_a_link_is_for_the_package_of_its_interface(engine: Engine) -> None:
    component = await engine.load(
        exporting(("acme:one/ops@1.0.0", "add", 1), ("acme:two/ops@1.0.0", "add", 2))
    )

    async def call_over(interface: str) -> object:
        payload = codec.pack([5])
        return codec.unpack(
            await run(execution(component, payload, operation="ops.add", interface=interface))
        )

    assert await call_over("acme:one/ops") == 6
    assert await call_over("acme:two/ops") == 7
    assert await call_over("acme:two") == 7
    with pytest.raises(errors.InvalidRequest, match=r"no operation 'ops\.add'"):
        await call_over("acme:three/ops")


async def test_who_calls_an_interface_by_another_name_reaches_the_only_one(engine: Engine) -> None:
    component = await engine.load(exporting(("acme:one/ops@1.0.0", "add", 1)))
    call = execution(component, codec.pack([5]), operation="ops.add", interface="acme:two/ops")
    assert codec.unpack(await run(call)) == 6


async def test_a_handler_of_messages_goes_before_one_that_is_only_called_like_it(
    engine: Engine,
) -> None:
    old = ("wasmcloud:messaging/handler@0.2.0", "handle-message", 1)
    new = ("wasmcloud:messaging/incoming-handler@0.3.0", "handle", 2)
    http = ("acme:web/incoming-handler@1.0.0", "handle", 3)
    for exports in ((old, new, http), (http, new, old)):
        component = await engine.load(exporting(*exports))
        assert await call(component, "handler.handle-message", 5) == 6
        assert await call(component, "incoming-handler.handle", 5) == 8


async def test_of_two_versions_of_an_interface_one_is_called(engine: Engine) -> None:
    component = await engine.load(
        exporting(("acme:one/ops@1.0.0", "add", 1), ("acme:one/ops@1.1.0", "add", 2))
    )
    assert await call(component, "ops.add", 5) == 7

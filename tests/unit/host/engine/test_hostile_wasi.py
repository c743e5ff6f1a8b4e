"""Components that use WASI as nobody should: each ends in a typed error, and the host goes on."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from host.engine import CallLimits, Engine
from lattice import errors
from lattice.wire import codec
from tests.support.components import ALLOCATOR
from tests.support.engines import assert_works, idle_engine
from tests.support.host_calls import Host, execution, run
from tests.support.wat import assemble


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with idle_engine(instances_max=8) as engine:
        yield engine
        await assert_works(engine)


IMPORTS = """
  (import "wasi:io/poll@0.2.0" (instance $poll
    (export "pollable" (type $pollable (sub resource)))
    (export "[method]pollable.block" (func (param "self" (borrow $pollable))))
    (export "[method]pollable.ready" (func (param "self" (borrow $pollable)) (result bool)))
    (export "poll" (func (param "in" (list (borrow $pollable))) (result (list u32))))))
  (alias export $poll "pollable" (type $pollable))
  (import "wasi:io/error@0.2.0" (instance $error (export "error" (type (sub resource)))))
  (alias export $error "error" (type $error-type))
  (import "wasi:io/streams@0.2.0" (instance $streams
    (alias outer 1 $pollable (type $outer-pollable))
    (export "pollable" (type $pollable (eq $outer-pollable)))
    (alias outer 1 $error-type (type $outer-error))
    (export "error" (type $error (eq $outer-error)))
    (type $variant (variant (case "last-operation-failed" (own $error)) (case "closed")))
    (export "stream-error" (type $stream-error (eq $variant)))
    (export "output-stream" (type $output (sub resource)))
    (export "[method]output-stream.check-write" (func
      (param "self" (borrow $output)) (result (result u64 (error $stream-error)))))
    (export "[method]output-stream.write" (func (param "self" (borrow $output))
      (param "contents" (list u8)) (result (result (error $stream-error)))))
    (export "[method]output-stream.blocking-write-and-flush" (func (param "self" (borrow $output))
      (param "contents" (list u8)) (result (result (error $stream-error)))))
    (export "[method]output-stream.subscribe" (func
      (param "self" (borrow $output)) (result (own $pollable))))))
  (alias export $streams "output-stream" (type $output))
  (import "wasi:cli/stdout@0.2.0" (instance $stdout
    (alias outer 1 $output (type $outer))
    (export "output-stream" (type $output (eq $outer)))
    (export "get-stdout" (func (result (own $output))))))
  (import "wasi:random/random@0.2.0" (instance $random
    (export "get-random-bytes" (func (param "len" u64) (result (list u8))))))
  (import "wasi:logging/logging" (instance $logging
    (type $enum (enum "trace" "debug" "info" "warn" "error" "critical"))
    (export "level" (type $level (eq $enum)))
    (export "log" (func
      (param "level" $level) (param "context" string) (param "message" string)))))
"""

FUNCTIONS = {
    "block": ("(param i32)", '$poll "[method]pollable.block"'),
    "ready": ("(param i32) (result i32)", '$poll "[method]pollable.ready"'),
    "poll": ("(param i32 i32 i32)", '$poll "poll"'),
    "check": ("(param i32 i32)", '$streams "[method]output-stream.check-write"'),
    "write": ("(param i32 i32 i32 i32)", '$streams "[method]output-stream.write"'),
    "write-now": (
        "(param i32 i32 i32 i32)",
        '$streams "[method]output-stream.blocking-write-and-flush"',
    ),
    "subscribe": ("(param i32) (result i32)", '$streams "[method]output-stream.subscribe"'),
    "stdout": ("(result i32)", '$stdout "get-stdout"'),
    "random": ("(param i64 i32)", '$random "get-random-bytes"'),
    "log": ("(param i32 i32 i32 i32 i32)", '$logging "log"'),
}
"""By what a test calls it: its type for core modules, and what it is."""


def component(body: str, *, memory: str = ALLOCATOR, after: str = "") -> bytes:
    """A component whose ``run`` is this code; ``after`` is that of what is called afterwards.

    The memory's module may call back into the main one through a table, which is how an allocator
    gets at what only its component may call.
    """
    lowered = "\n".join(
        f"(core func ${name} (canon lower (func {what})"
        ' (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))'
        for name, (_, what) in FUNCTIONS.items()
    )
    imports = "\n".join(
        f'(import "host" "{name}" (func ${name} {kind}))' for name, (kind, _) in FUNCTIONS.items()
    )
    given = "\n".join(f'(export "{name}" (func ${name}))' for name in FUNCTIONS)
    post_return = '(post-return (core func $main "after"))' if after else ""
    return assemble(f"""
      (component
        {IMPORTS}
        (core module $memory
          (table (export "table") 1 funcref)
          (type $back (func (param i32)))
          {memory})
        (core instance $memory (instantiate $memory))
        {lowered}
        (core func $drop-output (canon resource.drop $output))
        (core func $drop-pollable (canon resource.drop $pollable))
        (core module $main
          {imports}
          (import "host" "drop-output" (func $drop-output (param i32)))
          (import "host" "drop-pollable" (func $drop-pollable (param i32)))
          (import "memory" "memory" (memory 1))
          (import "memory" "table" (table 1 funcref))
          (elem (i32.const 0) $block)
          (func (export "after") (param i32) {after})
          (func (export "run") (result i32) (local $a i32) (local $b i32) {body}))
        (core instance $main (instantiate $main
          (with "memory" (instance $memory))
          (with "host" (instance {given}
            (export "drop-output" (func $drop-output))
            (export "drop-pollable" (func $drop-pollable))))))
        (func (export "run") (result u32) (canon lift (core func $main "run") {post_return})))
    """)


async def outcome(
    engine: Engine, wasm: bytes, *, host: Host | None = None, cpu_time_s: float = 1.0
) -> Any:
    limits = CallLimits(cpu_time_s=cpu_time_s)
    call = execution(await engine.load(wasm), operation="run", host=host, limits=limits)
    return codec.unpack(await run(call))


async def trapped(engine: Engine, wasm: bytes, **call: Any) -> str:
    """What is said of the trap that a component ends in."""
    with pytest.raises(errors.ActorTrapped) as raised:
        await outcome(engine, wasm, **call)
    return raised.value.text


MANY = """
  (local.set $a (call $subscribe (call $stdout)))
  (drop (memory.grow (i32.const 20)))
  (loop $fill
    (i32.store (i32.add (i32.const 65536) (i32.shl (local.get $b) (i32.const 2))) (local.get $a))
    (local.set $b (i32.add (local.get $b) (i32.const 1)))
    (br_if $fill (i32.lt_u (local.get $b) (i32.const {count}))))
  (call $poll (i32.const 65536) (i32.const {count}) (i32.const 64))
  (i32.load (i32.const 68))
"""


async def test_to_wait_for_nothing_traps(engine: Engine) -> None:
    nothing = "(call $poll (i32.const 0) (i32.const 0) (i32.const 64)) (i32.const 0)"
    assert "it polls nothing" in await trapped(engine, component(nothing))


async def test_only_so_much_is_waited_for_at_a_time(engine: Engine) -> None:
    assert await outcome(engine, component(MANY.replace("{count}", "1000"))) == 1000
    said = await trapped(engine, component(MANY.replace("{count}", "1001")))
    assert "it polls 1001 pollables, over the limit of 1000" in said
    assert "handle limit" in await trapped(engine, component(MANY.replace("{count}", "100000")))


@pytest.mark.parametrize(
    ("call", "size"),
    [("write", 65_536), ("write-now", 4_096)],
    ids=["more than there is room for", "more than blocks"],
)
async def test_a_write_of_more_than_is_promised_traps(engine: Engine, call: str, size: int) -> None:
    writes = f"""
      (drop (memory.grow (i32.const 4)))
      (call ${call} (call $stdout) (i32.const 1024) (i32.const {{size}}) (i32.const 0))
      (i32.load8_u (i32.const 0))
    """
    assert await outcome(engine, component(writes.replace("{size}", str(size)))) == 0
    said = await trapped(engine, component(writes.replace("{size}", str(size + 1))))
    assert f"it writes {size + 1} bytes, more than the {size} allowed" in said


LYING = {
    "a list of four billion": (
        "(call $write (call $stdout) (i32.const 0) (i32.const -1) (i32.const 0))",
        "out of bounds",
    ),
    "a list that goes around": (
        "(call $write (call $stdout) (i32.const -8) (i32.const 16) (i32.const 0))",
        "out of bounds",
    ),
    "a list of handles of four billion": (
        "(call $poll (i32.const 0) (i32.const -1) (i32.const 64))",
        "out of bounds",
    ),
    "a list of handles out of line": (
        "(call $poll (i32.const 1) (i32.const 1) (i32.const 64))",
        "not aligned",
    ),
    "a string that is none": (
        """(i32.store (i32.const 8) (i32.const 0xfffefdfc))
        (call $log (i32.const 0) (i32.const 8) (i32.const 4) (i32.const 0) (i32.const 0))""",
        "utf-8",
    ),
    "half a character at the end": (
        """(i32.store (i32.const 8) (i32.const 0xc3616161))
        (call $log (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 8) (i32.const 4))""",
        "utf-8",
    ),
    "a string beyond its memory": (
        "(call $log (i32.const 0) (i32.const 65535) (i32.const 2) (i32.const 0) (i32.const 0))",
        "out of bounds",
    ),
    "a string of four billion": (
        "(call $log (i32.const 0) (i32.const 8) (i32.const -1) (i32.const 0) (i32.const 0))",
        "out of bounds",
    ),
    "a level that there is not": (
        "(call $log (i32.const 6) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))",
        "discriminant",
    ),
    "a level below the first": (
        "(call $log (i32.const -1) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))",
        "discriminant",
    ),
    "a result beyond its memory": (
        "(call $check (call $stdout) (i32.const 65536))",
        "out of bounds",
    ),
    "a result out of line": ("(call $check (call $stdout) (i32.const 4))", "not aligned"),
    "a handle of another type": ("(call $block (call $stdout))", "wrong type"),
    "a handle of another type, the other way": (
        "(call $check (call $subscribe (call $stdout)) (i32.const 0))",
        "wrong type",
    ),
    "a handle of another type, dropped": ("(call $drop-pollable (call $stdout))", "wrong type"),
    "a handle that never was": ("(call $block (i32.const 12345))", "unknown handle"),
    "a handle of nought": ("(call $block (i32.const 0))", "unknown handle"),
    "a handle that is gone": (
        """(local.set $a (call $stdout))
        (call $drop-output (local.get $a))
        (drop (call $subscribe (local.get $a)))""",
        "unknown handle",
    ),
    "a handle that is gone, among others": (
        """(local.set $a (call $subscribe (call $stdout)))
        (i32.store (i32.const 8) (local.get $a))
        (i32.store (i32.const 12) (call $subscribe (call $stdout)))
        (call $drop-pollable (i32.load (i32.const 12)))
        (call $poll (i32.const 8) (i32.const 2) (i32.const 64))""",
        "unknown handle",
    ),
    "a handle dropped twice": (
        """(local.set $a (call $stdout))
        (call $drop-output (local.get $a))
        (call $drop-output (local.get $a))""",
        "unknown handle",
    ),
}
"""What a guest passes, and what the trap says."""


@pytest.mark.parametrize("lie", LYING)
async def test_a_guest_that_lies_about_its_arguments_traps(engine: Engine, lie: str) -> None:
    body, said = LYING[lie]
    assert said in (await trapped(engine, component(f"{body} (i32.const 0)"))).lower()


async def test_what_is_left_of_a_stream_outlives_it(engine: Engine) -> None:
    """WASI lets a host trap where the parent is dropped before the child; it need not."""
    late = """
      (local.set $a (call $stdout))
      (local.set $b (call $subscribe (local.get $a)))
      (call $drop-output (local.get $a))
      (call $block (local.get $b))
      (local.set $a (call $ready (local.get $b)))
      (call $drop-pollable (local.get $b))
      (local.get $a)
    """
    assert await outcome(engine, component(late)) == 1


def allocating(body: str) -> str:
    return f"""
      (memory (export "memory") 1)
      (func $realloc (export "realloc") (param i32 i32 i32 i32) (result i32) {body})
    """


ASKS = "(call $random (i64.const 100) (i32.const 64)) (i32.load (i32.const 64))"
"""Has the host allocate memory of the guest's."""

ALLOCATORS = {
    "traps": ("unreachable", "unreachable"),
    "gives nothing": ("(i32.const -1)", "realloc return"),
    "gives what is not all there": ("(i32.const 65500)", "realloc return"),
    "calls itself for ever": (
        "(call $realloc (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 1))",
        "call stack exhausted",
    ),
    "calls the host": (
        "(call_indirect (type $back) (i32.const 1) (i32.const 0)) (i32.const 1024)",
        "cannot leave component instance",
    ),
}


@pytest.mark.parametrize("allocator", ALLOCATORS)
async def test_an_allocator_that_breaks_the_rules_traps(engine: Engine, allocator: str) -> None:
    body, said = ALLOCATORS[allocator]
    assert said in (await trapped(engine, component(ASKS, memory=allocating(body)))).lower()


async def test_an_allocator_may_give_any_place_that_is_its_own(engine: Engine) -> None:
    assert await outcome(engine, component(ASKS, memory=allocating("(i32.const 0)"))) == 0


async def test_an_allocator_without_end_uses_up_the_cpu_time(engine: Engine) -> None:
    endless = component(ASKS, memory=allocating("(loop (br 0)) unreachable"))
    with pytest.raises(errors.CpuExceeded):
        await outcome(engine, endless, cpu_time_s=0.05)


@pytest.mark.parametrize(
    ("after", "said"),
    [
        ("unreachable", "unreachable"),
        ("(drop (call $stdout))", "cannot leave component instance"),
        ("(drop (i32.load (i32.const -1)))", "out of bounds"),
    ],
    ids=["traps", "calls the host", "reads beyond its memory"],
)
async def test_what_goes_wrong_after_the_result_was_given_traps(
    engine: Engine, after: str, said: str
) -> None:
    text = await trapped(engine, component("(i32.const 7)", after=after))
    assert said in text.lower()


async def test_after_the_result_was_given_the_cpu_time_ends_all_the_same(engine: Engine) -> None:
    endless = component("(i32.const 7)", after="(loop (br 0))")
    with pytest.raises(errors.CpuExceeded):
        await outcome(engine, endless, cpu_time_s=0.05)


async def test_what_a_guest_lends_must_be_given_back(engine: Engine) -> None:
    """One component within lends another a resource of the host's, which keeps it."""
    keeps = assemble("""
      (component
        (import "wasi:io/poll@0.2.0" (instance $poll
          (export "pollable" (type $pollable (sub resource)))))
        (alias export $poll "pollable" (type $pollable))
        (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
          (alias outer 1 $pollable (type $outer))
          (export "pollable" (type $pollable (eq $outer)))
          (export "subscribe-duration" (func (param "when" u64) (result (own $pollable))))))
        (component $keeper
          (import "pollable" (type $pollable (sub resource)))
          (core module $main
            (func (export "keep") (param i32)))
          (core instance $main (instantiate $main))
          (func (export "keep") (param "it" (borrow $pollable))
            (canon lift (core func $main "keep"))))
        (instance $keeper (instantiate $keeper (with "pollable" (type $pollable))))
        (core func $sleep (canon lower (func $clock "subscribe-duration")))
        (core func $keep (canon lower (func $keeper "keep")))
        (core module $main
          (import "host" "sleep" (func $sleep (param i64) (result i32)))
          (import "host" "keep" (func $keep (param i32)))
          (func (export "run") (result i32)
            (call $keep (call $sleep (i64.const 0)))
            (i32.const 0)))
        (core instance $main (instantiate $main (with "host" (instance
          (export "sleep" (func $sleep)) (export "keep" (func $keep))))))
        (func (export "run") (result u32) (canon lift (core func $main "run"))))
    """)
    assert "borrow handles still remain" in await trapped(engine, keeps)

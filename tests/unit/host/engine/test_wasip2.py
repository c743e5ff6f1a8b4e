"""WASI 0.2 as components see it, and what becomes of those that break its rules."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from host.engine import NOTHING, Engine, World
from lattice import errors, limits
from lattice.wire import codec
from tests.support.components import ALLOCATOR, guest
from tests.support.engines import idle_engine
from tests.support.host_calls import Host, execution, run
from tests.support.wat import assemble


@pytest.fixture
async def engine(compiled: Path) -> AsyncIterator[Engine]:
    async with idle_engine(instances_max=8, cache_dir=compiled) as engine:
        yield engine


POLL = """
  (import "wasi:io/poll@{version}" (instance $poll
    (export "pollable" (type $pollable (sub resource)))
    (export "[method]pollable.ready"
      (func (param "self" (borrow $pollable)) (result bool)))
    (export "[method]pollable.block" (func (param "self" (borrow $pollable))))))
  (alias export $poll "pollable" (type $pollable))
  (import "wasi:clocks/monotonic-clock@{version}" (instance $clock
    (alias outer 1 $pollable (type $outer))
    (export "pollable" (type $pollable (eq $outer)))
    (export "now" (func (result u64)))
    (export "subscribe-duration"
      (func (param "when" u64) (result (own $pollable))))))
  (core func $ready (canon lower (func $poll "[method]pollable.ready")))
  (core func $block (canon lower (func $poll "[method]pollable.block")))
  (core func $now (canon lower (func $clock "now")))
  (core func $sleep (canon lower (func $clock "subscribe-duration")))
  (core func $drop (canon resource.drop $pollable))
"""
"""Clocks and what they are waited for with, as ``host`` of a core module."""

POLL_IMPORTS = """
  (import "host" "ready" (func $ready (param i32) (result i32)))
  (import "host" "block" (func $block (param i32)))
  (import "host" "now" (func $now (result i64)))
  (import "host" "sleep" (func $sleep (param i64) (result i32)))
  (import "host" "drop" (func $drop (param i32)))
"""


def with_clocks(body: str, *, version: str = "0.2.3", result: str = "i64") -> bytes:
    """A component whose ``run`` is this code, with clocks."""
    kind = {"i64": "u64", "i32": "u32"}[result]
    return assemble(f"""
      (component
        {POLL.replace("{version}", version)}
        (core module $main {POLL_IMPORTS}
          (func (export "run") (result {result}) (local $pollable i32) (local $began i64) {body}))
        (core instance $main (instantiate $main (with "host" (instance
          (export "ready" (func $ready)) (export "block" (func $block))
          (export "now" (func $now)) (export "sleep" (func $sleep))
          (export "drop" (func $drop))))))
        (func (export "run") (result {kind}) (canon lift (core func $main "run"))))
    """)


async def call(engine: Engine, wasm: bytes, *, host: Host | None = None) -> Any:
    component = await engine.load(wasm)
    return codec.unpack(await run(execution(component, operation="run", host=host)))


SLEEP = """
  (local.set $began (call $now))
  (local.set $pollable (call $sleep (i64.const 20000000)))
  (call $block (local.get $pollable))
  (call $drop (local.get $pollable))
  (i64.sub (call $now) (local.get $began))
"""


@pytest.mark.parametrize("version", ["0.2.0", "0.2.3", "0.2.6", "0.2.12", "0.2.99"])
async def test_a_guest_of_any_0_2_sleeps_as_long_as_it_wants(engine: Engine, version: str) -> None:
    slept_ns = await call(engine, with_clocks(SLEEP, version=version))
    assert slept_ns >= 19_000_000


async def test_sleep_costs_no_cpu_time_and_ends_with_the_deadline(engine: Engine) -> None:
    component = await engine.load(with_clocks(SLEEP.replace("20000000", "3600000000000")))
    sleeping = execution(component, operation="run", timeout_s=0.1)
    with pytest.raises(errors.DeadlineExceeded):
        await run(sleeping)
    assert sleeping.usage.cpu_us < 100_000


async def test_a_resource_dropped_twice_traps(engine: Engine) -> None:
    twice = """
      (local.set $pollable (call $sleep (i64.const 0)))
      (call $drop (local.get $pollable))
      (call $drop (local.get $pollable))
      (i64.const 0)
    """
    with pytest.raises(errors.ActorTrapped, match="unknown handle index"):
        await call(engine, with_clocks(twice))


async def test_a_resource_that_never_was_traps(engine: Engine) -> None:
    with pytest.raises(errors.ActorTrapped, match="unknown handle index"):
        await call(engine, with_clocks("(call $block (i32.const 77)) (i64.const 0)"))


async def test_resources_that_are_left_behind_go_with_the_call(engine: Engine) -> None:
    left = "(drop (call $sleep (i64.const 0))) (i64.const 5)"
    assert await call(engine, with_clocks(left)) == 5


async def test_a_guest_holds_only_so_many_resources(engine: Engine) -> None:
    hoard = "(loop (drop (call $sleep (i64.const 0))) (br 0)) unreachable"
    with pytest.raises(errors.ActorTrapped, match="holds 10000 resources of the host, the limit"):
        await call(engine, with_clocks(hoard))


async def test_a_function_that_is_not_there_traps_with_its_name(engine: Engine) -> None:
    unknown = assemble("""
      (component
        (import "wasi:io/poll@0.2.9" (instance $poll (export "levitate" (func))))
        (core func $levitate (canon lower (func $poll "levitate")))
        (core module $main (import "host" "f" (func $f)) (func (export "run") (call $f)))
        (core instance $main (instantiate $main
          (with "host" (instance (export "f" (func $levitate))))))
        (func (export "run") (canon lift (core func $main "run"))))
    """)
    with pytest.raises(errors.ActorTrapped, match=r"it called wasi:io/poll@0\.2\.9#levitate"):
        await call(engine, unknown)


RANDOM = """
  (component
    (import "wasi:random/random@0.2.0" (instance $random
      (export "get-random-bytes" (func (param "len" u64) (result (list u8))))))
    (core module $memory {allocator})
    (core instance $memory (instantiate $memory))
    (core func $bytes (canon lower (func $random "get-random-bytes")
      (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
    (core module $main
      (import "host" "bytes" (func $bytes (param i64 i32)))
      (func (export "run") (param i64) (result i32)
        (call $bytes (local.get 0) (i32.const 64)) (i32.const 64)))
    (core instance $main (instantiate $main
      (with "host" (instance (export "bytes" (func $bytes))))))
    (func (export "run") (param "size" u64) (result (list u8))
      (canon lift (core func $main "run") (memory (core memory $memory "memory"))
        (realloc (core func $memory "realloc")))))
"""


ENVIRONMENT = """
  (component
    (import "wasi:cli/environment@0.2.0" (instance $environment
      (export "get-environment" (func (result (list (tuple string string)))))
      (export "get-arguments" (func (result (list string))))))
    (core module $memory {allocator})
    (core instance $memory (instantiate $memory))
    (core func $variables (canon lower (func $environment "get-environment")
      (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
    (core func $arguments (canon lower (func $environment "get-arguments")
      (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
    (core module $main
      (import "host" "variables" (func $variables (param i32)))
      (import "host" "arguments" (func $arguments (param i32)))
      (func (export "variables") (result i32) (call $variables (i32.const 64)) (i32.const 64))
      (func (export "arguments") (result i32) (call $arguments (i32.const 64)) (i32.const 64)))
    (core instance $main (instantiate $main (with "host" (instance
      (export "variables" (func $variables)) (export "arguments" (func $arguments))))))
    (func (export "variables") (result (list (tuple string string)))
      (canon lift (core func $main "variables") (memory (core memory $memory "memory"))))
    (func (export "arguments") (result (list string))
      (canon lift (core func $main "arguments") (memory (core memory $memory "memory")))))
"""


async def test_a_component_finds_the_variables_and_arguments_of_its_world(engine: Engine) -> None:
    component = await engine.load(assemble(ENVIRONMENT.replace("{allocator}", ALLOCATOR)))
    world = World(arguments=(b"tool", b"-v"), environment=(b"HOME=/tmp", b"EMPTY="))

    async def ask(what: str, world: World = NOTHING) -> Any:
        return codec.unpack(await run(execution(component, operation=what, world=world)))

    assert await ask("variables", world) == [["HOME", "/tmp"], ["EMPTY", ""]]
    assert await ask("arguments", world) == ["tool", "-v"]
    assert await ask("variables") == await ask("arguments") == []


async def test_random_bytes_are_as_many_as_asked_for_up_to_a_limit(engine: Engine) -> None:
    component = await engine.load(assemble(RANDOM.replace("{allocator}", ALLOCATOR)))

    async def ask(size: int) -> Any:
        return codec.unpack(await run(execution(component, codec.pack([size]), operation="run")))

    assert len(await ask(100)) == 100
    assert await ask(0) == b""
    with pytest.raises(errors.ActorTrapped, match=f"limit of {limits.MIB}"):
        await ask(limits.MIB + 1)


async def test_what_a_component_logs_are_lines_of_its_level(engine: Engine) -> None:
    component = await engine.load(guest("capabilities"))
    host = Host()
    await run(execution(component, codec.pack(["log words"]), operation="exercise", host=host))
    assert host.lines == [("warning", "here: words"), ("debug", "words")]


def exiting(status: int) -> bytes:
    """A program that exits before it returns: 0 for well."""
    return assemble(f"""
      (component
        (import "wasi:cli/exit@0.2.6" (instance $exit
          (export "exit" (func (param "status" (result))))))
        (core func $exit (canon lower (func $exit "exit")))
        (core module $main
          (import "host" "exit" (func $exit (param i32)))
          (func (export "run") (result i32) (call $exit (i32.const {status})) unreachable))
        (core instance $main (instantiate $main
          (with "host" (instance (export "exit" (func $exit))))))
        (func $run (result (result)) (canon lift (core func $main "run")))
        (instance $command (export "run" (func $run)))
        (export "wasi:cli/run@0.2.6" (instance $command)))
    """)


async def test_a_program_that_exits_well_has_succeeded(engine: Engine) -> None:
    component = await engine.load(exiting(0))
    for operation in ("run.run", "wasi:cli/run.run"):
        response = await run(execution(component, operation=operation))
        assert codec.unpack(response) == {"ok": None}


async def test_a_program_that_exits_otherwise_has_failed(engine: Engine) -> None:
    with pytest.raises(errors.ActorTrapped, match="exited with status 1"):
        await run(execution(await engine.load(exiting(1)), operation="run.run"))


async def test_sockets_can_be_made_and_lead_nowhere(engine: Engine) -> None:
    component = await engine.load(guest("capabilities"))
    payload = codec.pack(["sockets"])
    said = codec.unpack(await run(execution(component, payload, operation="exercise")))["ok"]
    refusals = re.findall(r'name: "([a-z-]+)"', said)
    assert refusals == [
        *("access-denied", "invalid-state", "access-denied", "invalid-state"),
        *("not-supported", "not-supported", "access-denied"),
    ]
    assert "Ok(" not in said
    assert "IpAddressFamily::Ipv4 false" in said
    assert said.endswith("IpAddressFamily::Ipv6")

"""Code of idle modules: dropped when there is too much of it, loaded again for the next call."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from host.engine import Code, Engine, EngineSettings
from lattice import errors
from tests.support.eventually import eventually
from tests.support.host_calls import Host, execution, run
from tests.support.wat import actor

NAMES = ("echo", "echo_wasmbus", "relay", "grow")


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    engine = Engine(EngineSettings(instances_max=8, cache_dir=tmp_path / "modules"))
    yield engine
    engine.close()


async def never_fetched() -> bytes:
    raise AssertionError("the cache has it")


async def echo_again() -> bytes:
    return actor("echo")


async def evicted_echo(engine: Engine) -> Code:
    echo = await engine.load(actor("echo"))
    assert engine.evict(echo)
    return echo


async def test_evicted_code_is_loaded_again_from_the_cache_and_runs(engine: Engine) -> None:
    echo = await evicted_echo(engine)
    assert (engine.statistics().modules_loaded, engine.statistics().code_bytes) == (0, 0)

    await engine.reload(echo, never_fetched)
    assert await run(execution(echo, b"x")) == b"x"
    now = engine.statistics()
    assert (now.compiled, now.cache_hits, now.evicted, now.reloaded) == (1, 1, 1, 1)
    assert (now.modules_loaded, now.code_bytes) == (1, echo.code_bytes)


async def test_a_call_of_evicted_code_is_refused_as_not_executed(engine: Engine) -> None:
    echo = await evicted_echo(engine)
    with pytest.raises(errors.Overloaded, match="evicted"):
        await run(execution(echo, b"x"))


async def test_a_module_evicted_and_started_again_is_loaded_without_compiling(
    engine: Engine,
) -> None:
    echo = await evicted_echo(engine)
    assert await engine.load(actor("echo")) is echo
    assert echo.is_loaded
    assert engine.statistics().compiled == 1


async def test_many_who_find_it_evicted_have_it_loaded_once(engine: Engine) -> None:
    echo = await evicted_echo(engine)
    await asyncio.gather(*(engine.reload(echo, never_fetched) for _ in range(50)))
    assert (engine.statistics().cache_hits, engine.statistics().reloaded) == (1, 1)


async def test_without_its_cache_directory_it_is_compiled_and_cached_again(
    engine: Engine, tmp_path: Path
) -> None:
    echo = await evicted_echo(engine)
    shutil.rmtree(tmp_path / "modules")

    await engine.reload(echo, echo_again)
    assert await run(execution(echo, b"x")) == b"x"
    assert (engine.statistics().compiled, engine.statistics().reloaded) == (2, 1)
    assert engine.evict(echo)
    await engine.reload(echo, never_fetched)
    assert engine.statistics().compiled == 2


async def test_what_cannot_be_fetched_leaves_it_evicted_and_may_be_tried_again(
    engine: Engine, tmp_path: Path
) -> None:
    async def unreachable() -> bytes:
        raise errors.Unavailable("the store is away")

    echo = await evicted_echo(engine)
    shutil.rmtree(tmp_path / "modules")
    with pytest.raises(errors.Unavailable, match="away"):
        await engine.reload(echo, unreachable)
    assert not echo.is_loaded
    await engine.reload(echo, echo_again)
    assert await run(execution(echo, b"x")) == b"x"


async def test_another_module_under_the_same_reference_is_not_run(
    engine: Engine, tmp_path: Path
) -> None:
    async def other() -> bytes:
        return actor("work")

    echo = await evicted_echo(engine)
    shutil.rmtree(tmp_path / "modules")
    with pytest.raises(errors.Conflict, match=echo.digest):
        await engine.reload(echo, other)
    assert not echo.is_loaded


async def test_code_of_a_call_that_runs_or_is_about_to_stays(engine: Engine) -> None:
    relay = await engine.load(actor("relay"))
    answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    suspended = execution(relay, host=Host(lambda _: answer))
    assert not suspended.start()
    assert not engine.evict(relay)
    answer.set_result(b"y")
    assert await suspended.finish() == b"y"

    relay.pins += 1
    assert not engine.evict(relay)
    relay.pins -= 1
    assert engine.evict(relay)


async def test_beyond_the_bound_the_least_recently_used_go(tmp_path: Path) -> None:
    engine = Engine(EngineSettings(instances_max=8, cache_dir=tmp_path))
    try:
        sizes = [(await engine.load(actor(name))).code_bytes for name in NAMES]
    finally:
        engine.close()
    # Room for three of the four.
    bounded = EngineSettings(
        instances_max=8, cache_dir=tmp_path, code_bytes_max=sum(sizes) - min(sizes) // 2
    )
    engine = Engine(bounded)
    try:
        first, second, third = [await engine.load(actor(name)) for name in NAMES[:3]]
        for module in (second, third, first):
            await run(execution(module, b"x"))
        fourth = await engine.load(actor(NAMES[3]))
        loaded = [each.is_loaded for each in (first, second, third, fourth)]
        assert loaded == [True, False, True, True]
        assert engine.statistics().code_bytes <= bounded.code_bytes_max
        await engine.reload(second, never_fetched)
        assert not third.is_loaded
        assert engine.statistics().evicted == 2
    finally:
        engine.close()


async def test_more_modules_than_the_process_may_have_files_for_are_served(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "modules_loaded_max", 2)
    modules = [await engine.load(actor(name)) for name in NAMES]
    assert engine.statistics().modules_loaded <= 2
    for module in modules:
        await engine.reload(module, never_fetched)
        assert module.is_loaded
    assert engine.statistics().modules_loaded <= 2


async def test_code_goes_with_the_last_who_knows_its_module(engine: Engine) -> None:
    echo = await engine.load(actor("echo"))
    assert echo.code_bytes > 0
    del echo
    await eventually(lambda: engine.statistics().modules == 0)
    assert (engine.statistics().modules_loaded, engine.statistics().code_bytes) == (0, 0)


async def test_an_engine_that_is_closed_meanwhile_says_so(engine: Engine) -> None:
    echo = await evicted_echo(engine)
    reload = asyncio.ensure_future(engine.reload(echo, never_fetched))
    await asyncio.sleep(0)
    engine.close()
    with pytest.raises(errors.Draining):
        await reload


async def test_a_closed_engine_loads_nothing_again(engine: Engine) -> None:
    echo = await evicted_echo(engine)
    engine.close()
    with pytest.raises(errors.Draining):
        await engine.reload(echo, never_fetched)
    with pytest.raises(errors.Draining):
        await engine.load(actor("echo"))


async def test_who_waits_for_code_that_somebody_else_compiled_meanwhile_goes_on(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    echo = await evicted_echo(engine)
    read = engine._preparation.read

    def read_late(digest: str, facts: None) -> object:
        native = read(digest, facts)
        asyncio.run_coroutine_threadsafe(overtake(), loop).result()
        return native

    async def overtake() -> None:
        native = read(echo.digest, None)
        assert native is not None
        engine._attach(echo, native)

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(engine._preparation, "read", read_late)
    await engine.reload(echo, never_fetched)
    assert await run(execution(echo, b"x")) == b"x"
    assert engine.statistics().modules_loaded == 1

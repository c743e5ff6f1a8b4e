"""Components whose instances are kept and whose code is evicted, as those of modules are."""

import asyncio
import gc
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from host.engine import CallLimits, Code, Engine, EngineSettings, Execution, Instances, ReusePolicy
from lattice import errors
from lattice.wire import codec, http
from tests.support.components import KEEPS, guest
from tests.support.engines import idle_engine
from tests.support.eventually import eventually
from tests.support.host_calls import Host, execution, run


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    async with idle_engine(instances_max=8, cache_dir=tmp_path / "code") as engine:
        yield engine


async def served(component: Code, instances: Instances, operation: str = "count") -> int:
    call = execution(component, operation=operation, instances=instances)
    number = codec.unpack(await run(call))
    assert isinstance(number, int)
    return number


async def test_an_instance_serves_one_call_after_the_other(engine: Engine) -> None:
    component, instances = await engine.load(KEEPS), engine.instances(ReusePolicy(uses=3))
    assert [await served(component, instances) for _ in range(5)] == [1, 2, 3, 1, 2]
    assert (engine.statistics().idle, engine.statistics().reused) == (1, 3)
    instances.close()
    assert (engine.statistics().idle, engine.held_bytes) == (0, 0)


async def test_without_the_policy_each_call_gets_a_fresh_one(engine: Engine) -> None:
    component = await engine.load(KEEPS)
    counts = [codec.unpack(await run(execution(component, operation="count"))) for _ in range(3)]
    assert counts == [1, 1, 1]


async def test_it_is_dropped_when_it_is_too_old(engine: Engine) -> None:
    component, instances = await engine.load(KEEPS), engine.instances(ReusePolicy(age_s=0.001))
    await served(component, instances)
    await eventually(lambda: engine.statistics().idle == 0)
    assert await served(component, instances) == 1
    instances.close()


async def test_a_call_that_was_suspended_leaves_its_instance_for_the_next(engine: Engine) -> None:
    component, instances = await engine.load(KEEPS), engine.instances(ReusePolicy())

    async def answer(_request: object) -> bytes:
        await asyncio.sleep(0)
        return codec.pack(2)

    for expected in (1, 2, 3):
        call = execution(component, operation="ask", host=Host(answer), instances=instances)
        assert codec.unpack(await run(call)) == expected
        assert call.usage.host_calls == 1
    instances.close()


@pytest.mark.parametrize("how", ["trap", "cpu", "cancelled", "deadline", "not understood"])
async def test_an_instance_whose_call_did_not_return_is_never_used_again(
    engine: Engine, how: str
) -> None:
    component, instances = await engine.load(KEEPS), engine.instances(ReusePolicy())
    assert await served(component, instances) == 1
    never: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    waits = how in ("cancelled", "deadline")
    call: Execution = execution(
        component,
        operation="trap" if how == "trap" else "spin" if how == "cpu" else "ask",
        host=Host(lambda _: never if waits else b"\xc1"),
        limits=CallLimits(cpu_time_s=0.02),
        timeout_s=0.05 if how == "deadline" else 30,
        instances=instances,
    )
    if how == "cancelled":
        assert not call.start()
        call.abandon()
    else:
        with pytest.raises(errors.LatticeError):
            await run(call)
    assert engine.statistics().idle == 0
    assert await served(component, instances) == 1
    instances.close()


async def test_a_call_that_is_refused_leaves_the_instances_as_they_are(engine: Engine) -> None:
    component, instances = await engine.load(KEEPS), engine.instances(ReusePolicy())
    assert await served(component, instances) == 1
    with pytest.raises(errors.InvalidRequest, match="no operation"):
        await served(component, instances, "nothing")
    assert await served(component, instances) == 2
    instances.close()


async def test_what_an_instance_holds_of_the_host_lasts_as_long_as_it_does(engine: Engine) -> None:
    component, instances = await engine.load(KEEPS), engine.instances(ReusePolicy())
    assert await served(component, instances, "hold-timer") == 1
    assert await served(component, instances, "look-at-timer") == 1
    assert await served(component, instances) == 2
    assert await served(component, instances, "look-at-timer") == 1
    instances.close()


async def test_what_belonged_to_a_call_ends_with_it(engine: Engine) -> None:
    component, instances = await engine.load(KEEPS), engine.instances(ReusePolicy())
    assert await served(component, instances, "hold-fields") == 1
    with pytest.raises(errors.ActorTrapped, match="passed a resource that is gone"):
        await served(component, instances, "look-at-fields")
    assert engine.statistics().idle == 0


async def test_a_handler_of_an_ordinary_toolchain_serves_request_after_request(
    engine: Engine,
) -> None:
    handler, instances = await engine.load(guest("http_handler")), engine.instances(ReusePolicy())
    for _ in range(20):
        payload = http.pack_request(http.Request(method="GET", path="/hello", authority="a"))
        call = execution(handler, payload, operation=http.OPERATION, instances=instances)
        assert http.unpack_response(await run(call)).body == b"hello from a component\n"
    assert engine.statistics().reused == 19
    instances.close()


async def test_fuel_is_counted_anew_for_each_call() -> None:
    engine = Engine(EngineSettings(instances_max=4, fuel=True))
    try:
        component, instances = await engine.load(KEEPS), engine.instances(ReusePolicy())
        used = []
        for _ in range(3):
            call = execution(component, operation="count", instances=instances)
            await run(call)
            used.append(call.usage.fuel)
        assert used[0]
        assert used[1] == used[2]
    finally:
        engine.close()


async def never_fetched() -> bytes:
    raise AssertionError("the cache has it")


async def kept_again() -> bytes:
    return KEEPS


async def test_evicted_code_is_loaded_again_from_the_cache_and_runs(engine: Engine) -> None:
    component, instances = await engine.load(KEEPS), engine.instances(ReusePolicy())
    await served(component, instances)
    loaded = engine.statistics().code_bytes
    assert loaded > len(KEEPS)

    assert engine.evict(component)
    now = engine.statistics()
    assert (now.modules_loaded, now.code_bytes, now.idle) == (0, 0, 0)
    with pytest.raises(errors.Overloaded, match="evicted"):
        await served(component, instances)

    await engine.reload(component, never_fetched)
    assert await served(component, instances) == 1
    now = engine.statistics()
    assert (now.compiled, now.cache_hits, now.evicted, now.reloaded) == (1, 1, 1, 1)
    assert now.code_bytes == loaded
    instances.close()


async def test_without_its_cache_directory_it_is_compiled_and_cached_again(
    engine: Engine, tmp_path: Path
) -> None:
    component = await engine.load(KEEPS)
    assert engine.evict(component)
    shutil.rmtree(tmp_path / "code")
    await engine.reload(component, kept_again)
    assert codec.unpack(await run(execution(component, operation="count"))) == 1
    assert engine.statistics().compiled == 2
    assert engine.evict(component)
    await engine.reload(component, never_fetched)


async def test_code_of_a_call_that_runs_or_is_about_to_stays(engine: Engine) -> None:
    component = await engine.load(KEEPS)
    answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    suspended = execution(component, operation="ask", host=Host(lambda _: answer))
    assert not suspended.start()
    assert not engine.evict(component)
    answer.set_result(codec.pack(2))
    assert codec.unpack(await suspended.finish()) == 1
    component.pins += 1
    assert not engine.evict(component)
    component.pins -= 1
    assert engine.evict(component)


async def test_another_engine_finds_it_compiled(engine: Engine, tmp_path: Path) -> None:
    await engine.load(KEEPS)
    other = Engine(EngineSettings(instances_max=8, cache_dir=tmp_path / "code"))
    try:
        component = await other.load(KEEPS)
        assert codec.unpack(await run(execution(component, operation="count"))) == 1
        assert (other.statistics().compiled, other.statistics().cache_hits) == (0, 1)
    finally:
        other.close()


async def test_code_goes_with_the_last_who_knows_it_and_without_the_garbage_collector(
    engine: Engine,
) -> None:
    component = await engine.load(KEEPS)
    await run(execution(component, operation="count"))
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        del component
        await eventually(lambda: engine.statistics().modules == 0)
        assert (engine.statistics().modules_loaded, engine.statistics().code_bytes) == (0, 0)
        gc.collect()
        modules = [str(getattr(left, "__module__", "")) for left in gc.garbage]
        assert not [module for module in modules if module.startswith("host.engine")]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


async def test_a_component_is_no_program(engine: Engine) -> None:
    with pytest.raises(errors.InvalidRequest, match="start it as an actor"):
        await engine.load(KEEPS, command=True)

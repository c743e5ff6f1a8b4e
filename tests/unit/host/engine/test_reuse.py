"""Instances that serve more than one call, and when they no longer do."""

import asyncio
from collections.abc import Mapping

import pytest

from host.engine import (
    CallLimits,
    Code,
    Engine,
    EngineSettings,
    Execution,
    Instances,
    ReusePolicy,
    parse_policy,
)
from host.engine.reuse import AGE, INSTANCES, USES
from lattice import errors, limits
from tests.support.eventually import eventually
from tests.support.host_calls import Host, execution, run
from tests.support.wat import actor


async def keeps(engine: Engine) -> Code:
    return await engine.load(actor("keeps"))


async def served(module: Code, instances: Instances, how: bytes = b"n") -> int:
    """Which call of its instance this one is, as the guest itself counts."""
    return int.from_bytes(await run(execution(module, how, instances=instances)), "little")


async def test_an_instance_serves_one_call_after_the_other(engine: Engine) -> None:
    module, instances = await keeps(engine), engine.instances(ReusePolicy())
    assert [await served(module, instances) for _ in range(4)] == [1, 2, 3, 4]
    now = engine.statistics()
    assert (now.instances, now.idle, now.calls, now.reused) == (0, 1, 4, 3)
    instances.close()
    assert engine.statistics().idle == 0


async def test_without_the_policy_each_call_gets_a_fresh_one(engine: Engine) -> None:
    module = await keeps(engine)
    for _ in range(3):
        assert int.from_bytes(await run(execution(module, b"n")), "little") == 1


async def test_a_call_that_was_suspended_leaves_its_instance_for_the_next(engine: Engine) -> None:
    relay, instances = await engine.load(actor("relay")), engine.instances(ReusePolicy())

    async def answer(request: tuple[str, str, str, bytes]) -> bytes:
        await asyncio.sleep(0)
        return request[3]

    for n in range(5):
        call = execution(relay, b"%d" % n, host=Host(answer), instances=instances)
        assert await run(call) == b"%d" % n
        assert call.usage.host_calls == 1
    assert engine.statistics().reused == 4
    instances.close()


async def test_calls_at_the_same_time_never_share_an_instance(engine: Engine) -> None:
    relay, instances = await engine.load(actor("relay")), engine.instances(ReusePolicy())
    gate = asyncio.Event()

    async def answer(request: tuple[str, str, str, bytes]) -> bytes:
        await gate.wait()
        return request[3]

    calls = [execution(relay, b"%d" % n, host=Host(answer), instances=instances) for n in range(4)]
    assert not any(call.start() for call in calls)
    gate.set()
    assert await asyncio.gather(*(call.finish() for call in calls)) == [b"0", b"1", b"2", b"3"]
    assert len(instances) == 4
    instances.close()


async def test_it_serves_no_more_calls_than_its_policy_says(engine: Engine) -> None:
    module, instances = await keeps(engine), engine.instances(ReusePolicy(uses=2))
    assert [await served(module, instances) for _ in range(5)] == [1, 2, 1, 2, 1]
    instances.close()


async def test_it_is_dropped_when_it_is_too_old(engine: Engine) -> None:
    module, instances = await keeps(engine), engine.instances(ReusePolicy(age_s=0.001))
    await served(module, instances)
    await eventually(lambda: engine.statistics().idle == 0)
    assert await served(module, instances) == 1
    instances.close()


@pytest.mark.parametrize(
    "how",
    [b"t", b"c", b"e", b"cancelled", b"too late"],
    ids=["trap", "cpu", "error", "cancelled", "deadline"],
)
async def test_an_instance_whose_call_did_not_return_is_never_used_again(
    engine: Engine, how: bytes
) -> None:
    module, instances = await keeps(engine), engine.instances(ReusePolicy())
    assert await served(module, instances) == 1
    never: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    call: Execution = execution(
        module,
        b"h" if len(how) > 1 else how,
        host=Host(lambda _: never),
        limits=CallLimits(cpu_time_s=0.02),
        timeout_s=0.05 if how == b"too late" else 30,
        instances=instances,
    )
    if how == b"cancelled":
        assert not call.start()
        call.abandon()
    else:
        with pytest.raises(errors.LatticeError):
            await run(call)
    assert engine.statistics().idle == 0
    assert await served(module, instances) == 1
    instances.close()


async def test_one_that_grew_beyond_the_bound_is_not_kept(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "REUSE_MEMORY_BYTES", 2**20)
    module, instances = await keeps(engine), engine.instances(ReusePolicy())
    await served(module, instances)
    assert len(instances) == 1
    await run(execution(module, b"g", instances=instances))
    assert len(instances) == 0


async def test_each_call_is_metered_by_itself(engine: Engine) -> None:
    module, instances = await keeps(engine), engine.instances(ReusePolicy())
    dear = execution(module, b"r", instances=instances)
    await run(dear)
    cheap = execution(module, b"n", instances=instances)
    await run(cheap)
    assert cheap.usage.memory_bytes == dear.usage.memory_bytes == 4 * 65536
    assert cheap.usage.cpu_us <= dear.usage.cpu_us
    instances.close()


async def test_fuel_is_counted_anew_for_each_call() -> None:
    engine = Engine(EngineSettings(instances_max=4, fuel=True))
    try:
        module, instances = await keeps(engine), engine.instances(ReusePolicy())
        used = []
        for _ in range(3):
            call = execution(module, b"n", instances=instances)
            await run(call)
            used.append(call.usage.fuel)
        assert used[1] == used[2]
        assert used[1]
    finally:
        engine.close()


async def test_idle_instances_give_way_to_calls_that_need_their_places(engine: Engine) -> None:
    keeper, relay = await keeps(engine), await engine.load(actor("relay"))
    instances = engine.instances(ReusePolicy())
    await served(keeper, instances)
    never: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    calls = [execution(relay, host=Host(lambda _: never)) for _ in range(engine.instances_max)]
    assert not any(call.start() for call in calls)
    assert (engine.running, engine.statistics().idle) == (engine.instances_max, 0)
    for call in calls:
        call.abandon()


async def test_idle_instances_are_bounded_by_their_memory_and_the_oldest_go() -> None:
    # Room for two, of four pages each.
    engine = Engine(EngineSettings(instances_max=8, reuse_bytes_max=9 * 65536))
    try:
        module = await keeps(engine)
        shelves = [engine.instances(ReusePolicy()) for _ in range(3)]
        for instances in shelves:
            await served(module, instances)
        assert [len(instances) for instances in shelves] == [0, 1, 1]
        assert engine.held_bytes == 8 * 65536
        for instances in shelves:
            instances.close()
        assert engine.held_bytes == 0
    finally:
        engine.close()


async def test_an_actor_keeps_a_bounded_number(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "REUSE_IDLE_PER_ACTOR", 2)
    relay, instances = await engine.load(actor("relay")), engine.instances(ReusePolicy())
    answers: list[asyncio.Future[bytes]] = []

    def answer(_request: object) -> asyncio.Future[bytes]:
        answers.append(asyncio.get_running_loop().create_future())
        return answers[-1]

    calls = [execution(relay, host=Host(answer), instances=instances) for _ in range(4)]
    assert not any(call.start() for call in calls)
    for future in answers:
        future.set_result(b"")
    await asyncio.gather(*(call.finish() for call in calls))
    assert len(instances) == 2
    instances.close()


async def test_evicting_the_code_drops_its_idle_instances(engine: Engine) -> None:
    module, instances = await keeps(engine), engine.instances(ReusePolicy())
    await served(module, instances)
    assert engine.evict(module)
    assert (len(instances), engine.statistics().idle) == (0, 0)


async def test_a_closed_shelf_takes_nothing_back(engine: Engine) -> None:
    relay, instances = await engine.load(actor("relay")), engine.instances(ReusePolicy())
    answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    call = execution(relay, host=Host(lambda _: answer), instances=instances)
    assert not call.start()
    renewed = instances.renewed()
    answer.set_result(b"")
    await call.finish()
    assert (len(instances), len(renewed)) == (0, 0)


@pytest.mark.parametrize(
    ("said", "policy"),
    [
        ({}, None),
        ({INSTANCES: "fresh", USES: "5"}, None),
        ({INSTANCES: "reuse"}, ReusePolicy()),
        ({INSTANCES: "reuse", USES: "5", AGE: "60"}, ReusePolicy(uses=5, age_s=60)),
    ],
    ids=["nothing", "fresh", "reuse", "reuse with bounds"],
)
def test_what_an_operator_says_becomes_a_policy(
    said: Mapping[str, str], policy: ReusePolicy | None
) -> None:
    assert parse_policy(said) == policy


@pytest.mark.parametrize(
    "said",
    [
        {INSTANCES: "pooled"},
        {INSTANCES: "reuse", USES: "0"},
        {INSTANCES: "reuse", USES: "-1"},
        {INSTANCES: "reuse", USES: "1" * 10},
        {INSTANCES: "reuse", AGE: "1.5"},
        {INSTANCES: "reuse", AGE: "90000"},
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused_by_name(said: Mapping[str, str]) -> None:
    with pytest.raises(errors.InvalidRequest, match=r"lattice\.dev/instances"):
        parse_policy(said)

"""What one guest leaves in its memory is seen by nobody else, however it ended.

The pool has a single place, so that whoever comes next gets the very memory of the one before.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from host.engine import CallLimits, Code, Engine, EngineSettings, ReusePolicy, native
from lattice import errors
from tests.support.host_calls import Host, Request, execution, run
from tests.support.wat import ACTORS, actor, assemble

MEMORY_BYTES = 2 * 2**20
LIMITS = CallLimits(memory_bytes=MEMORY_BYTES, cpu_time_s=0.02)
SEEKER_LIMITS = CallLimits(memory_bytes=MEMORY_BYTES)


@pytest.fixture(params=["native", "ctypes"])
async def engine(request: pytest.FixtureRequest) -> AsyncIterator[Engine]:
    is_native = request.param == "native"
    if is_native and not native.PATH.exists():
        pytest.skip("the native part was not built: there is no C compiler")
    settings = EngineSettings(instances_max=1, memory_bytes_max=MEMORY_BYTES, native=is_native)
    engine = Engine(settings)
    yield engine
    engine.close()


async def keeper(engine: Engine) -> Code:
    return await engine.load(actor("keeps"))


async def stranger(engine: Engine) -> Code:
    """The same code in another module: to the engine, another actor's."""
    text = (ACTORS / "keeps.wat").read_text()
    return await engine.load(assemble(text.replace('"name"', '"NAME"')))


async def secrets_found(module: Code) -> int:
    return int.from_bytes(await run(execution(module, b"?", limits=SEEKER_LIMITS)), "little")


async def leave(module: Code, how: bytes) -> None:
    """Have a guest fill everything with secrets and end in some way."""
    if how == b"cancelled":
        never: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        asked = asyncio.Event()

        def ask(_: Request) -> asyncio.Future[bytes]:
            asked.set()
            return never

        # On a busy machine it fills its memory in a worker, and is not done when it has started.
        call = asyncio.create_task(
            run(execution(module, b"h", host=Host(ask), limits=SEEKER_LIMITS))
        )
        await asked.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        return
    with suppress(errors.ActorTrapped, errors.ActorError, errors.CpuExceeded):
        await run(execution(module, how, limits=LIMITS))


ENDS = {
    "returned": b"r",
    "grew and returned": b"g",
    "failed": b"e",
    "trapped": b"t",
    "ran out of CPU time": b"c",
    "was cancelled": b"cancelled",
}


@pytest.mark.parametrize("how", ENDS.values(), ids=ENDS)
async def test_no_guest_finds_what_another_left(engine: Engine, how: bytes) -> None:
    left, other = await keeper(engine), await stranger(engine)
    for seeker in (other, left, other):
        await leave(left, how)
        assert await secrets_found(seeker) == 0


async def test_a_guest_finds_what_it_left_itself_so_that_this_test_can_fail(
    engine: Engine,
) -> None:
    left = await keeper(engine)
    instances = engine.instances(ReusePolicy())
    for payload in (b"r", b"?"):
        call = execution(left, payload, limits=SEEKER_LIMITS, instances=instances)
        found = int.from_bytes(await run(call), "little")
    assert found > 4 * 65536 / 8 - 100
    instances.close()


async def test_a_kept_instance_is_seen_by_its_own_actor_alone(engine: Engine) -> None:
    left = await keeper(engine)
    one, other = engine.instances(ReusePolicy()), engine.instances(ReusePolicy())
    await run(execution(left, b"r", limits=SEEKER_LIMITS, instances=one))
    assert len(one) == 1

    # Another actor of the same module; the only place is taken from the first one's.
    call = execution(left, b"?", limits=SEEKER_LIMITS, instances=other)
    assert int.from_bytes(await run(call), "little") == 0
    assert (len(one), len(other)) == (0, 1)
    other.close()

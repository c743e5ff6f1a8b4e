"""Calls to an actor whose code was evicted: they wait in its mailbox until it is back."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from host.actors.actor import Actor
from host.actors.slots import Slots
from host.engine import CallLimits, Code, Engine, EngineSettings
from lattice import errors, limits
from lattice.aio.tasks import TaskGroup
from lattice.wire.invocation import Invocation, Reply
from tests.support.eventually import eventually
from tests.support.host_calls import Host, now_s
from tests.support.wat import actor as assembled


class Scene:
    """An echo whose reloads the test lets succeed or fail."""

    def __init__(self, engine: Engine, module: Code, tasks: TaskGroup) -> None:
        self.engine = engine
        self.module = module
        self.slots = Slots(engine.instances_max)
        self.reloads = 0
        self.failure: errors.LatticeError | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.actor = Actor(
            "echo",
            module,
            count=2,
            slots=self.slots,
            surroundings=lambda _invocation: Host(),
            call_limits=CallLimits(),
            mailbox_calls=10,
            reload=self._reload,
            tasks=tasks,
        )

    async def _reload(self, actor_id: str, module: Code) -> None:
        assert (actor_id, module) == ("echo", self.module)
        self.reloads += 1
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        await self.engine.reload(module, self._fetch)

    async def _fetch(self) -> bytes:
        raise AssertionError("the cache has it")

    async def call(self, payload: bytes, *, timeout_s: float = 30.0) -> bytes:
        outcome = self.actor.accept(
            Invocation(
                source="tester",
                target="echo",
                interface="test:target",
                operation="Test.Run",
                payload=payload,
                deadline=now_s() + timeout_s,
            )
        )
        return (outcome if isinstance(outcome, Reply) else await outcome).payload


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    engine = Engine(EngineSettings(instances_max=8, cache_dir=tmp_path))
    tasks = TaskGroup("test")
    scene = Scene(engine, await engine.load(assembled("echo")), tasks)
    yield scene
    await tasks.aclose()
    now = scene.actor.statistics()
    assert (now.running, now.waiting, scene.slots.taken) == (0, 0, 0)
    assert scene.module.pins == 0
    engine.close()


async def test_a_call_to_an_evicted_actor_is_answered(scene: Scene) -> None:
    scene.engine.evict(scene.module)
    assert await scene.call(b"x") == b"x"
    assert scene.reloads == 1
    assert scene.actor.statistics().refused == 0


async def test_calls_that_come_while_it_is_loaded_cause_no_second_load(scene: Scene) -> None:
    scene.engine.evict(scene.module)
    scene.gate.clear()
    calls = [asyncio.ensure_future(scene.call(b"%d" % n)) for n in range(10)]
    await eventually(lambda: scene.actor.statistics().waiting == 10)
    assert scene.slots.taken == 0, "who waits for code holds no place"
    with pytest.raises(errors.Overloaded, match="10 of 10 calls wait"):
        await scene.call(b"one too many")
    scene.gate.set()
    assert await asyncio.gather(*calls) == [b"%d" % n for n in range(10)]
    assert scene.reloads == 1


async def test_a_load_that_fails_is_told_as_not_executed_and_tried_again_later(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.engine.evict(scene.module)
    scene.failure = errors.Unavailable("the store is away")
    calls = [asyncio.ensure_future(scene.call(b"x")) for _ in range(3)]
    for outcome in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(outcome, errors.NotRunning)
        assert "the store is away" in outcome.text
        assert outcome.detail == {"cause": "unavailable"}
    # For a while the next ones hear the same, without another attempt.
    with pytest.raises(errors.NotRunning, match="the store is away"):
        await scene.call(b"x")
    assert scene.reloads == 1

    monkeypatch.setattr(scene.actor, "_reload_after", now_s() - limits.RELOAD_PAUSE_S)
    scene.failure = None
    assert await scene.call(b"x") == b"x"
    assert scene.reloads == 2


async def test_a_call_whose_time_is_up_waits_no_longer_for_code(scene: Scene) -> None:
    scene.engine.evict(scene.module)
    scene.gate.clear()
    with pytest.raises(errors.Expired):
        await scene.call(b"x", timeout_s=0.01)
    scene.gate.set()
    assert await scene.call(b"y") == b"y"


async def test_a_resize_meanwhile_holds_once_the_code_is_there(scene: Scene) -> None:
    scene.engine.evict(scene.module)
    scene.gate.clear()
    call = asyncio.ensure_future(scene.call(b"x"))
    await eventually(lambda: scene.reloads == 1)
    scene.actor.resize(5)
    assert (scene.actor.count, scene.slots.taken) == (5, 0)
    scene.gate.set()
    assert await call == b"x"
    assert scene.actor._share.count == 5


async def test_an_actor_that_is_stopped_meanwhile_answers_those_who_wait(scene: Scene) -> None:
    scene.engine.evict(scene.module)
    scene.gate.clear()
    call = asyncio.ensure_future(scene.call(b"x"))
    await eventually(lambda: scene.actor.statistics().waiting == 1)
    await scene.actor.stop(drain_s=0)
    with pytest.raises(errors.Draining):
        await call

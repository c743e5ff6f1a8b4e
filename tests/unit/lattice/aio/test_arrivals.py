import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from lattice.aio import arrivals
from lattice.aio.arrivals import Arrivals
from lattice.aio.tasks import TaskGroup
from tests.support.eventually import eventually


class Scene:
    """A clock of arrivals, and how far it is with reading what has come."""

    def __init__(self) -> None:
        self.now = asyncio.get_running_loop().time
        self.read = asyncio.Event()
        self.catching_up = 0
        self.tasks = TaskGroup("test")
        self.arrivals = Arrivals(self._catch_up, self.tasks)

    async def _catch_up(self) -> None:
        self.catching_up += 1
        await self.read.wait()


@pytest.fixture
async def scene(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    monkeypatch.setattr(arrivals, "PULSE_S", 0.01)
    monkeypatch.setattr(arrivals, "STANDSTILL_S", 0.5)
    scene = Scene()
    scene.arrivals.start()
    yield scene
    scene.arrivals.close()
    await scene.tasks.aclose()


def stand_still() -> None:
    """Block the event loop, as a frozen process does."""
    time.sleep(0.6)


async def test_a_message_arrives_when_it_is_read(scene: Scene) -> None:
    await asyncio.sleep(0.05)
    before = scene.now()
    assert before <= scene.arrivals.now() <= scene.now()
    assert scene.catching_up == 0


async def test_what_came_during_a_standstill_came_when_it_began(scene: Scene) -> None:
    await asyncio.sleep(0.05)
    began = scene.now()
    stand_still()
    await eventually(lambda: scene.catching_up == 1)
    assert scene.arrivals.now() <= began
    scene.read.set()
    await eventually(lambda: scene.arrivals.now() > began)
    before = scene.now()
    assert before <= scene.arrivals.now()


async def test_a_standstill_while_another_is_read_up_changes_nothing(scene: Scene) -> None:
    await asyncio.sleep(0.05)
    stand_still()
    await eventually(lambda: scene.catching_up == 1)
    first = scene.arrivals.now()
    stand_still()
    await asyncio.sleep(0.05)
    assert (scene.arrivals.now(), scene.catching_up) == (first, 1)


async def test_time_before_it_was_started_is_no_standstill(scene: Scene) -> None:
    late = Scene()
    stand_still()
    late.arrivals.start()
    late.arrivals.start()
    await asyncio.sleep(0.05)
    assert late.catching_up == 0
    late.arrivals.close()
    late.arrivals.close()
    scene.read.set()

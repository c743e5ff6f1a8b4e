from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from host.engine import Engine, EngineSettings, Module
from tests.support.wat import actor

Load = Callable[[str], Awaitable[Module]]


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    engine = Engine(EngineSettings(instances_max=64))
    yield engine
    left = engine.statistics()
    engine.close()
    assert (left.instances, left.workers_busy) == (0, 0), "a call kept its instance"


@pytest.fixture
def load(engine: Engine) -> Load:
    async def by_name(name: str) -> Module:
        return await engine.load(actor(name))

    return by_name

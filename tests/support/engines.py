"""Engines for one test each, which must be left idle."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from host.engine import Engine, EngineSettings
from lattice.wire import codec
from tests.support.components import DOUBLER
from tests.support.host_calls import execution, run


@asynccontextmanager
async def idle_engine(**settings: Any) -> AsyncIterator[Engine]:
    """An engine that nobody uses any more at the end."""
    engine = Engine(EngineSettings(**settings))
    yield engine
    left = engine.statistics()
    engine.close()
    assert (left.instances, left.workers_busy) == (0, 0), "a call kept its instance"


async def assert_works(engine: Engine) -> None:
    """Whatever its guests did: another one is answered."""
    doubler = await engine.load(DOUBLER)
    doubled = await run(execution(doubler, codec.pack([21]), operation="ops.double"))
    assert codec.unpack(doubled) == 42

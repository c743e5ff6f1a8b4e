from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from host.engine import Code, Engine, native, steps
from tests.support.engines import idle_engine
from tests.support.wat import actor

Load = Callable[[str], Awaitable[Code]]


@pytest.fixture
def cache_dir(compiled: Path) -> Path | None:
    """Where engines keep compiled code; a suite about compiling itself says nowhere."""
    return compiled


@pytest.fixture(params=["native", "ctypes"])
async def engine(request: pytest.FixtureRequest, cache_dir: Path | None) -> AsyncIterator[Engine]:
    """An engine whose calls take their steps in C, and one that needs no compiler."""
    is_native = request.param == "native"
    if is_native and not native.PATH.exists():
        pytest.skip("the native part was not built: there is no C compiler")
    async with idle_engine(instances_max=64, native=is_native, cache_dir=cache_dir) as engine:
        assert (engine.steps is steps.PYTHON) is not is_native
        yield engine


@pytest.fixture
def load(engine: Engine) -> Load:
    async def by_name(name: str) -> Code:
        return await engine.load(actor(name))

    return by_name

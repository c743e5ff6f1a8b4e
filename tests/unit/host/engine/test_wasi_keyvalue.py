"""Components that watch a key-value store: called with the bucket that something changed in."""

from collections.abc import AsyncIterator

import pytest

from host.engine import Code, Engine, EngineSettings
from lattice import errors
from lattice.wire import codec
from tests.support.components import guest
from tests.support.host_calls import Host, Request, execution, run

DONE = codec.pack({"ok": None})


@pytest.fixture
async def watcher() -> AsyncIterator[Code]:
    engine = Engine(EngineSettings(instances_max=8))
    yield await engine.load(guest("capabilities"))
    engine.close()


async def test_a_watcher_is_given_the_bucket_and_may_use_it(watcher: Code) -> None:
    host = Host(lambda _request: DONE)
    payload = codec.pack(["orders", "key", b"\x00value"])
    assert await run(
        execution(watcher, payload, operation="watcher.on-set", host=host)
    ) == codec.pack(None)
    ((link_name, interface, operation, arguments),) = host.requests
    assert (link_name, interface, operation) == ("orders", "wasi:keyvalue/store", "store.set")
    assert codec.unpack(arguments) == ["seen key", b"\x00value"]


async def test_a_watcher_hears_of_what_was_deleted(watcher: Code) -> None:
    host = Host(lambda _request: DONE)
    payload = codec.pack(["default", "key"])
    await run(execution(watcher, payload, operation="watcher.on-delete", host=host))
    assert [(each[0], each[2]) for each in host.requests] == [("", "store.delete")]


@pytest.mark.parametrize(
    "payload",
    [b"", codec.pack([]), codec.pack(5), codec.pack([5, "k", b"v"]), codec.pack(["b", "k"])],
)
async def test_what_is_no_notice_is_refused(watcher: Code, payload: bytes) -> None:
    with pytest.raises(errors.InvalidRequest):
        await run(execution(watcher, payload, operation="watcher.on-set"))


async def test_a_missing_link_is_told_in_the_actors_log(watcher: Code) -> None:
    def answer(_request: Request) -> bytes:
        raise errors.NoLink("watcher", "default", "wasi:keyvalue/store")

    host = Host(answer)
    payload = codec.pack(["orders", "key", b"value"])
    with pytest.raises(errors.ActorTrapped):
        await run(execution(watcher, payload, operation="watcher.on-set", host=host))
    line = "put one with: lattice link put watcher TARGET wasi keyvalue"
    assert [level for level, text in host.lines if text.endswith(line)] == ["warning"]

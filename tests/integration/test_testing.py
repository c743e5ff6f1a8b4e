"""``lattice.testing``: what users' tests get, used as they use it."""

import asyncio
from pathlib import Path

import httpx
import nats
import pytest

from lattice import errors, project
from lattice.testing import Actor, Answer, Background, Lattice, Pending, projects
from lattice.wire import codec
from tests.support import wat
from tests.support.eventually import eventually

EXAMPLES = Path(__file__).parents[2] / "deploy" / "examples"
COUNTER = EXAMPLES / "counter" / "counter.wasm"
ECHO = EXAMPLES / "echo" / "echo.wasm"


async def test_an_actor_is_called(lattice: Lattice) -> None:
    actor = await lattice.start(wat.actor("echo"))

    assert await actor.call("Echo.Say", b"hi") == b"hi"


def test_a_synchronous_test_asks_for_results(lattice: Lattice) -> None:
    actor = lattice.start(wat.actor("echo")).result()

    assert actor.call("Echo.Say", b"hi").result() == b"hi"


async def test_a_result_asked_for_on_an_event_loop_would_hold_it_up(lattice: Lattice) -> None:
    starting = lattice.start(wat.actor("echo"))

    with pytest.raises(RuntimeError, match="await it"):
        starting.result()
    assert isinstance(starting, Pending)
    await starting


async def test_what_was_begun_together_runs_together(lattice: Lattice) -> None:
    actor = await lattice.start(wat.actor("echo"))

    answers = await asyncio.gather(*(actor.call("Echo.Say", bytes([n])) for n in range(50)))

    assert answers == [bytes([n]) for n in range(50)]


async def test_an_answer_says_what_it_took(lattice: Lattice) -> None:
    actor = await lattice.start(wat.actor("echo"))

    usage = (await actor.call("Echo.Say", b"hi")).usage

    assert usage is not None
    assert usage.memory_bytes > 0


async def test_a_call_that_fails_raises_the_typed_error(lattice: Lattice) -> None:
    actor = await lattice.start(wat.actor("traps"))

    with pytest.raises(errors.ActorTrapped) as caught:
        await actor.call("Trap.Now", b"")

    assert "unreachable" in caught.value.text
    lines = await actor.logs()
    assert [line.by for line in lines] == ["host"]
    assert "unreachable" in lines[0].text


async def test_what_an_actor_writes_can_be_read(lattice: Lattice) -> None:
    actor = await lattice.start(wat.actor("logs"))

    await actor.call("Log.Twice", b"hi")

    assert [(line.by, line.text) for line in await actor.logs()] == [("guest", "hi")] * 2


async def test_http_goes_through_a_real_server_to_a_store_in_memory(lattice: Lattice) -> None:
    counter = await lattice.start(COUNTER)

    assert (await counter.http.get("/page")).json() == {"counter": 1}
    response = await counter.http.get("/page")

    assert isinstance(response, httpx.Response)
    assert (response.status_code, response.json()) == (200, {"counter": 2})
    assert lattice.capability("wasmcloud:keyvalue").operations() == ["KeyValue.Increment"] * 2


async def test_the_store_can_be_filled_and_looked_into(lattice: Lattice) -> None:
    await lattice.keyvalue.set("page", "41")
    counter = await lattice.start(COUNTER)

    answer = await counter.http.get("/page")
    call = lattice.capability("wasmcloud:keyvalue").calls[0]

    assert answer.json() == {"counter": 42}, call.value
    assert await lattice.keyvalue.get("page") == "42"
    assert await lattice.keyvalue.get("other") is None
    assert (call.source, call.link_name) == ("actor", "default")
    assert len(lattice.capability("wasmcloud:keyvalue").calls) == 1, (
        "the test's own are not counted"
    )


def test_one_test_s_store_is_not_another_s(lattice: Lattice) -> None:
    counter = lattice.start(COUNTER).result()

    assert counter.http.get("/page").result().json() == {"counter": 1}


async def test_a_function_answers_for_a_capability(lattice: Lattice) -> None:
    counter = await lattice.start(COUNTER)
    store = lattice.fake("wasmcloud:keyvalue", Increment=lambda request: request["value"] + 6)

    assert (await counter.http.get("/")).json() == {"counter": 7}
    assert store.calls[0].value["value"] == 1


async def test_functions_may_be_coroutines_name_operations_in_full_and_take_bytes(
    lattice: Lattice,
) -> None:
    counter = await lattice.start(COUNTER)

    async def increment(payload: bytes) -> bytes:
        await asyncio.sleep(0)
        return codec.pack(len(payload))

    lattice.fake("wasmcloud:keyvalue", {"KeyValue.Increment": increment}, raw=True)

    answer = await counter.http.get("/")
    (call,) = lattice.capability("wasmcloud:keyvalue").calls
    assert answer.json() == {"counter": len(call.payload)}


async def test_a_function_s_error_is_what_the_actor_reads(lattice: Lattice) -> None:
    counter = await lattice.start(COUNTER)

    def refuse(_request: object) -> int:
        raise errors.Denied("not for you")

    def break_down(_request: object) -> int:
        raise ZeroDivisionError("a bug of the test's")

    lattice.fake("wasmcloud:keyvalue", Increment=refuse)
    denied = await counter.http.get("/")
    lattice.fake("wasmcloud:keyvalue", Increment=break_down)
    broken = await counter.http.get("/")

    assert (denied.status_code, "not for you" in denied.text) == (503, True)
    assert "ZeroDivisionError: a bug of the test's" in broken.text


async def test_any_interface_can_be_faked_before_or_after_an_actor_starts(lattice: Lattice) -> None:
    before = lattice.fake("test:target", Say=lambda: "before")
    relay = await lattice.start(wat.actor("relay"), "relay")
    assert codec.unpack(await relay.call("Relay.Say")) == "before"

    lattice.fake("test:target", Say=lambda: "after")

    assert codec.unpack(await relay.call("Relay.Say")) == "after"
    assert before.operations() == ["Relay.Say", "Relay.Say"]


async def test_what_nothing_answers_says_how_it_is_faked(lattice: Lattice) -> None:
    lattice.fake("test:target", Other=lambda: None)
    relay = await lattice.start(wat.actor("relay"), "relay")

    with pytest.raises(errors.ActorError, match=r"lattice\.fake"):
        await relay.call("Relay.Say")


async def test_failures_are_injected_and_lifted(lattice: Lattice) -> None:
    counter = await lattice.start(COUNTER)

    with lattice.fail("wasmcloud:keyvalue", "unavailable") as away:
        failed = await counter.http.get("/")
    assert (failed.status_code, "unavailable" in failed.text) == (503, True)
    assert away.hits == 1
    assert (await counter.http.get("/")).json() == {"counter": 1}

    lattice.fail("wasmcloud:keyvalue", errors.Denied("go away"), times=1)
    assert "go away" in (await counter.http.get("/")).text
    assert (await counter.http.get("/")).json() == {"counter": 2}


async def test_the_runtime_repeats_what_was_not_executed(lattice: Lattice) -> None:
    counter = await lattice.start(COUNTER)

    lattice.fail("wasmcloud:keyvalue", errors.Overloaded, operation="KeyValue.Increment", times=2)

    assert (await counter.http.get("/")).json() == {"counter": 1}
    assert len(lattice.capability("wasmcloud:keyvalue").calls) == 3


async def test_a_slow_capability_runs_into_the_caller_s_deadline(lattice: Lattice) -> None:
    lattice.fake("test:target", Say=lambda: "late")
    relay = await lattice.start(wat.actor("relay"), "relay")

    with lattice.slow("test:target", 60.0), pytest.raises(errors.DeadlineExceeded):
        await relay.call("Relay.Say", timeout_s=0.3)
    assert codec.unpack(await relay.call("Relay.Say")) == "late"


def test_an_error_code_that_does_not_exist_is_refused(lattice: Lattice) -> None:
    with pytest.raises(errors.InvalidRequest, match="there are: actor_error"):
        lattice.fail("wasmcloud:keyvalue", "on_fire")


async def test_a_link_taken_away_is_no_link(lattice: Lattice) -> None:
    counter = await lattice.start(COUNTER)
    assert (await counter.http.get("/")).status_code == 200

    await lattice.unlink("actor", "wasmcloud:keyvalue")

    assert "no_link" in (await counter.http.get("/")).text


async def test_actors_call_each_other_over_links(lattice: Lattice) -> None:
    await lattice.start(wat.actor("echo"), "echo")
    relay = await lattice.start(wat.actor("relay"), "relay")

    await lattice.link("relay", "test:target", "echo")

    assert await relay.call("Relay.Say", b"through") == b"through"


async def test_code_is_replaced_while_the_actor_runs(lattice: Lattice) -> None:
    actor = await lattice.start(wat.actor("echo"))

    await actor.replace(wat.actor("logs"))

    assert await actor.call("Echo.Say", b"hi") == b"", "it writes what the other one answered"


async def test_a_provider_can_be_asked_as_the_actor_would(lattice: Lattice) -> None:
    counter = await lattice.start(COUNTER)
    await counter.http.get("/page")

    found = await lattice.ask("wasmcloud:keyvalue", "KeyValue.Get", "page")

    assert found == {"value": "1", "exists": True}
    with pytest.raises(errors.NotFound, match="acme:math"):
        await lattice.ask("acme:math", "Math.Add", [1, 2])


PROJECT = b"""
[actor]
name = "shop"
language = "other"
kind = "http"
abi = "wapc"
output = "shop.wasm"

[build]
command = ["true"]

[[dev.links]]
interface = "wasmcloud:keyvalue"
provider = "keyvalue"
provider_config = { backend = "nats", bucket = "goods" }
"""


@pytest.mark.parametrize("real", [True, False], ids=["real", "faked"])
def test_a_project_s_store_is_looked_into_whichever_it_is(
    lattice: Lattice, lattice_background: Background, tmp_path: Path, real: bool
) -> None:
    (tmp_path / "shop.wasm").write_bytes(COUNTER.read_bytes())
    found = project.parse(PROJECT, folder=tmp_path)

    shop = lattice_background.do(projects.start(lattice, found, real=real))
    shop.http.get("/page").result()

    assert lattice.keyvalue.get("page").result() == "1"
    assert lattice.capability("wasmcloud:keyvalue").calls[0].source == "shop"
    assert lattice_background.do(_has_bucket(lattice.nats_url)) is real


async def _has_bucket(nats_url: str) -> bool:
    client = await nats.connect(nats_url)
    try:
        streams = await client.jetstream().streams_info()
    finally:
        await client.close()
    return any("goods" in (info.config.name or "") for info in streams)


async def test_messages_go_over_a_real_nats(lattice: Lattice) -> None:
    inbox = lattice.messages("news.*")

    await lattice.publish("news.sport", b"first")

    assert await inbox.next() == b"first"
    with pytest.raises(TimeoutError):
        await inbox.next(timeout_s=0.01)
    with pytest.raises(errors.NotRunning):
        await lattice.request("nobody.listens")


async def test_an_actor_that_can_t_be_started_says_why(lattice: Lattice) -> None:
    with pytest.raises(errors.InvalidRequest, match="env"):
        await lattice.start(wat.actor("unknown_import"))


async def test_a_stopped_actor_is_not_running(lattice: Lattice) -> None:
    actor: Actor = await lattice.start(wat.actor("echo"))

    await actor.stop()

    with pytest.raises(errors.NotRunning):
        await actor.call("Echo.Say", b"hi")


def test_a_capability_nobody_is_linked_to_says_which_there_are(lattice: Lattice) -> None:
    lattice.start(wat.actor("echo")).result()

    with pytest.raises(errors.NotFound, match="wasmcloud:keyvalue"):
        lattice.capability("acme:math")


async def test_cancelling_who_waits_ends_the_call(lattice: Lattice) -> None:
    answered: list[str] = []
    lattice.fake("test:target", Say=lambda: answered.append("late"))
    relay = await lattice.start(wat.actor("relay"), "relay")
    slow = lattice.slow("test:target", 60.0)

    call = asyncio.ensure_future(_awaited(relay.call("Relay.Say", timeout_s=60)))
    await eventually(lambda: slow.hits)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    await lattice.unlink("relay", "test:target")
    assert answered == []


async def _awaited(pending: Pending[Answer]) -> bytes:
    return await pending

"""Components on real hosts: served over HTTP, and calling each other across hosts."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from host.engine.reuse import INSTANCES, USES
from lattice import errors
from lattice.wire import codec
from tests.support import command_line, components
from tests.support.cluster import Cluster, Gate, LocalHost
from tests.support.eventually import eventually
from tests.support.wat import assemble

COUNTER = Path(__file__).parents[2] / "deploy/examples/counter/counter.wasm"


async def serving(cluster: Cluster, *, handler_on: LocalHost, server_on: LocalHost) -> str:
    """Start the handler and an HTTP server that is linked to it; gives its URL."""
    port = command_line.free_port()
    await cluster.start_actor("site", wasm=components.guest("http_handler"), on=handler_on)
    await cluster.start_provider("http", "lattice+builtin://http-server", on=server_on)
    await cluster.control.put_config("where", {"address": f"127.0.0.1:{port}"})
    await cluster.link(
        "http", "site", "wasi:http", interfaces=["incoming-handler"], source_config=["where"]
    )
    await eventually(lambda: command_line.is_listening(port))
    return f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("distance", ["on the same host", "across hosts"])
async def test_a_component_serves_http_requests_as_they_came(
    cluster: Cluster, distance: str
) -> None:
    alpha, beta = await cluster.start_hosts(2)
    url = await serving(
        cluster, handler_on=alpha, server_on=alpha if distance == "on the same host" else beta
    )
    async with httpx.AsyncClient(base_url=url) as client:
        hello = await client.get("/hello")
        assert hello.text == "hello from a component\n"

        body = bytes(range(256)) * 256
        echo = await client.post("/echo", content=body, headers={"content-type": "image/png"})
        assert (echo.content, echo.headers["content-type"]) == (body, "image/png")

        described = await client.request("POST", "/describe?a=b%20c")
        authority = url.removeprefix("http://")
        assert described.status_code == 201
        assert described.headers["x-lattice"] == "yes"
        assert described.text == f'POST /describe?a=b%20c Some(Scheme::Http) Some("{authority}")'


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/never", "never set its response"),
        ("/too-much", "unreachable"),
        ("/panic", "unreachable"),
    ],
)
async def test_a_handler_that_fails_is_a_problem_of_its_request_alone(
    cluster: Cluster, path: str, said: str
) -> None:
    (host,) = await cluster.start_hosts(1)
    url = await serving(cluster, handler_on=host, server_on=host)
    async with httpx.AsyncClient(base_url=url) as client:
        failed = await client.get(path)
        assert failed.status_code >= 500
        assert said in failed.text
        assert (await client.get("/hello")).status_code == 200


async def test_components_call_each_other_across_hosts_by_their_own_interface(
    cluster: Cluster,
) -> None:
    alpha, beta = await cluster.start_hosts(2)
    await cluster.start_actor("caller", wasm=components.CALLER, on=alpha)
    await cluster.start_actor("doubler", wasm=components.DOUBLER, on=beta)
    with pytest.raises(errors.ActorError, match="no_link"):
        await cluster.call("caller", "more.quadruple", codec.pack([5]))

    await cluster.link("caller", "doubler", "acme:math", interfaces=["ops"])

    for operation in ("more.quadruple", "acme:math/more.quadruple"):
        answer = await cluster.call("caller", operation, codec.pack([5]))
        assert codec.unpack(answer) == 20
    with pytest.raises(errors.InvalidRequest, match="no operation 'acme:maths/more"):
        await cluster.call("caller", "acme:maths/more.quadruple", codec.pack([5]))
    with pytest.raises(errors.ActorError, match="actor_trapped"):
        await cluster.call("caller", "more.quadruple", codec.pack([13]))


@pytest.mark.parametrize("distance", ["on the same host", "across hosts"])
async def test_links_tell_apart_two_packages_that_have_the_same_function(
    cluster: Cluster, distance: str
) -> None:
    alpha, beta = await cluster.start_hosts(2)
    interfaces = ("acme:one/ops@1.0.0", "acme:two/ops@1.0.0")
    sums = components.exporting(*((each, "add", n + 1) for n, each in enumerate(interfaces)))
    await cluster.start_actor("asks", wasm=components.relaying(*interfaces), on=alpha)
    await cluster.start_actor(
        "sums", wasm=sums, on=alpha if distance == "on the same host" else beta
    )
    for package in ("acme:one", "acme:two"):
        await cluster.link("asks", "sums", package, interfaces=["ops"])

    answers = [await cluster.call("asks", each, codec.pack([5])) for each in ("add-0", "add-1")]
    assert [codec.unpack(answer) for answer in answers] == [6, 7]


async def test_a_component_replaces_a_module_and_the_other_way_round(cluster: Cluster) -> None:
    (host,) = await cluster.start_hosts(1)
    await cluster.start_actor("shifting", wasm=components.DOUBLER, on=host)
    assert codec.unpack(await cluster.call("shifting", "ops.double", codec.pack([4]))) == 8
    module = await cluster.upload("echo")
    await cluster.scale("shifting", on=host, component_ref=module, count=10, allow_update=True)
    assert await cluster.call("shifting", "Test.Run", b"hi") == b"hi"


async def test_a_component_that_can_not_run_fails_to_start_saying_why(cluster: Cluster) -> None:
    (host,) = await cluster.start_hosts(1)
    newer = assemble("""
      (component
        (import "acme:new/age" (instance (export "f" (func (param "x" (stream u8))))))
        (core module $main (func (export "run")))
        (core instance $main (instantiate $main))
        (func (export "run") (canon lift (core func $main "run"))))
    """)
    event = await cluster.scale(
        "newer", on=host, component_ref=await cluster.upload("newer", newer), count=1
    )
    assert event.name == "component_scale_failed"
    assert "only WASI 0.2 is supported" in event.data["error"]


async def served(cluster: Cluster, **fields: Any) -> Any:
    """Which call of its instance this one was."""
    return codec.unpack(await cluster.call("keeps", "count", **fields))


async def test_a_call_brings_evicted_code_back(cluster: Cluster) -> None:
    (host,) = await cluster.start_hosts(1)
    await cluster.start_actor("keeps", wasm=components.KEEPS, on=host)
    actor = host.host._actors.get("keeps")
    assert actor is not None
    assert host.host._engine.evict(actor._module)
    assert host.engine.modules_loaded == 0

    assert await served(cluster) == 1
    assert (host.engine.modules_loaded, host.engine.evicted, host.engine.reloaded) == (1, 1, 1)


async def test_instances_of_a_component_are_kept_where_its_annotations_say_so(
    cluster: Cluster,
) -> None:
    (host,) = await cluster.start_hosts(1)
    annotations = {INSTANCES: "reuse", USES: "3"}
    await cluster.start_actor("keeps", wasm=components.KEEPS, on=host, annotations=annotations)
    assert [await served(cluster) for _ in range(5)] == [1, 2, 3, 1, 2]
    with pytest.raises(errors.ActorTrapped):
        await cluster.call("keeps", "trap")
    assert await served(cluster) == 1


async def test_a_call_with_a_key_is_executed_once(cluster: Cluster) -> None:
    (host,) = await cluster.start_hosts(1)
    annotations = {INSTANCES: "reuse"}
    await cluster.start_actor("keeps", wasm=components.KEEPS, on=host, annotations=annotations)
    assert await served(cluster, key="order-7") == 1
    assert await served(cluster, key="order-7") == 1
    assert await served(cluster) == 2


async def test_a_cancelled_call_unwinds_the_component_on_its_host(cluster: Cluster) -> None:
    (host,) = await cluster.start_hosts(1)
    gate = Gate()
    await cluster.serve("gate", gate)
    await cluster.start_actor("first", wasm=components.CALLER, on=host)
    await cluster.link("first", "gate", "acme:math", interfaces=["ops"])
    call = asyncio.create_task(cluster.call("first", "more.quadruple", codec.pack([5])))
    await eventually(lambda: gate.waiting == 1)

    call.cancel()

    await eventually(lambda: gate.waiting == 0)
    await eventually(lambda: host.engine.instances == 0)


async def user(cluster: Cluster, **command: Any) -> LocalHost:
    """Start a component that uses each capability, and a key-value store."""
    alpha, beta = await cluster.start_hosts(2)
    await cluster.control.put_config("in-memory", {"backend": "memory", "page_keys_max": "2"})
    await cluster.control.put_config("paint", {"colour": "red", "shade": "dark"})
    await cluster.start_provider("kv", "lattice+builtin://keyvalue", on=beta, config=["in-memory"])
    await cluster.start_actor("user", wasm=components.guest("capabilities"), on=alpha, **command)
    return alpha


async def exercise(cluster: Cluster, what: str) -> Any:
    return codec.unpack(await cluster.call("user", "exercise", codec.pack([what])))


KEYVALUE = {
    "store": 'false Some("välue") None',
    "store default": 'false Some("välue") None',
    "store nobodys-link": 'false Some("välue") None',
    "store a/b": 'false Some("välue") None',
    "cursor 0": "[]",
    "increment 5": "5",
    "batch": '[Some(("a", [49])), None] [None, None]',
    "batch2": '[("a", Some([49])), ("none", None)]',
    "binary": "Some([255, 0, 193])",
    "large 300000": "true",
    "keys 5": "k0 k1; k2 k3; k4",
    "keys2 5": "k0 k1; k2 k3; k4",
    "keys 0": "",
    "increment 4294967296": "4294967296",
    "increment2 -5": "-5",
    "swap": "None Some([97]) true Some([98])",
    "append abc": "abc",
}


@pytest.mark.parametrize(("what", "outcome"), KEYVALUE.items(), ids=KEYVALUE.keys())
async def test_a_component_keeps_values_over_its_link(
    cluster: Cluster, what: str, outcome: str
) -> None:
    await user(cluster)
    await cluster.link("user", "kv", "wasi:keyvalue")
    assert await exercise(cluster, what) == {"ok": outcome}


async def test_without_a_link_there_is_no_store(cluster: Cluster) -> None:
    await user(cluster)
    assert await exercise(cluster, "store") == {"err": "Error::NoSuchStore"}
    assert await exercise(cluster, "store a/b") == {"err": "Error::NoSuchStore"}


@pytest.mark.parametrize("how", ["store cold", "link cold"])
async def test_a_bucket_or_a_component_can_name_the_link(cluster: Cluster, how: str) -> None:
    await user(cluster)
    await cluster.link("user", "kv", "wasi:keyvalue", name="cold")
    assert await exercise(cluster, "store") == {"err": "Error::NoSuchStore"}
    assert await exercise(cluster, how) == {"ok": KEYVALUE["store"]}


async def test_a_link_serves_the_interfaces_that_it_names(cluster: Cluster) -> None:
    await user(cluster)
    await cluster.link("user", "kv", "wasi:keyvalue", interfaces=["atomics"])
    assert await exercise(cluster, "increment 5") == {"ok": "5"}
    assert await exercise(cluster, "store") == {"err": "Error::NoSuchStore"}


async def test_what_the_store_refuses_is_an_error_that_says_why(cluster: Cluster) -> None:
    await user(cluster)
    await cluster.link("user", "kv", "wasi:keyvalue")
    assert await exercise(cluster, "increment2 -5") == {"ok": "-5"}
    for what, said in (
        ("increment 2", "the sum at key 'count' would not be from 0 to 9223372036854775807"),
        ("increment 18446744073709551615", "delta must be an integer from -9223372036854775808"),
        ("cursor 1", "cursor 1 is none that this bucket gave"),
        ("large 600000", "payload_too_large: store.set: value is 600000 bytes, over the limit"),
        ("many 1001", "invalid_request: batch.get-many: keys must be at most 1000, not 1001"),
    ):
        outcome = await exercise(cluster, what)
        assert said in outcome["err"], what
    assert await exercise(cluster, "increment2 5") == {"ok": "0"}


async def test_components_that_swap_until_it_works_lose_no_update(cluster: Cluster) -> None:
    await user(cluster, count=20)
    await cluster.link("user", "kv", "wasi:keyvalue")
    letters = [chr(ord("a") + n) for n in range(20)]
    outcomes = await asyncio.gather(*(exercise(cluster, f"append {letter}") for letter in letters))
    values = [str(outcome["ok"]) for outcome in outcomes]
    assert sorted(map(len, values)) == list(range(1, 21))
    longest = max(values, key=len)
    assert sorted(longest) == letters


async def test_a_component_shares_a_bucket_with_an_actor_of_the_older_contract(
    cluster: Cluster,
) -> None:
    alpha = await user(cluster)
    await cluster.link("user", "kv", "wasi:keyvalue")
    counter = await asyncio.to_thread(COUNTER.read_bytes)
    await cluster.start_actor("counter", wasm=counter, on=alpha)
    await cluster.link("counter", "kv", "wasmcloud:keyvalue")
    request = {"method": "GET", "path": "/count", "queryString": "", "header": {}, "body": b""}
    assert await exercise(cluster, "increment 41") == {"ok": "41"}
    answer = await cluster.call("counter", "HttpServer.HandleRequest", codec.pack(request))
    assert b"42" in codec.unpack(answer)["body"]
    assert await exercise(cluster, "increment 1") == {"ok": "43"}


async def test_a_component_made_for_spin_has_its_store_and_its_variables(cluster: Cluster) -> None:
    await user(cluster, config=["paint"])
    assert await exercise(cluster, "spin-store default") == {"err": "Error::NoSuchStore"}
    assert await exercise(cluster, "spin-variable colour") == {"ok": "red"}
    assert await exercise(cluster, "spin-variable none") == {"err": 'Error::Undefined("none")'}
    await cluster.link("user", "kv", "wasi:keyvalue")
    assert await exercise(cluster, "spin-store default") == {
        "ok": 'false Some([255, 1]) None ["key0", "key2", "key3", "key4"]'
    }


async def test_a_component_reads_its_configuration(cluster: Cluster) -> None:
    await user(cluster, config=["paint"])
    everything = '[("colour", "red"), ("shade", "dark")]'
    assert await exercise(cluster, "config") == {
        "ok": f'Some("red") None {everything} {everything}'
    }

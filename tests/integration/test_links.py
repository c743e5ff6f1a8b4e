"""Links: what an actor can reach, and that it changes while calls run."""

import asyncio
from typing import Any

import msgpack
import pytest

from lattice import errors
from lattice.wire import control
from tests.support.cluster import ROOT, Cluster, Gate
from tests.support.eventually import eventually

NUMBERS = "wasmcloud:builtin:numbergen"
LOGGING = "wasmcloud:builtin:logging"
CONFIG = "wasmcloud:builtin:config"


@pytest.fixture
async def relay(cluster: Cluster) -> Cluster:
    """Two hosts; the relay example on the first, which calls whatever it is told to."""
    alpha, _ = await cluster.start_hosts(2)
    wasm = (ROOT / "deploy/examples/relay/relay.wasm").read_bytes()
    await cluster.start_actor("relay", on=alpha, wasm=wasm)
    return cluster


async def forward(
    cluster: Cluster, namespace: str, operation: str, payload: bytes = b"", **extra: Any
) -> bytes:
    """Have the relay make a host call."""
    message = {"namespace": namespace, "operation": operation, "payload": payload, **extra}
    return await cluster.call("relay", "Relay.Forward", msgpack.packb(message))


async def open_gate(cluster: Cluster, target: str = "gate") -> Gate:
    gate = Gate()
    gate.open()
    await cluster.serve(target, gate)
    return gate


async def test_without_a_link_the_guest_reads_which_one_is_missing(relay: Cluster) -> None:
    with pytest.raises(errors.ActorError) as failure:
        await forward(relay, "wasi:keyvalue/store", "get")
    assert failure.value.text == (
        "no_link: relay has no link named 'default' for wasi:keyvalue/store;"
        " put one with: lattice link put relay TARGET wasi keyvalue"
    )


async def test_a_link_is_found_by_its_name(relay: Cluster) -> None:
    gates = {name: await open_gate(relay, name) for name in ("one", "two")}
    await relay.link("relay", "one")
    await relay.link("relay", "two", name="backup")
    await forward(relay, "test:target", "Any.Thing", binding="backup")
    assert (gates["one"].calls.total(), gates["two"].calls.total()) == (0, 1)
    assert gates["two"].invocations[0].link_name == "backup"
    with pytest.raises(errors.ActorError, match="no link named 'elsewhere'"):
        await forward(relay, "test:target", "Any.Thing", binding="elsewhere")


async def test_links_of_one_name_are_told_apart_by_package_and_interface(relay: Cluster) -> None:
    gates = {name: await open_gate(relay, name) for name in ("kv", "store", "atomics")}
    await relay.link("relay", "kv", "test:keyvalue")
    await relay.link("relay", "store", "wasi:keyvalue", interfaces=["store"])
    await relay.link("relay", "atomics", "wasi:keyvalue", interfaces=["atomics", "batch"])
    for namespace, target in {
        "test:keyvalue": "kv",
        "test:keyvalue/anything@0.2.0": "kv",
        "wasi:keyvalue/store@0.2.0": "store",
        "wasi:keyvalue/batch": "atomics",
    }.items():
        await forward(relay, namespace, "get")
        assert gates[target].invocations[-1].interface == namespace
    assert [gate.calls.total() for gate in gates.values()] == [2, 1, 1]
    with pytest.raises(errors.ActorError, match="no_link"):
        await forward(relay, "wasi:keyvalue/watcher", "get")


async def test_an_actor_is_called_by_its_id_only_over_a_link(relay: Cluster) -> None:
    gate = await open_gate(relay)
    with pytest.raises(errors.ActorError, match=r"no_link.*lattice link put relay gate"):
        await forward(relay, "gate", "Any.Thing")
    await relay.link("relay", "gate", "acme:gates")
    await forward(relay, "gate", "Any.Thing", b"by id")
    (call,) = gate.invocations
    assert (call.interface, call.payload) == ("acme:gates", b"by id")


async def test_an_actor_is_called_by_its_call_alias_only_over_a_link(relay: Cluster) -> None:
    gate = await open_gate(relay)
    with pytest.raises(errors.ActorError, match="lattice link put relay TARGET acme wide-gate"):
        await forward(relay, "acme/wide_gate", "Any.Thing")
    await relay.link("relay", "gate", "acme:wide-gate")
    await forward(relay, "acme/wide_gate", "Any.Thing", b"by alias")
    (call,) = gate.invocations
    assert (call.interface, call.payload) == ("acme:wide-gate", b"by alias")


@pytest.mark.parametrize("namespace", ["a b", "no:", ":x", "a:b/c/d", "x" * 500, "gate.>", "é"])
async def test_a_namespace_that_is_none_is_an_error_the_guest_reads(
    relay: Cluster, namespace: str
) -> None:
    with pytest.raises(errors.ActorError, match="invalid_request"):
        await forward(relay, namespace, "Any.Thing")


async def test_an_operation_may_be_any_text(relay: Cluster) -> None:
    gate = await open_gate(relay)
    await relay.link("relay", "gate")
    await forward(relay, "test:target", "Ünï.cöde with spaces > *")
    assert gate.invocations[0].operation == "Ünï.cöde with spaces > *"


@pytest.mark.parametrize("prefix", [b"", b"\xc1"], ids=["older SDKs", "newer SDKs"])
async def test_builtins_answer_with_the_payloads_of_0x(relay: Cluster, prefix: bytes) -> None:
    guid = msgpack.unpackb(await forward(relay, NUMBERS, "NumberGen.GenerateGuid", prefix))
    assert len(guid) == 36
    bounds = prefix + msgpack.packb({"min": 7, "max": 7})
    assert await forward(relay, NUMBERS, "NumberGen.RandomInRange", bounds) == b"\x07"
    line = prefix + msgpack.packb({"level": "warn", "text": "from a guest"})
    assert await forward(relay, LOGGING, "Logging.WriteLog", line) == b""


async def test_an_actor_reads_its_configuration_of_now(relay: Cluster) -> None:
    (alpha, _) = relay.hosts
    await relay.control.put_config("base", {"colour": "red", "size": "1"})
    await relay.control.put_config("more", {"colour": "blue"})
    await eventually(lambda: alpha.host._actors._state.config("more"))
    await relay.scale("relay", on=alpha, count=10, config=["base", "more"])
    everything = await forward(relay, CONFIG, "Config.GetAll")
    assert msgpack.unpackb(everything) == {"colour": "blue", "size": "1"}
    await relay.control.put_config("more", {"colour": "green"})
    await eventually(lambda: alpha.host._actors._state.config("more") == {"colour": "green"})
    colour = await forward(relay, CONFIG, "Config.Get", msgpack.packb("colour"))
    assert msgpack.unpackb(colour) == {"value": "green", "exists": True}


async def test_a_link_put_or_deleted_takes_effect_without_a_restart(relay: Cluster) -> None:
    await open_gate(relay)
    for _ in range(3):
        await relay.link("relay", "gate")
        assert await forward(relay, "test:target", "Any.Thing", b"hi") == b"hi"
        await relay.unlink("relay")
        with pytest.raises(errors.ActorError, match="no_link"):
            await forward(relay, "test:target", "Any.Thing")


async def test_a_link_removed_while_calls_run_stops_only_further_ones(relay: Cluster) -> None:
    gate = Gate()
    await relay.serve("gate", gate)
    await relay.link("relay", "gate")
    running = [
        asyncio.create_task(forward(relay, "test:target", "Any.Thing", b"%d" % number))
        for number in range(10)
    ]
    await eventually(lambda: gate.waiting == 10)
    await relay.unlink("relay")
    # Its instances are all taken: room for one more.
    await relay.scale("relay", on=relay.hosts[0], count=20)
    with pytest.raises(errors.ActorError, match="no_link"):
        await forward(relay, "test:target", "Any.Thing")
    gate.open()
    assert await asyncio.gather(*running) == [b"%d" % number for number in range(10)]


async def test_links_put_and_removed_under_load_lose_no_call(relay: Cluster) -> None:
    """Every call either goes through or is told that there is no link."""
    gate = await open_gate(relay)
    outcomes = {"through": 0, "no link": 0}
    stop = asyncio.Event()

    async def load() -> None:
        while not stop.is_set():
            try:
                await forward(relay, "test:target", "Any.Thing", b"hi")
                outcomes["through"] += 1
            except errors.ActorError as error:
                if "no_link" not in error.text:
                    raise
                outcomes["no link"] += 1

    load_tasks = [asyncio.create_task(load()) for _ in range(5)]
    for _ in range(10):
        await relay.link("relay", "gate")
        await relay.unlink("relay")
    stop.set()
    await asyncio.gather(*load_tasks)
    assert outcomes["through"] == gate.calls.total() > 0
    assert outcomes["no link"] > 0


async def test_a_link_moved_to_another_target_is_refused_until_it_is_deleted(
    relay: Cluster,
) -> None:
    await relay.link("relay", "one")
    with pytest.raises(errors.Conflict, match="link already exists with different target"):
        await relay.link("relay", "two")
    failed = await relay.event("linkdef_set_failed", source_id="relay", target="two")
    assert "different target" in failed.data["error"]
    await relay.unlink("relay")
    await relay.link("relay", "two")


async def test_both_hosts_have_a_link_whichever_answered(relay: Cluster) -> None:
    for number in range(10):
        await relay.link("relay", f"target-{number}", name=f"link-{number}")
    for host in relay.hosts:
        assert len(list(host.host._actors._state.links)) == 10
    assert len(await relay.control.links()) == 10


async def test_concurrent_links_of_one_source_all_survive(relay: Cluster) -> None:
    await asyncio.gather(
        *(relay.link("relay", "gate", name=f"link-{number}") for number in range(40))
    )
    assert len(await relay.control.links()) == 40


async def test_a_link_to_a_target_that_does_not_run_says_so(relay: Cluster) -> None:
    await relay.link("relay", "nobody")
    with pytest.raises(errors.ActorError, match="not_running"):
        await forward(relay, "test:target", "Any.Thing")


async def test_a_link_with_a_config_that_does_not_exist_is_refused(relay: Cluster) -> None:
    with pytest.raises(errors.NotFound, match="Configuration nope not found in config store"):
        await relay.link("relay", "gate", source_config=["nope"])


async def test_a_bucket_that_is_suddenly_empty_removes_no_link(relay: Cluster) -> None:
    await open_gate(relay)
    await relay.link("relay", "gate")
    bucket = await relay.bus.bucket(f"LATTICEDATA_{relay.lattice}")
    await relay.bus._jetstream.purge_stream(f"KV_{bucket.name}")
    # As after a reconnection: everything is read again.
    for host in relay.hosts:
        mirror = host.host._actors._state._data_mirror
        mirror.synced.clear()
        mirror.resync()
        await eventually(mirror.synced.is_set)
    assert await forward(relay, "test:target", "Any.Thing", b"hi") == b"hi"


async def test_a_malformed_entry_in_the_bucket_leaves_the_links_in_force(relay: Cluster) -> None:
    await open_gate(relay)
    await relay.link("relay", "gate")
    bucket = await relay.bus.bucket(f"LATTICEDATA_{relay.lattice}")
    revision = await bucket.put("COMPONENT_relay", b"not JSON")
    for host in relay.hosts:
        await host.host._actors._state._data_mirror.wait_for(revision, timeout_s=5)
    assert await forward(relay, "test:target", "Any.Thing", b"hi") == b"hi"


async def test_deleting_a_link_is_exact(relay: Cluster) -> None:
    await relay.link("relay", "one", "a:b")
    await relay.link("relay", "two", "a:c")
    await relay.control.delete_link(
        control.DeleteLink(source_id="relay", wit_namespace="a", wit_package="b")
    )
    await eventually(lambda: relay.seen("linkdef_deleted"))
    assert [link.target for link in await relay.control.links()] == ["two"]

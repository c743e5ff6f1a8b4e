"""Actors end to end: called over NATS and through the plain door, however their guests behave."""

import asyncio
import struct
from dataclasses import dataclass

import msgpack
import pytest

from lattice import errors, limits, subjects
from lattice.wire import codec
from tests.support.cluster import ROOT, Cluster, Gate, LocalHost
from tests.support.eventually import eventually
from tests.support.wat import assemble


@dataclass(frozen=True)
class Misbehaviour:
    module: str
    payload: bytes
    code: str
    operation: str = "Test.Run"


def lie(function: int, pointer: int, length: int) -> bytes:
    """What ``liar.wat`` reads: a function and two arguments for it."""
    return struct.pack("<III", function, pointer, length)


MISBEHAVIOURS = {
    "spins": Misbehaviour("spin", b"", "cpu_exceeded"),
    "traps": Misbehaviour("traps", b"", "actor_trapped"),
    "reads out of bounds": Misbehaviour("traps", b"1", "actor_trapped"),
    "recurses without end": Misbehaviour("traps", b"1234567", "actor_trapped"),
    "grows memory a page at a time": Misbehaviour("grow", b"", "memory_exceeded"),
    "grows memory at once": Misbehaviour("grow_at_once", b"", "memory_exceeded"),
    "never answers": Misbehaviour("never_answers", b"x", "actor_error"),
    "fails without a word": Misbehaviour("never_answers", b"", "actor_error"),
    "fails with an error": Misbehaviour("fails", b"", "actor_error"),
    "exits": Misbehaviour("exits", b"x", "actor_trapped"),
    "takes its request twice": Misbehaviour("requests_twice", b"", "actor_trapped"),
    "answers from beyond its memory": Misbehaviour("liar", lie(0, 0xFFFFFFF0, 64), "actor_trapped"),
    "answers with 4 GiB": Misbehaviour("liar", lie(0, 0, 0xFFFFFFFF), "actor_error"),
    "gives an error from nowhere": Misbehaviour("liar", lie(1, 0x80000000, 8), "actor_trapped"),
    "calls with a wrong pointer": Misbehaviour("liar", lie(3, 0xFFFFFFFF, 2), "actor_trapped"),
    "wants an error beyond its memory": Misbehaviour(
        "liar", lie(7, 0xFFFFFFFF, 0), "actor_trapped"
    ),
}


async def one_host(cluster: Cluster, **settings: object) -> LocalHost:
    (host,) = await cluster.start_hosts(1, **settings)
    return host


async def test_an_actor_answers_over_nats_and_through_the_plain_door(cluster: Cluster) -> None:
    host = await one_host(cluster)
    await cluster.start_actor("echo", on=host)
    assert await cluster.call("echo", payload=b"hi") == b"hi"
    answer = await cluster.ask("echo", "Echo.Say", b"hello")
    assert (answer.data, answer.headers) == (b"hello", None)


@pytest.mark.parametrize("misbehaviour", MISBEHAVIOURS.values(), ids=MISBEHAVIOURS.keys())
async def test_a_caller_hears_what_became_of_a_guest_that(
    cluster: Cluster, misbehaviour: Misbehaviour
) -> None:
    host = await one_host(cluster, cpu_time_s=0.05, memory_bytes=4 * limits.MIB)
    await cluster.start_actor("bad", module=misbehaviour.module, on=host)
    await cluster.start_actor("echo", on=host)

    with pytest.raises(errors.LatticeError) as failure:
        await cluster.call("bad", misbehaviour.operation, misbehaviour.payload)
    assert (failure.value.code, failure.value.at) == (misbehaviour.code, host.id)
    answer = await cluster.ask("bad", misbehaviour.operation, misbehaviour.payload)
    assert answer.headers is not None
    assert answer.headers["Nats-Service-Error-Code"] == misbehaviour.code
    assert answer.headers["Nats-Service-Error"]
    assert answer.data == b""

    # The host lives, and nothing of those calls is left.
    assert await cluster.call("echo", payload=b"still here") == b"still here"
    assert (host.engine.instances, host.engine.workers_busy) == (0, 0)


async def test_a_guest_that_answers_twice_is_taken_at_its_last_word(cluster: Cluster) -> None:
    host = await one_host(cluster)
    await cluster.start_actor("answers_twice", on=host)
    assert await cluster.call("answers_twice") == b"second"


async def test_a_spinning_guest_does_not_hold_up_another(cluster: Cluster) -> None:
    host = await one_host(cluster, cpu_time_s=60)
    await cluster.start_actor("spin", on=host)
    await cluster.start_actor("echo", on=host)
    spinning = [asyncio.create_task(cluster.call("spin", timeout_s=1.5)) for _ in range(4)]
    await eventually(lambda: host.engine.instances == 4)
    for _ in range(10):
        assert await cluster.call("echo", payload=b"hi") == b"hi"
    assert host.engine.instances == 4, "they spin on"
    for outcome in await asyncio.gather(*spinning, return_exceptions=True):
        assert isinstance(outcome, errors.DeadlineExceeded)
    await eventually(lambda: host.engine.instances == 0)


async def test_a_trap_names_the_function_it_happened_in(cluster: Cluster) -> None:
    host = await one_host(cluster)
    await cluster.start_actor("traps", on=host)
    with pytest.raises(errors.ActorTrapped) as failure:
        await cluster.call("traps")
    assert "unreachable" in failure.value.detail["kind"]
    assert "unreachable" in failure.value.detail["backtrace"]


@pytest.mark.parametrize(
    "envelope",
    [
        b"",
        b"\xc1",
        b"hello",
        b"\xdf\xff\xff\xff\xff",
        b"\x91" * 5_000,
        msgpack.packb([1]),
        msgpack.packb({}),
        msgpack.packb({"v": 2}),
        msgpack.packb({"v": 1, "id": "x", "if": "a:b", "op": "o", "ln": "l", "ttl": "1", "hop": 0}),
        msgpack.packb(
            {"v": 1, "id": "x", "if": "", "op": "o", "ln": "l", "ttl": 1, "hop": 0, "ref": 1}
        ),
    ],
    ids=[
        "empty",
        "not msgpack",
        "trailing bytes",
        "a huge map that is not there",
        "nested without end",
        "a list",
        "an empty map",
        "another version",
        "a wrong type",
        "a wrong reference",
    ],
)
async def test_a_malformed_envelope_is_refused_and_the_host_goes_on(
    cluster: Cluster, envelope: bytes
) -> None:
    host = await one_host(cluster)
    await cluster.start_actor("echo", on=host)
    deadline = asyncio.get_running_loop().time() + 10
    subject = subjects.call(cluster.lattice, "echo", "stranger")
    answer = codec.unpack((await cluster.bus.request(subject, envelope, deadline=deadline)).data)
    assert (answer["err"]["code"], answer["err"]["at"]) == ("invalid_request", host.id)
    assert await cluster.call("echo", payload=b"hi") == b"hi"


async def test_a_call_beyond_a_full_mailbox_is_overloaded_and_says_where(cluster: Cluster) -> None:
    host = await one_host(cluster, mailbox_calls=1)
    gate = Gate()
    await cluster.serve("gate", gate)
    await cluster.start_actor("relay", on=host, count=1)
    await cluster.link("relay", "gate")
    accepted = [asyncio.create_task(cluster.call("relay", payload=b"%d" % n)) for n in range(2)]
    await eventually(lambda: host.host._actors.waiting == 1)

    with pytest.raises(errors.Overloaded) as refusal:
        await cluster.call("relay")
    assert refusal.value.at == host.id
    answer = await cluster.ask("relay")
    assert (answer.headers or {})["Nats-Service-Error-Code"] == "overloaded"

    gate.open()
    assert sorted(await asyncio.gather(*accepted)) == [b"0", b"1"]
    assert gate.calls.total() == 2, "an overloaded call was executed"


async def test_a_call_whose_time_is_up_in_the_mailbox_is_not_executed(cluster: Cluster) -> None:
    host = await one_host(cluster)
    gate = Gate()
    await cluster.serve("gate", gate)
    await cluster.start_actor("relay", on=host, count=1)
    await cluster.link("relay", "gate")
    first = asyncio.create_task(cluster.call("relay", payload=b"first"))
    await eventually(lambda: gate.waiting == 1)
    with pytest.raises(errors.DeadlineExceeded):
        await cluster.call("relay", payload=b"second", timeout_s=0.1)
    await eventually(lambda: host.host._actors.waiting == 0)
    gate.open()
    assert await first == b"first"
    assert [call.payload for call in gate.invocations] == [b"first"]


async def test_when_a_deadline_passes_the_guest_is_unwound(cluster: Cluster) -> None:
    host = await one_host(cluster)
    gate = Gate()
    await cluster.serve("gate", gate)
    await cluster.start_actor("relay", on=host)
    await cluster.link("relay", "gate")
    answer = await cluster.ask("relay", headers={"Lattice-Timeout-Ms": "100"})
    assert (answer.headers or {})["Nats-Service-Error-Code"] == "deadline_exceeded"
    await eventually(lambda: host.engine.instances == 0)


@pytest.mark.parametrize("hosts", [1, 2], ids=["on one host", "across hosts"])
async def test_an_actor_calls_another(cluster: Cluster, hosts: int) -> None:
    started = await cluster.start_hosts(hosts)
    await cluster.start_actor("relay", on=started[0])
    await cluster.start_actor("echo", on=started[-1])
    await cluster.link("relay", "echo")
    assert await cluster.call("relay", payload=b"hi") == b"hi"
    assert (await cluster.ask("relay", payload=b"hello")).data == b"hello"


@pytest.mark.parametrize("hosts", [1, 2], ids=["on one host", "across hosts"])
async def test_a_guest_can_read_what_its_callee_failed_with(cluster: Cluster, hosts: int) -> None:
    started = await cluster.start_hosts(hosts)
    await cluster.start_actor("relay", on=started[0])
    await cluster.start_actor("traps", on=started[-1])
    await cluster.link("relay", "traps")
    with pytest.raises(errors.ActorError, match=r"actor_trapped: the actor trapped: .*unreachable"):
        await cluster.call("relay")


async def test_a_large_payload_goes_through_a_chain_of_actors(cluster: Cluster) -> None:
    example = (ROOT / "deploy/examples/echo/echo.wasm").read_bytes()
    relay = (ROOT / "deploy/examples/relay/relay.wasm").read_bytes()
    alpha, beta = await cluster.start_hosts(2)
    await cluster.start_actor("relay", on=alpha, wasm=relay)
    await cluster.start_actor("echo", on=beta, wasm=example)
    await cluster.link("relay", "echo", "example:relay")
    payload = bytes(range(256)) * 8 * limits.KIB
    message = msgpack.packb({"operation": "Echo.Say", "payload": payload})
    assert len(message) > limits.INLINE_PAYLOAD_BYTES
    assert await cluster.call("relay", "Relay.Forward", message) == payload


@pytest.mark.parametrize("hosts", [1, 2], ids=["on one host", "across hosts"])
async def test_a_cycle_of_actors_ends_at_the_hop_limit_not_at_the_deadline(
    cluster: Cluster, hosts: int
) -> None:
    started = await cluster.start_hosts(hosts)
    await cluster.start_actor("ping", module="relay", on=started[0], count=50)
    await cluster.start_actor("pong", module="relay", on=started[-1], count=50)
    await cluster.link("ping", "pong")
    await cluster.link("pong", "ping")
    with pytest.raises(errors.ActorError, match=f"hop_limit.*limit of {limits.HOPS_MAX}"):
        await cluster.call("ping", timeout_s=60)


async def test_a_cycle_of_one_instance_each_ends_at_the_deadline(cluster: Cluster) -> None:
    (host,) = await cluster.start_hosts(1)
    await cluster.start_actor("ping", module="relay", on=host, count=1)
    await cluster.link("ping", "ping")
    with pytest.raises(errors.LatticeError) as failure:
        await cluster.call("ping", timeout_s=0.3)
    assert failure.value.code in {"deadline_exceeded", "actor_error"}
    await eventually(lambda: host.engine.instances == 0)


async def test_hops_grow_and_time_shrinks_along_a_chain(cluster: Cluster) -> None:
    alpha, beta = await cluster.start_hosts(2)
    gate = Gate()
    gate.open()
    await cluster.serve("gate", gate)
    await cluster.start_actor("first", module="relay", on=alpha)
    await cluster.start_actor("second", module="relay", on=beta)
    await cluster.link("first", "second")
    await cluster.link("second", "gate")
    timeout_s = limits.CALL_TIMEOUT_S / 2
    await cluster.call("first", timeout_s=timeout_s, trace="00-1-2-01")
    (arrived,) = gate.invocations
    assert (arrived.hops, arrived.source, arrived.trace) == (2, "second", "00-1-2-01")
    assert 0 < gate.left_s[0] < timeout_s


async def test_ten_thousand_calls_are_suspended_at_once_and_all_answered(cluster: Cluster) -> None:
    calls = 10_000
    places = calls + limits.INSTANCES_KEPT
    host = await one_host(cluster, instances_max=places)
    assert host.engine.instances_max == places
    gate = Gate()
    await cluster.serve("gate", gate)
    await cluster.start_actor("relay", on=host, count=places)
    await cluster.start_actor("echo", on=host)
    await cluster.link("relay", "gate")
    suspended = [
        asyncio.create_task(cluster.call("relay", payload=b"%d" % n, timeout_s=50))
        for n in range(calls)
    ]
    await eventually(lambda: gate.waiting == calls, timeout_s=40)
    assert host.engine.instances == calls
    suspended.append(asyncio.create_task(cluster.call("relay", payload=b"%d" % calls)))
    await eventually(lambda: host.host._actors.waiting == 1)
    assert await cluster.call("echo", payload=b"another's turn") == b"another's turn"
    gate.open()
    assert await asyncio.gather(*suspended) == [b"%d" % n for n in range(calls + 1)]
    assert host.engine.instances == 0


@pytest.mark.parametrize(
    ("wasm", "text"),
    [
        (b"not a module", "not WebAssembly"),
        (assemble('(module (memory (export "memory") 1))'), "__guest_call"),
        (
            assemble(
                '(module (import "env" "launch" (func)) (memory (export "memory") 1)'
                ' (func (export "__guest_call") (param i32 i32) (result i32) (i32.const 1)))'
            ),
            "env",
        ),
        (
            assemble(
                '(module (memory (export "memory") 4096)'
                ' (func (export "__guest_call") (param i32 i32) (result i32) (i32.const 1)))'
            ),
            "memory",
        ),
    ],
    ids=["is none", "has no entry", "imports unknown things", "wants too much memory"],
)
async def test_a_module_that(cluster: Cluster, wasm: bytes, text: str) -> None:
    """Does not start: the event says why, and the host goes on."""
    host = await one_host(cluster)
    reference = await cluster.upload("broken", wasm)
    event = await cluster.scale("broken", on=host, component_ref=reference, count=1)
    assert event.name == "component_scale_failed"
    assert event.data["code"] == "invalid_request"
    assert text in event.data["error"]
    assert (await cluster.control.inventory(host.id)).components == []
    await cluster.start_actor("echo", on=host)

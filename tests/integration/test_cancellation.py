"""Who goes away ends what was done for them, however many hosts away; deadlines end the rest."""

import asyncio
import signal

import pytest

from lattice import errors, limits, subjects
from lattice.wire import figures
from lattice.wire.figures import ActorFigures
from tests.support import command_line
from tests.support.cluster import Cluster, Gate, LocalHost
from tests.support.eventually import eventually

PATIENT_S = limits.CALL_TIMEOUT_S_MAX
"""A deadline that no test waits for: whatever ends sooner, a cancellation has ended."""


async def chain(cluster: Cluster, **settings: object) -> tuple[LocalHost, LocalHost, Gate]:
    """Two hosts with an actor each: ``first`` calls ``second``, and that a gate in the test."""
    alpha, beta = await cluster.start_hosts(2, **settings)
    gate = Gate()
    await cluster.serve("gate", gate)
    await cluster.start_actor("first", module="relay", on=alpha)
    await cluster.start_actor("second", module="relay", on=beta)
    await cluster.link("first", "second")
    await cluster.link("second", "gate")
    return alpha, beta, gate


async def assert_nothing_is_left(cluster: Cluster) -> None:
    rpcs = [cluster.rpc, *(host.host._actors._rpc for host in cluster.hosts)]
    await eventually(lambda: all(host.engine.instances == 0 for host in cluster.hosts))
    await eventually(lambda: all(len(rpc._tasks) == 0 for rpc in rpcs))
    await eventually(lambda: all(len(rpc._cancellable) == 0 for rpc in rpcs))
    await eventually(lambda: all(len(rpc._bus._pending) == 0 for rpc in rpcs))


async def figures_of(cluster: Cluster, host: LocalHost, actor_id: str) -> ActorFigures:
    message = await cluster.bus.request(
        subjects.figures(cluster.lattice, host.id),
        deadline=asyncio.get_running_loop().time() + 10,
    )
    (found,) = (each for each in figures.decode_host(message.data).actors if each.id == actor_id)
    return found


async def test_a_cancelled_call_unwinds_every_guest_of_its_chain(cluster: Cluster) -> None:
    alpha, beta, gate = await chain(cluster)
    call = asyncio.create_task(cluster.call("first", timeout_s=PATIENT_S))
    await eventually(lambda: gate.waiting == 1)

    call.cancel()

    await eventually(lambda: gate.waiting == 0)
    await assert_nothing_is_left(cluster)
    for host, actor_id in ((alpha, "first"), (beta, "second")):
        now = await figures_of(cluster, host, actor_id)
        assert (now.cancelled, now.failed, now.completed) == (1, 1, 0)


async def test_a_cancelled_call_leaves_the_mailbox_without_being_executed(
    cluster: Cluster,
) -> None:
    (host,) = await cluster.start_hosts(1)
    gate = Gate()
    await cluster.serve("gate", gate)
    await cluster.start_actor("relay", on=host, count=1)
    await cluster.link("relay", "gate")
    running = asyncio.create_task(cluster.call("relay", payload=b"runs", timeout_s=PATIENT_S))
    await eventually(lambda: gate.waiting == 1)
    waiting = asyncio.create_task(cluster.call("relay", payload=b"waits", timeout_s=PATIENT_S))
    await eventually(lambda: host.host._actors.waiting == 1)

    waiting.cancel()

    await eventually(lambda: host.host._actors.waiting == 0)
    assert (await figures_of(cluster, host, "relay")).cancelled == 1
    gate.open()
    assert await running == b"runs"
    assert [call.payload for call in gate.invocations] == [b"runs"]
    await assert_nothing_is_left(cluster)


async def test_a_guest_that_burns_cpu_is_unwound_when_its_caller_goes_away(
    cluster: Cluster,
) -> None:
    (host,) = await cluster.start_hosts(1, cpu_time_s=PATIENT_S)
    await cluster.start_actor("spin", on=host)
    call = asyncio.create_task(cluster.call("spin", timeout_s=PATIENT_S))
    await eventually(lambda: host.engine.workers_busy == 1)

    call.cancel()

    await assert_nothing_is_left(cluster)


async def test_an_http_client_that_goes_away_ends_its_call_on_every_host(
    cluster: Cluster,
) -> None:
    alpha, beta, gate = await chain(cluster)
    port = command_line.free_port()
    await cluster.start_provider("http", "lattice+builtin://http-server", on=alpha)
    await cluster.control.put_config(
        "site", {"address": f"127.0.0.1:{port}", "timeout_ms": str(int(PATIENT_S * 1000))}
    )
    # The actor next to the provider is called directly, the other one over NATS.
    await cluster.link("http", "first", "wasmcloud:httpserver", source_config=["site"])
    _reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    await eventually(lambda: gate.waiting == 1)

    writer.close()

    await eventually(lambda: gate.waiting == 0)
    await assert_nothing_is_left(cluster)
    for host, actor_id in ((alpha, "first"), (beta, "second")):
        assert (await figures_of(cluster, host, actor_id)).cancelled == 1


async def test_ctrl_c_cancels_what_the_command_called(cluster: Cluster) -> None:
    (host,) = await cluster.start_hosts(1)
    gate = Gate()
    await cluster.serve("gate", gate)
    await cluster.start_actor("relay", on=host)
    await cluster.link("relay", "gate")
    process = await asyncio.create_subprocess_exec(
        command_line.LATTICE,
        *("call", "relay", "Test.Run", "--nats", cluster.nats.url),
        *("--timeout-ms", str(int(PATIENT_S * 1000))),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    await eventually(lambda: gate.waiting == 1, timeout_s=20)

    process.send_signal(signal.SIGINT)

    async with asyncio.timeout(20):
        assert await process.wait() == 130
    await eventually(lambda: gate.waiting == 0)
    await assert_nothing_is_left(cluster)


async def test_a_plain_caller_cannot_be_seen_leaving_and_its_deadline_ends_the_call(
    cluster: Cluster,
) -> None:
    _, _, gate = await chain(cluster)
    asked = asyncio.create_task(
        cluster.ask("first", headers={"Lattice-Timeout-Ms": "3000"}), name="plain caller"
    )
    await eventually(lambda: gate.waiting == 1)

    asked.cancel()
    await asyncio.wait([asked])
    assert gate.waiting == 1

    await eventually(lambda: gate.waiting == 0)
    await assert_nothing_is_left(cluster)


async def test_a_link_shortens_the_deadline_of_the_calls_over_it(cluster: Cluster) -> None:
    _, _, gate = await chain(cluster)
    await cluster.control.put_config("hasty", {"timeout_ms": "1000"})
    await cluster.link("second", "gate", source_config=["hasty"])

    with pytest.raises(errors.ActorError, match="deadline_exceeded"):
        await cluster.call("first", timeout_s=PATIENT_S)

    assert gate.left_s[0] <= 1
    await assert_nothing_is_left(cluster)


async def test_a_link_cannot_extend_a_deadline(cluster: Cluster) -> None:
    _, _, gate = await chain(cluster)
    gate.open()
    await cluster.control.put_config("patient", {"timeout_ms": "500000"})
    await cluster.link("second", "gate", source_config=["patient"])

    await cluster.call("first", timeout_s=20)

    assert gate.left_s[0] <= 20


async def test_a_links_timeout_that_is_none_is_told_to_the_guest(cluster: Cluster) -> None:
    _, _, gate = await chain(cluster)
    await cluster.control.put_config("wrong", {"timeout_ms": "soon"})
    await cluster.link("second", "gate", source_config=["wrong"])

    with pytest.raises(errors.ActorError, match="timeout_ms of the link second -> gate: 'soon'"):
        await cluster.call("first")

    assert gate.calls.total() == 0


async def test_a_cycle_of_actors_on_two_hosts_ends_at_the_hop_limit(cluster: Cluster) -> None:
    alpha, beta = await cluster.start_hosts(2)
    await cluster.start_actor("ping", module="relay", on=alpha, count=limits.HOPS_MAX)
    await cluster.start_actor("pong", module="relay", on=beta, count=limits.HOPS_MAX)
    await cluster.link("ping", "pong")
    await cluster.link("pong", "ping")

    # Were it left to the deadline, this test would not end in time.
    with pytest.raises(errors.ActorError, match="hop_limit"):
        await cluster.call("ping", timeout_s=PATIENT_S)

    await assert_nothing_is_left(cluster)

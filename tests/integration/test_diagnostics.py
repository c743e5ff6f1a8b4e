"""Real hosts, asked how they are themselves, and told on when they lost something."""

import asyncio
import json
import sys
import time
from typing import Any

import pytest

from host import diagnostics as host_diagnostics
from lattice import errors, limits
from lattice.aio.stalls import LOOK_INTERVAL_S, STALL_S
from lattice.bus import OUTGOING_BYTES_MAX, Bus, liveness
from lattice.bus import connection as bus_connection
from lattice.control import diagnostics
from lattice.identity import keys
from tests.support.cluster import Cluster, Gate, LocalHost
from tests.support.eventually import eventually


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liveness, "PROBE_INTERVAL_S", 0.1)
    # A busy machine may cause a silence, which is not what is tested.
    monkeypatch.setattr(liveness, "PROBE_MISSES_MAX", 100)
    monkeypatch.setattr(host_diagnostics, "REPORT_INTERVAL_S", 0.2)


async def test_a_host_tells_of_its_tasks_connections_loop_and_bounds(cluster: Cluster) -> None:
    (host,) = await cluster.start_hosts(1, mailbox_calls=7)
    gate = Gate()
    await cluster.serve("gate", gate)
    await cluster.start_actor("relay", on=host, count=1)
    await cluster.link("relay", "gate")
    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(cluster.call("relay", payload=b"x"))
        await eventually(lambda: gate.waiting == 1)
        await eventually(lambda: host.host._actors.waiting == 2)
        told = await diagnostics.of_host(cluster.bus, cluster.lattice, host.id)
        gate.open()

    assert (told.id, told.name, told.tasks_left_out) == (host.id, "host-0", 0)
    eternal = {task.name for task in told.tasks if task.eternal}
    assert {"beat", "heartbeat", "follow LATTICEDATA_default"} <= eternal
    assert all(task.restarts == 0 and task.age_s >= 0 for task in told.tasks)
    connections = {one.purpose: one for one in told.connections}
    assert list(connections) == ["calls", "control", "beats"]
    assert all(one.connected and one.server == "lattice" for one in told.connections)
    assert connections["calls"].pending == 1
    assert connections["control"].subscriptions > 5
    bounds = {one.name: (one.value, one.most) for one in told.bounds}
    assert bounds["running instances"] == (1, 64)
    assert bounds["calls in the fullest mailbox"] == (2, 7)
    assert bounds["requests of one connection"] == (1, limits.CALLS_PENDING_MAX)
    assert bounds["outgoing bytes of one connection"][1] == OUTGOING_BYTES_MAX


async def test_every_host_answers_who_asks_all(cluster: Cluster) -> None:
    hosts = await cluster.start_hosts(2)

    told = await diagnostics.of_hosts(cluster.bus, cluster.lattice, timeout_s=5)

    assert [one.id for one in told] == [host.id for host in hosts]


async def test_a_host_that_is_not_there_is_not_found(cluster: Cluster) -> None:
    with pytest.raises(errors.NotFound, match="lattice get hosts"):
        await diagnostics.of_host(
            cluster.bus, cluster.lattice, keys.host_id(keys.new_host_seed()), timeout_s=5
        )


async def test_a_blocked_loop_is_told_with_the_stack_that_blocked_it(cluster: Cluster) -> None:
    (host,) = await cluster.start_hosts(1)

    block_the_loop(3 * (STALL_S + LOOK_INTERVAL_S))

    told = await diagnostics.of_host(cluster.bus, cluster.lattice, host.id, timeout_s=10)
    assert told.stalls.count >= 1
    assert "block_the_loop" in told.stalls.last_stack


async def test_dropped_messages_are_told_by_an_event_and_by_the_doctor(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    (host,) = await cluster.start_hosts(1)
    bus = connection(host, "calls")
    monkeypatch.setattr(bus_connection, "SUBSCRIPTION_MESSAGES_MAX", 1)
    opened = asyncio.Event()

    async def wait(_: object) -> None:
        await opened.wait()

    await bus.subscribe("flooded", wait)
    await bus.flush()
    for _ in range(50):
        await cluster.bus.publish("flooded", b"x")
    event = await cluster.event("messages_dropped", connection="calls")
    opened.set()

    assert event.source == host.id
    assert sum(event.data["by_subject"].values()) == event.data["dropped"] > 0
    assert set(event.data["by_subject"]) == {"flooded"}
    findings = (await command(cluster, "doctor", "--listen", "0.5"))["findings"]
    assert any(
        found["check"] == "connections" and "dropped" in found["what"] and found["remedy"]
        for found in findings
    )


@pytest.mark.parametrize("purpose", ["calls", "control", "beats"])
async def test_a_replaced_connection_is_told_by_an_event_and_calls_work_afterwards(
    cluster: Cluster, purpose: str
) -> None:
    (host,) = await cluster.start_hosts(1)
    await cluster.start_actor("echo", on=host)
    bus = connection(host, purpose)
    await eventually(lambda: bus._liveness.proven)

    assert bus._client._reading_task is not None
    bus._client._reading_task.cancel()

    event = await cluster.event("connection_replaced", connection=purpose)
    assert event.data["reason"] == liveness.Fault.STOPPED.value
    assert await cluster.call("echo", payload=b"hi") == b"hi"
    told = await diagnostics.of_host(cluster.bus, cluster.lattice, host.id)
    assert {one.purpose: one.replaced for one in told.connections} == dict.fromkeys(
        ("calls", "control", "beats"), 0
    ) | {purpose: 1}


async def test_the_command_prints_what_hosts_say(cluster: Cluster) -> None:
    (host,) = await cluster.start_hosts(1)

    (told,) = (await command(cluster, "get", "diagnostics", "host-0"))["diagnostics"]

    assert told["id"] == host.id
    assert {one["purpose"] for one in told["connections"]} == {"calls", "control", "beats"}


def connection(host: LocalHost, purpose: str) -> Bus:
    return host.host._connections[purpose]


def block_the_loop(seconds: float) -> None:
    time.sleep(seconds)


async def command(cluster: Cluster, *words: str) -> dict[str, Any]:
    """What the command line prints as JSON."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "lattice.cli", *words, "--output", "json"),
        env={"LATTICE_NATS_URL": cluster.nats.url, "PATH": ""},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    printed: dict[str, Any] = json.loads(output)
    return printed

"""A host as a whole: how it starts, drains, survives the loss of NATS, and ends."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from host.runtime import Host
from host.settings import HostSettings
from lattice import errors, limits, subjects
from lattice.identity import keys
from lattice.wire import codec
from tests.support.cluster import Cluster, Gate
from tests.support.eventually import eventually


async def test_a_host_tells_that_it_started_and_stopped(cluster: Cluster) -> None:
    (host,) = await cluster.start_hosts(1, name="amber-otter-1234", labels={"zone": "a"})
    started = await cluster.event("host_started")
    assert started.source == host.id
    assert started.data["friendly_name"] == "amber-otter-1234"
    assert started.data["labels"]["zone"] == "a"
    assert started.data["uptime_seconds"] == 0
    await host.stop()
    assert (await cluster.event("host_stopped")).source == host.id
    with pytest.raises(errors.NotRunning):
        await cluster.request("host", "get", host.id)


async def test_a_host_has_the_id_of_its_seed(cluster: Cluster) -> None:
    seed = keys.new_host_seed()
    (host,) = await cluster.start_hosts(1, host_seed=seed)
    assert host.id == keys.host_id(seed)


async def test_a_host_may_be_asked_to_stop_twice(cluster: Cluster) -> None:
    (host,) = await cluster.start_hosts(1)
    host.host.request_stop()
    await host.stop()
    host.host.request_stop()


async def test_a_beat_says_how_a_host_is(cluster: Cluster) -> None:
    beats: list[dict[str, Any]] = []

    async def note(message: Any) -> None:
        beats.append(codec.unpack(message.data))

    subscription = await cluster.bus.subscribe(subjects.beat(cluster.lattice, "*"), note)
    (host,) = await cluster.start_hosts(1)
    await eventually(lambda: beats)
    await subscription.unsubscribe()
    beat = beats[0]
    assert beat.pop("memory") > 0
    assert abs(beat.pop("time") - time.time()) < 60
    assert beat == {
        "id": host.id,
        "uptime": 0,
        "load": 0.0,
        "running": 0,
        "waiting": 0,
        "draining": False,
    }


async def test_lattices_on_one_nats_do_not_see_each_other(cluster: Cluster) -> None:
    (here,) = await cluster.start_hosts(1)
    (there,) = await cluster.start_hosts(1, lattice="elsewhere")
    await cluster.start_actor("echo", on=here)
    assert [host.id for host in await cluster.control.hosts(wait_s=0.2)] == [here.id]
    with pytest.raises(errors.NotRunning):
        await cluster.request("host", "get", there.id)


async def test_a_host_without_nats_says_what_to_do(tmp_path: Path) -> None:
    settings = HostSettings(nats_url=("nats://127.0.0.1:1",), data_dir=tmp_path)
    with pytest.raises(errors.Unavailable, match="start one with: lattice up"):
        await Host(settings, provider_environment={}).run()


async def test_a_host_stops_under_load_without_a_failed_call(cluster: Cluster) -> None:
    alpha, beta = await cluster.start_hosts(2)
    for host in (alpha, beta):
        await cluster.start_actor("echo", on=host, count=4)
        await cluster.start_actor("relay", on=host, count=4)
    await cluster.link("relay", "echo")
    stop = asyncio.Event()

    async def load(target: str) -> int:
        calls = 0
        while not stop.is_set():
            assert await cluster.call(target, payload=b"hi") == b"hi"
            calls += 1
        return calls

    async def plain_load() -> int:
        calls = 0
        while not stop.is_set():
            answer = await cluster.ask("echo", payload=b"hi")
            assert (answer.data, answer.headers) == (b"hi", None)
            calls += 1
        return calls

    loads = [asyncio.create_task(load(target)) for target in ("echo", "relay") * 4]
    loads += [asyncio.create_task(plain_load()) for _ in range(2)]
    await alpha.stop()
    await cluster.start_hosts(1)
    await cluster.start_actor("echo", on=cluster.hosts[2], count=4)
    await cluster.start_actor("relay", on=cluster.hosts[2], count=4)
    await beta.stop()
    stop.set()
    assert min(await asyncio.gather(*loads)) > 0


async def test_actors_scaled_away_under_load_fail_no_call_while_another_host_has_one(
    cluster: Cluster,
) -> None:
    alpha, beta = await cluster.start_hosts(2)
    await cluster.start_actor("echo", on=beta, count=4)
    stop = asyncio.Event()

    async def load() -> int:
        calls = 0
        while not stop.is_set():
            assert await cluster.call("echo", payload=b"hi") == b"hi"
            calls += 1
        return calls

    loads = [asyncio.create_task(load()) for _ in range(8)]
    for _ in range(3):
        await cluster.start_actor("echo", on=alpha, count=4)
        await cluster.scale("echo", on=alpha, count=0)
    stop.set()
    assert min(await asyncio.gather(*loads)) > 0


async def test_nothing_is_left_in_nats_of_a_host_that_stopped(cluster: Cluster) -> None:
    """Its subscriptions: a call must not wait for somebody who is gone."""
    (host,) = await cluster.start_hosts(1)
    await cluster.start_actor("echo", on=host)
    await cluster.start_provider("bird", "lattice+builtin://parrot", on=host)
    await host.stop()
    for subject in (
        subjects.call(cluster.lattice, "echo", "x"),
        subjects.door(cluster.lattice, "echo", "x"),
        subjects.call(cluster.lattice, "bird", "x"),
        subjects.provider_health(cluster.lattice, "bird"),
        subjects.link_put(cluster.lattice, "bird"),
        subjects.control(cluster.lattice, "link", "get"),
        subjects.control(cluster.lattice, "host", "ping"),
    ):
        deadline = asyncio.get_running_loop().time() + 5
        with pytest.raises(errors.NotRunning):
            await cluster.bus.request(subject, deadline=deadline)


async def test_a_stopped_actor_leaves_no_subscription(cluster: Cluster) -> None:
    (host,) = await cluster.start_hosts(1)
    client = host.host._actors._rpc._bus._client
    before = len(client._subs)
    for _ in range(5):
        await cluster.start_actor("echo", on=host)
        await cluster.start_provider("bird", "lattice+builtin://parrot", on=host)
        await cluster.scale("echo", on=host, count=0)
        await cluster.control.stop_provider("bird", host.id)
    assert len(client._subs) == before


async def test_a_drain_waits_no_longer_than_it_may(cluster: Cluster) -> None:
    (host,) = await cluster.start_hosts(1)
    await cluster.serve("gate", Gate())
    await cluster.start_actor("relay", on=host)
    await cluster.link("relay", "gate")
    call = asyncio.create_task(cluster.call("relay", timeout_s=limits.CALL_TIMEOUT_S))
    await eventually(lambda: host.engine.instances == 1)
    await host.stop(drain_s=0.05)
    with pytest.raises(errors.Cancelled):
        await call

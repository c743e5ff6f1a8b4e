"""Actors that are not called: their code goes and comes back; and very many of them on one host."""

import asyncio
import json
import shutil
from pathlib import Path

import pytest

from host import runtime
from host.engine.reuse import INSTANCES, USES
from lattice import errors, limits
from lattice.control.figures import FiguresClient
from tests.support.cluster import Cluster, LocalHost
from tests.support.eventually import eventually
from tests.support.wat import actor as assembled

ANNOTATION_CHARS = limits.ANNOTATIONS_CHARS - 100
MANY = limits.INVENTORY_BYTES // ANNOTATION_CHARS + 20
"""Actors with annotations so long that an inventory of them all is too large for one part."""


def evict(host: LocalHost, actor_id: str) -> None:
    actor = host.host._actors.get(actor_id)
    assert actor is not None
    assert host.host._engine.evict(actor._module)


async def served(cluster: Cluster, actor_id: str) -> int:
    """Which call of its instance this one was."""
    return int.from_bytes(await cluster.call(actor_id, payload=b"n"), "little")


async def test_a_call_over_nats_brings_evicted_code_back(cluster: Cluster) -> None:
    (host,) = await cluster.start_hosts(1)
    await cluster.start_actor("echo", on=host)
    evict(host, "echo")
    assert host.engine.modules_loaded == 0
    assert await cluster.call("echo", payload=b"x") == b"x"

    figures = await FiguresClient(cluster.bus, cluster.lattice).host(host.id)
    assert (figures.modules_loaded, figures.evictions, figures.reloads) == (1, 1, 1)
    assert 0 < figures.code_bytes < figures.code_bytes_max == limits.CODE_BYTES


async def test_without_the_hosts_cache_the_artefact_is_fetched_again(
    cluster: Cluster, tmp_path: Path
) -> None:
    (host,) = await cluster.start_hosts(1, data_dir=tmp_path / "host")
    await cluster.start_actor("echo", on=host)
    evict(host, "echo")
    shutil.rmtree(tmp_path / "host")
    assert await cluster.call("echo", payload=b"x") == b"x"
    assert (host.engine.compiled, host.engine.reloaded) == (2, 1)


async def test_an_actor_whose_code_can_not_be_had_again_is_as_good_as_not_running(
    cluster: Cluster, tmp_path: Path
) -> None:
    (host,) = await cluster.start_hosts(1, data_dir=tmp_path / "host", allow_file_load=True)
    module = tmp_path / "echo.wasm"
    module.write_bytes(assembled("echo"))
    event = await cluster.scale("echo", on=host, component_ref=f"file://{module}", count=1)
    assert event.name == "component_scaled", event
    evict(host, "echo")
    shutil.rmtree(tmp_path / "host" / "modules")
    module.unlink()
    with pytest.raises(errors.NotRunning, match="no file"):
        await cluster.call("echo", payload=b"x")

    # Whoever mends it needs to do nothing else.
    module.write_bytes(assembled("echo"))
    actor = host.host._actors.get("echo")
    assert actor is not None
    actor._reload_after = 0.0
    assert await cluster.call("echo", payload=b"x") == b"x"


async def test_an_inventory_too_large_for_a_message_is_read_in_parts(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "DESCRIBED_AT_ONCE", 5)
    (host,) = await cluster.start_hosts(1, reconcile=False, heartbeat_s=0.5)
    reference = await cluster.upload("echo")
    annotations = {"note": "x" * ANNOTATION_CHARS}
    for number in range(MANY):
        await cluster.scale(
            f"echo-{number}", on=host, component_ref=reference, count=1, annotations=annotations
        )
    inventory = await cluster.control.inventory(host.id)
    assert {each.id for each in inventory.components} == {f"echo-{n}" for n in range(MANY)}

    # However large it is, others have their turns while it is made.
    whole = asyncio.create_task(host.host.inventory())
    turns = 0
    while not whole.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns >= MANY // 5
    assert whole.result().left_out == 0

    # Those before were sent while there were fewer.
    await eventually(lambda: any(told + left_out == MANY for told, left_out in heartbeats(cluster)))


def heartbeats(cluster: Cluster) -> list[tuple[int, int]]:
    """Actors that heartbeats told of, and how many they left out."""
    found = []
    for event in cluster.events:
        if event.name == "host_heartbeat" and "components_left_out" in event.data:
            told = event.data["components"]
            assert len(json.dumps(told)) < limits.INVENTORY_BYTES + ANNOTATION_CHARS
            found.append((len(told), event.data["components_left_out"]))
    return found


async def test_an_annotation_has_an_actor_keep_its_instances(cluster: Cluster) -> None:
    (host,) = await cluster.start_hosts(1)
    policy = {INSTANCES: "reuse", USES: "3"}
    event = await cluster.start_actor("keeps", on=host, annotations=policy)
    assert event.data["annotations"] == policy
    assert [await served(cluster, "keeps") for _ in range(5)] == [1, 2, 3, 1, 2]
    assert host.engine.idle == 1

    # Whoever scales and says nothing of it changes nothing of it.
    reference = await cluster.upload("keeps")
    await cluster.scale("keeps", on=host, component_ref=reference, count=2)
    assert await served(cluster, "keeps") == 3
    await cluster.scale(
        "keeps", on=host, component_ref=reference, count=2, annotations={INSTANCES: "fresh"}
    )
    assert [await served(cluster, "keeps") for _ in range(2)] == [1, 1]
    assert host.engine.idle == 0


async def test_a_config_has_an_actor_keep_its_instances(cluster: Cluster) -> None:
    (host,) = await cluster.start_hosts(1)
    await cluster.control.put_config("kept", {INSTANCES: "reuse"})
    await cluster.start_actor("keeps", on=host, config=["kept"])
    assert [await served(cluster, "keeps") for _ in range(3)] == [1, 2, 3]
    await cluster.scale("keeps", on=host, count=0)
    assert host.engine.idle == 0


async def test_a_policy_that_makes_no_sense_is_refused_at_once(cluster: Cluster) -> None:
    (host,) = await cluster.start_hosts(1)
    reference = await cluster.upload("keeps")
    with pytest.raises(errors.InvalidRequest, match="want fresh or reuse"):
        await cluster.scale(
            "keeps", on=host, component_ref=reference, count=1, annotations={INSTANCES: "pool"}
        )

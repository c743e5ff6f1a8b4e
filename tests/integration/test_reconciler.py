"""The reconciler against real hosts: what is deployed runs, and goes on running."""

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from lattice import errors, subjects
from lattice.aio import processes
from lattice.bus import Message
from lattice.control.apps import AppClient
from lattice.wire.apps import Status, StatusType
from lattice.wire.control import DeleteLink
from tests.support.cluster import Cluster
from tests.support.eventually import eventually

PATIENCE_S = 30.0


def manifest(
    image: str,
    *,
    app: str = "hello",
    version: str = "v1",
    instances: int = 1,
    spread: Sequence[object] = (),
    **more: Any,
) -> str:
    """An app of one actor, ``echo``."""
    return json.dumps(
        {
            "apiVersion": "core.oam.dev/v1beta1",
            "kind": "Application",
            "metadata": {
                "name": app,
                "annotations": {"version": version, **more.pop("annotations", {})},
            },
            "spec": {
                "components": [
                    {
                        "name": "echo",
                        "type": "component",
                        "properties": {"image": image, "id": "echo", **more},
                        "traits": [
                            {
                                "type": "spreadscaler",
                                "properties": {"instances": instances, "spread": list(spread)},
                            }
                        ],
                    }
                ]
            },
        }
    )


@pytest.fixture
def apps(cluster: Cluster) -> AppClient:
    return AppClient(cluster.bus, cluster.lattice, timeout_s=10)


async def until(apps: AppClient, app: str, kind: StatusType) -> Status:
    """Wait for an app's status."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            status = await apps.status(app)
            if status.status.type is kind:
                return status
            await asyncio.sleep(0.02)


def copies(cluster: Cluster, actor: str = "echo") -> dict[str, int]:
    """Instances by host, as the hosts in this process know them."""
    return {
        host.id: component.max_instances
        for host in cluster.hosts
        if host.running and (component := host.host._actors.describe(actor)) is not None
    }


async def test_a_deployed_app_runs_evenly_and_ends_when_it_is_undeployed(
    cluster: Cluster, apps: AppClient
) -> None:
    await cluster.start_hosts(3)
    image = await cluster.upload("echo")

    await apps.put(manifest(image, instances=7))
    await apps.deploy("hello")
    status = await until(apps, "hello", StatusType.DEPLOYED)

    assert status.version == "v1"
    assert Counter(copies(cluster).values()) == {2: 2, 3: 1}
    assert await cluster.call("echo", payload=b"hi") == b"hi"

    await apps.undeploy("hello")
    await until(apps, "hello", StatusType.UNDEPLOYED)
    assert copies(cluster) == {}


async def test_the_only_copy_of_a_host_that_is_killed_runs_elsewhere(
    cluster: Cluster, apps: AppClient
) -> None:
    victim = await cluster.start_process("--label", "zone=a")
    image = await cluster.upload("echo")
    await apps.put(manifest(image))
    await apps.deploy("hello")
    await until(apps, "hello", StatusType.DEPLOYED)
    # It has the copy, and it leads.
    await cluster.start_hosts(2)

    began = asyncio.get_running_loop().time()
    await victim.kill()
    answer = await until_it_answers(cluster)

    print(f"away for {asyncio.get_running_loop().time() - began:.2f} s")
    assert answer == b"hi"
    assert sum(copies(cluster).values()) == 1


async def test_a_leader_that_stops_hands_over_and_its_copies_move(
    cluster: Cluster, apps: AppClient
) -> None:
    first, *_ = await cluster.start_hosts(1)
    await apps.put(manifest(await cluster.upload("echo")))
    await apps.deploy("hello")
    await until(apps, "hello", StatusType.DEPLOYED)
    second, *_ = await cluster.start_hosts(1)

    await first.stop()

    await eventually(lambda: copies(cluster) == {second.id: 1}, timeout_s=PATIENCE_S)
    assert leaders(cluster) == [second.id]


async def test_of_many_reconcilers_one_leads_and_nothing_is_started_twice(
    cluster: Cluster, apps: AppClient
) -> None:
    hosts = await cluster.start_hosts(4)
    assert leaders(cluster) == [hosts[0].id]

    await apps.put(manifest(await cluster.upload("echo"), instances=4))
    await apps.deploy("hello")
    await until(apps, "hello", StatusType.DEPLOYED)

    assert cluster.seen("component_scaled", component_id="echo") == len(hosts)
    assert leaders(cluster) == [hosts[0].id]


async def test_a_reconciler_stays_behind_while_a_wadm_serves_the_lattice(
    cluster: Cluster, apps: AppClient
) -> None:
    async def answer_as_wadm(message: Message) -> None:
        await cluster.bus.publish(message.reply, b'{"result":"success","message":"","models":[]}')

    subscription = await cluster.bus.subscribe(subjects.app_apis(cluster.lattice), answer_as_wadm)
    await cluster.bus.flush()
    await cluster.start_hosts(2)

    # One answer, the other's: ours would say who gave it.
    answers = await cluster.bus.request_many(
        subjects.app_api(cluster.lattice, "get"), timeout_s=0.5
    )
    assert len(answers) == 1
    assert b"served_by" not in answers[0].data
    await cluster.event("reconciler_stepped_back")

    await subscription.unsubscribe()
    await cluster.event("reconciler_took_over")
    await eventually_serves(apps)
    await apps.put(manifest(await cluster.upload("echo")))
    await apps.deploy("hello")
    await until(apps, "hello", StatusType.DEPLOYED)


async def test_a_wadm_that_arrives_takes_over(cluster: Cluster, apps: AppClient) -> None:
    await cluster.start_hosts(2)
    await apps.summaries()

    async def answer_as_wadm(message: Message) -> None:
        await cluster.bus.publish(message.reply, b'{"result":"error","message":"Unsupported"}')

    await cluster.bus.subscribe(subjects.app_apis(cluster.lattice), answer_as_wadm)
    await cluster.bus.flush()
    await cluster.event("reconciler_stepped_back")

    with pytest.raises(errors.InvalidRequest, match="Unsupported"):
        await apps.summaries()


async def test_apps_survive_a_restart_of_nats(cluster: Cluster, apps: AppClient) -> None:
    await cluster.start_hosts(2)
    image = await cluster.upload("echo")
    await apps.put(manifest(image))
    await apps.deploy("hello")
    await until(apps, "hello", StatusType.DEPLOYED)
    before = copies(cluster)

    await cluster.kill_nats()
    await cluster.revive_nats()
    await eventually_serves(apps)

    assert [summary.deployed_version for summary in await apps.summaries()] == ["v1"]
    assert copies(cluster) == before
    await apps.undeploy("hello")
    await until(apps, "hello", StatusType.UNDEPLOYED)
    assert copies(cluster) == {}


async def test_apps_that_vanish_from_their_bucket_run_on(cluster: Cluster, apps: AppClient) -> None:
    await cluster.start_hosts(1)
    await apps.put(manifest(await cluster.upload("echo")))
    await apps.deploy("hello")
    await until(apps, "hello", StatusType.DEPLOYED)

    bucket = await cluster.bus.bucket(subjects.app_bucket(cluster.lattice))
    await bucket.delete(subjects.app_key("hello"))
    await eventually_gone(apps, "hello")
    # A second app makes the leader decide, more than once.
    await apps.put(manifest(await cluster.upload("echo"), app="other", id="another"))
    await apps.deploy("other")
    await until(apps, "other", StatusType.DEPLOYED)

    assert sum(copies(cluster).values()) == 1


async def test_a_deleted_app_leaves_nothing_behind(cluster: Cluster, apps: AppClient) -> None:
    await cluster.start_hosts(2)
    image = await cluster.upload("echo")
    await apps.put(manifest(image, instances=2, config=[{"name": "c", "properties": {"k": "v"}}]))
    await apps.deploy("hello")
    await until(apps, "hello", StatusType.DEPLOYED)
    assert await cluster.control.config("hello-c") == {"k": "v"}

    await apps.delete("hello")

    assert await apps.summaries() == []
    await eventually(lambda: copies(cluster) == {}, timeout_s=PATIENCE_S)
    await cluster.event("config_deleted", config_name="hello-c")
    # And its name is free.
    answer = await apps.put(manifest(image))
    assert (answer.result, answer.total_versions) == ("created", 1)


async def test_what_cannot_be_started_is_said_and_tried_again(
    cluster: Cluster, apps: AppClient
) -> None:
    await cluster.start_hosts(1)
    await apps.put(manifest("lattice+artefact://nothing"))
    await apps.deploy("hello")

    status = await until(apps, "hello", StatusType.FAILED)

    assert status.scalers[0].status.message


ROLLOUT = {"lattice.dev/rollout-gate-seconds": "1", "lattice.dev/rollout-deadline-seconds": "10"}


def references(cluster: Cluster, actor: str = "echo") -> set[str]:
    """What the hosts in this process run under an id."""
    return {
        component.image_ref
        for host in cluster.hosts
        if host.running and (component := host.host._actors.describe(actor)) is not None
    }


async def test_a_new_version_that_is_well_replaces_the_old_one_host_by_host(
    cluster: Cluster, apps: AppClient
) -> None:
    await cluster.start_hosts(3)
    old, new = await cluster.upload("echo"), await cluster.upload("relay")
    await apps.put(manifest(old, instances=3))
    await apps.deploy("hello")
    await until(apps, "hello", StatusType.DEPLOYED)

    await apps.put(manifest(new, version="v2", instances=3, annotations=ROLLOUT))
    await apps.deploy("hello")
    await eventually(lambda: references(cluster) == {old, new}, timeout_s=PATIENCE_S)
    status = await until(apps, "hello", StatusType.DEPLOYED)

    assert status.version == "v2"
    assert references(cluster) == {new}
    assert list(copies(cluster).values()) == [1, 1, 1]


async def test_a_new_version_whose_calls_fail_is_rolled_back(
    cluster: Cluster, apps: AppClient
) -> None:
    await cluster.start_hosts(2)
    old, new = await cluster.upload("echo"), await cluster.upload("traps")
    await apps.put(manifest(old, instances=2))
    await apps.deploy("hello")
    await until(apps, "hello", StatusType.DEPLOYED)

    await apps.put(manifest(new, version="v2", instances=2, annotations=ROLLOUT))
    await apps.deploy("hello")
    async with asyncio.timeout(PATIENCE_S):
        while (await apps.status("hello")).status.type is not StatusType.FAILED:
            with suppress(errors.LatticeError):
                await cluster.call("echo", timeout_s=1)
    await eventually(lambda: references(cluster) == {old}, timeout_s=PATIENCE_S)

    status = await until(apps, "hello", StatusType.FAILED)
    assert "v2 failed" in status.status.message
    assert status.version == "v1"


async def test_a_rollout_goes_on_when_its_leader_is_killed(
    cluster: Cluster, apps: AppClient
) -> None:
    leader = await cluster.start_process("--label", "zone=a")
    await cluster.start_hosts(3)
    old, new = await cluster.upload("echo"), await cluster.upload("relay")
    spread = [{"name": "here", "requirements": {"zone": "b"}}]
    for host in cluster.hosts:
        await cluster.control.put_label(host.id, "zone", "b")
    await apps.put(manifest(old, instances=3, spread=spread))
    await apps.deploy("hello")
    await until(apps, "hello", StatusType.DEPLOYED)

    await apps.put(manifest(new, version="v2", instances=3, spread=spread, annotations=ROLLOUT))
    await apps.deploy("hello")
    await eventually(lambda: references(cluster) == {old, new}, timeout_s=PATIENCE_S)
    await leader.kill()
    status = await until(apps, "hello", StatusType.DEPLOYED)

    assert status.version == "v2"
    assert references(cluster) == {new}
    assert list(copies(cluster).values()) == [1, 1, 1]


async def test_a_provider_its_configs_and_links_are_part_of_an_app(
    cluster: Cluster, apps: AppClient
) -> None:
    await cluster.start_hosts(2)
    image = await cluster.upload("echo")
    await apps.put(with_parrot(image, version="v1", said="hello"))
    await apps.deploy("aviary")
    await until(apps, "aviary", StatusType.DEPLOYED)

    assert await told(cluster) == {"said": "hello"}
    assert sorted(copies(cluster)) == sorted(host.id for host in cluster.hosts)

    # Only the config of the link is another, and reaches the provider.
    await apps.put(with_parrot(image, version="v2", said="goodbye"))
    await apps.deploy("aviary")
    await until(apps, "aviary", StatusType.DEPLOYED)
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if await told(cluster) == {"said": "goodbye"}:
                break
            await asyncio.sleep(0.05)

    # Somebody deletes the link, and it comes back.
    await cluster.control.delete_link(
        DeleteLink(source_id="echo", wit_namespace="test", wit_package="target")
    )
    await cluster.event("linkdef_set", count=3, source_id="echo")

    await apps.delete("aviary")
    await eventually(
        lambda: not any(host.host._providers.describe() for host in cluster.hosts),
        timeout_s=PATIENCE_S,
    )
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if not await cluster.control.links():
                break
            await asyncio.sleep(0.05)


def with_parrot(image: str, *, version: str, said: str) -> str:
    """An app of an actor on every host, linked to a provider."""
    app = json.loads(manifest(image, app="aviary", version=version, annotations=ROLLOUT))
    (echo,) = app["spec"]["components"]
    config = {"name": "parrot-link", "properties": {"said": said}}
    echo["traits"] = [
        {"type": "daemonscaler", "properties": {"instances": 1}},
        {
            "type": "link",
            "properties": {
                "namespace": "test",
                "package": "target",
                "interfaces": [],
                "target": {"name": "bird", "config": [config]},
            },
        },
    ]
    app["spec"]["components"].append(
        {
            "name": "bird",
            "type": "capability",
            "properties": {"image": "lattice+builtin://parrot", "id": "bird"},
        }
    )
    return json.dumps(app)


async def told(cluster: Cluster) -> dict[str, str]:
    """The configuration that the provider has of the actor's link."""
    answer = json.loads(await cluster.call("bird", "Parrot.Tell", source="echo"))
    config: dict[str, str] = answer["link_config"]
    return config


async def test_a_leader_that_was_frozen_does_not_act_when_it_wakes(
    cluster: Cluster, apps: AppClient
) -> None:
    leader = await cluster.start_process("--label", "zone=a")
    await cluster.start_hosts(2)
    await apps.put(manifest(await cluster.upload("echo"), instances=2))
    await apps.deploy("hello")
    await until(apps, "hello", StatusType.DEPLOYED)

    leader.signal(signal.SIGSTOP)
    await eventually(lambda: leaders(cluster) != [], timeout_s=PATIENCE_S)
    await eventually(lambda: sum(copies(cluster).values()) == 2, timeout_s=PATIENCE_S)
    leader.signal(signal.SIGCONT)

    # It had one of the two, so now there is one too many, somewhere.
    async with asyncio.timeout(PATIENCE_S):
        while True:
            # Its connections were given up in the meantime, and are made anew.
            with suppress(errors.LatticeError):
                inventory = await cluster.control.inventory(leader.id)
                if sum(copies(cluster).values()) + len(inventory.components) == 2:
                    break
            await asyncio.sleep(0.05)
    assert len(leaders(cluster)) == 1
    assert len(await answers(cluster, subjects.reconciler_state(cluster.lattice))) == 1


async def test_a_plan_tells_what_deploying_would_change_and_changes_nothing(
    cluster: Cluster, apps: AppClient
) -> None:
    (host,) = await cluster.start_hosts(1)
    image = await cluster.upload("echo")

    answer = await apps.plan(manifest=manifest(image, instances=2))

    assert [(step.action, step.entity, step.host) for step in answer.steps] == [
        ("start", "component echo", host.id)
    ]
    assert "shall have 2" in answer.steps[0].reason
    assert await apps.summaries() == []

    await apps.put(manifest(image))
    await apps.deploy("hello")
    await until(apps, "hello", StatusType.DEPLOYED)
    assert (await apps.plan(app="hello")).steps == []
    (step,) = (await apps.plan(manifest=manifest(image, version="v2", instances=3))).steps
    assert step.action == "scale"
    with pytest.raises(errors.NotFound):
        await apps.plan(app="nothing")


async def test_a_reconciler_alone_serves_hosts_that_do_not_reconcile(
    cluster: Cluster, apps: AppClient, tmp_path: Path
) -> None:
    await cluster.start_hosts(2, reconcile=False)
    with pytest.raises(errors.Unavailable):
        await apps.summaries()
    environment = {"PATH": os.environ["PATH"], "LATTICE_NATS_URL": cluster.nats.url}
    log = tmp_path / "reconciler.log"
    with log.open("wb") as output:
        process = await processes.spawn(
            sys.executable, "-m", "lattice.reconcile", output=output, env=environment
        )
    try:
        await eventually(lambda: "reconciler started" in log.read_text(), timeout_s=PATIENCE_S)
        await apps.put(manifest(await cluster.upload("echo"), instances=2))
        await apps.deploy("hello")
        await until(apps, "hello", StatusType.DEPLOYED)
    finally:
        status = await processes.end(process, grace_s=5)

    assert status == 0, log.read_text()
    assert list(copies(cluster).values()) == [1, 1]


async def answers(cluster: Cluster, subject: str) -> list[Message]:
    return await cluster.bus.request_many(subject, timeout_s=0.5)


def leaders(cluster: Cluster) -> list[str]:
    return [
        host.id
        for host in cluster.hosts
        if host.running and host.host._reconciler is not None and host.host._reconciler.leads
    ]


async def until_it_answers(cluster: Cluster) -> bytes:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                return await cluster.call("echo", payload=b"hi", timeout_s=1)
            except (errors.NotExecuted, errors.OutcomeUnknown):
                await asyncio.sleep(0.02)


async def eventually_serves(apps: AppClient) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                await apps.summaries()
            except errors.LatticeError:
                await asyncio.sleep(0.02)
            else:
                return


async def eventually_gone(apps: AppClient, app: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if app not in {summary.name for summary in await apps.summaries()}:
                return
            await asyncio.sleep(0.02)

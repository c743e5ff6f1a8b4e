"""A lattice that wasmCloud 1.x hosts share: what they rely on, and what they leave behind."""

import asyncio
import json
from typing import Any

import pytest
from structlog.testing import capture_logs

from lattice import errors, subjects
from lattice.bus import Bucket, Message
from lattice.control.client import ControlClient
from lattice.wire import control
from tests.support.cluster import Cluster, LocalHost
from tests.support.eventually import eventually


@pytest.fixture
async def alpha(cluster: Cluster) -> LocalHost:
    (host,) = await cluster.start_hosts(1, name="alpha")
    return host


class ForeignProvider:
    """A provider on a host that is not ours: it listens by its id alone."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, dict[str, Any]]] = []

    async def open(self, cluster: Cluster, provider_id: str) -> None:
        await cluster.bus.subscribe(subjects.link_put(cluster.lattice, provider_id), self._on_put)
        await cluster.bus.subscribe(
            subjects.link_delete(cluster.lattice, provider_id), self._on_delete
        )
        await cluster.bus.flush()

    async def _on_put(self, message: Message) -> None:
        self.heard.append(("put", json.loads(message.data)))

    async def _on_delete(self, message: Message) -> None:
        self.heard.append(("del", json.loads(message.data)))


async def state_bucket(cluster: Cluster) -> Bucket:
    return await cluster.bus.bucket(subjects.state_bucket(cluster.lattice))


async def test_a_provider_on_a_foreign_host_hears_of_links_put_and_deleted_here(
    cluster: Cluster, alpha: LocalHost
) -> None:
    source, target = ForeignProvider(), ForeignProvider()
    await source.open(cluster, "http")
    await target.open(cluster, "kv")
    await cluster.control.put_config("address", {"url": "redis://x"})
    await cluster.link("http", "kv", "wasi:keyvalue", target_config=["address"])
    await cluster.unlink("http", "wasi:keyvalue")
    await eventually(lambda: len(source.heard) == len(target.heard) == 2)

    definition: dict[str, Any] = {
        "source_id": "http",
        "target": "kv",
        "name": "default",
        "wit_namespace": "wasi",
        "wit_package": "keyvalue",
        "interfaces": [],
        "source_config": {},
        "target_config": {"url": "redis://x"},
        "source_secrets": None,
        "target_secrets": None,
    }
    assert target.heard == [("put", definition), ("del", definition | {"target_config": {}})]
    assert source.heard == target.heard


async def test_a_link_with_secrets_is_not_told_in_the_clear(
    cluster: Cluster, alpha: LocalHost
) -> None:
    provider = ForeignProvider()
    await provider.open(cluster, "kv")
    await cluster.control.put_config("SECRET_pw", {"name": "pw", "backend": "b", "key": "k"})
    await cluster.link("http", "kv", "wasi:keyvalue", target_config=["SECRET_pw"])
    await cluster.link("http", "kv", "wasi:blobstore")
    await eventually(lambda: provider.heard)
    assert [link["wit_package"] for _, link in provider.heard] == ["blobstore"]


@pytest.mark.parametrize("reference", ["lattice+builtin://parrot", "lattice+process://parrot"])
async def test_what_foreign_hosts_tell_is_not_for_our_providers(
    cluster: Cluster, alpha: LocalHost, reference: str
) -> None:
    await cluster.start_provider("bird", reference, on=alpha)
    await cluster.link("tester", "bird")
    forged = {
        "source_id": "tester",
        "target": "bird",
        "name": "default",
        "wit_namespace": "test",
        "wit_package": "target",
        "target_config": {"refuse": "from elsewhere"},
    }
    for subject in (
        subjects.link_put(cluster.lattice, "bird"),
        subjects.link_delete(cluster.lattice, "bird"),
    ):
        await cluster.bus.publish(subject, json.dumps(forged).encode())
    config = subjects.config_update(cluster.lattice, "bird")
    await cluster.bus.publish(config, b'{"from":"elsewhere"}')
    told = json.loads(await cluster.call("bird", "Parrot.Tell"))
    assert (told["links"], told["link_config"], told["config"]) == (["tester"], {}, {})


async def test_copies_of_one_provider_keep_their_own_configuration(cluster: Cluster) -> None:
    hosts = await cluster.start_hosts(2)
    for name, host in zip("ab", hosts, strict=True):
        await cluster.control.put_config(name, {"who": name})
        await cluster.start_provider("bird", "lattice+process://parrot", on=host, config=[name])
    await cluster.link("tester", "bird")
    for name in "ab":
        await cluster.control.put_config(name, {"who": f"{name} again"})
    seen: set[str] = set()

    async def ask_both() -> bool:
        answer = json.loads(await cluster.call("bird", "Parrot.Tell"))
        seen.add(answer["config"]["who"])
        return {"a again", "b again"} <= seen

    async with asyncio.timeout(20):
        while not await ask_both():
            pass
    assert seen <= {"a", "b", "a again", "b again"}


async def test_what_was_started_is_noted_and_links_are_kept(
    cluster: Cluster, alpha: LocalHost
) -> None:
    await cluster.link("linked", "x")
    plain = await cluster.start_actor("plain", module="echo", on=alpha)
    await cluster.start_actor("linked", module="echo", on=alpha)
    await cluster.start_provider("bird", "lattice+builtin://parrot", on=alpha)
    await cluster.scale(
        "plain", on=alpha, component_ref=await cluster.upload("fails"), count=1, allow_update=True
    )
    bucket = await state_bucket(cluster)
    specs = {}
    for entity in ("plain", "linked", "bird"):
        entry = await bucket.get(f"COMPONENT_{entity}")
        assert entry is not None
        specs[entity] = json.loads(entry.value)
    # The first reference stays, as in wasmCloud.
    assert specs["plain"] == {"url": plain.data["image_ref"], "links": []}
    assert specs["linked"]["url"] == plain.data["image_ref"]
    assert [link["target"] for link in specs["linked"]["links"]] == ["x"]
    assert specs["bird"]["url"] == "lattice+builtin://parrot"


LEFT_BEHIND = {
    "LINKDEF_" + "A" * 64: b'{"id":"x","actor_id":"M","provider_id":"V","contract_id":"a:b"}',
    "REFMAP_" + "B" * 64: b"MABC",
    "CLAIMS_MABC": b'{"caps":"a:b","iss":"A","name":"old","rev":"1","sub":"MABC","tags":"a,b"}',
    "CLAIMS_MBROKEN": b"not JSON",
    "SOMETHING_ELSE": b"\xff",
    "COMPONENT_broken": b"not JSON",
    "COMPONENT_": b"{}",
}


async def test_keys_that_others_left_behind_are_skipped_and_stay_as_they_are(
    cluster: Cluster,
) -> None:
    bucket = await state_bucket(cluster)
    for key, value in LEFT_BEHIND.items():
        await bucket.put(key, value)
    with capture_logs() as logs:
        (alpha,) = await cluster.start_hosts(1)
    told = {line.get("key") or line.get("source"): line["log_level"] for line in logs}
    assert told["SOMETHING_ELSE"] == "warning"
    assert told["broken"] == "warning"
    assert told["LINKDEF_" + "A" * 64] == "debug"

    await cluster.start_actor("echo", on=alpha)
    await cluster.link("echo", "x")
    assert [link.source_id for link in await cluster.control.links()] == ["echo"]
    assert [claims["subject"] for claims in await cluster.control.claims()] == ["MABC"]
    with pytest.raises(errors.InvalidRequest, match="malformed; not touched"):
        await cluster.link("broken", "x")
    for key, value in LEFT_BEHIND.items():
        entry = await bucket.get(key)
        assert entry is not None
        assert entry.value == value


async def test_fields_that_newer_hosts_keep_survive_our_writes(
    cluster: Cluster, alpha: LocalHost
) -> None:
    bucket = await state_bucket(cluster)
    kept = control.Link(source_id="a", target="x", wit_namespace="n", wit_package="p").to_json()
    stored = {"url": "ghcr.io/x:1", "links": [kept | {"weight": 5}], "future": {"x": [1]}}
    await bucket.put("COMPONENT_a", json.dumps(stored).encode())
    await eventually(lambda: list(alpha.host._actors._state.links))
    await cluster.link("a", "y", "n:other")
    entry = await bucket.get("COMPONENT_a")
    assert entry is not None
    now = json.loads(entry.value)
    assert (now["url"], now["future"]) == ("ghcr.io/x:1", {"x": [1]})
    assert now["links"][0] == kept | {"weight": 5}
    assert [link["target"] for link in now["links"]] == ["x", "y"]


async def test_a_secrets_reference_is_stored_to_the_byte_and_is_no_configuration(
    cluster: Cluster, alpha: LocalHost
) -> None:
    body = '{ "name":"pw",\n "policy":"{\\"type\\":\\"ü\\"}", "field" : "f" }'.encode()
    assert (await cluster.request("config", "put", "SECRET_pw", body=body))["success"]
    bucket = await cluster.bus.bucket(subjects.config_bucket(cluster.lattice))
    entry = await bucket.get("SECRET_pw")
    assert entry is not None
    assert entry.value == body
    await cluster.control.put_config("plain", {"a": "b"})
    await cluster.start_provider(
        "bird", "lattice+builtin://parrot", on=alpha, config=["plain", "SECRET_pw"]
    )
    await cluster.link("tester", "bird", target_config=["SECRET_pw"])
    told = json.loads(await cluster.call("bird", "Parrot.Tell"))
    assert (told["config"], told["link_config"]) == ({"a": "b"}, {})


async def test_hosts_on_another_control_prefix_hear_only_that(cluster: Cluster) -> None:
    (host,) = await cluster.start_hosts(1, ctl_topic_prefix="acme.ctl")
    there = ControlClient(cluster.bus, cluster.lattice, timeout_s=5, prefix="acme.ctl")
    assert [one.id for one in await there.hosts(wait_s=0.2)] == [host.id]
    assert await there.links() == []
    assert await cluster.control.hosts(wait_s=0.2) == []


@pytest.mark.parametrize("noun", ["component", "provider"])
async def test_a_host_bids_only_in_the_auctions_it_may(cluster: Cluster, noun: str) -> None:
    (host,) = await cluster.start_hosts(1, **{f"{noun}_auction": False})
    bids = {
        "component": await cluster.control.auction_component("x", "y", {}),
        "provider": await cluster.control.auction_provider("x", "y", {}),
    }
    assert bids.pop(noun) is None
    (other,) = bids.values()
    assert other is not None
    assert other.host_id == host.id


async def test_more_links_than_one_message_holds_are_listed(
    cluster: Cluster, alpha: LocalHost
) -> None:
    bucket = await state_bucket(cluster)
    long_names = ["x" * 120] * 2
    for number in range(20):
        links = [
            control.Link(
                source_id=f"source-{number}",
                target=f"target-{index}",
                name=f"link-{index}",
                wit_namespace="wasi",
                wit_package="keyvalue",
                source_config=long_names,
            ).to_json()
            for index in range(200)
        ]
        value = json.dumps({"url": "", "links": links}).encode()
        revision = await bucket.put(f"COMPONENT_source-{number}", value)
    await alpha.host._actors._state._data_mirror.wait_for(revision, timeout_s=10)

    listed = await cluster.control.links()
    assert len(listed) == len({link.order for link in listed}) == 4_000
    # Who can't ask for a page is told why there is no answer.
    reply = await cluster.request("link", "get")
    assert reply["code"] == "payload_too_large"

"""wasmCloud's ``wash``, unchanged, drives our hosts."""

from pathlib import Path

from tests.compat.conftest import Wash
from tests.support.cluster import Cluster
from tests.support.wat import actor

KEYVALUE = "lattice+builtin://keyvalue"


async def test_it_lists_hosts_and_what_they_run(wash: Wash, cluster: Cluster) -> None:
    await cluster.start_actor("echo", on=wash.hosts[0], annotations={"team": "blue"})

    hosts = (await wash.json("get", "hosts"))["hosts"]
    inventories = (await wash.json("get", "inventory"))["inventories"]

    assert {host["id"] for host in hosts} == {host.id for host in wash.hosts}
    (component,) = [each for inventory in inventories for each in inventory["components"]]
    assert component["id"] == "echo"
    assert component["annotations"] == {"team": "blue"}


async def test_it_starts_scales_updates_and_stops_a_component(wash: Wash, cluster: Cluster) -> None:
    first = await cluster.upload("echo")
    second = await cluster.upload("relay")

    started = await wash.json("start", "component", first, "echo", "--max-instances", "3")
    assert await cluster.call("echo", payload=b"hello") == b"hello"
    scaled = await wash.run("scale", "component", started["host_id"], first, "echo", "-c", "7")
    updated = await wash.run("update", "component", "echo", second)
    stopped = await wash.run("stop", "component", "echo")

    assert "to 7 max concurrent instances" in scaled
    assert second in updated
    assert "Component [echo] stopped" in stopped
    inventories = (await wash.json("get", "inventory"))["inventories"]
    assert [inventory["components"] for inventory in inventories] == [[], []]


async def test_it_says_why_a_component_does_not_start(wash: Wash) -> None:
    missing = "lattice://nothing@sha256:" + "0" * 64

    assert "not found" in (await wash.fail("start", "component", missing, "nothing")).lower()


async def test_it_starts_and_stops_a_provider(wash: Wash) -> None:
    started = await wash.run("start", "provider", KEYVALUE, "kv")
    inventories = (await wash.json("get", "inventory"))["inventories"]
    stopped = await wash.run("stop", "provider", "kv")

    assert f"Provider [kv] (ref: [{KEYVALUE}]) started" in started
    assert [p["id"] for inventory in inventories for p in inventory["providers"]] == ["kv"]
    assert "Provider [kv] stopped successfully" in stopped


async def test_it_puts_lists_and_deletes_links(wash: Wash) -> None:
    await wash.run("config", "put", "place", "region=eu")
    link = ("http-server", "echo", "wasmcloud", "httpserver")
    put = await wash.run(
        "link", "put", *link, "--interface", "httpserver", "--source-config", "place"
    )
    links = (await wash.json("link", "query"))["links"]
    await wash.run("link", "del", "http-server", "wasmcloud", "httpserver")

    assert "Published link (http-server) -> (echo) successfully" in put
    assert [(each["source_id"], each["target"], each["source_config"]) for each in links] == [
        ("http-server", "echo", ["place"])
    ]
    assert (await wash.json("get", "links"))["links"] == []


async def test_it_puts_reads_and_deletes_configs(wash: Wash) -> None:
    await wash.run("config", "put", "place", "region=eu", "zone=b")
    config = await wash.json("config", "get", "place")
    await wash.run("config", "del", "place")

    assert config == {"region": "eu", "zone": "b"}
    assert "No configuration found" in await wash.fail("config", "get", "place")


async def test_it_labels_a_host_and_starts_things_by_label(wash: Wash, cluster: Cluster) -> None:
    host = wash.hosts[1]
    reference = await cluster.upload("echo")

    await wash.run("label", host.id, "zone=b")
    started = await wash.json("start", "component", reference, "echo", "--constraint", "zone=b")
    await wash.run("label", host.id, "zone", "--delete")
    hosts = (await wash.json("get", "hosts"))["hosts"]

    assert started["host_id"] == host.id
    assert all("zone" not in each["labels"] for each in hosts)


async def test_it_lists_the_claims_of_signed_components(
    wash: Wash, cluster: Cluster, tmp_path: Path
) -> None:
    module = tmp_path / "echo.wasm"
    module.write_bytes(actor("echo"))
    await wash.run("claims", "sign", str(module), "--name", "Echo", "--rev", "4", "--ver", "1.2.3")
    signed = (tmp_path / "echo_s.wasm").read_bytes()

    await cluster.start_actor("echo", on=wash.hosts[0], wasm=signed)
    (claims,) = (await wash.json("get", "claims"))["claims"]

    assert claims["name"] == "Echo"
    assert claims["version"] == "1.2.3"


async def test_it_stops_a_host(wash: Wash) -> None:
    host = wash.hosts[1]

    await wash.run("stop", "host", host.id)
    await host.task

    assert [each["id"] for each in (await wash.json("get", "hosts"))["hosts"]] == [wash.hosts[0].id]

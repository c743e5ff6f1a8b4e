"""wasmCloud's ``wadm``, unchanged, deploys to our hosts; ``wash app`` works with it and without."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from lattice.aio import processes
from tests.compat.conftest import PATIENCE_S, Wash, stock
from tests.support.cluster import Cluster

MANIFEST = """\
apiVersion: core.oam.dev/v1beta1
kind: Application
metadata:
  name: echoing
  annotations: {{version: {version}, description: "says it again"}}
spec:
  components:
  - name: echo
    type: component
    properties: {{image: "{image}", id: echo}}
    traits:
    - type: spreadscaler
      properties: {{instances: {instances}}}
    - type: link
      properties:
        namespace: wasmcloud
        package: keyvalue
        interfaces: [keyvalue]
        target:
          name: kv
          config: [{{name: place, properties: {{region: eu}}}}]
  - name: kv
    type: capability
    properties: {{image: "lattice+builtin://keyvalue", id: kv}}
"""


@pytest.fixture
async def wadm(cluster: Cluster, tmp_path: Path) -> AsyncIterator[None]:
    """A running ``wadm``."""
    address = urlsplit(cluster.nats.url).netloc
    log_file = tmp_path / "wadm.log"
    with log_file.open("wb") as output:
        process = await processes.spawn(
            stock("wadm"), "--nats-server", address, output=output, env={"RUST_LOG": "warn"}
        )
        try:
            yield
        finally:
            await processes.end(process, grace_s=1)


async def test_wadm_deploys_to_our_hosts(
    wash: Wash, cluster: Cluster, tmp_path: Path, wadm: None
) -> None:
    await _deploy_and_take_back(wash, cluster, tmp_path)


async def test_wash_deploys_without_wadm(wash: Wash, cluster: Cluster, tmp_path: Path) -> None:
    await _deploy_and_take_back(wash, cluster, tmp_path)


async def _deploy_and_take_back(wash: Wash, cluster: Cluster, tmp_path: Path) -> None:
    manifest = tmp_path / "echoing.yaml"
    image = await cluster.upload("echo")

    manifest.write_text(MANIFEST.format(version="v1", image=image, instances=2))
    await _until(lambda: _succeeds(wash, "app", "put", str(manifest)))
    await wash.run("app", "deploy", "echoing", "v1")
    await _until(lambda: _is_deployed(wash))
    assert await cluster.call("echo", payload=b"hello") == b"hello"
    (link,) = (await wash.json("get", "links"))["links"]
    assert (link["source_id"], link["target"]) == ("echo", "kv")
    assert (await wash.json("config", "get", "echoing-place"))["region"] == "eu"

    manifest.write_text(MANIFEST.format(version="v2", image=image, instances=5))
    await wash.run("app", "deploy", str(manifest))
    await _until(lambda: _runs(wash, 5))
    history = await wash.json("app", "history", "echoing")
    assert [each["version"] for each in history["revisions"]] == ["v1", "v2"]
    (application,) = (await wash.json("app", "list"))["applications"]
    assert application["deployed_version"] == "v2"

    await wash.run("app", "undeploy", "echoing")
    await _until(lambda: _runs(wash, 0))
    await wash.run("app", "delete", "echoing")
    assert (await wash.json("app", "list"))["applications"] == []


async def _until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(2 * PATIENCE_S):
        while not await holds():  # noqa: ASYNC110 - what is asked is another program
            await asyncio.sleep(0.2)


async def _succeeds(wash: Wash, *arguments: str) -> bool:
    with suppress(AssertionError):
        await wash.run(*arguments)
        return True
    return False


async def _is_deployed(wash: Wash) -> bool:
    found: dict[str, Any] = await wash.json("app", "status", "echoing")
    kind: str = found["status"]["status"]["type"]
    return kind == "deployed"


async def _runs(wash: Wash, instances: int) -> bool:
    inventories = (await wash.json("get", "inventory"))["inventories"]
    counts: list[int] = [
        each["max_instances"] for inventory in inventories for each in inventory["components"]
    ]
    return sum(counts) == instances

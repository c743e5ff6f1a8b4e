"""A provider that crashes again and again: its host gives it up, and its app says so."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support import command_line
from tests.support.cluster import Cluster, lattice_cluster
from tests.support.command_line import Outcome
from tests.support.eventually import eventually

PATIENCE_S = 30.0

APP = {
    "apiVersion": "core.oam.dev/v1beta1",
    "kind": "Application",
    "metadata": {"name": "aviary", "annotations": {"version": "v1"}},
    "spec": {
        "components": [
            {
                "name": "bird",
                "type": "capability",
                "properties": {"image": "lattice+process://parrot", "id": "bird"},
                "traits": [{"type": "spreadscaler", "properties": {"instances": 1}}],
            }
        ]
    },
}


@pytest.fixture
async def cluster(compiled: Path) -> AsyncIterator[Cluster]:
    async with lattice_cluster(compiled) as cluster:
        yield cluster


async def lattice(cluster: Cluster, *arguments: str) -> Outcome:
    return await command_line.run(
        *arguments, "--output", "json", environment={"LATTICE_NATS_URL": cluster.nats.url}
    )


async def status(cluster: Cluster) -> dict[str, str]:
    outcome = await lattice(cluster, "app", "status", "aviary")
    assert outcome.status == 0, outcome
    told: dict[str, str] = outcome.json["status"]["status"]
    return told


async def test_an_app_fails_loudly_whose_provider_is_given_up(
    cluster: Cluster, tmp_path: Path
) -> None:
    host = await cluster.start_process(
        program=("-m", "tests.faults.host_program"),
        settings={"LATTICE_PROVIDER_RESTARTS_MAX": "1"},
    )
    manifest = tmp_path / "aviary.json"
    manifest.write_text(json.dumps(APP))
    deployed = await lattice(cluster, "app", "deploy", str(manifest))
    assert deployed.status == 0, deployed
    await eventually(lambda: len(host.children) == 1, timeout_s=PATIENCE_S)

    for crash in (1, 2):
        (bird,) = host.children
        bird.kill()
        event = await cluster.event("provider_crashed", count=crash)
        assert event.data["provider_id"] == "bird"
        if crash == 1:
            await cluster.event("provider_restarted")

    gave_up = await cluster.event("provider_gave_up", provider_id="bird", host_id=host.id)
    assert gave_up.data["crashes"] == 2
    async with asyncio.timeout(PATIENCE_S):
        while (told := await status(cluster))["type"] != "failed":
            pass
    assert "its process was killed (SIGKILL)" in told["message"]
    assert not host.children, "nothing starts it again and again"

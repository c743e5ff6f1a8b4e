"""Components that keep blobs with a provider on another host."""

from typing import Any

import pytest

from host.engine.reuse import INSTANCES
from lattice.wire import codec
from tests.support import components
from tests.support.cluster import Cluster

LARGE = 1_500_000
"""More than one part."""


async def exercise(cluster: Cluster, what: str) -> Any:
    return codec.unpack(await cluster.call("user", "exercise", codec.pack([f"blobs-{what}"])))


async def linked(cluster: Cluster, backend: str, **command: Any) -> None:
    alpha, beta = await cluster.start_hosts(2)
    await cluster.control.put_config("kept", {"backend": backend})
    await cluster.start_provider("blobs", "lattice+builtin://blobstore", on=beta, config=["kept"])
    await cluster.start_actor("user", wasm=components.guest("capabilities"), on=alpha, **command)
    # As manifests of others have it: containers are not named.
    await cluster.link("user", "blobs", "wasi:blobstore", interfaces=["blobstore"])


@pytest.mark.parametrize("backend", ["memory", "nats"])
async def test_a_component_keeps_objects_with_a_provider_across_hosts(
    cluster: Cluster, backend: str
) -> None:
    await linked(cluster, backend)
    assert "ok" in await exercise(cluster, "tour")
    assert await exercise(cluster, f"write {LARGE}") == {"ok": ""}
    assert await exercise(cluster, "read") == {"ok": f"{LARGE} {LARGE}"}
    assert await exercise(cluster, "copy") == {"ok": str(LARGE)}


async def test_without_a_link_the_error_says_how_to_put_one(cluster: Cluster) -> None:
    (host,) = await cluster.start_hosts(1)
    await cluster.start_actor("user", wasm=components.guest("capabilities"), on=host)
    refused = await exercise(cluster, "write 1")
    assert refused["err"].startswith("no_link: user has no link named 'default'")


async def test_an_instance_that_is_kept_writes_in_call_after_call(cluster: Cluster) -> None:
    await linked(cluster, "memory", annotations={INSTANCES: "reuse"})
    for size in (10, 20, 30):
        assert await exercise(cluster, f"write {size}") == {"ok": ""}
        assert await exercise(cluster, "read") == {"ok": f"{size} {size}"}


async def test_a_component_writes_in_parts_where_its_provider_has_several_copies(
    cluster: Cluster,
) -> None:
    alpha, beta, gamma = await cluster.start_hosts(3)
    for host in (beta, gamma):
        await cluster.start_provider("blobs", "lattice+builtin://blobstore", on=host)
    await cluster.start_actor("user", wasm=components.guest("capabilities"), on=alpha)
    await cluster.link("user", "blobs", "wasi:blobstore", interfaces=["blobstore"])

    for number in range(5):
        size = LARGE + number
        assert await exercise(cluster, f"write {size}") == {"ok": ""}
        assert await exercise(cluster, "read") == {"ok": f"{size} {size}"}

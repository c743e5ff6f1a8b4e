"""A component that watches keys, told by the provider of another host, whichever copy it is."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from lattice.wire import codec
from tests.support.cluster import TESTER, Cluster
from tests.support.components import guest
from tests.support.eventually import PATIENCE_S

CONTRACT = "wasi:keyvalue"


async def execute(cluster: Cluster, operation: str, *arguments: Any) -> Any:
    answer = await cluster.call(
        "kv", operation, codec.pack(list(arguments)), interface=f"{CONTRACT}/store"
    )
    return codec.unpack(answer)["ok"]


async def becomes(cluster: Cluster, key: str, value: bytes | None) -> None:
    """Wait until a key, which the component writes when it is told, holds something."""
    deadline = asyncio.get_running_loop().time() + PATIENCE_S
    while await execute(cluster, "store.get", key) != value:
        assert asyncio.get_running_loop().time() < deadline, f"{key} did not become {value!r}"
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("place", ["lattice+builtin://keyvalue", "lattice+process://keyvalue"])
@pytest.mark.parametrize("backend", ["nats", "sqlite"])
async def test_a_component_is_told_of_keys_by_its_provider(
    cluster: Cluster, place: str, backend: str, tmp_path: Path
) -> None:
    alpha, beta = await cluster.start_hosts(2)
    await cluster.start_actor("user", wasm=guest("capabilities"), on=beta)
    await cluster.control.put_config(
        "kept", {"backend": backend, "sqlite_directory": str(tmp_path / "kept")}
    )
    await cluster.control.put_config("orders", {"watch": "SET@order*,DEL@order*"})
    for host in (alpha, beta):
        await cluster.start_provider("kv", place, on=host, config=["kept"])
    # By its bucket's id, the link's name, the component writes down what it was told.
    for source in (TESTER, "user"):
        await cluster.link(source, "kv", CONTRACT, interfaces=["store"])
    await cluster.link("kv", "user", CONTRACT, interfaces=["watcher"], source_config=["orders"])

    # A link is known to its provider a little later than to the hosts.
    async with asyncio.timeout(PATIENCE_S):
        while await execute(cluster, "store.get", "seen order first") is None:
            await execute(cluster, "store.set", "order first", b"1")
            await asyncio.sleep(0.05)
    await execute(cluster, "store.set", "order second", b"\x00two")
    await becomes(cluster, "seen order second", b"\x00two")
    await execute(cluster, "store.delete", "order second")
    await becomes(cluster, "seen order second", None)

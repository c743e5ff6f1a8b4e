"""The nats-servers under test: one, or a cluster of three, each a process to be killed.

They listen on ports of their own from their first start to their last, so that whoever was
connected finds them again; what they store stays with them.
"""

import asyncio
import json
import signal
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from lattice.aio import processes
from lattice.bus import server

STORE_BYTES_MAX = 64 * 1024 * 1024
"""Small, so that a full disk is a matter of a second."""

START_TIMEOUT_S = 15.0

CONFIG = """
server_name: {name}
listen: 127.0.0.1:{port}
http: 127.0.0.1:{monitoring_port}
max_payload: 1MB
ping_interval: "2s"
ping_max: 2
write_deadline: "5s"
lame_duck_duration: "30s"
lame_duck_grace_period: "5s"
jetstream {{ store_dir: {store}, max_file_store: {bytes_max}{sync} }}
"""

CLUSTER = """
cluster {{
  name: faults
  listen: 127.0.0.1:{cluster_port}
  routes: [{routes}]
  # Clients must not learn of a way around the proxies.
  no_advertise: true
}}
"""


@dataclass(slots=True)
class Server:
    """One nats-server."""

    name: str
    workspace: Path
    port: int
    monitoring_port: int
    config: Path
    process: asyncio.subprocess.Process | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start it, and return when it takes connections."""
        with (self.workspace / f"{self.name}.log").open("ab") as output:
            self.process = await processes.spawn(
                server.find_binary(), "--config", str(self.config), output=output
            )
        async with asyncio.timeout(START_TIMEOUT_S):
            while await self.monitor("healthz?js-server-only=true") is None:
                assert self.process.returncode is None, "nats-server ended at once"
                await asyncio.sleep(0.02)

    async def kill(self) -> None:
        self.signal(signal.SIGKILL)
        assert self.process is not None
        await self.process.wait()

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    async def aclose(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.signal(signal.SIGCONT)
            await processes.end(self.process, grace_s=3)

    async def monitor(self, path: str) -> dict[str, Any] | None:
        """What it says of itself; None while it says nothing."""
        try:
            async with httpx.AsyncClient(timeout=2, trust_env=False) as client:
                answer = await client.get(f"http://127.0.0.1:{self.monitoring_port}/{path}")
        except httpx.HTTPError:
            return None
        found: dict[str, Any] = answer.json()
        return found if answer.status_code == 200 else None


async def start_servers(workspace: Path, *, count: int) -> list[Server]:
    """One server, or a cluster that has agreed on a leader."""
    ports = free_ports(3 * count)
    names = [f"n{number + 1}" for number in range(count)]
    cluster_ports = ports[2 * count :]
    routes = ", ".join(f"nats://127.0.0.1:{port}" for port in cluster_ports)
    servers = []
    for number, name in enumerate(names):
        text = CONFIG.format(
            name=name,
            port=ports[number],
            monitoring_port=ports[count + number],
            store=json.dumps(str(workspace / name)),
            bytes_max=STORE_BYTES_MAX,
            # Acknowledged means on the disk, as for a control plane that must not forget.
            sync=', sync_interval: "always"' if count > 1 else "",
        )
        if count > 1:
            text += CLUSTER.format(cluster_port=cluster_ports[number], routes=routes)
        config = workspace / f"{name}.conf"
        config.write_text(text)
        servers.append(Server(name, workspace, ports[number], ports[count + number], config))
    await asyncio.gather(*(each.start() for each in servers))
    if count > 1:
        await _wait_leader(servers)
    return servers


async def _wait_leader(servers: Sequence[Server]) -> None:
    async with asyncio.timeout(START_TIMEOUT_S):
        while True:
            meta = [(await each.monitor("jsz") or {}).get("meta_cluster", {}) for each in servers]
            if all(
                each.get("leader") and each.get("cluster_size") == len(servers) for each in meta
            ):
                return
            await asyncio.sleep(0.1)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on; all are held at once, so that they differ."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports

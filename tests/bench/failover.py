"""How long a deployed actor is away when the host that runs its only copy is killed."""

import asyncio
import json
import signal
import time
from contextlib import AsyncExitStack
from typing import Any

from lattice import artefacts, errors, subjects
from lattice.bus.server import NatsServer
from lattice.rpc import Rpc
from lattice.wire.invocation import Invocation
from tests.bench.processes import EXAMPLES, BenchHost, host
from tests.bench.report import Row, median_row

ROUNDS = 5
HOSTS = 3
PATIENCE_S = 60.0

MANIFEST = """\
apiVersion: core.oam.dev/v1beta1
kind: Application
metadata: {{name: failover, annotations: {{version: v1}}}}
spec:
  components:
  - name: echo
    type: component
    properties: {{image: "{image}", id: echo}}
    traits:
    - type: spreadscaler
      properties: {{instances: 1}}
"""


async def measure() -> list[Row]:
    """Kill it again and again, with a fresh host in the place of the dead one each time."""
    away_ms = []
    async with AsyncExitStack() as stack:
        server = await NatsServer.start()
        stack.push_async_callback(server.aclose)
        hosts = [
            await stack.enter_async_context(host(server.url, f"host-{number}"))
            for number in range(HOSTS)
        ]
        watcher = hosts[0]
        await _deploy(watcher)
        for number in range(ROUNDS):
            victim = await _runner(watcher, hosts)
            began = time.monotonic()
            victim.process.send_signal(signal.SIGKILL)
            await victim.process.wait()
            await _answers(watcher)
            away_ms.append((time.monotonic() - began) * 1000)
            hosts.remove(victim)
            name = f"host-{HOSTS + number}"
            hosts.append(await stack.enter_async_context(host(server.url, name)))
    return [
        median_row(
            away_ms,
            id="failover",
            unit="ms",
            goal=5_000,
            better="lower",
            against="from the SIGKILL of the host with the only copy to the first answer elsewhere",
        )
    ]


async def _deploy(watcher: BenchHost) -> None:
    content = (EXAMPLES / "echo" / "echo.wasm").read_bytes()
    image = await artefacts.upload(watcher.bus, "default", "echo", content)
    await _ask(watcher, "put", MANIFEST.format(image=image).encode())
    await _ask(watcher, "deploy", b"", "failover")
    await _answers(watcher)


async def _ask(watcher: BenchHost, operation: str, body: bytes, app: str | None = None) -> None:
    message = await watcher.bus.request(
        subjects.app_api("default", operation, app),
        body,
        deadline=asyncio.get_running_loop().time() + PATIENCE_S,
    )
    answer: dict[str, Any] = json.loads(message.data)
    assert answer["result"] not in {"error", "notfound"}, answer


async def _runner(watcher: BenchHost, hosts: list[BenchHost]) -> BenchHost:
    """The host that runs the copy."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            for each in hosts:
                inventory = await watcher.client.inventory(each.id)
                if inventory.components:
                    return each
            await asyncio.sleep(0.1)


async def _answers(watcher: BenchHost) -> None:
    rpc = Rpc(watcher.bus, "default", at="bench")
    now = asyncio.get_running_loop().time
    ends = now() + PATIENCE_S
    while True:
        try:
            await rpc.call(
                Invocation(
                    source="bench",
                    target="echo",
                    interface="bench:echo",
                    operation="Echo.Say",
                    payload=b"",
                    deadline=now() + 1,
                )
            )
        except (errors.NotExecuted, errors.DeadlineExceeded, errors.Unavailable):
            assert now() < ends, "nobody took over"
            await asyncio.sleep(0.02)
        else:
            return

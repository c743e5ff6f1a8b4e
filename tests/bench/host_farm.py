"""Many hosts in one process: ``COUNT NATS_URL DATA_DIR``. Real hosts, but for their number.

A line ``ready`` on standard output says that all have started. Whoever asks on ``SEEN`` with the
name of a link is told, in milliseconds of the machine's monotonic clock, when each host had it.
"""

import asyncio
import json
import sys
import time
from contextlib import suppress
from pathlib import Path

import uvloop

from host.runtime import Host
from host.settings import HostSettings
from lattice import log
from lattice.bus import Bus, Message, NatsSettings
from lattice.state.links import Difference

SEEN = "bench.seen"
INSTANCES = 16
"""Instances of each host: every engine reserves address space for all of its own."""


class FarmHost(Host):
    """A host that notes when links reach it."""

    def __init__(self, settings: HostSettings) -> None:
        super().__init__(settings, provider_environment={})
        self.seen_ms: dict[str, float] = {}

    def links_changed(self, difference: Difference) -> None:
        super().links_changed(difference)
        now_ms = time.monotonic() * 1000
        for link in difference.put:
            self.seen_ms.setdefault(link.name, now_ms)


async def run(count: int, nats_url: str, data_dir: Path) -> None:
    hosts = [
        FarmHost(
            HostSettings(
                nats_url=(nats_url,),
                name=f"farm-{data_dir.name}-{number}",
                data_dir=data_dir,
                instances_max=INSTANCES,
                log_level="error",
            )
        )
        for number in range(count)
    ]
    bus = await Bus.connect(NatsSettings(servers=(nats_url,)), name="farm")

    async def tell(message: Message) -> None:
        link_name = message.data.decode()
        seen = [host.seen_ms[link_name] for host in hosts if link_name in host.seen_ms]
        await bus.publish(message.reply or "", json.dumps(seen).encode())

    await bus.subscribe(SEEN, tell)
    await bus.flush()
    async with asyncio.TaskGroup() as group:
        for host in hosts:
            group.create_task(host.run())
            await host.ready.wait()
        print("ready", flush=True)


if __name__ == "__main__":
    log.configure(level="error")
    with suppress(KeyboardInterrupt):
        uvloop.run(run(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])))

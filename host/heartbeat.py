"""Says that this host lives: wasmCloud's heartbeat every half minute, a small beat every second."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from host.events import Events
from lattice import errors, limits, subjects
from lattice.bus import Bus
from lattice.wire import codec
from lattice.wire.control import InventoryPart


class Heartbeat:
    """Both kinds, on a connection of their own, so that nothing else can hold them up."""

    def __init__(
        self,
        bus: Bus,
        lattice: str,
        host_id: str,
        *,
        inventory: Callable[[], Awaitable[InventoryPart]],
        figures: Callable[[], dict[str, float | bool]],
        interval_s: float,
    ) -> None:
        """``inventory`` gives as much of it as has room in a message."""
        self._bus = bus
        self._events = Events(bus, lattice, host_id)
        self._beat_subject = subjects.beat(lattice, host_id)
        self._host_id = host_id
        self._inventory = inventory
        self._figures = figures
        self._interval_s = interval_s

    async def run_heartbeat(self) -> None:
        """Publish the inventory for ever; first after one interval, as in wasmCloud 1.x."""
        while True:
            await asyncio.sleep(self._interval_s)
            await self._events.publish_text("host_heartbeat", heartbeat(await self._inventory()))

    async def run_beat(self) -> None:
        """Publish id and figures for ever; a beat that can't be sent is simply missed."""
        while True:
            # The time is for those who compare clocks; whoever waits for beats goes by his own.
            beat = codec.pack({"id": self._host_id, "time": time.time(), **self._figures()})
            with suppress(errors.Unavailable):
                await self._bus.publish(self._beat_subject, beat)
            await asyncio.sleep(limits.BEAT_S)


def heartbeat(inventory: InventoryPart) -> str:
    """What a heartbeat says: the inventory, or a part of one that is too large for a message.

    Without any the host would be taken for dead, which is worse than to be known in part.
    """
    if not inventory.left_out:
        return inventory.text
    return f'{{"components_left_out":{inventory.left_out},{inventory.text[1:]}'

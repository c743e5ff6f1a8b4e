"""Tells the lattice what happened here; at most once, as wasmCloud's events are."""

from collections.abc import Mapping
from typing import Any

import structlog

from lattice import errors, subjects
from lattice.bus import Bus
from lattice.wire import events

log = structlog.get_logger()


class Events:
    """Publishes one host's events."""

    def __init__(self, bus: Bus, lattice: str, host_id: str) -> None:
        self._bus = bus
        self._lattice = lattice
        self._host_id = host_id

    async def publish(self, name: str, /, **data: Any) -> None:
        """An event of wasmCloud's family, which ``wash`` and ``wadm`` read."""
        await self._send(subjects.event(self._lattice, name), name, data)

    async def publish_text(self, name: str, data: str) -> None:
        """As ``publish``, of data that is JSON already."""
        await self._send(subjects.event(self._lattice, name), name, data)

    async def publish_own(self, name: str, /, **data: Any) -> None:
        """An event that 1.x does not know, where its consumers don't look."""
        await self._send(subjects.own_event(self._lattice, name), name, data)

    async def _send(self, subject: str, name: str, data: Mapping[str, Any] | str) -> None:
        try:
            await self._bus.publish(subject, events.encode(name, data, source=self._host_id))
        except errors.LatticeError as error:
            # What happened has happened: heartbeats will tell once NATS is back.
            log.warning("an event could not be published", event_name=name, error=error.text)

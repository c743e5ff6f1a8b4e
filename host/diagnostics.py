"""Answers who asks how this host itself is; tells unasked when it lost messages or was deaf."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

from host.events import Events
from lattice import errors, subjects
from lattice.aio import tasks
from lattice.aio.stalls import StallWatch
from lattice.bus import Bus, BusStatistics, Message
from lattice.wire import diagnostics
from lattice.wire.diagnostics import (
    BoundDiagnostics,
    ConnectionDiagnostics,
    FailureDiagnostics,
    HostDiagnostics,
    StallDiagnostics,
    TaskDiagnostics,
)

REPORT_INTERVAL_S = 10.0
"""Between events of one kind and connection: a host that drops thousands a second says so once."""


class Diagnostics:
    """One host's ear on the subjects that ask for diagnostics, and its mouth."""

    def __init__(
        self,
        connections: Mapping[str, Bus],
        lattice: str,
        host_id: str,
        name: str,
        *,
        events: Events,
        stalls: StallWatch,
        bounds: Callable[[], list[BoundDiagnostics]],
        uptime_s: Callable[[], int],
    ) -> None:
        """``connections``: by purpose; it listens on the one called ``control``."""
        self._connections = connections
        self._lattice = lattice
        self._host_id = host_id
        self._name = name
        self._events = events
        self._stalls = stalls
        self._bounds = bounds
        self._uptime_s = uptime_s

    async def open(self) -> None:
        """Start to answer.

        Raises:
            Unavailable: NATS is away.
        """
        for host_id in (None, self._host_id):
            await self._connections["control"].subscribe(
                subjects.diagnostics(self._lattice, host_id), self._on_request
            )

    def look(self) -> HostDiagnostics:
        """How the host is now. Its tasks are those of the whole process."""
        told, left_out = tasks_of_process()
        return HostDiagnostics(
            id=self._host_id,
            name=self._name,
            uptime_s=self._uptime_s(),
            tasks=told,
            tasks_left_out=left_out,
            tasks_of_loop=len(asyncio.all_tasks()),
            failures=list(_failures()),
            connections=[
                _connection(purpose, bus.statistics()) for purpose, bus in self._connections.items()
            ],
            stalls=self._stall_figures(),
            bounds=self._bounds(),
        )

    async def run(self) -> None:
        """Tell for ever, by events of our own, what got lost on the way to this host."""
        before = self._statistics()
        while True:
            await asyncio.sleep(REPORT_INTERVAL_S)
            now = self._statistics()
            for purpose, statistics in now.items():
                await self._report(purpose, before[purpose], statistics)
            before = now

    async def _report(self, purpose: str, before: BusStatistics, now: BusStatistics) -> None:
        if (dropped := now.dropped - before.dropped) > 0:
            more = {
                subject: count - before.dropped_by_subject.get(subject, 0)
                for subject, count in now.dropped_by_subject.items()
            }
            await self._events.publish_own(
                "messages_dropped",
                host_id=self._host_id,
                connection=purpose,
                dropped=dropped,
                by_subject={subject: count for subject, count in more.items() if count},
                reason=f"{dropped} messages had no room in their subscription",
            )
        if (replaced := now.replaced - before.replaced) > 0:
            await self._events.publish_own(
                "connection_replaced",
                host_id=self._host_id,
                connection=purpose,
                replaced=replaced,
                reason=now.replaced_for,
            )

    def _statistics(self) -> dict[str, BusStatistics]:
        return {purpose: bus.statistics() for purpose, bus in self._connections.items()}

    def _stall_figures(self) -> StallDiagnostics:
        seen = self._stalls.statistics()
        return StallDiagnostics(
            count=seen.count,
            worst_s=seen.worst_s,
            last_s=seen.last_s,
            last_at=seen.last_at,
            last_stack=seen.last_stack[-diagnostics.TEXT_CHARS_MAX :],
            frozen=seen.frozen,
        )

    async def _on_request(self, message: Message) -> None:
        with suppress(errors.LatticeError):
            await self._connections["control"].publish(
                message.reply, diagnostics.encode(self.look())
            )


def tasks_of_process() -> tuple[list[TaskDiagnostics], int]:
    """Eternal tasks first, then the oldest of the others; and how many are left out."""
    now_s = time.monotonic()
    records = [record for group in tasks.groups() for record in group.records]
    records.sort(key=lambda record: (not record.eternal, record.since_s))
    told = [
        TaskDiagnostics(
            group=record.group,
            name=record.name,
            eternal=record.eternal,
            age_s=now_s - record.since_s,
            restarts=record.restarts,
            last_failure=record.last_failure,
        )
        for record in records[: diagnostics.TASKS_MAX]
    ]
    return told, len(records) - len(told)


def _failures() -> Iterator[FailureDiagnostics]:
    for group in tasks.groups():
        if group.failures.count:
            yield FailureDiagnostics(
                group=group.name, count=group.failures.count, last=group.failures.last
            )


def _connection(purpose: str, now: BusStatistics) -> ConnectionDiagnostics:
    return ConnectionDiagnostics(
        purpose=purpose,
        connected=now.connected,
        server=now.server,
        round_trip_s=now.round_trip_s,
        reconnects=now.reconnects,
        replaced=now.replaced,
        replaced_for=now.replaced_for,
        revived=now.revived,
        subscriptions=now.subscriptions,
        pending=now.pending,
        outgoing_bytes=now.outgoing_bytes,
        dropped=now.dropped,
        dropped_by_subject=dict(now.dropped_by_subject),
    )

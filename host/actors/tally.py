"""What the calls to one actor came to since it was started here."""

import asyncio

from lattice import errors
from lattice.wire.histogram import Histogram
from lattice.wire.invocation import Usage

_ENDED_BY_FORCE = (errors.ActorTrapped, errors.CpuExceeded, errors.MemoryExceeded)


class Tally:
    """Counts only, which only grow: whoever wants a rate reads twice."""

    __slots__ = (
        "bytes_in",
        "bytes_out",
        "cancelled",
        "completed",
        "cpu_us",
        "durations",
        "failed",
        "fuel",
        "host_calls",
        "memory_bytes",
        "queued",
        "refused",
        "trapped",
    )

    def __init__(self) -> None:
        self.completed = 0
        self.failed = 0
        """Executed without success, or given up while they waited."""
        self.trapped = 0
        """Those of them that a trap or a limit ended."""
        self.cancelled = 0
        """Those of them that were called off: the caller went away, or the actor was stopped."""
        self.refused = 0
        """Not executed: no room, no time left, or about to stop."""
        self.bytes_in = 0
        """Payloads of the calls that ran, and what of any call flowed, as it was read."""
        self.bytes_out = 0
        """The same of the answers."""
        self.cpu_us = 0
        self.fuel = 0
        """Instructions, where the host counts them."""
        self.host_calls = 0
        self.memory_bytes = 0
        """The most that one instance has had."""
        self.durations = Histogram()
        """Microseconds from getting an instance to the end, of all that ran."""
        self.queued = Histogram()
        """Microseconds in the mailbox, of those that got an instance after a wait."""

    def count_in(self, size: int) -> None:
        self.bytes_in += size

    def count_out(self, size: int) -> None:
        self.bytes_out += size

    def complete(self, duration_ns: int, bytes_in: int, bytes_out: int, usage: Usage) -> None:
        """Count a call that succeeded. Half a microsecond, on the path of every call."""
        self.completed += 1
        self.bytes_in += bytes_in
        self.bytes_out += bytes_out
        self.cpu_us += usage.cpu_us
        if usage.fuel:
            self.fuel += usage.fuel
        if usage.host_calls:
            self.host_calls += usage.host_calls
        if usage.memory_bytes > self.memory_bytes:  # noqa: PLR1730 - calling max costs more
            self.memory_bytes = usage.memory_bytes
        self.durations.add(duration_ns // 1_000)

    def fail(
        self, error: BaseException, duration_ns: int, bytes_in: int, usage: Usage | None
    ) -> None:
        """Count a call that ended otherwise; without usage it did not get as far as a guest."""
        if isinstance(error, errors.NotExecuted):
            self.refused += 1
            return
        self.failed += 1
        self.trapped += is_by_force(error)
        self.cancelled += isinstance(error, asyncio.CancelledError | errors.Cancelled)
        if usage is not None:
            self.bytes_in += bytes_in
            self.cpu_us += usage.cpu_us
            self.fuel += usage.fuel or 0
            self.host_calls += usage.host_calls
            self.memory_bytes = max(self.memory_bytes, usage.memory_bytes)
            self.durations.add(duration_ns // 1_000)


def is_by_force(error: BaseException) -> bool:
    """Whether a trap or a limit ended the guest, rather than the guest itself or its caller."""
    return isinstance(error, _ENDED_BY_FORCE)

"""Log lines of this host's actors: to the host's own log, kept for a while, and to who follows.

Nothing is published unless a follower has said lately that it wants it. What a follower is told is
bounded by lines per second, and what is dropped by then is counted: an actor that writes without
end costs its host no more than that.
"""

import asyncio
import heapq
import sys
import time
from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import suppress

import structlog

from lattice import errors, limits, subjects
from lattice.bus import Bus, Message
from lattice.wire import logs
from lattice.wire.logs import Line, Lines, RecentRequest, Want

log = structlog.get_logger()

LINE_BYTES = 200
"""What a kept line takes besides its text: about as much as an empty one."""

LINE_CHARS = 100
"""What a line in a message takes besides its text."""

PAUSE_S = 0.05
"""Between messages to followers: lines written meanwhile share one."""

MESSAGE_CHARS_MAX = limits.WATCH_ANSWER_BYTES // 4
"""Text in one message: four bytes a character, at the worst."""

_LEVELS = frozenset(logs.LEVELS)


class Logs:
    """What was written about the actors of one host."""

    def __init__(self, bus: Bus, lattice: str, host_id: str, name: str) -> None:
        self._bus = bus
        self._lattice = lattice
        self._host_id = host_id
        self._name = name
        self._written = 0
        self._kept = Kept()
        self._leases = Leases()
        self._pending: dict[str, list[Line]] = {}
        """Lines to be published, by actor."""
        self._dropped: dict[str, int] = {}
        self._second = 0.0
        """End of the second in which ``_lines_left`` more lines may be published."""
        self._lines_left = 0
        self._something = asyncio.Event()

    async def open(self) -> None:
        """Hear of followers, and answer who asks for recent lines.

        Raises:
            Unavailable: NATS is away.
        """
        await self._bus.subscribe(subjects.logs_wanted(self._lattice), self._on_want)
        await self._bus.subscribe(subjects.logs_recent(self._lattice), self._on_recent)

    async def run(self) -> None:
        """Publish for ever what followers want; what can't be sent is lost."""
        while True:
            await self._something.wait()
            self._something.clear()
            await self._publish_pending()
            await asyncio.sleep(PAUSE_S)

    def guest(self, actor_id: str, level: str, text: str, *, call: str = "") -> None:
        """A line that a guest wrote."""
        if len(text) > limits.LOG_LINE_CHARS:
            cut = len(text) - limits.LOG_LINE_CHARS
            text = f"{text[: limits.LOG_LINE_CHARS]} (and {cut} more characters)"
        write(actor_id, level, text, **({"call": call} if call else {}))
        self._take(actor_id, level, text, by="guest", call=call)

    def remark(self, actor_id: str, level: str, text: str, *, call: str = "") -> None:
        """A line of this host's about an actor; the host's own log has it from elsewhere."""
        self._take(actor_id, level, text[: limits.LOG_LINE_CHARS], by="host", call=call)

    def _take(self, actor_id: str, level: str, text: str, *, by: str, call: str) -> None:
        self._written += 1
        line = Line(
            actor=actor_id,
            number=self._written,
            time_ms=time.time_ns() // 1_000_000,
            level=level if level in _LEVELS else "info",  # type: ignore[arg-type]
            text=text,
            by=by,  # type: ignore[arg-type]
            call=call,
        )
        self._kept.add(line)
        if self._leases.want(line, time.monotonic()):
            self._pend(line)

    def _pend(self, line: Line) -> None:
        now_s = time.monotonic()
        if now_s >= self._second:
            # What waits for a slow connection counts as well, or it would pile up.
            waiting = sum(map(len, self._pending.values()))
            self._second, self._lines_left = now_s + 1.0, limits.LOG_LINES_PER_S - waiting
        if self._lines_left > 0:
            self._lines_left -= 1
            self._pending.setdefault(line.actor, []).append(line)
        else:
            self._dropped[line.actor] = self._dropped.get(line.actor, 0) + 1
        self._something.set()

    async def _publish_pending(self) -> None:
        pending, self._pending = self._pending, {}
        dropped, self._dropped = self._dropped, {}
        for actor_id in pending | dropped:
            subject = subjects.log_lines(self._lattice, self._host_id, actor_id)
            lost = dropped.get(actor_id, 0)
            for lines in _messages(pending.get(actor_id, [])):
                message = Lines(host=self._host_id, name=self._name, lines=lines, dropped=lost)
                with suppress(errors.Unavailable, errors.PayloadTooLarge):
                    await self._bus.publish(subject, logs.encode(message))
                lost = 0

    async def _on_want(self, message: Message) -> None:
        try:
            self._leases.note(logs.decode_want(message.data), time.monotonic())
        except errors.LatticeError as error:
            log.debug("a follower's want can't be read", error=error.text)

    async def _on_recent(self, message: Message) -> None:
        try:
            request = logs.decode_recent(message.data)
        except errors.LatticeError as error:
            log.debug("a request for log lines can't be read", error=error.text)
            return
        lines, left_out = self._kept.last(request)
        answer = Lines(host=self._host_id, name=self._name, lines=lines, dropped=left_out)
        with suppress(errors.LatticeError):
            await self._bus.publish(message.reply, logs.encode(answer))


class Kept:
    """The last lines of each actor, bounded for each and for all together."""

    def __init__(self) -> None:
        self._lines: OrderedDict[str, deque[Line]] = OrderedDict()
        """By actor, the one that was silent longest first."""
        self._bytes = 0

    def add(self, line: Line) -> None:
        """Keep a line; what is too much goes, of the actor that was silent longest first."""
        lines = self._lines.setdefault(line.actor, deque())
        self._lines.move_to_end(line.actor)
        lines.append(line)
        self._bytes += _size(line)
        if len(lines) > limits.LOG_LINES_KEPT:
            self._bytes -= _size(lines.popleft())
        while self._bytes > limits.LOG_BYTES_KEPT:
            actor_id, oldest = next(iter(self._lines.items()))
            self._bytes -= _size(oldest.popleft())
            if not oldest:
                del self._lines[actor_id]

    def last(self, request: RecentRequest) -> tuple[list[Line], int]:
        """The last lines that match, in order, and how many of them a message has no room for."""
        found = heapq.nlargest(request.lines, self._matching(request), key=lambda line: line.number)
        told: list[Line] = []
        room = MESSAGE_CHARS_MAX
        for line in found:
            room -= len(line.text) + LINE_CHARS
            if room < 0:
                break
            told.append(line)
        told.reverse()
        return told, len(found) - len(told)

    def _matching(self, request: RecentRequest) -> Iterator[Line]:
        least = logs.severity(request.level)
        for actor_id in self._lines if request.ids is None else dict.fromkeys(request.ids):
            for line in self._lines.get(actor_id, ()):
                if logs.severity(line.level) >= least:
                    yield line


class Leases:
    """Who follows which lines, until when; times are of one clock that only goes on."""

    def __init__(self) -> None:
        self._by_follower: dict[str, tuple[Want, float]] = {}

    def note(self, want: Want, now_s: float) -> None:
        """Take what a follower wants for what it wanted before; one too many is not heard."""
        self._by_follower = {
            follower: lease
            for follower, lease in self._by_follower.items()
            if lease[1] > now_s and follower != want.follower
        }
        if want.ttl_ms and len(self._by_follower) < limits.LOG_FOLLOWERS_MAX:
            self._by_follower[want.follower] = (want, now_s + want.ttl_ms / 1000)

    def want(self, line: Line, now_s: float) -> bool:
        """Whether anybody follows lines like this one."""
        return any(
            until_s > now_s
            and logs.severity(line.level) >= logs.severity(want.level)
            and (want.ids is None or line.actor in want.ids)
            for want, until_s in self._by_follower.values()
        )


def write(actor_id: str, level: str, text: str, **keys: str) -> None:
    """A line of a guest's, in this host's log."""
    getattr(log, level if level in _LEVELS else "info")("guest", actor=actor_id, text=text, **keys)


def _size(line: Line) -> int:
    return sys.getsizeof(line.text) + LINE_BYTES


def _messages(lines: list[Line]) -> Iterator[list[Line]]:
    """The lines in parts that fit a message; at least one part, for what was dropped."""
    part: list[Line] = []
    chars = 0
    for line in lines:
        if part and chars + len(line.text) > MESSAGE_CHARS_MAX:
            yield part
            part, chars = [], 0
        part.append(line)
        chars += len(line.text) + LINE_CHARS
    yield part

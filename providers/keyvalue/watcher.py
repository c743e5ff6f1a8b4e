"""Tells an actor of changes: ``on-set`` and ``on-delete`` of ``wasi:keyvalue/watcher``.

What a key holds is read when its call begins, so that of changes that follow each other faster than
the actor answers only the last is told. That bounds everything by the number of keys that changed,
and is what all backends can promise. Calls for one key never overlap.

A call is made once. Only one that certainly was not executed is made again, until it was, a later
change of the key is there to be told, or it is given up.

Of several copies of the provider that would be told of the same changes one is on duty; on a
backend that keeps an order of its changes the next one goes on where it stopped.
"""

import asyncio
import hashlib
import time
from contextlib import suppress

import structlog

from lattice import errors
from lattice.aio import retry
from lattice.aio.tasks import TaskGroup, end
from lattice.wire import codec
from providers.keyvalue.settings import WatchSettings
from providers.keyvalue.stores import Store, Watch
from providers.keyvalue.stores.watches import Change
from providers.sdk import Context, Link
from providers.sdk.duty import Duty, Turn

log = structlog.get_logger()

INTERFACE = "wasi:keyvalue/watcher"

WAITING_MAX = 1_000
"""Changed keys that wait for their calls; further changes stay with the backend, where it keeps
them, or are counted as lost."""

BEGIN_AGAIN_S = 0.5
"""First pause before a watch that broke off begins anew."""
BEGIN_AGAIN_S_MAX = 10.0

TELL_AGAIN_S = 0.1
"""First pause before a call is made again that was not executed."""
TELL_AGAIN_S_MAX = 5.0

TELL_S = 60.0
"""So long a change is held for an actor that does not run or has no room: one that is replaced or
moved is back by then."""

REPORT_S = 10.0
"""Between two lines about changes that were not told."""


class Watcher:
    """One link to an actor that watches: ``open`` it, and end it with one of the others."""

    def __init__(self, store: Store, settings: WatchSettings, link: Link, context: Context) -> None:
        self._store = store
        self._settings = settings
        self._link = link
        self._context = context
        self._waiting: dict[str, Change] = {}
        self._in_flight: dict[str, Change] = {}
        self._seen: int | None = None
        """Place of the last change that was taken over."""
        self._duty_key = ""
        self._told_to: int | None = None
        """The place up to which all was told when our last turn ended, of this duty."""
        self._turn: Turn | None = None
        self._freed = asyncio.Event()
        self._calls = TaskGroup(f"changes for {link.target}")
        self._tasks = TaskGroup(f"watch for {link.target}")
        self._following: asyncio.Task[None] | None = None
        self._reading: asyncio.Timeout | None = None
        self._is_ending = False
        self._settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._untold = 0
        self._reported_at = -REPORT_S
        self.problem: str | None = None
        """Why nothing is told at present."""

    async def open(self) -> None:
        """Begin to watch, or to wait for the turn.

        Raises:
            ProviderError: the backend tells of no changes.
            LatticeError: as ``Store.watch``.
        """
        self._following = self._tasks.spawn(self._follow(), name="follow")
        try:
            await asyncio.shield(self._settled)
        except BaseException:
            await self.aclose()
            raise

    async def drain(self) -> None:
        """Begin no further calls, and return when those that run have ended."""
        self._is_ending = True
        if self._following is None:
            return
        if self._reading is None:
            await end(self._following)
        else:
            if not self._reading.expired():
                self._reading.reschedule(asyncio.get_running_loop().time())
            await asyncio.wait([self._following])

    async def forget(self) -> None:
        """End at once; nobody is to go on where this was."""
        if self._turn is not None:
            self._turn.is_forgotten = True
        await self.aclose()

    async def aclose(self) -> None:
        """End at once; calls that run are cancelled. Safe to call twice."""
        self._is_ending = True
        await self._tasks.aclose()
        await self._calls.aclose()

    async def _follow(self) -> None:
        """Watch, again and again, until the end."""
        pauses = retry.backoff(BEGIN_AGAIN_S, max_s=BEGIN_AGAIN_S_MAX)
        while not self._is_ending:
            try:
                await self._take_turn()
            except errors.LatticeError as error:
                if not self._settled.done():
                    self._settled.set_exception(error)
                    return
                if self.problem is None:
                    pauses = retry.backoff(BEGIN_AGAIN_S, max_s=BEGIN_AGAIN_S_MAX)
                self.problem = f"watching for {self._link.target}: {error.text}"
                log.warning("a watch broke off", actor=self._link.target, error=error.text)
                await asyncio.sleep(next(pauses))
            except Exception as error:
                # A bug, which must not end it for good.
                log.error("a watch failed", actor=self._link.target, exc_info=error)
                if not self._settled.done():
                    self._settled.set_exception(error)
                    return
                await asyncio.sleep(BEGIN_AGAIN_S_MAX)

    async def _take_turn(self) -> None:
        scope = await self._store.watch_scope()
        if scope is None:
            await self._watch(Turn())
            return
        context = self._context
        duty = Duty(context.bus, context.lattice, holder=context.host_id)
        if (key := self._key_of(scope)) != self._duty_key:
            self._duty_key, self._told_to = key, None
        await duty.run(key, self._watch, waiting=self._settle)

    def _key_of(self, scope: str) -> str:
        """What all copies call the work of this link on these changes."""
        parts = (*self._link.key, repr(self._settings.wanted), scope)
        digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()
        return f"watch.{self._link.source_id}.{digest[:32]}"

    async def _watch(self, turn: Turn) -> None:
        """Tell of changes until the watch breaks off, or the end."""
        places = [place for place in (turn.place, self._told_to) if place is not None]
        after = max(places, default=None)
        watch = await self._store.watch(self._settings.wanted, after)
        self._turn, self._seen = turn, watch.place
        turn.progress = self._progress
        turn.begun.set()
        try:
            self._settle()
            with suppress(TimeoutError):
                async with asyncio.timeout(None) as self._reading:
                    await self._read(watch, is_first=after is None)
            # Only the end interrupts it: what runs may finish.
            await self._calls.join()
        except errors.LatticeError:
            # That the backend is away is no reason to cut off what the actor does.
            self._turn = None
            await self._calls.join()
            raise
        finally:
            self._turn = self._reading = None
            self._leave_the_rest(turn)
            await watch.aclose()
            await self._calls.aclose()

    def _leave_the_rest(self, turn: Turn) -> None:
        """Leave what waits, or is being cut off, to whoever has the turn next, if that can be."""
        self._told_to = place = self._progress()
        turn.progress = lambda: place
        if place is None and self._waiting:
            self._note_untold(len(self._waiting), "the watch ended before")
        self._waiting.clear()

    def _settle(self) -> None:
        self.problem = None
        if not self._settled.done():
            self._settled.set_result(None)

    async def _read(self, watch: Watch, *, is_first: bool) -> None:
        if is_first and self._settings.tells_existing:
            await self._take_existing()
        lost = 0
        while True:
            for change in await watch.next(await self._room()):
                self._take(change)
            if watch.lost > lost:
                self._note_untold(watch.lost - lost, "they came faster than they were told")
                lost = watch.lost

    async def _take_existing(self) -> None:
        cursor = None
        while True:
            page = await self._store.list_keys(cursor)
            for key in page.keys:
                await self._room()
                # What has changed meanwhile comes after it, from the watch.
                self._take(Change(key, is_deletion=False, place=self._seen or 0))
            if (cursor := page.cursor) is None:
                return

    async def _room(self) -> int:
        """Wait until there is room for keys to wait; how many."""
        while (room := WAITING_MAX - len(self._waiting)) <= 0:
            self._freed.clear()
            await self._freed.wait()
        return room

    def _take(self, change: Change) -> None:
        if self._settings.wanted.wants(change):
            self._waiting[change.key] = change
        if self._seen is not None:
            self._seen = max(self._seen, change.place)
        self._start_calls()

    def _progress(self) -> int | None:
        """The place before the first change that is not told yet."""
        if self._seen is None:
            return None
        open_changes = [*self._waiting.values(), *self._in_flight.values()]
        return min((change.place - 1 for change in open_changes), default=self._seen)

    def _start_calls(self) -> None:
        while len(self._in_flight) < self._settings.in_flight_max and not self._is_ending:
            key = next((key for key in self._waiting if key not in self._in_flight), None)
            if key is None:
                return
            change = self._in_flight[key] = self._waiting.pop(key)
            self._calls.spawn(self._handle(change), name=key)

    async def _handle(self, change: Change) -> None:
        is_told = True
        try:
            is_told = await self._tell(change)
        finally:
            del self._in_flight[change.key]
            if not is_told:
                self._waiting.setdefault(change.key, change)
            self._freed.set()
            if self._turn is not None:
                self._start_calls()

    async def _tell(self, change: Change) -> bool:
        """Tell of a change; false when it is left to be told later, or by somebody else."""
        give_up = time.monotonic() + TELL_S
        for pause_s in retry.backoff(TELL_AGAIN_S, max_s=TELL_AGAIN_S_MAX):
            try:
                await self._attempt(change)
            except errors.LatticeError as error:
                if not _may_wait(error) or time.monotonic() > give_up:
                    self._note_untold(1, error.text, code=error.code)
                    return True
            else:
                return True
            await asyncio.sleep(pause_s)
            if self._is_ending or self._turn is None:
                return False
            if change.key in self._waiting:
                return True
        raise AssertionError("a back-off has no end")

    async def _attempt(self, change: Change) -> None:
        """
        Raises:
            LatticeError: the actor was not told, or failed over it.
        """
        link = self._link
        if change.is_deletion:
            await self._call("watcher.on-delete", [link.name, change.key])
            return
        value = await self._read_value(change.key)
        if value is not None:
            await self._call("watcher.on-set", [link.name, change.key, value])

    async def _read_value(self, key: str) -> bytes | None:
        """What the key holds now; None for what no ``on-set`` can tell."""
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                return await self._store.get(key)
        except errors.InvalidRequest:
            # A list or a set.
            return None
        except (errors.Unavailable, TimeoutError) as error:
            raise _UnreadError(f"{self._store.label} does not say what {key!r} holds") from error

    async def _call(self, operation: str, arguments: list[object]) -> None:
        await self._context.call(
            self._link.target,
            INTERFACE,
            operation,
            codec.pack(arguments),
            timeout_s=self._settings.timeout_s,
            link_name=self._link.name,
        )

    def _note_untold(self, count: int, text: str, *, code: str = "overloaded") -> None:
        self._untold += count
        now = time.monotonic()
        if now - self._reported_at >= REPORT_S:
            log.warning(
                "changes were not told",
                actor=self._link.target,
                count=self._untold,
                code=code,
                error=text,
            )
            self._untold, self._reported_at = 0, now


class _UnreadError(errors.Unavailable):
    """The value could not be read, and so no call was made."""


def _may_wait(error: errors.LatticeError) -> bool:
    """Whether the actor has heard nothing, and trying again may be all that it takes."""
    return isinstance(error, _UnreadError) or (
        isinstance(error, errors.NotExecuted) and error.retryable
    )

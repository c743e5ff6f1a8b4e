"""A store on a Redis server, or on anything that speaks its protocol; the only importer of redis.

Keys, lists and sets are plain ones of the same name, as wasmCloud's Redis provider wrote them, so
what it left behind stays usable. What Redis has no single command for (a bound, the range of a
number, a type check) is a script of a few lines: each operation is one round trip, and atomic. Only
a listing takes many, as it scans.

Redis knows no versions. Whoever asks for one has a *mark* put beside the key: a random text, of
which the version is made together with a digest of the value. Every write of ours removes the mark.
What another program writes leaves it, and shows in the digest unless the value is the same as it
was. A mark goes by itself after a while, and a swap then fails as if the key had been written.

Who watches has a connection of its own, on which Redis tells of changes by *notifications*:
of each the key and the command, as they happen and never again. They are off unless the server's
``notify-keyspace-events`` says otherwise.

The library would repeat a command after a lost connection, and could so count an increment twice:
that is off. A connection found dead before its next command is replaced, which loses nothing.
"""

import asyncio
import hashlib
import re
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import redis.asyncio
import structlog
from redis import exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from lattice import errors
from lattice.aio.tasks import TaskGroup
from providers.keyvalue import bounds as sizes
from providers.keyvalue.bounds import I32, Bounds
from providers.keyvalue.settings import RedisSettings
from providers.keyvalue.stores import Page, Versioned, Watch, values
from providers.keyvalue.stores.watches import Change, Notices, Wanted

MARK_SUFFIX = b"\xff"
"""Behind a key it names the key's mark: our keys are UTF-8, which never has this byte. So put,
a permission for the keys that start with something is one for their marks."""

MARK_S = 3_600
"""How long a mark stays after the last who asked: far longer than any call that may swap."""

SCAN_COUNT = 1_000
"""Names that one step of a scan looks at: a few tens of microseconds, in which Redis does nothing
else."""

INSPECTED_AT_ONCE = 4
"""Pages' worth of names that a scan gathers before all but the first page's are dropped again."""


log = structlog.get_logger()

NOTIFICATIONS = "Kg$"
"""What ``notify-keyspace-events`` must have: by key; of what is done to any type; of strings. A
shell leaves it alone in this order."""

DELETED = frozenset({b"del", b"rename_from", b"move_from"})
"""Notifications after which a key is gone."""

UNCHANGED = frozenset({b"expired", b"evicted", b"expire", b"persist", b"new"})
"""Notifications about how long a key lives, and others that are no change to who watches."""

QUIET_S = 5.0
"""A watch that was quiet for so long asks whether the server is still there."""

_GLOB = re.compile(r"([*?\[\]^\\-])")


class _Script:
    """A script the server remembers by its digest."""

    def __init__(self, source: str) -> None:
        self.source = source
        # Redis names scripts by SHA-1; nothing secret is involved.
        self.digest = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()


# A script writes first what could find no memory: once something is written, Redis lets it go on.
# Our error replies are LATTICE_, a word, and a number: of the key it is about, or a size in bytes.

_GET = _Script("""
local length = redis.call('STRLEN', KEYS[1])
if length > tonumber(ARGV[1]) then
    return redis.error_reply('LATTICE_SIZE ' .. length)
end
return redis.call('GET', KEYS[1])
""")

# Taken back exactly when out of range, and read back when not: a double holds neither the sum nor
# the value in full. Nobody sees the value in between, as a script runs alone.
_INCREMENT = _Script("""
local before = redis.call('GET', KEYS[1])
local total = redis.call('INCRBY', KEYS[1], ARGV[1])
if total < tonumber(ARGV[2]) or total > tonumber(ARGV[3]) then
    if before then
        redis.call('SET', KEYS[1], before, 'KEEPTTL')
    else
        redis.call('DEL', KEYS[1])
    end
    return redis.error_reply('LATTICE_RANGE 1')
end
redis.call('DEL', KEYS[2])
return redis.call('GET', KEYS[1])
""")

_SET = _Script("""
if ARGV[2] == '0' then
    redis.call('SET', KEYS[1], ARGV[1])
else
    redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
end
redis.call('DEL', KEYS[2])
""")

_DELETE = _Script("""
redis.call('DEL', KEYS[2])
return redis.call('DEL', KEYS[1])
""")

# Both give nothing for no key; otherwise the value and its version.
_NOW = """
local function now(size_max, mark, mark_s)
    local size = redis.call('STRLEN', KEYS[1])
    if size > tonumber(size_max) then
        return redis.error_reply('LATTICE_SIZE ' .. size)
    end
    local value = redis.call('GET', KEYS[1])
    if not value then
        return {}
    end
    redis.call('SET', KEYS[2], mark, 'NX')
    redis.call('EXPIRE', KEYS[2], mark_s)
    return {value, redis.call('GET', KEYS[2]) .. redis.sha1hex(value)}
end
"""

_CURRENT = _Script(_NOW + "return now(ARGV[1], ARGV[2], ARGV[3])")

_SWAP = _Script(
    _NOW
    + """
local value = redis.call('GET', KEYS[1])
local mark = redis.call('GET', KEYS[2])
local version = ''
if value then
    version = mark and mark .. redis.sha1hex(value)
end
if version ~= ARGV[4] then
    return now(ARGV[1], ARGV[2], ARGV[3])
end
redis.call('SET', KEYS[1], ARGV[5], 'KEEPTTL')
redis.call('DEL', KEYS[2])
return 'OK'
"""
)

_GET_MANY = _Script("""
local size = 0
for index, key in ipairs(KEYS) do
    local held = redis.call('TYPE', key).ok
    if held ~= 'none' and held ~= 'string' then
        return redis.error_reply('LATTICE_TYPE ' .. index)
    end
    size = size + redis.call('STRLEN', key)
end
if size > tonumber(ARGV[1]) then
    return redis.error_reply('LATTICE_SIZE ' .. size)
end
local found = {}
for index, key in ipairs(KEYS) do
    found[index] = redis.call('GET', key)
end
return found
""")

# Keys come in pairs with their marks.
_SET_MANY = _Script("""
for index, value in ipairs(ARGV) do
    redis.call('SET', KEYS[2 * index - 1], value)
    redis.call('DEL', KEYS[2 * index])
end
""")

_DELETE_MANY = _Script("""
for _, key in ipairs(KEYS) do
    redis.call('DEL', key)
end
""")

_CLEAR = _Script("""
local held = redis.call('TYPE', KEYS[1]).ok
if held ~= 'none' and held ~= ARGV[1] then
    return redis.error_reply('LATTICE_TYPE 1')
end
return redis.call('DEL', KEYS[1])
""")

_LIST_ADD = _Script("""
if redis.call('LLEN', KEYS[1]) >= tonumber(ARGV[2]) then
    return redis.error_reply('LATTICE_FULL 1')
end
return redis.call('RPUSH', KEYS[1], ARGV[1])
""")

_SET_ADD = _Script("""
if redis.call('SISMEMBER', KEYS[1], ARGV[1]) == 1 then
    return 0
end
if redis.call('SCARD', KEYS[1]) >= tonumber(ARGV[2]) then
    return redis.error_reply('LATTICE_FULL 1')
end
return redis.call('SADD', KEYS[1], ARGV[1])
""")

_CHECK_REPLY = """
local size = 0
for _, item in ipairs(found) do
    size = size + #item
end
if size > tonumber(ARGV[1]) then
    return redis.error_reply('LATTICE_SIZE ' .. size)
end
return found
"""

_LIST_RANGE = _Script(
    """
local length = redis.call('LLEN', KEYS[1])
local first, last = tonumber(ARGV[3]), tonumber(ARGV[4])
if first < 0 then first = math.max(first + length, 0) end
if last < 0 then last = last + length end
if math.min(last, length - 1) - first >= tonumber(ARGV[2]) then
    return redis.error_reply('LATTICE_ITEMS 1')
end
local found = redis.call('LRANGE', KEYS[1], ARGV[3], ARGV[4])
"""
    + _CHECK_REPLY
)

# The commands themselves may stop at an empty set, before they see one of a wrong type.
_COMBINE = _Script(
    """
for index, name in ipairs(KEYS) do
    local held = redis.call('TYPE', name).ok
    if held ~= 'none' and held ~= 'set' then
        return redis.error_reply('LATTICE_TYPE ' .. index)
    end
    if redis.call('SCARD', name) > tonumber(ARGV[2]) then
        return redis.error_reply('LATTICE_ITEMS ' .. index)
    end
end
local found = redis.call(ARGV[3], unpack(KEYS))
"""
    + _CHECK_REPLY
)

_Name = str | bytes
"""A key, or the name of a mark."""

_OURS = re.compile(r"LATTICE_(?P<word>[A-Z]+) (?P<number>[0-9]+)")


class _OutOfRangeError(errors.InvalidRequest):
    """A sum is out of range; which range, only the operation knows."""


class RedisStore:
    """Connects when first used, and again whenever that is needed."""

    def __init__(self, settings: RedisSettings, bounds: Bounds) -> None:
        """
        Raises:
            InvalidRequest: the library can't make sense of the URL.
        """
        self._settings = settings
        self._bounds = bounds
        try:
            self._pool = self._new_pool(socket_timeout=settings.response_timeout_s)
            # Made and dropped: only a connection looks at the options of the URL.
            self._pool.make_connection()  # type: ignore[no-untyped-call]
        except (ValueError, TypeError, exceptions.RedisError):
            raise errors.InvalidRequest(f"{settings.label}: the url has a wrong option") from None
        self._client = redis.asyncio.Redis(connection_pool=self._pool)
        # The pool refuses when all connections are busy; callers wait here instead, until their
        # deadline, and a cancelled one leaves without a trace.
        self._turns = asyncio.Semaphore(settings.connections_max)

    def _new_pool(self, *, socket_timeout: float | None) -> redis.asyncio.ConnectionPool:
        return redis.asyncio.ConnectionPool.from_url(
            self._settings.url,
            max_connections=self._settings.connections_max,
            socket_connect_timeout=self._settings.connect_timeout_s,
            socket_timeout=socket_timeout,
            retry=Retry(NoBackoff(), 0),
            # The newer protocol's handshake and pushed messages would gain nothing here.
            protocol=2,
        )

    @property
    def label(self) -> str:
        return self._settings.label

    async def aclose(self) -> None:
        await self._client.aclose()
        await self._pool.aclose()

    async def ping(self) -> None:
        await self._command([], "PING")

    async def contains(self, key: str) -> bool:
        return bool(await self._command([key], "EXISTS", key))

    async def delete(self, key: str) -> bool:
        return bool(await self._run(_DELETE, _marked(key)))

    async def get(self, key: str) -> bytes | None:
        found = await self._run(_GET, [key], self._bounds.reply_bytes_max)
        return _bytes(found)

    async def set(self, key: str, value: bytes, *, expires_s: int) -> None:
        await self._run(_SET, _marked(key), value, expires_s)

    async def increment(self, key: str, amount: int, *, within: range = I32) -> int:
        try:
            found = await self._run(_INCREMENT, _marked(key), amount, within.start, within.stop - 1)
        except _OutOfRangeError:
            raise values.out_of_range(key, within) from None
        return int(found)

    async def current(self, key: str) -> Versioned:
        found = await self._run(_CURRENT, _marked(key), *self._marking())
        return _versioned(found)

    async def swap(self, key: str, version: bytes | None, value: bytes) -> Versioned | None:
        # An empty version would be taken for none at all.
        expected = b"" if version is None else version or b"-"
        found = await self._run(_SWAP, _marked(key), *self._marking(), expected, value)
        return None if found == b"OK" else _versioned(found)

    async def list_keys(self, after: str | None) -> Page:
        """Scans all names for each page, and keeps the page's: a scan meets what stays there.

        It may meet a name twice, which makes no difference in a set.
        """
        bounds = self._bounds
        sizes.check_listed(int(await self._command([], "DBSIZE")), bounds)
        wanted = bounds.page_keys_max + 1
        found: set[str] = set()
        cursor = 0
        while True:
            reply = await self._command([], "SCAN", cursor, "COUNT", SCAN_COUNT)
            cursor = int(reply[0])
            found.update(filter(None, map(_key, reply[1])))
            if cursor == 0 or len(found) > INSPECTED_AT_ONCE * wanted + SCAN_COUNT:
                found = set(values.first_keys(found, after, wanted))
            if cursor == 0:
                return values.page(found, after, bounds)

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        found = await self._run(_GET_MANY, keys, self._bounds.reply_bytes_max)
        return [_bytes(value) for value in found]

    async def set_many(self, pairs: Sequence[tuple[str, bytes]]) -> None:
        keys = [name for key, _ in pairs for name in _marked(key)]
        await self._run(_SET_MANY, keys, *(value for _, value in pairs))

    async def delete_many(self, keys: Sequence[str]) -> None:
        await self._run(_DELETE_MANY, [name for key in keys for name in _marked(key)])

    def _marking(self) -> tuple[int, str, int]:
        """What a script needs to know to make a version."""
        return self._bounds.reply_bytes_max, secrets.token_hex(16), MARK_S

    async def list_add(self, name: str, item: str) -> int:
        return int(await self._run(_LIST_ADD, [name], item, self._bounds.items_max))

    async def list_clear(self, name: str) -> bool:
        return bool(await self._run(_CLEAR, [name], "list"))

    async def list_del(self, name: str, item: str) -> bool:
        return bool(await self._command([name], "LREM", name, 1, item))

    async def list_range(self, name: str, start: int, stop: int) -> list[str]:
        bounds = self._bounds
        found = await self._run(
            _LIST_RANGE, [name], bounds.reply_bytes_max, bounds.items_max, start, stop
        )
        return [self._text(name, item) for item in found]

    async def set_add(self, name: str, item: str) -> int:
        return int(await self._run(_SET_ADD, [name], item, self._bounds.items_max))

    async def set_clear(self, name: str) -> bool:
        return bool(await self._run(_CLEAR, [name], "set"))

    async def set_del(self, name: str, item: str) -> int:
        return int(await self._command([name], "SREM", name, item))

    async def set_union(self, names: Sequence[str]) -> frozenset[str]:
        return await self._combine("SUNION", names)

    async def set_intersection(self, names: Sequence[str]) -> frozenset[str]:
        return await self._combine("SINTER", names)

    async def watch_scope(self) -> str | None:
        await self._check_notifications()
        # One address may name different servers, where each machine has its own.
        return f"{self.label} {(await self._command([], 'INFO', 'server'))['run_id']}"

    async def watch(self, wanted: Wanted, _after: int | None) -> Watch:
        # Nothing may come for hours. Whether the server is there is asked otherwise.
        pool = self._new_pool(socket_timeout=None)
        watch = RedisWatch(
            self,
            pool.make_connection(),  # type: ignore[no-untyped-call]
            wanted,
            database=int(pool.connection_kwargs.get("db") or 0),
            timeout_s=self._settings.connect_timeout_s + self._settings.response_timeout_s,
        )
        try:
            await watch.open(wanted)
        except BaseException:
            await watch.aclose()
            raise
        return watch

    async def _check_notifications(self) -> None:
        """
        Raises:
            ProviderError: the server is set up to tell of no changes.
        """
        try:
            found = await self._command([], "CONFIG", "GET", "notify-keyspace-events")
        except (errors.Denied, errors.ProviderError) as refusal:
            # Where others run the server this is often so; they then have a setting for it.
            log.warning("can't see whether a Redis tells of changes", error=refusal.text)
            return
        flags = found[1].decode() if len(found) > 1 else ""
        if "K" not in flags or not ("A" in flags or {"$", "g"} <= set(flags)):
            raise errors.ProviderError(
                f"{self.label} tells of no changes: its notify-keyspace-events is {flags!r} and has"
                f" to have {NOTIFICATIONS}; set it with: redis-cli CONFIG SET"
                f" notify-keyspace-events {NOTIFICATIONS}, and for ever in its configuration file"
            )

    async def _combine(self, command: str, names: Sequence[str]) -> frozenset[str]:
        bounds = self._bounds
        found = await self._run(_COMBINE, names, bounds.reply_bytes_max, bounds.items_max, command)
        return frozenset(self._text(names[0], item) for item in found)

    async def _run(
        self, script: _Script, keys: Sequence[_Name], *arguments: str | bytes | int
    ) -> Any:
        try:
            return await self._command(keys, "EVALSHA", script.digest, len(keys), *keys, *arguments)
        except exceptions.NoScriptError:
            # A server that was restarted remembers nothing; this teaches it again.
            return await self._command(keys, "EVAL", script.source, len(keys), *keys, *arguments)

    async def _command(self, keys: Sequence[_Name], *command: str | bytes | int) -> Any:
        """Send one command and return its reply; ``keys`` are named in errors."""
        async with self._turns:
            try:
                return await self._client.execute_command(*command)  # type: ignore[no-untyped-call]
            except exceptions.NoScriptError:
                raise
            except (exceptions.RedisError, OSError) as error:
                raise self.translated(error, keys) from error

    def translated(self, error: Exception, keys: Sequence[_Name] = ()) -> errors.LatticeError:
        """What an error of the library means; ``keys`` are named in it."""
        match error:
            case (
                exceptions.AuthenticationError()
                | exceptions.AuthorizationError()
                | exceptions.NoPermissionError()
            ):
                return errors.Denied(f"{self.label} refused: {error}")
            case (
                exceptions.ConnectionError()
                | exceptions.TimeoutError()
                | exceptions.ClusterDownError()
                | OSError()
            ):
                return errors.Unavailable(f"{self.label} does not answer: {error}")
            case _:
                return self._refusal(str(error), keys)

    def _refusal(self, text: str, keys: Sequence[_Name]) -> errors.LatticeError:
        """What an error reply means. Redis before 7 wraps those met in a script in other text."""
        if ours := _OURS.search(text):
            return self._own_refusal(ours["word"], int(ours["number"]), keys)
        if "can't run this command" in text:
            return errors.Denied(f"{self.label} refused: {text}")
        if "WRONGTYPE" in text:
            return values.wrong_type(_shown(keys[0]))
        if "value is not an integer" in text:
            return values.not_a_number(_shown(keys[0]))
        if "would overflow" in text:
            return _OutOfRangeError(text)
        return errors.ProviderError(f"{self.label} refused: {text}")

    def _own_refusal(self, word: str, number: int, keys: Sequence[_Name]) -> errors.LatticeError:
        match word:
            case "SIZE":
                return errors.PayloadTooLarge("reply", number, self._bounds.reply_bytes_max)
            case "TYPE":
                return values.wrong_type(_shown(keys[number - 1]))
            case "RANGE":
                return _OutOfRangeError(word)
            case "FULL":
                return sizes.full(_shown(keys[number - 1]), self._bounds)
            case _:
                return sizes.too_many(_shown(keys[number - 1]), self._bounds)

    def _text(self, key: str, found: bytes) -> str:
        try:
            return found.decode()
        except UnicodeDecodeError:
            raise errors.ProviderError(
                f"{self.label}: key {key!r} holds bytes that are not UTF-8 text"
            ) from None


class RedisWatch:
    """Keyspace notifications, read as they come, on a connection of their own.

    Not the library's own reader: it connects anew by itself, and tells nobody that it missed some.
    """

    def __init__(
        self,
        store: RedisStore,
        connection: redis.asyncio.Connection,
        wanted: Wanted,
        *,
        database: int,
        timeout_s: float,
    ) -> None:
        self._store = store
        self._connection = connection
        self._timeout_s = timeout_s
        self._prefix = f"__keyspace@{database}__:".encode()
        self._notices = Notices(wanted, lambda _: None)
        self._heard = False
        self._tasks = TaskGroup("watch of a Redis")
        self.place = None

    @property
    def lost(self) -> int:
        return self._notices.lost

    async def open(self, wanted: Wanted) -> None:
        """Subscribe, and return when the server has said that it did."""
        keys, beginnings = [], []
        for pattern in wanted.patterns:
            if pattern.is_prefix:
                glob = _GLOB.sub(r"\\\1", pattern.text)
                beginnings.append(self._prefix + glob.encode() + b"*")
            else:
                keys.append(self._prefix + pattern.text.encode())
        async with self._answering():
            await self._connection.connect()  # type: ignore[no-untyped-call]
            for command, names in (("SUBSCRIBE", keys), ("PSUBSCRIBE", beginnings)):
                if names:
                    await self._send(command, *names)
            left = len(keys) + len(beginnings)
            while left:
                left -= not self._take(await self._receive())
        self._tasks.spawn(self._read(), name="read")
        self._tasks.spawn(self._probe(), name="probe")

    async def next(self, count_max: int) -> Sequence[Change]:
        return await self._notices.next(count_max)

    async def aclose(self) -> None:
        await self._tasks.aclose()
        await self._connection.disconnect(nowait=True)

    @asynccontextmanager
    async def _answering(self) -> AsyncIterator[None]:
        """
        Raises:
            Unavailable: no answer in time.
            LatticeError: as ``Store``.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                yield
        except (exceptions.RedisError, OSError) as error:
            raise self._store.translated(error) from error

    async def _send(self, *command: str | bytes) -> None:
        await self._connection.send_command(*command, check_health=False)

    async def _receive(self) -> Any:
        return await self._connection.read_response(disconnect_on_error=False)

    async def _read(self) -> None:
        try:
            while True:
                self._take(await self._receive())
                self._heard = True
        except (exceptions.RedisError, OSError) as error:
            self._notices.fail(self._store.translated(error))

    async def _probe(self) -> None:
        """A connection whose server is gone without a word says nothing, as one that is quiet."""
        while True:
            await asyncio.sleep(QUIET_S)
            self._heard = False
            with suppress(exceptions.RedisError, OSError):
                await self._send("PING")
            await asyncio.sleep(self._timeout_s)
            if not self._heard:
                self._notices.fail(errors.Unavailable(f"{self._store.label} does not answer"))
                return

    def _take(self, message: Any) -> bool:
        """Look at what the server says; whether it is a notification."""
        match message:
            case [b"message", bytes(channel), bytes(event)]:
                pass
            case [b"pmessage", _, bytes(channel), bytes(event)]:
                pass
            case _:
                return False
        # What is not a key of ours is a mark, or somebody else's.
        key = _key(channel.removeprefix(self._prefix))
        if key is not None and event not in UNCHANGED:
            self._notices.put(Change(key, is_deletion=event in DELETED))
        return True


def _marked(key: str) -> tuple[str, bytes]:
    """A key and the name of its mark."""
    return key, key.encode() + MARK_SUFFIX


def _shown(name: _Name) -> str:
    assert isinstance(name, str), "errors are about keys"
    return name


def _key(name: bytes) -> str | None:
    """A name as a key; None for marks, and for others' names that are not text."""
    try:
        return name.decode()
    except UnicodeDecodeError:
        return None


def _bytes(found: Any) -> bytes | None:
    assert found is None or isinstance(found, bytes), "a string's reply"
    return found


def _versioned(found: list[bytes]) -> Versioned:
    match found:
        case [value, version]:
            return Versioned(value, version)
        case _:
            return Versioned(None, None)

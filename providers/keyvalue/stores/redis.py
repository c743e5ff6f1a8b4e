"""A store on a Redis server, or on anything that speaks its protocol; the only importer of redis.

Keys, lists and sets are plain ones of the same name, as wasmCloud's Redis provider wrote them, so
what it left behind stays usable. What Redis has no single command for (a bound, the range of a
number, a type check) is a script of a few lines: each operation is one round trip, and atomic.

The library would repeat a command after a lost connection, and could so count an increment twice:
that is off. A connection found dead before its next command is replaced, which loses nothing.
"""

import asyncio
import hashlib
import re
from collections.abc import Sequence
from typing import Any

import redis.asyncio
from redis import exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from lattice import errors
from providers.keyvalue import bounds as sizes
from providers.keyvalue.bounds import Bounds
from providers.keyvalue.settings import RedisSettings
from providers.keyvalue.stores import values


class _Script:
    """A script the server remembers by its digest."""

    def __init__(self, source: str) -> None:
        self.source = source
        # Redis names scripts by SHA-1; nothing secret is involved.
        self.digest = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()


# Our error replies are LATTICE_, a word, and a number: of the key it is about, or a size in bytes.

_GET = _Script("""
local length = redis.call('STRLEN', KEYS[1])
if length > tonumber(ARGV[1]) then
    return redis.error_reply('LATTICE_SIZE ' .. length)
end
return redis.call('GET', KEYS[1])
""")

# Taken back exactly when out of range: a double holds neither the sum nor the value in full. Nobody
# sees the value in between, as a script runs alone.
_INCREMENT = _Script("""
local total = redis.call('INCRBY', KEYS[1], ARGV[1])
if total < -2147483648 or total > 2147483647 then
    redis.call('DECRBY', KEYS[1], ARGV[1])
    return redis.error_reply('LATTICE_RANGE 1')
end
return total
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

_OURS = re.compile(r"LATTICE_(?P<word>[A-Z]+) (?P<number>[0-9]+)")


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
            self._pool = redis.asyncio.ConnectionPool.from_url(
                settings.url,
                max_connections=settings.connections_max,
                socket_connect_timeout=settings.connect_timeout_s,
                socket_timeout=settings.response_timeout_s,
                retry=Retry(NoBackoff(), 0),
                # The newer protocol's handshake and pushed messages would gain nothing here.
                protocol=2,
            )
            # Made and dropped: only a connection looks at the options of the URL.
            self._pool.make_connection()  # type: ignore[no-untyped-call]
        except (ValueError, TypeError, exceptions.RedisError):
            raise errors.InvalidRequest(f"{settings.label}: the url has a wrong option") from None
        self._client = redis.asyncio.Redis(connection_pool=self._pool)
        # The pool refuses when all connections are busy; callers wait here instead, until their
        # deadline, and a cancelled one leaves without a trace.
        self._turns = asyncio.Semaphore(settings.connections_max)

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
        return bool(await self._command([key], "DEL", key))

    async def get(self, key: str) -> str | None:
        found = await self._run(_GET, [key], self._bounds.reply_bytes_max)
        return None if found is None else self._text(key, found)

    async def set(self, key: str, value: str, *, expires_s: int) -> None:
        expiry = ("EX", expires_s) if expires_s else ()
        await self._command([key], "SET", key, value, *expiry)

    async def increment(self, key: str, amount: int) -> int:
        return int(await self._run(_INCREMENT, [key], amount))

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

    async def _combine(self, command: str, names: Sequence[str]) -> frozenset[str]:
        bounds = self._bounds
        found = await self._run(_COMBINE, names, bounds.reply_bytes_max, bounds.items_max, command)
        return frozenset(self._text(names[0], item) for item in found)

    async def _run(self, script: _Script, keys: Sequence[str], *arguments: str | int) -> Any:
        try:
            return await self._command(keys, "EVALSHA", script.digest, len(keys), *keys, *arguments)
        except exceptions.NoScriptError:
            # A server that was restarted remembers nothing; this teaches it again.
            return await self._command(keys, "EVAL", script.source, len(keys), *keys, *arguments)

    async def _command(self, keys: Sequence[str], *command: str | int) -> Any:
        """Send one command and return its reply; ``keys`` are named in errors."""
        async with self._turns:
            try:
                return await self._client.execute_command(*command)  # type: ignore[no-untyped-call]
            except exceptions.NoScriptError:
                raise
            except (exceptions.RedisError, OSError) as error:
                raise self._translated(error, keys) from error

    def _translated(self, error: Exception, keys: Sequence[str]) -> errors.LatticeError:
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

    def _refusal(self, text: str, keys: Sequence[str]) -> errors.LatticeError:
        """What an error reply means. Redis before 7 wraps those met in a script in other text."""
        if ours := _OURS.search(text):
            return self._own_refusal(ours["word"], int(ours["number"]), keys)
        if "WRONGTYPE" in text:
            return values.wrong_type(keys[0])
        if "value is not an integer" in text:
            return values.not_a_number(keys[0])
        if "would overflow" in text:
            return values.out_of_range(keys[0])
        return errors.ProviderError(f"{self.label} refused: {text}")

    def _own_refusal(self, word: str, number: int, keys: Sequence[str]) -> errors.LatticeError:
        match word:
            case "SIZE":
                return errors.PayloadTooLarge("reply", number, self._bounds.reply_bytes_max)
            case "TYPE":
                return values.wrong_type(keys[number - 1])
            case "RANGE":
                return values.out_of_range(keys[number - 1])
            case "FULL":
                return sizes.full(keys[number - 1], self._bounds)
            case _:
                return sizes.too_many(keys[number - 1], self._bounds)

    def _text(self, key: str, found: bytes) -> str:
        try:
            return found.decode()
        except UnicodeDecodeError:
            raise errors.ProviderError(
                f"{self.label}: key {key!r} holds bytes that are not UTF-8 text"
            ) from None

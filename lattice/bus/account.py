"""What a NATS server and its JetStream say of themselves: read, never changed."""

from collections.abc import Iterable
from dataclasses import dataclass

import nats.js.errors
from nats.js import JetStreamContext, api

from lattice.bus.translation import translated

STREAMS_MAX = 10_000
"""Streams that are listed; the server sends them a page at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """What a server tells every client when it connects."""

    name: str
    version: str
    max_payload: int
    """Largest message in bytes."""
    jetstream: bool
    """Whether the server itself has it; another one of its cluster may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """How much of something is used; None for as much as there is."""

    used: int
    limit: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountFacts:
    """What an account has in JetStream and what it may have."""

    storage: Usage
    """Bytes on disk."""
    memory: Usage
    """Bytes in memory."""
    streams: Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamFacts:
    """One stream: what keeps a bucket, an object store or a queue of messages."""

    name: str
    messages: int
    size: Usage
    """Bytes."""


class Account:
    """JetStream as one connection may use it. Every method may raise ``Unavailable``."""

    def __init__(self, jetstream: JetStreamContext) -> None:
        self._jetstream = jetstream

    async def facts(self) -> AccountFacts:
        with translated("the account"):
            info = await self._jetstream.account_info()
        # An account with tiers has its figures there, one that is shared by all has none.
        tiers = list((info.tiers or {}).values())
        parts: list[api.Tier | api.AccountInfo] = [*tiers] if tiers else [info]
        limits = [part.limits for part in parts]
        return AccountFacts(
            storage=Usage(
                used=sum(part.storage for part in parts), limit=_sum(x.max_storage for x in limits)
            ),
            memory=Usage(
                used=sum(part.memory for part in parts), limit=_sum(x.max_memory for x in limits)
            ),
            streams=Usage(
                used=sum(part.streams for part in parts), limit=_sum(x.max_streams for x in limits)
            ),
        )

    async def streams(self) -> list[StreamFacts]:
        """Every stream, by name."""
        found: dict[str, api.StreamInfo] = {}
        with translated("the streams"):
            while len(found) < STREAMS_MAX:
                page = await self._jetstream.streams_info(offset=len(found))
                before = len(found)
                found |= {info.config.name or "": info for info in page}
                if len(found) == before:
                    break
        return [
            StreamFacts(
                name=name,
                messages=info.state.messages,
                size=Usage(used=info.state.bytes, limit=_limit(info.config.max_bytes)),
            )
            for name, info in sorted(found.items())
        ]

    async def keys(self, bucket: str) -> list[str]:
        """The keys of a bucket, sorted; none when there is no such bucket."""
        with translated(bucket):
            try:
                store = await self._jetstream.key_value(bucket)
                return sorted(await store.keys())
            except (nats.js.errors.NotFoundError, nats.js.errors.NoKeysError):
                return []

    async def replicas(self, bucket: str) -> int:
        """Servers that keep a copy of a bucket; 1 when there is no such bucket."""
        with translated(bucket):
            try:
                info = await self._jetstream.stream_info(f"KV_{bucket}")
            except nats.js.errors.NotFoundError:
                return 1
        return info.config.num_replicas or 1


def _sum(limits: Iterable[int]) -> int | None:
    known = [_limit(limit) for limit in limits]
    return None if None in known else sum(limit or 0 for limit in known)


def _limit(value: int | None) -> int | None:
    """JetStream says -1 where there is none."""
    return None if value is None or value < 0 else value

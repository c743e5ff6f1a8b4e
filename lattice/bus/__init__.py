"""The lattice's bus: NATS, behind the few verbs the rest needs; the only package that imports it.

Failures leave here as ``lattice.errors``: ``Unavailable`` when the connection or a server is away,
``NotRunning`` when nobody listens, ``DeadlineExceeded`` when nobody answered in time.
"""

# Before anything imports structlog, or nats-py.
from lattice import log as log
from lattice.bus import library as library
from lattice.bus.account import Account, AccountFacts, ServerFacts, StreamFacts, Usage
from lattice.bus.buckets import Bucket, Entry
from lattice.bus.client import OUTGOING_BYTES_MAX
from lattice.bus.connection import Bus, BusStatistics, Message, Subscription
from lattice.bus.containers import Containers, ObjectWriter, StoredObject
from lattice.bus.credentials import NatsSettings
from lattice.bus.objects import ObjectStore
from lattice.bus.streams import PullConsumer, StoredAt, StoredMessage

__all__ = [
    "OUTGOING_BYTES_MAX",
    "Account",
    "AccountFacts",
    "Bucket",
    "Bus",
    "BusStatistics",
    "Containers",
    "Entry",
    "Message",
    "NatsSettings",
    "ObjectStore",
    "ObjectWriter",
    "PullConsumer",
    "ServerFacts",
    "StoredAt",
    "StoredMessage",
    "StoredObject",
    "StreamFacts",
    "Subscription",
    "Usage",
]

"""What an operator wrote for the provider and for one link, read into checked values.

A link's own configuration goes before the provider's, key by key, in upper or lower case.
``subscriptions``, ``consumers``, ``cluster_uris``, ``client_jwt`` and ``client_seed`` are those of
wasmCloud's NATS provider.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from lattice import errors, limits, names
from lattice.bus import NatsSettings
from providers.messaging import grants
from providers.messaging.grants import Territory
from providers.sdk.configuration import boolean, choice, folded, number, seconds

SERVER_KEYS = frozenset({"cluster_uris", "uri"})
CONNECTION_KEYS = SERVER_KEYS | {"client_jwt", "client_seed", "credentials_file", "tls_ca_file"}
HANDLER_KEYS = CONNECTION_KEYS | {
    "subscriptions",
    "stream",
    "consumer",
    "consumers",
    "timeout_ms",
    "in_flight_max",
    "waiting_max",
    "ack_wait_ms",
    "max_deliveries",
    "retry_ms",
    "retry_max_ms",
    "dead_letter",
    "only_new",
}
"""Of links to an actor that handles messages."""
CONSUMER_KEYS = CONNECTION_KEYS | {"publish", "replies", "delivery"}
"""Of links from an actor that sends them."""
PROVIDER_KEYS = HANDLER_KEYS | CONSUMER_KEYS | {"reserved", "unreserved"}

SUBSCRIPTIONS_MAX = 100
"""Subscriptions of one link, and patterns of one list."""

IN_FLIGHT = 64
"""Messages of a link that its actor has at a time: as much as a host of modest size runs."""
IN_FLIGHT_MAX = 10_000
"""The most a link may say."""
WAITING = 1_000
"""Core messages of a link that wait until one in flight has ended; a mailbox has as many."""
WAITING_MAX = 100_000

ACK_WAIT_MS = 30_000
"""JetStream's own default."""
DELIVERIES = 5
RETRY_MS = 1_000
RETRY_MAX_MS = 60_000
DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """Interest in core messages."""

    subject: str
    queue: str
    """Group of which one member gets each message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerSettings:
    """A JetStream consumer to pull from."""

    stream: str
    name: str
    filters: tuple[str, ...]
    """What it is to read when it is made here; empty for the whole stream."""
    is_made: bool
    """Whether it is made when it is not there."""
    in_flight_max: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HandlerSettings:
    """What a link brings to its actor, and how."""

    connection: NatsSettings | None
    """None for the lattice's own."""
    subscriptions: tuple[Subscription, ...]
    consumers: tuple[ConsumerSettings, ...]
    timeout_s: float
    """For the actor to handle one message."""
    in_flight_max: int
    waiting_max: int
    ack_wait_s: float
    deliveries_max: int
    retry_s: float
    retry_s_max: float
    dead_letter: str | None
    only_new: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SendingSettings:
    """Where a link lets its actor send, and how."""

    connection: NatsSettings | None
    """None for the lattice's own."""
    allowed: tuple[str, ...] | None
    """Patterns; None for all that is not reserved."""
    is_answering: bool
    """Whether it may send to inboxes."""
    is_stored: bool
    """Whether a stream has to acknowledge what is published."""


def parse_territory(provider: Mapping[str, str]) -> Territory:
    """What the provider's configuration makes of the reserved subjects.

    Raises:
        InvalidRequest: naming the key that is wrong.
    """
    config = folded(provider)
    return Territory(
        reserved=_patterns(config, "reserved") or (),
        unreserved=_patterns(config, "unreserved") or (),
    )


def parse_handler(
    provider: Mapping[str, str], link: Mapping[str, str], *, default_queue: str
) -> HandlerSettings:
    """A link's settings for messages to its actor.

    Raises:
        InvalidRequest: naming the key that is wrong or missing.
    """
    config = _merged(provider, link)
    in_flight_max = number(config, "in_flight_max", IN_FLIGHT, 1, IN_FLIGHT_MAX)
    subscriptions = _subscriptions(config, default_queue)
    consumers = _consumers(config, in_flight_max)
    stream, name = config.get("stream"), config.get("consumer")
    if stream is not None or name is not None:
        if not stream or not name:
            missing = "consumer" if stream else "stream"
            raise errors.InvalidRequest(
                f"{missing} is missing: a link reads a stream by a consumer"
            )
        if any(each.queue != default_queue for each in subscriptions):
            raise errors.InvalidRequest(
                "subscriptions has a queue group, which a consumer of a stream needs none of:"
                " all who read by the same consumer share its messages"
            )
        mine = ConsumerSettings(
            stream=_name("stream", stream),
            name=_name("consumer", name),
            filters=tuple(each.subject for each in subscriptions),
            is_made=True,
            in_flight_max=in_flight_max,
        )
        # They say what of the stream is read.
        subscriptions, consumers = (), (*consumers, mine)
    if not subscriptions and not consumers:
        raise errors.InvalidRequest(
            "subscriptions is missing, as are stream and consumer: there is nothing to bring to the"
            " actor; give the link a configuration with, for example: subscriptions=orders.>"
        )
    retry_ms = number(config, "retry_ms", RETRY_MS, 1, DAY_MS)
    dead_letter = config.get("dead_letter")
    return HandlerSettings(
        connection=_connection(config),
        subscriptions=subscriptions,
        consumers=consumers,
        timeout_s=seconds(
            config,
            "timeout_ms",
            int(limits.CALL_TIMEOUT_S * 1000),
            int(limits.CALL_TIMEOUT_S_MAX * 1000),
        ),
        in_flight_max=in_flight_max,
        waiting_max=number(config, "waiting_max", WAITING, 0, WAITING_MAX),
        ack_wait_s=seconds(config, "ack_wait_ms", ACK_WAIT_MS, DAY_MS, least_ms=100),
        deliveries_max=number(config, "max_deliveries", DELIVERIES, 1, 1_000_000),
        retry_s=retry_ms / 1000,
        retry_s_max=seconds(
            config, "retry_max_ms", max(RETRY_MAX_MS, retry_ms), DAY_MS, least_ms=retry_ms
        ),
        dead_letter=grants.parse_subject(dead_letter) if dead_letter else None,
        only_new=boolean(config, "only_new", default=False),
    )


def parse_sending(provider: Mapping[str, str], link: Mapping[str, str]) -> SendingSettings:
    """A link's settings for messages from its actor.

    Raises:
        InvalidRequest: naming the key that is wrong.
    """
    config = _merged(provider, link)
    return SendingSettings(
        connection=_connection(config),
        allowed=_patterns(config, "publish"),
        is_answering=boolean(config, "replies", default=True),
        is_stored=choice(config, "delivery", ("core", "jetstream")) == "jetstream",
    )


def _merged(provider: Mapping[str, str], link: Mapping[str, str]) -> dict[str, str]:
    defaults, own = folded(provider), folded(link)
    if SERVER_KEYS & own.keys():
        # Credentials of one server are not to be shown to another.
        defaults = {key: value for key, value in defaults.items() if key not in CONNECTION_KEYS}
    return defaults | own


def _connection(config: Mapping[str, str]) -> NatsSettings | None:
    servers = _list(config, "cluster_uris") or _list(config, "uri")
    jwt, seed = config.get("client_jwt"), config.get("client_seed")
    if bool(jwt) != bool(seed):
        missing = "client_seed" if jwt else "client_jwt"
        raise errors.InvalidRequest(f"{missing} is missing: a JWT and its seed go together")
    if not servers:
        if given := sorted((CONNECTION_KEYS - SERVER_KEYS) & config.keys()):
            raise errors.InvalidRequest(
                f"{given[0]} is for a NATS of its own: name that with cluster_uris"
            )
        return None
    return NatsSettings(
        servers=servers,
        credentials_file=config.get("credentials_file"),
        user_jwt=jwt,
        user_seed=seed,
        tls_ca_file=config.get("tls_ca_file"),
    )


def _subscriptions(config: Mapping[str, str], default_queue: str) -> tuple[Subscription, ...]:
    found = []
    for text in _list(config, "subscriptions"):
        subject, bar, queue = text.partition("|")
        if bar:
            grants.parse_subject(queue)
        found.append(
            Subscription(subject=grants.parse_pattern(subject), queue=queue or default_queue)
        )
    return tuple(found)


def _consumers(config: Mapping[str, str], in_flight_max: int) -> tuple[ConsumerSettings, ...]:
    """Consumers that are there already, in wasmCloud's way of writing them."""
    text = config.get("consumers")
    if not text:
        return ()
    wrong = errors.InvalidRequest(
        'consumers is not a JSON array such as [{"stream":"ORDERS","consumer":"workers"}]'
    )
    try:
        items = json.loads(text)
    except (ValueError, RecursionError):
        raise wrong from None
    if not isinstance(items, list) or len(items) > SUBSCRIPTIONS_MAX:
        raise wrong
    found = []
    for item in items:
        match item:
            case {"stream": str(stream), "consumer": str(name)}:
                messages = item.get("max_messages") or in_flight_max
                if type(messages) is not int or messages < 1:
                    raise wrong
                found.append(
                    ConsumerSettings(
                        stream=_name("stream", stream),
                        name=_name("consumer", name),
                        filters=(),
                        is_made=False,
                        in_flight_max=min(messages, in_flight_max),
                    )
                )
            case _:
                raise wrong
    return tuple(found)


def _name(key: str, text: str) -> str:
    try:
        return names.parse_config_name(text)
    except errors.InvalidRequest:
        raise errors.InvalidRequest(
            f"{key} is {text[:40]!r}; want 1 to {names.NAME_CHARS_MAX} of A-Z a-z 0-9 _ -"
        ) from None


def _patterns(config: Mapping[str, str], key: str) -> tuple[str, ...] | None:
    """A list of patterns; empty when it is there and has none, so that nothing is allowed."""
    if key not in config:
        return None
    return tuple(grants.parse_pattern(text) for text in _list(config, key))


def _list(config: Mapping[str, str], key: str) -> tuple[str, ...]:
    parts = tuple(part.strip() for part in config.get(key, "").split(",") if part.strip())
    if len(parts) > SUBSCRIPTIONS_MAX:
        raise errors.InvalidRequest(f"{key} has {len(parts)} parts, over {SUBSCRIPTIONS_MAX}")
    return parts

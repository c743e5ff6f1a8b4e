"""What an operator wrote for the provider and for one link, read into values that stores take.

A link's own configuration goes before the provider's, key by key. Keys count in either case, as
wasmCloud's providers spell theirs in capitals. Two links with equal settings share one store.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args
from urllib.parse import SplitResult, parse_qsl, urlsplit

from lattice import errors, limits, names
from providers.keyvalue.bounds import CEILINGS
from providers.keyvalue.stores.watches import Pattern, Wanted
from providers.sdk.configuration import boolean, choice, folded, number, seconds

DEFAULT_REDIS_URL = "redis://127.0.0.1:6379"
"""That of wasmCloud's Redis provider."""

CONNECT_TIMEOUT_MS = 3_000
"""wasmCloud's ``BACKEND_CONNECTION_TIMEOUT_MS``."""

RESPONSE_TIMEOUT_MS = 1_000
"""wasmCloud's ``BACKEND_RESPONSE_TIMEOUT_MS``; Redis answers in well under a millisecond."""

CONNECTIONS_MAX = 16
"""Connections to one Redis; a command at a time runs on each, and Redis itself has one thread."""

TLS_OPTIONS = frozenset(
    {"ssl_ca_certs", "ssl_cert_reqs", "ssl_certfile", "ssl_check_hostname", "ssl_keyfile"}
)
"""Options that a ``rediss`` URL may have. Others could switch on what breaks our promises, such as
repeating commands."""

Synchronous = Literal["full", "normal"]
"""When SQLite has the disk write down what was committed: at once, or now and then."""
SYNCHRONOUS: tuple[Synchronous, ...] = get_args(Synchronous)

PATTERNS_MAX = 100
"""What one link may watch: each change is compared with all of them."""

IN_FLIGHT = 16
"""Changes of different keys that an actor is told of at a time."""
IN_FLIGHT_MAX = 1_000
"""The most a link may say."""

TIMEOUT_MS_MAX = 60_000
"""No call waits for a backend any longer than a minute, whatever an operator writes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySettings:
    """A store in the provider's own memory."""

    bucket: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisSettings:
    """A Redis server."""

    url: str = field(repr=False)
    """With user and password, if any: never shown."""
    label: str
    """What may be shown instead."""
    connect_timeout_s: float
    response_timeout_s: float
    connections_max: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NatsSettings:
    """A JetStream key-value bucket on the lattice's own NATS."""

    bucket: str
    replicas: int
    """Copies of the data when the bucket is made here; 3 survive the loss of a server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SqliteSettings:
    """A SQLite file on the provider's machine."""

    bucket: str
    directory: Path
    synchronous: Synchronous

    @property
    def path(self) -> Path:
        return self.directory / f"{self.bucket}.sqlite"


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchSettings:
    """What an actor is told of, and how."""

    where: "Settings"
    wanted: Wanted
    tells_existing: bool
    """Whether it is told what is there already when the watch begins."""
    in_flight_max: int
    timeout_s: float
    """For the actor to take one change."""


Settings = MemorySettings | RedisSettings | NatsSettings | SqliteSettings

LINK_KEYS = frozenset(
    {
        "backend",
        "url",
        "backend_connection_timeout_ms",
        "backend_response_timeout_ms",
        "connections_max",
        "bucket",
        "replicas",
        "enable_bucket_auto_create",
        "sqlite_synchronous",
    }
)
"""What a link's configuration may say."""

WATCH_KEYS = LINK_KEYS.union(["watch", "watch_existing", "in_flight_max", "timeout_ms"])
"""What the configuration of a link to an actor that watches may say."""

SQLITE_DIRECTORY = "sqlite_directory"
"""The provider's alone: who may put links need not be who may say where files are written."""

PROVIDER_KEYS = WATCH_KEYS.union(CEILINGS, [SQLITE_DIRECTORY])
"""What the provider's own configuration may say: the same for all links, and what is for all."""


def parse(provider: Mapping[str, str], link: Mapping[str, str], *, lattice: str) -> Settings:
    """The backend that calls over a link go to.

    Raises:
        InvalidRequest: the backend is unknown, or one of its keys is wrong; the text names it.
    """
    provider, link = folded(provider), folded(link)
    backend = _backend(link, default=_backend(provider, default="nats"))
    config = {**provider, **link}
    match backend:
        case "memory":
            return MemorySettings(bucket=_bucket(config, lattice))
        case "redis":
            return _redis(config)
        case "nats":
            return _nats(config, lattice)
        case "sqlite":
            return _sqlite(config, provider.get(SQLITE_DIRECTORY), lattice)
        case _:
            raise errors.InvalidRequest(
                f"backend {backend[:40]!r} is not one of memory, nats, redis, sqlite"
            )


def parse_watch(
    provider: Mapping[str, str], link: Mapping[str, str], *, lattice: str
) -> WatchSettings:
    """What an actor along a link is to be told of.

    Raises:
        InvalidRequest: as ``parse``; nothing is to be watched, or ``watch`` can't be read.
    """
    config = {**folded(provider), **folded(link)}
    return WatchSettings(
        where=parse(provider, link, lattice=lattice),
        wanted=_wanted(config.get("watch", "")),
        tells_existing=boolean(config, "watch_existing", default=False),
        in_flight_max=number(config, "in_flight_max", IN_FLIGHT, 1, IN_FLIGHT_MAX),
        timeout_s=seconds(config, "timeout_ms", int(limits.CALL_TIMEOUT_S * 1_000), TIMEOUT_MS_MAX),
    )


def _wanted(watch: str) -> Wanted:
    """Read ``SET@key,DEL@key``, as wasmCloud's Redis provider does; a ``*`` at the end is ours."""
    found: dict[str, list[Pattern]] = {"SET": [], "DEL": []}
    entries = [entry.strip() for entry in watch.split(",")]
    for entry in filter(None, entries):
        operation, _, key = (part.strip() for part in entry.partition("@"))
        patterns = found.get(operation.upper())
        if patterns is None or not key:
            raise errors.InvalidRequest(
                f"watch has {entry[:100]!r}; want SET@KEY or DEL@KEY, joined by commas, where a *"
                " at the end of a key stands for anything"
            )
        is_prefix = key.endswith("*")
        patterns.append(Pattern(key.removesuffix("*"), is_prefix=is_prefix))
    count = len(found["SET"]) + len(found["DEL"])
    if not count:
        raise errors.InvalidRequest(
            "the link watches nothing; say what in its source configuration, such as:"
            " watch=SET@KEY,DEL@KEY"
        )
    if count > PATTERNS_MAX:
        raise errors.InvalidRequest(f"watch has {count} entries, over the limit of {PATTERNS_MAX}")
    return Wanted(sets=tuple(found["SET"]), deletions=tuple(found["DEL"]))


def _backend(config: Mapping[str, str], *, default: str) -> str:
    """The backend that is named, or meant: configuration made for wasmCloud has only the URL."""
    return config.get("backend", "redis" if "url" in config else default)


def _redis(config: Mapping[str, str]) -> RedisSettings:
    url = config.get("url", DEFAULT_REDIS_URL)
    return RedisSettings(
        url=url,
        label=_label(url),
        connect_timeout_s=seconds(
            config, "backend_connection_timeout_ms", CONNECT_TIMEOUT_MS, TIMEOUT_MS_MAX
        ),
        response_timeout_s=seconds(
            config, "backend_response_timeout_ms", RESPONSE_TIMEOUT_MS, TIMEOUT_MS_MAX
        ),
        connections_max=number(config, "connections_max", CONNECTIONS_MAX, 1, 1_000),
    )


def _label(url: str) -> str:
    """Check a Redis URL, and say where it leads without its credentials."""
    # The URL itself stays out of the error: it may hold a password.
    try:
        parts = urlsplit(url)
        where = _address(parts)
    except ValueError:
        raise errors.InvalidRequest("url is not a URL; want redis://HOST:PORT/DATABASE") from None
    options = TLS_OPTIONS if parts.scheme == "rediss" else frozenset[str]()
    for name, _ in parse_qsl(parts.query, keep_blank_values=True):
        if name not in options:
            raise errors.InvalidRequest(f"url has the option {name[:40]!r}, which it may not")
    return f"redis at {where}"


def _address(parts: SplitResult) -> str:
    path = parts.path.strip("/")
    if parts.scheme == "unix" and path:
        return parts.path
    if parts.scheme not in ("redis", "rediss") or not parts.hostname:
        raise ValueError(parts.scheme)
    if path and not path.isdecimal():
        raise ValueError(path)
    return f"{parts.hostname}:{parts.port or 6379}/{path or 0}"


def _nats(config: Mapping[str, str], lattice: str) -> NatsSettings:
    bucket = _bucket(config, lattice)
    if config.get("enable_bucket_auto_create", "true") != "true":
        raise errors.InvalidRequest(
            "enable_bucket_auto_create can only be true: a bucket that is not there is made"
        )
    # Five is JetStream's own limit.
    return NatsSettings(bucket=bucket, replicas=number(config, "replicas", 1, 1, 5))


def _sqlite(config: Mapping[str, str], directory: str | None, lattice: str) -> SqliteSettings:
    if not directory:
        raise errors.InvalidRequest(
            f"backend=sqlite needs {SQLITE_DIRECTORY} in the provider's own configuration"
        )
    if not Path(directory).is_absolute():
        raise errors.InvalidRequest(
            f"{SQLITE_DIRECTORY} is {directory[:200]!r}; want an absolute path"
        )
    return SqliteSettings(
        bucket=_bucket(config, lattice),
        directory=Path(directory),
        synchronous=choice(config, "sqlite_synchronous", SYNCHRONOUS),
    )


def _bucket(config: Mapping[str, str], lattice: str) -> str:
    name = config.get("bucket", f"LATTICEKV_{lattice}")
    try:
        return names.parse_config_name(name)
    except errors.InvalidRequest:
        raise errors.InvalidRequest(
            f"bucket {name[: names.NAME_CHARS_MAX]!r} is not a bucket's name"
        ) from None

"""What an operator wrote for the provider and for one link, read into values that stores take.

A link's own configuration goes before the provider's, key by key; but where a directory is, only
the provider's says. Keys count in either case. Links with equal settings share one store.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from lattice import errors, names
from providers.blobstore.bounds import CEILINGS
from providers.sdk.configuration import folded, number, seconds

REGION = "us-east-1"
"""What servers that know no regions call theirs."""

CONNECT_TIMEOUT_MS = 3_000
"""For S3 to take a connection."""

RESPONSE_TIMEOUT_MS = 10_000
"""For S3 to go on with an answer; it may have to put together what came in parts."""

TIMEOUT_MS_MAX = 60_000
"""No call waits for a backend any longer than a minute, whatever an operator writes."""

CONNECTIONS_MAX = 16
"""Connections to S3; a request at a time runs on each."""

PREFIX_BYTES_MAX = 256
"""Beginning of all keys in S3, which leaves room for the rest."""

BUCKET_CHARS_MAX = 63
"""Longest bucket's name: S3's own limit, and on NATS room for what follows."""


@dataclass(frozen=True, slots=True)
class MemorySettings:
    """The one store in the provider's own memory."""


@dataclass(frozen=True, slots=True)
class FilesystemSettings:
    """A directory on the machine that runs the provider."""

    root: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class NatsSettings:
    """JetStream object stores on the lattice's own NATS."""

    bucket: str
    """How their names begin."""
    replicas: int
    """Copies of the data in containers made here; 3 survive the loss of a server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Settings:
    """One bucket of S3."""

    bucket: str
    prefix: str
    """How all keys begin."""
    endpoint_url: str | None
    """A server's address; None for Amazon's own."""
    where: str
    """The address for people, empty for Amazon's own."""
    region: str
    access_key_id: str | None = field(repr=False)
    """None to look for credentials where Amazon's tools do."""
    secret_access_key: str | None = field(repr=False)
    connect_timeout_s: float
    response_timeout_s: float
    connections_max: int


Settings = MemorySettings | FilesystemSettings | NatsSettings | S3Settings

LINK_KEYS = frozenset(
    {
        "backend",
        "namespace",
        "bucket",
        "replicas",
        "prefix",
        "endpoint_url",
        "region",
        "access_key_id",
        "secret_access_key",
        "connect_timeout_ms",
        "response_timeout_ms",
        "connections_max",
    }
)
"""What a link's configuration may say."""

PROVIDER_KEYS = LINK_KEYS | {"root"} | CEILINGS.keys()
"""What the provider's own configuration may say: the same for all links, the root, the bounds."""


def parse_namespace(provider: Mapping[str, str], link: Mapping[str, str], *, source: str) -> str:
    """Whose containers a link leads to: the linked actor's own, unless somebody wrote otherwise.

    Raises:
        InvalidRequest: not a namespace.
    """
    config = {**folded(provider), **folded(link)}
    try:
        return names.parse_config_name(config.get("namespace", source))
    except errors.InvalidRequest:
        raise errors.InvalidRequest(
            f"namespace {config.get('namespace', source)[:40]!r} is none:"
            f" want 1 to {names.NAME_CHARS_MAX} of A-Z a-z 0-9 _ -"
        ) from None


def parse(provider: Mapping[str, str], link: Mapping[str, str], *, lattice: str) -> Settings:
    """The backend that calls over a link go to.

    Raises:
        InvalidRequest: the backend is unknown, or one of its keys is wrong; the text names it.
    """
    provider, link = folded(provider), folded(link)
    config = {**provider, **link}
    match backend := config.get("backend", "nats"):
        case "memory":
            return MemorySettings()
        case "filesystem":
            if "root" in link:
                raise errors.InvalidRequest(
                    "root may stand only in the provider's own configuration"
                )
            return _filesystem(config)
        case "nats":
            return _nats(config, lattice)
        case "s3":
            return _s3(config)
        case _:
            raise errors.InvalidRequest(
                f"backend {backend[:40]!r} is not one of filesystem, memory, nats, s3"
            )


def _filesystem(config: Mapping[str, str]) -> FilesystemSettings:
    root = config.get("root", "")
    if not root.startswith("/") or "\0" in root:
        raise errors.InvalidRequest(
            f"root is {root[:100]!r}; want an absolute path in the provider's configuration"
        )
    return FilesystemSettings(Path(root))


def _nats(config: Mapping[str, str], lattice: str) -> NatsSettings:
    bucket = config.get("bucket", f"LATTICEBLOBS_{lattice}")
    _check_bucket(bucket, extra="_", chars_max=names.NAME_CHARS_MAX)
    # Five is JetStream's own limit.
    return NatsSettings(bucket=bucket, replicas=number(config, "replicas", 1, 1, 5))


def _s3(config: Mapping[str, str]) -> S3Settings:
    bucket = config.get("bucket", "")
    _check_bucket(bucket, extra=".", chars_max=BUCKET_CHARS_MAX)
    endpoint_url = config.get("endpoint_url")
    access_key_id = config.get("access_key_id")
    secret_access_key = config.get("secret_access_key")
    if (access_key_id is None) != (secret_access_key is None):
        raise errors.InvalidRequest("access_key_id and secret_access_key go together")
    return S3Settings(
        bucket=bucket,
        prefix=_prefix(config),
        endpoint_url=endpoint_url,
        where="" if endpoint_url is None else f" at {_address(endpoint_url)}",
        region=config.get("region", REGION),
        access_key_id=access_key_id,
        secret_access_key=secret_access_key,
        connect_timeout_s=seconds(config, "connect_timeout_ms", CONNECT_TIMEOUT_MS, TIMEOUT_MS_MAX),
        response_timeout_s=seconds(
            config, "response_timeout_ms", RESPONSE_TIMEOUT_MS, TIMEOUT_MS_MAX
        ),
        connections_max=number(config, "connections_max", CONNECTIONS_MAX, 1, 1_000),
    )


def _prefix(config: Mapping[str, str]) -> str:
    prefix = config.get("prefix", "")
    if (size_bytes := len(prefix.encode(errors="replace"))) > PREFIX_BYTES_MAX:
        raise errors.InvalidRequest(
            f"prefix is {size_bytes} bytes, over the limit of {PREFIX_BYTES_MAX}"
        )
    if not prefix.isprintable() or prefix.startswith(("/", ".")):
        raise errors.InvalidRequest(
            f"prefix {prefix[:40]!r} must be printable, and not begin with / or ."
        )
    return prefix


def _address(endpoint_url: str) -> str:
    # The URL itself stays out of the error: it may hold a password.
    try:
        parts = urlsplit(endpoint_url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        parts, port = urlsplit(""), ""
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise errors.InvalidRequest(
            "endpoint_url is not one; want http://HOST:PORT or https://HOST:PORT"
        )
    return f"{parts.hostname}{port}"


def _check_bucket(name: str, *, extra: str, chars_max: int) -> None:
    plain = name.replace(extra, "-").replace("-", "a")
    if not (plain.isascii() and plain.isalnum() and len(name) <= chars_max):
        raise errors.InvalidRequest(
            f"bucket {name[:40]!r} is not a bucket's name:"
            f" want 1 to {chars_max} of A-Z a-z 0-9 - {extra}"
        )

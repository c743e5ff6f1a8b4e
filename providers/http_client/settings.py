"""What an operator wrote for the provider and for one link, read into values.

A link's own configuration goes before the provider's, key by key. Keys count in either case.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from lattice import limits
from providers.http_client import rules
from providers.http_client.rules import Rules
from providers.sdk.configuration import boolean, folded, number

REDIRECTS_MAX_MAX = 50
"""The most redirects that a link may ask for; browsers stop at twenty."""

REQUESTS_MAX_MAX = limits.HTTP_CLIENT_CONNECTIONS_MAX
"""A request at a time runs on each connection."""

KEYS = frozenset(
    {
        "allow",
        "redirects_max",
        "connect_timeout_ms",
        "first_byte_timeout_ms",
        "between_bytes_timeout_ms",
        "idle_timeout_ms",
        "max_request_body_bytes",
        "max_response_body_bytes",
        "max_concurrent_requests",
        "max_idle_connections",
        "ca_file",
        "ssl_certs_file",
        "load_native_certs",
    }
)
"""What may stand in the configuration of a link, and in the provider's as its default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """Whose certificates are believed."""

    ca_file: str | None = None
    """Path of a PEM file with certificates of authorities."""
    native: bool = True
    """Whether those of the system count as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How requests over one link are treated."""

    rules: Rules = field(default_factory=Rules)
    redirects_max: int = limits.HTTP_CLIENT_REDIRECTS_MAX
    """Of ``wasmcloud:httpclient`` only: WASI leaves redirects to the component."""
    connect_timeout_s: float = limits.HTTP_CLIENT_CONNECT_TIMEOUT_S
    first_byte_timeout_s: float = limits.HTTP_CLIENT_FIRST_BYTE_TIMEOUT_S
    between_bytes_timeout_s: float = limits.HTTP_CLIENT_BETWEEN_BYTES_TIMEOUT_S
    idle_s: float = limits.HTTP_CLIENT_IDLE_S
    request_bytes_max: int = limits.HTTP_BODY_BYTES
    response_bytes_max: int = limits.HTTP_BODY_BYTES
    requests_max: int = limits.HTTP_CLIENT_REQUESTS_MAX
    idle_connections_max: int = limits.HTTP_CLIENT_IDLE_CONNECTIONS_MAX
    trust: Trust = field(default_factory=Trust)


def parse(provider: Mapping[str, str], link: Mapping[str, str]) -> Settings:
    """Read what counts for one link.

    Raises:
        InvalidRequest: a key is wrong; the text names it and what it wants.
    """
    said = folded(provider) | folded(link)
    config = {key: value.strip() for key, value in said.items()}
    timeout_ms_max = int(limits.CALL_TIMEOUT_S_MAX * 1_000)

    def seconds(key: str, default_s: float, *, least_ms: int = 1) -> float:
        return number(config, key, int(default_s * 1_000), least_ms, timeout_ms_max) / 1_000

    def body_bytes(key: str) -> int:
        return number(config, key, limits.HTTP_BODY_BYTES, 0, limits.HTTP_FLOWING_BODY_BYTES_MAX)

    default = Settings()
    return Settings(
        rules=rules.parse(said.get("allow", "")),
        redirects_max=number(config, "redirects_max", default.redirects_max, 0, REDIRECTS_MAX_MAX),
        connect_timeout_s=seconds("connect_timeout_ms", default.connect_timeout_s),
        first_byte_timeout_s=seconds("first_byte_timeout_ms", default.first_byte_timeout_s),
        between_bytes_timeout_s=seconds(
            "between_bytes_timeout_ms", default.between_bytes_timeout_s
        ),
        idle_s=seconds("idle_timeout_ms", default.idle_s, least_ms=0),
        request_bytes_max=body_bytes("max_request_body_bytes"),
        response_bytes_max=body_bytes("max_response_body_bytes"),
        requests_max=number(
            config, "max_concurrent_requests", default.requests_max, 1, REQUESTS_MAX_MAX
        ),
        idle_connections_max=number(
            config, "max_idle_connections", default.idle_connections_max, 0, REQUESTS_MAX_MAX
        ),
        trust=Trust(
            ca_file=said.get("ca_file", said.get("ssl_certs_file")) or None,
            native=boolean(config, "load_native_certs", default=True),
        ),
    )

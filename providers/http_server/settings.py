"""What an operator may set for the HTTP server: strings in, checked values out.

The keys are those of wasmCloud 1.x and a few of our own; like there, case does not matter. A key of
a link falls back to the same key of the provider's configuration, so that in path and host mode,
where 1.x knows only the latter, either place will do.
"""

import ipaddress
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from lattice import errors, limits
from providers.sdk.configuration import boolean, choice, folded, number, seconds

RoutingMode = Literal["address", "path", "host"]
ROUTING_MODES: tuple[RoutingMode, ...] = get_args(RoutingMode)

CORS_METHODS = ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS")
"""Methods that another origin's page may use unless the link says otherwise; wasmCloud's list."""
CORS_HEADERS = ("accept", "accept-language", "content-type", "content-language")
"""Request headers that it may send; wasmCloud's list."""
CORS_MAX_AGE_S = 300
"""How long a browser may remember the answer to a preflight; wasmCloud's default."""
CORS_MAX_AGE_S_MAX = 86_400
"""Firefox's own bound, the longest of any browser."""

CORS_KEYS = frozenset(
    {
        "cors_allowed_origins",
        "cors_allowed_headers",
        "cors_allowed_methods",
        "cors_exposed_headers",
        "cors_max_age_secs",
    }
)
TLS_KEYS = frozenset({"tls_cert_file", "tls_priv_key_file"})
SHARED_KEYS = (
    CORS_KEYS
    | TLS_KEYS
    | {
        "cache_control",
        "readonly_mode",
        "disable_keepalive",
        "disable_server_timing",
        "timeout_ms",
        "max_body_bytes",
        "max_concurrent_requests",
    }
)
"""Keys of a link whose default the provider's configuration may set."""
PROVIDER_KEYS = SHARED_KEYS | {"routing_mode", "default_address", "header"}
LINK_KEYS = SHARED_KEYS | {"address", "port", "path", "host"}

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A header's name or a method: RFC 9110 section 5.6.2."""
_FIELD_VALUE = re.compile(r"[\t\x20-\x7e]+")
_ORIGIN = re.compile(r"https?://[^/\s]+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Address:
    """An IP address and port to listen on; port 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


DEFAULT_ADDRESS = Address("0.0.0.0", 8000)  # noqa: S104 - wasmCloud's default; documented as such
PORT_HOST = "127.0.0.1"
"""Where a link listens that gives only a port, as in wasmCloud."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Paths of PEM files, read when the listener opens."""

    certificate: str
    private_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cors:
    """Which other origins' pages may use the actor from a browser."""

    origins: frozenset[str] | None
    """Lower-case origins; None for any."""
    methods: tuple[str, ...]
    headers: tuple[str, ...]
    exposed_headers: tuple[str, ...]
    max_age_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSettings:
    """How requests find their link, for the provider as a whole."""

    mode: RoutingMode = "address"
    default_address: Address = DEFAULT_ADDRESS
    """In address mode of links that name none; otherwise the one address to listen on."""
    host_header: str = "host"
    """Lower-case name of the header that host mode looks at."""
    tls: TlsFiles | None = None
    """Of the one address in path and host mode."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSettings:
    """How requests over one link are treated."""

    address: Address = DEFAULT_ADDRESS
    tls: TlsFiles | None = None
    path: str | None = None
    host: str | None = None
    cache_control: str | None = None
    """Sent with responses to which the actor gave no ``Cache-Control`` of its own."""
    readonly: bool = False
    keep_alive: bool = True
    """Whether a connection may carry another request after this one."""
    server_timing: bool = True
    """Whether responses tell what the call took."""
    timeout_s: float = limits.CALL_TIMEOUT_S
    """From the request's headers to the end of the actor's answer."""
    body_bytes_max: int = limits.HTTP_BODY_BYTES
    requests_max: int = limits.HTTP_REQUESTS_MAX
    """Requests that may run at a time."""
    cors: Cors | None = None
    """None leaves CORS, ``OPTIONS`` included, to the actor."""


def parse_provider(config: Mapping[str, str]) -> ProviderSettings:
    """Read the provider's configuration.

    Raises:
        InvalidRequest: naming the key that is wrong.
    """
    values = folded(config)
    # The shared keys are defaults of links to come: better refused now than with each of those.
    defaults = _parse_shared(values)
    return ProviderSettings(
        mode=choice(values, "routing_mode", ROUTING_MODES),
        default_address=_address(values, "default_address") or DEFAULT_ADDRESS,
        host_header=_token(values, "header", "host").lower(),
        tls=defaults.tls,
    )


def parse_link(
    config: Mapping[str, str], provider: ProviderSettings, defaults: Mapping[str, str]
) -> LinkSettings:
    """Read a link's source configuration; ``defaults`` is the provider's.

    Keys that belong to another routing mode are ignored, as in wasmCloud, which lets an operator
    change the mode of a provider that has links.

    Raises:
        InvalidRequest: naming the key that is wrong or missing.
    """
    values = folded(config)
    if provider.mode != "address" and (given := TLS_KEYS & values.keys()):
        raise errors.InvalidRequest(
            f"{min(given)} is a setting of the provider when it routes by {provider.mode}: "
            "all links share one address"
        )
    if provider.mode != "address" and not values.get(provider.mode):
        raise errors.InvalidRequest(
            f"{provider.mode} is missing: the provider routes by {provider.mode}"
        )
    inherited = {key: value for key, value in folded(defaults).items() if key in SHARED_KEYS}
    shared = _parse_shared(inherited | values)
    return LinkSettings(
        address=_link_address(values) or provider.default_address,
        tls=shared.tls,
        path=values.get("path"),
        host=values.get("host"),
        cache_control=shared.cache_control,
        readonly=shared.readonly,
        keep_alive=shared.keep_alive,
        server_timing=shared.server_timing,
        timeout_s=shared.timeout_s,
        body_bytes_max=shared.body_bytes_max,
        requests_max=shared.requests_max,
        cors=shared.cors,
    )


def _parse_shared(values: Mapping[str, str]) -> LinkSettings:
    cache_control = values.get("cache_control")
    if cache_control is not None and not _FIELD_VALUE.fullmatch(cache_control):
        raise _wrong("cache_control", cache_control, "the value of a Cache-Control header")
    return LinkSettings(
        tls=_tls(values),
        cache_control=cache_control,
        readonly=boolean(values, "readonly_mode", default=False),
        keep_alive=not boolean(values, "disable_keepalive", default=False),
        server_timing=not boolean(values, "disable_server_timing", default=False),
        timeout_s=seconds(
            values,
            "timeout_ms",
            int(limits.CALL_TIMEOUT_S * 1000),
            int(limits.CALL_TIMEOUT_S_MAX * 1000),
        ),
        body_bytes_max=number(
            values, "max_body_bytes", limits.HTTP_BODY_BYTES, 0, limits.HTTP_FLOWING_BODY_BYTES_MAX
        ),
        requests_max=number(
            values,
            "max_concurrent_requests",
            limits.HTTP_REQUESTS_MAX,
            1,
            limits.CALLS_PENDING_MAX,
        ),
        cors=_cors(values),
    )


def _cors(values: Mapping[str, str]) -> Cors | None:
    if not CORS_KEYS & values.keys():
        return None
    origins = _list(values, "cors_allowed_origins", ())
    for origin in origins:
        if origin != "*" and not _ORIGIN.fullmatch(origin.rstrip("/")):
            raise _wrong("cors_allowed_origins", origin, "origins such as https://example.com")
    return Cors(
        origins=(
            None
            if not origins or "*" in origins
            else frozenset(origin.rstrip("/").lower() for origin in origins)
        ),
        methods=_tokens(values, "cors_allowed_methods", CORS_METHODS),
        headers=_tokens(values, "cors_allowed_headers", CORS_HEADERS),
        exposed_headers=_tokens(values, "cors_exposed_headers", ()),
        max_age_s=number(values, "cors_max_age_secs", CORS_MAX_AGE_S, 0, CORS_MAX_AGE_S_MAX),
    )


def _tls(values: Mapping[str, str]) -> TlsFiles | None:
    certificate, private_key = values.get("tls_cert_file"), values.get("tls_priv_key_file")
    if not certificate and not private_key:
        return None
    if not certificate or not private_key:
        missing = "tls_priv_key_file" if certificate else "tls_cert_file"
        raise errors.InvalidRequest(f"{missing} is missing: TLS needs a certificate and its key")
    return TlsFiles(certificate, private_key)


def _link_address(values: Mapping[str, str]) -> Address | None:
    if address := _address(values, "address"):
        return address
    if "port" in values:
        return Address(PORT_HOST, number(values, "port", 0, 0, 65_535))
    return None


def _address(values: Mapping[str, str], key: str) -> Address | None:
    if (text := values.get(key)) is None:
        return None
    host, _, port = text.strip().rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        ip = ipaddress.ip_address(host[1:-1] if bracketed else host)
        number = int(port) if port.isascii() and port.isdigit() else -1
    except ValueError:
        raise _wrong(key, text, "IP:PORT, for example 127.0.0.1:8080") from None
    if bracketed != (ip.version == 6) or not 0 <= number <= 65_535:
        raise _wrong(key, text, "IP:PORT, for example 127.0.0.1:8080 or [::1]:8080")
    return Address(str(ip), number)


def _token(values: Mapping[str, str], key: str, default: str) -> str:
    text = values.get(key, default).strip()
    if not _TOKEN.fullmatch(text):
        raise _wrong(key, text, "the name of a header")
    return text


def _tokens(values: Mapping[str, str], key: str, default: tuple[str, ...]) -> tuple[str, ...]:
    tokens = _list(values, key, default)
    for token in tokens:
        if not _TOKEN.fullmatch(token):
            raise _wrong(key, token, "names without spaces")
    return tokens


def _list(values: Mapping[str, str], key: str, default: tuple[str, ...]) -> tuple[str, ...]:
    """Read a JSON array of strings, as wasmCloud has it, or words with commas between."""
    if (text := values.get(key)) is None:
        return default
    if not text.lstrip().startswith("["):
        return tuple(word.strip() for word in text.split(",") if word.strip())
    try:
        words = json.loads(text)
    except (ValueError, RecursionError):
        words = None
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise _wrong(key, text, 'a JSON array of strings such as ["a","b"], or a,b')
    return tuple(words)


def _wrong(key: str, value: str, wanted: str) -> errors.InvalidRequest:
    return errors.InvalidRequest(f"{key} is {value[:100]!r}; want {wanted}")

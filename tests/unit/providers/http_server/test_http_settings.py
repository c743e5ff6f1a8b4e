"""Settings of the HTTP server: every key, its default, its bounds, and the error that names it."""

import pytest

from lattice import errors, limits
from providers.http_server import settings
from providers.http_server.settings import Address, LinkSettings, ProviderSettings, TlsFiles
from providers.sdk import configuration

BY_ADDRESS = ProviderSettings()
BY_PATH = ProviderSettings(mode="path")
BY_HOST = ProviderSettings(mode="host")


def link(**config: str) -> LinkSettings:
    return settings.parse_link(config, BY_ADDRESS, {})


def test_nothing_set_means_wasmclouds_defaults() -> None:
    assert settings.parse_provider({}) == ProviderSettings(
        mode="address", default_address=Address("0.0.0.0", 8000), host_header="host"
    )
    assert link() == LinkSettings(
        address=Address("0.0.0.0", 8000),
        timeout_s=limits.CALL_TIMEOUT_S,
        body_bytes_max=limits.HTTP_BODY_BYTES,
        requests_max=limits.HTTP_REQUESTS_MAX,
    )


def test_keys_are_taken_in_any_case() -> None:
    assert settings.parse_provider({"Routing_Mode": "PATH"}).mode == "path"
    assert link(ADDRESS="127.0.0.1:1").address == Address("127.0.0.1", 1)


def test_two_spellings_of_a_key_with_two_values_are_refused() -> None:
    with pytest.raises(errors.InvalidRequest, match="given twice"):
        settings.parse_provider({"header": "a", "Header": "b"})


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", Address("127.0.0.1", 8080)),
        (" 0.0.0.0:0 ", Address("0.0.0.0", 0)),
        ("[::1]:80", Address("::1", 80)),
        ("[0:0::1]:80", Address("::1", 80)),
    ],
)
def test_an_address_is_an_ip_and_a_port(text: str, address: Address) -> None:
    assert link(address=text).address == address


@pytest.mark.parametrize(
    "text",
    [
        *("", "8080", ":8080", "localhost:8080", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536"),
        *("127.0.0.1:-1", "127.0.0.1:+1", "127.0.0.1:٣", "::1:80", "[127.0.0.1]:80", "[::1]"),
        "a\0:1",
    ],
)
def test_what_is_no_address_is_refused_by_name(text: str) -> None:
    with pytest.raises(errors.InvalidRequest, match=r"^address is "):
        link(address=text)
    with pytest.raises(errors.InvalidRequest, match=r"^default_address is "):
        settings.parse_provider({"default_address": text})


def test_addresses_print_as_they_are_written() -> None:
    assert str(Address("127.0.0.1", 80)) == "127.0.0.1:80"
    assert str(Address("::1", 80)) == "[::1]:80"


def test_a_port_alone_listens_on_the_loopback_and_an_address_goes_before_it() -> None:
    assert link(port="8080").address == Address("127.0.0.1", 8080)
    assert link(port="8080", address="10.0.0.1:80").address == Address("10.0.0.1", 80)
    with pytest.raises(errors.InvalidRequest, match=r"^port is "):
        link(port="80a")


@pytest.mark.parametrize(
    ("key", "low", "high"),
    [
        ("timeout_ms", 1, 600_000),
        ("max_body_bytes", 0, limits.HTTP_FLOWING_BODY_BYTES_MAX),
        ("max_concurrent_requests", 1, limits.CALLS_PENDING_MAX),
        ("cors_max_age_secs", 0, 86_400),
    ],
)
def test_numbers_have_bounds(key: str, low: int, high: int) -> None:
    for value in (low, high):
        link(**{key: str(value)})
    for text in (str(low - 1), str(high + 1), "", "x", "1.5", "1e3", "9" * 5000):
        with pytest.raises(errors.InvalidRequest, match=f"^{key} is "):
            link(**{key: text})


@pytest.mark.parametrize("key", ["readonly_mode", "disable_keepalive"])
def test_booleans_are_true_or_false(key: str) -> None:
    assert link(**{key: "True"}) != link() == link(**{key: "false"})
    with pytest.raises(errors.InvalidRequest, match=f"^{key} is "):
        link(**{key: "yes"})


def test_a_cache_control_that_would_write_headers_is_refused() -> None:
    assert link(cache_control="max-age=60").cache_control == "max-age=60"
    for text in ("a\r\nset-cookie: b", "", "é"):
        with pytest.raises(errors.InvalidRequest, match=r"^cache_control is "):
            link(cache_control=text)


def test_the_providers_settings_are_its_links_defaults() -> None:
    parsed = settings.parse_link(
        {"timeout_ms": "5"}, BY_ADDRESS, {"Timeout_Ms": "9", "readonly_mode": "true"}
    )
    assert (parsed.timeout_s, parsed.readonly) == (0.005, True)


def test_a_route_is_no_default_of_the_provider() -> None:
    parsed = settings.parse_link(
        {}, BY_ADDRESS, {"path": "/a", "host": "b", "address": "1.1.1.1:1"}
    )
    assert (parsed.path, parsed.host, parsed.address) == (None, None, settings.DEFAULT_ADDRESS)


def test_a_wrong_default_is_refused_with_the_provider() -> None:
    with pytest.raises(errors.InvalidRequest, match=r"^timeout_ms is "):
        settings.parse_provider({"timeout_ms": "soon"})


@pytest.mark.parametrize(("provider", "key"), [(BY_PATH, "path"), (BY_HOST, "host")])
def test_the_route_of_the_mode_is_required(provider: ProviderSettings, key: str) -> None:
    with pytest.raises(errors.InvalidRequest, match=f"^{key} is missing"):
        settings.parse_link({"address": "127.0.0.1:1"}, provider, {})
    settings.parse_link({key: "/x"}, provider, {})


def test_an_unknown_routing_mode_is_refused() -> None:
    with pytest.raises(errors.InvalidRequest, match=r"^routing_mode is 'dns'"):
        settings.parse_provider({"routing_mode": "dns"})


def test_the_routing_header_must_be_a_name() -> None:
    assert settings.parse_provider({"header": "X-Tenant"}).host_header == "x-tenant"
    with pytest.raises(errors.InvalidRequest, match=r"^header is "):
        settings.parse_provider({"header": "x tenant"})


def test_tls_needs_both_files() -> None:
    files = {"tls_cert_file": "c", "tls_priv_key_file": "k"}
    assert link(**files).tls == TlsFiles("c", "k")
    for key in files:
        other = next(name for name in files if name != key)
        with pytest.raises(errors.InvalidRequest, match=f"^{other} is missing"):
            link(**{key: "x"})


def test_tls_is_the_providers_where_links_share_an_address() -> None:
    files = {"tls_cert_file": "c", "tls_priv_key_file": "k"}
    with pytest.raises(errors.InvalidRequest, match="a setting of the provider"):
        settings.parse_link({"path": "/", **files}, BY_PATH, {})
    assert settings.parse_provider({"routing_mode": "path", **files}).tls == TlsFiles("c", "k")


def test_cors_is_left_to_the_actor_unless_something_is_set() -> None:
    assert link().cors is None
    cors = link(cors_max_age_secs="60").cors
    assert cors is not None
    assert (cors.origins, cors.methods, cors.headers, cors.exposed_headers, cors.max_age_s) == (
        None,
        settings.CORS_METHODS,
        settings.CORS_HEADERS,
        (),
        60,
    )


@pytest.mark.parametrize(
    ("text", "origins"),
    [
        ("[]", None),
        ("*", None),
        ('["https://A.example/"]', {"https://a.example"}),
        ("https://a.example, http://b.example:81", {"https://a.example", "http://b.example:81"}),
    ],
)
def test_origins_are_a_json_array_or_have_commas(text: str, origins: set[str] | None) -> None:
    cors = link(cors_allowed_origins=text).cors
    assert cors is not None
    assert cors.origins == origins


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("cors_allowed_origins", "example.com"),
        ("cors_allowed_origins", "https://example.com/path"),
        ("cors_allowed_origins", "[1]"),
        ("cors_allowed_origins", "[" * 100_000),
        ("cors_allowed_methods", '["GET POST"]'),
        ("cors_allowed_headers", "a b"),
        ("cors_exposed_headers", '{"a": 1}'),
    ],
)
def test_what_is_no_list_of_names_is_refused_by_name(key: str, text: str) -> None:
    with pytest.raises(errors.InvalidRequest, match=f"^{key} is "):
        link(**{key: text})


def test_mistyped_keys_are_found() -> None:
    mistyped = {"Path": "", "adress": "", "header": ""}
    assert configuration.ignored(mistyped, settings.LINK_KEYS) == ["adress", "header"]
    assert configuration.ignored({"header": "", "timeout_ms": ""}, settings.PROVIDER_KEYS) == []

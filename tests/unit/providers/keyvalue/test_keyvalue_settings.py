"""What operators write, and which backend it means."""

from pathlib import Path

import pytest

from lattice import errors
from providers.keyvalue import settings
from providers.keyvalue.bounds import CEILINGS, Bounds
from providers.keyvalue.settings import (
    MemorySettings,
    NatsSettings,
    RedisSettings,
    Settings,
    SqliteSettings,
)
from providers.sdk import configuration


def parse(link: dict[str, str], provider: dict[str, str] | None = None) -> Settings:
    return settings.parse(provider or {}, link, lattice="prod")


def parse_redis(link: dict[str, str]) -> RedisSettings:
    parsed = parse({"backend": "redis"} | link)
    assert isinstance(parsed, RedisSettings)
    return parsed


def test_without_configuration_data_is_in_a_bucket_of_the_lattice() -> None:
    assert parse({}) == NatsSettings(bucket="LATTICEKV_prod", replicas=1)


@pytest.mark.parametrize(
    ("link", "provider", "kind"),
    [
        ({"backend": "memory"}, {}, MemorySettings),
        ({}, {"backend": "memory"}, MemorySettings),
        ({"backend": "nats"}, {"backend": "memory"}, NatsSettings),
        ({"URL": "redis://a"}, {}, RedisSettings),
        ({"url": "redis://a"}, {"backend": "memory"}, RedisSettings),
        ({}, {"URL": "redis://a"}, RedisSettings),
        ({"bucket": "b"}, {"backend": "redis"}, RedisSettings),
        ({"backend": "nats"}, {"url": "redis://a"}, NatsSettings),
        ({"backend": "sqlite"}, {"sqlite_directory": "/data"}, SqliteSettings),
    ],
)
def test_the_link_decides_before_the_provider(
    link: dict[str, str], provider: dict[str, str], kind: type[Settings]
) -> None:
    assert isinstance(parse(link, provider), kind)


def test_keys_of_the_link_and_the_provider_add_up() -> None:
    parsed = parse({"bucket": "carts"}, {"bucket": "other", "replicas": "3"})
    assert parsed == NatsSettings(bucket="carts", replicas=3)


def test_a_sqlite_bucket_is_a_file_in_the_providers_directory() -> None:
    provider = {"backend": "sqlite", "SQLITE_DIRECTORY": "/data"}
    parsed = parse({"bucket": "carts", "sqlite_synchronous": "normal"}, provider)
    assert parsed == SqliteSettings(bucket="carts", directory=Path("/data"), synchronous="normal")
    assert parsed.path == Path("/data/carts.sqlite")
    default = parse({}, provider)
    assert isinstance(default, SqliteSettings)
    assert default.path == Path("/data/LATTICEKV_prod.sqlite")
    assert default.synchronous == "full"


@pytest.mark.parametrize("bucket", ["../carts", "/etc/passwd", "a/b", ".", "..", "a\0", "a.b", ""])
def test_no_bucket_leads_out_of_the_directory(bucket: str) -> None:
    with pytest.raises(errors.InvalidRequest, match="is not a bucket's name"):
        parse({"backend": "sqlite", "bucket": bucket}, {"sqlite_directory": "/data"})


def test_a_link_does_not_choose_where_files_are_written() -> None:
    with pytest.raises(errors.InvalidRequest, match="sqlite_directory in the provider's own"):
        parse({"backend": "sqlite", "sqlite_directory": "/data"})
    parsed = parse({"backend": "sqlite", "sqlite_directory": "/etc"}, {"sqlite_directory": "/data"})
    assert isinstance(parsed, SqliteSettings)
    assert parsed.directory == Path("/data")
    assert configuration.ignored({"sqlite_directory": "/etc"}, settings.LINK_KEYS)


@pytest.mark.parametrize(
    ("provider", "named"),
    [
        ({"sqlite_directory": "data"}, "sqlite_directory is 'data'; want an absolute path"),
        (
            {"sqlite_directory": "/data", "sqlite_synchronous": "off"},
            "sqlite_synchronous is 'off'; want full or normal",
        ),
    ],
)
def test_a_wrong_key_of_sqlite_is_refused_and_named(provider: dict[str, str], named: str) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        parse({"backend": "sqlite"}, provider)
    assert named in caught.value.text


def test_redis_takes_wasmclouds_keys_in_either_case() -> None:
    parsed = parse_redis(
        {
            "URL": "rediss://user:secret@cache.example:7000/2?ssl_cert_reqs=none",
            "BACKEND_CONNECTION_TIMEOUT_MS": "50",
            "backend_response_timeout_ms": "250",
        }
    )
    assert (parsed.connect_timeout_s, parsed.response_timeout_s) == (0.05, 0.25)
    assert parsed.label == "redis at cache.example:7000/2"


def test_credentials_are_never_shown() -> None:
    parsed = parse_redis({"url": "redis://user:secret@cache.example"})
    assert "secret" not in repr(parsed)
    for url in ("http://u:secret@h", "redis://u:secret@h:port", "redis://u:secret@h/x", "secret"):
        with pytest.raises(errors.InvalidRequest) as caught:
            parse_redis({"url": url})
        assert "secret" not in caught.value.text


@pytest.mark.parametrize(
    ("url", "label"),
    [
        ("redis://h", "redis at h:6379/0"),
        ("redis://h:1/3", "redis at h:1/3"),
        ("redis://[::1]:7/", "redis at ::1:7/0"),
        ("unix:///run/redis.sock", "redis at /run/redis.sock"),
    ],
)
def test_a_backend_is_called_by_its_address(url: str, label: str) -> None:
    assert parse_redis({"url": url}).label == label


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"backend": "etcd"}, "backend 'etcd' is not one of memory, nats, redis"),
        ({"backend": ""}, "backend '' is not one of"),
        ({"backend": "redis", "url": ""}, "url is not a URL"),
        ({"url": "redis://h?retry_on_timeout=1"}, "option 'retry_on_timeout'"),
        ({"url": "rediss://h?decode_responses=1"}, "option 'decode_responses'"),
        ({"url": "redis://h?ssl_cert_reqs=none"}, "option 'ssl_cert_reqs'"),
        ({"url": "redis://h", "connections_max": "0"}, "connections_max is '0'"),
        ({"url": "redis://h", "backend_response_timeout_ms": "fast"}, "backend_response_timeout"),
        ({"url": "redis://h", "URL": "redis://i"}, "given twice"),
        ({"bucket": "a b"}, "bucket 'a b' is not a bucket's name"),
        ({"bucket": ""}, "bucket '' is not"),
        ({"replicas": "9"}, "replicas is '9'; want a whole number from 1 to 5"),
        ({"replicas": "٣"}, "replicas is"),
        ({"replicas": "9" * 5_000}, "replicas is"),
    ],
)
def test_a_wrong_key_is_refused_and_named(config: dict[str, str], named: str) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        parse(config)
    assert named in caught.value.text
    assert len(caught.value.text) < 300


def test_keys_that_mean_nothing_are_found_whatever_their_case() -> None:
    config = {"URL": "redis://h", "replica": "3", "ITEMS_MAX": "5"}
    assert configuration.ignored(config, settings.LINK_KEYS) == ["ITEMS_MAX", "replica"]
    assert configuration.ignored(config, settings.PROVIDER_KEYS) == ["replica"]


def test_bounds_have_defaults_and_can_be_set() -> None:
    assert configuration.bounds(Bounds, {}, CEILINGS) == Bounds()
    assert configuration.bounds(Bounds, {"ITEMS_MAX": "5"}, CEILINGS) == Bounds(items_max=5)


@pytest.mark.parametrize("text", ["0", "-1", "many", "1000001"])
def test_a_bound_out_of_range_is_refused(text: str) -> None:
    with pytest.raises(errors.InvalidRequest, match="items_max is"):
        configuration.bounds(Bounds, {"items_max": text}, CEILINGS)


def test_the_page_names_every_key_and_the_default_of_every_bound() -> None:
    page = (Path(__file__).parents[4] / "docs/providers/keyvalue.md").read_text()
    default = Bounds()
    for name in CEILINGS:
        assert f"| `{name}` | {getattr(default, name)}" in page
    for name in settings.PROVIDER_KEYS:
        assert f"`{name}`" in page.lower()

"""What an operator writes, read; and what the page says of it, compared."""

import re
from pathlib import Path

import pytest

from lattice import errors
from providers.blobstore import settings, wasi, wasmcloud
from providers.blobstore.bounds import CEILINGS, Bounds
from providers.blobstore.settings import FilesystemSettings, NatsSettings, S3Settings
from providers.sdk import configuration

PAGE = (Path(__file__).parents[4] / "docs/providers/blobstore.md").read_text()

S3 = {"backend": "s3", "bucket": "my.bucket"}


def rows(heading: str) -> list[list[str]]:
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in section.splitlines()
        if line.startswith("| `")
    ]


def test_the_page_names_every_key_and_every_bound_as_it_is() -> None:
    named = {key for row in rows("Configuration") for key in re.findall(r"`(\w+)`", row[0])}
    assert named == settings.PROVIDER_KEYS
    bounds = {row[0].strip("`"): row[1] for row in rows("Configuration") if len(row) == 4}
    assert bounds.keys() == CEILINGS.keys()
    for name, default in bounds.items():
        assert int(default.split(" ")[0]) == getattr(Bounds(), name)


def test_the_page_names_every_operation() -> None:
    named = {key for row in rows("Operations of wasi:blobstore") for key in re.findall(r"`([a-z]+\.[a-z-]+)`", row[0])}  # fmt: skip  # noqa: E501
    assert named == wasi.OPERATIONS.keys()
    named = {f"Blobstore.{row[0].strip('`')}" for row in rows("Operations of wasmcloud:blobstore")}
    assert named == wasmcloud.OPERATIONS.keys()


def test_without_a_word_data_is_in_the_lattices_own_nats() -> None:
    assert settings.parse({}, {}, lattice="blue") == NatsSettings(
        bucket="LATTICEBLOBS_blue", replicas=1
    )


def test_a_links_keys_go_before_the_providers_in_either_case() -> None:
    found = settings.parse(
        {"BACKEND": "nats", "Bucket": "ours", "replicas": "3"}, {"bucket": "mine"}, lattice="l"
    )
    assert found == NatsSettings(bucket="mine", replicas=3)


def test_a_root_is_the_providers_to_name() -> None:
    provider = {"root": "/data"}
    found = settings.parse(provider, {"backend": "filesystem"}, lattice="l")
    assert found == FilesystemSettings(Path("/data"))
    with pytest.raises(errors.InvalidRequest, match="only in the provider's own"):
        settings.parse(provider, {"backend": "filesystem", "Root": "/etc"}, lattice="l")


def test_a_root_that_links_made_for_another_provider_name_leads_nowhere() -> None:
    found = settings.parse({}, {"root": "/tmp"}, lattice="blue")
    assert found == NatsSettings(bucket="LATTICEBLOBS_blue", replicas=1)
    assert configuration.ignored({"root": "/tmp"}, settings.LINK_KEYS) == ["root"]


def test_secrets_are_never_shown() -> None:
    config = {**S3, "access_key_id": "public", "secret_access_key": "hush"}
    found = settings.parse({}, config, lattice="l")
    assert isinstance(found, S3Settings)
    assert found.secret_access_key == "hush"
    assert "hush" not in repr(found)
    assert "public" not in repr(found)
    with pytest.raises(errors.InvalidRequest) as refused:
        settings.parse({}, {**S3, "endpoint_url": "http://me:hush@host"}, lattice="l")
    assert "hush" not in refused.value.text


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"backend": "tape"}, "backend 'tape' is not one of filesystem, memory, nats, s3"),
        ({"backend": "filesystem"}, "root is ''; want an absolute path"),
        ({"backend": "filesystem", "root": "data"}, "root is 'data'; want an absolute path"),
        ({"backend": "filesystem", "root": "/a\0b"}, "want an absolute path"),
        ({"bucket": "a.b"}, "bucket 'a.b' is not a bucket's name"),
        ({"bucket": ""}, "bucket '' is not a bucket's name"),
        ({"bucket": "ä"}, "bucket 'ä' is not a bucket's name"),
        ({"replicas": "6"}, "replicas is '6'; want a whole number from 1 to 5"),
        ({"backend": "s3"}, "bucket '' is not a bucket's name"),
        ({**S3, "bucket": "a/b"}, "bucket 'a/b' is not a bucket's name"),
        ({**S3, "access_key_id": "a"}, "access_key_id and secret_access_key go together"),
        ({**S3, "endpoint_url": "ftp://host"}, "endpoint_url is not one"),
        ({**S3, "endpoint_url": "http://host:port"}, "endpoint_url is not one"),
        ({**S3, "prefix": "/a"}, "prefix '/a' must be printable, and not begin with / or ."),
        ({**S3, "prefix": "../a"}, "must be printable"),
        ({**S3, "prefix": "a\nb"}, "must be printable"),
        ({**S3, "prefix": "a" * 257}, "prefix is 257 bytes, over the limit of 256"),
        ({**S3, "connections_max": "0"}, "connections_max is '0'"),
        ({**S3, "REGION": "a", "region": "b"}, "region is given twice"),
    ],
)
def test_what_is_wrong_is_named(config: dict[str, str], text: str) -> None:
    with pytest.raises(errors.InvalidRequest, match=re.escape(text)):
        settings.parse(config, {}, lattice="l")


def test_a_bound_out_of_range_is_named() -> None:
    for name, ceiling in CEILINGS.items():
        assert (
            getattr(configuration.bounds(Bounds, {name: str(ceiling)}, CEILINGS), name) == ceiling
        )
        for value in ("0", "-1", "x", str(ceiling + 1)):
            with pytest.raises(errors.InvalidRequest, match=f"{name} is '{value}'"):
                configuration.bounds(Bounds, {name: value}, CEILINGS)


def test_a_namespace_is_the_actors_own_unless_somebody_wrote_otherwise() -> None:
    assert settings.parse_namespace({}, {}, source="album") == "album"
    assert settings.parse_namespace({"namespace": "a"}, {}, source="album") == "a"
    assert settings.parse_namespace({"namespace": "a"}, {"Namespace": "b"}, source="album") == "b"
    for wrong in ("", "a/b", "..", "a.b", "x" * 129):
        with pytest.raises(errors.InvalidRequest, match="namespace"):
            settings.parse_namespace({}, {"namespace": wrong}, source="album")

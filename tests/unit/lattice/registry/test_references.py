"""References into registries: read as docker writes them, and refused when they are not that."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lattice import errors
from lattice.registry import references
from lattice.registry.references import Reference

HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ghcr.io/me/echo:1.0", Reference(registry="ghcr.io", name="me/echo", tag="1.0")),
        ("localhost:5000/echo", Reference(registry="localhost:5000", name="echo")),
        ("localhost/echo:1", Reference(registry="localhost", name="echo", tag="1")),
        ("[::1]:5000/echo:1", Reference(registry="[::1]:5000", name="echo", tag="1")),
        (
            f"ghcr.io/a/b/c:V1-RC@sha256:{HEX}",
            Reference(registry="ghcr.io", name="a/b/c", tag="V1-RC", digest=f"sha256:{HEX}"),
        ),
        (
            f"ghcr.io/a@sha256:{HEX}",
            Reference(registry="ghcr.io", name="a", digest=f"sha256:{HEX}"),
        ),
        ("oci://ghcr.io/a:1", Reference(registry="ghcr.io", name="a", tag="1")),
        ("https://ghcr.io/a:1", Reference(registry="ghcr.io", name="a", tag="1")),
        ("GHCR.io/Me/Echo:1", Reference(registry="ghcr.io", name="me/echo", tag="1")),
        ("docker.io/nginx:1", Reference(registry="docker.io", name="library/nginx", tag="1")),
        ("index.docker.io/a/b:1", Reference(registry="docker.io", name="a/b", tag="1")),
    ],
)
def test_a_reference_is_read(text: str, expected: Reference) -> None:
    assert references.parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "echo",
        "echo:1",
        "me/echo:1",
        "ghcr.io",
        "ghcr.io/",
        "ghcr.io/:1",
        "ghcr.io/echo:",
        "ghcr.io/echo@",
        "ghcr.io/echo@sha256:beef",
        f"ghcr.io/echo@md5:{HEX}",
        "ghcr.io/echo:a b",
        "ghcr.io/../etc:1",
        "ghcr.io//echo:1",
        "ghcr.io/echo?x=1:1",
        "ghcr.io/echo#x:1",
        "user@ghcr.io/echo:1",
        "localhost:99999/echo:1",
        "localhost:0/echo:1",
        "-a.io/echo:1",
        f"{'a' * 64}.io/echo:1",
        f"ghcr.io/{'a' * 256}:1",
        f"ghcr.io/echo:{'1' * 129}",
        "ghcr.io/echo:1\r\nHost: x",
        "ghcr.io/echo\0:1",
        "ghcr.io/ü:1",
        "ftp://ghcr.io/echo:1",
    ],
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(errors.InvalidRequest, match="REGISTRY/NAME:TAG"):
        references.parse(text)


@given(st.text(max_size=60))
def test_any_text_is_a_reference_or_a_typed_error(text: str) -> None:
    try:
        reference = references.parse(text)
    except errors.InvalidRequest:
        return
    assert references.parse(str(reference)) == reference


@given(
    st.from_regex(
        r"[a-z]{1,9}\.[a-z]{2,3}(:[1-9][0-9]{1,3})?/[a-z]{1,9}(:[A-Za-z]{1,9})?", fullmatch=True
    )
)
def test_a_reference_survives_being_written_and_read(text: str) -> None:
    assert str(references.parse(text)) in {text, text.replace("docker.io/", "docker.io/library/")}


@pytest.mark.parametrize(
    ("text", "latest"),
    [
        ("ghcr.io/a", True),
        ("ghcr.io/a:latest", True),
        ("ghcr.io/a:1", False),
        (f"ghcr.io/a:latest@sha256:{HEX}", False),
    ],
)
def test_latest_is_what_no_tag_and_no_digest_says_otherwise(text: str, latest: bool) -> None:
    assert references.parse(text).is_latest is latest


@pytest.mark.parametrize(
    ("text", "registry"),
    [
        ("ghcr.io", "ghcr.io"),
        ("https://GHCR.io/v2/", "ghcr.io"),
        ("http://localhost:5000", "localhost:5000"),
        ("https://index.docker.io/v1/", "docker.io"),
    ],
)
def test_a_registry_has_one_name_however_it_is_written(text: str, registry: str) -> None:
    assert references.normal_registry(text) == registry

"""Manifests and indexes: what is composed, what is understood, what is refused."""

import io
import json
import tarfile
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lattice import errors
from lattice.registry import manifests
from lattice.registry.manifests import Index, Kind, Manifest

HEX = "0123456789abcdef" * 4
CORE = b"\0asm\1\0\0\0"
COMPONENT = b"\0asm\x0d\0\1\0"


def archive(mode: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:  # type: ignore[call-overload]
        tar.addfile(tarfile.TarInfo("claims.jwt"))
    return buffer.getvalue()


def descriptor(media_type: str = manifests.WASM_LAYER, **fields: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": f"sha256:{HEX}", "size": 3, **fields}


def manifest(*layers: dict[str, Any]) -> Manifest:
    found = manifests.parse(json.dumps({"layers": layers}).encode())
    assert isinstance(found, Manifest)
    return found


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (CORE, Kind.WASM),
        (COMPONENT, Kind.WASM),
        (archive("w"), Kind.ARCHIVE),
        (archive("w:gz"), Kind.ARCHIVE),
        (b"", None),
        (b"\x7fELF" + bytes(300), None),
    ],
    ids=["core", "component", "tar", "tar.gz", "empty", "program"],
)
def test_what_an_artefact_is_shows_in_its_first_bytes(content: bytes, kind: Kind | None) -> None:
    assert manifests.kind_of(content) is kind


@pytest.mark.parametrize(("content", "system"), [(CORE, "wasip1"), (COMPONENT, "wasip2")])
def test_a_module_is_pushed_as_the_wasm_working_group_has_it(content: bytes, system: str) -> None:
    push = manifests.compose(content, annotations={"a": "b"})
    config = push.config
    assert push.content == content
    assert json.loads(config) == {
        "architecture": "wasm",
        "created": "1970-01-01T00:00:00Z",
        "layerDigests": [manifests.digest_of(content)],
        "os": system,
    }
    assert json.loads(push.manifest) == {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.wasm.config.v0+json",
            "digest": manifests.digest_of(config),
            "size": len(config),
        },
        "layers": [
            {
                "mediaType": "application/wasm",
                "digest": manifests.digest_of(content),
                "size": len(content),
            }
        ],
        "annotations": {"a": "b"},
    }


def test_an_archive_is_pushed_as_wash_does() -> None:
    push = manifests.compose(archive("w:gz"), config=b'{"x":1}')
    fields = json.loads(push.manifest)
    assert push.config == b'{"x":1}'
    assert fields["config"]["mediaType"] == "application/vnd.wasmcloud.provider.archive.config"
    assert [layer["mediaType"] for layer in fields["layers"]] == [
        "application/vnd.wasmcloud.provider.archive.layer.v1+par"
    ]
    assert "annotations" not in fields


def test_the_same_artefact_always_has_the_same_digest() -> None:
    first, second = (
        manifests.compose(CORE, annotations=annotations)
        for annotations in ({"a": "1", "b": "2"}, {"b": "2", "a": "1"})
    )
    assert first == second


def test_what_is_neither_module_nor_archive_is_not_composed() -> None:
    with pytest.raises(errors.InvalidRequest, match="lattice par create"):
        manifests.compose(b"\x7fELF")


@pytest.mark.parametrize("media_type", sorted(manifests.LAYERS))
def test_every_media_type_that_is_about_is_understood(media_type: str) -> None:
    readme = descriptor("text/markdown", size=9)
    assert manifests.layer(manifest(readme, descriptor(media_type))).media_type == media_type


@pytest.mark.parametrize(
    ("layers", "text"),
    [
        ([], "found 0, among: nothing"),
        ([descriptor("application/vnd.oci.image.layer.v1.tar+gzip")], "found 0, among: applic"),
        ([descriptor(), descriptor()], "found 2"),
    ],
)
def test_an_artefact_is_one_layer(layers: list[dict[str, Any]], text: str) -> None:
    with pytest.raises(errors.InvalidRequest, match=text):
        manifests.layer(manifest(*layers))


def index(*platforms: tuple[str, str]) -> Index:
    entries = [
        descriptor(manifests.MANIFEST, size=size, platform={"architecture": machine, "os": system})
        for size, (machine, system) in enumerate(platforms)
    ]
    found = manifests.parse(json.dumps({"manifests": entries}).encode())
    assert isinstance(found, Index)
    return found


@pytest.mark.parametrize(
    ("platforms", "expected"),
    [
        ([("amd64", "linux"), ("wasm", "wasip2")], 1),
        ([("arm64", "linux"), ("amd64", "linux")], 1),
        ([("s390x", "linux")], 0),
    ],
)
def test_an_index_gives_wasm_else_this_machine_else_the_only_one(
    platforms: list[tuple[str, str]], expected: int
) -> None:
    found = manifests.chosen(index(*platforms), architecture="amd64", os="linux")
    assert found.size == expected


def test_an_index_with_nothing_for_this_machine_is_not_guessed_at() -> None:
    with pytest.raises(errors.NotFound, match="amd64-linux"):
        manifests.chosen(
            index(("arm64", "linux"), ("s390x", "linux")), architecture="amd64", os="linux"
        )


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"layers": {}}',
        b'{"layers": [{"digest": "md5:1", "size": 1}]}',
        b'{"layers": [{"digest": "sha256:x", "size": 1}]}',
        json.dumps({"layers": [descriptor(size=-1)]}).encode(),
        json.dumps({"layers": [descriptor()] * 1001}).encode(),
        b'{"schemaVersion": 1, "fsLayers": []}',
        b"[" * 100_000,
    ],
    ids=lambda content: content[:30],
)
def test_a_manifest_that_is_rubbish_is_refused(content: bytes) -> None:
    with pytest.raises(errors.InvalidRequest, match="malformed"):
        manifests.parse(content)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_manifest_or_a_typed_error(content: bytes) -> None:
    with pytest.raises(errors.InvalidRequest):
        manifests.parse(content)

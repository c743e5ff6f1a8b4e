"""What registries keep of an artefact besides its bytes: media types, manifests, indexes.

Pure: bytes in, values out, and the other way round.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lattice import archives, errors, limits

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
ACCEPTED = f"{MANIFEST}, {INDEX}, {DOCKER_MANIFEST}, {DOCKER_INDEX}"

WASM_LAYER = "application/wasm"
WASM_CONFIG = "application/vnd.wasm.config.v0+json"
ARCHIVE_LAYER = "application/vnd.wasmcloud.provider.archive.layer.v1+par"
ARCHIVE_CONFIG = "application/vnd.wasmcloud.provider.archive.config"

LAYERS = frozenset(
    {
        WASM_LAYER,
        ARCHIVE_LAYER,
        # What wash, wasm-to-oci and oras have written over the years.
        "application/vnd.module.wasm.content.layer.v1+wasm",
        "application/vnd.wasm.content.layer.v1+wasm",
        "application/vnd.oci.image.layer.v1.tar",
    }
)
"""Media types of a layer that is an actor or a provider."""

MANIFEST_BYTES_MAX = 4 * limits.MIB
"""What the distribution specification has registries accept at least; ours are below 1 KiB."""

ENTRIES_MAX = 1_000
"""Layers of a manifest, manifests of an index."""

CREATED = "1970-01-01T00:00:00Z"
"""The same for everybody, so that the same file has the same digest wherever it is pushed."""


class _Wire(BaseModel):
    model_config = ConfigDict(defer_build=True, extra="ignore", frozen=True)


class Platform(_Wire):
    architecture: str = ""
    os: str = ""


class Descriptor(_Wire):
    """What a manifest says of something that is elsewhere."""

    media_type: str = Field(default="", alias="mediaType")
    digest: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")
    size: int = Field(ge=0)
    platform: Platform | None = None


class Manifest(_Wire):
    """One artefact."""

    layers: Annotated[tuple[Descriptor, ...], Field(max_length=ENTRIES_MAX)]
    annotations: dict[str, str] | None = None


class Index(_Wire):
    """Several artefacts under one name, by platform."""

    manifests: Annotated[tuple[Descriptor, ...], Field(max_length=ENTRIES_MAX)]


class Kind(StrEnum):
    """What an artefact is, as its first bytes tell."""

    WASM = "wasm"
    ARCHIVE = "provider archive"


@dataclass(frozen=True, slots=True)
class Push:
    """What is to be sent for one artefact; the manifest last, as it names the others."""

    content: bytes
    config: bytes
    manifest: bytes


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def parse(content: bytes) -> Manifest | Index:
    """Read a manifest or an index.

    Raises:
        InvalidRequest: neither.
    """
    try:
        fields = json.loads(content)
        if isinstance(fields, dict) and "manifests" in fields:
            return Index.model_validate(fields)
        return Manifest.model_validate(fields)
    except (ValueError, RecursionError) as error:
        reason = "not JSON"
        if isinstance(error, ValidationError):
            first = error.errors(include_url=False, include_input=False)[0]
            reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise errors.InvalidRequest(f"the registry's manifest is malformed: {reason}") from None


def chosen(index: Index, *, architecture: str, os: str) -> Descriptor:
    """The manifest of an index for this machine: WebAssembly if there is any, else its own kind.

    Raises:
        NotFound: none is.
    """
    for descriptor in index.manifests:
        if descriptor.platform is not None and descriptor.platform.architecture == "wasm":
            return descriptor
    for descriptor in index.manifests:
        if descriptor.platform == Platform(architecture=architecture, os=os):
            return descriptor
    if len(index.manifests) == 1:
        return index.manifests[0]
    raise errors.NotFound(f"the registry's index has nothing for wasm, nor for {architecture}-{os}")


def layer(manifest: Manifest) -> Descriptor:
    """The one layer that is the artefact.

    Raises:
        InvalidRequest: none is, or several are.
    """
    found = [descriptor for descriptor in manifest.layers if descriptor.media_type in LAYERS]
    if len(found) == 1:
        return found[0]
    types = ", ".join(sorted({d.media_type[:100] for d in manifest.layers})[:5]) or "nothing"
    raise errors.InvalidRequest(
        f"want one layer that is an actor or a provider archive, found {len(found)}, among: {types}"
    )


def kind_of(content: bytes) -> Kind | None:
    """What an artefact is; None when it is neither a module nor an archive."""
    if content.startswith(b"\0asm"):
        return Kind.WASM
    return Kind.ARCHIVE if archives.is_archive(content) else None


def compose(
    content: bytes, *, config: bytes | None = None, annotations: Mapping[str, str] | None = None
) -> Push:
    """What to send for an artefact: the same for the same, byte for byte.

    Raises:
        InvalidRequest: neither a module nor a provider archive.
    """
    match kind_of(content):
        case Kind.WASM:
            layer_type, config_type = WASM_LAYER, WASM_CONFIG
            default = _encode(_wasm_config(content))
        case Kind.ARCHIVE:
            layer_type, config_type, default = ARCHIVE_LAYER, ARCHIVE_CONFIG, b"{}"
        case None:
            raise errors.InvalidRequest(
                "neither WebAssembly nor a provider archive; `lattice par create` makes one of a"
                " program"
            )
    config = default if config is None else config
    manifest: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": _descriptor(config, config_type),
        "layers": [_descriptor(content, layer_type)],
    }
    if annotations:
        manifest["annotations"] = dict(annotations)
    return Push(content, config, _encode(manifest))


def _wasm_config(content: bytes) -> dict[str, Any]:
    # Version and layer: a component's is 13 and 1, a core module's 1 and 0.
    is_component = content[6:8] == b"\1\0"
    return {
        "architecture": "wasm",
        "created": CREATED,
        "layerDigests": [digest_of(content)],
        "os": "wasip2" if is_component else "wasip1",
    }


def _descriptor(content: bytes, media_type: str) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content)}


def _encode(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()

"""References into registries: ``HOST[:PORT]/NAME[:TAG][@sha256:DIGEST]``, as docker writes them.

The registry is always named: a reference never means one registry here and another one there.
"""

import re
from dataclasses import dataclass

from lattice import errors

LATEST = "latest"

REFERENCE_CHARS_MAX = 1_000
"""Longest reference: a name of 255 characters, a tag of 128 and a digest leave room for a host."""

NAME_CHARS_MAX = 255
"""Longest name in a registry, as the distribution specification bounds it for most of them."""

DOCKER_HUB = "docker.io"

_PREFIXES = ("oci://", "https://", "http://")
"""Taken away, as wasmCloud does: they say nothing of the protocol that is spoken."""

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_REGISTRY = re.compile(rf"(?:\[[0-9a-f:]+\]|{_LABEL}(?:\.{_LABEL})*)(?::[0-9]{{1,5}})?")
_NAME = re.compile(
    r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*"
)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """An artefact in a registry; a digest decides where there is a tag as well."""

    registry: str
    """Host, and port if it is not the usual one."""
    name: str
    tag: str | None = None
    digest: str | None = None
    """``sha256:`` and 64 hex digits, of the manifest."""

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.registry}/{self.name}{tag}{digest}"

    @property
    def target(self) -> str:
        """What the registry is asked for: the digest, else the tag."""
        return self.digest or self.tag or LATEST

    @property
    def is_latest(self) -> bool:
        """Whether it means whatever was pushed last, said or unsaid."""
        return self.digest is None and self.tag in {None, LATEST}


def parse(text: str) -> Reference:
    """Read a reference; capital letters in the registry's name and the artefact's are lowered.

    Raises:
        InvalidRequest: not one.
    """
    rest = text
    for prefix in _PREFIXES:
        rest = rest.removeprefix(prefix)
    rest, at, digest = rest.partition("@")
    registry, _, path = rest.partition("/")
    name, colon, tag = path.partition(":")
    registry, name = normal_registry(registry), name.lower()
    if registry == DOCKER_HUB and name and "/" not in name:
        name = f"library/{name}"
    well_formed = (
        len(text) <= REFERENCE_CHARS_MAX
        and is_registry(registry)
        and len(name) <= NAME_CHARS_MAX
        and _NAME.fullmatch(name)
        and (not colon or _TAG.fullmatch(tag))
        and (not at or _DIGEST.fullmatch(digest))
    )
    if not well_formed:
        raise errors.InvalidRequest(
            f"{text[:200]!r} is not of the form REGISTRY/NAME:TAG or REGISTRY/NAME@sha256:DIGEST,"
            " with a registry like ghcr.io or localhost:5000"
        )
    return Reference(registry=registry, name=name, tag=tag or None, digest=digest or None)


def is_registry(text: str) -> bool:
    """Whether it can only be a registry: its name has a dot or a port, or is ``localhost``."""
    if not _REGISTRY.fullmatch(text):
        return False
    port = text.rpartition(":")[2] if not text.endswith("]") and ":" in text else ""
    return (not port or 0 < int(port) < 2**16) and (
        "." in text or ":" in text or text == "localhost"
    )


def normal_registry(text: str) -> str:
    """A registry's name as references have it, from a name or a URL, as credentials have it."""
    for prefix in _PREFIXES:
        text = text.removeprefix(prefix)
    host = text.partition("/")[0].lower()
    return DOCKER_HUB if host in {"index.docker.io", "registry-1.docker.io"} else host

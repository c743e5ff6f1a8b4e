"""What to run: a file here, or a reference that hosts fetch themselves."""

import hashlib
import re
from pathlib import Path

from lattice import artefacts, errors, limits
from lattice.cli import files, output
from lattice.cli.connection import Connection

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")

NAME_CHARS_MAX = 128
"""Longest name of an artefact."""


def is_remote(reference: str) -> bool:
    """Whether hosts can fetch it: a reference with a scheme, or one into a registry.

    The first part of a registry reference is a host name: it has a dot or a port.
    """
    if _SCHEME.match(reference):
        return True
    registry, slash, _ = reference.partition("/")
    return (
        bool(slash)
        and not registry.startswith((".", "~"))
        and ("." in registry or ":" in registry or registry == "localhost")
    )


def local_file(reference: str) -> Path | None:
    """The file here that a reference names, if it does."""
    path = files.named(reference)
    return path if files.is_file(path) else None


def artefact_name(path: Path) -> str:
    """The name under which a file goes into the artefact store."""
    return _UNSAFE.sub("-", path.stem)[:NAME_CHARS_MAX] or "artefact"


async def component(connection: Connection, reference: str) -> str:
    """An actor's reference that any host can fetch: a local file is uploaded first.

    Raises:
        NotFound: neither a file here nor a reference to something elsewhere.
        PayloadTooLarge: larger than any host would load.
        Unavailable: NATS is away, or has no JetStream.
    """
    if (path := local_file(reference)) is not None:
        return await _upload(connection, path)
    if is_remote(reference):
        return reference
    raise errors.NotFound(f"there is no file {reference}, and it is no reference to a registry")


def digested(path: Path) -> str:
    """The reference that a file here gets by being uploaded.

    Raises:
        NotFound, PayloadTooLarge, InvalidRequest: as ``files.read``.
    """
    digest = hashlib.sha256(files.read(path, limits.MODULE_BYTES_MAX)).hexdigest()
    return str(artefacts.StoredArtefact(artefact_name(path), digest))


async def _upload(connection: Connection, path: Path) -> str:
    content = files.read(path, limits.MODULE_BYTES_MAX)
    with output.busy(f"uploading {path.name}, {len(content) / limits.KIB:,.0f} KiB"):
        stored = await artefacts.upload(
            connection.bus, connection.lattice, artefact_name(path), content
        )
    return str(stored)

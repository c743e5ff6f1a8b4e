"""What to deploy: a manifest in a file, at an address or on standard input, or an app by name.

Files here that a manifest names go into the lattice's artefact store, as those of ``lattice start``
do, so that what was just built can be deployed without a registry.
"""

import asyncio
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lattice import errors, limits, manifest, names
from lattice.cli import files, output, references
from lattice.cli.connection import Connection
from lattice.manifest import Finding, Manifest, writing

STDIN = "-"

FILE_SCHEME = "file://"

DOWNLOAD_TIMEOUT_S = 10.0
"""For one silence of a server that a manifest is fetched from."""

_ADDRESS = re.compile(r"https?://", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A manifest, read and judged."""

    text: str
    """As it was written."""
    manifest: Manifest
    findings: tuple[Finding, ...]
    directory: Path | None = None
    """Where the paths in it start, when it comes from this machine."""

    @property
    def errors(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.level == "error"]

    @property
    def warnings(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.level == "warning"]

    def check(self) -> None:
        """Say what may be wrong with it, and stop at what is.

        Raises:
            InvalidRequest: it has an error; the first one.
        """
        for finding in self.warnings:
            output.note(f"warning: {spelled(finding)}")
        if found := self.errors:
            more = f" (and {len(found) - 1} more errors)" if len(found) > 1 else ""
            raise Invalid(f"{spelled(found[0])}{more}")


class Invalid(errors.InvalidRequest):
    """A manifest with errors."""

    remedy = "see all of them with: lattice app validate FILE"


async def find(text: str) -> Source | str:
    """The manifest that an argument means, or the name of the app.

    Raises:
        NotFound: it is neither.
        InvalidRequest: what is there is no manifest.
        PayloadTooLarge: too large for one.
    """
    if text == STDIN:
        content = await asyncio.to_thread(sys.stdin.buffer.read, limits.MANIFEST_BYTES_MAX + 1)
        return from_bytes(content, directory=Path.cwd())
    if _ADDRESS.match(text):
        with output.busy(f"fetching {text}"):
            return from_bytes(await asyncio.to_thread(_download, text))
    if (path := references.local_file(text)) is not None:
        return from_file(path)
    try:
        return names.parse_app(text)
    except errors.InvalidRequest:
        raise errors.NotFound(f"there is no file {text}, and no app can have that name") from None


async def find_name(text: str) -> str:
    """The name of the app that an argument means, which may be a manifest's file.

    Raises:
        NotFound, InvalidRequest, PayloadTooLarge: as ``find``.
    """
    found = await find(text)
    return found if isinstance(found, str) else found.manifest.name


def from_file(path: Path) -> Source:
    """Read a manifest's file.

    Raises:
        NotFound: there is none.
        InvalidRequest: it can't be read, or is no manifest.
        PayloadTooLarge: too large for one.
    """
    try:
        with path.open("rb") as file:
            content = file.read(limits.MANIFEST_BYTES_MAX + 1)
    except FileNotFoundError:
        raise errors.NotFound(f"there is no file {path}") from None
    except OSError as error:
        raise errors.InvalidRequest(f"can't read {path}: {error.strerror}") from None
    return from_bytes(content, directory=path.resolve().parent)


def from_bytes(content: bytes, *, directory: Path | None = None) -> Source:
    parsed = manifest.parse(content)
    return Source(
        text=content.decode(),
        manifest=parsed,
        findings=tuple(manifest.validate(parsed)),
        directory=directory,
    )


def spelled(finding: Finding) -> str:
    return f"{finding.path}: {finding.message}" if finding.path else finding.message


async def with_uploads(connection: Connection, source: Source) -> str:
    """The manifest's text with every file here that it names uploaded and named by its digest.

    Raises:
        NotFound: a ``file://`` that is relative names no file.
        PayloadTooLarge: larger than any host would load.
        Unavailable: NATS is away, or has no JetStream.
    """
    images = _local(source)
    stored = {
        image: await references.component(connection, str(path))
        for image, path in images.uploads.items()
    }
    return writing.with_images(source.text, {**images.addresses, **stored})


def with_digests(source: Source) -> str:
    """What ``with_uploads`` would give, with nothing uploaded.

    Raises:
        NotFound: as ``with_uploads``.
    """
    images = _local(source)
    stored = {image: references.digested(path) for image, path in images.uploads.items()}
    return writing.with_images(source.text, {**images.addresses, **stored})


@dataclass(frozen=True, slots=True)
class _Local:
    """Images of a manifest that say something here only."""

    uploads: Mapping[str, Path]
    addresses: Mapping[str, str]
    """``file://`` with a relative path, which is one on this machine, as ``wash`` has it."""


def _local(source: Source) -> _Local:
    uploads: dict[str, Path] = {}
    addresses: dict[str, str] = {}
    for component in source.manifest.components:
        image = component.properties.image
        if image is None or source.directory is None:
            continue
        relative = image.removeprefix(FILE_SCHEME)
        if image.startswith(FILE_SCHEME) and not relative.startswith("/"):
            path = source.directory / relative
            if not files.is_file(path):
                raise errors.NotFound(f"the manifest names {image}, but there is no file {path}")
            addresses[image] = path.resolve().as_uri()
        elif not references.is_remote(image):
            path = source.directory / files.named(image)
            if files.is_file(path):
                uploads[image] = path
    return _Local(uploads, addresses)


def _download(address: str) -> bytes:
    try:
        with urllib.request.urlopen(address, timeout=DOWNLOAD_TIMEOUT_S) as response:  # noqa: S310 - http only
            content: bytes = response.read(limits.MANIFEST_BYTES_MAX + 1)
    except urllib.error.HTTPError as error:
        with error:
            raise errors.NotFound(f"{address} answers {error.code} {error.reason}") from None
    except (OSError, ValueError) as error:
        raise errors.Unavailable(f"can't fetch {address}: {error}") from None
    return content

"""Fetched artefacts on disk, by digest, so that a host need not fetch anything twice.

Content is believed only for its digest, which is computed again whenever it is taken: a corrupt
disk, or another hand in the directory, costs a fetch and nothing more. Several hosts may share it.
"""

import asyncio
import contextlib
import hashlib
import os
from pathlib import Path

import structlog

from host.private_directory import PrivateDirectory
from lattice import errors, limits

log = structlog.get_logger()

PROGRAM_SUFFIX = ".bin"


class Shelf:
    """A directory of artefacts, bounded in bytes; the least recently used goes first."""

    def __init__(self, directory: Path, *, bytes_max: int = limits.ARTEFACT_CACHE_BYTES) -> None:
        """The directory is made when it is first written to."""
        self._directory = PrivateDirectory(directory, bytes_max=bytes_max)

    async def get(self, digest: str) -> bytes | None:
        """The content with a digest (``sha256:…``), if it is here."""
        return await asyncio.to_thread(self._get, digest)

    async def put(self, digest: str, content: bytes) -> None:
        """Keep content that has this digest, unless the disk refuses."""
        try:
            await asyncio.to_thread(self._put, digest.removeprefix("sha256:"), content, 0o600)
        except OSError as error:
            log.warning("artefact not kept", digest=digest, reason=str(error))

    async def program(self, content: bytes) -> Path:
        """A file with this content that can be run, by this user alone.

        Raises:
            Unavailable: it can't be written.
        """
        try:
            return await asyncio.to_thread(self._program, content)
        except OSError as error:
            raise errors.Unavailable(
                f"can't write a program to {self._directory.path}: {error.strerror or error}"
            ) from None

    def _get(self, digest: str) -> bytes | None:
        path = self._directory.path / digest.removeprefix("sha256:")
        try:
            content = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        if _hex(content) != digest.removeprefix("sha256:"):
            log.warning("a kept artefact is not what it was; fetching it again", path=str(path))
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        return content

    def _program(self, content: bytes) -> Path:
        name = f"{_hex(content)}{PROGRAM_SUFFIX}"
        path = self._directory.path / name
        # Before a program is taken from there, too: who may write there decides what runs.
        self._directory.claim()
        try:
            facts = path.stat()
            whole = facts.st_mode & 0o777 == 0o700 and facts.st_uid == os.geteuid()
            if whole and path.read_bytes() == content:
                os.utime(path)
                return path
        except OSError:
            pass
        return self._put(name, content, 0o700)

    def _put(self, name: str, content: bytes, mode: int) -> Path:
        self._directory.claim()
        return self._directory.write(name, content, mode=mode)


def _hex(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()

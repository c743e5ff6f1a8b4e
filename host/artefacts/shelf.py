"""Fetched artefacts on disk, by digest, so that a host need not fetch anything twice.

Content is believed only for its digest, which is computed again whenever it is taken: a corrupt
disk, or another hand in the directory, costs a fetch and nothing more. Writing is atomic, so that
several hosts may share a directory.
"""

import asyncio
import contextlib
import errno
import hashlib
import os
import tempfile
import time
from pathlib import Path

import structlog

from lattice import errors, limits

log = structlog.get_logger()

PROGRAM_SUFFIX = ".bin"

ABANDONED_S = 3_600.0
"""A file that was not finished for so long never will be: its writer was killed."""


class Shelf:
    """A directory of artefacts, bounded in bytes; the least recently used goes first."""

    def __init__(self, directory: Path, *, bytes_max: int = limits.ARTEFACT_CACHE_BYTES) -> None:
        """The directory is made when it is first written to."""
        self._directory = directory
        self._bytes_max = bytes_max

    async def get(self, digest: str) -> bytes | None:
        """The content with a digest (``sha256:…``), if it is here."""
        return await asyncio.to_thread(self._get, digest)

    async def put(self, digest: str, content: bytes) -> None:
        """Keep content that has this digest, unless the disk refuses."""
        try:
            await asyncio.to_thread(self._put, self._path(digest), content, 0o600)
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
                f"can't write a program to {self._directory}: {error.strerror or error}"
            ) from None

    def _get(self, digest: str) -> bytes | None:
        path = self._path(digest)
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
        path = self._directory / f"{_hex(content)}{PROGRAM_SUFFIX}"
        # Before a program is taken from there, too: who may write there decides what runs.
        self._claim()
        try:
            facts = path.stat()
            whole = facts.st_mode & 0o777 == 0o700 and facts.st_uid == os.geteuid()
            if whole and path.read_bytes() == content:
                os.utime(path)
                return path
        except OSError:
            pass
        self._put(path, content, 0o700)
        return path

    def _put(self, path: Path, content: bytes, mode: int) -> None:
        self._claim()
        handle, temporary = tempfile.mkstemp(dir=self._directory, prefix=".")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                os.fchmod(file.fileno(), mode)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        self._evict(path)

    def _claim(self) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = self._directory.stat()
        if facts.st_uid != os.geteuid():
            raise PermissionError(errno.EPERM, "it belongs to another user")
        if facts.st_mode & 0o077:
            self._directory.chmod(0o700)

    def _evict(self, newest: Path) -> None:
        """Make room; what was just written stays, or it would be fetched for nothing."""
        found = []
        for path in self._directory.iterdir():
            with contextlib.suppress(FileNotFoundError):
                facts = path.stat()
                found.append((facts.st_mtime_ns, facts.st_size, path))
        total = sum(size for _, size, _ in found)
        for changed_ns, size, path in sorted(found):
            if total <= self._bytes_max:
                return
            unfinished = path.name.startswith(".")
            if path != newest and (not unfinished or _age_s(changed_ns) > ABANDONED_S):
                path.unlink(missing_ok=True)
                total -= size

    def _path(self, digest: str) -> Path:
        return self._directory / digest.removeprefix("sha256:")


def _age_s(changed_ns: int) -> float:
    return time.time() - changed_ns / 1e9


def _hex(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()

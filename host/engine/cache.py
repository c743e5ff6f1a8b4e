"""Compiled modules on disk, so that a host restarts without compiling anything again.

An artefact is native code that will run unchecked in the host's process. So it is loaded only if
it carries a keyed digest (HMAC-SHA256) made with a key that lives beside it, in a directory that
belongs to this user alone; anything else is removed and compiled again. The key guards against an
artefact copied in from elsewhere and against a corrupt disk, not against this user: who can read
the key can do anything this process can.

The name of an artefact says what it was made from and for: the module's digest, the library's
version, the machine and every setting that shapes the code. Several hosts may share a directory.
"""

import contextlib
import hashlib
import hmac
import os
import secrets
from pathlib import Path

import structlog

from host.private_directory import PrivateDirectory

log = structlog.get_logger()

SUFFIX = ".cwasm"
KEY_NAME = "key"
KEY_BYTES = 32
TAG_BYTES = hashlib.sha256().digest_size


class CacheUnusableError(Exception):
    """The directory cannot be trusted or written; the text says why."""


class Cache:
    """A directory of artefacts, bounded in bytes; the least recently used goes first."""

    def __init__(self, directory: Path, *, bytes_max: int, fingerprint: str) -> None:
        """Open the directory, making it and its key if need be.

        Raises:
            CacheUnusableError: it belongs to someone else, or cannot be written.
        """
        self._directory = PrivateDirectory(directory, bytes_max=bytes_max, lasting=(KEY_NAME,))
        self._bytes_max = bytes_max
        self._suffix = f"-{hashlib.sha256(fingerprint.encode()).hexdigest()[:16]}{SUFFIX}"
        try:
            self._open()
        except OSError as error:
            raise CacheUnusableError(str(error)) from error

    def get(self, digest: str) -> bytes | None:
        """Give the artefact of a module if there is one that can be trusted."""
        path = self._path(digest)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        tag, artefact = content[:TAG_BYTES], content[TAG_BYTES:]
        if not hmac.compare_digest(tag, self._tag(path.name, artefact)):
            log.warning("cached artefact is not authentic; compiling again", path=str(path))
            self.remove(digest)
            return None
        # Its time of change is the time of its last use: what eviction goes by.
        with contextlib.suppress(OSError):
            os.utime(path)
        return artefact

    def put(self, digest: str, artefact: bytes) -> None:
        """Keep an artefact, unless the disk refuses: then only the next start is slower."""
        path = self._path(digest)
        if TAG_BYTES + len(artefact) > self._bytes_max:
            return
        try:
            if not self._directory.path.exists():
                # Somebody made room; the artefacts are gone, and the key with them.
                self._open()
            self._directory.write(path.name, self._tag(path.name, artefact) + artefact)
        except OSError as error:
            log.warning("artefact not cached", path=str(path), reason=str(error))

    def remove(self, digest: str) -> None:
        """Forget the artefact of a module."""
        with contextlib.suppress(OSError):
            self._path(digest).unlink()

    def _open(self) -> None:
        self._directory.claim()
        self._key = _key(self._directory)

    def _path(self, digest: str) -> Path:
        return self._directory.path / f"{digest}{self._suffix}"

    def _tag(self, name: str, artefact: bytes) -> bytes:
        # The name is part of it: an artefact renamed to stand for another module is a forgery.
        mac = hmac.new(self._key, name.encode() + b"\0", hashlib.sha256)
        mac.update(artefact)
        return mac.digest()


def _key(directory: PrivateDirectory) -> bytes:
    path = directory.path / KEY_NAME
    with contextlib.suppress(FileNotFoundError):
        key = path.read_bytes()
        if len(key) == KEY_BYTES and path.stat().st_uid == os.geteuid():
            return key
        # Cut short by a crash: every artefact made with it is compiled again.
        path.unlink()
    temporary = directory.write(f".{secrets.token_hex(8)}", secrets.token_bytes(KEY_BYTES))
    try:
        # A link fails where a rename would overwrite: of two hosts that start, one key wins.
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(temporary)
    finally:
        temporary.unlink()
    return path.read_bytes()

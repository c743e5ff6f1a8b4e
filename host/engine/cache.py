"""Compiled modules on disk, so that a host restarts without compiling anything again.

An artefact is native code that will run unchecked in the host's process. So it is loaded only if
it carries a keyed digest (HMAC-SHA256) made with a key that lives beside it, in a directory that
belongs to this user alone; anything else is removed and compiled again. The key guards against an
artefact copied in from elsewhere and against a corrupt disk, not against this user: who can read
the key can do anything this process can.

The name of an artefact says what it was made from and for: the module's digest, the library's
version, the machine and every setting that shapes the code. Writing is atomic, so that several
hosts may share a directory.
"""

import contextlib
import hashlib
import hmac
import os
import secrets
import tempfile
from pathlib import Path

import structlog

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
        self._directory = directory
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
            if not self._directory.exists():
                # Somebody made room; the artefacts are gone, and the key with them.
                self._open()
            _write(path, self._tag(path.name, artefact) + artefact)
            self._evict()
        except (OSError, CacheUnusableError) as error:
            log.warning("artefact not cached", path=str(path), reason=str(error))

    def remove(self, digest: str) -> None:
        """Forget the artefact of a module."""
        with contextlib.suppress(OSError):
            self._path(digest).unlink()

    def _open(self) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _claim(self._directory)
        self._key = _key(self._directory / KEY_NAME)

    def _path(self, digest: str) -> Path:
        return self._directory / f"{digest}{self._suffix}"

    def _tag(self, name: str, artefact: bytes) -> bytes:
        # The name is part of it: an artefact renamed to stand for another module is a forgery.
        mac = hmac.new(self._key, name.encode() + b"\0", hashlib.sha256)
        mac.update(artefact)
        return mac.digest()

    def _evict(self) -> None:
        found = []
        for path in self._directory.glob(f"*{SUFFIX}"):
            with contextlib.suppress(FileNotFoundError):
                facts = path.stat()
                found.append((facts.st_mtime_ns, facts.st_size, path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= self._bytes_max:
                return
            path.unlink(missing_ok=True)
            total -= size


def _claim(directory: Path) -> None:
    facts = directory.stat()
    if facts.st_uid != os.geteuid():
        raise CacheUnusableError(f"{directory} belongs to another user")
    if facts.st_mode & 0o077:
        directory.chmod(0o700)


def _key(path: Path) -> bytes:
    with contextlib.suppress(FileNotFoundError):
        key = path.read_bytes()
        if len(key) == KEY_BYTES and path.stat().st_uid == os.geteuid():
            return key
        # Cut short by a crash: every artefact made with it is compiled again.
        path.unlink()
    temporary = path.with_name(f".{secrets.token_hex(8)}")
    _write(temporary, secrets.token_bytes(KEY_BYTES))
    try:
        # A link fails where a rename would overwrite: of two hosts that start, one key wins.
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(temporary)
    finally:
        temporary.unlink()
    return path.read_bytes()


def _write(path: Path, content: bytes) -> None:
    """Write a file that is there as a whole or not at all, readable by this user alone."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise

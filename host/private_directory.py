"""A directory on disk for one user alone, bounded in bytes: what was used least lately goes first.

Writing is atomic, so that several processes may share a directory. The time of a file's last change
is that of its last use: whoever uses it touches it.
"""

import contextlib
import errno
import os
import stat
import tempfile
import time
from collections.abc import Collection
from pathlib import Path

ABANDONED_S = 3_600.0
"""A file that was not finished for so long never will be: its writer was killed."""


class PrivateDirectory:
    """Made when it is first claimed. What the disk refuses is an ``OSError``."""

    def __init__(self, path: Path, *, bytes_max: int, lasting: Collection[str] = ()) -> None:
        """``lasting``: names of files that never go."""
        self.path = path
        self._bytes_max = bytes_max
        self._lasting = lasting

    def claim(self) -> None:
        """Make sure that it is there, and that nobody else decides what is in it.

        Raises:
            PermissionError: it belongs to another user.
        """
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = self.path.stat()
        if facts.st_uid != os.geteuid():
            raise PermissionError(errno.EPERM, "it belongs to another user", str(self.path))
        if facts.st_mode & 0o077:
            self.path.chmod(0o700)

    def write(self, name: str, content: bytes, *, mode: int = 0o600) -> Path:
        """Write a file that is there as a whole or not at all, and make room for it."""
        path = self.path / name
        handle, temporary = tempfile.mkstemp(dir=self.path, prefix=".")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                os.fchmod(file.fileno(), mode)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        self._evict(path)
        return path

    def _evict(self, newest: Path) -> None:
        """Make room; what was just written stays, or it would have been for nothing."""
        found = []
        for path in self.path.iterdir():
            with contextlib.suppress(FileNotFoundError):
                facts = path.stat()
                if stat.S_ISREG(facts.st_mode):
                    found.append((facts.st_mtime_ns, facts.st_size, path))
        total = sum(size for _, size, _ in found)
        for changed_ns, size, path in sorted(found):
            if total <= self._bytes_max:
                return
            unfinished = path.name.startswith(".") and _age_s(changed_ns) <= ABANDONED_S
            if path != newest and path.name not in self._lasting and not unfinished:
                path.unlink(missing_ok=True)
                total -= size


def _age_s(changed_ns: int) -> float:
    return time.time() - changed_ns / 1e9

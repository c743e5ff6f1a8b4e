"""From a guest's path to a name in an open directory, without ever leaving where it started.

Theory of operation. The kernel is never given more than one component of a path, and never ``..``
or a symbolic link. Each component is opened relative to the directory before it, as a directory
and without following links; what turns out to be a link is read, and its text takes the
component's place. ``..`` goes back to the descriptor that it came from. So every directory in use
was reached from the start by names alone, and however the tree is changed meanwhile (by another
guest, say), nothing outside of it can be reached. ``openat2`` does the same in one system call,
but not on every kernel, and it says less about why it refuses.

Whoever uses the outcome must not follow links either: the name may have become one by then.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from host.engine.preview1 import (
    ILSEQ,
    INVAL,
    LOOP,
    NAMETOOLONG,
    NOENT,
    NOTCAPABLE,
    NOTDIR,
    WasiError,
)

PATH_BYTES_MAX = 4_096
"""Longest path; ``PATH_MAX`` of Linux."""

LINKS_MAX = 40
"""Symbolic links followed for one path, as Linux does."""

DEPTH_MAX = 64
"""Directories that a path may lead down: each is a descriptor of the process for a moment."""

_DIRECTORY = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)


@dataclass(frozen=True, slots=True)
class Place:
    """A name in an open directory; there need not be anything under it."""

    parent: int
    """Descriptor of the directory, open as long as the ``resolve`` that gave it lasts."""
    name: bytes
    """One component; ``.`` for the directory itself, never ``..``."""
    is_directory: bool
    """Whether the path ended in a way that only fits a directory: ``name/`` or ``name/.``."""

    def facts(self) -> os.stat_result:
        """Facts about what is there; of a link, the link's.

        Raises:
            WasiError: it is no directory, but the path says so.
        """
        facts = os.stat(self.name, dir_fd=self.parent, follow_symlinks=False)
        if self.is_directory and not stat.S_ISDIR(facts.st_mode):
            raise WasiError(NOTDIR)
        return facts

    def exists(self) -> bool:
        try:
            os.stat(self.name, dir_fd=self.parent, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True


def check(path: bytes) -> None:
    """Refuse what is no relative path of WASI's.

    Raises:
        WasiError: says why.
    """
    if not path:
        raise WasiError(NOENT)
    if len(path) > PATH_BYTES_MAX:
        raise WasiError(NAMETOOLONG)
    if b"\0" in path:
        raise WasiError(INVAL)
    try:
        path.decode()
    except UnicodeDecodeError:
        raise WasiError(ILSEQ) from None
    if path.startswith(b"/"):
        raise WasiError(NOTCAPABLE)


@contextmanager
def resolve(start: int, path: bytes, *, follow: bool) -> Iterator[Place]:
    """Find the directory in which a path ends, and the name that is left of it there.

    ``follow``: whether a symbolic link at the very end is followed too; one with a slash behind it
    always is.

    Raises:
        WasiError, OSError: it leads out of ``start``, or nowhere.
    """
    check(path)
    way = [start]
    try:
        yield _walk(way, path, follow)
    finally:
        for descriptor in way[1:]:
            os.close(descriptor)


def _walk(way: list[int], path: bytes, follow: bool) -> Place:
    """Go as far as the last component; ``way`` is the directories from the start to there."""
    rest, is_directory = _components(path)
    links = 0
    while rest:
        name = rest.pop()
        if name == b"..":
            if len(way) == 1:
                raise WasiError(NOTCAPABLE)
            os.close(way.pop())
            continue
        if rest:
            try:
                descriptor = os.open(name, _DIRECTORY, dir_fd=way[-1])
            except OSError as error:
                if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                    raise
                target = _link(way[-1], name)
                if target is None:
                    raise
            else:
                way.append(descriptor)
                if len(way) > DEPTH_MAX:
                    raise WasiError(NAMETOOLONG)
                continue
        else:
            target = _link(way[-1], name) if follow or is_directory else None
            if target is None:
                return Place(way[-1], name, is_directory)
        links += 1
        if links > LINKS_MAX:
            raise WasiError(LOOP)
        check(target)
        further, ends_in_directory = _components(target)
        is_directory |= ends_in_directory and not rest
        rest += further
    return Place(way[-1], b".", is_directory=True)


def _components(path: bytes) -> tuple[list[bytes], bool]:
    """A path's components, last one first; and whether it can only be a directory's."""
    components = path.split(b"/")
    return [each for each in reversed(components) if each not in (b"", b".")], components[-1] in (
        b"",
        b".",
    )


def _link(parent: int, name: bytes) -> bytes | None:
    """What a symbolic link says; None if there is nothing, or something else."""
    try:
        return os.readlink(name, dir_fd=parent)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOENT):
            return None
        raise

"""A store in a directory: one file for each object, below one directory for each container.

``ROOT/NAMESPACE/CONTAINER/OBJECT``, with names escaped (``escaping``), so that no name leads
anywhere else. A name too long for one path component is split over several; all but the last end
with a plus sign, which no other name does. Directories are walked a component at a time, and
symbolic links are not followed, whoever put them there.

An object is written to a file below ``ROOT/.uploads``, synced, and renamed: there is never half of
one. Whoever writes such a file holds a lock on it, which ends with its process: so what a crash
left behind is known, and removed by the next store that opens the directory.
"""

import asyncio
import errno
import fcntl
import heapq
import os
import secrets
import shutil
import stat
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import structlog

from lattice import errors
from lattice.aio.tasks import TaskGroup
from providers.blobstore.stores import (
    ContainerId,
    ObjectId,
    ObjectInfo,
    Page,
    Part,
    Writer,
    escaping,
    no_container,
    no_object,
    replaced,
    writing,
)

log = structlog.get_logger()

UPLOADS = ".uploads"
"""Where objects are written, and containers go to be removed; no namespace begins with a dot."""

COMPONENT_CHARS = 200
"""Longest piece of a name; file systems end at 255 bytes."""

CREATED = ".created"
"""Says in each container how old it is: a directory itself has no time that stays."""

CONTINUED = "+"
"""Ends a directory that holds the rest of longer names."""

THREADS_MAX = 4
"""File operations of one store at a time: a slow disk must not take the threads of everybody."""

RENAME_ATTEMPTS_MAX = 10
"""A directory for long names may be removed as empty just before the file is moved there."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENOMEM})
_REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})

R = TypeVar("R")


class FilesystemStore:
    """The root must be there; all else is made below it."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._threads = ThreadPoolExecutor(THREADS_MAX, thread_name_prefix="blobstore")
        self._opening = asyncio.Lock()
        self._is_open = False
        self._is_closed = False
        self._tasks = TaskGroup("blobstore copies")

    @property
    def label(self) -> str:
        return f"directory {self._root}"

    async def aclose(self) -> None:
        await self._tasks.join()
        self._is_closed = True
        self._threads.shutdown(wait=False)

    async def ping(self) -> None:
        def check() -> None:
            os.close(self._open_root())

        await self.run(check)

    async def create_container(self, container: ContainerId) -> None:
        def create() -> None:
            with self._closing(self._open_root()) as root:
                namespace = _make_directory(root, container.namespace)
            with self._closing(namespace):
                directory = _make_directory(namespace, escaping.file_name(container.name))
                with self._closing(directory):
                    _mark(directory)

        await self.run(create)

    async def container_created_at_s(self, container: ContainerId) -> float | None:
        def look() -> float | None:
            try:
                with self.container(container) as directory:
                    return _marked_at_s(directory)
            except errors.NotFound:
                return None

        return await self.run(look)

    async def containers(self, namespace: str) -> list[str]:
        def look() -> list[str]:
            try:
                with self._namespace(namespace) as directory, os.scandir(directory) as entries:
                    names = [e.name for e in entries if e.is_dir(follow_symlinks=False)]
            except (FileNotFoundError, NotADirectoryError):
                return []
            return sorted(filter(None, map(escaping.from_file_name, names)))

        return await self.run(look)

    async def delete_container(self, container: ContainerId) -> None:
        def delete() -> None:
            doomed = f"{secrets.token_hex(16)}.deleted"
            with self.uploads() as uploads:
                try:
                    with (
                        self.container(container),
                        self._namespace(container.namespace) as namespace,
                    ):
                        name = escaping.file_name(container.name)
                        os.rename(name, doomed, src_dir_fd=namespace, dst_dir_fd=uploads)
                        os.fsync(namespace)
                except (errors.NotFound, FileNotFoundError, NotADirectoryError):
                    return
            _remove(self._root / UPLOADS / doomed)

        await self.run(delete)

    async def objects(self, container: ContainerId, cursor: str | None, count: int) -> Page:
        def look() -> Page:
            with self.container(container) as directory:
                following = (
                    entry for entry in _walk(directory) if cursor is None or entry[0] > cursor
                )
                entries = heapq.nsmallest(count + 1, following)
                # One may have gone since its name was read.
                found = [
                    info
                    for name, path in entries[:count]
                    if (info := _info_at(directory, path, name)) is not None
                ]
            return Page(found, entries[count - 1][0] if len(entries) > count else None)

        return await self.run(look)

    async def info(self, object_id: ObjectId) -> ObjectInfo | None:
        def look() -> ObjectInfo | None:
            with self.container(object_id.container) as directory:
                return _info_at(directory, _path(object_id.name), object_id.name)

        return await self.run(look)

    async def read(
        self, object_id: ObjectId, start: int, size: int, *, version: str | None = None
    ) -> Part:
        def read() -> Part:
            with self.container(object_id.container) as directory:
                opened = _open_file(directory, _path(object_id.name))
            if opened is None:
                raise no_object(object_id)
            with self._closing(opened):
                info = _info(object_id.name, os.fstat(opened))
                if version not in (None, info.version):
                    raise replaced(object_id)
                # A disk may be full of zeros in between, but not of more than there are.
                left = min(size, max(info.size - start, 0))
                return Part(info, os.pread(opened, left, start) if left else b"")

        return await self.run(read)

    async def writer(self, object_id: ObjectId) -> Writer:
        def begin() -> _FileWriter:
            with self.container(object_id.container):
                return _FileWriter(self, object_id)

        return await self.run(begin)

    async def delete(self, object_id: ObjectId) -> None:
        def delete() -> None:
            *parents, name = _path(object_id.name)
            with self.container(object_id.container) as directory:
                try:
                    with _walked(directory, parents) as parent:
                        os.unlink(name, dir_fd=parent)
                        os.fsync(parent)
                except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                    return
                _prune(directory, parents)

        await self.run(delete)

    async def copy(self, source: ObjectId, target: ObjectId) -> None:
        await writing.copy(self, source, target, self._tasks)

    @contextmanager
    def container(self, container: ContainerId) -> Iterator[int]:
        """The directory of a container, opened.

        Raises:
            NotFound: there is none.
        """
        try:
            with self._namespace(container.namespace) as namespace:
                directory = _open_directory(namespace, escaping.file_name(container.name))
        except (FileNotFoundError, NotADirectoryError):
            raise no_container(container) from None
        with self._closing(directory):
            yield directory

    @contextmanager
    def uploads(self) -> Iterator[int]:
        """The directory where objects are written, opened; made if it is not there."""
        with self._closing(self._open_root()) as root:
            uploads = _make_directory(root, UPLOADS)
        with self._closing(uploads):
            yield uploads

    async def run(self, work: Callable[[], R]) -> R:
        """Do what waits for the disk in a thread; it goes on there when its caller is cancelled.

        Raises:
            Denied, ProviderError: what the operating system said, in the lattice's words.
            Unavailable: the store is closed.
        """
        if self._is_closed:
            raise errors.Unavailable(f"{self.label} is closed")
        async with self._opening:
            if not self._is_open:
                await self._in_thread(self._open)
                self._is_open = True
        return await self._in_thread(work)

    async def _in_thread(self, work: Callable[[], R]) -> R:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, work)
        except OSError as error:
            raise self._translated(error) from error

    def _translated(self, error: OSError) -> errors.LatticeError:
        reason = f"{self.label}: {error.strerror or error}"
        if error.errno in _REFUSED:
            return errors.Denied(reason)
        if error.errno in _FULL:
            return errors.ProviderError(f"{reason}; make room there")
        return errors.ProviderError(reason)

    def _open(self) -> None:
        """Make ready to write, and remove what processes that ended left behind."""
        with self.uploads() as uploads, os.scandir(uploads) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    _remove(self._root / UPLOADS / entry.name)
                elif entry.is_file(follow_symlinks=False):
                    _remove_unlocked(uploads, entry.name)

    def _open_root(self) -> int:
        try:
            # The root itself may be a link: it is the operator's.
            return os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            raise errors.ProviderError(
                f"{self.label} is not there; make it with: mkdir -p {self._root}"
            ) from None

    @contextmanager
    def _namespace(self, name: str) -> Iterator[int]:
        with self._closing(self._open_root()) as root:
            directory = _open_directory(root, name)
        with self._closing(directory):
            yield directory

    @staticmethod
    @contextmanager
    def _closing(descriptor: int) -> Iterator[int]:
        try:
            yield descriptor
        finally:
            os.close(descriptor)


class _FileWriter:
    """Made, and used, in a thread of the store; each step has the file to itself."""

    def __init__(self, store: FilesystemStore, object_id: ObjectId) -> None:
        self._store = store
        self._object_id = object_id
        # A step whose caller was cancelled goes on; the file must not be closed under it.
        self._turn = threading.Lock()
        with store.uploads() as uploads:
            self._name, self._file = _new_locked_file(uploads)
        self._is_closed = False

    async def append(self, data: bytes) -> None:
        def append() -> None:
            with self._turn:
                left = memoryview(data)
                while left:
                    left = left[os.write(self._open_file(), left) :]

        await self._store.run(append)

    async def commit(self) -> ObjectInfo:
        def commit() -> ObjectInfo:
            with self._turn:
                file = self._open_file()
                os.fsync(file)
                with self._store.container(self._object_id.container) as directory:
                    self._move(directory)
                info = _info(self._object_id.name, os.fstat(file))
                self._close()
                return info

        return await self._store.run(commit)

    async def abort(self) -> None:
        def abort() -> None:
            with self._turn:
                if self._is_closed:
                    return
                self._close()
                with self._store.uploads() as uploads, suppress(FileNotFoundError):
                    os.unlink(self._name, dir_fd=uploads)

        await self._store.run(abort)

    def _open_file(self) -> int:
        if self._is_closed:
            raise errors.Conflict("what was being written has been given up")
        return self._file

    def _close(self) -> None:
        self._is_closed = True
        os.close(self._file)

    def _move(self, directory: int) -> None:
        *parents, name = _path(self._object_id.name)
        for attempt in range(RENAME_ATTEMPTS_MAX):
            try:
                with (
                    self._store.uploads() as uploads,
                    _walked(directory, parents, make=True) as parent,
                ):
                    os.rename(self._name, name, src_dir_fd=uploads, dst_dir_fd=parent)
                    os.fsync(parent)
                    return
            except FileNotFoundError:
                if attempt + 1 == RENAME_ATTEMPTS_MAX:
                    raise no_container(self._object_id.container) from None


def _mark(directory: int) -> None:
    with suppress(FileExistsError):
        os.close(os.open(CREATED, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=directory))


def _marked_at_s(directory: int) -> float:
    try:
        return os.stat(CREATED, dir_fd=directory, follow_symlinks=False).st_mtime
    except FileNotFoundError:
        # Somebody else made this directory.
        return os.stat(directory).st_mtime


def _new_locked_file(directory: int) -> tuple[str, int]:
    while True:
        name = secrets.token_hex(16)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        file = os.open(name, flags, 0o600, dir_fd=directory)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file).st_nlink:
                return name, file
        except BlockingIOError:
            # Somebody who cleans up took it for abandoned in between.
            pass
        except BaseException:
            os.close(file)
            raise
        os.close(file)


def _remove_unlocked(directory: int, name: str) -> None:
    try:
        file = os.open(name, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=directory)
    except OSError:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(name, dir_fd=directory)
    except (BlockingIOError, FileNotFoundError):
        return
    finally:
        os.close(file)


def _remove(path: Path) -> None:
    """Remove a directory and all below it; should that fail, the next start tries again."""
    try:
        shutil.rmtree(path)
    except OSError as error:
        log.warning("a deleted container is still on the disk", path=str(path), error=str(error))


def _path(name: str) -> list[str]:
    """Directories below a container, and the file, that hold an object."""
    escaped = escaping.file_name(name)
    pieces = [escaped[at : at + COMPONENT_CHARS] for at in range(0, len(escaped), COMPONENT_CHARS)]
    return [*(piece + CONTINUED for piece in pieces[:-1]), pieces[-1]]


def _walk(directory: int) -> Iterator[tuple[str, list[str]]]:
    """Every object below a container's directory: its name, and its path."""
    pending: list[list[str]] = [[]]
    while pending:
        parents = pending.pop()
        try:
            with _walked(directory, parents) as opened, os.scandir(opened) as entries:
                for entry in entries:
                    path = [*parents, entry.name]
                    if entry.is_dir(follow_symlinks=False) and entry.name.endswith(CONTINUED):
                        pending.append(path)
                    elif entry.is_file(follow_symlinks=False) and (name := _name(path)) is not None:
                        yield name, path
        except FileNotFoundError:
            continue


def _name(path: list[str]) -> str | None:
    name = escaping.from_file_name("".join(piece.removesuffix(CONTINUED) for piece in path))
    return name if name is not None and _path(name) == path else None


@contextmanager
def _walked(directory: int, names: list[str], *, make: bool = False) -> Iterator[int]:
    """The directory that some names lead to."""
    current = os.dup(directory)
    try:
        for name in names:
            following = (_make_directory if make else _open_directory)(current, name)
            os.close(current)
            current = following
        yield current
    finally:
        os.close(current)


def _prune(directory: int, names: list[str]) -> None:
    """Remove directories for long names that hold none any more."""
    for depth in range(len(names), 0, -1):
        try:
            with _walked(directory, names[: depth - 1]) as parent:
                os.rmdir(names[depth - 1], dir_fd=parent)
        except OSError:
            return


def _make_directory(parent: int, name: str) -> int:
    with suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=parent)
        # What will be synced in it must be found after a crash.
        os.fsync(parent)
    return _open_directory(parent, name)


def _open_directory(parent: int, name: str) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(name, flags, dir_fd=parent)


def _open_file(directory: int, path: list[str]) -> int | None:
    """A regular file, opened to be read; None for anything else."""
    *parents, name = path
    # Without O_NONBLOCK a pipe that somebody put there would hold us up for ever.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        with _walked(directory, parents) as parent:
            file = os.open(name, flags, dir_fd=parent)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            return None
        raise
    if stat.S_ISREG(os.fstat(file).st_mode):
        return file
    os.close(file)
    return None


def _info_at(directory: int, path: list[str], name: str) -> ObjectInfo | None:
    *parents, last = path
    try:
        with _walked(directory, parents) as parent:
            found = os.stat(last, dir_fd=parent, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return _info(name, found) if stat.S_ISREG(found.st_mode) else None


def _info(name: str, found: os.stat_result) -> ObjectInfo:
    version = f"{found.st_mtime_ns:x}-{found.st_ino:x}-{found.st_size:x}"
    return ObjectInfo(name, found.st_size, found.st_mtime, version)

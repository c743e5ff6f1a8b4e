"""What a guest finds through WASI: descriptors, and the directories that were opened to it.

Nothing here touches the guest's memory: arguments come as values and results go back as bytes, so
that whatever may block can be done in a thread while the guest is suspended. One operation of a
call is done at a time; the lock is for the end of a call, which may come in the middle of one, and
closes nothing under its feet.

Preview 1 calls what is named after its functions, with its numbers and layouts. WASI 0.2 is the
same in other words (``wasip2_filesystem.py``), but that a guest may hold a file in several ways at
once, and reads a directory's names a few at a time.

What a guest sees of the kernel is regular files and directories: opening a device, a pipe or a
socket that lies in a directory is refused, as that could block for ever or have an effect.
"""

import fcntl
import itertools
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from host.engine import paths
from host.engine import preview1 as p1
from host.engine.preview1 import WasiError
from lattice import limits

Result = TypeVar("Result")

DESCRIPTORS_MAX = 64
"""Open descriptors of a call: a host's thousand calls share the process's limit, often 1,024."""

READ_BYTES_MAX = limits.MIB
"""Bytes one call reads at the most; a program that wants more asks again, as POSIX demands."""

WRITE_BYTES_MAX = limits.MIB
"""Bytes one call writes at the most; they are copied on the guest's stack."""

DIRECTORY_ENTRIES_MAX = 16_384
"""Names in a directory that can be listed; those of one directory are held between two calls."""

NAMES_AT_A_TIME = 64
"""Names that are read of a directory whose names are read one by one."""

FILE_BYTES_MAX = 1024 * limits.MIB
"""Size to which a guest may grow a file."""

OUTPUT_BYTES_MAX = 16 * limits.MIB
"""Output kept of a program whose output is collected instead of logged."""

STDIN, STDOUT, STDERR = 0, 1, 2

_CONSOLE_RIGHTS = {
    STDIN: p1.FD_READ | p1.FD_FILESTAT_GET | p1.POLL_FD_READWRITE,
    STDOUT: p1.FD_WRITE | p1.FD_FILESTAT_GET | p1.POLL_FD_READWRITE,
    STDERR: p1.FD_WRITE | p1.FD_FILESTAT_GET | p1.POLL_FD_READWRITE,
}

_TYPES = {
    stat.S_IFBLK: p1.BLOCK_DEVICE,
    stat.S_IFCHR: p1.CHARACTER_DEVICE,
    stat.S_IFDIR: p1.DIRECTORY,
    stat.S_IFREG: p1.REGULAR_FILE,
    stat.S_IFSOCK: p1.SOCKET_STREAM,
    stat.S_IFLNK: p1.SYMBOLIC_LINK,
}

_WHENCES = {0: os.SEEK_SET, 1: os.SEEK_CUR, 2: os.SEEK_END}
_FLAGS_OF_KERNEL = {
    p1.APPEND: os.O_APPEND,
    p1.DSYNC: os.O_DSYNC,
    p1.NONBLOCK: os.O_NONBLOCK,
    # Linux has one flag for both.
    p1.RSYNC: os.O_SYNC,
    p1.SYNC: os.O_SYNC,
}
_ADVICE_MAX = 5
_CHANGEABLE_FLAGS = p1.APPEND | p1.NONBLOCK


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """A directory of the host that a guest may use."""

    guest_path: str
    """The name under which the guest finds it."""
    host_path: Path
    writable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """All that a guest finds through WASI beside clocks and randomness."""

    arguments: tuple[bytes, ...] = ()
    environment: tuple[bytes, ...] = ()
    """``NAME=value``."""
    directories: tuple[Directory, ...] = ()
    collects_output: bool = False
    """Whether standard output and errors are kept as they are instead of logged by lines."""


NOTHING = World()
"""What an actor finds unless an operator gave it more."""


@dataclass(slots=True)
class Console:
    """Standard input, output or errors."""

    number: int
    rights: int
    inheriting: int = 0
    flags: int = 0


@dataclass(slots=True)
class Opened:
    """A file or directory of the host."""

    number: int
    """The descriptor of this process, -1 until it is needed."""
    is_directory: bool
    rights: int
    inheriting: int
    flags: int = 0
    writable: bool = False
    preopened: Directory | None = None
    holders: int = 1
    """Who closes it: the last one does."""


class Listing:
    """The names of a directory on their way to a guest, a few at a time."""

    __slots__ = ("_entries", "_inner")

    def __init__(self, directory: int) -> None:
        # Opened anew, or all of a directory's would share a place in it.
        number = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
        try:
            self._inner = os.scandir(number)
        finally:
            os.close(number)
        self._entries: Iterator[os.DirEntry[str]] = iter(self._inner)

    def read(self) -> list[tuple[bytes, int]]:
        """Give the next names and types; none at the end."""
        entries = itertools.islice(self._entries, NAMES_AT_A_TIME)
        return [(os.fsencode(entry.name), _type(entry)) for entry in entries]

    def close(self) -> None:
        self._inner.close()


class Descriptors:
    """The descriptors of one call."""

    def __init__(self, world: World) -> None:
        self._table: dict[int, Console | Opened] = {
            number: Console(number, rights) for number, rights in _CONSOLE_RIGHTS.items()
        }
        for directory in world.directories:
            rights = p1.DIRECTORY_RIGHTS
            inheriting = p1.DIRECTORY_RIGHTS | p1.FILE_RIGHTS
            if not directory.writable:
                rights &= ~p1.CHANGING_RIGHTS
                inheriting &= ~p1.CHANGING_RIGHTS
            self._table[len(self._table)] = Opened(
                -1,
                is_directory=True,
                rights=rights,
                inheriting=inheriting,
                writable=directory.writable,
                preopened=directory,
            )
        self._listed: Opened | None = None
        """The directory that was listed last; another one's listing takes its place."""
        self._names: list[tuple[bytes, int, int]] = []
        """Its names, inodes and types."""
        self._listings: set[Listing] = set()
        self._given_up: list[Opened | Listing] = []
        """What is to be closed before anything else is done."""
        self._lock = threading.Lock()
        self._closed = False
        self.may_block = bool(world.directories)
        """Whether anything but the console may be open."""

    def perform(self, operation: Callable[[], Result]) -> Result:
        """Do one operation, unless the call is over.

        Raises:
            WasiError, OSError: it failed.
        """
        with self._lock:
            if self._closed:
                raise WasiError(p1.BADF)
            self._close_given_up()
            return operation()

    def close(self) -> None:
        """Close everything once the operation that is under way is over. Safe to call twice."""
        with self._lock:
            self._closed = True
            self._given_up += self._listings
            self._close_given_up()
            self._listings.clear()
            for opened in self._table.values():
                _close(opened)
            self._table.clear()

    def _close_given_up(self) -> None:
        while self._given_up:
            _close(self._given_up.pop())

    def console(self, descriptor: int) -> int | None:
        """Which of the three standard descriptors this is, if it is one of them."""
        found = self._table.get(descriptor)
        return found.number if isinstance(found, Console) else None

    def __contains__(self, descriptor: int) -> bool:
        return descriptor in self._table

    def ready_bytes(self, descriptor: int) -> int:
        """Bytes that can be read without waiting: the rest of a file."""
        found = self._table.get(descriptor)
        if not isinstance(found, Opened) or found.is_directory:
            return 0
        return max(0, os.fstat(found.number).st_size - os.lseek(found.number, 0, os.SEEK_CUR))

    def fd_advise(self, descriptor: int, offset: int, length: int, advice: int) -> None:
        # Advice may be ignored, and is worth nothing to a call that ends in milliseconds.
        self._file(descriptor, p1.FD_ADVISE)
        if advice > _ADVICE_MAX:
            raise WasiError(p1.INVAL)
        _check_size(offset, length, p1.INVAL)

    def fd_allocate(self, descriptor: int, offset: int, length: int) -> None:
        file = self._file(descriptor, p1.FD_ALLOCATE)
        if length == 0:
            raise WasiError(p1.INVAL)
        _check_size(offset, length, p1.FBIG)
        os.posix_fallocate(file.number, offset, length)

    def fd_close(self, descriptor: int) -> None:
        found = self._get(descriptor)
        del self._table[descriptor]
        _close(found)

    def fd_datasync(self, descriptor: int) -> None:
        os.fdatasync(self._opened(descriptor, p1.FD_DATASYNC).number)

    def fd_sync(self, descriptor: int) -> None:
        os.fsync(self._opened(descriptor, p1.FD_SYNC).number)

    def fd_fdstat_get(self, descriptor: int) -> bytes:
        found = self._get(descriptor)
        kind = p1.CHARACTER_DEVICE
        if isinstance(found, Opened):
            kind = p1.DIRECTORY if found.is_directory else p1.REGULAR_FILE
        return p1.FDSTAT.pack(kind, found.flags, found.rights, found.inheriting)

    def fd_fdstat_set_flags(self, descriptor: int, flags: int) -> None:
        found = self._get(descriptor, p1.FD_FDSTAT_SET_FLAGS)
        assert isinstance(found, Opened), "the console has no such right"
        if (flags ^ found.flags) & ~_CHANGEABLE_FLAGS:
            raise WasiError(p1.NOTSUP)
        kernel = fcntl.fcntl(found.number, fcntl.F_GETFL) & ~os.O_APPEND
        fcntl.fcntl(found.number, fcntl.F_SETFL, kernel | (os.O_APPEND if flags & p1.APPEND else 0))
        found.flags = flags

    def fd_fdstat_set_rights(self, descriptor: int, rights: int, inheriting: int) -> None:
        found = self._get(descriptor)
        if rights & ~found.rights or inheriting & ~found.inheriting:
            raise WasiError(p1.NOTCAPABLE)
        found.rights, found.inheriting = rights, inheriting

    def fd_filestat_get(self, descriptor: int) -> bytes:
        found = self._get(descriptor, p1.FD_FILESTAT_GET)
        if isinstance(found, Console):
            return p1.FILESTAT.pack(0, 0, p1.CHARACTER_DEVICE, 0, 0, 0, 0, 0)
        return _filestat(os.fstat(found.number))

    def fd_filestat_set_size(self, descriptor: int, size: int) -> None:
        file = self._file(descriptor, p1.FD_FILESTAT_SET_SIZE)
        _check_size(0, size, p1.FBIG)
        os.ftruncate(file.number, size)

    def fd_filestat_set_times(self, descriptor: int, atime: int, mtime: int, flags: int) -> None:
        opened = self._opened(descriptor, p1.FD_FILESTAT_SET_TIMES)
        os.utime(opened.number, ns=_times(os.fstat(opened.number), atime, mtime, flags))

    def fd_read(self, descriptor: int, room: int) -> tuple[bytes, int]:
        content = os.read(self._file(descriptor, p1.FD_READ).number, min(room, READ_BYTES_MAX))
        return content, len(content)

    def fd_pread(self, descriptor: int, room: int, offset: int) -> tuple[bytes, int]:
        file = self._file(descriptor, p1.FD_READ | p1.FD_SEEK)
        if offset >= 1 << 63:
            raise WasiError(p1.INVAL)
        content = os.pread(file.number, min(room, READ_BYTES_MAX), offset)
        return content, len(content)

    def fd_write(self, descriptor: int, content: bytes) -> int:
        file = self._file(descriptor, p1.FD_WRITE)
        at = file.flags & p1.APPEND
        where = os.SEEK_END if at else os.SEEK_CUR
        _check_size(os.lseek(file.number, 0, where), len(content), p1.FBIG)
        return os.write(file.number, content)

    def fd_pwrite(self, descriptor: int, content: bytes, offset: int) -> int:
        file = self._file(descriptor, p1.FD_WRITE | p1.FD_SEEK)
        _check_size(offset, len(content), p1.FBIG)
        return os.pwrite(file.number, content, offset)

    def fd_prestat_get(self, descriptor: int) -> bytes:
        return p1.PRESTAT.pack(0, len(self._preopened(descriptor)))

    def fd_prestat_dir_name(self, descriptor: int, room: int) -> bytes:
        name = self._preopened(descriptor)
        if room < len(name):
            raise WasiError(p1.NAMETOOLONG)
        return name

    def fd_readdir(self, descriptor: int, room: int, cookie: int) -> tuple[bytes, int]:
        directory = self._directory(descriptor, p1.FD_READDIR)
        if cookie == 0 or directory is not self._listed:
            self._listed, self._names = directory, _names(directory.number)
        entries = bytearray()
        listed = itertools.islice(enumerate(self._names, 1), min(cookie, 1 << 31), None)
        for following, (name, inode, kind) in listed:
            entries += p1.DIRENT.pack(following, inode, len(name), kind) + name
            if len(entries) >= room:
                break
        # A full buffer says that there is more; the last name in it may be cut off.
        return bytes(entries[:room]), min(len(entries), room)

    def fd_renumber(self, source: int, target: int) -> None:
        moved, replaced = self._get(source), self._get(target)
        if source == target:
            return
        del self._table[source]
        self._table[target] = moved
        _close(replaced)

    def fd_seek(self, descriptor: int, offset: int, whence: int) -> int:
        # To find out where it is, which moves nothing, is less than to seek.
        file = self._file(descriptor, p1.FD_SEEK if offset or whence != 1 else p1.FD_TELL)
        if whence not in _WHENCES:
            raise WasiError(p1.INVAL)
        signed = offset - (1 << 64) if offset >= 1 << 63 else offset
        return os.lseek(file.number, signed, _WHENCES[whence])

    def fd_tell(self, descriptor: int) -> int:
        return os.lseek(self._file(descriptor, p1.FD_TELL).number, 0, os.SEEK_CUR)

    def path_create_directory(self, descriptor: int, path: bytes) -> None:
        start = self._directory(descriptor, p1.PATH_CREATE_DIRECTORY)
        with paths.resolve(start.number, path, follow=False) as place:
            os.mkdir(place.name, dir_fd=place.parent)

    def path_filestat_get(self, descriptor: int, flags: int, path: bytes) -> bytes:
        start = self._directory(descriptor, p1.PATH_FILESTAT_GET)
        with paths.resolve(start.number, path, follow=_follows(flags)) as place:
            return _filestat(place.facts())

    def path_filestat_set_times(
        self, descriptor: int, flags: int, path: bytes, atime: int, mtime: int, which: int
    ) -> None:
        start = self._directory(descriptor, p1.PATH_FILESTAT_SET_TIMES)
        with paths.resolve(start.number, path, follow=_follows(flags)) as place:
            times = _times(place.facts(), atime, mtime, which)
            os.utime(place.name, ns=times, dir_fd=place.parent, follow_symlinks=False)

    def path_link(
        self, source: int, flags: int, source_path: bytes, target: int, target_path: bytes
    ) -> None:
        # A link in a writable directory makes a file writable: both sides must be.
        start = self._directory(source, p1.PATH_LINK_SOURCE)
        end = self._directory(target, p1.PATH_LINK_TARGET)
        if _follows(flags):
            raise WasiError(p1.INVAL)
        with (
            paths.resolve(start.number, source_path, follow=False) as old,
            paths.resolve(end.number, target_path, follow=False) as new,
        ):
            old.facts()
            if new.is_directory and not new.exists():
                raise WasiError(p1.NOENT)
            os.link(
                old.name,
                new.name,
                src_dir_fd=old.parent,
                dst_dir_fd=new.parent,
                follow_symlinks=False,
            )

    def path_open(
        self,
        descriptor: int,
        lookup: int,
        path: bytes,
        how: int,
        rights: int,
        inheriting: int,
        flags: int,
    ) -> int:
        start = self._directory(descriptor, p1.PATH_OPEN)
        needed = p1.PATH_CREATE_FILE if how & p1.CREAT else 0
        needed |= p1.PATH_FILESTAT_SET_SIZE if how & p1.TRUNC else 0
        _require(start, needed)
        if rights & p1.FD_WRITE and not start.writable:
            raise WasiError(p1.ROFS)
        self._check_room()
        if how >= 16 or flags >= 32 or (how & p1.CREAT and how & p1.O_DIRECTORY):
            raise WasiError(p1.INVAL)
        allowed = rights & start.inheriting
        writes = bool(allowed & p1.FD_WRITE)
        kernel = _open_flags(allowed, how, flags, writes=writes)
        # With EXCL a link at the end is itself what is there already.
        follow = _follows(lookup) and not how & p1.EXCL
        with paths.resolve(start.number, path, follow=follow) as place:
            number = _open(place, kernel)
        try:
            is_directory = stat.S_ISDIR(os.fstat(number).st_mode)
            if not is_directory and not stat.S_ISREG(os.fstat(number).st_mode):
                raise WasiError(p1.ACCES)
        except BaseException:
            os.close(number)
            raise
        fitting = p1.DIRECTORY_RIGHTS if is_directory else p1.FILE_RIGHTS
        opened = Opened(
            number,
            is_directory,
            rights=allowed & fitting,
            inheriting=inheriting & start.inheriting,
            flags=flags,
            writable=start.writable,
        )
        new = next(each for each in itertools.count() if each not in self._table)
        self._table[new] = opened
        return new

    def path_readlink(self, descriptor: int, path: bytes, room: int) -> tuple[bytes, int]:
        start = self._directory(descriptor, p1.PATH_READLINK)
        with paths.resolve(start.number, path, follow=False) as place:
            target = os.readlink(place.name, dir_fd=place.parent)[:room]
        return target, len(target)

    def path_remove_directory(self, descriptor: int, path: bytes) -> None:
        start = self._directory(descriptor, p1.PATH_REMOVE_DIRECTORY)
        with paths.resolve(start.number, path, follow=False) as place:
            os.rmdir(place.name, dir_fd=place.parent)

    def path_rename(self, source: int, source_path: bytes, target: int, target_path: bytes) -> None:
        start = self._directory(source, p1.PATH_RENAME_SOURCE)
        end = self._directory(target, p1.PATH_RENAME_TARGET)
        with (
            paths.resolve(start.number, source_path, follow=False) as old,
            paths.resolve(end.number, target_path, follow=False) as new,
        ):
            facts = old.facts()
            if new.is_directory and not stat.S_ISDIR(facts.st_mode):
                raise WasiError(p1.NOTDIR)
            os.rename(old.name, new.name, src_dir_fd=old.parent, dst_dir_fd=new.parent)

    def path_symlink(self, target: bytes, descriptor: int, path: bytes) -> None:
        start = self._directory(descriptor, p1.PATH_SYMLINK)
        # Where it leads is looked at whenever it is followed; an absolute one leads nowhere here.
        paths.check(target)
        with paths.resolve(start.number, path, follow=False) as place:
            if place.is_directory:
                place.facts()
            os.symlink(target, place.name, dir_fd=place.parent)

    def path_unlink_file(self, descriptor: int, path: bytes) -> None:
        start = self._directory(descriptor, p1.PATH_UNLINK_FILE)
        with paths.resolve(start.number, path, follow=False) as place:
            if place.is_directory:
                place.facts()
            os.unlink(place.name, dir_fd=place.parent)

    def directories(self) -> list[tuple[int, Directory]]:
        """The directories given from outside, with their descriptors."""
        return [
            (number, opened.preopened)
            for number, opened in self._table.items()
            if isinstance(opened, Opened) and opened.preopened is not None
        ]

    def is_directory(self, descriptor: int) -> bool:
        found = self._table.get(descriptor)
        return isinstance(found, Opened) and found.is_directory

    def is_writable(self, descriptor: int) -> bool:
        """Whether what is open there lies where things may be changed."""
        found = self._table.get(descriptor)
        return isinstance(found, Opened) and found.writable

    def hold(self, descriptor: int) -> None:
        """Have it stay open until one more has let go of it."""
        opened = self._table[descriptor]
        assert isinstance(opened, Opened), "the console is not counted"
        opened.holders += 1

    def let_go(self, descriptor: int) -> None:
        """Want no more of it; closes nothing here and now, which might block.

        Like ``hold`` and ``end_listing`` this is called while no operation is under way.
        """
        opened = self._table.get(descriptor)
        if not isinstance(opened, Opened) or opened.preopened is not None:
            return
        opened.holders -= 1
        if not opened.holders:
            self._given_up.append(opened)
            del self._table[descriptor]

    def write_whole(self, descriptor: int, content: bytes, offset: int) -> None:
        done = 0
        while done < len(content):
            done += self.fd_pwrite(descriptor, content[done:], offset + done)

    def append(self, descriptor: int, content: bytes) -> None:
        """Write all of it where the file ends at that moment, whoever else writes there."""
        file = self._file(descriptor, p1.FD_WRITE)
        _check_size(os.fstat(file.number).st_size, len(content), p1.FBIG)
        flags = fcntl.fcntl(file.number, fcntl.F_GETFL)
        fcntl.fcntl(file.number, fcntl.F_SETFL, flags | os.O_APPEND)
        try:
            while content:
                content = content[os.write(file.number, content) :]
        finally:
            fcntl.fcntl(file.number, fcntl.F_SETFL, flags)

    def begin_listing(self, descriptor: int) -> Listing:
        directory = self._directory(descriptor, p1.FD_READDIR)
        self._check_room()
        listing = Listing(directory.number)
        self._listings.add(listing)
        return listing

    def end_listing(self, listing: Listing) -> None:
        """Want no more of it; as ``let_go``."""
        if listing in self._listings:
            self._listings.remove(listing)
            self._given_up.append(listing)

    def _check_room(self) -> None:
        if len(self._table) + len(self._listings) >= DESCRIPTORS_MAX:
            raise WasiError(p1.MFILE)

    def no_socket(self, descriptor: int, *_others: int) -> None:
        if descriptor not in self._table:
            raise WasiError(p1.BADF)
        raise WasiError(p1.NOTSOCK)

    def _get(self, descriptor: int, rights: int = 0) -> Console | Opened:
        """Find what is open there, and open it if it is a directory given from outside.

        Raises:
            WasiError: nothing is, or it may not be used for that.
        """
        found = self._table.get(descriptor)
        if found is None:
            raise WasiError(p1.BADF)
        _require(found, rights)
        if isinstance(found, Opened) and found.number < 0:
            assert found.preopened is not None
            found.number = os.open(
                found.preopened.host_path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
            )
        return found

    def _opened(self, descriptor: int, rights: int) -> Opened:
        found = self._table.get(descriptor)
        if isinstance(found, Console):
            raise WasiError(p1.INVAL)
        opened = self._get(descriptor, rights)
        assert isinstance(opened, Opened)
        return opened

    def _file(self, descriptor: int, rights: int) -> Opened:
        found = self._table.get(descriptor)
        if isinstance(found, Console):
            raise WasiError(p1.SPIPE)
        if found is not None and found.is_directory:
            raise WasiError(p1.ISDIR)
        return self._opened(descriptor, rights)

    def _directory(self, descriptor: int, rights: int) -> Opened:
        found = self._table.get(descriptor)
        if found is not None and (isinstance(found, Console) or not found.is_directory):
            raise WasiError(p1.NOTDIR)
        return self._opened(descriptor, rights)

    def _preopened(self, descriptor: int) -> bytes:
        found = self._table.get(descriptor)
        if not isinstance(found, Opened) or found.preopened is None:
            raise WasiError(p1.BADF)
        return found.preopened.guest_path.encode()


def _require(found: Console | Opened, rights: int) -> None:
    missing = rights & ~found.rights
    if not missing:
        return
    read_only = isinstance(found, Opened) and not found.writable
    raise WasiError(p1.ROFS if read_only and missing & p1.CHANGING_RIGHTS else p1.NOTCAPABLE)


def _close(opened: Console | Opened | Listing) -> None:
    if isinstance(opened, Listing):
        opened.close()
    elif isinstance(opened, Opened) and opened.number >= 0:
        os.close(opened.number)
        opened.number = -1


def _open_flags(rights: int, how: int, flags: int, *, writes: bool) -> int:
    """Say in the kernel's flags what ``path_open`` asks for."""
    reads = rights & p1.FD_READ or not writes
    kernel = (os.O_RDWR if reads else os.O_WRONLY) if writes else os.O_RDONLY
    for flag, meant in (
        (p1.CREAT, os.O_CREAT),
        (p1.O_DIRECTORY, os.O_DIRECTORY),
        (p1.EXCL, os.O_EXCL),
        (p1.TRUNC, os.O_TRUNC),
    ):
        kernel |= meant if how & flag else 0
    for flag, meant in _FLAGS_OF_KERNEL.items():
        kernel |= meant if flags & flag else 0
    return kernel


def _open(place: paths.Place, kernel: int) -> int:
    """Open what is there, if it is a file or a directory."""
    try:
        facts = os.stat(place.name, dir_fd=place.parent, follow_symlinks=False)
    except FileNotFoundError:
        if place.is_directory or not kernel & os.O_CREAT:
            raise
    else:
        kind = stat.S_IFMT(facts.st_mode)
        if kind not in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
            raise WasiError(p1.ACCES)
        if place.is_directory and kind != stat.S_IFDIR:
            raise WasiError(p1.NOTDIR)
    # What was looked at may be something else by now: it must not be followed, nor waited for.
    kernel |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
    return os.open(place.name, kernel, 0o666, dir_fd=place.parent)


def _follows(flags: int) -> bool:
    if flags & ~p1.SYMLINK_FOLLOW:
        raise WasiError(p1.INVAL)
    return bool(flags & p1.SYMLINK_FOLLOW)


def _check_size(offset: int, length: int, number: int) -> None:
    """Refuse what no file may have; numbers from a guest are unsigned and may be huge."""
    most = FILE_BYTES_MAX if number == p1.FBIG else (1 << 63) - 1
    if offset + length > most:
        raise WasiError(number)


def _filestat(facts: os.stat_result) -> bytes:
    kind = _TYPES.get(stat.S_IFMT(facts.st_mode), p1.UNKNOWN)
    times = (max(0, each) for each in (facts.st_atime_ns, facts.st_mtime_ns, facts.st_ctime_ns))
    return p1.FILESTAT.pack(facts.st_dev, facts.st_ino, kind, facts.st_nlink, facts.st_size, *times)


def _times(facts: os.stat_result, atime: int, mtime: int, which: int) -> tuple[int, int]:
    """The two times to set: given, now, or as they are."""
    both = (which & p1.ATIM and which & p1.ATIM_NOW) or (which & p1.MTIM and which & p1.MTIM_NOW)
    if both or which >= 16 or max(atime, mtime) >= 1 << 63:
        raise WasiError(p1.INVAL)
    now = time.time_ns()
    chosen = []
    for given, flag, now_flag, present in (
        (atime, p1.ATIM, p1.ATIM_NOW, facts.st_atime_ns),
        (mtime, p1.MTIM, p1.MTIM_NOW, facts.st_mtime_ns),
    ):
        chosen.append(given if which & flag else now if which & now_flag else present)
    return chosen[0], chosen[1]


def _names(directory: int) -> list[tuple[bytes, int, int]]:
    """List a directory; ``..`` is there but says nothing of the outside."""
    inode = os.fstat(directory).st_ino
    names = [(b".", inode, p1.DIRECTORY), (b"..", inode, p1.DIRECTORY)]
    with os.scandir(directory) as entries:
        for entry in itertools.islice(entries, DIRECTORY_ENTRIES_MAX + 1):
            if len(names) >= DIRECTORY_ENTRIES_MAX:
                raise WasiError(p1.OVERFLOW)
            names.append((os.fsencode(entry.name), entry.inode(), _type(entry)))
    return names


def _type(entry: os.DirEntry[str]) -> int:
    if entry.is_symlink():
        return p1.SYMBOLIC_LINK
    if entry.is_dir(follow_symlinks=False):
        return p1.DIRECTORY
    return p1.REGULAR_FILE if entry.is_file(follow_symlinks=False) else p1.UNKNOWN

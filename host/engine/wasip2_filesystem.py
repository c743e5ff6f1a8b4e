"""``wasi:filesystem`` of WASI 0.2: the directories that an operator opened, and nothing else.

What is done is what preview 1 does, over the same ``Descriptors``: here are the words that WASI 0.2
has for it. Errors are those of wasmtime where its documentation leaves the choice, so that programs
find what they were tested with: above all, a directory that may not be written to is
``not-permitted``.

Whatever may block is done in a thread while the guest is suspended. That is why streams over files
are always ready: a read or a write of one is over when it returns.
"""

import functools
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from host.engine import paths
from host.engine import preview1 as p1
from host.engine.component_guest import Abandonable, ComponentGuest, Lasting, Later, Table
from host.engine.descriptors import Descriptors, Directory, Listing
from host.engine.preview1 import ERRNOS, WasiError
from host.engine.wasip2 import (
    CHUNK_BYTES,
    CLOSED,
    BlockingInput,
    BlockingOutput,
    StreamError,
    err,
    get,
    ok,
)

log = structlog.get_logger()

TABLE = Table()
function = TABLE.put

PREOPENS, TYPES = "wasi:filesystem/preopens", "wasi:filesystem/types"
_DESCRIPTOR = "[method]descriptor."

_CODES = {
    name: code
    for code, names in {
        "access": "ACCES",
        "would-block": "AGAIN",
        "already": "ALREADY",
        "bad-descriptor": "BADF",
        "busy": "BUSY",
        "deadlock": "DEADLK",
        "quota": "DQUOT",
        "exist": "EXIST",
        "file-too-large": "FBIG",
        "illegal-byte-sequence": "ILSEQ",
        "in-progress": "INPROGRESS",
        "interrupted": "INTR",
        "invalid": "INVAL",
        "is-directory": "ISDIR",
        "loop": "LOOP",
        "too-many-links": "MLINK",
        "message-size": "MSGSIZE",
        "name-too-long": "NAMETOOLONG",
        "no-device": "NODEV",
        "no-entry": "NOENT",
        "no-lock": "NOLCK",
        # There is no word for too many open files.
        "insufficient-memory": "NOMEM MFILE NFILE",
        "insufficient-space": "NOSPC",
        "not-directory": "NOTDIR",
        "not-empty": "NOTEMPTY",
        "not-recoverable": "NOTRECOVERABLE",
        "unsupported": "NOTSUP NOSYS",
        "no-tty": "NOTTY",
        "no-such-device": "NXIO",
        "overflow": "OVERFLOW",
        "not-permitted": "PERM NOTCAPABLE",
        "pipe": "PIPE",
        "read-only": "ROFS",
        "invalid-seek": "SPIPE",
        "text-file-busy": "TXTBSY",
        "cross-device": "XDEV",
    }.items()
    for name in names.split()
}
"""WASI 0.2's words for preview 1's errors; all others are ``io``."""

_TYPES = {
    p1.BLOCK_DEVICE: "block-device",
    p1.CHARACTER_DEVICE: "character-device",
    p1.DIRECTORY: "directory",
    p1.REGULAR_FILE: "regular-file",
    p1.SOCKET_STREAM: "socket",
    p1.SYMBOLIC_LINK: "symbolic-link",
}

_OPEN_FLAGS = {
    "create": p1.CREAT,
    "directory": p1.O_DIRECTORY,
    "exclusive": p1.EXCL,
    "truncate": p1.TRUNC,
}

_SYNC_FLAGS = {
    "file-integrity-sync": p1.SYNC,
    "data-integrity-sync": p1.DSYNC,
    "requested-write-sync": p1.RSYNC,
}

_ADVICE = ("normal", "sequential", "random", "will-need", "dont-need", "no-reuse")

_ALL_RIGHTS = p1.DIRECTORY_RIGHTS | p1.FILE_RIGHTS


class Descriptor(Lasting, Abandonable):
    """A file or directory that a guest has open.

    It may stay with an instance that is kept for another call. Then a directory that was given
    from outside is the same one still, as libraries of C ask for those only once, and anything
    else is closed.
    """

    __slots__ = ("_directory", "_home", "_number", "flags")

    def __init__(
        self,
        home: Descriptors,
        number: int,
        flags: frozenset[str],
        directory: Directory | None = None,
    ) -> None:
        self._home = home
        self._number = number
        self._directory = directory
        self.flags = flags
        """``read``, ``write`` and how it is synchronised, as it was opened."""

    def number_in(self, home: Descriptors) -> int:
        """Its number among what the guest has open now.

        Raises:
            WasiError: it is closed.
        """
        if home is self._home:
            return self._number
        for number, directory in home.directories():
            if directory == self._directory:
                return number
        raise WasiError(p1.BADF)

    def abandon(self) -> None:
        self._home.let_go(self._number)


class FileInput(BlockingInput, Abandonable):
    """A file that is read through a stream."""

    __slots__ = ("_home", "_is_over", "_number", "_offset")

    def __init__(self, home: Descriptors, number: int, offset: int) -> None:
        super().__init__()
        self._home = home
        self._number = number
        self._offset = offset
        self._is_over = False

    async def fetch(self, guest: ComponentGuest, size: int) -> Any:
        if self._is_over:
            return CLOSED
        if not size:
            return ok(b"")

        def read(files: Descriptors) -> bytes:
            return files.fd_pread(self._number, min(size, CHUNK_BYTES), self._offset)[0]

        result = await _perform(guest, self._home, read)
        if result.get("ok"):
            self._offset += len(result["ok"])
            return result
        self._is_over = True
        return CLOSED if "ok" in result else _broken(guest, result["err"])

    def abandon(self) -> None:
        self._home.let_go(self._number)


class FileOutput(BlockingOutput, Abandonable):
    """A file that is written through a stream: from a place on, or always at its end."""

    __slots__ = ("_home", "_is_over", "_number", "_offset")

    def __init__(self, home: Descriptors, number: int, offset: int | None) -> None:
        self._home = home
        self._number = number
        self._offset = offset
        self._is_over = False

    def room(self) -> int | None:
        return None if self._is_over else CHUNK_BYTES

    async def store(self, guest: ComponentGuest, content: bytes) -> Any:
        offset = self._offset

        def write(files: Descriptors) -> None:
            if offset is None:
                files.append(self._number, content)
            else:
                files.write_whole(self._number, content, offset)

        result = await _perform(guest, self._home, write)
        if "err" in result:
            self._is_over = True
            return _broken(guest, result["err"])
        if offset is not None:
            self._offset = offset + len(content)
        return result

    def abandon(self) -> None:
        self._home.let_go(self._number)


class Entries(Abandonable):
    """The names of a directory that a guest reads one by one."""

    __slots__ = ("at_hand", "home", "listing")

    def __init__(self, home: Descriptors, listing: Listing) -> None:
        self.home = home
        self.listing = listing
        self.at_hand: list[tuple[bytes, int]] = []
        """Those that were read already, next one last."""

    def abandon(self) -> None:
        self.home.end_listing(self.listing)


def _broken(guest: ComponentGuest, code: str) -> Any:
    error = StreamError(f"the file can't be used: {code}", file_code=code)
    return err({"last-operation-failed": guest.own("error", error)})


def _perform(
    guest: ComponentGuest, files: Descriptors, operation: Callable[[Descriptors], Any]
) -> Awaitable[Any]:
    """Do an operation in a thread, and give its outcome as a ``result``."""
    perform = functools.partial(files.perform, functools.partial(operation, files))
    return guest.work(functools.partial(_outcome, perform))


def _at_once(guest: ComponentGuest, operation: Callable[[Descriptors], Any]) -> Any:
    """Do here and now what touches no file."""
    return _outcome(functools.partial(operation, guest.open_descriptors()))


def _outcome(perform: Callable[[], Any]) -> Any:
    try:
        return ok(perform())
    except WasiError as error:
        # That it may not be changed, for us; the kernel's own answer stays what it is.
        return err("not-permitted" if error.number == p1.ROFS else _code(error))
    except OSError as error:
        return err(_code(error))
    except Exception as error:
        log.error("operation on a file failed", exc_info=error)
        return err("io")


def _code(error: OSError | WasiError) -> str:
    return _CODES.get(ERRNOS[p1.number_of(error)], "io")


def _later(
    guest: ComponentGuest,
    operation: Callable[[Descriptors], Any],
    made: Callable[[Any], Any] | None = None,
) -> Later:
    """Do an operation while the guest is suspended; ``made`` makes what it gets of the outcome."""
    files = guest.open_descriptors()

    def finish(result: Any) -> Any:
        return result if made is None or "err" in result else ok(made(result["ok"]))

    return Later(lambda _host: _perform(guest, files, operation), finish)


Body = Callable[..., Any]


def _on_descriptor(name: str) -> Callable[[Body], Body]:
    """Make a method of descriptors of a function that takes their numbers and gives a ``Later``."""

    def make(body: Body) -> Body:
        @functools.wraps(body)
        def method(guest: ComponentGuest, descriptor: int, *arguments: Any) -> Any:
            return body(guest, get(guest, descriptor, Descriptor), *arguments)

        function(TYPES, _DESCRIPTOR + name, suspends=True)(method)
        return body

    return make


def _writes(files: Descriptors, descriptor: Descriptor) -> int:
    """Give the number of a file that may be written to.

    Raises:
        WasiError: it may not.
    """
    number = _file(files, descriptor)
    if not files.is_writable(number):
        raise WasiError(p1.ROFS)
    if "write" not in descriptor.flags:
        raise WasiError(p1.BADF)
    return number


def _file(files: Descriptors, descriptor: Descriptor) -> int:
    number = descriptor.number_in(files)
    if files.is_directory(number):
        raise WasiError(p1.BADF)
    return number


@function(PREOPENS, "get-directories")
def _directories(guest: ComponentGuest) -> list[Any]:
    files = guest.open_descriptors()
    return [
        [
            guest.own(
                "descriptor",
                Descriptor(
                    files,
                    number,
                    frozenset({"read", "write"} if directory.writable else {"read"}),
                    directory,
                ),
            ),
            directory.guest_path,
        ]
        for number, directory in files.directories()
    ]


@function(TYPES, "filesystem-error-code")
def _error_code(guest: ComponentGuest, error: int) -> str | None:
    return get(guest, error, StreamError).file_code


@_on_descriptor("read-via-stream")
def _read_via_stream(guest: ComponentGuest, descriptor: Descriptor, offset: int) -> Any:
    def hold(files: Descriptors) -> int:
        number = descriptor.number_in(files)
        if files.is_directory(number):
            raise WasiError(p1.ISDIR)
        if "read" not in descriptor.flags:
            raise WasiError(p1.BADF)
        files.hold(number)
        return number

    return _stream(
        guest, "input-stream", hold, lambda files, number: FileInput(files, number, offset)
    )


@_on_descriptor("write-via-stream")
def _write_via_stream(guest: ComponentGuest, descriptor: Descriptor, offset: int) -> Any:
    return _output(guest, descriptor, offset)


@_on_descriptor("append-via-stream")
def _append_via_stream(guest: ComponentGuest, descriptor: Descriptor) -> Any:
    return _output(guest, descriptor, None)


def _output(guest: ComponentGuest, descriptor: Descriptor, offset: int | None) -> Any:
    def hold(files: Descriptors) -> int:
        number = _writes(files, descriptor)
        files.hold(number)
        return number

    return _stream(
        guest, "output-stream", hold, lambda files, number: FileOutput(files, number, offset)
    )


def _stream(
    guest: ComponentGuest,
    kind: str,
    hold: Callable[[Descriptors], int],
    make: Callable[[Descriptors, int], Any],
) -> Any:
    """Make a stream over a file; nothing of this blocks."""
    result = _at_once(guest, hold)
    if "err" in result:
        return result
    return ok(guest.own(kind, make(guest.open_descriptors(), result["ok"])))


@_on_descriptor("advise")
def _advise(
    guest: ComponentGuest, descriptor: Descriptor, offset: int, length: int, advice: str
) -> Any:
    return _later(
        guest,
        lambda files: files.fd_advise(
            _file(files, descriptor), offset, length, _ADVICE.index(advice)
        ),
    )


@_on_descriptor("sync-data")
def _sync_data(guest: ComponentGuest, descriptor: Descriptor) -> Any:
    return _later(guest, lambda files: files.fd_datasync(descriptor.number_in(files)))


@_on_descriptor("sync")
def _sync(guest: ComponentGuest, descriptor: Descriptor) -> Any:
    return _later(guest, lambda files: files.fd_sync(descriptor.number_in(files)))


@_on_descriptor("get-flags")
def _get_flags(guest: ComponentGuest, descriptor: Descriptor) -> Any:
    def flags(files: Descriptors) -> list[str]:
        number = descriptor.number_in(files)
        if not files.is_directory(number):
            return sorted(descriptor.flags)
        changes = ["mutate-directory"] if files.is_writable(number) else []
        return sorted(descriptor.flags - {"write"}) + changes

    return _at_once(guest, flags)


@_on_descriptor("get-type")
def _get_type(guest: ComponentGuest, descriptor: Descriptor) -> Any:
    # Nothing else can be opened.
    return _at_once(
        guest,
        lambda files: (
            "directory" if files.is_directory(descriptor.number_in(files)) else "regular-file"
        ),
    )


@_on_descriptor("set-size")
def _set_size(guest: ComponentGuest, descriptor: Descriptor, size: int) -> Any:
    return _later(guest, lambda files: files.fd_filestat_set_size(_file(files, descriptor), size))


@_on_descriptor("set-times")
def _set_times(guest: ComponentGuest, descriptor: Descriptor, access: Any, change: Any) -> Any:
    return _later(
        guest,
        lambda files: files.fd_filestat_set_times(
            descriptor.number_in(files), *_times(access, change)
        ),
    )


def _times(access: dict[str, Any], change: dict[str, Any]) -> tuple[int, int, int]:
    """Say in preview 1's numbers which times are set.

    Raises:
        WasiError: a time is further away than the kernel knows.
    """
    times, flags = [], 0
    for given, flag, now_flag in (
        (access, p1.ATIM, p1.ATIM_NOW),
        (change, p1.MTIM, p1.MTIM_NOW),
    ):
        time_ns = 0
        if "now" in given:
            flags |= now_flag
        elif "timestamp" in given:
            flags |= flag
            moment = given["timestamp"]
            time_ns = moment["seconds"] * 10**9 + moment["nanoseconds"]
            if time_ns >= 1 << 63:
                raise WasiError(p1.OVERFLOW)
        times.append(time_ns)
    return times[0], times[1], flags


@_on_descriptor("read")
def _read(guest: ComponentGuest, descriptor: Descriptor, length: int, offset: int) -> Any:
    def read(files: Descriptors) -> Any:
        number = _file(files, descriptor)
        if "read" not in descriptor.flags:
            raise WasiError(p1.BADF)
        content, _ = files.fd_pread(number, min(length, CHUNK_BYTES), offset)
        return [content, not content]

    return _later(guest, read)


@_on_descriptor("write")
def _write(guest: ComponentGuest, descriptor: Descriptor, content: bytes, offset: int) -> Any:
    return _later(guest, lambda files: files.fd_pwrite(_writes(files, descriptor), content, offset))


@_on_descriptor("read-directory")
def _read_directory(guest: ComponentGuest, descriptor: Descriptor) -> Any:
    files = guest.open_descriptors()
    return _later(
        guest,
        lambda files: files.begin_listing(descriptor.number_in(files)),
        lambda listing: guest.own("directory-entry-stream", Entries(files, listing)),
    )


@function(TYPES, "[method]directory-entry-stream.read-directory-entry", suspends=True)
def _read_directory_entry(guest: ComponentGuest, stream: int) -> Any:
    entries = get(guest, stream, Entries)
    if entries.at_hand:
        return _entry(entries)

    def finish(result: Any) -> Any:
        if "err" in result:
            return result
        entries.at_hand = result["ok"][::-1]
        return _entry(entries)

    return Later(
        lambda _host: _perform(guest, entries.home, lambda _files: entries.listing.read()), finish
    )


def _entry(entries: Entries) -> Any:
    if not entries.at_hand:
        return ok(None)
    name, kind = entries.at_hand.pop()
    try:
        return ok({"type": _TYPES.get(kind, "unknown"), "name": name.decode()})
    except UnicodeDecodeError:
        return err("illegal-byte-sequence")


@_on_descriptor("create-directory-at")
def _create_directory(guest: ComponentGuest, descriptor: Descriptor, path: str) -> Any:
    return _later(
        guest,
        lambda files: files.path_create_directory(descriptor.number_in(files), path.encode()),
    )


@_on_descriptor("stat")
def _stat(guest: ComponentGuest, descriptor: Descriptor) -> Any:
    return _later(guest, lambda files: files.fd_filestat_get(descriptor.number_in(files)), _facts)


@_on_descriptor("stat-at")
def _stat_at(guest: ComponentGuest, descriptor: Descriptor, flags: list[str], path: str) -> Any:
    return _later(guest, _facts_of(descriptor, flags, path), _facts)


def _facts_of(
    descriptor: Descriptor, flags: list[str], path: str
) -> Callable[[Descriptors], bytes]:
    return lambda files: files.path_filestat_get(
        descriptor.number_in(files), _lookup(flags), path.encode()
    )


def _lookup(flags: list[str]) -> int:
    return p1.SYMLINK_FOLLOW if "symlink-follow" in flags else 0


def _facts(filestat: bytes) -> dict[str, Any]:
    _, _, kind, links, size, *times_ns = p1.FILESTAT.unpack(filestat)
    accessed, modified, changed = (
        {"seconds": each // 10**9, "nanoseconds": each % 10**9} for each in times_ns
    )
    return {
        "type": _TYPES.get(kind, "unknown"),
        "link-count": links,
        "size": size,
        "data-access-timestamp": accessed,
        "data-modification-timestamp": modified,
        "status-change-timestamp": changed,
    }


@_on_descriptor("set-times-at")
def _set_times_at(
    guest: ComponentGuest,
    descriptor: Descriptor,
    flags: list[str],
    path: str,
    access: Any,
    change: Any,
) -> Any:
    return _later(
        guest,
        lambda files: files.path_filestat_set_times(
            descriptor.number_in(files), _lookup(flags), path.encode(), *_times(access, change)
        ),
    )


@_on_descriptor("link-at")
def _link_at(
    guest: ComponentGuest,
    descriptor: Descriptor,
    flags: list[str],
    path: str,
    target: int,
    target_path: str,
) -> Any:
    to = get(guest, target, Descriptor)
    return _later(
        guest,
        lambda files: files.path_link(
            descriptor.number_in(files),
            _lookup(flags),
            path.encode(),
            to.number_in(files),
            target_path.encode(),
        ),
    )


@_on_descriptor("open-at")
def _open_at(
    guest: ComponentGuest,
    descriptor: Descriptor,
    lookup: list[str],
    path: str,
    how: list[str],
    flags: list[str],
) -> Any:
    files = guest.open_descriptors()
    # As wasmtime has it: what may be made or truncated may also be written to.
    writes = "write" in flags or "create" in how or "truncate" in how
    reads = "read" in flags or "write" not in flags
    opened_for = frozenset(
        {
            *(each for each in flags if each in _SYNC_FLAGS),
            *(("read",) if reads else ()),
            *(("write",) if writes else ()),
        }
    )
    rights = _ALL_RIGHTS & ~(0 if reads else p1.FD_READ) & ~(0 if writes else p1.FD_WRITE)

    def open_at(files: Descriptors) -> int:
        if "directory" in how and len(how) > 1:
            raise WasiError(p1.INVAL)
        return files.path_open(
            descriptor.number_in(files),
            _lookup(lookup),
            path.encode(),
            sum(_OPEN_FLAGS[each] for each in how),
            rights,
            _ALL_RIGHTS,
            sum(_SYNC_FLAGS.get(each, 0) for each in flags),
        )

    return _later(
        guest,
        open_at,
        lambda number: guest.own("descriptor", Descriptor(files, number, opened_for)),
    )


@_on_descriptor("readlink-at")
def _readlink_at(guest: ComponentGuest, descriptor: Descriptor, path: str) -> Any:
    def read(files: Descriptors) -> str:
        number = descriptor.number_in(files)
        target, _ = files.path_readlink(number, path.encode(), paths.PATH_BYTES_MAX)
        try:
            return target.decode()
        except UnicodeDecodeError:
            raise WasiError(p1.ILSEQ) from None

    return _later(guest, read)


@_on_descriptor("remove-directory-at")
def _remove_directory(guest: ComponentGuest, descriptor: Descriptor, path: str) -> Any:
    return _later(
        guest,
        lambda files: files.path_remove_directory(descriptor.number_in(files), path.encode()),
    )


@_on_descriptor("rename-at")
def _rename_at(
    guest: ComponentGuest, descriptor: Descriptor, path: str, target: int, target_path: str
) -> Any:
    to = get(guest, target, Descriptor)
    return _later(
        guest,
        lambda files: files.path_rename(
            descriptor.number_in(files), path.encode(), to.number_in(files), target_path.encode()
        ),
    )


@_on_descriptor("symlink-at")
def _symlink_at(guest: ComponentGuest, descriptor: Descriptor, target: str, path: str) -> Any:
    return _later(
        guest,
        lambda files: files.path_symlink(
            target.encode(), descriptor.number_in(files), path.encode()
        ),
    )


@_on_descriptor("unlink-file-at")
def _unlink_file(guest: ComponentGuest, descriptor: Descriptor, path: str) -> Any:
    return _later(
        guest, lambda files: files.path_unlink_file(descriptor.number_in(files), path.encode())
    )


@_on_descriptor("is-same-object")
def _is_same_object(guest: ComponentGuest, descriptor: Descriptor, other: int) -> Any:
    another = get(guest, other, Descriptor)

    def is_same(files: Descriptors) -> bool:
        one, two = (
            files.fd_filestat_get(each.number_in(files))[:_IDENTITY_BYTES]
            for each in (descriptor, another)
        )
        return one == two

    files = guest.open_descriptors()
    # It can't say that it failed; what is closed is not the same as anything.
    return Later(
        lambda _host: _perform(guest, files, is_same), lambda result: result.get("ok", False)
    )


@_on_descriptor("metadata-hash")
def _metadata_hash(guest: ComponentGuest, descriptor: Descriptor) -> Any:
    return _later(guest, lambda files: files.fd_filestat_get(descriptor.number_in(files)), _hash)


@_on_descriptor("metadata-hash-at")
def _metadata_hash_at(
    guest: ComponentGuest, descriptor: Descriptor, flags: list[str], path: str
) -> Any:
    return _later(guest, _facts_of(descriptor, flags, path), _hash)


_IDENTITY_BYTES = 16
"""The device and the inode, which begin what is known of a file."""


def _hash(filestat: bytes) -> dict[str, int]:
    """As wasmtime has it, of what stays the same: libraries of C make inodes of this."""
    digest = hashlib.blake2b(filestat[:_IDENTITY_BYTES], digest_size=16).digest()
    return {
        "lower": int.from_bytes(digest[:8], "little"),
        "upper": int.from_bytes(digest[8:], "little"),
    }

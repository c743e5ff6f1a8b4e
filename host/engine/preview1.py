"""Numbers and layouts of WASI preview 1, and how the kernel's errors are said in it.

Source: https://github.com/WebAssembly/WASI/blob/main/legacy/preview1/docs.md.
"""

import errno
import struct

_ERRNOS = """
SUCCESS 2BIG ACCES ADDRINUSE ADDRNOTAVAIL AFNOSUPPORT AGAIN ALREADY BADF BADMSG BUSY CANCELED
CHILD CONNABORTED CONNREFUSED CONNRESET DEADLK DESTADDRREQ DOM DQUOT EXIST FAULT FBIG HOSTUNREACH
IDRM ILSEQ INPROGRESS INTR INVAL IO ISCONN ISDIR LOOP MFILE MLINK MSGSIZE MULTIHOP NAMETOOLONG
NETDOWN NETRESET NETUNREACH NFILE NOBUFS NODEV NOENT NOEXEC NOLCK NOLINK NOMEM NOMSG NOPROTOOPT
NOSPC NOSYS NOTCONN NOTDIR NOTEMPTY NOTRECOVERABLE NOTSOCK NOTSUP NOTTY NXIO OVERFLOW OWNERDEAD
PERM PIPE PROTO PROTONOSUPPORT PROTOTYPE RANGE ROFS SPIPE SRCH STALE TIMEDOUT TXTBSY XDEV
NOTCAPABLE
"""

ERRNOS = tuple(_ERRNOS.split())
"""Names of the errors, in the order of their numbers; all but the first and last are POSIX's."""

SUCCESS, ACCES, BADF, FAULT, FBIG, ILSEQ, INVAL = 0, 2, 8, 21, 22, 25, 28
IO, ISDIR, LOOP, MFILE, NAMETOOLONG, NOENT, NOSYS = 29, 31, 32, 33, 37, 44, 52
NOTDIR, NOTSOCK, NOTSUP, OVERFLOW, ROFS, SPIPE, NOTCAPABLE = 54, 57, 58, 61, 69, 70, 76

_OF_KERNEL = {
    getattr(errno, f"E{name}"): number
    for number, name in enumerate(ERRNOS)
    if hasattr(errno, f"E{name}")
}


class WasiError(Exception):
    """A call fails with this error number."""

    def __init__(self, number: int) -> None:
        super().__init__(ERRNOS[number])
        self.number = number


def number_of(error: OSError | WasiError) -> int:
    """Say an error of ours or the kernel's in numbers of WASI."""
    if isinstance(error, WasiError):
        return error.number
    return _OF_KERNEL.get(error.errno or 0, IO)


FD_DATASYNC, FD_READ, FD_SEEK, FD_FDSTAT_SET_FLAGS = 1 << 0, 1 << 1, 1 << 2, 1 << 3
FD_SYNC, FD_TELL, FD_WRITE, FD_ADVISE, FD_ALLOCATE = 1 << 4, 1 << 5, 1 << 6, 1 << 7, 1 << 8
PATH_CREATE_DIRECTORY, PATH_CREATE_FILE, PATH_LINK_SOURCE = 1 << 9, 1 << 10, 1 << 11
PATH_LINK_TARGET, PATH_OPEN, FD_READDIR, PATH_READLINK = 1 << 12, 1 << 13, 1 << 14, 1 << 15
PATH_RENAME_SOURCE, PATH_RENAME_TARGET, PATH_FILESTAT_GET = 1 << 16, 1 << 17, 1 << 18
PATH_FILESTAT_SET_SIZE, PATH_FILESTAT_SET_TIMES, FD_FILESTAT_GET = 1 << 19, 1 << 20, 1 << 21
FD_FILESTAT_SET_SIZE, FD_FILESTAT_SET_TIMES, PATH_SYMLINK = 1 << 22, 1 << 23, 1 << 24
PATH_REMOVE_DIRECTORY, PATH_UNLINK_FILE, POLL_FD_READWRITE = 1 << 25, 1 << 26, 1 << 27
"""What a descriptor may be used for."""

FILE_RIGHTS = (
    FD_DATASYNC
    | FD_READ
    | FD_SEEK
    | FD_FDSTAT_SET_FLAGS
    | FD_SYNC
    | FD_TELL
    | FD_WRITE
    | FD_ADVISE
    | FD_ALLOCATE
    | FD_FILESTAT_GET
    | FD_FILESTAT_SET_SIZE
    | FD_FILESTAT_SET_TIMES
    | POLL_FD_READWRITE
)
"""All that makes sense for a file."""

DIRECTORY_RIGHTS = (
    FD_DATASYNC
    | FD_FDSTAT_SET_FLAGS
    | FD_SYNC
    | FD_READDIR
    | FD_FILESTAT_GET
    | FD_FILESTAT_SET_TIMES
    | PATH_CREATE_DIRECTORY
    | PATH_CREATE_FILE
    | PATH_LINK_SOURCE
    | PATH_LINK_TARGET
    | PATH_OPEN
    | PATH_READLINK
    | PATH_RENAME_SOURCE
    | PATH_RENAME_TARGET
    | PATH_FILESTAT_GET
    | PATH_FILESTAT_SET_SIZE
    | PATH_FILESTAT_SET_TIMES
    | PATH_SYMLINK
    | PATH_REMOVE_DIRECTORY
    | PATH_UNLINK_FILE
)
"""All that makes sense for a directory."""

CHANGING_RIGHTS = (
    FD_WRITE
    | FD_ALLOCATE
    | FD_FILESTAT_SET_SIZE
    | FD_FILESTAT_SET_TIMES
    | PATH_CREATE_DIRECTORY
    | PATH_CREATE_FILE
    | PATH_LINK_SOURCE
    | PATH_LINK_TARGET
    | PATH_RENAME_SOURCE
    | PATH_RENAME_TARGET
    | PATH_FILESTAT_SET_SIZE
    | PATH_FILESTAT_SET_TIMES
    | PATH_SYMLINK
    | PATH_REMOVE_DIRECTORY
    | PATH_UNLINK_FILE
)
"""Those that nothing below a read-only directory has."""

UNKNOWN, BLOCK_DEVICE, CHARACTER_DEVICE, DIRECTORY, REGULAR_FILE = range(5)
SOCKET_STREAM, SYMBOLIC_LINK = 6, 7
"""File types."""

APPEND, DSYNC, NONBLOCK, RSYNC, SYNC = 1, 2, 4, 8, 16
"""Flags of a descriptor."""

CREAT, O_DIRECTORY, EXCL, TRUNC = 1, 2, 4, 8
"""Flags of ``path_open``."""

SYMLINK_FOLLOW = 1
"""The flag of a look-up."""

ATIM, ATIM_NOW, MTIM, MTIM_NOW = 1, 2, 4, 8
"""Which times are set."""

FDSTAT = struct.Struct("<BxH4xQQ")  # type, flags, rights, rights of what is opened through it
FILESTAT = struct.Struct("<QQB7xQQQQQ")  # device, inode, type, links, size, three times in ns
PRESTAT = struct.Struct("<B3xI")  # a directory (0), length of its name
DIRENT = struct.Struct("<QQIB3x")  # next cookie, inode, length of the name, type
SUBSCRIPTION = struct.Struct("<QB7xI4xQQH6x")  # userdata, tag, clock, timeout, precision, flags
EVENT = struct.Struct("<QHB5xQH6x")  # userdata, error, type, bytes that are there, flags

"""Descriptors of a call: what each function of WASI does with files, and what it refuses."""

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from host.engine import descriptors as module
from host.engine import preview1 as p1
from host.engine.descriptors import Descriptors, Directory, World
from host.engine.preview1 import WasiError

ALL = (1 << 30) - 1
ROOT, READ_ONLY = 3, 4


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_bytes(b"0123456789")
    return tmp_path / "data"


@pytest.fixture
def table(data: Path) -> Iterator[Descriptors]:
    table = Descriptors(
        World(
            directories=(
                Directory(guest_path="/data", host_path=data, writable=True),
                Directory(guest_path="/fixed", host_path=data),
            )
        )
    )
    yield table
    table.close()


def refused(do: Callable[..., object], *arguments: object) -> int:
    """The number of the error that this ends in."""
    with pytest.raises((WasiError, OSError)) as refusal:
        do(*arguments)
    assert isinstance(refusal.value, WasiError | OSError)
    return p1.number_of(refusal.value)


def opened(table: Descriptors, path: bytes = b"file", how: int = 0, flags: int = 0) -> int:
    return table.path_open(ROOT, p1.SYMLINK_FOLLOW, path, how, ALL, ALL, flags)


def test_a_file_is_read_written_and_sought(table: Descriptors, data: Path) -> None:
    file = opened(table)
    assert table.fd_read(file, 4) == (b"0123", 4)
    assert table.fd_tell(file) == 4
    assert table.fd_seek(file, -2 % (1 << 64), 1) == 2
    assert table.fd_write(file, b"ab") == 2
    assert table.fd_pread(file, 100, 1) == (b"1ab456789", 9)
    assert table.fd_pwrite(file, b"z", 0) == 1
    assert table.fd_seek(file, 0, 2) == 10
    assert (data / "file").read_bytes() == b"z1ab456789"


def test_a_file_that_appends_writes_at_its_end(table: Descriptors, data: Path) -> None:
    file = opened(table, flags=p1.APPEND)
    table.fd_write(file, b"a")
    table.fd_fdstat_set_flags(file, 0)
    table.fd_seek(file, 0, 0)
    table.fd_write(file, b"b")
    assert (data / "file").read_bytes() == b"b123456789a"
    assert refused(table.fd_fdstat_set_flags, file, p1.SYNC) == p1.NOTSUP


def test_a_file_is_cut_and_made_room_for(table: Descriptors, data: Path) -> None:
    file = opened(table)
    table.fd_filestat_set_size(file, 3)
    assert (data / "file").read_bytes() == b"012"
    table.fd_allocate(file, 0, 20)
    assert (data / "file").stat().st_size == 20
    table.fd_sync(file)
    table.fd_datasync(file)
    table.fd_advise(file, 0, 0, 5)


@pytest.mark.parametrize("way", ["set_size", "allocate", "pwrite", "write"])
def test_a_file_grows_only_so_far(
    table: Descriptors, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(module, "FILE_BYTES_MAX", 100)
    file = opened(table)
    table.fd_seek(file, 99, 0)
    huge = (1 << 64) - 1
    asked: dict[str, tuple[Callable[..., object], list[tuple[object, ...]]]] = {
        "set_size": (table.fd_filestat_set_size, [(101,), (huge,)]),
        "allocate": (table.fd_allocate, [(50, 51), (50, huge), (huge, huge)]),
        "pwrite": (table.fd_pwrite, [(b"ab", 99), (b"ab", huge)]),
        "write": (table.fd_write, [(b"ab",)]),
    }
    do, tries = asked[way]
    for arguments in tries:
        assert refused(do, file, *arguments) == p1.FBIG


def test_reading_takes_a_piece_at_a_time(
    table: Descriptors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "READ_BYTES_MAX", 3)
    file = opened(table)
    assert table.fd_read(file, 1 << 32) == (b"012", 3)
    assert table.fd_pread(file, 1 << 32, 8) == (b"89", 2)


def test_times_are_set_as_far_as_was_asked(table: Descriptors, data: Path) -> None:
    table.path_filestat_set_times(ROOT, 0, b"file", 1_000, 2_000, p1.ATIM | p1.MTIM)
    facts = (data / "file").stat()
    assert (facts.st_atime_ns, facts.st_mtime_ns) == (1_000, 2_000)
    file = opened(table)
    table.fd_filestat_set_times(file, 3_000, 9, p1.ATIM)
    facts = (data / "file").stat()
    assert (facts.st_atime_ns, facts.st_mtime_ns) == (3_000, 2_000)
    both = p1.MTIM | p1.MTIM_NOW
    assert refused(table.fd_filestat_set_times, file, 0, 0, both) == p1.INVAL


def names(listing: bytes) -> list[bytes]:
    found = []
    while len(listing) >= p1.DIRENT.size:
        _, _, length, _ = p1.DIRENT.unpack_from(listing)
        found.append(listing[p1.DIRENT.size : p1.DIRENT.size + length])
        listing = listing[p1.DIRENT.size + length :]
    return found


def test_a_directory_is_listed_in_pieces(table: Descriptors, data: Path) -> None:
    for number in range(20):
        (data / f"f{number}").touch()
    cookie, seen = 0, []
    while True:
        listing, used = table.fd_readdir(ROOT, 100, cookie)
        whole = [name for name in names(listing) if name]
        if used == 100:
            # What did not fit is asked for again.
            whole = whole[:-1]
        seen += whole
        cookie += len(whole)
        if used < 100:
            break
    assert sorted(seen) == sorted(
        [b".", b"..", b"file", *(f"f{number}".encode() for number in range(20))]
    )


def test_a_cookie_beyond_the_end_finds_nothing(table: Descriptors) -> None:
    assert table.fd_readdir(ROOT, 100, (1 << 64) - 1) == (b"", 0)


def test_a_directory_with_too_many_names_is_not_listed(
    table: Descriptors, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DIRECTORY_ENTRIES_MAX", 4)
    (data / "second").touch()
    assert len(names(table.fd_readdir(ROOT, 1000, 0)[0])) == 4
    (data / "third").touch()
    assert refused(table.fd_readdir, ROOT, 1000, 0) == p1.OVERFLOW


def test_paths_are_made_moved_and_removed(table: Descriptors, data: Path) -> None:
    table.path_create_directory(ROOT, b"sub/")
    table.path_rename(ROOT, b"file", ROOT, b"sub/moved")
    table.path_link(ROOT, 0, b"sub/moved", ROOT, b"again")
    table.path_symlink(b"sub/moved", ROOT, b"link")
    assert table.path_readlink(ROOT, b"link", 3) == (b"sub", 3)
    assert table.fd_read(opened(table, b"link"), 2) == (b"01", 2)
    assert refused(table.path_remove_directory, ROOT, b"sub") == 55
    table.path_unlink_file(ROOT, b"sub/moved")
    table.path_remove_directory(ROOT, b"sub/")
    assert sorted(each.name for each in data.iterdir()) == ["again", "link"]
    assert refused(opened, table, b"link") == p1.NOENT


def test_nothing_can_be_changed_below_a_read_only_directory(table: Descriptors, data: Path) -> None:
    write = p1.FD_READ | p1.FD_WRITE
    (data / "sub").mkdir()
    sub = table.path_open(READ_ONLY, 0, b"sub", p1.O_DIRECTORY, p1.DIRECTORY_RIGHTS, ALL, 0)
    for directory, path in ((READ_ONLY, b"file"), (sub, b"new")):
        for change, *arguments in (
            (table.path_open, directory, 0, path, 0, write, 0, 0),
            (table.path_open, directory, 0, b"new", p1.CREAT, p1.FD_READ, 0, 0),
            (table.path_open, directory, 0, path, p1.TRUNC, p1.FD_READ, 0, 0),
            (table.path_create_directory, directory, b"d"),
            (table.path_filestat_set_times, directory, 0, path, 0, 0, p1.ATIM),
            (table.path_link, directory, 0, path, ROOT, b"x"),
            (table.path_link, ROOT, 0, b"file", directory, b"x"),
            (table.path_remove_directory, directory, b"sub"),
            (table.path_rename, directory, path, ROOT, b"x"),
            (table.path_rename, ROOT, b"file", directory, b"x"),
            (table.path_symlink, b"file", directory, b"x"),
            (table.path_unlink_file, directory, path),
            (table.fd_filestat_set_times, directory, 0, 0, p1.ATIM),
        ):
            assert refused(change, *arguments) == p1.ROFS
    file = table.path_open(READ_ONLY, 0, b"file", 0, ALL & ~p1.FD_WRITE, 0, 0)
    for use, *arguments in (
        (table.fd_write, file, b"x"),
        (table.fd_pwrite, file, b"x", 0),
        (table.fd_allocate, file, 0, 100),
        (table.fd_filestat_set_size, file, 0),
        (table.fd_filestat_set_times, file, 0, 0, p1.ATIM),
    ):
        assert refused(use, *arguments) == p1.ROFS
    assert (data / "file").read_bytes() == b"0123456789"


def test_rights_can_be_given_up_and_not_taken_back(table: Descriptors) -> None:
    file = opened(table)
    table.fd_fdstat_set_rights(file, p1.FD_READ, 0)
    assert refused(table.fd_write, file, b"x") == p1.NOTCAPABLE
    assert refused(table.fd_fdstat_set_rights, file, ALL, 0) == p1.NOTCAPABLE
    table.fd_fdstat_set_rights(ROOT, p1.DIRECTORY_RIGHTS, p1.FD_READ)
    kind, _, rights, _ = p1.FDSTAT.unpack(table.fd_fdstat_get(opened(table)))
    assert (kind, rights) == (p1.REGULAR_FILE, p1.FD_READ)


def test_descriptors_are_renumbered_and_closed(table: Descriptors) -> None:
    first, second = opened(table), opened(table)
    table.fd_read(first, 3)
    table.fd_renumber(first, second)
    assert table.fd_tell(second) == 3
    assert refused(table.fd_close, first) == p1.BADF
    assert refused(table.fd_renumber, second, first) == p1.BADF
    assert opened(table) == first, "the lowest number that is free"
    table.fd_close(1)
    assert table.console(1) is None


def test_the_preopened_directories_say_their_names(table: Descriptors) -> None:
    assert p1.PRESTAT.unpack(table.fd_prestat_get(ROOT)) == (0, 5)
    assert table.fd_prestat_dir_name(ROOT, 5) == b"/data"
    assert refused(table.fd_prestat_dir_name, ROOT, 4) == p1.NAMETOOLONG
    assert refused(table.fd_prestat_get, opened(table)) == p1.BADF


@pytest.mark.parametrize(
    ("do", "number"),
    [
        (lambda table: table.fd_seek(1, 0, 1), p1.SPIPE),
        (lambda table: table.fd_sync(1), p1.INVAL),
        (lambda table: table.fd_readdir(1, 100, 0), p1.NOTDIR),
        (lambda table: table.path_open(1, 0, b"x", 0, 0, 0, 0), p1.NOTDIR),
        (lambda table: table.fd_read(ROOT, 1), p1.ISDIR),
        (lambda table: table.no_socket(1, 0), p1.NOTSOCK),
        (lambda table: table.no_socket(77, 0), p1.BADF),
        (lambda table: table.fd_read(77, 1), p1.BADF),
        (lambda table: opened(table, b"."), p1.ISDIR),
        (lambda table: opened(table, b"file", p1.O_DIRECTORY), p1.NOTDIR),
        (lambda table: opened(table, b"file", p1.CREAT | p1.EXCL), 20),
        (lambda table: opened(table, b"nothing"), p1.NOENT),
    ],
)  # fmt: skip
def test_misuse_gets_the_number_wasi_gives_it(
    table: Descriptors, do: Callable[[Descriptors], object], number: int
) -> None:
    assert refused(do, table) == number


def test_a_pipe_in_a_directory_is_not_waited_for(table: Descriptors, data: Path) -> None:
    os.mkfifo(data / "pipe")
    assert refused(opened, table, b"pipe") == p1.ACCES


def test_the_end_of_a_call_waits_for_what_is_under_way(table: Descriptors) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> bool:
        begun.set()
        return go_on.wait(10)

    working = threading.Thread(target=lambda: table.perform(slow))
    working.start()
    assert begun.wait(10)
    closing = threading.Thread(target=table.close)
    closing.start()
    assert closing.is_alive()
    go_on.set()
    working.join()
    closing.join()
    assert refused(table.perform, lambda: opened(table)) == p1.BADF

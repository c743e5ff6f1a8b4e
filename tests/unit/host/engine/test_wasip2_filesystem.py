"""``wasi:filesystem`` as components see it: what works, what is refused, and what stays open."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from host.engine import Code, Directory, Engine, Execution, World, preview1
from host.engine.descriptors import DESCRIPTORS_MAX, FILE_BYTES_MAX, Descriptors
from host.engine.preview1 import WasiError
from host.engine.reuse import ReusePolicy
from lattice import errors
from lattice.wire import codec
from tests.support.components import guest
from tests.support.engines import idle_engine
from tests.support.host_calls import Host, execution, run, until
from tests.support.open_files import open_below


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with idle_engine(instances_max=8) as engine:
        yield engine


@pytest.fixture
async def component(engine: Engine) -> Code:
    return await engine.load(guest("files"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    data = tmp_path / "data"
    data.mkdir()
    (data / "greeting").write_text("hello")
    (data / "inner").mkdir()
    (tmp_path / "secret").write_text("secret")
    return data


def call(
    component: Code, script: str, *directories: Directory, host: Host | None = None
) -> Execution:
    world = World(directories=directories)
    payload = codec.pack([script])
    return execution(component, payload, operation="run", world=world, host=host)


async def answers(
    component: Code, script: str, *directories: Directory, host: Host | None = None
) -> list[str]:
    """What came of each line of a script."""
    told = codec.unpack(await run(call(component, script, *directories, host=host)))
    assert isinstance(told, str)
    return told.split("\n")


def writable(path: Path) -> Directory:
    return Directory(guest_path="/data", host_path=path, writable=True)


def readable(path: Path) -> Directory:
    return Directory(guest_path="/data", host_path=path)


async def outcomes(component: Code, data: Path, *steps: str) -> list[str]:
    """What came of each step in a writable directory, which is ``0``."""
    return (await answers(component, "\n".join(("directories", *steps)), writable(data)))[1:]


def names(directory: Path) -> list[str]:
    return sorted(each.name for each in directory.iterdir())


async def test_without_a_directory_there_is_none(component: Code) -> None:
    assert await answers(component, "directories\nstd-read /data/greeting") == [
        "",
        "error NotFound Some(44)",
    ]


async def test_directories_have_their_names(component: Code, data: Path) -> None:
    two = (readable(data), Directory(guest_path="/tmp", host_path=data / "inner"))
    assert await answers(component, "directories", *two) == ["/data /tmp"]


async def test_a_program_uses_files_through_its_own_library(component: Code, data: Path) -> None:
    told = await outcomes(
        component,
        data,
        "std-read /data/greeting",
        "std-write /data/new first",
        "std-append /data/new second",
        "std-seek /data/new 5 S",
        "std-read /data/new",
        "std-facts /data/new",
        "std-make-directories /data/inner/a/b",
        "std-rename /data/new /data/inner/a/b/moved",
        "std-list /data/inner/a/b",
        "std-list /data",
        "std-remove-all /data/inner",
        "std-read /data/new",
        "std-read /elsewhere",
    )
    assert told == [
        "hello",
        "ok",
        "ok",
        "irstSecond",
        "firstSecond",
        "11 false true",
        "ok",
        "ok",
        "moved",
        "greeting inner/",
        "ok",
        "error NotFound Some(44)",
        "error NotFound Some(44)",
    ]
    assert names(data) == ["greeting"]


async def test_files_are_opened_as_the_flags_say(component: Code, data: Path) -> None:
    told = await outcomes(
        component,
        data,
        "open a 0 greeting - - r",
        "read a 100 0",
        "read a 3 1",
        "read a 3 5",
        "write a 0 x",
        "open b 0 new - - rw",
        "open b 0 new - c rw",
        "write b 0 0123456789",
        "write b 3 abc",
        "read b 100 0",
        "open c 0 new - cx rw",
        "open c 0 new - t w",
        "read c 1 0",
        "write c 2 x",
        "read b 100 0",
        "open d 0 inner - d r",
        "open d 0 greeting - d r",
        "open d 0 inner - dc r",
        "open d 0 inner - dt r",
        "open d 0 inner - - w",
        "open e 0 greeting - - -",
        "read e 5 0",
        "open s 0 synced - c wsyq",
        "write s 0 x",
        "flags s",
        "flags a",
        "flags b",
        "flags c",
        "flags 0",
        "type a",
        "type 0",
    )
    assert told == [
        "ok",
        "hello false",
        "ell false",
        " true",
        "error bad-descriptor",
        "error no-entry",
        "ok",
        "10",
        "3",
        "012abc6789 false",
        "error exist",
        "ok",
        "error bad-descriptor",
        "1",
        "\0\0x false",
        "ok",
        "error not-directory",
        "error invalid",
        "error invalid",
        "error is-directory",
        "ok",
        "hello false",
        "ok",
        "1",
        "DescriptorFlags(WRITE | FILE_INTEGRITY_SYNC | DATA_INTEGRITY_SYNC | REQUESTED_WRITE_SYNC)",
        "DescriptorFlags(READ)",
        "DescriptorFlags(READ | WRITE)",
        "DescriptorFlags(WRITE)",
        "DescriptorFlags(READ | MUTATE_DIRECTORY)",
        "DescriptorType::RegularFile",
        "DescriptorType::Directory",
    ]


async def test_streams_read_and_write_where_they_are(component: Code, data: Path) -> None:
    told = await outcomes(
        component,
        data,
        "open a 0 greeting - - rw",
        "input i a 1",
        "stream-ready i",
        "stream-read i 0",
        "stream-read i 2",
        "output o a 3",
        "stream-ready o",
        "stream-room o",
        "stream-write o LO",
        # What was written meanwhile is read: nothing is kept.
        "stream-blocking-read i 100",
        "stream-blocking-write o !",
        "stream-flush o",
        "append p a",
        "stream-write p more",
        "stream-zeroes p 2",
        "stream-blocking-write o 0",
        "read a 100 0",
        "input j a 0",
        "stream-skip j 5",
        "stream-blocking-skip j 1",
        "stream-blocking-read j 100",
        "stream-blocking-read j 100",
        "stream-skip j 100",
    )
    assert told == [
        *("ok", "ok", "true", "", "el"),
        *("ok", "true", "65536", "ok"),
        "LO",
        *("ok", "ok"),
        *("ok", "ok", "ok", "ok"),
        "helLO!0ore\0\0 false",
        *("ok", "5", "1", "0ore\0\0", "error closed", "error closed"),
    ]


async def test_streams_outlive_the_descriptor_they_came_from(component: Code, data: Path) -> None:
    told = await outcomes(
        component,
        data,
        "open a 0 greeting - - rw",
        "input i a 0",
        "append o a",
        "drop a",
        "stream-read i 5",
        "stream-write o !",
        "stream-read i 5",
        "drop i",
        "drop o",
        "list 0",
    )
    assert told[4:7] == ["hello", "ok", "!"]
    assert (data / "greeting").read_text() == "hello!"


async def test_streams_are_spliced(component: Code, data: Path) -> None:
    host = Host()
    script = """directories
open a 0 greeting - - r
open b 0 copy - c rw
input i a 0
append o b
stream-splice o i 2
stream-blocking-splice o i 100
stream-splice o i 100
read b 100 0
input j b 1
stdout-splice j 3
stdout-splice j 3
stdout-splice j 3"""
    told = await answers(component, script, writable(data), host=host)
    assert told[5:] == ["2", "3", "error closed", "hello false", "ok", "3", "1", "error closed"]
    assert host.lines == [("info", "ello")]


async def test_a_stream_that_fails_says_why_and_is_closed(component: Code, data: Path) -> None:
    told = await outcomes(
        component,
        data,
        "open a 0 greeting - - rw",
        f"output o a {FILE_BYTES_MAX}",
        "stream-write o x",
        "stream-room o",
        "stream-write o x",
        f"input i a {2**63}",
        "stream-read i 1",
        "stream-read i 1",
        "input d 0 0",
        "output d 0 0",
        "open r 0 greeting - - r",
        "output o r 0",
        "append o r",
        "open w 0 greeting - - w",
        "input i w 0",
    )
    assert told[2:5] == ["error failed file-too-large", "error closed", "error closed"]
    assert told[6:8] == ["error failed invalid", "error closed"]
    assert told[8:10] == ["error is-directory", "error bad-descriptor"]
    assert told[11:] == ["error bad-descriptor"] * 2 + ["ok", "error bad-descriptor"]
    assert (data / "greeting").read_text() == "hello"


async def test_directories_are_made_listed_and_removed(component: Code, data: Path) -> None:
    (data / "inner" / "deep").mkdir()
    (data / "link").symlink_to("greeting")
    os.mkfifo(data / "pipe")
    os.mknod(bytes(data) + b"/inner/\xff")
    told = await outcomes(
        component,
        data,
        "list 0",
        "open d 0 inner - d r",
        "list d",
        "make-directory d more",
        "make-directory d more",
        "make-directory 0 inner/more/most",
        "remove-directory 0 inner/more",
        "remove-directory 0 inner/more/most",
        "remove-directory 0 greeting",
        "open f 0 greeting - - r",
        "list f",
        "make-directory f x",
        "unlink 0 inner",
        "unlink 0 link",
        "unlink 0 link",
        "entries e 0",
        "drop e",
    )
    kinds = "greeting:RegularFile inner:Directory link:SymbolicLink pipe:Unknown"
    assert told == [
        kinds.replace(":", ":DescriptorType::"),
        "ok",
        "(illegal-byte-sequence) deep:DescriptorType::Directory",
        "ok",
        "error exist",
        "ok",
        "error not-empty",
        "ok",
        "error not-directory",
        "ok",
        "error not-directory",
        "error not-directory",
        "error is-directory",
        "ok",
        "error no-entry",
        "ok",
        "ok",
    ]


async def test_a_large_directory_is_read_a_few_names_at_a_time(component: Code, data: Path) -> None:
    for number in range(1_000):
        (data / "inner" / f"{number:03}").touch()
    # Each has its own place in it.
    told = await outcomes(
        component, data, "open d 0 inner - - r", "entries e d", "entry e", "list d", "entry e"
    )
    names = [f"{number:03}:DescriptorType::RegularFile" for number in range(1_000)]
    assert told[3].split(" ") == names
    assert told[2] != told[4]


async def test_links_and_renames(component: Code, data: Path) -> None:
    told = await outcomes(
        component,
        data,
        "open d 0 inner - d r",
        "link 0 greeting d same",
        "open a 0 greeting - - r",
        "open b d same - - r",
        "is-same a b",
        "is-same a d",
        "link 0 greeting d same",
        "link 0 greeting d other f",
        "symlink d ../greeting up",
        "readlink d up",
        "readlink d same",
        "open c 0 inner/up f - r",
        "is-same a c",
        "open c 0 inner/up - - r",
        "symlink 0 /etc/passwd absolute",
        "rename 0 greeting d moved",
        "rename 0 greeting d moved",
        "open c 0 inner/up f - r",
        "rename d moved 0 greeting",
        "rename 0 greeting 0 inner",
        "rename 0 inner 0 greeting",
        "rename 0 greeting 0 x/",
        "symlink 0 x greeting/",
        "symlink 0 x inner/",
        "symlink 0 x nothing/",
    )
    assert told == [
        *("ok", "ok", "ok", "ok", "true", "false"),
        "error exist",
        "error invalid",
        *("ok", "../greeting"),
        "error invalid",
        *("ok", "true"),
        "error loop",
        "error not-permitted",
        "ok",
        "error no-entry",
        "error no-entry",
        "ok",
        "error is-directory",
        "error not-directory",
        "error not-directory",
        "error not-directory",
        "error exist",
        "error no-entry",
    ]


async def test_facts_times_and_sizes(component: Code, data: Path) -> None:
    os.utime(data / "greeting", ns=(7_000_000_001, 8_000_000_002))
    (data / "link").symlink_to("greeting")
    told = await outcomes(
        component,
        data,
        "stat-at 0 greeting",
        "stat-at 0 link f",
        "open a 0 greeting - - rw",
        "set-times a 1.5 -",
        "stat a",
        "set-times-at 0 link - 3.999999999 f",
        "stat-at 0 greeting",
        "set-times-at 0 greeting 18446744073709551615.0 -",
        "set-size a 2",
        "set-size a 4",
        "read a 10 0",
        f"set-size a {2**64 - 1}",
        "set-size 0 1",
        "stat-at 0 nothing",
        "stat-at 0 greeting/",
        "sync a",
        "sync-data a",
        "sync 0",
        "sync-data 0",
        "advise a 0 4",
        "advise 0 0 4",
        f"advise a {2**63} {2**63}",
        "set-times a now now",
    )
    kind = "DescriptorType::RegularFile 1"
    assert told == [
        f"{kind} 5 7.1 8.2",
        f"{kind} 5 7.1 8.2",
        "ok",
        "ok",
        f"{kind} 5 1.5 8.2",
        "ok",
        f"{kind} 5 1.5 3.999999999",
        "error overflow",
        "ok",
        "ok",
        "he\0\0 false",
        "error file-too-large",
        "error bad-descriptor",
        "error no-entry",
        "error not-directory",
        *("ok",) * 5,
        "error bad-descriptor",
        "error invalid",
        "ok",
    ]
    assert (data / "greeting").stat().st_mtime > 1_700_000_000


async def test_a_hash_is_that_of_the_same_file_however_it_is_found(
    component: Code, data: Path
) -> None:
    (data / "link").symlink_to("greeting")
    told = await outcomes(
        component,
        data,
        "open a 0 greeting - - rw",
        "hash a",
        "write a 0 changed",
        "hash a",
        "hash-at 0 greeting",
        "hash-at 0 link f",
        "hash-at 0 link",
        "hash 0",
    )
    del told[2]
    same, others = set(told[1:5]), set(told[5:])
    assert len(same) == 1
    assert len(others) == 2
    assert not same & others


async def test_below_a_read_only_directory_nothing_changes(component: Code, data: Path) -> None:
    changes = (
        "open x 0 new - c r",
        "open x 0 greeting - t r",
        "open x 0 greeting - - w",
        "open x 0 greeting - - rw",
        "make-directory 0 new",
        "remove-directory 0 inner",
        "unlink 0 greeting",
        "rename 0 greeting 0 moved",
        "rename 0 greeting 1 moved",
        "rename 1 mine 0 mine",
        "link 0 greeting 0 same",
        "link 0 greeting 1 same",
        "link 1 mine 0 mine",
        "symlink 0 greeting link",
        "set-times 0 now now",
        "set-times-at 0 greeting now now",
        "set-times f now now",
        "set-size f 0",
        "write f 0 x",
        "output o f 0",
        "append o f",
        "open x d ../greeting - - w",
        "make-directory d new",
    )
    mine = data.parent / "mine"
    mine.mkdir()
    (mine / "mine").touch()
    script = "\n".join(("directories", "open f 0 greeting - - r", "open d 0 inner - d r", *changes))
    before = (data / "greeting").stat()
    own = Directory(guest_path="/mine", host_path=mine, writable=True)
    told = await answers(component, f"{script}\nflags 0\nread f 5 0", readable(data), own)
    del told[:3]
    wanted = ["error not-permitted"] * len(changes)
    assert dict(zip(changes, told, strict=False)) == dict(zip(changes, wanted, strict=True))
    assert told[-2:] == ["DescriptorFlags(READ)", "hello false"]
    after = (data / "greeting").stat()
    assert (after.st_mtime_ns, after.st_nlink, after.st_size) == (before.st_mtime_ns, 1, 5)
    assert names(data) == ["greeting", "inner"]


async def test_no_path_leads_out(component: Code, data: Path) -> None:
    (data / "out").symlink_to("../secret")
    (data / "parent").symlink_to("..")
    (data / "absolute").symlink_to("/etc/passwd")
    outside = ("../secret", "/etc/passwd", "inner/../../secret", "parent/secret", "..", "../data")
    steps = [f"open x 0 {path} f - r" for path in (*outside, "out", "absolute")]
    steps += [f"stat-at 0 {path} f" for path in (*outside, "out", "absolute")]
    steps += [f"hash-at 0 {path}" for path in outside]
    steps += [f"unlink 0 {path}" for path in outside]
    steps += [f"make-directory 0 {path}/new" for path in ("..", "parent", "inner/../..")]
    steps += [f"rename 0 greeting 0 {path}" for path in ("../stolen", "parent/stolen")]
    steps += ["link 0 ../secret 0 secret", "symlink 0 x ../link", "readlink 0 ../data/out"]
    told = await outcomes(component, data, "open d 0 inner - - r", *steps, "stat-at d ../greeting")
    wanted = ["error not-permitted"] * (len(steps) + 1)
    assert dict(zip((*steps, "d"), told[1:], strict=True)) == dict(
        zip((*steps, "d"), wanted, strict=True)
    )
    assert (data.parent / "secret").read_text() == "secret"
    assert names(data.parent) == ["data", "secret"]


async def test_a_directory_that_becomes_a_link_meanwhile_leads_nowhere(
    component: Code, data: Path
) -> None:
    """Somebody else swaps a directory for a link out, over and over."""
    (data / "inner" / "secret").write_text("mine")
    (data.parent / "outside").mkdir()
    (data.parent / "outside" / "secret").write_text("theirs")
    (data / "link").symlink_to("../outside")
    steps = ["directories"]
    for _ in range(300):
        steps += ["open a 0 inner/secret f - r", "stat-at 0 inner/secret f"]
    reading = asyncio.create_task(answers(component, "\n".join(steps), writable(data)))
    while not reading.done():
        for source, target in (("inner", "aside"), ("link", "inner"), ("inner", "link")):
            (data / source).rename(data / target)
        (data / "aside").rename(data / "inner")
        await asyncio.sleep(0)
    told = await reading
    size = f"DescriptorType::RegularFile 1 {len('mine')} "
    allowed = {"ok", "error no-entry", "error not-permitted", "error not-directory", "error loop"}
    assert all(each in allowed or each.startswith(size) for each in told[1:]), set(told)


PATHS = (
    *("greeting", "greeting/", "greeting/x", "inner", "inner/", "inner/.", ".", "..", "/", "", "a"),
    *("a/", "a/b", "link", "link/", "loop", "loop/x", "out", "out/x", "inner/../greeting", "x\0y"),
    *("n" * 300, "d/" * 100, "p" * 5_000, "inner/../../data/greeting", "full", "pipe", "dangling"),
)


def tree(root: Path) -> Path:
    (root / "inner").mkdir(parents=True)
    (root / "full").mkdir()
    (root / "full" / "file").touch()
    (root / "greeting").write_text("hello")
    for name, target in (
        ("link", "inner"),
        ("loop", "loop"),
        ("out", "../secret"),
        ("dangling", "nothing"),
    ):
        (root / name).symlink_to(target)
    os.mkfifo(root / "pipe")
    return root


async def test_what_fails_fails_as_in_preview_1(component: Code, tmp_path: Path) -> None:
    """Each operation on each path, in two trees that are the same: the same outcome."""
    one, two = tree(tmp_path / "one" / "data"), tree(tmp_path / "two" / "data")
    descriptors = Descriptors(World(directories=(writable(one),)))
    rights = preview1.DIRECTORY_RIGHTS | preview1.FILE_RIGHTS
    reading = rights & ~preview1.FD_WRITE
    operations: dict[str, Callable[[bytes], object]] = {
        "open x 0 {} - - r": lambda path: descriptors.path_open(3, 0, path, 0, reading, 0, 0),
        "open x 0 {} f d r": lambda path: descriptors.path_open(3, 1, path, 2, reading, 0, 0),
        "open x 0 {} f cx rw": lambda path: descriptors.path_open(3, 1, path, 5, rights, 0, 0),
        "open x 0 {} f ct w": lambda path: descriptors.path_open(3, 1, path, 9, rights, 0, 0),
        "stat-at 0 {}": lambda path: descriptors.path_filestat_get(3, 0, path),
        "stat-at 0 {} f": lambda path: descriptors.path_filestat_get(3, 1, path),
        "set-times-at 0 {} now - f": lambda path: descriptors.path_filestat_set_times(
            3, 1, path, 0, 0, preview1.ATIM_NOW
        ),
        "readlink 0 {}": lambda path: descriptors.path_readlink(3, path, 100),
        "link 0 {} 0 new-link": lambda path: descriptors.path_link(3, 0, path, 3, b"new-link"),
        "symlink 0 x {}": lambda path: descriptors.path_symlink(b"x", 3, path),
        "make-directory 0 {}": lambda path: descriptors.path_create_directory(3, path),
        "rename 0 {} 0 inner": lambda path: descriptors.path_rename(3, path, 3, b"inner"),
        "rename 0 greeting 0 {}": lambda path: descriptors.path_rename(3, b"greeting", 3, path),
        "unlink 0 {}": lambda path: descriptors.path_unlink_file(3, path),
        "remove-directory 0 {}": lambda path: descriptors.path_remove_directory(3, path),
    }
    steps = [(step, path) for step in operations for path in PATHS]
    told = await outcomes(component, two, *(step.format(path) for step, path in steps))
    differ = []
    for (step, path), outcome in zip(steps, told, strict=True):
        try:
            opened = operations[step](path.encode())
        except (OSError, WasiError) as error:
            wanted = preview1.ERRNOS[preview1.number_of(error)]
        else:
            wanted = ""
            if step.startswith("open"):
                assert isinstance(opened, int)
                descriptors.fd_close(opened)
        code = outcome.removeprefix("error ") if outcome.startswith("error ") else ""
        said = {"not-permitted": "NOTCAPABLE"}.get(code) or ERRNO_OF.get(code, code)
        if said != wanted:
            differ.append((step, path[:20], code, wanted))
    descriptors.close()
    assert not differ
    assert sorted(map(str, names_below(one))) == sorted(map(str, names_below(two)))


ERRNO_OF = {
    "access": "ACCES",
    "exist": "EXIST",
    "invalid": "INVAL",
    "is-directory": "ISDIR",
    "loop": "LOOP",
    "name-too-long": "NAMETOOLONG",
    "no-entry": "NOENT",
    "not-directory": "NOTDIR",
    "not-empty": "NOTEMPTY",
    "busy": "BUSY",
}


def names_below(root: Path) -> list[Path]:
    return [each.relative_to(root) for each in root.rglob("*")]


async def test_devices_and_pipes_are_not_opened(component: Code, data: Path) -> None:
    os.mkfifo(data / "pipe")
    told = await outcomes(
        component, data, "open p 0 pipe - - r", "open p 0 pipe f - w", "stat-at 0 pipe"
    )
    assert told[:2] == ["error access"] * 2
    assert told[2].startswith("DescriptorType::Unknown")


async def test_descriptors_of_a_call_are_bounded_and_given_back(
    component: Code, data: Path
) -> None:
    room = DESCRIPTORS_MAX - 4
    told = await outcomes(
        component,
        data,
        "open-all 0 greeting",
        "open-all 0 greeting",
        # What is still at hand of a listing holds its place as well.
        *(f"entries {number} 0" for number in range(1, room + 2)),
        "drop 1",
        f"entries {room + 1} 0",
        "open x 0 greeting - - r",
    )
    full = "error insufficient-memory"
    assert told[:2] == [f"{room} insufficient-memory"] * 2
    assert told[2:] == ["ok"] * room + [full, "ok", "ok", full]
    await until(lambda: not open_below(data))


async def test_a_guest_may_open_and_close_as_often_as_it_likes(component: Code, data: Path) -> None:
    assert await outcomes(component, data, "churn 0 greeting 500") == ["ok"]
    await until(lambda: not open_below(data))


async def test_one_read_or_write_is_bounded(component: Code, data: Path) -> None:
    (data / "large").write_bytes(b"x" * 200_000)
    told = await outcomes(
        component,
        data,
        "open a 0 large - - rw",
        f"read a {2**64 - 1} 0",
        "input i a 0",
        f"stream-read i {2**64 - 1}",
    )
    assert len(told[1]) == 65_536 + len(" false")
    assert len(told[3]) == 65_536


async def test_a_write_beyond_what_was_promised_traps(component: Code, data: Path) -> None:
    steps = "directories\nopen a 0 new - c rw\noutput o a 0\nstream-write-many o 65537"
    with pytest.raises(errors.ActorTrapped, match="writes 65537 bytes, more than the 65536"):
        await answers(component, steps, writable(data))
    await until(lambda: not open_below(data))
    assert (data / "new").read_text() == ""


async def test_files_are_closed_when_the_guest_traps(component: Code, data: Path) -> None:
    steps = "directories\nopen a 0 greeting - - r\ninput i a 0\nentries e 0\npanic"
    with pytest.raises(errors.ActorTrapped):
        await answers(component, steps, readable(data))
    await until(lambda: not open_below(data))


async def test_files_are_closed_when_the_caller_goes_away(component: Code, data: Path) -> None:
    steps = ["directories", "open a 0 greeting - - rw"] + ["sync a"] * 100_000
    task = asyncio.create_task(answers(component, "\n".join(steps), writable(data)))
    await until(lambda: str(data / "greeting") in open_below(data))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: not open_below(data))


async def test_an_instance_that_is_kept_finds_its_directories_again(
    engine: Engine, component: Code, data: Path
) -> None:
    """Libraries of C ask for them once; a file of an earlier call is closed."""
    instances = engine.instances(ReusePolicy(uses=10, age_s=60.0))
    told = []
    for script in (
        "directories\nopen a 0 greeting - - r\nstd-read /data/greeting",
        "read a 5 0\nopen b 0 greeting - - r\nread b 5 0\ndrop a\nis-same 0 b",
        "std-read /data/greeting",
    ):
        again = execution(
            component,
            codec.pack([script]),
            operation="run",
            world=World(directories=(readable(data),)),
            instances=instances,
        )
        told += codec.unpack(await run(again)).split("\n")
    assert told == [
        *("/data", "ok", "hello"),
        *("error bad-descriptor", "ok", "hello false", "ok", "false"),
        "hello",
    ]
    # The operator took the directory away.
    gone = execution(
        component, codec.pack(["stat 0\nread b 5 0"]), operation="run", instances=instances
    )
    assert codec.unpack(await run(gone)).split("\n") == ["error bad-descriptor"] * 2
    assert engine.statistics().reused == 3
    await until(lambda: not open_below(data))
    instances.close()

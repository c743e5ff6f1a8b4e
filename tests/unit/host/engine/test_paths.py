"""Paths of a guest: followed as POSIX says, and never out of where they start."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from host.engine import paths, preview1
from host.engine.paths import DEPTH_MAX, PATH_BYTES_MAX, resolve
from host.engine.preview1 import WasiError


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    start = tmp_path / "root"
    (start / "a" / "b").mkdir(parents=True)
    (start / "a" / "file").write_text("inside")
    for name, target in {
        "to_file": "a/file",
        "to_a": "a",
        "to_a_slash": "a/",
        "back": "a/../a/b",
        "up": "../outside/secret",
        "a/b/up": "../../../outside",
        "absolute": str(outside / "secret"),
        "proc": "/proc/self/root",
        "dangling": "nothing",
        "loop": "loop",
        "a/to_top": "..",
    }.items():
        (start / name).symlink_to(target)
    descriptor = os.open(start, os.O_RDONLY | os.O_DIRECTORY)
    before = sorted(Path("/proc/self/fd").iterdir())
    yield descriptor
    assert sorted(Path("/proc/self/fd").iterdir()) == before, "a descriptor was left open"
    os.close(descriptor)


def read(root: int, path: str | bytes, *, follow: bool = True) -> str:
    with resolve(root, os.fsencode(path), follow=follow) as place:
        descriptor = os.open(place.name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=place.parent)
    with os.fdopen(descriptor) as file:
        return file.read()


@pytest.mark.parametrize(
    "path",
    ["a/file", "./a//./file", "a/../a/file", "a/b/../file", "to_file", "to_a/file",
     "a/to_top/a/file", "to_a_slash/file", "back/../file"],
)  # fmt: skip
def test_what_stays_inside_is_found(root: int, path: str) -> None:
    assert read(root, path) == "inside"


@pytest.mark.parametrize(
    "path",
    ["..", "../root/a/file", "a/../../root", "/etc/passwd", "up", "a/b/up/secret", "absolute",
     "proc/etc/passwd", "a/to_top/..", "a/to_top/../outside/secret", "./../outside/secret"],
)  # fmt: skip
def test_what_leads_out_is_refused(root: int, path: str) -> None:
    with pytest.raises(WasiError) as refusal:
        read(root, path)
    assert refusal.value.number == preview1.NOTCAPABLE


def test_a_link_at_the_end_is_left_to_whoever_does_not_follow_it(root: int) -> None:
    with resolve(root, b"up", follow=False) as place:
        assert (place.name, place.is_directory) == (b"up", False)
    with resolve(root, b"dangling", follow=True) as place:
        assert place.name == b"nothing"


def test_a_slash_at_the_end_wants_a_directory(root: int) -> None:
    with resolve(root, b"a/file/", follow=False) as place, pytest.raises(WasiError) as refusal:
        place.facts()
    assert refusal.value.number == preview1.NOTDIR
    with resolve(root, b"to_a/", follow=False) as place:
        assert (place.name, place.is_directory) == (b"a", True)


@pytest.mark.parametrize(
    ("path", "number"),
    [
        (b"", preview1.NOENT),
        (b"a\0b", preview1.INVAL),
        (b"\xff", preview1.ILSEQ),
        (b"x" * (PATH_BYTES_MAX + 1), preview1.NAMETOOLONG),
        (b"loop", preview1.LOOP),
        (b"loop/x", preview1.LOOP),
    ],
)
def test_what_is_no_path_is_refused(root: int, path: bytes, number: int) -> None:
    with pytest.raises(WasiError) as refusal, resolve(root, path, follow=True):
        pass
    assert refusal.value.number == number


def test_a_path_leads_down_only_so_far(root: int, tmp_path: Path) -> None:
    (tmp_path / "root" / "/".join(["d"] * (DEPTH_MAX + 1))).mkdir(parents=True)
    with (
        pytest.raises(WasiError) as refusal,
        resolve(root, b"/".join([b"d"] * (DEPTH_MAX + 1)), follow=True),
    ):
        pass
    assert refusal.value.number == preview1.NAMETOOLONG


def test_a_directory_that_is_swapped_for_a_link_meanwhile_leads_nowhere_else(
    root: int, tmp_path: Path
) -> None:
    start = tmp_path / "root"
    (start / "real").mkdir()
    (start / "real" / "secret").write_text("inside")
    (start / "link").symlink_to("../outside")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            (start / "real").rename(start / "x")
            (start / "link").rename(start / "real")
            (start / "real").rename(start / "link")
            (start / "x").rename(start / "real")

    swapping = threading.Thread(target=swap)
    swapping.start()
    seen = set()
    try:
        for _ in range(2_000):
            try:
                seen.add(read(root, "real/secret"))
            except (OSError, WasiError):
                continue
    finally:
        stop.set()
        swapping.join()
    assert seen <= {"inside"}


def test_links_are_followed_only_so_far(root: int, tmp_path: Path) -> None:
    for number in range(paths.LINKS_MAX + 1):
        (tmp_path / "root" / f"l{number}").symlink_to(f"l{number + 1}")
    (tmp_path / "root" / f"l{paths.LINKS_MAX + 1}").write_text("inside")
    assert read(root, "l1") == "inside"
    with pytest.raises(WasiError) as refusal:
        read(root, "l0")
    assert refusal.value.number == preview1.LOOP

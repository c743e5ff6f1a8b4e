"""Fetched artefacts on disk: kept by digest, believed for it, bounded."""

import hashlib
import os
import stat
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from host.artefacts.shelf import Shelf
from lattice import errors


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


async def put(shelf: Shelf, content: bytes) -> str:
    await shelf.put(digest_of(content), content)
    return digest_of(content)


def age(directory: Path, digest: str, seconds: int) -> None:
    os.utime(directory / digest.removeprefix("sha256:"), (seconds, seconds))


def entries(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


async def test_what_was_put_is_there_for_another_host_too(tmp_path: Path) -> None:
    digest = await put(Shelf(tmp_path / "deep" / "shelf"), b"content")
    assert await Shelf(tmp_path / "deep" / "shelf").get(digest) == b"content"
    assert stat.S_IMODE((tmp_path / "deep" / "shelf").stat().st_mode) == 0o700


async def test_what_was_never_put_is_not_there(tmp_path: Path) -> None:
    assert await Shelf(tmp_path / "shelf").get(digest_of(b"")) is None


async def test_content_that_was_changed_on_disk_is_gone(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    digest = await put(shelf, b"content")
    (tmp_path / digest.removeprefix("sha256:")).write_bytes(b"another")
    with capture_logs() as logs:
        assert await shelf.get(digest) is None
    assert logs[0]["log_level"] == "warning"
    assert entries(tmp_path) == []


async def test_what_was_not_used_for_longest_goes_first(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, bytes_max=25)
    first, second = await put(shelf, b"1" * 10), await put(shelf, b"2" * 10)
    age(tmp_path, first, 1_000)
    age(tmp_path, second, 2_000)
    assert await shelf.get(first) is not None

    third = await put(shelf, b"3" * 10)

    assert await shelf.get(second) is None
    assert await shelf.get(first) is not None
    assert await shelf.get(third) is not None


async def test_the_newest_stays_even_alone_over_the_bound(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, bytes_max=5)
    digest = await put(shelf, b"1" * 10)
    assert await shelf.get(digest) is not None


async def test_a_disk_that_refuses_costs_only_the_next_fetch(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with capture_logs() as logs:
        digest = await put(Shelf(tmp_path / "file" / "shelf"), b"content")
    assert [line["event"] for line in logs] == ["artefact not kept"]
    assert await Shelf(tmp_path / "file" / "shelf").get(digest) is None


async def test_a_program_can_be_run_by_its_user_alone(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    path = await shelf.program(b"#!/bin/sh\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    written = path.stat().st_ino
    assert await shelf.program(b"#!/bin/sh\n") == path
    assert path.stat().st_ino == written


async def test_a_program_that_was_changed_on_disk_is_written_again(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    path = await shelf.program(b"#!/bin/sh\n")
    path.write_bytes(b"#!/bin/rm\n")
    assert (await shelf.program(b"#!/bin/sh\n")).read_bytes() == b"#!/bin/sh\n"


async def test_a_program_that_can_not_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(errors.Unavailable, match="can't write a program"):
        await Shelf(tmp_path / "file" / "shelf").program(b"x")


async def test_a_directory_that_others_may_write_to_is_closed_to_them(tmp_path: Path) -> None:
    directory = tmp_path / "shelf"
    directory.mkdir(mode=0o700)
    directory.chmod(0o777)
    await Shelf(directory).program(b"#!/bin/sh\n")
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


async def test_no_program_is_taken_from_a_directory_of_another_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = await Shelf(tmp_path).program(b"#!/bin/sh\n")
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    with pytest.raises(errors.Unavailable, match="another user"):
        await Shelf(tmp_path).program(b"#!/bin/sh\n")


async def test_what_a_killed_host_left_unfinished_goes_too(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, bytes_max=15)
    for name, seconds in ((".abandoned", 1_000), (".being-written", None)):
        (tmp_path / name).write_bytes(b"x" * 10)
        if seconds:
            os.utime(tmp_path / name, (seconds, seconds))

    await put(shelf, b"1" * 10)

    assert ".abandoned" not in entries(tmp_path)
    assert ".being-written" in entries(tmp_path)

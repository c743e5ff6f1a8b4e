"""What only a directory can do to its store: links, pipes, crashes, other people's files."""

import asyncio
import errno
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lattice import errors
from providers.blobstore.stores import ContainerId, ObjectId, Store
from providers.blobstore.stores.filesystem import UPLOADS, FilesystemStore

BOX = ContainerId("ns", "box")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    return root


@pytest.fixture
async def store(root: Path) -> AsyncIterator[FilesystemStore]:
    store = FilesystemStore(root)
    await store.create_container(BOX)
    yield store
    await store.aclose()


async def write(store: Store, name: str, data: bytes) -> None:
    writer = await store.writer(ObjectId(BOX, name))
    await writer.append(data)
    await writer.commit()


async def listed(store: Store) -> list[str]:
    return [each.name for each in (await store.objects(BOX, None, 100)).objects]


async def test_files_are_where_a_person_looks_for_them(root: Path, store: Store) -> None:
    await write(store, "photos/cat 1.jpg", b"cat")
    await write(store, "..", b"up")
    assert (root / "ns/box/photos%2Fcat%201.jpg").read_bytes() == b"cat"
    assert (root / "ns/box/%2E.").read_bytes() == b"up"


async def test_a_file_that_somebody_put_there_is_an_object(root: Path, store: Store) -> None:
    (root / "ns/box/weights.bin").write_bytes(b"123")
    assert (await store.read(ObjectId(BOX, "weights.bin"), 1, 1)).data == b"2"
    assert await listed(store) == ["weights.bin"]


async def test_links_pipes_and_other_peoples_names_are_no_objects(
    tmp_path: Path, root: Path, store: Store
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    (root / "ns/box/link").symlink_to(secret)
    os.mkfifo(root / "ns/box/pipe")
    (root / "ns/box/directory").mkdir()
    (root / "ns/box/with space").write_bytes(b"")
    (root / "ns/box/.hidden").write_bytes(b"")
    (root / "ns/box/%61").write_bytes(b"")
    (root / "ns/box/linked+").symlink_to(tmp_path)
    (root / "ns" / os.fsdecode(b"\xff")).mkdir()
    assert await listed(store) == []
    assert await store.containers("ns") == ["box"]
    for name in ("link", "pipe", "directory"):
        assert await store.info(ObjectId(BOX, name)) is None
        with pytest.raises(errors.NotFound):
            await store.read(ObjectId(BOX, name), 0, 10)

    await write(store, "link", b"mine")
    assert secret.read_bytes() == b"secret"
    assert (await store.read(ObjectId(BOX, "link"), 0, 10)).data == b"mine"


async def test_a_container_or_namespace_that_is_a_link_is_none(
    tmp_path: Path, root: Path, store: Store
) -> None:
    outside = tmp_path / "outside"
    (outside / "box").mkdir(parents=True)
    (root / "ns/linked").symlink_to(outside)
    (root / "linked").symlink_to(outside)
    for container in (ContainerId("ns", "linked"), ContainerId("linked", "box")):
        with pytest.raises((errors.NotFound, errors.ProviderError)):
            await store.writer(ObjectId(container, "a"))
        assert await store.container_created_at_s(container) is None
        await store.delete_container(container)
    assert await store.containers("linked") == []
    assert (outside / "box").is_dir()
    assert (root / "ns/linked").is_symlink()


async def test_directories_for_long_names_go_with_the_last_of_them(
    root: Path, store: Store
) -> None:
    names = ["x" * 450 + end for end in "ab"]
    for name in names:
        await write(store, name, b"1")
    for name in names:
        await store.delete(ObjectId(BOX, name))
    assert [path.name for path in (root / "ns/box").iterdir()] == [".created"]


async def test_without_its_root_every_call_says_how_to_make_it(tmp_path: Path) -> None:
    root = tmp_path / "none"
    store = FilesystemStore(root)
    for _ in range(2):
        with pytest.raises(errors.ProviderError, match=f"mkdir -p {root}"):
            await store.ping()
    root.mkdir()
    await store.create_container(BOX)
    await write(store, "a", b"1")
    await store.aclose()


async def test_a_root_that_was_emptied_meanwhile_is_used_as_it_is(root: Path, store: Store) -> None:
    (root / UPLOADS).rmdir()
    await write(store, "a", b"1")
    assert await listed(store) == ["a"]


async def test_a_full_disk_is_said_and_leaves_nothing(
    root: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    writer = await store.writer(ObjectId(BOX, "a"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(errors.ProviderError, match="No space left on device; make room there"):
            await writer.append(b"1")
    await writer.abort()
    assert list((root / UPLOADS).iterdir()) == []
    assert await listed(store) == []


async def test_what_a_living_process_writes_is_left_alone_when_another_starts(
    root: Path, store: Store
) -> None:
    writer = await store.writer(ObjectId(BOX, "a"))
    await writer.append(b"1")
    other = FilesystemStore(root)
    assert await listed(other) == []
    await writer.commit()
    assert await listed(other) == ["a"]
    await other.aclose()


async def test_a_write_that_is_cancelled_in_the_middle_can_be_given_up(
    root: Path, store: Store
) -> None:
    writer = await store.writer(ObjectId(BOX, "a"))
    appending = asyncio.ensure_future(writer.append(b"x" * 5_000_000))
    await asyncio.sleep(0)
    appending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await appending
    await writer.abort()
    assert list((root / UPLOADS).iterdir()) == []
    with pytest.raises(errors.Conflict):
        await writer.append(b"more")


WRITES_FOR_EVER = """
import asyncio, sys
from pathlib import Path
from providers.blobstore.stores import ContainerId, ObjectId
from providers.blobstore.stores.filesystem import FilesystemStore

async def main():
    store = FilesystemStore(Path(sys.argv[1]))
    target = ObjectId(ContainerId("ns", "box"), "a")
    number = 0
    while True:
        number += 1
        writer = await store.writer(target)
        for _ in range(8):
            await writer.append(bytes([number % 250 + 1]) * 50_000)
        await writer.commit()
        print("committed", flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("commits", [1, 2, 5])
async def test_a_process_that_is_killed_leaves_no_half_of_an_object(
    root: Path, store: Store, commits: int
) -> None:
    with subprocess.Popen(  # noqa: ASYNC220 - it is there before we go on
        [sys.executable, "-c", WRITES_FOR_EVER, str(root)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        for _ in range(commits):
            assert process.stdout.readline() == b"committed\n"
        process.send_signal(signal.SIGKILL)
    part = await store.read(ObjectId(BOX, "a"), 0, 1_000_000)
    assert len(part.data) == 400_000
    assert set(part.data) == {part.data[0]}

    again = FilesystemStore(root)
    assert await listed(again) == ["a"]
    assert list((root / UPLOADS).iterdir()) == []
    await again.aclose()

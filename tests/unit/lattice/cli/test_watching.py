"""Changes of files, as they are noticed."""

import asyncio
from pathlib import Path

import pytest

from lattice import errors
from lattice.cli import watching


def look_below(folder: Path) -> watching.Look:
    return watching.look_at(path for path in folder.rglob("*") if path.is_file())


def test_the_look_of_files_changes_with_their_content_and_number(tmp_path: Path) -> None:
    kept, changed, gone, made = (tmp_path / name for name in ("kept", "changed", "gone", "made"))
    for path in (kept, changed, gone):
        path.write_text("before")
    before = look_below(tmp_path)

    changed.write_text("afterwards")
    gone.unlink()
    made.write_text("new")

    assert watching.changed(before, look_below(tmp_path)) == [changed, gone, made]


def test_a_file_that_goes_while_it_is_looked_at_has_no_look(tmp_path: Path) -> None:
    assert watching.look_at([tmp_path / "gone"]) == frozenset()


@pytest.mark.parametrize("place", ["file", "sub/file", "new/folder/file"])
async def test_a_file_that_is_written_anywhere_in_the_folder_is_noticed(
    tmp_path: Path, place: str
) -> None:
    (tmp_path / "sub").mkdir()
    before = look_below(tmp_path)

    async def write() -> None:
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("new")

    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(
            watching.wait_changed(tmp_path, before, lambda: look_below(tmp_path))
        )
        tasks.create_task(write())

    assert watching.changed(before, waiting.result()) == [tmp_path / place]


async def test_what_changed_before_anybody_waited_is_noticed_at_once(tmp_path: Path) -> None:
    before = look_below(tmp_path)
    (tmp_path / "file").write_text("new")

    after = await watching.wait_changed(tmp_path, before, lambda: look_below(tmp_path))

    assert after != before


async def test_a_folder_that_goes_and_comes_again_is_watched_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = look_below(tmp_path)
    looks = iter([[tmp_path, tmp_path / "gone"]])
    loop, looked_again = asyncio.get_running_loop(), asyncio.Event()
    real = watching.folders

    def folders(top: Path) -> list[Path]:
        if (first := next(looks, None)) is not None:
            return first
        loop.call_soon_threadsafe(looked_again.set)
        return real(top)

    monkeypatch.setattr(watching, "LOOK_MS", 10)
    monkeypatch.setattr(watching, "folders", folders)

    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(
            watching.wait_changed(tmp_path, before, lambda: look_below(tmp_path))
        )
        await looked_again.wait()
        await asyncio.to_thread((tmp_path / "file").write_text, "new")

    assert watching.changed(before, waiting.result()) == [tmp_path / "file"]


async def test_waiting_can_be_called_off(tmp_path: Path) -> None:
    before = look_below(tmp_path)
    started = asyncio.Event()

    def look() -> watching.Look:
        loop.call_soon_threadsafe(started.set)
        return look_below(tmp_path)

    loop = asyncio.get_running_loop()
    waiting = asyncio.ensure_future(watching.wait_changed(tmp_path, before, look))
    await started.wait()
    waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting


def test_folders_of_what_tools_make_are_not_watched(tmp_path: Path) -> None:
    for name in ("src/deep", "node_modules/left-pad", "target/debug", ".git/objects", "build"):
        (tmp_path / name).mkdir(parents=True)

    assert watching.folders(tmp_path) == [tmp_path, tmp_path / "src", tmp_path / "src" / "deep"]


def test_a_folder_with_too_many_folders_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "FOLDERS_MAX", 3)
    for number in range(3):
        (tmp_path / str(number)).mkdir()

    with pytest.raises(errors.InvalidRequest, match="more than 3 folders"):
        watching.folders(tmp_path)

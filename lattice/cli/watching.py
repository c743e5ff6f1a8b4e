"""Waits until files of a project have changed: told by the kernel, and looked at now and then.

What counts is what the files look like, not which events came: of builds, editors and version
control there are many, and on some file systems none.
"""

import asyncio
import os
from collections.abc import Callable, Iterable
from contextlib import aclosing
from pathlib import Path

from lattice import errors, project
from lattice.cli.output import Failed

LOOK_MS = 1_000
"""How long no event may come before the files are looked at all the same."""

SETTLE_MS = 50
"""Changes that follow each other so closely are one: a save, a checkout."""

SETTLE_MS_MAX = 1_600
"""How long a series of changes may go on until it is told."""

FOLDERS_MAX = 2_000
"""Folders that are watched, each with a watch of the kernel's; it gives a user thousands."""

Look = frozenset[tuple[Path, int, int]]
"""Files with their times of change in nanoseconds and their sizes."""


def look_at(files: Iterable[Path]) -> Look:
    """What files look like now; those that are gone have no look."""
    found = []
    for path in files:
        try:
            status = path.stat()
        except OSError:
            continue
        found.append((path, status.st_mtime_ns, status.st_size))
    return frozenset(found)


def changed(before: Look, after: Look) -> list[Path]:
    """The files that differ, sorted."""
    return sorted({path for path, _, _ in before ^ after})


async def wait_changed(folder: Path, before: Look, look: Callable[[], Look]) -> Look:
    """Return what files in a folder look like once that is not ``before`` any more.

    Raises:
        InvalidRequest: the folder has too many folders to watch.
        Failed: the kernel watches no more.
    """
    import watchfiles  # noqa: PLC0415 - its import takes time, and other commands watch nothing

    while True:
        watched = await asyncio.to_thread(folders, folder)
        batches = watchfiles.awatch(
            *watched,
            watch_filter=None,
            debounce=SETTLE_MS_MAX,
            step=SETTLE_MS,
            rust_timeout=LOOK_MS,
            yield_on_timeout=True,
            recursive=False,
            ignore_permission_denied=True,
        )
        try:
            async with aclosing(batches):
                if (now := await asyncio.to_thread(look)) != before:
                    return now
                async for _ in batches:
                    if (now := await asyncio.to_thread(look)) != before:
                        return now
                    if await asyncio.to_thread(folders, folder) != watched:
                        break
        except FileNotFoundError:
            # A folder went between our look and the kernel's: a checkout of another branch, say.
            await asyncio.sleep(LOOK_MS / 1_000)
        except OSError as error:
            raise Failed(f"can't watch {folder}: {error}") from error


def folders(top: Path) -> list[Path]:
    """A folder and those below it that may hold source: not what tools make.

    Raises:
        InvalidRequest: too many to watch.
    """
    found = []
    for here, below, _ in os.walk(top):
        below[:] = [name for name in below if name not in project.MADE and name[0] != "."]
        found.append(Path(here))
        if len(found) > FOLDERS_MAX:
            raise errors.InvalidRequest(
                f"{top} has more than {FOLDERS_MAX} folders: watch a smaller one, or use --no-watch"
            )
    return sorted(found)

"""Files that people name: read within bounds, written whole or not at all."""

import os
import tempfile
from pathlib import Path

from lattice import errors


def named(text: str | Path) -> Path:
    """The path that a person wrote, who may have begun it with ``~``.

    Raises:
        InvalidRequest: nobody knows whose home that is.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise errors.InvalidRequest(f"{text}: there is no such home directory") from None


def is_file(path: Path) -> bool:
    """Whether there is such a file, as far as this user may know; a name too long is no name."""
    try:
        return path.is_file()
    except OSError:
        return False


def read(path: Path, bytes_max: int) -> bytes:
    """The content of a file.

    Raises:
        NotFound: there is none.
        PayloadTooLarge: larger than it can be if it is what it should be.
        InvalidRequest: not a file, or it may not be read.
    """
    try:
        # Before reading: a wrong path may name a disk image, or a pipe.
        size = path.stat().st_size
        if size > bytes_max:
            raise errors.PayloadTooLarge(str(path), size, bytes_max)
        if not path.is_file():
            raise errors.InvalidRequest(f"can't read {path}: not a file")
        return path.read_bytes()
    except FileNotFoundError:
        raise errors.NotFound(f"there is no file {path}") from None
    except OSError as error:
        raise errors.InvalidRequest(f"can't read {path}: {error.strerror}") from None


def write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, in place of one that is there.

    Raises:
        InvalidRequest: it may not be written, or there is no room.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            mask = os.umask(0)
            os.umask(mask)
            Path(temporary).chmod(0o666 & ~mask)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise errors.InvalidRequest(f"can't write {path}: {error.strerror}") from None

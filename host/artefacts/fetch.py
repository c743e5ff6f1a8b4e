"""Fetches what a reference names: from the lattice's own store, or from a file where allowed."""

import asyncio
from pathlib import Path
from urllib.parse import unquote

from lattice import artefacts, errors, limits
from lattice.bus import Bus

FILE_SCHEME = "file://"


class Fetcher:
    """Resolves references for one host."""

    def __init__(self, bus: Bus, lattice: str, *, allow_file_load: bool) -> None:
        self._bus = bus
        self._lattice = lattice
        self._allow_file_load = allow_file_load

    async def fetch(self, reference: str) -> bytes:
        """The bytes of a module.

        Raises:
            InvalidRequest: a reference of a kind that is not known.
            Denied: a file, which this host does not allow.
            NotFound: nothing is there.
            PayloadTooLarge: larger than a module may be.
            Unavailable: the store can't be reached.
        """
        if reference.startswith(artefacts.SCHEME):
            return await artefacts.download(self._bus, self._lattice, artefacts.parse(reference))
        if reference.startswith(FILE_SCHEME):
            return await asyncio.to_thread(_read, self.local_path(reference))
        raise errors.InvalidRequest(
            f"can't fetch {reference[:200]!r}: want lattice://NAME@sha256:DIGEST, or file:///PATH"
            " on a host that allows it; `lattice start component ./FILE ID` uploads a file"
        )

    def local_path(self, reference: str) -> Path:
        """The file that a ``file://`` reference names.

        Raises:
            Denied: this host does not load files.
            InvalidRequest: not an absolute path.
        """
        if not self._allow_file_load:
            raise errors.Denied("this host does not load files; start it with --allow-file-load")
        path = unquote(reference.removeprefix(FILE_SCHEME))
        if not path.startswith("/") or "\0" in path:
            raise errors.InvalidRequest(f"{reference[:200]!r} is not of the form file:///PATH")
        return Path(path)


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > limits.MODULE_BYTES_MAX:
            raise errors.PayloadTooLarge(str(path), size, limits.MODULE_BYTES_MAX)
        return path.read_bytes()
    except FileNotFoundError:
        raise errors.NotFound(f"no file {path}") from None
    except OSError as error:
        raise errors.InvalidRequest(f"can't read {path}: {error.strerror}") from None

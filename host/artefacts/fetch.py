"""From a reference to bytes, or to a program: what this host runs, wherever it is kept.

``lattice://`` is the lattice's own store, ``file://`` this machine where the operator allows it,
anything else an OCI registry. What was fetched is kept on disk by digest, and what two ask for at
the same time is fetched once.
"""

import asyncio
import os
import weakref
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote

import structlog

from host.artefacts.shelf import Shelf
from lattice import archives, artefacts, errors, limits
from lattice.aio.tasks import TaskGroup
from lattice.bus import Bus
from lattice.identity.claims import Claims
from lattice.registry import references
from lattice.registry.credentials import RegistryAccess

log = structlog.get_logger()

FILE_SCHEME = "file://"

WASM_MAGIC = b"\0asm"

FETCHES_MAX = 4
"""Artefacts fetched from one place at a time: each is held in memory until it is on disk, and one
registry that is slow must not keep the others waiting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """An artefact, and what its reference meant."""

    content: bytes
    reference: str
    """A reference that means this very content for ever, where there is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Executable:
    """A provider's program on this machine."""

    path: Path
    reference: str
    """As ``Fetched.reference``: with it a restart runs the same program again."""
    claims: Claims | None
    """What its archive says of it, the signature verified; None for a bare program."""


class Fetcher:
    """Resolves references for one host."""

    def __init__(
        self,
        bus: Bus,
        lattice: str,
        *,
        allow_file_load: bool,
        registries: RegistryAccess,
        shelf: Shelf,
    ) -> None:
        self._bus = bus
        self._lattice = lattice
        self._allow_file_load = allow_file_load
        self._registries = registries
        self._shelf = shelf
        self._tasks = TaskGroup("fetcher")
        self._turns: weakref.WeakValueDictionary[str, asyncio.Semaphore] = (
            weakref.WeakValueDictionary()
        )
        self._fetching: dict[tuple[str, int], asyncio.Future[Fetched]] = {}

    async def aclose(self) -> None:
        """Give up whatever is being fetched. Safe to call twice."""
        await self._tasks.aclose()

    async def fetch(self, reference: str) -> bytes:
        """The bytes of a module.

        Raises:
            InvalidRequest: a reference of a kind that is not known, or to something else.
            Denied: a file or a registry's ``latest``, which this host does not allow; or a registry
                that wants other credentials, or sends something else than was asked for.
            NotFound: nothing is there.
            PayloadTooLarge: larger than a module may be.
            Unavailable, DeadlineExceeded: the store or the registry can't be reached, or not in
                time.
        """
        return (await self._fetched(reference, limits.MODULE_BYTES_MAX)).content

    async def executable(self, reference: str) -> Executable:
        """A provider's program, as a file that can be run.

        Raises:
            Others: as ``fetch``; NotFound also for an archive with nothing for this machine.
        """
        if reference.startswith(FILE_SCHEME):
            path = self.local_path(reference)
            if not await asyncio.to_thread(_is_archive, path):
                # Run where it is: it may need what lies beside it.
                return Executable(path=path, reference=reference, claims=None)
        fetched = await self._fetched(reference, limits.PROVIDER_BYTES_MAX)
        content, claims = fetched.content, None
        if archives.is_archive(content):
            archive = await asyncio.to_thread(archives.read, content, archives.this_machine())
            content, claims = archive.binary, archive.claims
        elif content.startswith(WASM_MAGIC):
            raise errors.InvalidRequest(f"{reference} is WebAssembly, and no provider")
        path = await self._shelf.program(content)
        return Executable(path=path, reference=fetched.reference, claims=claims)

    def check(self, reference: str) -> None:
        """Refuse at once what could never be fetched.

        Raises:
            InvalidRequest, Denied: as ``fetch``.
        """
        if reference.startswith(artefacts.SCHEME):
            artefacts.parse(reference)
        elif reference.startswith(FILE_SCHEME):
            self.local_path(reference)
        else:
            self._registries.check(_in_registry(reference))

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

    async def _fetched(self, reference: str, bytes_max: int) -> Fetched:
        """Fetch, or wait for whoever fetches the same; one that gives up does not end it."""
        self.check(reference)
        key = (reference, bytes_max)
        if (future := self._fetching.get(key)) is None:
            future = asyncio.get_running_loop().create_future()
            self._fetching[key] = future
            task = self._tasks.spawn(
                _settle(future, lambda: self._fetch(reference, bytes_max)),
                name=f"fetch {reference[:100]}",
            )
            task.add_done_callback(lambda _: self._fetching.pop(key, None))
            # Closed before it began, the task has settled nothing.
            task.add_done_callback(lambda _: future.cancel())
        return await asyncio.shield(future)

    async def _fetch(self, reference: str, bytes_max: int) -> Fetched:
        if reference.startswith(artefacts.SCHEME):
            async with self._turn(artefacts.SCHEME):
                return await self._from_lattice(artefacts.parse(reference))
        if reference.startswith(FILE_SCHEME):
            async with self._turn(FILE_SCHEME):
                content = await asyncio.to_thread(_read, self.local_path(reference), bytes_max)
                return Fetched(content=content, reference=reference)
        wanted = _in_registry(reference)
        async with self._turn(wanted.registry):
            return await self._from_registry(wanted, bytes_max)

    def _turn(self, place: str) -> asyncio.Semaphore:
        return self._turns.setdefault(place, asyncio.Semaphore(FETCHES_MAX))

    async def _from_lattice(self, artefact: artefacts.StoredArtefact) -> Fetched:
        content = await self._shelf.get(artefact.digest)
        if content is None:
            content = await artefacts.download(self._bus, self._lattice, artefact)
            await self._shelf.put(artefact.digest, content)
        return Fetched(content=content, reference=str(artefact))

    async def _from_registry(self, reference: references.Reference, bytes_max: int) -> Fetched:
        # Loaded here: most hosts and tests never pull, and every one of them would wait for HTTP.
        from lattice.registry import client  # noqa: PLC0415

        async with client.connect(self._registries, reference, shelf=self._shelf) as repository:
            resolved = await repository.resolve(reference)
            content = await repository.download(resolved.layer, bytes_max=bytes_max)
        pinned = str(replace(reference, digest=resolved.digest))
        log.info("artefact fetched", reference=pinned, bytes=len(content))
        return Fetched(content=content, reference=pinned)


async def _settle(future: asyncio.Future[Fetched], work: Callable[[], Awaitable[Fetched]]) -> None:
    try:
        result = await work()
    except Exception as error:
        if not future.done():
            future.set_exception(error)
            # Everybody who asked may have given up.
            future.exception()
    else:
        if not future.done():
            future.set_result(result)


def _in_registry(reference: str) -> references.Reference:
    try:
        return references.parse(reference)
    except errors.InvalidRequest:
        raise errors.InvalidRequest(
            f"can't fetch {reference[:200]!r}: want lattice://NAME@sha256:DIGEST,"
            " REGISTRY/NAME:TAG, or file:///PATH on a host that allows it; `lattice start"
            " component ./FILE ID` uploads a file"
        ) from None


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """A file, which must be one: a pipe may never say anything, a device never stop."""
    try:
        if not (path.is_file() or path.is_dir()) and path.exists():
            raise errors.InvalidRequest(f"can't read {path}: not a file")
        with path.open("rb") as file:
            yield file
    except FileNotFoundError:
        raise errors.NotFound(f"no file {path}") from None
    except OSError as error:
        raise errors.InvalidRequest(f"can't read {path}: {error.strerror}") from None


def _is_archive(path: Path) -> bool:
    with _opened(path) as file:
        return archives.is_archive(file.read(limits.KIB))


def _read(path: Path, bytes_max: int) -> bytes:
    with _opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size <= bytes_max:
            # It may have grown since.
            content = file.read(bytes_max + 1)
            size = len(content)
        if size > bytes_max:
            raise errors.PayloadTooLarge(str(path), size, bytes_max)
        return content
